//! Publish rules: names resolved, equal ones refused.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    config::{
        code,
        compile::{
            arc, collision, conditions,
            farms::Placed,
            headers, not_empty, respond, rewriting, several,
            templates::{self, Scope},
            unknown_farm,
        },
        diagnostic::{Findings, nearest},
        files::Files,
        model::{
            Config,
            listener::Listener,
            publish::{self, Scheme},
        },
        read::{At, List},
        source::Mark,
    },
    site::{Action, FarmId, HostPattern, PathPattern, Redirect, Rule, Schemes},
};

/// The rules, and for each its index in the model.
pub(super) fn compile(
    config: &Config,
    farms: &[Placed],
    files: &mut Files,
    findings: &mut Findings,
) -> (Vec<Arc<Rule>>, Vec<usize>) {
    not_empty(config.publish.as_ref(), "publish", findings);
    let known = Known::new(config, farms);
    let mut taken = Taken::new();
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    let mut written = Vec::new();
    let entries = config.publish.iter().flat_map(|list| &list.items);
    for (index, entry) in entries.enumerate() {
        let listeners = listeners(entry, &known, findings);
        let schemes = schemes(entry, findings);
        let when = conditions::compile(entry.when.as_ref(), findings);
        let scope = Scope::new(&entry.path.value, when.as_deref());
        let action = action(entry, &known, scope, files, findings);
        let rewrite =
            entry.rewrite.as_ref().and_then(|rewrite| rewriting::rewrite(rewrite, scope, findings));
        let request_headers = headers::compile(entry.request_headers.as_ref(), scope, findings);
        let response_headers = headers::compile(entry.response_headers.as_ref(), scope, findings);
        let Some(host) = &entry.host else { continue };
        // A rule whose action is at fault takes its place all the same.
        let claim =
            Claim { listeners: listeners.clone(), schemes, mark: &host.mark, rule: &entry.mark };
        take(&mut taken, host, entry, claim, findings);
        let (Some(action), Some(when)) = (action, when) else { continue };
        rules.push(Arc::new(Rule {
            index: rules.len(),
            name: entry.name.as_ref().map_or_else(|| default_name(entry), |name| arc(name)),
            host: host.value.clone(),
            path: entry.path.value.clone(),
            schemes,
            listeners,
            when,
            action,
            rewrite,
            request_headers,
            response_headers,
            rewrite_host: entry.rewrite_host.value,
            allow_denied: entry
                .allow_denied
                .iter()
                .flat_map(|list| &list.items)
                .map(|path| arc(&path.0))
                .collect(),
            timeout: entry.timeout.as_ref().map(|timeout| timeout.0),
            body_size: entry.body_size.as_ref().map(|size| size.0),
            body_timeout: entry.body_timeout.as_ref().map_or(BODY_TIMEOUT, |timeout| timeout.0),
            place: entry.place(),
        }));
        written.push(index);
    }
    (rules, written)
}

/// Silence inside a body where nothing else is said.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// What rules may name.
struct Known<'a> {
    config: &'a Config,
    farms: &'a [Placed],
    /// Listener names, and how messages may show them; `None` if some cannot be known.
    listeners: Option<HashMap<String, String>>,
}

impl<'a> Known<'a> {
    fn new(config: &'a Config, farms: &'a [Placed]) -> Self {
        let complete = config.listeners.as_ref().filter(|list| !list.broken);
        let listeners = complete.map(|list| names(list).collect());
        Self { config, farms, listeners }
    }
}

fn names(listeners: &List<Listener>) -> impl Iterator<Item = (String, String)> {
    listeners.items.iter().filter_map(|listener| match &listener.name {
        Some(name) => Some((name.value.clone(), name.told())),
        None => listener.address.as_ref().map(|at| (at.value.to_string(), at.told())),
    })
}

/// Who takes a host and path; few rules share one, by listener or scheme.
type Taken<'a> = HashMap<(HostPattern, PathPattern), Vec<Claim<'a>>>;

struct Claim<'a> {
    listeners: Option<Vec<Arc<str>>>,
    schemes: Schemes,
    /// Where the host stands.
    mark: &'a Mark,
    /// Where the rule stands.
    rule: &'a Mark,
}

impl Claim<'_> {
    fn collides(&self, other: &Self) -> bool {
        let common = match (&self.listeners, &other.listeners) {
            (Some(a), Some(b)) => a.iter().any(|name| b.contains(name)),
            _ => true,
        };
        let (a, b) = (self.schemes, other.schemes);
        common && ((a.https && b.https) || (a.http && b.http))
    }
}

