//! The client's side of a connection, one request at a time.
//!
//! Pingora is given exactly the bytes of one request: the header that `guard` has inspected, and
//! the body up to the end that our own reading of its framing found. What follows stays here
//! until the next request. So every header of a connection is inspected raw, a client may
//! pipeline, and no difference between two parsers can turn a body into a request.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
    raw_connect::ProxyDigest,
    tls::{SslDigest, TlsRef},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    Connection,
    farewell::{farewell, hung_up},
    socket::hand_over,
};
use crate::guard::{BodyEnd, Framing};

/// How much of the next requests is read ahead while one is served.
const READ_AHEAD: usize = 16 * 1024;
/// How often a client that has sent more than that is looked after: has it hung up?
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a client may take nothing of what is written to it.
const STALLED: Duration = Duration::from_secs(300);

/// When bytes last moved on a connection.
pub(super) struct Pulse {
    begun: Instant,
    /// Milliseconds since then.
    moved: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { begun: Instant::now(), moved: AtomicU64::new(0) }
    }
}

impl Pulse {
    fn beat(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// Whether nothing has moved for this long.
    pub(super) fn still_for(&self, long: Duration) -> bool {
        let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(moved) >= long
    }
}

/// A client connection that hands out one request at a time.
pub(super) struct Gate {
    /// Gone only once `drop` has handed it to the farewell.
    inner: Option<Stream>,
    connection: Arc<Connection>,
    /// Read, but not part of the current request.
    pub(super) ahead: BytesMut,
    /// Where the body of the current request ends.
    body: BodyEnd,
    /// The client has sent its FIN, or the connection is shut down: no farewell is owed.
    closed: bool,
    /// Runs while a write makes no progress.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Runs while `ahead` is full.
    look_again: Option<Pin<Box<Sleep>>>,
    /// Told whenever bytes are written.
    pulse: Option<Arc<Pulse>>,
}

impl Gate {
    /// Wraps an accepted (and, with TLS, handshaken) connection.
    pub(super) fn new(inner: Stream, connection: Arc<Connection>) -> Self {
        Self {
            inner: Some(inner),
            connection,
            ahead: BytesMut::new(),
            body: BodyEnd::new(Framing::None),
            closed: false,
            stalled: None,
            look_again: None,
            pulse: None,
        }
    }

    /// Has `pulse` told whenever bytes are written.
    pub(super) fn with_pulse(mut self, pulse: Arc<Pulse>) -> Self {
        self.pulse = Some(pulse);
        self
    }

    /// Opens the gate for one request body.
    pub(super) fn begin(&mut self, body: BodyEnd) {
        self.body = body;
    }

    /// Whether the current request was read to its end.
    pub(super) fn at_end(&self) -> bool {
        self.body.done()
    }

    /// Reads more bytes for a header into `ahead`; 0 at the end.
    pub(super) async fn read_ahead(&mut self) -> io::Result<usize> {
        let Some(inner) = self.inner.as_mut() else { return Ok(0) };
        if self.ahead.capacity() - self.ahead.len() < 1024 {
            self.ahead.reserve(4096);
        }
        let n = inner.read_buf(&mut self.ahead).await?;
        self.closed |= n == 0;
        Ok(n)
    }

