//! What URL Rewrite did for reverse proxies: conditions, rewriting, redirects, headers, pages.

use crate::support::{
    SOON,
    backend::{Backend, field, read_body, read_head, reply},
    client::{Answer, Client},
    frontgate::{Frontgate, LISTENERS},
    until,
};

/// Answers every request with its own header.
pub fn mirror() -> Backend {
    Backend::plain(|wire, _| {
        while let Some(head) = read_head(wire) {
            read_body(wire, &head);
            reply(wire, &head).unwrap();
        }
    })
}

/// A farm `a` with this server on plain http, and `rules`, one a line without the `- `.
pub fn site(port: u16, farm: &str, rules: &[&str]) -> String {
    let rules: String = rules.iter().map(|rule| format!("  - {{ {rule} }}\n")).collect();
    format!(
        "farms:\n  a: {{ servers: [{{ name: fe01.contoso.local, address: 127.0.0.1, ports: {{ https: {port}, http: {port} }} }}], \
         bridge: http{farm} }}\npublish:\n{rules}"
    )
}

pub fn start(port: u16, farm: &str, rules: &[&str]) -> Frontgate {
    Frontgate::start(&site(port, farm, rules))
}

pub const HOST: &str = "meet.contoso.com";

pub fn request_line(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn every_kind_of_condition_chooses_a_rule() {
    let backend = mirror();
    let rule = |name: &str, condition: &str| {
        format!(
            "host: meet.*, farm: a, schemes: [https, http], when: [{condition}], \
             request_headers: {{ set: {{ X-Rule: {name} }} }}"
        )
    };
    let rules = [
        rule("header", "{ header: X-Kind, is: b }"),
        rule("present", "{ header: X-There }"),
        rule("query", "{ query: kind, matches: \"^b+$\" }"),
        rule("method", "{ method: [PUT, RPC_IN_DATA] }"),
        rule("both", "{ path: /both }, { method: OPTIONS }"),
        rule("path", "{ path: ~, matches: '^/x/.*\\.aspx$' }"),
        rule("host", "{ host: meet.emea.contoso.com }"),
        rule("source", "{ source: 127.0.0.9 }"),
        rule("scheme", "{ scheme: https }"),
        rule("rest", "{ source: ~, not: [10.0.0.0/8, 192.0.2.1] }"),
    ];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let frontgate = start(backend.port(), "", &rules);
    let taken = |client: &mut Client, request: &str| {
        let answer = client.ask(request);
        field(&answer.text(), "x-rule").map(str::to_owned).unwrap_or_default()
    };
    let mut plain = frontgate.plain();
    for (line, host, fields, expected) in [
        ("GET /", HOST, "x-kind: a\r\nX-KIND: b\r\n", "header"),
        ("GET /", HOST, "X-Kind: B\r\n", "rest"),
        ("GET /", HOST, "x-there:\r\n", "present"),
        ("GET /?a&KIND=BB", HOST, "", "query"),
        ("GET /?a&%6bind=%62", HOST, "", "query"),
        ("GET /?kind=ab", HOST, "", "rest"),
        ("RPC_IN_DATA /", HOST, "Content-Length: 0\r\n", "method"),
        ("OPTIONS /Both/x", HOST, "", "both"),
        ("OPTIONS /", HOST, "", "rest"),
        ("GET /X/Y.ASPX", HOST, "", "path"),
        ("GET /", "MEET.emea.contoso.com:80", "", "host"),
        ("GET /", HOST, "", "rest"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        assert_eq!(taken(&mut plain, &request), expected, "{request}");
    }
    let get = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    assert_eq!(taken(&mut frontgate.tls(HOST), &get), "scheme");
}

#[test]
fn a_rule_whose_conditions_fail_leaves_the_request_to_shorter_paths() {
    let backend = mirror();
    let frontgate = start(
        backend.port(),
        "",
        &[
            "host: meet.*, farm: a, schemes: [http]",
            "host: meet.*, path: /a, deny: true, schemes: [http], when: [{ query: secret }]",
            "host: meet.contoso.com, path: /b, deny: true, schemes: [http], when: [{ query: x }]",
        ],
    );
    let mut client = frontgate.plain();
    let mut ask = |host: &str, path: &str| client.get(host, path).status;
    assert_eq!(ask("meet.emea.contoso.com", "/a?secret"), 404);
    assert_eq!(ask("meet.emea.contoso.com", "/a?x"), 200);
    // The more specific host has no rule for it, and there is no way back to `meet.*`.
    assert_eq!(ask("meet.contoso.com", "/b?y"), 404);
    assert_eq!(ask("meet.contoso.com", "/a"), 404);
}

#[test]
fn readings_that_meet_different_conditions_are_refused() {
    let backend = mirror();
    let frontgate = start(
        backend.port(),
        "",
        &[
            "host: meet.*, farm: a, schemes: [http]",
            "host: meet.*, deny: true, schemes: [http], when: [{ path: ~, matches: \"/secret(/|$)\" }]",
        ],
    );
    let mut client = frontgate.plain();
    let mut ask = |path: &str| {
        let answer = client.get(HOST, path);
        (answer.status, answer.reason())
    };
    assert_eq!(ask("/a/Secret"), (404, "denied".into()));
    assert_eq!(ask("/secrets").0, 200);
    for path in ["/%73ecret", "/secret%2fx", "/a/..%2fsecret", "/secret.", "/a\\secret"] {
        let (status, reason) = ask(path);
        assert!(matches!((status, &*reason), (404, "denied") | (400, "ambiguous_path")), "{path}");
    }
}

#[test]
fn path_and_query_are_rewritten_with_captures_and_the_log_keeps_the_clients() {
    let backend = mirror();
    let frontgate = start(
        backend.port(),
        "",
        &[
            "host: meet.*, path: /old, farm: a, schemes: [http], rewrite: { path: \"/new/{R:1}\" }",
            "host: meet.*, path: /bare, farm: a, schemes: [http], rewrite: { query: \"\" }",
            "host: meet.*, path: /q, farm: a, schemes: [http], \
             rewrite: { query: \"from={R:1}&host={HTTP_HOST}&{QUERY_STRING}\" }",
            "host: meet.*, path: /meet, farm: a, schemes: [http], \
             when: [{ path: ~, matches: '^/meet/([^/]+)/([^/]+)$' }], \
             rewrite: { path: \"/join/{C:2}\", query: \"u={C:1}\" }",
        ],
    );
    let mut client = frontgate.plain();
    for (asked, expected) in [
        ("/Old/A%20b/%E4?x=%2f", "/new/A%20b/%E4?x=%2f"),
        ("/old", "/new/"),
        ("/bare/x?a=b", "/bare/x"),
        ("/q/a&b?c=d", "/q/a&b?from=a%26b&host=meet.contoso.com&c=d"),
        ("/Meet/Anna.K/AB12?lost", "/join/AB12?u=Anna.K"),
        ("/meet/x%C3%B6/y", "/join/y?u=x%C3%B6"),
    ] {
        let line = request_line(&client.get(HOST, asked));
        assert_eq!(line, format!("GET {expected} HTTP/1.1"), "{asked}");
    }
    frontgate.access_line("as asked", |line| line["path"] == "/Meet/Anna.K/AB12");
    let unmatched = client.get(HOST, "/meet/x");
    assert_eq!((unmatched.status, unmatched.reason().as_str()), (404, "path_not_published"));
}

#[test]
fn no_capture_reaches_a_denied_path() {
    let backend = mirror();
    let frontgate = start(
        backend.port(),
        ", deny_paths: [/ocspowershell, /admin]",
        &[
            "host: meet.*, path: /x, farm: a, schemes: [http], rewrite: { path: \"/{R:1}\" }",
            "host: meet.*, path: /app, farm: a, schemes: [http], rewrite: { path: \"/inner/{R:1}\" }",
            "host: meet.*, path: /by, farm: a, schemes: [http], \
             when: [{ query: to, matches: \"(?s)(.*)\" }], rewrite: { path: \"/{C:1}\", query: \"\" }",
        ],
    );
    let mut client = frontgate.plain();
    let mut ask = |path: &str| {
        let answer = client.get(HOST, path);
        (answer.status, answer.reason())
    };
    for path in [
        "/x/ocspowershell",
        "/x/OcsPowerShell/y",
        "/x//admin",
        "/by?to=admin",
        "/by?to=%61dmin",
        "/by?to=/admin/",
    ] {
        assert_eq!(ask(path), (404, "denied".into()), "{path}");
    }
    for path in ["/by?to=y/..%2fadmin", "/by?to=%2561dmin", "/by?to=admin%00", "/app/%2e%2e/x"] {
        let (status, reason) = ask(path);
        assert!(matches!((status, &*reason), (404, "denied") | (400, "ambiguous_path")), "{path}");
    }
    let (status, reason) = ask("/app/y/..%2f..%2f..%2fother");
    assert_eq!((status, &*reason), (400, "ambiguous_path"));
    // A value cannot begin a query, a header or a request.
    let split = client.get(HOST, "/by?to=a%3Fb%23c%20HTTP/1.1%0d%0aX-Evil:%201");
    let line = request_line(&split);
    assert_eq!(line, "GET /a%3Fb%23c%20HTTP/1.1%0D%0AX-Evil:%201 HTTP/1.1");
    assert_eq!(field(&split.text(), "x-evil"), None);
}

#[test]
fn redirects_take_captures_and_keep_the_query() {
    let backend = mirror();
    let frontgate = start(
        backend.port(),
        "",
        &[
            "host: meet.*, path: /old, schemes: [http], redirect: \"https://new.contoso.com/{R:1}\"",
            "host: meet.*, path: /here, schemes: [http], redirect: { to: \"/{R:1}\", status: 307 }",
            "host: meet.*, path: /www, schemes: [http], redirect: \"https://{HTTP_HOST}:8443{REQUEST_URI}\"",
            "host: meet.*, path: /back, schemes: [http], redirect: \"/login?back={REQUEST_URI}\"",
            "host: meet.*, path: /c, schemes: [http], when: [{ header: User-Agent, matches: '(\\w+)/(\\d+)' }], \
             redirect: { to: \"https://new.contoso.com/{C:1}?v={C:2}\", status: 301, keep_query: false }",
        ],
    );
    let mut client = frontgate.plain();
    for (asked, status, location) in [
        ("/old/A%20b?x=y", 302, "https://new.contoso.com/A%20b?x=y"),
        ("/old//evil.example", 302, "https://new.contoso.com//evil.example"),
        ("/here//evil.example", 307, "/evil.example"),
        ("/here/\\evil.example", 307, "/evil.example"),
        ("/back?x=y&z", 302, "/login?back=/back%3Fx=y%26z"),
        ("/www/x?y=z", 302, "https://meet.contoso.com:8443/www/x?y=z"),
    ] {
        let answer = client.get(HOST, asked);
        assert_eq!((answer.status, answer.header("location")), (status, Some(location)), "{asked}");
        assert_eq!(answer.reason(), "redirected");
    }
    let request = "GET /c?x HTTP/1.1\r\nHost: meet.contoso.com\r\nUser-Agent: UCCAPI/16 x\r\n\r\n";
    let moved = client.ask(request);
    let location = Some("https://new.contoso.com/UCCAPI?v=16");
    assert_eq!((moved.status, moved.header("location")), (301, location));
}

#[test]
fn headers_change_both_ways_and_last() {
    let backend = Backend::plain(|wire, _| {
        while let Some(head) = read_head(wire) {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nServer: IIS\r\nX-Powered-By: ASP.NET\r\nVia: a\r\nContent-Length: {}\r\n\r\n{head}",
                head.len()
            );
            wire.write_all(answer.as_bytes()).unwrap();
        }
    });
    let frontgate = start(
        backend.port(),
        ", hide_headers: [X-Powered-By]",
        &["host: meet.*, path: /a, farm: a, schemes: [http], \
           request_headers: { set: { X-Forwarded-For: hidden, X-Rest: \"{R:1} from {REMOTE_ADDR}\" }, add: { x-Two: b }, remove: [Cookie] }, \
           response_headers: { set: { Server: edge, X-Powered-By: us }, add: { Via: b, X-Url: \"{URL}?{QUERY_STRING}\" }, remove: [X-None] }"],
    );
    let mut client = frontgate.plain();
    let answer = client.ask(
        "GET /a/b%20c?d HTTP/1.1\r\nHost: meet.contoso.com\r\nCookie: x\r\nX-Two: a\r\nX-Rest: mine\r\n\r\n",
    );
    let seen = answer.text();
    assert_eq!(field(&seen, "x-forwarded-for"), Some("hidden"), "{seen}");
    assert_eq!(field(&seen, "x-rest"), Some("b%20c from 127.0.0.1"), "{seen}");
    assert!(!seen.contains("mine") && field(&seen, "cookie").is_none(), "{seen}");
    let twos = seen.lines().filter(|line| line.to_ascii_lowercase().starts_with("x-two:")).count();
    assert_eq!(twos, 2, "{seen}");
    assert_eq!(answer.headers("server"), ["edge"]);
    assert_eq!(answer.headers("x-powered-by"), ["us"]);
    assert_eq!(answer.headers("via"), ["a", "b"]);
    assert_eq!(answer.headers("x-url"), ["/a/b%20c?d"]);
    // Answers of Frontgate's own are left as they are.
    assert_eq!(client.get(HOST, "/b").header("server"), None);
}

#[test]
fn a_maintenance_page_comes_from_a_file_and_follows_it() {
    let backend = mirror();
    let page = |text: &str| format!("<h1>{text}</h1>");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sorry.HTML"), page("one")).unwrap();
    let file = dir.path().join("sorry.HTML");
    let rules = [
        format!(
            "host: meet.*, schemes: [http], respond: {{ status: 503, file: {} }}, \
             response_headers: {{ set: {{ Retry-After: \"7200\", X-Path: \"{{URL}}\" }} }}",
            file.display()
        ),
        "host: meet.*, farm: a, schemes: [http], when: [{ source: 127.0.0.0/8 }, { header: X-Staff }]"
            .to_owned(),
        "host: dialin.*, schemes: [http], respond: { status: 404 }".to_owned(),
    ];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let frontgate = start(backend.port(), "", &rules);
    let mut client = frontgate.plain();
    let answer = client.get(HOST, "/any/thing");
    assert_eq!((answer.status, answer.text()), (503, page("one")));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.headers("retry-after"), ["7200"]);
    assert_eq!(answer.header("x-path"), Some("/any/thing"));
    let line = frontgate.access_line("page", |line| line["path"] == "/any/thing");
    assert_eq!((&line["reason"], &line["status"]), (&"responded".into(), &503.into()));

    client.send("HEAD / HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n");
    let head = client.answer(true);
    assert_eq!((head.status, head.header("content-length")), (503, Some("12")));
    // Those who work on it get through, on the same connection.
    let staff = client.ask("GET / HTTP/1.1\r\nHost: meet.contoso.com\r\nX-Staff: 1\r\n\r\n");
    assert_eq!(staff.status, 200);
    let short = client.get("dialin.contoso.com", "/");
    assert_eq!((short.status, short.reason().as_str()), (404, "responded"));

    std::fs::write(&file, page("two is longer")).unwrap();
    until("the new page", SOON, || {
        (frontgate.plain().get(HOST, "/").text() == page("two is longer")).then_some(())
    });
    // Without its file the configuration is refused, and the page stays.
    let refused = frontgate.log_count("reload refused");
    std::fs::remove_file(&file).unwrap();
    until("refusal", SOON, || (frontgate.log_count("reload refused") > refused).then_some(()));
    assert_eq!(frontgate.plain().get(HOST, "/").text(), page("two is longer"));
}

#[test]
fn http2_is_not_offered_where_a_condition_may_lead_to_sign_ins() {
    let backend = mirror();
    let port = backend.port();
    let server =
        format!("servers: [{{ address: 127.0.0.1, ports: {{ http: {port} }} }}], bridge: http");
    let frontgate = Frontgate::with(&format!(
        "{LISTENERS}farms:\n  off: {{ {server}, connection_auth: off }}\n  auto: {{ {server} }}\npublish:\n  \
         - {{ host: meet.contoso.com, farm: off }}\n  \
         - {{ host: meet.contoso.com, farm: auto, when: [{{ query: classic }}] }}\n  \
         - {{ host: dialin.contoso.com, farm: off, when: [{{ query: classic }}] }}\n"
    ));
    let offered = |host: &str| {
        let client = Client::tls_with(
            frontgate.address("public"),
            Some(host),
            &frontgate.certificates,
            |settings| settings.set_alpn_protos(b"\x02h2\x08http/1.1").unwrap(),
        );
        client.unwrap().ssl().selected_alpn_protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(offered("meet.contoso.com").as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(offered("dialin.contoso.com").as_deref(), Some(&b"h2"[..]));
}
