//! Reload: load, compile, swap; or findings, and the old site goes on serving.

use std::sync::Arc;

use log::{error, info, warn};
use tokio::signal::unix::{SignalKind, signal};

use super::{Instance, watch::Watch};
use crate::{
    config::{self, Outcome, render},
    site::Site,
};

/// Reloads on SIGHUP and whenever a file of the site changes, one reload after the other.
pub(super) async fn watch(instance: Arc<Instance>, mut files: Watch) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(e) => return error!("cannot listen for SIGHUP: {e}"),
    };
    loop {
        let asked = tokio::select! {
            hangup = hangups.recv() => match hangup {
                Some(()) => "SIGHUP",
                None => return,
            },
            () = files.changed() => "a file changed",
        };
        // A refused file is watched as well: mending it is the next change.
        if let Some(outcome) = reload(&instance, asked).await {
            files.follow(&instance.path, &outcome.files, &outcome.directories);
        }
    }
}

async fn reload(instance: &Instance, asked: &str) -> Option<Outcome> {
    let path = instance.path.clone();
    let Ok(outcome) = tokio::task::spawn_blocking(move || config::load(&path)).await else {
        error!("reload failed inside; the old site goes on serving");
        return None;
    };
    let findings = render::text(&outcome.findings, false);
    match &outcome.site {
        Some(site) => take_over(instance, asked, site, findings.trim_end()).await,
        None => error!("reload refused ({asked}): the old site goes on serving\n{findings}"),
    }
    Some(outcome)
}

async fn take_over(instance: &Instance, asked: &str, site: &Arc<Site>, findings: &str) {
    let old = instance.current.load().site.clone();
    if old.fingerprint == site.fingerprint {
        return info!("reload ({asked}): nothing has changed");
    }
    if !findings.is_empty() {
        warn!("findings\n{findings}");
    }
    match instance.apply(site).await {
        Ok(()) => {
            needs_restart(&old, site);
            info!(
                "reloaded ({asked}): {} listeners, {} farms, {} rules; site {} was {}",
                site.listeners.len(),
                site.farms.len(),
                site.rules.len(),
                short(&site.fingerprint),
                short(&old.fingerprint),
            );
        }
        Err(e) => error!("reload refused ({asked}): {e:#}; the old site goes on serving"),
    }
}

/// Says which changes only a restart brings about.
fn needs_restart(old: &Site, new: &Site) {
    let changed = [
        ("admin, health", old.admin != new.admin),
        ("workers", old.workers != new.workers),
        ("limits.pins", old.limits.pins != new.limits.pins),
    ];
    for (what, _) in changed.iter().filter(|(_, changed)| *changed) {
        warn!("needs_restart: {what} changed; the old value stays until the next start");
    }
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}
