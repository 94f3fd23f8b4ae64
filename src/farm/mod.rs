//! Farms while they run: servers with health, the choice among them, probes and names.
//!
//! A server has an identity of its own (farm, name, address) that outlives reloads. Requests take
//! a [`Farm`] from their snapshot, [`Farm::choose`] a server and connect to a [`peer()`] of it.
//! Probes and lookups run beside the traffic and only ever flip one atomic that requests read.
//!
//! A server counts as healthy until a probe says otherwise, and the first probe is made the
//! moment the server appears. If that one fails the server is out at once, without waiting for
//! `fall` failures: whoever was never seen alive would be given traffic for `fall` × `interval`.
//! From then on `fall` failures in a row take a server out and `rise` successes bring it back.
//! With several probes all have to be content.
//!
//! Beside its health a server has a [`State`], which an administrator orders: ready, drain or
//! maintenance. Orders outlive servers, reloads and the process.

mod addresses;
mod affinity;
mod announce;
mod balance;
mod choose;
mod command;
mod cookie;
mod emptiness;
#[allow(clippy::module_inception)]
mod farm;
mod farms;
mod health;
mod in_flight;
mod jitter;
mod key;
mod life;
mod load;
mod orders;
mod passive;
mod peer;
mod probe;
mod prospects;
mod queue;
mod resolve;
mod server;
mod state;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod warmth;

pub use announce::announce;
pub use balance::Tried;
pub use choose::{Choice, Wish};
pub use command::{Changed, Commanded, UnknownTarget};
use farm::Kept;
pub use farm::{Farm, Home};
pub use farms::Farms;
pub use in_flight::{InFlight, Pinned, Tunnel};
pub use key::{fixed_key, key};
pub use load::Counters;
pub use orders::Orders;
pub use passive::{Failure, Standing};
pub use peer::{Class, group_key, peer, uses_tls};
pub use prospects::Prospect;
pub use queue::Refused;
pub use resolve::RESOLVE_EVERY;
pub use server::{Server, ServerStatus};
pub use state::{Order, State};
