//! HTTP/2 connections: Pingora's server, with deadlines of our own around it.
//!
//! Pingora's accept loop waits for a preface for ever, and after a GOAWAY for ever as well.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pingora::{
    apps::HttpServerApp,
    protocols::{
        Digest, Stream,
        http::{
            ServerSession,
            v2::server::{H2Accept, HttpSession, default_h2_options, handshake},
        },
    },
    proxy::{HttpProxy, ProxyHttp},
    server::ShutdownWatch,
};
use tokio::{sync::Notify, time::timeout};

use super::{Connection, Refusal, Settings, View, body};
use crate::reason::{BAD_HEADER, BODY_TIMEOUT, Reason};

/// Malformed streams a connection may open before it is closed.
const MALFORMED: usize = 32;
/// How long a stopping connection without a stream may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves one HTTP/2 connection until either end closes it.
///
/// SECURITY: streams, header lists, malformed streams and idle time are bounded, from the preface
/// on (rapid reset is bounded in h2 itself). Tests: h2_idle_connection_closes,
/// h2_without_a_preface_closes
pub(super) async fn serve<SV>(
    stream: Stream,
    connection: &Arc<Connection>,
    proxy: &Arc<HttpProxy<SV>>,
    view: &Arc<dyn View>,
    settings: &Settings,
    mut shutdown: ShutdownWatch,
) where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    let limits = &settings.site_limits;
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let mut options = default_h2_options();
    options.max_concurrent_streams(u32::try_from(limits.h2_streams).unwrap_or(u32::MAX));
    options.max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX));
    let preface = handshake(stream, Some(options));
    let Ok(Ok(mut http2)) = timeout(limits.header_timeout, preface).await else { return };
    let streams = Arc::new(Streams::default());
    let (mut malformed, mut stopping) = (0, false);
    loop {
        let patience = if stopping { GOODBYE } else { limits.keep_alive.max(GOODBYE / 2) };
        let next = tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop), if !stopping => {
                http2.graceful_shutdown();
                stopping = true;
                continue;
            }
            next = HttpSession::from_h2_conn(&mut http2, digest.clone()) => next,
            () = streams.idle_for(patience) => return,
        };
        match next {
            Ok(Some(H2Accept::Session(session))) => {
                let (proxy, shutdown, open) = (proxy.clone(), shutdown.clone(), streams.open());
                let (connection, view) = (connection.clone(), view.clone());
                tokio::spawn(async move {
                    let session = ServerSession::new_http2(session);
                    let served = proxy.process_new_http(session, &shutdown);
                    if let Some(stalled) = body::watched(served).await {
                        tell(&*view, &connection, &stalled.request, stalled.begun, BODY_TIMEOUT);
                    }
                    drop(open);
                });
            }
            // Pingora has answered it: an authority that contradicts itself, for one.
            Ok(Some(H2Accept::Rejected)) if malformed < MALFORMED => {
                malformed += 1;
                tell(&**view, connection, "", Instant::now(), BAD_HEADER);
            }
            _ => return,
        }
    }
}

/// One access log line for a request that ended outside of `forward`.
fn tell(view: &dyn View, connection: &Connection, head: &str, started: Instant, reason: Reason) {
    let head = head.as_bytes();
    view.refused(&Refusal { connection, started, head, reason, sent: 0 });
}

/// The streams of one connection that are being served.
#[derive(Default)]
struct Streams {
    open: AtomicUsize,
    none_left: Notify,
}

impl Streams {
    fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    /// Resolves when there was no stream for this long. An accepted stream drops the future, so
    /// time begins anew.
    async fn idle_for(&self, patience: Duration) {
        while self.open.load(Ordering::Relaxed) != 0 {
            self.none_left.notified().await;
        }
        tokio::time::sleep(patience).await;
    }
}

/// One stream that is being served.
struct Open(Arc<Streams>);

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none_left.notify_one();
        }
    }
}
