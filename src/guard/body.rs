//! Where a request body ends, found while it passes.

use super::{
    chars::{is_tchar, is_value_char},
    fields::Framing,
};
use crate::reason::{self, Reason};

/// Longest line with the size of a chunk, extensions included, without its line end.
const MAX_SIZE_LINE: usize = 1024;

/// Most digits of a chunk's size.
const MAX_SIZE_DIGITS: usize = 16;

/// Most bytes of trailer fields, line ends included.
const MAX_TRAILERS: usize = 8 * 1024;

/// Watches a request body and says where it ends, so that the next request on the connection
/// begins exactly there. Keeps a few numbers, never the body.
///
/// SECURITY: a chunked body is read as strictly as the header: CR LF only, hexadecimal sizes without
/// signs, spaces or overflow, bounded extensions and trailers. A server that reads it in another
/// way would find another end. Test: malformed_chunks_are_refused
#[derive(Clone, Debug)]
pub struct BodyEnd {
    state: State,
    /// Bytes left in the body or chunk.
    left: u64,
    /// Bytes of the size line or the trailers so far.
    seen: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length,
    /// Before the first digit of a size.
    SizeStart,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

impl BodyEnd {
    /// Starts behind the header.
    pub fn new(framing: Framing) -> Self {
        let (state, left) = match framing {
            Framing::None | Framing::Length(0) => (State::Done, 0),
            Framing::Length(length) => (State::Length, length),
            Framing::Chunked => (State::SizeStart, 0),
        };
        Self { state, left, seen: 0 }
    }

    /// Takes the next bytes of the connection. Gives how many of them belong to this request: fewer
    /// than all only when it ends among them. Errors with `BAD_FRAMING`; the connection is of no
    /// use then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        let mut rest = bytes;
        while self.state != State::Done && !rest.is_empty() {
            rest = match self.state {
                State::Length | State::Data => self.skip(rest),
                _ => {
                    let Some((byte, after)) = rest.split_first() else { break };
                    self.state = self.step(*byte).ok_or(reason::BAD_FRAMING)?;
                    after
                }
            };
        }
        Ok(bytes.len() - rest.len())
    }

