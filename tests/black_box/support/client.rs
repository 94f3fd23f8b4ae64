//! A client that speaks bytes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use boring::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode, SslVersion};

use super::{SOON, certificates::Certificates};

enum Wire {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

/// One client connection.
pub struct Client {
    wire: Wire,
    /// Read, not yet taken.
    ahead: Vec<u8>,
}

/// An answer, its body decoded.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Status line and fields as sent.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// First value of a field, any letter case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|l| l.split_once(':'))
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim())
            .collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The reason code of an answer Frontgate made itself.
    pub fn reason(&self) -> String {
        self.text().lines().find_map(|l| l.strip_prefix("reason: ")).unwrap_or("").to_owned()
    }
}

impl Client {
    pub fn plain(address: SocketAddr) -> Self {
        Self { wire: Wire::Plain(connect(address)), ahead: Vec::new() }
    }

    /// Over a connection that stands.
    pub fn over(tcp: TcpStream) -> Self {
        Self { wire: Wire::Plain(tcp), ahead: Vec::new() }
    }

    /// From this address of the loopback network.
    pub fn plain_from(source: &str, address: SocketAddr) -> Self {
        Self::over(connect_from(source, address))
    }

    pub fn tls(address: SocketAddr, sni: Option<&str>, certificates: &Certificates) -> Self {
        Self::tls_with(address, sni, certificates, |_| ()).unwrap()
    }

    /// TLS with settings of the test's own; the error is the handshake's.
    pub fn tls_with(
        address: SocketAddr,
        sni: Option<&str>,
        certificates: &Certificates,
        settings: impl FnOnce(&mut boring::ssl::SslConnectorBuilder),
    ) -> Result<Self, String> {
        Self::tls_over(connect(address), sni, certificates, settings)
    }

    /// TLS over a connection that stands.
    pub fn tls_over(
        tcp: TcpStream,
        sni: Option<&str>,
        certificates: &Certificates,
        settings: impl FnOnce(&mut boring::ssl::SslConnectorBuilder),
    ) -> Result<Self, String> {
        let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
        builder.set_ca_file(certificates.dir.join("public-ca.pem")).unwrap();
        builder.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
        settings(&mut builder);
        let mut configured = builder.build().configure().unwrap();
        configured.set_use_server_name_indication(sni.is_some());
        if sni.is_none() {
            configured.set_verify_hostname(false);
            configured.set_verify(SslVerifyMode::NONE);
        }
        let stream = configured.connect(sni.unwrap_or("none"), tcp).map_err(|e| e.to_string())?;
        Ok(Self { wire: Wire::Tls(Box::new(stream)), ahead: Vec::new() })
    }

    pub fn ssl(&self) -> &boring::ssl::SslRef {
        match &self.wire {
            Wire::Tls(stream) => stream.ssl(),
            Wire::Plain(_) => panic!("not TLS"),
        }
    }

    pub fn tcp(&self) -> &TcpStream {
        match &self.wire {
            Wire::Plain(tcp) => tcp,
            Wire::Tls(stream) => stream.get_ref(),
        }
    }

    pub fn patience(&self, patience: Duration) {
        self.tcp().set_read_timeout(Some(patience)).unwrap();
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        match &mut self.wire {
            Wire::Plain(tcp) => tcp.write_all(bytes.as_ref()),
            Wire::Tls(tls) => tls.write_all(bytes.as_ref()),
        }
    }

    /// Says that nothing more will be sent (FIN).
    pub fn finish(&mut self) {
        if let Wire::Tls(tls) = &mut self.wire {
            let _ = tls.shutdown();
        }
        let _ = self.tcp().shutdown(std::net::Shutdown::Write);
    }

    /// One read; 0 at the end.
    pub fn read_some(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let n = match &mut self.wire {
            Wire::Plain(tcp) => tcp.read(&mut chunk)?,
            Wire::Tls(tls) => tls.read(&mut chunk)?,
        };
        self.ahead.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    /// Exactly `n` bytes.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        while self.ahead.len() < n {
            assert_ne!(self.read_some().unwrap(), 0, "closed after {} of {n}", self.ahead.len());
        }
        self.ahead.drain(..n).collect()
    }

    /// Up to and including `end`.
    pub fn take_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.ahead, end.as_bytes()) {
                let taken: Vec<u8> = self.ahead.drain(..at + end.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            let n = self.read_some().unwrap();
            assert_ne!(n, 0, "closed before {end:?}: {}", String::from_utf8_lossy(&self.ahead));
        }
    }

    /// Whether the other end closes (or resets) without another byte.
    pub fn closed(&mut self) -> bool {
        self.ahead.is_empty() && matches!(self.read_some(), Ok(0) | Err(_)) && !self.timed_out()
    }

    fn timed_out(&self) -> bool {
        // A socket that is still open would block on a peek.
        let mut byte = [0];
        self.tcp().set_nonblocking(true).unwrap();
        let open = matches!(self.tcp().peek(&mut byte),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        self.tcp().set_nonblocking(false).unwrap();
        open
    }

    /// Sends a request and reads the answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.answer(false)
    }

    /// GET with these header lines (each with its CRLF).
    pub fn get(&mut self, host: &str, path: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// Reads one final answer; `head_only` for HEAD requests.
    pub fn answer(&mut self, head_only: bool) -> Answer {
        loop {
            let head = self.take_until("\r\n\r\n");
            let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
            let mut answer = Answer { status, head, body: Vec::new() };
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            if head_only || status == 101 || status == 204 || status == 304 {
                return answer;
            }
            answer.body = self.body(&answer);
            return answer;
        }
    }

    fn body(&mut self, answer: &Answer) -> Vec<u8> {
        if answer.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            let mut body = Vec::new();
            loop {
                let chunk = self.chunk();
                if chunk.is_empty() {
                    return body;
                }
                body.extend(chunk);
            }
        }
        if let Some(length) = answer.header("content-length") {
            return self.take(length.parse().unwrap());
        }
        while self.read_some().is_ok_and(|n| n > 0) {}
        std::mem::take(&mut self.ahead)
    }

    /// One chunk of a chunked body; empty at its end (without trailers).
    pub fn chunk(&mut self) -> Vec<u8> {
        let size = self.take_until("\r\n");
        let size = usize::from_str_radix(size.trim().split(';').next().unwrap(), 16).unwrap();
        let chunk = self.take(size);
        assert_eq!(self.take(2), b"\r\n");
        chunk
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect_timeout(&address, SOON).unwrap())
}

/// A connection from this address of the loopback network.
pub fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.connect_timeout(&address.into(), SOON).unwrap();
    patient(socket.into())
}

fn patient(tcp: TcpStream) -> TcpStream {
    tcp.set_nodelay(true).unwrap();
    tcp.set_read_timeout(Some(SOON)).unwrap();
    tcp.set_write_timeout(Some(SOON)).unwrap();
    tcp
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}
