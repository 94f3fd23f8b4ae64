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
};
use tokio::{sync::Notify, time::timeout};

use super::{Connection, Refusal, Settings, Stopping, View, body, gate::Gate, pulse::Pulse};
use crate::reason::BAD_HEADER;

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
    stopping: Stopping,
) where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    let limits = &settings.site_limits;
    let Stopping { mut shutdown, mut at_once } = stopping;
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let mut options = default_h2_options();
    options.max_concurrent_streams(u32::try_from(limits.h2_streams).unwrap_or(u32::MAX));
    options.max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX));
    let pulse = Arc::new(Pulse::default());
    // The gate stands open: it is there for its deadline on writes and for its farewell.
    connection.upgraded.store(true, Ordering::Relaxed);
    let gate = Gate::new(stream, connection.clone()).with_pulse(pulse.clone());
    let preface = timeout(limits.header_timeout, handshake(Box::new(gate), Some(options)));
    let mut http2 = tokio::select! {
        biased;
        shaken = preface => match shaken {
            Ok(Ok(http2)) => http2,
            _ => return,
        },
        _ = at_once.wait_for(|stop| *stop) => return,
    };
    let streams = Arc::new(Streams::default());
    let (mut malformed, mut stopping) = (0, false);
    loop {
        let patience =
            if stopping { GOODBYE } else { limits.keep_alive.max(Duration::from_secs(1)) };
        let next = tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop), if !stopping => {
                http2.graceful_shutdown();
                stopping = true;
                continue;
            }
            next = HttpSession::from_h2_conn(&mut http2, digest.clone()) => next,
            () = streams.idle_for(patience) => {
                // What the handlers wrote may still be on its way to a slow reader.
                if stopping && pulse.still_for(GOODBYE) {
                    return;
                }
                // A client whose request crosses the end learns that it was not processed.
                http2.graceful_shutdown();
                stopping = true;
                continue;
            }
        };
        match next {
            Ok(Some(H2Accept::Session(session))) => {
                let (proxy, shutdown, open) = (proxy.clone(), shutdown.clone(), streams.open());
                tokio::spawn(async move {
                    let session = ServerSession::new_http2(session);
                    body::watched(proxy.process_new_http(session, &shutdown)).await;
                    drop(open);
                });
            }
            // Pingora has answered it: an authority that contradicts itself, for one.
            Ok(Some(H2Accept::Rejected)) if malformed < MALFORMED => {
                malformed += 1;
                let (started, reason) = (Instant::now(), BAD_HEADER);
                view.refused(&Refusal { connection, started, head: b"", reason, sent: 0 });
            }
            _ => return,
        }
    }
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
