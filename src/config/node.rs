//! The tree of a YAML file, every node with its place.
//!
//! `serde-saphyr` parses; we keep all entries of a block, also those whose keys are equal, so
//! that every mistake of a file can be told in one run.

use std::sync::Arc;

use serde_saphyr::{Error, Location, budget::BudgetBreach, options::DuplicateKeyPolicy};

use crate::config::{
    code,
    diagnostic::Findings,
    raw::{Raw, RawValue},
    source::{Mark, Source},
};

/// Blocks inside blocks; the contract needs eight.
const MAX_DEPTH: usize = 48;

/// Values in one file: above what 16 MiB of publish rules hold.
const MAX_NODES: usize = 8_000_000;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where: for a scalar its text, for a list or block the key it belongs to.
    pub mark: Mark,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// Something that a finding has been made of already.
    Broken,
    /// Nothing, `~` or `null`.
    Null,
    /// Anything without structure, as written: `443`, `true`, `30m`, `meet.*`.
    Scalar(Scalar),
    /// `[a, b]` or lines with `-`.
    List(Vec<Node>),
    /// `{ a: b }` or lines with `key:`.
    Map(Vec<Entry>),
}

/// The text of a scalar.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// Its text, environment variables inserted.
    pub text: String,
    /// As written, when an environment variable was inserted: the value may be a secret and must
    /// not be shown.
    pub raw: Option<Arc<str>>,
}

impl Scalar {
    /// The text for messages: what the file says, never what the environment says.
    pub fn shown(&self) -> &str {
        self.raw.as_deref().unwrap_or(&self.text)
    }
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub mark: Mark,
    /// The value.
    pub value: Node,
}

impl Node {
    /// What a person would call it.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Broken | Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a block of keys",
        }
    }
}

/// Parses one file; `None` after a syntax error, which is then among the findings.
pub fn parse(source: &Arc<Source>, findings: &mut Findings) -> Option<Node> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 3 * MAX_NODES,
        },
    };
    match serde_saphyr::from_str_with_options::<Raw>(&source.text, options) {
        Ok(raw) => Some(convert(raw, None, source, findings)),
        Err(error) => {
            syntax_error(source, &error, findings);
            None
        }
    }
}

fn syntax_error(source: &Arc<Source>, error: &serde_saphyr::Error, findings: &mut Findings) {
    let mut mark = Mark::start(source);
    if let Some(location) = error.location().filter(|l| l.line() > 0) {
        mark.line = usize::try_from(location.line()).unwrap_or(1);
        mark.column = usize::try_from(location.column()).unwrap_or(1).max(1);
    }
    // An error at the end of the file points past the last line: show the last one instead.
    let lines = source.text.lines().count();
    if mark.line > lines && lines > 0 {
        mark.line = lines;
        mark.column = source.line(lines).chars().count() + 1;
    }
    let line = source.line(mark.line);
    let indent = line.len() - line.trim_start().len();
    if let Some((message, help)) = refusal(error.without_snippet()) {
        findings.add(code::SYNTAX, &mark, message).help(help.to_string());
        return;
    }
    let help = if line.get(..indent).is_some_and(|i| i.contains('\t')) {
        mark.column = 1 + line.chars().take_while(|c| *c != '\t').count();
        "this line is indented with a tab; YAML wants spaces (most editors: \"expand tabs\")"
    } else if line.contains(": *") || line.trim_start().starts_with("- *") {
        "a value that starts with `*` needs quotes: \"*.contoso.com\""
    } else if line.contains("${") && line.contains(['{', '[']) {
        "inside `{ }` and `[ ]`, a variable needs quotes: \"${NAME}\""
    } else {
        "check indentation, quotes and brackets here and on the line above"
    };
    let message = error.without_snippet().to_string();
    // The parser appends its own place, which is ours too.
    let message = message.split(" at line ").next().unwrap_or(&message);
    findings.add(code::SYNTAX, &mark, format!("not valid YAML: {message}")).help(help.to_string());
}

/// Message and help where the file is YAML, but not what we take.
fn refusal(error: &Error) -> Option<(&'static str, &'static str)> {
    Some(match error {
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => (
            "too many blocks inside blocks",
            "check brackets and indentation: no setting is nested that deep",
        ),
        Error::Budget {
            breach:
                BudgetBreach::Aliases { .. }
                | BudgetBreach::Anchors { .. }
                | BudgetBreach::AliasAnchorRatio { .. }
                | BudgetBreach::RecordedAnchorEvents { .. }
                | BudgetBreach::RecordedAnchorBytes { .. }
                | BudgetBreach::MergeKeys { .. },
            ..
        }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            ("the aliases (`*name`) expand to too much", "write out what they stand for")
        }
        Error::Budget { .. } => {
            ("the file is too large", "split it: further files go under `include`")
        }
        Error::AliasError { error, .. } => return refusal(error),
        Error::MultipleDocuments { .. } => (
            "a second YAML document begins here",
            "remove the line `---` or `...` above it; further files go under `include`",
        ),
        _ => return None,
    })
}

