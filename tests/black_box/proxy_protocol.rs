//! Balancers in front that say whose connection it is: the PROXY protocol, versions 1 and 2.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
};

use frontgate::proxy_protocol::{Told, Version, write};

use crate::{
    forwarded::{echo, seen},
    support::{
        SOON,
        backend::{Backend, always, field},
        client::{Client, connect_from},
        frontgate::Frontgate,
        haproxy::Haproxy,
        servers_of, until,
    },
};

/// Where the balancer connects from.
const BALANCER: &str = "127.0.0.9";
const CLIENT: &str = "127.0.0.21";

/// An echo behind listeners that believe [`BALANCER`]; `top` are further settings.
pub fn start(backend: &Backend, top: &str, farm: &str) -> Frontgate {
    let proxied = format!("proxy_protocol: {{ from: [{BALANCER}, 10.0.0.0/8]");
    let servers = servers_of(&[("fe01", backend.port())]);
    Frontgate::with(&format!(
        "admin: {{ listen: 127.0.0.1:0 }}\n\
         access_log: {{ format: json, path: access.log }}\n\
         state_dir: state\ndomains: [contoso.com]\n{top}\n\
         listeners:\n  \
         - {{ name: public, address: \"127.0.0.1:0\", public_port: 443, tls: true, {proxied} }} }}\n  \
         - {{ name: plain, address: \"127.0.0.2:0\", {proxied} }} }}\n  \
         - {{ name: either, address: \"127.0.0.3:0\", {proxied}, required: false }} }}\n\
         certificates: [{{ cert: public.pem, key: public.key }}]\n\
         farms:\n  a: {{ servers: [{servers}], bridge: http{farm} }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n"
    ))
}

/// A header that names this client, and what it connected to.
pub fn header(version: Version, client: &str) -> Vec<u8> {
    let (source, destination) = (client.parse().unwrap(), "198.51.100.1:443".parse().unwrap());
    write(version, Told::Client { source, destination, tls: false })
}

/// A connection of the balancer, with these bytes sent.
pub fn balanced(address: SocketAddr, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut tcp = connect_from(BALANCER, address);
    // A listener that has heard enough closes while we still write.
    let _ = tcp.write_all(bytes.as_ref());
    tcp
}

/// The same, as a client whose plain requests follow.
pub fn behind(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Client {
    let mut client = Client::plain_from(BALANCER, address);
    client.send(bytes);
    client
}

fn over_tls(frontgate: &Frontgate, tcp: TcpStream) -> Client {
    let name = Some("meet.contoso.com");
    Client::tls_over(tcp, name, &frontgate.certificates, |_| ()).unwrap()
}

fn text<'l>(line: &'l serde_json::Value, name: &str) -> &'l str {
    line[name].as_str().unwrap_or_default()
}

#[test]
fn haproxy_names_its_clients() {
    let backend = echo();
    let frontgate = start(&backend, "", "");
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(frontgate.path().join(name)).unwrap();
    std::fs::write(dir.path().join("both.pem"), read("public.pem") + &read("public.key")).unwrap();
    let (https, http) = (frontgate.address("public"), frontgate.address("plain"));
    let ends_tls = format!(" ssl crt {}/both.pem", dir.path().display());
    let every = "proxy-v2-options crc32c,unique-id,authority,ssl,cert-cn,ssl-cipher";
    // Whether the client speaks TLS, how HAProxy listens, where it goes, and what it sends.
    let ways = [
        (true, "", https, "send-proxy".to_owned()),
        (true, "", https, "send-proxy-v2".to_owned()),
        (true, "", https, "send-proxy-v2 proxy-v2-options crc32c,unique-id".to_owned()),
        (false, "", http, "send-proxy".to_owned()),
        (false, "", http, "send-proxy-v2".to_owned()),
        (true, &ends_tls, http, "send-proxy-v2-ssl-cn".to_owned()),
        (true, &ends_tls, http, format!("send-proxy-v2 {every}")),
    ];
    let haproxy = Haproxy::start(dir.path(), ways.len(), |addresses| {
        let listens = ways.iter().zip(addresses).enumerate();
        let listens = listens.map(|(at, ((_, bind, server, send), address))| {
            format!(
                "listen l{at}\n  bind {address}{bind}\n  unique-id-format %{{+X}}o\\ %ci:%cp\n  \
                 server fg {server} {send} source {BALANCER}\n"
            )
        });
        listens.collect()
    });
    for (at, ((tls, ..), address)) in ways.iter().zip(&haproxy.addresses).enumerate() {
        let tcp = connect_from(CLIENT, *address);
        let own = tcp.local_addr().unwrap();
        let mut client = if *tls { over_tls(&frontgate, tcp) } else { Client::over(tcp) };
        for round in 0..2 {
            let head = seen(&mut client, &format!("/{at}/{round}"), &[]);
            assert_eq!(field(&head, "x-forwarded-for"), Some(CLIENT), "{:?}", ways[at]);
            // Also where TLS ends at HAProxy, which tells it.
            let scheme = if *tls { "https" } else { "http" };
            assert_eq!(field(&head, "x-forwarded-proto"), Some(scheme), "{:?}", ways[at]);
            let path = format!("/{at}/{round}");
            let line = frontgate.access_line(&path, |l| l["path"] == path.as_str());
            assert_eq!(text(&line, "client"), CLIENT);
            assert_eq!(line["client_port"], own.port());
            assert!(text(&line, "peer").starts_with(&format!("{BALANCER}:")), "{line}");
        }
    }
}

