//! One running Frontgate.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use log::{error, info, warn};

use super::{
    admin_side::AdminSide,
    build::{Builder, proxy},
    certificates::Certificates,
    fixed::Fixed,
    listeners::{Listeners, bind},
    manager::Manager,
    take_over::Predecessor,
};
use crate::{
    admin, config,
    events::{Delivery, Events, News, code},
    farm::{Farms, Orders},
    forward::{Current, Live},
    listen::{Bound, Connections, Sockets},
    observe::AccessLog,
    replaced::Replaced,
    site::{Listener, Site},
    store::Store,
};

/// Rules that are told at start, so that ten thousand do not drown the rest.
const TOLD: usize = 100;

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
    pub(super) delivery: Delivery,
    pub(super) certificates: Arc<Certificates>,
    pub(super) builder: Builder,
    pub(super) listeners: Listeners,
    pub(super) admin: AdminSide,
    /// What only a restart changes, as it runs.
    pub(super) fixed: Fixed,
    pub(super) manager: Arc<Manager>,
    /// It watches until it has ended.
    predecessor: Option<Predecessor>,
    /// It and those before it.
    pub(super) replaced: Arc<Replaced>,
}

/// What is there before a Frontgate starts.
#[derive(Default)]
pub(super) struct Before {
    /// Sockets that need not be bound.
    pub(super) sockets: Sockets,
    /// The Frontgate that serves until this one is ready.
    pub(super) predecessor: Option<Predecessor>,
    /// It and those before it, as far as they have not ended.
    pub(super) replaced: Replaced,
}

impl Instance {
    /// Binds every listener and starts to serve. Fails when an address cannot be bound or the
    /// access log cannot be opened.
    pub(super) async fn start(
        path: &Path,
        site: Arc<Site>,
        before: Before,
    ) -> anyhow::Result<Self> {
        let Before { mut sockets, predecessor, replaced } = before;
        let replaced = Arc::new(replaced);
        let bound = site.listeners.iter().map(|listener| bind(listener, &mut sockets));
        let bound = bound.collect::<anyhow::Result<Vec<_>>>()?;
        let log = AccessLog::open(&site.access_log).context("access log")?;
        let store = open_store(&site);
        let events = Events::default();
        let farms = Farms::with_orders(Orders::load(store.clone())).telling(events.clone());
        let farms = Arc::new(farms);
        let builder = Builder::new(farms.clone());
        let ready = Arc::new(AtomicBool::new(false));
        let context = Arc::new(admin::Context::new(ready.clone(), farms, store, events.clone()));
        context.tell_of(&replaced);
        let (admin, doors) = AdminSide::bind(&site.admin, &context, &events, &mut sockets)?;
        sockets.close_rest();
        let mut doors = Some(doors);
        if predecessor.is_none()
            && let Some(doors) = doors.take()
        {
            admin.open(doors).await;
        }
        let prepared = builder.prepare(&site)?;
        let live = builder.live(site.clone(), prepared).await;
        let current = Arc::new(Current::new(live, log, builder.metrics.clone()));
        builder.view.show(&current);
        let connections = Arc::<Connections>::default();
        context.measure(admin::Scrape::new(current.clone(), connections.clone()));
        context.show(&current);
        let proxy = proxy(&site, &current);
        let mut instance = Self {
            path: path.to_owned(),
            listeners: Listeners::new(proxy, builder.view.clone(), connections.clone()),
            current,
            connections,
            ready,
            context,
            delivery: Delivery::waiting(&events),
            events,
            certificates: Arc::default(),
            builder,
            admin,
            fixed: Fixed::of(&site),
            manager: Arc::default(),
            predecessor: None,
            replaced,
        };
        if let Some(predecessor) = &predecessor {
            instance.builder.looked_at(&instance.current).await;
            predecessor.ready().await?;
        }
        // Until here the other one tells what happens, and this one may never serve.
        instance.delivery.begin(&site.receivers);
        for bound in bound {
            instance.listeners.accept(bound);
        }
        instance.ready.store(true, Ordering::Release);
        if let Some(doors) = doors {
            instance.admin.open(doors).await;
        }
        instance.events.tell(started(&site, predecessor.as_ref()));
        instance.predecessor = predecessor;
        instance.manager.ready(&told(&site));
        instance.certificates.look(&site, &instance.events);
        for rule in site.rules.iter().take(TOLD) {
            info!("published: {} ({})", rule.name, rule.place);
        }
        if let Some(more) = site.rules.len().checked_sub(TOLD).filter(|more| *more > 0) {
            info!("published: and {more} more");
        }
        Ok(instance)
    }

