//! What happens to a request: the verdict of host, path and scheme.

use std::sync::Arc;

use super::{
    Question,
    condition::Conditions,
    reading::readings,
    table::{Paths, Table},
};
use crate::{
    reason::{self, Reason},
    site::{
        Action, FarmId, Redirect, Respond, Rule, Site,
        path::{denied, listed},
    },
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
/// conditions hold, then the scheme, never back; and all that for every reading of the path.
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
    if readings.all(|next| verdict(next).agrees(&decision)) {
        decision
    } else {
        Decision::Ambiguous
    }
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
    let Some(Chosen { on_https, on_http }) = chosen(paths, reading, conditions) else {
        return Decision::PathNotPublished;
    };
    // Plain HTTP to what only https has is judged by that rule first: what is denied there is
    // denied here, without a detour.
    let (rule, detour) = match (https, on_https, on_http) {
        (true, Some(rule), _) | (false, _, Some(rule)) => (rule, false),
        (false, Some(rule), None) => (rule, true),
        _ => return Decision::PathNotPublished,
    };
    let farm = match &rule.action {
        Action::Deny => return Decision::Deny { rule },
        Action::Redirect(_) | Action::Respond(_) if detour => return Decision::ToHttps { rule },
        Action::Redirect(redirect) => return Decision::Redirect { rule, redirect },
        Action::Respond(respond) => return Decision::Respond { rule, respond },
        Action::Forward(farm) => *farm,
    };
    // A site whose farm is missing cannot be compiled; if it were, nothing of it is published.
    let Some(settings) = site.farms.get(farm.0) else { return Decision::PathNotPublished };
    let texts = |list: &'a [Arc<str>]| list.iter().map(|entry| &**entry);
    if denied(reading, texts(&settings.deny_paths), texts(&rule.allow_denied)) {
        return Decision::Deny { rule };
    }
    let plain = &settings.plain_paths;
    let https_only = !https && !plain.is_empty() && !plain.iter().any(|p| listed(reading, p));
    match on_https {
        _ if !detour && !https_only => Decision::Forward { rule, farm },
        Some(rule) => Decision::ToHttps { rule },
        None => Decision::PathNotPublished,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        route::testing::{LYNC, OTHER, ask, forward, site},
        site::{Condition, PathPattern, Schemes, Template, Test},
    };

    const HTTPS: Schemes = Schemes { https: true, http: false };
    const HTTP: Schemes = Schemes { https: false, http: true };

    fn verdict(rules: Vec<Rule>, url: &str) -> String {
        let site = site(&["contoso.com"], rules);
        let table = Table::new(&site);
        let (scheme, rest) = url.split_once("://").unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        let path = format!("/{path}");
        let https = scheme == "https";
        let listener = if https { 0 } else { 1 };
        let question = Question { listener, https, ..ask(host, &path) };
        let decision = decide(&table, &site, &question);
        let rule = decision.rule().map_or("-", |rule| &rule.name);
        match decision {
            Decision::Ambiguous => "ambiguous".into(),
            Decision::Deny { .. } => format!("deny {rule}"),
            Decision::Forward { farm: LYNC, .. } => format!("lync {rule}"),
            Decision::Forward { .. } => format!("other {rule}"),
            Decision::HostNotPublished => "no host".into(),
            Decision::PathNotPublished => "no path".into(),
            Decision::Redirect { redirect, .. } => {
                format!("redirect {}", redirect.to.fixed().unwrap())
            }
            Decision::Respond { respond, .. } => format!("respond {}", respond.status),
            Decision::ToHttps { .. } => format!("https {rule}"),
        }
    }

    fn with(rule: Rule, change: impl FnOnce(&mut Rule)) -> Rule {
        let mut rule = rule;
        change(&mut rule);
        rule
    }

    #[test]
    fn the_lync_estate() {
        let rules = || {
            let https = |host| with(forward(host, ""), |rule| rule.schemes = HTTPS);
            vec![https("meet.*"), https("dialin.*"), forward("lyncdiscover.*", "")]
        };
        for (url, expected) in [
            ("https://meet.contoso.com/Anna/AB12", "lync meet.*"),
            ("https://meet.contoso.com/admin/x", "deny meet.*"),
            ("https://meet.contoso.com/administrator", "lync meet.*"),
            ("http://meet.contoso.com/Anna", "https meet.*"),
            ("http://meet.contoso.com/admin", "deny meet.*"),
            ("http://lyncdiscover.contoso.com/", "lync lyncdiscover.*"),
            ("http://lyncdiscover.contoso.com/Autodiscover/x", "lync lyncdiscover.*"),
            ("http://lyncdiscover.contoso.com/ucwa", "https lyncdiscover.*"),
            ("http://lyncdiscover.contoso.com/cscp", "deny lyncdiscover.*"),
            ("http://lyncdiscover.contoso.com/%75cwa", "https lyncdiscover.*"),
            ("http://lyncdiscover.contoso.com/x/..%2fautodiscover", "ambiguous"),
            ("https://owa.contoso.com/", "no host"),
            ("https://meet.evil.example/", "no host"),
        ] {
            assert_eq!(verdict(rules(), url), expected, "{url}");
        }
    }

    #[test]
    fn plain_paths_of_a_rule_without_https_are_not_published() {
        let rules = vec![with(forward("h.x", ""), |rule| rule.schemes = HTTP)];
        assert_eq!(verdict(rules.clone(), "http://h.x/ucwa"), "no path");
        assert_eq!(verdict(rules.clone(), "http://h.x/"), "lync h.x");
        assert_eq!(verdict(rules, "https://h.x/"), "no path");
    }

    #[test]
    fn two_rules_may_share_a_path_by_scheme() {
        let other = |rule: &mut Rule| {
            rule.schemes = HTTP;
            rule.action = Action::Forward(OTHER);
            rule.name = "plain".into();
        };
        let rules = || {
            let lync = with(forward("h.x", ""), |rule| rule.schemes = HTTPS);
            vec![lync, with(forward("h.x", ""), other)]
        };
        assert_eq!(verdict(rules(), "https://h.x/ucwa"), "lync h.x");
        assert_eq!(verdict(rules(), "http://h.x/ucwa"), "other plain");
    }

    #[test]
    fn a_more_specific_host_or_path_never_falls_back() {
        let rules = || {
            let only_plain = with(forward("a.x", "/b"), |rule| rule.schemes = HTTP);
            vec![forward("*.x", ""), forward("a.x", "/a"), only_plain]
        };
        assert_eq!(verdict(rules(), "https://a.x/c"), "no path");
        assert_eq!(verdict(rules(), "https://a.x/b"), "no path");
        assert_eq!(verdict(rules(), "https://b.x/c"), "lync *.x");
    }

    #[test]
    fn deny_redirect_and_allow_denied() {
        let to: Template = "https://m.x/".into();
        let to = Redirect { to, status: 302, keep_path: false, keep_query: true };
        let rules = || {
            vec![
                forward("a.x", ""),
                with(forward("a.x", "/x"), |rule| {
                    rule.action = Action::Deny;
                    rule.schemes = HTTPS;
                }),
                with(forward("a.x", "/old"), |rule| rule.action = Action::Redirect(to.clone())),
                with(forward("a.x", "/admin"), |rule| rule.allow_denied = vec!["/admin".into()]),
            ]
        };
        assert_eq!(verdict(rules(), "https://a.x/X/y"), "deny a.x/x");
        assert_eq!(verdict(rules(), "http://a.x/X/y"), "deny a.x/x");
        assert_eq!(verdict(rules(), "https://a.x/old/"), "redirect https://m.x/");
        assert_eq!(verdict(rules(), "https://a.x/admin/"), "lync a.x/admin");
        assert_eq!(verdict(rules(), "https://a.x/cscp"), "deny a.x");
        assert_eq!(verdict(rules(), "https://a.x/%61dmin"), "ambiguous");
        assert_eq!(verdict(rules(), "https://a.x/cscp/../cscp"), "deny a.x");
    }

    #[test]
    fn what_all_readings_agree_on_is_forwarded_however_odd() {
        for path in ["a//b", "a/../b", "caf%C3%A9", "a%2Fb", "a;b=c", "(S(x))/a", "x:y", "a."] {
            assert_eq!(
                verdict(vec![forward("a.x", "")], &format!("https://a.x/{path}")),
                "lync a.x"
            );
        }
        let too_many = format!("https://a.x/{}", "a/..%2f;x/%2561/.%20/\\b./(S(x))c%00");
        assert_eq!(verdict(vec![forward("a.x", "")], &too_many), "ambiguous");
    }

    fn when(rule: Rule, name: &str, condition: Condition) -> Rule {
        with(rule, |rule| {
            rule.when = vec![condition];
            rule.name = name.into();
        })
    }

    fn on_path(path: &str) -> Condition {
        Condition::Path(Test::Is(vec![PathPattern::Prefix(path.into())]))
    }

    fn get() -> Condition {
        Condition::Method(Test::Is(vec!["GET".into()]))
    }

    fn post() -> Condition {
        Condition::Method(Test::Is(vec!["POST".into()]))
    }

    #[test]
    fn conditions_come_first_in_file_order_and_let_shorter_paths_have_it() {
        let rules = || {
            vec![
                forward("a.x", "/a"),
                when(forward("a.x", "/a"), "post", post()),
                when(forward("a.x", "/a"), "first", on_path("/a/b")),
                when(forward("a.x", "/a"), "second", get()),
                when(forward("a.x", "/a/c"), "never", post()),
                when(forward("a.x", "/d"), "never", post()),
                forward("*.x", ""),
            ]
        };
        assert_eq!(verdict(rules(), "https://a.x/a/b"), "lync first");
        assert_eq!(verdict(rules(), "https://a.x/a"), "lync second");
        assert_eq!(verdict(rules(), "https://a.x/a/c"), "lync second", "the shorter path");
        assert_eq!(verdict(rules(), "https://a.x/d"), "no path", "never another host");
        let fallback = vec![forward("a.x", "/a"), when(forward("a.x", "/a"), "post", post())];
        assert_eq!(verdict(fallback, "https://a.x/a"), "lync a.x/a");
    }

    #[test]
    fn readings_that_meet_different_conditions_are_ambiguous() {
        let rules = || vec![when(forward("a.x", ""), "b", on_path("/b")), forward("a.x", "")];
        assert_eq!(verdict(rules(), "https://a.x/b/c"), "lync b");
        assert_eq!(verdict(rules(), "https://a.x/c"), "lync a.x");
        assert_eq!(verdict(rules(), "https://a.x/B%2fc"), "ambiguous");
        assert_eq!(verdict(rules(), "https://a.x/%62/c"), "ambiguous");
        assert_eq!(verdict(rules(), "https://a.x/c/../b"), "ambiguous");
        assert_eq!(verdict(rules(), "https://a.x/b/x/../c"), "lync b");
    }

    #[test]
    fn a_rule_with_conditions_on_https_alone_makes_a_detour() {
        let rules = || {
            vec![
                when(with(forward("a.x", ""), |rule| rule.schemes = HTTPS), "secure", get()),
                with(forward("a.x", "/c"), |rule| {
                    rule.schemes = HTTPS;
                    rule.action = Action::Respond(Respond { status: 503, page: None });
                }),
            ]
        };
        assert_eq!(verdict(rules(), "http://a.x/b"), "https secure");
        assert_eq!(verdict(rules(), "http://a.x/c"), "https a.x/c");
        assert_eq!(verdict(rules(), "https://a.x/c"), "respond 503");
    }
}
