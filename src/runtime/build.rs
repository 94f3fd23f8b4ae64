//! From a site to the snapshot that serves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use anyhow::Context;
use boring::ssl::SslAcceptor;
use pingora::{apps::HttpServerOptions, proxy::HttpProxy, server::configuration::ServerConf};
use tokio::time::{sleep, timeout};

use super::fixed::Fixed;
use crate::{
    farm::Farms,
    forward::{Current, Forward, Live, refused},
    guard::HeadLimits,
    listen::{Certificates, Refusal, Settings, View, acceptor},
    lock::lock,
    observe::metrics::Metrics,
    pin::Pins,
    route::Table,
    site::{Certificate, Listener, ListenerTls, Site},
};

/// How long a new site waits for the names of its servers before it serves.
const LOOKUPS: Duration = Duration::from_secs(5);
/// What a look at the servers may take besides the timeout of a probe.
const SLACK: Duration = Duration::from_secs(5);
/// How long a process that takes over looks at its servers at most: whoever hands over to it waits
/// for a minute in all.
const LONGEST_LOOK: Duration = Duration::from_secs(40);
/// Attempts of one request over all servers and addresses; `forward` ends them much earlier.
const MAX_TRIES: usize = 64;

/// What the listeners see of the current snapshot. Filled once the first one exists.
#[derive(Default)]
pub(super) struct SiteView(OnceLock<Arc<Current>>);

impl SiteView {
    pub(super) fn show(&self, current: &Arc<Current>) {
        let _ = self.0.set(current.clone());
    }
}

impl View for SiteView {
    fn settings(&self, listener: &Listener) -> Option<Arc<Settings>> {
        let live = self.0.get()?.load();
        live.settings.get(live.listener(listener)?).cloned()
    }

    fn certificate(&self, sni: Option<&str>, accepts_ecdsa: bool) -> Option<Arc<Certificate>> {
        self.0.get()?.load().certificates.find(sni, accepts_ecdsa)
    }

    fn http2_allowed(&self, sni: &str) -> bool {
        self.0.get().is_some_and(|current| current.load().http2_allowed(sni))
    }

    fn refused(&self, refusal: &Refusal<'_>) {
        if let Some(current) = self.0.get() {
            refused(current, refusal);
        }
    }
}

/// What a snapshot needs that can fail.
pub(super) struct Prepared(Vec<Arc<Settings>>);

/// Builds snapshots; keeps what must not change with each of them.
pub(super) struct Builder {
    pub(super) view: Arc<SiteView>,
    farms: Arc<Farms>,
    pub(super) pins: Arc<Pins>,
    pub(super) metrics: Arc<Metrics>,
    /// By settings: an acceptor that stays keeps the keys of its session tickets.
    acceptors: Mutex<HashMap<ListenerTls, SslAcceptor>>,
}

impl Builder {
    pub(super) fn new(farms: Arc<Farms>) -> Self {
        Self {
            view: Arc::default(),
            farms,
            pins: Arc::default(),
            metrics: Arc::default(),
            acceptors: Mutex::default(),
        }
    }

    /// Everything that can fail, and changes nothing.
    pub(super) fn prepare(&self, site: &Site) -> anyhow::Result<Prepared> {
        let settings = site.listeners.iter();
        let settings = settings.map(|listener| self.settings(site, listener).map(Arc::new));
        Ok(Prepared(settings.collect::<anyhow::Result<_>>()?))
    }

    /// The snapshot of a site. From here on the farms follow it, so nothing may fail any more.
    pub(super) async fn live(&self, site: Arc<Site>, Prepared(settings): Prepared) -> Live {
        let table = Table::new(&site);
        let certificates = Certificates::new(&site);
        let farms = self.farms.apply(&site);
        // A server whose name was never looked up has no address yet and gets no traffic.
        let names = async {
            for farm in &farms {
                farm.looked_up().await;
            }
        };
        if timeout(LOOKUPS, names).await.is_err() {
            log::warn!("some server names take long to look up; their servers join later");
        }
        let (pins, routes) = (self.pins.clone(), self.metrics.traffic.follow(&site));
        Live { table, farms, certificates, pins, settings, routes, site }
    }

