//! Raw bytes that are refused before anything else sees them, and slow clients.

use std::time::{Duration, Instant};

use crate::support::{
    backend::{Backend, always},
    frontgate::{Frontgate, LISTENERS},
};

fn config(backend: &Backend) -> String {
    format!(
        "farms:\n  a:\n    servers: [{{ name: fe01, address: 127.0.0.1, ports: {{ http: {} }} }}]\n    bridge: http\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n",
        backend.port()
    )
}

#[test]
fn malformed_requests_get_our_own_answer_and_a_log_line() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&config(&backend));
    let host = "Host: meet.contoso.com\r\n";
    let cases = [
        ("GET / HTTP/1.1\nHost: meet.contoso.com\n\n\r\n\r\n".to_owned(), 400, "bad_"),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), 400, "bad_host"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_host"),
        (format!("GET /a<b HTTP/1.1\r\n{host}\r\n"), 400, "bad_request_line"),
        (format!("GET /a b HTTP/1.1\r\n{host}\r\n"), 400, "bad_request_line"),
        (format!("GET / HTTP/1.1\r\n{host}X : y\r\n\r\n"), 400, "bad_header"),
        (format!("GET / HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n"), 400, "bad_header"),
        (format!("GET / HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"), 400, "bad_header"),
        (
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            400,
            "bad_framing",
        ),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: +5\r\n\r\n"), 400, "bad_framing"),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            400,
            "bad_framing",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            400,
            "bad_framing",
        ),
        (
            format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n"),
            400,
            "bad_framing",
        ),
        (format!("CONNECT meet.contoso.com:443 HTTP/1.1\r\n{host}\r\n"), 405, "method_not_allowed"),
        (format!("TRACE / HTTP/1.1\r\n{host}\r\n"), 405, "method_not_allowed"),
        (format!("GET / HTTP/3.0\r\n{host}\r\n"), 505, "version_not_supported"),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(17_000)), 414, "url_too_long"),
        (
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", "A: b\r\n".repeat(300)),
            431,
            "header_too_large",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}A: {}\r\n\r\n", "x".repeat(140_000)),
            431,
            "header_too_large",
        ),
    ];
    for (request, status, reason) in &cases {
        let mut client = frontgate.plain();
        let answer = client.ask(request);
        let shown = &request[..request.len().min(80)];
        assert_eq!(answer.status, *status, "{shown:?}");
        assert!(answer.reason().starts_with(reason), "{shown:?}: {}", answer.reason());
        assert!(answer.header("server").is_none(), "{shown:?}: {}", answer.head);
        assert!(client.closed(), "{shown:?}");
    }
    frontgate.access_line("every refusal", |_| frontgate.access().len() >= cases.len());
    assert_eq!(backend.connections(), 0);
    let line = frontgate.access_line("CONNECT", |l| l["method"] == "CONNECT");
    assert_eq!(
        (line["status"].as_u64(), line["reason"].as_str()),
        (Some(405), Some("method_not_allowed"))
    );
}

#[test]
fn pipelined_requests_are_inspected_and_answered_in_order() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&config(&backend));
    let mut client = frontgate.plain();
    let one = "POST /1 HTTP/1.1\r\nHost: meet.contoso.com\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let two = "GET /2 HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n";
    let bad = "GET /3 HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: x\r\n\r\n";
    client.send(format!("{one}{two}{bad}"));
    // The backend answers a chunked body's bytes as a request of their own only if they leak.
    assert_eq!(client.answer(false).status, 200);
    assert_eq!(client.answer(false).text(), "ok");
    let refused = client.answer(false);
    assert_eq!((refused.status, refused.reason().as_str()), (400, "bad_framing"));
    assert!(client.closed());
}

