//! Who may ask the admin side, and who may change something.

use std::net::IpAddr;

use boring::{memcmp, sha::sha256};
use http::{HeaderMap, StatusCode, header, uri::Authority};

use super::answer::Problem;
use crate::site::Token;

/// Whether the request names this machine, by a name of `admin.hosts` or by the address it came
/// to.
///
/// SECURITY: a page in an administrator's browser must not reach the admin side under a name of
/// its own (DNS rebinding). Test: unknown_host_is_refused.
pub(super) fn knows_host(hosts: &[String], local: Option<IpAddr>, headers: &HeaderMap) -> bool {
    let Some(authority) = authority(headers) else { return false };
    let host = authority.host();
    let ip = host.trim_matches(['[', ']']).parse().ok();
    hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) || (ip.is_some() && ip == local)
}

fn authority(headers: &HeaderMap) -> Option<Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

/// Whether whoever asks knows the token.
pub(super) fn knows_token(headers: &HeaderMap, token: &Token) -> Result<(), Problem> {
    let refused = |why| Err(Problem::new(StatusCode::UNAUTHORIZED, why));
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return refused("the token is missing: `Authorization: Bearer TOKEN`");
    };
    // RFC 9110 11.1: the scheme in any letter case.
    let mut parts = value.as_bytes().splitn(2, |b| *b == b' ');
    let scheme = parts.next().unwrap_or_default();
    let presented = parts.next().unwrap_or_default().trim_ascii();
    if scheme.eq_ignore_ascii_case(b"Bearer") && token.matches(presented) {
        Ok(())
    } else {
        refused("this is not the token")
    }
}

/// Whether whoever asks may read: the token, or the cookie of a browser that showed it.
///
/// SECURITY: the cookie allows nothing but reading, and `SameSite=Strict` keeps it from requests
/// that other sites make. Test: a_cookie_reads_and_changes_nothing
pub(super) fn may_read(headers: &HeaderMap, token: &Token) -> Result<(), Problem> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let mut cookies = cookies.flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    let session = Session::of(token);
    if cookies.any(|pair| session.is(pair.trim_ascii())) {
        return Ok(());
    }
    knows_token(headers, token)
}

/// What a browser keeps once it showed the token.
pub(super) struct Session(String);

impl Session {
    /// Name of the cookie.
    const NAME: &str = "frontgate";

