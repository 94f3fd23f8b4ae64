//! One running server: what is known about it and what it is doing.
//!
//! It outlives reloads: settings are swapped under it, health and counters stay.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::{ArcSwap, Guard};
use pingora::lb::{Backend, Extensions};

use super::{
    addresses::Addresses,
    health::{Event, Health, Outcome, Thresholds},
    in_flight::InFlight,
    load::{Counters, Load},
    passive::{Judgement, Standing},
    queue::Queue,
    state::{Order, Ordered, State},
    warmth::Warmth,
};
use crate::{
    events::{Events, News, code},
    lock::lock,
    site,
};

/// One Front End while Frontgate runs. Cheap to read: health is one atomic.
#[derive(Debug)]
pub struct Server {
    id: u64,
    pub(super) farm: Arc<str>,
    name: Arc<str>,
    spec: ArcSwap<site::Server>,
    addresses: Addresses,
    available: AtomicBool,
    health: Mutex<Health>,
    /// What of `spec` every choice looks at.
    weight: AtomicU32,
    backup: AtomicBool,
    max_requests: AtomicUsize,
    /// What an administrator wants of it.
    pub(super) ordered: Ordered,
    /// What live traffic says about it.
    pub(super) judgement: Judgement,
    /// Its share after it came back.
    pub(super) warmth: Warmth,
    load: Load,
    /// Requests that wait for a place in its farm.
    pub(super) queue: Arc<Queue>,
    /// Where its changes are told.
    events: Events,
}

/// What a server is doing, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerStatus {
    /// Whether it gets traffic.
    pub healthy: bool,
    /// Since when that is so.
    pub since: SystemTime,
    /// Why it gets none: `connect refused`, `status 503`, `name does not resolve`…
    pub reason: Option<Arc<str>>,
    /// What live traffic says about it.
    pub standing: Standing,
    /// Why it is out for what live traffic says, and for how long still.
    pub ejected: Option<(Arc<str>, Duration)>,
    /// Its share of new clients, if that still grows after it came back.
    pub share: Option<f64>,
}

