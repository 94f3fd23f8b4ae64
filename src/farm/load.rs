//! What a server is doing: the columns of ARR's "Monitoring and Management".
//!
//! Everything is an atomic that requests add to; nobody waits for anybody.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How quickly the average of response times follows: an answer this much older counts e times
/// less (ARR `leastResponseTimePeriod`).
const MEMORY: Duration = Duration::from_secs(5);

/// How quickly an old average is believed less, so that a server that was slow once is asked
/// again.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Response times above this count as this: longer ones are polls, whose time says nothing about
/// the server.
const LONGEST: Duration = Duration::from_secs(10);

/// How quickly the rate of requests follows.
const RATE_MEMORY: Duration = Duration::from_secs(10);

/// Counters of one server since it appeared.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(super) in_flight: AtomicUsize,
    requests: AtomicU64,
    failures: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// Bytes both ways as balancing counts them, see [`Load::raise_traffic`].
    traffic: AtomicU64,
    pins: AtomicUsize,
    websockets: AtomicUsize,
    websockets_total: AtomicU64,
    probes_ok: AtomicU64,
    probes_failed: AtomicU64,
    /// Microseconds in the lower half; in the upper one when that was, in milliseconds.
    response_time: AtomicU64,
    /// Bits of requests a second, and the requests when they were last compared.
    rate: AtomicU64,
    rated: AtomicU64,
}

/// Counters of a server at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counters {
    /// Requests running right now.
    pub in_flight: usize,
    /// Requests sent to it since it appeared.
    pub requests: u64,
    /// Those of them that broke or were answered with 5xx.
    pub failures: u64,
    /// Requests a second, as an average over the last ten seconds or so.
    pub requests_per_second: f64,
    /// Body bytes that clients sent to it.
    pub received: u64,
    /// Body bytes that it sent to clients, tunnels included.
    pub sent: u64,
    /// Time to an answer's header, as a decaying average; none before the first answer. Polls
    /// count as ten seconds.
    pub response_time: Option<Duration>,
    /// Client connections that own a connection to it (NTLM, Negotiate).
    pub pins: usize,
    /// WebSockets and other tunnels right now.
    pub websockets: usize,
    /// The same since it appeared.
    pub websockets_total: u64,
    /// Probes that were content.
    pub probes_ok: u64,
    /// Those that were not.
    pub probes_failed: u64,
}

