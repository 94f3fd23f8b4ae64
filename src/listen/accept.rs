//! Binding and accepting.

use std::{
    io::{
        self,
        ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted},
    },
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use log::{debug, warn};
use pingora::{
    protocols::{ALPN, Ssl, Stream},
    proxy::{HttpProxy, ProxyHttp},
};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::{
    Admitted, Connection, Connections, Ends, PerListener, Refusal, Settings, Sockets, Stopping,
    View, http1, http2,
    proxied::{self, Unserved},
    socket::Socket,
    tls::{self, Facts},
};
use crate::site::Listener;

/// Pending connections the kernel keeps while all workers are busy.
const BACKLOG: i32 = 4096;
/// A client that vanished without a word (power, NAT) is noticed within about ten minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(300);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// Binds a listener. IPv6 addresses take IPv6 only, so `0.0.0.0` and `[::]` can stand side by
/// side.
///
/// # Errors
/// The address is in use, not this machine's, or the port needs a privilege.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A listener that is bound and known to the runtime: nothing can fail any more when it begins to
/// accept. Connections that come before that wait in the kernel's queue.
#[derive(Debug)]
pub struct Bound {
    listener: Arc<Listener>,
    tcp: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Binds a listener, or takes its socket from `sockets`; to be called in the runtime.
    ///
    /// # Errors
    /// As for [`bind`]; or the runtime cannot take the socket.
    pub fn new(listener: Arc<Listener>, sockets: &mut Sockets) -> io::Result<Self> {
        let role = role(&listener);
        let tcp = TcpListener::from_std(sockets.tcp(&role, listener.address)?)?;
        let address = tcp.local_addr()?;
        Ok(Self { listener, tcp, address })
    }
}

/// What a listener's socket is for, told to the process that takes it over.
fn role(listener: &Listener) -> String {
    format!("listener {}", listener.name)
}

/// A listener that accepts; stops when dropped or told to.
pub struct Running {
    /// As bound (the port is the kernel's choice where 0 was asked for).
    pub bound: SocketAddr,
    /// As configured when it was bound.
    pub listener: Arc<Listener>,
    socket: Arc<TcpListener>,
    stop: watch::Sender<bool>,
    /// Also for clients that ask for nothing at the moment.
    at_once: Option<watch::Sender<bool>>,
    accepting: Option<JoinHandle<()>>,
}

/// Clients that were accepted before a hand-over and ask for nothing at the moment: each may, once
/// more. When this is dropped, nothing is owed to them.
pub struct Owed(#[allow(dead_code, reason = "kept for its end")] watch::Sender<bool>);

impl Running {
    /// Stops accepting and returns once the address is free. Idle connections close, running
    /// requests end, their answers carry `Connection: close`.
    pub async fn close(mut self) {
        let _ = self.stop.send(true);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.await;
        }
    }

    /// The same, after another process was given the socket: who connects from now on reaches
    /// that one, and who connected before is served here.
    pub async fn hand_over(mut self) -> Option<Owed> {
        let owed = self.at_once.take().map(Owed);
        self.close().await;
        owed
    }

    /// A copy of its socket, and what that is for.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn socket(&self) -> io::Result<(String, OwnedFd)> {
        Ok((role(&self.listener), self.socket.as_fd().try_clone_to_owned()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(at_once) = &self.at_once {
            let _ = at_once.send(true);
        }
    }
}

/// Starts accepting.
pub fn start<SV>(
    bound: Bound,
    proxy: Arc<HttpProxy<SV>>,
    view: Arc<dyn View>,
    connections: Arc<Connections>,
) -> Running
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    let Bound { listener, tcp, address: bound } = bound;
    let (stop, shutdown) = watch::channel(false);
    let (at_once, gone) = watch::channel(false);
    let socket = Arc::new(tcp);
    let counted = connections.listener(&listener.name);
    let stopping = Stopping { shutdown, at_once: gone };
    let door = Door { listener: listener.clone(), proxy, view, connections, counted, stopping };
    let tcp = socket.clone();
    let accepting = Some(tokio::spawn(async move { door.accept_all(&tcp).await }));
    Running { bound, listener, socket, stop, at_once: Some(at_once), accepting }
}

/// Everything one accept loop needs.
struct Door<SV> {
    listener: Arc<Listener>,
    proxy: Arc<HttpProxy<SV>>,
    view: Arc<dyn View>,
    connections: Arc<Connections>,
    counted: Arc<PerListener>,
    stopping: Stopping,
}

