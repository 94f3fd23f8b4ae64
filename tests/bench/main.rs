//! Frontgate beside nginx and HAProxy, on the same work, in one run: `make bench`.
//!
//! `make bench ARGS="--rounds 5 --only h1,h2 --write docs"`

#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod connections;
mod growth;
mod latency;
mod load;
mod peers;
mod process;
mod reloads;
mod report;
#[path = "../black_box/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use self::{
    peers::{HOST, HOST_H2, Kind, Peer, Scale, Server},
    report::{Report, Row},
    support::certificates::Certificates,
};

/// What the command line asks for.
pub struct Options {
    rounds: usize,
    seconds: u64,
    only: Vec<String>,
    write: Option<PathBuf>,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { rounds: 3, seconds: 5, only: Vec::new(), write: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match &*word {
                "--rounds" => options.rounds = value().parse().unwrap(),
                "--seconds" => options.seconds = value().parse().unwrap(),
                "--only" => options.only = value().split(',').map(str::to_owned).collect(),
                "--write" => options.write = Some(value().into()),
                _ => panic!(
                    "unknown option {word}: --rounds N, --seconds N, --only KEY,…, --write DIR"
                ),
            }
        }
        options
    }

    fn wants(&self, key: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| key.starts_with(&**only))
    }
}

fn main() {
    let options = Options::read();
    open_files();
    let dir = tempfile::tempdir().unwrap();
    Certificates::write(dir.path());
    let server = Server::start(dir.path());
    let mut report = Report {
        machine: machine(),
        versions: Kind::ALL.map(|kind| (kind, kind.version())).to_vec(),
        rows: Vec::new(),
        own: Vec::new(),
    };
    let thousand = Scale { servers: 1000, ..Scale::ONE };
    for (works, scale) in [
        (one_worker(&options, dir.path()), Scale::ONE),
        (requests(ALL_CORES, options.seconds).into(), Scale::all_cores()),
        (requests(THOUSAND_SERVERS, options.seconds).into(), thousand),
    ] {
        let works: Vec<_> = works.into_iter().filter(|work| options.wants(work.key)).collect();
        if works.is_empty() {
            continue;
        }
        let peers = Kind::ALL.map(|kind| (kind, Peer::start(kind, dir.path(), &server, scale)));
        report.rows.extend(works.iter().map(|work| measure(work, &options, &peers)));
    }
    for (key, http2, names) in latency::KINDS {
        if options.wants(key) {
            report.rows.extend(latency::measure(&options, dir.path(), &server, http2, names));
        }
    }
    if options.wants("poll") {
        report.rows.push(polls(&options, dir.path(), &server));
    }
    if options.wants("reloads") {
        report.rows.extend(reloads::measure(&options, dir.path(), &server));
    }
    if options.wants("reload_1000_farms") {
        reloads::thousand_farms(&options, dir.path(), &server, &mut report);
    }
    growth::measure(&options, dir.path(), &server, &mut report);
    println!("\n{}", report.table());
    if let Some(dir) = &options.write {
        report.write(dir);
    }
}

/// A kind of work, and what a round of it costs.
struct Work<'a> {
    key: &'static str,
    name: &'static str,
    unit: &'static str,
    round: Box<dyn Fn(&Peer) -> f64 + 'a>,
}

type Requests = [(&'static str, &'static str, bool); 2];

const ONE_WORKER: Requests = [
    ("h1", "HTTP/1.1 → HTTP/1.1, TLS both sides", false),
    ("h2", "HTTP/2 → HTTP/1.1, TLS both sides", true),
];
const ALL_CORES: Requests = [
    ("all_cores_h1", "HTTP/1.1 → HTTP/1.1, a worker for every core", false),
    ("all_cores_h2", "HTTP/2 → HTTP/1.1, a worker for every core", true),
];

const THOUSAND_SERVERS: Requests = [
    ("servers_1000_h1", "HTTP/1.1 → HTTP/1.1, 1,000 servers", false),
    ("servers_1000_h2", "HTTP/2 → HTTP/1.1, 1,000 servers", true),
];

fn requests<'a>(of: Requests, seconds: u64) -> [Work<'a>; 2] {
    of.map(|(key, name, http2)| {
        let host = if http2 { HOST_H2 } else { HOST };
        let round = Box::new(move |peer: &Peer| load::request(peer, host, http2, seconds));
        Work { key, name, unit: "µs/request", round }
    })
}

fn one_worker<'a>(options: &Options, dir: &'a Path) -> Vec<Work<'a>> {
    let mut works = Vec::from(requests(ONE_WORKER, options.seconds));
    let mut add = |key, name, unit, round| works.push(Work { key, name, unit, round });
    for (key, name, ecdsa, resumed) in [
        ("handshake_rsa", "full TLS 1.2 handshake + request, RSA-2048", false, false),
        ("handshake_ecdsa", "full TLS 1.2 handshake + request, ECDSA P-256", true, false),
        ("handshake_resumed", "resumed TLS 1.2 handshake + request", false, true),
    ] {
        add(
            key,
            name,
            "µs",
            Box::new(move |peer| {
                let address = if ecdsa { peer.ecdsa } else { peer.rsa };
                connections::handshakes(peer, address, resumed, 500)
            }),
        );
    }
    for (key, name, body, up, times) in [
        ("body_1m_down", "1 MiB from the server", "1m", false, 50),
        ("body_1m_up", "1 MiB to the server", "1m", true, 50),
        ("body_100m_down", "100 MiB from the server", "100m", false, 2),
        ("body_100m_up", "100 MiB to the server", "100m", true, 2),
    ] {
        add(
            key,
            name,
            "µs/MiB",
            Box::new(move |peer| {
                let file = dir.join("files").join(body);
                let mib = times as f64 * if body == "1m" { 1.0 } else { 100.0 };
                let path = if up { "/up".to_owned() } else { format!("/files/{body}") };
                let file = up.then_some(&*file);
                let (spent, ()) =
                    peer.process.spent(|| load::bodies(peer.rsa, HOST, &path, file, times));
                spent / mib
            }),
        );
    }
    works
}

/// Rounds take turns, so that what the machine does besides meets all of them.
fn measure(work: &Work<'_>, options: &Options, peers: &[(Kind, Peer); 3]) -> Row {
    let mut row = Row::new(work.key, work.name, work.unit);
    for round in 0..options.rounds {
        for (kind, peer) in peers {
            let figure = (work.round)(peer);
            eprintln!("{} round {round}: {} {figure:.1} {}", work.key, kind.name(), work.unit);
            row.add(*kind, figure);
        }
    }
    row
}

/// Every round with a fresh process: memory that was once taken stays.
fn polls(options: &Options, dir: &Path, server: &Server) -> Row {
    let mut row = Row::new("poll", "memory a held long poll, TLS both sides", "KiB");
    for round in 0..options.rounds {
        for kind in Kind::ALL {
            let peer = Peer::start(kind, dir, server, Scale::ONE);
            let figure = connections::polls(&peer, server, 5000);
            eprintln!("poll round {round}: {} {figure:.1} KiB", kind.name());
            row.add(kind, figure);
        }
    }
    row
}

/// Processor, cores, kernel.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{}, {cores} cores, Linux {}",
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim()
    )
}

/// As many open files as may be; children inherit it.
fn open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both read and write what they are given.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    assert!(limit.rlim_cur >= 20_000, "at most {} open files: raise the limit", limit.rlim_cur);
}
