//! Who the client is when proxies stand in front of this one.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;

use super::forwarded::{Element, Node, elements, entries, node};

/// `X-Forwarded-For`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// The client of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address; an IPv4 one never in IPv6 form.
    pub address: IpAddr,
    /// Its port, if anybody said.
    pub port: Option<u16>,
    /// Whether it speaks https.
    pub https: bool,
    /// What trusted proxies said about it; `None`: the peer is no trusted proxy.
    pub told: Option<Told>,
}

/// What trusted proxies said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where they said who the client is.
    pub chain: Chain,
    /// How many entries of it were believed, counted from its end; the first of these is the
    /// client. With 0 the client is the peer.
    pub believed: usize,
    /// The host the client asked for (`X-Forwarded-Host`, `host=`).
    pub host: Option<HeaderValue>,
    /// The port the client came to (`X-Forwarded-Port`).
    pub port: Option<u16>,
}

/// Which field is believed. There is one truth: where `X-Forwarded-For` is there, `Forwarded` does
/// not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Neither is there.
    Absent,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Finds the client of a request that `peer` brought, over TLS or not. A peer that is not
/// `trusted` is the client, whatever it says.
///
/// From the right: the client is the first address that is no trusted proxy; if all are, the
/// leftmost. An entry that is no address ends the search at the one before.
///
/// SECURITY: everything left of the client was written by the client. Who could get it believed
/// would choose the address that limits, lists and logs go by. Test: what_strangers_say_is_not_heard
pub fn client(peer: SocketAddr, tls: bool, headers: &HeaderMap, trusted: &[IpNet]) -> Client {
    let address = peer.ip().to_canonical();
    let itself = (address, Some(peer.port()));
    if !is_trusted(address, trusted) {
        return Client { address, port: itself.1, https: tls, told: None };
    }
    let chain = if headers.contains_key(X_FORWARDED_FOR) {
        Chain::XForwardedFor
    } else if headers.contains_key(header::FORWARDED) {
        Chain::Forwarded
    } else {
        Chain::Absent
    };
    let ((address, port), believed) = match chain {
        Chain::Forwarded => {
            let parsed = elements(headers, header::FORWARDED).map(Element::parse);
            walk(itself, parsed.map(|element| element?.node.and_then(node)), trusted)
        }
        _ => walk(itself, entries(headers, X_FORWARDED_FOR).map(node), trusted),
    };
    let said = |name| at(entries(headers, name), believed);
    let (proto, host) = match chain {
        Chain::Forwarded => {
            let named = at(elements(headers, header::FORWARDED), believed);
            let element = named.and_then(Element::parse).unwrap_or_default();
            (element.proto, element.host)
        }
        _ => (said(X_FORWARDED_PROTO), said(X_FORWARDED_HOST)),
    };
    let told_port = said(X_FORWARDED_PORT).filter(|_| chain != Chain::Forwarded);
    let told = Told {
        chain,
        believed,
        host: host.filter(|host| is_host(host)).and_then(|h| HeaderValue::from_bytes(h).ok()),
        port: told_port.and_then(read_port),
    };
    Client { address, port, https: proto.and_then(is_https).unwrap_or(tls), told: Some(told) }
}

/// Whether an address (not in IPv4-in-IPv6 form) is that of a trusted proxy.
fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// The client, and how many entries lead to it.
fn walk(peer: Node, nodes: impl Iterator<Item = Option<Node>>, trusted: &[IpNet]) -> (Node, usize) {
    let mut found = (peer, 0);
    for (before, node) in nodes.enumerate() {
        let Some(node) = node else { break };
        found = (node, before + 1);
        if !is_trusted(node.0, trusted) {
            break;
        }
    }
    found
}

/// What the proxy that named the client said of it: each proxy adds one entry to each list, or
/// leaves a list as it is.
fn at<'h>(list: impl Iterator<Item = &'h [u8]>, believed: usize) -> Option<&'h [u8]> {
    list.take(believed.max(1)).last()
}

