//! What happened: the access log.

mod access;
mod format;
mod writer;

pub use access::Access;
pub use format::line;
pub use writer::AccessLog;
