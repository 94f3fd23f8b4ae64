//! Parts of rules in the words of the configuration.

use std::fmt::Display;

use crate::{
    route::Question,
    site::{Condition, PathPattern, Schemes, Test},
};

pub(super) fn scheme(https: bool) -> &'static str {
    if https { "https" } else { "http" }
}

/// Bytes of a request as text on one line.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(char::is_control, "\u{fffd}")
}

/// Path and query as sent.
pub(super) fn target(question: &Question<'_>) -> Vec<u8> {
    let mut target = question.path().to_vec();
    if let Some(query) = question.query {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    target
}

/// `/meet`, `=/x`, or nothing for any path.
pub(super) fn path(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Any => String::new(),
        PathPattern::Prefix(prefix) => prefix.to_string(),
        PathPattern::Exact(exact) => format!("={exact}"),
    }
}

/// A condition: `path matches "^/x"`, `header user-agent matches what the rule says`.
pub(super) fn condition(condition: &Condition) -> String {
    match condition {
        // SECURITY: what a header or parameter has to be may be a secret that lets requests pass;
        // the rule is named by its place. Test: what_the_environment_says_is_not_explained
        Condition::Header(name, test) => format!("header {name} {}", asked(test)),
        Condition::Query(name, test) => format!("query {name} {}", asked(test)),
        Condition::Method(test) => format!("method {}", judged(test, plain)),
        Condition::Source(test) => format!("source {}", judged(test, plain)),
        Condition::Path(test) => format!("path {}", judged(test, path)),
        Condition::Url(test) => format!("url {}", judged(test, plain)),
        Condition::Host(test) => format!("host {}", judged(test, plain)),
        Condition::Scheme(Schemes { https, http }) => match (https, http) {
            (true, true) => "scheme is https, http".to_owned(),
            (https, _) => format!("scheme is {}", scheme(*https)),
        },
    }
}

/// What is asked of a value that is not told.
fn asked<T>(test: &Test<T>) -> &'static str {
    match test {
        Test::Present => "is there",
        Test::Is(_) => "is what the rule says",
        Test::Not(_) => "is not what the rule says",
        Test::Matches(_) => "matches what the rule says",
    }
}

fn plain(value: &impl Display) -> String {
    value.to_string()
}

fn judged<T>(test: &Test<T>, word: impl Fn(&T) -> String) -> String {
    let all = |values: &[T]| values.iter().map(&word).collect::<Vec<_>>().join(", ");
    match test {
        Test::Present => "is there".to_owned(),
        Test::Is(values) => format!("is {}", all(values)),
        Test::Not(values) => format!("is not {}", all(values)),
        Test::Matches(pattern) => format!("matches \"{}\"", pattern.0.as_str()),
    }
}
