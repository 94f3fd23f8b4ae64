//! Reload: load, compile, swap; or findings, and the old site goes on serving.

use std::sync::Arc;

use log::info;

use super::{
    Instance,
    fixed::{Fixed, Waiting, waiting},
    instance::{measured, short, told},
    watch::Watch,
};
use crate::{
    admin::{Reload, Reloaded},
    config::{self, diagnostic::Findings, render},
    events::{News, code},
    site::Site,
};

/// One reload; `asked` says what for. Tells what came of it. Dropping it half-way leaves the old
/// site in service.
pub(super) async fn reload(instance: &Instance, files: &mut Watch, asked: &str) -> Reloaded {
    let path = instance.path.clone();
    files.seen().await;
    let Ok(outcome) = tokio::task::spawn_blocking(move || config::load(&path)).await else {
        let error = "it failed inside";
        refused(instance, asked, error, "");
        let nothing = Reload::new(asked, &Findings::default());
        return keep(instance, nothing.refused(Some(error.to_owned())));
    };
    // Also the files of a refused site: mending one is the next change.
    files.turn_to(&instance.path, &outcome.files, &outcome.directories).await;
    let findings = render::text(&outcome.findings, false);
    let record = Reload::new(asked, &outcome.findings);
    let record = match &outcome.site {
        Some(site) => take_over(instance, asked, site, findings.trim_end(), record).await,
        None => {
            refused(instance, asked, "the configuration is invalid", &findings);
            record.refused(None)
        }
    };
    keep(instance, record)
}

/// Keeps what came of it, for the admin side, and tells it.
fn keep(instance: &Instance, record: Reload) -> Reloaded {
    let told = Reloaded::from(&record);
    instance.context.reloaded(record);
    told
}

async fn take_over(
    instance: &Instance,
    asked: &str,
    site: &Arc<Site>,
    findings: &str,
    mut record: Reload,
) -> Reload {
    let old = instance.current.load().site.clone();
    if old.fingerprint == site.fingerprint && instance.is_whole(&old).await {
        info!("reload ({asked}): nothing has changed");
        return record;
    }
    match instance.apply(site).await {
        Ok(()) => {
            record.needs_restart = needs_restart(instance, &old, site);
            let was = short(&old.fingerprint);
            let text = format!("reloaded ({asked}): {} was {was}", told(site));
            let news = measured(News::new(code::RELOAD_DONE, text), site);
            instance.events.tell(news.with("asked", asked).with("was", was).findings(findings));
            record.applied(Some(&old), site)
        }
        Err(e) => {
            let error = format!("{e:#}");
            refused(instance, asked, &error, findings);
            record.refused(Some(error))
        }
    }
}

fn refused(instance: &Instance, asked: &str, error: &str, findings: &str) {
    let text = format!("reload refused ({asked}): {error}; the old site goes on serving");
    let news = News::new(code::RELOAD_REFUSED, text).with("asked", asked).with("error", error);
    instance.events.tell(news.findings(findings));
}

/// Says which changes only a restart brings about, and returns all that wait for one.
fn needs_restart(instance: &Instance, old: &Site, new: &Site) -> Vec<String> {
    let Waiting { all, new } = waiting(&instance.fixed, &Fixed::of(old), &Fixed::of(new));
    for what in new {
        let text = format!(
            "needs_restart: {what} changed; it counts in full from the next start on, and \
             SIGUSR2 suffices"
        );
        instance.events.tell(News::new(code::NEEDS_RESTART, text).with("setting", what));
    }
    all.into_iter().map(str::to_owned).collect()
}
