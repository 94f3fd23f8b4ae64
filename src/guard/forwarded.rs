//! Lists that proxies add to, read from the right: the last entry is the nearest proxy's, and what
//! strangers wrote stands to the left of it.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName};

use super::chars::{is_token, trim};

/// An address with its port, if it was written.
pub type Node = (IpAddr, Option<u16>);

/// The entries of a comma-separated field, last one first; several fields count as one, joined in
/// order. Empty entries do not count (RFC 9110 5.6.1).
pub fn entries(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let fields = headers.get_all(name).iter().rev();
    fields
        .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','))
        .map(trim)
        .filter(|entry| !entry.is_empty())
}

/// The elements of `Forwarded`, last one first, several fields as one.
///
/// SECURITY: quotes are paired from the right. A stranger who leaves one open in front of what a
/// proxy adds would otherwise swallow it. Test: an_open_quote_swallows_nothing
pub fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let fields = headers.get_all(name).iter().rev();
    fields
        .flat_map(|value| Elements { rest: Some(value.as_bytes()) })
        .map(trim)
        .filter(|element| !element.is_empty())
}

struct Elements<'h> {
    rest: Option<&'h [u8]>,
}

impl<'h> Iterator for Elements<'h> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        let rest = self.rest?;
        let mut quoted = false;
        let comma = rest.iter().rposition(|byte| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        });
        let (left, element) = match comma.and_then(|at| rest.split_at_checked(at)) {
            Some((left, element)) => (Some(left), element.get(1..).unwrap_or_default()),
            None => (None, rest),
        };
        self.rest = left;
        Some(element)
    }
}

/// What one element of `Forwarded` says (RFC 7239 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Element<'h> {
    /// `for`, without quotes.
    pub node: Option<&'h [u8]>,
    /// `host`, without quotes.
    pub host: Option<&'h [u8]>,
    /// `proto`.
    pub proto: Option<&'h [u8]>,
}

impl<'h> Element<'h> {
    /// Reads an element; `None` if it is malformed. IPv6 addresses without quotes pass, because
    /// many proxies write them so; backslashes do not, because no address, host or scheme has any
    /// and they make quotes ambiguous.
    pub fn parse(element: &'h [u8]) -> Option<Self> {
        if element.contains(&b'\\') {
            return None;
        }
        let (mut found, mut rest) = (Self::default(), trim(element));
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix(b";") {
                rest = trim(after);
                continue;
            }
            let equals = rest.iter().position(|byte| *byte == b'=')?;
            let (name, value) = rest.split_at_checked(equals)?;
            let value = value.get(1..)?;
            let (value, after) = match value.strip_prefix(b"\"") {
                Some(quoted) => {
                    let end = quoted.iter().position(|byte| *byte == b'"')?;
                    (quoted.get(..end)?, trim(quoted.get(end + 1..)?))
                }
                None => {
                    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
                    let (value, after) = value.split_at_checked(end)?;
                    (trim(value), after)
                }
            };
            let separated = after.is_empty() || after.starts_with(b";");
            if !separated || !is_token(name) || value.contains(&b'"') {
                return None;
            }
            let place = match name.len() {
                3 if name.eq_ignore_ascii_case(b"for") => Some(&mut found.node),
                4 if name.eq_ignore_ascii_case(b"host") => Some(&mut found.host),
                5 if name.eq_ignore_ascii_case(b"proto") => Some(&mut found.proto),
                _ => None,
            };
            if place.is_some_and(|place| place.replace(value).is_some()) {
                return None;
            }
            rest = after;
        }
        Some(found)
    }
}

/// Reads an address as it stands in `X-Forwarded-For` and in `for=`: with or without port, IPv6
/// with or without brackets. `None` for anything else, also for `unknown` and `_hidden`.
///
/// COMPAT: ARR writes `[fe80::1%6]:63354`; the zone means nothing here. Test: nodes_of_all_kinds
pub fn node(text: &[u8]) -> Option<Node> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port = if port.is_empty() { None } else { read_port(port.strip_prefix(':')?)? };
        return Some((IpAddr::from(ipv6(address)?).to_canonical(), port));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address.to_canonical(), None));
    }
    if let Some(address) = ipv6(text) {
        return Some((IpAddr::from(address).to_canonical(), None));
    }
    let (address, port) = text.split_once(':')?;
    Some((IpAddr::V4(address.parse().ok()?), read_port(port)?))
}

fn ipv6(text: &str) -> Option<Ipv6Addr> {
    text.split('%').next()?.parse().ok()
}

