//! What the tests of this folder share.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use boring::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{Ssl, SslAcceptor, SslMethod},
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};
use pingora::tls::tokio_ssl::SslStream;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::{Mutex, mpsc},
    task::JoinHandle,
};

use super::{
    Choice, Farm as Running, Tried, Wish,
    health::{Outcome, Thresholds},
    server::Server,
};
use crate::site::{
    Address, Affinity, Balance, Bridge, Check, ConnectionAuth, Farm, Passive, Place, Ports, Probe,
    Queue, Server as Spec, ServerTls, Verify,
};

impl Server {
    /// One look of a probe that decides at once.
    pub(crate) fn look(&self, voter: usize, outcome: Outcome) {
        self.probed(voter - 1, outcome, Thresholds::AT_ONCE);
    }
}

/// A running server at 127.0.0.1 with one probe that nobody runs.
pub(crate) fn server(name: &str) -> Arc<Server> {
    server_weighing(name, 100)
}

pub(crate) fn server_weighing(name: &str, weight: u32) -> Arc<Server> {
    let farm = Farm { probes: vec![tcp(9)], ..farm("lyncweb", &[name]) };
    Arc::new(greeted(&farm, Spec { weight, ..farm.servers[0].clone() }))
}

/// A server that nobody looks after.
pub(crate) fn greeted(farm: &Farm, spec: Spec) -> Server {
    Server::new(farm, spec, Arc::default(), Default::default())
}

/// The server that the next request gets, or none.
pub(crate) fn chosen(farm: &Running) -> Option<String> {
    let tried = Tried::default();
    let wish = Wish::anyone(farm.random_key(), &tried);
    match farm.choose(&wish) {
        Choice::Place(place) => Some(place.server().name().to_string()),
        Choice::Busy | Choice::Nobody => None,
    }
}

/// A farm without probes whose servers are all at 127.0.0.1.
pub(crate) fn farm(name: &str, servers: &[&str]) -> Farm {
    Farm {
        name: name.into(),
        preset: "none".into(),
        servers: servers.iter().map(|name| at(name, [127, 0, 0, 1].into())).collect(),
        bridge: Bridge::Same,
        host: None,
        tls: ServerTls { verify: Verify::Full, ca: None, digest: 0 },
        timeout: Duration::from_secs(1800),
        connect_timeout: Duration::from_secs(5),
        server_idle: Duration::from_secs(100),
        probes: Vec::new(),
        balance: Balance::RoundRobin,
        affinity: Affinity::None,
        passive: passive(),
        slow_start: Duration::ZERO,
        queue: Queue { size: 0, wait: Duration::from_secs(5) },
        connection_auth: ConnectionAuth::Auto,
        deny_paths: Vec::new(),
        plain_paths: Vec::new(),
        hide_headers: Vec::new(),
        forward: Default::default(),
        place: Place { file: "test.yaml".into(), line: 1, column: 1 },
    }
}

/// What the configuration says by default.
pub(crate) fn passive() -> Passive {
    Passive {
        connect: true,
        tls: true,
        reset: true,
        status: Vec::new(),
        failures: 10,
        within: Duration::from_secs(30),
        retry_after: Duration::from_secs(30),
        max_ejected: 50,
        min_servers: 1,
    }
}

pub(crate) fn at(name: &str, ip: IpAddr) -> Spec {
    Spec {
        name: name.into(),
        address: Address::Ip(ip),
        weight: 100,
        backup: false,
        max_requests: 0,
        ports: Ports { https: 4443, http: 8080 },
        tls_name: name.into(),
    }
}

pub(crate) fn named(name: &str) -> Spec {
    Spec { address: Address::Name(name.into()), ..at(name, [127, 0, 0, 1].into()) }
}

/// A quick probe: a second is long, one success or failure decides.
pub(crate) fn probe(check: Check) -> Probe {
    Probe {
        check,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(10),
        rise: 1,
        fall: 1,
    }
}

