//! Connection-bound sign-ins: a server connection that carried one belongs to one client.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::support::{
    SOON,
    backend::{Backend, Wire, field, read_body, read_head, reply},
    frontgate::{Frontgate, LISTENERS},
    servers_of, until,
};

pub const GET: &str = "GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n";

/// A request that signs its connection in, in one leg: the scripted servers take a name for a
/// proof.
pub fn sign_in(user: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\nAuthorization: NTLM {user}\r\n\r\n")
}

/// A server that authenticates the TCP connection, as IIS does: whoever signed in last on it is
/// who all its requests come from. Without a sign-in it offers one. Answers `user connection`.
pub fn server() -> Backend {
    server_that_closes_after(|_| usize::MAX)
}

/// The same, but a connection ends without a word after so many requests.
pub fn server_that_closes_after(many: fn(usize) -> usize) -> Backend {
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

pub fn config(servers: &[(&str, u16)], limits: &str, farm: &str) -> String {
    format!(
        "{LISTENERS}{limits}farms:\n  a: {{ servers: [{}], bridge: http{farm} }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n",
        servers_of(servers)
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

/// The time that a sign-in waits for a place is not its client's: it is longer than half a minute
/// here.
#[test]
fn a_sign_in_may_wait_for_its_place() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let backend = Backend::plain(move |wire, _| {
        while let Some(head) = read_head(wire) {
            if head.starts_with("GET /hold ") {
                gate.lock().unwrap().recv().unwrap();
            }
            let answer = "HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
            if wire.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let text =
        config(&[("fe01", backend.port())], "", "").replacen("fe01,", "fe01, max_requests: 1,", 1);
    let frontgate = Frontgate::with(&text.replacen(
        "bridge: http",
        "bridge: http, queue: { size: 5, wait: 60s }",
        1,
    ));
    let mut signing = frontgate.plain();
    signing.patience(Duration::from_secs(60));
    assert_eq!(signing.ask(sign_in("alice")).status, 401);
    let mut holding = frontgate.plain();
    holding.patience(Duration::from_secs(60));
    holding.send("GET /hold HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n");
    until("the held request", SOON, || (backend.connections() == 2).then_some(()));
    signing.send(sign_in("alice"));
    std::thread::sleep(Duration::from_secs(34)); // longer than a pin without an answer may take
    go.send(()).unwrap();
    assert_eq!(holding.answer(false).status, 401);
    assert_eq!(signing.answer(false).status, 401);
}
