//! Host and path to farm; what a request looks like on the other side.

use crate::support::{
    backend::{Backend, always, field, read_body, read_head, reply},
    certificates::Certificates,
    client::Client,
    frontgate::Frontgate,
};

/// A farm entry with one server on this port, TLS verified against the test's internal CA.
fn farm(name: &str, port: u16) -> String {
    format!(
        "  {name}:\n    servers: [{{ name: fe01, address: 127.0.0.1, ports: {{ https: {port}, http: {port} }} }}]\n    \
         tls: {{ ca: internal-ca.pem, name: fe.contoso.local }}\n    connect_timeout: 2s\n"
    )
}

fn internal() -> (tempfile::TempDir, Certificates) {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    (dir, certificates)
}

/// Frontgate whose internal CA is the one the backends use.
fn start_with(certificates: &Certificates, rest: &str) -> Frontgate {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&certificates.dir).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, dir.path().join(from.file_name().unwrap())).unwrap();
    }
    let config = format!("{}{rest}", crate::support::frontgate::LISTENERS);
    std::fs::write(dir.path().join("frontgate.yaml"), config).unwrap();
    let certificates = Certificates { dir: dir.path().to_owned() };
    Frontgate::in_dir(dir, certificates)
}

#[test]
fn each_name_reaches_its_own_farm_re_encrypted() {
    let (_dir, certificates) = internal();
    let a = Backend::tls(&certificates, always("pool a"));
    let b = Backend::tls(&certificates, always("pool b"));
    let frontgate = start_with(
        &certificates,
        &format!(
            "farms:\n{}{}publish:\n  - {{ host: meet.*, farm: a }}\n  - {{ host: lyncweb2.contoso.com, farm: b }}\n",
            farm("a", a.port()),
            farm("b", b.port())
        ),
    );
    let mut client = frontgate.tls("meet.contoso.com");
    assert_eq!(client.get("meet.contoso.com", "/bob/1").text(), "pool a");
    // The certificate covers the other name too, so the connection may be used for it.
    assert_eq!(client.get("LYNCWEB2.contoso.com.:443", "/").text(), "pool b");
    let refused = client.get("mail.contoso.com", "/");
    assert_eq!((refused.status, refused.reason().as_str()), (421, "sni_mismatch"));

    let line = frontgate.access_line("meet", |l| l["path"] == "/bob/1");
    assert_eq!(line["farm"], "a");
    assert_eq!(line["server"], "fe01");
    assert_eq!(line["status"], 200);
    assert_eq!(line["bytes_sent"], 6);
    assert_eq!(line["server_connection"], "new");
    assert_eq!(line["sni"], "meet.contoso.com");
    assert!(line["tls"].as_str().unwrap().starts_with("TLSv1."));
    assert!(line["first_byte_ms"].as_f64().unwrap() <= line["duration_ms"].as_f64().unwrap());
}

