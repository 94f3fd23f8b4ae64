//! Who else could have taken a request, and why it does not.

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::words;
use crate::{
    route::{
        Question, Table, condition::Conditions, decide::chosen, reading::readings, table::Paths,
    },
    site::{HostPattern, Rule, Site},
};

/// So many rules are told.
const MOST: usize = 20;

/// A host pattern that does not take a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRival {
    /// The pattern.
    pub pattern: String,
    /// Why not.
    pub why: String,
    /// `file:line:column` of its first rule.
    pub place: String,
}

/// A rule that does not take a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRival {
    /// Its name.
    pub rule: String,
    /// `file:line:column`.
    pub place: String,
    /// `condition`, `scheme`, `plain_paths`, `order`, `shorter_path`, `path` or `listener`.
    pub code: String,
    /// Why not, in words.
    pub why: String,
}

/// The pattern that takes the host.
pub(super) fn pattern(table: &Table, question: &Question<'_>) -> Option<String> {
    let paths = table.host(question.listener, question.host)?;
    paths.rules().next().map(|rule| rule.host.to_string())
}

/// Patterns that match the host, or would if something else were so.
pub(super) fn hosts(table: &Table, site: &Site, question: &Question<'_>) -> Vec<HostRival> {
    let winner = table
        .host(question.listener, question.host)
        .and_then(|paths| paths.rules().next())
        .map(|rule| &rule.host);
    // A host has few labels, and no more patterns than that can match it or begin like it. Of each
    // the first rule on this listener is told, or the first one at all.
    let mut near: Vec<Near<'_>> = Vec::new();
    for rule in site.rules.iter().filter(|rule| winner != Some(&rule.host)) {
        let matches = table.matches(&rule.host, question.host);
        let begins = || match &rule.host {
            HostPattern::Prefix(prefix) => begins(question.host, prefix),
            _ => false,
        };
        if !matches && !begins() {
            continue;
        }
        let here = here(site, question, rule);
        match near.iter_mut().find(|near| near.rule.host == rule.host) {
            Some(near) if near.here || !here => {}
            Some(near) => *near = Near { rule, matches, here },
            None => near.push(Near { rule, matches, here }),
        }
    }
    near.iter().map(|near| near.told(winner)).collect()
}

/// The rule of a host pattern that does not take the request, but nearly does.
struct Near<'a> {
    rule: &'a Rule,
    /// Whether the pattern matches the host.
    matches: bool,
    /// Whether the rule is on the listener that is asked.
    here: bool,
}

impl Near<'_> {
    fn told(&self, winner: Option<&HostPattern>) -> HostRival {
        let why = match (self.matches, self.here) {
            (false, _) => "what follows is none of `domains`, nor under one".to_owned(),
            (true, false) => only_on(self.rule),
            (true, true) => {
                let winner = winner.map_or_else(String::new, ToString::to_string);
                format!("less specific than {winner}")
            }
        };
        let Rule { host, place, .. } = self.rule;
        HostRival { pattern: host.to_string(), why, place: place.to_string() }
    }
}

/// The other rules of the host, nearest first, and how many are left out.
pub(super) fn rules(
    table: &Table,
    site: &Site,
    question: &Question<'_>,
    taken: Option<&Arc<Rule>>,
) -> (Vec<RuleRival>, usize) {
    let Some(paths) = table.host(question.listener, question.host) else { return (vec![], 0) };
    let all = readings(question.target_path);
    // With too many readings no rule is asked at all.
    let Some(reading) = all.iter().and_then(|mut all| all.next()) else { return (vec![], 0) };
    let taken = taken.map(|rule| rule.index);
    let walk = Walk { question, paths, reading, conditions: Conditions::new(table, question) };
    let pattern = paths.rules().next().map(|rule| &rule.host);
    let elsewhere = site.rules.iter();
    let elsewhere = elsewhere
        .filter(|rule| Some(&rule.host) == pattern && !here(site, question, rule))
        .map(|rule| Lost { rule, to: To::Listener });
    let mut lost: Vec<Lost<'_>> = walk.taking(taken).into_iter().chain(elsewhere).collect();
    lost.extend(walk.not_taking());
    // Words are made only for those that are told: a host may have ten thousand rules.
    let left_out = lost.len().saturating_sub(MOST);
    lost.truncate(MOST);
    (lost.iter().map(|lost| walk.told(lost)).collect(), left_out)
}

/// A rule that does not take a request.
struct Lost<'a> {
    rule: &'a Rule,
    to: To<'a>,
}

