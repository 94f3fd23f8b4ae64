//! What happens to a request: the verdict of host, path and scheme.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{
    Question,
    condition::Conditions,
    published::{Published, published},
    reading::readings,
    rewritten,
    table::{Paths, Table},
    template::Values,
};
use crate::{
    reason::{self, Reason},
    site::{Action, FarmId, Redirect, Respond, Rule, Site},
};

/// The verdict on a request.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// Its path has readings with different verdicts: 400 `ambiguous_path`.
    Ambiguous,
    /// The rule denies it, or the farm's `deny_paths` do: 404 `denied`.
    Deny {
        /// The rule that took the path.
        rule: &'a Arc<Rule>,
    },
    /// Goes to a farm, with the client's own bytes as its target.
    Forward {
        /// The rule that took it.
        rule: &'a Arc<Rule>,
        /// The farm that serves it.
        farm: FarmId,
    },
    /// Nothing publishes this host on this listener: 421 on TLS, 404 on plain.
    HostNotPublished,
    /// The host is published, this path of it is not (on this scheme): 404.
    PathNotPublished,
    /// A redirect rule took it, see [`super::location()`].
    Redirect {
        /// The rule that took it.
        rule: &'a Arc<Rule>,
        /// Where it leads.
        redirect: &'a Redirect,
    },
    /// A rule answers with a page of its own.
    Respond {
        /// The rule that took it.
        rule: &'a Arc<Rule>,
        /// The answer.
        respond: &'a Respond,
    },
    /// Plain HTTP to what is published on https: 301, or 308 for methods other than GET and HEAD.
    /// See [`super::https_location`].
    ToHttps {
        /// The rule that publishes it on https.
        rule: &'a Arc<Rule>,
    },
}

impl<'a> Decision<'a> {
    /// Why Frontgate itself answers; `None` for what is forwarded. The status of `REDIRECTED`,
    /// `RESPONDED` and `HTTPS_ONLY` is only the usual one: the rule's and the method's own go before it.
    pub fn reason(&self, https: bool) -> Option<Reason> {
        Some(match self {
            Self::Forward { .. } => return None,
            Self::Ambiguous => reason::AMBIGUOUS_PATH,
            Self::Deny { .. } => reason::DENIED,
            Self::HostNotPublished if https => reason::HOST_NOT_PUBLISHED_TLS,
            Self::HostNotPublished => reason::HOST_NOT_PUBLISHED,
            Self::PathNotPublished => reason::PATH_NOT_PUBLISHED,
            Self::Redirect { .. } => reason::REDIRECTED,
            Self::Respond { .. } => reason::RESPONDED,
            Self::ToHttps { .. } => reason::HTTPS_ONLY,
        })
    }

    /// The rule that took the request, if one did.
    pub fn rule(&self) -> Option<&'a Arc<Rule>> {
        match self {
            Self::Deny { rule }
            | Self::Forward { rule, .. }
            | Self::Redirect { rule, .. }
            | Self::Respond { rule, .. }
            | Self::ToHttps { rule } => Some(rule),
            Self::Ambiguous | Self::HostNotPublished | Self::PathNotPublished => None,
        }
    }

    /// Whether two readings may stand side by side. What is denied is denied by whichever rule.
    fn agrees(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && (matches!(self, Self::Deny { .. })
                || self.rule().map(|rule| rule.index) == other.rule().map(|rule| rule.index))
    }
}

