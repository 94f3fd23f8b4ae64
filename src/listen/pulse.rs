//! Whether anything still moves on a connection.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// When bytes last moved on a connection.
pub(super) struct Pulse {
    begun: Instant,
    /// Milliseconds since then.
    moved: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { begun: Instant::now(), moved: AtomicU64::new(0) }
    }
}

impl Pulse {
    pub(super) fn beat(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// Whether nothing has moved for this long.
    pub(super) fn still_for(&self, long: Duration) -> bool {
        let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(moved) >= long
    }
}
