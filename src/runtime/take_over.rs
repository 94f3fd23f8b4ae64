//! Taking over from the Frontgate that serves until this one is ready; or from systemd, which
//! holds sockets of its own (sd_listen_fds(3)).

use std::{
    io,
    os::{
        fd::{FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream as StdUnixStream,
    },
};

use log::warn;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::instance::Before;
use crate::{listen::Sockets, replaced::Replaced};

/// The variable in which a process finds what is handed over to it, as the JSON of [`Handed`].
pub(super) const VARIABLE: &str = "FRONTGATE_TAKE_OVER";

/// What the new process says once it could serve.
pub(super) const READY: &[u8; 6] = b"ready\n";

/// What is handed over. Only fields may be added: another version reads it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    /// The process that hands over; always the parent.
    pub(super) process: u32,
    /// Its version.
    pub(super) version: String,
    /// A stream socket to it.
    pub(super) line: RawFd,
    /// What each listening socket is used for, and its descriptor.
    pub(super) sockets: Vec<(String, RawFd)>,
    /// The processes before the new one, the oldest first, and pipes that end with them.
    #[serde(default)]
    pub(super) lives: Vec<(u32, RawFd)>,
}

/// The Frontgate that serves until this one is ready.
#[derive(Debug)]
pub(super) struct Predecessor {
    pub(super) process: u32,
    pub(super) version: String,
    /// Ends with this process: the other one watches it while it still has requests.
    line: StdUnixStream,
}

impl Predecessor {
    /// Says that this process could serve, and waits until the other one has stopped accepting:
    /// who connects meanwhile waits in the queue of the socket. Returns as well when the other one
    /// is gone, as nobody else serves then. Fails without a descriptor.
    pub(super) async fn ready(&self) -> io::Result<()> {
        let line = self.line.try_clone()?;
        line.set_nonblocking(true)?;
        let mut line = UnixStream::from_std(line)?;
        if line.write_all(READY).await.is_ok() {
            let _ = line.read(&mut [0; 1]).await;
        }
        Ok(())
    }
}

/// What was handed over to this process. To be called once, before anything opens descriptors.
pub(super) fn before() -> Before {
    let handed = std::env::var(VARIABLE).ok().and_then(|text| serde_json::from_str(&text).ok());
    // Programs that are started from here inherit the variable, but not the descriptors.
    let ours = |handed: &Handed| handed.process == std::os::unix::process::parent_id();
    match handed.filter(ours) {
        Some(handed) => from_predecessor(handed),
        None => Before { sockets: from_systemd(), ..Before::default() },
    }
}

fn from_predecessor(handed: Handed) -> Before {
    let Handed { process, version, line, sockets, lives } = handed;
    let sockets = sockets.into_iter().map(|(role, fd)| (fd, Some(role)));
    // SAFETY: the parent opened them for this process, which has looked at none of them yet.
    let sockets = unsafe { Sockets::inherit(sockets) };
    // SAFETY: as for the sockets.
    let replaced = unsafe { Replaced::inherit(lives) };
    // SAFETY: fcntl(2) on a number; a closed one is an error.
    let line = match unsafe { libc::fcntl(line, libc::F_SETFD, libc::FD_CLOEXEC) } {
        // SAFETY: as for the sockets.
        0 => StdUnixStream::from(unsafe { OwnedFd::from_raw_fd(line) }),
        _ => {
            warn!("process {process} hands over, but cannot be told anything");
            return Before { sockets, predecessor: None, replaced };
        }
    };
    Before { sockets, predecessor: Some(Predecessor { process, version, line }), replaced }
}

fn from_systemd() -> Sockets {
    match sd_notify::listen_fds() {
        // SAFETY: the service manager opened them for this process; see above.
        Ok(descriptors) => unsafe { Sockets::inherit(descriptors.map(|fd| (fd, None))) },
        Err(error) => {
            warn!("sockets of the service manager are left out: {error}");
            Sockets::default()
        }
    }
}
