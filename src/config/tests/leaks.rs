//! No message and no printed configuration shows what a variable holds.

use std::{cell::RefCell, collections::HashSet, fs, path::Path};

use crate::config::{Outcome, load_with, render, tests::make};

/// Settings with variables in every place a message could show; `$` stands for a variable with
/// the text that follows it, up to a space.
const CASES: &[&str] = &[
    // W001, W005, W007, W010, E012, E016, E017, E018
    r#"
listeners:
  - { name: "$tls-one", address: "$0.0.0.0:443", tls: true }
  - { name: "$tls-one", address: "$0.0.0.0:443", tls: true }
  - { name: "$plain", address: "$127.0.0.1:9180" }
certificates: [{ cert: a.pem, key: a.key }]
domains: ["$sentinel.contoso.com"]
farms:
  lync:
    servers: [fe01]
    deny_paths: ["$/sentinel"]
    plain_paths: ["$/sentinel-plain"]
publish:
  - { host: "$meet.*", farm: lync }
  - { host: "$sentinel.fabrikam.com", farm: lync }
  - { host: "$*.sentinel.com", farm: lync }
  - { host: a.contoso.com, path: "$/sentinel/x", farm: lync, allow_denied: ["$/sentinel-other"] }
  - { host: a.contoso.com, path: "$/sentinel/x", farm: "$sentinel" }
  - { host: a.contoso.com, path: /a, farm: "$lyn", listeners: ["$tls-on"], schemes: [http] }
  - { host: a.contoso.com, path: /b, farm: lync, listeners: [tls-on], schemes: [http] }
  - { host: a.contoso.com, path: /c, farm: lync, listeners: [nobody], schemes: [http] }
"#,
    r#"
listeners: [{ address: "0.0.0.0:80" }]
access_log: { path: "$syslog:sentinel", query: "$sentinel" }
farms: { lync: { servers: [fe01] } }
publish: [{ host: "$sentinel-meet.*", farm: lync, schemes: [http] }]
"#,
    // E003, W012, E001
    r#"include: ["$sentinel-conf/*.yaml", "$sentinel-conf/a.yaml", "$sentinel-none.yaml", "$sentinel-none/*", "$sentinel***"]"#,
    // Values of every kind, E008, E010, E015, E020 to E040
    r#"
workers: "$sentinel"
state_dir: "$sentinel"
access_log: { format: "$sentinel", path: "$/sentinel/access.log" }
admin: { listen: "$unix:sentinel", hosts: ["$sentinel_/"], token_file: "$sentinel.token" }
health: { listen: "$sentinel:80" }
shutdown: { delay: "$12345678", drain: "$" }
domains: ["$*.sentinel.com", "$*.sentinel_/"]
trusted_proxies: ["$10.0.0.0/sentinel"]
limits: { connections: "$-12345678", header_size: "$12345678", url: "$sentinel", pins: "$99912345678" }
listeners:
  - { name: "$sentinel name", address: "$sentinel:443", public_port: "$99912345", tls: { min_version: "$sentinel" } }
  - { address: "0.0.0.0:443", tls: "$sentinel" }
certificates:
  - { cert: "$sentinel.pem", key: "$sentinel.key", key_password_file: "$sentinel" }
  - { pfx: "$sentinel.pfx", password_file: "$sentinel" }
  - { pfx: "$a.pem" }
farms:
  lync:
    preset: "$sentinel"
    servers: ["$sentinel://x", "$sentinel:80", "$10.12345678", "$[::sentinel]:4", "$fe01-sentinel", "$fe01-sentinel"]
    ports: { https: "$sentinel", http: 80 }
    bridge: "$httpss"
    host: "$sentinel:80"
    tls: { verify: "$sentinel", ca: "$/sentinel/ca.pem", name: "$sentinel/x" }
    timeout: "$12345678"
    balance: { hash: "$sentinel" }
    affinity: "$sentinel"
    probe: { path: "$sentinel", status: "$sentinel", tcp: "$sentinel", body: "$sentinel" }
    deny_paths: ["$sentinel*", "$/", "$=/sentinel", "$/sentinel."]
    hide_headers: ["$sentinel: x"]
    plain_paths: ["$sentinel"]
  second: { servers: ["$10.12.34.56", "$10.12.34.56"], probe: { path: "$sentinel" } }
publish:
  - { host: "$https://sentinel/", farm: lync }
  - { host: a.contoso.com, schemes: ["$sentinel"], farm: lync }
  - { host: a.contoso.com, redirect: "$sentinel" }
  - { host: a.contoso.com, path: /x, redirect: { to: /x, status: "$12345678" } }
  - { host: a.contoso.com, path: /y, redirect: { to: /x, keep_path: "$sentinel" } }
  - { host: a.contoso.com, deny: true, name: "$sentinel", body_size: "$12345678" }
"#,
    // E035, E072
    r#"
listeners: [{ address: "0.0.0.0:80" }]
traces: { endpoint: "$https://sentinel@contoso.com", sample: "$12345678%", headers: { X-A: "$ sentinel", Host: "$sentinel", X-B: "$sentinel" }, service_name: "$sentinel" }
farms: { lync: { servers: [fe01] } }
publish: [{ host: a.contoso.com, farm: lync, schemes: [http] }]
"#,
    // E060 to E064
    r#"
listeners: [{ address: "0.0.0.0:80" }]
farms: { lync: { servers: [fe01] } }
publish:
  - host: a.contoso.com
    farm: lync
    schemes: [http]
    when:
      - { header: "$sentinel name" }
      - { query: "$sentinel", matches: "$(sentinel" }
      - { query: "$sentinel", is: "$sentinel", not: "$sentinel" }
      - { method: "$sentinel" }
      - { scheme: "$sentinel" }
      - { source: ["$10.12345678", "$10.12.34.56/99"] }
      - { path: "$sentinel" }
      - { host: ["$sentinel/x"] }
      - { path: ~, matches: "$(?-i)sentinel" }
      - { host: ~, matches: "$(sentinel{500}){5000}" }
    rewrite: { path: "$sentinel", query: "$?sentinel" }
    request_headers: { set: { X-A: "$sentinel{R:7}" }, remove: ["$Proxy-sentinel", "$sentinel name"] }
    response_headers: { add: { X-A: "$ sentinel" } }
  - { host: b.contoso.com, redirect: "$https://sentinel{R:1}/" }
  - { host: c.contoso.com, redirect: "$https://h/{SENTINEL}" }
  - { host: d.contoso.com, respond: { file: "$sentinel.html", status: "$12345678" } }
  - { host: e.contoso.com, farm: lync, rewrite: { path: "$/{SENTINEL}" } }
"#,
];

