//! One running server: what is known about it and what it is doing.
//!
//! It outlives reloads: settings are swapped under it, health and counters stay.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use arc_swap::{ArcSwap, Guard};
use pingora::lb::{Backend, Extensions};
use tokio::sync::watch;

use super::{
    health::{Event, Health, Outcome, Thresholds},
    state::{Order, Standing, State},
};
use crate::site;

/// One Front End while Frontgate runs. Cheap to read: health is one atomic.
#[derive(Debug)]
pub struct Server {
    id: u64,
    farm: Arc<str>,
    name: Arc<str>,
    spec: ArcSwap<site::Server>,
    addresses: ArcSwap<Vec<IpAddr>>,
    lookup: watch::Sender<Lookup>,
    available: AtomicBool,
    health: Mutex<Health>,
    standing: Standing,
    in_flight: AtomicUsize,
    requests: AtomicU64,
    failures: AtomicU64,
}

/// How far the looking up of a server's name got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    Pending,
    Failed,
    Found,
}

/// What a server is doing, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Whether it gets traffic.
    pub healthy: bool,
    /// Since when that is so.
    pub since: SystemTime,
    /// Why it gets none: `connect refused`, `status 503`, `name does not resolve`…
    pub reason: Option<Arc<str>>,
}

impl Server {
    pub(crate) fn new(farm: &site::Farm, spec: site::Server) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let addresses = match spec.address {
            site::Address::Ip(ip) => vec![ip],
            site::Address::Name(_) => Vec::new(),
        };
        let resolved = !addresses.is_empty();
        let health = Health::new(!resolved, farm.probes.len(), SystemTime::now());
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            farm: farm.name.clone(),
            name: spec.name.clone(),
            spec: ArcSwap::from_pointee(spec),
            addresses: ArcSwap::from_pointee(addresses),
            lookup: watch::Sender::new(if resolved { Lookup::Found } else { Lookup::Pending }),
            available: AtomicBool::new(health.available()),
            health: Mutex::new(health),
            standing: Standing::new(),
            in_flight: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Its name, unique in the farm.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its present settings. A request that started before a reload sees the new ones too.
    pub fn spec(&self) -> Arc<site::Server> {
        self.spec.load_full()
    }

    /// The last known addresses, to be tried in order. An IP address is its own; a name that
    /// stops resolving keeps the ones it had; empty until a name resolved for the first time.
    pub fn addresses(&self) -> Guard<Arc<Vec<IpAddr>>> {
        self.addresses.load()
    }

    /// Whether it may get traffic: its name resolved and every probe is content.
    pub fn healthy(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }

    /// Health with its reason, for logs and dashboards.
    pub fn status(&self) -> ServerStatus {
        let health = self.health();
        ServerStatus { healthy: health.available(), since: health.since(), reason: health.reason() }
    }

    /// What an administrator wants of it.
    pub fn state(&self) -> State {
        self.standing.state()
    }

    /// The order behind its state; `None` if nobody ever said anything.
    pub fn order(&self) -> Option<Arc<Order>> {
        self.standing.order()
    }