impl Load {
    pub(super) fn begun(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn probed(&self, ok: bool) {
        let count = if ok { &self.probes_ok } else { &self.probes_failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes came from a client.
    pub(crate) fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.traffic.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes went to a client.
    pub(crate) fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.traffic.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn pinned(&self, more: bool) {
        count(&self.pins, more);
    }

    pub(super) fn tunnel(&self, more: bool) {
        count(&self.websockets, more);
        self.websockets_total.fetch_add(u64::from(more), Ordering::Relaxed);
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes both ways, and what was added for the time the server did not take part.
    pub(crate) fn traffic(&self) -> u64 {
        self.traffic.load(Ordering::Relaxed)
    }

    /// A server that did not take part starts where the others are.
    pub(crate) fn raise_traffic(&self, least: u64) {
        self.traffic.fetch_max(least, Ordering::Relaxed);
    }

    /// The server has another weight from now on: what it moved counts as if it always had.
    pub(super) fn reweigh(&self, from: u32, to: u32) {
        if from != to && from > 0 && to > 0 {
            let scale = |traffic: u64| {
                let scaled = u128::from(traffic) * u128::from(to) / u128::from(from);
                Some(u64::try_from(scaled).unwrap_or(u64::MAX))
            };
            let _ = self.traffic.fetch_update(Ordering::Relaxed, Ordering::Relaxed, scale);
        }
    }

    /// The header of an answer came after `time`.
    pub(crate) fn answered(&self, time: Duration, now: Instant) {
        let now = millis(now);
        let sample = u32::try_from(time.min(LONGEST).as_micros()).unwrap_or(u32::MAX);
        let blend = |packed: u64| {
            let (known, at) = unpack(packed);
            let average = if packed == 0 { sample } else { blended(known, sample, age(at, now)) };
            Some(pack(average, now))
        };
        let _ = self.response_time.fetch_update(Ordering::Relaxed, Ordering::Relaxed, blend);
    }

    /// The average response time in microseconds, and how much of that is still believed, from 1
    /// down to 0. `None`: no answer came yet.
    pub(crate) fn response_time(&self, now: Instant) -> Option<(f64, f64)> {
        let packed = self.response_time.load(Ordering::Relaxed);
        let (known, at) = unpack(packed);
        let believed = (-age(at, millis(now)).as_secs_f64() / FORGOTTEN.as_secs_f64()).exp();
        (packed != 0).then_some((f64::from(known), believed))
    }

    /// Brings the rate of requests up to date; to be called every `period`.
    pub(crate) fn pulse(&self, period: Duration) {
        let requests = self.requests();
        let new = requests.saturating_sub(self.rated.swap(requests, Ordering::Relaxed));
        let known = f64::from_bits(self.rate.load(Ordering::Relaxed));
        let keep = (-period.as_secs_f64() / RATE_MEMORY.as_secs_f64()).exp();
        let rate = known * keep + new as f64 / period.as_secs_f64() * (1.0 - keep);
        self.rate.store(rate.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> Counters {
        let packed = self.response_time.load(Ordering::Relaxed);
        Counters {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            requests: self.requests(),
            failures: self.failures.load(Ordering::Relaxed),
            requests_per_second: f64::from_bits(self.rate.load(Ordering::Relaxed)),
            received: self.received(),
            sent: self.sent(),
            response_time: (packed != 0)
                .then(|| Duration::from_micros(u64::from(unpack(packed).0))),
            pins: self.pins.load(Ordering::Relaxed),
            websockets: self.websockets.load(Ordering::Relaxed),
            websockets_total: self.websockets_total.load(Ordering::Relaxed),
            probes_ok: self.probes_ok.load(Ordering::Relaxed),
            probes_failed: self.probes_failed.load(Ordering::Relaxed),
        }
    }
}

fn count(number: &AtomicUsize, more: bool) {
    if more {
        number.fetch_add(1, Ordering::Relaxed);
    } else {
        number.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The average after one more sample, `age` after the last one.
fn blended(known: u32, sample: u32, age: Duration) -> u32 {
    // At the least a tenth: also of answers in one burst the last ones count.
    let keep = (-age.as_secs_f64() / MEMORY.as_secs_f64()).exp().min(0.9);
    (f64::from(known) * keep + f64::from(sample) * (1.0 - keep)).round() as u32
}

/// Milliseconds since this program looked at the clock first, plus one, so that a time is never
/// 0; it starts over every 49 days.
fn millis(now: Instant) -> u32 {
    static START: LazyLock<Instant> = LazyLock::new(|| Instant::now() - Duration::from_secs(3600));
    (now.saturating_duration_since(*START).as_millis() as u32).wrapping_add(1)
}

fn age(then: u32, now: u32) -> Duration {
    // A later moment than now is another thread's clock: no age.
    let passed = now.wrapping_sub(then);
    Duration::from_millis(if passed > u32::MAX / 2 { 0 } else { u64::from(passed) })
}

fn pack(micros: u32, millis: u32) -> u64 {
    u64::from(millis) << 32 | u64::from(micros)
}

fn unpack(packed: u64) -> (u32, u32) {
    (packed as u32, (packed >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_average_follows_and_fades() {
        let (load, now) = (Load::default(), Instant::now());
        assert_eq!(load.response_time(now), None);
        load.answered(SECOND / 10, now);
        assert_eq!(load.counters().response_time, Some(SECOND / 10));
        for second in 1..=20 {
            load.answered(SECOND / 2, now + second * SECOND);
        }
        let average = load.counters().response_time.unwrap();
        assert!(average > SECOND * 49 / 100 && average <= SECOND / 2, "{average:?}");
        let later = now + 20 * SECOND;
        let (known, believed) = load.response_time(later).unwrap();
        assert!((known / 1e6 - average.as_secs_f64()).abs() < 1e-6 && believed == 1.0);
        let (same, believed) = load.response_time(later + 10 * SECOND).unwrap();
        assert!(same == known && (0.36..0.37).contains(&believed));
        // A poll of half an hour is not half an hour of slowness.
        load.answered(1800 * SECOND, later);
        assert!(load.counters().response_time.unwrap() < 10 * SECOND);
    }

    #[test]
    fn bursts_move_the_average_too() {
        assert_eq!(blended(1000, 2000, Duration::ZERO), 1100);
        assert_eq!(blended(1000, 2000, Duration::from_secs(50)), 2000);
        assert_eq!(age(5, 3), Duration::ZERO);
        assert_eq!(age(u32::MAX, 9), Duration::from_millis(10));
    }

    #[test]
    fn the_rate_settles_at_requests_a_second() {
        let load = Load::default();
        for _ in 0..200 {
            (0..50).for_each(|_| load.begun());
            load.pulse(SECOND / 2);
        }
        let rate = load.counters().requests_per_second;
        assert!((rate - 100.0).abs() < 0.5, "{rate}");
        (0..200).for_each(|_| load.pulse(SECOND / 2));
        assert!(load.counters().requests_per_second < 0.1);
    }

    #[test]
    fn bytes_are_traffic_and_a_latecomer_is_raised() {
        let load = Load::default();
        load.add_received(10);
        load.add_sent(30);
        assert_eq!((load.received(), load.sent(), load.traffic()), (10, 30, 40));
        load.raise_traffic(100);
        load.raise_traffic(50);
        assert_eq!((load.traffic(), load.sent()), (100, 30));
        load.reweigh(100, 25);
        load.reweigh(25, 0);
        assert_eq!(load.traffic(), 25);
    }
}
