//! The number under which a request stands in two logs.

use std::fmt::Write as _;

use http::HeaderValue;

/// A random GUID (RFC 9562 version 4) as ARR writes it: lower case, without braces.
pub(super) fn log_id() -> HeaderValue {
    let mut bytes = [0; 16];
    // BoringSSL's generator does not fail; if it did, a request would merely have no number.
    let _ = boring::rand::rand_bytes(&mut bytes);
    HeaderValue::from_str(&guid(bytes)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn guid(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let byte = match at {
            6 => byte & 0x0f | 0x40,
            8 => byte & 0x3f | 0x80,
            _ => byte,
        };
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_have_their_form() {
        assert_eq!(guid([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(guid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(guid(*b"0123456789abcdef"), "30313233-3435-4637-b839-616263646566");
    }

    #[test]
    fn no_two_are_equal() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| log_id()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
