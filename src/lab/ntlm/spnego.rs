//! SPNEGO (RFC 4178) as far as NTLM in Negotiate needs it. DER only: minimal definite lengths,
//! nothing left over.

/// OID of NTLMSSP, 1.3.6.1.4.1.311.2.2.10, without its tag.
pub(super) const NTLM: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a];
/// OID of SPNEGO, 1.3.6.1.5.5.2, without its tag.
const SPNEGO: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x02];

const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
const APPLICATION: u8 = 0x60;
const INIT: u8 = 0xa0;
const RESPONSE: u8 = 0xa1;

/// How far a negotiation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Completed = 0,
    Incomplete = 1,
}

/// A token of either side.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// NegTokenInit: mechanisms in the client's order, and a token for the first of them.
    Init { mechanisms: Vec<&'a [u8]>, token: Option<&'a [u8]> },
    /// NegTokenResp.
    Response { token: Option<&'a [u8]> },
}

impl<'a> Token<'a> {
    /// Reads one; `None` when it is not well-formed.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Der(bytes);
        let token = match *bytes.first()? {
            APPLICATION => {
                let mut inner = Der(outer.element(APPLICATION)?);
                (inner.element(OID)? == SPNEGO).then_some(())?;
                let init = inner.element(INIT)?;
                inner.end()?;
                Self::init(init)?
            }
            RESPONSE => Self::response(outer.element(RESPONSE)?)?,
            _ => return None,
        };
        outer.end()?;
        Some(token)
    }

    fn init(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Der(bytes).only(SEQUENCE).map(Der)?;
        let mut list = Der(Der(fields.element(0xa0)?).only(SEQUENCE)?);
        let mut mechanisms = Vec::new();
        while !list.0.is_empty() {
            mechanisms.push(list.element(OID)?);
        }
        fields.optional(0xa1)?;
        let token = fields.optional_octets(0xa2)?;
        fields.optional(0xa3)?;
        fields.end()?;
        Some(Self::Init { mechanisms, token })
    }

    fn response(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Der(bytes).only(SEQUENCE).map(Der)?;
        if let Some(state) = fields.optional(0xa0)? {
            Der(state).only(ENUMERATED)?;
        }
        if let Some(mechanism) = fields.optional(0xa1)? {
            Der(mechanism).only(OID)?;
        }
        let token = fields.optional_octets(0xa2)?;
        fields.optional(0xa3)?;
        fields.end()?;
        Some(Self::Response { token })
    }
}

/// A NegTokenInit that offers `mechanisms` with a token for the first.
pub(super) fn init(mechanisms: &[&[u8]], token: &[u8]) -> Vec<u8> {
    let list: Vec<u8> = mechanisms.iter().flat_map(|oid| der(OID, &[oid])).collect();
    let fields = [der(0xa0, &[&der(SEQUENCE, &[&list])]), der(0xa2, &[&der(OCTETS, &[token])])];
    let init = der(INIT, &[&der(SEQUENCE, &[&fields.concat()])]);
    der(APPLICATION, &[&der(OID, &[SPNEGO]), &init])
}

/// A NegTokenResp.
pub(super) fn response(
    state: Option<State>,
    mechanism: Option<&[u8]>,
    token: Option<&[u8]>,
) -> Vec<u8> {
    let mut fields = Vec::new();
    if let Some(state) = state {
        fields.extend(der(0xa0, &[&der(ENUMERATED, &[&[state as u8]])]));
    }
    if let Some(mechanism) = mechanism {
        fields.extend(der(0xa1, &[&der(OID, &[mechanism])]));
    }
    if let Some(token) = token {
        fields.extend(der(0xa2, &[&der(OCTETS, &[token])]));
    }
    der(RESPONSE, &[&der(SEQUENCE, &[&fields])])
}

fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let mut out = vec![tag];
    let [.., high, middle, low] = content.len().to_be_bytes();
    match content.len() {
        0..0x80 => out.push(low),
        0x80..0x100 => out.extend([0x81, low]),
        0x100..0x1_0000 => out.extend([0x82, middle, low]),
        _ => out.extend([0x83, high, middle, low]),
    }
    out.extend(content);
    out
}

/// What is left to read.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, which must have this tag.
    fn element(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&[found, first], mut rest) = self.0.split_first_chunk::<2>()?;
        if found != tag {
            return None;
        }
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x83 => {
                let (bytes, after) = rest.split_at_checked(usize::from(first & 0x0f))?;
                rest = after;
                let length = bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                // The shortest form only.
                let least = if bytes.len() == 1 { 0x80 } else { 1 << (8 * (bytes.len() - 1)) };
                (length >= least).then_some(length)?
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some(content)
    }

    /// The content of the next element where it has this tag.
    fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.0.first() == Some(&tag) { self.element(tag).map(Some) } else { Some(None) }
    }

    fn optional_octets(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        match self.optional(tag)? {
            Some(content) => Der(content).only(OCTETS).map(Some),
            None => Some(None),
        }
    }

    /// The content of an element that is all there is.
    fn only(mut self, tag: u8) -> Option<&'a [u8]> {
        let content = self.element(tag)?;
        self.end()?;
        Some(content)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KERBEROS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];

    #[test]
    fn what_is_written_can_be_read_at_every_length_form() {
        for length in [0, 10, 0x60, 0x80, 0xf0, 0x100, 0x1234, 0x1_2345] {
            let inner = vec![7; length];
            let bytes = init(&[NTLM, KERBEROS], &inner);
            let expected = Token::Init { mechanisms: vec![NTLM, KERBEROS], token: Some(&inner) };
            assert_eq!(Token::new(&bytes), Some(expected), "{length}");
            let bytes = response(Some(State::Incomplete), Some(NTLM), Some(&inner));
            assert_eq!(Token::new(&bytes), Some(Token::Response { token: Some(&inner) }));
        }
    }

    #[test]
    fn completion_is_the_nine_bytes_that_iis_sends() {
        let bytes = response(Some(State::Completed), None, None);
        assert_eq!(bytes, [0xa1, 7, 0x30, 5, 0xa0, 3, 0x0a, 1, 0]);
    }

    #[test]
    fn long_lengths_in_excess_and_leftovers_are_refused() {
        let good = init(&[NTLM], b"x");
        assert!(Token::new(&good).is_some());
        assert_eq!(Token::new(&[&good[..], &[0]].concat()), None);
        assert_eq!(Token::new(&good[..good.len() - 1]), None);
        let long = [&[good[0], 0x81, good[1]], &good[2..]].concat();
        assert_eq!(Token::new(&long), None);
        let indefinite = [&[good[0], 0x80], &good[2..], &[0, 0]].concat();
        assert_eq!(Token::new(&indefinite), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            at in 0usize..40,
            value: u8,
        ) {
            let _ = Token::new(&bytes);
            let mut changed = init(&[NTLM], &bytes);
            if let Some(byte) = changed.get_mut(at) {
                *byte = value;
            }
            let _ = Token::new(&changed);
        }
    }
}
