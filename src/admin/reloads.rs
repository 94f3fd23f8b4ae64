//! The last reload: when, what came of it, what changed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwapOption;
use serde::Serialize;
use serde_json::Value;

use super::view;
use crate::{
    config::{diagnostic::Findings, render},
    site::{Action, Certificate, Farm, FarmId, Place, Rule, Site},
};

/// Names of one kind that are told; the counts are always whole.
const NAMES: usize = 20;

/// The last start or reload.
#[derive(Clone, Debug, Serialize)]
pub struct Reload {
    /// When it ended; RFC 3339, UTC.
    pub at: String,
    /// What it was for: `start`, `SIGHUP`, `a file changed` …
    pub asked: String,
    /// `applied`; `unchanged`: there was nothing to do; `refused`: the old site goes on serving.
    pub result: &'static str,
    /// Why it was refused, apart from findings.
    pub error: Option<String>,
    /// Findings with their places, as `frontgate check --json` tells them.
    pub findings: Value,
    /// The same for people, source lines included.
    pub text: String,
    /// What changed; empty where nothing was applied.
    pub changes: Vec<Changes>,
    /// Keys whose change waits for the next start.
    pub needs_restart: Vec<String>,
}

/// What changed of one kind of thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// `listeners`, `certificates`, `farms` or `rules`.
    pub what: &'static str,
    /// How many are new.
    pub added: usize,
    /// How many are gone.
    pub removed: usize,
    /// How many are not what they were.
    pub changed: usize,
    /// The first of their names, with `+`, `-` or `~` before each.
    pub names: Vec<String>,
}

impl Reload {
    /// Something was tried, with these findings; that it changed nothing is said until
    /// [`Reload::applied`] or [`Reload::refused`].
    pub fn new(asked: &str, findings: &Findings) -> Self {
        Self {
            at: view::time(SystemTime::now()),
            asked: asked.to_owned(),
            result: "unchanged",
            error: None,
            findings: render::json(findings, false),
            text: render::text(findings, false),
            changes: Vec::new(),
            needs_restart: Vec::new(),
        }
    }

    /// The new site serves. Without an old one nothing is compared.
    pub fn applied(mut self, old: Option<&Site>, new: &Site) -> Self {
        self.result = "applied";
        self.changes = old.map(|old| changes(old, new)).unwrap_or_default();
        self
    }

    /// The old site goes on serving.
    pub fn refused(mut self, error: Option<String>) -> Self {
        self.result = "refused";
        self.error = error;
        self
    }
}

/// Where the last one is kept.
#[derive(Debug, Default)]
pub(super) struct Reloads(ArcSwapOption<Reload>);

impl Reloads {
    pub(super) fn keep(&self, reload: Reload) {
        self.0.store(Some(Arc::new(reload)));
    }

    pub(super) fn last(&self) -> Option<Arc<Reload>> {
        self.0.load_full()
    }
}

/// What is different, kinds without differences left out. Where something is configured does not
/// count: a line more at the top changes nothing.
fn changes(old: &Site, new: &Site) -> Vec<Changes> {
    let all = [
        compare(
            "listeners",
            &old.listeners,
            &new.listeners,
            |it| it.name.to_string(),
            |a, b| a == b,
        ),
        compare(
            "certificates",
            &old.certificates,
            &new.certificates,
            certificate,
            same_certificate,
        ),
        compare("farms", &old.farms, &new.farms, |it| it.name.to_string(), same_farm),
        compare("rules", &old.rules, &new.rules, rule, |a, b| same_rule((old, a), (new, b))),
    ];
    all.into_iter().filter(|it| it.added + it.removed + it.changed > 0).collect()
}

