//! Serving: reloads when it is asked for, until a signal asks to stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Instance,
    certificates::keep_looking,
    hand_over::{Attempt, Program, Successor, hand_over},
    instance::told as site_told,
    manager::keep_alive,
    reload::reload,
    signals::{Order, Signals},
    stop::{retire, stop},
    watch::Watch,
};
use crate::{
    admin::{self, ReloadAsked, Reloaded},
    observe::metrics::Reload,
    pin::{Pins, UNPROVED},
    site::Receivers,
};

/// How long the end waits for the last events to arrive.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// Serves until a signal asks to stop, or another process has taken over; reloads meanwhile.
/// Returns the exit code.
pub(super) async fn serve(
    instance: &Instance,
    mut signals: Signals,
    mut files: Watch,
    program: &Result<Program, &'static str>,
) -> i32 {
    let living = tokio::spawn(keep_alive(instance.manager.clone()));
    let sweeping = tokio::spawn(sweep(instance.builder.pins.clone()));
    let noting = tokio::spawn(note(instance.context.clone()));
    let (certificates, current) = (instance.certificates.clone(), instance.current.clone());
    let looking = tokio::spawn(keep_looking(certificates, current, instance.events.clone()));
    let end = reload_until_stopped(instance, &mut signals, &mut files, program).await;
    instance.context.no_more_reloads().await;
    let code = match end {
        End::Stopped(order) => stop(instance, order, &mut signals).await,
        End::HandedOver(successor) => {
            // What happens from now on, the other process tells.
            instance.delivery.finish(FAREWELL).await;
            instance.delivery.follow(&Receivers::default());
            retire(instance, successor, &mut signals).await
        }
    };
    living.abort();
    sweeping.abort();
    noting.abort();
    looking.abort();
    tokio::join!(instance.delivery.finish(FAREWELL), instance.current.traces.finish(FAREWELL));
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

/// Why this process serves no longer.
enum End {
    Stopped(Order),
    HandedOver(Box<Successor>),
}

/// What is to be done next.
enum Next {
    Reload(Due),
    HandOver,
    Stop(Order),
}

async fn reload_until_stopped(
    instance: &Instance,
    signals: &mut Signals,
    files: &mut Watch,
    program: &Result<Program, &'static str>,
) -> End {
    let mut next = None;
    loop {
        let due = match next.take() {
            Some(next) => next,
            None => wait(instance, signals, files).await,
        };
        let due = match due {
            Next::Reload(due) => due,
            Next::Stop(order) => return End::Stopped(order),
            Next::HandOver => {
                match hand_over(instance, program, signals).await {
                    Attempt::Done(successor) => return End::HandedOver(successor),
                    Attempt::Stopped(order) => return End::Stopped(order),
                    Attempt::Failed { reload } => {
                        next = reload.then(|| Next::Reload(Due::by("SIGHUP")));
                    }
                }
                continue;
            }
        };
        let reload = reload(instance, files, &due.reason);
        tokio::pin!(reload);
        let told = loop {
            tokio::select! {
                told = &mut reload => break told,
                order = signals.next() => match order {
                    // A reload that is under way is given up: nothing may open a listener again.
                    Order::Terminate | Order::Interrupt => return End::Stopped(order),
                    // What takes over reads the configuration as well.
                    Order::Reload if next.is_some() => {}
                    Order::Reload => next = Some(Next::Reload(Due::by("SIGHUP"))),
                    Order::Upgrade => next = Some(Next::HandOver),
                    Order::Reopen => instance.reopen_log(),
                },
            }
        };
        instance.manager.status(&status(instance, &told));
        instance.current.metrics.reloads.ended(counted_as(told.result));
        if let Some(waiting) = due.waiting {
            waiting.answer(told);
        }
    }
}

/// The site that serves, and why a reload did not change it, in one line.
fn status(instance: &Instance, told: &Reloaded) -> String {
    let serves = site_told(&instance.current.load().site);
    match told.result {
        admin::ReloadResult::Done | admin::ReloadResult::Unchanged => serves,
        admin::ReloadResult::Refused | admin::ReloadResult::Failed => {
            let why = told.error.as_deref().unwrap_or("the configuration is invalid");
            format!("reload refused: {why}; {serves}")
        }
    }
}

/// Waits for what is to be done.
async fn wait(instance: &Instance, signals: &mut Signals, files: &mut Watch) -> Next {
    loop {
        tokio::select! {
            order = signals.next() => match order {
                Order::Terminate | Order::Interrupt => return Next::Stop(order),
                Order::Reload => return Next::Reload(Due::by("SIGHUP")),
                Order::Upgrade => return Next::HandOver,
                Order::Reopen => instance.reopen_log(),
            },
            () = files.changed() => return Next::Reload(Due::by("a file changed")),
            asked = instance.context.reload_asked() => {
                return Next::Reload(Due { reason: asked.told.clone(), waiting: Some(asked) });
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
