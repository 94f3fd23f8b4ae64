//! The service as a client sees it: questions on connections of their own, a hundred a second,
//! and others over connections that are kept.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(10);
/// An answer that takes longer is none: those who waited for a lost packet to be sent again would
/// hide what was lost.
const PATIENCE: Duration = Duration::from_millis(250);
/// Connections that are kept.
const KEPT: usize = 8;
const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n";

/// Asks until told to stop.
pub struct Watch {
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<Vec<Instant>>>,
    kept: Arc<AtomicUsize>,
    broken: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

/// What a client saw.
#[derive(Debug)]
pub struct Seen {
    /// Longest time without an answer.
    pub gap: Duration,
    /// Requests answered over kept connections.
    pub kept: usize,
    /// Kept connections that broke.
    pub broken: usize,
}

impl Watch {
    pub fn start(address: SocketAddr) -> Self {
        let mut watch = Self {
            stop: Arc::default(),
            answered: Arc::default(),
            kept: Arc::default(),
            broken: Arc::default(),
            threads: Vec::new(),
        };
        let (stop, answered) = (watch.stop.clone(), watch.answered.clone());
        watch.threads.push(spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let answered = answered.clone();
                spawn(move || {
                    let asked = connect(address).and_then(|mut tcp| ask(&mut tcp));
                    if asked.is_some() {
                        answered.lock().unwrap().push(Instant::now());
                    }
                });
                sleep(EVERY);
            }
        }));
        for _ in 0..KEPT {
            let (stop, kept, broken) =
                (watch.stop.clone(), watch.kept.clone(), watch.broken.clone());
            watch.threads.push(spawn(move || {
                let mut tcp = None;
                while !stop.load(Ordering::Relaxed) {
                    let Some(open) = &mut tcp else {
                        tcp = connect(address);
                        continue;
                    };
                    match ask(open) {
                        Some(true) => {}
                        // It was told to come back on another one.
                        Some(false) => tcp = None,
                        None => {
                            tcp = None;
                            broken.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                    }
                    kept.fetch_add(1, Ordering::Relaxed);
                    sleep(EVERY);
                }
            }));
        }
        watch
    }

    pub fn answers(&self) -> usize {
        self.answered.lock().unwrap().len()
    }

    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let mut answered = self.answered.lock().unwrap().clone();
        answered.sort();
        let gap = answered.windows(2).map(|pair| pair[1] - pair[0]).max();
        Seen {
            gap: gap.expect("answers"),
            kept: self.kept.load(Ordering::Relaxed),
            broken: self.broken.load(Ordering::Relaxed),
        }
    }
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let tcp = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    tcp.set_nodelay(true).ok()?;
    tcp.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(tcp)
}

/// One request: whether the connection stays. `None`: no answer.
fn ask(tcp: &mut TcpStream) -> Option<bool> {
    tcp.write_all(REQUEST).ok()?;
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\nok") {
        let mut chunk = [0; 1024];
        let n = tcp.read(&mut chunk).ok()?;
        if n == 0 {
            return None;
        }
        text.extend_from_slice(&chunk[..n]);
    }
    let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
    text.starts_with("http/1.1 200 ").then(|| !text.contains("connection: close"))
}
