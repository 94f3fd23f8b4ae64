//! From a server to the peer that Pingora connects to, for traffic and for probes alike.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use pingora::{
    Error, ErrorType, Result,
    protocols::TcpKeepalive,
    upstreams::peer::{ALPN, HttpPeer, HttpUpstreamRequestPolicy},
};

use crate::site::{self, Bridge, Verify};

/// Whether the connection to the server is TLS, for a client that came by `https` or not.
pub fn uses_tls(bridge: Bridge, client_https: bool) -> bool {
    bridge.uses_tls(client_https)
}

/// The peer for one address of a server, with the farm's TLS settings and timeouts and the
/// shared pool's key. Fails only for TLS without an expected name, which `compile` never makes.
pub fn peer(farm: &site::Farm, server: &site::Server, ip: IpAddr, https: bool) -> Result<HttpPeer> {
    // SECURITY: an empty SNI switches all verification off in Pingora, silently; whoever gets
    // such a configuration past us could impersonate every server. Refuse to build that peer.
    // Test: farm::peer::tests::an_empty_name_never_switches_verification_off
    if https && server.tls_name.trim().is_empty() {
        return Error::e_explain(ErrorType::InternalError, "the server has no TLS name");
    }
    let port = if https { server.ports.https } else { server.ports.http };
    let sni = if https { server.tls_name.to_string() } else { String::new() };
    // A socket address is taken as it is: nothing is resolved here.
    let mut peer = HttpPeer::new(SocketAddr::new(ip, port), https, sni);
    peer.group_key = group_key(farm, Class::Shared);

    let options = &mut peer.options;
    (options.verify_cert, options.verify_hostname) = match farm.tls.verify {
        Verify::Full => (true, true),
        Verify::Chain => (true, false),
        Verify::Off => (false, false),
    };
    options.ca = farm.tls.ca.clone();
    options.alpn = ALPN::H1;
    options.connection_timeout = Some(farm.connect_timeout);
    // The former alone would count twice: once for TCP, once for TLS.
    options.total_connection_timeout = Some(farm.connect_timeout);
    options.read_timeout = Some(farm.timeout);
    options.write_timeout = Some(farm.timeout);
    options.idle_timeout = Some(farm.server_idle);
    options.tcp_keepalive = Some(keepalive());
    // SECURITY: what is meant for one connection stops at it, and only a real WebSocket upgrade
    // is passed on: anything else would let a client open a tunnel (h2c smuggling) past the
    // rules. It is Pingora's default; said here because the safety of every farm hangs on it.
    // Test: farm::peer::tests::settings_of_the_farm_reach_the_peer
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::standard();
    // SECURITY: an answer whose length cannot be read is refused, never guessed (response
    // splitting). Test: as above.
    options.allow_h1_response_invalid_content_length = false;
    Ok(peer)
}

/// Who may use a pooled server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Every request of the farm.
    Shared,
    /// Requests that must not meet a stale connection (not idempotent).
    Fresh,
    /// The one client connection with this number.
    Pinned(u64),
    /// The client with this number, whom the connection names to its server (PROXY protocol).
    Named {
        /// The client.
        client: u64,
        /// Whether requests may not meet a stale connection.
        fresh: bool,
    },
}

/// Pingora's pool shares a connection only under equal keys, but leaves the farm and its CA out
/// of its own: two farms on one address with one name would share connections that were verified
/// against different authorities.
///
/// SECURITY: the class is in the two highest bits, apart from the hash, so that a pinned
/// (signed-in) connection can never be found under a shared key, whatever the hashes are; and
/// two pins of a farm never have one key (their numbers differ in the lower 62 bits). In the same
/// way nobody finds a connection that names somebody else.
/// Test: farm::peer::tests::classes_farms_and_pins_never_meet
pub fn group_key(farm: &site::Farm, class: Class) -> u64 {
    const CLASS_SHIFT: u32 = 62;
    const FRESH_SHIFT: u32 = 61;
    let (tag, bits, number) = match class {
        Class::Shared => (0, CLASS_SHIFT, 0),
        Class::Fresh => (1, CLASS_SHIFT, 0),
        Class::Pinned(pin) => (2, CLASS_SHIFT, pin),
        Class::Named { client, fresh } => (6 | u64::from(fresh), FRESH_SHIFT, client),
    };
    let mut hasher = DefaultHasher::new();
    (&farm.name, farm.tls.verify, farm.tls.digest).hash(&mut hasher);
    let lower = (hasher.finish() ^ number) & ((1 << bits) - 1);
    (tag << bits) | lower
}

