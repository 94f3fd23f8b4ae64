//! How many pins there are, and who goes first when there are too many.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{listen::Handle, lock::lock};

/// How long a pin may wait for its client without any answer other than 401. A request under way
/// is the server's time: a sign-in whose answer takes half an hour (`RPC_IN_DATA`) is not cut.
pub const UNPROVED: Duration = Duration::from_secs(30);

/// All pins of this process.
#[derive(Default)]
pub struct Pins {
    state: Mutex<State>,
    outcomes: Outcomes,
}

/// What became of pins since the start.
#[derive(Default)]
struct Outcomes {
    admitted: AtomicU64,
    proved: AtomicU64,
    refused: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
}

#[derive(Default)]
struct State {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
    /// Oldest first; those that were proved since or are gone are passed over.
    unproved: VecDeque<Weak<Entry>>,
}

/// One pin in the count.
struct Entry {
    source: IpAddr,
    /// Since when it waits for its client; none while a request is under way.
    waiting: Mutex<Option<Instant>>,
    proved: AtomicBool,
    /// The client's and the server's socket, to be cut.
    sockets: Mutex<Vec<Handle>>,
}

/// Limits on pins.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub all: usize,
    /// From one source.
    pub per_source: usize,
}

impl Pins {
    /// Counts one more, unless there are too many. The oldest one that never got an answer other
    /// than 401 makes room.
    pub fn admit(
        self: &Arc<Self>,
        source: IpAddr,
        client: Option<Handle>,
        limits: Limits,
        now: Instant,
    ) -> Option<Place> {
        let place = self.find_room(source, client, limits, now);
        let Outcomes { admitted, refused, .. } = &self.outcomes;
        one_more(if place.is_some() { admitted } else { refused });
        place
    }

    fn find_room(
        self: &Arc<Self>,
        source: IpAddr,
        client: Option<Handle>,
        limits: Limits,
        now: Instant,
    ) -> Option<Place> {
        let source = source.to_canonical();
        let mut state = self.lock();
        let of_source = state.by_source.get(&source).copied().unwrap_or(0);
        let mut cut = None;
        if of_source >= limits.per_source {
            cut = Some(state.oldest_unproved(|e| e.source == source)?);
        } else if state.total >= limits.all {
            cut = Some(state.oldest_unproved(|_| true)?);
        }
        state.total += 1;
        *state.by_source.entry(source).or_insert(0) += 1;
        let proved = AtomicBool::new(false);
        let sockets = Mutex::new(client.into_iter().collect());
        let waiting = Mutex::new(Some(now));
        let entry = Arc::new(Entry { source, waiting, proved, sockets });
        state.unproved.push_back(Arc::downgrade(&entry));
        drop(state);
        if let Some(entry) = cut {
            one_more(&self.outcomes.evicted);
            entry.cut();
        }
        Some(Place { all: self.clone(), entry })
    }

    /// Cuts the pins that waited too long without any answer other than 401.
    pub fn sweep(&self, now: Instant) {
        let mut late = Vec::new();
        self.lock().unproved.retain(|entry| {
            let Some(entry) = entry.upgrade().filter(|e| !e.proved.load(Ordering::Relaxed)) else {
                return false;
            };
            let young = entry.waiting().is_none_or(|since| now.duration_since(since) < UNPROVED);
            if !young {
                late.push(entry);
            }
            young
        });
        for entry in late {
            one_more(&self.outcomes.expired);
            entry.cut();
        }
    }

