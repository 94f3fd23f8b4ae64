//! Large configurations are read in seconds, and what is too large says so.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use crate::config::{load_with, render};

/// `count` publish rules in `lines` or all in one line, and half as many farms.
fn rules(count: usize, end: &str) -> String {
    let mut text = "listeners: [{ address: \"0.0.0.0:80\" }]\nfarms: {".to_string();
    for n in 0..count / 2 {
        write!(text, "f{n}: {{ servers: [fe01] }},{end}").unwrap();
    }
    write!(text, "}}\npublish: [").unwrap();
    for n in 0..count {
        let farm = n / 2;
        write!(text, "{{ host: h{n}.contoso.com, farm: f{farm}, schemes: [http] }},{end}").unwrap();
    }
    text.push_str("]\n");
    text
}

#[test]
fn many_rules_are_read_in_seconds() {
    for end in ["\n ", ""] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large.yaml");
        fs::write(&path, rules(30_000, end)).unwrap();
        let start = Instant::now();
        let outcome = load_with(&path, &|_| None);
        let shown = render::text(&outcome.findings, false);
        assert!(outcome.findings.is_empty(), "{}", &shown[..shown.len().min(2000)]);
        assert_eq!(outcome.site.unwrap().rules.len(), 30_000);
        // Far above what it takes unoptimised on a busy machine, far below quadratic time.
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
}

#[test]
fn alias_bombs_say_what_they_are() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        writeln!(text, "a{level}: &a{level} [{before}]").unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bomb.yaml"), text).unwrap();
    let outcome = load_with(&dir.path().join("bomb.yaml"), &|_| None);
    let shown = render::text(&outcome.findings, false);
    assert!(shown.contains("E002") && shown.contains("aliases"), "{shown}");
}

/// Wide, where `alias_bombs` are deep: each line is short, and what it means is long.
#[test]
fn farms_that_share_servers_have_a_bound() {
    let mut text =
        "listeners: [{ address: \"0.0.0.0:80\" }]\nfarms:\n  all: { servers: [".to_string();
    for n in 0..1000 {
        write!(text, "fe{n}.contoso.com, ").unwrap();
    }
    text.push_str("] }\n");
    for n in 0..1000 {
        writeln!(text, "  f{n}: {{ servers: [{{ same_as: all }}] }}").unwrap();
    }
    text.push_str("publish: [{ host: a.contoso.com, farm: all, schemes: [http] }]\n");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wide.yaml");
    let load = |text: &str| {
        fs::write(&path, text).unwrap();
        let start = Instant::now();
        let outcome = load_with(&path, &|_| None);
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
        outcome
    };
    let codes = |text: &str| -> Vec<&'static str> {
        let errors = load(text);
        errors.findings.iter().map(|f| f.code.id).filter(|id| id.starts_with('E')).collect()
    };
    assert_eq!(codes(&text), ["E039"], "once, whatever follows");
    // The same in one farm: what is there already costs a finding each.
    let one = format!("{}]", "{ same_as: all }, ".repeat(1000));
    let twice = text.replacen("[{ same_as: all }]", &format!("[{one}"), 1);
    assert_eq!(codes(&twice).iter().filter(|id| **id == "E039").count(), 1);
    // Below the bound nothing is said.
    let few: String = text.lines().take(60).map(|line| format!("{line}\n")).collect();
    let few = format!("{few}publish: [{{ host: a.contoso.com, farm: all, schemes: [http] }}]\n");
    let site = load(&few).site.unwrap();
    assert_eq!(site.farms.iter().map(|farm| farm.servers.len()).sum::<usize>(), 58_000);
}