impl Server {
    pub(crate) fn new(
        farm: &site::Farm,
        spec: site::Server,
        queue: Arc<Queue>,
        events: Events,
    ) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let addresses = Addresses::new(&spec.address);
        let resolved = !addresses.known().is_empty();
        let health = Health::new(!resolved, farm.probes.len(), SystemTime::now());
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            farm: farm.name.clone(),
            name: spec.name.clone(),
            weight: AtomicU32::new(spec.weight),
            backup: AtomicBool::new(spec.backup),
            max_requests: AtomicUsize::new(spec.max_requests),
            spec: ArcSwap::from_pointee(spec),
            addresses,
            available: AtomicBool::new(health.available()),
            health: Mutex::new(health),
            ordered: Ordered::new(),
            judgement: Judgement::default(),
            warmth: Warmth::default(),
            load: Load::default(),
            queue,
            events,
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
        self.addresses.known()
    }

    /// Whether it may get traffic: its name resolved and every probe is content.
    pub fn healthy(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }

    /// Health with its reason, for logs and dashboards.
    pub fn status(&self) -> ServerStatus {
        let health = self.health();
        ServerStatus {
            healthy: health.available(),
            since: health.since(),
            reason: health.reason(),
            standing: self.standing(),
            ejected: self.judgement.ejected(Instant::now()),
            share: self.warmth.share(Instant::now()),
        }
    }

    /// Share of new clients, in proportion to the weights of the others; 0 takes none.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Whether it serves only when no other server can.
    pub fn backup(&self) -> bool {
        self.backup.load(Ordering::Relaxed)
    }

    /// What live traffic says about it.
    pub fn standing(&self) -> Standing {
        self.judgement.standing()
    }

    /// What an administrator wants of it.
    pub fn state(&self) -> State {
        self.ordered.state()
    }

    /// The order behind its state; `None` if nobody ever said anything.
    pub fn order(&self) -> Option<Arc<Order>> {
        self.ordered.order()
    }

    /// Whether probes and administrators let it take new clients, whatever live traffic says.
    pub fn enabled(&self) -> bool {
        self.healthy() && self.weight() > 0 && self.state() == State::Ready
    }

    /// Whether it takes new clients, full or not.
    pub fn open(&self) -> bool {
        self.enabled() && self.standing().takes()
    }

    /// Whether clients that affinity brings stay: also at a drained server, or one with weight 0.
    pub fn keeps(&self) -> bool {
        self.healthy() && self.state() != State::Maintenance && self.standing().keeps()
    }

    /// Whether clients that wait for a place at it go on waiting: those of a pin unless it is in
    /// maintenance.
    pub(super) fn keeps_waiting(&self, pinned: bool) -> bool {
        if pinned { self.state() != State::Maintenance } else { self.keeps() }
    }

    /// Whether it has as many requests as it may have.
    pub fn full(&self) -> bool {
        let most = self.max_requests.load(Ordering::Relaxed);
        most > 0 && self.in_flight() >= most
    }

    /// Takes a place for a request at this server, until the guard is dropped. `None`: it has as
    /// many as it may have.
    pub fn begin(self: &Arc<Self>) -> Option<InFlight> {
        let most = self.max_requests.load(Ordering::Relaxed);
        let running = &self.load.in_flight;
        if most == 0 {
            running.fetch_add(1, Ordering::Relaxed);
        } else {
            let one_more = |n| (n < most).then_some(n + 1);
            running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        }
        self.load.begun();
        Some(InFlight::new(self.clone()))
    }

    /// Requests running right now.
    pub fn in_flight(&self) -> usize {
        self.load.in_flight.load(Ordering::Relaxed)
    }

    /// What it is doing.
    pub fn counters(&self) -> Counters {
        self.load.counters()
    }

    /// Counts body bytes that a client sent.
    pub fn count_received(&self, bytes: u64) {
        self.load.add_received(bytes);
    }

    /// Counts body bytes that it sent.
    pub fn count_sent(&self, bytes: u64) {
        self.load.add_sent(bytes);
    }

    /// Counts an answer whose header came after this time.
    pub fn count_answer(&self, after: Duration) {
        self.load.answered(after, Instant::now());
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// A request's place is free again.
    pub(super) fn ended(&self) {
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.queue.freed();
    }

    /// Returns when the name was looked up once, successfully or not; at once for an IP address.
    pub async fn looked_up(&self) {
        self.addresses.wait_for_lookup().await;
    }

    /// Whether every probe has looked at it once. A server without an address is not looked at,
    /// and gets no traffic either.
    pub fn looked_at(&self) -> bool {
        let health = self.health();
        !health.available() || health.looked_at()
    }

    /// Whether its name is being looked up for the first time.
    pub(super) fn is_looked_up_first(&self) -> bool {
        self.addresses.is_pending()
    }

    /// Returns when there is an address; at once from then on.
    pub(crate) async fn has_address(&self) {
        self.addresses.wait_for_one().await;
    }

    /// Unique among all servers of this process, also those that are gone.
    pub fn id(&self) -> u64 {
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
        self.load.reweigh(self.weight.swap(spec.weight, Ordering::Relaxed), spec.weight);
        self.backup.store(spec.backup, Ordering::Relaxed);
        self.max_requests.store(spec.max_requests, Ordering::Relaxed);
        self.warmth.follow(farm.slow_start);
        self.spec.store(Arc::new(spec));
        self.change(|health| health.with_probes(farm.probes.len(), SystemTime::now()));
    }

    /// Takes what a probe saw (numbered from 0) into account; tells a change of state.
    pub(crate) fn probed(&self, probe: usize, outcome: Outcome, thresholds: Thresholds) {
        self.load.probed(outcome.is_ok());
        let now = SystemTime::now();
        self.change(|health| health.observe(probe + 1, outcome, thresholds, now));
    }

    /// Takes addresses that were looked up, or the reason why there are none.
    pub(crate) fn resolved(&self, found: Result<Vec<IpAddr>, Arc<str>>) {
        let any = found.is_ok();
        let outcome = found.map(|addresses| self.addresses.found(addresses));
        let now = SystemTime::now();
        self.change(|health| health.observe(0, outcome, Thresholds::AT_ONCE, now));
        self.addresses.looked_up(any);
    }

    fn change(&self, step: impl FnOnce(Health) -> (Health, Option<Event>)) {
        let mut health = self.health();
        let (next, event) = step(health.clone());
        self.available.store(next.available(), Ordering::Relaxed);
        *health = next;
        // Still under the lock, so that two changes are told in their order.
        match event {
            Some(Event::Down(reason)) => {
                let news = self.news(code::SERVER_DOWN, &format!("is down: {reason}"));
                self.events.tell(news.with("reason", &*reason));
            }
            Some(Event::Up(after)) => {
                self.warm_up();
                let seconds = after.as_secs();
                let after = humantime::format_duration(Duration::from_secs(seconds));
                let news = self.news(code::SERVER_UP, &format!("is up again after {after}"));
                self.events.tell(news.with("seconds", seconds));
            }
            None => {}
        }
    }

    /// Something happened to it; `what` goes on after its name.
    pub(super) fn news(&self, code: &'static code::Code, what: &str) -> News {
        let Self { farm, name, .. } = self;
        News::new(code, format!("farm {farm}: server {name} {what}")).server(farm, name)
    }

    /// Where its changes are told.
    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // A panic while it was held cannot leave it half changed: it is replaced as a whole.
        lock(&self.health)
    }
}

