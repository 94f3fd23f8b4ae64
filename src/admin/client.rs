//! Asking a running Frontgate, for commands.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::site::AdminAddress;

/// How long a command waits for the admin side.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const LONGEST: u64 = 1024 * 1024;

/// GETs a page of the admin side: its status and its body.
///
/// # Errors
/// Nobody listens there, or what answers is not HTTP.
pub fn get(address: &AdminAddress, path: &str) -> anyhow::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = match address {
        AdminAddress::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, PATIENCE)
                .with_context(|| format!("cannot reach {address}"))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            exchange(stream, &request)?
        }
        AdminAddress::Unix(path) => {
            let stream = UnixStream::connect(path)
                .with_context(|| format!("cannot reach unix:{}", path.display()))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            exchange(stream, &request)?
        }
    };
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no HTTP answer") };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.context("no HTTP status")?, body.to_owned()))
}

fn exchange(mut stream: impl Read + Write, request: &str) -> anyhow::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).context("no answer in time")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
