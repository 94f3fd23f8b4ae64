//! Filling the model from the tree: the trait, and the shapes all values have in common.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde_yaml::Value as Yaml;

use crate::config::{
    code::{self, Code},
    diagnostic::{Findings, nearest},
    node::{Entry, Node, Scalar, Value},
    source::Mark,
};

/// Something a node can be read as, and written as again.
pub trait Read: Sized {
    /// Reads the node; `None` after a finding.
    fn read(node: &Node, findings: &mut Findings) -> Option<Self>;

    /// As it would stand in a file.
    fn show(&self) -> Yaml;

    /// Whether a key with nothing behind it (`key: ~`) is a value of this kind.
    fn takes_nothing() -> bool {
        false
    }

    /// Whether `show` itself keeps to what the file says instead of what the environment says.
    fn shows_as_written(&self) -> bool {
        false
    }
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands; for a default, the block it would stand in.
    pub mark: Mark,
    /// As written, when it came from the environment: then it must not be shown.
    pub raw: Option<Arc<str>>,
    /// Whether the file says so; a default otherwise.
    pub explicit: bool,
    /// Whether the file says something that cannot be read, which is a finding; then this is the
    /// default in its place, and nothing should be concluded from it.
    pub fault: bool,
}

impl<T> At<T> {
    /// A value that no file says.
    pub fn implied(value: T, mark: &Mark) -> Self {
        Self { value, mark: mark.clone(), raw: None, explicit: false, fault: false }
    }

    /// The place for the site.
    pub fn place(&self) -> crate::site::Place {
        self.mark.place()
    }
}

impl At<String> {
    /// The key of an entry, where it is a name of the administrator's choice.
    pub fn name(entry: &Entry) -> Self {
        Self { explicit: true, ..Self::implied(entry.key.clone(), &entry.mark) }
    }

    /// The text for messages: what the file says, never what the environment says.
    pub fn shown(&self) -> &str {
        self.raw.as_deref().unwrap_or(&self.value)
    }
}

impl<T: Read> At<T> {
    /// The value for messages: what the file says where the environment had a part in it, else
    /// the value as it was understood.
    // SECURITY: findings end up in logs and tickets, and variables carry secrets. Test:
    // `leaks::no_message_shows_what_the_environment_says`.
    pub fn told(&self) -> String {
        if let Some(raw) = &self.raw {
            return raw.to_string();
        }
        self.value.show().as_str().map_or_else(String::new, str::to_string)
    }
}

impl<T> std::ops::Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

// Equal values are equal wherever they stand: `later_default` compares with them.
impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// A list whose bad entries have been left out.
#[derive(Clone, Debug)]
pub struct List<T> {
    /// The good entries.
    pub items: Vec<At<T>>,
    /// Whether entries were left out.
    pub broken: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), broken: false }
    }
}

impl<T: PartialEq> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl<T> List<T> {
    /// A list that no file says.
    pub fn implied(values: impl IntoIterator<Item = T>, mark: &Mark) -> Self {
        let items = values.into_iter().map(|value| At::implied(value, mark)).collect();
        Self { items, broken: false }
    }

    /// Whether the file says that the list is empty (and not just that all entries are bad).
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && !self.broken
    }
}

impl<T: Read> Read for List<T> {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let Value::List(nodes) = &node.value else {
            let help = match &node.value {
                Value::Scalar(scalar) => format!("write it as a list: [{}]", scalar.shown()),
                _ => "start each entry with `- `".to_string(),
            };
            wrong_type(node, "a list", help, findings);
            return None;
        };
        let items: Vec<At<T>> = nodes.iter().filter_map(|n| read_at(n, findings)).collect();
        let broken = items.len() < nodes.len();
        Some(Self { items, broken })
    }

    fn show(&self) -> Yaml {
        Yaml::Sequence(self.items.iter().map(show_at).collect())
    }
}

/// Entries under names of the administrator's choice, in file order.
#[derive(Clone, Debug)]
pub struct Named<T> {
    /// Name and entry; every name once.
    pub items: Vec<(At<String>, At<T>)>,
    /// Names whose entries cannot be read and were left out.
    pub faulty: BTreeSet<String>,
}

impl<T: PartialEq> PartialEq for Named<T> {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            wrong_type(
                node,
                "a block of names",
                "start it like `pool01: { servers: [fe01] }`".to_string(),
                findings,
            );
            return None;
        };
        let mut named = Self { items: Vec::new(), faulty: BTreeSet::new() };
        let mut seen = HashMap::new();
        for entry in entries {
            let first = *seen.entry(entry.key.as_str()).or_insert(entry);
            let again = !std::ptr::eq(first, entry);
            if again {
                report_duplicate(first, entry, code::DUPLICATE_FARM, findings);
            }
            // The second one is read for its findings alone.
            match read_at(&entry.value, findings) {
                _ if again => {}
                Some(value) => {
                    named.items.push((At::name(entry), value));
                }
                None => {
                    named.faulty.insert(entry.key.clone());
                }
            }
        }
        Some(named)
    }

    fn show(&self) -> Yaml {
        let entries = self.items.iter();
        Yaml::Mapping(entries.map(|(k, v)| (Yaml::from(k.value.clone()), show_at(v))).collect())
    }
}

