//! The deadline for a silent request body on HTTP/2, where Pingora has none.
//!
//! A stream is served by one task; what that task needs to tell is task-local.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

tokio::task_local! {
    static BODY: Arc<Body>;
}

#[derive(Default)]
struct Body {
    /// How long the client may stay silent, since when, and what it asked for; while a body is
    /// expected.
    expected: Mutex<Option<(Duration, Instant, String)>>,
    announced: Notify,
}

/// A request whose body stopped.
pub(super) struct Stalled {
    /// `METHOD path HTTP/2.0`, for the log.
    pub(super) request: String,
    /// When its last byte came.
    pub(super) begun: Instant,
}

/// Says that a body is expected from now on; outside of an HTTP/2 stream it does nothing.
pub fn expect(patience: Duration, request: impl FnOnce() -> String) {
    let _ = BODY.try_with(|body| {
        *body.lock() = Some((patience, Instant::now(), request()));
        body.announced.notify_one();
    });
}

/// Says that bytes came, or that the body is over.
pub fn progress(end: bool) {
    let _ = BODY.try_with(|body| match &mut *body.lock() {
        expected @ Some(_) if end => *expected = None,
        Some((_, since, _)) => *since = Instant::now(),
        None => {}
    });
}

/// Runs a request; drops it, and tells which, when its body stops for too long.
///
/// SECURITY: a stalled upload must not hold its server connection until the farm's timeout.
/// Test: h2_body_that_stalls_ends
pub(super) async fn watched<T>(request: impl Future<Output = T>) -> Option<Stalled> {
    let body = Arc::new(Body::default());
    tokio::select! {
        biased;
        _ = BODY.scope(body.clone(), request) => None,
        stalled = body.stalled() => Some(stalled),
    }
}

impl Body {
    fn lock(&self) -> MutexGuard<'_, Option<(Duration, Instant, String)>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stalled(&self) -> Stalled {
        loop {
            let left = match &*self.lock() {
                None => None,
                Some((patience, since, request)) => {
                    let left = patience.saturating_sub(since.elapsed());
                    if left.is_zero() {
                        return Stalled { request: request.clone(), begun: *since };
                    }
                    Some(left)
                }
            };
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => self.announced.notified().await,
            }
        }
    }
}
