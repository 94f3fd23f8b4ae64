//! The configurations that come with Frontgate are right.

use std::{fs, path::Path};

use crate::config::{Outcome, golden, load_with, preset::Protocol, render, tests::make};

/// Loads a copy of a shipped configuration with the certificates it names beside it; also the
/// effective configuration, with the directory of the copy as `/etc/frontgate`.
fn shipped(name: &str, names: &[&str]) -> (Outcome, String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
    let dir = tempfile::tempdir().unwrap();
    fs::copy(&file, dir.path().join(name)).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let named = |key: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines
            .filter_map(|line| line.split_once(&format!("{key}: ")))
            .filter_map(|(_, rest)| rest.split([',', ' ', '}']).next())
            .map(str::to_string)
            .collect()
    };
    for (cert, key) in named("cert").iter().zip(named("key")) {
        make::pem_pair(&dir.path().join(cert), &dir.path().join(key), names, -1, 90);
    }
    for (pfx, password) in named("pfx").iter().zip(named("password_file")) {
        make::pfx(&dir.path().join(pfx), &dir.path().join(password), names);
    }
    for ca in named("ca") {
        make::pem_pair(&dir.path().join(ca), &dir.path().join("ca.key"), &["ca"], -1, 90);
    }
    let outcome = load_with(&dir.path().join(name), &|_| None);
    let effective = outcome.effective.clone().unwrap();
    (outcome, effective.replace(dir.path().to_str().unwrap(), "/etc/frontgate"))
}

#[test]
fn the_annotated_default_is_valid() {
    let (outcome, _) = shipped("frontgate.yaml", &["www.contoso.com"]);
    assert!(outcome.findings.is_empty(), "{}", render::text(&outcome.findings, false));
    assert!(outcome.site.is_some());
}

#[test]
fn every_setting_of_the_annotated_default_is_shown() {
    use crate::config::{model, record::Record};
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/frontgate.yaml"))
            .unwrap();
    let keys = [
        model::Config::KEYS,
        model::farm::Farm::KEYS,
        model::publish::Rule::KEYS,
        model::listener::Listener::KEYS,
        model::listener::Certificate::KEYS,
        model::policy::Limits::KEYS,
        model::probe::Probe::KEYS,
    ];
    for key in keys.into_iter().flatten().filter(|key| !key.kind.starts_with("later")) {
        assert!(text.contains(&format!("{}:", key.name)), "{} is not in the file", key.name);
    }
}

#[test]
fn the_lync_example_is_valid() {
    let names = [
        "meet.contoso.com",
        "dialin.contoso.com",
        "lyncdiscover.contoso.com",
        "meet.fabrikam.com",
        "dialin.fabrikam.com",
        "lyncdiscover.fabrikam.com",
        "lyncweb.contoso.com",
        "lyncweb02.contoso.com",
        "officewebapps.contoso.com",
    ];
    let (outcome, effective) = shipped("lync.yaml", &names);
    assert!(outcome.findings.is_empty(), "{}", render::text(&outcome.findings, false));
    let site = outcome.site.unwrap();
    let farms: Vec<&str> = site.farms.iter().map(|farm| &*farm.name).collect();
    assert_eq!(farms, ["owas", "pool01", "pool02"]);
    golden::check("src/config/testdata/lync.effective", &effective);
}

#[test]
fn the_example_of_everything_on_one_address_is_valid() {
    let (outcome, effective) = shipped("sfb-exchange-owas.yaml", &["*.contoso.com"]);
    assert!(outcome.findings.is_empty(), "{}", render::text(&outcome.findings, false));
    let site = outcome.site.unwrap();
    for protocol in Protocol::ALL {
        let word = protocol.word();
        let farm = site.farms.iter().find(|farm| &*farm.name == word).unwrap();
        assert_eq!(*farm.preset, *format!("exchange/{word}"));
        let servers: Vec<&str> = farm.servers.iter().map(|server| &*server.name).collect();
        assert_eq!(servers, ["exch01.contoso.local", "exch02.contoso.local"], "{word}");
    }
    golden::check("src/config/testdata/sfb-exchange-owas.effective", &effective);
}
