//! The header of the PROXY protocol, versions 1 and 2: what a balancer that passes bytes through
//! writes in front of them, to say whose they are (HAProxy's `proxy-protocol.txt`).
//!
//! Bytes in, bytes out; who is believed is for `listen` to decide.

mod crc32c;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

/// Longest header of version 1, with its line end (specification 2.1).
pub const MAX_V1: usize = 107;
/// Longest header of version 2 that is accepted, with its TLVs. The format has room for 64 KiB; the
/// largest thing that senders put there is a client's certificate, of about 2 KiB.
pub const MAX_V2: usize = 4096;

/// Which version is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Version {
    /// `v1` or `v2`.
    pub fn word(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The sender's own: `LOCAL` (its health checks), or nothing that could be said in addresses
    /// (`UNKNOWN`, `UNSPEC`, Unix sockets).
    Itself,
    /// A client's.
    Client {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
        /// Whether TLS with it ends at the sender. It is read and not written.
        tls: bool,
    },
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So far the beginning of a header.
    Partial,
    /// A header of this many bytes; what follows belongs to the connection.
    Whole(Told, usize),
}

/// Why the first bytes of a connection are no header that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are something else: neither signature.
    Absent,
    /// It is longer than [`MAX_V1`] or [`MAX_V2`].
    TooLong,
    /// Not the line of version 1.
    Line,
    /// Neither version 1 nor 2.
    Version,
    /// A command other than LOCAL and PROXY.
    Command,
    /// A family or transport that no TCP connection has, or that nobody has defined.
    Family,
    /// Shorter than the addresses it should hold.
    Addresses,
    /// A TLV that reaches beyond the end, or a checksum that is no checksum.
    Tlv,
    /// The checksum is another one.
    Checksum,
}

impl Fault {
    /// In a few words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Absent => "no PROXY header",
            Self::TooLong => "PROXY header too long",
            Self::Line => "malformed line",
            Self::Version => "unknown version",
            Self::Command => "unknown command",
            Self::Family => "unknown address family or transport",
            Self::Addresses => "too short for its addresses",
            Self::Tlv => "malformed TLV",
            Self::Checksum => "wrong checksum",
        }
    }
}

/// Reads the header at the beginning of `bytes`, which is all that came so far: more bytes never
/// change an answer other than [`Read::Partial`].
///
/// # Errors
/// There is no header, or it cannot be used.
pub fn read(bytes: &[u8]) -> Result<Read, Fault> {
    // COMPAT: neither signature can be confused with anything else that begins a connection: TLS
    // begins with 0x16, version 2 has a line without any text in front of a zero byte, and
    // `PROXY ` is the method of no request. Test: other_protocols_are_told_apart_at_once
    match () {
        () if begins(bytes, v2::SIGNATURE) => v2::read(bytes),
        () if begins(bytes, v1::SIGNATURE) => v1::read(bytes),
        () => Err(Fault::Absent),
    }
}

/// The header that says `told`. Addresses of different families are both written as IPv6, the IPv4
/// one mapped (RFC 4291 2.5.5.2).
pub fn write(version: Version, told: Told) -> Vec<u8> {
    let ends = match told {
        Told::Itself => None,
        Told::Client { source, destination, .. } => Some(alike(source, destination)),
    };
    match version {
        Version::V1 => v1::write(ends),
        Version::V2 => v2::write(ends),
    }
}

/// As far as they go, both are the same.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(a, b)| a == b)
}

fn alike(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (source, destination) = (plain(source), plain(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let mapped = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    (mapped(source), mapped(destination))
}
