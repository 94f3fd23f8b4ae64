use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::AsyncWriteExt;

use super::*;
use crate::{
    listen::{Connections, Ends, Stopping},
    site::Listener,
};

fn connection() -> Arc<Connection> {
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    let listener =
        Listener { name: "test".into(), address, public_port: 80, tls: None, proxy_protocol: None };
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
    gate.write_all(&[0; 64]).await.unwrap();
    let error = gate.flush().await.unwrap_err();
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
    gate.flush().await.unwrap();
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

/// What has arrived at the client by now.
async fn arrived(client: &mut tokio::io::DuplexStream) -> Vec<u8> {
    let mut taken = [0; 100];
    let read = tokio::time::timeout(Duration::from_millis(50), client.read(&mut taken)).await;
    taken[..read.map_or(0, Result::unwrap)].to_vec()
}

#[tokio::test]
async fn a_short_answer_leaves_in_one() {
    let (mut client, server) = tokio::io::duplex(1024);
    let mut gate = Gate::new(Box::new(server), connection());
    gate.begin(BodyEnd::new(Framing::None));
    gate.write_all(b"header ").await.unwrap();
    assert_eq!(arrived(&mut client).await, b"");
    gate.write_all(b"body").await.unwrap();
    gate.flush().await.unwrap();
    assert_eq!(arrived(&mut client).await, b"header body");
}

#[tokio::test]
async fn whoever_waits_for_more_sends_what_there_is() {
    let (mut client, server) = tokio::io::duplex(1024);
    let mut gate = Gate::new(Box::new(server), connection());
    gate.begin(BodyEnd::new(Framing::None));
    gate.write_all(b"header").await.unwrap();
    let waiting = tokio::spawn(async move { gate.read(&mut [0; 1]).await.unwrap() });
    assert_eq!(arrived(&mut client).await, b"header");
    drop(client);
    assert_eq!(waiting.await.unwrap(), 0);
}

#[tokio::test]
async fn nothing_is_gathered_during_a_body_or_a_long_one() {
    let (mut client, server) = tokio::io::duplex(1024);
    let mut gate = Gate::new(Box::new(server), connection());
    gate.begin(BodyEnd::new(Framing::Length(3)));
    for (piece, gathered) in [("a", false), ("b", false), ("c", true)] {
        gate.write_all(b"early").await.unwrap();
        assert_eq!(arrived(&mut client).await, b"early");
        client.write_all(piece.as_bytes()).await.unwrap();
        assert_eq!(gate.read(&mut [0; 9]).await.unwrap(), 1);
        assert_eq!(gate.at_end(), gathered);
    }
    // Its pieces may fill Pingora's pipe, and then nobody waits here.
    gate.write_all(b"late").await.unwrap();
    assert_eq!(arrived(&mut client).await, b"late");
}

#[tokio::test]
async fn what_was_gathered_is_sent_at_the_end() {
    let (mut client, server) = tokio::io::duplex(1024);
    let mut gate = Gate::new(Box::new(server), connection());
    gate.begin(BodyEnd::new(Framing::None));
    gate.write_all(b"the start of it").await.unwrap();
    drop(gate);
    let mut text = Vec::new();
    client.read_to_end(&mut text).await.unwrap();
    assert_eq!(text, b"the start of it");
}
