//! All farms that run, and how they follow the configuration.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use pingora::{connectors::TransportConnector, lb::selection::BackendSelection};
use tokio::task::JoinHandle;

use super::{
    balance::{SmoothRoundRobin, Tried},
    orders::Orders,
    probe::{Plan, Probe, keep_probing},
    resolve::keep_resolved,
    server::Server,
};
use crate::site::{self, Site};

/// All farms that run. Lives as long as the process and survives reloads; when it is dropped,
/// every probe stops.
pub struct Farms {
    running: Mutex<HashMap<Arc<str>, Running>>,
    connector: Arc<TransportConnector>,
    tasks: Arc<AtomicUsize>,
    pub(super) orders: Orders,
    list: ArcSwap<Vec<Arc<Farm>>>,
}

/// One farm as a request sees it: its settings and its servers under one configuration.
pub struct Farm {
    spec: Arc<site::Farm>,
    servers: Box<[Arc<Server>]>,
    selector: Arc<SmoothRoundRobin>,
}

impl Farm {
    /// Its settings.
    pub fn spec(&self) -> &Arc<site::Farm> {
        &self.spec
    }

    /// Its servers, in the order of the configuration.
    pub fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }

    /// The next server for a request: weighted round robin over the healthy ones that are ready,
    /// without those in `tried`. `None`: no server is available.
    pub fn choose(&self, tried: &Tried) -> Option<Arc<Server>> {
        self.selector.choose(tried).cloned()
    }

    /// Returns when every server's name was looked up once, successfully or not. To be awaited
    /// (under a deadline) before a new site goes into service: a server without address gets no
    /// traffic.
    pub async fn looked_up(&self) {
        for server in &self.servers {
            server.looked_up().await;
        }
    }
}

impl fmt::Debug for Farm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Farm").field("name", &self.spec.name).finish_non_exhaustive()
    }
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
            running: Mutex::default(),
            connector: Arc::new(TransportConnector::new(None)),
            tasks: Arc::default(),
            orders,
            list: ArcSwap::default(),
        }
    }

    /// The farms that run, in the order of the latest site.
    pub fn list(&self) -> Arc<Vec<Arc<Farm>>> {
        self.list.load_full()
    }

    /// While it is held, no farm or server comes or goes.
    pub(super) fn still(&self) -> impl Sized + '_ {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the running farms in line with `site`: farms and servers appear, change and vanish.
    /// A server of the same farm, name and address keeps its state, whatever else changes.
    /// Starts and stops probes and lookups on the current Tokio runtime. Returns the farms in the
    /// order of `site.farms`, to be kept beside the site in one snapshot.
    ///
    /// # Panics
    /// Outside a Tokio runtime, if something has to be started.
    pub fn apply(&self, site: &Site) -> Vec<Arc<Farm>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *running);
        let farms: Vec<_> = site
            .farms
            .iter()
            .map(|spec| {
                let (now, farm) = self.follow(before.remove(&spec.name).unwrap_or_default(), spec);
                running.insert(spec.name.clone(), now);
                Arc::new(farm)
            })
            .collect();
        self.list.store(Arc::new(farms.clone()));
        self.orders.follow(&keys(&farms));
        farms
        // What is left in `before` is gone from the site: its tasks stop here.
    }

    /// How many probes and lookups run.
    #[cfg(test)]
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }

    fn follow(&self, mut before: Running, spec: &Arc<site::Farm>) -> (Running, Farm) {
        let tended: Vec<_> = spec
            .servers
            .iter()
            .map(|server| self.tend(before.servers.remove(&server.name), spec, server))
            .collect();
        let servers: Box<[_]> = tended.iter().map(|tended| tended.server.clone()).collect();
        let backends: BTreeSet<_> = servers.iter().map(|server| server.backend()).collect();
        // An unchanged selector goes on where it is, so that reloads do not favour the first.
        let selector = before
            .selector
            .filter(|selector| selector.fits(&backends))
            .unwrap_or_else(|| Arc::new(SmoothRoundRobin::build(&backends)));
        let now = Running {
            servers: tended.into_iter().map(|t| (t.server.name().clone(), t)).collect(),
            selector: Some(selector.clone()),
        };
        (now, Farm { spec: spec.clone(), servers, selector })
    }

    fn tend(&self, before: Option<Tended>, farm: &Arc<site::Farm>, spec: &site::Server) -> Tended {
        let mut tended = match before {
            Some(tended) if tended.server.spec().address == spec.address => tended,
            // Another address is another machine: what is known about the old one is worthless.
            _ => self.greet(farm, spec),
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

    fn greet(&self, farm: &site::Farm, spec: &site::Server) -> Tended {
        let server = Arc::new(Server::new(farm, spec.clone()));
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
fn keys(farms: &[Arc<Farm>]) -> BTreeSet<(Arc<str>, Arc<str>)> {
    let key = |farm: &Farm, server: &Server| (farm.spec.name.clone(), server.name().clone());
    farms.iter().flat_map(|farm| farm.servers.iter().map(move |server| key(farm, server))).collect()
}

/// What keeps one farm running from site to site.
#[derive(Default)]
struct Running {
    servers: HashMap<Arc<str>, Tended>,
    selector: Option<Arc<SmoothRoundRobin>>,
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
