//! The single steps by which servers tidy a path. Each gives `None` where it changes nothing.

/// Decodes every `%XX` once, and `%uXXXX` (http.sys, ASP) if `unicode`. Wrong escapes stay.
pub(super) fn decode(path: &[u8], unicode: bool) -> Option<Vec<u8>> {
    unescape(path, unicode, |_| true)
}

/// Decodes only what cannot be written otherwise in a URL: space, bytes outside ASCII and a few
/// signs (RFC 3986 2). Servers agree on these.
pub(super) fn decode_necessary(path: &[u8]) -> Vec<u8> {
    unescape(path, false, is_necessary).unwrap_or_else(|| path.to_vec())
}

/// Whether a byte cannot stand in a URL as itself; controls are no part of this.
pub(super) fn is_necessary(byte: u8) -> bool {
    byte >= 0x80 || matches!(byte, b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{'..=b'}')
}

/// Windows: `\` separates segments too.
pub(super) fn backslashes(path: &[u8]) -> Option<Vec<u8>> {
    path.contains(&b'\\')
        .then(|| path.iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect())
}

/// Characters that a careless conversion takes for ASCII: overlong UTF-8 (`%c0%af`), full-width
/// forms (`%uff0f`), other slashes, and the letters that change case into ASCII ones.
pub(super) fn lookalikes(path: &[u8]) -> Option<Vec<u8>> {
    if path.is_ascii() {
        return None;
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&lead, after)) = rest.split_first() {
        let followers = match lead {
            0xc0..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf7 => 3,
            _ => 0,
        };
        let wide = after.split_at_checked(followers).filter(|(more, _)| {
            followers > 0 && more.iter().all(|byte| (0x80..0xc0).contains(byte))
        });
        let ascii = wide.and_then(|(more, next)| {
            let start = u32::from(lead) & (0x3f >> followers);
            let code = more.iter().fold(start, |code, byte| code << 6 | u32::from(byte & 0x3f));
            ascii_lookalike(code).map(|ascii| (ascii, next))
        });
        let (byte, next) = ascii.unwrap_or((lead, after));
        out.push(byte);
        rest = next;
    }
    (out.len() != path.len()).then_some(out)
}

/// Path parameters (`;x`) and NTFS streams (`::$data`) cut off every segment.
pub(super) fn parameters(path: &[u8]) -> Option<Vec<u8>> {
    each_segment(path, |segment| {
        segment.split(|byte| matches!(byte, b';' | b':')).next().unwrap_or(segment)
    })
}

/// What a server sees that stops at a NUL, or takes a decoded `?` or `#` for the end of the path.
pub(super) fn after_end(path: &[u8]) -> Option<Vec<u8>> {
    let end = path.iter().position(|byte| matches!(byte, 0 | b'?' | b'#'))?;
    path.get(..end).map(<[u8]>::to_vec)
}

/// `//` is `/`.
pub(super) fn double_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = path.to_vec();
    out.dedup_by(|next, last| *next == b'/' && *last == b'/');
    (out.len() != path.len()).then_some(out)
}

