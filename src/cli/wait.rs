//! `--wait` of `drain`, `maintain` and `ready`: until the server is what it was told to be.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::admin::{self, Told};
use crate::{
    admin::{Ask, Done, Place, ServerRow, Servers},
    site::Token,
};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// It has nothing left to do.
    Idle,
    /// It takes new clients.
    Open,
}

impl Until {
    /// Who else may have requests for it, which only that process knows.
    fn elsewhere(self, all: &Servers) -> impl Iterator<Item = String> {
        let replaced = if self == Self::Idle { &*all.replaced } else { &[] };
        replaced.iter().map(|process| still_there(*process))
    }

    /// What is still missing at this server.
    fn missing(self, row: &ServerRow) -> Option<String> {
        let name = format!("{}/{}", row.farm, row.server);
        match self {
            Self::Open if row.takes_clients => None,
            Self::Open if row.healthy => Some(format!("{name} takes no clients yet")),
            Self::Open => {
                let reason = row.reason.as_deref().unwrap_or("not asked yet");
                Some(format!("{name} is down: {reason}"))
            }
            Self::Idle => {
                let counts = [
                    (row.in_flight, "requests under way"),
                    (row.pins, "pins"),
                    (row.websockets, "WebSockets"),
                ];
                let left: Vec<_> = counts
                    .iter()
                    .filter(|(count, _)| *count > 0)
                    .map(|(count, what)| format!("{count} {what}"))
                    .collect();
                (!left.is_empty()).then(|| format!("{name} has {}", left.join(", ")))
            }
        }
    }
}

/// What people are told of a process before this one.
pub(super) fn still_there(process: u32) -> String {
    format!("process {process}, which an upgrade has replaced, still lets its requests end")
}

/// Waits for the servers that an order named, at every address where it was given; or tells what
/// is missing when `limit` is over.
pub(super) fn wait(
    until: Until,
    given: &Told<'_, Done>,
    token: &Token,
    limit: Duration,
) -> Result<(), Vec<String>> {
    let places: Vec<Place> = given.iter().map(|(at, _)| (*at).clone()).collect();
    let named: Vec<BTreeSet<(&str, &str)>> = given
        .iter()
        .map(|(_, done)| {
            let changed = done.iter().flat_map(|done| &done.changed);
            changed.map(|row| (&*row.farm, &*row.server)).collect()
        })
        .collect();
    let ask = Ask { method: "GET", path: "/api/v1/servers", token: Some(token), body: "" };
    let end = Instant::now() + limit;
    loop {
        let told: Told<'_, Servers> = admin::ask_each(&ask, &places, admin::SOON);
        let missing: Vec<String> = told
            .iter()
            .zip(&named)
            .flat_map(|((at, told), named)| match told {
                Err(error) => vec![format!("{at}: {error}")],
                Ok(all) => {
                    let rows = all.servers.iter();
                    let rows = rows.filter(|row| named.contains(&(&*row.farm, &*row.server)));
                    let told = rows.filter_map(|row| until.missing(row));
                    told.chain(until.elsewhere(all)).map(|what| format!("{at}: {what}")).collect()
                }
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(missing);
        }
        std::thread::sleep(EVERY);
    }
}
