//! One running Frontgate.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use log::info;
use pingora::proxy::HttpProxy;

use super::{
    build::{Builder, proxy},
    reload, stop,
    watch::Watch,
};
use crate::{
    admin,
    forward::{Current, Forward},
    listen::{self, Connections, Running},
    observe::AccessLog,
    site::{Listener, Site},
};

/// One running Frontgate.
pub struct Instance {
    /// The configuration file.
    pub(super) path: PathBuf,
    pub(super) current: Arc<Current>,
    pub(super) builder: Builder,
    pub(super) connections: Arc<Connections>,
    /// Ready for traffic: told by `/readyz`.
    pub(super) ready: Arc<AtomicBool>,
    proxy: Arc<HttpProxy<Forward>>,
    running: Mutex<HashMap<SocketAddr, Running>>,
    _admin: Vec<admin::Running>,
}

impl Instance {
    /// Binds every listener and starts to serve.
    ///
    /// # Errors
    /// A listener cannot be bound, or the access log cannot be opened.
    pub async fn start(path: &Path, site: Arc<Site>) -> anyhow::Result<Arc<Self>> {
        let sockets = bind_all(site.listeners.iter())?;
        let log = AccessLog::open(&site.access_log).context("access log")?;
        let builder = Builder::new();
        let current = Arc::new(Current::new(builder.live(site.clone()).await?, log));
        builder.view.show(&current);
        let ready = Arc::new(AtomicBool::new(false));
        let admin = admin::start(&site.admin, &ready)?;
        let instance = Arc::new(Self {
            path: path.to_owned(),
            proxy: proxy(&site, &current),
            current,
            builder,
            connections: Arc::default(),
            ready,
            running: Mutex::default(),
            _admin: admin,
        });
        instance.accept(sockets)?;
        instance.ready.store(true, Ordering::Release);
        for rule in &site.rules {
            info!("published: {} ({})", rule.name, rule.place);
        }
        Ok(instance)
    }

    /// Serves until a signal asks to stop; reloads meanwhile. Returns the exit code.
    pub(super) async fn serve(self: &Arc<Self>, files: Watch) -> i32 {
        let reloads = tokio::spawn(reload::watch(self.clone(), files));
        let code = stop::wait(self).await;
        reloads.abort();
        self.current.log.close();
        code
    }

    /// Where a listener is bound: its address, or what the kernel chose for port 0.
    pub fn bound(&self, address: SocketAddr) -> Option<SocketAddr> {
        self.listeners().get(&address).map(|running| running.bound)
    }

    /// Takes over a new site. Connections and requests that it does not concern go on.
    ///
    /// # Errors
    /// A new listener cannot be bound, or the access log cannot be opened; then the old site
    /// serves on, unchanged.
    pub async fn apply(&self, site: &Arc<Site>) -> anyhow::Result<()> {
        let new = {
            let running = self.listeners();
            bind_all(site.listeners.iter().filter(|l| !running.contains_key(&l.address)))?
        };
        self.current.log.apply(&site.access_log).context("access log")?;
        self.current.store(self.builder.live(site.clone()).await?);
        self.accept(new)?;
        // A listener that is gone stops when its `Running` is dropped.
        self.listeners().retain(|address, _| site.listeners.iter().any(|l| l.address == *address));
        Ok(())
    }

    /// Stops accepting everywhere.
    pub(super) fn close_listeners(&self) {
        self.listeners().clear();
    }

    fn accept(&self, sockets: Vec<(Arc<Listener>, TcpListener)>) -> anyhow::Result<()> {
        for (listener, socket) in sockets {
            let address = listener.address;
            let kind = if listener.tls.is_some() { "https" } else { "http" };
            let name = listener.name.clone();
            let view = self.builder.view.clone();
            let (proxy, connections) = (self.proxy.clone(), self.connections.clone());
            let running = listen::start(socket, listener, proxy, view, connections)
                .with_context(|| format!("cannot accept on {address}"))?;
            info!("listener {name}: {kind} on {}", running.bound);
            self.listeners().insert(address, running);
        }
        Ok(())
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind_all<'a>(
    listeners: impl Iterator<Item = &'a Arc<Listener>>,
) -> anyhow::Result<Vec<(Arc<Listener>, TcpListener)>> {
    listeners
        .map(|listener| {
            let socket = listen::bind(listener.address).with_context(|| {
                format!("listener {}: cannot bind {}", listener.name, listener.address)
            })?;
            Ok((listener.clone(), socket))
        })
        .collect()
}
