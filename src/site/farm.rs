//! Farms, servers and probes.

use std::{net::IpAddr, sync::Arc, time::Duration};

use boring::x509::X509;

use super::Place;
use crate::proxy_protocol;

/// Servers that do the same job.
#[derive(Clone, Debug, PartialEq)]
pub struct Farm {
    /// Its name, unique in the site.
    pub name: Arc<str>,
    /// The preset it came from, for display: `lync`, `owas`, `exchange/ews`, `none`.
    pub preset: Arc<str>,
    /// Its servers; never empty.
    pub servers: Vec<Server>,
    /// Which protocol goes to the servers.
    pub bridge: Bridge,
    /// A `Host` to send instead of the client's; `None` keeps the client's own bytes.
    pub host: Option<Arc<str>>,
    /// TLS towards the servers.
    pub tls: ServerTls,
    /// How long a server may stay silent.
    pub timeout: Duration,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// How long an unused server connection is kept.
    pub server_idle: Duration,
    /// Active health checks; empty means every server counts as healthy.
    pub probes: Vec<Probe>,
    /// How a new client's server is chosen.
    pub balance: Balance,
    /// What keeps a client on its server.
    pub affinity: Affinity,
    /// Health learnt from live traffic.
    pub passive: Passive,
    /// How long a server that comes back gets less than its share; zero: not at all.
    pub slow_start: Duration,
    /// Requests that wait for a server.
    pub queue: Queue,
    /// How connection-bound authentication (NTLM, Negotiate) is treated.
    pub connection_auth: ConnectionAuth,
    /// Path prefixes that are not published; lower case, with leading slash, whole segments.
    pub deny_paths: Vec<Arc<str>>,
    /// When not empty: the only paths (same form as `deny_paths`, but `=/x` is exact) that are
    /// forwarded from plain listeners. Preset lync: `=/` and `/autodiscover`.
    pub plain_paths: Vec<Arc<str>>,
    /// Response headers taken out before the client sees them; lower case.
    pub hide_headers: Vec<Arc<str>>,
    /// What its servers are told about the client.
    pub forward: Forward,
    /// Where it is configured.
    pub place: Place,
}

/// What servers are told about the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// In which form.
    pub style: ForwardStyle,
    /// Whether `Forwarded` (RFC 7239) is sent too.
    pub rfc7239: bool,
    /// Whether each connection begins with a PROXY header that names its client, and of which
    /// version.
    pub proxy_protocol: Option<proxy_protocol::Version>,
}

/// The form of the fields that tell about the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardStyle {
    /// `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`.
    #[default]
    Standard,
    /// These, the first one with the port, and ARR's `X-ARR-SSL`, `X-ARR-LOG-ID` and
    /// `X-Original-URL`.
    Arr,
}

/// One Front End.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its name; default: its address. Unique in the farm.
    pub name: Arc<str>,
    /// A DNS name or an IP address, without port.
    pub address: Address,
    /// Share of the round robin; 0 gets no new clients. Default 100.
    pub weight: u32,
    /// Serves only when no other server can.
    pub backup: bool,
    /// Most requests at a time; 0: no limit.
    pub max_requests: usize,
    /// Ports on this server.
    pub ports: Ports,
    /// SNI and expected certificate name, never empty, lower case.
    pub tls_name: Arc<str>,
}

/// What a server is reached by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address as written.
    Ip(IpAddr),
    /// A DNS name; every address behind it is the same server, tried in order.
    Name(Arc<str>),
}

/// Ports of a server for the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    /// For TLS. Default 443; preset lync: 4443.
    pub https: u16,
    /// For plain HTTP. Default 80; preset lync: 8080.
    pub http: u16,
}

/// Which protocol goes to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bridge {
    /// https → https, http → http.
    Same,
    /// Always TLS.
    Https,
    /// Always plain HTTP (TLS offload).
    Http,
}

