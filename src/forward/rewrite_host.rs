//! ARR's "reverse rewrite host in response headers": the servers' names in answers become the
//! name that the client used.

use http::{HeaderName, HeaderValue, header};
use pingora::{Result, http::ResponseHeader};

use crate::{
    route::normalize_host,
    site::{Address, Farm, Server},
};

/// How the client reaches what the farm serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outside<'a> {
    pub(super) https: bool,
    /// Normalised.
    pub(super) host: &'a str,
    pub(super) port: u16,
}

/// Rewrites `Location`, `Content-Location` and the domains of cookies.
///
/// # Errors
/// Never: what is written consists of the value and visible ASCII.
pub(super) fn answer(
    response: &mut ResponseHeader,
    farm: &Farm,
    outside: &Outside<'_>,
) -> Result<()> {
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        replace(response, &name, |value| location(value, farm, outside))?;
    }
    replace(response, &header::SET_COOKIE, |value| cookie(value, farm, outside.host))
}

/// Replaces the values that `change` changes; the others stay where they are.
fn replace(
    response: &mut ResponseHeader,
    name: &HeaderName,
    change: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<()> {
    let values = response.headers.get_all(name);
    let changed = |value: &HeaderValue| change(value.as_bytes());
    if !values.iter().any(|value| changed(value).is_some()) {
        return Ok(());
    }
    let values: Vec<HeaderValue> = values.iter().cloned().collect();
    response.remove_header(name);
    for value in values {
        match changed(&value) {
            Some(new) => response.append_header(name, new)?,
            None => response.append_header(name, value)?,
        };
    }
    Ok(())
}

/// The URL as the client can use it; `None` if it names no server of the farm. Servers write raw
/// bytes into paths: `Location: https://fe01/größe`.
fn location(value: &[u8], farm: &Farm, outside: &Outside<'_>) -> Option<Vec<u8>> {
    let slashes = value.windows(2).position(|pair| pair == b"//")?;
    let (scheme, rest) = value.split_at_checked(slashes)?;
    let default = match scheme.to_ascii_lowercase().as_slice() {
        b"https:" => Some(443),
        b"http:" => Some(80),
        b"" => None,
        _ => return None,
    };
    let rest = rest.get(2..)?;
    let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#' | b'\\');
    let end = rest.iter().position(ends).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let host = normalize_host(authority)?;
    let port = explicit_port(std::str::from_utf8(authority).ok()?);
    let inside = farm.servers.iter().any(|server| {
        let mut ports = [server.ports.https, server.ports.http].into_iter();
        // Another port is another service: nothing publishes it.
        let served = port.is_none_or(|port| Some(port) == default || ports.any(|p| p == port));
        served && names(server, farm, host.as_str())
    });
    // A server that knows the client's name may still add its own port to it (4443).
    let own_port =
        |server: &Server| port == Some(server.ports.https) || port == Some(server.ports.http);
    let leaks = host.as_str() == outside.host
        && port != Some(outside.port)
        && port != default
        && farm.servers.iter().any(own_port);
    if !inside && !leaks {
        return None;
    }
    let (scheme, usual) = if outside.https { ("https", 443) } else { ("http", 80) };
    let port = Some(outside.port).filter(|port| *port != usual);
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    Some([format!("{scheme}://{}{port}", outside.host).as_bytes(), path].concat())
}

fn explicit_port(authority: &str) -> Option<u16> {
    let behind = authority.rsplit_once(']').map_or(authority, |(_, behind)| behind);
    behind.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

/// Whether `host` (normalised) is the server, by any name that it has here.
fn names(server: &Server, farm: &Farm, host: &str) -> bool {
    let is = |name: &str| normalize_host(name.as_bytes()).is_some_and(|name| name.as_str() == host);
    let address = match &server.address {
        Address::Name(name) => is(name),
        Address::Ip(std::net::IpAddr::V6(ip)) => is(&format!("[{ip}]")),
        Address::Ip(ip) => is(&ip.to_string()),
    };
    address || is(&server.name) || is(&server.tls_name) || farm.host.as_deref().is_some_and(is)
}

/// The cookie without a `Domain` that only the server is in: browsers would refuse it for the
/// client's host, and without one it is for exactly that host.
fn cookie(value: &[u8], farm: &Farm, outside: &str) -> Option<Vec<u8>> {
    let foreign = |attribute: &[u8]| {
        let Ok(attribute) = std::str::from_utf8(attribute) else { return false };
        let Some((name, domain)) = attribute.split_once('=') else { return false };
        let domain = domain.trim().trim_start_matches('.').to_ascii_lowercase();
        let within = |host: &str| {
            host.strip_suffix(&*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let inside = |server: &Server| {
            let own = match &server.address {
                Address::Name(name) => within(name),
                Address::Ip(ip) => ip.to_string() == domain,
            };
            own || within(&server.name.to_ascii_lowercase())
                || within(&server.tls_name)
                || farm.host.as_deref().is_some_and(within)
        };
        name.trim().eq_ignore_ascii_case("domain")
            && !domain.is_empty()
            && !within(outside)
            && farm.servers.iter().any(inside)
    };
    let mut parts = value.split(|byte| *byte == b';');
    let pair = parts.next()?;
    let attributes: Vec<&[u8]> = parts.collect();
    if !attributes.iter().any(|attribute| foreign(attribute)) {
        return None;
    }
    let kept = attributes.into_iter().filter(|attribute| !foreign(attribute));
    Some(std::iter::once(pair).chain(kept).collect::<Vec<_>>().join(&b";"[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{farm::testing, site::Ports};

    const OUTSIDE: Outside<'static> = Outside { https: true, host: "mail.contoso.com", port: 443 };

    fn farm() -> Farm {
        let mut farm = testing::farm("owa", &["exch01.contoso.local", "exch02.contoso.local"]);
        farm.host = Some("owa.inside".into());
        let second = &mut farm.servers[1];
        second.address = Address::Ip("10.0.0.2".parse().unwrap());
        second.ports = Ports { https: 4443, http: 8080 };
        second.tls_name = "pool.contoso.local".into();
        farm
    }

    #[test]
    fn urls_of_servers_become_the_clients() {
        let client = "https://mail.contoso.com";
        for (from, to) in [
            ("https://exch01.contoso.local/owa/?a=b#c", "/owa/?a=b#c"),
            ("http://EXCH01.contoso.local:80/owa", "/owa"),
            ("https://exch02.contoso.local:4443", ""),
            ("http://10.0.0.2:8080/x", "/x"),
            ("//pool.contoso.local/x", "/x"),
            ("https://owa.inside?x", "?x"),
            ("https://mail.contoso.com:4443/x", "/x"),
        ] {
            let made = location(from.as_bytes(), &farm(), &OUTSIDE);
            assert_eq!(made.unwrap(), format!("{client}{to}").as_bytes(), "{from}");
        }
        // Bytes outside ASCII, and such as are no text at all, hide no name.
        for path in [&b"/gr\xc3\xb6\xc3\x9fe"[..], b"/\xe4?\xff"] {
            let from = [b"https://exch01.contoso.local", path].concat();
            let made = location(&from, &farm(), &OUTSIDE);
            assert_eq!(made.unwrap(), [client.as_bytes(), path].concat());
        }
        let odd = Outside { https: false, host: "[::1]", port: 8080 };
        let made = location(b"https://exch01.contoso.local/x", &farm(), &odd);
        assert_eq!(made.unwrap(), b"http://[::1]:8080/x");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for url in [
            "/owa",
            "owa//x",
            "?to=https://exch01.contoso.local/",
            "https://login.example/?r=https://exch01.contoso.local/",
            "https://exch01.contoso.local:9999/",
            "https://exch01.contoso.local@evil.example/",
            "https://exch01.contoso.local.evil.example/",
            "ms-word:ofe|u|https://exch01.contoso.local/x.docx",
            "ftp://exch01.contoso.local/",
            "https://mail.contoso.com/x",
            "http://mail.contoso.com/x",
            "https://mail.contoso.com:443/x",
            "",
        ] {
            assert_eq!(location(url.as_bytes(), &farm(), &OUTSIDE), None, "{url}");
        }
    }

    #[test]
    fn cookies_lose_domains_that_only_the_server_is_in() {
        let made = |value: &str| {
            let made = cookie(value.as_bytes(), &farm(), "mail.contoso.com");
            made.map(|made| String::from_utf8(made).unwrap())
        };
        let odd = cookie(b"a=\xff; Domain=exch01.contoso.local", &farm(), "mail.contoso.com");
        assert_eq!(odd.unwrap(), b"a=\xff");
        assert_eq!(
            made("a=b; Domain=exch01.contoso.local; path=/; Secure").as_deref(),
            Some("a=b; path=/; Secure")
        );
        assert_eq!(made("a=b;DOMAIN=.contoso.local").as_deref(), Some("a=b"));
        assert_eq!(made("a=b; domain=owa.inside; HttpOnly").as_deref(), Some("a=b; HttpOnly"));
        for same in [
            "a=b",
            "a=b; Domain=contoso.com; path=/",
            "a=b; Domain=elsewhere.example",
            "a=domain=contoso.local; path=/",
            "a=b; Domain=; path=/",
            "a=b; Domain",
        ] {
            assert_eq!(made(same), None, "{same}");
        }
    }
}
