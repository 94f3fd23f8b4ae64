//! The site that serves, with everything derived from it: one snapshot, swapped whole.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    farm::Farm,
    listen::{Certificates, Settings},
    observe::{
        AccessLog,
        metrics::{Metrics, Routes},
        traces::Traces,
    },
    pin::Pins,
    route::Table,
    site::{ConnectionAuth, FarmId, Listener, Site},
};

/// One snapshot. A request takes it once and keeps it.
pub struct Live {
    /// As compiled.
    pub site: Arc<Site>,
    /// Which rule takes a request.
    pub table: Table,
    /// Running farms, in the order of `site.farms`.
    pub farms: Vec<Arc<Farm>>,
    /// Certificates by server name.
    pub certificates: Certificates,
    /// Pins, the same ones across reloads.
    pub pins: Arc<Pins>,
    /// Listener settings, in the order of `site.listeners`.
    pub settings: Vec<Arc<Settings>>,
    /// Where requests are counted.
    pub routes: Routes,
}

impl Live {
    /// Index of a listener in this site, found by its address: it keeps that across reloads.
    pub fn listener(&self, listener: &Listener) -> Option<usize> {
        self.site.listeners.iter().position(|l| l.address == listener.address)
    }

    /// HTTP/2 is only for names under which no farm binds sign-ins to connections: its streams
    /// share one client connection, and so would the identities.
    pub fn http2_allowed(&self, host: &str) -> bool {
        http2_allowed(&self.site, &self.table, host)
    }
}

/// See [`Live::http2_allowed`].
pub(super) fn http2_allowed(site: &Site, table: &Table, host: &str) -> bool {
    let off =
        |id: FarmId| site.farms.get(id.0).is_some_and(|f| f.connection_auth == ConnectionAuth::Off);
    let mut published =
        (0..site.listeners.len()).filter_map(|listener| table.host(listener, host)).peekable();
    published.peek().is_some() && published.all(|paths| paths.farms().all(off))
}

/// The current snapshot and what outlives it.
pub struct Current {
    live: ArcSwap<Live>,
    /// The access log.
    pub log: AccessLog,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where traces go.
    pub traces: Traces,
}

impl Current {
    /// Starts with a first snapshot.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(live: Live, log: AccessLog, metrics: Arc<Metrics>) -> Self {
        let traces = Traces::start(live.site.traces.as_ref());
        Self { live: ArcSwap::from_pointee(live), log, metrics, traces }
    }

    /// The snapshot as it is now.
    pub fn load(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Replaces the snapshot; requests that run keep theirs.
    pub fn store(&self, live: Live) {
        self.live.store(Arc::new(live));
    }
}
