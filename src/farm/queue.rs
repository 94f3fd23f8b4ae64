//! Requests that wait while every server has as many as it may have: bounded, and in turn.
//!
//! While anybody waits, newcomers wait too, and everybody is looked at in the order of arrival: so
//! nobody is overtaken by a later request for the same place, and one that waits for its own
//! server does not hold up those that any server would do for.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Farm, Tried,
    choose::{Choice, Wish},
    in_flight::InFlight,
};

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
    waiting: Mutex<VecDeque<Waiting>>,
    length: AtomicUsize,
    /// The farm under the present configuration, which places are looked for in.
    farm: Mutex<Weak<Farm>>,
}

#[derive(Debug)]
struct Waiting {
    key: u64,
    home: Option<u64>,
    tried: Tried,
    place: oneshot::Sender<Result<InFlight, Refused>>,
}

impl Queue {
    /// Places are looked for in this farm from now on.
    pub(super) fn follow(&self, farm: Weak<Farm>) {
        *self.farm.lock().unwrap_or_else(PoisonError::into_inner) = farm;
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.length() == 0
    }

    /// How many wait.
    pub(super) fn length(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    /// Waits for a place, at most `wait`, if fewer than `size` do.
    pub(super) async fn wait(
        &self,
        wish: &Wish<'_>,
        size: usize,
        wait: Duration,
    ) -> Result<InFlight, Refused> {
        let (place, given) = oneshot::channel();
        {
            let mut waiting = self.lock();
            // Those whose clients are gone give their places back.
            if waiting.len() >= size {
                waiting.retain(|other| !other.place.is_closed());
            }
            if waiting.len() >= size {
                self.length.store(waiting.len(), Ordering::Release);
                return Err(Refused::QueueFull);
            }
            waiting.push_back(Waiting {
                key: wish.key,
                home: wish.home.map(|home| home.id()),
                tried: wish.tried.clone(),
                place,
            });
            self.length.store(waiting.len(), Ordering::Release);
        }
        // A place may have come free before this request was seen to wait.
        self.pump();
        match tokio::time::timeout(wait, given).await {
            Ok(Ok(answer)) => answer,
            _ => Err(Refused::QueueTimeout),
        }
    }

    /// Gives free places to those who wait, in turn.
    pub(super) fn pump(&self) {
        if self.is_empty() {
            return;
        }
        let farm = self.farm.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        let Some(farm) = farm else { return };
        // A place nobody took is given back after the lock, as giving back looks here again.
        let mut left_over = Vec::new();
        let mut waiting = self.lock();
        let mut full = false;
        let mut kept = VecDeque::with_capacity(waiting.len());
        for next in waiting.drain(..) {
            if next.place.is_closed() {
                continue;
            }
            // If there was none for one that any server would do for, there is none for the next.
            if full && next.home.is_none() {
                kept.push_back(next);
                continue;
            }
            let home = next.home.and_then(|id| farm.servers().iter().find(|s| s.id() == id));
            let wish = Wish { key: next.key, home, tried: &next.tried };
            let answer = match farm.choose(&wish) {
                Choice::Place(place) => Ok(place),
                Choice::Nobody => Err(Refused::NoServer),
                Choice::Busy => {
                    full |= next.home.is_none() && next.tried.is_empty();
                    kept.push_back(next);
                    continue;
                }
            };
            left_over.extend(next.place.send(answer).err());
        }
        *waiting = kept;
        self.length.store(waiting.len(), Ordering::Release);
        drop(waiting);
        drop(left_over);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
