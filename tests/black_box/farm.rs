//! Servers that die, come back, hang or were never there.

use std::{
    net::TcpListener,
    process::Command,
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

/// A farm over these `(name, port)` servers.
fn config(servers: &[(&str, u16)], more: &str) -> String {
    format!(
        "farms:\n  a:\n    servers: [{}]\n    bridge: http\n{more}\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n",
        servers_of(servers)
    )
}

const PROBE: &str =
    "    probe: { path: /probe, interval: 1s, timeout: 1s, rise: 1, fall: 2, body: fine }\n";

/// Answers traffic with its name and probes with `fine`, unless told to stop.
fn server(name: &'static str) -> (Backend, std::sync::Arc<std::sync::atomic::AtomicU16>) {
    let status = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(200));
    let told = status.clone();
    let backend = Backend::plain(move |wire, _| {
        while let Some(head) = read_head(wire) {
            let status = told.load(std::sync::atomic::Ordering::SeqCst);
            let sent = if head.starts_with("GET /probe ") && status != 200 {
                let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
                wire.write_all(answer.as_bytes())
            } else if head.starts_with("GET /probe ") {
                reply(wire, "all is fine")
            } else {
                reply(wire, name)
            };
            if sent.is_err() {
                return;
            }
        }
    });
    (backend, status)
}

#[test]
fn round_robin_follows_the_weights() {
    let (one, two) = (Backend::plain(always("one")), Backend::plain(always("two")));
    let text = config(&[("fe01", one.port()), ("fe02", two.port())], "")
        .replace("fe02,", "fe02, weight: 50,");
    let frontgate = Frontgate::start(&text);
    let mut client = frontgate.plain();
    let answers: Vec<_> = (0..30).map(|_| client.ask(GET).text()).collect();
    assert_eq!(answers.iter().filter(|a| *a == "one").count(), 20);
    assert_eq!(answers.iter().filter(|a| *a == "two").count(), 10);
}

#[test]
fn a_dead_server_costs_a_client_nothing_and_all_dead_is_503_at_once() {
    let alive = Backend::plain(always("alive"));
    let (dead, dead2) = (Closed::new(), Closed::new());
    let frontgate = Frontgate::start(&config(&[("dead", dead.port()), ("fe01", alive.port())], ""));
    let mut client = frontgate.plain();
    for _ in 0..10 {
        // Connecting fails, nothing was sent: also a POST goes to the next server.
        assert_eq!(client.ask(GET).text(), "alive");
        let post = "POST /x HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(client.ask(post).text(), "alive");
    }
    let nobody = Frontgate::start(&config(&[("dead1", dead.port()), ("dead2", dead2.port())], ""));
    let answer = nobody.plain().ask(GET);
    assert_eq!((answer.status, answer.reason().as_str()), (502, "connect_failed"));

    let probed =
        Frontgate::start(&config(&[("dead1", dead.port()), ("dead2", dead2.port())], PROBE));
    probed.log_line("server dead1 is down: connect refused");
    probed.log_line("server dead2 is down: connect refused");
    let begun = Instant::now();
    let answer = probed.plain().ask(GET);
    assert_eq!((answer.status, answer.reason().as_str()), (503, "no_server"));
    assert!(begun.elapsed() < Duration::from_secs(1));
    let line = probed.access_line("503", |l| l["status"] == 503);
    assert_eq!((line["farm"].as_str(), line["reason"].as_str()), (Some("a"), Some("no_server")));
}

