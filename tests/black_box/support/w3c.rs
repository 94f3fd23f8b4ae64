//! W3C logs, read back by a program of somebody else's.

use std::{io::Write, path::Path, process::Command};

use serde_json::Value;

use super::python;

/// What the reader needs. Nothing of Frontgate's: `lars` reads what IIS writes.
const PACKAGES: [&str; 2] = ["lars==1.0", "pygeoip==0.3.2"];

/// The rows of a log file: field → value, `null` for `-`.
pub fn rows(file: &Path) -> Vec<Value> {
    let Value::Array(rows) = run(&[file.to_str().unwrap()]) else { panic!("no rows") };
    rows
}

/// What a query over the table `log` finds, row by row.
pub fn query(file: &Path, sql: &str) -> Value {
    run(&[file.to_str().unwrap(), sql])
}

fn run(arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/black_box/support/read_w3c.py");
    let output = Command::new(python::with(&PACKAGES, "lars.iis"))
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    // Past the harness, which shows what a test prints only if it fails.
    std::io::stderr().write_all(errors.as_bytes()).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}
