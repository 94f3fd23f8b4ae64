//! `frontgate drain`, `maintain` and `ready`: take a server out, or back.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    admin::{self, AdminArgs},
    table::table,
    wait::{Until, wait},
};
use crate::admin::{Ask, Done, OrderBody, Place};

/// Which server, and why.
#[derive(Debug, clap::Args)]
pub(super) struct OrderArgs {
    /// `exch01`: of every farm; `owa/exch01`: of that one
    #[arg(value_name = "SERVER")]
    server: String,
    /// Why, for logs and colleagues
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Then wait, at most so long (such as 10m): after `ready` until it takes clients, otherwise
    /// until it has no request, pin and WebSocket left
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    admin: AdminArgs,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Gives the order `word` and tells what it changed. Exit code 0: done everywhere. 1: somewhere
/// not, or `--wait` was in vain.
pub(super) fn run(word: &str, args: &OrderArgs) -> i32 {
    let side = match args.admin.side() {
        Ok(side) => side,
        Err((code, text)) => {
            complain(word, &text);
            return code;
        }
    };
    let body = OrderBody { server: args.server.clone(), who: who(), why: args.why.clone() };
    let body = serde_json::to_string(&body).unwrap_or_default();
    let path = format!("/api/v1/{word}");
    let ask = Ask { method: "POST", path: &path, token: Some(&side.token), body: &body };
    let results = admin::ask_each(&ask, &side.addresses, admin::SOON);
    let many = results.len() > 1;
    let text = if args.json { as_json(&results) } else { as_table(&results, many) };
    // A reader that went away wanted no more.
    let _ = io::stdout().write_all(text.as_bytes());
    let mut code = 0;
    for (at, result) in &results {
        let at = if many { format!("{at}: ") } else { String::new() };
        match result {
            Ok(done) => warn(word, &at, done),
            Err(error) => {
                complain(word, &format!("{at}{error}"));
                code = 1;
            }
        }
    }
    let Some(limit) = args.wait.filter(|_| code == 0) else { return code };
    let until = if word == "ready" { Until::Open } else { Until::Idle };
    match wait(until, &results, &side.token, limit) {
        Ok(()) => 0,
        Err(missing) => {
            for what in missing {
                complain(word, &format!("still not, after {limit:?}: {what}"));
            }
            1
        }
    }
}

type Given<'a> = (&'a Place, Result<Done, String>);

fn as_table(results: &[Given<'_>], many: bool) -> String {
    let done = results.iter().filter_map(|(at, result)| Some((at, result.as_ref().ok()?)));
    let rows = done.flat_map(|(at, done)| {
        done.changed.iter().map(move |row| {
            let now = if row.from == row.to {
                format!("{} (as it was)", row.to)
            } else {
                row.to.to_string()
            };
            let cells = [row.farm.to_string(), row.server.to_string(), row.from.to_string(), now];
            many.then(|| at.to_string()).into_iter().chain(cells).collect()
        })
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let headings = ["ADMIN", "FARM", "SERVER", "WAS", "NOW"];
    table(headings.get(usize::from(!many)..).unwrap_or_default(), &rows)
}

fn as_json(results: &[Given<'_>]) -> String {
    let result = |(at, result): &Given<'_>| -> Value {
        let at = at.to_string();
        match result {
            Ok(done) => json!({ "admin": at, "changed": done.changed, "kept": done.kept,
                                "without_servers": done.without_servers }),
            Err(error) => json!({ "admin": at, "error": error }),
        }
    };
    format!("{:#}\n", Value::from(results.iter().map(result).collect::<Vec<_>>()))
}

/// What whoever gave the order should know.
fn warn(word: &str, at: &str, done: &Done) {
    if !done.kept {
        complain(word, &format!("{at}a restart will forget this: state_dir cannot be written"));
    }
    for farm in &done.without_servers {
        let text = format!("{at}farm {farm} has no healthy server left that takes new clients");
        complain(word, &text);
    }
}

pub(super) fn complain(word: &str, text: &str) {
    let _ = writeln!(io::stderr(), "frontgate {word}: {text}");
}

/// Who runs this: user and machine.
pub(super) fn who() -> String {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let user = named("SUDO_USER").or_else(|| named("USER"));
    // SAFETY: getuid(2) cannot fail.
    let user = user.unwrap_or_else(|| match unsafe { libc::getuid() } {
        0 => "root".to_owned(),
        uid => format!("uid{uid}"),
    });
    match &*crate::machine::name() {
        "" => user,
        host => format!("{user}@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{admin::ChangedRow, farm::State};

    fn done(from: State) -> Done {
        let (farm, server): (Arc<str>, Arc<str>) = ("owa".into(), "exch01".into());
        let changed = vec![ChangedRow { farm, server, from, to: State::Drain }];
        Done { changed, kept: true, without_servers: Vec::new() }
    }

    #[test]
    fn the_table_tells_old_and_new() {
        let at = Place::parse("unix:/run/a").unwrap();
        let one = as_table(&[(&at, Ok(done(State::Ready)))], false);
        assert_eq!(one, "FARM  SERVER  WAS    NOW\nowa   exch01  ready  drain\n");
        let both = [(&at, Ok(done(State::Drain))), (&at, Err("no".to_owned()))];
        assert_eq!(
            as_table(&both, true),
            "ADMIN        FARM  SERVER  WAS    NOW\n\
             unix:/run/a  owa   exch01  drain  drain (as it was)\n"
        );
        assert_eq!(as_table(&[(&at, Err("no".to_owned()))], false), "");
    }

    #[test]
    fn json_has_an_entry_for_each_address() {
        let at = Place::parse("unix:/run/a").unwrap();
        let both = [(&at, Ok(done(State::Ready))), (&at, Err("no".to_owned()))];
        let json: Value = serde_json::from_str(&as_json(&both)).unwrap();
        assert_eq!(json[0]["changed"][0]["from"], "ready");
        assert_eq!(json[1], json!({ "admin": "unix:/run/a", "error": "no" }));
    }

    #[test]
    fn who_is_a_person_at_a_machine() {
        assert!(!who().is_empty() && !who().contains(char::is_whitespace));
    }
}
