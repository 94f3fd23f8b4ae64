//! Farms and servers.

use serde_yaml::{Mapping, Value as Yaml};

use crate::config::{
    code,
    diagnostic::Findings,
    model::{
        name::{HeaderName, HostName, PathPrefix},
        net::FilePath,
        probe::{Passive, Probe},
        value::{Number, Period, Port, Timeout},
    },
    node::{Node, Value},
    preset::Preset,
    read::{List, Read, choice, read_at, scalar, word},
    record::{Record, record},
};

use crate::site::PathPattern;

record! {
    /// Servers that do the same job.
    pub struct Farm {
        /// The role of the servers, which fills in most of the rest: `lync`, `owas`,
        /// `exchange/PROTOCOL` (owa, ecp, ews, mapi, rpc, oab, eas, autodiscover), or `none`.
        /// Default `none`.
        default preset: Preset = Preset::None,
        /// A name, or a block with details, for each server.
        required servers: List<Server>,
        /// Ports of all servers. Default 443 and 80; preset lync: 4443 and 8080.
        optional ports: Ports,
        /// What goes to the servers: `same` (https as https, http as http), `https`, or `http`
        /// (TLS ends here; Lync does not support that). Default `same`.
        default bridge: Bridge = Bridge::Same,
        /// `keep` the client's `Host`, or a name to send instead. Default `keep`.
        default host: HostSetting = HostSetting::Keep,
        /// TLS towards the servers.
        section tls: ServerTls,
        /// How long a server may stay silent. Default `200s`; preset lync `30m`, because clients
        /// hold a request open that long; Exchange's presets `1h`.
        optional timeout: Timeout,
        /// How long connecting may take, TLS included. Default `5s`.
        default connect_timeout: Timeout = Timeout::secs(5),
        /// How long an unused server connection is kept. Default `100s`, below the 120 s of IIS.
        default server_idle: Timeout = Timeout::secs(100),
        /// How a new client's server is chosen: `round_robin`, `least_requests`,
        /// `least_response_time`, `weighted_traffic`, or `{ hash: … }` of `source`, `host`, `url`,
        /// `"header:NAME"` or `"query:NAME"`. Default `round_robin`.
        default balance: Balance = Balance::RoundRobin,
        /// What keeps a client on its server: `none`, `source` (its address), or
        /// `{ cookie: ARRAffinity }`; Lync 2010 pools want `{ cookie: MS-WSMAN }`. Default `none`:
        /// Lync 2013 and later need no affinity.
        default affinity: Affinity = Affinity::None,
        /// One active health check; with a preset, what is left out is the preset's.
        optional probe: Probe,
        /// Several active health checks, all of which must succeed; `[]` switches them off.
        optional probes: List<Probe>,
        /// Health learnt from live traffic.
        section passive: Passive,
        /// NTLM and Negotiate: `auto` gives such a client its own server connection, `always`
        /// does so for every client, `off` does not let these methods through. Default `auto`.
        default connection_auth: ConnectionAuth = ConnectionAuth::Auto,
        /// How long a server that comes back gets less than its share, from a twentieth up to all
        /// of it. Default `0s`.
        default slow_start: Period = Period::secs(0),
        /// Requests that wait while every server has its `max_requests`.
        section queue: Queue,
        /// Paths, with everything under them, that are not published. Preset lync and
        /// Exchange's: control panels and remote PowerShell; otherwise none.
        optional deny_paths: List<PathPrefix>,
        /// Response headers that clients do not see. The presets: those that name products,
        /// versions and internal servers; otherwise none.
        optional hide_headers: List<HeaderName>,
        /// When not empty, the only paths that plain http may reach; `=/x` is exact. Preset lync:
        /// `=/` and `/autodiscover`; otherwise all.
        optional plain_paths: List<PathPattern>,
        /// What servers are told about the client.
        section forward: Forward,
    }
}