    /// Counts a request that goes to this server, until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        InFlight { server: self.clone() }
    }

    /// Requests running right now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests sent to it since it appeared.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests that [`InFlight::fail`] reported since it appeared.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns when the name was looked up once, successfully or not; at once for an IP address.
    pub async fn looked_up(&self) {
        self.wait_for(|lookup| lookup != Lookup::Pending).await;
    }

    /// Returns when there is an address; at once from then on.
    pub(crate) async fn has_address(&self) {
        self.wait_for(|lookup| lookup == Lookup::Found).await;
    }

    async fn wait_for(&self, enough: impl Fn(Lookup) -> bool) {
        // Fails only without a sender, and that lives in `self`.
        let _ = self.lookup.subscribe().wait_for(|lookup| enough(*lookup)).await;
    }

    /// Unique among all servers of this process, also those that are gone.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// This server as Pingora's load balancing knows it. The crate's identity of a backend is
    /// address and weight, so equal addresses would merge and a changed weight would be another
    /// backend: here the address is a number of our own in the discard-only block (RFC 6666),
    /// where a connection made by mistake leads nowhere, and the weight is always 1. The real
    /// ones are in `ext`.
    pub(crate) fn backend(self: &Arc<Self>) -> Backend {
        const DISCARD_ONLY: u128 = 0x0100 << 112;
        let address = Ipv6Addr::from(DISCARD_ONLY | u128::from(self.id));
        let mut ext = Extensions::new();
        ext.insert(self.clone());
        Backend { addr: SocketAddr::from((address, 0)).into(), weight: 1, ext }
    }

    /// Takes new settings of the same server. State stays.
    pub(crate) fn update(&self, farm: &site::Farm, spec: site::Server) {
        self.spec.store(Arc::new(spec));
        self.change(|health| health.with_probes(farm.probes.len(), SystemTime::now()));
    }

    /// Takes what a probe saw (numbered from 0) into account; logs a change of state.
    pub(crate) fn probed(&self, probe: usize, outcome: Outcome, thresholds: Thresholds) {
        let now = SystemTime::now();
        self.change(|health| health.observe(probe + 1, outcome, thresholds, now));
    }

    /// Takes addresses that were looked up, or the reason why there are none.
    pub(crate) fn resolved(&self, found: Result<Vec<IpAddr>, Arc<str>>) {
        let lookup = if found.is_ok() { Lookup::Found } else { Lookup::Failed };
        let outcome = found.map(|addresses| self.addresses.store(Arc::new(addresses)));
        let now = SystemTime::now();
        self.change(|health| health.observe(0, outcome, Thresholds::AT_ONCE, now));
        self.lookup.send_replace(lookup);
    }

    /// Takes an order, or that there is none any more; logs a change.
    pub(crate) fn obey(&self, order: Option<Arc<Order>>) {
        let told = order.as_ref().map_or_else(|| "ready".to_owned(), |order| order.told());
        if self.standing.obey(order) {
            log::info!(target: LOG, "farm {}: server {} is {told}", self.farm, self.name);
        }
    }

    /// Takes an order of before this server appeared.
    pub(crate) fn recall(&self, order: Arc<Order>) {
        let (told, since) = (order.told(), humantime::format_rfc3339_seconds(order.since));
        if self.standing.obey(Some(order)) {
            let Self { farm, name, .. } = self;
            log::info!(target: LOG, "farm {farm}: server {name} is still {told} (since {since})");
        }
    }

    fn change(&self, step: impl FnOnce(Health) -> (Health, Option<Event>)) {
        let mut health = self.health();
        let (next, event) = step(health.clone());
        self.available.store(next.available(), Ordering::Relaxed);
        *health = next;
        // Still under the lock, so that two changes are logged in their order.
        match &event {
            Some(event @ Event::Down(_)) => log::warn!(target: LOG, "{}", self.line(event)),
            Some(event @ Event::Up(_)) => log::info!(target: LOG, "{}", self.line(event)),
            None => {}
        }
    }

    fn line(&self, event: &Event) -> String {
        let Self { farm, name, .. } = self;
        match event {
            Event::Down(reason) => format!("farm {farm}: server {name} is down: {reason}"),
            Event::Up(after) => {
                let after = std::time::Duration::from_secs(after.as_secs());
                let after = humantime::format_duration(after);
                format!("farm {farm}: server {name} is up again after {after}")
            }
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // A panic while it was held cannot leave it half changed: it is replaced as a whole.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Target of every line about farms and servers.
pub(crate) const LOG: &str = "frontgate::farm";

/// A request on its way to a server; counts until it is dropped.
#[derive(Debug)]
pub struct InFlight {
    server: Arc<Server>,
}

impl InFlight {
    /// The server it went to.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Counts the request as failed.
    pub fn fail(&self) {
        self.server.failures.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.server.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{farm, named, server};
    use super::*;

    #[test]
    fn a_request_in_flight_counts_until_it_is_dropped() {
        let server = server("fe01");
        let first = server.begin();
        let second = server.begin();
        second.fail();
        assert_eq!((server.in_flight(), server.requests(), server.failures()), (2, 2, 1));
        drop(first);
        drop(second);
        assert_eq!((server.in_flight(), server.requests(), server.failures()), (0, 2, 1));
    }

    #[test]
    fn lines_name_farm_server_reason_and_time() {
        let server = server("fe01");
        let down = Event::Down("connect refused".into());
        assert_eq!(server.line(&down), "farm lyncweb: server fe01 is down: connect refused");
        let up = Event::Up(Duration::from_millis(42_700));
        assert_eq!(server.line(&up), "farm lyncweb: server fe01 is up again after 42s");
        let up = Event::Up(Duration::from_secs(3 * 3600 + 5));
        assert_eq!(server.line(&up), "farm lyncweb: server fe01 is up again after 3h 5s");
    }

    #[test]
    fn equal_addresses_are_two_backends_and_a_weight_is_no_identity() {
        let farm = farm("lyncweb", &["one", "two"]);
        let [one, two] = [0, 1].map(|i| Arc::new(Server::new(&farm, farm.servers[i].clone())));
        assert_ne!(one.backend(), two.backend());
        let before = one.backend();
        one.update(&farm, site::Server { weight: 7, ..farm.servers[0].clone() });
        assert_eq!(one.backend(), before);
        assert_eq!(one.spec().weight, 7);
    }

    #[tokio::test]
    async fn a_name_has_no_addresses_and_no_traffic_until_it_resolved() {
        let farm = farm("lyncweb", &["one"]);
        let server = Server::new(&farm, named("fe01.labs.local"));
        assert!(server.addresses().is_empty() && !server.healthy());
        assert_eq!(server.status().reason.as_deref(), Some("name is not resolved yet"));
        server.resolved(Err("name does not resolve".into()));
        server.looked_up().await;
        assert_eq!(server.status().reason.as_deref(), Some("name does not resolve"));
        server.resolved(Ok(vec![IpAddr::from([127, 0, 0, 9])]));
        assert!(server.healthy());
        assert_eq!(**server.addresses(), [IpAddr::from([127, 0, 0, 9])]);
    }
}
