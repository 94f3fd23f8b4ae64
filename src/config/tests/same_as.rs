//! Farms that share servers, and what rules get from the presets of their farms.

use std::{fs, time::Duration};

use crate::{
    config::{Outcome, load_with, render},
    site::{Check, Ports, Server, Site},
};

const FARMS: &str = r#"
listeners: [{ address: "0.0.0.0:80" }]
farms:
  # Before the farms that it takes from.
  all: { servers: [{ same_as: ews }, { same_as: owas }], ports: { https: 9443 }, tls: { name: x.contoso.com } }
  owa:
    preset: exchange/owa
    servers:
      - exch01.contoso.local
      - { name: exch02, address: 10.0.0.2, weight: 50, ports: { https: 444 } }
    ports: { https: 8443 }
    tls: { name: mail.contoso.com }
    probe: { interval: 5s }
  ews: { preset: exchange/ews, servers: [{ same_as: owa }, exch03.contoso.local], tls: { verify: chain } }
  rpc: { preset: exchange/rpc, servers: [{ same_as: owa }], tls: { name: rpc.contoso.com }, timeout: "${TIME}" }
  owas: { preset: owas, servers: [wac01.contoso.local] }
publish:
  - { host: mail.contoso.com, path: /owa, farm: owa, schemes: [http] }
  - { host: mail.contoso.com, path: /ews, farm: ews, schemes: [http], body_size: 1GiB }
  - { host: mail.contoso.com, path: /rpc, farm: rpc, schemes: [http] }
  - { host: wac.contoso.com, farm: owas, schemes: [http] }
  - { host: all.contoso.com, farm: all, schemes: [http] }
"#;

fn load(text: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("main.yaml"), text).unwrap();
    let outcome = load_with(&dir.path().join("main.yaml"), &|name| {
        (name == "TIME").then(|| "77m".to_string())
    });
    assert!(outcome.findings.is_empty(), "{}", render::text(&outcome.findings, false));
    outcome
}

fn servers<'a>(site: &'a Site, farm: &str) -> &'a [Server] {
    &site.farms.iter().find(|it| &*it.name == farm).unwrap().servers
}

fn names<'a>(site: &'a Site, farm: &str) -> Vec<&'a str> {
    servers(site, farm).iter().map(|server| &*server.name).collect()
}

#[test]
fn servers_come_as_they_are_under_the_settings_of_the_farm() {
    let site = load(FARMS).site.unwrap();
    assert_eq!(names(&site, "owa"), ["exch01.contoso.local", "exch02"]);
    assert_eq!(names(&site, "ews"), ["exch01.contoso.local", "exch02", "exch03.contoso.local"]);
    assert_eq!(names(&site, "rpc"), names(&site, "owa"));
    let all = ["exch01.contoso.local", "exch02", "exch03.contoso.local", "wac01.contoso.local"];
    assert_eq!(names(&site, "all"), all);

    let second = |farm| &servers(&site, farm)[1];
    assert_eq!((second("ews").weight, &second("ews").address), (50, &second("owa").address));
    // Its own port stays its own; the rest is the farm's.
    assert_eq!(second("owa").ports, Ports { https: 444, http: 80 });
    assert_eq!(second("all").ports, Ports { https: 444, http: 80 });
    assert_eq!(servers(&site, "owa")[0].ports.https, 8443);
    assert_eq!(servers(&site, "ews")[0].ports.https, 443);
    assert_eq!(servers(&site, "all")[0].ports.https, 9443);
    assert_eq!(&*servers(&site, "rpc")[0].tls_name, "rpc.contoso.com");
    assert_eq!(&*servers(&site, "ews")[0].tls_name, "exch01.contoso.local");

    let probe = |farm: &str| &site.farms.iter().find(|it| &*it.name == farm).unwrap().probes[0];
    let page = |farm| match &probe(farm).check {
        Check::Http { path, status, .. } => (path.to_string(), status.clone()),
        Check::Tcp { .. } => panic!("a port"),
    };
    assert_eq!(page("owa"), ("/owa/healthcheck.htm".to_string(), vec![(200, 200)]));
    assert_eq!(page("rpc").0, "/rpc/healthcheck.htm");
    assert_eq!(probe("owa").interval, Duration::from_secs(5));
    assert_eq!(probe("ews").interval, Duration::from_secs(30));
}

#[test]
fn rules_have_the_sizes_and_times_of_their_preset() {
    let site = load(FARMS).site.unwrap();
    let sizes: Vec<_> = site.rules.iter().map(|rule| rule.body_size.map(|b| b >> 20)).collect();
    assert_eq!(sizes, [Some(64), Some(1024), None, None, None]);
    let minutes: Vec<_> = site.rules.iter().map(|rule| rule.body_timeout.as_secs() / 60).collect();
    assert_eq!(minutes, [1, 1, 77, 1, 1]);
}

#[test]
fn what_is_shown_is_what_is_written_and_loads_again() {
    let first = load(FARMS);
    let shown = first.effective.unwrap();
    assert!(shown.contains("    servers:\n    - same_as: ews\n    - same_as: owas\n"), "{shown}");
    assert!(shown.contains("  body_size: 64MiB\n"), "{shown}");
    // What the environment says stays there, also where a rule takes it over from its farm.
    assert!(shown.contains("  body_timeout: ${TIME}\n") && !shown.contains("1h 17m"), "{shown}");
    let second = load(&shown);
    assert_eq!(second.effective.unwrap(), shown);
    let (first, second) = (first.site.unwrap(), second.site.unwrap());
    for (a, b) in first.farms.iter().zip(&second.farms) {
        assert_eq!((&a.servers, &a.probes, a.timeout), (&b.servers, &b.probes, b.timeout));
    }
    for (a, b) in first.rules.iter().zip(&second.rules) {
        assert_eq!((a.body_size, a.body_timeout), (b.body_size, b.body_timeout));
    }
}

#[test]
fn a_long_chain_is_followed() {
    let mut text = "listeners: [{ address: \"0.0.0.0:80\" }]\nfarms:\n".to_string();
    let count = 3000;
    for n in 0..count {
        text += &format!("  f{n}: {{ servers: [{{ same_as: f{} }}] }}\n", n + 1);
    }
    text += &format!("  f{count}: {{ servers: [exch01.contoso.local] }}\npublish:\n");
    for n in 0..=count {
        text += &format!("  - {{ host: h{n}.contoso.com, farm: f{n}, schemes: [http] }}\n");
    }
    let site = load(&text).site.unwrap();
    assert_eq!(site.farms.len(), count + 1);
    assert!(site.farms.iter().all(|farm| &*farm.servers[0].name == "exch01.contoso.local"));
}
