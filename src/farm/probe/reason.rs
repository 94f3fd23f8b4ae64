//! Connecting, and saying in a stable phrase why that failed.
//!
//! The phrases appear in logs and dashboards; people search for them and alert on them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pingora::{
    Error, ErrorType,
    connectors::TransportConnector,
    protocols::Stream,
    upstreams::peer::{HttpPeer, Tracer, Tracing},
};

use super::{super::announce, verify};
use crate::{proxy_protocol::Told, site};

/// Why a probe of one address failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody was reached: the server's next address may do better.
    Unreachable(Arc<str>),
    /// Somebody answered, but not well.
    Unfit(Arc<str>),
}

impl Failure {
    pub(super) fn unfit(reason: &str) -> Self {
        Self::Unfit(reason.into())
    }
}

/// The TCP check: connects and hangs up. Where traffic comes with a PROXY header, so does this, or
/// the server would log an error each time; other ports are other services.
pub(super) async fn connect(
    connector: &TransportConnector,
    farm: &site::Farm,
    server: &site::Server,
    ip: IpAddr,
    port: u16,
) -> Result<(), Failure> {
    let mut peer = HttpPeer::new(SocketAddr::new(ip, port), false, String::new());
    peer.options.connection_timeout = Some(farm.connect_timeout);
    let serves = port == server.ports.https || port == server.ports.http;
    if let Some(version) = farm.forward.proxy_protocol.filter(|_| serves) {
        announce(&mut peer, version, Told::Itself);
    }
    open(connector, peer).await.map(drop)
}

/// Opens a new connection (never a pooled one), TLS included.
pub(super) async fn open(
    connector: &TransportConnector,
    mut peer: HttpPeer,
) -> Result<Stream, Failure> {
    let connected = Connected::default();
    peer.options.tracer = Some(Tracer(connected.boxed_clone()));
    let error = match connector.new_stream(&peer).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    let reason = match error.etype() {
        ErrorType::ConnectRefused => "connect refused".into(),
        ErrorType::ConnectTimedout if connected.get() => {
            return Err(Failure::unfit("TLS: handshake timeout"));
        }
        ErrorType::ConnectTimedout => "connect timeout".into(),
        ErrorType::ConnectNoRoute => "no route to host".into(),
        ErrorType::InvalidCert => return Err(Failure::Unfit(verify::why(&peer).await)),
        _ if connected.get() => return Err(Failure::Unfit(handshake(&error))),
        _ => format!("connect failed ({})", innermost(&error)).into(),
    };
    Err(Failure::Unreachable(reason))
}

/// The phrase for a connection that broke while the server had the word.
pub(super) fn answer(error: &Error) -> Failure {
    match error.etype() {
        ErrorType::ConnectionClosed => Failure::unfit("connection closed without an answer"),
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error => {
            Failure::unfit("answer is not understood")
        }
        _ => Failure::Unfit(format!("connection broke ({})", innermost(error)).into()),
    }
}

/// `TLS: handshake failed (…)` with BoringSSL's own words, which only the text has: the first of
/// `[SSLV3_ALERT_HANDSHAKE_FAILURE] [HANDSHAKE_FAILURE_ON_CLIENT_HELLO]`, or plain prose.
fn handshake(error: &Error) -> Arc<str> {
    let text = error.to_string();
    let words = text
        .split_once("TLS connect() failed: ")
        .and_then(|(_, rest)| rest.split([',', '\n', ']']).next())
        .map(|words| words.trim_start_matches('[').replace('_', " ").to_lowercase());
    let words = words.as_deref().unwrap_or(error.etype().as_str());
    let words = match words.split_once(" alert ") {
        Some((_, alert)) => alert,
        None if matches!(words, "wrong version number" | "http request") => {
            "the port does not speak TLS"
        }
        None => words,
    };
    format!("TLS: handshake failed ({words})").into()
}

/// What the operating system said, if it said something.
fn innermost(error: &Error) -> String {
    let mut cause = error.cause.as_deref().map(|cause| cause as &dyn std::error::Error);
    let mut words = None;
    while let Some(inner) = cause {
        words = Some(inner.to_string());
        cause = inner.source();
    }
    words.unwrap_or_else(|| error.etype().as_str().to_owned())
}

/// Tells a TCP timeout from one in the TLS handshake: Pingora's error is the same.
#[derive(Clone, Debug, Default)]
struct Connected(Arc<AtomicBool>);

impl Connected {
    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tracing for Connected {
    fn on_connected(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn on_disconnected(&self) {}

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(self.clone())
    }
}
