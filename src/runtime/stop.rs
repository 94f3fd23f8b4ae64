//! Stopping: not ready first, then no new connections, then the running requests end.

use std::{sync::atomic::Ordering, time::Instant};

use log::{info, warn};
use tokio::time::{sleep, timeout};

use super::{
    Instance,
    signals::{Order, Signals},
};
use crate::events::{News, code};

/// Stops in good order. Returns the exit code: 0, or 1 when a second SIGINT cut running requests
/// off.
pub(super) async fn stop(instance: &Instance, first: Order, signals: &mut Signals) -> i32 {
    let text = format!("stopping ({first}); a second SIGINT stops at once");
    instance.events.tell(News::new(code::STOPPING, text).with("signal", first.to_string()));
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
                Order::Terminate | Order::Reload => {}
            },
        }
    }
    warn!("stopped at once, {} connections cut", instance.connections.total());
    1
}

async fn drain(instance: &Instance) {
    let shutdown = instance.current.load().site.shutdown;
    instance.ready.store(false, Ordering::Release);
    if !shutdown.delay.is_zero() {
        sleep(shutdown.delay).await;
    }
    instance.listeners.close();
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
