//! A log that goes to a syslog receiver: RFC 5424 messages in datagrams, to a Unix socket or over
//! UDP (RFC 5426).

use std::{
    fmt::Write as _,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::unix::net::UnixDatagram,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{machine, site::SyslogAddress};

/// Facility local0, severity informational.
const PRIORITY: u8 = 16 * 8 + 6;
/// The longest message: what fits into any datagram.
const LONGEST: usize = 60_000;
/// How long one message may wait for a receiver whose queue is full.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(10);

/// A receiver.
pub(super) struct Syslog {
    address: SyslogAddress,
    socket: Socket,
    /// What stands behind the time in every message.
    sender: String,
}

enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Syslog {
    /// Opens a socket that never blocks.
    ///
    /// # Errors
    /// Nobody listens on the Unix socket, or there is no way to the address.
    pub(super) fn open(address: &SyslogAddress) -> io::Result<Self> {
        let sender =
            format!("{} frontgate {} access - ", name(&machine::name()), std::process::id());
        Ok(Self { address: address.clone(), socket: Socket::open(address)?, sender })
    }

    /// Sends each line as a message. Returns how many arrived as far as one can know, and what
    /// went wrong with the rest: those are not sent again.
    pub(super) fn write<'a>(
        &mut self,
        lines: impl Iterator<Item = &'a [u8]>,
    ) -> (usize, Option<io::Error>) {
        let (mut written, mut trouble) = (0_usize, None);
        for line in lines {
            match self.send(line) {
                Ok(None) => written += 1,
                // One of those before was refused; this one may arrive.
                Ok(refused) => trouble = refused,
                Err(e) => return (written, Some(e)),
            }
        }
        (written, trouble)
    }

    /// Sends one message. What is told besides success: an earlier one was refused.
    fn send(&mut self, line: &[u8]) -> io::Result<Option<io::Error>> {
        let mut message = self.message(line);
        let (begun, mut again, mut refused) = (Instant::now(), false, None);
        loop {
            let error = match self.socket.send(message.as_bytes()) {
                Ok(()) => return Ok(refused),
                Err(e) => e,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN | libc::ENOBUFS) if begun.elapsed() < PATIENCE => {
                    thread::sleep(AGAIN);
                }
                Some(libc::EMSGSIZE) if message.len() > 1024 => cut(&mut message, 1024),
                // A receiver that was started anew has another socket under the same name. Over
                // UDP, this is the answer to an earlier message.
                Some(libc::ECONNREFUSED | libc::ECONNRESET | libc::ENOTCONN | libc::EPIPE)
                    if !again =>
                {
                    again = true;
                    let unix = matches!(self.address, SyslogAddress::Unix(_));
                    self.socket = Socket::open(&self.address)?;
                    refused = Some(error).filter(|_| !unix);
                }
                _ => return Err(error),
            }
        }
    }

    /// The message (RFC 5424 section 6) of a line.
    fn message(&self, line: &[u8]) -> String {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
        let mut message = String::with_capacity(line.len() + 96);
        let _ = write!(message, "<{PRIORITY}>1 {:.3} {}", Timestamp::now(), self.sender);
        message.push_str(&line);
        cut(&mut message, LONGEST);
        message
    }
}

impl Socket {
    fn open(address: &SyslogAddress) -> io::Result<Self> {
        match address {
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_nonblocking(true)?;
                Ok(Self::Unix(socket))
            }
            SyslogAddress::Udp(address) => {
                let any = match address {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                socket.set_nonblocking(true)?;
                Ok(Self::Udp(socket))
            }
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.send(message).map(drop),
            Self::Udp(socket) => socket.send(message).map(drop),
        }
    }
}

