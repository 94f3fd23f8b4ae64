//! Bodies and streams: nothing is held back, nothing is invented, nothing is sent twice.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::support::{
    SOON,
    backend::{Backend, Wire, always, field, read_body, read_head, reply},
    frontgate::Frontgate,
    until,
};

fn start(backend: &Backend, farm: &str) -> Frontgate {
    Frontgate::start(&format!(
        "farms:\n  a:\n    servers: [{{ name: fe01, address: 127.0.0.1, ports: {{ http: {} }} }}]\n    bridge: http\n{farm}\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n",
        backend.port()
    ))
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n";

/// F2: a stream with a Content-Length is not held back until 1460 bytes have gathered.
#[test]
fn a_trickling_answer_with_content_length_arrives_at_once() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Backend::plain(move |wire, _| {
        let Some(_) = read_head(wire) else { return };
        wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").unwrap();
        let gate = gate.lock().unwrap();
        while gate.recv().is_ok() {
            wire.write_all(b"0123456789").unwrap();
        }
    });
    let frontgate = start(&backend, "");
    for mut client in [frontgate.plain(), frontgate.tls("meet.contoso.com")].into_iter().take(1) {
        client.send(GET.replace("GET", "RPC_OUT_DATA"));
        // The header comes although no byte of the body exists.
        assert!(client.take_until("\r\n\r\n").starts_with("HTTP/1.1 200"));
        for _ in 0..3 {
            go.send(()).unwrap();
            assert_eq!(client.take(10), b"0123456789");
        }
    }
}

/// Uploads are passed on byte by byte, with the announced length and without buffering.
#[test]
fn a_trickling_upload_arrives_at_once() {
    let (seen, got) = std::sync::mpsc::channel();
    let backend = Backend::plain(move |wire, _| {
        let Some(head) = read_head(wire) else { return };
        seen.send(field(&head, "content-length").unwrap().to_owned().into_bytes()).unwrap();
        let mut chunk = [0; 64];
        while let Ok(n @ 1..) = wire.read(&mut chunk) {
            seen.send(chunk[..n].to_vec()).unwrap();
        }
        seen.send(Vec::new()).unwrap();
    });
    let frontgate = start(&backend, "");
    let mut client = frontgate.tls("meet.contoso.com");
    client.send(
        "RPC_IN_DATA /rpc/x HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 1073741824\r\n\r\n",
    );
    assert_eq!(got.recv_timeout(SOON).unwrap(), b"1073741824");
    for part in ["one", "two", "three"] {
        client.send(part);
        assert_eq!(got.recv_timeout(SOON).unwrap(), part.as_bytes());
    }
    // The client's FIN means that it left: the server learns it at once.
    client.finish();
    assert_eq!(got.recv_timeout(SOON).unwrap(), b"");
}

/// F3: an early answer does not cost the connection.
#[test]
fn an_early_answer_keeps_the_connection() {
    let backend = Backend::plain(|wire, _| {
        while let Some(head) = read_head(wire) {
            if head.starts_with("POST") {
                wire.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").unwrap();
                read_body(wire, &head);
            } else {
                reply(wire, "next").unwrap();
            }
        }
    });
    let frontgate = start(&backend, "");
    let mut client = frontgate.plain();
    client.send("POST /ews HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 10\r\n\r\n12345");
    let early = client.answer(false);
    assert_eq!((early.status, early.header("connection")), (401, Some("keep-alive")));
    client.send("67890");
    assert_eq!(client.get("meet.contoso.com", "/x").text(), "next");
}

