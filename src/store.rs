//! The state directory: small files that survive a restart.
//!
//! Only this process and root read them. A file is replaced as a whole, so a reader, or the next
//! start after a power cut, sees the old one or the new one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Largest file that is read.
const LARGEST: u64 = 16 << 20;

/// The state directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Takes `dir` into use, made with mode 0700 where it is missing. It stays usable when that
    /// fails: every write then fails as well.
    ///
    /// # Errors
    /// Beside the store: why nothing can be kept there.
    pub fn open(dir: &Path) -> (Self, io::Result<()>) {
        let store = Self { dir: dir.to_owned() };
        let usable = store.try_out();
        (store, usable)
    }

    /// Where a file of this name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The content of a file; `None` where there is none.
    ///
    /// # Errors
    /// What the system says, files above 16 MiB, and anything that is not a regular file.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.open_file(name)?.map(|file| content(&file)).transpose()
    }

    /// The same for a secret.
    ///
    /// # Errors
    /// Also a file that somebody else owns or may read.
    pub fn read_secret(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open_file(name)? else { return Ok(None) };
        let facts = file.metadata()?;
        // SECURITY: what others can write or have read is no secret of ours.
        // Test: a_secret_that_others_can_read_is_none
        // SAFETY: geteuid(2) cannot fail.
        let mine = facts.uid() == unsafe { libc::geteuid() } && facts.mode() & 0o077 == 0;
        if !mine {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others have access to it",
            ));
        }
        content(&file).map(Some)
    }

    /// Replaces a file; its mode is 0600.
    ///
    /// # Errors
    /// What the system says; the old file is then still there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.path(&format!(".{name}.new"));
        remove(&new)?;
        // SECURITY: a file or link that somebody put there is not written to.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let replaced = written.and_then(|()| fs::rename(&new, self.path(name)));
        if replaced.is_err() {
            let _ = fs::remove_file(&new);
        }
        replaced?;
        // The new name itself; where a file system cannot do that, the file is written all the
        // same.
        let _ = File::open(&self.dir).and_then(|dir| dir.sync_all());
        Ok(())
    }

    /// Moves a file out of the way, to `NAME.bad`.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_aside(&self, name: &str) -> io::Result<PathBuf> {
        let aside = self.path(&format!("{name}.bad"));
        fs::rename(self.path(name), &aside)?;
        Ok(aside)
    }

    fn try_out(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        const NAME: &str = "writable";
        self.write(NAME, b"")?;
        remove(&self.path(NAME))
    }

    fn open_file(&self, name: &str) -> io::Result<Option<File>> {
        // Opening a FIFO would wait for its other end.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path(name));
        match file {
            Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            // Below a file there is nothing either.
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn content(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 16 MiB"));
    }
    Ok(bytes)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn directory_and_files_are_private_and_files_are_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("lib/state");
        let (store, usable) = Store::open(&dir);
        usable.unwrap();
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        assert_eq!(store.read("a").unwrap(), None);
        store.write("a", b"one").unwrap();
        store.write("a", b"two").unwrap();
        assert_eq!(mode(&store.path("a")), 0o600);
        assert_eq!(store.read_secret("a").unwrap().unwrap(), b"two");
        let aside = store.set_aside("a").unwrap();
        assert_eq!(fs::read(aside).unwrap(), b"two");
        assert_eq!(store.read("a").unwrap(), None);
    }

    #[test]
    fn without_a_directory_nothing_is_kept_and_nothing_is_there() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("file");
        fs::write(&dir, "a file").unwrap();
        let (store, usable) = Store::open(&dir);
        assert!(usable.is_err());
        assert!(store.write("a", b"x").is_err());
        assert_eq!(store.read("a").unwrap(), None);
        assert_eq!(fs::read(&dir).unwrap(), b"a file");
    }

    #[test]
    fn a_secret_that_others_can_read_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path());
        store.write("token", b"x").unwrap();
        fs::set_permissions(store.path("token"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(store.read_secret("token").is_err());
        assert!(store.read("token").is_ok());
    }

    #[test]
    fn links_and_other_things_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path());
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, store.path("link")).unwrap();
        assert!(store.read("link").is_err());
        // Also the name that the new content is first written to.
        std::os::unix::fs::symlink(&victim, store.path(".b.new")).unwrap();
        store.write("b", b"x").unwrap();
        store.write("link", b"x").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        fs::create_dir(store.path("c")).unwrap();
        assert!(store.read("c").is_err());
    }
}
