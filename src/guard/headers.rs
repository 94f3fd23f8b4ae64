//! Header fields with a meaning of their own.

use super::chars::is_tchar;

/// Whether a field is one that only a trusted proxy may send: `X-Forwarded-*`, `Forwarded`,
/// `X-Real-IP`, `X-Original-URL`, `X-Rewrite-URL` and `X-ARR-*`. From strangers they are dropped.
///
/// SECURITY: `_` counts as `-`, because IIS and ASP.NET make one server variable of both
/// (`X_Forwarded_For` is `HTTP_X_FORWARDED_FOR` too). Test: spelling_hides_no_stranger
pub fn is_stranger(name: &str) -> bool {
    const EXACT: [&str; 4] = ["forwarded", "x-real-ip", "x-original-url", "x-rewrite-url"];
    const PREFIXES: [&str; 2] = ["x-forwarded-", "x-arr-"];
    let name = name.as_bytes();
    EXACT.iter().any(|exact| exact.len() == name.len() && starts_folded(name, exact))
        || PREFIXES.iter().any(|prefix| starts_folded(name, prefix))
}

/// Whether a value of `Authorization` or `WWW-Authenticate` names a scheme that signs in the
/// connection instead of the request: NTLM, Negotiate, Nego2 or Kerberos, in any letter case.
///
/// Whole words count, wherever they stand outside quotes: several challenges may share one line,
/// and taking one too many for such a scheme only costs a pinned connection.
pub fn is_connection_auth(value: &[u8]) -> bool {
    const SCHEMES: [&str; 4] = ["ntlm", "negotiate", "nego2", "kerberos"];
    let is_scheme = |word: &[u8]| SCHEMES.iter().any(|s| word.eq_ignore_ascii_case(s.as_bytes()));
    let mut rest = value;
    while let Some(&byte) = rest.first() {
        if is_tchar(byte) {
            let end = rest.iter().position(|byte| !is_tchar(*byte)).unwrap_or(rest.len());
            let Some((word, after)) = rest.split_at_checked(end) else { return false };
            if is_scheme(word) {
                return true;
            }
            rest = after;
        } else {
            let quoted = if byte == b'"' { after_quotes(rest) } else { None };
            // SECURITY: a quote that never closes hides nothing. Test: quotes_must_close_to_hide
            rest = quoted.or_else(|| rest.get(1..)).unwrap_or_default();
        }
    }
    false
}

/// What follows a quoted string at the start of `text`; `None` if it does not close.
fn after_quotes(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', _, after @ ..] | [_, after @ ..] => after,
            [] => return None,
        };
    }
}

fn starts_folded(name: &[u8], start: &str) -> bool {
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.get(..start.len()).is_some_and(|name| name.iter().map(fold).eq(start.bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STRANGERS: [&str; 9] = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Anything",
        "Forwarded",
        "X-Real-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-ARR-ClientCert",
        "X-ARR-LOG-ID",
    ];

    #[test]
    fn ordinary_names_are_no_strangers() {
        for name in [
            "",
            "Host",
            "X-Forwarded",
            "Forwarded-For",
            "X-Real-IP2",
            "X-ARR",
            "X-Originating-IP",
            "X-MS-WebTicketURL",
            "Xforwarded-for",
            "X-Rewrite-URL-",
            "ARRAffinity",
            "X-Ärr-",
        ] {
            assert!(!is_stranger(name), "{name}");
        }
    }

    #[test]
    fn connection_bound_schemes_are_found_in_any_company() {
        for value in [
            "NTLM",
            "ntlm TlRMTVNTUAAB",
            "Negotiate",
            "Negotiate YIIC==",
            "Nego2 x",
            "KERBEROS",
            "Basic realm=\"a, b\", Negotiate",
            "Bearer, NTLM",
            "  NTLM",
            ",NTLM",
            "Basic\tNTLM",
        ] {
            assert!(is_connection_auth(value.as_bytes()), "{value}");
        }
        for value in [
            "",
            "Basic dXNlcjpwYXNz",
            "Bearer cwt=AAEB",
            "NTLMv2",
            "xNTLM",
            "Negotiate2",
            "Basic realm=\"NTLM\"",
            "Basic realm=\"say \\\"NTLM\\\" here\", charset=\"UTF-8\"",
            "MsRtcOAuth href=\"https://x/WebTicket/oauthtoken\",grant_type=\"urn:microsoft.rtc:windows\"",
        ] {
            assert!(!is_connection_auth(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn quotes_must_close_to_hide() {
        assert!(is_connection_auth(b"\"NTLM TlRM"));
        assert!(is_connection_auth(b"Basic realm=\"x\\\", NTLM"));
        assert!(is_connection_auth(b"\"\" NTLM"));
    }

    proptest! {
        #[test]
        fn spelling_hides_no_stranger(
            name in proptest::sample::select(STRANGERS.to_vec()),
            changes in proptest::collection::vec(any::<bool>(), 32),
        ) {
            let spelt: String = name.chars().zip(changes).map(|(c, change)| match c {
                '-' if change => '_',
                _ if change => c.to_ascii_uppercase(),
                _ => c.to_ascii_lowercase(),
            }).collect();
            prop_assert!(is_stranger(&spelt));
        }

        #[test]
        fn arbitrary_input_never_panics(name in "\\PC{0,20}", value: Vec<u8>) {
            let _ = (is_stranger(&name), is_connection_auth(&value));
        }
    }
}