    /// Takes over a new site. Connections and requests that it does not concern go on. Fails when
    /// an address cannot be bound or the access log cannot be opened; then the old site serves
    /// on, unchanged.
    pub(super) async fn apply(&self, site: &Arc<Site>) -> anyhow::Result<()> {
        let old = self.current.load().site.clone();
        match self.prepare(&old, site).await {
            Ok((live, bound)) => {
                self.current.store(live);
                self.listeners.forget_closed();
                self.delivery.follow(&site.receivers);
                self.current.traces.follow(site.traces.as_ref());
                self.certificates.look(site, &self.events);
                for bound in bound {
                    self.listeners.accept(bound);
                }
                // Also one that was lost is open again.
                self.ready.store(true, Ordering::Release);
                self.listeners.keep(site).await;
                Ok(())
            }
            Err(error) => {
                self.lost(self.listeners.reopen());
                Err(error)
            }
        }
    }

    /// Whether every listener of this site is open; not after one was lost.
    pub(super) async fn is_whole(&self, site: &Site) -> bool {
        self.listeners.are_all_open(site) && self.admin.runs().await
    }

    /// Everything of a reload that can fail.
    async fn prepare(&self, old: &Site, site: &Arc<Site>) -> anyhow::Result<(Live, Vec<Bound>)> {
        let bound = self.listeners.bind_new(site).await?;
        let prepared = self.builder.prepare(site)?;
        self.current.log.apply(&site.access_log).context("access log")?;
        if let Err(error) = self.admin.change(&old.admin, &site.admin).await {
            if let Err(e) = self.current.log.apply(&old.access_log) {
                error!("access log: {e}; it stays where the refused configuration wants it");
            }
            return Err(error);
        }
        // Last: the farms of a refused site must not run.
        Ok((self.builder.live(site.clone(), prepared).await, bound))
    }

    /// A reload was given up in the middle, because Frontgate stops: what it had closed is open
    /// again as long as anybody may still send.
    pub(super) async fn reopen_after_reload(&self) {
        self.lost(self.listeners.reopen_after().await);
    }

    /// Listeners of the old site that a reload had closed and that cannot be opened again.
    fn lost(&self, lost: Vec<(Arc<Listener>, anyhow::Error)>) {
        for (listener, error) in lost {
            // Not ready, so that this is seen.
            self.ready.store(false, Ordering::Release);
            let name = &*listener.name;
            let text =
                format!("listener {name} is lost: {error:#}; reload when the address is free");
            self.events.tell(News::new(code::LISTENER_LOST, text).with("listener", name));
        }
    }

    /// Opens the access log anew, after it was moved away.
    pub(super) fn reopen_log(&self) {
        match self.current.log.reopen() {
            Ok(()) => info!("access log opened anew"),
            Err(e) => error!("access log: {e}; the old file stays"),
        }
    }
}

fn started(site: &Site, predecessor: Option<&Predecessor>) -> News {
    let (version, told) = (env!("CARGO_PKG_VERSION"), told(site));
    let news = match predecessor {
        None => News::new(code::STARTED, format!("started: Frontgate {version}, {told}")),
        Some(Predecessor { process, version: was, .. }) => {
            let text = format!(
                "upgraded: Frontgate {version} took over from process {process} ({was}), {told}"
            );
            News::new(code::UPGRADED, text).with("was", &**was).with("process", *process)
        }
    };
    measured(news, site).with("version", version)
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
