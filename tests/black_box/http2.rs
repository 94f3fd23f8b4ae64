//! HTTP/2 from clients.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::support::{
    backend::{Backend, always, read_body, read_head, reply},
    client::Client,
    frontgate::{Frontgate, LISTENERS},
};

fn config(backend: &Backend) -> String {
    format!(
        "farms:\n  a:\n    servers: [{{ name: fe01, address: 127.0.0.1, ports: {{ http: {} }} }}]\n    \
         bridge: http\n    connection_auth: off\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n",
        backend.port()
    )
}

/// F4: an HTTP/2 body without Content-Length ends once on the HTTP/1 side.
#[test]
fn h2_body_ends_once() {
    let extra = Arc::new(Mutex::new(Vec::new()));
    let seen = extra.clone();
    let backend = Backend::plain(move |wire, _| {
        while let Some(head) = read_head(wire) {
            if !head.contains(" HTTP/1.1\r\n") {
                seen.lock().unwrap().push(head);
                return;
            }
            let body = read_body(wire, &head);
            reply(wire, &String::from_utf8(body).unwrap()).unwrap();
        }
    });
    let frontgate = Frontgate::start(&config(&backend));
    for _ in 0..3 {
        let mut curl = frontgate.curl("meet.contoso.com", "/x");
        curl.args(["--http2", "-T", "-", "-X", "POST", "-w", " %{http_version}"]);
        curl.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = curl.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"streamed").unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "streamed 2");
    }
    assert!(extra.lock().unwrap().is_empty(), "{:?}", extra.lock().unwrap());
}

#[test]
fn http2_is_offered_only_where_no_farm_binds_sign_ins() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&format!(
        "farms:\n  off: {{ servers: [{{ address: 127.0.0.1, ports: {{ http: {0} }} }}], bridge: http, connection_auth: off }}\n  \
         auto: {{ servers: [{{ address: 127.0.0.1, ports: {{ http: {0} }} }}], bridge: http }}\n\
         publish:\n  - {{ host: wac.contoso.com, farm: off }}\n  - {{ host: meet.contoso.com, farm: auto }}\n",
        backend.port()
    ));
    let version = |host: &str, extra: &[&str]| {
        let mut curl = frontgate.curl(host, "/");
        let out = curl.args(["--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"]);
        String::from_utf8(out.args(extra).output().unwrap().stdout).unwrap()
    };
    assert_eq!(version("wac.contoso.com", &[]), "2 200");
    assert_eq!(version("meet.contoso.com", &[]), "1.1 200");
    // The certificate covers it, but the name binds sign-ins.
    assert_eq!(version("wac.contoso.com", &["-H", "Host: meet.contoso.com"]), "2 421");
}

/// COMPAT: clients split `Cookie` in HTTP/2, servers expect one field.
#[test]
fn h2_cookies_arrive_as_one() {
    let backend = Backend::plain(|wire, _| {
        while let Some(head) = read_head(wire) {
            reply(wire, &head).unwrap();
        }
    });
    let frontgate = Frontgate::start(&config(&backend));
    let out = frontgate
        .curl("meet.contoso.com", "/x?y")
        .args(["--http2", "-H", "Cookie: a=1", "-H", "Cookie: b=2", "-w", "%{http_version}"])
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&out.stdout).to_lowercase();
    assert!(seen.starts_with("get /x?y http/1.1\r\n") && seen.ends_with('2'), "{seen}");
    assert!(seen.contains("\r\ncookie: a=1; b=2\r\n"), "{seen}");
    assert!(seen.contains("\r\nhost: meet.contoso.com:"), "{seen}");
    let line = frontgate.access_line("h2", |l| l["protocol"] == "HTTP/2.0");
    assert_eq!((line["status"].as_u64(), line["path"].as_str()), (Some(200), Some("/x")));
}

#[test]
fn h2_idle_connection_closes() {
    let backend = Backend::plain(always("ok"));
    let limits = "limits: { keep_alive: 1s }\n";
    let frontgate = Frontgate::with(&format!("{LISTENERS}{limits}{}", config(&backend)));
    let mut client = Client::tls_with(
        frontgate.address("public"),
        Some("meet.contoso.com"),
        &frontgate.certificates,
        |b| b.set_alpn_protos(b"\x02h2").unwrap(),
    )
    .unwrap();
    assert_eq!(client.ssl().selected_alpn_protocol(), Some(&b"h2"[..]));
    // The preface and empty SETTINGS, and nothing more.
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00");
    let begun = Instant::now();
    while client.read_some().is_ok_and(|n| n > 0) {}
    let held = begun.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(8)).contains(&held), "{held:?}");
}

