//! May it pass, and where to: guard and route, before any server is chosen.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version, header};
use pingora::{Error, ErrorType, Result, proxy::Session};

use super::{Ctx, place, respond, rule};
use crate::{
    farm,
    guard::{self, HeadLimits, inspect_h2},
    listen::{self, Connection},
    pin::{self, Holds, Verdict},
    reason::{self, Reason},
    route::{
        Decision, HostName, Question, Values, decide, https_location, https_port, https_status,
        location, normalize_host, rewritten,
    },
    site::{Action, ConnectionAuth, FarmId, Rule, Site},
};

/// How long a client may leave an answer unread before it is given up.
const CLIENT_STALLED: Duration = Duration::from_secs(300);

/// Settings of every request, before anything else runs.
pub(super) fn prepare(session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    if ctx.connection.is_none() {
        // HTTP/2: the handshake left the connection in the TLS digest.
        let tls = session.digest().and_then(|d| d.ssl_digest.as_ref());
        ctx.connection = tls.and_then(|t| t.extension.get::<Arc<Connection>>()).cloned();
    }
    // HTTP/1 has the gate's deadline, which covers more than bodies.
    if session.is_http2() {
        session.set_write_timeout(Some(CLIENT_STALLED));
    }
    // Interim answers are not for HTTP/1.0 (RFC 9110 15.2).
    let old = session.req_header().version == Version::HTTP_10;
    session.set_ignore_info_resp(old);
    // COMPAT: Outlook and .NET get a 401 before their upload has ended and go on using the
    // connection. Test: an_early_answer_keeps_the_connection.
    session.set_close_on_response_before_downstream_finish(false);
    Ok(())
}

/// Guard and route. `Ok(true)`: an answer was sent and the request is over.
pub(super) async fn admit(session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let answer = match choose(session, ctx) {
        Ok(verdict) => match place::find(session, ctx, verdict).await {
            Ok(()) => return Ok(false),
            Err(reason::CLIENT_LEFT) => {
                ctx.reason = Some(reason::CLIENT_LEFT);
                session.set_keepalive(None);
                return Ok(true);
            }
            Err(reason) => reason.into(),
        },
        Err(answer) => answer,
    };
    let stops = ctx.connection.as_ref().is_some_and(|c| c.ends_with(StatusCode::OK));
    if stops || lost_ground(ctx) {
        session.set_keepalive(None);
    }
    match answer {
        Answer::Plain(reason) => {
            ctx.reason = Some(reason);
            respond::plain(session, reason).await?;
        }
        Answer::Redirect { reason, status, location } => {
            ctx.reason = Some(reason);
            respond::redirect(session, reason, status, &location).await?;
        }
        Answer::Page(rule) => {
            let Action::Respond(page) = &rule.action else { return Ok(false) };
            ctx.reason = Some(reason::RESPONDED);
            let (answer, body) = rule::page(session, ctx, &rule, page)?;
            respond::write(session, answer, body).await?;
        }
    }
    Ok(true)
}

/// Whether a reload took away what a pin of this connection was made with: the answer is its
/// last one.
fn lost_ground(ctx: &Ctx) -> bool {
    let Some(connection) = &ctx.connection else { return false };
    connection.pinned.load(Ordering::Relaxed) && Holds::of(connection).recheck(&ctx.live.site)
}

/// An answer that Frontgate gives itself.
enum Answer {
    Plain(Reason),
    Redirect {
        reason: Reason,
        status: u16,
        location: String,
    },
    /// Of a `respond` rule.
    Page(Arc<Rule>),
}

impl From<Reason> for Answer {
    fn from(reason: Reason) -> Self {
        Self::Plain(reason)
    }
}

/// Which server connections a request may use that goes to a farm.
fn choose(session: &mut Session, ctx: &mut Ctx) -> Result<Verdict, Answer> {
    let live = ctx.live.clone();
    let Some(connection) = ctx.connection.clone() else { return Err(reason::INTERNAL.into()) };
    let request = session.req_header();
    let tls = connection.tls.is_some();
    let trusted = connection.believed(&live.site.trusted_proxies);
    ctx.client =
        Some(guard::client(connection.client, connection.https, &request.headers, trusted));
    ctx.begin_trace(&request.headers);
    if request.version == Version::HTTP_2 {
        let authority = request.uri.authority().map(|a| a.as_str().as_bytes());
        let limits = HeadLimits::from(&live.site.limits);
        inspect_h2(&request.method, request.raw_path(), authority, &request.headers, &limits)?;
    }
    let host = requested_host(request, &connection)?;
    matches_sni(host.as_str(), &connection)?;
    let Some(listener) = live.listener(&connection.listener) else {
        // Its listener is gone since the connection was made: 421 makes clients come back on a
        // new one.
        session.set_keepalive(None);
        return Err(reason::HOST_NOT_PUBLISHED_TLS.into());
    };
    let question = rule::question(request, ctx, listener, host.as_str());
    let decision = decide(&live.table, &live.site, &question);
    ctx.rule = decision.rule().cloned();
    match decision {
        Decision::Forward { rule, farm } => {
            ctx.target = target(&live.site, rule, farm, &question)?;
            if let Some(farm) = live.farms.get(farm.0) {
                let target = request.raw_path();
                ctx.key = farm::key(farm, ctx.source(), &host, target, &request.headers);
            }
            forward(session, ctx, &connection, rule, farm)
        }
        Decision::Respond { rule, .. } => Err(Answer::Page(rule.clone())),
        Decision::Redirect { rule, redirect } => {
            let location = location(redirect, &Values::new(rule, &question));
            let location = location.ok_or(reason::AMBIGUOUS_PATH)?;
            let status = redirect.status;
            Err(Answer::Redirect { reason: reason::REDIRECTED, status, location })
        }
        Decision::ToHttps { rule } => {
            let port = https_port(&live.site, rule);
            let location = https_location(host.as_str(), port, request.raw_path());
            let status = https_status(request.method.as_str());
            Err(Answer::Redirect { reason: reason::HTTPS_ONLY, status, location })
        }
        other => Err(other.reason(tls).unwrap_or(reason::INTERNAL).into()),
    }
}

