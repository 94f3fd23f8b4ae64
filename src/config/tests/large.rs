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
