//! Health of one server as a pure function: (health, what was seen, now) → (health, event).
//!
//! Each probe of the farm, and the resolving of the server's name, has a vote. A server takes
//! traffic while every vote is yes. Nothing here reads a clock, a socket or a setting, so every
//! case can be played through in a test.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What one look at a server said: fine, or why not.
pub(crate) type Outcome = Result<(), Arc<str>>;

/// How many looks in a row change a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thresholds {
    /// Successes that turn a no into a yes.
    pub(crate) rise: usize,
    /// Failures that turn a yes into a no.
    pub(crate) fall: usize,
}

impl Thresholds {
    /// The first answer decides.
    pub(crate) const AT_ONCE: Self = Self { rise: 1, fall: 1 };
}

/// A change that concerns the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The server gets no more traffic.
    Down(Arc<str>),
    /// It gets traffic again, after this long.
    Up(Duration),
}

/// Health of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    votes: Vec<Vote>,
    down: bool,
    since: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Vote {
    says: Says,
    /// Looks in a row that contradict `says`.
    streak: usize,
    /// Whether a single failure is not enough: this server was seen alive, or was in use before
    /// this vote existed.
    trusted: bool,
    reason: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// Nothing is known, and without it the server is of no use: its name has no address yet.
    Nothing,
    Yes,
    No,
}

impl Health {
    /// A server that just appeared: healthy until a probe says otherwise. With `unresolved` the
    /// first vote belongs to its name, and there is no traffic before that is known.
    pub(crate) fn new(unresolved: bool, probes: usize, now: SystemTime) -> Self {
        let name = Vote::new(if unresolved { Says::Nothing } else { Says::Yes }, false);
        let votes =
            std::iter::once(name).chain((0..probes).map(|_| Vote::new(Says::Yes, false))).collect();
        Self { votes, down: false, since: now }
    }

    /// Whether the server takes traffic.
    pub(crate) fn available(&self) -> bool {
        self.votes.iter().all(|vote| vote.says == Says::Yes)
    }

    /// Whether every probe has looked at least once.
    pub(crate) fn looked_at(&self) -> bool {
        self.votes.iter().skip(1).all(|vote| vote.trusted)
    }

    /// Since when it is what it is.
    pub(crate) fn since(&self) -> SystemTime {
        self.since
    }

    /// Why it takes no traffic; `None` while it does.
    pub(crate) fn reason(&self) -> Option<Arc<str>> {
        self.votes.iter().find(|vote| vote.says != Says::Yes).map(|vote| vote.reason.clone())
    }

    /// Takes one look into account. `voter` 0 is the name, 1 and up are the probes. A server
    /// that was never seen alive falls at its first failure: at start-up a dead server would
    /// otherwise be given traffic for `fall` × `interval`.
    pub(crate) fn observe(
        mut self,
        voter: usize,
        outcome: Outcome,
        thresholds: Thresholds,
        now: SystemTime,
    ) -> (Self, Option<Event>) {
        if let Some(vote) = self.votes.get_mut(voter) {
            vote.count(outcome, thresholds);
        }
        self.announce(now)
    }

    /// Follows a change in the number of probes. Votes that go away no longer count; a probe
    /// that a running server gets needs its full `fall` to take it out, so that a slip in a new
    /// probe does not empty a working farm at once.
    pub(crate) fn with_probes(mut self, probes: usize, now: SystemTime) -> (Self, Option<Event>) {
        let in_use = self.available();
        self.votes.resize_with(probes + 1, || Vote::new(Says::Yes, in_use));
        self.announce(now)
    }

    fn announce(mut self, now: SystemTime) -> (Self, Option<Event>) {
        let no = self.votes.iter().find(|vote| vote.says == Says::No);
        let event = match (self.down, no) {
            (false, Some(vote)) => Event::Down(vote.reason.clone()),
            (true, None) => Event::Up(now.duration_since(self.since).unwrap_or_default()),
            _ => return (self, None),
        };
        self.down = !self.down;
        self.since = now;
        (self, Some(event))
    }
}

impl Vote {
    fn new(says: Says, trusted: bool) -> Self {
        let reason = if says == Says::Nothing { "name is not resolved yet" } else { "" };
        Self { says, streak: 0, trusted, reason: reason.into() }
    }

