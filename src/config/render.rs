//! Findings as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    config::{
        code::Severity,
        diagnostic::{Finding, Findings},
    },
    site::Place,
};

/// Longest piece of a source line that is shown, in characters.
const WINDOW: usize = 160;

/// Compiler style text, one block a finding, without the last line that counts them.
pub fn text(findings: &Findings, colour: bool) -> String {
    let style = Style::new(colour);
    let mut out = String::new();
    for finding in findings.iter() {
        block(&mut out, finding, &style);
        out.push('\n');
    }
    out
}

/// The last line: how many, and what follows from it.
pub fn summary(findings: &Findings, strict: bool) -> String {
    let (errors, warnings) = (findings.errors(), findings.warnings());
    let counts = match (errors, warnings) {
        (0, 0) => return "no findings: the configuration is valid".to_string(),
        (e, 0) => plural(e, "error"),
        (0, w) => plural(w, "warning"),
        (e, w) => format!("{}, {}", plural(e, "error"), plural(w, "warning")),
    };
    match (errors, strict) {
        (0, false) => format!("{counts}: the configuration is valid"),
        (0, true) => format!("{counts}: refused because of --strict"),
        _ => format!("{counts}: nothing was applied"),
    }
}

/// The same for programs.
pub fn json(findings: &Findings, strict: bool) -> Value {
    let list: Vec<Value> = findings
        .iter()
        .map(|f| {
            let related: Vec<Value> =
                f.related.iter().map(|r| placed(&r.place, &r.message)).collect();
            let mut value = placed(&f.place, &f.message);
            if let Value::Object(map) = &mut value {
                map.insert("code".into(), f.code.id.into());
                map.insert("severity".into(), f.severity().name().into());
                map.insert("length".into(), f.len.into());
                map.insert("help".into(), f.help.clone().into());
                map.insert("related".into(), related.into());
            }
            value
        })
        .collect();
    let (errors, warnings) = (findings.errors(), findings.warnings());
    let valid = errors == 0 && !(strict && warnings > 0);
    json!({ "valid": valid, "errors": errors, "warnings": warnings, "findings": list })
}

fn placed(place: &Place, message: &str) -> Value {
    json!({
        "file": &*place.file, "line": place.line, "column": place.column, "message": message,
    })
}

fn block(out: &mut String, finding: &Finding, style: &Style) {
    let (bold, blue, off) = (style.bold, style.blue, style.off);
    let (word, hue) = match finding.severity() {
        Severity::Error => ("error", style.red),
        Severity::Warning => ("warning", style.yellow),
    };
    let gutter = finding.place.line.to_string();
    let pad = " ".repeat(gutter.len());
    // Writing into a String cannot fail.
    let _ = writeln!(
        out,
        "{hue}{word}[{}]{off}{bold}: {}{off}",
        finding.code.id,
        printable(&finding.message)
    );
    let _ = writeln!(out, "{pad}{blue}-->{off} {}", printable(&finding.place.to_string()));
    if !finding.line.is_empty() {
        let (line, before, len) = window(&finding.line, finding.place.column, finding.len);
        let _ = writeln!(out, "{pad} {blue}|{off}");
        let _ = writeln!(out, "{blue}{gutter} |{off} {line}");
        let (space, caret) = (" ".repeat(before), "^".repeat(len));
        let _ = writeln!(out, "{pad} {blue}|{off} {space}{hue}{caret}{off}");
    }
    for related in &finding.related {
        let (place, message) = (related.place.to_string(), printable(&related.message));
        let _ =
            writeln!(out, "{pad} {blue}={off} {bold}see{off}: {}: {message}", printable(&place));
    }
    if let Some(help) = &finding.help {
        let _ = writeln!(out, "{pad} {blue}={off} {bold}help{off}: {}", printable(help));
    }
}

/// The part of a line to show, how many characters stand before the caret, how long that is.
fn window(line: &str, column: usize, len: usize) -> (String, usize, usize) {
    let count = line.chars().count();
    let at = column.saturating_sub(1).min(count);
    let start = if at < WINDOW { 0 } else { at - WINDOW / 4 };
    let shown: String = line.chars().skip(start).take(WINDOW).collect();
    let rest = shown.chars().count().saturating_sub(at - start);
    (printable(shown.trim_end()), at - start, len.min(rest).max(1))
}

// SECURITY: a file or an environment value could carry escape sequences that rewrite what the
// terminal shows. Every control character becomes one visible one, which also keeps the caret
// under its column. Test: `control_characters_never_reach_the_terminal`.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() || is_bidi(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

struct Style {
    red: &'static str,
    yellow: &'static str,
    blue: &'static str,
    bold: &'static str,
    off: &'static str,
}

impl Style {
    fn new(colour: bool) -> Self {
        if colour {
            Self {
                red: "\x1b[1;31m",
                yellow: "\x1b[1;33m",
                blue: "\x1b[1;34m",
                bold: "\x1b[1m",
                off: "\x1b[0m",
            }
        } else {
            Self { red: "", yellow: "", blue: "", bold: "", off: "" }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{
        code,
        source::{Mark, Source},
    };

    fn one(text: &str, column: usize, len: usize, message: &str) -> Findings {
        let source = Source::new(Path::new("a.yaml"), text.to_string());
        let mut findings = Findings::default();
        findings.add(code::SYNTAX, &Mark { source, line: 1, column, len }, message);
        findings
    }

    #[test]
    fn a_block_has_place_line_caret_and_help() {
        let mut findings = one("farm: lycn", 7, 4, "no farm");
        let mark = Mark::start(&Source::new(Path::new("b.yaml"), String::new()));
        findings.add(code::UNUSED_FARM, &mark, "unused").help("use it".to_string());
        let shown = text(&findings, false);
        assert_eq!(
            shown,
            "error[E002]: no farm\n --> a.yaml:1:7\n  |\n1 | farm: lycn\n  |       ^^^^\n\n\
             warning[W002]: unused\n --> b.yaml:1:1\n  = help: use it\n\n"
        );
        assert_eq!(summary(&findings, false), "1 error, 1 warning: nothing was applied");
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        let findings = one("x", 1, 1, "m");
        assert!(!text(&findings, false).contains('\x1b'));
        assert!(text(&findings, true).contains("\x1b[1;31merror[E002]\x1b[0m"));
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let shown = text(&one("a\t\x1b[2J\u{202e}b", 3, 1, "\x1b]0;x\x07"), false);
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()));
        assert!(!shown.contains('\u{202e}'));
    }

    #[test]
    fn long_lines_and_wild_columns_are_cut() {
        let line = "x".repeat(100_000);
        let shown = text(&one(&line, 90_000, 90_000, "m"), false);
        assert!(shown.len() < 1000, "{}", shown.len());
        assert!(text(&one("ab", 900, 900, "m"), false).contains("  |   ^\n"));
    }

    #[test]
    fn json_holds_everything() {
        let value = json(&one("farm: lycn", 7, 4, "m"), false);
        assert_eq!(value["valid"], false);
        assert_eq!(value["findings"][0]["code"], "E002");
        assert_eq!(value["findings"][0]["column"], 7);
        assert_eq!(value["findings"][0]["length"], 4);
    }
}
