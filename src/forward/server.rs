//! Which server, at which address, over which connections; and which one next when connecting
//! fails.

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    time::{Duration, Instant},
};

use http::Method;
use pingora::{
    Error, ErrorType, Result,
    proxy::Session,
    upstreams::peer::{HttpPeer, Peer},
};

use super::{Ctx, place};
use crate::{
    farm::{self, Choice, Class, Failure, Wish},
    proxy_protocol::Told,
    reason::{self, Reason},
};

/// How long a connection may have been idle and still carry a request that cannot be replayed:
/// http.sys closes idle connections after 120 s, and a POST that meets the close is lost.
pub(super) const FRESH: Duration = Duration::from_secs(5);

/// The peer for this attempt.
///
/// # Errors
/// No server is available.
pub(super) async fn peer(session: &Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    if ctx.in_flight.is_none()
        && let Err(reason) = place::again(ctx).await
    {
        return Err(fail(ctx, reason));
    }
    let Some(farm) = ctx.farm.clone() else { return Err(fail(ctx, reason::INTERNAL)) };
    let Some(server) = ctx.server.clone() else { return Err(fail(ctx, reason::NO_SERVER)) };
    // The list may have been looked up anew, and be shorter, since the last attempt.
    let addresses = server.addresses();
    let holds = ctx.holds.as_ref();
    let own = holds.and_then(|holds| holds.address(&farm.spec().name, server.name()));
    let own = own.filter(|(own, _)| ctx.unlisted != Some(*own));
    let Some(address) = address(&addresses, own, ctx.address) else {
        return Err(fail(ctx, reason::NO_SERVER));
    };
    if !addresses.contains(&address) {
        ctx.unlisted = Some(address);
    }
    ctx.connecting.get_or_insert_with(Instant::now);
    let spec = farm.spec();
    let https = farm::uses_tls(spec.bridge, ctx.https());
    let mut peer = farm::peer(spec, &server.spec(), address, https)?;
    if let Some(version) = spec.forward.proxy_protocol {
        farm::announce(&mut peer, version, named(ctx));
    }
    let class = class(&session.req_header().method, ctx);
    peer.group_key = farm::group_key(spec, class);
    // That of an attempt before ends first.
    ctx.lease = None;
    if let (Class::Named { .. }, Some(connection)) = (class, &ctx.connection) {
        ctx.lease = Some(connection.wants((address, peer.group_key)));
    }
    peer.options.idle_timeout = Some(match class {
        Class::Shared | Class::Named { fresh: false, .. } => spec.server_idle,
        Class::Fresh | Class::Named { fresh: true, .. } => FRESH.min(spec.server_idle),
        // As long as its client may be silent; it goes when the client goes.
        Class::Pinned(_) => ctx.live.site.limits.keep_alive + FRESH,
    });
    if let Some(timeout) = ctx.rule.as_ref().and_then(|r| r.timeout) {
        peer.options.read_timeout = Some(timeout);
        peer.options.write_timeout = Some(timeout);
    }
    ctx.begin_attempt(&server, address, https);
    Ok(Box::new(peer))
}

/// Which of a server's addresses is tried as the `attempt`th: a pin's own first, where its
/// connection is. A connection to another one would take its place, and end the sign-in. As long as
/// that connection stands, DNS need not list its address any more: there are names that answer with
/// one of many addresses at a time.
fn address(known: &[IpAddr], own: Option<(IpAddr, bool)>, attempt: usize) -> Option<IpAddr> {
    let own = own.filter(|(own, stands)| *stands || known.contains(own)).map(|(own, _)| own);
    let others = known.iter().copied().filter(|ip| Some(*ip) != own);
    own.into_iter().chain(others).nth(attempt).or(own).or(known.first().copied())
}

fn unlisted(ctx: &Ctx, peer: &HttpPeer) -> bool {
    ctx.unlisted.is_some() && ctx.unlisted == peer.address().as_inet().map(|at| at.ip())
}

