//! `Location` of the redirects that Frontgate answers itself.

use super::template::{Spot, Values, escape};
use crate::site::{Part, Redirect, Rule, Site, Template};

/// Where a redirect rule sends a request; `None` if a capture of it cannot be had.
///
/// `keep_path` puts the request's path behind the one of `to`, `keep_query` its query behind the
/// one of `to`, unless `to` holds it already. The result is ASCII without spaces and controls,
/// whatever the client sent.
pub fn location(redirect: &Redirect, values: &Values<'_>) -> Option<String> {
    let question = values.question();
    let Url { mut base, mut query, fragment, holds_query } = filled(&redirect.to, values)?;
    if redirect.keep_path {
        base.truncate(base.trim_end_matches('/').len());
        let path = question.path();
        base.push('/');
        push(&mut base, path.strip_prefix(b"/").unwrap_or(path));
    }
    // SECURITY: with `to: /` the path `//evil.example` would become another site's address, and
    // `.evil.example` behind `https://mail.contoso.com` another host.
    // Test: a_kept_path_never_leads_to_another_host
    if base.starts_with('/') {
        base = format!("/{}", trim_slashes(&base));
    }
    let kept = question.query.filter(|kept| !kept.is_empty());
    if let Some(kept) = kept.filter(|_| redirect.keep_query && !holds_query) {
        let query = query.get_or_insert_default();
        if !query.is_empty() {
            query.push('&');
        }
        push(query, kept);
    }
    for (sign, part) in [('?', query), ('#', fragment)] {
        if let Some(part) = part {
            base.push(sign);
            base.push_str(&part);
        }
    }
    Some(base)
}

/// A redirect's target, filled in.
#[derive(Default)]
struct Url {
    /// Scheme, authority and path.
    base: String,
    query: Option<String>,
    fragment: Option<String>,
    /// Whether the client's query is in it.
    holds_query: bool,
}

fn filled(to: &Template, values: &Values<'_>) -> Option<Url> {
    let mut url = Url::default();
    for part in &to.parts {
        match part {
            Part::Text(text) => text.chars().for_each(|c| url.add(c)),
            Part::Target => {
                url.holds_query = true;
                values.push(url.end().0, &Part::Path, Spot::Path)?;
                if let Some(query) = values.question().query {
                    push(url.begin_query(), query);
                }
            }
            part => {
                url.holds_query |= *part == Part::Query;
                let (out, spot) = url.end();
                values.push(out, part, spot)?;
            }
        }
    }
    Some(url)
}

impl Url {
    fn add(&mut self, c: char) {
        match c {
            '?' if self.query.is_none() && self.fragment.is_none() => {
                self.query = Some(String::new());
            }
            '#' if self.fragment.is_none() => self.fragment = Some(String::new()),
            _ => push(self.end().0, c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }

    /// What is written at the moment.
    fn end(&mut self) -> (&mut String, Spot) {
        match (&mut self.fragment, &mut self.query) {
            (Some(fragment), _) => (fragment, Spot::Query),
            (None, Some(query)) => (query, Spot::Query),
            (None, None) => (&mut self.base, Spot::Path),
        }
    }

    fn begin_query(&mut self) -> &mut String {
        self.query.get_or_insert_default()
    }
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

/// The status of the redirect to https. A 301 lets clients turn a POST into a GET (RFC 9110
/// 15.4.2).
pub fn https_status(method: &str) -> u16 {
    if matches!(method, "GET" | "HEAD") { 301 } else { 308 }
}

/// A path without slashes in front, in either direction.
fn trim_slashes(mut path: &str) -> &str {
    while let Some(rest) = path.strip_prefix('/').or_else(|| path.strip_prefix("%5C")) {
        path = rest;
    }
    path
}

fn push(out: &mut String, bytes: &[u8]) {
    escape(out, bytes, |_| false);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::route::{
        Question,
        testing::{ask, forward, listener, site},
    };

    /// What a rule for everything answers.
    fn location(redirect: &Redirect, path: &[u8], query: Option<&[u8]>) -> String {
        under(&forward("a.x", ""), redirect, path, query)
    }

    fn under(rule: &Rule, redirect: &Redirect, path: &[u8], query: Option<&[u8]>) -> String {
        let question = Question { target_path: path, query, ..ask("a.x", "/") };
        super::location(redirect, &Values::new(rule, &question)).unwrap()
    }

    fn template(parts: Vec<Part>) -> Redirect {
        let to = Template { parts };
        Redirect { to, status: 302, keep_path: false, keep_query: true }
    }

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    #[test]
    fn captures_and_queries_are_filled_in() {
        let rule = forward("a.x", "/old");
        let query = Some(&b"x=y"[..]);
        for (parts, expected) in [
            (vec![text("https://m.x/"), Part::Rule(1)], "https://m.x/A%20b?x=y"),
            (vec![text("https://"), Part::Host, Part::Target], "https://a.x/Old/A%20b?x=y"),
            (vec![text("/n?"), Part::Query, text("&z")], "/n?x=y&z"),
            (vec![text("/n?p="), Part::Rule(1), text("#f")], "/n?p=A%20b&x=y#f"),
            (vec![text("/n#"), Part::Path], "/n?x=y#/Old/A%20b"),
        ] {
            assert_eq!(under(&rule, &template(parts), b"/Old/A%20b", query), expected);
        }
        let bare = vec![text("https://"), Part::Host, Part::Target];
        assert_eq!(under(&rule, &template(bare), b"/old", None), "https://a.x/old");
    }

    #[test]
    fn a_capture_never_leads_to_another_host() {
        let rule = forward("a.x", "/o");
        for path in ["/o//evil.example", "/o/\\evil.example", "/o///evil.example"] {
            let path = path.as_bytes();
            let to = under(&rule, &template(vec![text("/"), Part::Rule(1)]), path, None);
            assert_eq!(to, "/evil.example");
            let to = under(&rule, &template(vec![text("https://m.x/"), Part::Rule(1)]), path, None);
            assert!(to.starts_with("https://m.x/"), "{to}");
        }
    }

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