pub(crate) fn tcp(port: u16) -> Probe {
    probe(Check::Tcp { port })
}

/// A certificate authority of a test's own.
pub(crate) struct Authority {
    pub(crate) certificate: X509,
    key: PKey<Private>,
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub(crate) enum Valid {
    Before,
    Now,
    Later,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = key();
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let name = format!("Authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let certificate = certificate(&name, &key, None, Valid::Now);
        Self { certificate, key }
    }

    pub(crate) fn issue(&self, name: &str, valid: Valid) -> (X509, PKey<Private>) {
        let key = key();
        (certificate(name, &key, Some(self), valid), key)
    }
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn certificate(name: &str, key: &PKey<Private>, issuer: Option<&Authority>, valid: Valid) -> X509 {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let day = 24 * 3600;
    let (from, to) = match valid {
        Valid::Before => (now - 2 * day, now - day),
        Valid::Now => (now - day, now + day),
        Valid::Later => (now + day, now + 2 * day),
    };
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(std::process::id()).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    let issuer_name = issuer.map_or(&*subject, |authority| authority.certificate.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(from).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(to).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    match issuer {
        None => {
            let ca = BasicConstraints::new().critical().ca().build().unwrap();
            builder.append_extension(&ca).unwrap();
        }
        Some(authority) => {
            let context = builder.x509v3_context(Some(&authority.certificate), None);
            let names = SubjectAlternativeName::new().dns(name).build(&context).unwrap();
            builder.append_extension(&names).unwrap();
        }
    }
    let signer = issuer.map_or(key, |authority| &authority.key);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    builder.build()
}

/// A server on a port of the kernel's that gives every request the same answer.
pub(crate) struct Answering {
    pub(crate) port: u16,
    requests: Mutex<mpsc::UnboundedReceiver<String>>,
    task: JoinHandle<()>,
}

impl Answering {
    /// Answers and hangs up.
    pub(crate) async fn plain(answer: &str) -> Self {
        Self::start(answer, None, true).await
    }

    /// Answers and then says nothing more.
    pub(crate) async fn stopping(answer: &str) -> Self {
        Self::start(answer, None, false).await
    }

    pub(crate) async fn tls(answer: &str, (leaf, key): (X509, PKey<Private>)) -> Self {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        builder.set_certificate(&leaf).unwrap();
        builder.set_private_key(&key).unwrap();
        Self::start(answer, Some(builder.build()), true).await
    }

    async fn start(answer: &str, tls: Option<SslAcceptor>, hang_up: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, requests) = mpsc::unbounded_channel();
        let answer: Arc<str> = answer.into();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, tell, tls) = (answer.clone(), tell.clone(), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else {
                        return converse(stream, &answer, &tell, hang_up).await;
                    };
                    let ssl = Ssl::new(tls.context()).unwrap();
                    let mut stream = SslStream::new(ssl, stream).unwrap();
                    if Pin::new(&mut stream).accept().await.is_ok() {
                        converse(stream, &answer, &tell, hang_up).await;
                    }
                });
            }
        });
        Self { port, requests: Mutex::new(requests), task }
    }

    /// The header of the next request.
    pub(crate) async fn request(&self) -> String {
        let mut requests = self.requests.lock().await;
        let next = tokio::time::timeout(Duration::from_secs(10), requests.recv());
        next.await.expect("a request in time").unwrap()
    }

    pub(crate) fn no_more_requests(&self) -> bool {
        self.requests.try_lock().unwrap().try_recv().is_err()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &str,
    tell: &mpsc::UnboundedSender<String>,
    hang_up: bool,
) {
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => header.push(byte),
            Err(_) => return,
        }
    }
    let _ = tell.send(String::from_utf8(header).unwrap());
    let _ = stream.write_all(answer.as_bytes()).await;
    if hang_up {
        let _ = stream.shutdown().await;
    } else {
        let _ = stream.flush().await;
        let _ = stream.read_u8().await;
    }
}
