//! What is known about one client connection.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    os::fd::RawFd,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use http::{HeaderValue, StatusCode};
use ipnet::IpNet;

use super::{Admitted, Arr, Key, Lease, Stopping, owned::Owned};
use crate::lock::lock;
use crate::site::{Certificate, Listener};

/// One client connection, shared by everything that serves it.
#[derive(Debug)]
pub struct Connection {
    /// Unique in this process.
    pub id: u64,
    /// The listener that accepted it, as it was then.
    pub listener: Arc<Listener>,
    /// The client: the peer, or whom a PROXY header named.
    pub client: SocketAddr,
    /// The balancer whose PROXY header named the client.
    pub sender: Option<SocketAddr>,
    /// It came through a balancer that named nobody.
    unnamed: bool,
    /// The client's address as servers are told it.
    pub client_value: HeaderValue,
    arr: OnceLock<Arr>,
    /// The port the client connected to, as it sees it.
    pub port_value: HeaderValue,
    /// The address the client connected to, the balancer's where one passed it through.
    pub local: SocketAddr,
    /// Whether the client speaks https: to us, or to the balancer.
    pub https: bool,
    /// TLS facts; `None` on a plain listener.
    pub tls: Option<ConnectionTls>,
    /// A 101 was sent: bytes pass through from now on.
    pub upgraded: AtomicBool,
    /// The framing of a request body broke while it was read.
    pub framing_broken: AtomicBool,
    /// How it learns that its listener stops: answers then carry `Connection: close`.
    pub stopping: Stopping,
    /// Counts it while anything still holds on to it.
    admitted: Admitted,
    /// What `pin` keeps for it; let go as soon as the client has left.
    pub kept: Mutex<Option<Box<dyn Any + Send>>>,
    /// Its socket, while the connection is served.
    pub fd: RawFd,
    /// Whose connection-bound sign-in it carries, once there is one.
    pub owner: OnceLock<IpAddr>,
    /// It carries connection-bound authentication and shares no server connection.
    pub pinned: AtomicBool,
    servers: Arc<Owned>,
}

/// The two ends of a client connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// The balancer that told both, if one did.
    pub sender: Option<SocketAddr>,
    /// Whether TLS with the client ends there.
    pub tls: bool,
    /// It came through a balancer that named nobody: the client is the balancer, or anybody.
    pub unnamed: bool,
}

/// TLS facts of a client connection.
#[derive(Debug)]
pub struct ConnectionTls {
    /// Server name the client asked for, lower case, without trailing dot.
    pub sni: Option<String>,
    /// `TLSv1.2`, `TLSv1.3`, …
    pub version: &'static str,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// Secret bits of the cipher.
    pub cipher_bits: i32,
    /// The certificate that was served, for the check of Host against SNI.
    pub certificate: Option<Arc<Certificate>>,
}

impl Connection {
    /// A new connection with an identity of its own.
    pub fn new(
        listener: Arc<Listener>,
        ends: Ends,
        tls: Option<ConnectionTls>,
        stopping: Stopping,
        admitted: Admitted,
        fd: RawFd,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let Ends { client, local, sender, tls: tls_before, unnamed } = ends;
        let client_value = client.ip().to_canonical().to_string();
        // An address is always a good value.
        let client_value = HeaderValue::from_str(&client_value)
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let port_value = HeaderValue::from(listener.public_port);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            listener,
            client,
            sender,
            unnamed,
            client_value,
            arr: OnceLock::new(),
            port_value,
            local,
            https: tls_before || tls.is_some(),
            tls,
            stopping,
            admitted,
            kept: Mutex::default(),
            fd,
            upgraded: AtomicBool::new(false),
            framing_broken: AtomicBool::new(false),
            owner: OnceLock::new(),
            pinned: AtomicBool::new(false),
            servers: Arc::default(),
        }
    }

    /// The proxies whose word about clients counts on this connection, of those that are trusted.
    ///
    /// SECURITY: a balancer is believed about the connection, not about what its client sends
    /// through it: the client that it named has to be a trusted proxy itself. Where it named
    /// nobody, the bytes may be anybody's. Test: a_balancer_does_not_vouch_for_header_fields
    pub fn believed<'t>(&self, trusted: &'t [IpNet]) -> &'t [IpNet] {
        if self.unnamed { &[] } else { trusted }
    }

    /// What servers are told in the style of ARR.
    pub fn arr(&self) -> &Arr {
        self.arr.get_or_init(|| Arr::new(self.client, self.tls.as_ref()))
    }

    /// Whether an answer with this status is the last one, because the listener stops, or
    /// Frontgate is about to.
    ///
    /// COMPAT: after a hand-over a sign-in that has begun is brought to its end: its next step has
    /// to come on the same connection, and Outlook would ask for the password otherwise.
    /// Test: a_sign_in_that_has_begun_ends_where_it_began
    pub fn ends_with(&self, status: StatusCode) -> bool {
        let signs_in = status == StatusCode::UNAUTHORIZED && self.pinned.load(Ordering::Relaxed);
        if signs_in {
            return *self.stopping.at_once.borrow();
        }
        *self.stopping.shutdown.borrow() || self.admitted.leaving()
    }

    /// The client has left: nothing of it may go on.
    pub fn release(&self) {
        let kept = lock(&self.kept).take();
        drop(kept);
        self.servers.shut_down();
    }

    /// A request is about to look for a server connection that names this client. Nobody else can
    /// use it, so it ends with this one.
    pub fn wants(&self, key: Key) -> Lease {
        Lease::new(&self.servers, key)
    }

    /// The server name the client asked for in TLS.
    pub fn sni(&self) -> Option<&str> {
        self.tls.as_ref()?.sni.as_deref()
    }
}
