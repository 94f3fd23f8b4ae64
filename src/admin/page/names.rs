//! Published names → rule → farm → servers.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use super::{
    html::Html,
    query::{Query, encoded},
};
use crate::{
    admin::{RuleRow, ServerRow},
    forward::Live,
    site::{Action, PathPattern, Rule, Site},
};

/// Rows of one page.
const ROWS: usize = 200;
/// Servers of a farm that are told in one row.
const SERVERS: usize = 8;

pub(super) fn section(out: &mut Html, live: &Live, servers: &[ServerRow], query: &Query) {
    let filter = query.get("names");
    let wanted = filter.to_lowercase();
    let mut mentions = Mentions::new(&wanted);
    let rules: Vec<_> =
        live.site.rules.iter().filter(|rule| mentions.has(&live.site, rule)).collect();
    let pages = rules.len().div_ceil(ROWS).max(1);
    let page = query.get("page").parse().unwrap_or(1).clamp(1, pages);
    out.put(
        "<section id=\"names\" aria-labelledby=\"h-names\">\n<h2 id=\"h-names\">Published</h2>\n\
         <form method=\"get\" action=\"/#names\" role=\"search\"><label for=\"f-names\">Name, path, \
         rule, farm or file:line</label> <input id=\"f-names\" name=\"names\" type=\"search\" \
         value=\"{}\"> <button>Filter</button></form>\n",
        &[&filter],
    );
    let domains = live.site.domains.join(", ");
    if !domains.is_empty() {
        out.put(
            "<p class=\"hint\">The last <code>*</code> of a name stands for: {}</p>\n",
            &[&domains],
        );
    }
    out.put(
        "<table class=\"names\" data-pages=\"{}\">\n<caption>{} rules</caption>\n<thead><tr>\
         <th scope=\"col\">Name</th><th scope=\"col\">Rule</th><th scope=\"col\">Goes to</th>\
         <th scope=\"col\">Servers</th></tr></thead>\n<tbody>\n",
        &[&pages, &rules.len()],
    );
    let mut by_farm: HashMap<&Arc<str>, Vec<&ServerRow>> = HashMap::new();
    for server in servers {
        by_farm.entry(&server.farm).or_default().push(server);
    }
    for rule in rules.iter().skip((page - 1) * ROWS).take(ROWS) {
        let rule = RuleRow::of(&live.site, rule);
        let servers = rule.farm.as_ref().and_then(|farm| by_farm.get(farm));
        row(out, &rule, servers.map_or(&[], Vec::as_slice));
    }
    out.put("</tbody>\n</table>\n", &[]);
    if pages > 1 {
        paging(out, filter, page, pages);
    }
    out.put("</section>\n", &[]);
}

/// Which rules a filter finds: by name, host and path, farm, or `file:line`. All rules are asked,
/// so nothing is made for one of them alone.
struct Mentions<'a> {
    /// Lower case.
    wanted: &'a str,
    text: String,
}

impl<'a> Mentions<'a> {
    fn new(wanted: &'a str) -> Self {
        Self { wanted, text: String::new() }
    }

    fn has(&mut self, site: &Site, rule: &Rule) -> bool {
        if self.wanted.is_empty() {
            return true;
        }
        let (equals, path) = match &rule.path {
            PathPattern::Any => ("", ""),
            PathPattern::Prefix(path) => ("", &**path),
            PathPattern::Exact(path) => ("=", &**path),
        };
        let farm = match &rule.action {
            Action::Forward(id) => site.farms.get(id.0).map_or("", |farm| &farm.name),
            _ => "",
        };
        let Rule { name, host, place, .. } = rule;
        self.text.clear();
        // A string takes everything. Lines, so that no two of them are found as one text.
        let _ = write!(
            self.text,
            "{name}\n{host}{equals}{path}\n{farm}\n{}:{}",
            place.file, place.line
        );
        if self.text.is_ascii() {
            self.text.make_ascii_lowercase();
            self.text.contains(self.wanted)
        } else {
            self.text.to_lowercase().contains(self.wanted)
        }
    }
}

fn row(out: &mut Html, rule: &RuleRow, servers: &[&ServerRow]) {
    let schemes = rule.schemes.join(", ");
    let path = rule.path.strip_prefix('=').unwrap_or(&rule.path);
    let exactly = if rule.path.starts_with('=') { " exactly" } else { "" };
    out.put(
        "<tr><th scope=\"row\">{}{} <small>{}{}</small></th><td>{} <small>{}:{}",
        &[&rule.host, &path, &schemes, &exactly, &rule.name, &rule.file, &rule.line],
    );
    if rule.conditions > 0 {
        out.put("; {} conditions", &[&rule.conditions]);
    }
    out.put("</small></td><td>", &[]);
    match (&rule.farm, &rule.to, rule.status) {
        (Some(farm), ..) => out.put("{}", &[farm]),
        (None, Some(to), Some(status)) => out.put("redirect {} to {}", &[&status, to]),
        (None, _, Some(status)) => out.put("answers {}", &[&status]),
        (None, _, None) => {}
    }
    out.put("</td><td>", &[]);
    for server in servers.iter().take(SERVERS) {
        out.put(
            "<span class=\"sv\" data-v=\"{}/{}\">{} <b class=\"st {}\">{}</b></span> ",
            &[&server.farm, &server.server, &server.server, &server.status, &server.status],
        );
    }
    if let Some(more) = servers.len().checked_sub(SERVERS).filter(|more| *more > 0) {
        out.put("and {} more", &[&more]);
    }
    out.put("</td></tr>\n", &[]);
}

fn paging(out: &mut Html, filter: &str, page: usize, pages: usize) {
    out.put("<nav class=\"paging\" aria-label=\"Pages of published names\">", &[]);
    let names = encoded(filter);
    if page > 1 {
        let to = page - 1;
        out.put(
            "<a rel=\"prev\" href=\"/?names={}&amp;page={}#names\">Previous</a> ",
            &[&names, &to],
        );
    }
    out.put("Page {} of {}", &[&page, &pages]);
    if page < pages {
        let to = page + 1;
        out.put(" <a rel=\"next\" href=\"/?names={}&amp;page={}#names\">Next</a>", &[&names, &to]);
    }
    out.put("</nav>\n", &[]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::testing::{forward, site};

    #[test]
    fn a_filter_finds_every_text_of_a_rule_in_any_letter_case() {
        let mut rule = forward("Meet.Contoso.com", "/Größe");
        rule.name = "Anmeldung ÜBER".into();
        let exact = Rule { path: PathPattern::Exact("/x".into()), ..forward("*.x.y", "") };
        let site = site(&["contoso.com"], vec![rule, exact, forward("dialin.*", "")]);
        let found = |wanted: &str| {
            let wanted = wanted.to_lowercase();
            let mut mentions = Mentions::new(&wanted);
            let all = site.rules.iter().enumerate();
            all.filter(|(_, rule)| mentions.has(&site, rule)).map(|(n, _)| n).collect::<Vec<_>>()
        };
        assert_eq!(found(""), [0, 1, 2]);
        assert_eq!(found("MEET.contoso.com/grö"), [0]);
        assert_eq!(found("über"), [0]);
        assert_eq!(found("*.x.y=/X"), [1]);
        assert_eq!(found("dialin"), [2]);
        assert_eq!(found("lync"), [0, 1, 2], "the farm");
        assert_eq!(found("test:1"), [0, 1, 2], "the place");
        assert!(found("nothing").is_empty());
    }
}
