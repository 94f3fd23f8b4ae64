//! Listening for the admin side.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, PermissionsExt},
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use log::{info, warn};
use pingora::{
    apps::ServerApp,
    protocols::{Stream, l4::stream::Stream as L4Stream},
    server::ShutdownWatch,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    app::{Access, App, Peer, Visit},
    context::Context,
    reloading::{self, Waits},
    stream::Caller,
};
use crate::{
    listen::Sockets,
    site::{Admin, AdminAddress},
};

/// Connections the admin side serves at once.
const CONNECTIONS: usize = 1024;

/// How long one connection may take for its question and the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An admin listener; stops when dropped.
pub struct Running {
    what: &'static str,
    door: Arc<Door>,
    stop: watch::Sender<bool>,
    places: Arc<Semaphore>,
    accepting: JoinHandle<()>,
}

impl Running {
    /// Stops and returns once the address is free.
    pub async fn close(self) {
        let _ = self.stop.send(true);
        let _ = self.accepting.await;
    }

    /// The same, after another process was given the socket. Returns what resolves once everybody
    /// who was accepted before has an answer.
    pub async fn hand_over(self) -> impl Future<Output = ()> + use<> {
        let places = self.places.clone();
        self.close().await;
        async move {
            let _ = places.acquire_many(u32::try_from(CONNECTIONS).unwrap_or(1)).await;
        }
    }

    /// A copy of its socket, and what that is for.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn socket(&self) -> io::Result<(String, OwnedFd)> {
        let socket = match &*self.door {
            Door::Tcp(socket) => socket.as_fd().try_clone_to_owned(),
            Door::Unix(socket) => socket.as_fd().try_clone_to_owned(),
        };
        Ok((self.what.to_owned(), socket?))
    }
}

