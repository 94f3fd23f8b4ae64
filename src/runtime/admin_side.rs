//! The admin side's listeners, across reloads.

use std::{io, os::fd::OwnedFd, sync::Arc};

use anyhow::Context as _;
use log::warn;
use tokio::sync::Mutex;

use crate::{
    admin::{self, Context, Doors, Running},
    events::{Events, News, code},
    listen::Sockets,
    site::Admin,
};

/// The listeners of the admin side; none while it is lost, or before it is opened.
pub(super) struct AdminSide {
    running: Arc<Mutex<Vec<Running>>>,
    context: Arc<Context>,
    events: Events,
}

impl AdminSide {
    /// Binds it, or takes its sockets. Fails when an address cannot be bound.
    pub(super) fn bind(
        admin: &Admin,
        context: &Arc<Context>,
        events: &Events,
        sockets: &mut Sockets,
    ) -> anyhow::Result<(Self, Doors)> {
        let doors = admin::bind(admin, context, sockets)?;
        let running = Arc::default();
        Ok((Self { running, context: context.clone(), events: events.clone() }, doors))
    }

    /// Begins to answer.
    pub(super) async fn open(&self, doors: Doors) {
        *self.running.lock().await = doors.open();
    }

    /// Copies of its sockets, and what each is for.
    pub(super) async fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.running.lock().await.iter().map(Running::socket).collect()
    }

    /// Leaves the sockets to another process. Returns what resolves once everybody who was
    /// accepted before has an answer.
    pub(super) async fn hand_over(&self) -> impl Future<Output = ()> + use<> {
        let mut last = Vec::new();
        for running in self.running.lock().await.drain(..) {
            last.push(running.hand_over().await);
        }
        async move {
            for answered in last {
                answered.await;
            }
        }
    }

    /// Moves it to where a new site wants it; where that fails, it is where it was. One that was lost
    /// before and cannot be had again holds up no change that does not concern it.
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
            let was_lost = running.is_empty();
            for running in running.drain(..) {
                running.close().await;
            }
            let error = match admin::start(&new, &context) {
                Ok(started) => {
                    *running = started;
                    return Ok(());
                }
                Err(error) if was_lost && old == new => {
                    warn!("the admin side is still lost: {error:#}");
                    return Ok(());
                }
                Err(error) => error,
            };
            match admin::start(&old, &context) {
                Ok(started) => *running = started,
                Err(error) if was_lost => warn!("the admin side is still lost: {error:#}"),
                Err(error) => lost(&events, &error),
            }
            Err(error)
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
        site::{AdminAddress, Token, testing},
        store::Store,
    };

    fn admin(listen: AdminAddress, hosts: &[&str]) -> Admin {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let token = Token::parse(&"a".repeat(32));
        Admin { hosts, token, ..testing::admin(listen) }
    }

    async fn side(admin: &Admin) -> (AdminSide, Events) {
        let (store, _) = Store::open(Path::new("/dev/null/none"));
        let ready = Arc::new(AtomicBool::new(true));
        let (farms, events) = (Arc::new(Farms::default()), Events::default());
        let context = Arc::new(Context::new(ready, farms, Arc::new(store), events.clone()));
        let sockets = &mut Sockets::default();
        let (side, doors) = AdminSide::bind(admin, &context, &events, sockets).unwrap();
        side.open(doors).await;
        (side, events)
    }

    #[tokio::test]
    async fn a_change_given_up_in_the_middle_leaves_nobody_without_answer() {
        let listen = || AdminAddress::Tcp(([127, 0, 0, 1], 0).into());
        let (old, new) = (admin(listen(), &[]), admin(listen(), &["admin.contoso.com"]));
        let (side, _events) = side(&old).await;
        // It begins, and is dropped where it waits for the first time.
        let mut change = Box::pin(side.change(&old, &new));
        assert!(change.as_mut().poll(&mut Task::from_waker(Waker::noop())).is_pending());
        drop(change);
        assert!(side.runs().await, "nobody would answer /livez");
        side.close().await;
        assert!(!side.runs().await);
    }

    #[tokio::test]
    async fn what_is_lost_is_told_once_and_holds_up_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("run");
        let at = |name: &str| AdminAddress::Unix(inside.join(name));
        let (old, new) = (admin(at("old"), &[]), admin(at("new"), &[]));
        std::fs::create_dir(&inside).unwrap();
        let (side, events) = side(&old).await;
        std::fs::remove_dir_all(&inside).unwrap();
        assert!(side.change(&old, &new).await.is_err());
        assert_eq!((side.runs().await, events.latest(9).len()), (false, 1), "lost");
        assert!(side.change(&old, &old).await.is_ok(), "a change of something else goes on");
        assert!(side.change(&old, &new).await.is_err(), "what was asked for is not there");
        assert_eq!((side.runs().await, events.latest(9).len()), (false, 1), "told once");
        std::fs::create_dir(&inside).unwrap();
        assert!(side.change(&old, &old).await.is_ok());
        assert!(side.runs().await);
    }
}
