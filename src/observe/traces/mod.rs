//! Traces: what happened to a request, as spans for OpenTelemetry.
//!
//! A request carries a [`Trace`]. When it has ended, its spans are made from the same facts as its
//! line of the access log, and queued; a task posts them to the collector. Nothing waits for that.

mod attributes;
mod context;
mod export;
mod report;
mod span;
mod trace;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use log::warn;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

pub use self::{
    span::Seen,
    trace::{Target, Trace},
};
use crate::{lock::lock, site};

/// Requests whose spans may wait for the collector. What a client sends is cut in each of them, so
/// that they take 10 MiB as a rule and 70 MiB at the very most.
const QUEUE: usize = 4096;

/// Where spans go.
#[derive(Debug)]
pub struct Traces {
    queue: mpsc::Sender<Vec<Span>>,
    orders: watch::Sender<Orders>,
    counts: Arc<Counts>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the task that posts them has to do.
#[derive(Clone, Debug, Default)]
struct Orders {
    /// Where to; `None`: traces are off.
    to: Option<Arc<site::Traces>>,
    /// Whether the program stops.
    closing: bool,
}

/// What became of spans.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Traces {
    /// Sends spans there; nothing is sent while there is no address.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(to: Option<&site::Traces>) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE);
        let orders = Orders { to: to.cloned().map(Arc::new), closing: false };
        let orders = watch::Sender::new(orders);
        let counts = Arc::<Counts>::default();
        let task = export::keep_exporting(queued, orders.subscribe(), counts.clone());
        let task = Mutex::new(Some(tokio::spawn(task)));
        Self { queue, orders, counts, task }
    }

    /// They go there from now on, also those that wait.
    pub fn follow(&self, to: Option<&site::Traces>) {
        self.orders.send_if_modified(|orders| {
            let other = orders.to.as_deref() != to;
            if other {
                orders.to = to.cloned().map(Arc::new);
            }
            other
        });
    }

    /// A request has ended: queues its spans, if it is traced. Never waits; what finds no room is
    /// dropped and counted.
    pub fn ended(&self, trace: &Trace, seen: &Seen<'_>) {
        if !trace.sampled() {
            return;
        }
        match self.queue.try_reserve() {
            Ok(place) => place.send(span::spans(trace, seen)),
            Err(_) => self.counts.lost(trace.spans()),
        }
    }

    /// Spans that the collector took.
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    /// Spans that were lost: no room in the queue, or the collector did not take them.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// Sends what is queued, but not for long: for the end of the program.
    pub async fn finish(&self, patience: Duration) {
        self.orders.send_modify(|orders| orders.closing = true);
        let task = lock(&self.task).take();
        let Some(mut task) = task else { return };
        if timeout(patience, &mut task).await.is_err() {
            task.abort();
            warn!("traces: the last spans were not sent before the stop");
        }
    }
}

impl Counts {
    fn lost(&self, spans: usize) {
        self.dropped.fetch_add(spans as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{observe::testing::access, site::LogQuery};

    /// On this one thread the task that empties the queue never has its turn.
    #[tokio::test]
    async fn a_full_queue_holds_nobody_up_and_is_counted() {
        let traces = Traces::start(None);
        let access = access();
        let (query, https) = (LogQuery::Masked, true);
        let (access, answered) = (&access, true);
        let seen = Seen { access, answered, query, https, rewritten: None, reason: None };
        let trace = |share| Trace::begin(share, None, Instant::now()).unwrap();
        for _ in 0..QUEUE {
            traces.ended(&trace(100), &seen);
        }
        assert_eq!(traces.dropped(), 0);
        let mut retried = trace(100);
        let (server, address) = ("fe01".into(), "10.0.0.1:443".parse().unwrap());
        retried.attempt(Target { server, host: None, address, https }, Instant::now());
        traces.ended(&trace(0), &seen);
        traces.ended(&retried, &seen);
        traces.ended(&trace(100), &seen);
        assert_eq!((traces.dropped(), traces.sent()), (3, 0));
        // Traces are off: what was queued is of no use to anybody, and is not missed.
        traces.finish(Duration::from_secs(10)).await;
        assert_eq!((traces.dropped(), traces.sent()), (3, 0));
    }
}
