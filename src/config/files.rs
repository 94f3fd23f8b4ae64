//! The files a configuration consists of: each is read once, remembered for the watcher, and
//! goes into the fingerprint.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use boring::sha::Sha256;

/// Largest file that is read. A certificate bundle of every authority there is has 300 KiB.
const MAX_SIZE: u64 = 16 << 20;

/// All files that were read, or could not be.
#[derive(Default)]
pub struct Files {
    read: BTreeMap<PathBuf, Option<Arc<[u8]>>>,
    directories: Vec<PathBuf>,
}

impl Files {
    /// Reads a file; again from memory the second time.
    ///
    /// # Errors
    /// What the system says, files above 16 MiB, and anything that is not a regular file.
    pub fn read(&mut self, path: &Path) -> io::Result<Arc<[u8]>> {
        if let Some(Some(bytes)) = self.read.get(path) {
            return Ok(bytes.clone());
        }
        let result = read(path);
        self.read.insert(path.to_path_buf(), result.as_ref().ok().cloned());
        result
    }

    /// Remembers a directory in which a new file would change the configuration.
    pub fn watch_directory(&mut self, path: PathBuf) {
        self.directories.push(path);
    }

    /// Every file, also those that are missing: making one of them is a change too.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.read.keys().cloned().collect()
    }

    /// Directories that include patterns look into.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.directories.clone()
    }

    /// Hexadecimal digest over all contents and what was taken from the environment.
    pub fn fingerprint(&self, environment: &BTreeMap<String, String>) -> String {
        let mut digest = Sha256::new();
        let mut part = |bytes: &[u8]| {
            digest.update(&(bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        for (path, bytes) in &self.read {
            part(path.as_os_str().as_encoded_bytes());
            part(bytes.as_deref().unwrap_or_default());
        }
        for (name, value) in environment {
            part(name.as_bytes());
            part(value.as_bytes());
        }
        digest.finish().iter().fold(String::new(), |mut hex, byte| {
            // Writing into a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// An input or output error without its number, for findings.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |c| c.to_lowercase().chain(letters).collect())
}

fn read(path: &Path) -> io::Result<Arc<[u8]>> {
    // Opening a FIFO waits for its other end, and what cannot be read twice cannot be watched.
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 16 MiB"));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_follows_contents_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let print = |env: &[(&str, &str)]| {
            let mut files = Files::default();
            let _ = files.read(&path);
            let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            files.fingerprint(&env)
        };
        let missing = print(&[]);
        std::fs::write(&path, "one").unwrap();
        let one = print(&[]);
        assert_eq!(one, print(&[]));
        assert_ne!(one, missing);
        assert_ne!(one, print(&[("A", "1")]));
        std::fs::write(&path, "two").unwrap();
        assert_ne!(one, print(&[]));
    }

    #[test]
    fn reasons_are_short() {
        let error = File::open("/nowhere/at/all").unwrap_err();
        assert_eq!(reason(&error), "no such file or directory");
    }
}
