//! Blocks of fixed keys: the `record!` macro makes the struct, its reading, its showing and its
//! documentation from one list of keys.

use std::{cell::Cell, collections::HashMap};

use serde_yaml::{Mapping, Value as Yaml};

use crate::config::{
    code,
    diagnostic::{Findings, nearest},
    node::{Entry, Node, Value},
    read::{At, List, Read, read_at, report_duplicate, wrong_type},
    source::Mark,
};

/// A key of a block, for help, schema and reference.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Unit, default and when to change it.
    pub doc: &'static str,
    /// `required`, `optional`, `default`, `section`, or `later…` while it is not available yet.
    pub kind: &'static str,
}

/// A block of fixed keys; made by the `record!` macro.
pub trait Record: Sized {
    /// All keys, in the order of the documentation.
    const KEYS: &'static [Key];

    /// Reads a form that is not a block of keys; `None`: it is not one.
    fn short(node: &Node, findings: &mut Findings) -> Option<Option<Self>>;

    /// Reads the entries of a block.
    fn from_block(block: &Block<'_>, findings: &mut Findings) -> Self;

    /// As it would stand in a file, defaults filled in.
    fn show_block(&self) -> Yaml;

    /// All defaults, for a block that is not there.
    fn defaults(mark: &Mark) -> Self {
        Self::from_block(&Block::new::<Self>(None, mark), &mut Findings::default())
    }
}

impl<R: Record> Read for R {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        if let Some(result) = R::short(node, findings) {
            return result;
        }
        let Value::Map(entries) = &node.value else {
            let keys = key_list(R::KEYS.iter().map(|key| key.name));
            wrong_type(node, "a block of keys", format!("its keys: {keys}"), findings);
            return None;
        };
        let unknown = check_keys(entries, R::KEYS, findings);
        let block = Block::new::<R>(Some(entries), &node.mark);
        // What is missing may be what the unknown key was meant to be.
        block.broken.set(unknown);
        Some(R::from_block(&block, findings))
    }

    fn show(&self) -> Yaml {
        self.show_block()
    }
}

/// The entries of one block; `None` where the block is not there.
pub struct Block<'a> {
    entries: Option<&'a [Entry]>,
    mark: &'a Mark,
    keys: &'static [Key],
    broken: Cell<bool>,
}

impl<'a> Block<'a> {
    fn new<R: Record>(entries: Option<&'a [Entry]>, mark: &'a Mark) -> Self {
        Self { entries, mark, keys: R::KEYS, broken: Cell::new(false) }
    }

    /// Whether a key that was read until now has a fault.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Where the block stands.
    pub fn mark(&self) -> &Mark {
        self.mark
    }

    fn find(&self, key: &str) -> Option<&Entry> {
        self.entries.and_then(|entries| entries.iter().find(|entry| entry.key == key))
    }

    /// Reports keys beside one that stands alone.
    pub fn alone(&self, key: &str, findings: &mut Findings) {
        if self.find(key).is_none() {
            return;
        }
        let known = |name: &str| self.keys.iter().any(|key| key.name == name);
        let others = self.entries.into_iter().flatten().filter(|other| other.key != key);
        for other in others.filter(|other| known(&other.key)) {
            let message = format!("`{}` and `{key}` exclude each other", other.key);
            findings
                .add(code::EXCLUSIVE, &other.mark, message)
                .help(format!("`{key}` stands alone; put the rest into an entry of its own"));
        }
    }

    /// A key that must be there.
    pub fn required<T: Read>(&self, key: &str, findings: &mut Findings) -> Option<At<T>> {
        // A misspelt key is a finding already; that it is missing would be a second one.
        let known = |name: &str| self.keys.iter().any(|key| key.name == name);
        let meant = |entry: &Entry| {
            entry.key == key || (!known(&entry.key) && nearest(&entry.key, [key]).is_some())
        };
        if self.entries.is_some_and(|entries| !entries.iter().any(meant)) {
            findings
                .add(code::MISSING_KEY, self.mark, format!("`{key}` is missing"))
                .help(format!("add `{key}: …` to this block"));
        }
        self.optional(key, findings)
    }