record! {
    /// One Front End.
    short server_name;
    alone same_as;
    pub struct Server {
        /// Its name in logs and commands. Default: its address.
        optional name: String,
        /// DNS name or IP address, without port.
        optional address: String,
        /// Share of new clients; 0 gets none. Default 100.
        default weight: Number<0, 65535> = Number(100),
        /// Ports of this server. Default: the farm's.
        optional ports: Ports,
        /// Serves only when no other server can. Default `false`.
        default backup: bool = false,
        /// Most requests at a time, polls included; 0 is no limit. Default 0. Farms that share the
        /// server by `same_as` count each for itself.
        default max_requests: Number<0, 1_000_000_000> = Number(0),
        /// Instead of everything above: the servers of the farm of this name, as they stand there,
        /// under the settings of this one. Each farm probes them for itself.
        optional same_as: String,
    }
}

fn server_name(node: &Node, findings: &mut Findings) -> Option<Option<Server>> {
    matches!(node.value, Value::Scalar(_)).then(|| {
        let address = read_at(node, findings)?;
        Some(Server { address: Some(address), ..Server::defaults(&node.mark) })
    })
}

record! {
    /// Ports for the two protocols.
    pub struct Ports {
        /// For TLS.
        optional https: Port,
        /// For plain http.
        optional http: Port,
    }
}

choice! {
    /// Which protocol goes to the servers.
    pub enum Bridge {
        /// https as https, http as http.
        Same = "same",
        /// Always TLS.
        Https = "https",
        /// Always plain.
        Http = "http",
    }
}

choice! {
    /// How connection-bound authentication is treated.
    pub enum ConnectionAuth {
        /// A server connection of its own for a client that uses it.
        Auto = "auto",
        /// One for every client.
        Always = "always",
        /// Not let through.
        Off = "off",
    }
}

choice! {
    /// What of a server's certificate is verified.
    pub enum Verify {
        /// Chain, dates and name.
        Full = "full",
        /// Chain and dates.
        Chain = "chain",
        /// Nothing.
        Off = "off",
    }
}

/// What becomes of `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSetting {
    /// The client's own.
    Keep,
    /// This name.
    Name(HostName),
}

impl Read for HostSetting {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if scalar.text.eq_ignore_ascii_case("keep") => Some(Self::Keep),
            _ => HostName::read(node, findings).map(Self::Name),
        }
    }

    fn show(&self) -> Yaml {
        match self {
            Self::Keep => Yaml::from("keep"),
            Self::Name(name) => name.show(),
        }
    }
}

record! {
    /// TLS towards servers.
    pub struct ServerTls {
        /// `full`, `chain` (the name is not compared, as ARR did), or `off`. Default `full`.
        default verify: Verify = Verify::Full,
        /// PEM file with the authorities that are trusted. Default: the system's; an internal
        /// authority must be named here.
        optional ca: FilePath,
        /// Name that is asked for and expected in the certificate. Default: the server's own.
        optional name: HostName,
        /// PEM file with a certificate to show to the server. Default: none.
        later client_cert: FilePath,
        /// PEM file with its key.
        later client_key: FilePath,
    }
}

/// How a new client's server is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The one with the fewest running requests.
    LeastRequests,
    /// The one that answers fastest.
    LeastResponseTime,
    /// By bytes, by weight.
    WeightedTraffic,
    /// By a property of the request.
    Hash(String),
}

impl Balance {
    const WORDS: &'static [&'static str] =
        &["round_robin", "least_requests", "least_response_time", "weighted_traffic"];
}

