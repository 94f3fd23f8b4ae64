//! What a log is written to: a file, stdout, stderr or a syslog receiver.

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

use super::syslog::Syslog;
use crate::site::{LogTarget, SyslogAddress};

/// How long the writer waits before it tries a full pipe again that never blocks.
const AGAIN: Duration = Duration::from_millis(10);

/// What a log is written to, and how it is called in messages.
pub(super) struct Target {
    pub(super) name: String,
    sink: Sink,
}

enum Sink {
    Bytes(Bytes),
    Syslog(Syslog),
}

impl Target {
    /// Opens a file for appending, or a socket to a receiver. Never waits, not even for the
    /// reader of a named pipe.
    ///
    /// # Errors
    /// The file cannot be opened, nobody reads the named pipe, or nobody listens on the socket;
    /// the text names it.
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        match target {
            LogTarget::Stdout => Self::shared("stdout", io::stdout().as_fd()),
            LogTarget::File(path) => Self::append(path),
            LogTarget::Syslog(address) => Self::syslog(address),
        }
    }

    /// Stderr.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(super) fn stderr() -> io::Result<Self> {
        Self::shared("stderr", io::stderr().as_fd())
    }

    /// An open file, or something like one.
    pub(super) fn file(name: String, file: File) -> Self {
        let bytes = Bytes { file, torn: false, buffer: Vec::new(), ends: Vec::new() };
        Self { name, sink: Sink::Bytes(bytes) }
    }

    /// Writes lines, for as long as that takes. Returns how many were written whole, and what
    /// went wrong then.
    pub(super) fn write<'a>(
        &mut self,
        lines: impl Iterator<Item = &'a [u8]>,
    ) -> (usize, Option<io::Error>) {
        match &mut self.sink {
            Sink::Bytes(bytes) => bytes.write(lines),
            Sink::Syslog(syslog) => syslog.write(lines),
        }
    }

    fn append(path: &Path) -> io::Result<Self> {
        let name = path.display().to_string();
        let mut options = OpenOptions::new();
        options.create(true).append(true).custom_flags(libc::O_NONBLOCK);
        match options.open(path) {
            Ok(file) => Ok(Self::file(name, file)),
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => {
                Err(io::Error::new(e.kind(), format!("{name}: nobody reads this pipe")))
            }
            Err(e) => Err(named(&name, &e)),
        }
    }

    fn syslog(address: &SyslogAddress) -> io::Result<Self> {
        let name = match address {
            SyslogAddress::Unix(path) => format!("syslog {}", path.display()),
            SyslogAddress::Udp(address) => format!("syslog {address}"),
        };
        let syslog = Syslog::open(address).map_err(|e| named(&name, &e))?;
        Ok(Self { name, sink: Sink::Syslog(syslog) })
    }

    /// Past the standard library's handle: its lock and its buffer would let a target that is
    /// stuck hold up a panic's message, or the exit.
    fn shared(name: &str, fd: BorrowedFd<'_>) -> io::Result<Self> {
        let owned = fd.try_clone_to_owned().map_err(|e| named(name, &e))?;
        Ok(Self::file(name.to_owned(), owned.into()))
    }
}

fn named(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

/// A stream of lines.
struct Bytes {
    file: File,
    /// The last write ended inside a line.
    torn: bool,
    buffer: Vec<u8>,
    /// Where each line of the buffer ends.
    ends: Vec<usize>,
}

impl Bytes {
    fn write<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>) -> (usize, Option<io::Error>) {
        self.buffer.clear();
        self.ends.clear();
        // What comes after half a line must not be taken for its end.
        if self.torn {
            self.buffer.push(b'\n');
        }
        for line in lines {
            self.buffer.extend_from_slice(line);
            self.ends.push(self.buffer.len());
        }
        let (written, error) = self.put();
        if written > 0 {
            self.torn = self.buffer.get(written - 1) != Some(&b'\n');
        }
        (self.ends.iter().filter(|end| **end <= written).count(), error)
    }

    /// Writes the buffer. Returns how many bytes were written.
    fn put(&mut self) -> (usize, Option<io::Error>) {
        let mut written = 0;
        while let Some(rest) = self.buffer.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => thread::sleep(AGAIN),
                Err(e) => return (written, Some(e)),
            }
        }
        (written, None)
    }
}
