//! The NTLMv2 proof of [MS-NLMP] section 3.3.2. MD4 and MD5 are what the protocol has.

use boring::{
    error::ErrorStack,
    hash::{MessageDigest, hash},
    hmac::Hmac,
    memcmp,
    nid::Nid,
};

use super::{messages::Authenticate, wire::utf16};

/// The key that user and password give.
fn key(user: &str, domain: &str, password: &str) -> Option<Vec<u8>> {
    let nt_hash = hash(MessageDigest::from_nid(Nid::MD4)?, &utf16(password)).ok()?;
    hmac_md5(&nt_hash, &[&utf16(&upper(user)), &utf16(domain)]).ok()
}

/// What shows that the client knows the password: over the server's challenge and the client's
/// blob.
pub(super) fn proof(
    (user, domain, password): (&str, &str, &str),
    challenge: [u8; 8],
    blob: &[u8],
) -> Option<[u8; 16]> {
    let key = key(user, domain, password)?;
    hmac_md5(&key, &[&challenge, blob]).ok()?.try_into().ok()
}

/// Whether `message` answers `challenge` with this password.
pub(super) fn holds(message: &Authenticate, password: &str, challenge: [u8; 8]) -> bool {
    let who = (message.user.as_str(), message.domain.as_str(), password);
    proof(who, challenge, &message.blob)
        .is_some_and(|expected| memcmp::eq(&expected, &message.proof))
}

/// Upper case as Windows has it: one character stays one character.
fn upper(text: &str) -> String {
    let one = |c: char| {
        let mut upper = c.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(upper), None) => upper,
            _ => c,
        }
    };
    text.chars().map(one).collect()
}

fn hmac_md5(key: &[u8], pieces: &[&[u8]]) -> Result<Vec<u8>, ErrorStack> {
    let mut hmac = Hmac::init(key, &MessageDigest::md5())?;
    for piece in pieces {
        hmac.update(piece)?;
    }
    hmac.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    /// The example of [MS-NLMP] section 4.2.4: User, Domain, Password.
    #[test]
    fn the_example_of_the_specification_comes_out() {
        let key = key("User", "Domain", "Password").unwrap();
        assert_eq!(key, hex("0c 86 8a 40 3b fd 7a 93 a3 00 1e f2 2e f0 2e 3f"));
        let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
        blob.extend([0; 8]);
        blob.extend([0xaa; 8]);
        blob.extend([0; 4]);
        blob.extend([2, 0, 12, 0]);
        blob.extend(utf16("Domain"));
        blob.extend([1, 0, 12, 0]);
        blob.extend(utf16("Server"));
        blob.extend([0; 4]);
        blob.extend([0; 4]);
        let challenge = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        let proof = proof(("User", "Domain", "Password"), challenge, &blob).unwrap();
        assert_eq!(proof[..], hex("68 cd 0a b8 51 e5 1c 96 aa bc 92 7b eb ef 6a 1c"));
    }

    #[test]
    fn names_are_compared_in_upper_case_of_the_same_length() {
        assert_eq!(upper("Zoë ß1"), "ZOË ß1");
    }
}
