//! Keeps a thousand servers from being asked in the same millisecond.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// `interval`, lengthened or shortened by up to 5 %, differently for each server and round; on
/// the average it is `interval`.
pub(crate) fn spread(interval: Duration, server: u64, round: u64) -> Duration {
    const STEPS: u64 = 1000;
    let mut hasher = DefaultHasher::new();
    (server, round).hash(&mut hasher);
    let step = hasher.finish() % (STEPS + 1);
    interval.mul_f64(0.95 + 0.1 * step as f64 / STEPS as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_five_percent_and_spreads() {
        let interval = Duration::from_secs(30);
        let delays: Vec<_> = (0..1000).map(|server| spread(interval, server, 1)).collect();
        assert!(delays.iter().all(|d| (28_500..=31_500).contains(&d.as_millis())));
        let mean = delays.iter().sum::<Duration>() / 1000;
        assert!(mean.abs_diff(interval) < Duration::from_millis(100), "{mean:?}");
        let distinct: std::collections::HashSet<_> = delays.iter().collect();
        assert!(distinct.len() > 500);
    }
}
