//! The command line. One file a command.

mod admin;
pub mod check;
mod events;
mod explain;
mod explained;
mod healthcheck;
pub mod lab;
mod lab_server;
mod order;
mod reload;
mod status;
mod table;
mod wait;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Parser, Subcommand};

use crate::observe::{flush_log, start_log};

/// Reverse proxy for Lync, Skype for Business, Exchange and Office Web Apps.
#[derive(Debug, Parser)]
#[command(name = "frontgate", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration without starting anything
    Check(check::CheckArgs),
    /// Take a server out gently: no new clients; those it has stay
    Drain(order::OrderArgs),
    /// Tell what changed: servers up and down, drains, reloads, certificates that expire
    Events(events::EventsArgs),
    /// Tell which rule takes a URL, where it goes and why
    Explain(explain::ExplainArgs),
    /// Ask a running Frontgate whether it is ready (for containers and keepalived)
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Run Frontgate in front of simulated Front Ends
    Lab(lab::LabArgs),
    /// Take a server out at once
    Maintain(order::OrderArgs),
    /// Bring a server back
    Ready(order::OrderArgs),
    /// Let a running Frontgate read its configuration again, and wait for what comes of it
    Reload(reload::ReloadArgs),
    /// Serve
    Run(RunArgs),
    /// Tell how every server of a running Frontgate is
    Status(status::StatusArgs),
    /// Tell the version
    Version(VersionArgs),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Configuration file [default: $FRONTGATE_CONFIG, then /etc/frontgate/config.yaml]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct VersionArgs {
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Runs the command line and returns the exit code: 0 done, 1 failed at work, 2 wrong usage,
/// 78 configuration invalid.
pub fn main() -> i32 {
    let code = match Cli::parse_from(old_hands(std::env::args_os().collect())).command {
        Command::Check(args) => check::run(args),
        Command::Drain(args) => order::run("drain", &args),
        Command::Events(args) => events::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Healthcheck(args) => healthcheck::run(&args),
        Command::Lab(args) => {
            start_log("warn");
            lab::run(args, crate::runtime::run)
        }
        Command::Maintain(args) => order::run("maintain", &args),
        Command::Ready(args) => order::run("ready", &args),
        Command::Reload(args) => reload::run(&args),
        Command::Run(args) => {
            start_log("warn,frontgate=info");
            crate::runtime::run(&crate::config::path(args.config.as_deref()))
        }
        Command::Status(args) => status::run(&args),
        Command::Version(args) => version(&args),
    };
    flush_log();
    code
}

/// What old hands type: `frontgate -t -c FILE` is `check`.
fn old_hands(mut args: Vec<std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    if let Some(first) = args.get_mut(1)
        && first == "-t"
    {
        *first = "check".into();
    }
    args
}

fn version(args: &VersionArgs) -> i32 {
    let version = env!("CARGO_PKG_VERSION");
    let text = if args.json {
        serde_json::json!({ "name": "frontgate", "version": version }).to_string()
    } else {
        format!("frontgate {version}")
    };
    // A reader that went away wanted no more.
    let _ = writeln!(io::stdout(), "{text}");
    0
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn old_hands_are_understood() {
        let args = ["frontgate", "-t", "-c", "x.yaml"].map(Into::into).to_vec();
        let cli = Cli::parse_from(old_hands(args));
        assert!(matches!(cli.command, Command::Check(_)));
    }
}
