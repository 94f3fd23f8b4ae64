//! The tools below `/lab`.

use super::{
    client::{Client, soon},
    external, lab, server,
};
use crate::lab::Outcome;

const WEB: &str = "lyncweb.contoso.com";

#[tokio::test(flavor = "multi_thread")]
async fn echo_shows_what_arrived_in_order_and_letter_case() {
    let (_dir, lab) = lab().await;
    let mut client = external(&lab, "fe01").await;
    let headers = "hOsT-x: 1\r\nX-WeIrD: a:b\r\nX-WeIrD: second\r\n";
    let reply = client.post(WEB, "/LAB/echo/a%2Fb?x=1", headers, "hello").await;
    let echo = reply.json();
    assert_eq!(echo["server"], "fe01");
    assert_eq!(echo["site"], "external");
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["request_line"], "POST /LAB/echo/a%2Fb?x=1 HTTP/1.1");
    assert_eq!(echo["tls"], true);
    assert_eq!(echo["tls_version"], "TLSv1.2");
    assert_eq!(echo["sni"], WEB);
    assert_eq!(echo["port"], server(&lab, "fe01").external.https.port());
    assert_eq!(echo["body_length"], 5);
    let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(echo["body_sha256"], digest);
    let expected = serde_json::json!([
        ["Host", WEB],
        ["Content-Length", "5"],
        ["hOsT-x", "1"],
        ["X-WeIrD", "a:b"],
        ["X-WeIrD", "second"],
    ]);
    assert_eq!(echo["headers"], expected);

    let again = client.get(WEB, "/lab/echo", "").await.json();
    assert_eq!(again["connection"], echo["connection"]);
    assert_eq!(again["request_on_connection"], 2);
    let other = external(&lab, "fe01").await.get(WEB, "/lab/echo", "").await.json();
    assert_ne!(other["connection"], echo["connection"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drip_comes_piece_by_piece() {
    let (_dir, lab) = lab().await;
    for length in ["", "&length=1"] {
        // The next piece is an hour away: what arrives now did not wait for it.
        let mut client = external(&lab, "fe01").await;
        let target = format!("/lab/drip?bytes=4&every=3600000&count=3{length}");
        client.send(&format!("GET {target} HTTP/1.1\r\nHost: {WEB}\r\n\r\n")).await;
        client.until("\r\n\r\n").await;
        client.until("xxxx").await;

        let target = format!("/lab/drip?bytes=4&every=1&count=3{length}");
        let reply = external(&lab, "fe01").await.get(WEB, &target, "").await;
        assert_eq!(reply.body, "x".repeat(12));
        assert_eq!(reply.all("Content-Length").len(), usize::from(!length.is_empty()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_any_size_is_counted_chunked_or_not() {
    let (_dir, lab) = lab().await;
    let mut client = external(&lab, "fe01").await;
    let body = "y".repeat(3_000_000);
    let plain = client.post(WEB, "/lab/upload", "", &body).await.json();
    assert_eq!(plain["bytes"], 3_000_000);
    let chunked = format!(
        "PUT /lab/upload HTTP/1.1\r\nHost: {WEB}\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    client.send(&chunked).await;
    assert_eq!(client.reply().await.json(), plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_misbehave_on_demand() {
    let (_dir, lab) = lab().await;
    let mut seen = lab.seen();
    let mut client = external(&lab, "fe01").await;
    assert_eq!(client.get(WEB, "/lab/status/503", "").await.status, 503);

    client.send(&format!("GET /lab/close HTTP/1.1\r\nHost: {WEB}\r\n\r\n")).await;
    client.closed().await;

    let mut client = external(&lab, "fe01").await;
    client.send(&format!("GET /lab/hang HTTP/1.1\r\nHost: {WEB}\r\n\r\n")).await;
    soon("holding", async { while seen.recv().await.unwrap().outcome != Outcome::Held {} }).await;
    drop(client);
    soon("noticing that the client left", async {
        while seen.recv().await.unwrap().outcome != Outcome::ClientLeft {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn early401_comes_before_the_body_and_keeps_the_connection() {
    let (_dir, lab) = lab().await;
    let mut client = Client::plain(server(&lab, "fe01").external.http).await;
    let head = format!("POST /lab/early401 HTTP/1.1\r\nHost: {WEB}\r\nContent-Length: 5\r\n\r\n");
    client.send(&head).await;
    assert_eq!(client.reply().await.status, 401);
    client.send("hello").await;
    assert_eq!(client.get(WEB, "/lab/echo", "").await.json()["request_on_connection"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_echoes_bytes() {
    let (_dir, lab) = lab().await;
    let mut client = external(&lab, "fe01").await;
    let headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let reply = client.get(WEB, "/lab/websocket", headers).await;
    assert_eq!(reply.status, 101);
    assert_eq!(reply.all("Sec-WebSocket-Accept"), ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
    for text in ["one", "and two"] {
        client.send(text).await;
        assert_eq!(client.bytes(text.len()).await, text.as_bytes());
    }
    let mut client = external(&lab, "fe01").await;
    assert_eq!(client.get(WEB, "/lab/websocket", "").await.status, 426);
}