#[test]
fn probes_tell_once_why_a_server_is_out_and_bring_it_back() {
    let ((one, status), (two, _)) = (server("one"), server("two"));
    let servers = [("fe01", one.port()), ("fe02", two.port())];
    let frontgate = Frontgate::start(&config(&servers, PROBE));
    status.store(503, std::sync::atomic::Ordering::SeqCst);
    frontgate.log_line("farm a: server fe01 is down: status 503");
    let mut client = frontgate.plain();
    for _ in 0..10 {
        assert_eq!(client.ask(GET).text(), "two");
    }
    // State survives a reload and a changed weight; nothing is said again.
    let seen = frontgate.log_count(" reloaded (");
    let text = format!("{}{}", crate::support::frontgate::LISTENERS, config(&servers, PROBE));
    frontgate.rewrite(&text.replace("fe01,", "fe01, weight: 200,"));
    until("reload", SOON, || (frontgate.log_count(" reloaded (") > seen).then_some(()));
    for _ in 0..10 {
        assert_eq!(client.ask(GET).text(), "two");
    }
    std::thread::sleep(Duration::from_millis(2500)); // two more failing probes must stay silent
    frontgate.logged_times("server fe01 is down", 1);
    status.store(200, std::sync::atomic::Ordering::SeqCst);
    frontgate.log_line("farm a: server fe01 is up again");
    until("traffic again", SOON, || (client.ask(GET).text() == "one").then_some(()));
}

/// A body that does not match, and a TCP probe of another port.
#[test]
fn probes_check_the_body_and_other_ports() {
    let backend = Backend::plain(always("not so good"));
    let frontgate = Frontgate::start(&config(&[("fe01", backend.port())], PROBE));
    frontgate.log_line("server fe01 is down: body did not match");

    let sip = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = sip.local_addr().unwrap().port();
    let probe = format!("    probe: {{ tcp: {port}, interval: 1s, timeout: 1s, fall: 1 }}\n");
    let frontgate = Frontgate::start(&config(&[("fe01", backend.port())], &probe));
    assert_eq!(frontgate.plain().ask(GET).status, 200);
    drop(sip);
    frontgate.log_line("server fe01 is down: connect refused");
    assert_eq!(frontgate.plain().ask(GET).status, 503);
}

/// Names: resolved without blocking; one that does not resolve leaves the others alone.
#[test]
fn names_that_do_not_resolve_do_not_hold_up_the_others() {
    let alive = Backend::plain(always("alive"));
    let text = config(&[("fe01", alive.port()), ("lost", 1)], "")
        .replace("name: lost, address: 127.0.0.1", "name: lost, address: does-not-exist.invalid");
    let named = text.replace("name: fe01, address: 127.0.0.1", "name: fe01, address: localhost");
    let frontgate = Frontgate::start(&named);
    let mut client = frontgate.plain();
    for _ in 0..6 {
        assert_eq!(client.ask(GET).text(), "alive");
    }
    frontgate.log_line("does not resolve");
}

/// A Front End killed under load, as a process: after the probe saw it no request fails, and
/// none of the other's ever does.
#[test]
fn killing_a_front_end_under_load_fails_nothing_after_the_probe_saw_it() {
    let one = Sacrifice::start("one");
    let (two, _) = server("two");
    let frontgate = Frontgate::start(&config(&[("fe01", one.port), ("fe02", two.port())], PROBE));
    let plain = frontgate.address("plain");
    let connect = move || Client::plain(plain);
    // While it dies, a request it was working on may get its 502; the other's never do.
    let during = Load::start(4, connect, GET, |a| a.status == 200 || a.reason() == "server_closed");
    until("load", SOON, || (during.answered() > 100).then_some(()));
    drop(one);
    frontgate.log_line("server fe01 is down: ");
    during.finish();
    let after = Load::start(4, connect, GET, |a| a.status == 200 && a.text() == "two");
    until("more load", SOON, || (after.answered() > 500).then_some(()));
    after.finish();
    let failed: Vec<_> = frontgate.access().into_iter().filter(|l| l["status"] != 200).collect();
    assert!(failed.iter().all(|l| l["server"] == "fe01"), "{failed:#?}");
}

/// A Front End in a process of its own, so that killing it is real.
struct Sacrifice {
    child: std::process::Child,
    port: u16,
}

impl Sacrifice {
    fn start(name: &str) -> Self {
        let script = r#"
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # an answer leaves in one piece, so that it cannot be killed in its middle
    def do_GET(self):
        body = b"all is fine" if self.path == "/probe" else sys.argv[1].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), H)
