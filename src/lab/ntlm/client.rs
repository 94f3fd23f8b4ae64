//! The client's side, for tests that need every message in their own hands.

use anyhow::{Context as _, Result, bail};
use boring::{base64, rand::rand_bytes};

use super::{
    Wrapping,
    messages::flags,
    proof::proof,
    spnego,
    wire::{Writer, array_at, is_message, payload, utf16},
};

const FLAGS: u32 = flags::UNICODE
    | flags::OEM
    | flags::REQUEST_TARGET
    | flags::NTLM
    | flags::ALWAYS_SIGN
    | flags::EXTENDED_SESSION_SECURITY;

/// Someone who signs in with NTLMv2.
#[derive(Clone, Debug)]
pub struct Client {
    user: String,
    domain: String,
    password: String,
}

impl Client {
    /// A client with these credentials; `domain` may be empty.
    pub fn new(user: &str, domain: &str, password: &str) -> Self {
        Self { user: user.into(), domain: domain.into(), password: password.into() }
    }

    /// The value of the first `Authorization`: type 1.
    pub fn first(&self, wrapping: Wrapping) -> String {
        let message = self.negotiate();
        let token = match wrapping {
            Wrapping::Ntlm | Wrapping::Negotiate => message,
            Wrapping::Spnego => spnego::init(&[spnego::NTLM], &message),
        };
        header(wrapping, &token)
    }

    /// The value of the second `Authorization`: type 3 in answer to the type 2 in
    /// `www_authenticate`.
    ///
    /// # Errors
    /// When there is no type 2 in it, or it came in another wrapping.
    pub fn second(&self, wrapping: Wrapping, www_authenticate: &str) -> Result<String> {
        let Some((scheme, token)) = www_authenticate.trim().split_once(' ') else {
            bail!("no challenge in {www_authenticate:?}");
        };
        if !scheme.eq_ignore_ascii_case(wrapping.scheme()) {
            bail!("challenge for another scheme: {scheme}");
        }
        let token = base64::decode_block(token)?;
        let challenge = match wrapping {
            Wrapping::Ntlm | Wrapping::Negotiate => token,
            Wrapping::Spnego => match spnego::Token::new(&token) {
                Some(spnego::Token::Response { token: Some(inner) }) => inner.to_vec(),
                _ => bail!("no SPNEGO response with a token"),
            },
        };
        let message = self.authenticate(&challenge).context("no NTLM challenge")?;
        let token = match wrapping {
            Wrapping::Ntlm | Wrapping::Negotiate => message,
            Wrapping::Spnego => spnego::response(None, None, Some(&message)),
        };
        Ok(header(wrapping, &token))
    }

    pub(super) fn negotiate(&self) -> Vec<u8> {
        let mut message = Writer::new(1, 32);
        message.bytes(&FLAGS.to_le_bytes());
        message.field(&[]);
        message.field(&[]);
        message.finish()
    }

    pub(super) fn authenticate(&self, challenge: &[u8]) -> Option<Vec<u8>> {
        if !is_message(challenge, 2) {
            return None;
        }
        let server: [u8; 8] = array_at(challenge, 24)?;
        let info = payload(challenge, 40, 48)?;
        let mut own = [0; 8];
        rand_bytes(&mut own).ok()?;
        let blob = [&[1, 1, 0, 0, 0, 0, 0, 0][..], &[0; 8], &own, &[0; 4], info, &[0; 4]].concat();
        let proof = proof((&self.user, &self.domain, &self.password), server, &blob)?;
        let mut message = Writer::new(3, 64);
        message.field(&[0; 24]);
        message.field(&[&proof[..], &blob].concat());
        message.field(&utf16(&self.domain));
        message.field(&utf16(&self.user));
        message.field(&utf16("LAB"));
        message.field(&[]);
        message.bytes(&(FLAGS & !flags::OEM | flags::TARGET_INFO).to_le_bytes());
        Some(message.finish())
    }
}

fn header(wrapping: Wrapping, token: &[u8]) -> String {
    format!("{} {}", wrapping.scheme(), base64::encode_block(token))
}
