//! The same guarantees for an HTTP/2 request, whose framing its own parser has checked.

use http::{HeaderMap, Method, header};

use super::{HeadLimits, fields::length, request_line::check_method, target};
use crate::{
    reason::{self, Reason},
    route::normalize_host,
};

/// Fields that belong to a connection; HTTP/2 has no place for them (RFC 9113 8.2.2). `te` is the
/// exception, see below.
const CONNECTION_FIELDS: [&str; 6] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Inspects a parsed request: its method, `:path`, `:authority` and fields. Errors are the reasons
/// to answer with.
///
/// SECURITY: it will be written as HTTP/1 to a server, so all that would frame that message anew
/// is refused (request smuggling by downgrade). Tests: connection_fields_are_refused,
/// one_host_by_whichever_name
pub fn inspect_h2(
    method: &Method,
    path: &[u8],
    authority: Option<&[u8]>,
    headers: &HeaderMap,
    limits: &HeadLimits,
) -> Result<(), Reason> {
    check_method(method.as_str().as_bytes())?;
    if target::parse(path, limits.url)?.authority.is_some() {
        return Err(reason::BAD_REQUEST_LINE);
    }
    if headers.len() > limits.headers {
        return Err(reason::HEADER_TOO_LARGE);
    }
    check_host(authority, headers)?;
    if CONNECTION_FIELDS.iter().any(|name| headers.contains_key(*name)) {
        return Err(reason::BAD_HEADER);
    }
    let trailers = |value: &header::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"trailers");
    if !headers.get_all(header::TE).iter().all(trailers) {
        return Err(reason::BAD_HEADER);
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(value), None) => length(value.as_bytes()).map(drop),
        (Some(_), Some(_)) => Err(reason::BAD_FRAMING),
    }
}

/// `:authority` and `Host` may each be there, at least one, and must agree.
fn check_host(authority: Option<&[u8]>, headers: &HeaderMap) -> Result<(), Reason> {
    let mut hosts = headers.get_all(header::HOST).iter().map(header::HeaderValue::as_bytes);
    let host = hosts.next();
    if hosts.next().is_some() || (host.is_none() && authority.is_none()) {
        return Err(reason::BAD_HOST);
    }
    let mut names = [authority, host].into_iter().flatten().map(normalize_host);
    match (names.next().flatten(), names.next()) {
        (Some(_), None) => Ok(()),
        (Some(one), Some(Some(other))) if one == other => Ok(()),
        _ => Err(reason::BAD_HOST),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { headers: 3, url: 20 };

    fn fields(list: &[(&str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
            })
            .collect()
    }

    fn with(list: &[(&str, &str)]) -> Result<(), Reason> {
        inspect_h2(&Method::POST, b"/x", Some(b"a.x"), &fields(list), &LIMITS)
    }

    #[test]
    fn an_ordinary_request_passes() {
        assert_eq!(with(&[]), Ok(()));
        assert_eq!(with(&[("te", "trailers"), ("content-length", "5"), ("x_y", "z")]), Ok(()));
        let rpc = Method::from_bytes(b"RPC_IN_DATA").unwrap();
        let got = inspect_h2(&rpc, b"/rpc?x:6001", Some(b"A.x:443"), &fields(&[]), &LIMITS);
        assert_eq!(got, Ok(()));
    }

    #[test]
    fn methods_targets_and_limits() {
        let ask = |method: Method, path: &[u8]| {
            inspect_h2(&method, path, Some(b"a.x"), &fields(&[]), &LIMITS)
        };
        assert_eq!(ask(Method::CONNECT, b"/"), Err(reason::METHOD_NOT_ALLOWED));
        assert_eq!(ask(Method::TRACE, b"/"), Err(reason::METHOD_NOT_ALLOWED));
        for path in [b"*".as_slice(), b"", b"x", b"http://a.x/", b"/a b", b"/\r\n", b"/#"] {
            assert_eq!(ask(Method::GET, path), Err(reason::BAD_REQUEST_LINE));
        }
        assert_eq!(ask(Method::GET, &[b'/'; 21]), Err(reason::URL_TOO_LONG));
        let four = [("a", "1"), ("a", "2"), ("b", "3"), ("c", "4")];
        assert_eq!(with(&four), Err(reason::HEADER_TOO_LARGE));
    }

    #[test]
    fn one_host_by_whichever_name() {
        let ask = |authority: Option<&str>, hosts: &[&str]| {
            let list: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let authority = authority.map(str::as_bytes);
            inspect_h2(&Method::GET, b"/", authority, &fields(&list), &LIMITS)
        };
        assert_eq!(ask(Some("a.x"), &[]), Ok(()));
        assert_eq!(ask(None, &["a.x"]), Ok(()));
        assert_eq!(ask(Some("A.x"), &["a.x.:443"]), Ok(()));
        for (authority, hosts) in [
            (None, [].as_slice()),
            (None, &["a.x", "a.x"]),
            (Some("a.x"), &["a.x", "a.x"]),
            (Some("a.x"), &["b.x"]),
            (Some("a.x"), &["a x"]),
            (Some("user@a.x"), &[]),
            (Some(""), &["a.x"]),
            (Some(""), &[]),
        ] {
            assert_eq!(ask(authority, hosts), Err(reason::BAD_HOST), "{authority:?} {hosts:?}");
        }
    }

    #[test]
    fn connection_fields_are_refused() {
        for field in [
            ("connection", "close"),
            ("keep-alive", "5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("http2-settings", "x"),
            ("te", "gzip"),
            ("te", "trailers, gzip"),
        ] {
            assert_eq!(with(&[field]), Err(reason::BAD_HEADER), "{field:?}");
        }
        assert_eq!(with(&[("te", "trailers"), ("te", "gzip")]), Err(reason::BAD_HEADER));
    }

    #[test]
    fn one_length_in_digits() {
        let twice = [("content-length", "5"), ("content-length", "5")];
        assert_eq!(with(&twice), Err(reason::BAD_FRAMING));
        for value in ["", "+5", "5,5", "0x5", "9223372036854775808"] {
            assert_eq!(with(&[("content-length", value)]), Err(reason::BAD_FRAMING), "{value}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(path: Vec<u8>, authority: Option<Vec<u8>>) {
            let _ = inspect_h2(&Method::GET, &path, authority.as_deref(), &fields(&[]), &LIMITS);
        }
    }
}
