//! What a publish rule changes on the way to the server and back, and the pages it answers with.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
    proxy::Session,
};

use super::{Ctx, admit, rewrite_host};
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
            // Where TLS ends in front, its port is not known here.
            let port = match (https == connection.tls.is_some(), https) {
                (true, _) => connection.listener.public_port,
                (false, true) => 443,
                (false, false) => 80,
            };
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
    fn take_out(&mut self, name: &HeaderName);
    fn set(&mut self, name: Bytes, value: HeaderValue) -> Result<()>;
    fn append(&mut self, name: Bytes, value: HeaderValue) -> Result<()>;
}

macro_rules! header {
    ($($kind:ty),+) => {$(
        impl Header for $kind {
            fn take_out(&mut self, name: &HeaderName) {
                self.remove_header(name);
            }

            fn set(&mut self, name: Bytes, value: HeaderValue) -> Result<()> {
                self.insert_header(name, value)
            }

            fn append(&mut self, name: Bytes, value: HeaderValue) -> Result<()> {
                self.append_header(name, value).map(drop)
            }
        }
    )+};
}
header!(RequestHeader, ResponseHeader);

fn change(header: &mut impl Header, changes: &HeaderChanges, values: &Values<'_>) -> Result<()> {
    for name in &changes.remove {
        header.take_out(name);
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