    /// How often pins were `admitted`, `proved` (an answer other than 401), `refused` (too many),
    /// `evicted` (made room) and `expired` (see [`UNPROVED`]), since the start.
    pub fn outcomes(&self) -> [(&'static str, u64); 5] {
        let Outcomes { admitted, proved, refused, evicted, expired } = &self.outcomes;
        [
            ("admitted", admitted),
            ("proved", proved),
            ("refused", refused),
            ("evicted", evicted),
            ("expired", expired),
        ]
        .map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
    }

    /// Pins right now.
    pub fn total(&self) -> usize {
        self.lock().total
    }

    /// The sources with the most pins, at most `count`, the most first.
    pub fn sources(&self, count: usize) -> Vec<(IpAddr, usize)> {
        let mut all: Vec<_> = self.lock().by_source.iter().map(|(ip, n)| (*ip, *n)).collect();
        all.sort_by_key(|(ip, n)| (std::cmp::Reverse(*n), *ip));
        all.truncate(count);
        all
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl State {
    /// Those that wait for their client go before those with a request under way.
    fn oldest_unproved(&mut self, wanted: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        self.unproved.retain(|e| e.upgrade().is_some_and(|e| !e.proved.load(Ordering::Relaxed)));
        let oldest = |wanted: &dyn Fn(&Entry) -> bool| {
            self.unproved.iter().position(|e| e.upgrade().is_some_and(|e| wanted(&e)))
        };
        let index = oldest(&|e| wanted(e) && e.waiting().is_some()).or_else(|| oldest(&wanted))?;
        self.unproved.remove(index)?.upgrade()
    }
}

impl Entry {
    fn waiting(&self) -> MutexGuard<'_, Option<Instant>> {
        lock(&self.waiting)
    }

    /// Its owner notices, and gives back the place.
    fn cut(&self) {
        for socket in lock(&self.sockets).drain(..) {
            socket.shut_down();
        }
    }
}

/// A place in the count; dropping it gives it back.
pub struct Place {
    all: Arc<Pins>,
    entry: Arc<Entry>,
}

impl Place {
    /// Also this socket is cut when the pin has to go.
    pub(super) fn watches(&self, socket: &Handle) {
        let mut sockets = lock(&self.entry.sockets);
        sockets.truncate(1);
        sockets.push(*socket);
    }

    /// A request is under way (none), or the client's turn began at that moment.
    pub(super) fn waits(&self, since: Option<Instant>) {
        if !self.entry.proved.load(Ordering::Relaxed) {
            *self.entry.waiting() = since;
        }
    }

    /// An answer other than 401 came: it is a sign-in, and stays.
    pub(super) fn proved(&self) {
        if !self.entry.proved.swap(true, Ordering::Relaxed) {
            one_more(&self.all.outcomes.proved);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.all.lock();
        state.total -= 1;
        if let Some(count) = state.by_source.get_mut(&self.entry.source) {
            *count -= 1;
            if *count == 0 {
                state.by_source.remove(&self.entry.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { all: 3, per_source: 2 };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn proved_pins_stay_and_the_oldest_unproved_goes_first() {
        let pins = Arc::new(Pins::default());
        let now = Instant::now();
        let admit = |source| pins.admit(ip(source), None, LIMITS, now);
        let (one, two) = (admit(1).unwrap(), admit(1).unwrap());
        one.proved();
        // The source's limit: its own unproved pin makes room (and its owner gives it back).
        let three = admit(1).unwrap();
        drop(two);
        three.proved();
        assert!(admit(1).is_none(), "two proved ones stay");
        let four = admit(2).unwrap();
        four.proved();
        assert!(admit(3).is_none());
        drop(one);
        assert!(admit(3).is_some());
    }

    #[test]
    fn places_are_given_back_and_sources_forgotten() {
        let pins = Arc::new(Pins::default());
        let held: Vec<_> =
            (0..3).map(|n| pins.admit(ip(n), None, LIMITS, Instant::now()).unwrap()).collect();
        assert_eq!(pins.total(), 3);
        drop(held);
        assert_eq!(pins.total(), 0);
        assert!(pins.lock().by_source.is_empty());
    }

    #[test]
    fn what_is_never_proved_is_cut_after_a_while() {
        let pins = Arc::new(Pins::default());
        let begun = Instant::now();
        let _old = pins.admit(ip(1), None, LIMITS, begun).unwrap();
        let proved = pins.admit(ip(2), None, LIMITS, begun).unwrap();
        proved.proved();
        let _young = pins.admit(ip(3), None, LIMITS, begun + UNPROVED / 2).unwrap();
        pins.sweep(begun + UNPROVED);
        let left = pins.lock().unproved.len();
        assert_eq!(left, 1, "only the young one is still waited for");
    }

    #[test]
    fn a_request_under_way_stops_the_clock() {
        let pins = Arc::new(Pins::default());
        let begun = Instant::now();
        let place = pins.admit(ip(1), None, LIMITS, begun).unwrap();
        place.waits(None);
        pins.sweep(begun + UNPROVED * 60);
        assert_eq!(pins.lock().unproved.len(), 1, "its answer takes half an hour");
        let answered = begun + UNPROVED * 60;
        place.waits(Some(answered));
        pins.sweep(answered + UNPROVED / 2);
        assert_eq!(pins.lock().unproved.len(), 1, "a 401 gives the client its time anew");
        pins.sweep(answered + UNPROVED);
        assert!(pins.lock().unproved.is_empty());
    }

    #[test]
    fn those_that_wait_for_their_client_go_first() {
        let pins = Arc::new(Pins::default());
        let now = Instant::now();
        let busy = pins.admit(ip(1), None, LIMITS, now).unwrap();
        busy.waits(None);
        let idle = pins.admit(ip(1), None, LIMITS, now).unwrap();
        let third = pins.admit(ip(1), None, LIMITS, now).unwrap();
        let left: Vec<_> = pins.lock().unproved.iter().filter_map(Weak::upgrade).collect();
        assert!(left.iter().any(|e| Arc::ptr_eq(e, &busy.entry)));
        assert!(!left.iter().any(|e| Arc::ptr_eq(e, &idle.entry)));
        drop(idle);
        third.proved();
        assert!(pins.admit(ip(1), None, LIMITS, now).is_some(), "then those under way");
    }
}
