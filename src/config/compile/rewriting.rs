//! New paths and queries: what they may be, and where captures cannot lead out of.

use std::sync::Arc;

use crate::{
    config::{
        code,
        compile::{
            arc,
            templates::{DOUBLED, Kind, Scope, doubled, template},
        },
        diagnostic::Findings,
        model::publish,
        read::At,
        template::outline,
    },
    site::{Part, Rewrite, Template},
};

/// Changes to path and query.
pub(super) fn rewrite(
    written: &At<publish::Rewrite>,
    scope: Scope,
    findings: &mut Findings,
) -> Option<Rewrite> {
    if written.path.is_none() && written.query.is_none() && !written.broken {
        findings
            .add(code::NOTHING_THERE, &written.mark, "`rewrite` changes nothing")
            .help("add `path` or `query`, or remove it".to_string());
    }
    let path = match &written.path {
        None => None,
        Some(at) => {
            let made = template(at, at.shown(), &at.mark, Kind::Path, scope, findings)?;
            let fault = path_fault(&made, &outline(at));
            if let Some(help) = fault.or(doubled(&made).then_some(DOUBLED)) {
                let message = format!("`{}` is not a path", at.shown());
                findings.add(code::TEMPLATE, &at.mark, message).help(help.to_string());
                return None;
            }
            Some(made)
        }
    };
    let query = match &written.query {
        None => None,
        Some(at) => {
            let text = &at.value.0;
            let shown = at.raw.as_deref().unwrap_or(text);
            let made = template(text, shown, &at.mark, Kind::Query, scope, findings)?;
            let plain = outline(text)
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&b));
            if !plain || text.starts_with('?') {
                findings
                    .add(code::TEMPLATE, &at.mark, format!("`{shown}` is not a query"))
                    .help("it stands without `?` and is percent-encoded: `a=b&c=%20`".to_string());
                return None;
            }
            Some(made)
        }
    };
    let within = path.as_ref().map_or_else(|| arc(""), within);
    Some(Rewrite { path, within, query })
}

fn path_fault(made: &Template, outline: &str) -> Option<&'static str> {
    let start = made.parts.first();
    let rooted = match start {
        Some(Part::Text(text)) => text.starts_with('/'),
        Some(part) => *part == Part::Path,
        None => false,
    };
    let signs = outline.chars().any(|c| c.is_control() || "?#;:\\\"<>^`{|}".contains(c));
    Some(if !rooted {
        "a path starts with `/`, or with `{URL}`"
    } else if outline.contains('%') {
        "write it decoded, without `%`"
    } else if outline.contains("//") {
        "write single slashes; `{R:1}` and `{R:0}` have none in front"
    } else if outline.split('/').any(|s| matches!(s, "." | "..")) {
        "write the path without `.` and `..`"
    } else if outline.split('/').any(|s| s.ends_with(['.', ' '])) {
        // Windows drops them, so the path would have a second reading.
        "leave out dots and spaces at the end of a segment"
    } else if signs {
        "these signs have no place in a path; a query goes under `query`"
    } else {
        return None;
    })
}

/// The fixed start, with the slash that `{URL}` brings.
///
/// SECURITY: `/owa{URL}` names a directory as much as `/owa/{R:1}` does. Test:
/// no_capture_reaches_a_denied_path
fn within(path: &Template) -> Arc<str> {
    match path.parts.as_slice() {
        [Part::Text(text), Part::Path, ..] => arc(&format!("{}/", text.to_lowercase())),
        [Part::Text(text), ..] => arc(&text.to_lowercase()),
        _ => arc(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile::templates::tests::{at, scope};

    fn rewrite_of(path: Option<&str>, query: Option<&str>) -> Option<Rewrite> {
        let mut findings = Findings::default();
        let written = publish::Rewrite {
            path: path.map(|text| at(text.to_string())),
            query: query.map(|text| at(publish::QueryText(text.to_string()))),
            broken: false,
        };
        let made = rewrite(&at(written), scope(None), &mut findings);
        assert_eq!(made.is_none(), findings.errors() > 0, "{path:?} {query:?}");
        made
    }

    #[test]
    fn a_rewritten_path_is_rooted_and_knows_its_directory() {
        let within = |path: &str| rewrite_of(Some(path), None).map(|made| made.within.to_string());
        assert_eq!(within("/App/v2/{R:1}").as_deref(), Some("/app/v2/"));
        assert_eq!(within("/App/v2-{R:1}/x").as_deref(), Some("/app/v2-"));
        assert_eq!(within("/App{URL}").as_deref(), Some("/app/"));
        assert_eq!(within("/{R:1}").as_deref(), Some("/"));
        assert_eq!(within("{URL}/x").as_deref(), Some(""));
        for bad in ["x", "{R:1}", "/a?b", "/a#", "/a//b", "/a/../{R:1}", "/%61", "/a\\b", "/{a}"] {
            assert_eq!(within(bad), None, "{bad}");
        }
        for bad in ["/{QUERY_STRING}", "/x{REQUEST_URI}", "/{URL}", "/a/{URL}", "/a{R:1}/{URL}"] {
            assert_eq!(within(bad), None, "{bad}");
        }
        assert!(rewrite_of(None, Some("")).unwrap().query.unwrap().parts.is_empty());
        for bad in ["?a", "a#b", "a b", "{REQUEST_URI}"] {
            assert_eq!(rewrite_of(None, Some(bad)), None, "{bad}");
        }
    }
}
