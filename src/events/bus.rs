//! Where events are told, kept and followed.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::event::{Event, News};
use crate::lock::lock;

/// How many events are kept.
pub const KEPT: usize = 1000;

/// Where events are told, and read. Clones are the same bus.
#[derive(Clone, Debug)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kept: Mutex<Kept>,
    /// The number of the last event.
    last: watch::Sender<u64>,
    to_command: AtomicU64,
    to_webhook: AtomicU64,
}

/// Who is told of events.
#[derive(Clone, Copy, Debug)]
pub(super) enum Receiver {
    Command,
    Webhook,
}

/// How many events did not reach whom they were meant for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undelivered {
    /// The command failed, or was too slow.
    pub command: u64,
    /// The webhook did not take them.
    pub webhook: u64,
}

#[derive(Debug)]
struct Kept {
    last: u64,
    /// The number before the first event of this process.
    start: u64,
    events: VecDeque<Arc<Event>>,
}

impl Default for Events {
    /// No event yet.
    fn default() -> Self {
        // The first number is the time in milliseconds, so that numbers also grow across restarts
        // and whoever asks for what came after one misses nothing. JavaScript has it exactly.
        let last = milliseconds();
        let kept = Mutex::new(Kept { last, start: last, events: VecDeque::new() });
        let last = watch::Sender::new(last);
        let (to_command, to_webhook) = Default::default();
        Self(Arc::new(Inner { kept, last, to_command, to_webhook }))
    }
}

impl Events {
    /// Something happened: writes the line of the log and keeps the event. Waits for nobody.
    pub fn tell(&self, news: News) {
        let News { code, farm, server, text, details, findings } = news;
        let target = if farm.is_some() { "frontgate::farm" } else { "frontgate" };
        log::log!(target: target, code.severity.level(), "{text}{findings}");
        let mut kept = self.lock();
        kept.last += 1;
        let event = Event {
            id: kept.last,
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds()),
            code: code.id.into(),
            severity: code.severity,
            farm,
            server,
            text,
            details,
        };
        if kept.events.len() >= KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::new(event));
        self.0.last.send_replace(kept.last);
    }

    /// The number of the last event.
    pub fn last(&self) -> u64 {
        *self.0.last.borrow()
    }

    /// The number before the latest events, of this many.
    pub fn last_but(&self, events: usize) -> u64 {
        match events {
            0 => self.last(),
            _ => self.latest(events).first().map_or_else(|| self.last(), |first| first.id - 1),
        }
    }

    /// The latest events, oldest first, this many at most.
    pub fn latest(&self, most: usize) -> Vec<Arc<Event>> {
        let kept = self.lock();
        let skip = kept.events.len().saturating_sub(most);
        kept.events.iter().skip(skip).cloned().collect()
    }

    /// What came after an event, oldest first, this many at most; without those that are not kept
    /// any more.
    pub fn after(&self, id: u64, most: usize) -> Vec<Arc<Event>> {
        let kept = self.lock();
        let start = kept.events.partition_point(|event| event.id <= id);
        kept.events.iter().skip(start).take(most).cloned().collect()
    }

    /// Follows what comes after an event. A number that was never reached, say of a machine whose
    /// clock was ahead, means everything that is kept.
    pub fn follow(&self, after: u64) -> Follower {
        let after = if after > self.last() { 0 } else { after };
        Follower { events: self.clone(), news: self.0.last.subscribe(), seen: after, missed: 0 }
    }

    /// How many events did not reach whom the configuration names.
    pub fn undelivered(&self) -> Undelivered {
        let Inner { to_command, to_webhook, .. } = &*self.0;
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Undelivered { command: count(to_command), webhook: count(to_webhook) }
    }

    pub(super) fn count_undelivered(&self, receiver: Receiver, events: u64) {
        let count = match receiver {
            Receiver::Command => &self.0.to_command,
            Receiver::Webhook => &self.0.to_webhook,
        };
        count.fetch_add(events, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A panic while it was held leaves at most one event out.
        lock(&self.0.kept)
    }
}

