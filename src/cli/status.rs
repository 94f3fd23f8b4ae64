//! `frontgate status`: how every server is.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::{
    admin::{self, AdminArgs},
    order::complain,
    table::table,
    wait::still_there,
};
use crate::{
    admin::{Ask, Place, ServerRow, Servers},
    farm::State,
    site::Token,
};

/// Time between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(2);

/// Tell how every server of a running Frontgate is.
///
/// Exit code 0: every farm has a server that takes new clients. 1: one has none, or Frontgate
/// cannot be reached.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Look again every 2 seconds, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    admin: AdminArgs,
    /// For programs
    #[arg(long)]
    json: bool,
}

type Told<'a> = (&'a Place, Result<Servers, String>);

/// Runs the command; the result is the exit code.
pub(super) fn run(args: &StatusArgs) -> i32 {
    let (addresses, token) = match args.admin.reading() {
        Ok(side) => side,
        Err((code, text)) => {
            complain("status", &text);
            return code;
        }
    };
    if !args.watch {
        return look(args, &addresses, token.as_ref(), false).unwrap_or(0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(watch(args, &addresses, token.as_ref())),
        Err(e) => {
            complain("status", &e.to_string());
            1
        }
    }
}

/// Looks until Ctrl-C, or until nobody reads any more.
async fn watch(args: &StatusArgs, addresses: &[Place], token: Option<&Token>) -> i32 {
    let redraw = !args.json && io::stdout().is_terminal();
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            biased;
            _ = &mut stop => return 0,
            _ = ticks.tick() => if look(args, addresses, token, redraw).is_none() { return 0 },
        }
    }
}

/// One look: its exit code; `None` if nobody reads it.
fn look(
    args: &StatusArgs,
    addresses: &[Place],
    token: Option<&Token>,
    redraw: bool,
) -> Option<i32> {
    let ask = Ask { method: "GET", path: "/api/v1/servers", token, body: "" };
    let told = admin::ask_each(&ask, addresses, admin::SOON);
    let now = SystemTime::now();
    let text = if args.json { as_json(&told) } else { as_text(&told, now) };
    // Home, the text, and away with what an earlier one left below.
    let text = if redraw { format!("\x1b[H\x1b[2J{text}") } else { text };
    let mut code = 0;
    for (at, result) in &told {
        match result {
            Err(error) => {
                complain("status", &format!("{at}: {error}"));
                code = 1;
            }
            Ok(servers) if !left_alone(servers).is_empty() => code = 1,
            Ok(_) => {}
        }
    }
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok()?;
    Some(code)
}

/// Farms without a server that takes new clients.
fn left_alone(servers: &Servers) -> Vec<&str> {
    let mut farms: BTreeMap<&str, bool> = BTreeMap::new();
    for row in &servers.servers {
        *farms.entry(&row.farm).or_default() |= row.takes_clients;
    }
    farms.into_iter().filter(|(_, any)| !any).map(|(farm, _)| farm).collect()
}

fn as_json(told: &[Told<'_>]) -> String {
    let entry = |(at, result): &Told<'_>| -> Value {
        let at = at.to_string();
        match result {
            Ok(servers) => json!({ "admin": at, "servers": servers.servers,
                                   "without_servers": left_alone(servers),
                                   "replaced": servers.replaced }),
            Err(error) => json!({ "admin": at, "error": error }),
        }
    };
    format!("{:#}\n", Value::from(told.iter().map(entry).collect::<Vec<_>>()))
}

const HEADINGS: [&str; 11] = [
    "FARM",
    "SERVER",
    "STATE",
    "HEALTH",
    "IN FLIGHT",
    "REQ/S",
    "REQUESTS",
    "FAILED",
    "RESPONSE",
    "PINS",
    "WS",
];

