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
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    Connection,
    farewell::{farewell, hung_up},
    gather::Gather,
    pulse::Pulse,
    socket::hand_over,
};
use crate::guard::{BodyEnd, Framing};

/// How much of the next requests is read ahead while one is served.
const READ_AHEAD: usize = 16 * 1024;
/// How often a client that has sent more than that is looked after: has it hung up?
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How many pieces of a body Pingora has room for when its server takes none of them, with one
/// place to spare.
const PIECES: usize = 2;
/// How long a client may take nothing of what is written to it.
const STALLED: Duration = Duration::from_secs(300);

/// A client connection that hands out one request at a time.
pub(super) struct Gate {
    /// Gone only once `drop` has handed it to the farewell.
    inner: Option<Stream>,
    connection: Arc<Connection>,
    /// Read, but not part of the current request.
    pub(super) ahead: BytesMut,
    /// Where the body of the current request ends.
    body: BodyEnd,
    /// In how many pieces that body came.
    pieces: usize,
    /// Written, and not sent yet.
    gathered: Gather,
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
            pieces: 0,
            gathered: Gather::default(),
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
        self.pieces = 0;
    }

    /// Whether small writes are gathered until Pingora flushes, or waits for more of an answer:
    /// then it reads here, to learn whether the client left. It does not while its pipe to the
    /// server is full, so only after bodies that cannot fill it.
    ///
    /// SECURITY: gathered bytes that nothing sends would stall an answer whose length is known.
    /// Test: the_start_of_an_answer_does_not_wait_for_its_end
    fn gathers(&self) -> bool {
        self.body.done()
            && self.pieces <= PIECES
            && !self.connection.upgraded.load(Ordering::Relaxed)
    }

    /// Sends what was gathered.
    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let before = self.gathered.len();
        let sent = self.gathered.poll_send(inner, cx);
        // A slow client is not one that takes nothing.
        if self.gathered.len() < before {
            self.stalled = None;
        }
        sent
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathers() {
            let kept = self.gathered.keep(bytes);
            if kept > 0 {
                return Poll::Ready(Ok(kept));
            }
        }
        ready!(self.poll_gathered(cx))?;
        match self.inner.as_mut() {
            Some(inner) => Pin::new(inner).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gathered(cx))?;
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(Ok(())) };
        Pin::new(inner).poll_flush(cx)
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

    /// The first bytes of what was read ahead, in memory of their own: a poll holds them for as long
    /// as it is held, and must not hold the buffer as well.
    pub(super) fn take_head(&mut self, length: usize) -> BytesMut {
        let head = BytesMut::from(self.ahead.get(..length).unwrap_or_default());
        self.ahead.advance(head.len());
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        head
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
        self.pieces += 1;
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
        if !this.gathered.is_empty()
            && let Poll::Ready(Err(error)) = this.poll_gathered(cx)
        {
            return Poll::Ready(Err(error));
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
        let write = self.poll_sent(cx, buf);
        if let (true, Some(pulse)) = (write.is_ready(), &self.pulse) {
            pulse.beat();
        }
        self.unless_stalled(cx, write)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = self.poll_flushed(cx);
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
        let rest = self.gathered.take();
        runtime.spawn(farewell(stream, rest, unread, self.connection.clone()));
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
mod tests;