/// Since 1970; as exact as times are shown.
fn milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}

/// Follows the events, at its own pace: what it has not read yet waits among the kept ones.
#[derive(Debug)]
pub struct Follower {
    events: Events,
    news: watch::Receiver<u64>,
    seen: u64,
    missed: u64,
}

impl Follower {
    /// The next event; waits for it. Can be given up and called again.
    pub async fn next(&mut self) -> Arc<Event> {
        loop {
            if let Some(event) = self.ready() {
                return event;
            }
            // The sender lives as long as `events`.
            if self.news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next event, if there is one.
    pub fn ready(&mut self) -> Option<Arc<Event>> {
        self.news.mark_unchanged();
        let event = self.events.after(self.seen, 1).pop()?;
        // Numbers of one process have no gaps.
        let before = self.seen.max(self.events.lock().start);
        self.missed += event.id.saturating_sub(before + 1);
        self.seen = event.id;
        Some(event)
    }

    /// What it follows.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// How many events it was too slow for since the last time this was asked.
    pub fn missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::events::code;

    fn tell(events: &Events, texts: impl IntoIterator<Item = usize>) {
        for text in texts {
            events.tell(News::new(code::SERVER_DOWN, text.to_string()));
        }
    }

    fn texts(events: &[Arc<Event>]) -> Vec<&str> {
        events.iter().map(|event| &*event.text).collect()
    }

    #[test]
    fn the_latest_are_kept_in_order_and_numbers_have_no_gap() {
        let events = Events::default();
        let start = events.last();
        assert!(events.latest(10).is_empty() && events.after(0, 10).is_empty());
        tell(&events, 1..=KEPT + 5);
        assert_eq!(events.last(), start + KEPT as u64 + 5);
        assert_eq!(texts(&events.latest(2)), ["1004", "1005"]);
        assert_eq!(events.latest(5000).len(), KEPT);
        assert_eq!(texts(&events.after(start + 1003, 10)), ["1004", "1005"]);
        assert_eq!(texts(&events.after(0, 2)), ["6", "7"]);
        assert!(events.after(events.last(), 10).is_empty());
    }

    #[test]
    fn a_process_that_starts_later_goes_on_counting() {
        let before = Events::default();
        tell(&before, 0..3);
        std::thread::sleep(Duration::from_millis(10));
        assert!(Events::default().last() > before.last());
    }

    #[tokio::test]
    async fn a_follower_gets_each_event_once_and_waits_for_the_next() {
        let events = Events::default();
        tell(&events, [1, 2]);
        let mut all = events.follow(events.last() - 2);
        let mut new = events.follow(events.last());
        assert_eq!((&*all.next().await.text, &*all.next().await.text), ("1", "2"));
        assert!(timeout(Duration::from_millis(20), new.next()).await.is_err());
        let waiting = tokio::spawn(async move { (new.next().await, new.missed()) });
        tokio::task::yield_now().await;
        tell(&events, [3]);
        let (event, missed) = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
        assert_eq!((&*event.text, missed), ("3", 0));
        assert_eq!(&*all.next().await.text, "3");
        assert_eq!(all.missed(), 0);
    }

    #[tokio::test]
    async fn a_slow_follower_learns_how_much_it_missed() {
        let events = Events::default();
        let mut slow = events.follow(events.last());
        tell(&events, [1]);
        assert_eq!(&*slow.next().await.text, "1");
        tell(&events, 2..=KEPT + 11);
        assert_eq!((&*slow.next().await.text, slow.missed()), ("12", 10));
        assert_eq!((&*slow.next().await.text, slow.missed()), ("13", 0));
        // Of another process: nothing is known of what it missed there, and all that is here is new.
        let mut old = events.follow(1);
        let mut ahead = events.follow(u64::MAX);
        assert_eq!((&*old.next().await.text, &*ahead.next().await.text), ("12", "12"));
    }
}
