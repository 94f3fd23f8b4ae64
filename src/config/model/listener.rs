//! Listeners and certificates.

use std::net::SocketAddr;

use serde_yaml::Value as Yaml;

use crate::config::{
    diagnostic::Findings,
    model::{
        net::{Cidr, FilePath},
        value::Port,
    },
    node::{Node, Value},
    read::{List, Read, choice},
    record::{Record, record},
};

record! {
    /// An address that clients connect to.
    pub struct Listener {
        /// Its name, for rules and logs. Default: its address.
        optional name: String,
        /// IP address and port: `0.0.0.0:443`, `[::]:443`.
        required address: SocketAddr,
        /// The port that clients see, for redirects; differs behind a port mapping. Default: the
        /// port of `address`.
        optional public_port: Port,
        /// `true`, `false`, or a block with details. Default `false`.
        default tls: Tls = Tls::Off,
        /// Takes the client's address from the PROXY header (v1 or v2) of the load balancer in
        /// front. Default: no header is read.
        optional proxy_protocol: ProxyProtocol,
    }
}

/// Whether a listener speaks TLS.
#[derive(Clone, Debug, PartialEq)]
pub enum Tls {
    /// Plain HTTP.
    Off,
    /// TLS.
    On(Box<ListenerTls>),
}

impl Read for Tls {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.value {
            Value::Map(_) => ListenerTls::read(node, findings).map(|tls| Self::On(Box::new(tls))),
            _ => bool::read(node, findings).map(|on| {
                if on { Self::On(Box::new(ListenerTls::defaults(&node.mark))) } else { Self::Off }
            }),
        }
    }

    fn show(&self) -> Yaml {
        match self {
            Self::Off => Yaml::from(false),
            Self::On(tls) => tls.show(),
        }
    }
}

choice! {
    /// A TLS version.
    pub enum TlsVersion {
        /// TLS 1.0
        Tls10 = "1.0",
        /// TLS 1.1
        Tls11 = "1.1",
        /// TLS 1.2
        Tls12 = "1.2",
        /// TLS 1.3
        Tls13 = "1.3",
    }
}

record! {
    /// TLS towards clients.
    pub struct ListenerTls {
        /// Oldest version accepted: `"1.0"` to `"1.3"`. Default `"1.2"`; lower only for clients
        /// that cannot be replaced, on a listener of their own.
        default min_version: TlsVersion = TlsVersion::Tls12,
        /// Offer HTTP/2, where every farm under the name has `connection_auth: off`. Default
        /// `true`.
        default http2: bool = true,
        /// Ask clients for a certificate. Default: no.
        later client_cert: ClientCertificate,
    }
}

choice! {
    /// Whether a client certificate must be there.
    pub enum ClientCertificateMode {
        /// No certificate, no connection.
        Require = "require",
        /// Ask; clients without one are served too.
        Request = "request",
    }
}

record! {
    /// Certificates of clients.
    pub struct ClientCertificate {
        /// Authorities whose certificates are accepted (PEM).
        required ca: FilePath,
        /// `require` or `request`. Default `require`.
        default mode: ClientCertificateMode = ClientCertificateMode::Require,
        /// Request header that hands the certificate to the server. Default `X-ARR-ClientCert`.
        default header: String = "X-ARR-ClientCert".to_string(),
        /// List of revoked certificates (PEM). Default: none.
        optional crl: FilePath,
    }
}

record! {
    /// The PROXY protocol from a load balancer in front.
    pub struct ProxyProtocol {
        /// Load balancers that are believed; whoever else connects is a client.
        required from: List<Cidr>,
        /// Refuse their connections that begin without the header. Default `true`; with `false`
        /// the clients of a balancer that does not write it can write it themselves.
        default required: bool = true,
    }
}

record! {
    /// A certificate with its key: `cert` and `key`, or `pfx`.
    pub struct Certificate {
        /// PEM file: the certificate, then intermediates.
        optional cert: FilePath,
        /// PEM file with the private key.
        optional key: FilePath,
        /// File whose first line opens an encrypted key.
        optional key_password_file: FilePath,
        /// Stapled OCSP answer (DER). Default: none.
        later ocsp: FilePath,
        /// PFX file (PKCS#12) with certificate, intermediates and key, as Windows exports it.
        optional pfx: FilePath,
        /// File whose first line opens the PFX file. Default: no password.
        optional password_file: FilePath,
        /// Answers clients that ask for no known name. Default: the first certificate does.
        default default: bool = false,
    }
}