    /// Follows from the token: another token ends every session.
    pub(super) fn of(token: &Token) -> Self {
        let digest = sha256(format!("frontgate dashboard\0{}", token.reveal()).as_bytes());
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// `Set-Cookie`.
    pub(super) fn cookie(&self) -> String {
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", Self::NAME, self.0)
    }

    fn is(&self, pair: &[u8]) -> bool {
        let value = pair.strip_prefix(Self::NAME.as_bytes()).and_then(|v| v.strip_prefix(b"="));
        // Digests are compared, as with the token itself.
        value.is_some_and(|value| memcmp::eq(&sha256(value), &sha256(self.0.as_bytes())))
    }
}

/// What every change needs besides the token.
pub(super) fn may_change(headers: &HeaderMap) -> Result<(), Problem> {
    same_origin(headers)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        // SECURITY: the kinds a page can post across sites without asking are not this one.
        let text = "the body is JSON: `Content-Type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    Ok(())
}

/// SECURITY: a page of another site must not change anything through an administrator's browser.
/// Test: only_pages_of_this_very_origin_may_change_something
pub(super) fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let from_here = |site: &[u8]| matches!(site, b"same-origin" | b"none");
    let fetch = headers.get_all("sec-fetch-site").iter().all(|v| from_here(v.as_bytes()));
    let host = authority(headers);
    let is_host = |origin: &str| {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let host = host.as_ref().map(Authority::as_str);
        rest.zip(host).is_some_and(|(rest, host)| rest.eq_ignore_ascii_case(host))
    };
    let origin = headers.get_all(header::ORIGIN).iter().all(|v| v.to_str().is_ok_and(is_host));
    if fetch && origin {
        Ok(())
    } else {
        Err(Problem::new(StatusCode::FORBIDDEN, "pages of other sites may not change anything"))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn unknown_host_is_refused() {
        let hosts = ["localhost".to_owned(), "[::1]".to_owned()];
        let local = Some(IpAddr::from([10, 0, 0, 5]));
        let knows = |host: &str| knows_host(&hosts, local, &headers(&[("host", host)]));
        assert!(knows("10.0.0.5:9180") && !knows("10.0.0.6:9180"));
        assert!(knows("localhost:9180") && knows("LOCALHOST") && knows("[::1]:9180"));
        assert!(!knows("rebound.example") && !knows("localhost.example") && !knows(""));
        assert!(!knows_host(&hosts, None, &HeaderMap::new()));
        assert!(!knows_host(&hosts, None, &headers(&[("host", "10.0.0.5")])));
    }

    #[test]
    fn only_pages_of_this_very_origin_may_change_something() {
        let may = |more: &[(&'static str, &str)]| {
            let json = ("content-type", "application/json; charset=utf-8");
            let fields = [&[("host", "localhost:9180"), json], more].concat();
            may_change(&headers(&fields)).map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(may(&[]), Ok(()));
        assert_eq!(may(&[("origin", "http://localhost:9180")]), Ok(()));
        assert_eq!(may(&[("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(may(&[("sec-fetch-site", "none")]), Ok(()));
        for origin in [
            "null",
            "http://localhost",
            "http://localhost:9181",
            "http://localhost:9180.evil.example",
            "http://evil.example",
            "localhost:9180",
            "",
        ] {
            assert_eq!(may(&[("origin", origin)]), Err(403), "{origin}");
        }
        assert_eq!(may(&[("sec-fetch-site", "cross-site")]), Err(403));
        assert_eq!(may(&[("sec-fetch-site", "same-site")]), Err(403));
        let here = ("origin", "http://localhost:9180");
        assert_eq!(may(&[here, ("sec-fetch-site", "cross-site")]), Err(403));
    }

    #[test]
    fn a_cookie_reads_and_changes_nothing() {
        let token = Token::parse("0123456789abcdef").unwrap();
        let cookie = Session::of(&token).cookie();
        let pair = cookie.split(';').next().unwrap();
        let with = |value: &str| headers(&[("cookie", value)]);
        assert!(may_read(&with(pair), &token).is_ok());
        assert!(may_read(&with(&format!("a=b; {pair}; c=d")), &token).is_ok());
        assert!(knows_token(&with(pair), &token).is_err());
        for wrong in ["frontgate=", "frontgate=0123456789abcdef", "", &pair[..pair.len() - 1]] {
            assert_eq!(may_read(&with(wrong), &token).unwrap_err().status, 401, "{wrong}");
        }
        let other = Token::parse("0123456789abcdeg").unwrap();
        assert!(may_read(&with(pair), &other).is_err());
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict"));
        assert!(
            may_read(&headers(&[("authorization", "Bearer 0123456789abcdef")]), &token).is_ok()
        );
    }

    #[test]
    fn what_a_form_can_send_is_no_change() {
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
            let fields = headers(&[("host", "localhost"), ("content-type", kind)]);
            assert_eq!(may_change(&fields).unwrap_err().status, 415, "{kind}");
        }
        assert_eq!(may_change(&headers(&[("host", "localhost")])).unwrap_err().status, 415);
    }

    #[test]
    fn the_token_comes_as_bearer() {
        let token = Token::parse("0123456789abcdef").unwrap();
        let knows = |value: &str| knows_token(&headers(&[("authorization", value)]), &token);
        assert!(knows("Bearer 0123456789abcdef").is_ok());
        assert!(knows("bearer  0123456789abcdef").is_ok());
        for wrong in ["0123456789abcdef", "Basic 0123456789abcdef", "Bearer", "Bearer x", ""] {
            assert_eq!(knows(wrong).unwrap_err().status, 401, "{wrong}");
        }
        assert_eq!(knows_token(&HeaderMap::new(), &token).unwrap_err().status, 401);
    }
}
