//! Host names as clients write them, brought into one form.

use std::{borrow::Cow, net::Ipv6Addr, ops::Deref};

use memchr::memchr;

/// Longest host name in bytes, without port and brackets (RFC 1035 2.3.4).
const MAX_HOST: usize = 255;

/// Longest label of a DNS name (RFC 1035 2.3.4).
const MAX_LABEL: usize = 63;

/// A host name in the one form that everything compares: lower case, without port and trailing
/// dot; an IPv6 address in brackets and in its shortest spelling.
///
/// It borrows from the request where the client already wrote it that way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostName<'a>(Cow<'a, str>);

impl HostName<'_> {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same name, independent of the request.
    pub fn into_owned(self) -> HostName<'static> {
        HostName(Cow::Owned(self.0.into_owned()))
    }
}

impl Deref for HostName<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for HostName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the value of `Host`, of `:authority` or of an SNI. `None` if it is malformed: empty,
/// too long, empty labels, user information, percent escapes, anything but letters, digits, `-`
/// and `_` in a label, or a port that is not one.
///
/// An empty port (`host:`) is legal (RFC 3986 3.2.3) and means the same as none. Names outside
/// ASCII come as punycode; raw ones are refused.
pub fn normalize_host(raw: &[u8]) -> Option<HostName<'_>> {
    let raw = std::str::from_utf8(raw).ok()?;
    if let Some(rest) = raw.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
            return None;
        }
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(HostName(Cow::Owned(format!("[{address}]"))));
    }
    let colon = memchr(b':', raw.as_bytes()).and_then(|colon| raw.split_at_checked(colon));
    let name = match colon {
        Some((name, port)) if is_port(port.get(1..)?) => name,
        Some(_) => return None,
        None => raw,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut labels = name.as_bytes().split(|byte| *byte == b'.');
    if name.len() > MAX_HOST || !labels.all(is_label) {
        return None;
    }
    let upper = name.bytes().any(|b| b.is_ascii_uppercase());
    Some(HostName(if upper { name.to_ascii_lowercase().into() } else { name.into() }))
}

fn is_port(port: &str) -> bool {
    port.is_empty()
        || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0))
}

fn is_label(label: &[u8]) -> bool {
    // COMPAT: `_` is no host name character, but names of Windows machines have it.
    (1..=MAX_LABEL).contains(&label.len())
        && label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(raw: &str) -> Option<String> {
        normalize_host(raw.as_bytes()).map(|host| host.to_string())
    }

    #[test]
    fn one_form_for_every_spelling() {
        for (raw, expected) in [
            ("meet.contoso.com", "meet.contoso.com"),
            ("MEET.Contoso.COM", "meet.contoso.com"),
            ("meet.contoso.com.", "meet.contoso.com"),
            ("meet.contoso.com:443", "meet.contoso.com"),
            ("Meet.contoso.com.:65535", "meet.contoso.com"),
            ("meet.contoso.com:", "meet.contoso.com"),
            ("fe_01", "fe_01"),
            ("10.1.2.3:4443", "10.1.2.3"),
            ("[::1]:443", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
        ] {
            assert_eq!(normal(raw).as_deref(), Some(expected), "{raw}");
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for raw in [
            "",
            ".",
            "..",
            ":443",
            "a..b",
            ".a",
            "a..",
            "a b",
            " a",
            "a ",
            "a\t",
            "user@a",
            "a:b",
            "a:-1",
            "a:+1",
            "a:0",
            "a:65536",
            "a:44 3",
            "a:1:2",
            "a/b",
            "a%2eb",
            "a,b",
            "a\\b",
            "a\0",
            "*.a",
            "münchen.de",
            "::1",
            "[::1",
            "[]",
            "[::1]x",
            "[::1]:x",
            "[::1].",
            "[fe80::1%25eth0]",
            "[1.2.3.4]",
            "a#b",
            "a?b",
            "a;b",
        ] {
            assert_eq!(normal(raw), None, "{raw:?}");
        }
        assert_eq!(normal(&"a".repeat(64)), None);
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63)].join(".");
        assert!(normal(&long).is_some());
        assert_eq!(normal(&format!("{long}.e")), None);
        assert_eq!(normalize_host(b"\xff"), None);
    }

    #[test]
    fn a_clean_name_is_not_copied() {
        let host = normalize_host(b"meet.contoso.com:443").unwrap();
        assert!(matches!(host.0, Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_normalising_is_stable(
            raw in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..80),
                "[a-zA-Z0-9._:\\[\\]-]{0,40}".prop_map(String::into_bytes),
            ],
        ) {
            if let Some(host) = normalize_host(&raw) {
                prop_assert!(!host.is_empty() && !host.ends_with('.'));
                prop_assert!(host.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()));
                prop_assert_eq!(normalize_host(host.as_bytes()), Some(host.clone()));
            }
        }

        #[test]
        fn case_port_and_dot_change_nothing(
            host in "[a-z0-9_-]{1,20}(\\.[a-z0-9_-]{1,20}){0,4}",
            upper: bool,
            dot: bool,
            port: Option<u16>,
        ) {
            let mut spelt = if upper { host.to_uppercase() } else { host.clone() };
            if dot { spelt.push('.'); }
            if let Some(port) = port.filter(|p| *p > 0) { spelt.push_str(&format!(":{port}")); }
            prop_assert_eq!(normal(&spelt), Some(host));
        }
    }
}
