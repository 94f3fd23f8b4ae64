//! Programs of somebody else's from PyPI, in environments of their own below the target directory.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

static MADE: Mutex<()> = Mutex::new(());

/// A Python that can `import module`, with these packages. Where they cannot be installed it is
/// the system's, and whoever imports fails and says so.
pub fn with(packages: &[&str], module: &str) -> PathBuf {
    let _one_at_a_time = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{module}"));
    let python = dir.join("bin/python");
    let works = || {
        let import = Command::new(&python).args(["-c", &format!("import {module}")]).output();
        import.is_ok_and(|output| output.status.success())
    };
    if works() {
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
        && quiet(Command::new(&python).args(["-m", "pip", "install", "-q"]).args(packages));
    if made && works() { python } else { "python3".into() }
}
