//! Connection-bound sign-ins: a server connection that carried one belongs to one client.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::support::{
    SOON,
    backend::{Backend, Wire, field, read_body, read_head, reply},
    client::Client,
    frontgate::{Frontgate, LISTENERS},
    until,
};

const GET: &str = "GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n";

/// A request that signs its connection in, in one leg: the scripted servers take a name for a
/// proof.
fn sign_in(user: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\nAuthorization: NTLM {user}\r\n\r\n")
}

/// A server that authenticates the TCP connection, as IIS does: whoever signed in last on it is
/// who all its requests come from. Without a sign-in it offers one. Answers `user connection`.
fn server() -> Backend {
    server_that_closes_after(|_| usize::MAX)
}

/// The same, but a connection ends without a word after so many requests.
fn server_that_closes_after(many: fn(usize) -> usize) -> Backend {
    Backend::plain(move |wire, number| {
        let mut user = String::from("nobody");
        for _ in 0..many(number) {
            let Some(head) = read_head(wire) else { return };
            read_body(wire, &head);
            if let Some(name) = field(&head, "authorization").and_then(|v| v.split(' ').nth(1)) {
                user = name.to_owned();
            }
            let sent = if user == "nobody" {
                wire.write_all(
                    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\n\
                      WWW-Authenticate: NTLM\r\nContent-Length: 6\r\n\r\nnobody",
                )
            } else {
                reply(wire, &format!("{user} {number}"))
            };
            if sent.is_err() {
                return;
            }
        }
    })
}

fn config(servers: &[(&str, u16)], limits: &str, farm: &str) -> String {
    let servers: Vec<_> = servers
        .iter()
        .map(|(name, port)| {
            format!("{{ name: {name}, address: 127.0.0.1, ports: {{ http: {port} }} }}")
        })
        .collect();
    format!(
        "{LISTENERS}{limits}farms:\n  a: {{ servers: [{}], bridge: http{farm} }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n",
        servers.join(", ")
    )
}

#[test]
fn a_leaving_client_takes_its_server_connection_along() {
    let (closed, told) = std::sync::mpsc::channel();
    let backend = Backend::plain(move |wire, _| {
        while let Some(head) = read_head(wire) {
            reply(wire, field(&head, "authorization").unwrap_or("none")).unwrap();
        }
        let _ = closed.send(Instant::now());
    });
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], "", ""));
    for tls in [false, true] {
        let mut client = if tls { frontgate.tls("meet.contoso.com") } else { frontgate.plain() };
        assert_eq!(client.ask(sign_in("alice")).text(), "NTLM alice");
        let left = Instant::now();
        drop(client);
        let closed = told.recv_timeout(SOON).unwrap();
        assert!(closed.duration_since(left) < Duration::from_secs(1));
    }
}

#[test]
fn a_closing_server_takes_its_client_connection_along() {
    // The first connection says so, the second closes without a word, the third goes on.
    let backend = Backend::plain(|wire, number| {
        let mut asked = 0;
        while read_head(wire).is_some() {
            asked += 1;
            if number == 0 {
                let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n0";
                wire.write_all(answer.as_bytes()).unwrap();
                return;
            }
            reply(wire, &number.to_string()).unwrap();
            if number == 1 && asked == 2 {
                return;
            }
        }
    });
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], "", ""));
    let mut told = frontgate.plain();
    let answer = told.ask(sign_in("alice"));
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("0", Some("close")));
    assert!(told.closed());

    let mut silent = frontgate.plain();
    assert_eq!(silent.ask(sign_in("alice")).header("connection"), Some("keep-alive"));
    assert_eq!(silent.ask(GET).text(), "1");
    // Its connection is gone: a new one to the same server, and this answer is the last.
    std::thread::sleep(Duration::from_millis(200)); // for the FIN to be noticed in the pool
    let last = silent.ask(GET);
    assert_eq!((last.text().as_str(), last.header("connection")), ("2", Some("close")));
    assert!(silent.closed());
}

