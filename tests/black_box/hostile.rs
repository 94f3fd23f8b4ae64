//! Publish rules against URLs, bytes and spellings that want to get around them.

use crate::{
    forwarded::{self, TRUSTED, echo, seen},
    rules::{HOST, mirror, request_line, start},
    support::backend::field,
};

#[test]
fn an_url_is_no_way_out_of_a_directory() {
    let backend = mirror();
    let frontgate = start(
        backend.port(),
        "",
        &["host: meet.*, farm: a, schemes: [http], \
           rewrite: { path: \"/owa{URL}\", query: \"path={URL}&own=1\" }"],
    );
    let mut client = frontgate.plain();
    let mut ask = |path: &str| client.get(HOST, path);
    for path in ["/../ews/x", "/%2e%2e/ews", "/..%2fews", "/x/../../ews", "/..\\ews"] {
        let refused = ask(path);
        assert_eq!((refused.status, &*refused.reason()), (400, "ambiguous_path"), "{path}");
    }
    // Nor does it bring a parameter.
    let line = request_line(&ask("/a+b&own=2"));
    assert_eq!(line, "GET /owa/a+b&own=2?path=/a%2Bb%26own=2&own=1 HTTP/1.1");
}

#[test]
fn bytes_that_are_no_text_pass_no_denial() {
    let backend = mirror();
    let frontgate = start(
        backend.port(),
        "",
        &[
            "host: meet.*, farm: a, schemes: [https, http]",
            // Also on plain http, without a word about it.
            "host: meet.*, deny: true, when: [{ path: ~, matches: '^/.*/secret' }]",
            "host: meet.*, deny: true, when: [{ header: Cookie, matches: 'X-BEResource=(.+)/(.+)~(.+)' }]",
        ],
    );
    // A refusal may end the connection.
    let ask = |tls: bool, path: &[u8], cookie: &[u8]| {
        let mut client = if tls { frontgate.tls(HOST) } else { frontgate.plain() };
        let host = format!(" HTTP/1.1\r\nHost: {HOST}\r\nCookie: ").into_bytes();
        client.ask([b"GET ", path, &host, cookie, b"\r\n\r\n"].concat()).status
    };
    for tls in [false, true] {
        assert_eq!(ask(tls, b"/a%ff/other", b"a=b"), 200);
        for path in [&b"/a/secret"[..], b"/a%ff/secret", b"/%e4/secret", b"/a\xff/secret"] {
            // A raw byte may be refused before any rule is asked.
            let status = ask(tls, path, b"a=b");
            assert!(matches!(status, 404 | 400), "{path:?}: {status}");
        }
        for cookie in [&b"X-BEResource=a/b~c"[..], b"X-BEResource=a/\xff~c"] {
            assert_eq!(ask(tls, b"/", cookie), 404, "{cookie:?}");
        }
    }
}

/// Exchange's own mitigations of 2021 and 2022, as URL Rewrite had them.
#[test]
fn the_emergency_mitigations_of_exchange_can_be_written() {
    let backend = mirror();
    let frontgate = start(
        backend.port(),
        "",
        &[
            "host: meet.*, farm: a, schemes: [https, http]",
            "host: meet.*, deny: true, \
             when: [{ url: ~, matches: autodiscover }, { url: ~, matches: powershell }]",
            "host: meet.*, path: /x, deny: true, when: [{ url: [/x?a, /x?b] }]",
            "host: meet.*, path: /x, farm: a, schemes: [https, http]",
            "host: meet.*, path: /y, deny: true, when: [{ url: ~, not: \"/y?a=b\" }]",
        ],
    );
    let mut client = frontgate.plain();
    let mut ask = |path: &str| client.get(HOST, path).status;
    for denied in [
        "/autodiscover/autodiscover.json?@evil.example/PowerShell/x",
        "/Autodiscover/autodiscover.json?a@b.c/owa/?&Email=autodiscover/x&%70owershell",
        "/%61utodiscover/x?%2570owershell",
        "/autodiscover/%u0070owershell",
        "/v/autodiscover/%ff?%ffpowershell",
        "/?autodiscover%0apowershell",
    ] {
        let status = ask(denied);
        assert!(matches!(status, 404 | 400), "{denied}: {status}");
    }
    for passes in ["/autodiscover/autodiscover.json?Email=a@b.c", "/?powershell", "/autodiscover"] {
        assert_eq!(ask(passes), 200, "{passes}");
    }
    assert_eq!([ask("/x?B"), ask("/x?%62"), ask("/x?%2561"), ask("/x?ab")], [404, 404, 404, 200]);
    assert_eq!([ask("/y"), ask("/y?a=c"), ask("/y?A=b"), ask("/y?%61=b")], [404, 404, 200, 200]);
}

