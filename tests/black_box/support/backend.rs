//! Servers that do exactly what a test tells them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use boring::ssl::{SslAcceptor, SslFiletype, SslMethod};

use super::{SOON, certificates::Certificates};

/// A connection as a backend sees it.
pub trait Wire: Read + Write + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for boring::ssl::SslStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }
}

/// A listening server; each connection runs the script on a thread of its own.
pub struct Backend {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Backend {
    /// Plain HTTP. The script gets the connection and its number, from 0.
    pub fn plain(script: impl Fn(&mut dyn Wire, usize) + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1", None, script)
    }

    /// TLS with the test's internal certificate.
    pub fn tls(
        certificates: &Certificates,
        script: impl Fn(&mut dyn Wire, usize) + Send + Sync + 'static,
    ) -> Self {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        let dir = &certificates.dir;
        builder.set_certificate_chain_file(dir.join("internal.pem")).unwrap();
        builder.set_private_key_file(dir.join("internal.key"), SslFiletype::PEM).unwrap();
        Self::listen("127.0.0.1", Some(builder.build()), script)
    }

    pub fn listen(
        ip: &str,
        acceptor: Option<SslAcceptor>,
        script: impl Fn(&mut dyn Wire, usize) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counter, stopped, script) = (connections.clone(), stop.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let (script, acceptor) = (script.clone(), acceptor.clone());
                std::thread::spawn(move || {
                    tcp.set_nodelay(true).unwrap();
                    tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                    match acceptor {
                        None => script(&mut { tcp }, number),
                        Some(acceptor) => {
                            if let Ok(mut tls) = acceptor.accept(tcp) {
                                script(&mut tls, number);
                            }
                        }
                    }
                });
            }
        });
        Self { address, connections, stop }
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, SOON);
    }
}

/// Reads one request header; `None` at the end of the connection.
pub fn read_head(wire: &mut dyn Wire) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match wire.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Value of a field in a header block, any letter case.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|l| l.split_once(':'))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.trim())
}

/// Reads a body, chunks decoded.
pub fn read_body(wire: &mut dyn Wire, head: &str) -> Vec<u8> {
    if field(head, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(read_line(wire).trim(), 16).unwrap();
            let mut chunk = vec![0; size];
            wire.read_exact(&mut chunk).unwrap();
            body.extend(chunk);
            assert_eq!(read_line(wire), "\r\n");
            if size == 0 {
                return body;
            }
        }
    }
    let length = field(head, "content-length").map_or(0, |v| v.parse().unwrap());
    let mut body = vec![0; length];
    wire.read_exact(&mut body).unwrap();
    body
}

/// Reads up to and including the next line end.
pub fn read_line(wire: &mut dyn Wire) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        wire.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// Answers every request of the connection with 200 and this text, until it ends.
pub fn always(text: &'static str) -> impl Fn(&mut dyn Wire, usize) + Send + Sync + 'static {
    move |wire, _| {
        while let Some(head) = read_head(wire) {
            read_body(wire, &head);
            if reply(wire, text).is_err() {
                return;
            }
        }
    }
}

/// Answers the first request of a connection once it is told to: each `send` lets one go.
pub fn held(text: &'static str) -> (Sender<()>, Backend) {
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Backend::plain(move |wire, _| {
        let Some(_) = read_head(wire) else { return };
        gate.lock().unwrap().recv().unwrap();
        reply(wire, text).unwrap();
    });
    (go, backend)
}

/// One 200 with a Content-Length body, in one write.
pub fn reply(wire: &mut dyn Wire, text: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    wire.write_all(head.as_bytes())?;
    wire.flush()
}
