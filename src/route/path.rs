//! Comparing paths: whole segments, without regard to letter case.

/// Whether `path` is `prefix` or lies under it, by whole segments: `/meet` covers `/meet` and
/// `/Meet/x`, not `/meeting`. An empty prefix or `/` covers everything.
pub fn under(path: &[u8], prefix: &[u8]) -> bool {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    path.split_at_checked(prefix.len()).is_some_and(|(head, rest)| {
        head.eq_ignore_ascii_case(prefix) && matches!(rest.first(), None | Some(b'/'))
    })
}

/// Whether `path` is covered by an entry of a path list: `/x` is a prefix, `=/x` exact.
pub fn listed(path: &[u8], entry: &str) -> bool {
    match entry.strip_prefix('=') {
        Some(exact) => path.eq_ignore_ascii_case(exact.as_bytes()),
        None => under(path, entry.as_bytes()),
    }
}

/// Whether the farm's `deny_paths` keep `path` from being published by a rule with this
/// `allow_denied`. The longer entry wins, the permission among equals: `allow_denied: [/ecp]`
/// opens `/ecp`, and a further `deny_paths: [/ecp/secret]` stays shut.
pub fn denied<'a>(
    path: &[u8],
    deny: impl IntoIterator<Item = &'a str>,
    allow: impl IntoIterator<Item = &'a str>,
) -> bool {
    match longest(path, deny) {
        None => false,
        Some(denied) => longest(path, allow).is_none_or(|allowed| allowed < denied),
    }
}

fn longest<'a>(path: &[u8], entries: impl IntoIterator<Item = &'a str>) -> Option<usize> {
    let weight = |entry: &str| entry.trim_start_matches('=').trim_end_matches('/').len();
    entries.into_iter().filter(|entry| listed(path, entry)).map(weight).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_whole_segments_without_case() {
        for prefix in ["/meet", "/meet/"] {
            assert!(under(b"/meet", prefix.as_bytes()));
            assert!(under(b"/MEET/x", prefix.as_bytes()));
            assert!(!under(b"/meeting", prefix.as_bytes()));
            assert!(!under(b"/mee", prefix.as_bytes()));
        }
        assert!(under(b"/x", b"/"));
        assert!(under(b"/", b""));
    }

    #[test]
    fn exact_entries_cover_one_path() {
        assert!(listed(b"/", "=/"));
        assert!(!listed(b"/x", "=/"));
        assert!(listed(b"/Autodiscover/x", "/autodiscover"));
        assert!(!listed(b"/autodiscover/x", "=/autodiscover"));
    }

    #[test]
    fn the_longer_of_deny_and_allow_wins() {
        let deny = ["/ecp", "/ecp/secret"];
        assert!(denied(b"/ecp/x", deny, []));
        assert!(!denied(b"/ecp/x", deny, ["/ecp"]));
        assert!(denied(b"/ecp/secret/x", deny, ["/ecp"]));
        assert!(!denied(b"/ecp/secret", deny, ["/ecp/secret"]));
        assert!(denied(b"/ecp/x", deny, ["/ecp/y"]));
        assert!(!denied(b"/owa", deny, []));
    }
}
