//! All farms that run, and how they follow the configuration.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use pingora::connectors::TransportConnector;
use tokio::task::JoinHandle;

use super::{
    Farm, Kept,
    balance::Selector,
    cookie::{Cookies, Keys},
    orders::Orders,
    probe::{Plan, Probe, keep_probing},
    resolve::keep_resolved,
    server::Server,
};
use crate::{
    events::Events,
    lock::lock,
    site::{self, Site},
};

/// How often everything is brought up to date that goes by time alone.
const PULSE: Duration = Duration::from_millis(500);

/// All farms that run. Lives as long as the process and survives reloads; when it is dropped,
/// every probe stops.
pub struct Farms {
    running: Arc<Mutex<HashMap<Arc<str>, Running>>>,
    keys: Mutex<Keys>,
    pulse: OnceLock<Task>,
    connector: Arc<TransportConnector>,
    tasks: Arc<AtomicUsize>,
    pub(super) orders: Orders,
    events: Events,
    list: ArcSwap<Vec<Arc<Farm>>>,
}

impl Default for Farms {
    fn default() -> Self {
        Self::new()
    }
}

impl Farms {
    /// No farm yet, and orders that last as long as the process. Reads the system's certificate
    /// authorities.
    pub fn new() -> Self {
        Self::with_orders(Orders::default())
    }

    /// No farm yet, but orders about some.
    pub fn with_orders(orders: Orders) -> Self {
        Self {
            running: Arc::default(),
            keys: Mutex::default(),
            pulse: OnceLock::new(),
            connector: Arc::new(TransportConnector::new(None)),
            tasks: Arc::default(),
            orders,
            events: Events::default(),
            list: ArcSwap::default(),
        }
    }

    /// What changes is told here.
    #[must_use]
    pub fn telling(self, events: Events) -> Self {
        Self { events, ..self }
    }

    /// The farms that run, in the order of the latest site.
    pub fn list(&self) -> Arc<Vec<Arc<Farm>>> {
        self.list.load_full()
    }