/// Removes `.` and `..` as RFC 3986 5.2.4 does; nothing leads above the root.
pub(super) fn dot_segments(path: &[u8]) -> Option<Vec<u8>> {
    let is_dots = |segment: &[u8]| matches!(segment, b"." | b"..");
    if !path.split(|byte| *byte == b'/').any(is_dots) {
        return None;
    }
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut last_is_dots = false;
    for segment in path.split(|byte| *byte == b'/') {
        last_is_dots = is_dots(segment);
        match segment {
            b"." => {}
            b".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    if last_is_dots {
        kept.push(b"");
    }
    let mut out = Vec::with_capacity(path.len() + 1);
    for segment in kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    Some(out)
}

/// Windows: dots and spaces at the end of a name do not count.
pub(super) fn trailing_dots(path: &[u8]) -> Option<Vec<u8>> {
    each_segment(path, |segment| match without_spaces(segment) {
        dots @ (b"." | b"..") => dots,
        _ => trim_end(segment, |byte| matches!(byte, b'.' | b' ')),
    })
}

/// The same by a server that only drops spaces.
pub(super) fn trailing_spaces(path: &[u8]) -> Option<Vec<u8>> {
    each_segment(path, without_spaces)
}

/// ASP.NET's cookieless session, with its slash: `/a/(S(x))/b` is `/a/b`.
///
/// SECURITY: also inside a segment, `/pro/(S(x))tected` is `/protected` (CVE-2023-36899).
/// Test: route::reading::tests::cookieless_sessions_are_seen_through
pub(super) fn cookieless_segments(path: &[u8]) -> Option<Vec<u8>> {
    without_cookieless(path, b"/")
}

/// The same without the slash: `/a/(S(x))b` is `/a/b`.
pub(super) fn cookieless_text(path: &[u8]) -> Option<Vec<u8>> {
    without_cookieless(path, b"")
}

/// Lower case, also outside ASCII where it stays outside ASCII (the Kelvin sign is left to
/// [`lookalikes`]: not every server takes it for a `k`).
pub(super) fn lower_case(path: Vec<u8>) -> Vec<u8> {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    let mut out = Vec::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            let lower = c.to_lowercase();
            let same_side = c.is_ascii() || lower.clone().all(|lower| !lower.is_ascii());
            let mut push = |c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            if same_side { lower.for_each(push) } else { push(c) }
        }
        out.extend_from_slice(chunk.invalid());
    }
    out
}

fn unescape(path: &[u8], unicode: bool, wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut changed = false;
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            if let Some((decoded, next)) = hex(after, 2)
                && let Ok(decoded) = u8::try_from(decoded)
                && wanted(decoded)
            {
                out.push(decoded);
                (rest, changed) = (next, true);
                continue;
            }
            if let [b'u' | b'U', digits @ ..] = after
                && unicode
                && let Some((code, next)) = hex(digits, 4)
            {
                let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                (rest, changed) = (next, true);
                continue;
            }
        }
        out.push(byte);
    }
    changed.then_some(out)
}

fn hex(bytes: &[u8], digits: usize) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_at_checked(digits)?;
    let number = number.iter().try_fold(0, |number, digit| {
        char::from(*digit).to_digit(16).map(|digit| number << 4 | digit)
    })?;
    Some((number, rest))
}

fn ascii_lookalike(code: u32) -> Option<u8> {
    match code {
        0..0x80 | 0xff01..=0xff5e => u8::try_from(code % 0xfee0).ok(),
        0xa0 | 0x2000..=0x200a | 0x3000 => Some(b' '),
        0x2024 => Some(b'.'),
        0x2044 | 0x2215 | 0x29f8 => Some(b'/'),
        0x2216 | 0x29f5 | 0x29f9 | 0xfe68 => Some(b'\\'),
        0x130 | 0x131 => Some(b'i'),
        0x17f => Some(b's'),
        0x212a => Some(b'k'),
        _ => None,
    }
}

fn each_segment(path: &[u8], keep: impl Fn(&[u8]) -> &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    for (at, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if at > 0 {
            out.push(b'/');
        }
        out.extend_from_slice(keep(segment));
    }
    (out.len() != path.len()).then_some(out)
}

fn without_spaces(segment: &[u8]) -> &[u8] {
    trim_end(segment, |byte| byte == b' ')
}

fn trim_end(mut segment: &[u8], trimmed: impl Fn(u8) -> bool) -> &[u8] {
    while let Some((&last, rest)) = segment.split_last()
        && trimmed(last)
    {
        segment = rest;
    }
    segment
}

fn without_cookieless(path: &[u8], before: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        match rest.strip_prefix(before).and_then(after_cookieless) {
            Some(next) => rest = next,
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    (out.len() != path.len()).then_some(out)
}

/// What follows `(A(…)F(…))` at the start of `text`.
fn after_cookieless(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"(")?;
    loop {
        let letters = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let value = rest.get(letters..)?.strip_prefix(b"(")?;
        let end = value.iter().position(|byte| matches!(byte, b'(' | b')'))?;
        rest = value.get(end..)?.strip_prefix(b")")?;
        if letters == 0 {
            return None;
        }
        if let Some(next) = rest.strip_prefix(b")") {
            return Some(next);
        }
    }
}
