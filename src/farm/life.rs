//! What happens to a server besides its health: orders, what live traffic says, slow start.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    passive::{self, Failure},
    server::{LOG, Server},
    state::{Order, State},
    warmth::Warmth,
};
use crate::site;

impl Server {
    /// Takes an order, or that there is none any more; logs a change. Whoever says `ready` wants
    /// the server back: what live traffic said before is forgotten.
    pub(crate) fn obey(&self, order: Option<Arc<Order>>) {
        let told = order.as_ref().map_or_else(|| "ready".to_owned(), |order| order.told());
        let changed = self.ordered.obey(order);
        if changed {
            log::info!(target: LOG, "farm {}: server {} is {told}", self.farm, self.name());
        }
        if self.state() == State::Ready {
            let out = !self.standing().takes();
            self.judgement.forgive();
            if changed || out {
                self.warm_up();
            }
        }
        // Places are free, or those who wait for this server wait in vain.
        self.queue.pump();
    }

    /// Takes an order of before this server appeared.
    pub(crate) fn recall(&self, order: Arc<Order>) {
        let (told, since) = (order.told(), humantime::format_rfc3339_seconds(order.since));
        if self.ordered.obey(Some(order)) {
            let (farm, name) = (&self.farm, self.name());
            log::info!(target: LOG, "farm {farm}: server {name} is still {told} (since {since})");
        }
    }

    /// An exchange with it failed in a way that the farm counts. `room`: whether the farm can do
    /// without it.
    pub(crate) fn failed(&self, failure: Failure, policy: &site::Passive, room: bool) {
        let now = Instant::now();
        self.tell(self.judgement.change(|record| record.failed(failure, policy, room, now)));
    }

    /// An exchange with it went well.
    pub(crate) fn succeeded(&self) {
        self.tell(self.judgement.change(|record| record.succeeded(Instant::now())));
    }

    /// Brings everything up to date that goes by time alone; to be called every `period`.
    pub(crate) fn pulse(&self, period: Duration, now: Instant) {
        self.load().pulse(period);
        self.warmth.tick(now);
        if !self.standing().takes() {
            self.tell(self.judgement.change(|record| record.tick(now)));
        }
    }

    pub(crate) fn warmth(&self) -> &Warmth {
        &self.warmth
    }

    /// Its share grows anew from now on, if the farm wants that.
    pub(crate) fn warm_up(&self) {
        self.warmth.begin(Instant::now());
    }

    fn tell(&self, event: Option<passive::Event>) {
        let (farm, name) = (&self.farm, self.name());
        match event {
            Some(passive::Event::Ejected(out, why)) => {
                let out = humantime::format_duration(out);
                log::warn!(target: LOG, "farm {farm}: server {name} is out for {out}: {why}");
            }
            Some(passive::Event::Retried) => {
                self.warm_up();
                log::info!(target: LOG, "farm {farm}: server {name} is tried again");
            }
            Some(passive::Event::Returned) => {
                log::info!(target: LOG, "farm {farm}: server {name} is back");
            }
            None => {}
        }
    }
}