    /// While it is held, no farm or server comes or goes.
    pub(super) fn still(&self) -> impl Sized + '_ {
        lock(&self.running)
    }

    /// Brings the running farms in line with `site`: farms and servers appear, change and vanish.
    /// A server of the same farm, name and address keeps its state, whatever else changes.
    /// Starts and stops probes and lookups on the current Tokio runtime. Returns the farms in the
    /// order of `site.farms`, to be kept beside the site in one snapshot.
    ///
    /// # Panics
    /// Outside a Tokio runtime, if something has to be started.
    pub fn apply(&self, site: &Site) -> Vec<Arc<Farm>> {
        self.pulse.get_or_init(|| Task(tokio::spawn(keep_pulse(self.running.clone()))));
        let mut keys = lock(&self.keys);
        keys.follow(site.affinity_key);
        let mut running = lock(&self.running);
        let mut before = std::mem::take(&mut *running);
        let farms: Vec<_> = site
            .farms
            .iter()
            .map(|spec| {
                let now = self.follow(before.remove(&spec.name), spec, &keys);
                let farm = now.farm.clone();
                running.insert(spec.name.clone(), now);
                farm
            })
            .collect();
        self.list.store(Arc::new(farms.clone()));
        self.orders.follow(&names(&farms));
        farms
        // What is left in `before` is gone from the site: its tasks stop here.
    }

    /// How many probes and lookups run.
    #[cfg(test)]
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }

    fn follow(&self, before: Option<Running>, spec: &Arc<site::Farm>, keys: &Keys) -> Running {
        let (mut before, was) = match before {
            Some(running) => (running.servers, Some(running.farm)),
            None => (HashMap::new(), None),
        };
        let kept = was.as_ref().map_or_else(Arc::default, |farm| farm.kept.clone());
        let tended: Vec<_> = spec
            .servers
            .iter()
            .map(|server| {
                let known = before.remove(&server.name);
                let joins = known.is_none() && was.is_some();
                let tended = self.tend(known, spec, server, &kept);
                if joins {
                    tended.server.warm_up();
                }
                tended
            })
            .collect();
        let servers: Box<[_]> = tended.iter().map(|tended| tended.server.clone()).collect();
        let backends: BTreeSet<_> = servers.iter().map(|server| server.backend()).collect();
        let selector = Selector::new(&spec.balance, &spec.affinity, &backends);
        // An unchanged selector goes on where it is, so that reloads do not favour the first.
        let old = was.map(|farm| farm.selector.clone()).filter(|old| old.serves_as(&selector));
        let farm = Arc::new(Farm {
            spec: spec.clone(),
            cookies: Cookies::new(&spec.affinity, keys, &servers),
            servers,
            selector: old.unwrap_or_else(|| Arc::new(selector)),
            kept,
        });
        farm.kept.queue.follow(Arc::downgrade(&farm));
        let servers = tended.into_iter().map(|t| (t.server.name().clone(), t)).collect();
        Running { servers, farm }
    }

    fn tend(
        &self,
        before: Option<Tended>,
        farm: &Arc<site::Farm>,
        spec: &site::Server,
        kept: &Kept,
    ) -> Tended {
        let mut tended = match before {
            Some(tended) if tended.server.spec().address == spec.address => tended,
            // Another address is another machine: what is known about the old one is worthless.
            _ => self.greet(farm, spec, kept),
        };
        let Tended { server, probes, .. } = &mut tended;
        probes.truncate(farm.probes.len());
        server.update(farm, spec.clone());
        for (number, probe) in farm.probes.iter().enumerate() {
            let plan = Plan { farm: farm.clone(), server: server.spec(), probe: probe.clone() };
            let start = |plan: Plan| {
                let probe = Probe::new(plan, self.connector.clone());
                self.spawn(keep_probing(server.clone(), number, probe))
            };
            match probes.get_mut(number) {
                Some((now, _)) if plan.does_the_same(now) => {}
                Some(other) => *other = (plan.clone(), start(plan)),
                None => probes.push((plan.clone(), start(plan))),
            }
        }
        tended
    }

    fn greet(&self, farm: &site::Farm, spec: &site::Server, kept: &Kept) -> Tended {
        let server = Server::new(farm, spec.clone(), kept.queue.clone(), self.events.clone());
        let server = Arc::new(server);
        if let Some(order) = self.orders.get(&(farm.name.clone(), spec.name.clone())) {
            server.recall(order);
        }
        let resolver = match &spec.address {
            site::Address::Ip(_) => None,
            site::Address::Name(name) => {
                Some(self.spawn(keep_resolved(server.clone(), name.clone())))
            }
        };
        Tended { server, probes: Vec::new(), _resolver: resolver }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Task {
        let count = Count::new(&self.tasks);
        Task(tokio::spawn(async move {
            let _count = count;
            work.await;
        }))
    }
}

/// What orders about the servers of these farms are filed under.
fn names(farms: &[Arc<Farm>]) -> BTreeSet<(Arc<str>, Arc<str>)> {
    let key = |farm: &Farm, server: &Server| (farm.spec.name.clone(), server.name().clone());
    farms.iter().flat_map(|farm| farm.servers.iter().map(move |server| key(farm, server))).collect()
}

/// What keeps one farm running from site to site.
struct Running {
    servers: HashMap<Arc<str>, Tended>,
    farm: Arc<Farm>,
}

/// Brings everything up to date that goes by time alone; never returns.
async fn keep_pulse(running: Arc<Mutex<HashMap<Arc<str>, Running>>>) {
    let mut ticks = tokio::time::interval(PULSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let farms: Vec<_> = lock(&running).values().map(|running| running.farm.clone()).collect();
        let now = Instant::now();
        for farm in farms {
            farm.servers.iter().for_each(|server| server.pulse(PULSE, now));
            // Places also come free when a server comes back or may take more than before.
            farm.kept.queue.pump();
            farm.watch(now);
        }
    }
}

/// A server and the tasks that look after it. A request may hold the server for long; the tasks
/// end as soon as the site no longer has it.
struct Tended {
    server: Arc<Server>,
    probes: Vec<(Plan, Task)>,
    _resolver: Option<Task>,
}

/// Stops when dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts a task while it exists.
struct Count(Arc<AtomicUsize>);

impl Count {
    fn new(tasks: &Arc<AtomicUsize>) -> Self {
        tasks.fetch_add(1, Ordering::Relaxed);
        Self(tasks.clone())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
