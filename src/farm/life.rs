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
use crate::{events::code, site};

impl Server {
    /// Takes an order, or that there is none any more; tells a change. Whoever says `ready` wants
    /// the server back: what live traffic said before is forgotten.
    pub(crate) fn obey(&self, order: Option<Arc<Order>>) {
        let changed = self.ordered.obey(order.clone());
        if changed {
            self.tell_order(order.as_deref());
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

    fn tell_order(&self, order: Option<&Order>) {
        let code = match self.state() {
            State::Ready => code::SERVER_READY,
            State::Drain => code::SERVER_DRAINED,
            State::Maintenance => code::SERVER_MAINTENANCE,
        };
        let told = order.map_or_else(|| "ready".to_owned(), Order::told);
        let news = self.news(code, &format!("is {told}"));
        let who = order.map(|order| &*order.who);
        let why = order.and_then(|order| order.why.as_deref());
        self.events().tell(news.with("who", who).with("why", why));
    }

    fn tell(&self, event: Option<passive::Event>) {
        let news = match event {
            Some(passive::Event::Ejected(out, why)) => {
                let told = format!("is out for {}: {why}", humantime::format_duration(out));
                let news = self.news(code::SERVER_EJECTED, &told);
                news.with("reason", &*why).with("seconds", out.as_secs())
            }
            Some(passive::Event::Retried) => {
                self.warm_up();
                self.news(code::SERVER_RETRIED, "is tried again")
            }
            Some(passive::Event::Returned) => self.news(code::SERVER_RETURNED, "is back"),
            None => return,
        };
        self.events().tell(news);
    }
}
