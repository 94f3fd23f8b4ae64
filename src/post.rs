//! Posting to an address of the configuration: events to a webhook, traces to a collector.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderName, HeaderValue};
use pingora::{
    connectors::TransportConnector,
    http::RequestHeader,
    protocols::http::v1::client::HttpSession,
    upstreams::peer::{ALPN, HttpPeer},
};
use tokio::time::timeout;

use crate::site::Endpoint;

/// How long one attempt may take, from the look-up of the name to the status.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long the body of an answer is waited for.
const BODY_PATIENCE: Duration = Duration::from_secs(1);
/// The first pause between two attempts; each one is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(1);
/// Pauses grow no further.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is posted.
#[derive(Clone, Copy, Debug)]
pub struct Post<'a> {
    /// Where to.
    pub to: &'a Endpoint,
    /// `Content-Type` of the body.
    pub kind: &'static str,
    /// More header fields.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// The body.
    pub body: &'a [u8],
    /// How many bytes of the answer's body are wanted, at most.
    pub wanted: usize,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The final status.
    pub status: u16,
    /// As much of the body as was wanted and came within a second.
    pub body: Vec<u8>,
}

/// One attempt, over a connection of its own. Redirects are not followed: the URL of the
/// configuration is what was meant.
///
/// # Errors
/// No status came: the text says why.
pub async fn post(connector: &TransportConnector, post: &Post<'_>) -> Result<Answer, String> {
    let (mut session, status) = match timeout(PATIENCE, exchange(connector, post)).await {
        Ok(exchanged) => exchanged?,
        Err(_) => return Err(format!("no answer in {PATIENCE:?}")),
    };
    let mut body = Vec::new();
    let _ = timeout(BODY_PATIENCE, read(&mut session, post.wanted, &mut body)).await;
    session.shutdown().await;
    Ok(Answer { status, body })
}

/// How long to wait before attempt `attempt + 2`: 1, 2, 4 … seconds, up to a minute.
pub fn pause(attempt: u32) -> Duration {
    PAUSE.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(LONGEST_PAUSE)
}

async fn exchange(
    connector: &TransportConnector,
    post: &Post<'_>,
) -> Result<(HttpSession, u16), String> {
    let found = tokio::net::lookup_host((&*post.to.host, post.to.port)).await;
    let addresses: Vec<_> = found.map_err(|e| format!("no address: {e}"))?.collect();
    let mut last = "no address".to_owned();
    for address in addresses {
        match connector.new_stream(&peer(post.to, address)).await {
            Ok(stream) => {
                let mut session = HttpSession::new(stream);
                let status = converse(&mut session, post).await.map_err(|e| e.to_string())?;
                return Ok((session, status));
            }
            Err(e) => last = e.to_string(),
        }
    }
    Err(last)
}

/// SECURITY: certificate and name are verified, always: events tell names of inside servers,
/// traces what people do, and both may carry a secret that opens the receiver.
/// Test: events::https_is_verified, traces::a_collector_nobody_vouches_for_gets_nothing (black box)
fn peer(to: &Endpoint, address: SocketAddr) -> HttpPeer {
    let sni = if to.https { to.host.clone() } else { String::new() };
    let mut peer = HttpPeer::new(address, to.https, sni);
    let options = &mut peer.options;
    (options.verify_cert, options.verify_hostname) = (true, true);
    options.alpn = ALPN::H1;
    options.connection_timeout = Some(PATIENCE / 2);
    options.total_connection_timeout = Some(PATIENCE / 2);
    peer
}

async fn converse(session: &mut HttpSession, post: &Post<'_>) -> pingora::Result<u16> {
    let mut request = RequestHeader::build("POST", post.to.target.as_bytes(), None)?;
    for (name, value) in post.headers {
        request.insert_header(name.clone(), value.clone())?;
    }
    request.insert_header("Host", &post.to.authority)?;
    request.insert_header("User-Agent", concat!("frontgate/", env!("CARGO_PKG_VERSION")))?;
    request.insert_header("Content-Type", post.kind)?;
    request.insert_header("Content-Length", post.body.len())?;
    request.insert_header("Connection", "close")?;
    session.write_request_header(Box::new(request)).await?;
    session.write_body(post.body).await?;
    session.finish_body().await?;
    loop {
        session.read_response().await?;
        match session.get_status().map(|status| status.as_u16()) {
            Some(100..=199) => {}
            status => return Ok(status.unwrap_or_default()),
        }
    }
}

async fn read(session: &mut HttpSession, wanted: usize, body: &mut Vec<u8>) {
    while body.len() < wanted {
        let Ok(Some(chunk)) = session.read_body_bytes().await else { break };
        body.extend_from_slice(&chunk);
    }
    body.truncate(wanted);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute() {
        let pauses: Vec<_> = (0..8).map(|attempt| pause(attempt).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(1000), LONGEST_PAUSE);
    }
}
