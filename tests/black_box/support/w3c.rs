//! W3C logs, read back by a program of somebody else's.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;

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
    let output = Command::new(python()).arg(script).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    // Past the harness, which shows what a test prints only if it fails.
    std::io::stderr().write_all(errors.as_bytes()).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A Python with the packages, in an environment of its own below the target directory; if they
/// cannot be installed, the system's, and the reader says so.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("w3c-reader");
        let python = dir.join("bin/python");
        let works = |python: &Path| {
            let import = Command::new(python).args(["-c", "import lars.iis"]).output();
            import.is_ok_and(|output| output.status.success())
        };
        if works(&python) {
            return python;
        }
        let quiet = |command: &mut Command| {
            let output = command.output();
            if let Ok(output) = &output {
                eprint!("{}", String::from_utf8_lossy(&output.stderr));
            }
            output.is_ok_and(|output| output.status.success())
        };
        let made = quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))
            && quiet(Command::new(&python).args(["-m", "pip", "install", "-q"]).args(PACKAGES));
        if made && works(&python) { python } else { "python3".into() }
    })
}
