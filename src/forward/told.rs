//! What servers are told about the client: `X-Forwarded-*`, `Forwarded`, and ARR's own fields.

use std::{fmt::Write as _, net::SocketAddr};

use http::{HeaderMap, HeaderValue, Version, header};
use pingora::{Result, http::RequestHeader, proxy::Session};

use super::{Ctx, log_id::log_id};
use crate::{
    guard::{
        Chain,
        client::{Client, X_FORWARDED_FOR},
        forwarded::{Element, Node, elements, entries, node},
    },
    listen::Connection,
    route::target_value,
    site::{self, ForwardStyle},
};

/// Tells the server who the client is and what it asked for. Whatever a client said about that
/// itself is gone from `request` already.
///
/// # Errors
/// None that a client could bring about.
pub(super) fn tell(session: &Session, request: &mut RequestHeader, ctx: &mut Ctx) -> Result<()> {
    let settings = ctx.farm.as_ref().map(|farm| farm.spec().forward).unwrap_or_default();
    if settings.style == ForwardStyle::Arr {
        // Another attempt at another server is still the same request.
        ctx.log_id.get_or_insert_with(log_id);
    }
    let (Some(connection), Some(client)) = (&ctx.connection, &ctx.client) else { return Ok(()) };
    let received = &session.req_header().headers;
    let host = original_host(session, connection);
    let story = Story { client, connection, received, settings };

    request.insert_header("X-Forwarded-For", story.x_forwarded_for()?)?;
    request.insert_header("X-Forwarded-Proto", scheme(client.https))?;
    // COMPAT: an HTTP/1.0 request without Host goes on as HTTP/1.1, where http.sys wants one.
    // Test: a_client_without_sni_gets_the_default_certificate_and_http10_works
    if let Some(host) = &host
        && request.version == Version::HTTP_11
        && !request.headers.contains_key(header::HOST)
    {
        request.insert_header(header::HOST, host)?;
    }
    let asked = client.told.as_ref().and_then(|told| told.host.as_ref()).or(host.as_ref());
    if let Some(asked) = asked {
        request.insert_header("X-Forwarded-Host", asked)?;
    }
    request.insert_header("X-Forwarded-Port", story.port())?;
    if settings.rfc7239 {
        request.insert_header("Forwarded", story.forwarded(host.as_ref(), asked)?)?;
    }
    if let Some(id) = ctx.log_id.as_ref().filter(|_| settings.style == ForwardStyle::Arr) {
        request.insert_header("X-ARR-LOG-ID", id)?;
        if let Some(ssl) = connection.arr().ssl.as_ref().filter(|_| client.https) {
            request.insert_header("X-ARR-SSL", ssl)?;
        }
        // COMPAT: http.sys answers 400 to header fields with bytes outside ASCII. Test:
        // bytes_outside_ascii_are_escaped_in_headers
        let url = target_value(session.req_header().raw_path());
        if let Ok(url) = HeaderValue::from_bytes(&url) {
            request.insert_header("X-Original-URL", url)?;
        }
    }
    Ok(())
}

fn original_host(session: &Session, connection: &Connection) -> Option<HeaderValue> {
    let request = session.req_header();
    let from = |text: &str| HeaderValue::from_str(text).ok();
    request
        .headers
        .get(header::HOST)
        .cloned()
        .or_else(|| request.uri.authority().and_then(|a| from(a.as_str())))
        .or_else(|| connection.sni().and_then(from))
}

/// The port that the client came to: what a trusted proxy said, else the listener's; where TLS ends
/// in front, the scheme's own.
pub(super) fn client_port(client: &Client, connection: &Connection) -> u16 {
    let said = client.told.as_ref().and_then(|told| told.port);
    said.unwrap_or(match (client.https == connection.tls.is_some(), client.https) {
        (true, _) => connection.listener.public_port,
        (false, true) => 443,
        (false, false) => 80,
    })
}

fn scheme(https: bool) -> &'static str {
    if https { "https" } else { "http" }
}

/// Everything that is known about the way of a request up to here.
struct Story<'a> {
    client: &'a Client,
    connection: &'a Connection,
    /// The fields as received.
    received: &'a HeaderMap,
    settings: site::Forward,
}

