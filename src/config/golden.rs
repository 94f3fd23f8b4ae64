//! Golden files: what a test expects, kept as a plain file under version control.

use std::{fs, path::Path};

/// Compares `actual` with the file (relative to the crate); with `FRONTGATE_BLESS=1` writes it.
pub(crate) fn check(file: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("FRONTGATE_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{file} differs; FRONTGATE_BLESS=1 writes it.\n--- expected\n{expected}\n--- actual\n{actual}"
    );
}
