//! The addresses of a server, and how far the looking up of its name got.

use std::{net::IpAddr, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use crate::site;

/// Addresses of one server.
#[derive(Debug)]
pub(crate) struct Addresses {
    known: ArcSwap<Vec<IpAddr>>,
    lookup: watch::Sender<Lookup>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    Pending,
    Failed,
    Found,
}

impl Addresses {
    /// An IP address is its own; a name has none before it was looked up.
    pub(crate) fn new(address: &site::Address) -> Self {
        let (known, lookup) = match address {
            site::Address::Ip(ip) => (vec![*ip], Lookup::Found),
            site::Address::Name(_) => (Vec::new(), Lookup::Pending),
        };
        Self { known: ArcSwap::from_pointee(known), lookup: watch::Sender::new(lookup) }
    }

    /// The last known ones, to be tried in order.
    pub(crate) fn known(&self) -> Guard<Arc<Vec<IpAddr>>> {
        self.known.load()
    }

    /// Takes addresses that were looked up.
    pub(crate) fn found(&self, addresses: Vec<IpAddr>) {
        self.known.store(Arc::new(addresses));
    }

    /// Lets those go on who wait for the lookup.
    pub(crate) fn looked_up(&self, found: bool) {
        self.lookup.send_replace(if found { Lookup::Found } else { Lookup::Failed });
    }

    /// Whether the first lookup is under way.
    pub(crate) fn is_pending(&self) -> bool {
        *self.lookup.borrow() == Lookup::Pending
    }

    /// Returns when the name was looked up once, successfully or not.
    pub(crate) async fn wait_for_lookup(&self) {
        self.wait_for(|lookup| lookup != Lookup::Pending).await;
    }

    /// Returns when there is an address; at once from then on.
    pub(crate) async fn wait_for_one(&self) {
        self.wait_for(|lookup| lookup == Lookup::Found).await;
    }

    async fn wait_for(&self, enough: impl Fn(Lookup) -> bool) {
        // Fails only without a sender, and that lives in `self`.
        let _ = self.lookup.subscribe().wait_for(|lookup| enough(*lookup)).await;
    }
}