/// Decides on a request. First the most specific host, then the longest path with a rule whose
/// conditions hold, then the scheme, never back; and all that for every reading of the path. What
/// the rule's `rewrite` makes of it on plain http is judged like the path itself.
///
/// SECURITY: a path whose readings disagree is refused, so no spelling of a denied path reaches a
/// server that would tidy it. Test: no_spelling_of_a_denied_path_is_forwarded
pub fn decide<'a>(table: &'a Table, site: &'a Site, question: &Question<'_>) -> Decision<'a> {
    let Some(paths) = table.host(question.listener, question.host) else {
        return Decision::HostNotPublished;
    };
    let readings = readings(question.target_path);
    let Some(mut readings) = readings.iter() else { return Decision::Ambiguous };
    let Some(first) = readings.next() else { return Decision::Ambiguous };
    let conditions = Conditions::new(table, question);
    let verdict = |reading| judge(paths, site, question.https, reading, &conditions);
    let decision = verdict(first);
    if !readings.all(|next| verdict(next).agrees(&decision)) {
        return Decision::Ambiguous;
    }
    match decision {
        Decision::Forward { rule, farm } if !question.https && rule.rewrite.is_some() => {
            let values = Values::new(rule, question);
            let target = site.farms.get(farm.0).map(|farm| rewritten(rule, farm, &values));
            if target != Some(Err(reason::HTTPS_ONLY)) {
                return decision;
            }
            detour(chosen(paths, first, &conditions).and_then(|chosen| chosen.on_https))
        }
        _ => decision,
    }
}

/// The answer to plain http where only https may go.
fn detour(on_https: Option<&Arc<Rule>>) -> Decision<'_> {
    on_https.map_or(Decision::PathNotPublished, |rule| Decision::ToHttps { rule })
}

/// The rules that one reading of a path is judged by; at least one of the two.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'a> {
    pub(super) on_https: Option<&'a Arc<Rule>>,
    pub(super) on_http: Option<&'a Arc<Rule>>,
}

/// Those of the longest path with a rule whose conditions hold; what its schemes leave open does
/// not make a shorter path the one.
pub(super) fn chosen<'a>(
    paths: &'a Paths,
    reading: &[u8],
    conditions: &Conditions<'_>,
) -> Option<Chosen<'a>> {
    paths.find(reading).find_map(|rules| {
        let (mut on_https, mut on_http) = (None, None);
        for rule in rules.iter().filter(|rule| conditions.hold(rule, reading)) {
            on_https = on_https.or(rule.schemes.https.then_some(rule));
            on_http = on_http.or(rule.schemes.http.then_some(rule));
            if on_https.is_some() && on_http.is_some() {
                break;
            }
        }
        (on_https.is_some() || on_http.is_some()).then_some(Chosen { on_https, on_http })
    })
}

/// The verdict if `reading` were the only one.
pub(super) fn judge<'a>(
    paths: &'a Paths,
    site: &'a Site,
    https: bool,
    reading: &[u8],
    conditions: &Conditions<'_>,
) -> Decision<'a> {
    let chosen = chosen(paths, reading, conditions);
    chosen.map_or(Decision::PathNotPublished, |chosen| act(site, https, reading, chosen))
}

/// What the rules that take a reading do.
fn act<'a>(
    site: &'a Site,
    https: bool,
    reading: &[u8],
    Chosen { on_https, on_http }: Chosen<'a>,
) -> Decision<'a> {
    // Plain HTTP to what only https has is judged by that rule first: what is denied there is
    // denied here, without a detour.
    let (rule, makes_detour) = match (https, on_https, on_http) {
        (true, Some(rule), _) | (false, _, Some(rule)) => (rule, false),
        (false, Some(rule), None) => (rule, true),
        _ => return Decision::PathNotPublished,
    };
    let farm = match &rule.action {
        Action::Deny => return Decision::Deny { rule },
        Action::Redirect(_) | Action::Respond(_) if makes_detour => {
            return Decision::ToHttps { rule };
        }
        Action::Redirect(redirect) => return Decision::Redirect { rule, redirect },
        Action::Respond(respond) => return Decision::Respond { rule, respond },
        Action::Forward(farm) => *farm,
    };
    // A site whose farm is missing cannot be compiled; if it were, nothing of it is published.
    let Some(settings) = site.farms.get(farm.0) else { return Decision::PathNotPublished };
    match published(settings, rule, reading, https) {
        Published::Denied => Decision::Deny { rule },
        Published::Yes if !makes_detour => Decision::Forward { rule, farm },
        Published::Yes | Published::OnlyHttps => detour(on_https),
    }
}