#[test]
fn health_checks_of_haproxy_are_its_own() {
    let backend = echo();
    let frontgate = start(&backend, "", "");
    let dir = tempfile::tempdir().unwrap();
    let http = frontgate.address("plain");
    let _haproxy = Haproxy::start(dir.path(), 2, |addresses| {
        let one = |name: &str, address, send: &str| {
            format!(
                "listen {name}\n  bind {address}\n  option httpchk\n  \
                 http-check send meth GET uri /{name} ver HTTP/1.1 hdr Host meet.contoso.com\n  \
                 server fg {http} {send} source {BALANCER} check check-send-proxy inter 200ms\n"
            )
        };
        one("v1", addresses[0], "send-proxy") + &one("v2", addresses[1], "send-proxy-v2")
    });
    for path in ["/v1", "/v2"] {
        let line = frontgate.access_line(path, |l| l["path"] == path);
        assert_eq!((text(&line, "client"), line["status"].as_u64()), (BALANCER, Some(200)));
    }
    let line = frontgate.access_line("LOCAL", |l| l["path"] == "/v2");
    assert!(line.get("peer").is_none(), "nobody was named: {line}");
}

/// The page's own HAProxy: nobody new is sent to a Frontgate that is about to stop, although that one
/// still accepts.
#[test]
fn haproxy_of_the_page_leaves_a_frontgate_that_stops() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/proxy-protocol.md");
    let page = std::fs::read_to_string(page).unwrap();
    let block = page.split("# haproxy.cfg,").nth(1).unwrap().split("```").next().unwrap();
    assert!(
        page.contains("\nhealth: { listen: \"0.0.0.0:9181\" }\n") && block.contains(" port 9181 ")
    );
    let both = ["one", "two"].map(|name| {
        let backend = Backend::plain(always(name));
        let top = "health: { listen: 127.0.0.2:0 }\nshutdown: { delay: 60s, drain: 1s }";
        (start(&backend, top, ""), backend)
    });
    let dir = tempfile::tempdir().unwrap();
    let haproxy = Haproxy::start(dir.path(), 1, |addresses| {
        let mut text = format!("# {block}").replace("bind :443", &format!("bind {}", addresses[0]));
        text = text.replace(" port 9181 ", &format!(" source {BALANCER} "));
        for ((frontgate, _), inside) in both.iter().zip(["10.0.1.1:443", "10.0.1.2:443"]) {
            assert!(text.contains(inside), "{text}");
            let (plain, health) = (frontgate.address("plain"), frontgate.address("health"));
            text = text.replace(inside, &format!("{plain} port {}", health.port()));
        }
        text
    });
    // A round, as HAProxy takes turns.
    let round = || {
        let ask = || Client::plain(haproxy.addresses[0]).get("meet.contoso.com", "/").text();
        let mut round = [(); 4].map(|()| ask());
        round.sort();
        round
    };
    until("both", SOON, || (round() == ["one", "one", "two", "two"]).then_some(()));
    both[0].0.signal(libc::SIGTERM);
    until("only the other", SOON, || (round() == ["two"; 4]).then_some(()));
    // It would have answered.
    let mut client = behind(both[0].0.address("plain"), header(Version::V2, "192.0.2.7:4711"));
    assert_eq!(client.get("meet.contoso.com", "/").text(), "one");
}