#[test]
fn expect_100_continue_is_relayed_end_to_end() {
    let backend = Backend::plain(|wire, _| {
        let Some(head) = read_head(wire) else { return };
        assert_eq!(field(&head, "expect"), Some("100-continue"));
        wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let body = read_body(wire, &head);
        reply(wire, &String::from_utf8(body).unwrap()).unwrap();
    });
    let frontgate = start(&backend, "");
    let mut client = frontgate.plain();
    client.send(
        "POST /x HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    );
    assert!(client.take_until("\r\n\r\n").starts_with("HTTP/1.1 100"));
    assert_eq!(client.ask("body").text(), "body");
}

#[test]
fn websockets_pass_both_ways() {
    let backend = Backend::plain(|wire, _| {
        let Some(head) = read_head(wire) else { return };
        assert!(field(&head, "upgrade").unwrap().eq_ignore_ascii_case("websocket"));
        assert_eq!(field(&head, "sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        wire.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello",
        )
        .unwrap();
        let mut chunk = [0; 64];
        while let Ok(n @ 1..) = wire.read(&mut chunk) {
            wire.write_all(&chunk[..n]).unwrap();
        }
    });
    let frontgate = start(&backend, "");
    let mut client = frontgate.tls("meet.contoso.com");
    client.send(
        "GET /ws HTTP/1.1\r\nHost: meet.contoso.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let switched = client.answer(false);
    assert_eq!(switched.status, 101, "{}", switched.head);
    assert!(switched.header("sec-websocket-accept").is_some());
    assert_eq!(client.take(5), b"hello");
    for part in ["\x01\x02raw", "GET / HTTP/1.1\r\n\r\n"] {
        client.send(part);
        assert_eq!(client.take(part.len()), part.as_bytes());
    }
}

/// F10: an HTTP/1.0 client gets no chunks.
#[test]
fn http10_client_gets_no_chunks() {
    let backend = Backend::plain(|wire, _| {
        while read_head(wire).is_some() {
            wire.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nUpgrade: h2c\r\nKeep-Alive: timeout=5\r\n\r\n")
                .unwrap();
            wire.write_all(b"3\r\nabc\r\n0\r\n\r\n").unwrap();
        }
    });
    let frontgate = start(&backend, "");
    let mut old = frontgate.plain();
    let answer = old.ask("GET /x HTTP/1.0\r\nHost: meet.contoso.com\r\n\r\n");
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.text(), "abc");
    let new = frontgate.plain().ask(GET);
    assert_eq!((new.text().as_str(), new.header("transfer-encoding")), ("abc", Some("chunked")));
    assert_eq!((new.header("upgrade"), new.header("keep-alive")), (None, None), "hop by hop");
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
    let frontgate = start(&backend, "    connection_auth: off\n");
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

/// Silence is 504 with a reason, and after the header there is nothing to say but the end.
#[test]
fn a_silent_server_is_a_504() {
    let backend = Backend::plain(|wire, _| {
        let _ = read_head(wire);
        let mut byte = [0];
        let _ = wire.read(&mut byte);
    });
    let frontgate = start(&backend, "    timeout: 1s\n");
    let begun = Instant::now();
    let answer = frontgate.plain().ask(GET);
    assert_eq!((answer.status, answer.reason().as_str()), (504, "server_silent"));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let line = frontgate.access_line("504", |l| l["status"] == 504);
    assert_eq!(
        (line["reason"].as_str(), line["server"].as_str()),
        (Some("server_silent"), Some("fe01"))
    );
}

/// F9: a POST never goes out on a connection that may have been closed meanwhile, and is never
/// sent twice; a GET that meets such a connection is replayed on a new one.
#[test]
fn stale_connections_cost_a_get_a_retry_and_a_post_nothing() {
    // Each connection serves one request, then closes when the next one comes.
    let posts = Arc::new(Mutex::new(0));
    let counter = posts.clone();
    let backend = Backend::plain(move |wire, _| {
        let Some(head) = read_head(wire) else { return };
        read_body(wire, &head);
        if head.starts_with("POST") {
            *counter.lock().unwrap() += 1;
        }
        reply(wire, "ok").unwrap();
        let _ = read_head(wire);
    });
    let frontgate = start(&backend, "");
    let mut client = frontgate.plain();
    for n in 0..4 {
        assert_eq!(client.ask(GET).status, 200, "GET {n}");
    }
    let stale = frontgate.access();
    assert!(stale.iter().all(|l| l["status"] == 200), "{stale:#?}");
    // The GETs' connection is not for POST.
    let post = "POST /x HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(frontgate.plain().ask(post).status, 200);
    assert_eq!(*posts.lock().unwrap(), 1);
    // On a connection that was used less than five seconds ago it may meet the close: one try.
    let met = frontgate.plain().ask(post);
    assert_eq!((met.status, met.reason().as_str()), (502, "server_closed"));
    assert_eq!(*posts.lock().unwrap(), 1);
}

/// A poll that hung is not replayed when its connection breaks.
#[test]
fn a_poll_that_hung_is_not_replayed() {
    let backend = Backend::plain(|wire, number| {
        // The first request makes the connection a reused one.
        let Some(_) = read_head(wire) else { return };
        reply(wire, &number.to_string()).unwrap();
        let Some(_) = read_head(wire) else { return };
        std::thread::sleep(Duration::from_millis(1500));
    });
    let frontgate = start(&backend, "");
    let mut client = frontgate.plain();
    assert_eq!(client.ask(GET).text(), "0");
    let broken = client.ask(GET);
    assert_eq!((broken.status, broken.reason().as_str()), (502, "server_closed"));
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_client_that_leaves_ends_the_request_at_the_server() {
    let (left, told) = std::sync::mpsc::channel();
    let backend = Backend::plain(move |wire, _| {
        let _ = read_head(wire);
        let mut byte = [0];
        let _ = left.send(wire.read(&mut byte).is_ok_and(|n| n == 0));
    });
    let frontgate = start(&backend, "");
    let mut client = frontgate.tls("meet.contoso.com");
    client.send(GET);
    until("the request arrives", SOON, || (backend.connections() == 1).then_some(()));
    client.finish();
    assert!(told.recv_timeout(Duration::from_secs(5)).unwrap());
    let line = frontgate.access_line("499", |l| l["status"] == 499);
    assert_eq!(line["reason"], "client_left");
}

#[test]
fn chunks_from_the_server_arrive_one_by_one() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Backend::plain(move |wire: &mut dyn Wire, _| {
        let Some(_) = read_head(wire) else { return };
        wire.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n").unwrap();
        let gate = gate.lock().unwrap();
        for _ in 0..3 {
            gate.recv().unwrap();
            wire.write_all(b"4\r\nping\r\n").unwrap();
        }
        wire.write_all(b"0\r\n\r\n").unwrap();
    });
    let frontgate = start(&backend, "");
    let mut client = frontgate.tls("meet.contoso.com");
    client.send(GET);
    client.take_until("\r\n\r\n");
    for _ in 0..3 {
        go.send(()).unwrap();
        assert_eq!(client.chunk(), b"ping");
    }
    assert_eq!(client.chunk(), b"");
}
