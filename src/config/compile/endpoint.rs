//! URLs that something is posted to.

use std::net::IpAddr;

use http::Uri;

use crate::site::Endpoint;

/// Takes a URL apart. The faults go on after the name of the key: the URL may hold a secret.
///
/// # Errors
/// It is none that anything can be posted to, safely.
pub(super) fn parse(url: &str) -> Result<Endpoint, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "is not a URL")?;
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("does not begin with https:// or http://"),
    };
    let authority = uri.authority().ok_or("names no host")?;
    if authority.as_str().contains('@') {
        return Err("holds a user name, which is not sent");
    }
    let host = authority.host().trim_matches(['[', ']']);
    if host.is_empty() {
        return Err("names no host");
    }
    if https && host.parse::<IpAddr>().is_ok() {
        return Err("names an IP address, for which no certificate is verified");
    }
    let port = match authority.port() {
        // Also where what follows the `:` is no port.
        None if authority.as_str() != authority.host() => return Err("has no port after `:`"),
        None => {
            if https {
                443
            } else {
                80
            }
        }
        Some(port) => Some(port.as_u16()).filter(|port| *port > 0).ok_or("has a port 0")?,
    };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    Ok(Endpoint {
        https,
        host: host.to_owned(),
        port,
        authority: authority.as_str().to_owned(),
        target: target.to_owned(),
    })
}

/// Whether it is this machine.
pub(super) fn is_here(host: &str) -> bool {
    let ip = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let hook = parse("https://hooks.contoso.com/T0/secret?x=1").unwrap();
        assert_eq!((hook.https, &*hook.host, hook.port), (true, "hooks.contoso.com", 443));
        assert_eq!((&*hook.authority, &*hook.target), ("hooks.contoso.com", "/T0/secret?x=1"));
        assert!(!format!("{hook:?}").contains("secret"));
        let hook = parse("http://[::1]:8080").unwrap();
        assert_eq!((hook.https, &*hook.host, hook.port, &*hook.target), (false, "::1", 8080, "/"));
        assert!(is_here("::1") && is_here("127.0.0.9") && is_here("LOCALHOST"));
        assert!(!is_here("10.0.0.1") && !is_here("localhost.contoso.com"));
        for wrong in [
            "",
            "contoso.com",
            "/hook",
            "ftp://a/b",
            "https://",
            "https://u:p@a/b",
            "https://a b/",
            "https://10.0.0.1/x",
            "https://a:0/",
            "https://a:99999/",
            "mailto:x@y",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