#[test]
fn headers_may_come_in_any_pieces() {
    let backend = echo();
    let frontgate = start(&backend, "", "");
    for version in [Version::V1, Version::V2] {
        let header = header(version, "192.0.2.7:4711");
        let slow = |address| {
            let mut tcp = balanced(address, b"");
            for byte in &header {
                tcp.write_all(&[*byte]).unwrap();
                // So that they are pieces for the other end, too.
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            tcp
        };
        let mut https = over_tls(&frontgate, slow(frontgate.address("public")));
        assert_eq!(field(&seen(&mut https, "/", &[]), "x-forwarded-for"), Some("192.0.2.7"));
        for name in ["plain", "either"] {
            let address = frontgate.address(name);
            let mut http = Client::over(slow(address));
            let head = seen(&mut http, "/slow", &[]);
            assert_eq!(field(&head, "x-forwarded-for"), Some("192.0.2.7"));
            // All at once, and the next request with it.
            let get = "GET /at-once HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n";
            let all = [&header[..], get.as_bytes(), get.as_bytes()].concat();
            let mut http = Client::over(balanced(address, all));
            for _ in 0..2 {
                let head = http.answer(false).text();
                assert_eq!(field(&head, "x-forwarded-for"), Some("192.0.2.7"));
            }
        }
    }
    let line = frontgate.access_line("told", |l| l["path"] == "/at-once");
    assert_eq!((text(&line, "client"), &line["client_port"]), ("192.0.2.7", &4711.into()));
}

#[test]
fn a_strangers_header_is_a_malformed_request() {
    let backend = echo();
    let frontgate = start(&backend, "", "");
    for name in ["plain", "either"] {
        let mut client = Client::plain(frontgate.address(name));
        client.send(header(Version::V1, "192.0.2.7:4711"));
        client.try_send("GET / HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n").ok();
        let answer = client.answer(false);
        assert_eq!((answer.status, answer.reason().as_str()), (400, "bad_request_line"));
        let mut client = Client::plain(frontgate.address(name));
        client.send(header(Version::V2, "192.0.2.7:4711"));
        client.try_send("GET / HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n").ok();
        assert_eq!(client.answer(false).status, 400);
        // Without one it is a client like any other.
        let head = seen(&mut Client::plain(frontgate.address(name)), "/own", &[]);
        assert_eq!(field(&head, "x-forwarded-for"), Some("127.0.0.1"));
    }
    let mut tcp = TcpStream::connect(frontgate.address("public")).unwrap();
    tcp.write_all(&header(Version::V1, "192.0.2.7:4711")).unwrap();
    let name = Some("meet.contoso.com");
    assert!(Client::tls_over(tcp, name, &frontgate.certificates, |_| ()).is_err());
    let head = seen(&mut frontgate.tls("meet.contoso.com"), "/own", &[]);
    assert_eq!(field(&head, "x-forwarded-for"), Some("127.0.0.1"));
    let clients: Vec<_> =
        frontgate.access().iter().map(|line| text(line, "client").to_owned()).collect();
    assert!(clients.iter().all(|client| client == "127.0.0.1"), "{clients:?}");
}

#[test]
fn headers_that_are_slow_cut_off_or_malformed_end_the_connection() {
    let backend = echo();
    let limits = "limits: { header_timeout: 2s, tls_handshake: 2s }";
    let frontgate = start(&backend, limits, "");
    let v2 = header(Version::V2, "192.0.2.7:4711");
    let changed = |at: usize, byte: u8| {
        let mut header = v2.clone();
        header[at] = byte;
        header
    };
    let malformed = "proxy_header_malformed";
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"GET / HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n".to_vec(), "proxy_header_missing"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "proxy_header_missing"),
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711\r\n".to_vec(), malformed),
        (b"PROXY TCP4 192.0.2.777 127.0.0.1 4711 443\r\n".to_vec(), malformed),
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\n".to_vec(), malformed),
        (b"PROXY UNKNOWN ".iter().copied().chain([b'x'; 200]).collect(), malformed),
        (changed(12, 0x31), malformed),
        (changed(12, 0x2f), malformed),
        (changed(13, 0x12), malformed),
        (changed(14, 0xff), malformed),
        (changed(15, 11), malformed),
        // They stop in the middle.
        (b"PROXY TCP4 192.0.2.7".to_vec(), "proxy_header_timeout"),
        (v2[..20].to_vec(), "proxy_header_timeout"),
        (Vec::new(), "proxy_header_timeout"),
    ];
    for name in ["public", "plain"] {
        let mut held = Vec::new();
        for (bytes, _) in &cases {
            held.push(Client::over(balanced(frontgate.address(name), bytes)));
        }
        for (client, case) in held.iter_mut().zip(&cases) {
            assert!(client.closed(), "{name}: {case:?}: without a word");
        }
        // Cut off by its sender; one that says nothing at all is how balancers look whether
        // somebody listens.
        let mut cut = Client::over(balanced(frontgate.address(name), b"PROXY TCP4"));
        cut.finish();
        assert!(cut.closed());
        drop(balanced(frontgate.address(name), b""));
        let lines = until("a line for each", crate::support::SOON, || {
            let lines = frontgate.access();
            let lines: Vec<_> = lines.into_iter().filter(|l| l["listener"] == name).collect();
            (lines.len() > cases.len()).then_some(lines)
        });
        let count = |reason: &str| lines.iter().filter(|l| l["reason"] == reason).count();
        assert_eq!(count("proxy_header_missing"), 2);
        assert_eq!(count("proxy_header_timeout"), 3);
        assert_eq!(count(malformed), 10);
        assert_eq!(lines.len(), cases.len() + 1);
        for line in &lines {
            assert_eq!(text(line, "client"), BALANCER, "never believed: {line}");
            assert!(line.get("peer").is_none() && line["bytes_sent"] == 0, "{line}");
        }
    }
    assert_eq!(backend.connections(), 0);
    assert_eq!(frontgate.log_count("panic"), 0);
    let mut client = behind(frontgate.address("plain"), header(Version::V1, "192.0.2.7:4711"));
    assert_eq!(field(&seen(&mut client, "/", &[]), "x-forwarded-for"), Some("192.0.2.7"));
}

