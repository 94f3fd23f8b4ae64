//! The client's side of a connection, one request at a time.
//!
//! Pingora is given exactly the bytes of one request: the header that `guard` has inspected, and
//! the body up to the end that our own reading of its framing found. What follows stays here
//! until the next request. So every header of a connection is inspected raw, a client may
//! pipeline, and no difference between two parsers can turn a body into a request.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
    raw_connect::ProxyDigest,
    tls::{SslDigest, TlsRef},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::Connection;
use crate::guard::{BodyEnd, Framing};

/// How much of the next requests is read ahead while one is served.
const READ_AHEAD: usize = 16 * 1024;
/// How long, and how many bytes, a refused client may go on sending before it is cut.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// A client connection that hands out one request at a time.
pub(super) struct Gate {
    /// Gone only once `drop` has handed it to the lingering close.
    inner: Option<Stream>,
    connection: Arc<Connection>,
    /// Read, but not part of the current request.
    pub(super) ahead: BytesMut,
    /// Where the body of the current request ends.
    body: BodyEnd,
    /// The client has sent its FIN.
    closed: bool,
}

impl Gate {
    /// Wraps an accepted (and, with TLS, handshaken) connection.
    pub(super) fn new(inner: Stream, connection: Arc<Connection>) -> Self {
        let body = BodyEnd::new(Framing::None);
        Self { inner: Some(inner), connection, ahead: BytesMut::new(), body, closed: false }
    }

    /// Opens the gate for one request body.
    pub(super) fn begin(&mut self, body: BodyEnd) {
        self.body = body;
    }

    /// Reads more bytes for a header into `ahead`; 0 at the end.
    pub(super) async fn read_ahead(&mut self) -> io::Result<usize> {
        let Some(inner) = self.inner.as_mut() else { return Ok(0) };
        if self.ahead.capacity() - self.ahead.len() < 1024 {
            self.ahead.reserve(4096);
        }
        inner.read_buf(&mut self.ahead).await
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
        Poll::Pending
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
            buf.put_slice(chunk.get(..ours).unwrap_or_default());
            self.ahead.advance(ours);
        }
        Poll::Ready(Ok(()))
    }
}

impl Connection {
    /// SECURITY: a body whose framing breaks ends the connection, so that nothing behind it can
    /// be taken for a request. Test: guard::body.
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
            let n = this.ahead.len().min(buf.remaining());
            buf.put_slice(this.ahead.get(..n).unwrap_or_default());
            this.ahead.advance(n);
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
        match self.inner.as_mut() {
            Some(inner) => Pin::new(inner).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.inner.as_mut() {
            Some(inner) => Pin::new(inner).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.inner.as_mut() {
            Some(inner) => Pin::new(inner).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Gate {
    /// Closing a socket with unread bytes resets it, and the reset can overtake our answer. So
    /// where the client is still sending, the rest is read for a moment before the close.
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else { return };
        let unread = !self.body.done() || !self.ahead.is_empty();
        if self.closed || !unread || self.connection.upgraded.load(Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move { linger(&mut inner).await });
    }
}

/// Says that nothing more will be written, then reads what is still on its way.
async fn linger(stream: &mut Stream) {
    let _ = tokio::time::timeout(LINGER, async {
        let _ = AsyncWriteExt::shutdown(stream).await;
        let mut sink = [0u8; 4096];
        let mut left = LINGER_BYTES;
        while let Ok(n) = stream.read(&mut sink).await {
            left = left.saturating_sub(n);
            if n == 0 || left == 0 {
                break;
            }
        }
    })
    .await;
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("connection", &self.connection.id).finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for Gate {
    async fn shutdown(&mut self) {
        // With unread bytes the orderly close is left to `drop`.
        if self.body.done()
            && self.ahead.is_empty()
            && let Some(inner) = self.inner.as_mut()
        {
            let _ = AsyncWriteExt::shutdown(inner).await;
        }
    }
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
