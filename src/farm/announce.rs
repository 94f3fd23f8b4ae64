//! Connections to servers that begin with a PROXY header.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pingora::{
    Error, ErrorType, OrErr, Result,
    connectors::L4Connect,
    protocols::l4::{ext, socket::SocketAddr, stream::Stream},
    upstreams::peer::HttpPeer,
};
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::proxy_protocol::{Told, Version, write};

/// Has each new connection to `peer` begin with a header that says `told`, in front of TLS.
///
/// SECURITY: such a connection belongs to that client; the peer's `group_key` must keep every other
/// one from it ([`Class::Named`](super::Class::Named)). Test: no_two_clients_share_a_server_connection
pub fn announce(peer: &mut HttpPeer, version: Version, told: Told) {
    let deadline = peer.options.connection_timeout;
    let header = write(version, told);
    peer.options.custom_l4 = Some(Arc::new(Announced { header, deadline }));
}

/// Connects, and writes the header.
#[derive(Debug)]
struct Announced {
    header: Vec<u8>,
    deadline: Option<Duration>,
}

#[async_trait]
impl L4Connect for Announced {
    /// Fails as Pingora's own connecting does: its errors are told apart by kind.
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let SocketAddr::Inet(address) = address else {
            return Error::e_explain(ErrorType::InternalError, "servers have IP addresses");
        };
        let connecting = async {
            let mut tcp = ext::connect(address, None).await?;
            let written = tcp.write_all(&self.header).await;
            written.or_err(ErrorType::ConnectError, "while the PROXY header was written")?;
            Ok(Stream::from(tcp))
        };
        let Some(deadline) = self.deadline else { return connecting.await };
        match timeout(deadline, connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                let context = format!("timeout {deadline:?} connecting to server {address}");
                Error::e_explain(ErrorType::ConnectTimedout, context)
            }
        }
    }
}
