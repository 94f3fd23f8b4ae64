//! Version 1: one line of text (specification 2.1).

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::{Fault, MAX_V1, Read, Told};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// Reads a header whose signature has been seen, as far as it is there.
pub(super) fn read(bytes: &[u8]) -> Result<Read, Fault> {
    let printable = |byte: &u8| (b' '..=b'~').contains(byte);
    let length = bytes.iter().position(|byte| !printable(byte));
    let text = bytes.get(..length.unwrap_or(bytes.len())).unwrap_or_default();
    if text.len() + 2 > MAX_V1 {
        return Err(Fault::TooLong);
    }
    match bytes.get(text.len()..).unwrap_or_default() {
        [] | [b'\r'] => return Ok(Read::Partial),
        [b'\r', b'\n', ..] => {}
        _ => return Err(Fault::Line),
    }
    let told = std::str::from_utf8(text).ok().and_then(line).ok_or(Fault::Line)?;
    Ok(Read::Whole(told, text.len() + 2))
}

fn line(text: &str) -> Option<Told> {
    let text = text.strip_prefix("PROXY ")?;
    // Whatever follows is to be ignored.
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Some(Told::Itself);
    }
    let mut words = text.split(' ');
    let mut word = || words.next();
    let (source, destination): (IpAddr, IpAddr) = match word()? {
        "TCP4" => (ip::<Ipv4Addr>(word()?)?, ip::<Ipv4Addr>(word()?)?),
        "TCP6" => (ip::<Ipv6Addr>(word()?)?, ip::<Ipv6Addr>(word()?)?),
        _ => return None,
    };
    let source = SocketAddr::new(source, port(word()?)?);
    let destination = SocketAddr::new(destination, port(word()?)?);
    word().is_none().then_some(Told::Client { source, destination, tls: false })
}

fn ip<A: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<A>().ok().map(Into::into)
}

/// 0 to 65535, without leading zeros.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let led = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| digits && !led)
}

/// The line for these two ends, of one family.
pub(super) fn write(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut line = String::from("PROXY ");
    // Writing into a String cannot fail.
    let _ = match ends {
        None => write!(line, "UNKNOWN\r\n"),
        Some((from, to)) => {
            let family = if from.is_ipv4() { 4 } else { 6 };
            let (source, destination) = (from.ip(), to.ip());
            write!(line, "TCP{family} {source} {destination} {} {}\r\n", from.port(), to.port())
        }
    };
    line.into_bytes()
}