    /// Waits until every server that would get traffic was probed once: what another process knows
    /// of them is not known here. A server that hangs is told by the timeout of its probe alone.
    pub(super) async fn looked_at(&self, current: &Current) {
        let live = current.load();
        let waiting = || {
            let pairs = live.farms.iter().flat_map(|farm| {
                farm.servers().iter().map(move |server| (&farm.spec().name, server))
            });
            pairs.filter(|(_, server)| !server.looked_at())
        };
        let all = async {
            while waiting().next().is_some() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let patience = patience(&live.site);
        if timeout(patience, all).await.is_err() {
            for (farm, server) in waiting() {
                let name = server.name();
                log::warn!(
                    "farm {farm}: server {name} was not probed within {patience:?} and gets \
                     traffic until that is done"
                );
            }
        }
    }

    fn settings(&self, site: &Site, listener: &Arc<Listener>) -> anyhow::Result<Settings> {
        let limits = &site.limits;
        Ok(Settings {
            listener: listener.clone(),
            acceptor: listener.tls.as_ref().map(|tls| self.acceptor(tls)).transpose()?,
            head_limits: HeadLimits::from(limits),
            site_limits: limits.clone(),
        })
    }

    fn acceptor(&self, tls: &ListenerTls) -> anyhow::Result<SslAcceptor> {
        let mut acceptors = lock(&self.acceptors);
        if let Some(acceptor) = acceptors.get(tls) {
            return Ok(acceptor.clone());
        }
        let made = acceptor(tls, self.view.clone()).context("TLS settings are not usable")?;
        acceptors.insert(*tls, made.clone());
        Ok(made)
    }
}

/// How long a first look at every server may take.
fn patience(site: &Site) -> Duration {
    let timeouts = site.farms.iter().flat_map(|farm| &farm.probes).map(|probe| probe.timeout);
    timeouts.max().unwrap_or_default().saturating_add(SLACK).min(LONGEST_LOOK)
}

/// Pingora's proxy around `current`. Its pool is sized once, here.
pub(super) fn proxy(site: &Site, current: &Arc<Current>) -> Arc<HttpProxy<Forward>> {
    let conf = ServerConf {
        threads: site.workers,
        upstream_keepalive_pool_size: Fixed::of(site).pool(),
        max_retries: MAX_TRIES,
        ..ServerConf::default()
    };
    let mut proxy = HttpProxy::new(Forward::new(current.clone()), Arc::new(conf));
    // CONNECT is refused by `guard`, with a reason and a log line, and not by Pingora.
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true;
    proxy.server_options = Some(options);
    proxy.handle_init_modules();
    Arc::new(proxy)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_look_is_as_long_as_the_longest_probe_but_has_an_end() {
        let patience = |probes: &[&str]| {
            let mut text = String::from(
                "domains: [contoso.com]\nlisteners: [{ address: \"127.0.0.1:80\" }]\nfarms:\n",
            );
            for (number, probe) in probes.iter().enumerate() {
                text +=
                    &format!("  f{number}: {{ servers: [127.0.0.1], bridge: http, {probe} }}\n");
            }
            text += "publish: [{ host: meet.*, farm: f0, schemes: [http] }]\n";
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("frontgate.yaml");
            std::fs::write(&file, text).unwrap();
            let outcome = crate::config::load(&file);
            super::patience(&outcome.site.expect("a valid configuration")).as_secs()
        };
        assert_eq!(patience(&[""]), 5, "nobody is probed");
        assert_eq!(patience(&["probe: { path: / }"]), 15);
        let slow = "probes: [{ tcp: 80 }, { path: /, interval: 60s, timeout: 20s }]";
        assert_eq!(patience(&["probe: { path: / }", slow]), 25);
        assert_eq!(patience(&["probe: { path: /, interval: 60s, timeout: 60s }"]), 40);
    }
}