impl Story<'_> {
    /// The chain as trusted proxies told it, and the peer.
    fn x_forwarded_for(&self) -> Result<HeaderValue> {
        let own = self.own();
        let told: Vec<String> = match self.chain() {
            Chain::Absent => return Ok(own.clone()),
            Chain::XForwardedFor => entries(self.received, X_FORWARDED_FOR)
                .map(|entry| String::from_utf8_lossy(entry).into_owned())
                .collect(),
            Chain::Forwarded => self.believed().map(|node| self.address(node)).collect(),
        };
        let mut text = String::new();
        for entry in told.iter().rev() {
            let _ = write!(text, "{entry}, ");
        }
        value(text, own)
    }

    fn port(&self) -> HeaderValue {
        match client_port(self.client, self.connection) {
            own if own == self.connection.listener.public_port => {
                self.connection.port_value.clone()
            }
            port => HeaderValue::from(port),
        }
    }

    /// `Forwarded` (RFC 7239): a chain that came in this form goes on as it is; of another one
    /// those entries that were believed. The client's element has scheme and host.
    fn forwarded(
        &self,
        host: Option<&HeaderValue>,
        asked: Option<&HeaderValue>,
    ) -> Result<HeaderValue> {
        let mut text = String::new();
        let here = scheme(self.connection.https);
        let mut own = (host, here);
        match self.chain() {
            Chain::Forwarded => {
                // SECURITY: a broken element would change how what follows it is read; what stands
                // in front of it was written by whoever wrote it. Test:
                // a_broken_element_of_forwarded_ends_the_chain
                let all = elements(self.received, header::FORWARDED);
                let mut told: Vec<_> = all.take_while(|e| Element::parse(e).is_some()).collect();
                told.reverse();
                for element in told {
                    let _ = write!(text, "{}, ", String::from_utf8_lossy(element));
                }
            }
            _ => {
                let mut client = Some((asked, scheme(self.client.https)));
                let mut told: Vec<_> = self.believed().collect();
                told.reverse();
                for node in told {
                    element(&mut text, &self.address(node), client.take());
                    text.push_str(", ");
                }
                own = client.unwrap_or(own);
            }
        }
        let address = self.own().to_str().unwrap_or("unknown");
        element(&mut text, address, Some(own));
        value(text, &HeaderValue::from_static(""))
    }

    fn chain(&self) -> Chain {
        self.client.told.as_ref().map_or(Chain::Absent, |told| told.chain)
    }

    /// The entries that were believed, last one first.
    fn believed(&self) -> impl Iterator<Item = Node> {
        let (chain, number) = self
            .client
            .told
            .as_ref()
            .map_or((Chain::Absent, 0), |told| (told.chain, told.believed));
        let (plain, rich) = match chain {
            Chain::Absent => (None, None),
            Chain::XForwardedFor => (Some(entries(self.received, X_FORWARDED_FOR)), None),
            Chain::Forwarded => (None, Some(elements(self.received, header::FORWARDED))),
        };
        let plain = plain.into_iter().flatten().map(node);
        let rich = rich.into_iter().flatten().map(|e| Element::parse(e)?.node.and_then(node));
        plain.chain(rich).map_while(|node| node).take(number)
    }

    /// The peer: with its port, as ARR wrote it, or without.
    fn own(&self) -> &HeaderValue {
        match self.settings.style {
            ForwardStyle::Standard => &self.connection.client_value,
            ForwardStyle::Arr => &self.connection.arr().client,
        }
    }

    fn address(&self, (address, port): Node) -> String {
        match port.filter(|_| self.settings.style == ForwardStyle::Arr) {
            Some(port) => SocketAddr::new(address, port).to_string(),
            None => address.to_string(),
        }
    }
}

/// `text` with `last` behind it.
fn value(mut text: String, last: &HeaderValue) -> Result<HeaderValue> {
    text.push_str(last.to_str().unwrap_or("unknown"));
    // Text that came in one header field can stand in another one.
    let bytes = HeaderValue::from_bytes(text.as_bytes());
    Ok(bytes.unwrap_or_else(|_| last.clone()))
}

/// One element of `Forwarded`, with host and scheme where they are known. `by` is left out: it
/// would tell nothing but an inside address.
fn element(out: &mut String, address: &str, more: Option<(Option<&HeaderValue>, &str)>) {
    // RFC 7239 6: a colon needs quotes, IPv6 brackets.
    let bare = address.parse::<std::net::Ipv6Addr>().is_ok();
    let _ = match address.contains(':') {
        true if bare => write!(out, "for=\"[{address}]\""),
        true => write!(out, "for=\"{address}\""),
        false => write!(out, "for={address}"),
    };
    let Some((host, scheme)) = more else { return };
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        let token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.chars().all(token) {
            let _ = write!(out, ";host={host}");
        } else {
            let escaped = host.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = write!(out, ";host=\"{escaped}\"");
        }
    }
    let _ = write!(out, ";proto={scheme}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(address: &str, more: Option<(&str, &str)>) -> String {
        let mut out = String::new();
        let host = more.map(|(host, _)| HeaderValue::from_str(host).unwrap());
        element(&mut out, address, more.map(|(_, scheme)| (host.as_ref(), scheme)));
        out
    }

    #[test]
    fn elements_are_quoted_as_the_rfc_has_it() {
        assert_eq!(written("192.0.2.7", None), "for=192.0.2.7");
        assert_eq!(written("192.0.2.7:80", None), "for=\"192.0.2.7:80\"");
        assert_eq!(written("2001:db8::7", None), "for=\"[2001:db8::7]\"");
        assert_eq!(written("[2001:db8::7]:443", None), "for=\"[2001:db8::7]:443\"");
        assert_eq!(
            written("192.0.2.7", Some(("meet.contoso.com", "https"))),
            "for=192.0.2.7;host=meet.contoso.com;proto=https"
        );
        assert_eq!(
            written("192.0.2.7", Some(("meet.contoso.com:444", "http"))),
            "for=192.0.2.7;host=\"meet.contoso.com:444\";proto=http"
        );
        assert_eq!(
            written("192.0.2.7", Some(("a\"b\\c", "http"))),
            "for=192.0.2.7;host=\"a\\\"b\\\\c\";proto=http"
        );
    }
}