/// A client that negotiates h2 and then says nothing is bound by the header's deadline, and a
/// stop does not wait for one that never answers.
#[test]
fn h2_without_a_preface_closes() {
    let backend = Backend::plain(always("ok"));
    let limits = "limits: { header_timeout: 1s, keep_alive: 60s }\nshutdown: { drain: 60s }\n";
    let mut frontgate = Frontgate::with(&format!("{LISTENERS}{limits}{}", config(&backend)));
    let connect = |frontgate: &Frontgate| {
        Client::tls_with(
            frontgate.address("public"),
            Some("meet.contoso.com"),
            &frontgate.certificates,
            |b| b.set_alpn_protos(b"\x02h2").unwrap(),
        )
        .unwrap()
    };
    let mut silent = connect(&frontgate);
    let begun = Instant::now();
    while silent.read_some().is_ok_and(|n| n > 0) {}
    assert!(begun.elapsed() < Duration::from_secs(5));

    let mut vanished = connect(&frontgate);
    vanished.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00");
    vanished.read_some().unwrap();
    let begun = Instant::now();
    frontgate.signal(libc::SIGTERM);
    assert_eq!(frontgate.exit_code(Duration::from_secs(15)), 0);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// An upload over HTTP/2 that stops is ended by the rule's `body_timeout`; one that trickles is not.
#[test]
fn h2_body_that_stalls_ends() {
    let backend = Backend::plain(|wire, _| {
        while let Some(head) = read_head(wire) {
            read_body(wire, &head);
            reply(wire, "got it").unwrap();
        }
    });
    let text = config(&backend).replace("farm: a,", "farm: a, body_timeout: 2s,");
    let frontgate = Frontgate::start(&text);
    let upload = |pieces: usize, pause: Duration| {
        let mut curl = frontgate.curl("meet.contoso.com", "/up");
        curl.args(["--http2", "-T", "-", "-X", "POST", "-w", "%{http_version}"]);
        curl.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = curl.stderr(std::process::Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for _ in 0..pieces {
            stdin.write_all(b"piece").unwrap();
            std::thread::sleep(pause);
        }
        let _ = stdin.write_all(b"last");
        drop(stdin);
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    assert_eq!(upload(4, Duration::from_secs(1)), "got it2");
    let begun = Instant::now();
    assert!(!upload(1, Duration::from_secs(4)).contains("got it"));
    assert!(begun.elapsed() < Duration::from_secs(10));
    let line = frontgate.access_line("stalled", |l| l["reason"] == "body_timeout");
    assert_eq!((line["method"].as_str(), line["path"].as_str()), (Some("POST"), Some("/up")));
    assert_eq!((line["status"].as_u64(), line["server"].as_str()), (Some(408), Some("fe01")));
}

/// What was answered is delivered, however slowly it is read, before the connection ends.
#[test]
fn h2_answers_reach_a_slow_reader_to_the_end() {
    const SIZE: usize = 600_000;
    let backend = Backend::plain(|wire, _| {
        while read_head(wire).is_some() {
            if reply(wire, &"x".repeat(SIZE)).is_err() {
                return;
            }
        }
    });
    let limits = "limits: { keep_alive: 2s }\n";
    let mut frontgate = Frontgate::with(&format!("{LISTENERS}{limits}{}", config(&backend)));
    let read = |frontgate: &Frontgate| {
        let mut curl = frontgate.curl("meet.contoso.com", "/x");
        curl.args(["--http2", "--limit-rate", "60k", "-o", "/dev/null"]);
        curl.args(["-w", "%{size_download} %{http_code}"]);
        curl.stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    let (idle, stopping) = (read(&frontgate), read(&frontgate));
    std::thread::sleep(Duration::from_secs(1)); // both are being answered
    frontgate.signal(libc::SIGTERM);
    for child in [idle, stopping] {
        let out = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), format!("{SIZE} 200"));
    }
    assert_eq!(frontgate.exit_code(Duration::from_secs(40)), 0);
}
