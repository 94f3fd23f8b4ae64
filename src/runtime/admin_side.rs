//! The admin side's listeners, across reloads.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::Mutex;

use crate::{
    admin::{self, Context, Running},
    events::{Events, News, code},
    site::Admin,
};

/// The listeners of the admin side; none while it is lost.
pub(super) struct AdminSide {
    running: Arc<Mutex<Vec<Running>>>,
    context: Arc<Context>,
    events: Events,
}

impl AdminSide {
    /// Opens it. Fails when an address cannot be bound.
    pub(super) fn start(
        admin: &Admin,
        context: &Arc<Context>,
        events: &Events,
    ) -> anyhow::Result<Self> {
        let running = Arc::new(Mutex::new(admin::start(admin, context)?));
        Ok(Self { running, context: context.clone(), events: events.clone() })
    }

    /// Moves it to where a new site wants it; where that fails, it is where it was.
    pub(super) async fn change(&self, old: &Admin, new: &Admin) -> anyhow::Result<()> {
        let mut running = self.running.clone().lock_owned().await;
        if old == new && !running.is_empty() {
            return Ok(());
        }
        let (old, new) = (old.clone(), new.clone());
        let (context, events) = (self.context.clone(), self.events.clone());
        // A task of its own: a reload that is given up in the middle, because Frontgate stops,
        // would leave nobody to answer /livez while the last requests end.
        let changing = tokio::spawn(async move {
            for running in running.drain(..) {
                running.close().await;
            }
            let started = admin::start(&new, &context);
            match started {
                Ok(started) => *running = started,
                Err(error) => {
                    match admin::start(&old, &context) {
                        Ok(started) => *running = started,
                        Err(error) => lost(&events, &error),
                    }
                    return Err(error);
                }
            }
            Ok(())
        });
        changing.await.context("the admin side")?
    }

    /// Whether it is there.
    pub(super) async fn runs(&self) -> bool {
        !self.running.lock().await.is_empty()
    }

    /// Closes it, once no request is left that it tells of.
    pub(super) async fn close(&self) {
        for running in self.running.lock().await.drain(..) {
            running.close().await;
        }
    }
}

fn lost(events: &Events, error: &anyhow::Error) {
    let text = format!("the admin side is lost: {error:#}; reload when the address is free");
    events.tell(News::new(code::LISTENER_LOST, text).with("listener", "admin"));
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::atomic::AtomicBool,
        task::{Context as Task, Waker},
    };

    use super::*;
    use crate::{
        farm::Farms,
        site::{AdminAddress, Token},
        store::Store,
    };

    fn admin(hosts: &[&str]) -> Admin {
        Admin {
            listen: AdminAddress::Tcp(([127, 0, 0, 1], 0).into()),
            health: None,
            metrics: None,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            token: Token::parse(&"a".repeat(32)),
            token_file: "token".into(),
        }
    }

    #[tokio::test]
    async fn a_change_given_up_in_the_middle_leaves_nobody_without_answer() {
        let (store, _) = Store::open(Path::new("/dev/null/none"));
        let ready = Arc::new(AtomicBool::new(true));
        let (farms, events) = (Arc::new(Farms::default()), Events::default());
        let context = Arc::new(Context::new(ready, farms, Arc::new(store), events.clone()));
        let (old, new) = (admin(&[]), admin(&["admin.contoso.com"]));
        let side = AdminSide::start(&old, &context, &events).unwrap();
        // It begins, and is dropped where it waits for the first time.
        let mut change = Box::pin(side.change(&old, &new));
        assert!(change.as_mut().poll(&mut Task::from_waker(Waker::noop())).is_pending());
        drop(change);
        assert!(side.runs().await, "nobody would answer /livez");
        side.close().await;
        assert!(!side.runs().await);
    }
}
