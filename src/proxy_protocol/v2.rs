//! Version 2: binary, with type-length-value fields behind the addresses (specification 2.2).

use std::net::{IpAddr, SocketAddr};

use super::{Fault, MAX_V2, Read, Told, crc32c::crc32c};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length of the rest.
const FIXED: usize = 16;
const VERSION: u8 = 2;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
const CRC32C: u8 = 0x03;
const SSL: u8 = 0x20;

/// Reads a header whose signature has been seen, as far as it is there. What each byte forbids is
/// told as soon as it is there.
pub(super) fn read(bytes: &[u8]) -> Result<Read, Fault> {
    let Some(order) = bytes.get(12) else { return Ok(Read::Partial) };
    let (version, command) = (order >> 4, order & 0xf);
    if version != VERSION {
        return Err(Fault::Version);
    }
    if command != LOCAL && command != PROXY {
        return Err(Fault::Command);
    }
    let Some(family) = bytes.get(13) else { return Ok(Read::Partial) };
    let ends = match command {
        PROXY => ends(*family)?,
        // The sender speaks for itself: the rest is to be skipped unread, family included.
        _ => None,
    };
    let Some([high, low]) = bytes.get(14..FIXED) else { return Ok(Read::Partial) };
    let length = FIXED + usize::from(u16::from_be_bytes([*high, *low]));
    // SECURITY: the length is a stranger's as long as the sender has not been believed.
    // Test: headers_have_a_bound
    if length > MAX_V2 {
        return Err(Fault::TooLong);
    }
    if ends.is_some_and(|ends| length < ends.end()) {
        return Err(Fault::Addresses);
    }
    let Some(header) = bytes.get(..length) else { return Ok(Read::Partial) };
    let told = match ends {
        None => Told::Itself,
        Some(ends) => {
            let tls = check(header, ends.end())?;
            let (source, destination) = ends.read(header).ok_or(Fault::Addresses)?;
            Told::Client { source, destination, tls }
        }
    };
    Ok(Read::Whole(told, length))
}

/// Which addresses a header holds.
#[derive(Clone, Copy)]
enum Ends {
    V4,
    V6,
}

/// Family in the upper half, transport in the lower. `None`: nothing that a TCP connection could
/// have as its peer, so the sender's own address stays.
fn ends(family: u8) -> Result<Option<Ends>, Fault> {
    const STREAM: u8 = 1;
    match (family >> 4, family & 0xf) {
        (1, STREAM) => Ok(Some(Ends::V4)),
        (2, STREAM) => Ok(Some(Ends::V6)),
        // UNSPEC in either half; Unix sockets.
        (0..=3, 0) | (0 | 3, STREAM) => Ok(None),
        // Datagrams do not arrive over TCP; the rest is undefined.
        _ => Err(Fault::Family),
    }
}

impl Ends {
    /// Where the addresses end and TLVs begin.
    fn end(self) -> usize {
        let address = match self {
            Self::V4 => 4,
            Self::V6 => 16,
        };
        FIXED + 2 * (address + 2)
    }

    fn read(self, header: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
        let mut rest = header.get(FIXED..self.end())?;
        let (source, destination) = match self {
            Self::V4 => (address::<4>(&mut rest)?, address::<4>(&mut rest)?),
            Self::V6 => (address::<16>(&mut rest)?, address::<16>(&mut rest)?),
        };
        let (from, to) = (take(&mut rest)?, take(&mut rest)?);
        let (from, to) = (u16::from_be_bytes(from), u16::from_be_bytes(to));
        Some((SocketAddr::new(source, from), SocketAddr::new(destination, to)))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn address<const N: usize>(rest: &mut &[u8]) -> Option<IpAddr>
where
    [u8; N]: Into<IpAddr>,
{
    Some(take::<N>(rest)?.into())
}

/// Walks over the TLVs and tells whether the client speaks TLS to the sender. They have to fill the
/// header exactly, and a checksum has to be right; the rest (names, numbers, cloud providers' own)
/// is nothing that anything is decided by.
fn check(header: &[u8], begin: usize) -> Result<bool, Fault> {
    /// `PP2_CLIENT_SSL`; behind it stand four bytes of another verdict, and TLVs of its own.
    const CLIENT_TLS: u8 = 1;
    let mut at = begin;
    let (mut checksum, mut tls) = (None, None);
    while at < header.len() {
        let Some([kind, high, low]) = header.get(at..at + 3) else { return Err(Fault::Tlv) };
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([*high, *low]));
        let bytes = header.get(value..at).ok_or(Fault::Tlv)?;
        if *kind == CRC32C {
            let sum: [u8; 4] = bytes.try_into().map_err(|_| Fault::Tlv)?;
            // A second one would leave open which of them is a zero for the other.
            if checksum.replace((value, u32::from_be_bytes(sum))).is_some() {
                return Err(Fault::Tlv);
            }
        }
        if *kind == SSL {
            let [client, _, _, _, _, ..] = bytes else { return Err(Fault::Tlv) };
            if tls.replace(client & CLIENT_TLS != 0).is_some() {
                return Err(Fault::Tlv);
            }
        }
    }
    let tls = tls.unwrap_or(false);
    let Some((value, sum)) = checksum else { return Ok(tls) };
    let (before, after) = (header.iter().take(value), header.iter().skip(value + 4));
    let right = crc32c(before.chain(&[0; 4]).chain(after));
    if right == sum { Ok(tls) } else { Err(Fault::Checksum) }
}

/// The header for these two ends, of one family.
pub(super) fn write(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some((from, to)) = ends else {
        header.extend([VERSION << 4 | LOCAL, 0, 0, 0]);
        return header;
    };
    let (family, length) = if from.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
    header.extend([VERSION << 4 | PROXY, family, 0, length]);
    for end in [from, to] {
        match end.ip() {
            IpAddr::V4(ip) => header.extend(ip.octets()),
            IpAddr::V6(ip) => header.extend(ip.octets()),
        }
    }
    header.extend(from.port().to_be_bytes());
    header.extend(to.port().to_be_bytes());
    header
}
