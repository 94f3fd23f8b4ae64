//! Header fields on their way to the server and back.

use std::sync::atomic::Ordering;

use http::{HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
    proxy::Session,
};

use super::Ctx;
use crate::{guard::headers::is_stranger, pin};

/// What the server gets. Everything else travels as the client wrote it: Host, Accept (also its
/// absence), letter case, order.
pub(super) fn to_server(session: &Session, request: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
    // SECURITY: nobody outside says who the client is or which URL was meant.
    // Test: headers_from_strangers_are_dropped.
    let strangers: Vec<HeaderName> =
        request.headers.keys().filter(|name| is_stranger(name.as_str())).cloned().collect();
    for name in &strangers {
        request.remove_header(name);
    }
    let Some(connection) = &ctx.connection else { return Ok(()) };
    let host = original_host(session);
    let client = connection.client.ip().to_canonical().to_string();
    let scheme = if connection.tls.is_some() { "https" } else { "http" };
    request.insert_header("X-Forwarded-For", client)?;
    request.insert_header("X-Forwarded-Proto", scheme)?;
    if let Some(host) = host {
        request.insert_header("X-Forwarded-Host", host)?;
    }
    request.insert_header("X-Forwarded-Port", connection.listener.public_port)?;
    if let Some(host) = ctx.farm.as_ref().and_then(|f| f.spec().host.clone()) {
        request.insert_header(header::HOST, &*host)?;
    }
    if session.req_header().version == Version::HTTP_2 {
        join_cookies(request)?;
    }
    Ok(())
}

fn original_host(session: &Session) -> Option<HeaderValue> {
    let request = session.req_header();
    request
        .headers
        .get(header::HOST)
        .cloned()
        .or_else(|| request.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()))
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

/// What leaves a server's answer as soon as it is read.
pub(super) fn from_server(response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let (Some(farm), Some(connection)) = (&ctx.farm, &ctx.connection) else { return Ok(()) };
    let mode = farm.spec().connection_auth;
    if pin::on_response(mode, &response.headers, connection) {
        let kept = pin::without_connection_auth(&response.headers);
        response.remove_header(&header::WWW_AUTHENTICATE);
        for value in kept {
            response.append_header(header::WWW_AUTHENTICATE, value)?;
        }
    }
    Ok(())
}

/// What the client gets.
pub(super) fn to_client(session: &mut Session, response: &mut ResponseHeader, ctx: &Ctx) {
    if ctx.connection.as_ref().is_some_and(|c| *c.stopping.borrow()) {
        session.set_keepalive(None);
    }
    let upgraded = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if upgraded {
        if let Some(connection) = &ctx.connection {
            connection.upgraded.store(true, Ordering::Relaxed);
        }
    } else {
        // Hop-by-hop fields of the server's connection (RFC 9110 7.6.1); IIS offers h2c here.
        response.remove_header(&header::UPGRADE);
    }
    response.remove_header("Keep-Alive");
    response.remove_header("Proxy-Connection");
    // COMPAT: HTTP/1.0 clients (old load balancer probes) know no chunks: the end of the
    // connection ends the body. Test: http10_client_gets_no_chunks.
    if session.req_header().version == Version::HTTP_10 {
        response.remove_header(&header::TRANSFER_ENCODING);
    }
    let Some(farm) = &ctx.farm else { return };
    for name in &farm.spec().hide_headers {
        response.remove_header(&**name);
    }
}