impl<SV> Door<SV>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    async fn accept_all(mut self, tcp: &TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                _ = self.stopping.shutdown.wait_for(|stop| *stop) => return,
                accepted = tcp.accept() => accepted,
            };
            match accepted {
                Ok((socket, client)) => self.admit(socket, client),
                // One connection that came to nothing.
                Err(e) if matches!(e.kind(), ConnectionAborted | ConnectionReset | Interrupted) => {
                    debug!("listener {}: accept: {e}", self.listener.name);
                }
                // Out of descriptors or memory: accept would fail in a tight loop.
                Err(e) => {
                    warn!("listener {}: accept: {e}; waiting a second", self.listener.name);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn admit(&self, tcp: TcpStream, client: SocketAddr) {
        let Some(settings) = self.view.settings(&self.listener) else { return };
        let limits = &settings.site_limits;
        let (all, each) = (limits.connections, limits.connections_per_source);
        // SECURITY: one source cannot take every connection. Test: one_source_cannot_take_all.
        let Some(admitted) = self.connections.admit(client.ip(), all, each) else {
            return self.connections.tell_refusals(&self.listener.name, client);
        };
        let admitted = admitted.at(&self.counted);
        let (proxy, view, stopping) =
            (self.proxy.clone(), self.view.clone(), self.stopping.clone());
        tokio::spawn(async move {
            serve(tcp, client, &settings, &proxy, &view, stopping, admitted).await;
        });
    }
}

async fn serve<SV>(
    mut tcp: TcpStream,
    peer: SocketAddr,
    settings: &Settings,
    proxy: &Arc<HttpProxy<SV>>,
    view: &Arc<dyn View>,
    mut stopping: Stopping,
    mut admitted: Admitted,
) where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    let _ = tcp.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    let _ = SockRef::from(&tcp).set_tcp_keepalive(&keepalive);
    let Ok(local) = tcp.local_addr() else { return };
    let fd = tcp.as_raw_fd();
    let listener = settings.listener.clone();
    let ends = Ends { client: peer, local, sender: None, tls: false, unnamed: false };
    let opened = proxied::open(&mut tcp, ends, settings, &mut admitted, &mut stopping.at_once);
    let opened = opened.await;
    let (ends, read) = match opened {
        Ok(opened) => opened,
        Err(Unserved::Silently) => return,
        Err(Unserved::TooMany(client)) => return admitted.told_refused(&listener.name, client),
        Err(Unserved::Refused(reason, started)) => {
            let connection = Connection::new(listener, ends, None, stopping, admitted, fd);
            let (connection, head) = (&connection, &b""[..]);
            return view.refused(&Refusal { connection, started, head, reason, sent: 0 });
        }
    };
    let client = ends.client;
    let socket = Socket::new(tcp, client, read);
    let Some(acceptor) = &settings.acceptor else {
        let connection = Connection::new(listener, ends, None, stopping.clone(), admitted, fd);
        let connection = Arc::new(connection);
        return http1::serve(Box::new(socket), connection, proxy, &**view, stopping).await;
    };
    let deadline = settings.site_limits.tls_handshake;
    let name = listener.name.clone();
    let facts = Facts::new(listener, ends, stopping.clone(), admitted, fd);
    let handshake = tls::handshake(acceptor, socket, facts);
    let shaken = tokio::select! {
        biased;
        shaken = timeout(deadline, handshake) => shaken,
        // Nothing is owed yet to who has not finished the handshake.
        _ = stopping.at_once.wait_for(|stop| *stop) => return,
    };
    let (stream, connection) = match shaken {
        Ok(Ok(done)) => done,
        Ok(Err(e)) => return debug!("listener {name}: {client}: {e}"),
        Err(_) => return debug!("listener {name}: {client}: TLS handshake took over {deadline:?}"),
    };
    let h2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
    let stream: Stream = Box::new(stream);
    if h2 {
        http2::serve(stream, &connection, proxy, view, settings, stopping).await;
    } else {
        http1::serve(stream, connection, proxy, &**view, stopping).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reload binds, finds a fault elsewhere, and has to leave nothing behind.
    #[tokio::test]
    async fn what_is_bound_and_never_accepts_gives_its_address_back() {
        let bound = |address| {
            let listener = Listener {
                name: "a".into(),
                address,
                public_port: 80,
                tls: None,
                proxy_protocol: None,
            };
            Bound::new(Arc::new(listener), &mut Sockets::default())
        };
        let first = bound(([127, 0, 0, 1], 0).into()).unwrap();
        let address = first.address;
        assert!(std::net::TcpStream::connect(address).is_ok(), "clients wait in the queue");
        assert_eq!(bound(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert_eq!(bound(address).unwrap().address, address);
    }
}
