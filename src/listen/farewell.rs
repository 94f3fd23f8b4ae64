//! The end of a connection.

use std::{os::fd::RawFd, sync::Arc, time::Duration};

use pingora::protocols::Stream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::Connection;

/// How long, and how many bytes, a client may go on sending before it is cut.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// Closes in good order: TLS says goodbye, and where the client is still sending, the rest is
/// read for a moment. Closing a socket with unread bytes resets it, and the reset can overtake
/// our answer. The connection counts until this is over.
pub(super) async fn farewell(mut stream: Stream, unread: bool, _counted: Arc<Connection>) {
    let _ = timeout(LINGER, async {
        let _ = AsyncWriteExt::shutdown(&mut stream).await;
        let mut sink = [0u8; 4096];
        let mut left = if unread { LINGER_BYTES } else { 0 };
        while left > 0 {
            match stream.read(&mut sink).await {
                Ok(n @ 1..) => left = left.saturating_sub(n),
                _ => break,
            }
        }
    })
    .await;
}

/// Whether the peer of a socket has closed its side or is gone, whatever is still unread.
pub(super) fn hung_up(fd: RawFd) -> bool {
    let mut asked = libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: poll(2) reads and writes one struct of ours and does not wait.
    let answered = unsafe { libc::poll(&raw mut asked, 1, 0) };
    answered > 0 && asked.revents != 0
}
