//! Asking a running Frontgate, for commands.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};

use crate::site::{AdminAddress, Token};

/// How long a command waits for the admin side.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is read: a thousand servers take half a megabyte.
const LONGEST: u64 = 64 * 1024 * 1024;

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Shown to the other side, if there is one.
    pub token: Option<&'a Token>,
    /// JSON, for `POST`.
    pub body: &'a str,
}

impl Ask<'_> {
    /// Asks: the status and the body of the answer.
    ///
    /// # Errors
    /// Nobody listens there, or what answers is not HTTP.
    pub fn at(&self, address: &AdminAddress) -> anyhow::Result<(u16, String)> {
        self.within(address, PATIENCE)
    }

    /// The same, for an answer that may take this long.
    ///
    /// # Errors
    /// As for [`Ask::at`].
    pub fn within(
        &self,
        address: &AdminAddress,
        patience: Duration,
    ) -> anyhow::Result<(u16, String)> {
        let request = self.request();
        let answer = match address {
            AdminAddress::Tcp(socket) => {
                let stream = TcpStream::connect_timeout(socket, PATIENCE)
                    .map_err(|e| unreachable(address, &e))?;
                stream.set_read_timeout(Some(patience))?;
                exchange(stream, &request)?
            }
            AdminAddress::Unix(path) => {
                let stream = UnixStream::connect(path).map_err(|e| unreachable(address, &e))?;
                stream.set_read_timeout(Some(patience))?;
                exchange(stream, &request)?
            }
        };
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no HTTP answer") };
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.context("no HTTP status")?, body.to_owned()))
    }

    fn request(&self) -> String {
        let Self { method, path, token, body } = self;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(token) = token {
            head += &format!("Authorization: Bearer {}\r\n", token.reveal());
        }
        if !body.is_empty() {
            let length = body.len();
            head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        format!("{head}Connection: close\r\n\r\n{body}")
    }
}

/// GETs a page of the admin side: its status and its body.
///
/// # Errors
/// Nobody listens there, or what answers is not HTTP.
pub fn get(address: &AdminAddress, path: &str) -> anyhow::Result<(u16, String)> {
    Ask { method: "GET", path, token: None, body: "" }.at(address)
}

fn unreachable(address: &AdminAddress, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => anyhow!(
            "nobody listens on {address}: is Frontgate running, and is that its admin.listen?"
        ),
        ErrorKind::PermissionDenied => {
            anyhow!("may not use {address}: run this as root or as the user frontgate")
        }
        _ => anyhow!("cannot reach {address}: {error}"),
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> anyhow::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).context("no answer in time")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
