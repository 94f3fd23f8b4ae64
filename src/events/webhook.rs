//! The address that each event is posted to.

use log::warn;
use pingora::connectors::TransportConnector;
use tokio::{sync::watch, time::timeout};

use super::{Event, Follower, bus::Receiver};
use crate::{
    post::{Post, pause, post},
    site::Receivers,
};

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
        let kind = "application/json";
        let event_post = Post { to: &webhook, kind, headers: &[], body: &body, wanted: 0 };
        let posted = match post(connector, &event_post).await {
            Ok(answer) => judge(answer.status),
            Err(why) => Err(Failure { why, again: true }),
        };
        let Err(Failure { why, again }) = posted else { break };
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

/// What an answer means.
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
}