#[test]
fn where_it_is_not_required_a_header_may_be_missing() {
    let backend = echo();
    let frontgate = start(&backend, "", "");
    let address = frontgate.address("either");
    let head = seen(&mut behind(address, b""), "/", &[]);
    assert_eq!(field(&head, "x-forwarded-for"), Some(BALANCER));
    // The first bytes of an HTTP header can come one by one, and an empty line before it.
    let mut client = behind(address, b"\r");
    for byte in b"\nPROPFIND /x HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n" {
        client.send([*byte]);
    }
    assert!(client.answer(false).text().starts_with("PROPFIND /x "));
    let mut client = behind(address, header(Version::V2, "[2001:db8::7]:4711"));
    assert_eq!(field(&seen(&mut client, "/", &[]), "x-forwarded-for"), Some("2001:db8::7"));
    let mut broken = behind(address, b"PROXY TCP4 192.0.2.7\r\n");
    assert!(broken.closed());
    frontgate.access_line("malformed", |l| l["reason"] == "proxy_header_malformed");
}

#[test]
fn one_client_behind_a_balancer_cannot_take_all() {
    let backend = echo();
    let frontgate = start(&backend, "limits: { connections_per_source: 2 }", "");
    let address = frontgate.address("plain");
    let mut held = Vec::new();
    for client in ["192.0.2.7:1", "192.0.2.7:2", "192.0.2.8:1", "[::ffff:192.0.2.8]:2"] {
        let mut one = behind(address, header(Version::V2, client));
        assert!(seen(&mut one, "/", &[]).starts_with("GET / "), "{client}");
        held.push(one);
    }
    for client in ["192.0.2.7:3", "192.0.2.8:3"] {
        let mut one = behind(address, header(Version::V2, client));
        assert!(one.closed(), "{client}");
    }
    frontgate.log_line("connections refused, the last from 192.0.2.7:3");
    // Those that wait for their header count for the balancer.
    let _waiting: Vec<_> = (0..2).map(|_| balanced(address, b"PROXY")).collect();
    until("the balancer has as many as it may have", crate::support::SOON, || {
        Client::over(balanced(address, b"")).closed().then_some(())
    });
    let mut stranger = Client::plain(address);
    assert!(seen(&mut stranger, "/", &[]).starts_with("GET / "));
}

