//! What stands in the query of the page, and in what its forms send.

/// Pairs of `application/x-www-form-urlencoded`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(text: &[u8]) -> Self {
        let pairs = text.split(|b| *b == b'&').filter(|pair| !pair.is_empty());
        let pair = |pair: &[u8]| {
            let mut parts = pair.splitn(2, |b| *b == b'=');
            let mut part = || decoded(parts.next().unwrap_or_default());
            (part(), part())
        };
        Self(pairs.map(pair).collect())
    }

    /// The first value of that name, without blanks around it; empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        let pair = self.0.iter().find(|(key, _)| key == name);
        pair.map_or("", |(_, value)| value.trim())
    }
}

/// A text as part of a query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn decoded(text: &[u8]) -> String {
    let (mut out, mut rest) = (Vec::new(), text);
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = after;
                }
                _ => out.push(b'%'),
            },
            (byte, _) => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_understood() {
        let query = Query::of(b"names=a+b%2fc%zz&&page=2&x&names=second&%41=%c3%a4%ff%");
        assert_eq!(query.get("names"), "a b/c%zz");
        assert_eq!(query.get("page"), "2");
        assert_eq!((query.get("x"), query.get("y")), ("", ""));
        assert_eq!(query.get("A"), "ä\u{fffd}%");
        let text = "ä&b=c d/\"<";
        assert_eq!(Query::of(format!("q={}", encoded(text)).as_bytes()).get("q"), text);
        assert_eq!(Query::of(b""), Query::default());
    }
}