    /// A key that may be there.
    pub fn optional<T: Read>(&self, key: &str, findings: &mut Findings) -> Option<At<T>> {
        let entry = self.find(key)?;
        let repeated = |other: &&Entry| other.key == key && !std::ptr::eq(*other, entry);
        for other in self.entries.into_iter().flatten().filter(repeated) {
            // For its findings alone.
            let _: Option<At<T>> = read_at(&other.value, findings);
        }
        if matches!(entry.value.value, Value::Null) && !T::takes_nothing() {
            findings
                .add(code::EMPTY_VALUE, &entry.mark, format!("`{key}` has no value"))
                .help("give it a value or delete the line".to_string());
            self.broken.set(true);
            return None;
        }
        let value = read_at(&entry.value, findings);
        self.broken.set(self.broken.get() || value.is_none());
        value
    }

    /// A key with a default.
    pub fn or_default<T: Read>(&self, key: &str, value: T, findings: &mut Findings) -> At<T> {
        self.optional(key, findings).unwrap_or_else(|| self.implied(key, value))
    }

    /// A block inside this one, all of whose keys have defaults or may be missing.
    pub fn section<R: Record>(&self, key: &str, findings: &mut Findings) -> At<R> {
        self.optional(key, findings).unwrap_or_else(|| self.implied(key, R::defaults(self.mark)))
    }

    /// A key that is not available yet.
    pub fn later<T: Read>(&self, key: &str, findings: &mut Findings) -> Option<At<T>> {
        let found = self.optional(key, findings)?;
        self.not_available(key, format!("`{key}` is not available yet"), "remove it", findings);
        Some(found)
    }

    /// A key that only its default is available of yet.
    pub fn later_default<T: Read + PartialEq>(
        &self,
        key: &str,
        default: T,
        findings: &mut Findings,
    ) -> At<T> {
        match self.optional::<T>(key, findings) {
            Some(found) if found.value != default => {
                let default = match default.show() {
                    // On one line; JSON is YAML too.
                    list @ Yaml::Sequence(_) => serde_json::to_string(&list).unwrap_or_default(),
                    value => serde_yaml::to_string(&value).unwrap_or_default(),
                };
                let default = default.trim_end();
                let message = format!("`{key}` other than `{default}` is not available yet");
                let help = format!("remove it or write the default: `{key}: {default}`");
                self.not_available(key, message, &help, findings);
                found
            }
            Some(found) => found,
            None => self.implied(key, default),
        }
    }

    /// The default of a key that is not there or cannot be read.
    fn implied<T>(&self, key: &str, value: T) -> At<T> {
        At { fault: self.find(key).is_some(), ..At::implied(value, self.mark) }
    }

    fn not_available(&self, key: &str, message: String, help: &str, findings: &mut Findings) {
        let mark = self.find(key).map_or(self.mark, |entry| &entry.mark);
        findings.add(code::NOT_AVAILABLE, mark, message).help(help.to_string());
    }
}

/// A block as it would stand in a file, without keys that have nothing under them.
pub fn shown<const N: usize>(entries: [(&str, Option<Yaml>); N]) -> Yaml {
    let empty = |value: &Yaml| value.as_mapping().is_some_and(Mapping::is_empty);
    let entries = entries.into_iter().filter_map(|(key, value)| Some((Yaml::from(key), value?)));
    Yaml::Mapping(entries.filter(|(_, value)| !empty(value)).collect())
}

/// Reports unknown and repeated keys; whether there are unknown ones.
fn check_keys(entries: &[Entry], keys: &[Key], findings: &mut Findings) -> bool {
    let mut seen = HashMap::new();
    let mut unknown = false;
    for entry in entries {
        if !keys.iter().any(|key| key.name == entry.key) {
            let names = || keys.iter().map(|key| key.name);
            let help = match nearest(&entry.key, names()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("the keys here are: {}", key_list(names())),
            };
            findings
                .add(code::UNKNOWN_KEY, &entry.mark, format!("unknown key `{}`", entry.key))
                .help(help);
            unknown = true;
            continue;
        }
        let first = *seen.entry(entry.key.as_str()).or_insert(entry);
        if !std::ptr::eq(first, entry) {
            report_duplicate(first, entry, code::DUPLICATE_KEY, findings);
        }
    }
    unknown
}

