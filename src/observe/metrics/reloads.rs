//! What became of reloads.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reload {
    /// A new configuration serves.
    Success,
    /// The old one serves on.
    Refused,
    /// There was nothing new.
    Unchanged,
}

impl Reload {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Success, Self::Refused, Self::Unchanged];

    /// As the label says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Reloads of the configuration so far.
#[derive(Debug)]
pub struct Reloads {
    counts: [AtomicU64; Reload::ALL.len()],
    /// The last one that was not refused, in seconds since 1970.
    good: AtomicU64,
    /// Those refused since.
    refused_since: AtomicU64,
}

impl Default for Reloads {
    /// The start counts as the first success, but not as a reload.
    fn default() -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Self { counts, good: AtomicU64::new(now()), refused_since: AtomicU64::new(0) }
    }
}

impl Reloads {
    /// A reload ended.
    pub fn ended(&self, how: Reload) {
        if let Some(count) = self.counts.get(how as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if how == Reload::Refused {
            self.refused_since.fetch_add(1, Ordering::Relaxed);
        } else {
            self.good.store(now(), Ordering::Relaxed);
            self.refused_since.store(0, Ordering::Relaxed);
        }
    }

    /// How many ended like this.
    pub fn count(&self, how: Reload) -> u64 {
        self.counts.get(how as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Whether what is on disk is what serves, as far as the last reload knows.
    pub fn good(&self) -> bool {
        self.refused_since.load(Ordering::Relaxed) == 0
    }

    /// When the last one was not refused, in seconds since 1970; at first the start.
    pub fn last_good(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stands_until_something_is_taken_over() {
        let reloads = Reloads::default();
        assert!(reloads.good() && reloads.last_good() > 0);
        reloads.ended(Reload::Refused);
        reloads.ended(Reload::Refused);
        assert!(!reloads.good());
        reloads.ended(Reload::Unchanged);
        assert!(reloads.good());
        assert_eq!(Reload::ALL.map(|how| reloads.count(how)), [0, 2, 1]);
    }
}
