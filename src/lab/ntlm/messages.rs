//! The three messages of [MS-NLMP] section 2.2.1, as a server reads and writes them.

use super::wire::{Writer, array_at, from_oem, from_utf16, is_message, payload, u32_at, utf16};

pub(super) mod flags {
    pub(in crate::lab::ntlm) const UNICODE: u32 = 0x0000_0001;
    pub(in crate::lab::ntlm) const OEM: u32 = 0x0000_0002;
    pub(in crate::lab::ntlm) const REQUEST_TARGET: u32 = 0x0000_0004;
    pub(in crate::lab::ntlm) const NTLM: u32 = 0x0000_0200;
    pub(in crate::lab::ntlm) const ALWAYS_SIGN: u32 = 0x0000_8000;
    pub(super) const TARGET_TYPE_DOMAIN: u32 = 0x0001_0000;
    pub(in crate::lab::ntlm) const EXTENDED_SESSION_SECURITY: u32 = 0x0008_0000;
    pub(in crate::lab::ntlm) const TARGET_INFO: u32 = 0x0080_0000;
    pub(super) const VERSION: u32 = 0x0200_0000;
    /// Granted when asked for, though nothing is signed or sealed over HTTP.
    pub(super) const ON_REQUEST: u32 = 0xe200_8030 | EXTENDED_SESSION_SECURITY;
}

/// Windows Server 2012 R2.
const VERSION: [u8; 8] = [6, 3, 0x80, 0x25, 0, 0, 0, 15];

/// Under which names a server introduces itself.
#[derive(Clone, Debug)]
pub(in crate::lab) struct Names {
    pub(in crate::lab) netbios_domain: String,
    pub(in crate::lab) netbios_computer: String,
    pub(in crate::lab) dns_domain: String,
    pub(in crate::lab) dns_computer: String,
}

/// Type 1: the flags that the client offers; `None` when it is not one.
pub(super) fn negotiate(message: &[u8]) -> Option<u32> {
    if is_message(message, 1) { u32_at(message, 12) } else { None }
}

/// Type 2 in answer to a type 1 with `offered` flags. `now` is a FILETIME: 100 ns since 1601.
pub(super) fn challenge(offered: u32, challenge: [u8; 8], names: &Names, now: u64) -> Vec<u8> {
    let unicode = offered & flags::UNICODE != 0;
    let granted = flags::NTLM
        | flags::REQUEST_TARGET
        | flags::TARGET_TYPE_DOMAIN
        | flags::TARGET_INFO
        | (offered & flags::ON_REQUEST)
        | if unicode { flags::UNICODE } else { flags::OEM };
    let target = match unicode {
        true => utf16(&names.netbios_domain),
        false => names.netbios_domain.as_bytes().to_vec(),
    };
    let mut message = Writer::new(2, 56);
    message.field(&target);
    message.bytes(&granted.to_le_bytes());
    message.bytes(&challenge);
    message.bytes(&[0; 8]);
    message.field(&target_info(names, now));
    message.bytes(if granted & flags::VERSION == 0 { &[0; 8] } else { &VERSION });
    message.finish()
}

/// AV pairs of [MS-NLMP] section 2.2.2.1.
fn target_info(names: &Names, now: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut pair = |id: u16, value: &[u8]| {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
        out.extend_from_slice(value);
    };
    pair(2, &utf16(&names.netbios_domain));
    pair(1, &utf16(&names.netbios_computer));
    pair(4, &utf16(&names.dns_domain));
    pair(3, &utf16(&names.dns_computer));
    pair(5, &utf16(&names.dns_domain));
    pair(7, &now.to_le_bytes());
    pair(0, &[]);
    out
}

/// Type 3, with an NTLMv2 response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authenticate {
    pub(super) domain: String,
    pub(super) user: String,
    pub(super) workstation: String,
    /// HMAC-MD5 over the server's challenge and `blob`.
    pub(super) proof: [u8; 16],
    /// What the client added: time, its own challenge, the target info it saw.
    pub(super) blob: Vec<u8>,
}

