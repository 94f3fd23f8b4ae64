//! Slow start: a server that comes back gets a share that grows.

use std::time::{Duration, Instant};

/// The share it starts with, so that something comes of it at once.
const FIRST: f64 = 0.05;

/// The share of a server that came back at `since`, from a twentieth up to one. `None`: it has its
/// whole share again.
pub(crate) fn share(since: Instant, slow_start: Duration, now: Instant) -> Option<f64> {
    let passed = now.saturating_duration_since(since);
    (passed < slow_start).then(|| FIRST.max(passed.as_secs_f64() / slow_start.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_in_a_straight_line() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let at = |seconds: u32| share(start, 100 * second, start + seconds * second);
        assert_eq!(at(0), Some(0.05));
        assert_eq!(at(3), Some(0.05));
        assert_eq!(at(50), Some(0.5));
        assert_eq!(at(100), None);
        assert_eq!(share(start, Duration::ZERO, start), None);
    }
}