/// `None`: not a port. A hidden one (`_x`) is no fault (RFC 7239 6.3).
fn read_port(text: &str) -> Option<Option<u16>> {
    if text.starts_with('_') {
        return Some(None);
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().map(Some)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::FORWARDED};
    use proptest::prelude::*;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(FORWARDED, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn texts<'a>(items: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        items.map(|item| String::from_utf8_lossy(item).into_owned()).collect()
    }

    #[test]
    fn fields_are_one_list_read_from_the_right() {
        let map = headers(&["a, b,, ", "c"]);
        assert_eq!(texts(entries(&map, FORWARDED)), ["c", "b", "a"]);
        let map = headers(&["for=a;host=\"x,y\", for=b", "for=c"]);
        let expected = ["for=c", "for=b", "for=a;host=\"x,y\""];
        assert_eq!(texts(elements(&map, FORWARDED)), expected);
    }

    #[test]
    fn an_open_quote_swallows_nothing() {
        for stranger in ["for=\"", "for=6.6.6.6;x=\"a\\\"", "\"", "for=\"6.6.6.6\", \""] {
            for proxy in ["for=192.0.2.7;proto=https", "for=\"[2001:db8::7]:443\""] {
                let map = headers(&[&format!("{stranger}, {proxy}")]);
                assert_eq!(texts(elements(&map, FORWARDED)).first().unwrap(), proxy);
            }
        }
    }

    #[test]
    fn elements_have_known_parameters_once() {
        let element = |text: &'static str| Element::parse(text.as_bytes());
        let full = element("For=\"[2001:db8::1]:80\" ; by=x;HOST=a.example; proto=https;").unwrap();
        assert_eq!(full.node, Some(&b"[2001:db8::1]:80"[..]));
        assert_eq!(full.host, Some(&b"a.example"[..]));
        assert_eq!(full.proto, Some(&b"https"[..]));
        assert_eq!(element("for=[2001:db8::1]").unwrap().node, Some(&b"[2001:db8::1]"[..]));
        assert_eq!(element("secret=x"), Some(Element::default()));
        for wrong in [
            "for",
            "for=1.2.3.4;for=5.6.7.8",
            "for=\"1.2.3.4",
            "for=\"1.2.3.4\"x",
            "for=1.2\"3.4",
            "f or=1.2.3.4",
            "for=\"\\1\"",
            "=1.2.3.4",
        ] {
            assert_eq!(element(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nodes_of_all_kinds() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (text, address, port) in [
            ("192.0.2.7", "192.0.2.7", None),
            ("192.0.2.7:5061", "192.0.2.7", Some(5061)),
            ("192.0.2.7:_x", "192.0.2.7", None),
            ("2001:db8::7", "2001:db8::7", None),
            ("[2001:db8::7]", "2001:db8::7", None),
            ("[2001:db8::7]:443", "2001:db8::7", Some(443)),
            ("[fe80::1%6]:63354", "fe80::1", Some(63354)),
            ("fe80::1%eth0", "fe80::1", None),
            ("::ffff:192.0.2.7", "192.0.2.7", None),
            ("[::ffff:192.0.2.7]:1", "192.0.2.7", Some(1)),
        ] {
            assert_eq!(node(text.as_bytes()), Some((ip(address), port)), "{text}");
        }
        for text in [
            "",
            "unknown",
            "_hidden",
            "192.0.2",
            "192.0.2.7:",
            "192.0.2.7:65536",
            "192.0.2.7:+1",
            "192.0.2.7:80:80",
            "[192.0.2.7]",
            "[2001:db8::7",
            "[2001:db8::7]x",
            "lync.contoso.com",
            "192.0.2.7 192.0.2.8",
        ] {
            assert_eq!(node(text.as_bytes()), None, "{text}");
        }
        assert_eq!(node(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_input_never_panics(text in "[ -~]{0,40}") {
            let map = headers(&[&text]);
            for element in elements(&map, FORWARDED) {
                let _ = Element::parse(element).and_then(|e| e.node).and_then(node);
            }
            let _ = node(text.as_bytes());
        }

        #[test]
        fn whatever_stands_before_it_the_last_element_is_the_proxys(text in "[ -~]{0,40}") {
            let map = headers(&[&format!("{text},for=\"[2001:db8::7]\";proto=https")]);
            let last = elements(&map, FORWARDED).next().unwrap();
            prop_assert_eq!(last, &b"for=\"[2001:db8::7]\";proto=https"[..]);
        }
    }
}
