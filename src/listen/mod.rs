//! Sockets towards clients: accept, TLS, one request at a time.
//!
//! Accept is ours and not Pingora's, because Pingora's listeners answer malformed requests and
//! CONNECT before any hook runs, fix the handshake deadline at 60 s and have none for a header.

mod accept;
mod arr;
pub mod body;
mod certificates;
mod connection;
mod count;
mod farewell;
mod gate;
mod gather;
mod handle;
mod http1;
mod http2;
mod inherited;
mod owned;
mod proxied;
mod pulse;
mod socket;
mod tls;

use std::sync::Arc;

pub use accept::{Bound, Owed, Running, bind, start};
pub use arr::Arr;
use boring::ssl::SslAcceptor;
pub use certificates::Certificates;
pub use connection::{Connection, ConnectionTls, Ends};
pub use count::{Admitted, Connections, PerListener};
pub use handle::Handle;
pub use http1::{Arrival, Refusal};
pub use inherited::Sockets;
pub use owned::{Key, Lease, UNCOUNTED};
use pingora::server::ShutdownWatch;
pub use tls::acceptor;

use crate::{
    guard::HeadLimits,
    site::{Certificate, Limits, Listener},
};

/// What the listeners need to know of the site, as it is at that moment.
pub trait View: Send + Sync {
    /// Settings of a listener; `None` once the site no longer has it.
    fn settings(&self, listener: &Listener) -> Option<Arc<Settings>>;
    /// The certificate for a server name.
    fn certificate(&self, sni: Option<&str>, accepts_ecdsa: bool) -> Option<Arc<Certificate>>;
    /// Whether HTTP/2 may be offered to a client that asks for this server name.
    fn http2_allowed(&self, sni: &str) -> bool;
    /// A request ended before it became one.
    fn refused(&self, refusal: &Refusal<'_>);
}

/// How a connection learns that its listener stops.
#[derive(Clone, Debug)]
pub struct Stopping {
    /// Its next answer is the last one.
    pub shutdown: ShutdownWatch,
    /// Nor is a request waited for. A hand-over does without: all is well then, so nobody's request
    /// shall meet the end of an idle connection.
    pub at_once: ShutdownWatch,
}

/// A listener of the current site, ready for use.
pub struct Settings {
    /// As compiled.
    pub listener: Arc<Listener>,
    /// For TLS listeners.
    pub acceptor: Option<SslAcceptor>,
    /// The site's limits.
    pub site_limits: Limits,
    /// The part of them that one header is held to.
    pub head_limits: HeadLimits,
}
