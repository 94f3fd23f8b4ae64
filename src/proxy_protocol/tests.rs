//! The specification's own examples, and what nobody should send.

use proptest::prelude::*;

use super::*;

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn client(source: &str, destination: &str) -> Told {
    Told::Client { source: end(source), destination: end(destination), tls: false }
}

/// A header of version 2 with this command, family and rest.
fn v2(order: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = v2::SIGNATURE.to_vec();
    header.extend([order, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 187];

/// With TLVs behind IPv4 addresses.
fn with(tlvs: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&V4[..], tlvs].concat())
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut tlv = vec![kind];
    tlv.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    tlv.extend(value);
    tlv
}

/// Puts the right checksum into a header that has a TLV for it.
fn summed(mut header: Vec<u8>) -> Vec<u8> {
    let at = header.windows(7).rposition(|w| w == [3, 0, 4, 0, 0, 0, 0]).unwrap() + 3;
    let sum = crc32c::crc32c(&header).to_be_bytes();
    header[at..at + 4].copy_from_slice(&sum);
    header
}

const LONGEST: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

/// Those of the specification are among them.
#[test]
fn lines_of_version_1() {
    for (line, told) in [
        ("TCP4 192.0.2.7 10.0.0.1 4711 443", client("192.0.2.7:4711", "10.0.0.1:443")),
        (
            "TCP4 255.255.255.255 255.255.255.255 65535 65535",
            client("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        ("TCP6 2001:db8::7 ::1 1 0", client("[2001:db8::7]:1", "[::1]:0")),
        (
            "TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             65535 65535",
            client(&format!("[{LONGEST}]:65535"), &format!("[{LONGEST}]:65535")),
        ),
        ("UNKNOWN", Told::Itself),
        ("UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535", Told::Itself),
        ("UNKNOWN whatever it is", Told::Itself),
    ] {
        let bytes = format!("PROXY {line}\r\n");
        assert_eq!(read(bytes.as_bytes()), Ok(Read::Whole(told, bytes.len())), "{line}");
        let more = format!("{bytes}PROXY TCP4 6.6.6.6 6.6.6.6 1 1\r\n");
        assert_eq!(read(more.as_bytes()), Ok(Read::Whole(told, bytes.len())), "{line}");
    }
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443 1\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443 \r\n",
        "PROXY  TCP4 192.0.2.7 10.0.0.1 4711 443\r\n",
        "PROXY TCP4 192.0.2.7  10.0.0.1 4711 443\r\n",
        "PROXY TCP4 192.0.2 10.0.0.1 4711 443\r\n",
        "PROXY TCP4 192.0.2.07 10.0.0.1 4711 443\r\n",
        "PROXY TCP4 0xc0000207 10.0.0.1 4711 443\r\n",
        "PROXY TCP4 2001:db8::7 ::1 4711 443\r\n",
        "PROXY TCP6 192.0.2.7 10.0.0.1 4711 443\r\n",
        "PROXY TCP6 2001:db8::7%eth0 ::1 4711 443\r\n",
        "PROXY TCP6 [2001:db8::7] ::1 4711 443\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 -1 443\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 04711 443\r\n",
        "PROXY tcp4 192.0.2.7 10.0.0.1 4711 443\r\n",
        "PROXY UDP4 192.0.2.7 10.0.0.1 4711 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\r\n",
        "PROXY TCP4 192.0.2.7\t10.0.0.1 4711 443\r\n",
        "PROXY UNKNOWN \u{e9}\r\n",
        "PROXY /x HTTP/1.1\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(Fault::Line), "{line:?}");
    }
}

#[test]
fn headers_of_version_2() {
    let known = client("192.0.2.7:4711", "10.0.0.1:443");
    let Told::Client { source, destination, .. } = known else { unreachable!() };
    let ends_tls = Told::Client { source, destination, tls: true };
    let mut v6 = Vec::new();
    for ip in ["2001:db8::7", "::1"] {
        v6.extend(ip.parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
    v6.extend([0, 1, 0, 0]);
    // PP2_TYPE_SSL with its version inside, AUTHORITY, UNIQUE_ID, NOOP, ALPN, one of Amazon's.
    let tlvs = [
        tlv(0x20, &[&[7, 0, 0, 0, 0][..], &tlv(0x21, b"TLSv1.3"), &tlv(0x22, b"jo")].concat()),
        tlv(0x02, b"meet.contoso.com"),
        tlv(0x05, b"4711"),
        tlv(0x04, &[]),
        tlv(0x01, b"h2"),
        tlv(0xea, b"\x01vpce-08d2bf15fac5001c9"),
    ]
    .concat();
    for (header, told) in [
        (with(&[]), known),
        (v2(0x21, 0x21, &v6), client("[2001:db8::7]:1", "[::1]:0")),
        (with(&tlvs), ends_tls),
        (with(&tlv(0x20, &[1, 0, 0, 0, 1])), ends_tls),
        (with(&tlv(0x20, &[0xfe, 0, 0, 0, 0])), known),
        (summed(with(&tlv(3, &[0; 4]))), known),
        (summed(with(&[tlv(3, &[0; 4]), tlvs.clone()].concat())), ends_tls),
        (summed(with(&[tlvs, tlv(3, &[0; 4])].concat())), ends_tls),
        // LOCAL: the rest is skipped, whatever it is.
        (v2(0x20, 0, &[]), Told::Itself),
        (v2(0x20, 0x11, &V4), Told::Itself),
        (v2(0x20, 0xff, &[9; 9]), Told::Itself),
        // UNSPEC, and Unix sockets.
        (v2(0x21, 0, &[]), Told::Itself),
        (v2(0x21, 0, &tlv(4, &[1])), Told::Itself),
        (v2(0x21, 0x10, &V4), Told::Itself),
        (v2(0x21, 0x31, &[b'/'; 216]), Told::Itself),
    ] {
        assert_eq!(read(&header), Ok(Read::Whole(told, header.len())), "{header:?}");
        let more = [&header[..], b"\x16\x03\x01"].concat();
        assert_eq!(read(&more), Ok(Read::Whole(told, header.len())), "{header:?}");
    }
}

#[test]
fn headers_that_are_none() {
    for (header, fault) in [
        (v2(0x11, 0x11, &V4), Fault::Version),
        (v2(0x31, 0x11, &V4), Fault::Version),
        (v2(0x22, 0x11, &V4), Fault::Command),
        (v2(0x21, 0x12, &V4), Fault::Family),
        (v2(0x21, 0x22, &[0; 36]), Fault::Family),
        (v2(0x21, 0x32, &[0; 216]), Fault::Family),
        (v2(0x21, 0x13, &V4), Fault::Family),
        (v2(0x21, 0x41, &V4), Fault::Family),
        (v2(0x21, 0x11, &V4[..11]), Fault::Addresses),
        (v2(0x21, 0x11, &[]), Fault::Addresses),
        (v2(0x21, 0x21, &[0; 35]), Fault::Addresses),
        (with(&[4]), Fault::Tlv),
        (with(&[4, 0]), Fault::Tlv),
        (with(&[4, 0, 1]), Fault::Tlv),
        (with(&[4, 0xff, 0xff, 0]), Fault::Tlv),
        (with(&tlv(3, &[0; 3])), Fault::Tlv),
        (with(&tlv(0x20, &[1, 0, 0, 0])), Fault::Tlv),
        (with(&tlv(0x20, &[1, 0, 0, 0, 0]).repeat(2)), Fault::Tlv),
        (with(&[tlv(3, &[0; 4]), tlv(3, &[0; 4])].concat()), Fault::Tlv),
        (with(&tlv(3, &[0; 4])), Fault::Checksum),
    ] {
        assert_eq!(read(&header), Err(fault), "{header:?}");
    }
    let mut changed = summed(with(&tlv(3, &[0; 4])));
    changed[16] ^= 1;
    assert_eq!(read(&changed), Err(Fault::Checksum), "another client");
}

#[test]
fn headers_have_a_bound() {
    let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    assert_eq!(read(line(107).as_bytes()), Ok(Read::Whole(Told::Itself, 107)));
    assert_eq!(read(line(108).as_bytes()), Err(Fault::TooLong));
    let endless = line(5000);
    assert_eq!(read(&endless.as_bytes()[..105]), Ok(Read::Partial));
    assert_eq!(read(&endless.as_bytes()[..106]), Err(Fault::TooLong));
    let filled = |length: usize| with(&tlv(4, &vec![0; length - 16 - 12 - 3]));
    assert!(matches!(read(&filled(MAX_V2)), Ok(Read::Whole(_, MAX_V2))));
    let long = filled(MAX_V2 + 1);
    assert_eq!(read(&long[..16]), Err(Fault::TooLong), "as soon as the length is there");
}

#[test]
fn other_protocols_are_told_apart_at_once() {
    for other in [
        &b"\x16"[..],
        b"G",
        b"POST / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"PROPFIND / HTTP/1.1\r\n",
        b"PROXY\t",
        b"\r\nGET / HTTP/1.1\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"proxy TCP4",
        b"\0",
    ] {
        assert_eq!(read(other), Err(Fault::Absent), "{other:?}");
    }
    assert_eq!(read(b""), Ok(Read::Partial));
}

#[test]
fn families_that_differ_are_written_as_ipv6() {
    let mixed = client("192.0.2.7:4711", "[2001:db8::1]:443");
    let line = b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4711 443\r\n";
    assert_eq!(write(Version::V1, mixed), line);
    let back = client("[::ffff:192.0.2.7]:4711", "[2001:db8::1]:443");
    assert_eq!(read(&write(Version::V2, mixed)), Ok(Read::Whole(back, 52)));
    // Two mapped ones are IPv4 in truth.
    let mapped = client("[::ffff:192.0.2.7]:4711", "[::ffff:10.0.0.1]:443");
    let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n";
    assert_eq!(write(Version::V1, mapped), line);
}

fn ends() -> impl Strategy<Value = Told> {
    let v4 = any::<([u8; 4], u16, [u8; 4], u16)>().prop_map(|(a, p, b, q)| Told::Client {
        source: (a, p).into(),
        destination: (b, q).into(),
        tls: false,
    });
    let v6 = any::<([u16; 8], u16, [u16; 8], u16)>().prop_map(|(a, p, b, q)| Told::Client {
        source: (a, p).into(),
        destination: (b, q).into(),
        tls: false,
    });
    prop_oneof![v4, v6, Just(Told::Itself)]
}

/// Bytes that are nearly a header.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let tail = prop::collection::vec(any::<u8>(), 0..80);
    let sound = (ends(), any::<bool>(), tail.clone()).prop_map(|(told, first, tail)| {
        let version = if first { Version::V1 } else { Version::V2 };
        [write(version, told), tail].concat()
    });
    let line = "PROXY (TCP4|TCP6|UNKNOWN|[A-Z]{0,5}) ?[ 0-9a-f:.]{0,110}(\r\n|\n|\r|)x{0,9}";
    let binary = (0x1fu8..=0x22, prop::sample::select(vec![0, 0x11, 0x12, 0x21, 0x31, 0x40]))
        .prop_flat_map(move |(order, family)| {
            let tlvs = prop::collection::vec((0u8..6, tail.clone()), 0..4);
            (0usize..40, tlvs, 0u16..9).prop_map(move |(addresses, tlvs, off)| {
                let mut rest = vec![7; addresses];
                tlvs.iter().for_each(|(kind, value)| rest.extend(tlv(*kind, value)));
                let mut header = v2(order, family, &rest);
                header[15] = header[15].wrapping_add(off as u8);
                header
            })
        });
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        sound,
        line.prop_map(String::into_bytes),
        binary,
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(told in ends(), tail in prop::collection::vec(any::<u8>(), 0..20)) {
        for version in [Version::V1, Version::V2] {
            let header = write(version, told);
            let length = header.len();
            let all = [header, tail.clone()].concat();
            let Ok(Read::Whole(back, read)) = read(&all) else { panic!("{all:?}") };
            prop_assert_eq!(read, length);
            match (told, back) {
                (
                    Told::Client { source, destination, .. },
                    Told::Client { source: s, destination: d, tls },
                ) => {
                    prop_assert!(!tls);
                    let plain = |end: SocketAddr| (end.ip().to_canonical(), end.port());
                    prop_assert_eq!((plain(source), plain(destination)), (plain(s), plain(d)));
                }
                _ => prop_assert_eq!(told, back),
            }
            prop_assert!(length <= MAX_V1);
        }
    }

    /// However the bytes arrive: once there is an answer, nothing that follows changes it.
    #[test]
    fn every_split_gives_the_same_answer(bytes in nearly()) {
        let whole = read(&bytes);
        let mut settled = None;
        for end in 0..=bytes.len() {
            let so_far = read(&bytes[..end]);
            match settled {
                Some(before) => prop_assert_eq!(so_far, before, "at {}", end),
                None if so_far != Ok(Read::Partial) => settled = Some(so_far),
                None => {}
            }
        }
        prop_assert_eq!(settled.unwrap_or(Ok(Read::Partial)), whole);
        if let Ok(Read::Whole(_, length)) = whole {
            prop_assert!(length <= bytes.len() && length <= MAX_V2);
            prop_assert_eq!(read(&bytes[..length - 1]), Ok(Read::Partial));
        }
    }
}
