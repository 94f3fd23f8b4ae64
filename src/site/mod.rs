//! The site: what `config::compile` makes and a request sees.
//!
//! Everything here is resolved and immutable: names are looked up, presets expanded, files read.
//! Nothing is left that can fail while a request is served.

mod condition;
mod endpoint;
mod farm;
mod listener;
pub mod path;
mod receivers;
mod rule;
mod template;
#[cfg(test)]
pub(crate) mod testing;
mod token;
mod traces;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ipnet::IpNet;

pub use condition::{Condition, Pattern, Test};
pub use endpoint::Endpoint;
pub use farm::{
    Address, Affinity, Balance, Bridge, Check, ConnectionAuth, Farm, Forward, ForwardStyle,
    HashKey, Passive, Ports, Probe, Queue, Server, ServerTls, Verify,
};
pub use listener::{Certificate, Listener, ListenerTls, ProxyProtocol, TlsVersion};
pub use receivers::Receivers;
pub use rule::{Action, HostPattern, Page, PathPattern, Redirect, Respond, Rule, Schemes};
pub use template::{Field, FieldValue, HeaderChanges, Part, Rewrite, Template};
pub use token::Token;
pub use traces::Traces;

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
    /// What affinity cookies are made with: nobody outside knows it, and every Frontgate with the
    /// same certificates has the same.
    pub affinity_key: AffinityKey,
    /// Farms, sorted by name; a `FarmId` indexes this list.
    pub farms: Vec<Arc<Farm>>,
    /// Publish rules in file order.
    pub rules: Vec<Arc<Rule>>,
    /// What the `*` of `meet.*` may be; empty means anything.
    pub domains: Vec<String>,
    /// Proxies in front whose word about the client is believed; IPv4 networks never in IPv6
    /// form.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits on clients.
    pub limits: Limits,
    /// Access log settings; `None` switches it off.
    pub access_log: AccessLog,
    /// Where the admin and health endpoints listen.
    pub admin: Admin,
    /// Who is told of events.
    pub receivers: Receivers,
    /// Where traces go; `None` switches them off.
    pub traces: Option<Traces>,
    /// Directory for what survives a restart.
    pub state_dir: std::path::PathBuf,
    /// Threads for traffic.
    pub workers: usize,
    /// Delay before the listeners close, and how long running requests may take.
    pub shutdown: Shutdown,
}

/// The key of affinity cookies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AffinityKey(pub [u8; 32]);

impl std::fmt::Debug for AffinityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It stays out of every log.
        f.write_str("AffinityKey")
    }
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
    /// Where it goes.
    pub target: LogTarget,
    /// What it tells of queries.
    pub query: LogQuery,
}

impl Default for AccessLog {
    /// What stands where the configuration says nothing: JSON on stdout, values masked.
    fn default() -> Self {
        Self { format: LogFormat::Json, target: LogTarget::Stdout, query: LogQuery::Masked }
    }
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Apache's combined format with our fields appended.
    Combined,
    /// W3C extended as IIS writes it, with our fields appended.
    W3c,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output (`-`).
    Stdout,
    /// A file.
    File(std::path::PathBuf),
    /// A syslog receiver.
    Syslog(SyslogAddress),
}

/// Where a syslog receiver takes datagrams (RFC 5424 messages).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// A Unix socket, such as `/dev/log`.
    Unix(std::path::PathBuf),
    /// UDP (RFC 5426).
    Udp(std::net::SocketAddr),
}

/// What the access log tells of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogQuery {
    /// The names of parameters, `*` for their values.
    Masked,
    /// Everything. Queries carry tickets, names and addresses.
    Full,
    /// Nothing.
    Off,
}

/// Where the admin and health endpoints listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Admin listener.
    pub listen: AdminAddress,
    /// Separate listener for `/livez` and `/readyz`, if any.
    pub health: Option<AdminAddress>,
    /// Separate listener for `/metrics`, if any.
    pub metrics: Option<AdminAddress>,
    /// Host names accepted in `Host` besides loopback ones.
    pub hosts: Vec<String>,
    /// The configured token that changes need; `None`: the one that Frontgate makes.
    pub token: Option<Token>,
    /// Where commands find the token.
    pub token_file: std::path::PathBuf,
}

/// An address of the admin side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// `unix:/path`.
    Unix(std::path::PathBuf),
}

impl AdminAddress {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl std::fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How Frontgate stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Not ready, but still accepting, for this long.
    pub delay: Duration,
    /// How long running requests may take.
    pub drain: Duration,
}
