//! What servers are told about the client, and whose word counts.

use crate::{
    pins::{self, sign_in},
    support::{
        backend::{Backend, field, read_body, read_head, reply},
        client::Client,
        frontgate::{Frontgate, LISTENERS},
        servers_of,
    },
};

/// Tells what it was asked.
pub fn echo() -> Backend {
    Backend::plain(|wire, _| {
        while let Some(head) = read_head(wire) {
            read_body(wire, &head);
            if reply(wire, &head).is_err() {
                return;
            }
        }
    })
}

/// Publishes an echo as meet.contoso.com on both schemes; `top` and `farm` are further settings.
pub fn start(backend: &Backend, top: &str, farm: &str) -> Frontgate {
    let servers = servers_of(&[("fe01", backend.port())]);
    Frontgate::with(&format!(
        "{LISTENERS}{top}\nfarms:\n  a: {{ servers: [{servers}], bridge: http{farm} }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n"
    ))
}

pub const TRUSTED: &str = "trusted_proxies: [127.0.0.1, 10.0.0.0/8, \"2001:db8:f::/48\"]";

/// GET with these header lines; what the server saw of it.
pub fn seen(client: &mut Client, path: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("GET {path} HTTP/1.1\r\nHost: meet.contoso.com\r\n{lines}\r\n");
    client.ask(request).text()
}

/// How often a field is in a header.
fn count(head: &str, name: &str) -> usize {
    let names = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    names.filter(|(found, _)| found.eq_ignore_ascii_case(name)).count()
}

