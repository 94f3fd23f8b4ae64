//! Published names → rule → farm → servers.

use std::{collections::HashMap, sync::Arc};

use super::{
    html::Html,
    query::{Query, encoded},
};
use crate::{
    admin::{RuleRow, ServerRow},
    forward::Live,
};

/// Rows of one page.
const ROWS: usize = 200;
/// Servers of a farm that are told in one row.
const SERVERS: usize = 8;

pub(super) fn section(out: &mut Html, live: &Live, servers: &[ServerRow], query: &Query) {
    let filter = query.get("names");
    let wanted = filter.to_lowercase();
    let rules = live.site.rules.iter().map(|rule| RuleRow::of(&live.site, rule));
    let rules: Vec<_> = rules.filter(|rule| rule.mentions(&wanted)).collect();
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
        let servers = rule.farm.as_ref().and_then(|farm| by_farm.get(farm));
        row(out, rule, servers.map_or(&[], Vec::as_slice));
    }
    out.put("</tbody>\n</table>\n", &[]);
    if pages > 1 {
        paging(out, filter, page, pages);
    }
    out.put("</section>\n", &[]);
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
