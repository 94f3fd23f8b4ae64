//! Serving: reloads when it is asked for, until a signal asks to stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Instance,
    certificates::keep_looking,
    reload::reload,
    signals::{Order, Signals},
    stop::stop,
    watch::Watch,
};
use crate::{
    admin::{self, ReloadAsked},
    observe::metrics::Reload,
    pin::{Pins, UNPROVED},
};

/// How long the end waits for the last events to arrive.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves until a signal asks to stop; reloads meanwhile. Returns the exit code.
pub(super) async fn serve(instance: &Instance, mut signals: Signals, mut files: Watch) -> i32 {
    let sweeping = tokio::spawn(sweep(instance.builder.pins.clone()));
    let noting = tokio::spawn(note(instance.context.clone()));
    let (certificates, current) = (instance.certificates.clone(), instance.current.clone());
    let looking = tokio::spawn(keep_looking(certificates, current, instance.events.clone()));
    let order = reload_until_stopped(instance, &mut signals, &mut files).await;
    instance.context.no_more_reloads().await;
    let code = stop(instance, order, &mut signals).await;
    sweeping.abort();
    noting.abort();
    looking.abort();
    instance.delivery.finish(FAREWELL).await;
    instance.admin.close().await;
    instance.context.streams_ended(FAREWELL).await;
    instance.current.log.close();
    code
}

/// A reload that is due.
struct Due {
    reason: String,
    /// Whoever waits for what comes of it.
    waiting: Option<ReloadAsked>,
}

impl Due {
    fn by(reason: &str) -> Self {
        Self { reason: reason.to_owned(), waiting: None }
    }
}

async fn reload_until_stopped(
    instance: &Instance,
    signals: &mut Signals,
    files: &mut Watch,
) -> Order {
    let mut next = None;
    loop {
        let due = match next.take() {
            Some(due) => due,
            None => match wait(instance, signals, files).await {
                Ok(due) => due,
                Err(order) => return order,
            },
        };
        let reload = reload(instance, files, &due.reason);
        tokio::pin!(reload);
        let told = loop {
            tokio::select! {
                told = &mut reload => break told,
                order = signals.next() => match order {
                    // A reload that is under way is given up: nothing may open a listener again.
                    Order::Terminate | Order::Interrupt => return order,
                    Order::Reload => next = Some(Due::by("SIGHUP")),
                    Order::Reopen => instance.reopen_log(),
                },
            }
        };
        instance.current.metrics.reloads.ended(counted_as(told.result));
        if let Some(waiting) = due.waiting {
            waiting.answer(told);
        }
    }
}

/// Waits for the next reload, or the order to stop.
async fn wait(instance: &Instance, signals: &mut Signals, files: &mut Watch) -> Result<Due, Order> {
    loop {
        tokio::select! {
            order = signals.next() => match order {
                Order::Terminate | Order::Interrupt => return Err(order),
                Order::Reload => return Ok(Due::by("SIGHUP")),
                Order::Reopen => instance.reopen_log(),
            },
            () = files.changed() => return Ok(Due::by("a file changed")),
            asked = instance.context.reload_asked() => {
                return Ok(Due { reason: asked.told.clone(), waiting: Some(asked) });
            }
        }
    }
}

/// What a reload counts as.
fn counted_as(result: admin::ReloadResult) -> Reload {
    match result {
        admin::ReloadResult::Done => Reload::Success,
        admin::ReloadResult::Unchanged => Reload::Unchanged,
        admin::ReloadResult::Refused | admin::ReloadResult::Failed => Reload::Refused,
    }
}

/// Cuts the pins that never become sign-ins.
async fn sweep(pins: Arc<Pins>) {
    let mut ticks = tokio::time::interval(UNPROVED / 30);
    loop {
        ticks.tick().await;
        pins.sweep(Instant::now());
    }
}

/// Keeps the last minutes of every server, for the dashboard.
async fn note(context: Arc<admin::Context>) {
    let mut ticks = tokio::time::interval(admin::Context::TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        context.tick();
    }
}
