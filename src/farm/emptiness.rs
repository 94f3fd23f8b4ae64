//! Noticing that no server of a farm takes new clients any more, and that one does again.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{Farm, server::Server};
use crate::events::{News, code};

use crate::lock::lock;

/// Since when a farm has been without a server.
#[derive(Debug, Default)]
pub(super) struct Emptiness(Mutex<Option<Instant>>);

/// What changed.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Without,
    /// One takes clients again, after this long.
    Again(Duration),
}

/// (without servers since?, does one take clients?, now) → (since, what changed)
fn step(since: Option<Instant>, takes: bool, now: Instant) -> (Option<Instant>, Option<Change>) {
    match since {
        None if !takes => (Some(now), Some(Change::Without)),
        Some(since) if takes => (None, Some(Change::Again(now.saturating_duration_since(since)))),
        since => (since, None),
    }
}

impl Farm {
    /// Tells it when no server is left that takes new clients, and when there is one again; to be
    /// called now and then.
    pub(super) fn watch(&self, now: Instant) {
        let takes = self.servers.iter().any(|server| server.open());
        // While names are looked up for the first time, nobody knows.
        if !takes && self.servers.iter().any(|server| server.is_looked_up_first()) {
            return;
        }
        let mut since = lock(&self.kept.emptiness.0);
        let (next, change) = step(*since, takes, now);
        *since = next;
        let (Some(change), Some(one)) = (change, self.servers.first()) else { return };
        one.events().tell(self.change(&change));
    }

    fn change(&self, change: &Change) -> News {
        let farm = &self.spec.name;
        match change {
            Change::Without => {
                let text = format!("farm {farm}: no healthy server is left that takes new clients");
                let why = |server: &Server| (server.name().to_string(), why(server).into());
                let servers: serde_json::Map<_, _> = self.servers.iter().map(|s| why(s)).collect();
                News::new(code::FARM_WITHOUT_SERVERS, text).farm(farm).with("servers", servers)
            }
            Change::Again(after) => {
                let seconds = after.as_secs();
                let after = humantime::format_duration(Duration::from_secs(seconds));
                let text = format!("farm {farm}: a server takes new clients again after {after}");
                News::new(code::FARM_SERVES_AGAIN, text).farm(farm).with("seconds", seconds)
            }
        }
    }
}

/// Why a server takes no new clients.
fn why(server: &Server) -> String {
    let status = server.status();
    let out = || status.ejected.as_ref().map(|(reason, _)| reason.to_string());
    match status.reason {
        Some(reason) => reason.to_string(),
        None if server.state() != super::State::Ready => server.state().word().to_owned(),
        None if server.weight() == 0 => "weight 0".to_owned(),
        None => out().unwrap_or_else(|| "it does".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::{Farms, Order, State, testing, tests::site};
    use super::*;
    use crate::events::Events;

    #[test]
    fn each_change_is_told_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(step(None, true, at(0)), (None, None));
        assert_eq!(step(None, false, at(1)), (Some(at(1)), Some(Change::Without)));
        assert_eq!(step(Some(at(1)), false, at(2)), (Some(at(1)), None));
        let again = Some(Change::Again(Duration::from_secs(4)));
        assert_eq!(step(Some(at(1)), true, at(5)), (None, again));
    }

    #[tokio::test]
    async fn the_last_server_that_goes_is_an_event_and_the_first_that_comes_back() {
        let events = Events::default();
        let farms = Farms::new().telling(events.clone());
        farms.apply(&site(vec![testing::farm("owa", &["exch01", "exch02"])]));
        let farm = farms.list()[0].clone();
        let order = |state, server: &str| {
            let (who, since) = ("jo".into(), SystemTime::UNIX_EPOCH);
            farms.command(server, &Order { state, who, why: None, since }).unwrap();
            farm.watch(Instant::now());
            farm.watch(Instant::now());
        };
        order(State::Drain, "exch01");
        farm.servers[1].look(1, Err("connect refused".into()));
        farm.servers[1].resolved(Err("gone".into()));
        farm.watch(Instant::now());
        order(State::Ready, "exch01");
        let told = events.latest(100);
        let codes: Vec<_> = told.iter().map(|event| &*event.code).collect();
        assert_eq!(
            codes,
            [
                "server_drained",
                "server_down",
                "farm_without_servers",
                "server_ready",
                "farm_serves_again"
            ]
        );
        let servers = &told[2].details["servers"];
        assert_eq!((&servers["exch01"], &servers["exch02"]), (&"drain".into(), &"gone".into()));
    }
}
