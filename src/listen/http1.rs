//! HTTP/1 connections: every header is read and inspected here, under one deadline, before
//! Pingora sees it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use pingora::{
    apps::HttpServerApp,
    protocols::{Stream, http::ServerSession},
    proxy::{HttpProxy, ProxyHttp},
    server::ShutdownWatch,
};
use tokio::{
    io::AsyncWriteExt,
    time::{timeout, timeout_at},
};

use super::{Connection, Settings, Stopping, View, gate::Gate};
use crate::{
    guard::{BodyEnd, Framing, Head, find_end, inspect, origin_form},
    reason::{self, Reason},
};

/// How long a refused client may take to accept its answer.
const REFUSAL: Duration = Duration::from_secs(5);

/// What `forward` is told about a request before it starts.
pub struct Arrival {
    /// The connection it came on.
    pub connection: Arc<Connection>,
    /// When its first byte was read.
    pub started: Instant,
}

/// What came instead of a request.
enum Next {
    Request(BytesMut, Head),
    /// The client closed, or stayed silent between requests.
    Gone,
    /// The client closed inside a header.
    Left(BytesMut),
    /// Not acceptable; the bytes read so far are for the log.
    Refused(Reason, BytesMut),
}

/// A request that never became one, for the access log.
pub struct Refusal<'a> {
    /// The connection it came on.
    pub connection: &'a Connection,
    /// When its first byte was read.
    pub started: Instant,
    /// What was read of the header.
    pub head: &'a [u8],
    /// Why it was refused.
    pub reason: Reason,
    /// Bytes of the answer.
    pub sent: usize,
}

/// Serves one HTTP/1 connection until either end closes it.
pub(super) async fn serve<SV>(
    stream: Stream,
    connection: Arc<Connection>,
    proxy: &Arc<HttpProxy<SV>>,
    view: &dyn View,
    stopping: Stopping,
) where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    let mut gate = Box::new(Gate::new(stream, connection.clone()));
    // `forward` says with each answer whether it is the last one.
    let mut at_once = stopping.at_once;
    let mut first = true;
    loop {
        let Some(settings) = view.settings(&connection.listener) else { return };
        let mut started = Instant::now();
        let next = read_head(&mut gate, &settings, first, &mut started, &mut at_once).await;
        first = false;
        let (bytes, head) = match next {
            Next::Request(bytes, head) => (bytes, head),
            Next::Gone => return,
            Next::Left(bytes) => {
                let (reason, head) = (reason::CLIENT_LEFT, &bytes);
                let connection = &connection;
                return view.refused(&Refusal { connection, started, head, reason, sent: 0 });
            }
            Next::Refused(reason, bytes) => {
                let sent = refuse(&mut gate, reason).await;
                let head = &bytes;
                view.refused(&Refusal { connection: &connection, started, head, reason, sent });
                return;
            }
        };
        gate.begin(BodyEnd::new(head.framing));
        let mut session = ServerSession::new_http1(gate);
        session.set_pipelined_prefix(bytes);
        let arrival = Arrival { connection: connection.clone(), started };
        session.set_connection_user_context(Some(Box::new(arrival)));
        let Some(reused) = proxy.process_new_http(session, &at_once).await else { return };
        let (stream, _) = reused.consume();
        let Ok(same) = stream.into_any().downcast::<Gate>() else { return };
        // SECURITY: what is left of a body is no header. Test: an_unread_body_is_no_request
        if !same.at_end() {
            return;
        }
        gate = same;
    }
}

/// Waits for a request and reads its whole header.
///
/// SECURITY: one deadline from the first byte to the end of the header (Slowloris), a separate
/// one for silence between requests. Test: slow_header_is_answered_408_and_idle_connection_closes.
async fn read_head(
    gate: &mut Gate,
    settings: &Settings,
    first: bool,
    started: &mut Instant,
    shutdown: &mut ShutdownWatch,
) -> Next {
    let limits = &settings.site_limits;
    let mut scanned = 0;
    let idle = if first { limits.header_timeout } else { limits.keep_alive };
    let mut deadline = tokio::time::Instant::now() + idle;
    skip_empty_line(&mut gate.ahead);
    let mut waiting = gate.ahead.is_empty();
    if !waiting {
        deadline = tokio::time::Instant::now() + limits.header_timeout;
    }
    loop {
        if let Some(end) = find_end(&gate.ahead, scanned) {
            let bytes = gate.take_head(end);
            return match inspect(&bytes, &settings.head_limits) {
                // Servers expect the origin form.
                Ok(head) if head.absolute => Next::Request(origin_form(&bytes, &head), head),
                Ok(head) => Next::Request(bytes, head),
                Err(reason) => Next::Refused(reason, bytes),
            };
        }
        if gate.ahead.len() >= limits.header_size {
            return Next::Refused(reason::HEADER_TOO_LARGE, gate.ahead.split());
        }
        scanned = gate.ahead.len();
        let read = if waiting {
            tokio::select! {
                biased;
                read = timeout_at(deadline, gate.read_ahead()) => read,
                // Between requests nothing is owed: a stopping listener closes at once.
                _ = shutdown.wait_for(|stop| *stop) => return Next::Gone,
            }
        } else {
            timeout_at(deadline, gate.read_ahead()).await
        };
        match read {
            Ok(Ok(0)) | Ok(Err(_)) if waiting => return Next::Gone,
            Ok(Ok(0)) | Ok(Err(_)) => return Next::Left(gate.ahead.split()),
            Ok(Ok(_)) if waiting => {
                // COMPAT: old browsers send an empty line behind a body (RFC 9112 2.2); it does
                // not begin a request.
                skip_empty_line(&mut gate.ahead);
                if gate.ahead.is_empty() || *gate.ahead == b"\r"[..] {
                    continue;
                }
                waiting = false;
                *started = Instant::now();
                deadline = tokio::time::Instant::now() + limits.header_timeout;
            }
            Ok(Ok(_)) => {}
            Err(_) if waiting => return Next::Gone,
            Err(_) => return Next::Refused(reason::HEADER_TIMEOUT, gate.ahead.split()),
        }
    }
}

fn skip_empty_line(ahead: &mut BytesMut) {
    if ahead.starts_with(b"\r\n") {
        ahead.advance(2);
    }
}

/// Answers a request that Pingora never sees, and closes.
async fn refuse(gate: &mut Gate, reason: Reason) -> usize {
    let answer = plain_answer(reason);
    // The client may go on sending its request: the gate closes in good order.
    gate.begin(BodyEnd::new(Framing::Length(u64::MAX)));
    let written = timeout(REFUSAL, async {
        gate.write_all(answer.as_bytes()).await?;
        gate.flush().await
    });
    if matches!(written.await, Ok(Ok(()))) { answer.len() } else { 0 }
}

/// A whole HTTP/1.1 answer with the reason code; it names no product and no version.
fn plain_answer(reason: Reason) -> String {
    let status = http::StatusCode::from_u16(reason.status).unwrap_or(http::StatusCode::BAD_REQUEST);
    let body = reason.body();
    format!(
        "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
        body
    )
}