#[test]
fn a_pin_never_moves_to_another_server() {
    let (one, two) = (server(), server());
    let frontgate = Frontgate::with(&config(&[("fe01", one.port()), ("fe02", two.port())], "", ""));
    let mut clients: Vec<_> = (0..4).map(|_| frontgate.plain()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        assert!(client.ask(sign_in(&format!("user{n}"))).text().starts_with(&format!("user{n}")));
    }
    let (one_port, before) = (one.port(), two.connections());
    drop(one);
    until("gone", SOON, || {
        std::net::TcpStream::connect(("127.0.0.1", one_port)).is_err().then_some(())
    });
    // Those whose connections live go on; a lost one is a 502 and not another server's 401.
    for client in &mut clients {
        let answer = client.ask(GET);
        assert!(answer.status == 200 || answer.status == 502, "{}", answer.head);
    }
    assert_eq!(two.connections(), before);
}

#[test]
fn pins_are_limited_and_those_that_never_sign_in_go_first() {
    let backend = server();
    let limits = "limits: { pins_per_source: 2 }\n";
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], limits, ""));
    let mut never = frontgate.plain();
    assert_eq!(never.ask(sign_in("nobody")).status, 401);
    let mut one = frontgate.plain();
    assert_eq!(one.ask(sign_in("one")).status, 200);
    // The third makes room at the cost of the one without an answer.
    let mut two = frontgate.plain();
    assert_eq!(two.ask(sign_in("two")).status, 200);
    assert!(never.closed());
    let mut three = frontgate.plain();
    let refused = three.ask(sign_in("three"));
    assert_eq!((refused.status, refused.reason().as_str()), (503, "too_many_pins"));
    // An offer alone takes no place.
    assert_eq!(three.ask(GET).status, 401);
    drop(one);
    until("a place", SOON, || (frontgate.plain().ask(sign_in("four")).status == 200).then_some(()));
    assert!(two.ask(GET).text().starts_with("two "));
}

#[test]
fn a_reload_that_changes_a_pin_allows_one_more_answer() {
    let (one, two) = (server(), server());
    let frontgate = Frontgate::with(&config(&[("fe01", one.port())], "", ""));
    let mut client = frontgate.plain();
    let mut other = frontgate.plain();
    assert_eq!(client.ask(sign_in("alice")).status, 200);
    assert_eq!(other.ask(GET).status, 401);
    // A timeout is none of its business.
    let reload = |text: &str| {
        let seen = frontgate.log_count(" reloaded (");
        frontgate.rewrite(text);
        until("reload", SOON, || (frontgate.log_count(" reloaded (") > seen).then_some(()));
    };
    reload(&config(&[("fe01", one.port())], "", ", timeout: 77s"));
    let same = client.ask(GET);
    assert_eq!((same.text().as_str(), same.header("connection")), ("alice 0", Some("keep-alive")));
    // Another server under the same name is another server.
    reload(&config(&[("fe01", two.port())], "", ", timeout: 77s"));
    let last = client.ask(sign_in("alice"));
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(client.closed());
    assert_eq!(one.connections() + two.connections(), 3);
    // A rule that is gone: one more answer, which is ours, and its server connection goes, too.
    let mut third = frontgate.plain();
    assert_eq!(third.ask(sign_in("carol")).status, 200);
    reload(&config(&[("fe01", two.port())], "", "").replace("meet.*", "dialin.*"));
    let last = third.ask(GET);
    assert_eq!((last.status, last.header("connection")), (404, Some("close")));
    assert!(third.closed());
}

#[test]
fn always_pins_from_the_first_request_and_off_lets_nothing_through() {
    let backend = server();
    let always =
        Frontgate::with(&config(&[("fe01", backend.port())], "", ", connection_auth: always"));
    let mut clients: Vec<_> = (0..3).map(|_| always.plain()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(GET).status, 401);
    }
    assert_eq!(backend.connections(), 3, "nothing is shared");

    let off = Frontgate::with(&config(&[("fe01", backend.port())], "", ", connection_auth: off"));
    let mut client = off.plain();
    let offered = client.ask(GET);
    assert_eq!((offered.status, offered.headers("www-authenticate").len()), (401, 0));
    let refused = client.ask(sign_in("alice"));
    assert_eq!((refused.status, refused.reason().as_str()), (403, "connection_auth_off"));
}