/// `alias` is the alias that is being followed.
fn convert(
    raw: Raw,
    alias: Option<Location>,
    source: &Arc<Source>,
    findings: &mut Findings,
) -> Node {
    // Two uses of one anchor stand in two places.
    let used = raw.alias.filter(|used| alias != Some(*used)).map(|used| mark(source, &used));
    let alias = raw.alias.or(alias);
    let mark = mark(source, &raw.location);
    let text = |shown: String| written(source, &raw.location).map_or(shown, str::to_string);
    let value = match raw.value {
        RawValue::Null => Value::Null,
        RawValue::Text(text) => Value::Scalar(Scalar { text, raw: None }),
        // `1.10` and `0x1F` must not come back as `1.1` and `31`.
        RawValue::Typed(shown) => Value::Scalar(Scalar { text: text(shown), raw: None }),
        RawValue::List(items) => Value::List(
            items.into_iter().map(|item| convert(item, alias, source, findings)).collect(),
        ),
        RawValue::Map(entries) => Value::Map(
            entries
                .into_iter()
                .filter_map(|(key, value)| entry(key, value, alias, source, findings))
                .collect(),
        ),
    };
    let mark = match &value {
        _ if used.is_some() => used.unwrap_or(mark),
        Value::Map(entries) => entries.first().map_or(mark, |first| first.mark.clone()),
        Value::List(_) => Mark { len: 1, ..mark },
        Value::Broken | Value::Null | Value::Scalar(_) => mark,
    };
    Node { value, mark }
}

fn entry(
    key: Raw,
    value: Raw,
    alias: Option<Location>,
    source: &Arc<Source>,
    findings: &mut Findings,
) -> Option<Entry> {
    let mut value = convert(value, alias, source, findings);
    let key = convert(key, alias, source, findings);
    let Value::Scalar(name) = key.value else {
        findings
            .add(code::WRONG_TYPE, &key.mark, "a key must be a word")
            .help("a value that starts with `{`, `[` or `? ` needs quotes".to_string());
        return None;
    };
    if !matches!(value.value, Value::Scalar(_)) {
        value.mark = key.mark.clone();
    }
    Some(Entry { key: name.text, mark: key.mark, value })
}

fn mark(source: &Arc<Source>, location: &Location) -> Mark {
    let number = |n: u64| usize::try_from(n).unwrap_or(1).max(1);
    let line = number(location.line());
    let column = number(location.column());
    // A block scalar spans lines; the caret stays on the first. Only the text itself is looked
    // at: counting the whole line for every value of a file in one line would never end.
    let first = slice(source, location).and_then(|text| text.lines().next());
    let len = match first {
        Some(first) => first.chars().count().max(1),
        None => 1,
    };
    Mark { source: source.clone(), line, column, len }
}

/// The bytes of a scalar as they stand in the file.
fn written<'a>(source: &'a Arc<Source>, location: &Location) -> Option<&'a str> {
    Some(slice(source, location)?.trim()).filter(|text| !text.is_empty())
}

fn slice<'a>(source: &'a Arc<Source>, location: &Location) -> Option<&'a str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    source.text.get(start..end)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn tree(text: &str) -> (Option<Node>, Findings) {
        let mut findings = Findings::default();
        let node = parse(&Source::new(Path::new("t.yaml"), text.to_string()), &mut findings);
        (node, findings)
    }

    fn entries(text: &str) -> Vec<Entry> {
        match tree(text).0.unwrap().value {
            Value::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    fn scalar(node: &Node) -> &str {
        match &node.value {
            Value::Scalar(scalar) => &scalar.text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scalars_keep_their_spelling_and_place() {
        let found = entries("a: 1.10\non: yes\nb: \"x y\" # note\nc: [0x1F, TRUE]\n");
        assert_eq!(scalar(&found[0].value), "1.10");
        assert_eq!((found[1].key.as_str(), scalar(&found[1].value)), ("on", "yes"));
        assert_eq!(scalar(&found[2].value), "x y");
        let mark = &found[2].value.mark;
        assert_eq!((mark.line, mark.column, mark.len), (3, 4, 5));
        let Value::List(items) = &found[3].value.value else { panic!() };
        assert_eq!((scalar(&items[0]), scalar(&items[1])), ("0x1F", "TRUE"));
    }

    #[test]
    fn equal_keys_all_survive() {
        let found = entries("a: 1\nb: {c: 1, c: 2}\na: 3\n");
        assert_eq!(found.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["a", "b", "a"]);
        assert_eq!((found[2].mark.line, found[2].mark.column, found[2].mark.len), (3, 1, 1));
        let Value::Map(inner) = &found[1].value.value else { panic!() };
        assert_eq!(inner.len(), 2);
        assert_eq!(inner[1].mark.column, 11);
    }

    #[test]
    fn anchors_and_merges_work() {
        let found = entries("a: &x {p: 1}\nb: *x\nc: {<<: *x, q: 2}\n");
        let Value::Map(b) = &found[1].value.value else { panic!() };
        assert_eq!(b[0].key, "p");
        let Value::Map(c) = &found[2].value.value else { panic!() };
        assert_eq!(c.len(), 2);
    }

    #[test]
    fn tabs_and_stars_get_their_own_help() {
        let (node, findings) = tree("a:\n\tb: 1\n");
        assert!(node.is_none());
        let finding = findings.iter().next().unwrap();
        assert_eq!((finding.place.line, finding.place.column), (2, 1));
        assert!(finding.help.as_ref().unwrap().contains("tab"), "{finding:?}");
        let (_, findings) = tree("host: *.contoso.com\n");
        let finding = findings.iter().next().unwrap();
        assert!(finding.help.as_ref().unwrap().contains("needs quotes"), "{finding:?}");
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let (node, findings) = tree(&"[".repeat(100_000));
        assert!(node.is_none() && findings.errors() == 1);
    }
}
