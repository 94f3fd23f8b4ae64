//! From a path to one tree: reads the file and everything it includes.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    str,
};

use glob::{MatchOptions, Pattern};

use crate::config::{
    code,
    diagnostic::Findings,
    environment::Environment,
    files::{Files, reason},
    node::{self, Entry, Node, Value},
    source::{Mark, Source},
};

/// What included files add to, instead of colliding with it.
const ADDING: &[&str] =
    &["certificates", "domains", "farms", "listeners", "publish", "trusted_proxies"];

/// Files in a configuration; far above what anyone keeps apart.
const MAX_FILES: usize = 1000;

/// Reads a configuration with all it includes; `None` when the first file has no readable tree.
pub fn load(
    path: &Path,
    files: &mut Files,
    environment: &mut Environment<'_>,
    findings: &mut Findings,
) -> Option<Node> {
    let mut loader = Loader { files, environment, findings, seen: Vec::new() };
    loader.file(path, None)
}

struct Loader<'a, 'e> {
    files: &'a mut Files,
    environment: &'a mut Environment<'e>,
    findings: &'a mut Findings,
    /// Canonical paths, against circles and double inclusion.
    seen: Vec<PathBuf>,
}

impl Loader<'_, '_> {
    /// `included`: how messages call a file that an `include` names.
    fn file(&mut self, path: &Path, included: Option<&str>) -> Option<Node> {
        self.seen.push(canonical(path));
        let name = included.map_or_else(|| path.display().to_string(), str::to_string);
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let bytes = match self.files.read(&absolute) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("cannot read the file: {}", reason(&error));
                let help = match (error.kind(), included) {
                    (ErrorKind::FileTooLarge, _) => {
                        "split it: further files go under `include`".to_string()
                    }
                    (ErrorKind::InvalidInput, _) => {
                        "pipes and devices cannot be read again by a reload; use a file".to_string()
                    }
                    (_, Some(_)) => {
                        "an `include` names it; the user that Frontgate runs as must be able to \
                         read it"
                            .to_string()
                    }
                    (_, None) => "name another one with --config or FRONTGATE_CONFIG".to_string(),
                };
                self.findings.add_for_file(code::FILE_UNREADABLE, &name, message).help(help);
                return None;
            }
        };
        let wide = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        // Without a mark at its start, UTF-16 shows by a zero beside the first letter.
        if wide || bytes.iter().take(2).any(|byte| *byte == 0) {
            self.findings
                .add_for_file(code::FILE_UNREADABLE, &name, "the file is UTF-16, not UTF-8 text")
                .help("save it as UTF-8".to_string());
            return None;
        }
        let text = match str::from_utf8(&bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).to_string(),
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let last = good.rsplit(|b| *b == b'\n').next().unwrap_or_default();
                let mark = Mark {
                    source: Source::named(path, &name, text),
                    line: 1 + good.iter().filter(|b| **b == b'\n').count(),
                    column: 1 + String::from_utf8_lossy(last).chars().count(),
                    len: 1,
                };
                self.findings
                    .add(code::FILE_UNREADABLE, &mark, "the file is not UTF-8 text")
                    .help("save it as UTF-8".to_string());
                return None;
            }
        };
        let source = Source::named(path, &name, text);
        let mut root = node::parse(&source, self.findings)?;
        self.environment.insert(&mut root, self.findings);
        let mut entries = match root.value {
            Value::Map(entries) => entries,
            Value::Null => Vec::new(),
            _ => {
                let message = format!("a block of keys is expected here, not {}", root.kind());
                self.findings
                    .add(code::WRONG_TYPE, &root.mark, message)
                    .help("it starts like `listeners:` at the beginning of a line".to_string());
                return None;
            }
        };
        for pattern in patterns(&entries) {
            for included in self.matches(path, &pattern) {
                let called = called(path, &pattern, &included);
                if let Some(node) = self.file(&included, Some(&called)) {
                    merge(&mut entries, node);
                }
            }
        }
        Some(Node { value: Value::Map(entries), mark: Mark::start(&source) })
    }

    /// The files a pattern stands for, sorted; findings about those that cannot be.
    fn matches(&mut self, from: &Path, pattern: &(String, Mark, String)) -> Vec<PathBuf> {
        let (text, mark, shown) = pattern;
        let base = from.parent().filter(|dir| !dir.as_os_str().is_empty());
        let full = match base {
            Some(dir) if !Path::new(text).is_absolute() => {
                format!("{}/{text}", Pattern::escape(&dir.display().to_string()))
            }
            _ => text.clone(),
        };
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let found: Vec<PathBuf> = match glob::glob_with(&full, options) {
            Ok(paths) => paths.filter_map(Result::ok).filter(|path| !path.is_dir()).collect(),
            Err(error) => {
                let message = format!("`{shown}` is not a file pattern: {}", error.msg);
                self.findings
                    .add(code::INCLUDE, mark, message)
                    .help("`*` stands for any characters in one name: `conf.d/*.yaml`".to_string());
                return Vec::new();
            }
        };
        let wild = |part: &str| part.contains(['*', '?', '[']);
        let fixed: PathBuf = Path::new(text)
            .components()
            .take_while(|part| !wild(&part.as_os_str().to_string_lossy()))
            .collect();
        let below = mark.source.dir.join(&fixed);
        if !wild(text) {
            if found.is_empty() {
                // Remembered as missing: making it is a change.
                let _ = self.files.read(&below);
                self.findings
                    .add(code::INCLUDE, mark, format!("there is no file `{shown}`"))
                    .help("the path is relative to this file".to_string());
            }
        } else {
            self.files.watch_directory(below);
            if found.is_empty() {
                let message = format!("`{shown}` matches no file");
                self.findings
                    .add(code::NOTHING_INCLUDED, mark, message)
                    .help("check its spelling; the path is relative to this file".to_string());
            }
        }
        found
            .into_iter()
            .filter(|path| self.is_new(path, &called(from, pattern, path), mark))
            .collect()
    }

    fn is_new(&mut self, path: &Path, called: &str, mark: &Mark) -> bool {
        let fault = if self.seen.contains(&canonical(path)) {
            "is included a second time"
        } else if self.seen.len() >= MAX_FILES {
            "is one file too many"
        } else {
            return true;
        };
        let message = format!("`{called}` {fault}");
        self.findings
            .add(code::INCLUDE, mark, message)
            .help("each file may be included once, by one pattern".to_string());
        false
    }
}

