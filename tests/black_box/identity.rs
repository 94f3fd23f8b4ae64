//! Nobody is ever taken for somebody else: thousands of random interleavings, and the proof that
//! they would catch a proxy that shares.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use crate::{
    pins::{GET, config, server, server_that_closes_after, sign_in},
    support::{SOON, client::Client, frontgate::Frontgate, nginx::Nginx, until},
};

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
    // A pool smaller than the clients need: pressure must never mix them up. It is sized at start,
    // by the connections that are allowed then.
    let limits = "limits: { pins: 4, pins_per_source: 4 }\n";
    let frontgate = Frontgate::with(&text(100, &limits.replace(" }", ", connections: 1 }")));
    frontgate.rewrite(&text(100, limits));
    until("reload", SOON, || (frontgate.log_count(" reloaded (") > 0).then_some(()));
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
    let nginx = Nginx::start(dir.path(), |address| sharing(address, backend.address));
    let thefts = shuffle(1, 1500, || Client::plain(nginx.address), |_| ());
    assert!(thefts.len() > 10, "only {} thefts", thefts.len());
}

/// What stands in the documentation of `keepalive`, and shares server connections.
fn sharing(address: SocketAddr, server: SocketAddr) -> String {
    format!(
        "upstream fe {{ server {server}; keepalive 16; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://fe; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; }} }}"
    )
}

/// While Frontgate drains, everybody stays who they are.
#[test]
fn a_drain_mixes_nobody_up() {
    let backend = server();
    let mut frontgate = Frontgate::with(&config(
        &[("fe01", backend.port())],
        "shutdown: { delay: 5s, drain: 20s }\n",
        "",
    ));
    let mut clients: Vec<_> = (0..12).map(|_| frontgate.plain()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        if n % 3 > 0 {
            assert_eq!(client.ask(sign_in(&format!("user{n}"))).status, 200);
        }
    }
    frontgate.signal(libc::SIGTERM);
    // Each answer is the last one of its connection, and those after it are elsewhere; for as long
    // as new ones are taken, that may be here.
    for (n, client) in clients.iter_mut().enumerate() {
        let answer = client.ask(GET);
        match n % 3 {
            0 => assert_eq!(answer.status, 401),
            _ => assert!(answer.text().starts_with(&format!("user{n} ")), "{}", answer.text()),
        }
        let mut again = frontgate.plain();
        assert_eq!(again.ask(GET).status, 401, "somebody else's connection");
        let answer = frontgate.plain().ask(sign_in(&format!("user{n}")));
        assert!(answer.text().starts_with(&format!("user{n} ")), "{}", answer.text());
    }
    assert_eq!(frontgate.exit_code(Duration::from_secs(25)), 0);
}
