//! Where commands reach an admin side: an address, a socket's path, or a name to look up.

use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::anyhow;

use crate::site::AdminAddress;

/// How long connecting to one address may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be read and written.
pub(super) trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// Where an admin side is. Shown as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address or a Unix socket.
    Known(AdminAddress),
    /// `NAME:PORT`, looked up each time; its addresses are tried in turn.
    Named(String),
}

impl Place {
    /// Reads `ADDRESS:PORT`, `NAME:PORT` or `unix:/PATH`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Known(AdminAddress::Unix(path.into())));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Known(AdminAddress::Tcp(address)));
        }
        let is_name = |name: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            // Digits alone are an address with a mistake in it.
            name.bytes().all(plain) && name.bytes().any(|b| b.is_ascii_alphabetic())
        };
        match text.rsplit_once(':') {
            Some((name, port)) if is_name(name) && port.parse::<u16>().is_ok_and(|p| p > 0) => {
                Ok(Self::Named(text.to_owned()))
            }
            _ => Err("want ADDRESS:PORT, NAME:PORT or unix:/PATH".to_owned()),
        }
    }

    /// Whether only this machine can be meant.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Known(address) => address.is_local(),
            Self::Named(name) => name
                .rsplit_once(':')
                .is_some_and(|(name, _)| name.eq_ignore_ascii_case("localhost")),
        }
    }

    /// A connection whose reads wait so long.
    ///
    /// # Errors
    /// Nobody listens there, or the name is not known.
    pub(super) fn connect(&self, patience: Duration) -> anyhow::Result<Box<dyn Stream>> {
        match self {
            Self::Known(AdminAddress::Unix(path)) => {
                let stream = UnixStream::connect(path).map_err(|e| self.unreachable(&e))?;
                stream.set_read_timeout(Some(patience))?;
                Ok(Box::new(stream))
            }
            Self::Known(AdminAddress::Tcp(address)) => self.reach(&[*address], patience),
            Self::Named(name) => {
                let found = name.to_socket_addrs();
                let found = found.map_err(|e| anyhow!("cannot look up {name}: {e}"))?;
                self.reach(&found.collect::<Vec<_>>(), patience)
            }
        }
    }

    /// The first of these that answers.
    fn reach(&self, all: &[SocketAddr], patience: Duration) -> anyhow::Result<Box<dyn Stream>> {
        let mut failed = io::Error::from(ErrorKind::NotFound);
        for address in all {
            match TcpStream::connect_timeout(address, PATIENCE) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(patience))?;
                    return Ok(Box::new(stream));
                }
                Err(error) => failed = error,
            }
        }
        Err(self.unreachable(&failed))
    }

    fn unreachable(&self, error: &io::Error) -> anyhow::Error {
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => anyhow!(
                "nobody listens on {self}: is Frontgate running, and is that its admin.listen?"
            ),
            ErrorKind::PermissionDenied => {
                anyhow!("may not use {self}: run this as root or as the user frontgate")
            }
            _ => anyhow!("cannot reach {self}: {error}"),
        }
    }
}

impl From<AdminAddress> for Place {
    fn from(address: AdminAddress) -> Self {
        Self::Known(address)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(address) => address.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_names_and_sockets_are_places_shown_as_written() {
        for (text, local) in [
            ("127.0.0.1:9180", true),
            ("[::1]:9180", true),
            ("10.0.0.1:9180", false),
            ("localhost:9180", true),
            ("uc1.contoso.local:9180", false),
            ("unix:/run/f.sock", true),
        ] {
            let place = Place::parse(text).unwrap();
            assert_eq!((place.to_string().as_str(), place.is_local()), (text, local));
        }
        for text in ["", "9180", "uc1", "uc1:", "uc1:0", "uc1:70000", "10.0.0.300:80", "::1:9180"] {
            assert!(Place::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_looked_up_and_one_that_is_unknown_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let here = Place::parse(&format!("localhost:{port}")).unwrap();
        assert!(here.connect(PATIENCE).is_ok());
        let nowhere = Place::parse("nobody.invalid:9180").unwrap();
        let error = nowhere.connect(PATIENCE).err().unwrap().to_string();
        assert!(error.contains("nobody.invalid:9180"), "{error}");
    }
}
