//! `Location` of the redirects that Frontgate answers itself.

use crate::site::{Redirect, Rule, Site};

/// Where a redirect rule sends a request with this path and query (as sent, origin form).
///
/// `keep_path` puts the request's path behind the one of `to`, `keep_query` its query behind the
/// one of `to`. The result is ASCII without spaces and controls, whatever the client sent.
pub fn location(redirect: &Redirect, path: &[u8], query: Option<&[u8]>) -> String {
    let (to, fragment) = split(&redirect.to, '#');
    let (base, own_query) = split(to, '?');
    let mut out = String::with_capacity(redirect.to.len() + path.len() + 16);
    if redirect.keep_path {
        push(&mut out, base.trim_end_matches('/').as_bytes());
        let path = path.strip_prefix(b"/").unwrap_or(path);
        // SECURITY: with `to: /` the path `//evil.example` would become another site's address,
        // and `.evil.example` behind `https://mail.contoso.com` another host.
        // Test: a_kept_path_never_leads_to_another_host
        let path = if out.is_empty() { trim_slashes(path) } else { path };
        out.push('/');
        push(&mut out, path);
    } else {
        push(&mut out, base.as_bytes());
    }
    let query = query.filter(|query| redirect.keep_query && !query.is_empty());
    let mut separator = '?';
    for part in [own_query.map(str::as_bytes), query].into_iter().flatten() {
        out.push(separator);
        push(&mut out, part);
        separator = '&';
    }
    if let Some(fragment) = fragment {
        out.push('#');
        push(&mut out, fragment.as_bytes());
    }
    out
}

/// The same target on https: `host` normalised, `port` as clients see it (443 is left out),
/// `target` as sent, in origin form. ASCII without spaces and controls, whatever the client sent.
pub fn https_location(host: &str, port: u16, target: &[u8]) -> String {
    let mut out = String::with_capacity(host.len() + target.len() + 16);
    out.push_str("https://");
    push(&mut out, host.as_bytes());
    if port != 443 {
        out.push_str(&format!(":{port}"));
    }
    out.push('/');
    push(&mut out, target.strip_prefix(b"/").unwrap_or(target));
    out
}

/// The port under which clients reach `rule` on https: 443 if a TLS listener of the rule has it,
/// otherwise the first one's `public_port`; 443 where TLS ends before Frontgate.
pub fn https_port(site: &Site, rule: &Rule) -> u16 {
    let takes = |name| rule.listeners.as_ref().is_none_or(|names| names.contains(name));
    let tls = site.listeners.iter().filter(|listener| listener.tls.is_some());
    let mut ports = tls.filter(|listener| takes(&listener.name)).map(|l| l.public_port).peekable();
    let first = ports.peek().copied().unwrap_or(443);
    if ports.any(|port| port == 443) { 443 } else { first }
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn trim_slashes(mut path: &[u8]) -> &[u8] {
    while let [b'/' | b'\\', rest @ ..] = path {
        path = rest;
    }
    path
}

/// Appends `bytes`, escaping everything that has no place in a URL. Escapes already there stay.
///
/// SECURITY: a CR or LF here would let a stranger write headers of our answer, and browsers read
/// `\` as `/`. Test: nothing_but_visible_ascii_gets_out
fn push(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        let escaped =
            matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
        if byte.is_ascii_graphic() && !escaped {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::route::testing::{forward, listener, site};

    fn redirect(to: &str, keep_path: bool, keep_query: bool) -> Redirect {
        Redirect { to: to.into(), status: 302, keep_path, keep_query }
    }

    #[test]
    fn path_and_query_are_kept_as_asked() {
        for (to, keep_path, keep_query, query, expected) in [
            ("https://m.x/owa", false, true, None, "https://m.x/owa"),
            ("https://m.x/owa", false, true, Some("a=b"), "https://m.x/owa?a=b"),
            ("https://m.x/owa", false, false, Some("a=b"), "https://m.x/owa"),
            ("https://m.x/owa?c", false, true, Some("a=b"), "https://m.x/owa?c&a=b"),
            ("https://m.x/owa?c#f", true, true, Some("a"), "https://m.x/owa/p/%20q?c&a#f"),
            ("https://m.x", true, true, Some(""), "https://m.x/p/%20q"),
            ("/new/", true, true, None, "/new/p/%20q"),
            ("/", true, true, None, "/p/%20q"),
        ] {
            let redirect = redirect(to, keep_path, keep_query);
            let got = location(&redirect, b"/p/%20q", query.map(str::as_bytes));
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_kept_path_never_leads_to_another_host() {
        for path in ["//evil.example", "/\\evil.example", "///evil.example", "/\\/evil.example"] {
            assert_eq!(
                location(&redirect("/", true, true), path.as_bytes(), None),
                "/evil.example"
            );
        }
        let to = redirect("https://mail.contoso.com", true, true);
        assert_eq!(location(&to, b".evil.example", None), "https://mail.contoso.com/.evil.example");
        assert_eq!(https_location("a.x", 443, b".evil.example"), "https://a.x/.evil.example");
        assert_eq!(https_location("a.x", 443, b"//evil.example"), "https://a.x//evil.example");
    }

    #[test]
    fn https_keeps_the_target_and_names_only_other_ports() {
        let target = b"/meet/Anna?x=%0d%0a&y";
        assert_eq!(https_location("a.x", 443, target), "https://a.x/meet/Anna?x=%0d%0a&y");
        assert_eq!(
            https_location("[::1]", 8443, target),
            "https://[::1]:8443/meet/Anna?x=%0d%0a&y"
        );
        assert_eq!(
            https_location("a.x", 443, b"/\r\nSet-Cookie: x"),
            "https://a.x/%0D%0ASet-Cookie:%20x"
        );
    }

    #[test]
    fn the_port_is_the_public_one_of_a_listener_of_the_rule() {
        let mut site = site(&[], vec![]);
        let mut rule = forward("a.x", "");
        assert_eq!(https_port(&site, &rule), 443);
        let tls = site.listeners[0].tls;
        let odd = |name, port| Arc::new(listener(name, port, tls));
        site.listeners = vec![odd("a", 8443), odd("b", 9443)];
        assert_eq!(https_port(&site, &rule), 8443);
        rule.listeners = Some(vec!["b".into()]);
        assert_eq!(https_port(&site, &rule), 9443);
        rule.listeners = None;
        site.listeners.push(odd("c", 443));
        assert_eq!(https_port(&site, &rule), 443);
        site.listeners.clear();
        assert_eq!(https_port(&site, &rule), 443);
    }

    proptest! {
        #[test]
        fn nothing_but_visible_ascii_gets_out(
            to in "(https://h|)/[a-z\\PC]{0,10}",
            path: Vec<u8>,
            query: Option<Vec<u8>>,
            keep_path: bool,
        ) {
            let made = [
                location(&redirect(&to, keep_path, true), &path, query.as_deref()),
                https_location("h", 443, &path),
            ];
            for location in made {
                prop_assert!(location.bytes().all(|b| b.is_ascii_graphic() && b != b'\\'));
            }
        }
    }
}