/// SECURITY: IIS makes one variable of both spellings.
#[test]
fn no_spelling_stands_beside_what_a_rule_sets() {
    let backend = mirror();
    let frontgate = start(
        backend.port(),
        "",
        &["host: meet.*, farm: a, schemes: [http], \
           request_headers: { set: { X-App-Id: mine }, remove: [X-Gone], add: { X-More: b } }"],
    );
    let head = frontgate.plain().ask(
        "GET / HTTP/1.1\r\nHost: meet.contoso.com\r\nX_App_Id: evil\r\nx-app_id: evil\r\nX-APP-ID: evil\r\n\
         X_Gone: evil\r\nX-GONE: evil\r\nX_More: a\r\nX-App-Idx: kept\r\n\r\n",
    );
    let seen = head.text();
    assert!(!seen.contains("evil"), "{seen}");
    assert_eq!(field(&seen, "x-app-id"), Some("mine"));
    assert!(seen.contains("X-App-Idx: kept") && seen.contains("X_More: a"), "{seen}");
}

#[test]
fn bytes_outside_ascii_are_escaped_in_headers() {
    let backend = mirror();
    let frontgate = start(
        backend.port(),
        ", forward: { style: arr }",
        &["host: meet.*, farm: a, schemes: [http], when: [{ path: ~, matches: '^/(.)(.*)$' }], \
           request_headers: { set: { X-P: \"{C:2}\", X-U: \"{URL}\" } }"],
    );
    for (path, rest, all) in [
        (&b"/x%C3%A4%20b"[..], "%C3%A4%20b", "/x%C3%A4%20b"),
        ("/xä".as_bytes(), "%C3%A4", "/x%C3%A4"),
        (b"/x%ff", "%FF", "/x%ff"),
    ] {
        let mut client = frontgate.plain();
        let host = format!(" HTTP/1.1\r\nHost: {HOST}\r\n\r\n").into_bytes();
        let answer = client.ask([b"GET ", path, &host].concat());
        assert_eq!(answer.status, 200, "{all}");
        let seen = answer.text();
        for (name, expected) in [("x-p", rest), ("x-u", all), ("x-original-url", all)] {
            assert_eq!(field(&seen, name), Some(expected), "{name} {seen}");
        }
    }
}

/// SECURITY: what a stranger wrote must not change how a proxy's words are read further on.
#[test]
fn a_broken_element_of_forwarded_ends_the_chain() {
    let backend = echo();
    let frontgate = forwarded::start(&backend, TRUSTED, ", forward: { rfc7239: true }");
    let mut client = frontgate.tls("meet.contoso.com");
    let own = "for=127.0.0.1;host=meet.contoso.com;proto=https";
    let proxy = "for=192.0.2.7;proto=https";
    for stranger in [
        "for=9.9.9.9;proto=https;host=evil\"",
        "for=9.9.9.9;host=\"evil",
        "evil, for=9.9.9.9;evil",
        "for=evil, for=\"evil\\\", ",
    ] {
        for lines in [
            &[format!("Forwarded: {stranger}, {proxy}")][..],
            &[format!("Forwarded: {stranger}"), format!("Forwarded: {proxy}")],
        ] {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let head = seen(&mut client, "/x", &lines);
            let expected = format!("{proxy}, {own}");
            assert_eq!(field(&head, "forwarded"), Some(expected.as_str()), "{lines:?}");
        }
    }
}
