//! Health learnt from live traffic, as a pure function: (record, what happened, now) → (record,
//! event). Nothing here reads a clock; who may go is decided by the farm.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{lock::lock, site::Passive};

/// A server that fails at once after every return stays out at most this many times longer.
const LONGEST: u32 = 16;

/// What live traffic says about a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// Nothing against it.
    #[default]
    Fine,
    /// It was out and is tried again: its first failure puts it out anew.
    Probation,
    /// It answers with failure statuses: no new clients, but those it has stay.
    Gently,
    /// It does not hold connections: out.
    Out,
}

impl Standing {
    /// From the number it is kept as.
    pub(crate) fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Probation,
            2 => Self::Gently,
            3 => Self::Out,
            _ => Self::Fine,
        }
    }

    /// `fine`, `probation`, `gently` or `out`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Probation => "probation",
            Self::Gently => "gently",
            Self::Out => "out",
        }
    }

    /// Whether it takes new clients.
    pub fn takes(self) -> bool {
        matches!(self, Self::Fine | Self::Probation)
    }

    /// Whether clients that are at home there stay.
    pub fn keeps(self) -> bool {
        self != Self::Out
    }
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection was not accepted.
    Connect,
    /// TLS failed.
    Tls,
    /// The connection closed in the middle of an exchange.
    Reset,
    /// An answer with this status.
    Status(u16),
}

impl Failure {
    /// Whether the farm counts it. 401, 403, 404 and 409 are the client's doing, whatever the
    /// configuration says.
    pub(crate) fn counts(self, policy: &Passive) -> bool {
        match self {
            Self::Connect => policy.connect,
            Self::Tls => policy.tls,
            Self::Reset => policy.reset,
            Self::Status(401 | 403 | 404 | 409) => false,
            Self::Status(status) => {
                policy.status.iter().any(|(low, high)| (*low..=*high).contains(&status))
            }
        }
    }

    fn name(self) -> String {
        match self {
            Self::Connect => "connect".to_owned(),
            Self::Tls => "TLS".to_owned(),
            Self::Reset => "reset".to_owned(),
            Self::Status(status) => format!("status {status}"),
        }
    }
}

/// A change that concerns the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Out for this long, and why.
    Ejected(Duration, Arc<str>),
    /// Tried again.
    Retried,
    /// In for good.
    Returned,
}

/// What is remembered of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    standing: Standing,
    /// The last failures, oldest first; never more than the policy wants.
    failures: VecDeque<Instant>,
    /// When it is tried again, and why it is out.
    until: Option<Instant>,
    reason: Option<Arc<str>>,
    /// How often it went out in a row.
    times: u32,
    /// When it came back for good.
    returned: Option<Instant>,
}

impl Record {
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Takes a failure into account that counts. `room`: whether the farm can do without this
    /// server.
    pub(crate) fn failed(
        mut self,
        failure: Failure,
        policy: &Passive,
        room: bool,
        now: Instant,
    ) -> (Self, Option<Event>) {
        // What was under way when it went out says nothing new.
        if !self.standing.takes() {
            return (self, None);
        }
        let late = |at: &Instant| now.saturating_duration_since(*at) >= policy.within;
        while self.failures.front().is_some_and(late) || self.failures.len() >= policy.failures {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        let enough = self.standing == Standing::Probation || self.failures.len() >= policy.failures;
        if !enough || !room {
            return (self, None);
        }
        let quiet = |at: Instant| now.saturating_duration_since(at) > policy.within;
        if self.returned.is_none_or(quiet) && self.standing == Standing::Fine {
            self.times = 0;
        }
        let factor = 1u32.checked_shl(self.times).unwrap_or(LONGEST).min(LONGEST);
        let out = policy.retry_after.saturating_mul(factor);
        let count = self.failures.len();
        self.times = self.times.saturating_add(1);
        self.until = now.checked_add(out);
        self.failures.clear();
        self.standing =
            if matches!(failure, Failure::Status(_)) { Standing::Gently } else { Standing::Out };
        let reason = format!("failures in live traffic: {count}, the last one: {}", failure.name());
        let reason: Arc<str> = reason.into();
        self.reason = Some(reason.clone());
        (self, Some(Event::Ejected(out, reason)))
    }

    /// An exchange went well.
    pub(crate) fn succeeded(mut self, now: Instant) -> (Self, Option<Event>) {
        if self.standing != Standing::Probation {
            return (self, None);
        }
        self.standing = Standing::Fine;
        self.failures.clear();
        self.returned = Some(now);
        (self, Some(Event::Returned))
    }

    /// Time passes.
    pub(crate) fn tick(mut self, now: Instant) -> (Self, Option<Event>) {
        if self.standing.takes() || self.until.is_none_or(|until| now < until) {
            return (self, None);
        }
        self.standing = Standing::Probation;
        self.reason = None;
        (self, Some(Event::Retried))
    }
}

/// The record of one running server. Its standing is one atomic.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    standing: AtomicU8,
    record: Mutex<Record>,
}

