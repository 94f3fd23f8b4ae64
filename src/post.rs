//! Posting to an address of the configuration: events to a webhook, traces to a collector.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};
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
    /// How long the receiver wants to be left alone: `Retry-After`, where that is in seconds.
    pub retry_after: Option<Duration>,
    /// As much of the body as was wanted and came within a second.
    pub body: Vec<u8>,
}

/// One attempt, over a connection of its own. Redirects are not followed: the URL of the
/// configuration is what was meant.
///
/// # Errors
/// No status came: the text says why.
pub async fn post(connector: &TransportConnector, post: &Post<'_>) -> Result<Answer, String> {
    let (session, status) = match timeout(PATIENCE, exchange(connector, post)).await {
        Ok(exchanged) => exchanged?,
        Err(_) => return Err(format!("no answer in {PATIENCE:?}")),
    };
    let retry_after = session.resp_header().and_then(|head| retry_after(&head.headers));
    Ok(Answer { status, retry_after, body: end(session, post.wanted).await })
}

/// How long to wait before attempt `attempt + 2`: 1, 2, 4 … seconds, or as long as the receiver
/// `wants`, up to a minute.
pub fn pause(attempt: u32, wants: Option<Duration>) -> Duration {
    let pause = PAUSE.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX));
    pause.max(wants.unwrap_or_default()).min(LONGEST_PAUSE)
}

/// Dates are left aside: they would be of the receiver's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
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

/// What comes of the body, and the end of the connection: a receiver that reads no more takes no
/// farewell of TLS either, and must not hold up what is posted next.
async fn end(mut session: HttpSession, wanted: usize) -> Vec<u8> {
    let mut body = Vec::new();
    let ending = async {
        read(&mut session, wanted, &mut body).await;
        session.shutdown().await;
    };
    let _ = timeout(BODY_PATIENCE, ending).await;
    body.truncate(wanted);
    body
}

async fn read(session: &mut HttpSession, wanted: usize, body: &mut Vec<u8>) {
    while body.len() < wanted {
        let Ok(Some(chunk)) = session.read_body_bytes().await else { break };
        body.extend_from_slice(&chunk);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Result,
        pin::Pin,
        sync::Arc,
        task::{Context, Poll},
    };

    use pingora::protocols::{
        GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
        TimingDigest, UniqueID, UniqueIDType, raw_connect::ProxyDigest,
    };
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    /// A connection whose other end has said everything, and takes nothing more.
    #[derive(Debug)]
    struct Deaf(&'static [u8]);

    impl AsyncRead for Deaf {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<Result<()>> {
            into.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Deaf {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Pending
        }
    }

    #[async_trait::async_trait]
    impl Shutdown for Deaf {
        async fn shutdown(&mut self) {
            std::future::pending().await
        }
    }

    impl UniqueID for Deaf {
        fn id(&self) -> UniqueIDType {
            0
        }
    }

    impl GetTimingDigest for Deaf {
        fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
            Vec::new()
        }
    }

    impl GetProxyDigest for Deaf {
        fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
            None
        }
    }

    impl GetSocketDigest for Deaf {
        fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
            None
        }
    }

    impl Ssl for Deaf {}
    impl Peek for Deaf {}

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_takes_no_farewell_is_left() {
        let said = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
        let mut session = HttpSession::new(Box::new(Deaf(said)));
        session.read_response().await.unwrap();
        let ended = timeout(Duration::from_secs(60), end(session, 3)).await;
        assert_eq!(ended.unwrap(), b"goo");
    }

    #[test]
    fn pauses_grow_to_a_minute_or_are_what_the_receiver_wants() {
        let pauses: Vec<_> = (0..8).map(|attempt| pause(attempt, None).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(1000, None), LONGEST_PAUSE);
        let wants = |value| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value)]);
            pause(1, retry_after(&headers)).as_secs()
        };
        assert_eq!(["7", "0", "86400"].map(HeaderValue::from_static).map(wants), [7, 2, 60]);
        let others = ["Fri, 31 Dec 1999 23:59:59 GMT", "-1", "99999999999999999999999"];
        assert_eq!(others.map(HeaderValue::from_static).map(wants), [2, 2, 2]);
    }
}
