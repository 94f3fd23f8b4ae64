//! What an administrator wants of a server: ready, drain, maintenance.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};

/// What an administrator wants of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum State {
    /// It takes traffic while it is healthy.
    Ready,
    /// No new clients; those that have affinity or a pin stay, and running requests go on.
    Drain,
    /// Out at once: also affinity and pins move away. Requests that are under way may end.
    Maintenance,
}

impl State {
    /// `ready`, `drain` or `maintenance`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
        }
    }

    /// As logs say it: the server is …
    fn told(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drained",
            Self::Maintenance => "in maintenance",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// Somebody said what state a server is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The state.
    pub state: State,
    /// Who said so.
    pub who: Arc<str>,
    /// Why.
    pub why: Option<Arc<str>>,
    /// Since when the server is in this state.
    pub since: SystemTime,
}

impl Order {
    /// `drained by jo@ws1: patches`, for logs.
    pub(crate) fn told(&self) -> String {
        let Self { state, who, why, .. } = self;
        match why {
            Some(why) => format!("{} by {who}: {why}", state.told()),
            None => format!("{} by {who}", state.told()),
        }
    }
}

/// The state of one server, with the order behind it. Reading the state is one atomic.
#[derive(Debug)]
pub(crate) struct Ordered {
    state: AtomicU8,
    order: ArcSwapOption<Order>,
}

impl Ordered {
    /// Ready, and nobody said so.
    pub(crate) fn new() -> Self {
        Self { state: AtomicU8::new(State::Ready as u8), order: ArcSwapOption::empty() }
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            n if n == State::Drain as u8 => State::Drain,
            n if n == State::Maintenance as u8 => State::Maintenance,
            _ => State::Ready,
        }
    }

    pub(crate) fn order(&self) -> Option<Arc<Order>> {
        self.order.load_full()
    }

    /// Takes an order, or that there is none any more; returns whether the state is another one.
    pub(crate) fn obey(&self, order: Option<Arc<Order>>) -> bool {
        let state = order.as_ref().map_or(State::Ready, |order| order.state);
        self.order.store(order);
        self.state.swap(state as u8, Ordering::Relaxed) != state as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(state: State, why: Option<&str>) -> Arc<Order> {
        let why = why.map(Into::into);
        Arc::new(Order { state, who: "jo@ws1".into(), why, since: SystemTime::UNIX_EPOCH })
    }

    #[test]
    fn a_server_follows_its_orders() {
        let standing = Ordered::new();
        assert_eq!((standing.state(), standing.order()), (State::Ready, None));
        for state in [State::Drain, State::Maintenance, State::Ready] {
            assert!(standing.obey(Some(order(state, None))));
            assert!(!standing.obey(Some(order(state, Some("again")))));
            assert_eq!(standing.state(), state);
            assert_eq!(standing.order().unwrap().why.as_deref(), Some("again"));
        }
        standing.obey(Some(order(State::Drain, None)));
        assert!(standing.obey(None));
        assert_eq!((standing.state(), standing.order()), (State::Ready, None));
    }

    #[test]
    fn orders_are_told_with_who_and_why() {
        assert_eq!(order(State::Drain, Some("patches")).told(), "drained by jo@ws1: patches");
        assert_eq!(order(State::Maintenance, None).told(), "in maintenance by jo@ws1");
        assert_eq!(order(State::Ready, None).told(), "ready by jo@ws1");
    }
}
