//! A raw HTTP/1 request header block.

use std::ops::Range;

use bytes::BytesMut;
use memchr::memchr;

use super::{
    fields::{Fields, Framing},
    request_line::{RequestLine, Version},
};
use crate::{
    reason::{self, Reason},
    route::normalize_host,
    site::Limits,
};

/// How much a header may hold. Its size in bytes is limited by who reads it from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most header fields. Default of the configuration: 200.
    pub headers: usize,
    /// Longest request target in bytes. Default of the configuration: 16 KiB.
    pub url: usize,
}

impl From<&Limits> for HeadLimits {
    fn from(limits: &Limits) -> Self {
        Self { headers: limits.headers, url: limits.url }
    }
}

/// A header block that is beyond doubt. Ranges are offsets into the block as it was inspected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Any token but CONNECT and TRACE.
    pub method: Range<usize>,
    /// The whole request target.
    pub target: Range<usize>,
    /// The path of the target; empty in the absolute form `http://host`, and means `/` then.
    pub path: Range<usize>,
    /// The query, without `?`.
    pub query: Option<Range<usize>>,
    /// The version.
    pub version: Version,
    /// The value of `Host`, well-formed; `None` only on HTTP/1.0.
    pub host: Option<Range<usize>>,
    /// How long the body is.
    pub framing: Framing,
    /// Whether the client means to go on after this request.
    pub keep_alive: bool,
    /// Whether it waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// Whether it asks for another protocol on this connection (`Upgrade` and its option in
    /// `Connection`): after a 101, what follows is not HTTP.
    pub upgrade: bool,
    /// Whether the target is in absolute form, so that [`origin_form`] has something to do.
    pub absolute: bool,
}

/// Finds the end of a header block in what has arrived: the offset behind its empty line.
///
/// `from` is how much of `buf` earlier calls have seen, so nothing is looked at twice. An empty
/// line counts whatever its line end, so that [`inspect`] refuses a block with wrong line ends at
/// once, instead of the deadline much later.
pub fn find_end(buf: &[u8], from: usize) -> Option<usize> {
    let start = from.saturating_sub(3);
    let mut rest = buf.get(start..)?;
    let mut at = start;
    while let Some(length) = memchr(b'\n', rest) {
        let (_, after) = rest.split_at_checked(length + 1)?;
        at += length + 1;
        match after {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => rest = after,
        }
    }
    None
}

/// Inspects a header block, from the request line up to and including the empty line. One empty
/// line before the request line is skipped (RFC 9112 2.2).
///
/// Only what every server reads the same way passes: CR LF line ends, one space where one belongs,
/// known versions, exactly one good `Host` on HTTP/1.1, and one clear length of the body. Errors
/// are the reasons to answer with.
pub fn inspect(head: &[u8], limits: &HeadLimits) -> Result<Head, Reason> {
    let start = if head.starts_with(b"\r\n") { 2 } else { 0 };
    let mut lines = Lines { head, at: start };
    let (line, start) = lines.next()?;
    let line = RequestLine::parse(line, start, limits)?;
    let mut fields = Fields::default();
    let mut count = 0;
    loop {
        let (field, start) = lines.next()?;
        if field.is_empty() {
            break;
        }
        count += 1;
        if count > limits.headers {
            return Err(reason::HEADER_TOO_LARGE);
        }
        fields.add(field, start)?;
    }
    if lines.at != head.len() {
        return Err(reason::BAD_HEADER);
    }
    combine(head, line, fields)
}

/// The block with its target in origin form, as servers expect it: without scheme and authority,
/// and without an empty line in front. `head` is what `inspect` saw.
pub fn origin_form(head: &[u8], seen: &Head) -> BytesMut {
    let part = |range: Range<usize>| head.get(range).unwrap_or_default();
    let mut out = BytesMut::with_capacity(head.len() + 1);
    out.extend_from_slice(part(seen.method.start..seen.target.start));
    if seen.path.is_empty() {
        out.extend_from_slice(b"/");
    }
    out.extend_from_slice(part(seen.path.start..head.len()));
    out
}

/// The lines of a block, each with its offset and without its CR LF.
struct Lines<'h> {
    head: &'h [u8],
    at: usize,
}

