//! What only a restart changes.

use std::path::PathBuf;

use crate::{listen::UNCOUNTED, site::Site};

/// The settings that stay as they were at the start.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    workers: usize,
    pins: usize,
    connections: usize,
    state_dir: PathBuf,
}

impl Fixed {
    /// Those of a site.
    pub(super) fn of(site: &Site) -> Self {
        let (workers, state_dir) = (site.workers, site.state_dir.clone());
        Self { workers, pins: site.limits.pins, connections: site.limits.connections, state_dir }
    }

    /// How many server connections the pool has room for: also every client connection without a
    /// sign-in must find room, or anonymous traffic puts signed-in connections out.
    /// Test: anonymous_clients_do_not_put_out_a_sign_in
    pub(super) fn pool(&self) -> usize {
        self.pins.saturating_add(self.connections.saturating_mul(UNCOUNTED))
    }

    /// Keys of this start that do not suffice for `new`. Room in the pool that nobody needs any more
    /// is none.
    fn lacks(&self, new: &Self) -> Vec<&'static str> {
        let grows = new.pool() > self.pool();
        let keys = [
            ("workers", self.workers != new.workers),
            ("limits.pins", grows && new.pins > self.pins),
            ("limits.connections", grows && new.connections > self.connections),
            ("state_dir", self.state_dir != new.state_dir),
        ];
        keys.into_iter().filter(|(_, lacks)| *lacks).map(|(key, _)| key).collect()
    }

    /// Whether the two differ in a key.
    fn differ(&self, other: &Self, key: &str) -> bool {
        match key {
            "workers" => self.workers != other.workers,
            "limits.pins" => self.pins != other.pins,
            "limits.connections" => self.connections != other.connections,
            _ => self.state_dir != other.state_dir,
        }
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
    let (before, all) = (started.lacks(old), started.lacks(new));
    let since = |key: &&str| !before.contains(key) || old.differ(new, key);
    Waiting { new: all.iter().copied().filter(since).collect(), all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::testing::empty;

    #[test]
    fn what_runs_is_what_the_start_found() {
        let fixed = |workers, pins, connections| {
            let state_dir = PathBuf::from("/var/lib/frontgate");
            Fixed { workers, pins, connections, state_dir }
        };
        let started = fixed(2, 10, 10);
        let told = |old: &Fixed, new: &Fixed| {
            let Waiting { all, new } = waiting(&started, old, new);
            (all, new)
        };
        let (workers, pins, connections) = ("workers", "limits.pins", "limits.connections");
        let more = fixed(4, 10, 10);
        assert_eq!(told(&started, &more), (vec![workers], vec![workers]));
        let both = vec![workers, pins];
        assert_eq!(told(&more, &fixed(4, 20, 10)), (both, vec![pins]), "still waits");
        assert_eq!(told(&fixed(4, 20, 10), &fixed(2, 20, 10)), (vec![pins], vec![]), "as it runs");
        assert_eq!(told(&fixed(2, 20, 10), &started), (vec![], vec![]));

        // A larger pool is what a running program cannot have.
        let many = fixed(2, 10, 11);
        assert_eq!(told(&started, &many), (vec![connections], vec![connections]));
        assert_eq!(told(&many, &fixed(2, 10, 12)), (vec![connections], vec![connections]));
        assert_eq!(told(&started, &fixed(2, 9, 9)), (vec![], vec![]), "it has room");
        let exchanged = fixed(2, 14, 9);
        assert_eq!(told(&started, &exchanged), (vec![], vec![]), "as large as before");
        assert_eq!(told(&exchanged, &fixed(2, 14, 10)), (vec![pins], vec![pins]));
    }

    #[test]
    fn another_state_directory_waits() {
        let (started, mut new) = (Fixed::of(&empty()), Fixed::of(&empty()));
        new.state_dir.push("other");
        assert_eq!(waiting(&started, &started, &new).new, ["state_dir"]);
    }
}
