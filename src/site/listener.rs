//! Sockets towards clients and their certificates.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use boring::{
    asn1::Asn1Time,
    hash::MessageDigest,
    pkey::{PKey, Private},
    x509::X509,
};
use ipnet::IpNet;

use super::Place;

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
    /// Who may say, and has to say, whose connection it is.
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl Listener {
    /// What is expected of connections from this address; `None`: a client's own.
    pub fn balancer(&self, peer: IpAddr) -> Option<&ProxyProtocol> {
        let peer = peer.to_canonical();
        let settings = self.proxy_protocol.as_ref()?;
        settings.from.iter().any(|net| net.contains(&peer)).then_some(settings)
    }
}

/// The PROXY protocol from balancers in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Balancers that are believed; never empty. Anybody else is a client.
    pub from: Vec<IpNet>,
    /// Whether each of their connections begins with the header.
    pub required: bool,
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
    /// When it expires; `None` if its date is none.
    pub fn not_after(&self) -> Option<SystemTime> {
        let leaf = self.chain.first()?;
        let left = Asn1Time::from_unix(0).ok()?.diff(leaf.not_after()).ok()?;
        let seconds = i64::from(left.days) * 24 * 3600 + i64::from(left.secs);
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
    }

    /// SHA-256 of the certificate, in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let digest = self.chain.first().and_then(|leaf| leaf.digest(MessageDigest::sha256()).ok());
        digest.iter().flat_map(|bytes| bytes.iter()).map(|byte| format!("{byte:02x}")).collect()
    }

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
