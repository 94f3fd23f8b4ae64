//! `frontgate reload`: read the configuration again, and wait for what comes of it.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    admin::{self, AdminArgs},
    order::{complain, who},
};
use crate::{
    admin::{Ask, Place, ReloadBody, ReloadResult, Reloaded},
    config::EXIT_CONFIG,
};

/// A reload looks up the names of new servers.
const PATIENCE: Duration = Duration::from_secs(120);

/// Let a running Frontgate read its configuration again, and wait for what comes of it.
///
/// Exit code 0: it serves what the files say. 78: they have errors, and the old configuration goes
/// on serving. 1: it could not be put to work, or Frontgate cannot be reached.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArgs {
    /// Why, for logs and colleagues
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    /// For programs
    #[arg(long)]
    json: bool,
}

type Told<'a> = (&'a Place, Result<Reloaded, String>);

/// Runs the command; the result is the exit code.
pub(super) fn run(args: &ReloadArgs) -> i32 {
    let side = match args.admin.side() {
        Ok(side) => side,
        Err((code, text)) => {
            complain("reload", &text);
            return code;
        }
    };
    let body = ReloadBody { who: who(), why: args.why.clone() };
    let body = serde_json::to_string(&body).unwrap_or_default();
    let ask = Ask { method: "POST", path: "/api/v1/reload", token: Some(&side.token), body: &body };
    let told = admin::ask_each(&ask, &side.addresses, PATIENCE);
    let out = if args.json { as_json(&told) } else { as_text(&told) };
    // A reader that went away wanted no more.
    let _ = io::stdout().write_all(out.as_bytes());
    let many = told.len() > 1;
    for (at, result) in &told {
        let at = if many { format!("{at}: ") } else { String::new() };
        match result {
            Ok(reloaded) => tell(&at, reloaded, args.json),
            Err(error) => complain("reload", &format!("{at}{error}")),
        }
    }
    exit_code(&told)
}

/// Findings and remarks, on standard error.
fn tell(at: &str, reloaded: &Reloaded, json: bool) {
    if !json {
        let _ = write!(io::stderr(), "{}", reloaded.text);
    }
    for key in &reloaded.needs_restart {
        complain("reload", &format!("{at}{key} changed; the old value stays until a restart"));
    }
    match (reloaded.result, &reloaded.error) {
        (ReloadResult::Refused, _) => {
            complain("reload", &format!("{at}refused; the old configuration goes on serving"));
        }
        (ReloadResult::Failed, error) => {
            let error = error.as_deref().unwrap_or("it failed");
            complain("reload", &format!("{at}{error}; the old configuration goes on serving"));
        }
        _ => {}
    }
}

fn as_text(told: &[Told<'_>]) -> String {
    let many = told.len() > 1;
    let line = |(at, result): &Told<'_>| {
        let word = match result.as_ref().ok()?.result {
            ReloadResult::Done => "reloaded",
            ReloadResult::Unchanged => "nothing has changed",
            ReloadResult::Refused | ReloadResult::Failed => return None,
        };
        Some(if many { format!("{at}: {word}\n") } else { format!("{word}\n") })
    };
    told.iter().filter_map(line).collect()
}

fn as_json(told: &[Told<'_>]) -> String {
    let entry = |(at, result): &Told<'_>| -> Value {
        let at = at.to_string();
        match result {
            Ok(told) => json!({ "admin": at, "result": told.result, "error": told.error,
                                "findings": told.findings, "needs_restart": told.needs_restart }),
            Err(error) => json!({ "admin": at, "error": error }),
        }
    };
    format!("{:#}\n", Value::from(told.iter().map(entry).collect::<Vec<_>>()))
}

/// The worst of them: errors in the configuration before failures at work.
fn exit_code(told: &[Told<'_>]) -> i32 {
    let is = |wanted: ReloadResult| {
        move |(_, told): &Told<'_>| told.as_ref().is_ok_and(|told| told.result == wanted)
    };
    if told.iter().any(is(ReloadResult::Refused)) {
        EXIT_CONFIG
    } else if told.iter().any(|(_, told)| told.is_err())
        || told.iter().any(is(ReloadResult::Failed))
    {
        1
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(result: ReloadResult) -> Reloaded {
        Reloaded {
            result,
            error: None,
            findings: Value::Null,
            text: String::new(),
            needs_restart: Vec::new(),
        }
    }

    #[test]
    fn the_worst_result_is_the_exit_code() {
        let at = Place::parse("unix:/run/a").unwrap();
        let code = |results: Vec<Result<ReloadResult, String>>| {
            let told: Vec<Told<'_>> =
                results.into_iter().map(|result| (&at, result.map(with))).collect();
            exit_code(&told)
        };
        assert_eq!(code(vec![Ok(ReloadResult::Done), Ok(ReloadResult::Unchanged)]), 0);
        assert_eq!(code(vec![Ok(ReloadResult::Done), Ok(ReloadResult::Failed)]), 1);
        assert_eq!(code(vec![Ok(ReloadResult::Done), Err("nobody".into())]), 1);
        assert_eq!(code(vec![Err("nobody".into()), Ok(ReloadResult::Refused)]), 78);
    }
}
