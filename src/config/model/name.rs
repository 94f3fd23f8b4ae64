//! Host names, paths, header names and redirect targets.

use std::net::Ipv6Addr;

use serde_yaml::Value as Yaml;

use crate::{
    config::{
        code,
        diagnostic::Findings,
        node::Node,
        read::{Read, bad, scalar},
        template::outline,
    },
    site::{HostPattern, PathPattern},
};

/// A DNS name, lower case, without trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(pub String);

impl Read for HostName {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = &scalar(node, "a host name", findings)?.text;
        let under = text.strip_prefix("*.").and_then(|name| dns_name(name).ok());
        match dns_name(text) {
            Ok(name) => Some(Self(name)),
            Err(help) => {
                let help = under.map_or(help, |name| format!("write the name alone: `{name}`"));
                bad(node, code::HOST, "a host name", help, findings);
                None
            }
        }
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.0.clone())
    }
}

impl Read for HostPattern {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = &scalar(node, "a host", findings)?.text;
        let parsed = if text == "*" {
            Err("every host is published by name: `meet.*`, `*.contoso.com`".to_string())
        } else if let Some(prefix) = text.strip_suffix(".*") {
            dns_name(prefix).map(|p| Self::Prefix(p.into()))
        } else if let Some(suffix) = text.strip_prefix("*.") {
            dns_name(suffix).map(|s| Self::Suffix(s.into()))
        } else {
            dns_name(text).map(|h| Self::Exact(h.into()))
        };
        match parsed {
            Ok(pattern) => Some(pattern),
            Err(help) => {
                bad(node, code::HOST, "a host pattern", help, findings);
                None
            }
        }
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.to_string())
    }
}

impl Read for PathPattern {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = &scalar(node, "a path", findings)?.text;
        let exact = text.strip_prefix('=');
        match clean_path(exact.unwrap_or(text)) {
            Ok(path) if exact.is_some() => Some(Self::Exact(path.into())),
            Ok(path) => match path.trim_end_matches('/') {
                "" => Some(Self::Any),
                prefix => Some(Self::Prefix(prefix.into())),
            },
            Err(help) => {
                bad(node, code::PATH, "a path", help, findings);
                None
            }
        }
    }

    fn show(&self) -> Yaml {
        Yaml::from(match self {
            Self::Any => "/".to_string(),
            Self::Prefix(prefix) => prefix.to_string(),
            Self::Exact(path) => format!("={path}"),
        })
    }
}

/// A path prefix by whole segments; lower case, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix(pub String);

impl Read for PathPrefix {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let help = match PathPattern::read(node, findings)? {
            PathPattern::Prefix(prefix) => return Some(Self(prefix.to_string())),
            PathPattern::Any => "`/` would be everything; leave the rule out instead",
            PathPattern::Exact(_) => "this list takes each path with everything under it",
        };
        bad(node, code::PATH, "a path prefix", help, findings);
        None
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.0.clone())
    }
}

/// A header name, lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName(pub String);

impl Read for HeaderName {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = &scalar(node, "a header name", findings)?.text;
        if let Ok(name) = http::HeaderName::from_bytes(text.as_bytes()) {
            return Some(Self(name.as_str().to_string()));
        }
        bad(node, code::HEADER, "a header name", "write the name alone: `X-Powered-By`", findings);
        None
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.0.clone())
    }
}

/// Where a redirect leads: an absolute URL or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(pub String);

impl Read for Target {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let written = &scalar(node, "a URL", findings)?.text;
        // What variables stand for is escaped when they are filled in.
        let text = &outline(written);
        // SECURITY: the text becomes a Location header. `//host` and `/\host` are another site
        // to a browser, not a path. Test: `targets_are_urls_or_paths`.
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&b));
        let url = text.parse::<http::Uri>().ok().is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("https" | "http"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
        });
        let path = text.starts_with('/') && !text.starts_with("//");
        if plain && (url || path) {
            return Some(Self(written.clone()));
        }
        bad(
            node,
            code::URL,
            "a redirect target",
            "write `https://host/path` or a path that starts with `/`",
            findings,
        );
        None
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.0.clone())
    }
}

