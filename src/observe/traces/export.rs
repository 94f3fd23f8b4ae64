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

use super::{Counts, Orders, Queued, attributes::resource, report::Report};
use crate::{
    post::{Answer, Post, pause, post},
    site,
};

/// So many spans are posted at a time, and those of one request more.
const BATCH: usize = 512;
/// So many bytes of spans are posted at a time, and those of one request more: web servers in front
/// of collectors take a megabyte as a rule.
const BYTES: usize = 512 * 1024;
/// How long a span waits for others at most.
const EVERY: Duration = Duration::from_secs(5);
/// Attempts for one batch, with pauses of 1, 2 and 4 seconds between them.
const ATTEMPTS: u32 = 4;
/// What is read of an answer: which spans were rejected, and why.
const ANSWER: usize = 16 * 1024;

/// What became of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// How many spans did not arrive.
    lost: usize,
    why: Option<String>,
    /// Whether another attempt may do better.
    again: bool,
    /// How long the collector wants to be left alone before that.
    wait: Option<Duration>,
}

/// Posts what is queued until the queue is closed, or all of it once the program stops.
pub(super) async fn keep_exporting(
    mut queue: mpsc::Receiver<Queued>,
    mut orders: watch::Receiver<Orders>,
    counts: Arc<Counts>,
) {
    let connector = TransportConnector::new(None);
    let host = crate::machine::name();
    let mut report = Report::default();
    while let Some(spans) = gather(&mut queue, &mut orders).await {
        let number = spans.len();
        let mut request = request(spans);
        let Some((collector, outcome)) =
            deliver(&connector, &host, &mut request, &mut orders).await
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

/// The next batch: what comes within five seconds of its first span, up to 512, or 512 KiB.
async fn gather(
    queue: &mut mpsc::Receiver<Queued>,
    orders: &mut watch::Receiver<Orders>,
) -> Option<Vec<Span>> {
    let Queued { spans: mut batch, mut length, .. } = next(queue, orders).await?;
    let deadline = tokio::time::Instant::now() + EVERY;
    while batch.len() < BATCH && length < BYTES {
        match timeout_at(deadline, next(queue, orders)).await {
            Ok(Some(more)) => {
                batch.extend(more.spans);
                length += more.length;
            }
            _ => break,
        }
    }
    Some(batch)
}

/// The next spans; once the program stops, only those that are there.
async fn next(
    queue: &mut mpsc::Receiver<Queued>,
    orders: &mut watch::Receiver<Orders>,
) -> Option<Queued> {
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
        let _ = timeout(pause(attempt, outcome.wait), orders.changed()).await;
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
        Ok(answer) => judge(&answer, spans, body.len()),
        Err(why) => Outcome { lost: spans, why: Some(why), again: true, wait: None },
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
fn judge(answer: &Answer, spans: usize, sent: usize) -> Outcome {
    match answer.status {
        200..=299 => {
            // A body that is cut or something else tells nothing.
            let read = ExportTraceServiceResponse::decode(answer.body.as_slice());
            let partly = read.ok().and_then(|read| read.partial_success).unwrap_or_default();
            match usize::try_from(partly.rejected_spans).unwrap_or_default() {
                0 => Outcome::default(),
                lost => {
                    // Escaped: the log is ours.
                    let why = format!("{lost} spans rejected: {:?}", partly.error_message);
                    Outcome { lost: lost.min(spans), why: Some(why), ..Outcome::default() }
                }
            }
        }
        413 => {
            let why = format!("status 413: it, or what is in front of it, takes no {sent} bytes");
            Outcome { lost: spans, why: Some(why), ..Outcome::default() }
        }
        status => Outcome {
            lost: spans,
            why: Some(format!("status {status}")),
            again: matches!(status, 429 | 502 | 503 | 504),
            wait: answer.retry_after.filter(|_| matches!(status, 429 | 503)),
        },
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
    use tokio::sync::Semaphore;

    use super::*;

    fn spans(name: String) -> Queued {
        let spans = vec![Span { name, ..Span::default() }];
        Queued::new(spans, &Arc::new(Semaphore::new(1024 * 1024))).unwrap()
    }

    fn span() -> Queued {
        spans(String::new())
    }

    fn answer(status: u16, body: &[u8]) -> Answer {
        Answer { status, retry_after: Some(Duration::from_secs(9)), body: body.to_vec() }
    }

    #[test]
    fn an_answer_says_what_arrived() {
        for good in [&b""[..], b"{}", b"\xff\xff"] {
            assert_eq!(judge(&answer(200, good), 7, 42), Outcome::default());
        }
        let partly = |rejected_spans| {
            let error_message = "too\nold".to_owned();
            let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
            let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
            judge(&answer(200, &body), 7, 42)
        };
        assert_eq!((partly(0).lost, partly(-1).lost, partly(99).lost), (0, 0, 7));
        let some = partly(3);
        assert_eq!((some.lost, some.again), (3, false));
        assert_eq!(some.why.unwrap(), "3 spans rejected: \"too\\nold\"");
        for (status, again) in [(429, true), (503, true), (500, false), (401, false), (302, false)]
        {
            let outcome = judge(&answer(status, b""), 7, 42);
            assert_eq!((outcome.lost, outcome.again), (7, again), "{status}");
        }
        let waits = |status| judge(&answer(status, b""), 7, 42).wait.is_some();
        assert!(waits(429) && waits(503) && !waits(502), "OTLP names these two");
        let outcome = judge(&answer(413, b""), 7, 1_700_000);
        assert!(!outcome.again && outcome.why.unwrap().contains("1700000 bytes"));
    }

    #[tokio::test(start_paused = true)]
    async fn batches_end_where_web_servers_would_refuse_them() {
        let (to, mut queue) = mpsc::channel(4096);
        let mut told = watch::Sender::new(Orders::default()).subscribe();
        let long = "x".repeat(10 * 1024);
        for _ in 0..100 {
            to.try_send(spans(long.clone())).unwrap();
        }
        let batch = gather(&mut queue, &mut told).await.unwrap();
        assert_eq!(batch.len(), 52);
        let sent = request(batch).encoded_len();
        assert!((BYTES..BYTES + 2 * long.len()).contains(&sent), "{sent}");
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
