//! Which server takes this request: who may, in which order of preference, and whether there is
//! room.

use std::{cell::Cell, sync::Arc, time::Instant};

use super::{Farm, Tried, balance::mix, in_flight::InFlight, queue::Refused, server::Server};
use crate::site;

/// What a request brings to the choice.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// What it is hashed by; random for all other algorithms.
    pub key: u64,
    /// The server its client has already, by pin or affinity.
    pub home: Option<&'a Arc<Server>>,
    /// Whether it is a pin: then nothing else than that server will do.
    pub pinned: bool,
    /// Servers it has tried.
    pub tried: &'a Tried,
}

impl<'a> Wish<'a> {
    /// Of a request without a home.
    pub fn anyone(key: u64, tried: &'a Tried) -> Self {
        Self { key, home: None, pinned: false, tried }
    }
}

/// The outcome of a choice.
#[derive(Debug)]
pub enum Choice {
    /// A place at a server.
    Place(InFlight),
    /// There are servers, and all are full.
    Busy,
    /// No server takes it.
    Nobody,
}

/// Who is asked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// Servers in full use; those that came back just now with their growing share.
    Usual,
    /// The same with all of their share: better a cold server than a full one, or none.
    Cold,
    /// Backup servers; not for what full servers leave over.
    Backup,
    /// What live traffic speaks against, but probes do not: better a doubtful server than none.
    Doubtful,
}

/// The rounds; full servers end it behind each of these groups.
pub(super) const ROUNDS: &[&[Round]] =
    &[&[Round::Usual, Round::Cold], &[Round::Backup], &[Round::Doubtful]];

impl Farm {
    /// Chooses a server and takes a place there. A request with a home goes there or waits for
    /// it; everybody else gets what the farm's algorithm says.
    pub fn choose(&self, wish: &Wish<'_>) -> Choice {
        if let Some(home) = wish.home.filter(|home| !wish.tried.contains(home)) {
            return home.begin().map_or(Choice::Busy, Choice::Place);
        }
        let full = Cell::new(false);
        for rounds in ROUNDS {
            for round in *rounds {
                if let Some(place) = self.choose_in(*round, wish, &full) {
                    return Choice::Place(place);
                }
            }
            if full.get() {
                return Choice::Busy;
            }
        }
        Choice::Nobody
    }

    fn choose_in(&self, round: Round, wish: &Wish<'_>, full: &Cell<bool>) -> Option<InFlight> {
        // Another request may take the last place in between; then the server is full.
        for _ in 0..=self.servers().len() {
            let server = self.selector().pick(wish.key, |server| {
                if wish.tried.contains(server) || !takes(server, round, wish.key) {
                    return false;
                }
                // Looked at once: it may have room the next moment.
                let is_full = server.full();
                full.set(full.get() || is_full);
                !is_full
            })?;
            match server.begin() {
                Some(place) => return Some(place),
                None => full.set(true),
            }
        }
        None
    }

    /// The same, waiting in the farm's queue while every server is full. A client whose own server
    /// is full waits for that one; where there is no queue, affinity (not a pin) yields.
    ///
    /// # Errors
    /// There is no server for it, no room to wait, or no place in time.
    pub async fn place(&self, wish: &Wish<'_>) -> Result<InFlight, Refused> {
        let queue = self.queue();
        let site::Queue { size, wait } = self.spec().queue;
        if !queue.competes(wish) {
            let choice = match self.choose(wish) {
                Choice::Busy if wish.home.is_some() && !wish.pinned && size == 0 => {
                    self.choose(&Wish::anyone(wish.key, wish.tried))
                }
                choice => choice,
            };
            match choice {
                Choice::Place(place) => return Ok(place),
                Choice::Nobody => return Err(Refused::NoServer),
                Choice::Busy => {}
            }
        }
        queue.wait(wish, size, wait).await
    }

    /// How many requests wait for a place.
    pub fn waiting(&self) -> usize {
        self.queue().length()
    }
}

/// Whether a server takes new clients in this round.
pub(super) fn takes(server: &Server, round: Round, key: u64) -> bool {
    match round {
        Round::Usual => !server.backup() && server.open() && ramped(server, key),
        Round::Cold => !server.backup() && server.open() && server.warmth().is_cold(),
        Round::Backup => server.backup() && server.open(),
        Round::Doubtful => server.enabled(),
    }
}

/// Whether a server that came back just now takes this one: its share grows with time. By a hash
/// of the key, so that a key that moved back does not move again.
fn ramped(server: &Server, key: u64) -> bool {
    let warmth = server.warmth();
    if !warmth.is_cold() {
        return true;
    }
    let draw = (mix(key ^ server.id()) >> 11) as f64 / (1u64 << 53) as f64;
    warmth.share(Instant::now()).is_none_or(|share| draw < share)
}
