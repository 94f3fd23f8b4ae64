//! The request target: its form, path and query.

use std::ops::Range;

use super::chars::is_target_char;
use crate::reason::{self, Reason};

/// Where the parts of a target are, as offsets into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The authority of an absolute-form target; everything up to its end is not origin form.
    pub(super) authority: Option<Range<usize>>,
    /// The path; empty in `http://host` and `http://host?query`.
    pub(super) path: Range<usize>,
    /// What follows the `?`.
    pub(super) query: Option<Range<usize>>,
}

/// Reads a target in origin form (`/path?query`) or absolute form (`http://host/path?query`).
///
/// Everything else is refused: the authority form belongs to CONNECT, and `*` to OPTIONS on the
/// server as a whole, which is nobody behind a proxy with many farms.
pub(super) fn parse(target: &[u8], limit: usize) -> Result<Target, Reason> {
    if target.len() > limit {
        return Err(reason::URL_TOO_LONG);
    }
    // What is not UTF-8 the parser behind us refuses; better with a reason and a log line.
    if !target.iter().all(|byte| is_target_char(*byte)) || std::str::from_utf8(target).is_err() {
        return Err(reason::BAD_REQUEST_LINE);
    }
    let authority = match target {
        [b'/', ..] => None,
        _ => Some(authority(target).ok_or(reason::BAD_REQUEST_LINE)?),
    };
    let start = authority.as_ref().map_or(0, |authority| authority.end);
    let rest = target.get(start..).unwrap_or_default();
    let mark = rest.iter().position(|byte| *byte == b'?').map(|at| start + at);
    Ok(Target {
        authority,
        path: start..mark.unwrap_or(target.len()),
        query: mark.map(|mark| mark + 1..target.len()),
    })
}

fn authority(target: &[u8]) -> Option<Range<usize>> {
    let is = |scheme: &&[u8]| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let start = [b"http://".as_slice(), b"https://"].iter().find(|scheme| is(scheme))?.len();
    let rest = target.get(start..)?;
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Some(start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str) -> Option<(Option<&str>, &str, Option<&str>)> {
        let parsed = parse(target.as_bytes(), 100).ok()?;
        let part = |range: Range<usize>| &target[range];
        Some((parsed.authority.map(part), part(parsed.path), parsed.query.map(part)))
    }

    #[test]
    fn origin_and_absolute_form() {
        for (target, expected) in [
            ("/", (None, "/", None)),
            ("/a?", (None, "/a", Some(""))),
            ("/a?b?c/d", (None, "/a", Some("b?c/d"))),
            ("//x/y", (None, "//x/y", None)),
            ("http://a.x/y?z", (Some("a.x"), "/y", Some("z"))),
            ("HTTPS://a.x:443", (Some("a.x:443"), "", None)),
            ("http://a.x?z/y", (Some("a.x"), "", Some("z/y"))),
            ("http:///y", (Some(""), "/y", None)),
        ] {
            assert_eq!(parts(target), Some(expected), "{target}");
        }
    }

    #[test]
    fn targets_are_visible_and_whole() {
        assert!(parse(b"/latin-1-\xe4", 100).is_err());
        assert!(parse("/{ä|\\^`\"}".as_bytes(), 100).is_ok());
        for bad in [
            "",
            "*",
            "a.x:443",
            "x",
            "?x",
            "\\x",
            "ftp://a.x/",
            "http:/a.x/",
            "ws://a.x/",
            "/a b",
            "/a\tb",
            "/a\0",
            "/a\x7f",
            "/a#b",
            "/a<b",
            "/a>b",
            "/a?b#c",
            "/\r",
            "/\n",
        ] {
            let got = parse(bad.as_bytes(), 100);
            assert_eq!(got, Err(reason::BAD_REQUEST_LINE), "{bad:?}");
        }
    }

    #[test]
    fn the_limit_is_inclusive() {
        let target = format!("/{}", "a".repeat(99));
        assert!(parse(target.as_bytes(), 100).is_ok());
        assert_eq!(parse(target.as_bytes(), 99), Err(reason::URL_TOO_LONG));
    }
}
