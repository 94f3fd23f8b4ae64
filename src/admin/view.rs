//! What the API says and takes, version 1. Keys are only ever added.

use std::{sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::told::Told;
use crate::{
    farm::{Commanded, Farm, Server, State},
    site::Address,
};

/// Version of the shape of every answer.
pub(super) const VERSION: u32 = 1;

/// `GET /api/v1/servers`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Servers {
    /// Version of this shape.
    pub version: u32,
    /// Every server of every farm, in the order of the site.
    pub servers: Vec<ServerRow>,
    /// Processes that upgrades have replaced and that still let their requests end, the oldest first.
    /// Those requests are not in the counts of `servers`.
    #[serde(default)]
    pub replaced: Vec<u32>,
}

/// One server of one farm. Times are RFC 3339, UTC.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServerRow {
    /// Its farm.
    pub farm: Arc<str>,
    /// Its name, unique in the farm.
    pub server: Arc<str>,
    /// IP address or DNS name, without port.
    pub address: String,
    /// Share of new clients.
    pub weight: u32,
    /// What an administrator wants of it.
    pub state: State,
    /// Since when; `null` if nobody ever said anything.
    pub state_since: Option<String>,
    /// Who said so.
    pub who: Option<Arc<str>>,
    /// Why.
    pub why: Option<Arc<str>>,
    /// Whether probes are content and its name is resolved.
    pub healthy: bool,
    /// Since when that is so.
    pub healthy_since: String,
    /// Why it is not healthy.
    pub reason: Option<Arc<str>>,
    /// Whether it serves only when no other server can.
    pub backup: bool,
    /// Most requests at a time; 0: no limit.
    pub max_requests: usize,
    /// What live traffic says: `fine`, `probation` (tried again after it was out), `gently` (no new
    /// clients) or `out`.
    pub standing: String,
    /// Why it is out for that, and for how many seconds still.
    pub out_reason: Option<Arc<str>>,
    /// See `out_reason`.
    pub out_seconds: Option<u64>,
    /// Its share of new clients from 0 to 1, while that grows after it came back.
    pub share: Option<f64>,
    /// Whether it takes new clients, everything considered.
    pub takes_clients: bool,
    /// One word for all of it: `up`, `down` (probes or its name), `out` (live traffic), `probation`
    /// (little or no new traffic until it proves itself), `drain` or `maintenance`.
    pub status: String,
    /// Since when; RFC 3339, UTC. `null` where that is not known.
    pub status_since: Option<String>,
    /// Why, in one line; `null`: nothing to tell.
    pub status_reason: Option<String>,
    /// Requests sent to it since it appeared.
    pub requests: u64,
    /// Those that broke or were answered with 5xx.
    pub failures: u64,
    /// Those under way.
    pub in_flight: usize,
    /// Requests a second, over the last ten seconds or so.
    pub requests_per_second: f64,
    /// Body bytes that clients sent to it.
    pub bytes_received: u64,
    /// Body bytes that it sent to clients.
    pub bytes_sent: u64,
    /// Milliseconds to an answer's header, as a decaying average; `null` before the first answer.
    pub response_time_ms: Option<f64>,
    /// Client connections that own a connection to it (NTLM, Negotiate).
    pub pins: usize,
    /// WebSockets and other tunnels under way.
    pub websockets: usize,
    /// Those since it appeared.
    pub websockets_total: u64,
}

impl Servers {
    /// As it is now.
    pub(super) fn of(farms: &[Arc<Farm>], replaced: Vec<u32>) -> Self {
        Self { version: VERSION, servers: Self::rows(farms), replaced }
    }

    /// The servers alone.
    pub(super) fn rows(farms: &[Arc<Farm>]) -> Vec<ServerRow> {
        let rows = |farm: &Arc<Farm>| -> Vec<ServerRow> {
            farm.servers().iter().map(|server| ServerRow::of(&farm.spec().name, server)).collect()
        };
        farms.iter().flat_map(rows).collect()
    }
}

