//! One TCP connection to a simulated server: its requests, one after the other.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;
use pingora::protocols::{Stream, http::ServerSession as Session};

use crate::lab::{
    context::Context,
    message::{Answer, Request},
    ntlm::Handshake,
    seen::{Outcome, Seen},
    sites::{self, Action},
    ucwa::Poll,
    windows,
};

/// http.sys closes a connection on which nothing came for this long.
const IDLE: Duration = Duration::from_secs(120);
/// More of a form or a SOAP message than this is dropped.
const MAX_KEPT_BODY: usize = 1 << 20;

/// Who is at the other end; lives as long as the TCP connection.
#[derive(Debug)]
pub(super) struct Caller {
    /// Number of the connection in the whole lab, from 1.
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    /// How many requests came on it, this one included.
    pub(super) requests: u64,
    pub(super) tls: Option<Tls>,
    /// Whom the connection is authenticated as.
    pub(super) handshake: Handshake,
}

/// What a TLS handshake settled.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) version: String,
    pub(super) sni: Option<String>,
}

/// Serves every request that comes on `stream`, until either side closes.
pub(super) async fn serve(
    stream: Stream,
    context: Arc<Context>,
    peer: SocketAddr,
    tls: Option<Tls>,
) {
    let mut caller = Caller {
        id: context.next_connection(),
        peer,
        requests: 0,
        tls,
        handshake: Handshake::default(),
    };
    let mut next = Some((stream, None));
    while let Some((stream, prefix)) = next {
        let mut session = Session::new_http1(stream);
        session.set_read_timeout(Some(IDLE));
        session.set_pipelining_enabled(true);
        if let Some(prefix) = prefix {
            session.set_pipelined_prefix(prefix);
        }
        next = match exchange(session, &context, &mut caller).await {
            Ok(reusable) => reusable,
            Err(error) => {
                log::debug!("{}: {error}", context.server.name);
                None
            }
        };
    }
}

type Next = Option<(Stream, Option<bytes::BytesMut>)>;

/// One request and its answer; the stream again when another request may follow.
async fn exchange(
    mut session: Session,
    context: &Context,
    caller: &mut Caller,
) -> pingora::Result<Next> {
    match session.read_request().await {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => {
            let answer = Answer::error(400, "Bad Request");
            caller.send(&mut session, context, &answer).await?;
            session.shutdown().await;
            return Err(error);
        }
    }
    caller.requests += 1;
    let request = Request::new(session.req_header());
    let record = Record::new(context, caller, &request);
    let outcome = match sites::action(context, &request) {
        Action::Answer(answer) => simple(&mut session, context, caller, &request, answer).await,
        Action::WithBody(make) => {
            let mut body = Vec::new();
            let keep = |piece: &[u8]| {
                let room = MAX_KEPT_BODY.saturating_sub(body.len());
                body.extend_from_slice(piece.get(..room).unwrap_or(piece));
            };
            read_body(&mut session, &request, keep).await?;
            let answer = make(context, &request, &body);
            caller.send(&mut session, context, &answer).await.map(|()| status(&answer))
        }
        Action::Windows => windows::serve(&mut session, context, caller, &request).await,
        Action::Hold(poll) => {
            record.publish(Outcome::Held);
            hold(&mut session, context, caller, &request, poll).await
        }
        Action::Tool(tool) => {
            if tool.holds() {
                record.publish(Outcome::Held);
            }
            tool.perform(&mut session, context, caller, &request).await
        }
    };
    record.publish(*outcome.as_ref().unwrap_or(&Outcome::ClientLeft));
    match outcome? {
        Outcome::Status(_) => {
            let reusable = session.finish().await?;
            Ok(reusable.map(pingora::protocols::http::server::ReusableHttpStream::into_parts))
        }
        Outcome::Held | Outcome::Closed | Outcome::ClientLeft => {
            session.shutdown().await;
            Ok(None)
        }
    }
}

/// Takes the body, then answers; but a 401 to a client that waits for 100 Continue comes at
/// once, as IIS refuses before it asks for the body.
async fn simple(
    session: &mut Session,
    context: &Context,
    caller: &Caller,
    request: &Request,
    answer: Answer,
) -> pingora::Result<Outcome> {
    if answer.status == 401 && request.expects_continue() {
        session.set_close_on_response_before_downstream_finish(false);
    } else {
        read_body(session, request, |_| ()).await?;
    }
    caller.send(session, context, &answer).await?;
    Ok(status(&answer))
}

/// Keeps a pending GET until its time is over, something ends it, or the client leaves.
async fn hold(
    session: &mut Session,
    context: &Context,
    caller: &Caller,
    request: &Request,
    mut poll: Poll,
) -> pingora::Result<Outcome> {
    read_body(session, request, |_| ()).await?;
    let end = tokio::select! {
        () = tokio::time::sleep(poll.hold) => None,
        end = &mut poll.end => end.ok(),
        left = session.read_body_or_idle(true) => {
            left?;
            return Ok(Outcome::ClientLeft);
        }
    };
    let answer = poll.answer(end);
    caller.send(session, context, &answer).await?;
    Ok(status(&answer))
}

fn status(answer: &Answer) -> Outcome {
    Outcome::Status(answer.status)
}

/// Reads the whole request body piece by piece, asking for it first where the client waits for
/// that; returns its length.
pub(super) async fn read_body(
    session: &mut Session,
    request: &Request,
    mut piece: impl FnMut(&[u8]),
) -> pingora::Result<u64> {
    if request.expects_continue() && !session.is_body_done() {
        session.write_continue_response().await?;
    }
    let mut length = 0;
    while let Some(bytes) = session.read_request_body().await? {
        length += bytes.len() as u64;
        piece(&bytes);
    }
    Ok(length)
}

impl Caller {
    /// Sends a complete answer.
    pub(super) async fn send(
        &self,
        session: &mut Session,
        context: &Context,
        answer: &Answer,
    ) -> pingora::Result<()> {
        session.write_response_header(Box::new(answer.head(&context.server.fqdn)?)).await?;
        session.write_response_body(answer.body.clone(), false).await?;
        session.write_response_body(Bytes::new(), true).await
    }
}

/// A request that is being served, for the record.
struct Record<'a> {
    context: &'a Context,
    seen: Seen,
    since: Instant,
}

impl<'a> Record<'a> {
    fn new(context: &'a Context, caller: &Caller, request: &Request) -> Self {
        let seen = Seen {
            at: Timestamp::now(),
            server: context.server.name,
            site: context.site,
            tls: context.tls,
            method: request.method.clone(),
            host: request.header("host").unwrap_or_default().to_owned(),
            target: request.target.clone(),
            outcome: Outcome::Held,
            took: Duration::ZERO,
            connection: caller.id,
            forwarded_for: request.header("x-forwarded-for").map(str::to_owned),
        };
        Self { context, seen, since: Instant::now() }
    }

    fn publish(&self, outcome: Outcome) {
        let seen = Seen { outcome, took: self.since.elapsed(), ..self.seen.clone() };
        // Fails only when nobody listens.
        let _ = self.context.seen.send(seen);
    }
}
