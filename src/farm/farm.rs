//! One farm as a request sees it.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use http::{HeaderMap, HeaderValue};

use super::{
    affinity::Sources,
    balance::{Dice, Selector},
    cookie::Cookies,
    emptiness::Emptiness,
    passive::{Failure, Standing, room},
    queue::Queue,
    server::Server,
};
use crate::site::{self, Affinity};

use crate::lock::lock;

/// One farm: its settings and its servers under one configuration.
pub struct Farm {
    pub(super) spec: Arc<site::Farm>,
    pub(super) servers: Box<[Arc<Server>]>,
    pub(super) selector: Arc<Selector>,
    pub(super) cookies: Option<Cookies>,
    pub(super) kept: Arc<Kept>,
}

/// What a farm keeps from site to site, besides its servers.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) queue: Arc<Queue>,
    pub(super) sources: Sources,
    pub(super) dice: Dice,
    pub(super) emptiness: Emptiness,
    /// One server at a time is put out, so that no two of them are the last that may go.
    ejecting: Mutex<()>,
}

/// The server that a client keeps.
#[derive(Clone, Debug)]
pub struct Home {
    /// The server.
    pub server: Arc<Server>,
    /// Whether the client already has the cookie that says so.
    pub told: bool,
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

    pub(super) fn selector(&self) -> &Selector {
        &self.selector
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.kept.queue
    }

    /// A number to spread requests by that have nothing to be hashed by.
    pub fn random_key(&self) -> u64 {
        self.kept.dice.roll()
    }

    /// The server that affinity says this client keeps, if that may go on: not one that is down
    /// or out. A drained server, or one with weight 0, keeps its clients.
    pub fn affinity(&self, source: IpAddr, headers: &HeaderMap) -> Option<Home> {
        self.home(headers, || self.kept.sources.server(source, Instant::now()))
    }

    /// The same for somebody who only asks.
    pub fn foreseen_affinity(&self, source: IpAddr, headers: &HeaderMap) -> Option<Home> {
        self.home(headers, || self.kept.sources.peek(source, Instant::now()))
    }

    fn home(&self, headers: &HeaderMap, source: impl FnOnce() -> Option<u64>) -> Option<Home> {
        let kept = |id: u64, told: bool| {
            let server = self.servers.iter().find(|s| s.id() == id && s.keeps())?;
            Some(Home { server: server.clone(), told })
        };
        match (&self.spec.affinity, &self.cookies) {
            (Affinity::Source, _) => kept(source()?, true),
            (Affinity::Cookie(_), Some(cookies)) => {
                // What we issued goes before what ARR did, whichever comes first.
                let homes = || cookies.read(headers).filter_map(|n| kept(n.server, n.current));
                homes().find(|home| home.told).or_else(|| homes().next())
            }
            _ => None,
        }
    }

    /// The client keeps this server from now on; returns the cookie that it needs for that.
    pub fn keep(&self, source: IpAddr, server: &Server, https: bool) -> Option<&HeaderValue> {
        match self.spec.affinity {
            Affinity::None => None,
            Affinity::Source => {
                self.kept.sources.remember(source, server.id(), Instant::now());
                None
            }
            Affinity::Cookie(_) => self.cookies.as_ref()?.issue(server, https),
        }
    }

    /// An exchange with a server failed; whether the farm counts that, its settings say.
    pub fn failed(&self, server: &Server, failure: Failure) {
        let policy = &self.spec.passive;
        if !failure.counts(policy) {
            return;
        }
        let _one = lock(&self.kept.ejecting);
        let ejected = self.servers.iter().filter(|s| !s.standing().takes()).count();
        let left = |s: &&Arc<Server>| s.id() != server.id() && s.open();
        let left = self.servers.iter().filter(left).count();
        server.failed(failure, policy, room(policy, self.servers.len(), ejected, left));
    }

    /// A server answered with this status.
    pub fn answered(&self, server: &Server, status: u16) {
        let failure = Failure::Status(status);
        if failure.counts(&self.spec.passive) {
            self.failed(server, failure);
        } else if server.standing() == Standing::Probation {
            server.succeeded();
        }
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
