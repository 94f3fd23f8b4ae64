//! What happened: the access log and the program's own log.

mod access;
mod format;
mod lines;
mod mask;
pub mod metrics;
mod program;
mod syslog;
mod target;
#[cfg(test)]
mod testing;
pub mod traces;
mod w3c;
mod writer;

pub use access::Access;
pub use format::line;
pub use program::{flush_log, start_log};
pub use w3c::FIELDS as W3C_FIELDS;
pub use writer::AccessLog;
