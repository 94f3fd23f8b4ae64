//! One running Frontgate.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use log::{error, info, warn};
use pingora::proxy::HttpProxy;
use tokio::sync::Mutex;

use super::{
    build::{Builder, proxy},
    certificates::{Certificates, keep_looking},
    reload::reload,
    signals::{Order, Signals},
    stop::stop,
    watch::Watch,
};
use crate::{
    admin, config,
    events::{Delivery, Events, News, code},
    farm::{Farms, Orders},
    forward::{Current, Forward, Live},
    listen::{self, Connections, Running},
    observe::{AccessLog, metrics::Reload},
    pin::{Pins, UNPROVED},
    site::{self, Listener, Site},
    store::Store,
};

/// Rules that are told at start, so that ten thousand do not drown the rest.
const TOLD: usize = 100;

/// How long the end waits for the last events to arrive.
const FAREWELL: Duration = Duration::from_secs(2);

/// One running Frontgate.
pub(super) struct Instance {
    /// The configuration file.
    pub(super) path: PathBuf,
    pub(super) current: Arc<Current>,
    pub(super) connections: Arc<Connections>,
    /// Ready for traffic: told by `/readyz`.
    pub(super) ready: Arc<AtomicBool>,
    /// What the admin side knows.
    pub(super) context: Arc<admin::Context>,
    /// Where changes are told.
    pub(super) events: Events,
    delivery: Delivery,
    certificates: Arc<Certificates>,
    builder: Builder,
    proxy: Arc<HttpProxy<Forward>>,
    running: std::sync::Mutex<HashMap<SocketAddr, Running>>,
    admin: Mutex<Vec<admin::Running>>,
}