/// What one client saw: who it is, and whom the server took it for.
struct Theft {
    expected: Option<String>,
    got: String,
}

/// Clients that sign in, ask, leave and come back, in random order, over `connect`. Returns every
/// answer that named somebody else.
fn shuffle(
    seed: u64,
    steps: usize,
    connect: impl Fn() -> Client,
    mut now_and_then: impl FnMut(usize),
) -> Vec<Theft> {
    let mut random = seed;
    let mut next = move |below: usize| {
        // Knuth's MMIX generator: only the order has to vary.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut clients: HashMap<usize, (Client, Option<String>)> = HashMap::new();
    let mut thefts = Vec::new();
    for step in 0..steps {
        now_and_then(step);
        let slot = next(12);
        let (client, user) = clients.entry(slot).or_insert_with(|| (connect(), None));
        let request = match next(10) {
            0 => {
                clients.remove(&slot);
                continue;
            }
            1..=3 => {
                let name = format!("user{slot}x{step}");
                *user = Some(name.clone());
                sign_in(&name)
            }
            4 => {
                // Aborted in the middle of a request.
                let _ = client.try_send(&GET[..20]);
                clients.remove(&slot);
                continue;
            }
            5 => "POST /x HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 2\r\n\r\nhi"
                .to_owned(),
            _ => GET.to_owned(),
        };
        let answer = client.ask(request);
        let got = answer.text().split(' ').next().unwrap_or("").to_owned();
        let fine = match (answer.status, &*user) {
            // A lost sign-in is a nuisance; somebody else's is a theft.
            (401 | 502 | 503, _) => true,
            (200, Some(name)) => *name == got,
            _ => false,
        };
        if !fine {
            thefts.push(Theft { expected: user.clone(), got });
        }
        if answer.header("connection") == Some("close") {
            clients.remove(&slot);
        }
    }
    thefts
}

#[test]
fn no_interleaving_steals_an_identity() {
    // Connections that end in the middle bring stale ones and retries about.
    let backend = server_that_closes_after(|number| 3 + number % 17);
    let text = |timeout: usize, limits: &str| {
        let text = config(&[("fe01", backend.port())], limits, &format!(", timeout: {timeout}s"));
        // The same servers under a name where HTTP/2 is offered.
        let off = format!(
            "  off: {{ servers: [{{ address: 127.0.0.1, ports: {{ http: {} }} }}], bridge: http, connection_auth: off }}\npublish:\n  - {{ host: wac.contoso.com, farm: off }}\n",
            backend.port()
        );
        text.replace("publish:\n", &off)
    };
    // A pool far smaller than the clients need: pressure must never mix them up.
    let limits = "limits: { pins: 4, pins_per_source: 4 }\n";
    let frontgate = Frontgate::with(&text(100, limits));
    let (plain, https) = (frontgate.address("plain"), frontgate.address("public"));
    let certificates = frontgate.certificates.clone();
    let mut answers = 0;
    for seed in 0..4 {
        let connect = || {
            if seed % 2 == 0 {
                Client::plain(plain)
            } else {
                Client::tls(https, Some("meet.contoso.com"), &certificates)
            }
        };
        let thefts = shuffle(seed, 1500, connect, |step| {
            if step % 500 == 250 {
                frontgate.rewrite(&text(101 + step + seed as usize, limits));
            }
            if step % 500 == 400 {
                // HTTP/2, with credentials: as the name it was made for, and brought along.
                for (host, status) in [("wac.contoso.com", "403"), ("meet.contoso.com", "421")] {
                    let mut curl = frontgate.curl("wac.contoso.com", "/x");
                    curl.args(["--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"]);
                    curl.args(["-H", "Authorization: NTLM thief", "-H", &format!("Host: {host}")]);
                    let out = String::from_utf8(curl.output().unwrap().stdout).unwrap();
                    assert_eq!(out, format!("2 {status}"));
                }
            }
        });
        answers += 1500;
        let told: Vec<_> =
            thefts.iter().map(|t| format!("{:?} was {}", t.expected, t.got)).collect();
        assert!(told.is_empty(), "seed {seed}: {told:?}");
    }
    assert_eq!(answers, 6000);
}

/// The same against a stock nginx with upstream keep-alive: it must catch thefts, or the test
/// above proves nothing.
#[test]
fn the_same_shuffle_catches_a_proxy_that_shares_connections() {
    let backend = server();
    let dir = tempfile::tempdir().unwrap();
    let nginx = SharingNginx::start(dir.path(), backend.address);
    let thefts = shuffle(1, 1500, || Client::plain(nginx.address), |_| ());
    assert!(thefts.len() > 10, "only {} thefts", thefts.len());
}

struct SharingNginx {
    child: Child,
    address: SocketAddr,
}

impl SharingNginx {
    fn start(dir: &Path, server: SocketAddr) -> Self {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = dir.display();
        let conf = format!(
            "daemon off; pid {path}/nginx.pid; error_log {path}/nginx.log; worker_processes 1;\n\
             events {{ worker_connections 256; }} http {{ access_log off;\n\
             client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;\n\
             uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
             upstream fe {{ server {server}; keepalive 16; }}\n\
             server {{ listen {address}; location / {{ proxy_pass http://fe; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; }} }} }}\n"
        );
        std::fs::write(dir.join("nginx.conf"), conf).unwrap();
        let child = Command::new("/usr/sbin/nginx")
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .arg("-e")
            .arg(dir.join("nginx.log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed by scripts/dependencies.sh test");
        until("nginx", SOON, || std::net::TcpStream::connect(address).ok());
        Self { child, address }
    }
}

impl Drop for SharingNginx {
    fn drop(&mut self) {
        // SAFETY: kill(2) on a child we own; TERM lets the master stop its worker.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

/// Both ends of a pinned poll: a client that leaves in the middle ends it at the server.
#[test]
fn a_pinned_poll_ends_with_its_client() {
    let ended = Arc::new(Mutex::new(None));
    let told = ended.clone();
    let backend = Backend::plain(move |wire: &mut dyn Wire, _| {
        let Some(_) = read_head(wire) else { return };
        reply(wire, "signed in").unwrap();
        let Some(_) = read_head(wire) else { return };
        let n = wire.read(&mut [0; 1]);
        *told.lock().unwrap() = Some(n.is_ok_and(|n| n == 0));
    });
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], "", ""));
    let mut client = frontgate.plain();
    assert_eq!(client.ask(sign_in("alice")).text(), "signed in");
    client.send(GET);
    std::thread::sleep(Duration::from_millis(100)); // the poll hangs at the server
    drop(client);
    assert!(until("end", SOON, || ended.lock().unwrap().take()));
}

/// A pin that gets nothing but 401 holds its place for half a minute.
#[test]
fn a_pin_that_never_signs_in_is_cut_after_thirty_seconds() {
    let backend = server();
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], "", ""));
    let mut never = frontgate.plain();
    let mut offered = frontgate.plain();
    let mut signed_in = frontgate.plain();
    assert_eq!(never.ask(sign_in("nobody")).status, 401);
    assert_eq!(offered.ask(GET).status, 401);
    assert_eq!(signed_in.ask(sign_in("alice")).status, 200);
    never.patience(Duration::from_secs(60));
    let begun = Instant::now();
    assert!(never.closed());
    let held = begun.elapsed();
    assert!((25..40).contains(&held.as_secs()), "{held:?}");
    assert!(signed_in.ask(GET).text().starts_with("alice "));
    assert_eq!(offered.ask(GET).status, 401, "an offer alone is no pin");
}

/// While Frontgate drains, everybody stays who they are.
#[test]
fn a_drain_mixes_nobody_up() {
    let backend = server();
    let mut frontgate = Frontgate::with(&config(
        &[("fe01", backend.port())],
        "shutdown: { delay: 2s, drain: 20s }\n",
        "",
    ));
    let mut clients: Vec<_> = (0..12).map(|_| frontgate.plain()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        if n % 3 > 0 {
            assert_eq!(client.ask(sign_in(&format!("user{n}"))).status, 200);
        }
    }
    frontgate.signal(libc::SIGTERM);
    for round in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            let answer = client.ask(GET);
            match n % 3 {
                0 => assert_eq!(answer.status, 401, "round {round}"),
                _ => assert!(answer.text().starts_with(&format!("user{n} ")), "round {round}"),
            }
        }
    }
    assert_eq!(frontgate.exit_code(Duration::from_secs(15)), 0);
}