impl Authenticate {
    /// Reads a type 3. `None` when it is not one, when anything points out of bounds, without a
    /// user (anonymous), and with an NTLMv1 response.
    pub(super) fn new(message: &[u8]) -> Option<Self> {
        const HEAD: usize = 64;
        /// Fixed part of an NTLMv2 client challenge, without any AV pair.
        const BLOB: usize = 28;
        if !is_message(message, 3) {
            return None;
        }
        let unicode = u32_at(message, 60)? & flags::UNICODE != 0;
        let text = |at| {
            let bytes = payload(message, at, HEAD)?;
            if unicode { from_utf16(bytes) } else { Some(from_oem(bytes)) }
        };
        // The LM response and the session key are not used, but must be inside all the same.
        payload(message, 12, HEAD)?;
        payload(message, 52, HEAD)?;
        let response = payload(message, 20, HEAD)?;
        let blob = response.get(16..)?;
        if blob.len() < BLOB || !blob.starts_with(&[1, 1]) {
            return None;
        }
        let this = Self {
            domain: text(28)?,
            user: text(36)?,
            workstation: text(44)?,
            proof: array_at(response, 0)?,
            blob: blob.to_vec(),
        };
        (!this.user.is_empty()).then_some(this)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Client, *};

    fn names() -> Names {
        Names {
            netbios_domain: "CONTOSO".into(),
            netbios_computer: "FE01".into(),
            dns_domain: "contoso.local".into(),
            dns_computer: "fe01.contoso.local".into(),
        }
    }

    fn authenticate() -> Vec<u8> {
        let challenge = challenge(flags::UNICODE, [7; 8], &names(), 0);
        Client::new("Zoë", "CONTOSO", "secret").authenticate(&challenge).unwrap()
    }

    #[test]
    fn a_challenge_has_its_fields_where_the_specification_says() {
        let message = challenge(flags::UNICODE | flags::VERSION, [7; 8], &names(), 0x0102);
        assert!(is_message(&message, 2));
        assert_eq!(from_utf16(payload(&message, 12, 56).unwrap()).unwrap(), "CONTOSO");
        assert_eq!(message[24..32], [7; 8]);
        assert_eq!(message[48..56], VERSION);
        let info = payload(&message, 40, 56).unwrap();
        assert_eq!(info[..4], [2, 0, 14, 0]);
        assert!(info.ends_with(&[7, 0, 8, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        let oem = challenge(flags::OEM, [7; 8], &names(), 0);
        assert_eq!(payload(&oem, 12, 56).unwrap(), b"CONTOSO");
        assert_eq!(u32_at(&oem, 20).unwrap() & (flags::UNICODE | flags::VERSION), 0);
    }

    #[test]
    fn a_type_3_gives_its_names_in_either_encoding() {
        let read = Authenticate::new(&authenticate()).unwrap();
        assert_eq!((read.domain.as_str(), read.user.as_str()), ("CONTOSO", "Zoë"));
        let mut message = Writer::new(3, 64);
        message.field(&[]);
        message.field(&[&[9; 16][..], &[1, 1], &[0; 26]].concat());
        for text in ["CONTOSO", "alice", "PC7"] {
            message.field(text.as_bytes());
        }
        message.field(&[]);
        message.bytes(&flags::OEM.to_le_bytes());
        let read = Authenticate::new(&message.finish()).unwrap();
        assert_eq!((read.user.as_str(), read.workstation.as_str()), ("alice", "PC7"));
    }

    #[test]
    fn ntlm_version_1_and_anonymous_are_refused() {
        for (response, user) in [(&[1; 24][..], "alice"), (&[], "alice"), (&[1; 60], "")] {
            let mut message = Writer::new(3, 64);
            for content in [&[][..], response, b"", user.as_bytes(), b"", b""] {
                message.field(content);
            }
            message.bytes(&flags::OEM.to_le_bytes());
            assert_eq!(Authenticate::new(&message.finish()), None, "{response:?} {user}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = negotiate(&bytes);
            let _ = Authenticate::new(&bytes);
        }

        #[test]
        fn no_change_to_a_good_message_panics(
            changes in prop::collection::vec((0usize..72, any::<u8>()), 1..6),
            cut in 0usize..400,
        ) {
            let mut message = authenticate();
            for (at, value) in changes {
                message[at] = value;
            }
            message.truncate(message.len().saturating_sub(cut));
            let _ = negotiate(&message);
            let _ = Authenticate::new(&message);
        }
    }
}
