//! Slow start: a server that comes back gets a share that grows.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::lock::lock;

/// The share it starts with, so that something comes of it at once.
const FIRST: f64 = 0.05;

/// Whether the share of one server still grows. That it does not is one atomic.
#[derive(Debug, Default)]
pub(crate) struct Warmth {
    cold: AtomicBool,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// How long it takes.
    slow_start: Duration,
    since: Option<Instant>,
}

impl Warmth {
    /// From now on it takes this long; zero: no time at all.
    pub(crate) fn follow(&self, slow_start: Duration) {
        self.lock().slow_start = slow_start;
    }

    /// The share grows anew.
    pub(crate) fn begin(&self, now: Instant) {
        let mut state = self.lock();
        state.since = Some(now);
        self.cold.store(!state.slow_start.is_zero(), Ordering::Relaxed);
    }

    /// Whether it still grows.
    pub(crate) fn is_cold(&self) -> bool {
        self.cold.load(Ordering::Relaxed)
    }

    /// The share while it grows.
    pub(crate) fn share(&self, now: Instant) -> Option<f64> {
        if !self.is_cold() {
            return None;
        }
        let State { slow_start, since } = *self.lock();
        share(since?, slow_start, now)
    }

    /// Time passes.
    pub(crate) fn tick(&self, now: Instant) {
        if self.is_cold() && self.share(now).is_none() {
            self.cold.store(false, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The share of a server that came back at `since`, from a twentieth up to one. `None`: it has its
/// whole share again.
fn share(since: Instant, slow_start: Duration, now: Instant) -> Option<f64> {
    let passed = now.saturating_duration_since(since);
    (passed < slow_start).then(|| FIRST.max(passed.as_secs_f64() / slow_start.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_share_grows_in_a_straight_line() {
        let start = Instant::now();
        let at = |seconds: u32| share(start, 100 * SECOND, start + seconds * SECOND);
        assert_eq!(at(0), Some(0.05));
        assert_eq!(at(3), Some(0.05));
        assert_eq!(at(50), Some(0.5));
        assert_eq!(at(100), None);
        assert_eq!(share(start, Duration::ZERO, start), None);
    }

    #[test]
    fn it_is_cold_until_its_time_is_over() {
        let (warmth, now) = (Warmth::default(), Instant::now());
        warmth.begin(now);
        assert!(!warmth.is_cold(), "no slow start, no cold server");
        warmth.follow(10 * SECOND);
        assert_eq!(warmth.share(now), None);
        warmth.begin(now);
        assert!(warmth.is_cold());
        warmth.tick(now + 5 * SECOND);
        assert_eq!(warmth.share(now + 5 * SECOND), Some(0.5));
        warmth.tick(now + 10 * SECOND);
        assert!(!warmth.is_cold());
    }
}
