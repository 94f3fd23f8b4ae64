//! Which bytes may stand where (RFC 9110 5, RFC 9112 3).

/// A token: methods, field names, connection options.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_tchar(*byte))
}

/// A character of a token. `_` is one: Exchange and SharePoint clients send such names.
pub(super) fn is_tchar(byte: u8) -> bool {
    const TCHARS: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte: u8 = 0;
        while byte < 0x80 {
            let sign = b"!#$%&'*+-.^_`|~";
            let mut at = 0;
            #[allow(clippy::indexing_slicing, reason = "checked when it is compiled")]
            while at < sign.len() {
                table[byte as usize] |= sign[at] == byte || byte.is_ascii_alphanumeric();
                at += 1;
            }
            byte += 1;
        }
        table
    };
    TCHARS.get(usize::from(byte)).copied().unwrap_or_default()
}

/// A character of a field value: anything but controls; tab is allowed. Bytes from 0x80 on pass
/// as they are, in whatever encoding the client meant.
pub(super) fn is_value_char(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

/// A whole field value. Without a way out in the middle, so that many bytes are looked at at once.
pub(super) fn is_value(text: &[u8]) -> bool {
    text.iter().fold(true, |good, byte| good & is_value_char(*byte))
}

/// A character of a request target.
///
/// COMPAT: clients of IIS send UTF-8 unescaped, and signs like `{` and `|` that a URL has no
/// place for; they pass. SECURITY: `#` does not: servers differ on whether the path ends there
/// (CVE-2023-45539). Nor do `<` and `>`, which Pingora's parser refuses. Test: targets_are_visible_and_whole
pub(super) fn is_target_char(byte: u8) -> bool {
    byte > 0x20 && !matches!(byte, 0x7f | b'#' | b'<' | b'>')
}

/// `value` without spaces and tabs around it.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