#[test]
fn standard_is_the_default() {
    let backend = echo();
    let frontgate = start(&backend, "", "");
    for (mut client, scheme) in
        [(frontgate.tls("meet.contoso.com"), "https"), (frontgate.plain(), "http")]
    {
        let head = seen(&mut client, "/x", &[]);
        assert_eq!(field(&head, "x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(field(&head, "x-forwarded-proto"), Some(scheme));
        assert_eq!(field(&head, "x-forwarded-host"), Some("meet.contoso.com"));
        // `public_port`; the plain listener has none, and asks the system for a port.
        let port = if scheme == "https" { "443" } else { "0" };
        assert_eq!(field(&head, "x-forwarded-port"), Some(port));
        for absent in ["forwarded", "x-arr-ssl", "x-arr-log-id", "x-original-url"] {
            assert_eq!(field(&head, absent), None);
        }
    }
    let line = frontgate.access_line("request", |l| l["path"] == "/x");
    assert!(line.get("log_id").is_none() && line.get("peer").is_none(), "{line}");
}

#[test]
fn arr_tells_what_arr_told() {
    let backend = echo();
    let frontgate = start(&backend, "", ", forward: { style: arr }");
    let mut client = frontgate.tls("meet.contoso.com");
    let own = client.tcp().local_addr().unwrap();
    let head = seen(&mut client, "/Meet/b%20c?x=%2f", &[]);
    assert_eq!(field(&head, "x-forwarded-for"), Some(own.to_string().as_str()));
    assert_eq!(field(&head, "x-forwarded-proto"), Some("https"));
    assert_eq!(field(&head, "x-original-url"), Some("/Meet/b%20c?x=%2f"));
    let ssl: Vec<_> = field(&head, "x-arr-ssl").unwrap().split('|').collect();
    assert_eq!(ssl[0], "2048", "bits of the certificate's key");
    assert!(matches!(ssl[1], "128" | "256"), "bits of the cipher: {ssl:?}");
    assert_eq!(ssl[2..], ["CN=Test Public CA", "CN=meet.contoso.com"], "issuer and subject");
    let id = field(&head, "x-arr-log-id").unwrap();
    let lengths: Vec<_> = id.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
    assert_eq!(id, id.to_lowercase());
    let line = frontgate.access_line("request", |l| l["path"] == "/Meet/b%20c");
    assert_eq!(line["log_id"], id, "the two logs can be joined");

    let next = seen(&mut client, "/next", &[]);
    assert_ne!(field(&next, "x-arr-log-id"), Some(id), "each request has its own");
    let plain = seen(&mut frontgate.plain(), "/plain", &[]);
    assert_eq!(field(&plain, "x-arr-ssl"), None, "there is no TLS to tell of");
    assert!(field(&plain, "x-arr-log-id").is_some());
}

#[test]
fn forwarded_has_the_form_of_the_rfc() {
    let backend = echo();
    for style in ["standard", "arr"] {
        let farm = format!(", forward: {{ style: {style}, rfc7239: true }}");
        let frontgate = start(&backend, TRUSTED, &farm);
        let mut client = frontgate.tls("meet.contoso.com");
        let own = client.tcp().local_addr().unwrap();
        let arr = style == "arr";
        let own = if arr { format!("\"{own}\"") } else { own.ip().to_string() };
        let mut forwarded = |lines: &[&str]| {
            field(&seen(&mut client, "/x", lines), "forwarded").unwrap().to_owned()
        };
        assert_eq!(forwarded(&[]), format!("for={own};host=meet.contoso.com;proto=https"));
        // From X-Forwarded-For come the entries that were believed.
        let chain = ["X-Forwarded-For: 6.6.6.6, [2001:db8::7]:443, 10.0.0.2"];
        let client_node = if arr { "\"[2001:db8::7]:443\"" } else { "\"[2001:db8::7]\"" };
        assert_eq!(
            forwarded(&chain),
            format!(
                "for={client_node};host=meet.contoso.com;proto=https, for=10.0.0.2, for={own};host=meet.contoso.com;proto=https"
            )
        );
        // What came in this form goes on as it is.
        let chain = ["Forwarded: for=_x, for=192.0.2.7;proto=https", "forwarded: for=10.0.0.2"];
        assert_eq!(
            forwarded(&chain),
            format!(
                "for=_x, for=192.0.2.7;proto=https, for=10.0.0.2, for={own};host=meet.contoso.com;proto=https"
            )
        );
    }
}

#[test]
fn trusted_proxies_say_who_the_client_is() {
    let backend = echo();
    let frontgate = start(&backend, TRUSTED, "");
    let mut client = frontgate.tls("meet.contoso.com");
    for (number, (lines, chain, who)) in [
        (&["X-Forwarded-For: 192.0.2.7"][..], "192.0.2.7, 127.0.0.1", "192.0.2.7"),
        (
            &["X-Forwarded-For: 6.6.6.6, 192.0.2.7:5061", "x-forwarded-for: 10.0.0.2"],
            "6.6.6.6, 192.0.2.7:5061, 10.0.0.2, 127.0.0.1",
            "192.0.2.7",
        ),
        (
            &["X-Forwarded-For: 2001:db8::7, [2001:db8:f::1]:80"],
            "2001:db8::7, [2001:db8:f::1]:80, 127.0.0.1",
            "2001:db8::7",
        ),
        (&["X-Forwarded-For: 10.0.0.3, 10.0.0.2"], "10.0.0.3, 10.0.0.2, 127.0.0.1", "10.0.0.3"),
        (&["X-Forwarded-For: junk, 10.0.0.2"], "junk, 10.0.0.2, 127.0.0.1", "10.0.0.2"),
        (&["Forwarded: for=\"[2001:db8::7]:443\""], "2001:db8::7, 127.0.0.1", "2001:db8::7"),
        (
            &["Forwarded: for=6.6.6.6, for=192.0.2.7", "Forwarded: for=10.0.0.2;proto=https"],
            "192.0.2.7, 10.0.0.2, 127.0.0.1",
            "192.0.2.7",
        ),
        // A stranger's Forwarded passes proxies that know only the other field.
        (
            &["Forwarded: for=6.6.6.6", "X-Forwarded-For: 192.0.2.7"],
            "192.0.2.7, 127.0.0.1",
            "192.0.2.7",
        ),
        // Another spelling is nobody's.
        (&["X_Forwarded_For: 192.0.2.7"], "127.0.0.1", "127.0.0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        let head = seen(&mut client, &format!("/{number}"), lines);
        assert_eq!(field(&head, "x-forwarded-for"), Some(chain), "{lines:?}");
        assert_eq!(count(&head, "x-forwarded-for"), 1);
        assert_eq!(count(&head, "x_forwarded_for") + count(&head, "forwarded"), 0, "{head}");
        let line = frontgate.access_line("request", |l| l["path"] == format!("/{number}"));
        assert_eq!(line["client"], who, "{lines:?}");
        let peer = client.tcp().local_addr().unwrap().to_string();
        let expected = if who == "127.0.0.1" { None } else { Some(peer.as_str()) };
        assert_eq!(line.get("peer").and_then(|p| p.as_str()), expected, "{lines:?}");
    }
    let line = frontgate.access_line("with port", |l| l["path"] == "/1");
    assert_eq!(line["client_port"], 5061);
    assert!(frontgate.access_line("without", |l| l["path"] == "/0")["client_port"].is_null());
}

#[test]
fn trusted_proxies_say_what_was_asked_for() {
    let backend = echo();
    let frontgate = start(&backend, TRUSTED, "");
    let mut client = frontgate.plain();
    let lines = [
        "X-Forwarded-For: 192.0.2.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: outside.example:444",
        "X-Forwarded-Port: 444",
        "X-Forwarded-Prefix: /evil",
        "X-Original-URL: /evil",
        "X-ARR-SSL: evil",
    ];
    let head = seen(&mut client, "/x", &lines);
    assert_eq!(field(&head, "x-forwarded-proto"), Some("https"));
    assert_eq!(field(&head, "x-forwarded-host"), Some("outside.example:444"));
    assert_eq!(field(&head, "x-forwarded-port"), Some("444"));
    assert!(!head.contains("evil"), "{head}");
    let head = seen(&mut client, "/x", &["X-Forwarded-Proto: https"]);
    assert_eq!(field(&head, "x-forwarded-port"), Some("443"), "the scheme's own");
    assert_eq!(field(&head, "x-forwarded-host"), Some("meet.contoso.com"));
}

/// SECURITY: without being listed, nobody says who the client is or which URL was meant.
#[test]
fn strangers_cannot_forge_any_of_it() {
    let backend = echo();
    let lines = [
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-For: evil",
        "x_forwarded_for: evil",
        "X-Forwarded_Proto: evil",
        "X-Forwarded-Host: evil",
        "X-Forwarded-Port: 666",
        "X-Forwarded-Prefix: evil",
        "Forwarded: for=6.6.6.6;proto=http;host=evil",
        "X-Real-IP: evil",
        "X-Original-URL: /evil",
        "X_Original_URL: /evil",
        "X-Rewrite-URL: /evil",
        "X-ARR-SSL: evil",
        "X_ARR_SSL: evil",
        "X-ARR-LOG-ID: evil",
        "X-ARR-ClientCert: evil",
    ];
    for farm in ["", ", forward: { style: arr, rfc7239: true }"] {
        let frontgate = start(&backend, "trusted_proxies: [10.0.0.0/8]", farm);
        let head = seen(&mut frontgate.tls("meet.contoso.com"), "/x", &lines);
        assert!(!head.contains("evil") && !head.contains("6.6.6.6"), "{head}");
        assert!(field(&head, "x-forwarded-for").unwrap().starts_with("127.0.0.1"));
        assert_eq!(field(&head, "x-forwarded-proto"), Some("https"));
        assert_eq!(field(&head, "x-forwarded-port"), Some("443"));
        for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
            assert_eq!(count(&head, name), 1, "{head}");
        }
        let line = frontgate.access_line("request", |l| l["path"] == "/x");
        assert_eq!(line["client"], "127.0.0.1");
        assert!(line.get("peer").is_none());
        // Nor does plain http become https.
        let redirect = "publish:\n  - { host: meet.*, farm: a }\n";
        let text = std::fs::read_to_string(frontgate.config_path()).unwrap();
        let only_https = format!("{}{redirect}", text.split("publish:").next().unwrap());
        let frontgate = Frontgate::with(&only_https);
        let answer = frontgate
            .plain()
            .ask("GET / HTTP/1.1\r\nHost: meet.contoso.com\r\nX-Forwarded-Proto: https\r\n\r\n");
        assert_eq!((answer.status, answer.reason().as_str()), (301, "https_only"));
    }
}

#[test]
fn http2_is_heard_and_dropped_alike() {
    let backend = echo();
    for (trusted, expected) in [(TRUSTED, "192.0.2.7, 127.0.0.1"), ("", "127.0.0.1")] {
        let farm = ", connection_auth: off, forward: { rfc7239: true }";
        let frontgate = start(&backend, trusted, farm);
        let out = frontgate
            .curl("meet.contoso.com", "/x")
            .args(["--http2", "-H", "X-Forwarded-For: 192.0.2.7", "-H", "X_Forwarded_For: evil"])
            .args(["-H", "X-Forwarded-Host: evil:444", "-w", "%{http_version}"])
            .output()
            .unwrap();
        let head = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(head.ends_with('2'), "{head}");
        assert_eq!(field(&head, "x-forwarded-for"), Some(expected), "{head}");
        assert_eq!(head.contains("evil"), !trusted.is_empty(), "{head}");
        assert!(field(&head, "forwarded").unwrap().contains(";proto=https"), "{head}");
        assert_eq!(count(&head, "x_forwarded_for"), 0);
        let line = frontgate.access_line("h2", |l| l["path"] == "/x");
        assert_eq!(line["client"], expected.split(',').next().unwrap());
    }
}

/// TLS may end in front: what a trusted proxy says of the scheme decides as the listener would.
#[test]
fn https_that_ended_in_front_is_https() {
    let plain = echo();
    let dir = tempfile::tempdir().unwrap();
    let certificates = crate::support::certificates::Certificates::write(dir.path());
    let tls = Backend::tls(&certificates, |wire, _| {
        while let Some(head) = read_head(wire) {
            wire.write_all(b"HTTP/1.1 200 OK\r\nX-Over: tls\r\nContent-Length: 0\r\n\r\n").unwrap();
            assert!(head.contains("\r\nX-Forwarded-Proto: https\r\n"), "{head}");
        }
    });
    let frontgate = Frontgate::with(&format!(
        "{LISTENERS}{TRUSTED}\nfarms:\n  a:\n    servers: [{{ name: fe01, address: 127.0.0.1, \
         ports: {{ https: {}, http: {} }} }}]\n    tls: {{ verify: off, name: fe.contoso.local }}\n\
         publish:\n  - {{ host: meet.*, farm: a }}\n  \
         - {{ host: lyncdiscover.*, farm: a, schemes: [https, http] }}\n",
        tls.port(),
        plain.port()
    ));
    let mut balancer = frontgate.plain();
    let mut ask = |host: &str, proto: &str| {
        let line = if proto.is_empty() { String::new() } else { format!("{proto}\r\n") };
        balancer.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{line}\r\n"))
    };
    assert_eq!(ask("meet.contoso.com", "").reason(), "https_only");
    assert_eq!(ask("meet.contoso.com", "X-Forwarded-Proto: http").reason(), "https_only");
    // No loop, and the server's TLS port: the client's https goes on as https.
    for proto in ["X-Forwarded-Proto: https", "Forwarded: for=192.0.2.7;proto=https"] {
        let answer = ask("meet.contoso.com", proto);
        assert_eq!((answer.status, answer.header("x-over")), (200, Some("tls")), "{proto}");
    }
    let answer = ask("lyncdiscover.contoso.com", "");
    assert_eq!((answer.status, answer.header("x-over")), (200, None));
    // The other way round: http that a proxy brought over TLS is still http.
    let mut encrypting = frontgate.tls("meet.contoso.com");
    let answer = encrypting
        .ask("GET / HTTP/1.1\r\nHost: meet.contoso.com\r\nX-Forwarded-Proto: http\r\n\r\n");
    assert_eq!(answer.reason(), "https_only");
}

#[test]
fn pins_are_counted_for_the_client_and_not_for_the_proxy() {
    let backend = pins::server();
    let limits = format!("{TRUSTED}\nlimits: {{ pins_per_source: 1 }}\n");
    let frontgate = Frontgate::with(&pins::config(&[("fe01", backend.port())], &limits, ""));
    let ask = |client: &mut Client, from: &str| {
        let line = format!("X-Forwarded-For: {from}\r\n\r\n");
        let request = sign_in("alice");
        client.ask(format!("{}{line}", request.strip_suffix("\r\n").unwrap()))
    };
    let (mut first, mut second, mut third) =
        (frontgate.plain(), frontgate.plain(), frontgate.plain());
    assert_eq!(ask(&mut first, "192.0.2.7").status, 200);
    assert_eq!(ask(&mut second, "192.0.2.8").status, 200);
    let refused = ask(&mut third, "192.0.2.7");
    assert_eq!((refused.status, refused.reason().as_str()), (503, "too_many_pins"));
}

/// SECURITY: NTLM signs in the connection, so a proxy must not send two clients over one.
#[test]
fn a_sign_in_is_never_shared_by_a_proxy_in_front() {
    let backend = pins::server();
    let limits = format!("{TRUSTED}\n");
    let frontgate = Frontgate::with(&pins::config(&[("fe01", backend.port())], &limits, ""));
    let mut proxy = frontgate.plain();
    let from = |request: &str, from: &str| {
        let start = request.strip_suffix("\r\n").unwrap();
        format!("{start}X-Forwarded-For: {from}\r\n\r\n")
    };
    assert_eq!(proxy.ask(from(pins::GET, "192.0.2.9")).status, 401, "nobody owns it yet");
    assert_eq!(proxy.ask(from(&sign_in("alice"), "192.0.2.7")).text(), "alice 1");
    assert_eq!(proxy.ask(from(pins::GET, "192.0.2.7")).text(), "alice 1");
    let refused = proxy.ask(from(pins::GET, "192.0.2.8"));
    assert_eq!((refused.status, refused.reason().as_str()), (421, "shared_connection"));
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(proxy.closed());
    let mut again = frontgate.plain();
    assert_eq!(again.ask(from(pins::GET, "192.0.2.8")).status, 401);
}

#[test]
fn presets_hide_servers_and_versions_but_never_diagnostics() {
    let hidden =
        ["Server", "X-Powered-By", "X-AspNet-Version", "X-AspNetMvc-Version", "X-MS-Server-Fqdn"];
    let exchange = ["X-FEServer", "X-BEServer", "X-CalculatedBETarget", "X-DiagInfo"];
    let backend = Backend::plain(move |wire, _| {
        while read_head(wire).is_some() {
            let names = hidden.iter().chain(&exchange);
            let fields: String = names.map(|name| format!("{name}: fe01.inside\r\n")).collect();
            let answer = format!(
                "HTTP/1.1 200 OK\r\n{fields}X-Ms-diagnostics: 1;reason=\"x\"\r\nContent-Length: 0\r\n\r\n"
            );
            if wire.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    for preset in ["lync", "owas", "exchange/mapi", "exchange/rpc"] {
        let farm = format!(", preset: {preset}, probes: [], plain_paths: []");
        let frontgate = start(&backend, "", &farm);
        let answer = frontgate.tls("meet.contoso.com").get("meet.contoso.com", "/");
        assert_eq!(answer.status, 200);
        for name in hidden {
            assert_eq!(answer.header(name), None, "{preset}: {name}");
        }
        for name in exchange {
            let gone = preset.starts_with("exchange/");
            assert_eq!(answer.header(name).is_none(), gone, "{preset}: {name}");
        }
        assert_eq!(answer.header("x-ms-diagnostics"), Some("1;reason=\"x\""), "{preset}");
    }
}
