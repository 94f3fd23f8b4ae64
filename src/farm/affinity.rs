//! Affinity: which server a client has already.
//!
//! By source the farm's algorithm is rendezvous hashing, so every Frontgate sends a source to the
//! same server; what is remembered here is only for the time after that changes: a drained server
//! keeps its sources, and one that comes back does not take them away from where they work now.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::balance::{hash, mix};
use crate::lock::lock;

/// How long a source that sends nothing is remembered at least (ARR `affinity/timeout`); at most
/// twice as long.
const MEMORY: Duration = Duration::from_secs(20 * 60);

const SHARDS: usize = 16;

/// Sources a shard remembers at most, in each of its two generations.
const PER_SHARD: usize = 4096;

/// Which server a source has.
pub(crate) struct Sources {
    shards: [Mutex<Shard>; SHARDS],
}

struct Shard {
    young: HashMap<IpAddr, u64>,
    old: HashMap<IpAddr, u64>,
    since: Instant,
}

impl Default for Sources {
    fn default() -> Self {
        let shard = || Shard { young: HashMap::new(), old: HashMap::new(), since: Instant::now() };
        Self { shards: std::array::from_fn(|_| Mutex::new(shard())) }
    }
}

impl Sources {
    /// The server (by its number) that this source had last.
    pub(crate) fn server(&self, source: IpAddr, now: Instant) -> Option<u64> {
        let source = household(source);
        self.with(source, |shard| {
            shard.age(now);
            let server = shard.young.get(&source).or_else(|| shard.old.get(&source)).copied()?;
            shard.young.insert(source, server);
            Some(server)
        })
    }

    /// The same for somebody who only asks: it is not remembered any longer for that.
    pub(crate) fn peek(&self, source: IpAddr, now: Instant) -> Option<u64> {
        let source = household(source);
        self.with(source, |shard| {
            shard.age(now);
            shard.young.get(&source).or_else(|| shard.old.get(&source)).copied()
        })
    }

    /// The source has this server from now on.
    pub(crate) fn remember(&self, source: IpAddr, server: u64, now: Instant) {
        let source = household(source);
        self.with(source, |shard| {
            shard.age(now);
            if shard.young.len() >= PER_SHARD {
                shard.turn(now);
            }
            shard.young.insert(source, server);
            Some(())
        });
    }

    fn with<T>(&self, source: IpAddr, work: impl FnOnce(&mut Shard) -> Option<T>) -> Option<T> {
        let shard = (mix(key(source)) as usize) % SHARDS;
        let shard = self.shards.get(shard)?;
        work(&mut lock(shard))
    }
}

impl Shard {
    fn age(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= 2 * MEMORY {
            self.young.clear();
        }
        if passed >= MEMORY {
            self.turn(now);
        }
    }

    /// Forgets what was not used since the last turn.
    fn turn(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.young);
        self.since = now;
    }
}

/// The number a source is hashed by, the same on every Frontgate.
pub(crate) fn key(source: IpAddr) -> u64 {
    match household(source) {
        IpAddr::V4(v4) => hash(&v4.octets()),
        IpAddr::V6(v6) => hash(&v6.octets()),
    }
}

/// Machines change their IPv6 address within their /64 all the time (RFC 8981).
fn household(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn sources_are_remembered_for_a_while() {
        let (sources, now) = (Sources::default(), Instant::now());
        assert_eq!(sources.server(ip("192.0.2.1"), now), None);
        sources.remember(ip("192.0.2.1"), 7, now);
        assert_eq!(sources.server(ip("::ffff:192.0.2.1"), now), Some(7));
        // Used again and again it stays; unused it goes.
        let mut later = now;
        for _ in 0..5 {
            later += MEMORY * 3 / 4;
            assert_eq!(sources.server(ip("192.0.2.1"), later), Some(7));
        }
        assert_eq!(sources.peek(ip("192.0.2.1"), later), Some(7));
        assert_eq!(sources.peek(ip("192.0.2.1"), later + 2 * MEMORY), None);
        assert_eq!(sources.server(ip("192.0.2.1"), later + 2 * MEMORY), None);
    }

    #[test]
    fn memory_is_bounded_whoever_asks() {
        let (sources, now) = (Sources::default(), Instant::now());
        for number in 0..400_000u32 {
            sources.remember(IpAddr::from(number.to_be_bytes()), 1, now);
        }
        let size = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap();
            shard.young.len() + shard.old.len()
        };
        let total: usize = sources.shards.iter().map(size).sum();
        assert!(total <= 2 * SHARDS * PER_SHARD && total > SHARDS * PER_SHARD / 2, "{total}");
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        assert_eq!(key(ip("2001:db8::1")), key(ip("2001:db8::ffff:2")));
        assert_ne!(key(ip("2001:db8::1")), key(ip("2001:db8:0:1::1")));
        assert_eq!(key(ip("::ffff:10.0.0.1")), key(ip("10.0.0.1")));
        assert_ne!(key(ip("10.0.0.1")), key(ip("10.0.0.2")));
    }
}