/// Replaces `$text` in quotes by `${Vn}`; the texts.
fn variables(case: &str) -> (String, Vec<String>) {
    let mut values = Vec::new();
    let mut out = String::new();
    for (n, piece) in case.split("\"$").enumerate() {
        if n == 0 {
            out.push_str(piece);
            continue;
        }
        let (value, rest) = piece.split_once('"').unwrap();
        out.push_str(&format!("\"${{V{}}}\"{rest}", values.len()));
        values.push(value.to_string());
    }
    (out, values)
}

fn load(dir: &Path, case: &str) -> (Outcome, Vec<String>) {
    let (text, values) = variables(case);
    fs::write(dir.join("main.yaml"), text).unwrap();
    let lookup = |name: &str| {
        let number: usize = name.strip_prefix('V')?.parse().ok()?;
        values.get(number).cloned()
    };
    (load_with(&dir.join("main.yaml"), &lookup), values.clone())
}

#[test]
fn no_message_shows_what_the_environment_says() {
    let dir = tempfile::tempdir().unwrap();
    make::test_files(dir.path());
    fs::create_dir(dir.path().join("sentinel-conf")).unwrap();
    fs::write(dir.path().join("sentinel-conf/a.yaml"), "workers: x\n").unwrap();
    let codes = RefCell::new(HashSet::new());
    for case in CASES {
        let (outcome, values) = load(dir.path(), case);
        codes.borrow_mut().extend(outcome.findings.iter().map(|f| f.code.id));
        let text = render::text(&outcome.findings, false);
        for secret in ["sentinel", "SENTINEL", "12345678", "10.12.34.56", "10.12345678"] {
            assert!(!text.contains(secret), "{secret} leaks:\n{text}");
        }
        let effective = outcome.effective.unwrap_or_default();
        assert!(!effective.contains("sentinel"), "{effective}");
        assert!(!values.is_empty());
    }
    let codes = codes.into_inner();
    for code in [
        "W001", "W005", "W007", "W010", "W012", "E003", "E012", "E016", "E017", "E018", "E060",
        "E061", "E062", "E063", "E064", "E072",
    ] {
        assert!(codes.contains(code), "no case makes {code}: {codes:?}");
    }
}