fn take<'a>(
    taken: &mut Taken<'a>,
    host: &At<HostPattern>,
    entry: &At<publish::Rule>,
    claim: Claim<'a>,
    findings: &mut Findings,
) {
    // Rules with conditions stand beside each other and beside one without.
    if entry.path.fault || entry.schemes.fault || entry.when.as_ref().is_some_and(|w| !w.is_empty())
    {
        return;
    }
    let claims = taken.entry((host.value.clone(), entry.path.value.clone())).or_default();
    if let Some(first) = claims.iter().find(|first| first.collides(&claim)) {
        let message = "another rule takes the same host, path and scheme".to_string();
        let help = "remove one of the two, or give it another `path`, `schemes` or `listeners`, or a `when`";
        // By an alias both hosts stand in one place; the rules do not.
        let alias = first.mark.place() == claim.mark.place();
        let (first, second) =
            if alias { (first.rule, claim.rule) } else { (first.mark, claim.mark) };
        collision(code::EQUAL_RULES, first, second, message, help, findings);
    }
    claims.push(claim);
}

fn default_name(entry: &publish::Rule) -> Arc<str> {
    let host = entry.host.as_ref().map(|host| host.to_string()).unwrap_or_default();
    match &entry.path.value {
        PathPattern::Any => arc(&host),
        PathPattern::Prefix(path) => arc(&format!("{host}{path}")),
        PathPattern::Exact(path) => arc(&format!("{host}={path}")),
    }
}

fn schemes(entry: &publish::Rule, findings: &mut Findings) -> Schemes {
    not_empty(Some(&entry.schemes), "schemes", findings);
    let has = |scheme| entry.schemes.items.iter().any(|s| s.value == scheme);
    Schemes { https: has(Scheme::Https), http: has(Scheme::Http) }
}

fn listeners(
    entry: &publish::Rule,
    known: &Known<'_>,
    findings: &mut Findings,
) -> Option<Vec<Arc<str>>> {
    let wanted = entry.listeners.as_ref()?;
    not_empty(Some(wanted), "listeners", findings);
    for name in &wanted.items {
        let Some(listeners) = known.listeners.as_ref().filter(|l| !l.contains_key(&name.value))
        else {
            continue;
        };
        let mut names: Vec<&str> = listeners.values().map(String::as_str).collect();
        names.sort_unstable();
        let near = nearest(name, names.iter().copied()).filter(|_| name.raw.is_none());
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are: {}", several(names.into_iter())),
        };
        let message = format!("no listener is called `{}`", name.shown());
        findings.add(code::UNKNOWN_LISTENER, &name.mark, message).help(help);
    }
    Some(wanted.items.iter().map(|name| arc(name)).collect())
}

/// What the rule does; `None` after a finding.
fn action(
    entry: &At<publish::Rule>,
    known: &Known<'_>,
    scope: Scope,
    files: &mut Files,
    findings: &mut Findings,
) -> Option<Action> {
    let deny = Some(&entry.deny).filter(|deny| deny.value);
    let set = [
        entry.farm.as_ref().map(|farm| ("farm", &farm.mark)),
        deny.map(|deny| ("deny", &deny.mark)),
        entry.redirect.as_ref().map(|redirect| ("redirect", &redirect.mark)),
        entry.respond.as_ref().map(|respond| ("respond", &respond.mark)),
    ];
    let set: Vec<(&str, &Mark)> = set.into_iter().flatten().collect();
    if let [(first, _), (second, mark), ..] = set.as_slice() {
        findings
            .add(code::EXCLUSIVE, mark, format!("`{first}` and `{second}` exclude each other"))
            .help("write one rule for each".to_string());
        return None;
    }
    if let Some(farm) = &entry.farm {
        return farm_id(farm, known, findings).map(Action::Forward);
    }
    if deny.is_some() {
        return Some(Action::Deny);
    }
    if let Some(redirect) = &entry.redirect {
        return Some(Action::Redirect(Redirect {
            to: templates::url(redirect.to.as_ref()?, scope, findings)?,
            status: redirect.status.0,
            keep_path: redirect.keep_path.value,
            keep_query: redirect.keep_query.value,
        }));
    }
    if let Some(respond) = &entry.respond {
        return respond::compile(respond, files, findings).map(Action::Respond);
    }
    if set.is_empty() && !entry.broken {
        findings.add(code::EXCLUSIVE, &entry.mark, "the rule does not say what to do").help(
            "add `farm: NAME`, `deny: true`, `redirect: URL` or `respond: { … }`".to_string(),
        );
    }
    None
}

fn farm_id(farm: &At<String>, known: &Known<'_>, findings: &mut Findings) -> Option<FarmId> {
    let farms = known.farms;
    if let Ok(at) = farms.binary_search_by(|(known, _)| known.name.as_ref().cmp(farm.as_str())) {
        return Some(FarmId(at));
    }
    // That farms are missing or cannot be read is a finding already.
    if known.config.farms.as_ref().is_none_or(|farms| farms.faulty.contains(&farm.value)) {
        return None;
    }
    let known = farms.iter().map(|(farm, mark)| (farm.name.as_ref(), mark));
    unknown_farm(farm, known, findings);
    None
}
