//! Which server takes the next request: one algorithm a file.
//!
//! Each is a `BackendSelection` of Pingora's load balancing, so the crate could run on it. Requests
//! call them directly instead of through `LoadBalancer::select_with`, which allocates a set for
//! each request and weighs only its first pick.

mod hash;
mod least;
mod round_robin;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use pingora::lb::{
    Backend,
    selection::{BackendIter, BackendSelection},
};

pub(crate) use self::{
    hash::{Rendezvous, hash, mix},
    least::{Least, Requests, ResponseTime, Traffic},
    round_robin::SmoothRoundRobin,
};
use super::server::Server;
use crate::site::{Affinity, Balance};

/// Servers that a request has tried already. Empty, it takes no memory.
#[derive(Clone, Debug, Default)]
pub struct Tried(Vec<u64>);

impl Tried {
    /// Notes that `server` is not to be chosen again for this request.
    pub fn add(&mut self, server: &Server) {
        if !self.contains(server) {
            self.0.push(server.id());
        }
    }

    /// Whether `server` was tried.
    pub fn contains(&self, server: &Server) -> bool {
        self.0.contains(&server.id())
    }

    /// How many servers were tried.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is the request's first attempt.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A server, and how Pingora's load balancing knows it.
pub(crate) type Entry = (Backend, Arc<Server>);

/// A way to choose among servers that are given once.
pub(crate) trait Algorithm: Send + Sync + Sized + 'static {
    /// For these servers, with their present weights.
    fn over(entries: Box<[Entry]>) -> Self;

    /// The servers.
    fn entries(&self) -> &[Entry];

    /// Whether what was made of the weights still holds.
    fn fits_weights(&self) -> bool;

    /// The next server that is usable; `key` is what the request is hashed by, or random.
    fn pick(&self, key: u64, usable: impl Fn(&Server) -> bool) -> Option<&Entry>;
}

/// An [`Algorithm`] as Pingora's load balancing knows it.
pub(crate) struct Balanced<A>(pub(crate) A);

impl<A: Algorithm> BackendSelection for Balanced<A> {
    type Iter = Turns<A>;
    type Config = ();

    /// Backends without a [`Server`] in `ext` are left out: they are none of ours.
    fn build(backends: &BTreeSet<Backend>) -> Self {
        let entries = backends.iter();
        let entries =
            entries.filter_map(|b| Some((b.clone(), b.ext.get::<Arc<Server>>()?.clone())));
        Self(A::over(entries.collect()))
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Turns<A> {
        Turns { balanced: self.clone(), key: hash(key), tried: Tried::default() }
    }
}

/// Servers in the order in which a request would try them, each once.
pub(crate) struct Turns<A> {
    balanced: Arc<Balanced<A>>,
    key: u64,
    tried: Tried,
}

impl<A: Algorithm> BackendIter for Turns<A> {
    fn next(&mut self) -> Option<&Backend> {
        let tried = &self.tried;
        let usable = |server: &Server| server.healthy() && !tried.contains(server);
        let (backend, server) = self.balanced.0.pick(self.key, usable)?;
        self.tried.add(server);
        Some(backend)
    }
}

/// The algorithm of one farm.
pub(crate) enum Selector {
    RoundRobin(Balanced<SmoothRoundRobin>),
    LeastRequests(Balanced<Least<Requests>>),
    LeastResponseTime(Balanced<Least<ResponseTime>>),
    WeightedTraffic(Balanced<Least<Traffic>>),
    Hash(Balanced<Rendezvous>),
}

impl Selector {
    /// The one that a farm asks for. Clients that keep their server by their address are spread
    /// by it, so that every Frontgate sends a source to the same server.
    pub(crate) fn new(
        balance: &Balance,
        affinity: &Affinity,
        backends: &BTreeSet<Backend>,
    ) -> Self {
        use BackendSelection as S;
        match (balance, affinity) {
            (_, Affinity::Source) | (Balance::Hash(_), _) => Self::Hash(S::build(backends)),
            (Balance::RoundRobin, _) => Self::RoundRobin(S::build(backends)),
            (Balance::LeastRequests, _) => Self::LeastRequests(S::build(backends)),
            (Balance::LeastResponseTime, _) => Self::LeastResponseTime(S::build(backends)),
            (Balance::WeightedTraffic, _) => Self::WeightedTraffic(S::build(backends)),
        }
    }

