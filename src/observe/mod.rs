//! What happened: the access log and the program's own log.

mod access;
mod format;
mod lines;
pub mod metrics;
mod program;
mod target;
mod writer;

pub use access::Access;
pub use format::line;
pub use program::{flush_log, start_log};
pub use writer::AccessLog;
