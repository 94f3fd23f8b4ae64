//! The access log line of a request, and where it counts.

use http::{StatusCode, Version, header};
use pingora::proxy::Session;

use super::{Ctx, Current};
use crate::{
    listen::Refusal,
    observe::{
        Access,
        traces::{Seen, Trace},
    },
    reason,
};

/// One line for a request that Pingora saw.
pub(super) fn request(current: &Current, session: &Session, ctx: &Ctx) {
    let Some(connection) = &ctx.connection else { return };
    let request = session.req_header();
    let text = |name: header::HeaderName| {
        request.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
    };
    let host = text(header::HOST).or_else(|| request.uri.authority().map(|a| a.as_str().into()));
    let (referer, user_agent) = (text(header::REFERER), text(header::USER_AGENT));
    let target = String::from_utf8_lossy(request.raw_path());
    let (path, query) = split(&target);
    let written = session
        .response_written()
        .map(|r| r.status)
        .filter(|s| !s.is_informational() || *s == StatusCode::SWITCHING_PROTOCOLS)
        .map(|s| s.as_u16());
    let reason = ctx.reason;
    let server = ctx.server.as_ref().or(ctx.last_tried.as_ref());
    let peer = connection.client;
    let behind = ctx.client.as_ref().filter(|c| c.address != peer.ip().to_canonical());
    let access = Access {
        time: ctx.time,
        client: ctx.source(),
        client_port: behind.map_or(Some(peer.port()), |client| client.port),
        peer: behind.map(|_| peer).or(connection.sender),
        local: connection.local.ip().to_canonical(),
        port: connection.listener.public_port,
        log_id: ctx.log_id.as_ref().and_then(|id| id.to_str().ok()),
        listener: &connection.listener.name,
        sni: connection.sni(),
        host: host.as_deref(),
        method: Some(request.method.as_str()),
        path: Some(path),
        query,
        protocol: Some(protocol(request.version)),
        status: written.unwrap_or(if reason == Some(reason::CLIENT_LEFT) { 499 } else { 0 }),
        received: session.body_bytes_read() as u64,
        sent: session.body_bytes_sent() as u64,
        duration: ctx.started.elapsed(),
        first_byte: ctx.first_byte,
        rule: ctx.rule.as_ref().map(|r| &*r.name),
        farm: ctx.farm.as_ref().map(|f| &*f.spec().name),
        server: server.map(|s| &**s.name()),
        server_connection: ctx.reused.map(|reused| if reused { "reused" } else { "new" }),
        reason: reason.map(|r| r.code),
        tls: connection.tls.as_ref().map(|t| t.version),
        referer: referer.as_deref(),
        user_agent: user_agent.as_deref(),
    };
    ctx.live.routes.of(ctx.rule.as_deref()).count(access.status, access.duration);
    reason.into_iter().for_each(|why| current.metrics.ended(why));
    if let Some(trace) = &ctx.trace {
        let rewritten = ctx.target.as_ref().map(|target| String::from_utf8_lossy(target));
        let (access, answered) = (&access, written.is_some());
        let (query, https) = (ctx.live.site.access_log.query, ctx.https());
        let rewritten = rewritten.as_deref();
        let seen = Seen { access, answered, query, https, rewritten, reason };
        current.traces.ended(trace, &seen);
    }
    current.log.write(&access);
}

/// One line for a request that was refused before Pingora saw it.
pub fn refused(current: &Current, refusal: &Refusal<'_>) {
    let connection = refusal.connection;
    let text = String::from_utf8_lossy(refusal.head);
    let mut words = text.lines().next().unwrap_or_default().splitn(3, ' ');
    let method = words.next().filter(|m| !m.is_empty());
    let target = words.next().map(split);
    let duration = refusal.started.elapsed();
    let access = Access {
        time: std::time::SystemTime::now() - duration,
        client: connection.client.ip().to_canonical(),
        client_port: Some(connection.client.port()),
        peer: connection.sender,
        local: connection.local.ip().to_canonical(),
        port: connection.listener.public_port,
        log_id: None,
        listener: &connection.listener.name,
        sni: connection.sni(),
        host: None,
        method,
        path: target.map(|(path, _)| path),
        query: target.and_then(|(_, query)| query),
        protocol: words.next().filter(|p| p.starts_with("HTTP/")),
        status: refusal.reason.status,
        received: 0,
        sent: refusal.sent as u64,
        duration,
        first_byte: None,
        rule: None,
        farm: None,
        server: None,
        server_connection: None,
        reason: Some(refusal.reason.code),
        tls: connection.tls.as_ref().map(|t| t.version),
        referer: None,
        user_agent: None,
    };
    let live = current.load();
    live.routes.of(None).count(access.status, duration);
    current.metrics.ended(refusal.reason);
    let settings = live.site.traces.as_ref();
    if let Some(trace) = settings.and_then(|to| Trace::begin(to.sample, None, refusal.started)) {
        let (query, https) = (live.site.access_log.query, connection.https);
        let (access, reason) = (&access, Some(refusal.reason));
        let answered = refusal.sent > 0;
        let seen = Seen { access, answered, query, https, rewritten: None, reason };
        current.traces.ended(&trace, &seen);
    }
    current.log.write(&access);
}

/// A target before and behind its `?`.
fn split(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
