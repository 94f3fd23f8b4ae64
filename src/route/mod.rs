//! Which publish rule takes a request, and what follows from it.
//!
//! Pure functions of the site and the request: nothing here waits, remembers or does I/O.
//! [`host`] reads the `Host` header, [`reading`] all the ways in which a path can be understood,
//! [`table`] finds the rule, [`mod@decide`] gives the verdict, [`mod@location`] writes redirects,
//! [`template`] fills captures in, [`target`] rewrites what goes to a server, and
//! [`mod@explain`] tells people how it came about.

#[cfg(test)]
mod capture_properties;
mod condition;
pub mod decide;
pub mod explain;
pub mod host;
pub mod location;
#[cfg(test)]
mod properties;
mod published;
pub mod question;
pub mod reading;
mod rewrite;
pub mod table;
pub mod target;
pub mod template;
#[cfg(test)]
pub(crate) mod testing;

pub use decide::{Decision, decide};
pub use explain::{Asked, Explanation, explain};
pub use host::{HostName, normalize_host};
pub use location::{https_location, https_port, https_status, location};
pub use question::Question;
pub use table::Table;
pub use target::rewritten;
pub use template::{Values, target_value};
