//! An explanation as text for people.

use super::table::table;
use crate::route::{
    Explanation,
    explain::{HeaderTold, Outcome, ServerTold, Toward},
};

/// Column in which what is told begins.
const INDENT: usize = 10;

/// The walk, step by step; `by` says who explained it.
pub(super) fn text(told: &Explanation, by: &str) -> String {
    let mut out = Out(String::new());
    let query = told.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    out.line(
        "request",
        &format!("{} {}://{}{}{query}", told.method, told.scheme, told.host, told.path),
    );
    out.line("", &format!("from {}, on listener {}", told.source, told.listener));
    out.line("told by", by);
    verdict(&mut out, told);
    match &told.host_pattern {
        Some(pattern) => out.line("host", &format!("{} is taken by {pattern}", told.host)),
        None => out.line("host", &format!("nothing publishes {} here", told.host)),
    }
    for rival in &told.host_rivals {
        out.line("", &format!("not by {} ({}): {}", rival.pattern, rival.place, rival.why));
    }
    if told.readings.len() > 1 {
        for (at, reading) in told.readings.iter().enumerate() {
            let rule = reading.rule.as_deref().unwrap_or("no rule");
            let line =
                format!("may be read as {}: {}, {rule}", reading.path, word(reading.outcome));
            out.line(if at == 0 { "path" } else { "" }, &line);
        }
    }
    match &told.rule {
        Some(rule) => {
            out.line("rule", &format!("{} ({})", rule.name, rule.place));
            for condition in &rule.when {
                out.line("", &format!("when {condition}"));
            }
        }
        None => out.line("rule", "none"),
    }
    for rival in &told.rivals {
        out.line("", &format!("not {} ({}): {}", rival.rule, rival.place, rival.why));
    }
    if told.rivals_left_out > 0 {
        out.line("", &format!("and {} more", told.rivals_left_out));
    }
    if let Some(toward) = &told.toward {
        farm(&mut out, told, toward);
    }
    for (at, note) in told.notes.iter().enumerate() {
        out.line(if at == 0 { "note" } else { "" }, note);
    }
    out.0
}

fn verdict(out: &mut Out, told: &Explanation) {
    let verdict = &told.verdict;
    let code = match (verdict.status, &verdict.reason) {
        (Some(status), Some(reason)) => format!("{status} {reason}: "),
        _ => String::new(),
    };
    out.line("verdict", &format!("{code}{}", verdict.text));
}

fn farm(out: &mut Out, told: &Explanation, toward: &Toward) {
    out.line("farm", &format!("{} ({}), preset {}", toward.farm, toward.place, toward.preset));
    let how = if toward.rewritten { ", rewritten by the rule" } else { "" };
    out.line("sends", &format!("{} {} over {}{how}", told.method, toward.target, toward.scheme));
    out.line("", &format!("Host: {}", toward.host));
    if let Some(tls) = &toward.tls {
        let ca = if tls.own_ca { "the farm's own authorities" } else { "the system's authorities" };
        out.line("tls", &format!("verify {}, against {ca}", tls.verify));
    }
    out.line(
        "timeouts",
        &format!(
            "{}s silence of the server, {}s to connect, {}s silence inside a body",
            toward.timeout_seconds, toward.connect_timeout_seconds, toward.body_timeout_seconds
        ),
    );
    if let Some(size) = toward.body_size {
        out.line("body", &format!("at most {size} bytes"));
    }
    out.line("headers", &format!("writes {}", toward.told_headers.join(", ")));
    if let Some(version) = &toward.proxy_protocol {
        out.line("", &format!("names the client to the server by the PROXY protocol, {version}"));
    }
    for change in &toward.request_headers {
        out.line("", &format!("of the request: {}", changed(change)));
    }
    for change in &toward.response_headers {
        out.line("", &format!("of the answer: {}", changed(change)));
    }
    if !toward.hidden_headers.is_empty() {
        out.line("", &format!("hides {}", toward.hidden_headers.join(", ")));
    }
    if toward.rewrite_host {
        out.line("", "names of the servers in Location and cookies become the client's");
    }
    out.line(
        "balance",
        &format!(
            "{}; affinity {}; connection_auth {}",
            toward.balance, toward.affinity, toward.connection_auth
        ),
    );
    let rows: Vec<Vec<String>> = toward.servers.iter().map(row).collect();
    let servers = table(&["SERVER", "ADDRESS", "TLS NAME", "WEIGHT", "NOW"], &rows);
    for (at, line) in servers.lines().enumerate() {
        out.line(if at == 0 { "servers" } else { "" }, line);
    }
    match &told.live {
        Some(live) => out.line("next", &live.choice),
        None => out.line("next", "only a running Frontgate knows"),
    }
}

fn row(server: &ServerTold) -> Vec<String> {
    let now = match (server.eligible, &server.why) {
        (None, _) if server.backup => "a backup".to_owned(),
        (None, _) => "-".to_owned(),
        (Some(true), None) => "can be chosen".to_owned(),
        (Some(true), Some(why)) => format!("can be chosen; {why}"),
        (Some(false), why) => why.clone().unwrap_or_else(|| "cannot be chosen".to_owned()),
    };
    let name = server.tls_name.clone().unwrap_or_else(|| "-".to_owned());
    vec![server.server.clone(), server.address.clone(), name, server.weight.to_string(), now]
}

fn changed(change: &HeaderTold) -> String {
    match &change.value {
        Some(value) => format!("{} {}: {value}", change.change, change.name),
        None => format!("{} {}", change.change, change.name),
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Forward => "forwarded",
        Outcome::Redirect => "redirected",
        Outcome::Respond => "answered with a page",
        Outcome::ToHttps => "redirected to https",
        Outcome::Deny => "denied",
        Outcome::HostNotPublished | Outcome::PathNotPublished => "not published",
        Outcome::Ambiguous => "ambiguous",
        Outcome::Refused => "refused",
    }
}

/// Lines under their headings.
struct Out(String);

impl Out {
    /// SECURITY: the URL may be a stranger's; what would steer a terminal is replaced. Test:
    /// what_steers_a_terminal_is_replaced
    fn line(&mut self, heading: &str, text: &str) {
        let text = text.replace(char::is_control, "\u{fffd}");
        self.0 += &format!("{heading:INDENT$}{text}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_replaced() {
        let mut out = Out(String::new());
        out.line("a", "b\u{1b}[2J\nc");
        assert_eq!(out.0, "a         b\u{fffd}[2J\u{fffd}c\n");
    }
}
