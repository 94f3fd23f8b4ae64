//! Connections that a balancer passes through: who connected to it stands in a PROXY header in
//! front of the first byte.

use std::{net::SocketAddr, time::Instant};

use bytes::{Buf, BytesMut};
use pingora::server::ShutdownWatch;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    time::timeout,
};

use super::{Admitted, Ends, Settings};
use crate::{
    proxy_protocol::{Fault, Read, Told, read},
    reason::{self, Reason},
};

/// Bytes that are read at a time: a header, and what comes with it.
const CHUNK: usize = 4096;

/// What stands at the beginning of a connection.
#[derive(Debug, PartialEq)]
enum Opening {
    /// A header; `None`: there is none, and there need not be one.
    Told(Option<Told>),
    /// The sender closed before it said anything, as balancers do to see whether somebody listens.
    Gone,
    Refused(Reason),
}

/// Why a connection is not served.
pub(super) enum Unserved {
    /// Nobody is owed a word about it.
    Silently,
    /// Its client, whom the header named, has too many connections.
    TooMany(SocketAddr),
    /// For the access log.
    Refused(Reason, Instant),
}

/// Finds out whose connection it is. Returns its ends, and the bytes behind the header. `admitted`
/// counts it for its sender, and for its client from then on: so `connections_per_source` bounds
/// how many of a sender wait for their header.
///
/// # Errors
/// It is not served.
pub(super) async fn open(
    tcp: &mut TcpStream,
    ends: Ends,
    settings: &Settings,
    admitted: &mut Admitted,
    stopping: &mut ShutdownWatch,
) -> Result<(Ends, BytesMut), Unserved> {
    // SECURITY: whoever is believed chooses the address that limits, lists and logs go by. The
    // header of anybody else is not even read: it is the malformed beginning of a request or of
    // TLS. Test: a_strangers_header_is_a_malformed_request
    let Some(expected) = settings.listener.balancer(ends.client.ip()) else {
        return Ok((ends, BytesMut::new()));
    };
    let limits = &settings.site_limits;
    let begun = Instant::now();
    // SECURITY: a deadline from the first moment, or connections without a header would be held
    // for ever. Test: headers_that_are_slow_cut_off_or_malformed_end_the_connection
    let deadline =
        if settings.acceptor.is_some() { limits.tls_handshake } else { limits.header_timeout };
    let mut bytes = BytesMut::new();
    let opening = tokio::select! {
        biased;
        opening = timeout(deadline, opening(tcp, &mut bytes, expected.required)) => opening,
        // Nothing is owed yet to a client that nobody has named.
        _ = stopping.wait_for(|stop| *stop) => return Err(Unserved::Silently),
    };
    let opening = opening.unwrap_or(match bytes.is_empty() && !expected.required {
        true => Opening::Gone,
        false => Opening::Refused(reason::PROXY_HEADER_TIMEOUT),
    });
    match opening {
        Opening::Told(Some(Told::Client { source, destination, tls })) => {
            // SECURITY: one client cannot take every connection through a balancer either.
            // Test: one_client_behind_a_balancer_cannot_take_all
            if !admitted.moves_to(source.ip(), limits.connections_per_source) {
                return Err(Unserved::TooMany(source));
            }
            let sender = Some(ends.client);
            Ok((Ends { client: source, local: destination, sender, tls, unnamed: false }, bytes))
        }
        Opening::Told(_) => Ok((Ends { unnamed: true, ..ends }, bytes)),
        Opening::Gone => Err(Unserved::Silently),
        Opening::Refused(reason) => Err(Unserved::Refused(reason, begun)),
    }
}

/// Reads the header. What is left in `bytes` is what follows it.
async fn opening(
    wire: &mut (impl AsyncRead + Unpin),
    bytes: &mut BytesMut,
    required: bool,
) -> Opening {
    loop {
        match read(bytes) {
            Ok(Read::Whole(told, length)) => {
                bytes.advance(length);
                return Opening::Told(Some(told));
            }
            Ok(Read::Partial) => {}
            Err(Fault::Absent) if !required => return Opening::Told(None),
            Err(Fault::Absent) => return Opening::Refused(reason::PROXY_HEADER_MISSING),
            Err(fault) => {
                log::debug!("PROXY header refused: {}", fault.text());
                return Opening::Refused(reason::PROXY_HEADER_MALFORMED);
            }
        }
        bytes.reserve(CHUNK);
        match wire.read_buf(bytes).await {
            Ok(1..) => {}
            _ if bytes.is_empty() => return Opening::Gone,
            _ => return Opening::Refused(reason::PROXY_HEADER_MALFORMED),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::proxy_protocol::{Version, write};

    fn client() -> Told {
        let (source, destination) = (([192, 0, 2, 7], 4711).into(), ([10, 0, 0, 1], 443).into());
        Told::Client { source, destination, tls: false }
    }

    /// What is made of these pieces, and what is left for whoever comes next.
    async fn of(pieces: &[&[u8]], required: bool) -> (Opening, Vec<u8>) {
        let (mut sender, mut wire) = tokio::io::duplex(1);
        let mut bytes = BytesMut::new();
        let writing = async {
            for piece in pieces {
                let _ = sender.write_all(piece).await;
            }
            drop(sender);
        };
        let reading = async {
            let opening = opening(&mut wire, &mut bytes, required).await;
            // The rest comes from the wire, as for a request.
            let _ = wire.read_to_end(&mut Vec::new()).await;
            opening
        };
        let (opening, ()) = tokio::join!(reading, writing);
        (opening, bytes.to_vec())
    }

    #[tokio::test]
    async fn what_follows_the_header_is_left_as_it_is() {
        let follows: &[u8] = b"PROXY TCP4 6.6.6.6 6.6.6.6 1 1\r\nGET / HTTP/1.1\r\n";
        for version in [Version::V1, Version::V2] {
            let header = write(version, client());
            let mut all = BytesMut::from(&[&header[..], follows].concat()[..]);
            let opening = opening(&mut tokio::io::empty(), &mut all, true).await;
            assert_eq!(opening, Opening::Told(Some(client())));
            assert_eq!(all, follows);
        }
    }

    #[tokio::test]
    async fn headers_come_byte_by_byte() {
        for version in [Version::V1, Version::V2] {
            let header = write(version, client());
            let (opening, rest) = of(&[&header, b"x"], true).await;
            assert_eq!((opening, &rest[..]), (Opening::Told(Some(client())), &b""[..]));
        }
    }

    #[tokio::test]
    async fn a_header_may_be_missing_where_it_is_not_required() {
        for first in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"\r\n\r\nGET", b"PROPFIND /"] {
            let mut bytes = BytesMut::from(first);
            let plain = opening(&mut tokio::io::empty(), &mut bytes, false).await;
            assert_eq!((plain, &bytes[..]), (Opening::Told(None), first), "nothing is lost");
            let missing = Opening::Refused(reason::PROXY_HEADER_MISSING);
            assert_eq!(opening(&mut tokio::io::empty(), &mut bytes, true).await, missing);
        }
    }

    #[tokio::test]
    async fn a_sender_that_leaves_at_once_is_no_fault() {
        assert_eq!(of(&[], true).await.0, Opening::Gone);
        let cut = Opening::Refused(reason::PROXY_HEADER_MALFORMED);
        assert_eq!(of(&[b"PROXY TCP4 192.0.2.7"], false).await.0, cut);
    }
}