impl ServerRow {
    fn of(farm: &Arc<str>, server: &Server) -> Self {
        let (spec, order, status) = (server.spec(), server.order(), server.status());
        let counters = server.counters();
        let told = Told::of(&status, order.as_deref(), server.state());
        Self {
            farm: farm.clone(),
            server: server.name().clone(),
            address: match &spec.address {
                Address::Ip(ip) => ip.to_string(),
                Address::Name(name) => name.to_string(),
            },
            weight: spec.weight,
            state: server.state(),
            state_since: order.as_ref().map(|order| time(order.since)),
            who: order.as_ref().map(|order| order.who.clone()),
            why: order.as_ref().and_then(|order| order.why.clone()),
            healthy: status.healthy,
            healthy_since: time(status.since),
            reason: status.reason,
            backup: spec.backup,
            max_requests: spec.max_requests,
            standing: status.standing.word().to_owned(),
            out_reason: status.ejected.as_ref().map(|(reason, _)| reason.clone()),
            out_seconds: status.ejected.as_ref().map(|(_, left)| left.as_secs()),
            share: status.share,
            takes_clients: server.open(),
            status: told.word.to_owned(),
            status_since: told.since.map(time),
            status_reason: told.reason,
            requests: counters.requests,
            failures: counters.failures,
            in_flight: counters.in_flight,
            requests_per_second: (counters.requests_per_second * 100.0).round() / 100.0,
            bytes_received: counters.received,
            bytes_sent: counters.sent,
            response_time_ms: counters.response_time.map(|time| time.as_secs_f64() * 1000.0),
            pins: counters.pins,
            websockets: counters.websockets,
            websockets_total: counters.websockets_total,
        }
    }
}

pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// What `POST /api/v1/drain`, `maintain` and `ready` take.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderBody {
    /// `exch01`: of every farm; `owa/exch01`: of that one. In any letter case.
    pub server: String,
    /// Who says so, for logs and colleagues; the token is what allows it.
    pub who: String,
    /// Why, for logs and colleagues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl OrderBody {
    /// What is wrong with it.
    pub(super) fn fault(&self) -> Option<String> {
        let why = self.why.as_deref().unwrap_or_default();
        fault_of(&[("server", &self.server, 600), ("who", &self.who, 200), ("why", why, 1000)])
    }
}

/// What is wrong with texts of a body: name, text, and how many characters it may have.
pub(super) fn fault_of(texts: &[(&str, &str, usize)]) -> Option<String> {
    for (key, text, longest) in texts {
        // SECURITY: these stand in logs and tables; a line end would begin a line of its own.
        // Test: texts_of_an_order_are_short_and_on_one_line
        if text.chars().any(char::is_control) {
            return Some(format!("`{key}` is not text on one line"));
        }
        if text.chars().count() > *longest {
            return Some(format!("`{key}` has more than {longest} characters"));
        }
        if text.trim().is_empty() && *key != "why" {
            return Some(format!("`{key}` is empty"));
        }
    }
    None
}

/// What they answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    /// Every server that was named.
    pub changed: Vec<ChangedRow>,
    /// Whether a restart will find it; false where `state_dir` cannot be written.
    pub kept: bool,
    /// Farms among theirs that have no healthy server left that takes new clients.
    pub without_servers: Vec<Arc<str>>,
}

/// One server that was named.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangedRow {
    /// Its farm.
    pub farm: Arc<str>,
    /// Its name.
    pub server: Arc<str>,
    /// What it was.
    pub from: State,
    /// What it is now.
    pub to: State,
}

impl From<Commanded> for Done {
    fn from(done: Commanded) -> Self {
        let row = |it: crate::farm::Changed| ChangedRow {
            farm: it.farm,
            server: it.server,
            from: it.from,
            to: it.to,
        };
        Self {
            changed: done.changed.into_iter().map(row).collect(),
            kept: done.kept,
            without_servers: done.without_servers,
        }
    }
}

/// What every answer other than 200 says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ProblemBody {
    /// For people.
    pub error: String,
    /// Names that may be meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_an_order_are_short_and_on_one_line() {
        let fault = |server: &str, who: &str, why: Option<&str>| {
            let why = why.map(str::to_owned);
            OrderBody { server: server.into(), who: who.into(), why }.fault()
        };
        assert_eq!(fault("owa/exch01", "jo@ws1", None), None);
        assert_eq!(fault("owa/exch01", "Jörg", Some("Flicken für März")), None);
        assert_eq!(fault("", "jo", None).unwrap(), "`server` is empty");
        assert_eq!(fault("a", " ", None).unwrap(), "`who` is empty");
        assert_eq!(fault("a", "jo", Some("")), None);
        for control in ["a\nb", "a\rb", "\u{1b}[2J", "\u{85}"] {
            assert!(fault(control, "jo", None).is_some());
            assert!(fault("a", control, None).is_some());
            assert!(fault("a", "jo", Some(control)).is_some());
        }
        assert!(fault(&"x".repeat(601), "jo", None).is_some());
        assert!(fault("a", &"x".repeat(201), None).is_some());
        assert!(fault("a", "jo", Some(&"x".repeat(1001))).is_some());
    }
}
