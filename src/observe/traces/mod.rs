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
use opentelemetry_proto::tonic::{common::v1::KeyValue, trace::v1::Span};
use prost::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

pub use self::{
    span::Seen,
    trace::{Target, Trace},
};
use crate::{lock::lock, site};

/// Requests whose spans may wait for the collector: 10 MiB as a rule.
const QUEUE: usize = 4096;
/// Bytes that they may take, whatever clients send and however many attempts there were.
const ROOM: usize = 32 * 1024 * 1024;

/// What an attribute takes besides its text.
const ATTRIBUTE: usize = size_of::<KeyValue>();

/// Where spans go.
#[derive(Debug)]
pub struct Traces {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    orders: watch::Sender<Orders>,
    counts: Arc<Counts>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The spans of one request, on their way.
#[derive(Debug)]
struct Queued {
    spans: Vec<Span>,
    /// How long they are as they are sent.
    length: usize,
    /// Their place in memory; free once they have left the queue.
    _held: OwnedSemaphorePermit,
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
        Self { queue, room: Arc::new(Semaphore::new(ROOM)), orders, counts, task }
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
        let queued = self.queue.try_reserve().ok().and_then(|place| {
            place.send(Queued::new(span::spans(trace, seen), &self.room)?);
            Some(())
        });
        if queued.is_none() {
            self.counts.lost(trace.spans());
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

impl Queued {
    /// `None`: there is no room for them.
    fn new(spans: Vec<Span>, room: &Arc<Semaphore>) -> Option<Self> {
        let length = spans.iter().map(Message::encoded_len).sum();
        let parts = |span: &Span| size_of::<Span>() + span.attributes.capacity() * ATTRIBUTE;
        let size = spans.iter().map(parts).sum::<usize>() + length;
        let held = room.clone().try_acquire_many_owned(u32::try_from(size).ok()?).ok()?;
        Some(Self { spans, length, _held: held })
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
    use crate::{
        observe::testing::{access, all_of},
        site::LogQuery,
    };

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

    /// The longest texts, and as many attempts as are told.
    #[tokio::test]
    async fn large_spans_fill_the_queue_before_there_are_many() {
        let traces = Traces::start(None);
        let long = "x".repeat(60_000);
        let access = all_of(&long);
        let (query, https) = (LogQuery::Full, true);
        let seen =
            Seen { access: &access, query, https, rewritten: None, reason: None, answered: true };
        let now = Instant::now();
        let mut trace = Trace::begin(100, None, now).unwrap();
        for _ in 0..20 {
            let (server, address) = ("fe01".into(), "10.0.0.1:443".parse().unwrap());
            trace.attempt(Target { server, host: None, address, https }, now);
        }
        assert_eq!(trace.spans(), 9);
        let mut queued = 0;
        while traces.dropped() == 0 {
            traces.ended(&trace, &seen);
            queued += 1;
        }
        assert_eq!(traces.dropped(), 9, "counted by spans");
        assert!((100..QUEUE).contains(&queued), "{queued}");
        let text =
            queued * span::spans(&trace, &seen).iter().map(Message::encoded_len).sum::<usize>();
        assert!(text > ROOM / 2, "most of it is what is sent: {text} of {ROOM}");
        // Once the task that sends them has its turn, there is room again.
        tokio::task::yield_now().await;
        traces.ended(&trace, &seen);
        assert_eq!(traces.dropped(), 9);
    }
}
