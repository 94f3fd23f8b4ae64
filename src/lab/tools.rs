//! Tools for tests, below `/lab` on every simulated server: they show what arrived and misbehave
//! on demand.

use std::time::Duration;

use boring::{hash, sha::Sha256};
use bytes::Bytes;
use pingora::{http::ResponseHeader, protocols::http::ServerSession as Session};
use serde_json::json;

use crate::lab::{
    connection::{Caller, read_body},
    context::Context,
    message::{Answer, Request, response_head},
    seen::Outcome,
};

/// What a path below `/lab` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// Everything about the request, as JSON.
    Echo,
    /// Whom this TCP connection is authenticated as; never asks for credentials.
    WhoAmI,
    /// `count` pieces of `bytes` bytes, one every `every`; chunked, or with Content-Length.
    Drip { bytes: usize, every: Duration, count: usize, length: bool },
    /// Takes the body, answers its size and digest.
    Upload,
    /// This status.
    Status(u16),
    /// Never answers.
    Hang,
    /// Closes the connection instead of answering.
    Close,
    /// 401 before the body is read.
    Early401,
    /// 101, then every byte comes back.
    WebSocket,
}

/// Refuses sizes that would only fill memory: one piece of a drip.
const MAX_PIECE: u64 = 1 << 20;

impl Tool {
    /// The tool that `below`, the path after `/lab`, names.
    pub(super) fn new(request: &Request, below: &[String]) -> Option<Self> {
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        Some(match below.as_slice() {
            ["echo", ..] => Self::Echo,
            ["whoami"] => Self::WhoAmI,
            ["drip"] => Self::Drip {
                bytes: usize::try_from(request.number("bytes", 10).min(MAX_PIECE)).ok()?,
                every: Duration::from_millis(request.number("every", 100)),
                count: usize::try_from(request.number("count", 10)).ok()?,
                length: request.number("length", 0) == 1,
            },
            ["upload"] => Self::Upload,
            ["status", status] => match status.parse() {
                Ok(status @ 200..=599) => Self::Status(status),
                _ => return None,
            },
            ["hang"] => Self::Hang,
            ["close"] => Self::Close,
            ["early401"] => Self::Early401,
            ["websocket"] => Self::WebSocket,
            _ => return None,
        })
    }

    /// Whether the server keeps the request for longer than an answer takes.
    pub(super) fn holds(&self) -> bool {
        matches!(self, Self::Hang | Self::Drip { .. } | Self::WebSocket)
    }

    /// Does it. The connection is closed after any outcome but a status.
    pub(super) async fn perform(
        &self,
        session: &mut Session,
        context: &Context,
        caller: &Caller,
        request: &Request,
    ) -> pingora::Result<Outcome> {
        let answer = match self {
            Self::Echo => {
                let (length, digest) = digest_of_body(session, request).await?;
                echo(context, caller, &session.to_h1_raw(), length, &digest)
            }
            Self::WhoAmI => {
                let (length, _) = digest_of_body(session, request).await?;
                super::windows::who(context, caller, request, length)
            }
            Self::Upload => {
                let (length, digest) = digest_of_body(session, request).await?;
                Answer::json(200, &json!({ "bytes": length, "sha256": digest }))
            }
            Self::Status(status) => {
                digest_of_body(session, request).await?;
                Answer::error(*status, "Asked for")
            }
            Self::Early401 => {
                session.set_close_on_response_before_downstream_finish(false);
                super::tickets::windows()
            }
            Self::Drip { bytes, every, count, length } => {
                let head = drip_head(context, *bytes, *count, *length)?;
                session.write_response_header(Box::new(head)).await?;
                let piece = Bytes::from(vec![b'x'; *bytes]);
                for index in 0..*count {
                    if index > 0 {
                        tokio::time::sleep(*every).await;
                    }
                    session.write_response_body(piece.clone(), false).await?;
                }
                session.write_response_body(Bytes::new(), true).await?;
                return Ok(Outcome::Status(200));
            }
            Self::Hang => {
                // Ends when the client leaves, with an error; whatever it still sends is ignored.
                while session.read_body_or_idle(false).await?.is_some() {}
                session.read_body_or_idle(true).await?;
                return Ok(Outcome::ClientLeft);
            }
            Self::Close => return Ok(Outcome::Closed),
            Self::WebSocket => return web_socket(session, context, request).await,
        };
        caller.send(session, context, &answer).await?;
        Ok(Outcome::Status(answer.status))
    }
}

