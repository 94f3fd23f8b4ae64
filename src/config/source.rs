//! Configuration files in memory, and places in them.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::site::Place;

/// One configuration file.
pub struct Source {
    /// The file as the administrator named it.
    pub name: Arc<str>,
    /// Where relative paths in it start: its directory, absolute where that could be found out.
    pub dir: PathBuf,
    /// Its text.
    pub text: String,
    /// Where each line starts, in bytes.
    starts: Vec<usize>,
}

impl Source {
    /// A file `path` with its text.
    pub fn new(path: &Path, text: String) -> Arc<Self> {
        Self::named(path, &path.display().to_string(), text)
    }

    /// The same under the name that messages use.
    pub fn named(path: &Path, name: &str, text: String) -> Arc<Self> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let dir = absolute.parent().unwrap_or(Path::new("/")).to_path_buf();
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        let starts = starts.collect();
        Arc::new(Self { name: name.into(), dir, text, starts })
    }

    /// Line `number` (from 1) without its end; empty past the last one.
    pub fn line(&self, number: usize) -> &str {
        let start = number.checked_sub(1).and_then(|index| self.starts.get(index)).copied();
        let rest = start.and_then(|start| self.text.get(start..)).unwrap_or_default();
        rest.lines().next().unwrap_or_default()
    }
}

/// A stretch of one line in a configuration file.
#[derive(Clone)]
pub struct Mark {
    /// The file.
    pub source: Arc<Source>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length in characters; never past the end of the line when shown.
    pub len: usize,
}

impl Mark {
    /// The first character of a file: for findings about the file as a whole.
    pub fn start(source: &Arc<Source>) -> Self {
        Self { source: source.clone(), line: 1, column: 1, len: 1 }
    }

    /// The place, for the site and for findings.
    pub fn place(&self) -> Place {
        Place { file: self.source.name.clone(), line: self.line, column: self.column }
    }

    /// How another finding refers to this place: the line, with the file where it is another one.
    pub fn seen_from(&self, other: &Self) -> String {
        if Arc::ptr_eq(&self.source, &other.source) {
            format!("line {}", self.line)
        } else {
            format!("{}:{}", self.source.name, self.line)
        }
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place())
    }
}
