//! The HTTP check: one GET over a connection of its own.

use std::net::{IpAddr, Ipv6Addr};

use pingora::{
    connectors::TransportConnector, http::RequestHeader, protocols::http::v1::client::HttpSession,
};

use super::{
    super::{announce, peer},
    reason::{self, Failure},
};
use crate::{proxy_protocol::Told, site};

/// What is asked for, and what counts as a good answer.
pub(super) struct Page<'a> {
    /// Path and query.
    pub(super) path: &'a str,
    /// `Host`, without port.
    pub(super) host: &'a str,
    /// Accepted status codes, inclusive ranges.
    pub(super) status: &'a [(u16, u16)],
    /// Text the body must contain.
    pub(super) body: Option<&'a str>,
}

/// A body is read no further than this.
const MAX_BODY: usize = 256 * 1024;

/// Gets the page from one address. Redirects are answers like any other, never followed: a sound
/// login page and a broken one both redirect, and the target may be somebody else's server.
pub(super) async fn get(
    connector: &TransportConnector,
    farm: &site::Farm,
    server: &site::Server,
    ip: IpAddr,
    page: &Page<'_>,
) -> Result<(), Failure> {
    let https = peer::uses_tls(farm.bridge, true);
    let mut peer = peer::peer(farm, server, ip, https)
        .map_err(|_| Failure::unfit("the server has no TLS name"))?;
    if let Some(version) = farm.forward.proxy_protocol {
        announce(&mut peer, version, Told::Itself);
    }
    let request = request(page).ok_or(Failure::unfit("the probe's path or host is not valid"))?;

    let stream = reason::open(connector, peer).await?;
    let mut session = HttpSession::new(stream);
    let outcome = converse(&mut session, request, page).await;
    session.shutdown().await;
    outcome
}

async fn converse(
    session: &mut HttpSession,
    request: RequestHeader,
    page: &Page<'_>,
) -> Result<(), Failure> {
    let broken = |error: Box<pingora::Error>| reason::answer(&error);
    session.write_request_header(Box::new(request)).await.map_err(broken)?;
    session.finish_body().await.map_err(broken)?;
    let status = loop {
        session.read_response().await.map_err(broken)?;
        match session.get_status().map(|status| status.as_u16()) {
            Some(100..=199) => {}
            Some(status) => break status,
            None => return Err(Failure::unfit("answer is not understood")),
        }
    };
    if !page.status.iter().any(|(from, to)| (*from..=*to).contains(&status)) {
        return Err(Failure::Unfit(format!("status {status}").into()));
    }
    read_body(session, page.body.unwrap_or_default()).await
}

/// Reads the body to its end, or until it contains `wanted`, or to the limit. Without anything
/// wanted it is still read: a server that stops in the middle of a page is not healthy.
async fn read_body(session: &mut HttpSession, wanted: &str) -> Result<(), Failure> {
    let wanted = wanted.as_bytes();
    let mut body = Vec::new();
    while body.len() < MAX_BODY {
        match session.read_body_ref().await {
            Ok(Some(chunk)) => {
                // What is wanted may have begun in the chunk before.
                let from = body.len().saturating_sub(wanted.len());
                body.extend_from_slice(chunk);
                body.truncate(MAX_BODY);
                if !wanted.is_empty() && contains(body.get(from..).unwrap_or_default(), wanted) {
                    return Ok(());
                }
            }
            Ok(None) => break,
            Err(_) => return Err(Failure::unfit("answer broke off")),
        }
    }
    if wanted.is_empty() { Ok(()) } else { Err(Failure::unfit("body did not match")) }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// No `Accept`: some pages of Lync answer an unexpected one with 406, and the default is
/// anything.
fn request(page: &Page<'_>) -> Option<RequestHeader> {
    let mut request = RequestHeader::build("GET", page.path.as_bytes(), None).ok()?;
    let host = match page.host.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => page.host.to_owned(),
    };
    request.insert_header("Host", host).ok()?;
    request.insert_header("User-Agent", "frontgate-probe").ok()?;
    request.insert_header("Connection", "close").ok()?;
    Some(request)
}
