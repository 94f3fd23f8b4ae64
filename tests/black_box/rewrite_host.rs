//! Names of servers in answers.

use crate::{
    rules::{HOST, site},
    support::{
        backend::{Backend, read_body, read_head},
        frontgate::{Frontgate, LISTENERS},
    },
};

/// Answers every request with these header lines, each with its line end.
fn answering(fields: &'static str) -> Backend {
    Backend::plain(move |wire, _| {
        while let Some(head) = read_head(wire) {
            read_body(wire, &head);
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
            wire.write_all(answer.as_bytes()).unwrap();
        }
    })
}

#[test]
fn server_names_in_answers_become_the_clients_if_asked() {
    let backend = answering(
        "Location: http://fe01.contoso.local/owa/?a=b\r\n\
         Content-Location: https://fe.contoso.local/x\r\n\
         Set-Cookie: a=b; Domain=fe01.contoso.local; path=/\r\n\
         Set-Cookie: c=d; Domain=contoso.com\r\n",
    );
    let elsewhere = answering("Location: https://login.example/?r=https://fe01.contoso.local/\r\n");
    let farm = ", tls: { name: fe.contoso.local, verify: off }";
    let listeners = LISTENERS.replace("127.0.0.2:0\"", "127.0.0.2:0\", public_port: 8081");
    let rules = |port: u16, more: &str| {
        let rule = format!("host: meet.*, farm: a, schemes: [https, http]{more}");
        Frontgate::with(&format!("{listeners}{}", site(port, farm, &[&rule])))
    };
    let off = rules(backend.port(), "");
    let answer = off.plain().get(HOST, "/");
    assert_eq!(answer.header("location"), Some("http://fe01.contoso.local/owa/?a=b"));
    assert_eq!(answer.headers("set-cookie")[0], "a=b; Domain=fe01.contoso.local; path=/");

    let on = rules(backend.port(), ", rewrite_host: true");
    let answer = on.tls(HOST).get("MEET.contoso.com", "/");
    assert_eq!(answer.header("location"), Some("https://meet.contoso.com/owa/?a=b"));
    assert_eq!(answer.header("content-location"), Some("https://meet.contoso.com/x"));
    assert_eq!(answer.headers("set-cookie"), ["a=b; path=/", "c=d; Domain=contoso.com"]);
    let answer = on.plain().get(HOST, "/");
    assert_eq!(answer.header("location"), Some("http://meet.contoso.com:8081/owa/?a=b"));

    // Behind a proxy that says which port clients came to, and with bytes outside ASCII.
    let raw = Backend::plain(|wire, _| {
        while read_head(wire).is_some() {
            let answer = b"HTTP/1.1 200 OK\r\nLocation: https://fe01.contoso.local/gr\xc3\xb6\xdfe\r\nContent-Length: 0\r\n\r\n";
            wire.write_all(answer).unwrap();
        }
    });
    let rule = "host: meet.*, farm: a, schemes: [https, http], rewrite_host: true";
    let behind = Frontgate::with(&format!(
        "{LISTENERS}trusted_proxies: [127.0.0.1]\n{}",
        site(raw.port(), farm, &[rule])
    ));
    for (lines, expected) in [
        ("X-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443\r\n", "https://meet.contoso.com:8443"),
        ("X-Forwarded-Proto: https\r\n", "https://meet.contoso.com"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n");
        let answer = behind.plain().ask(request);
        let expected = format!("{expected}/grö\u{fffd}e");
        assert_eq!(answer.header("location"), Some(&*expected), "as far as it is text");
    }

    let other = rules(elsewhere.port(), ", rewrite_host: true");
    let answer = other.plain().get(HOST, "/");
    let same = Some("https://login.example/?r=https://fe01.contoso.local/");
    assert_eq!(answer.header("location"), same);
}
