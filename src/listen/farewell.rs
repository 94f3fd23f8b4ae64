//! The end of a connection.

use std::{os::fd::RawFd, sync::Arc, time::Duration};

use bytes::BytesMut;
use pingora::protocols::Stream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::Connection;

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a client may go on sending after our answer, and how long it may pause doing so. Many
/// clients send a whole upload before they read; cut earlier, they see a reset and no answer.
const LINGER: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(5);

/// Closes in good order: TLS says goodbye, and where the client is still sending, the rest is
/// read for a while. Closing a socket with unread bytes resets it, and the reset can overtake
/// our answer. The connection counts until this is over.
pub(super) async fn farewell(
    mut stream: Stream,
    rest: BytesMut,
    unread: bool,
    _counted: Arc<Connection>,
) {
    let _ = timeout(GOODBYE, async {
        stream.write_all(&rest).await?;
        stream.shutdown().await
    })
    .await;
    drop(rest);
    if !unread {
        return;
    }
    let _ = timeout(LINGER, async {
        let mut sink = vec![0u8; 16 * 1024];
        while let Ok(Ok(1..)) = timeout(PAUSE, stream.read(&mut sink)).await {}
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
