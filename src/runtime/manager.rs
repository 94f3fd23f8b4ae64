//! What the service manager is told (sd_notify(3)); nothing where there is none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use log::warn;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// What the end takes besides its times in the configuration.
const FAREWELL: Duration = Duration::from_secs(15);

/// The service manager. It listens to the main process alone (`NotifyAccess=main`), so this one
/// falls silent once another is that.
#[derive(Debug, Default)]
pub(super) struct Manager {
    silent: AtomicBool,
}

impl Manager {
    /// Every listener accepts.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// What `systemctl status` shows; one line.
    pub(super) fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(&status.replace(char::is_control, " "))]);
    }

    /// The end begins, and may take so long, whatever `TimeoutStopSec` says.
    pub(super) fn stopping(&self, patience: Duration) {
        let micros = patience.saturating_add(FAREWELL).as_micros();
        let extend = format!("EXTEND_TIMEOUT_USEC={}", u64::try_from(micros).unwrap_or(u64::MAX));
        let status = NotifyState::Status("stopping: running requests may end");
        self.tell(&[NotifyState::Stopping, status, NotifyState::Custom(&extend)]);
    }

    /// Another process is the main one from now on.
    pub(super) fn handed_over(&self, process: u32) {
        self.tell(&[NotifyState::MainPid(process)]);
        self.silent.store(true, Ordering::Release);
    }

    fn tell(&self, what: &[NotifyState<'_>]) {
        if self.silent.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = sd_notify::notify(what) {
            warn!("the service manager cannot be told anything: {error}");
        }
    }
}

/// Tells a manager that asks for it that traffic moves; never returns. Run where traffic is: a
/// runtime that is stuck must not say that it is fine.
pub(super) async fn keep_alive(manager: Arc<Manager>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = interval((patience / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        manager.tell(&[NotifyState::Watchdog]);
    }
}
