//! Stopping: not ready first, then no new connections, then the running requests end.

use std::{sync::atomic::Ordering, time::Instant};

use log::{error, info, warn};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};

use super::Instance;

/// Waits for a signal and stops in good order. Returns the exit code: 0, or 1 when a second
/// SIGINT cut running requests off.
pub(super) async fn wait(instance: &Instance) -> i32 {
    let (mut terminate, mut interrupt) = match signals() {
        Ok(both) => both,
        Err(e) => {
            error!("cannot listen for signals: {e}");
            return 1;
        }
    };
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!("stopping ({name}); a second SIGINT stops at once");
    tokio::select! {
        () = drain(instance) => 0,
        _ = interrupt.recv() => {
            warn!("stopped at once, {} connections cut", instance.connections.total());
            1
        }
    }
}

async fn drain(instance: &Instance) {
    let shutdown = instance.current.load().site.shutdown;
    instance.ready.store(false, Ordering::Release);
    if !shutdown.delay.is_zero() {
        sleep(shutdown.delay).await;
    }
    instance.close_listeners();
    let begun = Instant::now();
    match timeout(shutdown.drain, instance.connections.drained()).await {
        Ok(()) => info!("stopped, every request has ended ({:?})", begun.elapsed()),
        Err(_) => warn!(
            "stopped after {:?}, {} connections cut",
            shutdown.drain,
            instance.connections.total()
        ),
    }
}

fn signals() -> std::io::Result<(Signal, Signal)> {
    Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}
