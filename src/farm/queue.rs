//! Requests that wait while every server has as many as it may have: bounded, and in turn.
//!
//! There is one line for those that any server would do for, and one for each server that clients
//! wait for by pin or affinity. The eldest of all lines is looked at first, and a line whose eldest
//! gets no place holds up nobody but itself. A newcomer competes only with those of its own line:
//! while that is empty it is not made to wait.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard, Weak,
        atomic::{AtomicUsize, Ordering, fence},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Farm, Tried,
    choose::{Choice, Wish},
    in_flight::InFlight,
};
use crate::lock::lock;

/// Why a request got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No server takes it, full or not.
    NoServer,
    /// All servers are full, and so is the queue.
    QueueFull,
    /// It waited as long as it may.
    QueueTimeout,
}

/// The waiting requests of one farm; it outlives reloads.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: Mutex<Lines>,
    length: AtomicUsize,
    /// The farm under the present configuration, which places are looked for in.
    farm: Mutex<Weak<Farm>>,
}

/// Whom a request waits for: its client's server, or anyone.
type Line = Option<u64>;

#[derive(Debug, Default)]
struct Lines {
    lines: BTreeMap<Line, VecDeque<Waiting>>,
    length: usize,
    arrivals: u64,
}

#[derive(Debug)]
struct Waiting {
    arrival: u64,
    key: u64,
    pinned: bool,
    tried: Tried,
    place: oneshot::Sender<Result<InFlight, Refused>>,
}

impl Queue {
    /// Places are looked for in this farm from now on.
    pub(super) fn follow(&self, farm: Weak<Farm>) {
        *lock(&self.farm) = farm;
    }

    /// How many wait.
    pub(super) fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for the same as this request.
    pub(super) fn competes(&self, wish: &Wish<'_>) -> bool {
        self.length() > 0 && self.lock().lines.contains_key(&wish.home.map(|home| home.id()))
    }

    /// Waits for a place, at most `wait`, if fewer than `size` do.
    pub(super) async fn wait(
        &self,
        wish: &Wish<'_>,
        size: usize,
        wait: Duration,
    ) -> Result<InFlight, Refused> {
        let given = {
            let mut lines = self.lock();
            if lines.length >= size {
                lines.sweep();
            }
            if lines.length >= size {
                self.length.store(lines.length, Ordering::Relaxed);
                return Err(Refused::QueueFull);
            }
            let given = lines.join(wish);
            self.length.store(lines.length, Ordering::Relaxed);
            given
        };
        // Whoever gives a place back looks at the length after that, and this looks for places
        // after the length: one of the two sees the other.
        fence(Ordering::SeqCst);
        self.pump();
        match tokio::time::timeout(wait, given).await {
            Ok(Ok(answer)) => answer,
            _ => Err(Refused::QueueTimeout),
        }
    }

    /// A place is free again.
    pub(super) fn freed(&self) {
        fence(Ordering::SeqCst);
        self.pump();
    }

    /// Gives free places to those who wait, in turn.
    pub(super) fn pump(&self) {
        if self.length() == 0 {
            return;
        }
        let farm = lock(&self.farm).upgrade();
        let Some(farm) = farm else { return };
        let mut lines = self.lock();
        let left_over = lines.serve(&farm);
        self.length.store(lines.length, Ordering::Relaxed);
        drop(lines);
        // Places nobody took are given back after the lock, as giving back looks here again.
        drop(left_over);
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        lock(&self.lines)
    }
}

impl Lines {
    fn join(&mut self, wish: &Wish<'_>) -> oneshot::Receiver<Result<InFlight, Refused>> {
        let (place, given) = oneshot::channel();
        self.arrivals += 1;
        let waiting = Waiting {
            arrival: self.arrivals,
            key: wish.key,
            pinned: wish.pinned,
            tried: wish.tried.clone(),
            place,
        };
        self.lines.entry(wish.home.map(|home| home.id())).or_default().push_back(waiting);
        self.length += 1;
        given
    }

    /// Those whose requests are over give their places in the line back.
    fn sweep(&mut self) {
        for line in self.lines.values_mut() {
            line.retain(|waiting| !waiting.place.is_closed());
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.lines.retain(|_, line| !line.is_empty());
        self.length = self.lines.values().map(VecDeque::len).sum();
    }

    /// Serves the eldest of all lines as long as there is a place for one; returns the answers
    /// that nobody waited for any more.
    fn serve(&mut self, farm: &Farm) -> Vec<Result<InFlight, Refused>> {
        self.release(farm);
        let mut blocked: Vec<Line> = Vec::new();
        let mut left_over = Vec::new();
        loop {
            let fronts = self.lines.iter().filter(|(line, _)| !blocked.contains(line));
            let fronts = fronts.filter_map(|(line, all)| Some((all.front()?.arrival, *line)));
            let Some((_, line)) = fronts.min() else { break };
            let Some(waiting) = self.lines.get_mut(&line) else { break };
            let Some(next) = waiting.pop_front() else { break };
            if next.place.is_closed() {
                continue;
            }
            let home = line.and_then(|id| farm.servers().iter().find(|s| s.id() == id));
            let wish = Wish { key: next.key, home, pinned: next.pinned, tried: &next.tried };
            let answer = match farm.choose(&wish) {
                Choice::Place(place) => Ok(place),
                Choice::Nobody => Err(Refused::NoServer),
                Choice::Busy => {
                    waiting.push_front(next);
                    blocked.push(line);
                    continue;
                }
            };
            left_over.extend(next.place.send(answer).err());
        }
        self.tidy();
        left_over
    }

    /// Who waits for a server that no longer keeps its clients waits for anyone from now on.
    fn release(&mut self, farm: &Farm) {
        let mut free: Vec<Waiting> = Vec::new();
        for (line, all) in &mut self.lines {
            let Some(id) = line else { continue };
            let home = farm.servers().iter().find(|s| s.id() == *id);
            let stays = |w: &Waiting| home.is_some_and(|home| home.keeps_waiting(w.pinned));
            if !all.iter().all(stays) {
                let (stay, go) = std::mem::take(all).into_iter().partition(stays);
                *all = stay;
                free.extend::<VecDeque<_>>(go);
            }
        }
        if !free.is_empty() {
            let anyone = self.lines.entry(None).or_default();
            anyone.extend(free);
            anyone.make_contiguous().sort_by_key(|waiting| waiting.arrival);
        }
    }
}