    /// While a request is served and its body is over, the only news is that the client left.
    /// What it sends meanwhile is kept for the next request, up to a bound.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(Ok(())) };
        while self.ahead.len() < READ_AHEAD {
            let mut chunk = [0u8; 512];
            let mut buf = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut *inner).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            self.ahead.extend_from_slice(buf.filled());
        }
        // SECURITY: the FIN of such a client stands behind unread bytes; without a look it would
        // hold its poll at the server to the end.
        // Test: a_client_that_sent_much_and_left_ends_the_request
        loop {
            let timer = self.look_again.get_or_insert_with(|| Box::pin(sleep(LOOK_AGAIN)));
            ready!(timer.as_mut().poll(cx));
            self.look_again = None;
            if hung_up(inner.id()) {
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Body bytes of the current request; what lies beyond its end is kept.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            let Some(inner) = self.inner.as_mut() else { return Poll::Ready(Ok(())) };
            let start = buf.filled().len();
            ready!(Pin::new(inner).poll_read(cx, buf))?;
            let fresh = buf.filled().get(start..).unwrap_or_default();
            if fresh.is_empty() {
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            let ours = self.body.feed(fresh).map_err(|_| self.connection.broken())?;
            if let Some(rest) = fresh.get(ours..) {
                self.ahead.extend_from_slice(rest);
            }
            buf.set_filled(start + ours);
        } else {
            let n = self.ahead.len().min(buf.remaining());
            let chunk = self.ahead.get(..n).unwrap_or_default();
            let ours = self.body.feed(chunk).map_err(|_| self.connection.broken())?;
            hand_over(&mut self.ahead, buf, ours);
        }
        Poll::Ready(Ok(()))
    }

    /// SECURITY: a client that reads nothing must not hold an answer for ever; Pingora's own
    /// deadline covers bodies only. Test: a_write_without_progress_ends
    fn unless_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stalled = None;
            return write;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALLED)));
        ready!(timer.as_mut().poll(cx));
        self.closed = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Connection {
    /// SECURITY: a body whose framing breaks ends the connection, so that nothing behind it can
    /// be taken for a request. Test: malformed_chunks_are_refused
    fn broken(&self) -> io::Error {
        self.framing_broken.store(true, Ordering::Relaxed);
        io::Error::from(io::ErrorKind::InvalidData)
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.connection.upgraded.load(Ordering::Relaxed) {
            if this.ahead.is_empty() {
                let Some(inner) = this.inner.as_mut() else { return Poll::Ready(Ok(())) };
                return Pin::new(inner).poll_read(cx, buf);
            }
            hand_over(&mut this.ahead, buf, usize::MAX);
            return Poll::Ready(Ok(()));
        }
        if this.body.done() { this.poll_idle(cx) } else { this.poll_body(cx, buf) }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let write = Pin::new(inner).poll_write(cx, buf);
        if let (true, Some(pulse)) = (write.is_ready(), &self.pulse) {
            pulse.beat();
        }
        self.unless_stalled(cx, write)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(Ok(())) };
        let flush = Pin::new(inner).poll_flush(cx);
        self.unless_stalled(cx, flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(Ok(())) };
        let shutdown = Pin::new(inner).poll_shutdown(cx);
        self.unless_stalled(cx, shutdown)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.connection.release();
        let Some(stream) = self.inner.take().filter(|_| !self.closed) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let unread = !self.body.done() || !self.ahead.is_empty();
        runtime.spawn(farewell(stream, unread, self.connection.clone()));
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("connection", &self.connection.id).finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for Gate {
    /// Left to the farewell, which has a deadline and reads what is still on its way.
    async fn shutdown(&mut self) {}
}

impl UniqueID for Gate {
    fn id(&self) -> UniqueIDType {
        self.inner.as_ref().map_or(-1, |s| s.id())
    }
}

impl Ssl for Gate {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.as_ref()?.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.as_ref()?.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.as_ref()?.selected_alpn_proto()
    }
}

impl Peek for Gate {}

impl GetTimingDigest for Gate {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.as_ref().map(|s| s.get_timing_digest()).unwrap_or_default()
    }
}

impl GetProxyDigest for Gate {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Gate {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.as_ref()?.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::{
        listen::{Connections, Ends, Stopping},
        site::Listener,
    };

    fn connection() -> Arc<Connection> {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let listener = Listener {
            name: "test".into(),
            address,
            public_port: 80,
            tls: None,
            proxy_protocol: None,
        };
        let all = Arc::new(Connections::default());
        let admitted = all.admit(IpAddr::V4(Ipv4Addr::LOCALHOST), 9, 9).unwrap();
        let (_, stop) = tokio::sync::watch::channel(false);
        let stopping = Stopping { shutdown: stop.clone(), at_once: stop };
        let listener = Arc::new(listener);
        let (client, local) = (address, address);
        let ends = Ends { client, local, sender: None, tls: false, unnamed: false };
        Arc::new(Connection::new(listener, ends, None, stopping, admitted, -1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_without_progress_ends() {
        let (client, server) = tokio::io::duplex(16);
        let mut gate = Gate::new(Box::new(server), connection());
        let begun = tokio::time::Instant::now();
        let error = gate.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), STALLED.as_secs());
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not_stalled() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut gate = Gate::new(Box::new(server), connection());
        let reader = tokio::spawn(async move {
            let mut taken = [0; 16];
            for _ in 0..4 {
                sleep(STALLED - Duration::from_secs(1)).await;
                client.read_exact(&mut taken).await.unwrap();
            }
        });
        gate.write_all(&[0; 64]).await.unwrap();
        reader.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_ends_where_its_framing_says() {
        let (mut client, server) = tokio::io::duplex(1024);
        let mut gate = Gate::new(Box::new(server), connection());
        client.write_all(b"bodyGET /next HTTP/1.1\r\n").await.unwrap();
        gate.begin(BodyEnd::new(Framing::Length(4)));
        let mut taken = [0; 100];
        assert_eq!(gate.read(&mut taken).await.unwrap(), 4);
        assert!(gate.at_end());
        let idle = tokio::time::timeout(Duration::from_millis(50), gate.read(&mut taken));
        assert!(idle.await.is_err(), "the next request is not this one's business");
        assert_eq!(&gate.ahead[..], b"GET /next HTTP/1.1\r\n");
        drop(client);
        assert_eq!(gate.read(&mut taken).await.unwrap(), 0, "but that the client left is");
    }
}
