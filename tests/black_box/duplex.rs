//! RPC over HTTP and other streams that live long, go both ways, and are larger than memory.

use std::{
    io::Read,
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use crate::support::{
    SOON,
    backend::{Backend, field, read_head},
    client::Client,
    frontgate::Frontgate,
    until,
};

fn start(backend: &Backend) -> Frontgate {
    Frontgate::start(&format!(
        "farms:\n  a: {{ servers: [{{ name: fe01, address: 127.0.0.1, ports: {{ http: {} }} }}], bridge: http, timeout: 4s }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http], body_timeout: 3s }}\n",
        backend.port()
    ))
}

/// One connection with both directions open: what the client sends is reported, what the test
/// orders is sent.
fn both_ways() -> (Backend, Receiver<Vec<u8>>, Sender<&'static [u8]>) {
    let (seen, got) = channel();
    let (order, orders) = channel::<&'static [u8]>();
    let orders = Mutex::new(orders);
    let backend = Backend::plain(move |wire, _| {
        let Some(_) = read_head(wire) else { return };
        wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").unwrap();
        let mut reader = wire.tcp().try_clone().unwrap();
        let seen = seen.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 64];
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                let _ = seen.send(chunk[..n].to_vec());
            }
        });
        let orders = orders.lock().unwrap();
        while let Ok(bytes) = orders.recv() {
            if wire.write_all(bytes).is_err() {
                return;
            }
        }
    });
    (backend, got, order)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Bytes in each direction arrive while the other idles. The machine is shared, so the middle one
/// of many counts.
#[test]
fn each_direction_flows_while_the_other_idles() {
    let (backend, got, order) = both_ways();
    let frontgate = start(&backend);
    let mut client = frontgate.tls("meet.contoso.com");
    client.send(
        "RPC_IN_DATA /rpc HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 1073741824\r\n\r\n",
    );
    client.take_until("\r\n\r\n");
    let up = (0..25).map(|_| {
        let begun = Instant::now();
        client.send("0123456789");
        assert_eq!(got.recv_timeout(SOON).unwrap(), b"0123456789");
        begun.elapsed()
    });
    let up = median(up.collect());
    let down = (0..25).map(|_| {
        let begun = Instant::now();
        order.send(b"9876543210").unwrap();
        assert_eq!(client.take(10), b"9876543210");
        begun.elapsed()
    });
    let down = median(down.collect());
    assert!(up < Duration::from_millis(50) && down < Duration::from_millis(50), "{up:?} {down:?}");
}

/// An hour of trickling on a shortened clock: `body_timeout` 3 s and `timeout` 4 s stand for 60 s
/// and 30 min, and bytes come every second for three times as long, in one direction only.
#[test]
fn a_trickle_outlives_every_timeout() {
    let (backend, got, order) = both_ways();
    let frontgate = start(&backend);
    let mut client = frontgate.plain();
    client.send(
        "RPC_IN_DATA /rpc HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 1073741824\r\n\r\n",
    );
    client.take_until("\r\n\r\n");
    for n in 0..12 {
        // The client's direction is bounded by `body_timeout`, the server's by `timeout`.
        client.send("u");
        assert_eq!(got.recv_timeout(SOON).unwrap(), b"u");
        if n % 3 == 0 {
            order.send(b"d").unwrap();
            assert_eq!(client.take(1), b"d");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(backend.connections(), 1);
}

fn resident_kib(pid: i32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Ten uploads of a gigabyte at once: bodies are never gathered.
#[test]
fn ten_uploads_of_a_gigabyte_take_no_memory() {
    const SIZE: u64 = 1 << 30;
    let backend = Backend::plain(|wire, _| {
        let Some(head) = read_head(wire) else { return };
        let mut left: u64 = field(&head, "content-length").unwrap().parse().unwrap();
        let mut chunk = vec![0; 1 << 20];
        while left > 0 {
            let n = wire.read(&mut chunk).unwrap();
            assert_ne!(n, 0);
            left -= n as u64;
        }
        wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
    });
    let frontgate = start(&backend);
    let address = frontgate.address("plain");
    let before = resident_kib(frontgate.pid(), "VmRSS:");
    let uploads: Vec<_> = (0..10)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::plain(address);
                client.patience(Duration::from_secs(120));
                client.send(format!(
                    "POST /up HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: {SIZE}\r\n\r\n"
                ));
                let chunk = vec![b'x'; 1 << 20];
                for _ in 0..SIZE >> 20 {
                    client.send(&chunk);
                }
                client.answer(false).text()
            })
        })
        .collect();
    for upload in uploads {
        assert_eq!(upload.join().unwrap(), "done");
    }
    let grown = resident_kib(frontgate.pid(), "VmHWM:") - before;
    assert!(grown < 64 << 10, "grew by {grown} KiB");
    // A line is written after its answer.
    let lines = until("ten lines", SOON, || {
        let lines = frontgate.access();
        (lines.len() == 10).then_some(lines)
    });
    let sent: u64 = lines.iter().map(|l| l["bytes_received"].as_u64().unwrap()).sum();
    assert_eq!(sent, 10 * SIZE);
}

/// 64 KiB of Kerberos ticket in one header, both ways round.
#[test]
fn large_negotiate_tokens_pass() {
    let backend = Backend::plain(|wire, _| {
        while let Some(head) = read_head(wire) {
            let token = field(&head, "authorization").unwrap().len();
            let offer = "y".repeat(60_000);
            write!(
                wire,
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate {offer}\r\nContent-Length: {}\r\n\r\n{token}",
                token.to_string().len()
            )
            .unwrap();
        }
    });
    let frontgate = start(&backend);
    let token = "x".repeat(64 * 1024);
    let mut client = frontgate.tls("meet.contoso.com");
    let answer = client.ask(format!(
        "GET /ews HTTP/1.1\r\nHost: meet.contoso.com\r\nAuthorization: Negotiate {token}\r\n\r\n"
    ));
    assert_eq!(answer.text(), (token.len() + "Negotiate ".len()).to_string());
    assert_eq!(answer.header("www-authenticate").unwrap().len(), 60_010);
}
