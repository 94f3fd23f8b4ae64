//! A running Frontgate: start, reload, stop.

mod admin_side;
mod build;
mod certificates;
mod descriptors;
mod fixed;
mod hand_over;
mod instance;
mod listeners;
mod manager;
mod reload;
mod serve;
mod signals;
mod stop;
mod take_over;
mod watch;

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use log::info;

use self::{
    hand_over::Program,
    instance::{Before, Instance},
    serve::serve,
    signals::Signals,
    watch::Watch,
};
use crate::{
    admin::Reload,
    config::{self, EXIT_CONFIG, render},
    site::Site,
};

/// Loads the configuration and serves until told to stop. Returns the exit code: 0 after an
/// orderly stop, 1 when it failed at work, 78 when the configuration is invalid.
pub fn run(path: &Path) -> i32 {
    signals::note_early();
    let before = take_over::before();
    let program = Program::of_this_process();
    // Watched before it is read, so that no change falls between the two.
    let mut files = Watch::new();
    files.follow(path, &[], &[]);
    let outcome = config::load(path);
    files.follow(path, &outcome.files, &outcome.directories);
    // Nobody may be there to read it; the exit code still counts.
    let _ = io::stderr().write_all(render::text(&outcome.findings, false).as_bytes());
    let Some(site) = outcome.site else {
        let _ =
            writeln!(io::stderr(), "frontgate: {} is invalid; nothing was started", path.display());
        return EXIT_CONFIG;
    };
    let started = Reload::new("start", &outcome.findings).applied(None, &site);
    let served = runtime(&site).and_then(|runtime| {
        let code = runtime.block_on(start_and_serve(path, site, files, started, before, program));
        // Tasks that are still there were told to end and had their time.
        runtime.shutdown_background();
        code
    });
    served.unwrap_or_else(|error| {
        log::error!("{error:#}");
        1
    })
}

async fn start_and_serve(
    path: &Path,
    site: std::sync::Arc<Site>,
    files: Watch,
    record: Reload,
    before: Before,
    program: Result<Program, &'static str>,
) -> anyhow::Result<i32> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    descriptors::raise(&site.limits);
    let instance = tokio::select! {
        started = Instance::start(path, site, before) => started?,
        order = signals.stop() => {
            info!("stopped while starting ({order})");
            return Ok(0);
        }
    };
    instance.context.reloaded(record);
    Ok(serve(&instance, signals, files, &program).await)
}

/// The runtime that traffic runs on.
fn runtime(site: &Site) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(site.workers.max(1))
        .thread_name("traffic")
        .enable_all()
        .build()
        .context("cannot start the worker threads")
}