impl Read for Balance {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        if let Some(entry) = single(node, "hash") {
            let key = String::read(entry, findings)?;
            let known = matches!(key.as_str(), "source" | "host" | "url")
                || ["header:", "query:"].iter().any(|p| key.len() > p.len() && key.starts_with(p));
            if known {
                return Some(Self::Hash(key));
            }
            findings
                .add(code::UNKNOWN_VALUE, &entry.mark, "unknown hash key")
                .help("it can be: source, host, url, \"header:NAME\", \"query:NAME\"".to_string());
            return None;
        }
        match word(node, Self::WORDS, findings)? {
            "least_requests" => Some(Self::LeastRequests),
            "least_response_time" => Some(Self::LeastResponseTime),
            "weighted_traffic" => Some(Self::WeightedTraffic),
            _ => Some(Self::RoundRobin),
        }
    }

    fn show(&self) -> Yaml {
        match self {
            Self::RoundRobin => Yaml::from("round_robin"),
            Self::LeastRequests => Yaml::from("least_requests"),
            Self::LeastResponseTime => Yaml::from("least_response_time"),
            Self::WeightedTraffic => Yaml::from("weighted_traffic"),
            Self::Hash(key) => pair("hash", key),
        }
    }
}

/// What keeps a client on its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// Nothing.
    None,
    /// Its address.
    Source,
    /// A cookie of this name.
    Cookie(String),
}

impl Read for Affinity {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        if let Some(entry) = single(node, "cookie") {
            return cookie_name(entry, findings).map(Self::Cookie);
        }
        match word(node, &["none", "source"], findings)? {
            "source" => Some(Self::Source),
            _ => Some(Self::None),
        }
    }

    fn show(&self) -> Yaml {
        match self {
            Self::None => Yaml::from("none"),
            Self::Source => Yaml::from("source"),
            Self::Cookie(name) => pair("cookie", name),
        }
    }
}

record! {
    /// Requests that wait for a server.
    pub struct Queue {
        /// How many may wait. Default 0.
        default size: Number<0, 1_000_000> = Number(0),
        /// How long. Default `5s`.
        default wait: Timeout = Timeout::secs(5),
    }
}

choice! {
    /// The form of the headers that tell about the client.
    pub enum ForwardStyle {
        /// `X-Forwarded-For`, `-Proto`, `-Host`, `-Port`.
        Standard = "standard",
        /// The same and what ARR sends.
        Arr = "arr",
    }
}

choice! {
    /// The PROXY protocol towards servers.
    pub enum ProxyVersion {
        /// Not sent.
        None = "none",
        /// Version 1.
        V1 = "v1",
        /// Version 2.
        V2 = "v2",
    }
}

record! {
    /// What servers are told about the client.
    pub struct Forward {
        /// `standard` (`X-Forwarded-For`, `-Proto`, `-Host`, `-Port`), or `arr`: the first of
        /// these with the port, and `X-ARR-SSL`, `X-ARR-LOG-ID` and `X-Original-URL` too. Default
        /// `standard`.
        default style: ForwardStyle = ForwardStyle::Standard,
        /// Send `Forwarded` (RFC 7239) too. Default `false`.
        default rfc7239: bool = false,
        /// Begin each connection to a server with a PROXY header that names the client: `none`,
        /// `v1` or `v2`. Windows servers do not understand it; balancers in front of them do.
        /// Default `none`.
        default proxy_protocol: ProxyVersion = ProxyVersion::None,
    }
}

/// The name of a cookie: a token (RFC 6265 4.1.1).
fn cookie_name(node: &Node, findings: &mut Findings) -> Option<String> {
    let name = scalar(node, "the name of a cookie", findings)?;
    let sign = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.text.bytes().all(sign) {
        return Some(name.text.clone());
    }
    findings
        .add(code::HEADER, &node.mark, format!("`{}` is not the name of a cookie", name.shown()))
        .help("letters, digits, `-` and `_`: ARRAffinity, MS-WSMAN".to_string());
    None
}

/// The value of a block that has this one key and no other.
fn single<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    match &node.value {
        Value::Map(entries) => match entries.as_slice() {
            [entry] if entry.key == key => Some(&entry.value),
            _ => None,
        },
        _ => None,
    }
}

fn pair(key: &str, value: &str) -> Yaml {
    Yaml::Mapping(Mapping::from_iter([(Yaml::from(key), Yaml::from(value))]))
}