impl Bridge {
    /// Whether the connection to the server is TLS, for a client that came by `https` or not.
    pub fn uses_tls(self, client_https: bool) -> bool {
        match self {
            Self::Same => client_https,
            Self::Https => true,
            Self::Http => false,
        }
    }
}

/// TLS towards servers.
#[derive(Clone)]
pub struct ServerTls {
    /// What of the server's certificate is verified.
    pub verify: Verify,
    /// Trusted authorities; `None`: the system's.
    pub ca: Option<Arc<Box<[X509]>>>,
    /// Digest over everything above and the client certificate: equal settings, equal value.
    pub digest: u64,
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.verify == other.verify && self.digest == other.digest
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("verify", &self.verify).finish_non_exhaustive()
    }
}

/// What of a server's certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Chain, dates and name.
    Full,
    /// Chain and dates; any name, as ARR did (SECURITY_FLAG_IGNORE_CERT_CN_INVALID).
    Chain,
    /// Nothing.
    Off,
}

/// How a new client's server is chosen (ARR `loadBalancing/algorithm`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The one with the fewest running requests for its weight.
    LeastRequests,
    /// The one that answers fastest, by a decaying average.
    LeastResponseTime,
    /// The one that moved the fewest bytes for its weight.
    WeightedTraffic,
    /// By a property of the request: the same one leads to the same server.
    Hash(HashKey),
}

/// The property that [`Balance::Hash`] goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Source,
    /// The host asked for, normalised.
    Host,
    /// Path and query as sent.
    Url,
    /// The value of this request header; requests without it are spread at random.
    Header(Arc<str>),
    /// The value of this query parameter; requests without it are spread at random.
    Query(Arc<str>),
}

/// What keeps a client on its server (ARR `affinity`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// Nothing.
    None,
    /// Its address.
    Source,
    /// A cookie of this name, for as long as the browser session lasts.
    Cookie(Arc<str>),
}

/// Health learnt from live traffic (ARR `healthCheck/liveTrafficFailureCodes`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passive {
    /// A connection that is not accepted counts.
    pub connect: bool,
    /// TLS that fails counts.
    pub tls: bool,
    /// A connection that closes in the middle of an exchange counts.
    pub reset: bool,
    /// Status codes that count, inclusive ranges; none by default, because SOAP faults are 500.
    pub status: Vec<(u16, u16)>,
    /// How many failures take a server out.
    pub failures: usize,
    /// In what time.
    pub within: Duration,
    /// How long it stays out the first time; each time in a row it is twice as long.
    pub retry_after: Duration,
    /// Most of the farm, in percent, that may be out for this reason.
    pub max_ejected: u8,
    /// Servers that stay in whatever happens.
    pub min_servers: usize,
}

/// Requests that wait while every server is at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many may wait; 0: none.
    pub size: usize,
    /// How long one may wait.
    pub wait: Duration,
}

/// How connection-bound authentication is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionAuth {
    /// Pin when NTLM, Negotiate, Nego2 or Kerberos shows up.
    Auto,
    /// Pin from the first request.
    Always,
    /// Do not let it through.
    Off,
}

/// An active health check.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What is asked.
    pub check: Check,
    /// Time from one start to the next.
    pub interval: Duration,
    /// Deadline for the whole probe: connect, TLS, answer and body.
    pub timeout: Duration,
    /// Successes in a row that make a server healthy.
    pub rise: u32,
    /// Failures in a row that make it unhealthy.
    pub fall: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// Connect to this port.
    Tcp {
        /// Port on the server.
        port: u16,
    },
    /// GET a page over the protocol the farm uses (`Bridge::Http`: plain; else TLS).
    Http {
        /// Path and query.
        path: Arc<str>,
        /// `Host` header; default: the server's TLS name.
        host: Option<Arc<str>>,
        /// Accepted status codes, inclusive ranges.
        status: Vec<(u16, u16)>,
        /// Text the body must contain, case-sensitive (ARR `responseMatch`).
        body: Option<Arc<str>>,
    },
}