fn key_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Defines a block of keys: the struct, how it is read, how it is shown, and its documentation.
///
/// Before each key stands what it is: `required`, `optional`, `default` (with its value),
/// `section` (a block with defaults of its own), `later` and `later_default` (not available yet;
/// set to something else than the default it is a finding).
///
/// `alone key;` before the struct names an `optional` key that no other one may stand beside.
macro_rules! record {
    (
        $(#[$meta:meta])*
        $(short $short:path;)?
        $(alone $alone:ident;)?
        pub struct $name:ident {
            $($(#[doc = $doc:literal])+ $kind:ident $field:ident: $type:ty $(= $default:expr)?,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $crate::config::record::record!(@type $kind $type),)+
            /// Whether a key of this block has a fault of its own, so that missing is no fault.
            pub broken: bool,
        }

        impl $crate::config::record::Record for $name {
            const KEYS: &'static [$crate::config::record::Key] = &[$($crate::config::record::Key {
                name: stringify!($field),
                doc: concat!($($doc, "\n"),+),
                kind: stringify!($kind),
            }),+];

            fn short(
                node: &$crate::config::node::Node,
                findings: &mut $crate::config::diagnostic::Findings,
            ) -> Option<Option<Self>> {
                $crate::config::record::record!(@short node findings $($short)?)
            }

            fn from_block(
                block: &$crate::config::record::Block<'_>,
                findings: &mut $crate::config::diagnostic::Findings,
            ) -> Self {
                $(block.alone(stringify!($alone), findings);)?
                Self {
                    $($field: $crate::config::record::record!(
                        @read $kind block (stringify!($field)) findings $($default)?
                    ),)+
                    broken: block.is_broken(),
                }
            }

            fn show_block(&self) -> serde_yaml::Value {
                $(if let Some(alone) = &self.$alone {
                    let alone = $crate::config::read::show_at(alone);
                    return $crate::config::record::shown([(stringify!($alone), Some(alone))]);
                })?
                $crate::config::record::shown([$((
                    stringify!($field),
                    $crate::config::record::record!(@show $kind self.$field),
                )),+])
            }
        }
    };

    (@short $node:ident $findings:ident $short:path) => { $short($node, $findings) };
    (@short $node:ident $findings:ident) => {{
        let _ = ($node, $findings);
        None
    }};

    (@type default $type:ty) => { $crate::config::read::At<$type> };
    (@type section $type:ty) => { $crate::config::read::At<$type> };
    (@type later_default $type:ty) => { $crate::config::read::At<$type> };
    (@type $kind:ident $type:ty) => { Option<$crate::config::read::At<$type>> };

    (@read required $block:ident $key:tt $findings:ident) => {
        $block.required($key, $findings)
    };
    (@read optional $block:ident $key:tt $findings:ident) => {
        $block.optional($key, $findings)
    };
    (@read default $block:ident $key:tt $findings:ident $default:expr) => {
        $block.or_default($key, $crate::config::record::IntoDefault::make($default, $block.mark()),
            $findings)
    };
    (@read section $block:ident $key:tt $findings:ident) => {
        $block.section($key, $findings)
    };
    (@read later $block:ident $key:tt $findings:ident) => {
        $block.later($key, $findings)
    };
    (@read later_default $block:ident $key:tt $findings:ident $default:expr) => {
        $block.later_default($key,
            $crate::config::record::IntoDefault::make($default, $block.mark()), $findings)
    };

    (@show later $value:expr) => { None };
    (@show later_default $value:expr) => { None };
    (@show default $value:expr) => { Some($crate::config::read::show_at(&$value)) };
    (@show section $value:expr) => { Some($crate::config::read::show_at(&$value)) };
    (@show $kind:ident $value:expr) => { $value.as_ref().map($crate::config::read::show_at) };
}
pub(crate) use record;

/// Turns what stands behind `=` in `record!` into the default value.
pub trait IntoDefault<T> {
    /// The value; `mark` is the block it would stand in.
    fn make(self, mark: &Mark) -> T;
}

impl<T: Read> IntoDefault<T> for T {
    fn make(self, _mark: &Mark) -> T {
        self
    }
}

impl<T, const N: usize> IntoDefault<List<T>> for [T; N] {
    fn make(self, mark: &Mark) -> List<T> {
        List::implied(self, mark)
    }
}
