//! Events: what changed, told once, to everybody who wants to know.
//!
//! Whoever changes something tells [`Events`], which writes the line of the program's log and keeps
//! the event: log, API and receivers cannot differ. This module knows nothing of those who tell.

mod bus;
pub mod code;
mod event;

pub use bus::{Events, Follower, KEPT};
pub use code::{Code, Severity};
pub use event::{Event, News};
