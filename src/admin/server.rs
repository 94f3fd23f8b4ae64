//! Listening for the admin side.

use std::{
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context;
use log::{info, warn};
use pingora::{
    apps::ServerApp,
    protocols::{Stream, l4::stream::Stream as L4Stream},
    server::ShutdownWatch,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
};

use super::health::Health;
use crate::{
    listen::bind,
    site::{Admin, AdminAddress},
};

/// Connections the admin side serves at once.
const CONNECTIONS: usize = 256;

/// An admin listener; stops when dropped.
pub struct Running {
    _stop: watch::Sender<bool>,
}

/// Starts the admin listener and, where there is one, the health listener.
///
/// # Errors
/// An address cannot be bound.
pub fn start(admin: &Admin, ready: &Arc<AtomicBool>) -> anyhow::Result<Vec<Running>> {
    let mut hosts = admin.hosts.clone();
    hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
    if let AdminAddress::Tcp(address) = &admin.listen {
        let authority = address.to_string();
        let host = authority.rsplit_once(':').map_or("", |(host, _)| host);
        hosts.push(host.to_owned());
    }
    let on_admin = Health { ready: ready.clone(), hosts: Some(hosts) };
    let mut running = vec![listen("admin", &admin.listen, on_admin)?];
    if let Some(address) = &admin.health {
        // Orchestrators ask by the pod's address, and there is nothing to steal here.
        let open = Health { ready: ready.clone(), hosts: None };
        running.push(listen("health", address, open)?);
    }
    Ok(running)
}

/// Where connections come from.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    async fn accept(&self) -> std::io::Result<L4Stream> {
        match self {
            Self::Tcp(socket) => socket.accept().await.map(|(stream, _)| stream.into()),
            Self::Unix(socket) => socket.accept().await.map(|(stream, _)| stream.into()),
        }
    }
}

fn listen(what: &str, address: &AdminAddress, app: Health) -> anyhow::Result<Running> {
    let door = match address {
        AdminAddress::Tcp(address) => {
            let socket =
                bind(*address).with_context(|| format!("{what}: cannot bind {address}"))?;
            let socket = TcpListener::from_std(socket)?;
            info!("{what}: http on {}", socket.local_addr()?);
            Door::Tcp(socket)
        }
        AdminAddress::Unix(path) => {
            let socket = bind_unix(path)
                .with_context(|| format!("{what}: cannot bind unix:{}", path.display()))?;
            info!("{what}: http on unix:{}", path.display());
            Door::Unix(socket)
        }
    };
    let (stop, shutdown) = watch::channel(false);
    tokio::spawn(accept_all(door, Arc::new(app), shutdown));
    Ok(Running { _stop: stop })
}

/// A socket file that nobody listens on any more is replaced; anything else is left alone.
fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    let stale = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err();
    if stale {
        std::fs::remove_file(path)?;
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

async fn accept_all(door: Door, app: Arc<Health>, mut shutdown: ShutdownWatch) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            // Stopped, or the sender is gone.
            _ = shutdown.wait_for(|stop| *stop) => return,
            accepted = door.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                let (app, shutdown) = (app.clone(), shutdown.clone());
                tokio::spawn(async move {
                    let stream: Stream = Box::new(stream);
                    app.process_new(stream, &shutdown).await;
                    drop(place);
                });
            }
            Err(e) => {
                warn!("admin: accept: {e}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
