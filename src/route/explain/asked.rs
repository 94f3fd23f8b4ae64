//! A request that somebody only thinks of: a URL, a method, an address, header fields.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::super::{Question, normalize_host};
use crate::site::Site;

/// A request that somebody asks about.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whether by https.
    pub https: bool,
    /// The host, normalised.
    pub host: String,
    /// The port that the client connects to.
    pub port: u16,
    /// Path and query, as a client would send them.
    pub target: String,
    /// The method.
    pub method: Method,
    /// Header fields, Host among them.
    pub headers: HeaderMap,
    /// Who connects.
    pub from: IpAddr,
}

impl Asked {
    /// A GET for `url` from 192.0.2.1, an address that is nobody's (RFC 5737). Without a scheme
    /// it is an https URL. What a browser would escape is escaped; a fragment is dropped.
    ///
    /// # Errors
    /// What is wrong with the URL, in words.
    pub fn new(url: &str) -> Result<Self, String> {
        let url = url.trim();
        let (https, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, _)) if !scheme.contains(['/', '?']) => {
                return Err(format!("`{scheme}` is neither http nor https"));
            }
            _ => (true, url),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let host = normalize_host(authority.as_bytes())
            .ok_or_else(|| format!("`{authority}` is no host"))?;
        let after = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
        let port = after.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let target = target.split('#').next().unwrap_or_default();
        let mut sent = String::new();
        if !target.starts_with('/') {
            sent.push('/');
        }
        for byte in target.bytes() {
            if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>') {
                sent.push(char::from(byte));
            } else {
                sent += &format!("%{byte:02X}");
            }
        }
        let named = HeaderValue::from_str(authority).map_err(|e| e.to_string())?;
        let headers = HeaderMap::from_iter([(header::HOST, named)]);
        Ok(Self {
            https,
            host: host.to_string(),
            port: port.unwrap_or(if https { 443 } else { 80 }),
            target: sent,
            method: Method::GET,
            headers,
            from: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        })
    }

    /// Adds a header field, `Name: value`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn header(&mut self, field: &str) -> Result<(), String> {
        let wrong = || format!("`{field}` is no header field: want `Name: value`");
        let (name, value) = field.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        if name == header::HOST {
            return Err("the host comes from the URL".to_owned());
        }
        self.headers.append(name, value);
        Ok(())
    }

    /// The listener that it comes to, and what is to be said about that: the one with this scheme
    /// and public port, otherwise the first one with this scheme.
    ///
    /// # Errors
    /// No listener has the scheme.
    pub fn listener(&self, site: &Site) -> Result<(usize, Option<String>), String> {
        let scheme = super::words::scheme(self.https);
        let mut same =
            site.listeners.iter().enumerate().filter(|(_, l)| l.tls.is_some() == self.https);
        let exact = same.clone().find(|(_, listener)| listener.public_port == self.port);
        if let Some((index, _)) = exact {
            return Ok((index, None));
        }
        let (index, listener) =
            same.next().ok_or_else(|| format!("no listener is for {scheme}"))?;
        let note = format!(
            "no {scheme} listener has the public port {}; this is told for listener {}",
            self.port, listener.name
        );
        Ok((index, Some(note)))
    }

    /// Its header block, as an HTTP/1.1 client writes it.
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// As routing asks: at this listener, from this client.
    pub fn question(&self, listener: usize, https: bool, source: IpAddr) -> Question<'_> {
        let mut parts = self.target.as_bytes().splitn(2, |b| *b == b'?');
        Question {
            listener,
            https,
            host: &self.host,
            target_path: parts.next().unwrap_or_default(),
            query: parts.next(),
            method: self.method.as_str(),
            headers: &self.headers,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_as_a_browser_sends_them() {
        for (url, https, host, port, target) in [
            ("https://meet.x/anna/AB12", true, "meet.x", 443, "/anna/AB12"),
            ("HTTP://Meet.X:8080?a=b c#frag", false, "meet.x", 8080, "/?a=b%20c"),
            ("meet.x", true, "meet.x", 443, "/"),
            ("meet.x:8443/größe", true, "meet.x", 8443, "/gr%C3%B6%C3%9Fe"),
            ("https://[::1]:444/x?u=http://y", true, "[::1]", 444, "/x?u=http://y"),
            ("x/a?u=http://y", true, "x", 443, "/a?u=http://y"),
        ] {
            let asked = Asked::new(url).unwrap();
            let found = (asked.https, &*asked.host, asked.port, &*asked.target);
            assert_eq!(found, (https, host, port, target), "{url}");
        }
        for wrong in ["", "ftp://x/", "https:///x", "https://a b/", "https://u@x/", "https://x:0/"]
        {
            assert!(Asked::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn header_fields_are_name_and_value() {
        let mut asked = Asked::new("x").unwrap();
        asked.header("User-Agent: Lync: 16").unwrap();
        assert_eq!(asked.headers["user-agent"], "Lync: 16");
        assert!(asked.header("no value").is_err() && asked.header("a b: c").is_err());
        assert!(asked.header("a: b\nc: d").is_err());
    }
}