/// What arrived, with header lines in order and in their own letter case.
fn echo(context: &Context, caller: &Caller, raw: &[u8], length: u64, digest: &str) -> Answer {
    let text = String::from_utf8_lossy(raw);
    let mut lines = text.lines();
    let request_line = lines.next().unwrap_or_default();
    let headers: Vec<(&str, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
        .collect();
    Answer::json(
        200,
        &json!({
            "server": context.server.name,
            "fqdn": context.server.fqdn,
            "site": context.site,
            "address": context.address.ip().to_string(),
            "port": context.address.port(),
            "tls": caller.tls.is_some(),
            "tls_version": caller.tls.as_ref().map(|tls| tls.version.clone()),
            "sni": caller.tls.as_ref().and_then(|tls| tls.sni.clone()),
            "peer": caller.peer.to_string(),
            "connection": caller.id,
            "request_on_connection": caller.requests,
            "method": request_line.split(' ').next().unwrap_or_default(),
            "request_line": request_line,
            "headers": headers,
            "body_length": length,
            "body_sha256": digest,
        }),
    )
}

fn drip_head(
    context: &Context,
    bytes: usize,
    count: usize,
    length: bool,
) -> pingora::Result<ResponseHeader> {
    let mut head = response_head(200, &context.server.fqdn)?;
    head.append_header("Content-Type", "application/octet-stream")?;
    if length {
        head.append_header("Content-Length", bytes.saturating_mul(count).to_string())?;
    } else {
        head.append_header("Transfer-Encoding", "chunked")?;
    }
    Ok(head)
}

/// Length and SHA-256 of the request body, of any size.
async fn digest_of_body(
    session: &mut Session,
    request: &Request,
) -> pingora::Result<(u64, String)> {
    let mut sha = Sha256::new();
    let length = read_body(session, request, |piece| sha.update(piece)).await?;
    Ok((length, sha.finish().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// The handshake of RFC 6455, then bytes back and forth without looking at frames.
async fn web_socket(
    session: &mut Session,
    context: &Context,
    request: &Request,
) -> pingora::Result<Outcome> {
    let key = request.header("sec-websocket-key");
    let wanted = request.header("upgrade").is_some_and(|it| it.eq_ignore_ascii_case("websocket"));
    let accept = key.filter(|_| wanted).and_then(web_socket_accept);
    let Some(accept) = accept else {
        let answer = Answer::error(426, "Upgrade Required").with("Upgrade", "websocket");
        session.write_response_header(Box::new(answer.head(&context.server.fqdn)?)).await?;
        session.write_response_body(answer.body, true).await?;
        return Ok(Outcome::Status(426));
    };
    let mut head = ResponseHeader::build(101, Some(4))?;
    head.append_header("Upgrade", "websocket")?;
    head.append_header("Connection", "Upgrade")?;
    head.append_header("Sec-WebSocket-Accept", accept)?;
    session.write_response_header(Box::new(head)).await?;
    session.set_read_timeout(None);
    while let Some(bytes) = session.read_request_body().await? {
        session.write_response_body(bytes, false).await?;
    }
    Ok(Outcome::Status(101))
}

fn web_socket_accept(key: &str) -> Option<String> {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = hash::hash(hash::MessageDigest::sha1(), text.as_bytes()).ok()?;
    Some(boring::base64::encode_block(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(target: &str) -> Option<Tool> {
        let header = pingora::http::RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        let request = Request::new(&header);
        let path = request.path.clone().unwrap();
        Tool::new(&request, &path[1..])
    }

    #[test]
    fn web_socket_accept_is_that_of_the_rfc() {
        let accept = web_socket_accept("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn tools_are_named_by_path_and_query() {
        assert_eq!(tool("/lab/status/503"), Some(Tool::Status(503)));
        assert_eq!(tool("/lab/status/99"), None);
        assert_eq!(tool("/lab/echo/any/thing"), Some(Tool::Echo));
        assert_eq!(
            tool("/lab/drip?bytes=5&every=20&count=3&length=1"),
            Some(Tool::Drip { bytes: 5, every: Duration::from_millis(20), count: 3, length: true })
        );
        assert_eq!(tool("/lab/nonsense"), None);
    }
}
