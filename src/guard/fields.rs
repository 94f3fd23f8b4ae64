//! The header fields of an HTTP/1 request: their syntax, and the few that frame it.

use std::ops::Range;

use memchr::memchr;

use super::chars::{is_token, is_value, trim};
use crate::reason::{self, Reason};

/// How long the request body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    #[default]
    None,
    /// As many bytes as `Content-Length` says.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// What the fields say about the request and its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// The value of `Host`, as an offset into the block.
    pub(super) host: Option<Range<usize>>,
    pub(super) framing: Framing,
    /// `Connection: close`.
    pub(super) close: bool,
    /// `Connection: keep-alive`.
    pub(super) keep_alive: bool,
    /// `Connection: upgrade`.
    upgrade_option: bool,
    /// `Upgrade` is there.
    upgrade_field: bool,
    /// `Expect: 100-continue`.
    pub(super) expect_continue: bool,
}

impl Fields {
    /// Takes in one line without its line end; `start` is its offset in the block.
    ///
    /// SECURITY: what two parsers could read in two ways is refused, not repaired: folded lines, a
    /// space before the colon, controls, and every doubt about the length of the body (request
    /// smuggling). Tests: the_shape_of_fields_is_strict, framing_is_unambiguous
    pub(super) fn add(&mut self, line: &[u8], start: usize) -> Result<(), Reason> {
        let colon = memchr(b':', line).ok_or(reason::BAD_HEADER)?;
        let (name, value) = line.split_at_checked(colon).ok_or(reason::BAD_HEADER)?;
        let raw = value.get(1..).unwrap_or_default();
        if !is_token(name) || !is_value(raw) {
            return Err(reason::BAD_HEADER);
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let value = trim(raw);
        match name.len() {
            4 if is("host") => {
                let spaces = raw.len() - raw.trim_ascii_start().len();
                let at = start + colon + 1 + spaces;
                if self.host.replace(at..at + value.len()).is_some() {
                    return Err(reason::BAD_HOST);
                }
            }
            6 if is("expect") => {
                self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if is("upgrade") => self.upgrade_field = true,
            10 if is("connection") => self.connection(value)?,
            14 if is("content-length") => self.frame(Framing::Length(length(value)?))?,
            17 if is("transfer-encoding") => {
                // Letter case is all that is tolerated: `identity`, `gzip, chunked` and
                // `chunked, chunked` are read differently by different servers.
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(reason::BAD_FRAMING);
                }
                self.frame(Framing::Chunked)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the client asks to leave HTTP on this connection.
    pub(super) fn upgrade(&self) -> bool {
        self.upgrade_option && self.upgrade_field
    }

    /// A second framing field is refused even if it says the same: no client sends one, and the
    /// request travels as the client's own bytes, to a server that may take the other.
    fn frame(&mut self, framing: Framing) -> Result<(), Reason> {
        match self.framing {
            Framing::None => self.framing = framing,
            Framing::Length(_) | Framing::Chunked => return Err(reason::BAD_FRAMING),
        }
        Ok(())
    }

    /// SECURITY: fields named here are taken out on the way; without those that frame the request
    /// or name its host, a server would read another one.
    /// Test: the_connection_field_cannot_drop_what_frames_a_request
    fn connection(&mut self, value: &[u8]) -> Result<(), Reason> {
        for option in value.split(|byte| *byte == b',').map(trim) {
            let is = |known: &str| option.eq_ignore_ascii_case(known.as_bytes());
            if is("content-length") || is("transfer-encoding") || is("host") {
                return Err(reason::BAD_HEADER);
            }
            self.close |= is("close");
            self.keep_alive |= is("keep-alive");
            self.upgrade_option |= is("upgrade");
        }
        Ok(())
    }
}

/// The value of `Content-Length`: digits only, and within what every server can count.
pub(super) fn length(value: &[u8]) -> Result<u64, Reason> {
    let digits = value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    let number = text.and_then(|text| text.parse::<i64>().ok()).ok_or(reason::BAD_FRAMING)?;
    u64::try_from(number).map_err(|_| reason::BAD_FRAMING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Head, HeadLimits, inspect};

    fn with(version: &str, fields: &[u8]) -> Result<Head, Reason> {
        let mut head = format!("POST /x HTTP/{version}\r\nHost: a.x\r\n").into_bytes();
        head.extend_from_slice(fields);
        head.extend_from_slice(b"\r\n");
        inspect(&head, &HeadLimits { headers: 10, url: 100 })
    }

    fn framing(fields: &str) -> Result<Framing, Reason> {
        with("1.1", fields.as_bytes()).map(|head| head.framing)
    }

    #[test]
    fn the_shape_of_fields_is_strict() {
        for good in [
            b"X_y: z\r\n".as_slice(),
            b"X:\r\n",
            b"X: \t a\tb \r\n",
            b"X: \xc3\xa4\xff\r\n",
            b"!#$%&'*+-.^_`|~09aZ: \"\\;\r\n",
        ] {
            assert!(with("1.1", good).is_ok(), "{}", good.escape_ascii());
        }
        for bad in [
            b"X : y\r\n".as_slice(),
            b"X\t: y\r\n",
            b" X: y\r\n",
            b"X: a\r\n b\r\n",
            b"X: a\r\n\tb\r\n",
            b": y\r\n",
            b"X\r\n",
            b"X y: z\r\n",
            b"X\xe4: y\r\n",
            b"X(: y\r\n",
            b"X: a\0b\r\n",
            b"X: a\x01\r\n",
            b"X: a\x7f\r\n",
            b"X: a\rb\r\n",
            b"X: a\nY: b\r\n",
            b"X: a\r\r\n",
            b"X: a\n",
            b"\0: y\r\n",
        ] {
            assert_eq!(with("1.1", bad), Err(reason::BAD_HEADER), "{}", bad.escape_ascii());
        }
        assert!(with("1.1", "X: y\r\n".repeat(9).as_bytes()).is_ok());
        let many = "X: y\r\n".repeat(10);
        assert_eq!(with("1.1", many.as_bytes()), Err(reason::HEADER_TOO_LARGE));
    }

    #[test]
    fn framing_is_unambiguous() {
        assert_eq!(framing(""), Ok(Framing::None));
        assert_eq!(framing("Content-Length: 0\r\n"), Ok(Framing::Length(0)));
        assert_eq!(framing("content-LENGTH:  1073741824 \r\n"), Ok(Framing::Length(1 << 30)));
        assert_eq!(framing("Transfer-Encoding: chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(framing("transfer-encoding:\tCHUNKed\r\n"), Ok(Framing::Chunked));
        for bad in [
            "Content-Length:\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 5.0\r\n",
            "Content-Length: 9223372036854775808\r\n",
            "Content-Length: 18446744073709551621\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\ncontent-length: 6\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding: chunked;q=1\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: ,chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ] {
            assert_eq!(framing(bad), Err(reason::BAD_FRAMING), "{bad:?}");
        }
        let chunked = b"Transfer-Encoding: chunked\r\n";
        assert_eq!(with("1.0", chunked), Err(reason::BAD_FRAMING));
    }

    #[test]
    fn the_connection_field_cannot_drop_what_frames_a_request() {
        for name in ["Host", "content-length", "TRANSFER-ENCODING"] {
            let field = format!("Connection: close, {name}\r\n");
            assert_eq!(with("1.1", field.as_bytes()), Err(reason::BAD_HEADER));
        }
    }

    #[test]
    fn the_connection_is_kept_as_the_client_means_it() {
        for (version, fields, keep) in [
            ("1.1", "", true),
            ("1.1", "Connection: Close\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: x , close\r\n", false),
            ("1.1", "Connection: closed\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let head = with(version, fields.as_bytes()).unwrap();
            assert_eq!(head.keep_alive, keep, "{version} {fields:?}");
        }
    }

    #[test]
    fn expect_and_upgrade_count_on_http_1_1() {
        let fields = b"Expect: 100-Continue\r\nUpgrade: websocket\r\nConnection: x, Upgrade\r\n";
        let head = with("1.1", fields).unwrap();
        assert!(head.expect_continue && head.upgrade);
        let head = with("1.0", fields).unwrap();
        assert!(!head.expect_continue && !head.upgrade);
        for half in ["Upgrade: websocket\r\n", "Connection: upgrade\r\n"] {
            assert!(!with("1.1", half.as_bytes()).unwrap().upgrade);
        }
    }
}