    fn count(&mut self, outcome: Outcome, Thresholds { rise, fall }: Thresholds) {
        let (says, needed) = match outcome {
            Ok(()) => (Says::Yes, rise),
            Err(reason) => {
                self.reason = reason;
                (Says::No, if self.trusted { fall } else { 1 })
            }
        };
        self.trusted = true;
        if self.says == says {
            self.streak = 0;
            return;
        }
        self.streak += 1;
        if self.streak >= needed || self.says == Says::Nothing {
            self.says = says;
            self.streak = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_OF_THREE: Thresholds = Thresholds { rise: 2, fall: 3 };

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn refused() -> Outcome {
        Err("connect refused".into())
    }

    /// Plays outcomes to one probe, one a second; returns what happened when.
    fn play(health: Health, looks: &[bool]) -> (Health, Vec<(usize, Event)>) {
        let mut events = Vec::new();
        let mut health = health;
        for (second, ok) in looks.iter().enumerate() {
            let outcome = if *ok { Ok(()) } else { refused() };
            let (next, event) = health.observe(1, outcome, TWO_OF_THREE, at(second as u64));
            health = next;
            events.extend(event.map(|event| (second, event)));
        }
        (health, events)
    }

    #[test]
    fn every_probe_has_to_look_once() {
        let health = Health::new(false, 2, at(0));
        assert!(!health.looked_at());
        let (health, _) = health.observe(1, Ok(()), TWO_OF_THREE, at(1));
        assert!(!health.looked_at());
        let (health, _) = health.observe(2, refused(), TWO_OF_THREE, at(1));
        assert!(health.looked_at());
        assert!(Health::new(false, 0, at(0)).looked_at(), "there is nobody to look");
    }

    #[test]
    fn a_server_seen_alive_falls_after_three_and_rises_after_two() {
        let (health, events) =
            play(Health::new(false, 1, at(0)), &[true, false, false, false, false, true, true]);
        assert_eq!(
            events,
            [(3, Event::Down("connect refused".into())), (6, Event::Up(Duration::from_secs(3))),]
        );
        assert!(health.available());
        assert_eq!(health.reason(), None);
        assert_eq!(health.since(), at(6));
    }

    #[test]
    fn a_server_never_seen_alive_falls_at_its_first_failure() {
        let (health, events) = play(Health::new(false, 1, at(0)), &[false]);
        assert_eq!(events, [(0, Event::Down("connect refused".into()))]);
        assert!(!health.available());
        // And then has to rise like any other.
        let (health, events) = play(health, &[true]);
        assert!(events.is_empty() && !health.available());
    }

    #[test]
    fn flapping_below_the_thresholds_changes_nothing() {
        let alive = play(Health::new(false, 1, at(0)), &[true]).0;
        let (alive, events) = play(alive, &[false, false, true, false, false, true]);
        assert!(events.is_empty() && alive.available());
        let dead = play(alive, &[false, false, false]).0;
        let (dead, events) = play(dead, &[true, false, true, false, true]);
        assert!(events.is_empty() && !dead.available());
    }

    #[test]
    fn repeated_failures_are_announced_once_with_the_first_reason_but_show_the_latest() {
        let down = play(Health::new(false, 1, at(0)), &[false]).0;
        let (down, event) = down.observe(1, Err("status 503".into()), TWO_OF_THREE, at(1));
        assert_eq!(event, None);
        assert_eq!(down.reason().as_deref(), Some("status 503"));
        assert_eq!(down.since(), at(0));
    }

    #[test]
    fn every_probe_has_to_say_yes() {
        let health = Health::new(false, 2, at(0));
        let (health, event) = health.observe(1, refused(), Thresholds::AT_ONCE, at(1));
        assert_eq!(event, Some(Event::Down("connect refused".into())));
        let (health, event) = health.observe(2, Err("status 500".into()), TWO_OF_THREE, at(2));
        assert_eq!(event, None, "it is down already");
        let (health, event) = health.observe(1, Ok(()), Thresholds::AT_ONCE, at(3));
        assert_eq!(event, None, "the second probe still says no");
        assert_eq!(health.reason().as_deref(), Some("status 500"));
        let (health, event) = health.observe(2, Ok(()), Thresholds::AT_ONCE, at(5));
        assert_eq!(event, Some(Event::Up(Duration::from_secs(4))));
        assert!(health.available());
    }

    #[test]
    fn a_name_gives_no_traffic_until_it_resolves_and_starting_is_no_event() {
        let health = Health::new(true, 0, at(0));
        assert!(!health.available());
        assert_eq!(health.reason().as_deref(), Some("name is not resolved yet"));
        let (resolved, event) = health.clone().observe(0, Ok(()), Thresholds::AT_ONCE, at(1));
        assert!(event.is_none() && resolved.available());

        let failure = Err("name does not resolve".into());
        let (failed, event) = health.observe(0, failure, Thresholds::AT_ONCE, at(1));
        assert_eq!(event, Some(Event::Down("name does not resolve".into())));
        let (_, event) = failed.observe(0, Ok(()), Thresholds::AT_ONCE, at(31));
        assert_eq!(event, Some(Event::Up(Duration::from_secs(30))));
    }

    #[test]
    fn probes_that_come_and_go_keep_what_is_known() {
        let alive = play(Health::new(false, 1, at(0)), &[true]).0;
        let (two, event) = alive.with_probes(2, at(1));
        assert_eq!(event, None);
        let (two, event) = two.observe(2, refused(), TWO_OF_THREE, at(2));
        assert_eq!(event, None, "a new probe on a running server needs its full fall");
        let (two, _) = two.observe(2, refused(), TWO_OF_THREE, at(3));
        let (two, event) = two.observe(2, refused(), TWO_OF_THREE, at(4));
        assert!(event.is_some() && !two.available());
        let (one, event) = two.with_probes(1, at(9));
        assert_eq!(event, Some(Event::Up(Duration::from_secs(5))));
        assert!(one.available());
    }

    #[test]
    fn a_clock_that_jumps_back_is_survived() {
        let down = play(Health::new(false, 1, at(100)), &[false]).0;
        let (down, _) = down.observe(1, Ok(()), TWO_OF_THREE, at(0));
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(60);
        let (_, event) = down.observe(1, Ok(()), TWO_OF_THREE, before);
        assert_eq!(event, Some(Event::Up(Duration::ZERO)));
    }

    #[test]
    fn an_outcome_of_a_probe_that_is_gone_is_ignored() {
        let health = Health::new(false, 1, at(0));
        let (after, event) = health.clone().observe(7, refused(), TWO_OF_THREE, at(1));
        assert_eq!((after, event), (health, None));
    }
}
