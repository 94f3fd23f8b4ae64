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

mod affinity;
mod balance;
mod choose;
mod cookie;
#[allow(clippy::module_inception)]
mod farm;
mod farms;
mod health;
mod jitter;
mod key;
mod load;
mod passive;
mod peer;
mod probe;
mod queue;
mod ramp;
mod resolve;
mod server;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use balance::Tried;
pub use choose::{Choice, Wish};
use farm::Kept;
pub use farm::{Farm, Home};
pub use farms::Farms;
pub use key::key;
pub use load::Counters;
pub use passive::{Failure, Standing};
pub use peer::{Class, group_key, peer, uses_tls};
pub use queue::Refused;
pub use resolve::RESOLVE_EVERY;
pub use server::{InFlight, Pinned, Server, ServerStatus, Tunnel};
