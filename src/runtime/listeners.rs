//! The listeners of a running Frontgate: bound, accepting, replaced by a reload.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard},
};

use anyhow::Context;
use log::info;
use pingora::proxy::HttpProxy;

use super::build::SiteView;
use crate::{
    forward::Forward,
    listen::{self, Bound, Connections, Owed, Running, Sockets},
    lock::lock,
    site::{Listener, Site},
};

/// The listeners that accept, by their configured address.
pub(super) struct Listeners {
    proxy: Arc<HttpProxy<Forward>>,
    view: Arc<SiteView>,
    connections: Arc<Connections>,
    running: Mutex<HashMap<SocketAddr, Running>>,
}

impl Listeners {
    /// None yet. Those that come hand their requests to `proxy`.
    pub(super) fn new(
        proxy: Arc<HttpProxy<Forward>>,
        view: Arc<SiteView>,
        connections: Arc<Connections>,
    ) -> Self {
        Self { proxy, view, connections, running: Mutex::default() }
    }

    /// Starts to accept.
    pub(super) fn accept(&self, bound: Bound) {
        let (proxy, view, connections) =
            (self.proxy.clone(), self.view.clone(), self.connections.clone());
        let running = listen::start(bound, proxy, view, connections);
        let Listener { name, address, tls, .. } = &*running.listener;
        let kind = if tls.is_some() { "https" } else { "http" };
        info!("listener {name}: {kind} on {}", running.bound);
        self.lock().insert(*address, running);
    }

    /// Binds the listeners that the site adds. Listeners that go and overlap a new one (say
    /// `0.0.0.0:443` and `10.0.0.1:443`) are closed first, and go into `closed`; those that can be
    /// bound without come first of all.
    pub(super) async fn bind_new(
        &self,
        site: &Site,
        closed: &mut Vec<Arc<Listener>>,
    ) -> anyhow::Result<Vec<Bound>> {
        let new = |l: &&Arc<Listener>| !self.lock().contains_key(&l.address);
        let mut bound = Vec::new();
        let mut later = Vec::new();
        for listener in site.listeners.iter().filter(new) {
            match bind(listener, &mut Sockets::default()) {
                Ok(socket) => bound.push(socket),
                Err(error) => later.push((listener, error)),
            }
        }
        for (listener, error) in later {
            let going: Vec<SocketAddr> = self
                .lock()
                .keys()
                .filter(|address| overlaps(address, &listener.address))
                .filter(|address| site.listeners.iter().all(|l| l.address != **address))
                .copied()
                .collect();
            if going.is_empty() && closed.iter().all(|c| !overlaps(&c.address, &listener.address)) {
                return Err(error);
            }
            for address in going {
                let running = self.lock().remove(&address);
                if let Some(running) = running {
                    closed.push(running.listener.clone());
                    running.close().await;
                }
            }
            bound.push(bind(listener, &mut Sockets::default())?);
        }
        Ok(bound)
    }

    /// Whether every listener of the site accepts.
    pub(super) fn are_all_open(&self, site: &Site) -> bool {
        let running = self.lock();
        site.listeners.iter().all(|listener| running.contains_key(&listener.address))
    }

    /// Opens listeners again that a refused reload had closed. Returns those that are lost,
    /// because somebody took the address in between.
    pub(super) fn reopen(&self, closed: Vec<Arc<Listener>>) -> Vec<(Arc<Listener>, anyhow::Error)> {
        let mut lost = Vec::new();
        for listener in closed {
            match bind(&listener, &mut Sockets::default()) {
                Ok(bound) => self.accept(bound),
                Err(error) => lost.push((listener, error)),
            }
        }
        lost
    }

    /// Stops those that the site no longer has, and returns once their addresses are free: the
    /// next reload may want one of them.
    pub(super) async fn keep(&self, site: &Site) {
        let stays = |address| site.listeners.iter().any(|l| l.address == address);
        let gone: Vec<_> = self.lock().extract_if(|address, _| !stays(*address)).collect();
        for (_, running) in gone {
            running.close().await;
        }
    }

    /// Copies of the sockets, and what each is for.
    pub(super) fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.lock().values().map(Running::socket).collect()
    }

    /// Leaves the sockets to another process. Who was accepted before is served here.
    pub(super) async fn hand_over(&self) -> Vec<Owed> {
        let running = std::mem::take(&mut *self.lock());
        let mut owed = Vec::new();
        for (_, running) in running {
            owed.extend(running.hand_over().await);
        }
        owed
    }

    /// Stops accepting everywhere.
    pub(super) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Running>> {
        lock(&self.running)
    }
}

/// Binds a listener, or takes its socket from `sockets`.
pub(super) fn bind(listener: &Arc<Listener>, sockets: &mut Sockets) -> anyhow::Result<Bound> {
    let (name, address) = (&listener.name, listener.address);
    let bound = Bound::new(listener.clone(), sockets);
    bound.with_context(|| format!("listener {name}: cannot bind {address}"))
}

/// Whether two addresses cannot be bound at the same time.
fn overlaps(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified() || one.ip() == other.ip())
}
