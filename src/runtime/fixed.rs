//! What only a restart changes.

use std::path::PathBuf;

use crate::site::Site;

/// The settings that stay as they were at the start.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    workers: usize,
    pins: usize,
    state_dir: PathBuf,
}

impl Fixed {
    /// Those of a site.
    pub(super) fn of(site: &Site) -> Self {
        Self { workers: site.workers, pins: site.limits.pins, state_dir: site.state_dir.clone() }
    }

    /// Keys in which the two differ.
    pub(super) fn differs(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("workers", self.workers != other.workers),
            ("limits.pins", self.pins != other.pins),
            ("state_dir", self.state_dir != other.state_dir),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

/// What a reload says about them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Every key whose value waits for the next start.
    pub(super) all: Vec<&'static str>,
    /// Those that wait since this reload.
    pub(super) new: Vec<&'static str>,
}

/// What waits for the next start, now that a reload led from `old` to `new`.
pub(super) fn waiting(started: &Fixed, old: &Fixed, new: &Fixed) -> Waiting {
    let all = started.differs(new);
    let changed = old.differs(new);
    Waiting { new: all.iter().copied().filter(|key| changed.contains(key)).collect(), all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::testing::empty;

    #[test]
    fn what_runs_is_what_the_start_found() {
        let fixed = |workers, pins| Fixed { workers, pins, ..Fixed::of(&empty()) };
        let started = fixed(2, 10);
        let told = |old: &Fixed, new: &Fixed| {
            let Waiting { all, new } = waiting(&started, old, new);
            (all, new)
        };
        assert_eq!(told(&started, &fixed(4, 10)), (vec!["workers"], vec!["workers"]));
        let both = vec!["workers", "limits.pins"];
        assert_eq!(told(&fixed(4, 10), &fixed(4, 20)), (both, vec!["limits.pins"]), "still waits");
        assert_eq!(told(&fixed(4, 20), &fixed(2, 20)), (vec!["limits.pins"], vec![]), "as it runs");
        assert_eq!(told(&fixed(2, 20), &started), (vec![], vec![]));
    }
}