#[test]
fn the_request_travels_as_the_client_wrote_it() {
    let (_dir, certificates) = internal();
    let backend = Backend::tls(&certificates, |wire, _| {
        while let Some(head) = read_head(wire) {
            read_body(wire, &head);
            reply(wire, &head).unwrap();
        }
    });
    let frontgate = start_with(
        &certificates,
        &format!(
            "farms:\n{}publish:\n  - {{ host: meet.*, farm: a }}\n",
            farm("a", backend.port())
        ),
    );
    let mut client = frontgate.tls("meet.contoso.com");
    let request = "RPC_IN_DATA /Rpc/x%20Y?a=%2f&B HTTP/1.1\r\nhOST: MEET.contoso.com\r\n\
                   x-WeIrD-cAsE: 1\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_Host: evil\r\n\
                   X-Original-URL: /admin\r\nContent-Length: 3\r\n\r\nabc";
    let seen = client.ask(request).text();
    assert!(seen.starts_with("RPC_IN_DATA /Rpc/x%20Y?a=%2f&B HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("\r\nhOST: MEET.contoso.com\r\n"), "{seen}");
    assert!(seen.contains("\r\nx-WeIrD-cAsE: 1\r\n"), "{seen}");
    assert!(
        !seen.contains("evil") && !seen.contains("6.6.6.6") && !seen.contains("/admin"),
        "{seen}"
    );
    assert_eq!(field(&seen, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(field(&seen, "x-forwarded-proto"), Some("https"));
    assert_eq!(field(&seen, "x-forwarded-host"), Some("MEET.contoso.com"));
    assert_eq!(field(&seen, "x-forwarded-port"), Some("443"), "as the client sees it");
    assert_eq!(field(&seen, "accept"), None, "Accept decides what autodiscover answers");
}

#[test]
fn plain_http_is_forwarded_where_published_and_redirected_elsewhere() {
    let backend = Backend::plain(always("plain"));
    let frontgate = Frontgate::start(&format!(
        "farms:\n{}publish:\n  - {{ host: meet.*, farm: a }}\n  - {{ host: lyncdiscover.*, farm: a, schemes: [https, http] }}\n",
        farm("a", backend.port())
    ));
    let mut client = frontgate.plain();
    assert_eq!(client.get("lyncdiscover.contoso.com", "/?sipuri=bob").text(), "plain");
    let moved = client.get("meet.contoso.com", "/bob/1?x=%20y");
    assert_eq!(moved.status, 301);
    assert_eq!(moved.header("location"), Some("https://meet.contoso.com/bob/1?x=%20y"));
    let posted =
        client.ask("POST /x HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(posted.status, 308);
    let unknown = client.get("other.example", "/");
    assert_eq!((unknown.status, unknown.reason().as_str()), (404, "host_not_published"));
    let line = frontgate.access_line("redirect", |l| l["status"] == 301);
    assert_eq!(line["reason"], "https_only");
}

#[test]
fn rules_by_path_deny_and_redirect() {
    let backend = Backend::plain(always("farm"));
    let frontgate = Frontgate::start(&format!(
        "farms:\n{}publish:\n  - {{ host: meet.contoso.com, path: /meet, farm: a, schemes: [http] }}\n  \
         - {{ host: meet.contoso.com, path: /meet/admin, deny: true, schemes: [http] }}\n  \
         - {{ host: dialin.contoso.com, redirect: {{ to: \"https://mail.contoso.com/owa\", status: 302 }}, schemes: [http] }}\n",
        farm("a", backend.port())
    ));
    let mut client = frontgate.plain();
    let mut ask = |host: &str, path: &str| {
        let answer = client.get(host, path);
        (answer.status, answer.reason())
    };
    assert_eq!(ask("meet.contoso.com", "/MEET/bob").0, 200);
    assert_eq!(ask("meet.contoso.com", "/meeting"), (404, "path_not_published".into()));
    assert_eq!(ask("meet.contoso.com", "/meet/Admin/x"), (404, "denied".into()));
    for path in ["/meet/%41dmin", "/meet/x/../admin", "/meet//admin", "/meet/admin."] {
        let (status, reason) = ask("meet.contoso.com", path);
        assert!(matches!((status, &*reason), (404, "denied") | (400, "ambiguous_path")), "{path}");
    }
    let moved = client.get("dialin.contoso.com", "/x?q=1");
    assert_eq!(
        (moved.status, moved.header("location")),
        (302, Some("https://mail.contoso.com/owa?q=1"))
    );
}

#[test]
fn a_client_without_sni_gets_the_default_certificate_and_http10_works() {
    let (_dir, certificates) = internal();
    let backend = Backend::tls(&certificates, always("ok"));
    let frontgate = start_with(
        &certificates,
        &format!(
            "farms:\n{}publish:\n  - {{ host: meet.*, farm: a }}\n",
            farm("a", backend.port())
        ),
    );
    let mut client = Client::tls(frontgate.address("public"), None, &frontgate.certificates);
    assert_eq!(client.get("meet.contoso.com", "/").text(), "ok");
    // HTTP/1.0 without Host is routed by SNI.
    let mut old = frontgate.tls("meet.contoso.com");
    let answer = old.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let mut hostless = frontgate.tls("meet.contoso.com");
    assert_eq!(hostless.ask("GET / HTTP/1.1\r\n\r\n").status, 400);
}

#[test]
fn a_server_with_another_name_or_authority_is_never_used() {
    let (_dir, certificates) = internal();
    let backend = Backend::tls(&certificates, always("secret"));
    let port = backend.port();
    let server =
        format!("servers: [{{ name: fe01, address: 127.0.0.1, ports: {{ https: {port} }} }}]");
    let frontgate = start_with(
        &certificates,
        &format!(
            "farms:\n  right: {{ {server}, tls: {{ ca: internal-ca.pem, name: fe.contoso.local }} }}\n  \
             name: {{ {server}, tls: {{ ca: internal-ca.pem, name: other.contoso.local }} }}\n  \
             chain: {{ {server}, tls: {{ verify: chain, ca: internal-ca.pem, name: other.contoso.local }} }}\n  \
             authority: {{ {server}, tls: {{ ca: public-ca.pem, name: fe.contoso.local }} }}\n\
             publish:\n  - {{ host: meet.contoso.com, farm: right }}\n  - {{ host: dialin.contoso.com, farm: name }}\n  \
             - {{ host: wac.contoso.com, farm: chain }}\n  - {{ host: lyncweb.contoso.com, farm: authority }}\n"
        ),
    );
    // Same address, and `right` leaves an idle connection behind: nobody else may pick it up.
    for _ in 0..3 {
        let ask = |host: &str| frontgate.tls(host).get(host, "/");
        assert_eq!(ask("meet.contoso.com").text(), "secret");
        assert_eq!(ask("wac.contoso.com").text(), "secret");
        for host in ["dialin.contoso.com", "lyncweb.contoso.com"] {
            let refused = ask(host);
            assert_eq!((refused.status, refused.reason().as_str()), (502, "server_tls"), "{host}");
        }
    }
}
