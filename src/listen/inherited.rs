//! Listening sockets that another process has opened: the Frontgate before this one, or systemd.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{FromRawFd, OwnedFd, RawFd},
        unix::net::UnixListener,
    },
    path::Path,
};

use log::warn;
use socket2::{SockAddr, Socket, Type};

use super::bind;

/// Where listening sockets come from: those that were inherited, by their address; all others are
/// bound.
#[derive(Debug, Default)]
pub struct Sockets {
    inherited: Vec<Inherited>,
}

#[derive(Debug)]
struct Inherited {
    /// What it was used for by the Frontgate before this one.
    role: Option<String>,
    address: SockAddr,
    socket: Socket,
}

impl Sockets {
    /// Takes inherited descriptors, each with what it was used for where that is known. What is
    /// no listening stream socket is closed, with a warning.
    ///
    /// # Safety
    /// Nothing else in this process may use or close these descriptors.
    pub unsafe fn inherit(descriptors: impl IntoIterator<Item = (RawFd, Option<String>)>) -> Self {
        let mut inherited = Vec::new();
        for (fd, role) in descriptors {
            // SAFETY: as promised by the caller; asked about before it is owned.
            let known = fd >= 0 && unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
            if !known {
                warn!("descriptor {fd} was announced and is not there");
                continue;
            }
            // SAFETY: it is open, and as the caller promises nobody else's.
            let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
            match listening(&socket) {
                Ok(address) => inherited.push(Inherited { role, address, socket }),
                Err(why) => warn!("descriptor {fd} that was handed over is left out: {why}"),
            }
        }
        Self { inherited }
    }

    /// A socket for an address: the inherited one, or a new one. Where the port is the kernel's
    /// choice, it is the one that was used for the same before.
    ///
    /// # Errors
    /// As for [`bind`].
    pub fn tcp(&mut self, role: &str, address: SocketAddr) -> io::Result<TcpListener> {
        let found = self.take(|inherited| match inherited.address.as_socket() {
            Some(bound) if address.port() == 0 => {
                bound.ip() == address.ip() && inherited.role.as_deref() == Some(role)
            }
            bound => bound == Some(address),
        });
        found.map_or_else(|| bind(address), |socket| Ok(socket.into()))
    }

    /// The inherited socket at a path; never a new one.
    pub fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        let found = self.take(|inherited| inherited.address.as_pathname() == Some(path));
        found.map(|socket| UnixListener::from(OwnedFd::from(socket)))
    }

    /// Closes what nobody asked for, and says so.
    pub fn close_rest(self) {
        for Inherited { role, address, .. } in self.inherited {
            let place = match (address.as_socket(), address.as_pathname()) {
                (Some(address), _) => address.to_string(),
                (_, Some(path)) => format!("unix:{}", path.display()),
                _ => "no address".to_owned(),
            };
            let role = role.map_or_else(String::new, |role| format!(" ({role})"));
            warn!("the socket {place}{role} was handed over, but nothing uses it: closed here");
        }
    }

    fn take(&mut self, fits: impl Fn(&Inherited) -> bool) -> Option<Socket> {
        let at = self.inherited.iter().position(fits)?;
        Some(self.inherited.swap_remove(at).socket)
    }
}

/// Makes an inherited socket ours: not for programs that we start, and never waiting.
fn listening(socket: &Socket) -> io::Result<SockAddr> {
    socket.set_cloexec(true)?;
    let kind = socket.r#type()?;
    if kind != Type::STREAM || !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "nobody can connect to it"));
    }
    socket.set_nonblocking(true)?;
    socket.local_addr()
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::IntoRawFd};

    use super::*;

    fn any() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn sockets_are_found_by_address_or_where_the_port_is_any_by_role() {
        let (one, two) = (bind(any()).unwrap(), bind(any()).unwrap());
        let (first, second) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let unix = UnixListener::bind(&path).unwrap();
        let datagram = UdpSocket::bind(any()).unwrap();
        let given = [
            (one.into_raw_fd(), Some("listener a".to_owned())),
            (two.into_raw_fd(), Some("admin".to_owned())),
            (unix.into_raw_fd(), None),
            (datagram.into_raw_fd(), None),
            (-1, None),
        ];
        // SAFETY: they were just given up.
        let mut sockets = unsafe { Sockets::inherit(given) };
        assert_eq!(sockets.inherited.len(), 3, "a datagram socket accepts nobody");
        assert_eq!(sockets.tcp("admin", any()).unwrap().local_addr().unwrap(), second);
        let again = sockets.tcp("admin", any()).unwrap().local_addr().unwrap();
        assert!(again != first && again != second, "a new one, as there is no other for the role");
        let found = sockets.tcp("listener renamed", first).unwrap();
        assert_eq!(found.local_addr().unwrap(), first);
        assert!(sockets.unix(Path::new("/elsewhere")).is_none());
        let unix = sockets.unix(&path).unwrap();
        assert_eq!(unix.local_addr().unwrap().as_pathname(), Some(&*path));
        assert!(sockets.inherited.is_empty());
    }

    #[test]
    fn an_inherited_socket_is_for_no_other_program() {
        let socket = bind(any()).unwrap();
        let fd = socket.into_raw_fd();
        // SAFETY: fcntl(2) on a descriptor of ours.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
        // SAFETY: it was just given up.
        let sockets = unsafe { Sockets::inherit([(fd, None)]) };
        // SAFETY: as above; it is open still.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, libc::FD_CLOEXEC);
        // SAFETY: as above.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
        assert_ne!(flags & libc::O_NONBLOCK, 0);
        sockets.close_rest();
    }
}