/// Keeps firewalls from forgetting a poll that is silent for half an hour, and notices a server
/// that vanished without a word after two minutes.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(15),
        count: 4,
        user_timeout: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pingora::upstreams::peer::Peer;

    use super::super::testing::farm;
    use super::*;
    use crate::site::ServerTls;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn with_tls(verify: Verify, digest: u64) -> site::Farm {
        site::Farm { tls: ServerTls { verify, ca: None, digest }, ..farm("lyncweb", &["fe01"]) }
    }

    #[test]
    fn settings_of_the_farm_reach_the_peer() {
        let farm = with_tls(Verify::Full, 1);
        let made = peer(&farm, &farm.servers[0], IP, true).unwrap();
        assert_eq!(made.address().to_string(), "192.0.2.7:4443");
        assert_eq!(made.sni(), "fe01");
        assert!(made.is_tls() && made.verify_cert() && made.verify_hostname());
        let options = &made.options;
        assert_eq!(options.connection_timeout, Some(farm.connect_timeout));
        assert_eq!(options.total_connection_timeout, Some(farm.connect_timeout));
        assert_eq!(options.read_timeout, Some(farm.timeout));
        assert_eq!(options.write_timeout, Some(farm.timeout));
        assert_eq!(options.idle_timeout, Some(farm.server_idle));
        assert_eq!(options.alpn, ALPN::H1);
        assert_eq!(options.http_upstream_request_policy, HttpUpstreamRequestPolicy::standard());
        assert!(!options.allow_h1_response_invalid_content_length);
        assert!(options.alternative_cn.is_none());

        let plain = peer(&farm, &farm.servers[0], IP, false).unwrap();
        assert_eq!(plain.address().to_string(), "192.0.2.7:8080");
        assert!(!plain.is_tls());
    }

    #[test]
    fn verification_is_what_the_farm_says() {
        let farm = with_tls(Verify::Chain, 1);
        let chain = peer(&farm, &farm.servers[0], IP, true).unwrap();
        assert!(chain.verify_cert() && !chain.verify_hostname());
        let farm = with_tls(Verify::Off, 1);
        let off = peer(&farm, &farm.servers[0], IP, true).unwrap();
        assert!(!off.verify_cert() && !off.verify_hostname());
    }

    #[test]
    fn an_empty_name_never_switches_verification_off() {
        for verify in [Verify::Full, Verify::Chain, Verify::Off] {
            let farm = with_tls(verify, 1);
            for name in ["", " "] {
                let server = site::Server { tls_name: Arc::from(name), ..farm.servers[0].clone() };
                assert!(peer(&farm, &server, IP, true).is_err());
                assert!(peer(&farm, &server, IP, false).is_ok(), "plain needs no name");
            }
        }
    }

    #[test]
    fn classes_farms_and_pins_never_meet() {
        let here = with_tls(Verify::Full, 1);
        let other_ca = with_tls(Verify::Full, 2);
        let unverified = with_tls(Verify::Off, 1);
        let elsewhere = site::Farm { name: "owa".into(), ..here.clone() };
        let mut keys = std::collections::HashSet::new();
        for farm in [&here, &other_ca, &unverified, &elsewhere] {
            assert!(keys.insert(group_key(farm, Class::Shared)));
            assert!(keys.insert(group_key(farm, Class::Fresh)));
            for pin in 0..1000 {
                assert!(keys.insert(group_key(farm, Class::Pinned(pin))));
                for fresh in [false, true] {
                    assert!(keys.insert(group_key(farm, Class::Named { client: pin, fresh })));
                }
            }
        }
        let class = |key: u64| key >> 62;
        assert_eq!(class(group_key(&here, Class::Shared)), 0);
        assert_eq!(class(group_key(&here, Class::Fresh)), 1);
        assert_eq!(class(group_key(&here, Class::Pinned(u64::MAX))), 2);
        for client in [0, u64::MAX] {
            assert_eq!(group_key(&here, Class::Named { client, fresh: false }) >> 61, 6);
            assert_eq!(group_key(&here, Class::Named { client, fresh: true }) >> 61, 7);
        }
        assert_eq!(group_key(&here, Class::Pinned(5)), group_key(&here, Class::Pinned(5)));
    }

    #[test]
    fn the_bridge_decides_about_tls() {
        let table = [
            (Bridge::Same, true, true),
            (Bridge::Same, false, false),
            (Bridge::Https, false, true),
            (Bridge::Http, true, false),
        ];
        for (bridge, client, server) in table {
            assert_eq!(uses_tls(bridge, client), server, "{bridge:?}");
        }
    }
}
