//! Reading and writing the little-endian pieces that messages consist of. No bytes make a reader
//! panic: what is out of bounds is `None`.

/// What every message begins with.
pub(super) const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";

pub(super) fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    array_at(message, at).map(u16::from_le_bytes)
}

pub(super) fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    array_at(message, at).map(u32::from_le_bytes)
}

pub(super) fn array_at<const N: usize>(message: &[u8], at: usize) -> Option<[u8; N]> {
    message.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Whether `message` is an NTLM message of this type.
pub(super) fn is_message(message: &[u8], message_type: u32) -> bool {
    message.starts_with(SIGNATURE) && u32_at(message, 8) == Some(message_type)
}

/// The payload that the fields (length, maximum, offset) at `at` point to. It may not reach
/// into the first `head` bytes, where the fixed part is.
pub(super) fn payload(message: &[u8], at: usize, head: usize) -> Option<&[u8]> {
    let length = usize::from(u16_at(message, at)?);
    let offset = usize::try_from(u32_at(message, at.checked_add(4)?)?).ok()?;
    if length == 0 {
        return Some(&[]);
    }
    if offset < head {
        return None;
    }
    message.get(offset..offset.checked_add(length)?)
}

/// A message whose payloads follow its fixed part of `head` bytes.
pub(super) struct Writer {
    fixed: Vec<u8>,
    payload: Vec<u8>,
    head: usize,
}

impl Writer {
    pub(super) fn new(message_type: u32, head: usize) -> Self {
        let mut writer = Self { fixed: SIGNATURE.to_vec(), payload: Vec::new(), head };
        writer.bytes(&message_type.to_le_bytes());
        writer
    }

    /// Appends to the fixed part.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.fixed.extend_from_slice(bytes);
    }

    /// Appends fields that point to `content`, which becomes the next payload.
    pub(super) fn field(&mut self, content: &[u8]) {
        let content = content.get(..usize::from(u16::MAX)).unwrap_or(content);
        let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
        let offset = u32::try_from(self.head + self.payload.len()).unwrap_or(u32::MAX);
        self.bytes(&length.to_le_bytes());
        self.bytes(&length.to_le_bytes());
        self.bytes(&offset.to_le_bytes());
        self.payload.extend_from_slice(content);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        debug_assert_eq!(self.fixed.len(), self.head);
        self.fixed.append(&mut self.payload);
        self.fixed
    }
}

pub(super) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// UTF-16LE that is well-formed and of even length.
pub(super) fn from_utf16(bytes: &[u8]) -> Option<String> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return None };
    let units: Vec<u16> = pairs.iter().copied().map(u16::from_le_bytes).collect();
    String::from_utf16(&units).ok()
}

/// A string in the client's code page, of which only ASCII is certain; the rest is read as
/// Latin-1, as curl hashes it.
pub(super) fn from_oem(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
