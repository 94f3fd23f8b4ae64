//! How many connections there are, in all and from each source.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::lock::lock;

const SHARDS: usize = 16;

/// Counts open client connections. Memory is bounded by the connections themselves: a source
/// without one is forgotten.
#[derive(Debug)]
pub struct Connections {
    total: AtomicUsize,
    /// Frontgate is about to stop.
    leaving: AtomicBool,
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
    hasher: RandomState,
    /// Told whenever a connection ends.
    ended: Notify,
    refused: AtomicU64,
    /// By the name of the listener.
    listeners: Mutex<BTreeMap<Arc<str>, Arc<PerListener>>>,
    /// When refusals were last told, and how many there were by then.
    told: Mutex<(Option<Instant>, u64)>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            total: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            ended: Notify::new(),
            refused: AtomicU64::new(0),
            listeners: Mutex::default(),
            told: Mutex::default(),
        }
    }
}

impl Connections {
    /// Open connections.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Frontgate is about to stop: from here on, answers end their HTTP/1 connections, so that
    /// clients are elsewhere when the listeners close.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Counts one more from `source`, unless a limit is reached.
    pub fn admit(
        self: &Arc<Self>,
        source: IpAddr,
        limit: usize,
        per_source: usize,
    ) -> Option<Admitted> {
        let source = source.to_canonical();
        if self.total.fetch_add(1, Ordering::Relaxed) >= limit {
            self.total.fetch_sub(1, Ordering::Relaxed);
            self.ended.notify_waiters();
            return None;
        }
        if !self.join(source, per_source) {
            self.total.fetch_sub(1, Ordering::Relaxed);
            self.ended.notify_waiters();
            return None;
        }
        Some(Admitted { all: self.clone(), source, listener: None })
    }

    /// Counts one more of a source, unless its limit is reached.
    fn join(&self, source: IpAddr, per_source: usize) -> bool {
        self.with(source, |map| {
            let held = map.get(&source).copied().unwrap_or(0);
            if held >= per_source {
                return false;
            }
            map.insert(source, held + 1);
            true
        })
    }

    fn part(&self, source: IpAddr) {
        self.with(source, |map| {
            if let Some(count) = map.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    map.remove(&source);
                }
            }
        });
    }

    /// Connections that were refused, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Where the connections of a listener are counted: one place for each name, also after a
    /// reload has closed and opened it.
    pub fn listener(&self, name: &Arc<str>) -> Arc<PerListener> {
        let mut listeners = lock(&self.listeners);
        listeners.entry(name.clone()).or_default().clone()
    }

    /// Says that a connection was refused: the first one at once, the others summed up at most
    /// every ten seconds, so that a flood does not flood the log as well.
    pub fn tell_refusals(&self, listener: &str, client: SocketAddr) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = lock(&self.told);
        if told.0.is_none_or(|when| when.elapsed() >= Duration::from_secs(10)) {
            let since = refused - told.1;
            log::warn!(
                "listener {listener}: {since} connections refused, the last from {client}: \
                 limits.connections or limits.connections_per_source"
            );
            *told = (Some(Instant::now()), refused);
        }
    }

    /// Resolves when no connection is left.
    pub async fn drained(&self) {
        loop {
            let ended = self.ended.notified();
            if self.total() == 0 {
                return;
            }
            ended.await;
        }
    }

    fn with<T>(&self, source: IpAddr, f: impl FnOnce(&mut HashMap<IpAddr, usize>) -> T) -> T {
        let index = self.hasher.hash_one(source) as usize % SHARDS;
        // `index` is below the length; the first shard is only there to need no panic.
        let [first, ..] = &self.shards;
        let shard = self.shards.get(index).unwrap_or(first);
        f(&mut lock(shard))
    }
}

/// One counted connection; dropping it counts it out.
#[derive(Debug)]
pub struct Admitted {
    all: Arc<Connections>,
    source: IpAddr,
    listener: Option<Arc<PerListener>>,
}

impl Admitted {
    /// Whether Frontgate is about to stop.
    pub fn leaving(&self) -> bool {
        self.all.leaving.load(Ordering::Relaxed)
    }

