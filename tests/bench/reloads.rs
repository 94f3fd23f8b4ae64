//! What reloads cost those who are served meanwhile, and how long one takes.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Options,
    connections::{connect, connector},
    peers::{HOST, Kind, Peer, Scale, Server},
    report::{Report, Row, median},
};
use crate::support::until;

/// Reloads in a round, and the time between two of them.
const RELOADS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// Two rows: processor time of a request, and requests that were not answered.
pub fn measure(options: &Options, dir: &Path, server: &Server) -> [Row; 2] {
    let mut cost = Row::new("reloads_cost", "a request while 200 reloads happen", "µs");
    let mut lost = Row::new("reloads_lost", "not answered while 200 reloads happen", "of 100,000");
    for round in 0..options.rounds {
        for kind in Kind::ALL {
            let peer = Peer::start(kind, dir, server, Scale::ONE);
            let (spent, [answered, broken]) = peer.process.spent(|| {
                let crowd = Crowd::start(peer.rsa);
                for _ in 0..RELOADS {
                    peer.process.signal(kind.reload());
                    std::thread::sleep(PAUSE);
                }
                crowd.finish()
            });
            let all = answered + broken;
            eprintln!("reloads round {round}: {} {broken} of {all} not answered", kind.name());
            cost.add(kind, spent / answered as f64);
            lost.add(kind, broken as f64 * 1e5 / all as f64);
        }
    }
    [cost, lost]
}

/// Milliseconds from the signal until a site of 1,000 farms is in force, with another rule.
pub fn thousand_farms(options: &Options, dir: &Path, server: &Server, report: &mut Report) {
    let peer = Peer::start(Kind::Frontgate, dir, server, Scale { farms: 1000, ..Scale::ONE });
    let text = std::fs::read_to_string(&peer.file).unwrap();
    let connector = connector();
    let times: Vec<_> = (0..options.rounds)
        .map(|round| {
            let status = 520 + round;
            // Renamed into its place, so that nobody reads half of it; that asks for the reload.
            let next = peer.file.with_extension("next");
            let rule =
                format!("  - {{ host: {HOST}, path: /new, respond: {{ status: {status} }} }}\n");
            std::fs::write(&next, format!("{text}{rule}")).unwrap();
            let begun = Instant::now();
            std::fs::rename(&next, &peer.file).unwrap();
            peer.process.signal(libc::SIGHUP);
            until("the new site", Duration::from_secs(60), || {
                let mut stream = connect(&connector, peer.rsa, None);
                let request =
                    format!("GET /new HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).ok()?;
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                answer.starts_with(format!("HTTP/1.1 {status}").as_bytes()).then_some(())
            });
            begun.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    let what = "until a changed site of 1,000 farms is in force".to_owned();
    report.own.push(("reload_1000_farms", what, median(&times), "ms"));
}

/// Clients that ask over and over, and connect again where they have to.
struct Crowd {
    stop: Arc<AtomicBool>,
    /// Answered, and not answered.
    counts: Arc<[AtomicU64; 2]>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn start(address: SocketAddr) -> Self {
        let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<[AtomicU64; 2]>::default());
        let threads = (0..8)
            .map(|_| {
                let (stop, counts) = (stop.clone(), counts.clone());
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let mut stream = connect(&connector(), address, None);
                        while !stop.load(Ordering::Relaxed) {
                            let answered = ask(&mut stream);
                            let [good, broken] = &*counts;
                            let count = if answered.is_some() { good } else { broken };
                            count.fetch_add(1, Ordering::Relaxed);
                            // The last answer over this connection, or none.
                            if answered != Some(true) {
                                break;
                            }
                        }
                    }
                })
            })
            .collect();
        Self { stop, counts, threads }
    }

    fn finish(self) -> [u64; 2] {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a connection was refused");
        }
        [0, 1].map(|n: usize| self.counts[n].load(Ordering::Relaxed))
    }
}

/// Whether the connection can be used again; nothing if there was no whole answer.
fn ask(stream: &mut (impl Read + Write)) -> Option<bool> {
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("http/1.1 200"), "{head}");
            // The server's answer: a hundred bytes.
            if body.len() >= 100 {
                return Some(!head.contains("connection: close"));
            }
        }
        match stream.read(&mut chunk) {
            Ok(n @ 1..) => answer.extend_from_slice(&chunk[..n]),
            _ => return None,
        }
    }
}
