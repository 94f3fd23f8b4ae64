//! What a publish rule changes on the way to the server and back, and the pages it answers with.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
    proxy::Session,
};

use super::{Ctx, admit, rewrite_host, told};
use crate::{
    reason,
    route::{Question, Values},
    site::{Field, FieldValue, HeaderChanges, Respond, Rule},
};

/// The question that a request asks of the rules.
pub(super) fn question<'q>(
    request: &'q RequestHeader,
    ctx: &Ctx,
    listener: usize,
    host: &'q str,
) -> Question<'q> {
    let mut parts = request.raw_path().splitn(2, |b| *b == b'?');
    Question {
        listener,
        https: ctx.https(),
        host,
        target_path: parts.next().unwrap_or_default(),
        query: parts.next(),
        method: request.method.as_str(),
        headers: &request.headers,
        source: ctx.source(),
    }
}

/// The rule's own changes to what the server gets; after all others.
///
/// # Errors
/// A new target that cannot be sent; `route` makes none.
pub(super) fn to_server(session: &Session, request: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
    let Some(rule) = &ctx.rule else { return Ok(()) };
    if let Some(target) = &ctx.target {
        request.set_raw_path(target)?;
    }
    if rule.request_headers.is_empty() {
        return Ok(());
    }
    with_values(session, ctx, rule, |values| change(request, &rule.request_headers, values))
}

/// The rule's own changes to what the client gets; after all others.
///
/// # Errors
/// Never for values that `compile` lets through.
pub(super) fn to_client(session: &Session, response: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let (Some(rule), Some(connection)) = (&ctx.rule, &ctx.connection) else { return Ok(()) };
    if let (true, Some(farm)) = (rule.rewrite_host, &ctx.farm) {
        let request = session.req_header();
        if let Ok(host) = admit::requested_host(request, connection) {
            let https = ctx.https();
            let known = ctx.client.as_ref().map(|client| told::client_port(client, connection));
            let port = known.unwrap_or(connection.listener.public_port);
            let outside = rewrite_host::Outside { https, host: host.as_str(), port };
            rewrite_host::answer(response, farm.spec(), &outside)?;
        }
    }
    if rule.response_headers.is_empty() {
        return Ok(());
    }
    with_values(session, ctx, rule, |values| change(response, &rule.response_headers, values))
}

/// Header and body of a `respond` rule's answer.
///
/// # Errors
/// As for [`to_client`].
pub(super) fn page(
    session: &Session,
    ctx: &Ctx,
    rule: &Rule,
    respond: &Respond,
) -> Result<(ResponseHeader, Bytes)> {
    let status = StatusCode::from_u16(respond.status).unwrap_or(StatusCode::OK);
    let (content_type, body) = match &respond.page {
        Some(page) => (page.content_type, page.body.clone()),
        None => ("text/plain; charset=utf-8", Bytes::from(reason::RESPONDED.body())),
    };
    let mut answer = ResponseHeader::build(status, Some(6))?;
    answer.insert_header(header::CONTENT_TYPE, content_type)?;
    answer.insert_header(header::CONTENT_LENGTH, body.len())?;
    answer.insert_header(header::CACHE_CONTROL, "no-store")?;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.insert_header(header::RETRY_AFTER, 60)?;
    }
    if !rule.response_headers.is_empty() {
        let changes = &rule.response_headers;
        with_values(session, ctx, rule, |values| change(&mut answer, changes, values))?;
    }
    Ok((answer, body))
}

fn with_values(
    session: &Session,
    ctx: &Ctx,
    rule: &Rule,
    act: impl FnOnce(&Values<'_>) -> Result<()>,
) -> Result<()> {
    let Some(connection) = &ctx.connection else { return Ok(()) };
    let request = session.req_header();
    let Ok(host) = admit::requested_host(request, connection) else { return Ok(()) };
    let listener = ctx.live.listener(&connection.listener).unwrap_or_default();
    let question = question(request, ctx, listener, host.as_str());
    act(&Values::new(rule, &question))
}

/// A header that can be changed; Pingora's two have their methods in common, but no trait.
trait Header {
    /// Takes out every field that the receiver takes for this one.
    fn take_out(&mut self, name: &[u8]);
    fn set(&mut self, name: Bytes, value: HeaderValue) -> Result<()>;
    fn append(&mut self, name: Bytes, value: HeaderValue) -> Result<()>;
}

impl Header for RequestHeader {
    /// SECURITY: IIS makes one server variable of `X-App` and `X_App`, so a rule that sets or
    /// removes the one means the other too. Test: no_spelling_stands_beside_what_a_rule_sets
    fn take_out(&mut self, name: &[u8]) {
        let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let same =
            |key: &&HeaderName| key.as_str().bytes().map(|b| fold(&b)).eq(name.iter().map(fold));
        let found: Vec<HeaderName> = self.headers.keys().filter(same).cloned().collect();
        for name in &found {
            self.remove_header(name);
        }
    }

    fn set(&mut self, name: Bytes, value: HeaderValue) -> Result<()> {
        self.take_out(&name);
        self.insert_header(name, value)
    }

    fn append(&mut self, name: Bytes, value: HeaderValue) -> Result<()> {
        self.append_header(name, value).map(drop)
    }
}

impl Header for ResponseHeader {
    fn take_out(&mut self, name: &[u8]) {
        if let Ok(name) = HeaderName::from_bytes(name) {
            self.remove_header(&name);
        }
    }

    fn set(&mut self, name: Bytes, value: HeaderValue) -> Result<()> {
        self.insert_header(name, value)
    }

    fn append(&mut self, name: Bytes, value: HeaderValue) -> Result<()> {
        self.append_header(name, value).map(drop)
    }
}

fn change(header: &mut impl Header, changes: &HeaderChanges, values: &Values<'_>) -> Result<()> {
    for name in &changes.remove {
        header.take_out(name.as_str().as_bytes());
    }
    let name = |field: &Field| Bytes::copy_from_slice(field.name.as_bytes());
    for field in &changes.set {
        header.set(name(field), value(field, values))?;
    }
    for field in &changes.add {
        header.append(name(field), value(field, values))?;
    }
    Ok(())
}

/// The value of a field; empty where a capture cannot be had: the path matched only in another
/// reading than the client's own.
fn value(field: &Field, values: &Values<'_>) -> HeaderValue {
    match &field.value {
        FieldValue::Fixed(value) => value.clone(),
        FieldValue::Made(template) => {
            let made = values.field(template).unwrap_or_default();
            HeaderValue::from_bytes(&made).unwrap_or(HeaderValue::from_static(""))
        }
    }
}