/// A DNS name in lower case, or why it is none.
pub fn dns_name(text: &str) -> Result<String, String> {
    if text.starts_with('[') || text.parse::<Ipv6Addr>().is_ok() {
        return Err("write a DNS name; this is an IPv6 address".to_string());
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or(rest);
        return Err(format!("write the host alone: `{host}`"));
    }
    if let Some((host, _)) = text.split_once('/') {
        return Err(format!("write the host alone, `{host}`; paths go under `path`"));
    }
    if let Some((host, _)) = text.split_once(':') {
        return Err(format!("write the host without port: `{host}`"));
    }
    if !text.is_ascii() {
        return Err("write international names in their `xn--` form".to_string());
    }
    if text.contains('*') {
        return Err("`*` stands for whole labels at one end: `meet.*`, `*.contoso.com`".to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            // Underscores are not allowed in host names, and exist in Active Directory.
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(name)
    } else {
        Err("a host name is labels of letters, digits and `-`, joined by dots".to_string())
    }
}

/// A path in lower case, or why it is none.
fn clean_path(text: &str) -> Result<String, String> {
    let fault = if !text.starts_with('/') {
        return Err(format!("a path starts with `/`: `/{}`", text.trim_matches(['*', '/'])));
    } else if text.contains(['?', '#']) {
        "a path ends where `?` or `#` begins"
    } else if text.contains('*') {
        "`*` is not needed: `/meet` takes everything under it"
    } else if text.contains('%') {
        "write it decoded, without `%`"
    } else if text.contains('\\') || text.contains("//") {
        "write single forward slashes"
    } else if text.split('/').any(|s| s == "." || s == "..") {
        "`.` and `..` never get this far; write the path they lead to"
    } else if text.chars().any(|c| c.is_control()) {
        "control characters never match"
    } else if text.split('/').any(|segment| segment.ends_with(['.', ' '])) {
        // Windows drops them, so every reading of a request does.
        "dots and spaces at the end of a segment never match; leave them out"
    } else {
        return Ok(text.to_lowercase());
    };
    Err(fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::testing::{codes, value};

    #[test]
    fn hosts_are_exact_prefix_or_suffix() {
        let exact = |h: &str| Some(HostPattern::Exact(h.into()));
        assert_eq!(value::<HostPattern>("MEET.Contoso.com."), exact("meet.contoso.com"));
        assert_eq!(value::<HostPattern>("meet.*"), Some(HostPattern::Prefix("meet".into())));
        let two = Some(HostPattern::Prefix("meet.emea".into()));
        assert_eq!(value::<HostPattern>("meet.emea.*"), two);
        let suffix = Some(HostPattern::Suffix("contoso.com".into()));
        assert_eq!(value::<HostPattern>("\"*.contoso.com\""), suffix);
        for wrong in [
            "\"*\"",
            "me*t.contoso.com",
            "https://meet.contoso.com/",
            "meet.contoso.com:443",
            "meet.contoso.com/meet",
            "a..b",
            "-a.b",
            "münchen.de",
            "\"*.*\"",
            "a b",
            "\"*.a.*\"",
        ] {
            assert_eq!(codes::<HostPattern>(wrong), ["E023"], "{wrong}");
        }
    }

    #[test]
    fn paths_are_lower_case_prefixes_or_exact() {
        let prefix = |p: &str| Some(PathPattern::Prefix(p.into()));
        assert_eq!(value::<PathPattern>("/Meet/"), prefix("/meet"));
        assert_eq!(value::<PathPattern>("/"), Some(PathPattern::Any));
        assert_eq!(value::<PathPattern>("=/"), Some(PathPattern::Exact("/".into())));
        assert_eq!(value::<PathPattern>("=/X/y"), Some(PathPattern::Exact("/x/y".into())));
        for wrong in [
            "meet", "/a?b", "/a/*", "/%61", "/a//b", "/a/../b", "/a\\b", "\"/a \"", "/a./b", "=/a.",
        ] {
            assert_eq!(codes::<PathPattern>(wrong), ["E024"], "{wrong}");
        }
        assert_eq!(codes::<PathPrefix>("/"), ["E024"]);
        assert_eq!(codes::<PathPrefix>("=/a"), ["E024"]);
    }

    #[test]
    fn targets_are_urls_or_paths() {
        for right in
            ["https://mail.contoso.com/owa", "/owa", "http://a/?b=c", "https://{HTTP_HOST}/{R:1}"]
        {
            assert!(value::<Target>(right).is_some(), "{right}");
        }
        for wrong in [
            "mail.contoso.com",
            "//evil.example",
            "\"/\\\\evil.example\"",
            "ftp://a/",
            "javascript:alert(1)",
            "https://",
            "https://a b/",
            "\"/a\\r\\nb\"",
            "https://u@h/",
        ] {
            assert_eq!(codes::<Target>(wrong), ["E034"], "{wrong}");
        }
    }

    #[test]
    fn header_names_are_tokens() {
        let name = Some(HeaderName("x-powered-by".into()));
        assert_eq!(value::<HeaderName>("X-Powered-By"), name);
        assert_eq!(codes::<HeaderName>("\"X: y\""), ["E035"]);
    }
}
