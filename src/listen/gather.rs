//! Small writes, gathered: Pingora writes the header of an answer, its body and the frames of a
//! chunk one by one, and each would be a TLS record and a system call of its own.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use pingora::protocols::Stream;
use tokio::io::AsyncWrite;

/// What one TLS record carries (RFC 8446 5.1).
const RECORD: usize = 16 * 1024;

/// Bytes that were written and have not been sent. Holds no memory while there are none.
#[derive(Default)]
pub(super) struct Gather(BytesMut);

impl Gather {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps what fits, and says how much that is. Nothing, if it had better be sent as it is.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> usize {
        if self.0.is_empty() && bytes.len() >= RECORD {
            return 0;
        }
        let fits = bytes.len().min(RECORD.saturating_sub(self.0.len()));
        self.0.extend_from_slice(bytes.get(..fits).unwrap_or_default());
        fits
    }

    /// Sends everything.
    pub(super) fn poll_send(
        &mut self,
        to: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.0.is_empty() {
            let sent = ready!(Pin::new(&mut *to).poll_write(cx, &self.0))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.0.advance(sent);
            if self.0.is_empty() {
                self.0 = BytesMut::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What was not sent.
    pub(super) fn take(&mut self) -> BytesMut {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_at_most() {
        let mut gather = Gather::default();
        assert_eq!(gather.keep(&[b'a'; RECORD]), 0, "nothing to gather it with");
        assert_eq!(gather.keep(b"header"), 6);
        assert_eq!(gather.keep(&[b'b'; RECORD]), RECORD - 6);
        assert_eq!(gather.keep(b"more"), 0, "it is full");
        assert_eq!(gather.take().len(), RECORD);
        assert!(gather.is_empty());
    }

    #[tokio::test]
    async fn a_slow_reader_gets_everything_once() {
        let (mut reader, writer) = tokio::io::duplex(10);
        let mut to: Stream = Box::new(writer);
        let mut gather = Gather::default();
        let text: Vec<u8> = (0..100).collect();
        assert_eq!(gather.keep(&text), 100);
        let read = tokio::spawn(async move {
            let mut taken = vec![0; 100];
            tokio::io::AsyncReadExt::read_exact(&mut reader, &mut taken).await.map(|_| taken)
        });
        std::future::poll_fn(|cx| gather.poll_send(&mut to, cx)).await.unwrap();
        assert!(gather.is_empty());
        assert_eq!(read.await.unwrap().unwrap(), text);
    }
}