/// Target of every line about farms and servers.
pub(crate) const LOG: &str = "frontgate::farm";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{farm, greeted, named, server};
    use super::*;

    #[test]
    fn lines_name_farm_server_reason_and_time() {
        let server = server("fe01");
        let told = |event| {
            server.change(|health| (health, Some(event)));
            let told = server.events.latest(1).remove(0);
            assert_eq!(told.farm.as_deref(), Some("lyncweb"));
            assert_eq!(told.server.as_deref(), Some("fe01"));
            (told.code.to_string(), told.text.clone(), told.details.clone())
        };
        let (code, text, details) = told(Event::Down("connect refused".into()));
        assert_eq!((&*code, &details["reason"]), ("server_down", &"connect refused".into()));
        assert_eq!(text, "farm lyncweb: server fe01 is down: connect refused");
        let (code, text, details) = told(Event::Up(Duration::from_millis(42_700)));
        assert_eq!((&*code, &details["seconds"]), ("server_up", &42.into()));
        assert_eq!(text, "farm lyncweb: server fe01 is up again after 42s");
        let (_, text, _) = told(Event::Up(Duration::from_secs(3 * 3600 + 5)));
        assert_eq!(text, "farm lyncweb: server fe01 is up again after 3h 5s");
    }

    #[test]
    fn equal_addresses_are_two_backends_and_a_weight_is_no_identity() {
        let farm = farm("lyncweb", &["one", "two"]);
        let [one, two] = [0, 1].map(|i| Arc::new(greeted(&farm, farm.servers[i].clone())));
        assert_ne!(one.backend(), two.backend());
        let before = one.backend();
        one.update(&farm, site::Server { weight: 7, ..farm.servers[0].clone() });
        assert_eq!(one.backend(), before);
        assert_eq!(one.spec().weight, 7);
    }

    #[tokio::test]
    async fn a_name_has_no_addresses_and_no_traffic_until_it_resolved() {
        let farm = farm("lyncweb", &["one"]);
        let server = greeted(&farm, named("fe01.labs.local"));
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