    /// Whether the request is complete.
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    fn skip<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let length = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (_, rest) = bytes.split_at_checked(length).unwrap_or_default();
        self.left = self.left.saturating_sub(length as u64);
        if self.left == 0 {
            self.state = if self.state == State::Data { State::DataCr } else { State::Done };
        }
        rest
    }

    /// The next state, `None` for a byte that has no place here.
    fn step(&mut self, byte: u8) -> Option<State> {
        use State::*;
        match self.state {
            SizeStart | Size | Extension => self.count(MAX_SIZE_LINE)?,
            Trailer | TrailerName | TrailerValue | TrailerLf => self.count(MAX_TRAILERS)?,
            _ => {}
        }
        match (self.state, byte) {
            (SizeStart | Size, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                self.left = self.left.checked_mul(16)?.checked_add(digit.into())?;
                i64::try_from(self.left).ok()?;
                // Zeros in front do not count as a number, but as digits: Pingora's parser takes
                // no more either.
                (self.seen <= MAX_SIZE_DIGITS).then_some(())?;
                Some(Size)
            }
            (Size | Extension, b'\r') => Some(SizeLf),
            (Size, b';') => Some(Extension),
            (Extension, _) if is_value_char(byte) => Some(Extension),
            (SizeLf, b'\n') => {
                self.seen = 0;
                Some(if self.left == 0 { Trailer } else { Data })
            }
            (DataCr, b'\r') => Some(DataLf),
            (DataLf, b'\n') => Some(SizeStart),
            (Trailer, b'\r') => Some(LastLf),
            (Trailer | TrailerName, _) if is_tchar(byte) => Some(TrailerName),
            (TrailerName, b':') => Some(TrailerValue),
            (TrailerValue, b'\r') => Some(TrailerLf),
            (TrailerValue, _) if is_value_char(byte) => Some(TrailerValue),
            (TrailerLf, b'\n') => Some(Trailer),
            (LastLf, b'\n') => Some(Done),
            _ => None,
        }
    }

    fn count(&mut self, limit: usize) -> Option<()> {
        self.seen += 1;
        (self.seen <= limit).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many bytes belong to the body, and whether it is complete.
    fn scan(framing: Framing, bytes: &[u8]) -> Result<(usize, bool), Reason> {
        let mut end = BodyEnd::new(framing);
        let taken = end.feed(bytes)?;
        Ok((taken, end.done()))
    }

    #[test]
    fn a_body_without_length_is_empty() {
        assert_eq!(scan(Framing::None, b"GET /"), Ok((0, true)));
        assert_eq!(scan(Framing::Length(0), b"GET /"), Ok((0, true)));
    }

    #[test]
    fn a_length_is_cut_exactly() {
        assert_eq!(scan(Framing::Length(3), b"ab"), Ok((2, false)));
        assert_eq!(scan(Framing::Length(3), b"abc"), Ok((3, true)));
        assert_eq!(scan(Framing::Length(3), b"abcGET"), Ok((3, true)));
        assert_eq!(scan(Framing::Length(1 << 40), b"abc"), Ok((3, false)));
    }

    #[test]
    fn chunks_may_have_extensions_and_trailers() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "05\r\nhello\r\nA\r\n0123456789\r\n000\r\n\r\n",
            "5;a=b;c=\"d e\"\r\nhe\r\no\r\n0;x\r\n\r\n",
            "0\r\nX-Sum: 1\r\nY:\r\n\r\n",
        ] {
            let pipelined = format!("{body}0\r\n\r\nGET / HTTP/1.1\r\n");
            let expected = Ok((body.len(), true));
            assert_eq!(scan(Framing::Chunked, pipelined.as_bytes()), expected, "{body:?}");
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let long_extension = format!("5;{}\r\nhello\r\n", "x".repeat(MAX_SIZE_LINE));
        let long_size = format!("{}5\r\nhello\r\n", "0".repeat(MAX_SIZE_LINE));
        let long_trailers = format!("0\r\n{}", "a: b\r\n".repeat(MAX_TRAILERS / 6 + 1));
        for body in [
            "\r\n",
            ";x\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            " 1\r\n",
            "0x1\r\n",
            "1 \r\na\r\n",
            "1 ;x\r\n",
            "1\n",
            "1\r\r",
            "1;x\n",
            "1;\0\r\n",
            "1;a\rb",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na\r\r",
            "0\r\n\n",
            "0\r\n x: y\r\n",
            "0\r\nx\r\n",
            "0\r\n: y\r\n",
            "0\r\nx y: z\r\n",
            "0\r\nx: \0\r\n",
            "0\r\nx: y\n",
            "8000000000000000\r\n",
            "fffffffffffffffff\r\n",
            &long_extension,
            &long_size,
            &long_trailers,
        ] {
            let got = scan(Framing::Chunked, body.as_bytes());
            assert_eq!(got, Err(reason::BAD_FRAMING), "{body:?}");
        }
    }

    fn chunked() -> impl Strategy<Value = Vec<u8>> {
        let chunk = (proptest::collection::vec(any::<u8>(), 1..40), "(;[a-z]{0,5}=[a-z\"]{0,9})?");
        let trailer = "([A-Za-z-]{1,8}: ?[ -~]{0,9}\r\n)?";
        (proptest::collection::vec(chunk, 0..5), trailer, any::<bool>()).prop_map(
            |(chunks, trailer, upper)| {
                let mut body = Vec::new();
                for (data, extension) in chunks {
                    let size = data.len();
                    let size = if upper { format!("{size:X}") } else { format!("{size:03x}") };
                    body.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
                    body.extend_from_slice(&data);
                    body.extend_from_slice(b"\r\n");
                }
                body.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
                body
            },
        )
    }

    /// Feeds `bytes` in pieces cut at `cuts` and sums up as `scan` does.
    fn scan_split(
        framing: Framing,
        bytes: &[u8],
        cuts: &[prop::sample::Index],
    ) -> Result<(usize, bool), Reason> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut end = BodyEnd::new(framing);
        let mut taken = 0;
        for pair in cuts.windows(2) {
            taken += end.feed(&bytes[pair[0]..pair[1]])?;
        }
        Ok((taken, end.done()))
    }

    fn framing() -> impl Strategy<Value = Framing> {
        prop_oneof![
            Just(Framing::None),
            (0u64..60).prop_map(Framing::Length),
            Just(Framing::Chunked),
        ]
    }

    proptest! {
        #[test]
        fn a_pipelined_request_is_cut_off_exactly(
            body in chunked(),
            next: Vec<u8>,
            cuts: Vec<prop::sample::Index>,
        ) {
            let stream = [body.as_slice(), &next].concat();
            let got = scan_split(Framing::Chunked, &stream, &cuts);
            prop_assert_eq!(got, Ok((body.len(), true)));
        }

        #[test]
        fn how_the_stream_is_split_does_not_matter(
            framing in framing(),
            bytes in prop_oneof![
                any::<Vec<u8>>(),
                "[0-3a;\r\n]{0,12}".prop_map(String::into_bytes),
                (chunked(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut b, at, new)| {
                    let at = at.index(b.len());
                    b[at] = new;
                    b
                }),
            ],
            cuts: Vec<prop::sample::Index>,
        ) {
            prop_assert_eq!(scan_split(framing, &bytes, &cuts), scan(framing, &bytes));
        }
    }
}