    /// Whether this is the same algorithm as `other` for the same servers with their present
    /// weights.
    pub(crate) fn serves_as(&self, other: &Self) -> bool {
        let same = self.entries().iter().map(|e| &e.0).eq(other.entries().iter().map(|e| &e.0));
        std::mem::discriminant(self) == std::mem::discriminant(other) && same && self.fits()
    }

    /// The next server that is usable.
    pub(crate) fn pick(&self, key: u64, usable: impl Fn(&Server) -> bool) -> Option<&Arc<Server>> {
        let entry = match self {
            Self::RoundRobin(a) => a.0.pick(key, usable),
            Self::LeastRequests(a) => a.0.pick(key, usable),
            Self::LeastResponseTime(a) => a.0.pick(key, usable),
            Self::WeightedTraffic(a) => a.0.pick(key, usable),
            Self::Hash(a) => a.0.pick(key, usable),
        };
        entry.map(|(_, server)| server)
    }

    fn entries(&self) -> &[Entry] {
        match self {
            Self::RoundRobin(a) => a.0.entries(),
            Self::LeastRequests(a) => a.0.entries(),
            Self::LeastResponseTime(a) => a.0.entries(),
            Self::WeightedTraffic(a) => a.0.entries(),
            Self::Hash(a) => a.0.entries(),
        }
    }

    fn fits(&self) -> bool {
        match self {
            Self::RoundRobin(a) => a.0.fits_weights(),
            Self::LeastRequests(a) => a.0.fits_weights(),
            Self::LeastResponseTime(a) => a.0.fits_weights(),
            Self::WeightedTraffic(a) => a.0.fits_weights(),
            Self::Hash(a) => a.0.fits_weights(),
        }
    }
}

/// Random numbers for ties and shares; not for secrets.
#[derive(Debug, Default)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    /// The next number.
    pub(crate) fn roll(&self) -> u64 {
        mix(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{super::testing::server, *};

    #[tokio::test]
    async fn pingoras_load_balancer_runs_on_every_algorithm() {
        use pingora::lb::{Backends, LoadBalancer, discovery::Static};

        async fn picks<A: Algorithm>(servers: &[Arc<Server>]) -> HashMap<String, usize> {
            let backends = servers.iter().map(|s| s.backend()).collect();
            let backends = Backends::new(Static::new(backends));
            let balancer = LoadBalancer::<Balanced<A>>::from_backends(backends);
            balancer.update().await.unwrap();
            let mut tally = HashMap::new();
            for number in 0..300u32 {
                let backend = balancer.select(&number.to_le_bytes(), 10).unwrap();
                let name = backend.ext.get::<Arc<Server>>().unwrap().name().to_string();
                *tally.entry(name).or_default() += 1;
            }
            tally
        }
        let servers = [server("a"), server("b"), server("c")];
        servers[1].look(1, Err("connect refused".into()));
        for tally in [
            picks::<SmoothRoundRobin>(&servers).await,
            picks::<Least<Requests>>(&servers).await,
            picks::<Least<ResponseTime>>(&servers).await,
            picks::<Least<Traffic>>(&servers).await,
            picks::<Rendezvous>(&servers).await,
        ] {
            assert_eq!(tally.len(), 2, "{tally:?}");
            assert!(!tally.contains_key("b") && tally.values().all(|n| *n > 100), "{tally:?}");
        }
    }
}
