//! The routing walk, told to people: which rule takes a request, and why no other does.
//!
//! The verdict is the one of [`decide`](super::decide()), and every step is found with the
//! functions that it uses; nothing here decides on its own.

mod asked;
mod rivals;
#[cfg(test)]
mod tests;
mod toward;
mod words;

use serde::{Deserialize, Serialize};

pub use self::{
    asked::Asked,
    rivals::{HostRival, RuleRival},
    toward::{HeaderTold, ServerTold, TlsTold, Toward},
};
use super::{
    Decision, Question, Table, Values, condition::Conditions, decide, decide::judge,
    https_location, https_port, https_status, location, reading::readings, rewritten,
};
use crate::{
    reason::{self, Reason},
    site::{Rule, Site},
};

/// What becomes of a request, step by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The host asked for, normalised.
    pub host: String,
    /// Client scheme: `https` or `http`.
    pub scheme: String,
    /// The listener it comes to.
    pub listener: String,
    /// Method.
    pub method: String,
    /// Path as sent.
    pub path: String,
    /// Query as sent; `null` without one.
    pub query: Option<String>,
    /// The client's address.
    pub source: String,
    /// The host pattern that takes it: the most specific one; `null` if none does.
    pub host_pattern: Option<String>,
    /// Other host patterns that could have taken it, and why they do not.
    pub host_rivals: Vec<HostRival>,
    /// Every way in which a server may read the path, each with its verdict. One for nearly every
    /// path; none where there are too many.
    pub readings: Vec<ReadingTold>,
    /// What happens.
    pub verdict: Verdict,
    /// The rule that took it.
    pub rule: Option<RuleTold>,
    /// Other rules of the host, the nearest first, and why they do not take it (in the first
    /// reading of the path).
    pub rivals: Vec<RuleRival>,
    /// How many more there are.
    pub rivals_left_out: usize,
    /// What goes to the farm, if it is forwarded.
    pub toward: Option<Toward>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// What the running Frontgate adds; `null` where the configuration alone was asked.
    pub live: Option<Live>,
}

/// One reading of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingTold {
    /// The path in this reading.
    pub path: String,
    /// Its verdict, if it were the only one.
    pub outcome: Outcome,
    /// The rule behind that.
    pub rule: Option<String>,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It goes to a farm.
    Forward,
    /// A redirect rule answers.
    Redirect,
    /// A rule answers with a page of its own.
    Respond,
    /// A redirect to https.
    ToHttps,
    /// Denied by its rule or by the farm's `deny_paths`.
    Deny,
    /// Nothing publishes the host on this listener.
    HostNotPublished,
    /// The host is published, this path of it is not.
    PathNotPublished,
    /// Readings of the path lead to different verdicts.
    Ambiguous,
    /// Refused for another reason, see there.
    Refused,
}

/// The verdict, with what the client gets to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What happens.
    pub outcome: Outcome,
    /// Status of Frontgate's own answer; `null` for what is forwarded.
    pub status: Option<u16>,
    /// Reason code of that answer.
    pub reason: Option<String>,
    /// One sentence.
    pub text: String,
    /// Where a redirect leads.
    pub location: Option<String>,
}

/// The rule that took a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTold {
    /// Its name.
    pub name: String,
    /// `file:line:column`.
    pub place: String,
    /// Its host pattern.
    pub host: String,
    /// Its path pattern: `/meet`, `=/x`, or empty for any.
    pub path: String,
    /// `https`, `http` or both.
    pub schemes: Vec<String>,
    /// Its conditions, which all hold.
    pub when: Vec<String>,
}

/// What only the running Frontgate knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The server that affinity keeps this client on.
    pub affinity: Option<String>,
    /// The server it would get now, where that is certain (affinity, hash, or only one).
    pub server: Option<String>,
    /// How it is chosen, in words.
    pub choice: String,
    /// Requests that wait for a place in the farm.
    pub waiting: usize,
}

/// Explains what [`decide`](super::decide()) makes of a request, and what follows from it.
///
/// A question for a listener that does not exist is answered as one for a host that nothing
/// publishes.
pub fn explain(table: &Table, site: &Site, question: &Question<'_>) -> Explanation {
    let decision = decide(table, site, question);
    let verdict = answer(site, question, &decision);
    let rule = decision.rule();
    let toward = match (&decision, verdict.outcome) {
        (Decision::Forward { rule, farm }, Outcome::Forward) => {
            site.farms.get(farm.0).map(|farm| Toward::new(rule, farm, question))
        }
        _ => None,
    };
    let (rivals, rivals_left_out) = rivals::rules(table, site, question, rule);
    let listener = site.listeners.get(question.listener);
    Explanation {
        host: question.host.to_owned(),
        scheme: words::scheme(question.https).to_owned(),
        listener: listener.map_or_else(String::new, |listener| listener.name.to_string()),
        method: question.method.to_owned(),
        path: words::text(question.target_path),
        query: question.query.map(words::text),
        source: question.source.to_canonical().to_string(),
        host_pattern: rivals::pattern(table, question),
        host_rivals: rivals::hosts(table, site, question),
        readings: told_readings(table, site, question),
        verdict,
        rule: rule.map(|rule| RuleTold::of(rule)),
        rivals,
        rivals_left_out,
        toward,
        notes: Vec::new(),
        live: None,
    }
}

