//! Events as they happen: server-sent events (WHATWG HTML, 9.2).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use pingora::{
    apps::{HttpServerApp, ReusedHttpStream, http_app::ServeHttp},
    http::ResponseHeader,
    protocols::http::ServerSession,
    server::ShutdownWatch,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};

use super::{
    answer::{Answer, Problem},
    api,
    app::Visit,
    events::Wanted,
    guard,
};
use crate::events::{Event, Follower};

/// Streams at a time; a dashboard has one.
pub(super) const STREAMS: usize = 64;

/// A comment is sent after this much silence, so that whoever is between does not hang up.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a reader may leave what was sent unread.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers one connection, whole or as a stream.
pub(super) struct Caller {
    visit: Visit,
    streams: AtomicBool,
}

impl Caller {
    pub(super) fn new(visit: Visit) -> Self {
        Self { visit, streams: AtomicBool::new(false) }
    }

    /// Whether it became a stream, which has all the time there is.
    pub(super) fn streams(&self) -> bool {
        self.streams.load(Ordering::Acquire)
    }

    /// Whether it waits for a reload, which may take longer than an answer.
    pub(super) fn waits(&self) -> bool {
        self.visit.peer.waits.now()
    }
}

#[async_trait]
impl HttpServerApp for Caller {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !matches!(session.read_request().await, Ok(true)) {
            return None;
        }
        session.set_keepalive(None);
        let opened = if wants_stream(&session) { Some(open(&self.visit, &session)) } else { None };
        match opened {
            Some(Ok((follower, place))) => {
                self.streams.store(true, Ordering::Release);
                // SECURITY: whoever reads no more, or went away, gets no goodbye: writing one would
                // wait for the reader as long as he likes.
                if serve(&mut session, follower, shutdown.clone()).await.is_ok() {
                    let _ = timeout(PATIENCE, session.finish()).await;
                }
                drop(place);
                return None;
            }
            Some(Err(problem)) => send(&mut session, problem.answer()).await,
            None => {
                let answer = self.visit.response(&mut session).await;
                send(&mut session, answer).await;
            }
        }
        let _ = session.finish().await;
        None
    }
}

async fn send(session: &mut ServerSession, answer: Answer) {
    let (head, body) = answer.into_parts();
    if session.write_response_header(Box::new(head.into())).await.is_ok() && !body.is_empty() {
        let _ = session.write_response_body(body.into(), true).await;
    }
}

/// Whether the request is for a stream: by its path, or by what it accepts.
fn wants_stream(session: &ServerSession) -> bool {
    let request = session.req_header();
    match request.uri.path().strip_prefix(api::PREFIX) {
        Some("events/stream") => true,
        Some("events") => accepts_stream(&request.headers),
        _ => false,
    }
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    accepted.flat_map(|list| list.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("text/event-stream")
    })
}

/// What a stream follows, and its place among the streams.
type Opened = (Follower, OwnedSemaphorePermit);

fn open(visit: &Visit, session: &ServerSession) -> Result<Opened, Problem> {
    let request = session.req_header();
    let (app, headers) = (&visit.app, &request.headers);
    if !visit.is_known_host(headers) {
        let text = "this Host is not served here";
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, text));
    }
    let Some(access) = &app.api else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "not found"));
    };
    api::allows(&request.method, &[Method::GET], "GET")?;
    if access.to_read {
        guard::may_read(headers, &access.token)?;
    }
    let events = &app.context.events;
    let Wanted { after, limit } = Wanted::of(request.uri.query())?;
    // A browser that comes back says where it was, whatever the URL said at first.
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let after = match seen.or(after) {
        Some(id) => id,
        None => events.last_but(limit.unwrap_or(0)),
    };
    // SECURITY: streams take connections for long, so there are few of them.
    // Test: events::streams_are_few_and_end_with_the_listener (black box)
    let place = app.context.streams.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("there are {STREAMS} streams"))
    })?;
    Ok((events.follow(after), place))
}

async fn serve(
    session: &mut ServerSession,
    mut follower: Follower,
    mut shutdown: ShutdownWatch,
) -> pingora::Result<()> {
    let mut head = ResponseHeader::build(StatusCode::OK, None)?;
    head.insert_header(header::CONTENT_TYPE, "text/event-stream")?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    head.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    session.write_response_header(Box::new(head)).await?;
    write(session, "retry: 2000\n\n".to_owned()).await?;
    loop {
        let text = tokio::select! {
            // Stopped, or the sender is gone.
            _ = shutdown.wait_for(|stop| *stop) => break,
            event = follower.next() => frames(&event, follower.missed()),
            () = sleep(HEARTBEAT) => ":\n\n".to_owned(),
        };
        write(session, text).await?;
    }
    let end = session.write_response_body(Bytes::new(), true);
    timeout(PATIENCE, end).await.unwrap_or_else(|_| slow_reader())
}

fn slow_reader<T>() -> pingora::Result<T> {
    pingora::Error::e_explain(pingora::ErrorType::WriteTimedout, "a slow reader")
}

async fn write(session: &mut ServerSession, text: String) -> pingora::Result<()> {
    let written = session.write_response_body(text.into(), false);
    timeout(PATIENCE, written).await.unwrap_or_else(|_| slow_reader())
}

/// An event as it is sent; `missed` ones before it were not kept long enough.
fn frames(event: &Event, missed: u64) -> String {
    let gap = match missed {
        0 => String::new(),
        missed => format!("event: missed\ndata: {{\"missed\":{missed}}}\n\n"),
    };
    // JSON has no line ends of its own.
    let json = serde_json::to_string(event).unwrap_or_default();
    format!("{gap}id: {}\ndata: {json}\n\n", event.id)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::events::{Events, News, code};

    #[test]
    fn an_event_is_one_frame_whatever_its_text() {
        let events = Events::default();
        events.tell(News::new(code::SERVER_DOWN, "a\nb\r\n\nid: 7"));
        let event = events.latest(1).remove(0);
        let frame = frames(&event, 0);
        let lines: Vec<_> = frame.lines().collect();
        assert_eq!(lines.len(), 3, "{frame}");
        assert_eq!(lines[0], format!("id: {}", event.id));
        let data = lines[1].strip_prefix("data: ").unwrap();
        assert_eq!(serde_json::from_str::<Event>(data).unwrap(), *event);
        let gap = frames(&event, 3);
        assert!(gap.starts_with("event: missed\ndata: {\"missed\":3}\n\nid: "), "{gap}");
    }

    #[test]
    fn browsers_ask_by_what_they_accept() {
        let accepts = |value: &'static str| {
            let fields = [(header::ACCEPT, HeaderValue::from_static(value))];
            accepts_stream(&HeaderMap::from_iter(fields))
        };
        assert!(accepts("text/event-stream") && accepts("text/html, Text/Event-Stream;q=0.9"));
        assert!(!accepts("*/*") && !accepts("application/json") && !accepts(""));
        assert!(!accepts_stream(&HeaderMap::new()));
    }
}
