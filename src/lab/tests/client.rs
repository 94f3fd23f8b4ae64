//! A client that sends bytes and reads one answer after the other, each with a deadline.

use std::{future::Future, net::SocketAddr, path::Path, pin::Pin, time::Duration};

use boring::ssl::{SslConnector, SslMethod};
use pingora::tls::tokio_ssl::SslStream;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// Nothing in these tests takes this long unless it hangs.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took more than {DEADLINE:?}"),
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub(super) struct Client {
    stream: Box<dyn Io>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Reply {
    /// Every value of the header `name`, in order.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Client {
    pub(super) async fn plain(address: SocketAddr) -> Self {
        let stream = soon("connecting", TcpStream::connect(address)).await.unwrap();
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    /// Verifies the chain against `ca` and the name against `name`.
    pub(super) async fn tls(address: SocketAddr, name: &str, ca: &Path) -> Self {
        let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
        connector.set_ca_file(ca).unwrap();
        let ssl = connector.build().configure().unwrap().into_ssl(name).unwrap();
        let tcp = soon("connecting", TcpStream::connect(address)).await.unwrap();
        let mut stream = SslStream::new(ssl, tcp).unwrap();
        soon("the handshake", Pin::new(&mut stream).connect()).await.unwrap();
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    pub(super) async fn send(&mut self, text: &str) {
        soon("sending", self.stream.write_all(text.as_bytes())).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// A request without body, and its answer.
    pub(super) async fn get(&mut self, host: &str, target: &str, headers: &str) -> Reply {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")).await;
        self.reply().await
    }

    /// A request with a body, and its answer.
    pub(super) async fn post(
        &mut self,
        host: &str,
        target: &str,
        headers: &str,
        body: &str,
    ) -> Reply {
        self.send(&format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        ))
        .await;
        self.reply().await
    }

    pub(super) async fn reply(&mut self) -> Reply {
        soon("the answer", self.read_reply()).await
    }

    /// Reads until `length` bytes are there and takes them.
    pub(super) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        soon("the bytes", async {
            while self.buffer.len() < length {
                assert!(self.fill().await, "closed after {:?}", self.buffer);
            }
        })
        .await;
        self.buffer.drain(..length).collect()
    }

    /// Reads until `text` was there and drops everything up to its end.
    pub(super) async fn until(&mut self, text: &str) {
        soon(text, async {
            loop {
                let found = self.buffer.windows(text.len()).position(|it| it == text.as_bytes());
                if let Some(at) = found {
                    self.buffer.drain(..at + text.len());
                    return;
                }
                assert!(self.fill().await, "closed after {:?}", self.buffer);
            }
        })
        .await;
    }

    /// Waits until the server closes; whatever comes before is an error.
    pub(super) async fn closed(&mut self) {
        let came = soon("closing", self.fill()).await;
        assert!(!came, "{}", String::from_utf8_lossy(&self.buffer));
    }

    async fn read_reply(&mut self) -> Reply {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.fill().await, "closed inside the header: {:?}", self.buffer);
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, head, body: String::new() };
        if let Some(length) = reply.all("content-length").first() {
            let length = length.parse().unwrap();
            reply.body = String::from_utf8(self.bytes(length).await).unwrap();
        } else if reply.all("transfer-encoding") == ["chunked"] {
            reply.body = self.chunks().await;
        }
        reply
    }

    async fn chunks(&mut self) -> String {
        let mut body = String::new();
        loop {
            let line = loop {
                if let Some(end) = self.buffer.windows(2).position(|it| it == b"\r\n") {
                    break String::from_utf8(self.buffer.drain(..end + 2).collect()).unwrap();
                }
                assert!(self.fill().await, "closed inside a chunk");
            };
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            let chunk = self.bytes(length + 2).await;
            body += std::str::from_utf8(&chunk[..length]).unwrap();
            if length == 0 {
                return body;
            }
        }
    }

    /// Reads once; false when the server closed or reset the connection.
    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(length) if length > 0)
    }
}
