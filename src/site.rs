//! The site: what `config::compile` makes and a request sees.
//!
//! Everything here is resolved and immutable: names are looked up, presets expanded, files read.
//! Nothing is left that can fail while a request is served.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use boring::{
    pkey::{PKey, Private},
    x509::X509,
};

/// The compiled, immutable configuration.
#[derive(Debug)]
pub struct Site {
    /// Hexadecimal digest over every file that was read; two equal ones mean nothing changed.
    pub fingerprint: String,
    /// Every file whose change asks for a reload: configuration, certificates, keys, CA bundles.
    pub files: Vec<std::path::PathBuf>,
    /// Directories in which a new file would change the configuration (`include` patterns).
    pub directories: Vec<std::path::PathBuf>,
    /// Sockets to listen on.
    pub listeners: Vec<Arc<Listener>>,
    /// Certificates, in file order; the default one is `default_certificate`.
    pub certificates: Vec<Arc<Certificate>>,
    /// Index into `certificates` of the one that answers names no other covers.
    pub default_certificate: usize,
    /// Farms, sorted by name; a `FarmId` indexes this list.
    pub farms: Vec<Arc<Farm>>,
    /// Publish rules in file order.
    pub rules: Vec<Arc<Rule>>,
    /// What the `*` of `meet.*` may be; empty means anything.
    pub domains: Vec<String>,
    /// Limits on clients.
    pub limits: Limits,
    /// Access log settings; `None` switches it off.
    pub access_log: AccessLog,
    /// Where the admin and health endpoints listen.
    pub admin: Admin,
    /// Threads for traffic.
    pub workers: usize,
    /// Delay before the listeners close, and how long running requests may take.
    pub shutdown: Shutdown,
}

/// Index of a farm in [`Site::farms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FarmId(pub usize);

/// A place in a configuration file, for messages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as the administrator named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A socket that clients connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name; default: its address.
    pub name: Arc<str>,
    /// Address and port to bind.
    pub address: SocketAddr,
    /// The port that clients see (behind a port mapping); default: the bound port.
    pub public_port: u16,
    /// TLS settings; `None` for a plain listener.
    pub tls: Option<ListenerTls>,
}

/// TLS towards clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerTls {
    /// Oldest version accepted. Default 1.2.
    pub min_version: TlsVersion,
    /// Whether HTTP/2 may be offered (where every farm under the name allows it). Default true.
    pub http2: bool,
}

/// A TLS protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum TlsVersion {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

/// A certificate with its chain and key, ready for handshakes.
pub struct Certificate {
    /// DNS names it covers, lower case, possibly with a leading `*.`.
    pub names: Vec<String>,
    /// Leaf first, then intermediates.
    pub chain: Vec<X509>,
    /// The leaf's private key.
    pub key: PKey<Private>,
    /// Whether the key is an elliptic curve key (served to clients that accept it).
    pub ecdsa: bool,
    /// Where it is configured.
    pub place: Place,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of every log.
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Whether `host` (lower case, no port, no trailing dot) is one of the names. A `*` stands
    /// for exactly one label (RFC 6125 6.4.3).
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(parent) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
            None => name == host,
        })
    }
}

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
    /// How connection-bound authentication (NTLM, Negotiate) is treated.
    pub connection_auth: ConnectionAuth,
    /// Path prefixes that are not published; lower case, with leading slash, whole segments.
    pub deny_paths: Vec<Arc<str>>,
    /// When not empty: the only paths (same form as `deny_paths`, but `=/x` is exact) that are
    /// forwarded from plain listeners. Preset lync: `=/` and `/autodiscover`.
    pub plain_paths: Vec<Arc<str>>,
    /// Response headers taken out before the client sees them; lower case.
    pub hide_headers: Vec<Arc<str>>,
    /// Where it is configured.
    pub place: Place,
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

/// A publish rule: host (+ path) → farm.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its position in [`Site::rules`].
    pub index: usize,
    /// Name for logs; default `host/path` as written.
    pub name: Arc<str>,
    /// Host names it takes.
    pub host: HostPattern,
    /// Paths it takes.
    pub path: PathPattern,
    /// Client protocols it is published on.
    pub schemes: Schemes,
    /// Names of the listeners it is limited to; `None`: all.
    pub listeners: Option<Vec<Arc<str>>>,
    /// What happens.
    pub action: Action,
    /// Paths of the farm's `deny_paths` that this rule publishes all the same.
    pub allow_denied: Vec<Arc<str>>,
    /// Silence allowed to the server, instead of the farm's.
    pub timeout: Option<Duration>,
    /// Largest request body in bytes.
    pub body_size: Option<u64>,
    /// How long a client may stay silent inside a request body. Default 60 s.
    pub body_timeout: Duration,
    /// Where it is configured.
    pub place: Place,
}

/// Which host names a rule takes; all lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `meet.contoso.com`
    Exact(Arc<str>),
    /// `meet.*`: a first label, then one of the site's `domains` or something under it. Holds
    /// `meet` (it may have several labels: `meet.emea.*` holds `meet.emea`).
    Prefix(Arc<str>),
    /// `*.contoso.com`: anything under it, any number of labels. Holds `contoso.com`.
    Suffix(Arc<str>),
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(h) => f.write_str(h),
            Self::Prefix(p) => write!(f, "{p}.*"),
            Self::Suffix(s) => write!(f, "*.{s}"),
        }
    }
}

/// Which paths a rule takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// Every path.
    Any,
    /// Whole segments, lower case, leading slash, no trailing slash: `/meet`.
    Prefix(Arc<str>),
    /// Exactly this path, lower case (`=/x`).
    Exact(Arc<str>),
}

/// Client protocols a rule is published on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schemes {
    /// On TLS listeners.
    pub https: bool,
    /// On plain listeners.
    pub http: bool,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send the request to a farm.
    Forward(FarmId),
    /// Answer 404.
    Deny,
    /// Answer with a redirect.
    Redirect(Redirect),
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Absolute URL or a path.
    pub to: Arc<str>,
    /// 301, 302, 303, 307 or 308. Default 302.
    pub status: u16,
    /// Append the request's path to `to`. Default false.
    pub keep_path: bool,
    /// Append the request's query to `to`. Default true.
    pub keep_query: bool,
}

/// Limits on clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_source: usize,
    pub pins: usize,
    pub pins_per_source: usize,
    pub tls_handshake: Duration,
    pub header_timeout: Duration,
    pub keep_alive: Duration,
    pub header_size: usize,
    pub headers: usize,
    pub url: usize,
    pub h2_streams: usize,
}

/// Access log settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// How a line looks.
    pub format: LogFormat,
    /// A file, or `None` for stdout (`-`).
    pub path: Option<std::path::PathBuf>,
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Apache's combined format with our fields appended.
    Combined,
}

/// Where the admin and health endpoints listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Admin listener.
    pub listen: AdminAddress,
    /// Separate listener for `/livez` and `/readyz`, if any.
    pub health: Option<AdminAddress>,
    /// Host names accepted in `Host` besides loopback ones.
    pub hosts: Vec<String>,
}

/// An address of the admin side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// `unix:/path`.
    Unix(std::path::PathBuf),
}

/// How Frontgate stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Not ready, but still accepting, for this long.
    pub delay: Duration,
    /// How long running requests may take.
    pub drain: Duration,
}
