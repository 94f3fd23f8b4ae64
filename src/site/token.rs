//! The token that changes need.

use std::{fmt, sync::Arc};

use boring::{memcmp, sha::sha256};

/// What whoever changes something has to know. It is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// Name of the file in the state directory in which commands find the token that Frontgate
    /// made.
    pub const FILE: &str = "admin.token";
    /// The least number of characters.
    pub const SHORTEST: usize = 16;
    /// The most.
    pub const LONGEST: usize = 1024;

    /// From the text of a file, whose first line counts: 16 to 1024 visible ASCII characters.
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next().unwrap_or_default().trim();
        let long = (Self::SHORTEST..=Self::LONGEST).contains(&line.len());
        (long && line.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(line.into()))
    }

    /// To be sent, or written into a file.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether somebody knows it.
    // SECURITY: neither the time that takes, nor that of a wrong length, says how near a guess
    // is. Test: only_the_token_itself_matches
    pub fn matches(&self, presented: &[u8]) -> bool {
        memcmp::eq(&sha256(presented), &sha256(self.0.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_token() {
        let token = Token::parse("  0123456789abcdef \r\nsecond line\n").unwrap();
        assert_eq!(token.reveal(), "0123456789abcdef");
        for wrong in
            ["", "\n0123456789abcdef", "0123456789abcde", "0123456789 abcdef", "0123456789äbcdef"]
        {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Token::parse(&"x".repeat(1025)), None);
    }

    #[test]
    fn only_the_token_itself_matches() {
        let token = Token::parse("0123456789abcdef").unwrap();
        assert!(token.matches(b"0123456789abcdef"));
        for wrong in [&b""[..], b"0123456789abcdeF", b"0123456789abcde", b"0123456789abcdef0"] {
            assert!(!token.matches(wrong));
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
