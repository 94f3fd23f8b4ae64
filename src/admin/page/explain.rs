//! What becomes of a URL: the routing walk as the proxy itself takes it.

use std::net::IpAddr;

use super::{html::Html, query::Query};
use crate::{
    forward::{Live, explain},
    route::{Asked, Explanation, explain::Toward},
};

/// Servers that are told.
const SERVERS: usize = 50;

pub(super) fn section(out: &mut Html, live: &Live, query: &Query) {
    let (url, from) = (query.get("url"), query.get("from"));
    out.put(
        "<section id=\"explain\" aria-labelledby=\"h-explain\">\n<h2 id=\"h-explain\">Explain a URL\
         </h2>\n<form id=\"f-explain\" method=\"get\" action=\"/#explain\" role=\"search\">\
         <label for=\"f-url\">URL</label> <input id=\"f-url\" name=\"url\" value=\"{}\" \
         placeholder=\"https://meet.contoso.com/\" autocomplete=\"off\" required> \
         <label for=\"f-from\">from address</label> <input id=\"f-from\" name=\"from\" value=\"{}\" \
         placeholder=\"192.0.2.1\" autocomplete=\"off\"> <button>Explain</button></form>\n\
         <div id=\"explained\" role=\"region\" aria-label=\"Explanation\" aria-live=\"polite\">\n",
        &[&url, &from],
    );
    if !url.is_empty() {
        match asked(live, url, from) {
            Ok(told) => walk(out, &told),
            Err(why) => out.put("<p role=\"alert\">{}</p>\n", &[&why]),
        }
    }
    out.put("</div>\n</section>\n", &[]);
}

fn asked(live: &Live, url: &str, from: &str) -> Result<Explanation, String> {
    let mut asked = Asked::new(url)?;
    if !from.is_empty() {
        asked.from = from.parse::<IpAddr>().map_err(|_| format!("`{from}` is no IP address"))?;
    }
    explain::live(live, &asked)
}

fn walk(out: &mut Html, told: &Explanation) {
    out.put(
        "<p><b>{}</b></p>\n<dl>\n<dt>Asked</dt><dd>{} {}://{}{} from {} at listener {}</dd>\n",
        &[
            &told.verdict.text,
            &told.method,
            &told.scheme,
            &told.host,
            &told.path,
            &told.source,
            &told.listener,
        ],
    );
    if let Some(status) = told.verdict.status {
        let reason = told.verdict.reason.as_deref().unwrap_or_default();
        out.put("<dt>Answer</dt><dd>{} {}</dd>\n", &[&status, &reason]);
    }
    if let Some(pattern) = &told.host_pattern {
        out.put("<dt>Host pattern</dt><dd>{}</dd>\n", &[pattern]);
    }
    if let Some(rule) = &told.rule {
        out.put("<dt>Rule</dt><dd>{} <small>{}</small></dd>\n", &[&rule.name, &rule.place]);
        for when in &rule.when {
            out.put("<dd>when {}</dd>\n", &[when]);
        }
    }
    for rival in &told.rivals {
        out.put(
            "<dt>Not rule</dt><dd>{}: {} <small>{}</small></dd>\n",
            &[&rival.rule, &rival.why, &rival.place],
        );
    }
    if told.rivals_left_out > 0 {
        out.put("<dd>and {} more</dd>\n", &[&told.rivals_left_out]);
    }
    for rival in &told.host_rivals {
        out.put(
            "<dt>Not host</dt><dd>{}: {} <small>{}</small></dd>\n",
            &[&rival.pattern, &rival.why, &rival.place],
        );
    }
    if let Some(it) = &told.toward {
        toward(out, it);
    }
    if let Some(now) = &told.live {
        out.put("<dt>Choice</dt><dd>{}</dd>\n", &[&now.choice]);
        if let Some(server) = &now.server {
            out.put("<dt>It would get</dt><dd>{}</dd>\n", &[server]);
        }
    }
    if told.readings.len() > 1 {
        for reading in &told.readings {
            let rule = reading.rule.as_deref().unwrap_or("no rule");
            out.put("<dt>Path read as</dt><dd>{}: {}</dd>\n", &[&reading.path, &rule]);
        }
    }
    for note in &told.notes {
        out.put("<dt>Note</dt><dd>{}</dd>\n", &[note]);
    }
    out.put("</dl>\n", &[]);
}

fn toward(out: &mut Html, it: &Toward) {
    out.put(
        "<dt>Farm</dt><dd>{} ({}), balance {}, affinity {} <small>{}</small></dd>\n\
         <dt>Sent</dt><dd>{}://{}{}</dd>\n\
         <dt>Timeouts</dt><dd>connect {} s, silent {} s, body {} s; sign-ins that bind \
         connections: {}</dd>\n",
        &[
            &it.farm,
            &it.preset,
            &it.balance,
            &it.affinity,
            &it.place,
            &it.scheme,
            &it.host,
            &it.target,
            &it.connect_timeout_seconds,
            &it.timeout_seconds,
            &it.body_timeout_seconds,
            &it.connection_auth,
        ],
    );
    for server in it.servers.iter().take(SERVERS) {
        let (class, word) = match server.eligible {
            Some(true) => ("up", "could be chosen"),
            Some(false) => ("down", "not now"),
            None => ("drain", "not known"),
        };
        out.put(
            "<dt>Server</dt><dd>{} <b class=\"st {}\">{}</b> {}",
            &[&server.server, &class, &word, &server.address],
        );
        if let Some(name) = &server.tls_name {
            out.put(", TLS name {}", &[name]);
        }
        out.put(" <small>{}</small></dd>\n", &[&server.why.as_deref().unwrap_or_default()]);
    }
    if let Some(more) = it.servers.len().checked_sub(SERVERS).filter(|more| *more > 0) {
        out.put("<dd>and {} more</dd>\n", &[&more]);
    }
    let told = it.told_headers.join(", ");
    out.put("<dt>Tells the server</dt><dd>{}</dd>\n", &[&told]);
    if let Some(version) = &it.proxy_protocol {
        out.put("<dt>PROXY header</dt><dd>{}</dd>\n", &[version]);
    }
    for header in &it.request_headers {
        let value = header.value.as_deref().unwrap_or_default();
        out.put(
            "<dt>Request header</dt><dd>{} {} {}</dd>\n",
            &[&header.change, &header.name, &value],
        );
    }
    for header in &it.response_headers {
        let value = header.value.as_deref().unwrap_or_default();
        out.put(
            "<dt>Answer header</dt><dd>{} {} {}</dd>\n",
            &[&header.change, &header.name, &value],
        );
    }
}
