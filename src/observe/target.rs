//! What a log is written to: a file, stdout or stderr.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    thread,
    time::Duration,
};

/// How long the writer waits before it tries a full pipe again that never blocks.
const AGAIN: Duration = Duration::from_millis(10);

/// What a log is written to, and how it is called in messages.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) file: File,
}

impl Target {
    /// Opens a file for appending; `None` is stdout. Never waits, not even for the reader of a
    /// named pipe.
    ///
    /// # Errors
    /// The file cannot be opened, or nobody reads the named pipe; the text names the path.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Self::shared("stdout", io::stdout().as_fd()) };
        let name = path.display().to_string();
        let mut options = OpenOptions::new();
        options.create(true).append(true).custom_flags(libc::O_NONBLOCK);
        match options.open(path) {
            Ok(file) => Ok(Self { name, file }),
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => {
                Err(io::Error::new(e.kind(), format!("{name}: nobody reads this pipe")))
            }
            Err(e) => Err(io::Error::new(e.kind(), format!("{name}: {e}"))),
        }
    }

    /// Stderr.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(super) fn stderr() -> io::Result<Self> {
        Self::shared("stderr", io::stderr().as_fd())
    }

    /// Past the standard library's handle: its lock and its buffer would let a target that is
    /// stuck hold up a panic's message, or the exit.
    fn shared(name: &str, fd: BorrowedFd<'_>) -> io::Result<Self> {
        let owned = fd
            .try_clone_to_owned()
            .map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?;
        Ok(Self { name: name.to_owned(), file: owned.into() })
    }

    /// Writes it all, for as long as it takes. Returns how much was written, and what went
    /// wrong then.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> (usize, Option<io::Error>) {
        let whole = bytes.len();
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return (whole - bytes.len(), Some(io::ErrorKind::WriteZero.into())),
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => thread::sleep(AGAIN),
                Err(e) => return (whole - bytes.len(), Some(e)),
            }
        }
        (whole, None)
    }
}