    /// Counts it for its listener as well.
    pub fn at(mut self, listener: &Arc<PerListener>) -> Self {
        listener.open.fetch_add(1, Ordering::Relaxed);
        listener.total.fetch_add(1, Ordering::Relaxed);
        self.listener = Some(listener.clone());
        self
    }

    /// Says that it is refused after all, on account of this client.
    pub fn told_refused(&self, listener: &str, client: SocketAddr) {
        self.all.tell_refusals(listener, client);
    }

    /// Counts it for another source instead, unless that one has `per_source` already.
    pub fn moves_to(&mut self, source: IpAddr, per_source: usize) -> bool {
        let source = source.to_canonical();
        // A balancer that names itself: it is counted there already.
        if source == self.source {
            return true;
        }
        if !self.all.join(source, per_source) {
            return false;
        }
        let before = std::mem::replace(&mut self.source, source);
        self.all.part(before);
        true
    }
}

/// Connections of one listener.
#[derive(Debug, Default)]
pub struct PerListener {
    open: AtomicUsize,
    total: AtomicU64,
}

impl PerListener {
    /// Open ones.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Those accepted since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.all.part(self.source);
        if let Some(listener) = &self.listener {
            listener.open.fetch_sub(1, Ordering::Relaxed);
        }
        self.all.total.fetch_sub(1, Ordering::Relaxed);
        self.all.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn one_source_cannot_take_all_and_is_forgotten_when_it_leaves() {
        let all = Arc::new(Connections::default());
        let held: Vec<_> = (0..2).map(|_| all.admit(ip(1), 10, 2).unwrap()).collect();
        assert!(all.admit(ip(1), 10, 2).is_none());
        assert!(all.admit(ip(2), 10, 2).is_some());
        drop(held);
        assert_eq!(all.total(), 0);
        assert!(all.shards.iter().all(|s| s.lock().unwrap().is_empty()));
    }

    #[test]
    fn the_total_is_bounded_and_a_mapped_address_is_the_same_source() {
        let all = Arc::new(Connections::default());
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        let _a = all.admit(ip(1), 2, 1).unwrap();
        assert!(all.admit(mapped, 2, 1).is_none());
        let _b = all.admit(ip(2), 2, 1).unwrap();
        assert!(all.admit(ip(3), 2, 1).is_none());
    }

    #[test]
    fn a_connection_moves_to_the_client_that_a_balancer_names() {
        let all = Arc::new(Connections::default());
        let mut one = all.admit(ip(1), 9, 1).unwrap();
        assert!(all.admit(ip(1), 9, 1).is_none());
        assert!(one.moves_to("::ffff:192.0.2.2".parse().unwrap(), 1));
        let mut other = all.admit(ip(1), 9, 1).unwrap();
        assert!(!other.moves_to(ip(2), 1), "that client has one");
        assert!(all.admit(ip(1), 9, 1).is_none(), "and it still counts for the balancer");
        assert_eq!(all.total(), 2);
        drop((one, other));
        assert_eq!(all.total(), 0);
        assert!(all.shards.iter().all(|s| s.lock().unwrap().is_empty()));
    }

    #[test]
    fn a_balancer_that_names_itself_counts_once() {
        let all = Arc::new(Connections::default());
        let mut one = all.admit(ip(1), 9, 1).unwrap();
        assert!(one.moves_to("::ffff:192.0.2.1".parse().unwrap(), 1), "the limit has room for it");
        assert!(all.admit(ip(1), 9, 1).is_none());
        drop(one);
        assert!(all.shards.iter().all(|s| s.lock().unwrap().is_empty()));
    }

    #[tokio::test]
    async fn drained_waits_for_the_last_one() {
        let all = Arc::new(Connections::default());
        let held = all.admit(ip(1), 1, 1).unwrap();
        let waiting = tokio::spawn({
            let all = all.clone();
            async move { all.drained().await }
        });
        tokio::task::yield_now().await;
        drop(held);
        waiting.await.unwrap();
    }
}
