//! Comparing paths: whole segments, without regard to letter case.

use super::PathPattern;

/// Whether `path` is `prefix` or lies under it, by whole segments: `/meet` covers `/meet` and
/// `/Meet/x`, not `/meeting`. An empty prefix or `/` covers everything.
pub fn under(path: &[u8], prefix: &[u8]) -> bool {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    path.split_at_checked(prefix.len()).is_some_and(|(head, rest)| {
        head.eq_ignore_ascii_case(prefix) && matches!(rest.first(), None | Some(b'/'))
    })
}

/// Whether a path pattern takes `path`.
pub fn takes(pattern: &PathPattern, path: &[u8]) -> bool {
    match pattern {
        PathPattern::Any => true,
        PathPattern::Prefix(prefix) => under(path, prefix.as_bytes()),
        PathPattern::Exact(exact) => path.eq_ignore_ascii_case(exact.as_bytes()),
    }
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

/// Whether a rule with this path publishes any path at all, see [`denied`].
pub fn publishes<'a>(
    pattern: &PathPattern,
    deny: impl IntoIterator<Item = &'a str> + Clone,
    allow: impl IntoIterator<Item = &'a str> + Clone,
) -> bool {
    let open = |path: &str| !denied(path.as_bytes(), deny.clone(), allow.clone());
    match pattern {
        // `deny_paths` never hold the root, so something is always left.
        PathPattern::Any => true,
        PathPattern::Exact(path) => open(path),
        PathPattern::Prefix(prefix) => {
            let below = |path: &&str| under(path.as_bytes(), prefix.as_bytes());
            open(prefix) || allow.clone().into_iter().filter(below).any(open)
        }
    }
}

/// Whether a rule with this path and an entry of a path list have a path in common.
pub fn meets(pattern: &PathPattern, entry: &str) -> bool {
    match pattern {
        PathPattern::Any => true,
        PathPattern::Exact(path) => listed(path.as_bytes(), entry),
        PathPattern::Prefix(prefix) => {
            let start = entry.strip_prefix('=').unwrap_or(entry);
            under(start.as_bytes(), prefix.as_bytes()) || listed(prefix.as_bytes(), entry)
        }
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

    #[test]
    fn a_rule_publishes_what_an_exception_under_it_opens() {
        let publishes = |pattern: &PathPattern, allow: &[&'static str]| {
            publishes(pattern, ["/admin", "/ecp"], allow.iter().copied())
        };
        let prefix = |path: &str| PathPattern::Prefix(path.into());
        assert!(!publishes(&prefix("/admin/help"), &[]));
        assert!(publishes(&prefix("/admin/help"), &["/admin/help"]));
        assert!(publishes(&prefix("/admin"), &["/admin/help"]));
        assert!(!publishes(&PathPattern::Exact("/admin".into()), &["/admin/help"]));
        assert!(!publishes(&prefix("/admin"), &["/ecp"]));
        assert!(publishes(&prefix("/owa"), &[]) && publishes(&PathPattern::Any, &[]));
    }

    #[test]
    fn patterns_meet_entries_above_and_below() {
        let prefix = |path: &str| PathPattern::Prefix(path.into());
        assert!(meets(&prefix("/a"), "/a/b") && meets(&prefix("/a/b"), "/a"));
        assert!(meets(&prefix("/a"), "=/a/b") && !meets(&prefix("/a/b"), "=/a"));
        assert!(!meets(&prefix("/meet"), "=/") && meets(&PathPattern::Any, "=/"));
        assert!(meets(&PathPattern::Exact("/".into()), "=/"));
        assert!(!meets(&PathPattern::Exact("/x".into()), "=/"));
    }
}