#[test]
fn a_balancer_does_not_vouch_for_header_fields() {
    let backend = echo();
    let frontgate = start(&backend, &format!("trusted_proxies: [{BALANCER}, 192.0.2.99]"), "");
    let address = frontgate.address("plain");
    let lies = &["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"];
    let mut client = behind(address, header(Version::V1, "192.0.2.7:4711"));
    let head = seen(&mut client, "/client", lies);
    assert_eq!(field(&head, "x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(field(&head, "x-forwarded-proto"), Some("http"));
    let line = frontgate.access_line("client", |l| l["path"] == "/client");
    assert_eq!(text(&line, "client"), "192.0.2.7");
    // A trusted proxy behind the balancer is believed: the header named it.
    let mut proxy = behind(address, header(Version::V2, "192.0.2.99:4711"));
    let head = seen(&mut proxy, "/proxy", lies);
    assert_eq!(field(&head, "x-forwarded-for"), Some("6.6.6.6, 192.0.2.99"));
    let line = frontgate.access_line("proxy", |l| l["path"] == "/proxy");
    assert_eq!((text(&line, "client"), text(&line, "peer")), ("6.6.6.6", "192.0.2.99:4711"));
    // Where nobody was named the balancer is the client, and is no trusted proxy for all that.
    let unspec = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0";
    let unnamed: [(&str, &str, &[u8]); 4] = [
        ("unknown", "plain", b"PROXY UNKNOWN\r\n"),
        ("local", "plain", &write(Version::V2, Told::Itself)),
        ("unspec", "plain", unspec),
        ("without", "either", b""),
    ];
    for (way, listener, opening) in unnamed {
        let mut client = behind(frontgate.address(listener), opening);
        let path = format!("/{way}");
        let head = seen(&mut client, &path, lies);
        assert_eq!(field(&head, "x-forwarded-for"), Some(BALANCER), "{way}");
        assert_eq!(field(&head, "x-forwarded-proto"), Some("http"), "{way}");
        let line = frontgate.access_line(&path, |l| l["path"] == path.as_str());
        assert_eq!(text(&line, "client"), BALANCER, "{way}");
    }
    // `explain` tells the same.
    for (from, believed) in [(BALANCER, false), ("192.0.2.99", true)] {
        let words = ["explain", "http://meet.contoso.com/", "--from", from, "-H", lies[0]];
        let (code, out, err) = frontgate.command(&words);
        assert_eq!(code, 0, "{err}");
        assert_eq!(out.contains("is a trusted proxy"), believed, "{out}");
    }
}

#[test]
fn http2_comes_behind_a_header_too() {
    let backend = echo();
    let frontgate = start(&backend, "", ", connection_auth: off");
    let out = frontgate
        .curl("meet.contoso.com", "/h2")
        .args(["--http2", "--haproxy-protocol", "--interface", BALANCER])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let line = frontgate.access_line("HTTP/2", |l| l["path"] == "/h2");
    assert_eq!((text(&line, "protocol"), text(&line, "client")), ("HTTP/2.0", BALANCER));
    assert!(text(&line, "peer").starts_with(BALANCER), "curl names itself: {line}");
}

#[test]
fn a_reload_holds_for_new_connections() {
    let backend = echo();
    let frontgate = start(&backend, "", "");
    let address = frontgate.address("plain");
    let mut before = behind(address, header(Version::V1, "192.0.2.7:4711"));
    assert_eq!(field(&seen(&mut before, "/", &[]), "x-forwarded-for"), Some("192.0.2.7"));
    let config = std::fs::read_to_string(frontgate.config_path()).unwrap();
    frontgate.rewrite(&config.replace(BALANCER, "127.0.0.10"));
    until("the balancer is a stranger", crate::support::SOON, || {
        let mut client = behind(address, header(Version::V1, "192.0.2.7:4711"));
        client.try_send("GET / HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n").ok()?;
        (client.answer(false).status == 400).then_some(())
    });
    assert_eq!(field(&seen(&mut before, "/", &[]), "x-forwarded-for"), Some("192.0.2.7"));
}