/// A connection was found or made.
///
/// SECURITY: to an address that DNS no longer lists only a connection leads that was there already:
/// the address may be somebody else's by now. One that went away in this very moment is no reason
/// to make another.
///
/// # Errors
/// A new connection to such an address; it can be tried again at another one.
pub(super) fn connected(ctx: &Ctx, peer: &HttpPeer, reused: bool) -> Result<()> {
    if !reused && unlisted(ctx, peer) {
        return Error::e_explain(ErrorType::ConnectError, "not an address of this server any more");
    }
    Ok(())
}

/// Which connections of the pool this request may use.
///
/// SECURITY: a server believes what the header of a connection said for as long as it stands, so
/// one that names a client serves no other: it is kept under the number of the client connection.
/// Where a trusted proxy brings several clients over one of these, each has a number of its own.
/// Test: no_two_clients_share_a_server_connection
fn class(method: &Method, ctx: &Ctx) -> Class {
    let fresh = !matches!(*method, Method::GET | Method::HEAD);
    let names = ctx.farm.as_ref().is_some_and(|f| f.spec().forward.proxy_protocol.is_some());
    match &ctx.connection {
        Some(connection) => {
            let client = if names { connection.id ^ told(ctx) } else { connection.id };
            match ctx.holds.is_some() {
                true => Class::Pinned(client),
                false if names => Class::Named { client, fresh },
                false if fresh => Class::Fresh,
                false => Class::Shared,
            }
        }
        None if fresh => Class::Fresh,
        None => Class::Shared,
    }
}

/// A number for the client that a trusted proxy told; 0 where the peer is the client. Keyed, so
/// that nobody can choose an address with another one's number.
fn told(ctx: &Ctx) -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let told = ctx.client.as_ref().filter(|client| client.told.is_some());
    told.map_or(0, |client| KEYS.hash_one((client.address, client.port)))
}

/// Whom a connection to a server is made for. A port that nobody told is 0.
fn named(ctx: &Ctx) -> Told {
    let Some(connection) = &ctx.connection else { return Told::Itself };
    let port = ctx.client.as_ref().map_or(Some(connection.client.port()), |client| client.port);
    let source = SocketAddr::new(ctx.source(), port.unwrap_or(0));
    Told::Client { source, destination: connection.local, tls: false }
}

fn fail(ctx: &mut Ctx, reason: Reason) -> Box<Error> {
    ctx.reason = Some(reason);
    Error::explain(ErrorType::HTTPStatus(reason.status), reason.code).into_in()
}

/// Connecting failed, so nothing was sent: the next address of this server, or the next server.
pub(super) fn connect_failed(ctx: &mut Ctx, peer: &HttpPeer, mut error: Box<Error>) -> Box<Error> {
    ctx.reason = Some(connect_reason(error.etype()));
    ctx.attempt_broke();
    if unlisted(ctx, peer) {
        // None of its addresses was tried yet.
        error.set_retry(true);
        return error;
    }
    let (Some(farm), Some(server)) = (ctx.farm.clone(), ctx.server.clone()) else { return error };
    log::debug!(
        "farm {}: server {}: {} ({})",
        farm.spec().name,
        server.name(),
        error.etype().as_str(),
        error.context.as_ref().map_or("", |c| c.as_str()),
    );
    ctx.address += 1;
    // A farm of silent servers must not hold a client for servers × connect_timeout.
    let patience = farm.spec().connect_timeout.saturating_mul(3);
    let patient = ctx.connecting.is_some_and(|begun| begun.elapsed() < patience);
    let mut again = patient;
    if ctx.address >= server.addresses().len() {
        ctx.count_failure();
        farm.failed(&server, failure(error.etype()));
        // A sign-in that began at this server cannot go on at another.
        again = patient && !ctx.homed && ctx.next_server();
    }
    error.set_retry(again);
    error
}

fn failure(kind: &ErrorType) -> Failure {
    match connect_reason(kind) {
        reason::SERVER_TLS => Failure::Tls,
        _ => Failure::Connect,
    }
}

impl Ctx {
    /// The exchange with its server failed; counted once for each attempt.
    pub(super) fn count_failure(&mut self) {
        if let (Some(place), false) = (&self.in_flight, self.counted) {
            place.fail();
            self.counted = true;
        }
    }