/// What it lost to.
enum To<'a> {
    /// Its path takes the request, but other rules were asked.
    Others {
        /// The one with a longer path that decided.
        decided: Option<&'a Arc<Rule>>,
        /// The one with the same path that did.
        decides: Option<&'a Arc<Rule>>,
        /// Which rules are asked.
        https: bool,
    },
    /// It is on other listeners.
    Listener,
    /// Its path does not take the request.
    Path,
}

/// One look at the rules of a host.
struct Walk<'a> {
    question: &'a Question<'a>,
    paths: &'a Paths,
    reading: &'a [u8],
    conditions: Conditions<'a>,
}

impl<'a> Walk<'a> {
    /// Rules whose path takes the request, in the order in which they are asked.
    fn taking(&self, taken: Option<usize>) -> Vec<Lost<'a>> {
        let chosen = chosen(self.paths, self.reading, &self.conditions);
        let (on_https, on_http) = chosen.map_or((None, None), |c| (c.on_https, c.on_http));
        // Plain http to what only https has is judged by the rule that https has.
        let https = self.question.https || on_http.is_none();
        let is = |rule: &Rule, it: Option<&Arc<Rule>>| it.is_some_and(|it| it.index == rule.index);
        let deciding = |rule: &Rule| is(rule, if https { on_https.or(on_http) } else { on_http });
        let mut lost = Vec::new();
        let mut decided = None;
        for rules in self.paths.find(self.reading) {
            let decides = rules.iter().find(|rule| deciding(rule));
            for rule in rules.iter().filter(|rule| Some(rule.index) != taken) {
                lost.push(Lost { rule, to: To::Others { decided, decides, https } });
            }
            decided = decided.or(decides);
        }
        lost
    }

    fn told(&self, Lost { rule, to }: &Lost<'_>) -> RuleRival {
        let (decided, decides, https) = match *to {
            To::Others { decided, decides, https } => (decided, decides, https),
            To::Listener => return rival(rule, "listener", only_on(rule)),
            To::Path => {
                let why = format!("its path {} does not take it", words::path(&rule.path));
                return rival(rule, "path", why);
            }
        };
        if let Some(condition) = self.conditions.broken(rule, self.reading) {
            let why = format!("its condition does not hold: {}", words::condition(condition));
            return rival(rule, "condition", why);
        }
        if let Some(other) = decided {
            let why = format!("its path is shorter than that of {}", other.name);
            return rival(rule, "shorter_path", why);
        }
        if !(if https { rule.schemes.https } else { rule.schemes.http }) {
            let why = format!("it is not published on {}", words::scheme(https));
            return rival(rule, "scheme", why);
        }
        match decides {
            Some(first) if first.index != rule.index => {
                let why = if rule.when.is_empty() && !first.when.is_empty() {
                    format!("{} has conditions, which hold, and is asked first", first.name)
                } else {
                    format!("{} is asked first", first.name)
                };
                rival(rule, "order", why)
            }
            // It was asked and is the one, but leaves the request to https, or to nobody.
            _ => {
                let why = "on plain http its farm publishes only its plain paths".to_owned();
                rival(rule, "plain_paths", why)
            }
        }
    }

    /// Rules whose path does not take it.
    fn not_taking(&self) -> Vec<Lost<'a>> {
        let taking: HashSet<usize> =
            self.paths.find(self.reading).flatten().map(|rule| rule.index).collect();
        let others = self.paths.rules().filter(|rule| !taking.contains(&rule.index));
        others.map(|rule| Lost { rule, to: To::Path }).collect()
    }
}

fn rival(rule: &Rule, code: &str, why: String) -> RuleRival {
    let (name, place) = (rule.name.to_string(), rule.place.to_string());
    RuleRival { rule: name, place, code: code.to_owned(), why }
}

/// Whether a rule is on the listener that is asked.
fn here(site: &Site, question: &Question<'_>, rule: &Rule) -> bool {
    let listener = site.listeners.get(question.listener);
    rule.listeners
        .as_ref()
        .is_none_or(|names| listener.is_some_and(|listener| names.contains(&listener.name)))
}

fn only_on(rule: &Rule) -> String {
    let names = rule.listeners.iter().flatten().map(|name| &**name);
    format!("only on listener {}", names.collect::<Vec<_>>().join(", "))
}

fn begins(host: &str, prefix: &str) -> bool {
    host.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.') && rest.len() > 1)
}