/// Reads a node and keeps its place.
pub fn read_at<T: Read>(node: &Node, findings: &mut Findings) -> Option<At<T>> {
    let value = T::read(node, findings)?;
    let raw = match &node.value {
        Value::Scalar(scalar) => scalar.raw.clone(),
        _ => None,
    };
    Some(At { value, mark: node.mark.clone(), raw, explicit: true, fault: false })
}

/// Reads a text, whose meaning had to wait, as what it turned out to be.
pub fn read_text<T: Read>(text: &At<String>, findings: &mut Findings) -> Option<At<T>> {
    let scalar = Scalar { text: text.value.clone(), raw: text.raw.clone() };
    read_at(&Node { value: Value::Scalar(scalar), mark: text.mark.clone() }, findings)
}

/// As it would stand in a file; what came from the environment goes back to its name.
// SECURITY: the environment carries secrets and the result ends up in tickets. Test:
// `load::secrets_from_the_environment_are_never_printed`.
pub fn show_at<T: Read>(at: &At<T>) -> Yaml {
    match &at.raw {
        Some(raw) if !at.value.shows_as_written() => Yaml::from(raw.to_string()),
        _ => at.value.show(),
    }
}

/// The scalar of a node; anything else is the finding that `expected` should be there.
pub fn scalar<'a>(node: &'a Node, expected: &str, findings: &mut Findings) -> Option<&'a Scalar> {
    match &node.value {
        Value::Scalar(scalar) if scalar.text.is_empty() => {
            let help = match &scalar.raw {
                Some(raw) => format!("`{raw}` is empty: set the variable"),
                None => "write a value between the quotes, or delete the line".to_string(),
            };
            findings
                .add(code::EMPTY_VALUE, &node.mark, format!("{expected} is expected here"))
                .help(help);
            None
        }
        Value::Scalar(scalar) => Some(scalar),
        _ => {
            let help = match &node.value {
                Value::List(_) => "one value only, without `[ ]` or `- `".to_string(),
                Value::Map(_) => "one value only, without keys".to_string(),
                _ => format!("write {expected}"),
            };
            wrong_type(node, expected, help, findings);
            None
        }
    }
}

/// Adds the finding that a value cannot be read as what it should be.
pub fn bad(
    node: &Node,
    code: &'static Code,
    expected: &str,
    help: impl Into<String>,
    findings: &mut Findings,
) {
    let (shown, secret) = match &node.value {
        Value::Scalar(scalar) => (scalar.shown(), scalar.raw.is_some()),
        _ => (node.kind(), false),
    };
    // The help often repeats the value.
    let help = if secret {
        "the value comes from the environment, so it is not shown".to_string()
    } else {
        help.into()
    };
    findings.add(code, &node.mark, format!("`{shown}` is not {expected}")).help(help);
}

/// Adds the finding that a node has the wrong shape; silent where one has been made already.
pub fn wrong_type(
    node: &Node,
    expected: &str,
    help: impl Into<Option<String>>,
    findings: &mut Findings,
) {
    if !matches!(node.value, Value::Broken) {
        let message = format!("{expected} is expected here, not {}", node.kind());
        let help = help.into().unwrap_or_else(|| format!("write {expected}"));
        findings.add(code::WRONG_TYPE, &node.mark, message).help(help);
    }
}

/// Reports that `entry` has the same key as `first`.
pub fn report_duplicate(
    first: &Entry,
    entry: &Entry,
    code: &'static Code,
    findings: &mut Findings,
) {
    let place = first.mark.seen_from(&entry.mark);
    let message = if code == code::DUPLICATE_FARM {
        format!("farm `{}` is already defined at {place}", entry.key)
    } else {
        format!("`{}` is already set at {place}", entry.key)
    };
    findings
        .add(code, &entry.mark, message)
        .related(&first.mark, "the first one is here")
        .help("keep one of the two".to_string());
}

/// Defines a value that is one of a few words.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The words, in order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// As it stands in a file.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::config::read::Read for $name {
            fn read(
                node: &$crate::config::node::Node,
                findings: &mut $crate::config::diagnostic::Findings,
            ) -> Option<Self> {
                let found = $crate::config::read::word(node, Self::WORDS, findings)?;
                match found { $($word => Some(Self::$variant),)+ _ => None }
            }

            fn show(&self) -> serde_yaml::Value {
                serde_yaml::Value::from(self.word())
            }
        }
    };
}
pub(crate) use choice;

/// Reads one of a few words.
pub fn word(
    node: &Node,
    words: &'static [&'static str],
    findings: &mut Findings,
) -> Option<&'static str> {
    let list = words.join(", ");
    let scalar = scalar(node, &format!("one of {list}"), findings)?;
    if let Some(found) = words.iter().copied().find(|w| *w == scalar.text) {
        return Some(found);
    }
    // Short words are near to everything.
    let long = scalar.text.chars().count() > 3 && scalar.raw.is_none();
    let help = match nearest(&scalar.text, words.iter().copied()).filter(|_| long) {
        Some(near) => format!("did you mean `{near}`? It can be: {list}"),
        None => format!("it can be: {list}"),
    };
    findings
        .add(code::UNKNOWN_VALUE, &node.mark, format!("unknown value `{}`", scalar.shown()))
        .help(help);
    None
}
