//! Header fields on their way to the server and back.

use std::{sync::atomic::Ordering, time::Instant};

use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    proxy::Session,
};

use super::{Ctx, told, traced};
use crate::{guard::is_stranger, pin};

/// What the server gets. Everything else travels as the client wrote it: Host, Accept (also its
/// absence), letter case, order.
pub(super) fn to_server(
    session: &Session,
    request: &mut RequestHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    // SECURITY: nobody outside says who the client is or which URL was meant. What a trusted proxy
    // said has been understood by now; it is told anew. Test: strangers_cannot_forge_any_of_it
    let strangers: Vec<HeaderName> =
        request.headers.keys().filter(|name| is_stranger(name.as_str())).cloned().collect();
    for name in &strangers {
        request.remove_header(name);
    }
    told::tell(session, request, ctx)?;
    traced::tell(request, ctx)?;
    if let Some(host) = ctx.farm.as_ref().and_then(|f| f.spec().host.clone()) {
        request.insert_header(header::HOST, &*host)?;
    }
    if session.req_header().version == Version::HTTP_2 {
        join_cookies(request)?;
    }
    Ok(())
}

/// COMPAT: HTTP/2 clients may split `Cookie` into several fields; HTTP/1 servers expect one
/// (RFC 9113 8.2.3). Test: h2_cookies_arrive_as_one.
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    let crumbs: Vec<&[u8]> =
        request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let joined = crumbs.join(&b"; "[..]);
        request.insert_header(header::COOKIE, joined)?;
    }
    Ok(())
}

/// What changes in a server's answer as soon as it is read.
///
/// # Errors
/// The server switches protocols and nobody asked it to.
pub(super) fn from_server(
    session: &Session,
    response: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    // SECURITY: after a 101 bytes pass unread, so only the client may ask for one.
    // Test: an_unasked_101_is_refused
    if is_tunnel(response) && !session.is_upgrade_req() {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, "unasked 101").into_up());
    }
    let (Some(farm), Some(connection)) = (&ctx.farm, &ctx.connection) else { return Ok(()) };
    let last = !response.status.is_informational() || is_tunnel(response);
    if let Some(holds) = ctx.holds.as_ref().filter(|_| last) {
        // What is bound to a connection ends with it, so the client has to know.
        // Test: a_closing_server_takes_its_client_connection_along
        ctx.close |= closes(response) || ends_with_the_connection(session, response);
        match response.status {
            // An early one starts the client's time, also while its upload goes on.
            StatusCode::UNAUTHORIZED => holds.waits(&farm.spec().name, Some(Instant::now())),
            _ => holds.proved(&farm.spec().name),
        }
    }
    pin::on_response(farm.spec().connection_auth, response, connection)
}

/// What the client gets.
pub(super) fn to_client(session: &mut Session, response: &mut ResponseHeader, ctx: &Ctx) {
    if is_tunnel(response) {
        if let Some(connection) = &ctx.connection {
            connection.upgraded.store(true, Ordering::Relaxed);
        }
        // A tunnel may be silent as long as the farm's timeout allows; there is no body any more.
        session.set_read_timeout(None);
    } else {
        strip_hop_by_hop(response);
    }
    // COMPAT: HTTP/1.0 clients (old load balancer probes) know no chunks: the end of the
    // connection ends the body. Test: http10_client_gets_no_chunks.
    let interim = response.status.is_informational();
    if session.req_header().version == Version::HTTP_10 && !interim {
        response.remove_header(&header::TRANSFER_ENCODING);
        if !response.headers.contains_key(header::CONTENT_LENGTH) {
            session.set_keepalive(None);
        }
    }
    if ctx.close || ctx.connection.as_ref().is_some_and(|c| c.ends_with(response.status)) {
        session.set_keepalive(None);
    }
    let Some(farm) = &ctx.farm else { return };
    for name in &farm.spec().hide_headers {
        response.remove_header(&**name);
    }
    if let Some(cookie) = ctx.cookie.as_ref().filter(|_| !interim) {
        // Fails only for more header fields than a server may send.
        let _ = response.append_header(header::SET_COOKIE, cookie.clone());
    }
}

fn is_tunnel(response: &ResponseHeader) -> bool {
    response.status == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether only the server's close ends the body (RFC 9112 6.3).
fn ends_with_the_connection(session: &Session, response: &ResponseHeader) -> bool {
    let bodiless = session.req_header().method == Method::HEAD
        || response.status.is_informational()
        || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framed = response.headers.contains_key(header::CONTENT_LENGTH)
        || response.headers.contains_key(header::TRANSFER_ENCODING);
    !bodiless && !framed
}

/// Whether the server closes its connection after this answer (RFC 9112 9.6).
fn closes(response: &ResponseHeader) -> bool {
    let says =
        |wanted: &[u8]| connection_tokens(response).any(|token| token.eq_ignore_ascii_case(wanted));
    says(b"close") || (response.version == Version::HTTP_10 && !says(b"keep-alive"))
}

/// What the `Connection` fields name.
fn connection_tokens(response: &ResponseHeader) -> impl Iterator<Item = &[u8]> {
    let values = response.headers.get_all(header::CONNECTION).iter();
    values.flat_map(|value| value.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii)
}

/// Fields of the server's connection (RFC 9110 7.6.1), also those it names itself; IIS offers h2c
/// in `Upgrade`.
fn strip_hop_by_hop(response: &mut ResponseHeader) {
    let named: Vec<HeaderName> = connection_tokens(response)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        // Naming these would change how the answer is read.
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING)
        .collect();
    for name in &named {
        response.remove_header(name);
    }
    response.remove_header(&header::UPGRADE);
    response.remove_header("Keep-Alive");
    response.remove_header("Proxy-Connection");
}
