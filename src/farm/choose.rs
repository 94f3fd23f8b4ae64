//! Which server takes this request: who may, in which order of preference, and whether there is
//! room.

use std::{sync::Arc, time::Instant};

use super::{Farm, Tried, balance::mix, in_flight::InFlight, queue::Refused, server::Server};

/// What a request brings to the choice.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// What it is hashed by; random for all other algorithms.
    pub key: u64,
    /// The server its client has already, by pin or affinity.
    pub home: Option<&'a Arc<Server>>,
    /// Servers it has tried.
    pub tried: &'a Tried,
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
enum Round {
    /// Servers in full use; those that came back just now with their growing share.
    Usual,
    /// The same with all of their share: better a cold server than none.
    Cold,
    /// Backup servers.
    Backup,
    /// What live traffic speaks against, but probes do not: better a doubtful server than none.
    Doubtful,
}

const ROUNDS: [Round; 4] = [Round::Usual, Round::Cold, Round::Backup, Round::Doubtful];

impl Farm {
    /// Chooses a server and takes a place there. A request with a home goes there or waits for
    /// it; everybody else gets what the farm's algorithm says.
    pub fn choose(&self, wish: &Wish<'_>) -> Choice {
        if let Some(home) = wish.home.filter(|home| !wish.tried.contains(home)) {
            return home.begin().map_or(Choice::Busy, Choice::Place);
        }
        for round in ROUNDS {
            // Another request may take the last place in between; then the server is full.
            for _ in 0..=self.servers().len() {
                let now = Instant::now;
                let takes = |s: &Server| !wish.tried.contains(s) && takes(s, round, wish.key, now);
                let Some(server) = self.selector().pick(wish.key, |s| takes(s) && !s.full()) else {
                    break;
                };
                if let Some(place) = server.begin() {
                    return Choice::Place(place);
                }
            }
            let full = |s: &Arc<Server>| s.full() && !wish.tried.contains(s);
            if self.servers().iter().any(|s| full(s) && takes(s, round, wish.key, Instant::now)) {
                return Choice::Busy;
            }
        }
        Choice::Nobody
    }

    /// The same, waiting in the farm's queue while every server is full.
    ///
    /// # Errors
    /// There is no server for it, no room to wait, or no place in time.
    pub async fn place(&self, wish: &Wish<'_>) -> Result<InFlight, Refused> {
        let queue = self.queue();
        if queue.is_empty() {
            match self.choose(wish) {
                Choice::Place(place) => return Ok(place),
                Choice::Nobody => return Err(Refused::NoServer),
                Choice::Busy => {}
            }
        }
        let settings = self.spec().queue;
        queue.wait(wish, settings.size, settings.wait).await
    }

    /// How many requests wait for a place.
    pub fn waiting(&self) -> usize {
        self.queue().length()
    }
}

/// Whether a server takes new clients in this round.
fn takes(server: &Server, round: Round, key: u64, now: impl FnOnce() -> Instant) -> bool {
    match round {
        Round::Usual => !server.backup() && server.open() && ramped(server, key, now),
        Round::Cold => !server.backup() && server.open() && server.warmth().is_cold(),
        Round::Backup => server.backup() && server.open(),
        Round::Doubtful => server.enabled(),
    }
}

/// Whether a server that came back just now takes this one: its share grows with time. By a hash
/// of the key, so that a key that moved back does not move again.
fn ramped(server: &Server, key: u64, now: impl FnOnce() -> Instant) -> bool {
    let warmth = server.warmth();
    if !warmth.is_cold() {
        return true;
    }
    let draw = (mix(key ^ server.id()) >> 11) as f64 / (1u64 << 53) as f64;
    warmth.share(now()).is_none_or(|share| draw < share)
}
