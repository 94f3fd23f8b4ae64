//! The accepted TCP socket as Pingora's `IO`.
//!
//! Pingora's own stream type can only get a read buffer from its own listeners, and keeps 64 KiB
//! of it for as long as a poll is held. This one reads a TLS record with one system call and
//! holds no buffer while it waits.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

/// One TLS record with its header fits; larger reads go straight to the caller.
const READ_BUFFER: usize = 17 * 1024;

thread_local! {
    /// Where bytes are read to before it is known how many there are.
    static SCRATCH: RefCell<[u8; READ_BUFFER]> = const { RefCell::new([0; READ_BUFFER]) };
}

/// An accepted TCP connection. Writes are not buffered, so every chunk leaves at once (a server
/// that streams with a Content-Length would otherwise wait for 1460 bytes).
#[derive(Debug)]
pub(super) struct Socket {
    tcp: TcpStream,
    /// Read from the kernel, not yet taken; empty and without memory while waiting.
    buffered: BytesMut,
    digest: Arc<SocketDigest>,
    accepted: SystemTime,
}

impl Socket {
    /// Takes an accepted connection, of which `buffered` has been read. `client` is the address to
    /// report for it.
    pub(super) fn new(tcp: TcpStream, client: SocketAddr, buffered: BytesMut) -> Self {
        let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
        let _ = digest.peer_addr.set(Some(client.into()));
        if let Ok(local) = tcp.local_addr() {
            let _ = digest.local_addr.set(Some(local.into()));
        }
        Self { tcp, buffered, digest: Arc::new(digest), accepted: SystemTime::now() }
    }
}

/// Moves bytes from a buffer to a reader: as many as are there, fit, and are allowed.
pub(super) fn hand_over(from: &mut BytesMut, to: &mut ReadBuf<'_>, most: usize) {
    let n = from.len().min(to.remaining()).min(most);
    to.put_slice(from.get(..n).unwrap_or_default());
    from.advance(n);
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.buffered.is_empty() {
            if buf.remaining() >= READ_BUFFER {
                return Pin::new(&mut this.tcp).poll_read(cx, buf);
            }
            return SCRATCH.with_borrow_mut(|scratch| {
                let mut read = ReadBuf::new(scratch);
                ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut read))?;
                let (now, later) = read.filled().split_at(read.filled().len().min(buf.remaining()));
                buf.put_slice(now);
                if !later.is_empty() {
                    this.buffered = BytesMut::from(later);
                }
                Poll::Ready(Ok(()))
            });
        }
        hand_over(&mut this.buffered, buf, usize::MAX);
        if this.buffered.is_empty() {
            this.buffered = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {
        let _ = self.tcp.shutdown().await;
    }
}

impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        self.tcp.as_raw_fd()
    }
}

impl Ssl for Socket {}

impl Peek for Socket {}

impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest { established_ts: self.accepted, ..TimingDigest::default() })]
    }
}

impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }
}
