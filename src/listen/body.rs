//! The deadline for a silent request body on HTTP/2, where Pingora has none.
//!
//! A stream is served by one task; what that task needs to tell is task-local.

use std::{
    future::Future,
    os::fd::RawFd,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::Handle;
use crate::lock::lock;

tokio::task_local! {
    static BODY: Arc<Body>;
}

#[derive(Default)]
struct Body {
    state: Mutex<State>,
    announced: Notify,
}

#[derive(Default)]
struct State {
    /// While a body is expected.
    expected: Option<Expected>,
    stalled: bool,
}

struct Expected {
    /// How long the client may stay silent, and since when it is.
    patience: Duration,
    since: Instant,
    /// The connection to the server, which is shut down to end the request.
    server: Handle,
}

/// Says that a body is expected from now on, for the server at this descriptor; outside of an
/// HTTP/2 stream it does nothing.
pub fn expect(patience: Duration, server: RawFd) {
    let Some(server) = Handle::of(server) else { return };
    let _ = BODY.try_with(|body| {
        body.lock().expected = Some(Expected { patience, since: Instant::now(), server });
        body.announced.notify_one();
    });
}

/// Says that bytes came, in whichever direction.
pub fn progress() {
    let _ = BODY.try_with(|body| {
        if let Some(expected) = &mut body.lock().expected {
            expected.since = Instant::now();
        }
    });
}

/// Says that the body is over.
pub fn end() {
    let _ = BODY.try_with(|body| body.lock().expected = None);
}

/// Whether the request was ended because its body stopped.
pub fn stalled() -> bool {
    BODY.try_with(|body| body.lock().stalled).unwrap_or(false)
}

/// Runs a request and ends it when its body stops for too long: the connection to its server is
/// shut down, so that it fails, is answered and logged as any other.
///
/// SECURITY: a stalled upload must not hold its server connection until the farm's timeout.
/// Test: h2_body_that_stalls_ends
pub(super) async fn watched<T>(request: impl Future<Output = T>) -> T {
    let body = Arc::new(Body::default());
    let request = BODY.scope(body.clone(), request);
    tokio::pin!(request);
    tokio::select! {
        biased;
        done = &mut request => return done,
        () = body.watch() => {}
    }
    request.await
}

impl Body {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Resolves when the body has stopped.
    async fn watch(&self) {
        loop {
            let left = self.left();
            match left {
                None => self.announced.notified().await,
                Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
            }
        }
    }

    /// How long the client may still be silent; `None` while no body is expected. Nothing left:
    /// the request is on its way to its end.
    fn left(&self) -> Option<Duration> {
        let mut state = self.lock();
        let expected = state.expected.as_mut()?;
        let left = expected.patience.saturating_sub(expected.since.elapsed());
        if !left.is_zero() {
            return Some(left);
        }
        // It is the server who is waited for: nobody reads what the client sends.
        if expected.server.unsent() > 0 {
            expected.since = Instant::now();
            return Some(expected.patience);
        }
        expected.server.shut_down();
        state.expected = None;
        state.stalled = true;
        Some(Duration::ZERO)
    }
}
