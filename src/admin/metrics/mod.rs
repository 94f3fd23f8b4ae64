//! `/metrics`: what Prometheus is told.

mod collect;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{Method, StatusCode};
use pingora::protocols::http::ServerSession;

use self::collect::{Sources, page};
use super::{
    answer::{self, Answer, Problem, text},
    app::Access,
    context::Context,
    guard,
};
use crate::{events::Events, forward::Current, listen::Connections};

/// Where it is served.
pub(super) const PATH: &str = "/metrics";

/// The type of the text format of Prometheus.
const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the metrics are read from.
#[derive(Clone)]
pub struct Scrape {
    current: Arc<Current>,
    connections: Arc<Connections>,
}

impl Scrape {
    /// Reads these.
    pub fn new(current: Arc<Current>, connections: Arc<Connections>) -> Self {
        Self { current, connections }
    }

    fn page(&self, events: &Events) -> String {
        let live = self.current.load();
        page(&Sources {
            site: &live.site,
            farms: &live.farms,
            pins: &live.pins,
            metrics: &self.current.metrics,
            connections: &self.connections,
            log_dropped: self.current.log.dropped(),
            undelivered: events.undelivered(),
            spans: (self.current.traces.sent(), self.current.traces.dropped()),
        })
    }
}

/// Answers a request for [`PATH`]. Where reading needs the token (`access`), it needs it too.
pub(super) async fn answer(
    session: &ServerSession,
    access: Option<&Access>,
    context: &Context,
) -> Answer {
    let request = session.req_header();
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD");
        return Problem { allow: Some("GET, HEAD"), ..problem }.answer();
    }
    if let Some(access) = access.filter(|access| access.to_read)
        && let Err(problem) = guard::knows_token(&request.headers, &access.token)
    {
        return problem.answer();
    }
    let Some(scrape) = context.scrape.get().cloned() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "Frontgate is still starting\n");
    };
    let events = context.events.clone();
    let work = move || answer::answer(StatusCode::OK, KIND, scrape.page(&events).into_bytes());
    context.scrapes.write(work).await
}
