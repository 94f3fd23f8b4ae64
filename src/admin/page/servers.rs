//! A row a server, with ARR's columns.

use std::{sync::Arc, time::SystemTime};

use super::{
    html::{Age, Bytes, Html},
    query::Query,
    spark,
};
use crate::admin::{ServerRow, history::History};

/// Most rows of one page.
const MOST: usize = 1000;

pub(super) fn section(
    out: &mut Html,
    rows: &[ServerRow],
    query: &Query,
    history: &History,
    now: SystemTime,
) {
    let filter = query.get("servers");
    let wanted = filter.to_lowercase();
    let matching: Vec<_> = rows.iter().filter(|row| mentions(row, &wanted)).collect();
    out.put(
        "<section id=\"servers\" aria-labelledby=\"h-servers\">\n<h2 id=\"h-servers\">Servers</h2>\n\
         <form method=\"get\" action=\"/#servers\" role=\"search\"><label for=\"f-servers\">Farm, \
         server, address or state</label> <input id=\"f-servers\" name=\"servers\" type=\"search\" \
         value=\"{}\"> <button>Filter</button></form>\n",
        &[&filter],
    );
    if matching.len() > MOST {
        let (shown, all) = (MOST, matching.len());
        out.put(
            "<p class=\"hint\">The first {} of {}; a filter finds the rest.</p>\n",
            &[&shown, &all],
        );
    }
    out.put(
        "<table class=\"servers\">\n<caption>Every server of every farm</caption>\n<thead><tr>\
         <th scope=\"col\">Server</th><th scope=\"col\">State</th><th scope=\"col\">Requests</th>\
         <th scope=\"col\">per second</th><th scope=\"col\">Current</th><th scope=\"col\">Failed</th>\
         <th scope=\"col\">Response</th><th scope=\"col\">Received</th><th scope=\"col\">Sent</th>\
         <th scope=\"col\">Pins</th><th scope=\"col\">Web&shy;Sockets</th><th scope=\"col\">Weight</th>\
         <th scope=\"col\">Last minutes</th></tr></thead>\n<tbody>\n",
        &[],
    );
    for row in matching.into_iter().take(MOST) {
        server(out, row, history, now);
    }
    out.put("</tbody>\n</table>\n</section>\n", &[]);
}

fn mentions(row: &ServerRow, wanted: &str) -> bool {
    let name = format!("{}/{}", row.farm, row.server);
    [&name, &row.address, &row.status].iter().any(|text| text.to_lowercase().contains(wanted))
}

fn server(out: &mut Html, row: &ServerRow, history: &History, now: SystemTime) {
    out.put(
        "<tr data-s=\"{}/{}\"><th scope=\"row\"><span class=\"farm\">{}/</span><wbr>{} \
         <small>{}</small></th><td><b class=\"st {}\">{}</b> ",
        &[&row.farm, &row.server, &row.farm, &row.server, &row.address, &row.status, &row.status],
    );
    if let Some(since) = &row.status_since {
        out.put("<time datetime=\"{}\">{}</time>", &[since, &Age(age(since, now))]);
    } else {
        out.put("<time></time>", &[]);
    }
    let backup = if row.backup { "backup" } else { "" };
    let reason = row.status_reason.as_deref().unwrap_or(backup);
    let response = row.response_time_ms.map_or("–".to_owned(), |ms| format!("{ms:.0} ms"));
    let rate = format!("{:.1}", row.requests_per_second);
    out.put(
        " <small>{}</small></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>",
        &[
            &reason,
            &row.requests,
            &rate,
            &row.in_flight,
            &row.failures,
            &response,
            &Bytes(row.bytes_received),
            &Bytes(row.bytes_sent),
            &row.pins,
            &row.websockets,
            &row.weight,
        ],
    );
    let (farm, name): (&Arc<str>, &Arc<str>) = (&row.farm, &row.server);
    spark::draw(out, &history.of(farm, name));
    out.put("</td></tr>\n", &[]);
}

/// Seconds since a time.
pub(super) fn age(since: &str, now: SystemTime) -> u64 {
    let since = humantime::parse_rfc3339(since).ok();
    let age = since.and_then(|since| now.duration_since(since).ok());
    age.unwrap_or_default().as_secs()
}

/// What is asked before a server is taken out or back; the script opens it.
pub(super) fn dialog(out: &mut Html) {
    out.put(
        "<dialog id=\"order\" aria-labelledby=\"order-title\"><form method=\"dialog\">\n\
         <h2 id=\"order-title\"></h2>\n<p id=\"order-what\"></p>\n\
         <p><label for=\"order-why\">Why (for colleagues and logs)</label>\
         <input id=\"order-why\" maxlength=\"1000\" autocomplete=\"off\"></p>\n\
         <p><label for=\"order-who\">Your name</label>\
         <input id=\"order-who\" maxlength=\"150\" autocomplete=\"off\" required></p>\n\
         <p id=\"order-token-row\"><label for=\"order-token\">Token (the first line of \
         <code>admin.token_file</code> or <code>state_dir/admin.token</code>)</label>\
         <input id=\"order-token\" type=\"password\" autocomplete=\"off\"></p>\n\
         <p id=\"order-error\" role=\"alert\"></p>\n\
         <p><button id=\"order-do\" type=\"submit\">OK</button> \
         <button id=\"order-cancel\" type=\"button\">Cancel</button></p>\n</form></dialog>\n",
        &[],
    );
}
