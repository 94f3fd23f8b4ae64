//! Health learnt from live traffic, and what a farm does while its servers come and go.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    SOON,
    backend::{Backend, always, read_head, reply},
    client::Client,
    closed::Closed,
    frontgate::Frontgate,
    load::Load,
    servers_of, until,
};

const GET: &str = "GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n";
const POST: &str = "POST /x HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 2\r\n\r\nhi";

fn config(servers: &[(&str, u16)], more: &str) -> String {
    format!(
        "farms:\n  a:\n    servers: [{}]\n    bridge: http\n{more}\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [http] }}\n",
        servers_of(servers)
    )
}

/// Answers with this status, which a test may change, and its name.
fn with_status(name: &'static str) -> (Backend, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let told = status.clone();
    let backend = Backend::plain(move |wire, _| {
        while let Some(head) = read_head(wire) {
            if head.starts_with("POST") {
                let _ = wire.read(&mut [0; 2]);
            }
            let status = told.load(Ordering::SeqCst);
            let answer =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if wire.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    (backend, status)
}

#[test]
fn a_server_that_refuses_is_put_out_retried_and_taken_back() {
    let alive = Backend::plain(always("alive"));
    let closed = Closed::new();
    let frontgate = Frontgate::start(&config(
        &[("fe01", closed.port()), ("fe02", alive.port())],
        "    passive: { failures: 3, within: 30s, retry_after: 1s }\n",
    ));
    let mut client = frontgate.plain();
    for _ in 0..10 {
        assert_eq!(client.ask(GET).text(), "alive");
    }
    frontgate.log_line(
        "farm a: server fe01 is out for 1s: failures in live traffic: 3, the last one: connect",
    );
    // Tried again it fails again, and is out for twice as long.
    frontgate.log_line("server fe01 is tried again");
    until("the second time", SOON, || {
        assert_eq!(client.ask(GET).text(), "alive");
        (frontgate.log_count("server fe01 is out for 2s") == 1).then_some(())
    });
    let back = closed.open();
    std::thread::spawn(move || {
        for tcp in back.incoming().flatten() {
            std::thread::spawn(move || {
                let mut tcp = tcp;
                while read_head(&mut tcp).is_some() && reply(&mut tcp, "back").is_ok() {}
            });
        }
    });
    until("traffic", SOON, || (client.ask(GET).text() == "back").then_some(()));
    frontgate.log_line("server fe01 is back");
}

/// SOAP faults are 500, and a stranger can provoke as many as he likes.
#[test]
fn statuses_put_nobody_out_unless_they_are_asked_for() {
    let ((one, status), (two, _)) = (with_status("one"), with_status("two"));
    let servers = [("fe01", one.port()), ("fe02", two.port())];
    let frontgate = Frontgate::start(&config(&servers, "    passive: { failures: 2 }\n"));
    let mut client = frontgate.plain();
    for wrong in [500, 503, 401, 403, 404, 409] {
        status.store(wrong, Ordering::SeqCst);
        let answers: Vec<_> = (0..20).map(|_| client.ask(POST).status).collect();
        assert_eq!(answers.iter().filter(|s| **s == wrong).count(), 10);
    }
    assert_eq!(frontgate.log_count("is out for"), 0);
    // Asked for, also these are never a failure.
    let asked =
        Frontgate::start(&config(&servers, "    passive: { failures: 2, status: \"400-599\" }\n"));
    let mut client = asked.plain();
    for wrong in [401, 403, 404, 409] {
        status.store(wrong, Ordering::SeqCst);
        (0..20).for_each(|_| drop(client.ask(POST)));
    }
    assert_eq!(asked.log_count("is out for"), 0);
    status.store(503, Ordering::SeqCst);
    (0..10).for_each(|_| drop(client.ask(POST)));
    asked.log_line(
        "server fe01 is out for 30s: failures in live traffic: 2, the last one: status 503",
    );
    assert!((0..10).all(|_| client.ask(POST).text() == "two"));
}

/// A request over which servers hang up is tried at several of them; that is not their fault.
#[test]
fn a_request_that_kills_connections_puts_nobody_out() {
    let names = ["one", "two", "three", "four"];
    let backends = names.map(|name| {
        Backend::plain(move |wire, _| {
            while let Some(head) = read_head(wire) {
                if head.starts_with("GET /poison ") || reply(wire, name).is_err() {
                    return;
                }
            }
        })
    });
    let servers: Vec<_> = names.iter().zip(&backends).map(|(n, b)| (*n, b.port())).collect();
    let frontgate = Frontgate::start(&config(&servers, "    passive: { failures: 2 }\n"));
    let poison = GET.replace("/x", "/poison");
    for _ in 0..20 {
        let answer = frontgate.plain().ask(&poison);
        assert_eq!((answer.status, answer.reason().as_str()), (502, "server_closed"));
    }
    assert_eq!(frontgate.log_count("is out for"), 0);
    let mut client = frontgate.plain();
    let seen: std::collections::HashSet<_> = (0..8).map(|_| client.ask(GET).text()).collect();
    assert_eq!(seen.len(), 4);
}

/// Outlook Anywhere announces a gigabyte and its servers end it when they like; tunnels end too.
#[test]
fn streams_that_end_early_put_nobody_out() {
    let answers: [&'static [u8]; 2] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\nbegun",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi",
    ];
    let backends = [0, 1].map(|_| {
        Backend::plain(move |wire, _| {
            let Some(head) = read_head(wire) else { return };
            let _ = wire.write_all(answers[usize::from(!head.starts_with("RPC_OUT_DATA"))]);
        })
    });
    let servers = [("fe01", backends[0].port()), ("fe02", backends[1].port())];
    let frontgate = Frontgate::start(&config(&servers, "    passive: { failures: 2 }\n"));
    for _ in 0..8 {
        let mut out = frontgate.plain();
        out.send(GET.replace("GET", "RPC_OUT_DATA"));
        out.take_until("begun");
        while out.read_some().is_ok_and(|n| n > 0) {}
        let mut tunnel = frontgate.plain();
        let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        tunnel.send(GET.trim_end().to_owned() + "\r\n" + upgrade);
        tunnel.take_until("hi");
        while tunnel.read_some().is_ok_and(|n| n > 0) {}
    }
    until("sixteen lines", SOON, || (frontgate.access().len() >= 16).then_some(()));
    assert_eq!(frontgate.log_count("is out for"), 0);
}

/// Every Front End is overloaded: half of them get no new clients, but a farm stays a farm, and
/// affinity stays where it is.
#[test]
fn a_flood_of_503_drains_gently() {
    let (names, mut servers) = (["one", "two", "three", "four"], Vec::new());
    let backends: Vec<_> = names.map(with_status).into();
    for (name, (backend, _)) in names.iter().zip(&backends) {
        servers.push((*name, backend.port()));
    }
    let frontgate = Frontgate::start(&config(
        &servers,
        "    passive: { failures: 3, status: \"503\", retry_after: 5m }\n    affinity: { cookie: id }\n",
    ));
    let mut client = frontgate.plain();
    let mut homes = Vec::new();
    for _ in 0..4 {
        let answer = client.ask(GET);
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        homes.push((cookie, answer.text()));
    }
    backends.iter().for_each(|(_, status)| status.store(503, Ordering::SeqCst));
    for _ in 0..60 {
        assert_eq!(client.ask(GET).status, 503);
    }
    frontgate.logged_times("is out for 5m", 2);
    backends.iter().for_each(|(_, status)| status.store(200, Ordering::SeqCst));
    let fresh: std::collections::HashSet<_> = (0..20).map(|_| client.ask(GET).text()).collect();
    assert_eq!(fresh.len(), 2, "{fresh:?}");
    for (cookie, home) in homes {
        let request = GET.replace("\r\n\r\n", &format!("\r\nCookie: {cookie}\r\n\r\n"));
        assert_eq!(client.ask(request).text(), home);
    }
}

/// The whole farm dies at once: half of it is put out, everybody is still tried, and what comes
/// back is found.
#[test]
fn a_farm_that_died_is_found_again_at_once() {
    let (one, two) = (Flapping::new("one"), Flapping::new("two"));
    let servers = [("fe01", one.address.port()), ("fe02", two.address.port())];
    let frontgate =
        Frontgate::start(&config(&servers, "    passive: { failures: 2, retry_after: 5m }\n"));
    let mut client = frontgate.plain();
    for _ in 0..8 {
        let answer = client.ask(GET);
        assert_eq!((answer.status, answer.reason().as_str()), (502, "connect_failed"));
        client = frontgate.plain();
    }
    frontgate.logged_times("is out for", 1);
    // The one that is out is the one that comes back: better a doubtful server than none.
    let out = if frontgate.log_count("server fe01 is out") == 1 { &one } else { &two };
    out.up();
    assert_eq!(client.ask(GET).text(), out.name);
    one.down();
    two.down();
}

/// A server that a test takes down and brings up again, with all its connections, at one address.
struct Flapping {
    name: &'static str,
    address: SocketAddr,
    state: Arc<Mutex<Up>>,
}

#[derive(Default)]
struct Up {
    running: Option<Arc<AtomicBool>>,
    connections: Vec<TcpStream>,
}

impl Flapping {
    /// Down at first, at an address of its own.
    fn new(name: &'static str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { name, address, state: Arc::default() }
    }

    fn is_up(&self) -> bool {
        self.state.lock().unwrap().running.is_some()
    }

    fn up(&self) {
        let listener = until("the address", SOON, || TcpListener::bind(self.address).ok());
        let running = Arc::new(AtomicBool::new(true));
        self.state.lock().unwrap().running = Some(running.clone());
        let (name, state) = (self.name, self.state.clone());
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                if !running.load(Ordering::SeqCst) {
                    return;
                }
                state.lock().unwrap().connections.push(tcp.try_clone().unwrap());
                std::thread::spawn(move || serve(tcp, name));
            }
        });
    }

    fn down(&self) {
        let (running, connections) = {
            let mut state = self.state.lock().unwrap();
            (state.running.take(), std::mem::take(&mut state.connections))
        };
        if let Some(running) = running {
            running.store(false, Ordering::SeqCst);
            let _ = TcpStream::connect(self.address);
        }
        for tcp in connections {
            let _ = tcp.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn serve(mut tcp: TcpStream, name: &str) {
    while read_head(&mut tcp).is_some() {
        // Long enough to be killed in the middle of it.
        std::thread::sleep(Duration::from_millis(5));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        if tcp.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Sixteen servers fail and come back at random for a minute of load, a few of them up at any
/// time: not one GET fails.
#[test]
fn no_get_fails_while_servers_come_and_go() {
    const STAY: usize = 4;
    let names: Vec<&'static str> =
        (0..16).map(|n| &*Box::leak(format!("fe{n:02}").into_boxed_str())).collect();
    let servers: Vec<_> = names.iter().map(|name| Flapping::new(name)).collect();
    servers.iter().for_each(Flapping::up);
    let listed: Vec<_> = servers.iter().map(|s| (s.name, s.address.port())).collect();
    let frontgate = Frontgate::start(&config(
        &listed,
        "    passive: { failures: 5, within: 5s, retry_after: 1s }\n    \
         probe: { path: /, interval: 1s, timeout: 1s, rise: 1, fall: 2 }\n",
    ));
    let plain = frontgate.address("plain");
    let load = Load::start(8, move || Client::plain(plain), GET, |a| a.status == 200);
    let end = Instant::now() + Duration::from_secs(60);
    // A generator of its own, so that a failure can be played again.
    let mut seed = 42u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let mut changes = 0;
    while Instant::now() < end {
        let server = &servers[random(16)];
        if !server.is_up() {
            server.up();
            changes += 1;
        } else if servers.iter().filter(|s| s.is_up()).count() > STAY {
            server.down();
            changes += 1;
        }
        std::thread::sleep(Duration::from_millis(20 + random(80) as u64));
    }
    let answered = load.finish();
    println!("{answered} answers, {changes} changes");
    assert!(answered > 1000 && changes > 300, "{answered} {changes}");
    servers.iter().for_each(Flapping::down);
}