#[test]
fn slow_header_is_answered_408_and_idle_connection_closes() {
    let backend = Backend::plain(always("ok"));
    let limits = "limits: { header_timeout: 1s, keep_alive: 1s, tls_handshake: 1s }\n";
    let frontgate = Frontgate::with(&format!("{LISTENERS}{limits}{}", config(&backend)));
    // Dripping bytes does not extend the deadline.
    let mut slow = frontgate.plain();
    let begun = Instant::now();
    for byte in "GET / HTTP/1.1\r\nHost: meet.contoso".bytes() {
        if slow.try_send([byte]).is_err() || begun.elapsed() > Duration::from_millis(1500) {
            break;
        }
        std::thread::sleep(Duration::from_millis(60));
    }
    let answer = slow.answer(false);
    assert_eq!((answer.status, answer.reason().as_str()), (408, "header_timeout"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    frontgate.access_line("408", |l| l["status"] == 408 && l["reason"] == "header_timeout");

    // A connection that was used is closed when it idles, too.
    let mut idle = frontgate.plain();
    assert_eq!(idle.get("meet.contoso.com", "/").status, 200);
    let begun = Instant::now();
    assert!(idle.closed());
    assert!((500..4000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());

    // A TLS handshake that never comes.
    let mut silent = crate::support::client::Client::plain(frontgate.address("public"));
    let begun = Instant::now();
    assert!(silent.closed());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn one_source_cannot_take_all() {
    let backend = Backend::plain(always("ok"));
    let limits = "limits: { connections_per_source: 3 }\n";
    let frontgate = Frontgate::with(&format!("{LISTENERS}{limits}{}", config(&backend)));
    let mut held: Vec<_> = (0..3).map(|_| frontgate.plain()).collect();
    for client in &mut held {
        assert_eq!(client.get("meet.contoso.com", "/").status, 200);
    }
    assert!(frontgate.plain().closed());
    held.pop();
    crate::support::until("a place", crate::support::SOON, || {
        let mut client = frontgate.plain();
        client.try_send("GET / HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n").ok()?;
        (client.read_some().ok()? > 0).then_some(())
    });
}

#[test]
fn what_is_cut_off_or_not_utf8_has_a_log_line_too() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&config(&backend));
    let mut latin = frontgate.plain();
    let answer = latin.ask(b"GET /x?q=\xe4 HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n");
    assert_eq!((answer.status, answer.reason().as_str()), (400, "bad_request_line"));
    assert!(answer.header("server").is_none());
    let mut cut = frontgate.plain();
    cut.send("GET /cut HTTP/1.1\r\nHost: meet");
    cut.finish();
    let line = frontgate.access_line("cut off", |l| l["path"] == "/cut");
    assert_eq!(
        (line["status"].as_u64(), line["reason"].as_str()),
        (Some(499), Some("client_left"))
    );
}

/// COMPAT: an empty line behind a body, as old browsers send, begins no request.
#[test]
fn an_empty_line_behind_a_body_is_nothing() {
    let backend = Backend::plain(always("ok"));
    let limits = "limits: { header_timeout: 1s, keep_alive: 3s }\n";
    let frontgate = Frontgate::with(&format!("{LISTENERS}{limits}{}", config(&backend)));
    let mut client = frontgate.plain();
    let post = "POST /x HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 2\r\n\r\nhi\r\n";
    assert_eq!(client.ask(post).text(), "ok");
    assert_eq!(client.ask(post).text(), "ok");
    let begun = Instant::now();
    assert!(client.closed(), "silently, not with a 408");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// COMPAT: many clients send the whole upload before they read.
#[test]
fn a_refused_upload_is_read_until_its_answer_is() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&config(&backend));
    let mut client = frontgate.plain();
    client.send("POST /x HTTP/1.1\r\nHost: nobody.example\r\nContent-Length: 30000000\r\n\r\n");
    for _ in 0..30 {
        client.send(vec![b'x'; 1_000_000]);
    }
    let answer = client.answer(false);
    assert_eq!((answer.status, answer.reason().as_str()), (404, "host_not_published"));
}