impl<'h> Lines<'h> {
    /// A CR elsewhere in a line is a control character, and falls with those.
    fn next(&mut self) -> Result<(&'h [u8], usize), Reason> {
        let start = self.at;
        let rest = self.head.get(start..).unwrap_or_default();
        let length = memchr(b'\n', rest).ok_or(reason::BAD_HEADER)?;
        let line = rest.get(..length).and_then(|line| line.strip_suffix(b"\r"));
        self.at = start + length + 1;
        Ok((line.ok_or(reason::BAD_HEADER)?, start))
    }
}

/// Holds the request line against the fields.
///
/// SECURITY: an absolute target names the host a second time; a server may believe that one.
/// Test: an_absolute_target_must_name_the_same_host
fn combine(head: &[u8], line: RequestLine, fields: Fields) -> Result<Head, Reason> {
    let part = |range: &Range<usize>| head.get(range.clone()).unwrap_or_default();
    let host = match &fields.host {
        Some(host) => Some(normalize_host(part(host)).ok_or(reason::BAD_HOST)?),
        None if line.version == Version::Http11 => return Err(reason::BAD_HOST),
        None => None,
    };
    if let Some(authority) = &line.authority
        && (host.is_none() || normalize_host(part(authority)) != host)
    {
        return Err(reason::BAD_HOST);
    }
    if line.version == Version::Http10 && fields.framing == Framing::Chunked {
        return Err(reason::BAD_FRAMING);
    }
    Ok(Head {
        keep_alive: !fields.close && (line.version == Version::Http11 || fields.keep_alive),
        expect_continue: fields.expect_continue && line.version == Version::Http11,
        upgrade: fields.upgrade() && line.version == Version::Http11,
        absolute: line.authority.is_some(),
        method: line.method,
        target: line.target,
        path: line.path,
        query: line.query,
        version: line.version,
        host: fields.host,
        framing: fields.framing,
    })
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { headers: 20, url: 200 };

    fn check(head: &str) -> Result<Head, Reason> {
        inspect(head.as_bytes(), &LIMITS)
    }

    #[test]
    fn the_parts_are_where_they_are() {
        let text = "\r\nGET http://A.x:443/p/q?r=s HTTP/1.1\r\nX: y\r\nHost:\t a.X. \r\n\r\n";
        let head = check(text).unwrap();
        assert_eq!(&text[head.method.clone()], "GET");
        assert_eq!(&text[head.target.clone()], "http://A.x:443/p/q?r=s");
        assert_eq!(&text[head.path.clone()], "/p/q");
        assert_eq!(&text[head.query.clone().unwrap()], "r=s");
        assert_eq!(&text[head.host.clone().unwrap()], "a.X.");
        assert!(head.absolute && head.keep_alive && head.version == Version::Http11);
        let origin = origin_form(text.as_bytes(), &head);
        assert_eq!(&origin[..], b"GET /p/q?r=s HTTP/1.1\r\nX: y\r\nHost:\t a.X. \r\n\r\n");
    }

    #[test]
    fn the_block_ends_with_its_empty_line() {
        for text in ["", "\r\n", "GET / HTTP/1.1", "GET / HTTP/1.1\r\nHost: a.x\r\n"] {
            assert!(check(text).is_err(), "{text:?}");
        }
        for (end, good) in
            [("\r\n\r\n", true), ("\n\n", false), ("\r\n\n", false), ("\r\n\r\nX", false)]
        {
            let got = check(&format!("GET / HTTP/1.1\r\nHost: a.x{end}"));
            assert_eq!(got.is_ok(), good, "{end:?}");
            assert!(good || got == Err(reason::BAD_HEADER));
        }
    }

    #[test]
    fn one_good_host() {
        let ask =
            |version: &str, fields: &str| check(&format!("GET / HTTP/{version}\r\n{fields}\r\n"));
        assert_eq!(ask("1.0", "").unwrap().host, None);
        assert!(ask("1.1", "hOST:a.x:80\r\n").is_ok());
        for fields in
            ["Host:\r\n", "Host: a b\r\n", "Host: a.x\r\nhost: a.x\r\n", "Host: u@a.x\r\n"]
        {
            assert_eq!(ask("1.1", fields), Err(reason::BAD_HOST), "{fields:?}");
            assert_eq!(ask("1.0", fields), Err(reason::BAD_HOST), "{fields:?}");
        }
        assert_eq!(ask("1.1", ""), Err(reason::BAD_HOST));
    }

    #[test]
    fn an_absolute_target_must_name_the_same_host() {
        let ask = |target: &str, rest: &str| check(&format!("GET {target} HTTP/1.{rest}\r\n\r\n"));
        assert!(ask("http://a.x", "1\r\nHost: A.x:80").is_ok());
        for (target, rest) in [
            ("http://b.x/", "1\r\nHost: a.x"),
            ("http://a.x@b.x/", "1\r\nHost: a.x"),
            ("http:///", "1\r\nHost: a.x"),
            ("http://a.x\\.b.x/", "1\r\nHost: a.x"),
            ("http://a.x/", "0"),
        ] {
            assert_eq!(ask(target, rest), Err(reason::BAD_HOST), "{target}");
        }
    }

    #[test]
    fn the_end_is_found_at_every_kind_of_empty_line() {
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest", 0), Some(24));
        assert_eq!(find_end(b"GET /\n\nrest", 0), Some(7));
        assert_eq!(find_end(b"GET /\r\n\nrest", 0), Some(8));
        assert_eq!(find_end(b"\r\n\r\nGET /", 0), Some(4));
        assert_eq!(find_end(b"\r\nGET /\r\n\r", 0), None);
        assert_eq!(find_end(b"", 7), None);
    }

    fn any_head() -> impl Strategy<Value = Vec<u8>> {
        let target = "(|https?://[aA]\\.x(:80)?)/[!-\"$-;=?-~]{0,9}";
        let field = "[A-Za-z_-]{1,8}: ?[ -~]{0,9}\r\n";
        let framing = "(|Content-Length: [0-9]{1,5}\r\n|Transfer-Encoding: Chunked\r\n)";
        let fields = proptest::collection::vec(field, 0..4);
        ("(\r\n)?", "[A-Z_]{1,6}", target, fields, framing).prop_map(
            |(front, method, target, fields, framing)| {
                let fields = fields.concat();
                format!("{front}{method} {target} HTTP/1.1\r\nHost: a.x\r\n{fields}{framing}\r\n")
                    .into_bytes()
            },
        )
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(head: Vec<u8>) {
            let _ = (inspect(&head, &LIMITS), find_end(&head, 0));
        }

        #[test]
        fn what_passes_is_clean_and_what_is_damaged_does_not_grow(
            head in any_head(),
            damage in proptest::option::of((any::<Index>(), any::<u8>(), any::<bool>())),
        ) {
            let mut bytes = head.clone();
            if let Some((at, byte, insert)) = damage {
                let at = at.index(bytes.len());
                if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
            }
            match inspect(&bytes, &LIMITS) {
                Ok(seen) => {
                    prop_assert_eq!(find_end(&bytes, 0), Some(bytes.len()));
                    let ends = bytes.iter().filter(|b| **b == b'\n').count();
                    let pairs = bytes.windows(2).filter(|pair| *pair == b"\r\n").count();
                    prop_assert_eq!(ends, pairs);
                    prop_assert!(!bytes.iter().any(|b| *b < 0x20 && !b"\r\n\t".contains(b)));
                    let origin = origin_form(&bytes, &seen);
                    let again = inspect(&origin, &LIMITS).unwrap();
                    prop_assert!(!again.absolute);
                    let path = |bytes: &[u8], range: Range<usize>| bytes[range].to_vec();
                    if !seen.path.is_empty() {
                        prop_assert_eq!(path(&bytes, seen.path), path(&origin, again.path.clone()));
                    }
                    prop_assert_eq!(origin[again.path.start], b'/');
                    prop_assert_eq!(
                        (seen.framing, seen.keep_alive, seen.upgrade),
                        (again.framing, again.keep_alive, again.upgrade)
                    );
                }
                Err(reason) => {
                    let method = reason == reason::METHOD_NOT_ALLOWED;
                    prop_assert!(damage.is_some() || method, "{} refused: {}",
                        head.escape_ascii(), reason.code);
                }
            }
        }

        #[test]
        fn the_end_is_found_however_it_arrives(
            bytes in prop_oneof![any_head(), "[a\r\n]{0,12}".prop_map(String::into_bytes)],
            step in 1usize..5,
        ) {
            let whole = find_end(&bytes, 0);
            let mut seen = 0;
            let mut found = None;
            while seen < bytes.len() && found.is_none() {
                let next = (seen + step).min(bytes.len());
                found = find_end(&bytes[..next], seen);
                seen = next;
            }
            prop_assert_eq!(found, whole);
        }
    }
}