/// How messages call an included file: by its path, or as the pattern is written where the
/// environment had a part in it.
// SECURITY: see `At::told`; every finding shows the name of its file.
fn called(base: &Path, pattern: &(String, Mark, String), path: &Path) -> String {
    let (text, _, shown) = pattern;
    if text == shown {
        return path.display().to_string();
    }
    let base = base.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(""));
    let full = if Path::new(text).is_absolute() { shown.into() } else { base.join(shown) };
    let name = shown.rsplit('/').next().unwrap_or(shown);
    match path.file_name() {
        Some(file) if name.contains('*') && !name.contains("${") => full.with_file_name(file),
        _ => full,
    }
    .display()
    .to_string()
}

/// The `include` patterns of a file with their places, and as they may be shown.
fn patterns(entries: &[Entry]) -> Vec<(String, Mark, String)> {
    let include = entries.iter().find(|entry| entry.key == "include");
    let Some(Value::List(items)) = include.map(|entry| &entry.value.value) else {
        // Any other shape is told when the model reads the key.
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| match &item.value {
            Value::Scalar(s) => Some((s.text.clone(), item.mark.clone(), s.shown().to_string())),
            _ => None,
        })
        .collect()
}

/// Adds what an included file says: lists append, farms add up, anything else may not be there
/// twice, which the model tells when it finds two entries of one key.
fn merge(entries: &mut Vec<Entry>, included: Node) {
    let Value::Map(added) = included.value else { return };
    let mut fresh: Vec<String> = Vec::new();
    for entry in added {
        if entry.key == "include" {
            continue;
        }
        let repeated = fresh.contains(&entry.key);
        fresh.push(entry.key.clone());
        let known = entries.iter_mut().find(|other| other.key == entry.key);
        match known {
            Some(known) if ADDING.contains(&entry.key.as_str()) && !repeated => {
                match (&mut known.value.value, entry.value.value) {
                    (Value::List(all), Value::List(more)) => all.extend(more),
                    (Value::Map(all), Value::Map(more)) => all.extend(more),
                    (_, value) => entries
                        .push(Entry { value: Node { value, mark: entry.value.mark }, ..entry }),
                }
            }
            _ => entries.push(entry),
        }
    }
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}
