//! Sites from whole files, and the effective configuration.

use std::{fs, path::Path, time::Duration};

use crate::{
    config::{Outcome, load_with, render, tests::make},
    site::{
        self, Action, Address, Check, FarmId, HostPattern, PathPattern, Ports, Respond, Schemes,
        TlsVersion, Verify,
    },
};

const WHOLE: &str = r#"
include: [conf.d/*.yaml]
domains: [contoso.com]
workers: 3
access_log: { format: combined, path: logs/access.log }
shutdown: { delay: 5s, drain: 1h }
listeners:
  - { name: public, address: "0.0.0.0:443", public_port: 8443, tls: { min_version: "1.0", http2: false } }
  - { address: "[::]:80" }
certificates:
  - { cert: a.pem, key: a.key }
  - { pfx: a.pfx, password_file: right.pass, default: true }
farms:
  lyncweb:
    preset: lync
    servers:
      - lyncfe01.labs.local
      - { name: fe02, address: 10.1.1.2, weight: 50, ports: { https: 5443 } }
    tls: { ca: a.pem, name: lyncweb.labs.local }
    deny_paths: [/cscp]
publish:
  - { host: a.contoso.com, path: /Autodiscover, farm: lyncweb, schemes: [https, http], body_size: 1MiB, timeout: 5m }
  - { host: A.contoso.com, path: /admin, deny: true }
  - host: a.contoso.com
    path: /rules
    farm: lyncweb
    when:
      - { header: X-A }
      - { query: q, is: ["${A}", b] }
      - { method: ~, not: GET }
      - { source: [10.0.0.0/8, 192.0.2.7] }
      - { path: ~, matches: '^/rules/(\w+)' }
    rewrite: { path: "/x/{C:1}", query: "" }
    request_headers: { set: { X-A: "${A}", X-B: "{R:1}" }, remove: [X-C] }
    response_headers: { add: { X-D: d } }
    rewrite_host: true
  - { host: a.contoso.com, path: /page, respond: { status: 503, file: page.html } }
"#;

const INCLUDED: &str = r#"
farms: { extra: { servers: ["${SERVER}"], tls: { ca: "../${A}.pem", verify: chain }, probe: { tcp: 5061 } } }
publish: [{ host: a.contoso.com, farm: extra, listeners: [public] }]
"#;

fn whole(dir: &Path) -> Outcome {
    make::test_files(dir);
    fs::create_dir_all(dir.join("conf.d")).unwrap();
    fs::create_dir_all(dir.join("logs")).unwrap();
    fs::write(dir.join("conf.d/extra.yaml"), INCLUDED).unwrap();
    fs::write(dir.join("main.yaml"), WHOLE).unwrap();
    fs::write(dir.join("page.html"), "<p>Later</p>").unwrap();
    load_with(&dir.join("main.yaml"), &server)
}

fn server(name: &str) -> Option<String> {
    match name {
        "SERVER" => Some("secret-name.contoso.com".to_string()),
        "A" => Some("a".to_string()),
        _ => None,
    }
}

#[test]
fn a_whole_configuration_becomes_a_site() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = whole(dir.path());
    assert!(outcome.findings.is_empty(), "{}", render::text(&outcome.findings, false));
    let site = outcome.site.unwrap();
    assert_eq!((site.workers, site.domains.as_slice()), (3, &["contoso.com".to_string()][..]));
    let log = site::LogTarget::File(dir.path().join("logs/access.log"));
    assert_eq!(site.access_log.target, log);
    assert_eq!(site.access_log.query, site::LogQuery::Masked);
    assert_eq!(site.shutdown.drain, Duration::from_secs(3600));
    let public = &site.listeners[0];
    assert_eq!((&*public.name, public.public_port), ("public", 8443));
    assert_eq!(public.tls.unwrap().min_version, TlsVersion::Tls10);
    assert_eq!(&*site.listeners[1].name, "[::]:80");
    assert_eq!(site.default_certificate, 1);
    assert_eq!(site.certificates[0].names, ["a.contoso.com"]);
    assert!(site.certificates[0].ecdsa);

    let names: Vec<&str> = site.farms.iter().map(|farm| &*farm.name).collect();
    assert_eq!(names, ["extra", "lyncweb"]);
    let lync = &site.farms[1];
    assert_eq!(lync.timeout, Duration::from_secs(1800));
    assert_eq!(lync.deny_paths, ["/cscp".into()]);
    assert_eq!(lync.plain_paths, ["=/".into(), "/autodiscover".into()]);
    assert_eq!(lync.servers[0].ports, Ports { https: 4443, http: 8080 });
    assert_eq!(lync.servers[1].ports, Ports { https: 5443, http: 8080 });
    assert_eq!(lync.servers[1].address, Address::Ip("10.1.1.2".parse().unwrap()));
    assert_eq!((&*lync.servers[1].name, lync.servers[1].weight), ("fe02", 50));
    assert_eq!(&*lync.servers[0].tls_name, "lyncweb.labs.local");
    assert!(matches!(&lync.probes[0].check, Check::Http { status, .. } if status == &[(200, 399)]));
    let extra = &site.farms[0];
    assert_eq!(&*extra.servers[0].tls_name, "secret-name.contoso.com");
    assert_eq!((extra.tls.verify, extra.timeout), (Verify::Chain, Duration::from_secs(200)));
    assert_eq!(extra.probes[0].check, Check::Tcp { port: 5061 });
    assert_ne!(extra.tls.digest, lync.tls.digest);

    let rule = &site.rules[0];
    assert_eq!(rule.host, HostPattern::Exact("a.contoso.com".into()));
    assert_eq!(rule.path, PathPattern::Prefix("/autodiscover".into()));
    assert_eq!((rule.schemes, rule.index), (Schemes { https: true, http: true }, 0));
    assert_eq!(
        (&rule.action, &*rule.name),
        (&Action::Forward(FarmId(1)), "a.contoso.com/autodiscover")
    );
    assert_eq!((rule.body_size, rule.timeout), (Some(1 << 20), Some(Duration::from_secs(300))));
    assert_eq!(site.rules[1].action, Action::Deny);
    assert_eq!(site.rules[2].when.len(), 5);
    let captures = site.rules[2].when[4].pattern().unwrap().0.captures_len();
    assert_eq!((captures, &*site.rules[2].rewrite.as_ref().unwrap().within), (2, "/x/"));
    let Action::Respond(Respond { status: 503, page: Some(page) }) = &site.rules[3].action else {
        panic!("{:?}", site.rules[3].action)
    };
    assert_eq!(&*page.body, b"<p>Later</p>");
    assert_eq!(site.rules[4].action, Action::Forward(FarmId(0)));
    assert_eq!(site.rules[4].listeners, Some(vec!["public".into()]));

    for name in
        ["main.yaml", "conf.d/extra.yaml", "a.pem", "a.key", "a.pfx", "right.pass", "page.html"]
    {
        let there = site.files.iter().any(|file| file.ends_with(name));
        assert!(there, "{name} is not among {:?}", site.files);
    }
    assert_eq!(site.directories, [dir.path().join("conf.d")]);
}

#[test]
fn the_effective_configuration_parses_again_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let first = whole(dir.path());
    let again = first.effective.unwrap();
    fs::write(dir.path().join("printed.yaml"), &again).unwrap();
    let second = load_with(&dir.path().join("printed.yaml"), &server);
    assert!(second.findings.is_empty(), "{}{again}", render::text(&second.findings, false));
    assert_eq!(second.effective.unwrap(), again);
    let (first, second) = (first.site.unwrap(), second.site.unwrap());
    assert_eq!(first.limits, second.limits);
    assert_eq!(first.listeners, second.listeners);
    for (a, b) in first.farms.iter().zip(&second.farms) {
        assert_eq!((&a.servers, &a.probes, a.timeout), (&b.servers, &b.probes, b.timeout));
        assert_eq!((&a.deny_paths, &a.hide_headers), (&b.deny_paths, &b.hide_headers));
    }
    for (a, b) in first.rules.iter().zip(&second.rules) {
        assert_eq!((&a.when, &a.action, &a.rewrite), (&b.when, &b.action, &b.rewrite));
        assert_eq!(a.request_headers, b.request_headers);
        assert_eq!(a.response_headers, b.response_headers);
        assert_eq!(a.rewrite_host, b.rewrite_host);
    }
}

#[test]
fn secrets_from_the_environment_are_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = whole(dir.path());
    let printed = outcome.effective.unwrap();
    assert!(!printed.contains("secret-name"), "{printed}");
    assert!(printed.contains("${SERVER}"), "{printed}");
    assert!(printed.contains("/conf.d/../${A}.pem"), "{printed}");
}

#[test]
fn the_fingerprint_changes_with_any_file() {
    let dir = tempfile::tempdir().unwrap();
    let first = whole(dir.path()).site.unwrap().fingerprint.clone();
    let load = || load_with(&dir.path().join("main.yaml"), &server);
    assert_eq!(load().site.unwrap().fingerprint, first);
    let extra = dir.path().join("conf.d/extra.yaml");
    fs::write(&extra, format!("{INCLUDED}# more\n")).unwrap();
    let second = load().site.unwrap().fingerprint.clone();
    assert_ne!(second, first);
    make::pem_pair(&dir.path().join("a.pem"), &dir.path().join("a.key"), &["a.contoso.com"], -1, 9);
    assert_ne!(load().site.unwrap().fingerprint, second);
}

#[test]
fn errors_of_all_files_come_in_one_run() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("conf.d")).unwrap();
    fs::write(dir.path().join("conf.d/a.yaml"), "farms: {a: {servers: [x], timeout: 9}}").unwrap();
    fs::write(dir.path().join("conf.d/b.yaml"), "farms: {b: {servers: [x}").unwrap();
    fs::write(dir.path().join("main.yaml"), "include: [conf.d/*.yaml]\nbogus: 1\n").unwrap();
    let outcome = load_with(&dir.path().join("main.yaml"), &|_| None);
    let found: Vec<_> = outcome.findings.iter().map(|f| f.code.id).collect();
    for code in ["E002", "E005", "E007", "E020"] {
        assert!(found.contains(&code), "{code} is not among {found:?}");
    }
}

#[test]
fn bodies_of_exchange_streams_may_trickle() {
    let dir = tempfile::tempdir().unwrap();
    let text = "domains: [contoso.com]\nlisteners: [{ address: \"0.0.0.0:80\" }]\nfarms:\n  \
                rpc: { preset: exchange/rpc, servers: [exch01.contoso.local], timeout: 2h }\n  \
                mapi: { preset: exchange/mapi, servers: [exch01.contoso.local] }\n  \
                web: { servers: [exch01.contoso.local] }\npublish:\n  \
                - { host: mail.contoso.com, path: /rpc, farm: rpc, schemes: [http] }\n  \
                - { host: mail.contoso.com, path: /mapi, farm: mapi, schemes: [http] }\n  \
                - { host: mail.contoso.com, path: /x, farm: mapi, schemes: [http], body_timeout: 5s }\n  \
                - { host: mail.contoso.com, farm: web, schemes: [http] }\n";
    fs::write(dir.path().join("main.yaml"), text).unwrap();
    let outcome = load_with(&dir.path().join("main.yaml"), &server);
    let site = outcome.site.unwrap_or_else(|| panic!("{}", render::text(&outcome.findings, false)));
    let seconds: Vec<_> = site.rules.iter().map(|rule| rule.body_timeout.as_secs()).collect();
    assert_eq!(seconds, [7200, 3600, 5, 60]);
}
