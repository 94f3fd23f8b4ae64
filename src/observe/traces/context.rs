//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): whose trace a request belongs to.

use http::{HeaderMap, HeaderValue};

/// Number of a trace; never zero.
pub(super) type TraceId = [u8; 16];
/// Number of a span; never zero.
pub(super) type SpanId = [u8; 8];

/// The longest `tracestate` that goes on; the standard asks for at least this much.
const LONGEST_STATE: usize = 512;

/// The span that a request belongs to, as a proxy in front says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    /// Whether its trace is recorded.
    pub(super) sampled: bool,
    /// `tracestate`, in one field.
    pub(super) state: Option<HeaderValue>,
}

impl Parent {
    /// Reads `traceparent` and `tracestate`; `None` where there is none that makes sense.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all("traceparent").iter();
        let (field, None) = (fields.next()?, fields.next()) else { return None };
        let (trace, span, sampled) = traceparent(field.as_bytes())?;
        Some(Self { trace, span, sampled, state: tracestate(headers) })
    }
}

/// `00-TRACE-SPAN-FLAGS`; later versions may add something behind.
fn traceparent(text: &[u8]) -> Option<(TraceId, SpanId, bool)> {
    let (head, rest) = text.split_at_checked(55)?;
    let mut parts = head.split(|byte| *byte == b'-');
    let [version] = hex::<1>(parts.next()?)?;
    let (trace, span) = (hex::<16>(parts.next()?)?, hex::<8>(parts.next()?)?);
    let [flags] = hex::<1>(parts.next()?)?;
    let fits = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    let good = fits && parts.next().is_none() && trace != [0; 16] && span != [0; 8];
    good.then_some((trace, span, flags & 1 == 1))
}

fn tracestate(headers: &HeaderMap) -> Option<HeaderValue> {
    let fields: Vec<_> = headers.get_all("tracestate").iter().collect();
    let joined = match fields.as_slice() {
        [one] => (*one).clone(),
        several => {
            let bytes: Vec<_> = several.iter().map(|field| field.as_bytes()).collect();
            HeaderValue::from_bytes(&bytes.join(&b","[..])).ok()?
        }
    };
    (!joined.is_empty() && joined.len() <= LONGEST_STATE).then_some(joined)
}

/// `traceparent` for whoever comes next.
pub(super) fn header(trace: &TraceId, span: &SpanId, sampled: bool) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Vec::with_capacity(55);
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            text.extend([digit(byte >> 4), digit(byte & 15)]);
        }
        text.push(b'-');
    };
    put(&[0]);
    put(trace);
    put(span);
    put(&[u8::from(sampled)]);
    text.pop();
    // Digits and hyphens can stand in any header.
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Lower case hexadecimal digits, as many as they have to be.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let nibble = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = nibble(high)? << 4 | nibble(low)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the standard.
    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(fields: &[(&'static str, &str)]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Parent::read(&headers)
    }

    #[test]
    fn a_parent_is_read_and_written_again() {
        let parent = read(&[("traceparent", GOOD)]).unwrap();
        assert!(parent.sampled && parent.state.is_none());
        assert_eq!(parent.span, [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!(header(&parent.trace, &parent.span, true), GOOD);
        let off = GOOD.replace("-01", "-00");
        let parent = read(&[("traceparent", &off)]).unwrap();
        assert!(!parent.sampled);
        assert_eq!(header(&parent.trace, &parent.span, false), off);
        // Flags that only later versions know.
        assert!(read(&[("traceparent", &GOOD.replace("-01", "-ff"))]).unwrap().sampled);
        assert!(!read(&[("traceparent", &GOOD.replace("-01", "-fe"))]).unwrap().sampled);
        // A later version may be longer.
        let later = GOOD.replacen("00", "cc", 1);
        assert!(read(&[("traceparent", &later)]).is_some());
        assert!(read(&[("traceparent", &format!("{later}-what"))]).is_some());
    }

    #[test]
    fn what_makes_no_sense_is_no_parent() {
        for wrong in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-what"),
            &format!("{GOOD}0"),
            &GOOD.replacen("00", "ff", 1),
            &format!("{}x", GOOD.replacen("00", "cc", 1)),
            &GOOD.to_uppercase(),
            &GOOD.replace('-', "_"),
            &GOOD.replace("4b", "4g"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            "00-4bf92f3577b34da6a3ce929d0e0e47-3600f067aa0ba902b7-01",
            "0-04bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(read(&[("traceparent", wrong)]), None, "{wrong}");
        }
        assert_eq!(read(&[("traceparent", GOOD), ("traceparent", GOOD)]), None);
        assert_eq!(read(&[("tracestate", "a=1")]), None);
    }

    #[test]
    fn the_state_goes_on_as_it_came() {
        let state = |values: &[&str]| {
            let mut fields = vec![("traceparent", GOOD)];
            fields.extend(values.iter().map(|value| ("tracestate", *value)));
            read(&fields).unwrap().state
        };
        assert_eq!(state(&["a=1,b=2"]).unwrap(), "a=1,b=2");
        assert_eq!(state(&["a=1", "b=2"]).unwrap(), "a=1,b=2");
        assert_eq!(state(&[""]), None);
        assert_eq!(state(&[&"x".repeat(513)]), None);
    }
}
