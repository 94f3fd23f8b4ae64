//! A running Frontgate: start, reload, stop.

mod build;
mod instance;
mod reload;
mod stop;
mod watch;

use std::path::Path;

use anyhow::Context;
pub use instance::Instance;
use watch::Watch;

use crate::{
    config::{self, render},
    site::Site,
};

/// Exit code for an invalid configuration (`EX_CONFIG`).
pub const EXIT_CONFIG: i32 = 78;

/// Loads the configuration and serves until told to stop. Returns the exit code: 0 after an
/// orderly stop, 1 when it failed at work, 78 when the configuration is invalid.
pub fn run(path: &Path) -> i32 {
    // Watched before it is read, so that no change falls between the two.
    let mut files = Watch::new();
    files.follow(path, &[], &[]);
    let outcome = config::load(path);
    files.follow(path, &outcome.files, &outcome.directories);
    for line in render::text(&outcome.findings, false).lines() {
        eprintln!("{line}");
    }
    let Some(site) = outcome.site else {
        eprintln!("frontgate: {} is invalid; nothing was started", path.display());
        return EXIT_CONFIG;
    };
    let served = runtime(&site).and_then(|runtime| {
        let code = runtime.block_on(async {
            let instance = Instance::start(path, site).await?;
            anyhow::Ok(instance.serve(files).await)
        });
        // Tasks that are still there were told to end and had their time.
        runtime.shutdown_background();
        code
    });
    match served {
        Ok(code) => code,
        Err(error) => {
            log::error!("{error:#}");
            1
        }
    }
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
