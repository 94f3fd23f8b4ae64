//! Bodies and streams: nothing is held back, nothing is invented, nothing is sent twice.

use std::{
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
    for tls in [false, true] {
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
        let mut client = if tls { frontgate.tls("meet.contoso.com") } else { frontgate.plain() };
        client.send(GET.replace("GET", "RPC_OUT_DATA"));
        // The header comes although no byte of the body exists.
        assert!(client.take_until("\r\n\r\n").starts_with("HTTP/1.1 200"));
        for _ in 0..3 {
            go.send(()).unwrap();
            assert_eq!(client.take(10), b"0123456789");
        }
    }
}

/// An answer whose length is known does not wait for its end, also where small writes are gathered:
/// after a request without a body, with a short one, and with one in many pieces.
#[test]
fn the_start_of_an_answer_does_not_wait_for_its_end() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Backend::plain(move |wire, _| {
        while let Some(head) = read_head(wire) {
            read_body(wire, &head);
            wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n").unwrap();
            for half in [b"half", b"more"] {
                gate.lock().unwrap().recv().unwrap();
                wire.write_all(half).unwrap();
            }
        }
    });
    let frontgate = start(&backend, "");
    for mut client in [frontgate.plain(), frontgate.tls("meet.contoso.com")] {
        for pieces in [0, 1, 12] {
            let length = pieces * 3;
            client.send(format!(
                "POST /x HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: {length}\r\n\r\n"
            ));
            for _ in 0..pieces {
                client.send("abc");
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(client.take_until("\r\n\r\n").starts_with("HTTP/1.1 200"));
            for half in [b"half", b"more"] {
                go.send(()).unwrap();
                assert_eq!(client.take(4), half);
            }
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

const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nHost: meet.contoso.com\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A tunnel is the client's and the server's: it may be silent for the farm's timeout, and when
/// it breaks, nothing of ours is written into it.
#[test]
fn websockets_are_never_written_into() {
    let backend = Backend::plain(|wire, number| {
        let Some(_) = read_head(wire) else { return };
        wire.write_all(SWITCHED).unwrap();
        wire.write_all(b"hello").unwrap();
        if number == 0 {
            // A reset instead of an end.
            let tcp = socket2::SockRef::from(wire.tcp());
            tcp.set_linger(Some(Duration::ZERO)).unwrap();
            return;
        }
        let _ = wire.read(&mut [0; 1]);
    });
    let frontgate = Frontgate::start(&format!(
        "farms:\n  a: {{ servers: [{{ address: 127.0.0.1, ports: {{ http: {} }} }}], bridge: http, timeout: 3s }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [http], body_timeout: 1s }}\n",
        backend.port()
    ));
    for silence in [0, 2] {
        let mut client = frontgate.plain();
        client.send(WEBSOCKET);
        assert_eq!(client.answer(false).status, 101);
        assert_eq!(client.take(5), b"hello");
        let begun = Instant::now();
        let mut rest = Vec::new();
        while let Ok(n @ 1..) = client.read_some() {
            rest.push(n);
        }
        assert!(rest.is_empty(), "{rest:?} bytes of ours in the tunnel");
        assert!(begun.elapsed() >= Duration::from_secs(silence), "{:?}", begun.elapsed());
    }
    let line = frontgate.access_line("101", |l| l["status"] == 101);
    assert!(line["first_byte_ms"].is_number());
}

#[test]
fn an_unasked_101_is_refused() {
    let backend = Backend::plain(|wire, _| {
        let Some(_) = read_head(wire) else { return };
        wire.write_all(SWITCHED).unwrap();
        let _ = wire.read(&mut [0; 1]);
    });
    let frontgate = start(&backend, "");
    let answer = frontgate.plain().ask(GET);
    assert_eq!((answer.status, answer.reason().as_str()), (502, "server_protocol"));
}

/// The FIN behind more than what is read ahead.
#[test]
fn a_client_that_sent_much_and_left_ends_the_request() {
    let (left, told) = std::sync::mpsc::channel();
    let backend = Backend::plain(move |wire, _| {
        let _ = read_head(wire);
        let _ = left.send(wire.read(&mut [0; 1]).is_ok_and(|n| n == 0));
    });
    let frontgate = start(&backend, "");
    let mut client = frontgate.plain();
    client.send(GET);
    client.send(vec![b'x'; 40_000]);
    until("the request arrives", SOON, || (backend.connections() == 1).then_some(()));
    drop(client);
    assert!(told.recv_timeout(Duration::from_secs(8)).unwrap());
}

#[test]
fn a_get_is_not_replayed_once_bytes_of_an_answer_came() {
    let gets = Arc::new(Mutex::new(0));
    let counter = gets.clone();
    let backend = Backend::plain(move |wire, _| {
        let Some(_) = read_head(wire) else { return };
        *counter.lock().unwrap() += 1;
        reply(wire, "ok").unwrap();
        let Some(_) = read_head(wire) else { return };
        *counter.lock().unwrap() += 1;
        wire.write_all(b"HTTP/1.1 200 OK\r\nX: ").unwrap();
    });
    let frontgate = start(&backend, "");
    let mut client = frontgate.plain();
    assert_eq!(client.ask(GET).status, 200);
    assert_eq!(client.ask(GET).reason(), "server_closed");
    assert_eq!(*gets.lock().unwrap(), 2);
}

#[test]
fn hop_by_hop_fields_and_interim_answers_stop_here() {
    let backend = Backend::plain(|wire, _| {
        while read_head(wire).is_some() {
            wire.write_all(
                b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n\
                  Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok",
            )
            .unwrap();
        }
    });
    let frontgate = start(&backend, "");
    let mut new = frontgate.plain();
    new.send(GET);
    assert!(new.take_until("\r\n\r\n").starts_with("HTTP/1.1 103"));
    let answer = new.answer(false);
    assert_eq!((answer.text().as_str(), answer.header("x-hop")), ("ok", None));
    let mut old = frontgate.plain();
    old.send("GET /x HTTP/1.0\r\nHost: meet.contoso.com\r\nConnection: keep-alive\r\n\r\n");
    let head = old.take_until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.") && head.contains(" 200 "), "{head}");
    assert!(head.to_lowercase().contains("connection: keep-alive"), "{head}");
}

/// A body that breaks its own framing ends the connection, and is no request.
#[test]
fn an_unread_body_is_no_request() {
    let backend = Backend::plain(always("ok"));
    let frontgate = start(&backend, "");
    for broken in ["00000000000000005\r\nhello\r\n0\r\n\r\n", "5\nhello", "xyz\r\n"] {
        let mut client = frontgate.plain();
        client.send(format!(
            "POST /x HTTP/1.1\r\nHost: meet.contoso.com\r\nTransfer-Encoding: chunked\r\n\r\n{broken}\
             GET /smuggled HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n"
        ));
        let answer = client.answer(false);
        assert_eq!((answer.status, answer.reason().as_str()), (400, "bad_framing"), "{broken:?}");
        assert!(client.closed());
    }
    assert!(frontgate.access().iter().all(|l| l["path"] != "/smuggled"));
    assert_eq!(frontgate.log_count("/smuggled"), 0);
}

#[test]
fn bodies_have_a_size_and_a_deadline() {
    let backend = Backend::plain(|wire, _| {
        while let Some(head) = read_head(wire) {
            let body = read_body(wire, &head);
            reply(wire, &body.len().to_string()).unwrap();
        }
    });
    let frontgate = Frontgate::start(&format!(
        "farms:\n  a: {{ servers: [{{ address: 127.0.0.1, ports: {{ http: {} }} }}], bridge: http }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [http], body_size: 10B, body_timeout: 1s }}\n",
        backend.port()
    ));
    let post = "POST /x HTTP/1.1\r\nHost: meet.contoso.com\r\n";
    let ask = |rest: &str| frontgate.plain().ask(format!("{post}{rest}"));
    assert_eq!(ask("Content-Length: 10\r\n\r\n0123456789").text(), "10");
    let announced = ask("Content-Length: 11\r\n\r\n");
    assert_eq!((announced.status, announced.reason().as_str()), (413, "body_too_large"));
    let chunked = ask("Transfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n6\r\n012345\r\n");
    assert_eq!((chunked.status, chunked.reason().as_str()), (413, "body_too_large"));
    let begun = Instant::now();
    let stopped = ask("Content-Length: 5\r\n\r\n01");
    assert_eq!((stopped.status, stopped.reason().as_str()), (408, "body_timeout"));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    frontgate.access_line("408", |l| l["status"] == 408 && l["reason"] == "body_timeout");
}
