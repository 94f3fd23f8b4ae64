//! `frontgate healthcheck`: is the Frontgate on this machine ready?

use std::{
    io::{self, Write},
    path::PathBuf,
};

use super::admin::address;
use crate::{admin, config, site::AdminAddress};

/// Ask a running Frontgate whether it is ready.
#[derive(Debug, clap::Args)]
pub(super) struct HealthcheckArgs {
    /// Configuration file that names the admin address
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask here instead: ADDRESS:PORT or unix:/PATH
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    admin: Option<AdminAddress>,
    /// Ask only whether the process lives, not whether it is ready for traffic
    #[arg(long)]
    live: bool,
}

/// Exit code 0: ready. 1: not ready, or nobody answers.
pub(super) fn run(args: &HealthcheckArgs) -> i32 {
    let address = args.admin.clone().unwrap_or_else(|| configured(args.config.clone()));
    let page = if args.live { "/livez" } else { "/readyz" };
    match admin::get(&address, page) {
        Ok((200, body)) => {
            let _ = write!(io::stdout(), "{body}");
            0
        }
        Ok((status, body)) => {
            let _ = write!(io::stderr(), "frontgate healthcheck: {status} {body}");
            1
        }
        Err(e) => {
            let _ = writeln!(io::stderr(), "frontgate healthcheck: {e:#}");
            1
        }
    }
}

/// The address the configuration names. Errors elsewhere in the file do not matter: the running
/// Frontgate serves its last good site.
fn configured(path: Option<PathBuf>) -> AdminAddress {
    match config::load(&config::path(path.as_deref())).admin {
        Some(admin) => admin.health.unwrap_or(admin.listen),
        None => AdminAddress::Tcp(([127, 0, 0, 1], 9180).into()),
    }
}