fn is_https(proto: &[u8]) -> Option<bool> {
    let is = |names: [&str; 2]| names.iter().any(|n| proto.eq_ignore_ascii_case(n.as_bytes()));
    match (is(["https", "wss"]), is(["http", "ws"])) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// Whether it can stand in a `Host` field.
fn is_host(text: &[u8]) -> bool {
    let good =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= 262 && text.iter().all(good)
}

fn read_port(text: &[u8]) -> Option<u16> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn trusted() -> Vec<IpNet> {
        ["10.0.0.0/8", "2001:db8:f::/48"].iter().map(|net| net.parse().unwrap()).collect()
    }

    /// The client of a request that came from 10.0.0.1 without TLS.
    fn behind(fields: &[(&'static str, &str)]) -> Client {
        client("10.0.0.1:4711".parse().unwrap(), false, &headers(fields), &trusted())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_strangers_say_is_not_heard() {
        let said = headers(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6;proto=https"),
            ("x-forwarded-proto", "https"),
        ]);
        for peer in ["192.0.2.7:1", "[2001:db8::7]:1", "[::ffff:192.0.2.7]:1", "11.0.0.1:1"] {
            let peer: SocketAddr = peer.parse().unwrap();
            let expected = Client {
                address: peer.ip().to_canonical(),
                port: Some(1),
                https: false,
                told: None,
            };
            assert_eq!(client(peer, false, &said, &trusted()), expected);
            assert_eq!(client(peer, false, &said, &[]), expected);
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy() {
        for (chain, expected, believed) in [
            (&["192.0.2.7"][..], "192.0.2.7", 1),
            (&["6.6.6.6, 192.0.2.7"], "192.0.2.7", 1),
            (&["6.6.6.6, 192.0.2.7, 10.0.0.2, 10.9.9.9"], "192.0.2.7", 3),
            (&["6.6.6.6, 192.0.2.7", "10.0.0.2"], "192.0.2.7", 2),
            (&["192.0.2.7:5061,10.0.0.2:80"], "192.0.2.7", 2),
            (&["2001:db8::7, [2001:db8:f::1]:443"], "2001:db8::7", 2),
            (&["[::ffff:192.0.2.7]:1, ::ffff:10.0.0.2"], "192.0.2.7", 2),
            // All trusted: the leftmost.
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3", 2),
            // Malformed: the last good one.
            (&["192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2", 1),
            (&["192.0.2.7, 10.0.0.2;"], "10.0.0.1", 0),
            (&["unknown"], "10.0.0.1", 0),
            (&[""], "10.0.0.1", 0),
            (&["192.0.2.7,,"], "192.0.2.7", 1),
        ] {
            let fields: Vec<_> = chain.iter().map(|value| ("x-forwarded-for", *value)).collect();
            let found = behind(&fields);
            assert_eq!(found.address, ip(expected), "{chain:?}");
            assert_eq!(found.told.unwrap().believed, believed, "{chain:?}");
        }
        assert_eq!(behind(&[("x-forwarded-for", "192.0.2.7:5061")]).port, Some(5061));
        assert_eq!(behind(&[("x-forwarded-for", "192.0.2.7")]).port, None);
        assert_eq!(behind(&[]).port, Some(4711));
    }

    #[test]
    fn a_proxy_on_a_mapped_address_is_known() {
        let said = headers(&[("x-forwarded-for", "192.0.2.7")]);
        let found = client("[::ffff:10.0.0.1]:1".parse().unwrap(), true, &said, &trusted());
        assert_eq!((found.address, found.https), (ip("192.0.2.7"), true));
    }

    #[test]
    fn forwarded_counts_where_it_is_alone() {
        let found = behind(&[(
            "forwarded",
            "for=6.6.6.6;proto=http, for=\"[2001:db8::7]:443\";host=meet.contoso.com;proto=https, \
             for=10.0.0.2;proto=http",
        )]);
        assert_eq!((found.address, found.port, found.https), (ip("2001:db8::7"), Some(443), true));
        let told = found.told.unwrap();
        assert_eq!((told.chain, told.believed), (Chain::Forwarded, 2));
        assert_eq!(told.host.unwrap(), "meet.contoso.com");
        let both = behind(&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "192.0.2.7")]);
        assert_eq!(both.address, ip("192.0.2.7"));
        for malformed in ["for=unknown", "for=_x", "by=192.0.2.7", "for=192.0.2.7;for=6.6.6.6"] {
            assert_eq!(behind(&[("forwarded", malformed)]).address, ip("10.0.0.1"), "{malformed}");
        }
    }

    #[test]
    fn the_scheme_is_what_the_proxy_that_named_the_client_said() {
        let https = |chain: &'static str, proto: &'static str| {
            behind(&[("x-forwarded-for", chain), ("x-forwarded-proto", proto)]).https
        };
        assert!(https("192.0.2.7", "https"));
        assert!(https("192.0.2.7", "HTTPS"));
        assert!(https("192.0.2.7", "wss"));
        assert!(!https("192.0.2.7", "gopher"), "the listener's own");
        assert!(!https("192.0.2.7", "https, http"), "the left one is the client's invention");
        assert!(https("192.0.2.7, 10.0.0.2", "https, http"));
        assert!(https("192.0.2.7, 10.0.0.2", "https"), "one value for all");
        assert!(behind(&[("x-forwarded-proto", "https")]).https);
        let down = headers(&[("x-forwarded-proto", "http")]);
        assert!(!client("10.0.0.1:1".parse().unwrap(), true, &down, &trusted()).https);
    }

    #[test]
    fn host_and_port_must_look_like_it() {
        let told = |name, value| behind(&[(name, value)]).told.unwrap();
        assert_eq!(
            told("x-forwarded-host", "meet.contoso.com:444").host.unwrap(),
            "meet.contoso.com:444"
        );
        assert_eq!(told("x-forwarded-host", "a.example, b.example").host.unwrap(), "b.example");
        assert_eq!(told("x-forwarded-port", "8443").port, Some(8443));
        for bad in ["a/b", "user@host", "a b", "\"a\""] {
            assert_eq!(told("x-forwarded-host", bad).host, None, "{bad}");
        }
        for bad in ["0", "65536", "+1", "", "x"] {
            assert_eq!(told("x-forwarded-port", bad).port, None, "{bad}");
        }
    }

    proptest! {
        /// SECURITY: a trusted proxy appends; nothing that came before moves the answer.
        #[test]
        fn nothing_left_of_the_client_matters(said in "[ -~]{0,40}", standard: bool) {
            let (name, value) = if standard {
                ("forwarded", format!("{said},for=192.0.2.7;proto=https"))
            } else {
                ("x-forwarded-for", format!("{said},192.0.2.7"))
            };
            prop_assert_eq!(behind(&[(name, &value)]).address, ip("192.0.2.7"));
        }
    }
}