print(s.server_address[1], flush=True)
s.serve_forever()
"#;
        let mut child = Command::new("python3")
            .args(["-c", script, name])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Sacrifice {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A slow header is no reason to give up on the next server, and what failed before the one that
/// answered is no reason in the log.
#[test]
fn a_slow_header_does_not_cost_the_next_server() {
    let alive = Backend::plain(always("alive"));
    let dead = Closed::new();
    let text =
        config(&[("dead", dead.port()), ("fe01", alive.port())], "    connect_timeout: 1s\n");
    let frontgate = Frontgate::start(&text);
    for _ in 0..2 {
        let mut client = frontgate.plain();
        client.send("GET /slow HTTP/1.1\r\n");
        std::thread::sleep(Duration::from_millis(3200)); // longer than three connect timeouts
        client.send("Host: meet.contoso.com\r\n\r\n");
        assert_eq!(client.answer(false).text(), "alive");
    }
    let line = frontgate.access_line("slow", |l| l["path"] == "/slow");
    assert!(line["reason"].is_null(), "{line}");
    // From when the first bytes were read, which a busy machine does late.
    assert!(line["duration_ms"].as_f64().unwrap() > 3000.0, "{line}");
}

/// An NTLM handshake has three legs on one connection to one server.
#[test]
fn a_sign_in_stays_with_its_server_and_its_connection() {
    let (one, two) = (Backend::plain(numbered("one")), Backend::plain(numbered("two")));
    let frontgate = Frontgate::start(&config(&[("fe01", one.port()), ("fe02", two.port())], ""));
    let sign_in = "GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\nAuthorization: nTLM TlRM\r\n\r\n";
    let mut clients: Vec<_> = (0..4).map(|_| frontgate.plain()).collect();
    let homes: Vec<_> = clients.iter_mut().map(|c| c.ask(sign_in).text()).collect();
    for _ in 0..3 {
        for (client, home) in clients.iter_mut().zip(&homes) {
            assert_eq!(&client.ask(sign_in).text(), home);
            assert_eq!(&client.ask(GET).text(), home, "also without credentials");
        }
    }
    let mut different = homes.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), homes.len(), "no two clients share one: {homes:?}");
    // A stranger never gets one of them.
    for _ in 0..8 {
        assert!(!homes.contains(&frontgate.plain().ask(GET).text()));
    }
}

/// Answers with the name and the number of the connection.
fn numbered(
    name: &'static str,
) -> impl Fn(&mut dyn crate::support::backend::Wire, usize) + Send + Sync {
    move |wire, number| {
        while read_head(wire).is_some() {
            if reply(wire, &format!("{name} {number}")).is_err() {
                return;
            }
        }
    }
}

/// A server that does not even take the connection, and one that takes it and never shakes hands.
#[test]
fn connecting_has_a_deadline_tls_included() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let full = socket.local_addr().unwrap().as_socket().unwrap();
    // Fill its queue: the kernel drops what comes then.
    let _held: Vec<_> = (0..4)
        .map(|_| std::net::TcpStream::connect_timeout(&full, Duration::from_millis(300)))
        .collect();
    let mute = Backend::plain(|wire, _| {
        let _ = wire.read(&mut [0; 4096]);
        let _ = wire.read(&mut [0; 4096]);
        std::thread::sleep(Duration::from_secs(20));
    });
    let frontgate = Frontgate::start(&format!(
        "farms:\n  full: {{ servers: [{{ address: 127.0.0.1, ports: {{ http: {} }} }}], bridge: http, connect_timeout: 1s }}\n  \
         mute: {{ servers: [{{ name: fe.contoso.local, address: 127.0.0.1, ports: {{ https: {} }} }}], bridge: https, connect_timeout: 1s, tls: {{ ca: internal-ca.pem }} }}\n\
         publish:\n  - {{ host: meet.*, farm: full, schemes: [http] }}\n  - {{ host: dialin.*, farm: mute, schemes: [http] }}\n",
        full.port(),
        mute.port()
    ));
    for (host, what) in [("meet.contoso.com", "TCP"), ("dialin.contoso.com", "TLS")] {
        let begun = Instant::now();
        let answer = frontgate.plain().get(host, "/");
        assert_eq!((answer.status, answer.reason().as_str()), (504, "connect_timeout"), "{what}");
        let held = begun.elapsed();
        assert!(
            (Duration::from_millis(900)..Duration::from_secs(4)).contains(&held),
            "{what} {held:?}"
        );
    }
}