/// Connections without a sign-in find room in the pool beside those with one.
#[test]
fn anonymous_clients_do_not_put_out_a_sign_in() {
    let backend = server();
    let limits = "workers: 1\nlimits: { pins: 1 }\n";
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], limits, ""));
    let mut signed_in = frontgate.plain();
    assert_eq!(signed_in.ask(sign_in("alice")).text(), "alice 0");
    let mut others: Vec<_> = (0..150).map(|_| frontgate.plain()).collect();
    for other in &mut others {
        // The first meets the offer; the second has a server connection of its own.
        assert_eq!((other.ask(GET).status, other.ask(GET).status), (401, 401));
    }
    assert_eq!(signed_in.ask(GET).text(), "alice 0");
}

/// Only the server's close ends such a body, and a sign-in with it.
#[test]
fn an_answer_without_a_length_takes_its_client_connection_along() {
    let backend = Backend::plain(|wire: &mut dyn Wire, _| {
        if read_head(wire).is_some() {
            wire.write_all(b"HTTP/1.1 200 OK\r\n\r\nalice").unwrap();
        }
    });
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], "", ""));
    let mut client = frontgate.plain();
    let answer = client.ask(sign_in("alice"));
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("alice", Some("close")));
    assert!(client.closed());
}

/// A reload that turns a farm's sign-ins off ends those that were made.
#[test]
fn a_farm_turned_off_ends_its_sign_ins() {
    let backend = server();
    let on = config(&[("fe01", backend.port())], "", "");
    let frontgate = Frontgate::with(&on);
    let mut client = frontgate.plain();
    assert_eq!(client.ask(sign_in("alice")).text(), "alice 0");
    frontgate.rewrite(&config(&[("fe01", backend.port())], "", ", connection_auth: off"));
    until("reload", SOON, || (frontgate.log_count(" reloaded (") > 0).then_some(()));
    let last = client.ask(GET);
    assert_eq!((last.text().as_str(), last.header("connection")), ("nobody", Some("close")));
    assert!(client.closed());
}

/// Half a minute is for clients that never sign in; an answer may take longer, and so may what
/// follows a 101. Such an answer comes after 35 s here, where Outlook's takes half an hour.
#[test]
fn a_sign_in_may_be_answered_after_more_than_thirty_seconds() {
    let backend = Backend::plain(|wire: &mut dyn Wire, _| {
        let Some(head) = read_head(wire) else { return };
        let late = Duration::from_secs(35);
        if field(&head, "upgrade").is_some() {
            wire.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            .unwrap();
            std::thread::sleep(late);
            let _ = wire.write_all(b"late");
        } else {
            std::thread::sleep(late);
            let _ = reply(wire, "late");
        }
        let _ = read_head(wire);
    });
    let frontgate = Frontgate::with(&config(&[("fe01", backend.port())], "", ""));
    let (mut slow, mut tunnel) = (frontgate.plain(), frontgate.plain());
    slow.patience(Duration::from_secs(60));
    tunnel.patience(Duration::from_secs(60));
    slow.send(sign_in("alice"));
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    tunnel.send(sign_in("bob").trim_end().to_owned() + "\r\n" + upgrade);
    let head = tunnel.take_until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(slow.answer(false).text(), "late");
    assert_eq!(tunnel.take(4), b"late");
}
