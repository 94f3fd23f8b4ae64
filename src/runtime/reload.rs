//! Reload: load, compile, swap; or findings, and the old site goes on serving.

use std::sync::Arc;

use log::{error, info, warn};

use super::{Instance, watch::Watch};
use crate::{
    admin::Reloaded,
    config::{self, diagnostic::Findings, render},
    site::Site,
};

/// One reload; `asked` says what for. Tells what came of it. Dropping it half-way leaves the old site in service.
pub(super) async fn reload(instance: &Instance, files: &mut Watch, asked: &str) -> Reloaded {
    let path = instance.path.clone();
    let Ok(outcome) = tokio::task::spawn_blocking(move || config::load(&path)).await else {
        error!("reload failed inside; the old site goes on serving");
        return Reloaded::new(&Findings::default()).failed("it failed inside".to_owned());
    };
    // Also the files of a refused site: mending one is the next change.
    files.follow(&instance.path, &outcome.files, &outcome.directories);
    let findings = render::text(&outcome.findings, false);
    let told = Reloaded::new(&outcome.findings);
    match &outcome.site {
        Some(site) => take_over(instance, asked, site, findings.trim_end(), told).await,
        None => {
            error!("reload refused ({asked}): the old site goes on serving\n{findings}");
            told
        }
    }
}

async fn take_over(
    instance: &Instance,
    asked: &str,
    site: &Arc<Site>,
    findings: &str,
    told: Reloaded,
) -> Reloaded {
    let old = instance.current.load().site.clone();
    if old.fingerprint == site.fingerprint {
        info!("reload ({asked}): nothing has changed");
        return told.unchanged();
    }
    if !findings.is_empty() {
        warn!("findings\n{findings}");
    }
    match instance.apply(site).await {
        Ok(()) => {
            let waits = needs_restart(&old, site);
            info!(
                "reloaded ({asked}): {} listeners, {} farms, {} rules; site {} was {}",
                site.listeners.len(),
                site.farms.len(),
                site.rules.len(),
                short(&site.fingerprint),
                short(&old.fingerprint),
            );
            told.done(waits)
        }
        Err(e) => {
            error!("reload refused ({asked}): {e:#}; the old site goes on serving");
            told.failed(format!("{e:#}"))
        }
    }
}

/// Says which changes only a restart brings about.
fn needs_restart(old: &Site, new: &Site) -> Vec<String> {
    let changed = [
        ("workers", old.workers != new.workers),
        ("limits.pins", old.limits.pins != new.limits.pins),
        ("state_dir", old.state_dir != new.state_dir),
    ];
    let changed = changed.iter().filter(|(_, changed)| *changed);
    changed
        .map(|(what, _)| {
            warn!("needs_restart: {what} changed; the old value stays until the next start");
            (*what).to_owned()
        })
        .collect()
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}
