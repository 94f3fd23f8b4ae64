//! The listeners of a running Frontgate: bound, accepting, replaced by a reload.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
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

/// How often, and how long after one another, an address that is just being closed is tried.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(25);

/// The listeners that accept, by their configured address.
pub(super) struct Listeners {
    proxy: Arc<HttpProxy<Forward>>,
    view: Arc<SiteView>,
    connections: Arc<Connections>,
    running: Mutex<HashMap<SocketAddr, Running>>,
    /// Those of the site that serves that a reload under way had to close. Kept here, because the
    /// reload may be given up in the middle.
    closed: Mutex<Vec<Arc<Listener>>>,
}

impl Listeners {
    /// None yet. Those that come hand their requests to `proxy`.
    pub(super) fn new(
        proxy: Arc<HttpProxy<Forward>>,
        view: Arc<SiteView>,
        connections: Arc<Connections>,
    ) -> Self {
        let (running, closed) = Default::default();
        Self { proxy, view, connections, running, closed }
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
    /// `0.0.0.0:443` and `10.0.0.1:443`) are closed first; those that can be bound without come
    /// first of all.
    pub(super) async fn bind_new(&self, site: &Site) -> anyhow::Result<Vec<Bound>> {
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
            let freed = |closed: &Arc<Listener>| overlaps(&closed.address, &listener.address);
            if going.is_empty() && !lock(&self.closed).iter().any(freed) {
                return Err(error);
            }
            for address in going {
                let running = self.lock().remove(&address);
                if let Some(running) = running {
                    lock(&self.closed).push(running.listener.clone());
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

    /// Opens listeners again that a reload had closed before it was refused or given up. Returns
    /// those that are lost, because somebody took the address in between.
    pub(super) fn reopen(&self) -> Vec<(Arc<Listener>, anyhow::Error)> {
        let mut lost = Vec::new();
        for listener in std::mem::take(&mut *lock(&self.closed)) {
            match bind(&listener, &mut Sockets::default()) {
                Ok(bound) => self.accept(bound),
                Err(error) => lost.push((listener, error)),
            }
        }
        lost
    }

    /// The same after a reload was dropped, whose own sockets may take a moment to close.
    pub(super) async fn reopen_after(&self) -> Vec<(Arc<Listener>, anyhow::Error)> {
        let mut lost = self.reopen();
        for _ in 0..TRIES {
            if lost.is_empty() {
                break;
            }
            tokio::time::sleep(BETWEEN).await;
            lock(&self.closed).extend(lost.into_iter().map(|(listener, _)| listener));
            lost = self.reopen();
        }
        lost
    }

    /// A reload went through: what it closed stays closed.
    pub(super) fn forget_closed(&self) {
        lock(&self.closed).clear();
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

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::{super::build, *};
    use crate::{farm::Farms, forward::Current, observe::AccessLog, site::testing::empty};

    fn site(address: SocketAddr) -> Arc<Site> {
        let (name, public_port) = ("plain".into(), address.port());
        let listener = Listener { name, address, public_port, tls: None, proxy_protocol: None };
        Arc::new(Site { listeners: vec![Arc::new(listener)], ..empty() })
    }

    /// `shutdown.delay` is for balancers that still send.
    #[tokio::test]
    async fn what_a_reload_closed_that_was_given_up_is_open_again() {
        let free = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap();
        let (old, new) = (site(free), site(([127, 0, 0, 1], free.port()).into()));
        let builder = build::Builder::new(Arc::new(Farms::default()));
        let live = builder.live(old.clone(), builder.prepare(&old).unwrap()).await;
        let log = AccessLog::open(&old.access_log).unwrap();
        let current = Arc::new(Current::new(live, log, builder.metrics.clone()));
        let proxy = build::proxy(&old, &current);
        let listeners = Listeners::new(proxy, builder.view.clone(), Arc::default());
        listeners.accept(bind(&old.listeners[0], &mut Sockets::default()).unwrap());
        let elsewhere = SocketAddr::from(([127, 0, 0, 9], free.port()));
        assert!(TcpStream::connect(elsewhere).is_ok());

        let bound = listeners.bind_new(&new).await.unwrap();
        assert!(TcpStream::connect(elsewhere).is_err() && !listeners.are_all_open(&old));
        drop(bound);
        assert!(listeners.reopen_after().await.is_empty());
        assert!(TcpStream::connect(elsewhere).is_ok() && listeners.are_all_open(&old));

        // One that went through has nothing to give back.
        drop(listeners.bind_new(&new).await.unwrap());
        listeners.forget_closed();
        assert!(listeners.reopen_after().await.is_empty() && !listeners.are_all_open(&old));
    }
}
