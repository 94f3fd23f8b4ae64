//! Spans on their way to the collector: OTLP over HTTP, protobuf
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use log::warn;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use pingora::connectors::TransportConnector;
use prost::Message;
use tokio::{
    sync::{mpsc, watch},
    time::{timeout, timeout_at},
};

use super::{Counts, Orders, attributes::resource, report::Report};
use crate::{
    post::{Answer, Post, pause, post},
    site,
};

/// So many spans are posted at a time, and those of one request more.
const BATCH: usize = 512;
/// How long a span waits for others at most.
const EVERY: Duration = Duration::from_secs(5);
/// Attempts for one batch, with pauses of 1, 2 and 4 seconds between them.
const ATTEMPTS: u32 = 4;
/// What is read of an answer: which spans were rejected, and why.
const ANSWER: usize = 16 * 1024;

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// How many spans did not arrive.
    lost: usize,
    why: Option<String>,
    /// Whether another attempt may do better.
    again: bool,
}

/// Posts what is queued until the queue is closed, or all of it once the program stops.
pub(super) async fn keep_exporting(
    mut queue: mpsc::Receiver<Vec<Span>>,
    mut orders: watch::Receiver<Orders>,
    counts: Arc<Counts>,
) {
    let connector = TransportConnector::new(None);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut report = Report::default();
    while let Some(spans) = gather(&mut queue, &mut orders).await {
        let number = spans.len();
        let mut request = request(spans);
        let Some((collector, outcome)) =
            deliver(&connector, host.trim(), &mut request, &mut orders).await
        else {
            continue;
        };
        counts.sent.fetch_add((number - outcome.lost.min(number)) as u64, Ordering::Relaxed);
        counts.lost(outcome.lost);
        let (failure, dropped) = (outcome.why.as_deref(), counts.dropped.load(Ordering::Relaxed));
        if let Some(line) = report.ended(&collector, failure, dropped, Instant::now()) {
            warn!("{line}");
        }
    }
}

/// The next batch: what comes within five seconds of its first span, up to 512.
async fn gather(
    queue: &mut mpsc::Receiver<Vec<Span>>,
    orders: &mut watch::Receiver<Orders>,
) -> Option<Vec<Span>> {
    let mut batch = next(queue, orders).await?;
    let deadline = tokio::time::Instant::now() + EVERY;
    while batch.len() < BATCH {
        match timeout_at(deadline, next(queue, orders)).await {
            Ok(Some(more)) => batch.extend(more),
            _ => break,
        }
    }
    Some(batch)
}

/// The next spans; once the program stops, only those that are there.
async fn next(
    queue: &mut mpsc::Receiver<Vec<Span>>,
    orders: &mut watch::Receiver<Orders>,
) -> Option<Vec<Span>> {
    tokio::select! {
        biased;
        next = queue.recv() => next,
        true = closing(orders) => {
            queue.close();
            queue.recv().await
        }
        else => None,
    }
}

async fn closing(orders: &mut watch::Receiver<Orders>) -> bool {
    orders.wait_for(|orders| orders.closing).await.is_ok()
}

/// Tries until it is there, or trying makes no sense. Who took it or not, and what came of it;
/// `None`: nobody wants it any more.
async fn deliver(
    connector: &TransportConnector,
    host: &str,
    request: &mut ExportTraceServiceRequest,
    orders: &mut watch::Receiver<Orders>,
) -> Option<(String, Outcome)> {
    for attempt in 0.. {
        let Orders { to, closing } = orders.borrow_and_update().clone();
        let to = to?;
        let outcome = send(connector, host, request, &to).await;
        if !outcome.again || closing || attempt + 1 >= ATTEMPTS {
            return Some((to.endpoint.authority.clone(), outcome));
        }
        // Another address is tried at once, and a last time when the program stops.
        let _ = timeout(pause(attempt), orders.changed()).await;
    }
    None
}