/// A HOSTNAME: visible ASCII, or `-`.
fn name(text: &str) -> String {
    let name: String = text.chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// Cuts between characters.
fn cut(message: &mut String, longest: usize) {
    let end = (0..=longest.min(message.len())).rfind(|at| message.is_char_boundary(*at));
    message.truncate(end.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&'static str]) -> impl Iterator<Item = &'static [u8]> {
        texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>().into_iter()
    }

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = vec![0; 70_000];
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    }

    fn unix(dir: &tempfile::TempDir) -> (UnixDatagram, SyslogAddress) {
        let path = dir.path().join("log");
        let _ = std::fs::remove_file(&path);
        (UnixDatagram::bind(&path).unwrap(), SyslogAddress::Unix(path))
    }

    #[test]
    fn messages_have_the_form_of_the_rfc() {
        let dir = tempfile::tempdir().unwrap();
        let (receiver, address) = unix(&dir);
        let mut syslog = Syslog::open(&address).unwrap();
        let (written, error) = syslog.write(lines(&["{\"a\":1}\n"]));
        assert!(written == 1 && error.is_none());
        let message = receive(&receiver);
        let parts: Vec<_> = message.splitn(8, ' ').collect();
        assert_eq!(parts[0], "<134>1");
        let time: Timestamp = parts[1].parse().unwrap();
        assert!(parts[1].ends_with('Z') && parts[1].len() == 24, "{message}");
        assert!(Timestamp::now().duration_since(time).as_secs() < 10);
        assert!(!parts[2].is_empty());
        let pid = std::process::id().to_string();
        assert_eq!(parts[3..], ["frontgate", &pid, "access", "-", "{\"a\":1}"]);
        assert_eq!((name("fe 01\n"), name(" \n")), ("fe01".into(), "-".into()));
    }

    #[test]
    fn a_receiver_that_starts_anew_gets_the_next_line() {
        let dir = tempfile::tempdir().unwrap();
        let (first, address) = unix(&dir);
        let mut syslog = Syslog::open(&address).unwrap();
        drop(first);
        let (written, error) = syslog.write(lines(&["lost\n", "lost too\n"]));
        assert_eq!((written, error.unwrap().kind()), (0, io::ErrorKind::ConnectionRefused));
        let (second, _) = unix(&dir);
        let (written, error) = syslog.write(lines(&["kept\n"]));
        assert!(written == 1 && error.is_none());
        assert!(receive(&second).ends_with(" access - kept"));
    }

    #[test]
    fn a_receiver_that_reads_nothing_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let (receiver, address) = unix(&dir);
        let mut syslog = Syslog::open(&address).unwrap();
        let begun = Instant::now();
        let (written, error) = syslog.write(std::iter::repeat_n(b"line\n".as_slice(), 100_000));
        assert!(written < 100_000, "{written}");
        assert_eq!(error.unwrap().kind(), io::ErrorKind::WouldBlock);
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(receive(&receiver).ends_with("line"));
    }

    #[test]
    fn a_long_line_is_cut_and_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (receiver, address) = unix(&dir);
        let mut syslog = Syslog::open(&address).unwrap();
        let line = format!("begin {}", "é".repeat(100_000));
        let (written, error) = syslog.write(std::iter::once(line.as_bytes()));
        assert!(written == 1 && error.is_none());
        let message = receive(&receiver);
        assert!(message.contains(" - begin é") && message.len() <= LONGEST);
    }

    #[test]
    fn over_udp_refusals_are_counted_as_far_as_they_are_known() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let address = receiver.local_addr().unwrap();
        let mut syslog = Syslog::open(&SyslogAddress::Udp(address)).unwrap();
        let (written, error) = syslog.write(lines(&["arrives\n"]));
        assert!(written == 1 && error.is_none());
        let mut buffer = [0; 2048];
        let n = receiver.recv(&mut buffer).unwrap();
        assert!(buffer[..n].ends_with(b" access - arrives"));
        drop(receiver);
        let mut lost = 0;
        for _ in 0..100 {
            let (written, error) = syslog.write(lines(&["refused\n"]));
            assert_eq!(written == 0, error.is_some());
            lost += 1 - written;
        }
        assert!(lost > 0);
    }
}
