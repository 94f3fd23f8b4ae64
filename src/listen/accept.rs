//! Binding and accepting.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use log::{debug, warn};
use pingora::{
    protocols::{ALPN, Ssl, Stream},
    proxy::{HttpProxy, ProxyHttp},
    server::ShutdownWatch,
};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use super::{Connection, Connections, Settings, View, http1, http2, socket::Socket, tls};
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

/// A listener that accepts; stops when dropped or told to.
pub struct Running {
    /// As bound (the port is the kernel's choice where 0 was asked for).
    pub bound: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Running {
    /// Stops accepting. Idle connections close, running requests end, their answers carry
    /// `Connection: close`.
    pub fn stop(&self) {
        let _ = self.stop.send(true);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts accepting on a bound socket.
///
/// # Errors
/// The socket cannot be handed to the runtime.
pub fn start<SV>(
    socket: StdListener,
    listener: Arc<Listener>,
    proxy: Arc<HttpProxy<SV>>,
    view: Arc<dyn View>,
    connections: Arc<Connections>,
) -> io::Result<Running>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    let tcp = TcpListener::from_std(socket)?;
    let bound = tcp.local_addr()?;
    let (stop, shutdown) = watch::channel(false);
    let door = Door { listener, proxy, view, connections, shutdown };
    tokio::spawn(async move { door.accept_all(tcp).await });
    Ok(Running { bound, stop })
}

/// Everything one accept loop needs.
struct Door<SV> {
    listener: Arc<Listener>,
    proxy: Arc<HttpProxy<SV>>,
    view: Arc<dyn View>,
    connections: Arc<Connections>,
    shutdown: ShutdownWatch,
}

impl<SV> Door<SV>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    async fn accept_all(mut self, tcp: TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                _ = self.shutdown.wait_for(|stop| *stop) => return,
                accepted = tcp.accept() => accepted,
            };
            match accepted {
                Ok((socket, client)) => self.admit(socket, client),
                // Out of descriptors: accept would fail in a tight loop until some are freed.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    warn!("listener {}: {e}; waiting a second", self.listener.name);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(e) => debug!("listener {}: accept: {e}", self.listener.name),
            }
        }
    }

    fn admit(&self, tcp: TcpStream, client: SocketAddr) {
        let Some(settings) = self.view.settings(&self.listener) else { return };
        let limits = &settings.site_limits;
        let (all, each) = (limits.connections, limits.connections_per_source);
        // SECURITY: one source cannot take every connection. Test: one_source_cannot_take_all.
        let Some(admitted) = self.connections.admit(client.ip(), all, each) else {
            debug!("listener {}: too many connections, {client} refused", self.listener.name);
            return;
        };
        let (proxy, view, shutdown) =
            (self.proxy.clone(), self.view.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            serve(tcp, client, &settings, &proxy, view.as_ref(), shutdown).await;
            drop(admitted);
        });
    }
}

async fn serve<SV>(
    tcp: TcpStream,
    client: SocketAddr,
    settings: &Settings,
    proxy: &Arc<HttpProxy<SV>>,
    view: &dyn View,
    shutdown: ShutdownWatch,
) where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    let _ = tcp.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    let _ = SockRef::from(&tcp).set_tcp_keepalive(&keepalive);
    let Ok(local) = tcp.local_addr() else { return };
    let socket = Socket::new(tcp, client);
    let listener = settings.listener.clone();
    let Some(acceptor) = &settings.acceptor else {
        let connection = Arc::new(Connection::new(listener, client, local, None, shutdown.clone()));
        return http1::serve(Box::new(socket), connection, proxy, view, shutdown).await;
    };
    let deadline = settings.site_limits.tls_handshake;
    let name = listener.name.clone();
    let handshake = tls::handshake(acceptor, socket, listener, client, local, shutdown.clone());
    let (stream, connection) = match timeout(deadline, handshake).await {
        Ok(Ok(done)) => done,
        Ok(Err(e)) => return debug!("listener {name}: {client}: {e}"),
        Err(_) => return debug!("listener {name}: {client}: TLS handshake took over {deadline:?}"),
    };
    let h2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
    let stream: Stream = Box::new(stream);
    if h2 {
        http2::serve(stream, proxy, settings, &shutdown).await;
    } else {
        http1::serve(stream, connection, proxy, view, shutdown).await;
    }
}
