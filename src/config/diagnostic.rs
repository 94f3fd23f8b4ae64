//! Findings: what is wrong with a configuration, where, and what to do about it.

use std::sync::Arc;

use crate::{
    config::{
        code::{Code, Severity},
        source::Mark,
    },
    site::Place,
};

/// One diagnostic with a place, a code and a remedy.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What kind it is; tells the severity too.
    pub code: &'static Code,
    /// Where.
    pub place: Place,
    /// How many characters of the line it concerns.
    pub len: usize,
    /// The line it is about, without its end; empty when there is none.
    pub line: Arc<str>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Other places that belong to it.
    pub related: Vec<Related>,
}

/// Another place that belongs to a finding.
#[derive(Clone, Debug)]
pub struct Related {
    /// Where.
    pub place: Place,
    /// What is there.
    pub message: String,
}

impl Finding {
    /// Adds what to do; nothing with `None`.
    pub fn help(&mut self, help: impl Into<Option<String>>) -> &mut Self {
        if let Some(help) = help.into() {
            self.help = Some(help);
        }
        self
    }

    /// Adds another place.
    pub fn related(&mut self, mark: &Mark, message: impl Into<String>) -> &mut Self {
        self.related.push(Related { place: mark.place(), message: message.into() });
        self
    }

    /// Error or warning.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// A collection of findings.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    /// Adds a finding about a place in a file.
    pub fn add(
        &mut self,
        code: &'static Code,
        mark: &Mark,
        message: impl Into<String>,
    ) -> &mut Finding {
        self.push(Finding {
            code,
            place: mark.place(),
            len: mark.len,
            line: mark.source.line(mark.line).into(),
            message: message.into(),
            help: None,
            related: Vec::new(),
        })
    }

    /// Adds a finding about a file whose text is not known.
    pub fn add_for_file(
        &mut self,
        code: &'static Code,
        file: &str,
        message: impl Into<String>,
    ) -> &mut Finding {
        self.push(Finding {
            code,
            place: Place { file: file.into(), line: 1, column: 1 },
            len: 0,
            line: "".into(),
            message: message.into(),
            help: None,
            related: Vec::new(),
        })
    }

    fn push(&mut self, finding: Finding) -> &mut Finding {
        self.list.push(finding);
        match self.list.last_mut() {
            Some(last) => last,
            None => unreachable!("pushed on the line before"),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.list.iter()
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Puts them in the order of the files and lines, and drops repetitions.
    pub fn sort(&mut self) {
        self.list.sort_by(|a, b| {
            (&a.place, a.code.id, &a.message).cmp(&(&b.place, b.code.id, &b.message))
        });
        self.list.dedup_by(|a, b| a.place == b.place && a.code == b.code && a.message == b.message);
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|f| f.severity() == severity).count()
    }
}

/// The nearest of `known` to a misspelt `word`, if any is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.chars().count().min(12) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["lync", "owas", "publish", "connect_timeout"];
        assert_eq!(nearest("lycn", known), Some("lync"));
        assert_eq!(nearest("Publish", known), Some("publish"));
        assert_eq!(nearest("conect_timeout", known), Some("connect_timeout"));
        assert_eq!(nearest("affinity", known), None);
    }
}