/// The listeners of the admin side, bound: whoever connects waits until they start.
pub struct Doors(Vec<(&'static str, Door, App)>);

impl Doors {
    /// Starts to answer.
    pub fn open(self) -> Vec<Running> {
        self.0.into_iter().map(|(what, door, app)| run(what, door, app)).collect()
    }
}

/// Starts the admin listener and, where there are such, those for health and metrics.
///
/// # Errors
/// As for [`bind`].
pub fn start(admin: &Admin, context: &Arc<Context>) -> anyhow::Result<Vec<Running>> {
    Ok(bind(admin, context, &mut Sockets::default())?.open())
}

/// Binds the same listeners, or takes their sockets from `sockets`.
///
/// # Errors
/// An address cannot be bound, or no token can be made.
pub fn bind(admin: &Admin, context: &Arc<Context>, sockets: &mut Sockets) -> anyhow::Result<Doors> {
    let mut hosts = admin.hosts.clone();
    hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
    if let AdminAddress::Tcp(address) = &admin.listen {
        let authority = address.to_string();
        let host = authority.rsplit_once(':').map_or("", |(host, _)| host);
        hosts.push(host.to_owned());
    }
    let access = Access { token: context.token(admin)?, to_read: !admin.listen.is_local() };
    let (hosts, api) = (Some(hosts), Some(access));
    let on_admin = App { context: context.clone(), hosts, api, health: true, metrics: true };
    let open = |health, metrics| {
        // Orchestrators and Prometheus ask by the pod's address; nothing changes anything here.
        App { context: context.clone(), hosts: None, api: None, health, metrics }
    };
    // Both may be on one address; metrics on the admin address need no other listener.
    let elsewhere = |address: &&AdminAddress| !same(address, &admin.listen);
    let (health, metrics) = (admin.health.as_ref(), admin.metrics.as_ref().filter(elsewhere));
    let together = health.zip(metrics).is_some_and(|(health, metrics)| same(health, metrics));
    // Bound first, all of them: where one fails, none is left running.
    let mut doors = vec![("admin", bind_door("admin", &admin.listen, sockets)?, on_admin)];
    if let Some(address) = health {
        doors.push(("health", bind_door("health", address, sockets)?, open(true, together)));
    }
    if let Some(address) = metrics.filter(|_| !together) {
        doors.push(("metrics", bind_door("metrics", address, sockets)?, open(false, true)));
    }
    Ok(Doors(doors))
}

/// Whether two addresses are one socket. Port 0 is another port each time.
fn same(one: &AdminAddress, other: &AdminAddress) -> bool {
    one == other && !matches!(one, AdminAddress::Tcp(address) if address.port() == 0)
}

/// Where connections come from.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    /// The next connection, and who is there.
    async fn accept(&self) -> std::io::Result<(L4Stream, Peer)> {
        Ok(match self {
            Self::Tcp(socket) => {
                let (stream, client) = socket.accept().await?;
                let local = stream.local_addr().ok().map(|local| local.ip().to_canonical());
                (stream.into(), Peer { from: client.to_string(), local, waits: Waits::default() })
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let user = stream.peer_cred().map_or("?".to_owned(), |peer| peer.uid().to_string());
                let from = format!("the Unix socket, user {user}");
                (stream.into(), Peer { from, local: None, waits: Waits::default() })
            }
        })
    }
}

fn bind_door(what: &str, address: &AdminAddress, sockets: &mut Sockets) -> anyhow::Result<Door> {
    Ok(match address {
        AdminAddress::Tcp(address) => {
            let socket = sockets
                .tcp(what, *address)
                .with_context(|| format!("{what}: cannot bind {address}"))?;
            let socket = TcpListener::from_std(socket)?;
            info!("{what}: http on {}", socket.local_addr()?);
            Door::Tcp(socket)
        }
        AdminAddress::Unix(path) => {
            let inherited = sockets.unix(path).map(UnixListener::from_std);
            let socket = inherited
                .unwrap_or_else(|| bind_unix(path))
                .with_context(|| format!("{what}: cannot bind unix:{}", path.display()))?;
            info!("{what}: http on unix:{}", path.display());
            Door::Unix(socket)
        }
    })
}

fn run(what: &'static str, door: Door, app: App) -> Running {
    let (stop, shutdown) = watch::channel(false);
    let (door, places) = (Arc::new(door), Arc::new(Semaphore::new(CONNECTIONS)));
    let accept = accept_all(door.clone(), Arc::new(app), places.clone(), shutdown);
    Running { what, door, stop, places, accepting: tokio::spawn(accept) }
}

/// A socket file that nobody listens on any more is replaced; anything else is left alone.
fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    let refused = |e: std::io::Error| e.kind() == std::io::ErrorKind::ConnectionRefused;
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(refused) {
        std::fs::remove_file(path)?;
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

async fn accept_all(
    door: Arc<Door>,
    app: Arc<App>,
    places: Arc<Semaphore>,
    mut shutdown: ShutdownWatch,
) {
    loop {
        let accepted = tokio::select! {
            // Stopped, or the sender is gone.
            _ = shutdown.wait_for(|stop| *stop) => return,
            accepted = door.accept() => accepted,
        };
        let (stream, peer): (Stream, _) = match accepted {
            Ok((stream, peer)) => (Box::new(stream), peer),
            Err(e) => {
                warn!("admin: accept: {e}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        // SECURITY: idle connections must not keep an orchestrator from asking: each has little
        // time, and when all places are taken the newest is closed, not made to wait.
        // Test: idle_connections_do_not_silence_the_health_listener
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let caller = Arc::new(Caller::new(Visit { app: app.clone(), peer }));
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            let mut work = caller.process_new(stream, &shutdown);
            if timeout(PATIENCE, &mut work).await.is_ok() {
                drop(place);
                return;
            }
            if caller.streams() {
                work.await;
            } else if caller.waits() {
                let _ = timeout(reloading::PATIENCE, work).await;
            }
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::atomic::AtomicBool};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::Instant,
    };

    use super::*;
    use crate::{
        admin::{Reload, Reloaded},
        config::diagnostic::Findings,
        events::Events,
        farm::Farms,
        site::Token,
        store::Store,
    };

    /// SECURITY: or idle connections would fill the admin side while a reload takes its time.
    #[tokio::test]
    async fn a_reload_gives_time_to_nobody_but_who_waits_for_it() {
        let (store, _) = Store::open(Path::new("/dev/null/none"));
        let (farms, ready) = (Arc::new(Farms::default()), Arc::new(AtomicBool::new(true)));
        let context = Context::new(ready, farms, Arc::new(store), Events::default());
        let context = Arc::new(context);
        let secret = "a".repeat(32);
        let access = Access { token: Token::parse(&secret).unwrap(), to_read: false };
        let app = App {
            context: context.clone(),
            hosts: None,
            api: Some(access),
            health: true,
            metrics: false,
        };
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let running = run("admin", Door::Tcp(socket), app);

        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut waiting = TcpStream::connect(address).await.unwrap();
        let body = r#"{"who":"jo"}"#;
        let request = format!(
            "POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Authorization: Bearer {secret}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        waiting.write_all(request.as_bytes()).await.unwrap();
        let asked = context.reload_asked().await;
        tokio::time::pause();
        let begun = Instant::now();
        assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0, "it is closed");
        assert!(begun.elapsed() < PATIENCE * 2, "after {:?}", begun.elapsed());
        // Far past the time of an answer.
        tokio::time::sleep(PATIENCE * 2).await;
        let nothing = Reload::new("test", &Findings::default());
        asked.answer(Reloaded::from(&nothing));
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        running.close().await;
    }
}
