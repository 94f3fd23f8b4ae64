//! A real nginx as a Front End stand-in, with the TLS of Windows Server 2012 R2.

use std::{io::Write, net::SocketAddr, path::Path};

use crate::support::{certificates::Certificates, frontgate::Frontgate, nginx::Nginx};

/// What Schannel of Windows Server 2012 R2 offers with an RSA certificate: no GCM with ECDHE.
const WINDOWS_2012_R2: &str = "ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA256:\
    ECDHE-RSA-AES256-SHA:ECDHE-RSA-AES128-SHA:AES256-SHA:AES128-SHA";

/// Serves `dir/www` over TLS, with `internal-rsa` as certificate.
fn front_end(dir: &Path, ciphers: &str, address: SocketAddr) -> String {
    let path = dir.display();
    std::fs::create_dir_all(dir.join("www")).unwrap();
    std::fs::write(dir.join("www/index.html"), "front end").unwrap();
    format!(
        "client_max_body_size 0; server {{ listen {address} ssl; root {path}/www;\n\
         ssl_certificate {path}/internal-rsa.pem; ssl_certificate_key {path}/internal-rsa.key;\n\
         ssl_protocols TLSv1.2; ssl_ciphers {ciphers}; ssl_prefer_server_ciphers on;\n\
         location /cipher {{ return 200 \"$ssl_protocol $ssl_cipher $ssl_server_name\"; }}\n\
         location /echo {{ return 200 \"$request_method $request_uri $http_host\"; }} }}"
    )
}

fn start(ciphers: &str) -> (Nginx, Frontgate) {
    use crate::support::certificates::{issue, rsa, save};
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    let internal = crate::support::certificates::authority("Windows CA");
    save(dir.path(), "internal-ca", &internal);
    save(dir.path(), "internal-rsa", &issue(&internal, &["fe.contoso.local"], rsa()));
    let nginx = Nginx::start(dir.path(), |address| front_end(dir.path(), ciphers, address));
    let config = format!(
        "{}farms:\n  a:\n    preset: lync\n    servers: [{{ name: fe01, address: 127.0.0.1 }}]\n    ports: {{ https: {} }}\n    \
         tls: {{ ca: internal-ca.pem, name: fe.contoso.local }}\n    \
         probe: {{ path: /index.html, status: \"200\", body: front end, interval: 1s, timeout: 5s }}\n\
         publish:\n  - {{ host: meet.*, farm: a }}\n",
        crate::support::frontgate::LISTENERS,
        nginx.address.port()
    );
    std::fs::write(dir.path().join("frontgate.yaml"), config).unwrap();
    (nginx, Frontgate::in_dir(dir, certificates))
}

#[test]
fn windows_server_2012_r2_is_reached_without_gcm() {
    let (_nginx, frontgate) = start(WINDOWS_2012_R2);
    let mut client = frontgate.tls("meet.contoso.com");
    let seen = client.get("meet.contoso.com", "/cipher").text();
    let mut words = seen.split(' ');
    assert_eq!(words.next(), Some("TLSv1.2"), "{seen}");
    let cipher = words.next().unwrap();
    assert!(WINDOWS_2012_R2.split(':').any(|c| c.trim() == cipher), "{seen}");
    assert_eq!(words.next(), Some("fe.contoso.local"), "SNI is the server's own name: {seen}");
    assert_eq!(client.get("meet.contoso.com", "/").text(), "front end");
    assert_eq!(frontgate.log_count("is down"), 0, "the probe is content, too");
}

#[test]
fn the_oldest_suite_alone_is_enough() {
    let (_nginx, frontgate) = start("AES128-SHA");
    let seen = frontgate.tls("meet.contoso.com").get("meet.contoso.com", "/cipher").text();
    assert!(seen.starts_with("TLSv1.2 AES128-SHA "), "{seen}");
}

#[test]
fn uploads_and_methods_reach_a_real_server() {
    let (_nginx, frontgate) = start(WINDOWS_2012_R2);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![b'x'; 3_000_000]).unwrap();
    let out = frontgate
        .curl("meet.contoso.com", "/echo/%7Bx%7D?q=%20")
        .args(["-X", "RPC_IN_DATA", "-H", "Expect: 100-continue", "--data-binary"])
        .arg(format!("@{}", file.path().display()))
        .output()
        .unwrap();
    let body = String::from_utf8_lossy(&out.stdout);
    let port = frontgate.address("public").port();
    assert_eq!(body, format!("RPC_IN_DATA /echo/%7Bx%7D?q=%20 meet.contoso.com:{port}"));
}