impl Explanation {
    /// Changes the verdict to one of Frontgate's own answers, which comes before a farm is asked.
    pub fn refuse(&mut self, reason: Reason) {
        self.verdict = refusal(reason);
        self.toward = None;
        self.live = None;
    }
}

impl Outcome {
    fn of(decision: &Decision<'_>) -> Self {
        match decision {
            Decision::Ambiguous => Self::Ambiguous,
            Decision::Deny { .. } => Self::Deny,
            Decision::Forward { .. } => Self::Forward,
            Decision::HostNotPublished => Self::HostNotPublished,
            Decision::PathNotPublished => Self::PathNotPublished,
            Decision::Redirect { .. } => Self::Redirect,
            Decision::Respond { .. } => Self::Respond,
            Decision::ToHttps { .. } => Self::ToHttps,
        }
    }

    /// What Frontgate's own answer for this reason stands for.
    fn of_reason(reason: Reason) -> Self {
        match reason {
            reason::DENIED => Self::Deny,
            reason::PATH_NOT_PUBLISHED => Self::PathNotPublished,
            reason::HOST_NOT_PUBLISHED | reason::HOST_NOT_PUBLISHED_TLS => Self::HostNotPublished,
            reason::AMBIGUOUS_PATH => Self::Ambiguous,
            _ => Self::Refused,
        }
    }
}

impl RuleTold {
    fn of(rule: &Rule) -> Self {
        let schemes = [("https", rule.schemes.https), ("http", rule.schemes.http)];
        let schemes = schemes.into_iter().filter(|(_, on)| *on);
        Self {
            name: rule.name.to_string(),
            place: rule.place.to_string(),
            host: rule.host.to_string(),
            path: words::path(&rule.path),
            schemes: schemes.map(|(scheme, _)| scheme.to_owned()).collect(),
            when: rule.when.iter().map(words::condition).collect(),
        }
    }
}

/// The verdict of a decision as the client sees it: also what is refused while the target or the
/// location is made.
fn answer(site: &Site, question: &Question<'_>, decision: &Decision<'_>) -> Verdict {
    let told = |status, location, text: String| Verdict {
        outcome: Outcome::of(decision),
        status,
        reason: decision.reason(question.https).map(|reason| reason.code.to_owned()),
        text,
        location,
    };
    match decision {
        Decision::Forward { rule, farm } => {
            let Some(farm) = site.farms.get(farm.0) else { return refusal(reason::INTERNAL) };
            match rewritten(rule, farm, &Values::new(rule, question)) {
                Ok(_) => told(None, None, format!("It goes to farm {}.", farm.name)),
                Err(reason) => refusal(reason),
            }
        }
        Decision::Redirect { rule, redirect } => {
            match location(redirect, &Values::new(rule, question)) {
                Some(location) => {
                    let text = format!("The rule redirects to {location}");
                    told(Some(redirect.status), Some(location), text)
                }
                None => refusal(reason::AMBIGUOUS_PATH),
            }
        }
        Decision::Respond { respond, .. } => {
            told(Some(respond.status), None, "The rule answers with a page of its own.".to_owned())
        }
        Decision::ToHttps { rule } => {
            let target = words::target(question);
            let location = https_location(question.host, https_port(site, rule), &target);
            let text = format!("It is published on https: redirected to {location}");
            told(Some(https_status(question.method)), Some(location), text)
        }
        other => refusal(other.reason(question.https).unwrap_or(reason::INTERNAL)),
    }
}

fn refusal(reason: Reason) -> Verdict {
    Verdict {
        outcome: Outcome::of_reason(reason),
        status: Some(reason.status),
        reason: Some(reason.code.to_owned()),
        text: reason.text.to_owned(),
        location: None,
    }
}

fn told_readings(table: &Table, site: &Site, question: &Question<'_>) -> Vec<ReadingTold> {
    let Some(paths) = table.host(question.listener, question.host) else { return Vec::new() };
    let conditions = Conditions::new(table, question);
    let all = readings(question.target_path);
    let told = |reading: &[u8]| {
        let decision = judge(paths, site, question.https, reading, &conditions);
        ReadingTold {
            path: words::text(reading),
            outcome: Outcome::of(&decision),
            rule: decision.rule().map(|rule| rule.name.to_string()),
        }
    };
    all.iter().into_iter().flatten().map(told).collect()
}