impl Instance {
    /// Binds every listener and starts to serve. Fails when an address cannot be bound or the
    /// access log cannot be opened.
    pub(super) async fn start(path: &Path, site: Arc<Site>) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for listener in &site.listeners {
            sockets.push((listener.clone(), bind(listener)?));
        }
        let log = AccessLog::open(&site.access_log).context("access log")?;
        let store = open_store(&site);
        let events = Events::default();
        let farms = Farms::with_orders(Orders::load(store.clone())).telling(events.clone());
        let farms = Arc::new(farms);
        let builder = Builder::new(farms.clone());
        let ready = Arc::new(AtomicBool::new(false));
        let context = Arc::new(admin::Context::new(ready.clone(), farms, store, events.clone()));
        let admin = admin::start(&site.admin, &context)?;
        let prepared = builder.prepare(&site)?;
        let live = builder.live(site.clone(), prepared).await;
        let current = Arc::new(Current::new(live, log, builder.metrics.clone()));
        builder.view.show(&current);
        let connections = Arc::<Connections>::default();
        context.measure(admin::Scrape::new(current.clone(), connections.clone()));
        context.show(&current);
        let instance = Self {
            path: path.to_owned(),
            proxy: proxy(&site, &current),
            current,
            connections,
            ready,
            context,
            delivery: Delivery::start(&events, &site.receivers),
            events,
            certificates: Arc::default(),
            builder,
            running: std::sync::Mutex::default(),
            admin: Mutex::new(admin),
        };
        for (listener, socket) in sockets {
            instance.accept(listener, socket)?;
        }
        instance.ready.store(true, Ordering::Release);
        started(&instance.events, &site);
        instance.certificates.look(&site, &instance.events);
        for rule in site.rules.iter().take(TOLD) {
            info!("published: {} ({})", rule.name, rule.place);
        }
        if let Some(more) = site.rules.len().checked_sub(TOLD).filter(|more| *more > 0) {
            info!("published: and {more} more");
        }
        Ok(instance)
    }

    /// Serves until a signal asks to stop; reloads meanwhile. Returns the exit code.
    pub(super) async fn serve(&self, mut signals: Signals, mut files: Watch) -> i32 {
        let sweeping = tokio::spawn(sweep(self.builder.pins.clone()));
        let noting = tokio::spawn(note(self.context.clone()));
        let looking =
            keep_looking(self.certificates.clone(), self.current.clone(), self.events.clone());
        let looking = tokio::spawn(looking);
        let mut asked = None;
        let order = loop {
            let mut waiting = None;
            let reason = match asked.take() {
                Some(reason) => reason,
                None => tokio::select! {
                    order = signals.next() => match order {
                        Order::Terminate | Order::Interrupt => break order,
                        Order::Reload => "SIGHUP".to_owned(),
                        Order::Reopen => {
                            self.reopen_log();
                            continue;
                        }
                    },
                    () = files.changed() => "a file changed".to_owned(),
                    somebody = self.context.reload_asked() => {
                        let told = somebody.told.clone();
                        waiting = Some(somebody);
                        told
                    }
                },
            };
            let reload = reload(self, &mut files, &reason);
            tokio::pin!(reload);
            let stopped = loop {
                tokio::select! {
                    told = &mut reload => {
                        self.current.metrics.reloads.ended(counted_as(told.result));
                        if let Some(waiting) = waiting.take() {
                            waiting.answer(told);
                        }
                        break None;
                    }
                    order = signals.next() => match order {
                        // A reload that is under way is given up: nothing may open a listener
                        // again.
                        Order::Terminate | Order::Interrupt => break Some(order),
                        Order::Reload => asked = Some("SIGHUP".to_owned()),
                        Order::Reopen => self.reopen_log(),
                    },
                }
            };
            if let Some(order) = stopped {
                break order;
            }
        };
        self.context.no_more_reloads().await;
        let code = stop(self, order, &mut signals).await;
        sweeping.abort();
        noting.abort();
        looking.abort();
        tokio::join!(self.delivery.finish(FAREWELL), self.current.traces.finish(FAREWELL));
        for running in self.admin.lock().await.drain(..) {
            running.close().await;
        }
        self.context.streams_ended(FAREWELL).await;
        self.current.log.close();
        code
    }

    /// Takes over a new site. Connections and requests that it does not concern go on. Fails when
    /// an address cannot be bound or the access log cannot be opened; then the old site serves
    /// on, unchanged.
    pub(super) async fn apply(&self, site: &Arc<Site>) -> anyhow::Result<()> {
        let old = self.current.load().site.clone();
        let mut closed = Vec::new();
        match self.prepare(&old, site, &mut closed).await {
            Ok((live, sockets)) => {
                self.current.store(live);
                self.delivery.follow(&site.receivers);
                self.current.traces.follow(site.traces.as_ref());
                self.certificates.look(site, &self.events);
                for (listener, socket) in sockets {
                    self.accept(listener, socket)?;
                }
                // A listener that is gone stops when its `Running` is dropped.
                let stays = |address| site.listeners.iter().any(|l| l.address == address);
                self.listeners().retain(|address, _| stays(*address));
                Ok(())
            }
            Err(error) => {
                self.reopen(closed);
                Err(error)
            }
        }
    }

    /// Everything of a reload that can fail. What had to be closed for it goes into `closed`.
    async fn prepare(
        &self,
        old: &Site,
        site: &Arc<Site>,
        closed: &mut Vec<Arc<Listener>>,
    ) -> anyhow::Result<(Live, Vec<Bound>)> {
        let sockets = self.bind_new(site, closed).await?;
        let prepared = self.builder.prepare(site)?;
        self.current.log.apply(&site.access_log).context("access log")?;
        if let Err(error) = self.change_admin(&old.admin, &site.admin).await {
            let _ = self.current.log.apply(&old.access_log);
            return Err(error);
        }
        // Last: the farms of a refused site must not run.
        Ok((self.builder.live(site.clone(), prepared).await, sockets))
    }

    /// Binds the listeners that the site adds. Listeners that go and overlap a new one (say
    /// `0.0.0.0:443` and `10.0.0.1:443`) are closed first; those that can be bound without come
    /// first of all.
    async fn bind_new(
        &self,
        site: &Site,
        closed: &mut Vec<Arc<Listener>>,
    ) -> anyhow::Result<Vec<Bound>> {
        let new = |l: &&Arc<Listener>| !self.listeners().contains_key(&l.address);
        let mut bound = Vec::new();
        let mut later = Vec::new();
        for listener in site.listeners.iter().filter(new) {
            match bind(listener) {
                Ok(socket) => bound.push((listener.clone(), socket)),
                Err(error) => later.push((listener, error)),
            }
        }
        for (listener, error) in later {
            let going: Vec<SocketAddr> = self
                .listeners()
                .keys()
                .filter(|address| overlaps(address, &listener.address))
                .filter(|address| site.listeners.iter().all(|l| l.address != **address))
                .copied()
                .collect();
            if going.is_empty() && closed.iter().all(|c| !overlaps(&c.address, &listener.address)) {
                return Err(error);
            }
            for address in going {
                let running = self.listeners().remove(&address);
                if let Some(running) = running {
                    closed.push(running.listener.clone());
                    running.close().await;
                }
            }
            bound.push((listener.clone(), bind(listener)?));
        }
        Ok(bound)
    }

    /// Opens the listeners of the old site again that a refused reload had closed.
    fn reopen(&self, closed: Vec<Arc<Listener>>) {
        for listener in closed {
            let name = listener.name.clone();
            let back = bind(&listener).and_then(|socket| self.accept(listener, socket));
            if let Err(error) = back {
                // Somebody took the address in between. Not ready, so that this is seen.
                self.ready.store(false, Ordering::Release);
                let text =
                    format!("listener {name} is lost: {error:#}; restart when the address is free");
                self.events.tell(News::new(code::LISTENER_LOST, text).with("listener", &*name));
            }
        }
    }

    async fn change_admin(&self, old: &site::Admin, new: &site::Admin) -> anyhow::Result<()> {
        if old == new {
            return Ok(());
        }
        let mut admin = self.admin.lock().await;
        for running in admin.drain(..) {
            running.close().await;
        }
        match admin::start(new, &self.context) {
            Ok(started) => *admin = started,
            Err(error) => {
                *admin = admin::start(old, &self.context)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Opens the access log anew, after it was moved away.
    pub(super) fn reopen_log(&self) {
        match self.current.log.reopen() {
            Ok(()) => info!("access log opened anew"),
            Err(e) => error!("access log: {e}; the old file stays"),
        }
    }

    /// Stops accepting everywhere.
    pub(super) fn close_listeners(&self) {
        self.listeners().clear();
    }

    fn accept(&self, listener: Arc<Listener>, socket: std::net::TcpListener) -> anyhow::Result<()> {
        let (name, address) = (listener.name.clone(), listener.address);
        let kind = if listener.tls.is_some() { "https" } else { "http" };
        let view = self.builder.view.clone();
        let (proxy, connections) = (self.proxy.clone(), self.connections.clone());
        let running = listen::start(socket, listener, proxy, view, connections)
            .with_context(|| format!("cannot accept on {address}"))?;
        info!("listener {name}: {kind} on {}", running.bound);
        self.listeners().insert(address, running);
        Ok(())
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Running>> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn started(events: &Events, site: &Site) {
    let version = env!("CARGO_PKG_VERSION");
    let news = News::new(code::STARTED, format!("started: Frontgate {version}, {}", told(site)));
    events.tell(measured(news, site).with("version", version));
}

/// What there is of a site, for people.
pub(super) fn told(site: &Site) -> String {
    format!(
        "{} listeners, {} farms, {} rules; site {}",
        site.listeners.len(),
        site.farms.len(),
        site.rules.len(),
        short(&site.fingerprint)
    )
}

/// The same for programs.
pub(super) fn measured(news: News, site: &Site) -> News {
    news.with("listeners", site.listeners.len())
        .with("farms", site.farms.len())
        .with("rules", site.rules.len())
        .with("site", short(&site.fingerprint))
}

pub(super) fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}

/// What a reload counts as.
fn counted_as(result: admin::ReloadResult) -> Reload {
    match result {
        admin::ReloadResult::Done => Reload::Success,
        admin::ReloadResult::Unchanged => Reload::Unchanged,
        admin::ReloadResult::Refused | admin::ReloadResult::Failed => Reload::Refused,
    }
}

/// The state directory. Frontgate runs without one, but says what that means.
fn open_store(site: &Site) -> Arc<Store> {
    let (store, usable) = Store::open(&site.state_dir);
    if let Err(error) = usable {
        let (code, dir) = (config::code::NOTHING_KEPT, site.state_dir.display());
        warn!(
            "warning[{}]: {}: state_dir {dir} cannot be used: {error}; name another one, or let \
             this user write there",
            code.id, code.title
        );
    }
    Arc::new(store)
}

/// Cuts the pins that never become sign-ins.
async fn sweep(pins: Arc<Pins>) {
    let mut ticks = tokio::time::interval(UNPROVED / 30);
    loop {
        ticks.tick().await;
        pins.sweep(Instant::now());
    }
}

/// Keeps the last minutes of every server, for the dashboard.
async fn note(context: Arc<admin::Context>) {
    let mut ticks = tokio::time::interval(admin::Context::TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        context.tick();
    }
}

/// A listener with its socket, not yet accepting.
type Bound = (Arc<Listener>, std::net::TcpListener);

fn bind(listener: &Listener) -> anyhow::Result<std::net::TcpListener> {
    listen::bind(listener.address)
        .with_context(|| format!("listener {}: cannot bind {}", listener.name, listener.address))
}

/// Whether two addresses cannot be bound at the same time.
fn overlaps(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified() || one.ip() == other.ip())
}
