//! `frontgate lab --prepare` and `--server`: simulated servers as processes of their own.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;

use super::lab::{interrupted, show};
use crate::lab::{self, Options};

/// Makes what servers apart have in common, and tells where.
pub(super) fn prepare(dir: Option<&Path>, domains: &[String]) -> Result<()> {
    let dir = dir.context("--prepare needs --dir")?;
    let made = lab::prepare(dir, domains)?;
    let word = if made { "Made" } else { "There already" };
    // A closed standard output is no reason to fail.
    let _ = writeln!(io::stdout(), "{word}: certificates, users, token in {}", dir.display());
    Ok(())
}

/// Runs these servers until SIGINT or SIGTERM.
pub(super) fn serve(
    runtime: &Runtime,
    options: &Options,
    names: &[String],
    show_probes: bool,
) -> Result<()> {
    let servers = runtime.block_on(lab::start_only(options, names))?;
    for (name, addresses) in servers.servers() {
        let addresses: Vec<_> = addresses.iter().map(|(ip, port)| format!("{ip}:{port}")).collect();
        let _ = writeln!(io::stdout(), "{name} listens at {}", addresses.join(", "));
    }
    runtime.spawn(show(servers.seen(), show_probes));
    let stopped = runtime.block_on(interrupted());
    runtime.block_on(servers.shutdown());
    stopped
}
