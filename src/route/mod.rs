//! Which publish rule takes a request, and what follows from it.
//!
//! Pure functions of the site and the request: nothing here waits, remembers or does I/O.
//! [`host`] reads the `Host` header, [`reading`] all the ways in which a path can be understood,
//! [`table`] finds the rule, [`mod@decide`] gives the verdict and [`mod@location`] writes redirects.

pub mod decide;
pub mod host;
pub mod location;
#[cfg(test)]
mod properties;
pub mod reading;
mod rewrite;
pub mod table;
#[cfg(test)]
mod testing;

pub use decide::{Decision, Question, decide};
pub use host::{HostName, normalize_host};
pub use location::{https_location, https_port, location};
pub use table::Table;
