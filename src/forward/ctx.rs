//! What is remembered about one request.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::RawFd,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderValue, StatusCode};

use super::Live;
use crate::{
    farm::{Failure, Farm, InFlight, Server, Tried, Tunnel},
    guard::Client,
    listen::{Connection, Lease},
    observe::traces::Trace,
    pin::Holds,
    reason::Reason,
    site::Rule,
};

/// One request on its way.
pub struct Ctx {
    /// The site it is served by, from start to end.
    pub(super) live: Arc<Live>,
    /// The client connection.
    pub(super) connection: Option<Arc<Connection>>,
    /// Who the client is, which trusted proxies may have told. Set before anything is decided.
    pub(super) client: Option<Client>,
    /// The number servers are told (`X-ARR-LOG-ID`), if they are.
    pub(super) log_id: Option<HeaderValue>,
    /// The trace it belongs to, if traces are on.
    pub(super) trace: Option<Trace>,
    /// When its first byte was read.
    pub(super) started: Instant,
    /// The same by the clock on the wall, for the log.
    pub(super) time: SystemTime,
    /// The rule that took it.
    pub(super) rule: Option<Arc<Rule>>,
    /// What the server is asked for, where the rule rewrites it.
    pub(super) target: Option<Vec<u8>>,
    /// The farm it goes to.
    pub(super) farm: Option<Arc<Farm>>,
    /// The server it goes to; after a failed connect the next one.
    pub(super) server: Option<Arc<Server>>,
    /// The last server that was tried, once there is no other.
    pub(super) last_tried: Option<Arc<Server>>,
    /// Its place there.
    pub(super) in_flight: Option<InFlight>,
    /// Counts it as a tunnel there.
    pub(super) tunnel: Option<Tunnel>,
    /// What it is balanced by.
    pub(super) key: u64,
    /// The cookie that keeps its client at that server, if it needs one.
    pub(super) cookie: Option<HeaderValue>,
    /// Whether this attempt is counted as failed.
    pub(super) counted: bool,
    /// Servers that broke off and were left for another one.
    pub(super) suspects: Vec<Arc<Server>>,
    /// Which of the server's addresses is tried.
    pub(super) address: usize,
    /// An address that was tried because its pin leads there, though DNS no longer lists it.
    pub(super) unlisted: Option<IpAddr>,
    /// When the first connect began.
    pub(super) connecting: Option<Instant>,
    /// Servers that could not be connected to.
    pub(super) tried: Tried,
    /// What its client connection holds on to, if it has server connections of its own.
    pub(super) holds: Option<Arc<Holds>>,
    /// Whether its server was chosen by an earlier request of the connection.
    pub(super) homed: bool,
    /// Whether the client connection has to end after the answer: a sign-in went down.
    pub(super) close: bool,
    /// Its claim to a server connection that names its client.
    pub(super) lease: Option<Lease>,
    /// Whether the server connection was reused.
    pub(super) reused: Option<bool>,
    /// When it was handed to a connected server.
    pub(super) sent: Option<Instant>,
    /// Whether any byte of an answer came.
    pub(super) answered: bool,
    /// From the first byte of the request to the header of the answer.
    pub(super) first_byte: Option<Duration>,
    /// Body bytes that came from the client.
    pub(super) received: u64,
    /// Why Frontgate answered itself, or why the exchange broke.
    pub(super) reason: Option<Reason>,
}

impl Ctx {
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self {
            live,
            connection: None,
            client: None,
            log_id: None,
            trace: None,
            started: Instant::now(),
            time: SystemTime::now(),
            rule: None,
            target: None,
            farm: None,
            server: None,
            last_tried: None,
            in_flight: None,
            tunnel: None,
            key: 0,
            cookie: None,
            counted: false,
            suspects: Vec::new(),
            address: 0,
            unlisted: None,
            connecting: None,
            tried: Tried::default(),
            holds: None,
            homed: false,
            close: false,
            lease: None,
            reused: None,
            sent: None,
            answered: false,
            first_byte: None,
            received: 0,
            reason: None,
        }
    }

    /// The client's address: what lists, limits and balancing by source go by.
    pub(super) fn source(&self) -> IpAddr {
        let peer = || self.connection.as_ref().map(|c| c.client.ip().to_canonical());
        let client = self.client.as_ref().map(|client| client.address);
        client.or_else(peer).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// Whether the client speaks https, to us or to a trusted proxy.
    pub(super) fn https(&self) -> bool {
        let here = || self.connection.as_ref().is_some_and(|c| c.https);
        self.client.as_ref().map_or_else(here, |client| client.https)
    }

    /// The first byte came at `started`; the header has been read since.
    pub(super) fn arrived(&mut self, started: Instant) {
        self.started = started;
        self.time = SystemTime::now() - started.elapsed();
    }

    /// It has a place, and goes there.
    pub(super) fn goes_to(&mut self, place: InFlight) {
        self.server = Some(place.server().clone());
        self.in_flight = Some(place);
    }

    /// The exchange is over: a pin that has not proved itself waits for its client again.
    pub(super) fn ended(&mut self) {
        self.lease = None;
        if let (Some(holds), Some(farm)) = (&self.holds, &self.farm) {
            holds.waits(&farm.spec().name, Some(Instant::now()));
        }
    }

    /// The header of an answer came.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.answered = true;
        let tunnel = status == StatusCode::SWITCHING_PROTOCOLS;
        if status.is_informational() && !tunnel {
            return;
        }
        self.first_byte.get_or_insert(self.started.elapsed());
        if let Some(trace) = &mut self.trace {
            trace.answered(status.as_u16());
        }
        if status.is_server_error() {
            self.count_failure();
        }
        let (Some(farm), Some(place)) = (&self.farm, &self.in_flight) else { return };
        if tunnel {
            self.tunnel = Some(place.tunnel());
        }
        for suspect in self.suspects.drain(..) {
            farm.failed(&suspect, Failure::Reset);
        }
        if let Some(sent) = self.sent {
            place.server().count_answer(sent.elapsed());
        }
        farm.answered(place.server(), status.as_u16());
    }

    /// Body bytes came from the server.
    pub(super) fn sent_on(&self, bytes: usize) {
        if let Some(server) = &self.server {
            server.count_sent(bytes as u64);
        }
    }

    /// A server took the connection, at this address: what failed before is forgotten.
    pub(super) fn connected(&mut self, reused: bool, fd: RawFd, at: Option<IpAddr>) {
        if let (Some(holds), Some(farm)) = (&self.holds, &self.farm) {
            self.close |= holds.connected(&farm.spec().name, reused, fd, at);
        }
        if let Some(lease) = &mut self.lease {
            lease.serves(fd);
        }
        self.reused = Some(reused);
        self.sent = Some(Instant::now());
        self.reason = None;
    }
}