fn as_text(told: &[Told<'_>], now: SystemTime) -> String {
    let many = told.len() > 1;
    let mut text = String::new();
    for (at, servers) in told.iter().filter_map(|(at, told)| Some((at, told.as_ref().ok()?))) {
        if many {
            text += &format!("{at}\n");
        }
        let rows: Vec<Vec<String>> =
            servers.servers.iter().map(|row| cells(row, now).to_vec()).collect();
        text += &table(&HEADINGS, &rows);
        let open = servers.servers.iter().filter(|row| row.takes_clients).count();
        text += &format!("{open} of {} servers take new clients\n", rows.len());
        for farm in left_alone(servers) {
            text += &format!("farm {farm}: NO server takes new clients\n");
        }
        for process in &servers.replaced {
            text += &format!("{}, which are not counted here\n", still_there(*process));
        }
    }
    text
}

fn cells(row: &ServerRow, now: SystemTime) -> [String; 11] {
    let state = match (row.state, &row.who, &row.why) {
        (State::Ready, ..) => "ready".to_owned(),
        (state, Some(who), Some(why)) => format!("{state} by {who}: {why}"),
        (state, Some(who), None) => format!("{state} by {who}"),
        (state, ..) => state.to_string(),
    };
    [
        row.farm.to_string(),
        row.server.to_string(),
        state,
        health(row, now),
        row.in_flight.to_string(),
        format!("{:.1}", row.requests_per_second),
        row.requests.to_string(),
        row.failures.to_string(),
        row.response_time_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms")),
        row.pins.to_string(),
        row.websockets.to_string(),
    ]
}

/// `up 3d 4h`, `down 5m 2s: connect refused`, `out for 12s: reset`.
fn health(row: &ServerRow, now: SystemTime) -> String {
    let since = humantime::parse_rfc3339(&row.healthy_since).ok();
    let age = since.and_then(|since| now.duration_since(since).ok()).map_or_else(String::new, age);
    if !row.healthy {
        return match &row.reason {
            Some(reason) => format!("down {age}: {reason}"),
            None => format!("down {age}"),
        };
    }
    if let (Some(reason), Some(left)) = (&row.out_reason, row.out_seconds) {
        return format!("{} for {left}s: {reason}", row.standing);
    }
    match row.share {
        Some(share) => format!("up {age}, {:.0} % of its share", share * 100.0),
        None if row.standing != "fine" => format!("up {age}, {}", row.standing),
        None => format!("up {age}"),
    }
}

/// In the two largest units.
fn age(passed: Duration) -> String {
    let whole = humantime::format_duration(Duration::from_secs(passed.as_secs())).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(change: Value) -> ServerRow {
        let mut row = json!({
            "farm": "owa", "server": "exch01", "address": "10.0.0.1", "weight": 100,
            "state": "ready", "state_since": null, "who": null, "why": null, "healthy": true,
            "healthy_since": "2026-01-01T00:00:00Z", "reason": null, "backup": false,
            "max_requests": 0, "standing": "fine", "out_reason": null, "out_seconds": null,
            "share": null, "takes_clients": true, "status": "up",
            "status_since": null, "status_reason": null, "requests": 7, "failures": 1, "in_flight": 2,
            "requests_per_second": 1.25, "bytes_received": 0, "bytes_sent": 0,
            "response_time_ms": 12.4, "pins": 3, "websockets": 4, "websockets_total": 5
        });
        for (key, value) in change.as_object().unwrap() {
            row[key] = value.clone();
        }
        serde_json::from_value(row).unwrap()
    }

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_row_tells_state_and_health_with_reason_and_age() {
        let now = at("2026-01-02T03:04:05Z");
        let told = |change: Value| cells(&row(change), now)[2..4].join(" | ");
        assert_eq!(told(json!({})), "ready | up 1day 3h");
        assert_eq!(
            told(json!({ "state": "drain", "who": "jo@ws1", "why": "patches" })),
            "drain by jo@ws1: patches | up 1day 3h"
        );
        let down = json!({ "healthy": false, "reason": "connect refused",
                           "healthy_since": "2026-01-02T03:03:03Z" });
        assert_eq!(told(down), "ready | down 1m 2s: connect refused");
        let out = json!({ "standing": "out", "out_reason": "reset", "out_seconds": 12 });
        assert_eq!(told(out), "ready | out for 12s: reset");
        assert_eq!(told(json!({ "share": 0.25 })), "ready | up 1day 3h, 25 % of its share");
        assert_eq!(cells(&row(json!({})), now)[4..].join(" "), "2 1.2 7 1 12 ms 3 4");
    }

    #[test]
    fn a_farm_without_servers_is_told() {
        let servers = Servers {
            version: 1,
            servers: vec![
                row(json!({ "takes_clients": false })),
                row(json!({ "farm": "ews", "takes_clients": false })),
                row(json!({ "farm": "ews", "server": "exch02" })),
            ],
            replaced: vec![4711],
        };
        let here = Place::parse("unix:/run/a").unwrap();
        let text = as_text(&[(&here, Ok(servers))], at("2026-01-01T00:00:00Z"));
        assert!(text.starts_with("FARM  SERVER  STATE"), "{text}");
        assert!(
            text.ends_with(
                "1 of 3 servers take new clients\nfarm owa: NO server takes new clients\n\
                 process 4711, which an upgrade has replaced, still lets its requests end, which \
                 are not counted here\n"
            ),
            "{text}"
        );
    }
}
