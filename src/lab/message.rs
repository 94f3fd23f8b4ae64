//! Requests as the simulated servers see them, and their answers.

use bytes::Bytes;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};

/// A request header, with the readings that IIS would make of it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// The request target as it was sent.
    pub(super) target: String,
    /// Path segments, decoded, in lower case, dot segments resolved; `None` when `..` left the
    /// root.
    pub(super) path: Option<Vec<String>>,
    pub(super) query: Vec<(String, String)>,
    /// Lower case, without port and trailing dot; empty when there was none.
    pub(super) host: String,
    pub(super) headers: HeaderMap,
}

impl Request {
    pub(super) fn new(header: &RequestHeader) -> Self {
        let target = String::from_utf8_lossy(header.raw_path()).into_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let host = header.headers.get(http::header::HOST).and_then(|value| value.to_str().ok());
        Self {
            method: header.method.as_str().to_owned(),
            path: segments(path),
            query: form(query.as_bytes()),
            host: host.map(host_name).unwrap_or_default(),
            headers: header.headers.clone(),
            target,
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        field(&self.query, name)
    }

    /// A number in the query string, or `default`.
    pub(super) fn number(&self, name: &str, default: u64) -> u64 {
        self.query(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }

    /// The token of `Authorization: Bearer …`.
    pub(super) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    }
}

/// First value of `name` in a decoded form.
pub(super) fn field<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Decodes `application/x-www-form-urlencoded`.
pub(super) fn form(text: &[u8]) -> Vec<(String, String)> {
    let decode = |part: &[u8]| {
        let spaced: Vec<u8> = part.iter().map(|&b| if b == b'+' { b' ' } else { b }).collect();
        percent_decode(&spaced)
    };
    text.split(|&b| b == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut halves = pair.splitn(2, |&b| b == b'=');
            let key = halves.next().unwrap_or_default();
            (decode(key), decode(halves.next().unwrap_or_default()))
        })
        .collect()
}

/// What http.sys makes of a path: decoded once, backslashes turned, dot segments resolved, case
/// ignored.
fn segments(path: &str) -> Option<Vec<String>> {
    let decoded = percent_decode(path.as_bytes()).to_lowercase();
    let mut segments = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            other => segments.push(other.to_owned()),
        }
    }
    Some(segments)
}

fn percent_decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%'
            && let Some((hex, after)) = tail.split_at_checked(2)
            && let Some(value) =
                std::str::from_utf8(hex).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            out.push(value);
            rest = after;
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn host_name(value: &str) -> String {
    let name = match value.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => value,
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// A complete answer; the headers every answer of a Front End has are added when it is sent.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut headers = Vec::new();
        if !body.is_empty() {
            headers.push(("Content-Type", content_type.to_owned()));
        }
        Self { status, headers, body }
    }

    pub(super) fn html(status: u16, body: String) -> Self {
        Self::new(status, "text/html; charset=utf-8", body)
    }

    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", body.to_string())
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::new(status, "", Bytes::new())
    }

    /// A short page in the manner of IIS.
    pub(super) fn error(status: u16, title: &str) -> Self {
        Self::html(
            status,
            format!(
                "<!DOCTYPE html><html><head><title>{status} - {title}</title></head>\
                 <body><h1>{status} - {title}</h1></body></html>\n"
            ),
        )
    }

    /// Adds a header line; equal names stay separate lines.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The header of this answer as the server `fqdn` sends it.
    pub(super) fn head(&self, fqdn: &str) -> pingora::Result<ResponseHeader> {
        let mut head = response_head(self.status, fqdn)?;
        for (name, value) in &self.headers {
            head.append_header(*name, value.as_str())?;
        }
        if self.status != 204 && self.status != 304 {
            head.append_header("Content-Length", self.body.len().to_string())?;
        }
        Ok(head)
    }
}

/// The headers a Front End puts on everything.
pub(super) fn response_head(status: u16, fqdn: &str) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(status, Some(12))?;
    head.append_header("Cache-Control", "no-cache")?;
    head.append_header("Server", "Microsoft-IIS/8.5")?;
    head.append_header("X-AspNet-Version", "4.0.30319")?;
    head.append_header("X-MS-Server-Fqdn", fqdn)?;
    head.append_header("X-Powered-By", "ASP.NET")?;
    Ok(head)
}

/// `text` for use inside HTML and XML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Option<String> {
        segments(path).map(|segments| segments.join("/"))
    }

    #[test]
    fn paths_are_read_as_http_sys_reads_them() {
        assert_eq!(path("/Meet//Alice/./X"), Some("meet/alice/x".into()));
        assert_eq!(path("/meet/..%2fCSCP\\a"), Some("cscp/a".into()));
        assert_eq!(path("/%4deet/%zz"), Some("meet/%zz".into()));
        assert_eq!(path("/../x"), None);
        assert_eq!(path("/"), Some(String::new()));
    }

    #[test]
    fn forms_decode() {
        let form = form(b"grant_type=urn%3Ax&username=alice%40contoso.com&q=a+b&&flag");
        assert_eq!(field(&form, "GRANT_TYPE"), Some("urn:x"));
        assert_eq!(field(&form, "username"), Some("alice@contoso.com"));
        assert_eq!(field(&form, "q"), Some("a b"));
        assert_eq!(field(&form, "flag"), Some(""));
    }

    #[test]
    fn hosts_lose_port_case_and_dot() {
        assert_eq!(host_name("Meet.Contoso.com.:8443"), "meet.contoso.com");
        assert_eq!(host_name("lyncweb.contoso.com"), "lyncweb.contoso.com");
    }

    #[test]
    fn equal_header_names_stay_two_lines() {
        let answer = Answer::error(401, "Unauthorized")
            .with("WWW-Authenticate", "Negotiate")
            .with("WWW-Authenticate", "NTLM");
        let head = answer.head("fe01.contoso.local").unwrap();
        assert_eq!(head.headers.get_all("www-authenticate").iter().count(), 2);
        assert_eq!(head.headers.get("x-ms-server-fqdn").unwrap(), "fe01.contoso.local");
    }
}
