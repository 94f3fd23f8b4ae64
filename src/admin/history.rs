//! The last minutes of every server: requests and failures, for sparklines.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crate::{farm::Farm, lock::lock};

/// Time from one note to the next.
pub(super) const TICK: Duration = Duration::from_secs(10);
/// Notes that are kept: six minutes.
pub(super) const KEPT: usize = 36;

/// What a server did between two notes: requests, and those of them that failed.
pub(super) type Note = (u64, u64);

/// The last minutes of every server.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<HashMap<Key, Line>>);

type Key = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct Line {
    /// Counters at the last note.
    last: Note,
    notes: VecDeque<Note>,
}

impl History {
    /// Notes what every server did since the last time; those that are gone are forgotten.
    pub(super) fn note(&self, farms: &[Arc<Farm>]) {
        let mut now = HashMap::new();
        for farm in farms {
            for server in farm.servers() {
                let counters = server.counters();
                let key = (farm.spec().name.clone(), server.name().clone());
                now.insert(key, (counters.requests, counters.failures));
            }
        }
        self.take(now);
    }

    fn take(&self, now: HashMap<Key, Note>) {
        let mut lines = self.lock();
        lines.retain(|key, _| now.contains_key(key));
        for (key, counters) in now {
            match lines.get_mut(&key) {
                Some(line) => line.add(counters),
                // What was before the first note belongs to no time.
                None => {
                    lines.insert(key, Line { last: counters, notes: VecDeque::new() });
                }
            }
        }
    }

    /// Notes of one server, the oldest first.
    pub(super) fn of(&self, farm: &Arc<str>, server: &Arc<str>) -> Vec<Note> {
        let lines = self.lock();
        let line = lines.get(&(farm.clone(), server.clone()));
        line.map(|line| line.notes.iter().copied().collect()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Line>> {
        lock(&self.0)
    }
}

impl Line {
    /// Counters start anew where a server of the same name is another one.
    fn add(&mut self, (requests, failures): Note) {
        let since = |now: u64, last: u64| now.checked_sub(last).unwrap_or(now);
        self.notes.push_back((since(requests, self.last.0), since(failures, self.last.1)));
        self.last = (requests, failures);
        if self.notes.len() > KEPT {
            self.notes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_differences_and_few() {
        let history = History::default();
        let key: Key = ("owa".into(), "exch01".into());
        let note = |counters: Note| history.take(HashMap::from([(key.clone(), counters)]));
        let notes = || history.of(&key.0, &key.1);
        note((100, 7));
        assert_eq!(notes(), []);
        note((110, 8));
        note((110, 8));
        note((4, 1));
        assert_eq!(notes(), [(10, 1), (0, 0), (4, 1)]);
        for n in 1..=40 {
            note((4 + n, 1));
        }
        assert_eq!(notes(), [(1, 0); KEPT]);
        history.take(HashMap::new());
        assert_eq!(notes(), []);
    }
}