impl Judgement {
    pub(crate) fn standing(&self) -> Standing {
        Standing::from_bits(self.standing.load(Ordering::Relaxed))
    }

    /// Takes one step.
    pub(crate) fn change(
        &self,
        step: impl FnOnce(Record) -> (Record, Option<Event>),
    ) -> Option<Event> {
        let mut record = lock(&self.record);
        let (next, event) = step(std::mem::take(&mut *record));
        self.standing.store(next.standing() as u8, Ordering::Relaxed);
        *record = next;
        event
    }

    /// Why it is out, and for how long still.
    pub(crate) fn ejected(&self, now: Instant) -> Option<(Arc<str>, Duration)> {
        let record = lock(&self.record);
        let left = record.until?.saturating_duration_since(now);
        Some((record.reason.clone()?, left))
    }

    /// An administrator wants to hear nothing of the past.
    pub(crate) fn forgive(&self) {
        self.change(|_| (Record::default(), None));
    }
}

/// Whether a farm can do without one more server: `ejected` of its `servers` are out for what
/// live traffic says, and `left` would still take clients.
pub(crate) fn room(policy: &Passive, servers: usize, ejected: usize, left: usize) -> bool {
    let most = servers * usize::from(policy.max_ejected) / 100;
    ejected < most && left >= policy.min_servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Passive {
        Passive {
            connect: true,
            tls: true,
            reset: true,
            status: vec![(500, 599), (400, 420)],
            failures: 3,
            within: secs(30),
            retry_after: secs(10),
            max_ejected: 50,
            min_servers: 1,
        }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Plays failures, one at each second given; returns the record and how long it went out.
    fn play(mut record: Record, start: Instant, at: &[u64]) -> (Record, Vec<(u64, Duration)>) {
        let mut ejections = Vec::new();
        for second in at {
            let now = start + secs(*second);
            let (next, event) = record.failed(Failure::Connect, &policy(), true, now);
            record = next;
            if let Some(Event::Ejected(out, _)) = event {
                ejections.push((*second, out));
            }
        }
        (record, ejections)
    }

    #[test]
    fn failures_count_only_within_their_time() {
        let start = Instant::now();
        let (record, ejections) = play(Record::default(), start, &[0, 20, 31, 60, 91]);
        assert_eq!((ejections.len(), record.standing()), (0, Standing::Fine));
        let (record, ejections) = play(record, start, &[100, 101]);
        assert_eq!(ejections, [(101, secs(10))]);
        assert_eq!(record.standing(), Standing::Out);
        // Leftovers of the same trouble change nothing.
        assert_eq!(play(record.clone(), start, &[102, 103, 104, 105]), (record, vec![]));
    }

    #[test]
    fn one_failure_on_probation_doubles_the_time_up_to_a_limit() {
        let start = Instant::now();
        let (mut record, ejections) = play(Record::default(), start, &[0, 1, 2]);
        assert_eq!(ejections, [(2, secs(10))]);
        let mut now = 2;
        for expected in [20, 40, 80, 160, 160, 160] {
            let (same, event) = record.tick(start + secs(now));
            assert_eq!(event, None);
            now += 200;
            let (retried, event) = same.tick(start + secs(now));
            assert_eq!((event, retried.standing()), (Some(Event::Retried), Standing::Probation));
            let (out, ejections) = play(retried, start, &[now]);
            assert_eq!(ejections, [(now, secs(expected))]);
            record = out;
        }
    }

    #[test]
    fn a_success_on_probation_returns_it_and_a_quiet_time_forgets() {
        let start = Instant::now();
        let out = play(Record::default(), start, &[0, 1, 2]).0;
        let (record, _) = out.tick(start + secs(12));
        let (record, event) = record.succeeded(start + secs(13));
        assert_eq!((event, record.standing()), (Some(Event::Returned), Standing::Fine));
        assert_eq!(record.clone().succeeded(start + secs(14)), (record.clone(), None));
        // Again right away: twice as long. After a quiet time: as if nothing had been.
        assert_eq!(play(record.clone(), start, &[20, 21, 22]).1, [(22, secs(20))]);
        assert_eq!(play(record, start, &[120, 121, 122]).1, [(122, secs(10))]);
    }

    #[test]
    fn statuses_take_a_server_out_gently_and_some_never_count() {
        let (policy, now) = (policy(), Instant::now());
        for status in [401, 403, 404, 409, 200, 302] {
            assert!(!Failure::Status(status).counts(&policy), "{status}");
        }
        assert!(Failure::Status(503).counts(&policy) && Failure::Status(400).counts(&policy));
        assert!(!Failure::Status(500).counts(&Passive { status: vec![], ..policy.clone() }));
        assert!(!Failure::Tls.counts(&Passive { tls: false, ..policy.clone() }));
        let mut record = Record::default();
        for _ in 0..3 {
            record = record.failed(Failure::Status(503), &policy, true, now).0;
        }
        assert_eq!(record.standing(), Standing::Gently);
        assert_eq!(Standing::from_bits(Standing::Gently as u8), Standing::Gently);
    }

    #[test]
    fn without_room_a_server_stays_until_there_is_some() {
        let (policy, now) = (policy(), Instant::now());
        let mut record = Record::default();
        for _ in 0..10 {
            let (next, event) = record.failed(Failure::Reset, &policy, false, now);
            assert_eq!((event, next.standing()), (None, Standing::Fine));
            record = next;
        }
        let (record, event) = record.failed(Failure::Reset, &policy, true, now);
        assert!(event.is_some() && record.standing() == Standing::Out);
        let judgement = Judgement::default();
        judgement.change(|_| (record, None));
        assert_eq!(judgement.standing(), Standing::Out);
        judgement.forgive();
        assert_eq!(judgement.standing(), Standing::Fine);
    }

    #[test]
    fn half_of_the_farm_at_most_and_never_the_last_ones() {
        let policy = |max_ejected, min_servers| Passive { max_ejected, min_servers, ..policy() };
        assert!(!room(&policy(50, 0), 1, 0, 0), "the only server stays");
        assert!(room(&policy(50, 1), 2, 0, 1) && !room(&policy(50, 1), 2, 1, 1));
        assert!(room(&policy(50, 1), 3, 0, 2) && !room(&policy(50, 1), 3, 1, 2));
        assert!(room(&policy(100, 0), 1, 0, 0) && !room(&policy(100, 1), 1, 0, 0));
        assert!(!room(&policy(0, 0), 10, 0, 9));
        assert!(room(&policy(50, 3), 8, 3, 3) && !room(&policy(50, 3), 8, 3, 2));
    }
}
