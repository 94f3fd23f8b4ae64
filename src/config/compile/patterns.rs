//! Regular expressions: checked, bounded, compiled once.

use regex::RegexBuilder;
use regex_syntax::ast::ErrorKind;

use crate::{
    config::{code, diagnostic::Findings, read::At},
    site::Pattern,
};

/// How large a compiled expression may be, and how large the tables that it makes while it runs:
/// room for long lists of names, none for `(\w{1000}){1000}`.
const SIZE_LIMIT: usize = 1 << 20;

/// Compiles a regular expression: any letter case, anchored nowhere, of bounded size.
///
/// SECURITY: the crate has no backtracking, so no request can make one slow. Test:
/// a_nasty_pattern_stays_linear
pub(super) fn pattern(key: &str, written: &At<String>, findings: &mut Findings) -> Option<Pattern> {
    let (message, help) = match parse(written) {
        Some(fault) => fault,
        // SECURITY: Windows does not tell `/Admin` from `/admin`; a condition that did could be
        // passed by in another letter case. Test: letter_case_of_a_path_is_no_way_around
        None if matches!(key, "path" | "url" | "host") && minds_case(written) => (
            format!("`(?-i)` is not for `{key}`"),
            "letter case makes no difference there; leave it out".to_string(),
        ),
        None => {
            let mut builder = RegexBuilder::new(written);
            // SECURITY: a decoded line end must not hide the rest from `.*`. Test:
            // nothing_in_a_text_hides_from_a_dot
            builder.case_insensitive(true).dot_matches_new_line(true);
            builder.size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT);
            match builder.build() {
                Ok(regex) => return Some(Pattern(regex)),
                Err(_) => (
                    format!("`{}` is too large once compiled", written.shown()),
                    "use fewer or smaller repetitions such as `{1,1000}`".to_string(),
                ),
            }
        }
    };
    findings.add(code::REGEX, &written.mark, message).help(help);
    None
}

/// What is wrong with the syntax, and what to do.
fn parse(written: &At<String>) -> Option<(String, String)> {
    let mut builder = regex_syntax::ParserBuilder::new();
    let error = builder.case_insensitive(true).build().parse(written).err()?;
    let (what, column, look_around) = match &error {
        regex_syntax::Error::Parse(error) => {
            let look = matches!(error.kind(), ErrorKind::UnsupportedLookAround);
            (error.kind().to_string(), error.span().start.column, look)
        }
        regex_syntax::Error::Translate(error) => {
            (error.kind().to_string(), error.span().start.column, false)
        }
        _ => ("it cannot be read".to_string(), 1, false),
    };
    // SECURITY: a value from the environment is not shown, so neither is a place in it.
    let place = match written.raw {
        None => format!(", at character {column}"),
        Some(_) => String::new(),
    };
    let message = format!("`{}` is not a regular expression: {what}{place}", written.shown());
    let help = if look_around {
        "look-ahead and look-behind are not available, they take time without bound; ask for the \
         opposite with an entry of its own, such as `{ path: ~, not: /x }`"
    } else {
        "write it in single quotes, with `\\` in front of signs that mean themselves: \
         '^/a\\.b/(.*)$'"
    };
    Some((message, help.to_string()))
}

/// Whether somewhere in it letter case is made to count: `(?-i)`, `(?s-i:…)`.
fn minds_case(pattern: &str) -> bool {
    pattern.match_indices("(?").any(|(at, start)| {
        let flags = pattern.get(at + start.len()..).unwrap_or_default();
        let flags = flags.split([':', ')']).next().unwrap_or_default();
        let (on, off) = flags.split_once('-').unwrap_or((flags, ""));
        on.bytes().all(|b| b.is_ascii_alphabetic()) && off.contains('i')
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::config::compile::conditions::tests::{codes, compiled, one};

    #[test]
    fn a_bad_expression_says_where_and_what_instead() {
        let (_, findings) = compiled("[{ path: ~, matches: \"^/a(?!b)\" }]");
        let finding = findings.iter().next().unwrap();
        assert!(finding.message.contains("look-around"), "{}", finding.message);
        assert!(finding.message.ends_with("at character 4"), "{}", finding.message);
        assert!(finding.help.as_deref().unwrap().contains("not: /x"));
    }

    #[test]
    fn letter_case_of_a_path_is_no_way_around() {
        for pattern in ["(?-i)^/Admin", "(?s-i:X)", "a(?-ix)b"] {
            assert_eq!(codes(&format!("[{{ path: ~, matches: \"{pattern}\" }}]")), ["E060"]);
            assert!(codes(&format!("[{{ header: X-A, matches: \"{pattern}\" }}]")).is_empty());
        }
        assert!(codes("[{ path: ~, matches: \"(?i)a(?:-i)\" }]").is_empty());
    }

    #[test]
    fn a_nasty_pattern_stays_linear() {
        let condition = one("[{ header: X-A, matches: \"^(a+)+(a|aa)*$\" }]");
        let text = [vec![b'a'; 100_000], b"!".to_vec()].concat();
        let begun = Instant::now();
        assert!(!condition.pattern().unwrap().is_match(&text));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn nothing_in_a_text_hides_from_a_dot() {
        for pattern in ["^/a.*c$", "^/a[^b]*c$", "^/a(.)c$"] {
            let condition = one(&format!("[{{ header: X-A, matches: '{pattern}' }}]"));
            let pattern = condition.pattern().unwrap();
            for text in
                [&b"/axc"[..], b"/a\xffc", b"/a\nc", b"/a\xe4c", "/aäc".as_bytes(), b"/a\0c"]
            {
                assert!(pattern.is_match(text), "{pattern:?} {text:?}");
            }
        }
        // What is no text is asked about as U+FFFD, so no pattern can ask for its bytes.
        assert_eq!(codes("[{ header: X-A, matches: '(?-u:\\xff)' }]"), ["E060"]);
    }
}
