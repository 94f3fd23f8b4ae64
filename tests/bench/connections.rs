//! What connections cost: handshakes, and polls that are held.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use boring::ssl::{SslConnector, SslMethod, SslSession, SslStream, SslVerifyMode, SslVersion};

use super::peers::{HOST, Peer, Server};
use crate::support::until;

/// A connector that makes full handshakes, or resumes what it is given.
pub fn connector() -> SslConnector {
    let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
    // The proxy's cost is measured, not the client's.
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
    builder.build()
}

pub fn connect(
    connector: &SslConnector,
    address: SocketAddr,
    session: Option<&SslSession>,
) -> SslStream<TcpStream> {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut configured = connector.configure().unwrap();
    configured.set_verify_hostname(false);
    if let Some(session) = session {
        // SAFETY: the session is of a connector with the same settings.
        unsafe { configured.set_session(session).unwrap() };
    }
    configured.connect(HOST, tcp).unwrap()
}

fn ask(stream: &mut SslStream<TcpStream>) {
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // Some close without saying so.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

/// Microseconds of processor time for a connection with one request, TLS 1.2.
pub fn handshakes(peer: &Peer, address: SocketAddr, resumed: bool, count: u32) -> f64 {
    let connector = connector();
    let mut first = connect(&connector, address, None);
    let session = first.ssl().session().unwrap().to_owned();
    ask(&mut first);
    let (spent, ()) = peer.process.spent(|| {
        for _ in 0..count {
            let mut stream = connect(&connector, address, resumed.then_some(&session));
            assert_eq!(stream.ssl().session_reused(), resumed);
            ask(&mut stream);
        }
    });
    spent / f64::from(count)
}

/// KiB of resident memory for a poll that is held, over so many connections.
pub fn polls(peer: &Peer, server: &Server, count: usize) -> f64 {
    let connector = connector();
    // What the first connections make once is not a connection's.
    for _ in 0..50 {
        ask(&mut connect(&connector, peer.rsa, None));
    }
    let before = peer.process.resident();
    let mut clients = Vec::with_capacity(count);
    let request = format!("GET /held HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for _ in 0..count {
        let mut stream = connect(&connector, peer.rsa, None);
        stream.write_all(request.as_bytes()).unwrap();
        clients.push(stream);
    }
    until("all polls arrive", Duration::from_secs(60), || (server.held() == count).then_some(()));
    let after = peer.process.resident();
    server.release();
    (after.saturating_sub(before)) as f64 / count as f64
}