fn compare<T>(
    what: &'static str,
    old: &[Arc<T>],
    new: &[Arc<T>],
    name: impl Fn(&T) -> String,
    same: impl Fn(&T, &T) -> bool,
) -> Changes {
    let (mut changes, mut known) = (Changes { what, ..Changes::default() }, HashMap::new());
    // Of several with one name the n-th is compared with the n-th.
    let numbered = |all: &[Arc<T>]| -> Vec<(String, usize)> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut key = |it: &Arc<T>| {
            let count = seen.entry(name(it)).or_default();
            *count += 1;
            (name(it), *count)
        };
        all.iter().map(&mut key).collect()
    };
    let old_keys = numbered(old);
    let new_keys = numbered(new);
    for (key, it) in old_keys.iter().zip(old) {
        known.insert(key, it);
    }
    let mut note = |sign: char, name: &str| {
        if changes.names.len() < NAMES {
            changes.names.push(format!("{sign}{name}"));
        }
    };
    for (key, it) in new_keys.iter().zip(new) {
        match known.get(key) {
            None => {
                note('+', &key.0);
                changes.added += 1;
            }
            Some(before) if !same(before, it) => {
                note('~', &key.0);
                changes.changed += 1;
            }
            Some(_) => {}
        }
    }
    let stays: HashSet<_> = new_keys.iter().collect();
    for key in old_keys.iter().filter(|key| !stays.contains(key)) {
        note('-', &key.0);
        changes.removed += 1;
    }
    changes
}

fn certificate(it: &Certificate) -> String {
    let kind = if it.ecdsa { " (ecdsa)" } else { "" };
    format!("{}{kind}", it.names.first().map_or("without a name", String::as_str))
}

fn same_certificate(a: &Certificate, b: &Certificate) -> bool {
    let der = |it: &Certificate| -> Vec<_> {
        it.chain.iter().map(|x509| x509.to_der().unwrap_or_default()).collect()
    };
    a.names == b.names && der(a) == der(b)
}

fn nowhere() -> Place {
    Place { file: "".into(), line: 0, column: 0 }
}

fn same_farm(a: &Farm, b: &Farm) -> bool {
    Farm { place: nowhere(), ..a.clone() } == Farm { place: nowhere(), ..b.clone() }
}

fn rule(it: &Rule) -> String {
    it.name.to_string()
}

fn same_rule((old, a): (&Site, &Rule), (new, b): (&Site, &Rule)) -> bool {
    let farm = |site: &Site, rule: &Rule| match rule.action {
        Action::Forward(id) => site.farms.get(id.0).map(|farm| farm.name.clone()),
        _ => None,
    };
    // A farm's number is not its identity.
    let plain = |rule: &Rule| {
        let action = match &rule.action {
            Action::Forward(_) => Action::Forward(FarmId(0)),
            other => other.clone(),
        };
        Rule { index: 0, place: nowhere(), action, ..rule.clone() }
    };
    farm(old, a) == farm(new, b) && plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(publish: &str, farms: &str) -> Arc<Site> {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "listeners:\n  - {{ address: \"127.0.0.1:80\" }}\ndomains: [contoso.com]\n\
             farms:\n{farms}publish:\n{publish}"
        );
        let path = dir.path().join("frontgate.yaml");
        std::fs::write(&path, text).unwrap();
        let outcome = crate::config::load(&path);
        outcome.site.unwrap_or_else(|| panic!("{}", render::text(&outcome.findings, false)))
    }

    #[test]
    fn what_changed_is_told_by_name_and_not_by_line() {
        let farm = |name: &str, more: &str| {
            format!("  {name}: {{ servers: [10.0.0.1], bridge: http{more} }}\n")
        };
        let rule = |host: &str, farm: &str| {
            format!("  - {{ host: {host}, farm: {farm}, schemes: [http] }}\n")
        };
        let old = site(&(rule("a.contoso.com", "m") + &rule("b.contoso.com", "m")), &farm("m", ""));
        assert_eq!(changes(&old, &old), []);
        // The farm `m` is the second one now, and lower in the file.
        let new = site(
            &(rule("c.contoso.com", "a") + &rule("a.contoso.com", "m")),
            &(farm("a", "") + &farm("m", "")),
        );
        let row = |what, added, removed, changed, names: &[&str]| Changes {
            what,
            added,
            removed,
            changed,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(
            changes(&old, &new),
            [
                row("farms", 1, 0, 0, &["+a"]),
                row("rules", 1, 1, 0, &["+c.contoso.com", "-b.contoso.com"]),
            ]
        );
        let newer = site(
            &(rule("c.contoso.com", "m") + &rule("a.contoso.com", "m")),
            &(farm("a", ", timeout: 7s") + &farm("m", "")),
        );
        assert_eq!(
            changes(&new, &newer),
            [row("farms", 0, 0, 1, &["~a"]), row("rules", 0, 0, 1, &["~c.contoso.com"])]
        );
    }
}