async fn send(
    connector: &TransportConnector,
    host: &str,
    request: &mut ExportTraceServiceRequest,
    to: &site::Traces,
) -> Outcome {
    let spans = request.resource_spans.iter().flat_map(|of| &of.scope_spans);
    let spans = spans.map(|scope| scope.spans.len()).sum();
    for of in &mut request.resource_spans {
        let attributes = resource(&to.service_name, host);
        of.resource = Some(Resource { attributes, ..Resource::default() });
    }
    let body = request.encode_to_vec();
    let post = Post {
        to: &to.endpoint,
        kind: "application/x-protobuf",
        headers: &to.headers,
        body: &body,
        wanted: ANSWER,
    };
    match self::post(connector, &post).await {
        Ok(answer) => judge(&answer, spans),
        Err(why) => Outcome { lost: spans, why: Some(why), again: true },
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let all = ResourceSpans { resource: None, scope_spans, schema_url: String::new() };
    ExportTraceServiceRequest { resource_spans: vec![all] }
}

/// What an answer means: OTLP says which statuses are worth another attempt, and a collector may
/// take some spans and reject others.
fn judge(answer: &Answer, spans: usize) -> Outcome {
    match answer.status {
        200..=299 => {
            // A body that is cut or something else tells nothing.
            let read = ExportTraceServiceResponse::decode(answer.body.as_slice());
            let partly = read.ok().and_then(|read| read.partial_success).unwrap_or_default();
            match usize::try_from(partly.rejected_spans).unwrap_or_default() {
                0 => Outcome { lost: 0, why: None, again: false },
                lost => {
                    // Escaped: the log is ours.
                    let why = format!("{lost} spans rejected: {:?}", partly.error_message);
                    Outcome { lost: lost.min(spans), why: Some(why), again: false }
                }
            }
        }
        status => Outcome {
            lost: spans,
            why: Some(format!("status {status}")),
            again: matches!(status, 429 | 502 | 503 | 504),
        },
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    fn span() -> Vec<Span> {
        vec![Span::default()]
    }

    fn answer(status: u16, body: &[u8]) -> Answer {
        Answer { status, body: body.to_vec() }
    }

    #[test]
    fn an_answer_says_what_arrived() {
        for good in [&b""[..], b"{}", b"\xff\xff"] {
            let all = Outcome { lost: 0, why: None, again: false };
            assert_eq!(judge(&answer(200, good), 7), all);
        }
        let partly = |rejected_spans| {
            let error_message = "too\nold".to_owned();
            let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
            let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
            judge(&answer(200, &body), 7)
        };
        assert_eq!((partly(0).lost, partly(-1).lost, partly(99).lost), (0, 0, 7));
        let some = partly(3);
        assert_eq!((some.lost, some.again), (3, false));
        assert_eq!(some.why.unwrap(), "3 spans rejected: \"too\\nold\"");
        for (status, again) in [(429, true), (503, true), (500, false), (401, false), (302, false)]
        {
            let outcome = judge(&answer(status, b""), 7);
            assert_eq!((outcome.lost, outcome.again), (7, again), "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn batches_are_full_or_five_seconds_old() {
        let (to, mut queue) = mpsc::channel(4096);
        let orders = watch::Sender::new(Orders::default());
        let mut told = orders.subscribe();
        for _ in 0..600 {
            to.try_send(span()).unwrap();
        }
        let begun = tokio::time::Instant::now();
        assert_eq!(gather(&mut queue, &mut told).await.unwrap().len(), BATCH);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(gather(&mut queue, &mut told).await.unwrap().len(), 600 - BATCH);
        assert_eq!(begun.elapsed(), EVERY);

        // The end of the program waits for nothing.
        for _ in 0..3 {
            to.try_send(span()).unwrap();
        }
        orders.send_modify(|orders| orders.closing = true);
        assert_eq!(gather(&mut queue, &mut told).await.unwrap().len(), 3);
        assert_eq!(gather(&mut queue, &mut told).await, None);
        assert_eq!(begun.elapsed(), EVERY);
        assert!(to.try_send(span()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_ends_with_those_who_fill_it() {
        let (to, mut queue) = mpsc::channel(8);
        let orders = watch::Sender::new(Orders::default());
        let mut told = orders.subscribe();
        to.try_send(span()).unwrap();
        drop((to, orders));
        assert_eq!(gather(&mut queue, &mut told).await.unwrap().len(), 1);
        assert_eq!(gather(&mut queue, &mut told).await, None);
    }
}
