//! Whatever a file holds: findings, never a panic.

use std::fs;

use proptest::prelude::*;

use crate::config::{load_with, render};

const VALID: &str = include_str!("../testdata/warnings.yaml");
const BROAD: &str = include_str!("../testdata/not-available.yaml");
const RULES: &str = include_str!("../testdata/when.yaml");

/// Loads and renders; tells whether there is a site.
fn survives(bytes: &[u8]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wild.yaml");
    fs::write(&path, bytes).unwrap();
    let outcome = load_with(&path, &|name| (name.len() < 3).then(|| "${x}\n: [".to_string()));
    let _ = render::text(&outcome.findings, true);
    let _ = render::json(&outcome.findings, true);
    assert_eq!(outcome.site.is_some(), outcome.findings.errors() == 0);
    outcome.site.is_some()
}

/// Pieces that mean something to YAML or to the contract.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[\\[\\]{},:#&*!|>'\"%@` \t\n-]{1,4}",
        proptest::sample::select(vec![
            "~",
            "${",
            "${A}",
            "$${",
            "<<: *a",
            "&a",
            "*a",
            "!!binary",
            "? ",
            "---\n",
            "...",
            "null",
            "99999999999999999999",
            "-1",
            "0x10",
            ".inf",
            "1e999",
            "true",
            "\u{feff}",
            "\u{202e}",
            "\u{0}",
            "[[[[[[[[",
            "{a: {a: {a: ",
            "0s",
            "1000000d",
            "18446744073709551615TiB",
            "meet.*",
            "\"*.x\"",
            "=/",
            "/../",
            "::1",
            "999.1.1.1",
            "100-99",
            "101%",
            "{C:9}",
            "{URL}",
            "(?-i)(",
            "\r\n",
        ])
        .prop_map(str::to_string),
        ".{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        survives(&bytes);
    }

    #[test]
    fn arbitrary_pieces(pieces in proptest::collection::vec(piece(), 0..40)) {
        survives(pieces.concat().as_bytes());
    }

    #[test]
    fn mutated_configurations(
        start in proptest::sample::select(vec![VALID, BROAD, RULES]),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..24, piece()), 1..6),
    ) {
        let mut text: Vec<char> = start.chars().collect();
        for (at, len, new) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + len).min(text.len());
            text.splice(at..end, new.chars());
        }
        survives(text.iter().collect::<String>().as_bytes());
    }

    #[test]
    fn any_value_under_any_key(
        key in proptest::sample::select(vec![
            "include", "admin", "health", "state_dir", "access_log", "workers", "shutdown",
            "domains", "limits", "listeners", "certificates", "farms", "publish",
        ]),
        value in piece(),
        nest in 0usize..4,
    ) {
        let value = match nest {
            0 => value,
            1 => format!("[{value}]"),
            2 => format!("{{ a: {value} }}"),
            _ => format!("[{{ host: {value}, address: {value}, tls: {value}, servers: {value} }}]"),
        };
        survives(format!("{key}: {value}\n").as_bytes());
    }
}

#[test]
fn alias_bombs_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    assert!(!survives(text.as_bytes()));
}
