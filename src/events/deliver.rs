//! Events reach those whom the configuration names.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{Events, command, webhook};
use crate::site::Receivers;

/// Runs the command and posts to the webhook for each event; stops when dropped.
#[derive(Debug)]
pub struct Delivery {
    events: Events,
    to: watch::Sender<Receivers>,
    /// Whether anybody is told yet.
    begun: watch::Sender<bool>,
    ran: watch::Receiver<u64>,
    posted: watch::Receiver<u64>,
    places: Arc<Semaphore>,
    tasks: [JoinHandle<()>; 2],
}

impl Delivery {
    /// Tells nobody yet.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn waiting(events: &Events) -> Self {
        let to = watch::Sender::new(Receivers::default());
        let begun = watch::Sender::new(false);
        let ((ran, has_run), (posted, has_posted)) = (watch::channel(0), watch::channel(0));
        let places = command::places();
        let running = command::keep_running(events.follow(0), to.subscribe(), places.clone(), ran);
        let posting = webhook::keep_posting(events.follow(0), to.subscribe(), posted);
        let tasks = [tokio::spawn(after(&begun, running)), tokio::spawn(after(&begun, posting))];
        Self { events: events.clone(), to, begun, ran: has_run, posted: has_posted, places, tasks }
    }

    /// Begins, with the events of before.
    pub fn begin(&self, to: &Receivers) {
        self.follow(to);
        self.begun.send_replace(true);
    }

    /// These are told from now on.
    pub fn follow(&self, to: &Receivers) {
        self.to.send_if_modified(|now| {
            let other = now != to;
            now.clone_from(to);
            other
        });
    }

    /// Waits until everything that was told has arrived, but not for long: for the end of the
    /// program.
    pub async fn finish(&self, patience: Duration) {
        let last = self.events.last();
        let (mut ran, mut posted) = (self.ran.clone(), self.posted.clone());
        let all = async {
            let _ = posted.wait_for(|posted| *posted >= last).await;
            let _ = ran.wait_for(|ran| *ran >= last).await;
            command::all_ended(&self.places).await;
        };
        let _ = timeout(patience, all).await;
    }
}

/// Runs it once it may begin.
fn after<F: Future>(begun: &watch::Sender<bool>, what: F) -> impl Future<Output = ()> + use<F> {
    let mut begun = begun.subscribe();
    async move {
        if begun.wait_for(|begun| *begun).await.is_ok() {
            what.await;
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