/// What the server is asked for instead of the client's own target.
fn target(
    site: &Site,
    rule: &Rule,
    farm: FarmId,
    question: &Question<'_>,
) -> Result<Option<Vec<u8>>, Reason> {
    let farm = site.farms.get(farm.0).ok_or(reason::INTERNAL)?;
    rewritten(rule, farm, &Values::new(rule, question))
}

/// The host the client asks for: HTTP/2 authority, Host header, or (HTTP/1.0 without one) SNI.
pub(super) fn requested_host<'a>(
    request: &'a pingora::http::RequestHeader,
    connection: &'a Connection,
) -> Result<HostName<'a>, Reason> {
    let raw = request
        .uri
        .authority()
        .filter(|_| request.version == Version::HTTP_2)
        .map(|a| a.as_str().as_bytes())
        .or_else(|| request.headers.get(header::HOST).map(|v| v.as_bytes()))
        .or_else(|| connection.sni().map(str::as_bytes))
        .ok_or(reason::BAD_HOST)?;
    normalize_host(raw).ok_or(reason::BAD_HOST)
}

/// SECURITY: a connection that was made for one name does not reach another that its certificate
/// does not cover (domain fronting, coalesced HTTP/2). Test: each_name_reaches_its_own_farm_re_encrypted.
fn matches_sni(host: &str, connection: &Connection) -> Result<(), Reason> {
    let Some(tls) = &connection.tls else { return Ok(()) };
    match &tls.sni {
        Some(sni) if sni != host => match &tls.certificate {
            Some(certificate) if certificate.covers(host) => Ok(()),
            _ => Err(reason::SNI_MISMATCH),
        },
        _ => Ok(()),
    }
}

fn forward(
    session: &mut Session,
    ctx: &mut Ctx,
    connection: &Connection,
    rule: &Arc<Rule>,
    farm: FarmId,
) -> Result<Verdict, Answer> {
    let Some(farm) = ctx.live.farms.get(farm.0).cloned() else {
        return Err(reason::INTERNAL.into());
    };
    let request = session.req_header();
    let mode = farm.spec().connection_auth;
    // SECURITY: streams of one HTTP/2 connection would share a signed-in server connection; a
    // client can still bring such a host here on another host's connection.
    // Test: http2_is_offered_only_where_no_farm_binds_sign_ins.
    if request.version == Version::HTTP_2 && mode != ConnectionAuth::Off {
        return Err(reason::HTTP2_NOT_HERE.into());
    }
    let pinned = connection.pinned.load(Ordering::Relaxed);
    let verdict = pin::on_request(mode, &request.headers, pinned);
    if verdict == Verdict::Refused {
        return Err(reason::CONNECTION_AUTH_OFF.into());
    }
    if announces_too_much(rule.body_size, &request.headers) {
        return Err(reason::BODY_TOO_LARGE.into());
    }
    session.set_read_timeout(Some(rule.body_timeout));
    session.set_total_drain_timeout(Some(rule.body_timeout));
    match verdict {
        Verdict::Pinned { counted } if !owns(connection, ctx.source(), counted) => {
            session.set_keepalive(None);
            return Err(reason::SHARED_CONNECTION.into());
        }
        // A reload may have turned the farm off that a sign-in was made with.
        Verdict::Shared => ctx.close |= lost_ground(ctx),
        _ => {}
    }
    ctx.farm = Some(farm);
    Ok(verdict)
}

/// Whether this client may use what the connection is signed in as; the first one that `signs_in`
/// owns it.
///
/// SECURITY: a trusted proxy that sends several clients over one connection would hand one's
/// sign-in to the next. Test: a_sign_in_is_never_shared_by_a_proxy_in_front
fn owns(connection: &Connection, source: IpAddr, signs_in: bool) -> bool {
    let owner = match signs_in {
        true => Some(connection.owner.get_or_init(|| source)),
        false => connection.owner.get(),
    };
    owner.is_none_or(|owner| *owner == source)
}

/// Whether a body is refused before it comes, by its Content-Length. One without is counted while
/// it comes.
pub(super) fn announces_too_much(limit: Option<u64>, headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length: Option<u64> = length.and_then(|length| length.parse().ok());
    limit.zip(length).is_some_and(|(limit, length)| length > limit)
}

/// Body bytes on their way to the server.
pub(super) fn body(
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
) -> Result<()> {
    let length = body.as_ref().map_or(0, Bytes::len);
    if end {
        listen::body::end();
    } else {
        listen::body::progress();
    }
    ctx.received = ctx.received.saturating_add(length as u64);
    if let Some(server) = &ctx.server {
        server.count_received(length as u64);
    }
    // Pingora ends an HTTP/2 body without Content-Length twice on the HTTP/1 side, and the second
    // terminator poisons the pooled connection (pingora#935). Test: h2_body_ends_once.
    if end && length == 0 && session.is_http2() {
        *body = None;
    }
    let limit = ctx.rule.as_ref().and_then(|r| r.body_size);
    if limit.is_some_and(|limit| ctx.received > limit) {
        ctx.reason = Some(reason::BODY_TOO_LARGE);
        return Err(Error::explain(ErrorType::HTTPStatus(413), "body_too_large").into_down());
    }
    Ok(())
}
