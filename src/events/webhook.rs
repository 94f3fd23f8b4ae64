//! The address that each event is posted to.

use std::{net::SocketAddr, time::Duration};

use log::warn;
use pingora::{
    connectors::TransportConnector,
    http::RequestHeader,
    protocols::http::v1::client::HttpSession,
    upstreams::peer::{ALPN, HttpPeer},
};
use tokio::{sync::watch, time::timeout};

use super::{Event, Follower, bus::Receiver};
use crate::site::{Receivers, Webhook};

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause between two attempts; each one is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(1);
/// Pauses grow no further.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Attempts for one event: about two minutes.
const ATTEMPTS: u32 = 8;

/// Why an attempt failed, and whether another one may do better.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    why: String,
    again: bool,
}

/// Posts each event, one after the other; never returns. `done` tells the last one that was
/// posted or given up. What comes meanwhile waits where events are kept.
pub(super) async fn keep_posting(
    mut follower: Follower,
    mut to: watch::Receiver<Receivers>,
    done: watch::Sender<u64>,
) {
    let connector = TransportConnector::new(None);
    loop {
        let event = follower.next().await;
        let missed = follower.missed();
        if missed > 0 && to.borrow().webhook.is_some() {
            follower.events().count_undelivered(Receiver::Webhook, missed);
            warn!("events.webhook: {missed} events came too fast and were left out");
        }
        if let Err(why) = deliver(&connector, &event, &mut to).await {
            follower.events().count_undelivered(Receiver::Webhook, 1);
            warn!("events.webhook: {} {} was not delivered: {why}", event.code, event.id);
        }
        done.send_replace(event.id);
    }
}

/// Tries until it is there, there is nobody to post to any more, or trying makes no sense.
async fn deliver(
    connector: &TransportConnector,
    event: &Event,
    to: &mut watch::Receiver<Receivers>,
) -> Result<(), String> {
    let body = serde_json::to_vec(event).unwrap_or_default();
    for attempt in 0.. {
        let Some(webhook) = to.borrow_and_update().webhook.clone() else { break };
        let posted = timeout(PATIENCE, post(connector, &webhook, &body)).await;
        let Failure { why, again } = match posted {
            Ok(Ok(())) => break,
            Ok(Err(failure)) => failure,
            Err(_) => Failure { why: format!("no answer in {PATIENCE:?}"), again: true },
        };
        if !again || attempt + 1 >= ATTEMPTS {
            return Err(why);
        }
        let pause = pause(attempt);
        if attempt == 0 {
            warn!("events.webhook: {} at {}: {why}; trying again", event.code, webhook.authority);
        }
        // Another address is tried at once.
        let _ = timeout(pause, to.changed()).await;
    }
    Ok(())
}

/// 1, 2, 4 … seconds, up to a minute.
fn pause(attempt: u32) -> Duration {
    PAUSE.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(LONGEST_PAUSE)
}

async fn post(
    connector: &TransportConnector,
    webhook: &Webhook,
    body: &[u8],
) -> Result<(), Failure> {
    let fails = |why: String| Failure { why, again: true };
    let found = tokio::net::lookup_host((&*webhook.host, webhook.port)).await;
    let addresses: Vec<_> = found.map_err(|e| fails(format!("no address: {e}")))?.collect();
    let mut last = fails("no address".to_owned());
    for address in addresses {
        match connector.new_stream(&peer(webhook, address)).await {
            Ok(stream) => {
                let mut session = HttpSession::new(stream);
                let status = converse(&mut session, webhook, body).await;
                session.shutdown().await;
                return judge(status.map_err(|e| fails(e.to_string()))?);
            }
            Err(e) => last = fails(e.to_string()),
        }
    }
    Err(last)
}

/// SECURITY: certificate and name are verified, always; events tell names of inside servers.
/// Test: events::https_is_verified (black box)
fn peer(webhook: &Webhook, address: SocketAddr) -> HttpPeer {
    let sni = if webhook.https { webhook.host.clone() } else { String::new() };
    let mut peer = HttpPeer::new(address, webhook.https, sni);
    let options = &mut peer.options;
    (options.verify_cert, options.verify_hostname) = (true, true);
    options.alpn = ALPN::H1;
    options.connection_timeout = Some(PATIENCE / 2);
    options.total_connection_timeout = Some(PATIENCE / 2);
    peer
}

async fn converse(
    session: &mut HttpSession,
    webhook: &Webhook,
    body: &[u8],
) -> pingora::Result<u16> {
    let mut request = RequestHeader::build("POST", webhook.target.as_bytes(), None)?;
    request.insert_header("Host", &webhook.authority)?;
    request.insert_header("User-Agent", concat!("frontgate/", env!("CARGO_PKG_VERSION")))?;
    request.insert_header("Content-Type", "application/json")?;
    request.insert_header("Content-Length", body.len())?;
    request.insert_header("Connection", "close")?;
    session.write_request_header(Box::new(request)).await?;
    session.write_body(body).await?;
    session.finish_body().await?;
    loop {
        session.read_response().await?;
        match session.get_status().map(|status| status.as_u16()) {
            Some(100..=199) => {}
            status => return Ok(status.unwrap_or_default()),
        }
    }
}

/// What an answer means. Redirects are not followed: the URL of the configuration is what was
/// meant.
fn judge(status: u16) -> Result<(), Failure> {
    match status {
        200..=299 => Ok(()),
        408 | 425 | 429 | 500..=599 => {
            Err(Failure { why: format!("status {status}"), again: true })
        }
        _ => Err(Failure { why: format!("status {status}"), again: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_tried_again() {
        for good in [200, 202, 204] {
            assert_eq!(judge(good), Ok(()));
        }
        for again in [408, 429, 500, 502, 503, 504] {
            assert!(judge(again).unwrap_err().again, "{again}");
        }
        for never in [301, 302, 400, 401, 403, 404, 410, 0] {
            assert!(!judge(never).unwrap_err().again, "{never}");
        }
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let pauses: Vec<_> = (0..ATTEMPTS).map(|attempt| pause(attempt).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(1000), LONGEST_PAUSE);
    }
}
