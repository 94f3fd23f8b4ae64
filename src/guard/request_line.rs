//! The request line of HTTP/1.

use std::ops::Range;

use super::{HeadLimits, chars::is_token, target};
use crate::reason::{self, Reason};

/// The version a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// The request line; ranges are offsets into the block.
pub(super) struct RequestLine {
    pub(super) method: Range<usize>,
    pub(super) target: Range<usize>,
    pub(super) authority: Option<Range<usize>>,
    pub(super) path: Range<usize>,
    pub(super) query: Option<Range<usize>>,
    pub(super) version: Version,
}

impl RequestLine {
    /// Reads a line without its line end; `start` is its offset in the block.
    pub(super) fn parse(line: &[u8], start: usize, limits: &HeadLimits) -> Result<Self, Reason> {
        let bad = reason::BAD_REQUEST_LINE;
        if line.contains(&b'\r') {
            return Err(reason::BAD_HEADER);
        }
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad);
        };
        if !is_token(method) {
            return Err(bad);
        }
        let version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', ..] => {
                return Err(reason::VERSION_NOT_SUPPORTED);
            }
            _ => return Err(bad),
        };
        check_method(method)?;
        let at = start + method.len() + 1;
        let parsed = target::parse(target, limits.url)?;
        let shift = |range: Range<usize>| at + range.start..at + range.end;
        Ok(Self {
            method: start..start + method.len(),
            target: at..at + target.len(),
            authority: parsed.authority.map(shift),
            path: shift(parsed.path),
            query: parsed.query.map(shift),
            version,
        })
    }
}

/// Any method passes (`RPC_IN_DATA`, `PROPFIND`, what the next server invents), except the two
/// that address the proxy itself, in any letter case.
pub(super) fn check_method(method: &[u8]) -> Result<(), Reason> {
    let is = |known: &[u8]| method.eq_ignore_ascii_case(known);
    if is(b"CONNECT") || is(b"TRACE") { Err(reason::METHOD_NOT_ALLOWED) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Head, inspect};

    fn check(head: &str) -> Result<Head, Reason> {
        inspect(head.as_bytes(), &HeadLimits { headers: 20, url: 200 })
    }

    #[test]
    fn the_request_line_is_strict() {
        for (line, expected) in [
            ("RPC_IN_DATA /rpc/rpcproxy.dll?fe:6001 HTTP/1.1", None),
            ("get / HTTP/1.1", None),
            ("CONNECT a.x:443 HTTP/1.1", Some(reason::METHOD_NOT_ALLOWED)),
            ("TRACE / HTTP/1.1", Some(reason::METHOD_NOT_ALLOWED)),
            ("trace / HTTP/1.0", Some(reason::METHOD_NOT_ALLOWED)),
            ("OPTIONS * HTTP/1.1", Some(reason::BAD_REQUEST_LINE)),
            ("GET  / HTTP/1.1", Some(reason::BAD_REQUEST_LINE)),
            ("GET /  HTTP/1.1", Some(reason::BAD_REQUEST_LINE)),
            ("GET / HTTP/1.1 ", Some(reason::BAD_REQUEST_LINE)),
            (" GET / HTTP/1.1", Some(reason::BAD_REQUEST_LINE)),
            ("GET\t/ HTTP/1.1", Some(reason::BAD_REQUEST_LINE)),
            ("GET /a b HTTP/1.1", Some(reason::BAD_REQUEST_LINE)),
            ("G(T / HTTP/1.1", Some(reason::BAD_REQUEST_LINE)),
            ("GET /", Some(reason::BAD_REQUEST_LINE)),
            ("GET / http/1.1", Some(reason::BAD_REQUEST_LINE)),
            ("GET / ICAP/1.0", Some(reason::BAD_REQUEST_LINE)),
            ("GET / HTTP/2.0", Some(reason::VERSION_NOT_SUPPORTED)),
            ("GET / HTTP/1.2", Some(reason::VERSION_NOT_SUPPORTED)),
            ("GET / HTTP/0.9", Some(reason::VERSION_NOT_SUPPORTED)),
            ("GET / HTTP/1.10", Some(reason::VERSION_NOT_SUPPORTED)),
            ("PRI * HTTP/2.0", Some(reason::VERSION_NOT_SUPPORTED)),
            ("GET /\r HTTP/1.1", Some(reason::BAD_HEADER)),
            ("GET / HTTP/1.1\nX: y", Some(reason::BAD_HEADER)),
        ] {
            for front in ["", "\r\n"] {
                let got = check(&format!("{front}{line}\r\nHost: a.x\r\n\r\n"));
                assert_eq!(got.err(), expected, "{front:?} {line:?}");
            }
        }
        let two_empty_lines = check("\r\n\r\nGET / HTTP/1.1\r\nHost: a.x\r\n\r\n");
        assert_eq!(two_empty_lines, Err(reason::BAD_REQUEST_LINE));
        let long = format!("GET /{} HTTP/1.1\r\nHost: a.x\r\n\r\n", "a".repeat(200));
        assert_eq!(check(&long), Err(reason::URL_TOO_LONG));
    }
}
