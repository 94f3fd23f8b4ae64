//! Stopping: not ready first, and answers that end their connections; then no new connections, then the running requests end.

use std::{sync::atomic::Ordering, time::Instant};

use log::{error, info, warn};
use tokio::time::{sleep, timeout};

use super::{
    Instance,
    hand_over::Successor,
    serve::FAREWELL,
    signals::{Order, Signals},
};
use crate::events::{News, code};

/// Stops in good order. Returns the exit code: 0, or 1 when a second SIGINT cut running requests
/// off.
pub(super) async fn stop(instance: &Instance, first: Order, signals: &mut Signals) -> i32 {
    let text = format!("stopping ({first}); a second SIGINT stops at once");
    instance.events.tell(News::new(code::STOPPING, text).with("signal", first.to_string()));
    let shutdown = instance.current.load().site.shutdown;
    instance.manager.stopping(shutdown.delay.saturating_add(shutdown.drain));
    let mut interrupts = usize::from(first == Order::Interrupt);
    let drained = drain(instance);
    tokio::pin!(drained);
    loop {
        tokio::select! {
            () = &mut drained => return 0,
            order = signals.next() => match order {
                Order::Interrupt if interrupts > 0 => break,
                Order::Interrupt => interrupts += 1,
                Order::Reopen => instance.reopen_log(),
                Order::Terminate | Order::Reload | Order::Upgrade => {}
            },
        }
    }
    warn!("stopped at once, {} connections cut", instance.connections.total());
    1
}

/// Lets end what runs here after another process has taken over. Returns the exit code: 0, or 1
/// when the other one failed meanwhile or a second SIGINT cut running requests off.
pub(super) async fn retire(
    instance: &Instance,
    mut successor: Box<Successor>,
    signals: &mut Signals,
) -> i32 {
    let answered =
        timeout(FAREWELL, std::mem::replace(&mut successor.answered, Box::pin(async {})));
    let ended = async { tokio::join!(ended(instance), answered) };
    tokio::pin!(ended);
    let drain = instance.current.load().site.shutdown.drain;
    let mut interrupts = 0;
    loop {
        tokio::select! {
            _ = &mut ended => return 0,
            why = successor.failure() => {
                // Nobody accepts any more. A service manager sees the end of the main process only
                // once its parent is gone; then it starts another one.
                error!("the process that took over has failed: {why}");
                break;
            }
            order = signals.next() => match order {
                Order::Interrupt if interrupts > 0 => break,
                Order::Interrupt => interrupts += 1,
                Order::Reopen => instance.reopen_log(),
                Order::Upgrade => warn!("another process has taken over: SIGUSR2 is for that one"),
                Order::Terminate => warn!(
                    "SIGTERM: process {} has taken over, and is the one to stop; this one ends \
                     with its requests, within {drain:?} of that, or on a second SIGINT",
                    successor.process
                ),
                Order::Reload => {}
            },
        }
    }
    warn!("stopped at once, {} connections cut", instance.connections.total());
    1
}

async fn drain(instance: &Instance) {
    let shutdown = instance.current.load().site.shutdown;
    instance.ready.store(false, Ordering::Release);
    instance.connections.leave();
    if !shutdown.delay.is_zero() {
        let reopened = instance.reopen_after_reload();
        tokio::join!(sleep(shutdown.delay), reopened);
    }
    instance.listeners.close();
    let end = Instant::now() + shutdown.drain;
    ended(instance).await;
    // A service manager gives what is left after the main process as long as it likes.
    let left = end.saturating_duration_since(Instant::now());
    for process in instance.replaced.alive() {
        info!("process {process}, which an upgrade has replaced, has requests that may end");
    }
    if timeout(left, instance.replaced.gone()).await.is_err() {
        warn!("{:?} are not waited for any longer", instance.replaced.alive());
    }
}

/// Waits for the running requests, but not longer than they may take.
async fn ended(instance: &Instance) {
    let shutdown = instance.current.load().site.shutdown;
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
