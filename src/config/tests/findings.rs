//! Every error and warning as people see it: `testdata/*.yaml` against the text beside it.

use std::{fs, path::Path};

use crate::config::{Outcome, code, golden, load_with, render, tests::make};

const TESTDATA: &str = "src/config/testdata";

fn variable(name: &str) -> Option<String> {
    match name {
        "FE01" => Some("fe01.contoso.com".to_string()),
        "SECRET" => Some("hunter2".to_string()),
        "SECRET_HOST" => Some("hunter2/secret".to_string()),
        _ => None,
    }
}

fn shown(outcome: &Outcome, dir: &Path) -> String {
    let text = render::text(&outcome.findings, false);
    let text = format!("{text}{}\n", render::summary(&outcome.findings, false));
    // Dates of test certificates move.
    let dated = |line: &str| match line.split_once(" on ").or(line.split_once(" before ")) {
        Some((before, _)) if line.contains("GMT") => format!("{before} DATE\n"),
        _ => format!("{line}\n"),
    };
    let text: String = text.lines().map(dated).collect();
    text.replace(&format!("{}/", dir.display()), "")
}

#[test]
fn findings_look_as_they_should() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join(TESTDATA);
    let dir = tempfile::tempdir().unwrap();
    make::test_files(dir.path());
    let copy = |from: &Path, to: &Path| {
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_some_and(|e| e == "yaml") {
                fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
            }
        }
    };
    fs::create_dir(dir.path().join("conf.d")).unwrap();
    copy(&data, dir.path());
    copy(&data.join("conf.d"), &dir.path().join("conf.d"));
    let mut seen = String::new();
    let mut cases: Vec<_> = fs::read_dir(&data).unwrap().map(|e| e.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    cases.sort();
    for case in cases {
        let stem = case.file_stem().unwrap().to_str().unwrap();
        let outcome = load_with(&dir.path().join(format!("{stem}.yaml")), &variable);
        let errors = outcome.findings.errors();
        assert_eq!(outcome.site.is_none(), errors > 0, "{stem}: no site exactly if errors");
        let text = shown(&outcome, dir.path());
        assert!(!text.contains("hunter2"), "{stem} shows a secret:\n{text}");
        for finding in outcome.findings.iter() {
            assert!(finding.help.is_some(), "{stem}: no remedy: {finding:?}");
        }
        golden::check(&format!("{TESTDATA}/{stem}.txt"), &text);
        seen.push_str(&text);
    }
    // What it takes is too long for a file: large::farms_that_share_servers_have_a_bound.
    let long = code::TOO_MANY_SERVERS;
    for code in code::ALL.iter().filter(|code| **code != long) {
        assert!(seen.contains(code.id), "no golden file shows {} ({})", code.id, code.title);
    }
}

#[test]
fn a_missing_file_is_a_finding() {
    let outcome = load_with(Path::new("/nowhere/frontgate.yaml"), &|_| None);
    assert!(outcome.site.is_none() && outcome.effective.is_none());
    let text = render::text(&outcome.findings, false);
    assert_eq!(
        text,
        "error[E001]: cannot read the file: no such file or directory\n \
         --> /nowhere/frontgate.yaml:1:1\n  \
         = help: name another one with --config or FRONTGATE_CONFIG\n\n"
    );
    assert_eq!(outcome.files, [Path::new("/nowhere/frontgate.yaml")]);
}