    /// The exchange broke in the middle: whether another server can be asked.
    ///
    /// Whether the server was at fault shows when another one answers: a request that kills every
    /// connection it comes over must not put servers out.
    /// Test: a_request_that_kills_connections_puts_nobody_out
    pub(super) fn replay_elsewhere(&mut self) -> bool {
        let failed = self.server.clone();
        if !self.next_server() {
            return false;
        }
        self.suspects.extend(failed);
        true
    }

    /// Leaves its server for another one. Whether there is one, be it that a place there has to be
    /// waited for.
    pub(super) fn next_server(&mut self) -> bool {
        let (Some(farm), Some(failed)) = (self.farm.clone(), self.server.take()) else {
            return false;
        };
        self.tried.add(&failed);
        self.in_flight = None;
        self.counted = false;
        self.address = 0;
        // The log names the server that was tried last, also when there is no other.
        self.last_tried = Some(failed);
        match farm.choose(&Wish::anyone(self.key, &self.tried)) {
            Choice::Place(place) => {
                self.goes_to(place);
                place::moved(self, &farm);
                true
            }
            Choice::Busy => true,
            Choice::Nobody => false,
        }
    }
}

fn connect_reason(kind: &ErrorType) -> Reason {
    match kind {
        ErrorType::ConnectTimedout => reason::CONNECT_TIMEOUT,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::HandshakeError
        | ErrorType::InvalidCert => reason::SERVER_TLS,
        _ => reason::CONNECT_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        forward::Live, listen::Certificates, observe::metrics::Metrics, route::Table,
        site::testing::empty,
    };

    fn ctx() -> Ctx {
        let site = Arc::new(empty());
        let (table, certificates) = (Table::new(&site), Certificates::new(&site));
        let routes = Metrics::default().traffic.follow(&site);
        let (farms, pins, settings) = (Vec::new(), Arc::default(), Vec::new());
        Ctx::new(Arc::new(Live { site, table, farms, certificates, pins, settings, routes }))
    }

    #[test]
    fn a_pin_stays_at_the_address_of_its_connection() {
        let [one, two, three] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let known = [one, two, three];
        let tried = |own| [0, 1, 2, 3].map(|attempt| address(&known, own, attempt).unwrap());
        assert_eq!(tried(None), [one, two, three, one], "in their order");
        for stands in [true, false] {
            let own = Some((two, stands));
            assert_eq!(tried(own), [two, one, three, two], "the others where it fails");
        }
        let away = IpAddr::from([192, 0, 2, 9]);
        assert_eq!(tried(Some((away, false))), [one, two, three, one], "no longer the server's");
        assert_eq!(tried(Some((away, true))), [away, one, two, three], "but its connection is");
        assert_eq!(address(&[], Some((one, false)), 0), None);
    }

    #[test]
    fn only_a_connection_that_stood_leads_to_an_address_that_is_not_listed() {
        let mut ctx = ctx();
        let [listed, away] = ["192.0.2.1:443", "192.0.2.9:443"]
            .map(|at| HttpPeer::new(at.parse::<SocketAddr>().unwrap(), false, String::new()));
        ctx.unlisted = Some([192, 0, 2, 9].into());
        assert!(connected(&ctx, &away, true).is_ok() && connected(&ctx, &listed, false).is_ok());
        assert!(connected(&ctx, &away, false).is_err());
        // Whether it was refused or could not be made: the server's own addresses are still to come.
        let error = connect_failed(&mut ctx, &away, Error::new(ErrorType::ConnectRefused));
        assert!(error.retry() && ctx.address == 0);
    }

    #[test]
    fn connect_failures_have_reasons_of_their_own() {
        assert_eq!(connect_reason(&ErrorType::ConnectTimedout), reason::CONNECT_TIMEOUT);
        assert_eq!(connect_reason(&ErrorType::InvalidCert), reason::SERVER_TLS);
        assert_eq!(connect_reason(&ErrorType::ConnectRefused), reason::CONNECT_FAILED);
    }
}
