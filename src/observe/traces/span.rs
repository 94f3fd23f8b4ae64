//! Spans of a request that has ended, with the attributes of OpenTelemetry's conventions for HTTP
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};

use super::{
    attributes::Attributes,
    trace::{Attempt, Trace},
};
use crate::{
    observe::{Access, mask},
    reason::Reason,
    site::LogQuery,
};

/// Flags of a span: what follows is known, and the parent is in another process.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// What is known of a request that has ended, besides its trace.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// As the access log tells it.
    pub access: &'a Access<'a>,
    /// Whether any of an answer was sent; the log has a status also where nobody was told one.
    pub answered: bool,
    /// What the access log tells of queries.
    pub query: LogQuery,
    /// Whether the client speaks https.
    pub https: bool,
    /// The target its server was asked for, if a rule rewrote it.
    pub rewritten: Option<&'a str>,
    /// Why Frontgate answered itself, or why the exchange broke.
    pub reason: Option<Reason>,
}

/// The span of the request, and one for each attempt at a server.
pub(super) fn spans(trace: &Trace, seen: &Seen<'_>) -> Vec<Span> {
    let attempts = trace.attempts.iter().map(|attempt| client(trace, seen, attempt));
    std::iter::once(server(trace, seen)).chain(attempts).collect()
}

fn server(trace: &Trace, seen: &Seen<'_>) -> Span {
    let access = seen.access;
    let mut to = Attributes::default();
    let method = to.method(access.method);
    to.text("url.scheme", if seen.https { "https" } else { "http" });
    if let Some(path) = access.path {
        to.text("url.path", &mask::path(path));
    }
    if let Some(query) = access.query.and_then(|query| mask::query(query, seen.query)) {
        to.text("url.query", &query);
    }
    let host = access.host.or(access.sni).map(mask::authority);
    if let Some((name, port)) = host.as_deref().map(|host| split(host, access.port)) {
        to.text("server.address", name);
        to.number("server.port", port.into());
    }
    to.text("client.address", &access.client.to_string());
    if let Some(port) = access.client_port {
        to.number("client.port", port.into());
    }
    if let Some(peer) = access.peer {
        to.text("network.peer.address", &peer.ip().to_string());
        to.number("network.peer.port", peer.port().into());
    }
    if let Some(version) = access.protocol.and_then(version) {
        to.text("network.protocol.version", version);
    }
    if let Some(agent) = access.user_agent {
        to.text("user_agent.original", agent);
    }
    let sent = seen.answered.then_some(access.status);
    to.status(sent);
    if let Some(rule) = access.rule {
        to.text("http.route", rule);
        to.text("frontgate.rule", rule);
    }
    to.text("frontgate.listener", access.listener);
    to.maybe("frontgate.farm", access.farm);
    to.maybe("frontgate.server", access.server);
    to.maybe("frontgate.reason", access.reason);
    to.maybe("frontgate.log_id", access.log_id);
    // Also what broke after its status was sent; what clients do is no error here.
    let broke = seen.reason.filter(|reason| reason.status >= 500).map(|reason| reason.code);
    let failed = broke.is_some() || access.status >= 500;
    let status = to.outcome(failed, broke, sent);
    Span {
        span_id: trace.span.to_vec(),
        parent_span_id: trace.parent.map_or_else(Vec::new, |parent| parent.to_vec()),
        flags: 1 | KNOWN | trace.parent.map_or(0, |_| REMOTE),
        name: access.rule.map_or_else(|| method.to_owned(), |rule| format!("{method} {rule}")),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanos(access.time),
        end_time_unix_nano: nanos(access.time + access.duration),
        attributes: to.list(),
        status,
        ..common(trace)
    }
}

fn client(trace: &Trace, seen: &Seen<'_>, attempt: &Attempt) -> Span {
    let (access, target) = (seen.access, &attempt.to);
    let mut to = Attributes::default();
    let method = to.method(access.method);
    let scheme = if target.https { "https" } else { "http" };
    let ip = target.address.ip().to_string();
    let host = target.host.as_deref().unwrap_or(&ip);
    let (path, query) = match seen.rewritten {
        Some(target) => target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q))),
        None => (access.path.unwrap_or_default(), access.query),
    };
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut url = format!("{scheme}://{bracketed}:{}", target.address.port());
    url.push_str(&mask::path(path));
    if let Some(query) = query.and_then(|query| mask::query(query, seen.query)) {
        url.push('?');
        url.push_str(&query);
    }
    to.text("url.full", &url);
    to.text("server.address", host);
    to.number("server.port", target.address.port().into());
    to.text("network.peer.address", &ip);
    to.number("network.peer.port", target.address.port().into());
    to.text("network.protocol.version", "1.1");
    if attempt.number > 0 {
        to.number("http.request.resend_count", attempt.number as i64);
    }
    to.status(attempt.status);
    to.maybe("frontgate.farm", access.farm);
    to.text("frontgate.server", &target.server);
    // A 401 is how sign-ins begin. The convention counts other 4xx as errors of a client.
    let failed = attempt.status.is_some_and(|status| status >= 400 && status != 401);
    let status = to.outcome(failed || attempt.error.is_some(), attempt.error, attempt.status);
    let at = |when: Instant| nanos(access.time + when.saturating_duration_since(trace.started));
    let begun = at(attempt.begun);
    let ended = attempt.ended.map_or_else(|| nanos(access.time + access.duration), at);
    Span {
        span_id: attempt.span.to_vec(),
        parent_span_id: trace.span.to_vec(),
        flags: 1 | KNOWN,
        name: method.to_owned(),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: begun,
        end_time_unix_nano: ended.max(begun),
        attributes: to.list(),
        status,
        ..common(trace)
    }
}

fn common(trace: &Trace) -> Span {
    let state = trace.state.as_ref().map(|state| String::from_utf8_lossy(state.as_bytes()));
    Span {
        trace_id: trace.id.to_vec(),
        trace_state: state.unwrap_or_default().into_owned(),
        ..Span::default()
    }
}

/// `1.1` of `HTTP/1.1`, `2` of `HTTP/2.0`.
fn version(protocol: &str) -> Option<&str> {
    let version = protocol.strip_prefix("HTTP/")?;
    Some(if version == "2.0" { "2" } else { version })
}

/// A host and its port.
fn split(host: &str, port: u16) -> (&str, u16) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, digits)) if !digits.contains(']') => (name, digits.parse().unwrap_or(port)),
        _ => (host, port),
    };
    (name.trim_matches(['[', ']']), port)
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
