//! Events: what changed, told once, to everybody who wants to know.
//!
//! Whoever changes something tells [`Events`], which writes the line of the program's log and keeps
//! the event: log, API and receivers cannot differ. This module knows nothing of those who tell.

mod bus;
pub mod code;
mod command;
mod deliver;
mod event;
mod expiry;
mod webhook;

pub use bus::{Events, Follower, KEPT, Undelivered};
pub use code::{Code, Severity};
pub use deliver::Delivery;
pub use event::{Event, News};
pub use expiry::{EVERY, Expiry, Served};
