//! A socket that somebody else owns.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use pingora::protocols::SocketDigest;

use super::farewell::hung_up;

/// A socket that somebody else owns and may close, told apart from a later one with the same
/// number by the kernel's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    fd: RawFd,
    cookie: u64,
}

impl Handle {
    /// Remembers a socket that is open right now.
    pub fn of(fd: RawFd) -> Option<Self> {
        let cookie = SocketDigest::from_raw_fd(fd).socket_cookie().ok()?;
        Some(Self { fd, cookie })
    }

    /// Ends both directions, if it still is that socket; its owner notices.
    pub fn shut_down(self) {
        if let Some(copy) = self.copy() {
            // SAFETY: shutdown(2) on a descriptor of ours.
            unsafe { libc::shutdown(copy.as_raw_fd(), libc::SHUT_RDWR) };
        }
    }

    /// Bytes that were written and that the other end has not taken yet.
    pub fn unsent(self) -> usize {
        let Some(copy) = self.copy() else { return 0 };
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ, which has TIOCOUTQ's number (tcp(7)), fills one int of ours.
        unsafe { libc::ioctl(copy.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        usize::try_from(bytes).unwrap_or(0)
    }

    /// Whether the other end has said that nothing more comes from it, or is gone.
    pub fn hung_up(self) -> bool {
        self.copy().is_none_or(|copy| hung_up(copy.as_raw_fd()))
    }

    fn copy(self) -> Option<OwnedFd> {
        // SAFETY: fcntl(2) on a number; a closed one is an error.
        let copy = unsafe { libc::fcntl(self.fd, libc::F_DUPFD_CLOEXEC, 0) };
        if copy < 0 {
            return None;
        }
        // SAFETY: the copy is ours, so it stays the same socket from here on.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        let same = SocketDigest::from_raw_fd(copy.as_raw_fd()).socket_cookie();
        same.is_ok_and(|cookie| cookie == self.cookie).then_some(copy)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn only_the_same_socket_is_shut_down() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut one = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        let handle = Handle::of(server.as_raw_fd()).unwrap();
        let fd = server.as_raw_fd();
        handle.shut_down();
        assert_eq!(one.read(&mut [0; 1]).unwrap(), 0);
        drop(server);
        // Another socket under the same number is left alone.
        let mut other = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        if server.as_raw_fd() == fd {
            handle.shut_down();
            other.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
            assert!(other.read(&mut [0; 1]).is_err(), "still open");
        }
    }

    #[test]
    fn the_other_end_hangs_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let handle = Handle::of(server.as_raw_fd()).unwrap();
        assert!(!handle.hung_up());
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(handle.hung_up());
        drop(server);
        assert!(handle.hung_up());
    }

    #[test]
    fn what_the_other_end_leaves_is_unsent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let handle = Handle::of(client.as_raw_fd()).unwrap();
        assert_eq!(handle.unsent(), 0);
        client.set_nonblocking(true).unwrap();
        while client.write(&[0; 65536]).is_ok() {}
        assert!(handle.unsent() > 0);
        drop(server);
    }
}
