//! Who is told of events.

use std::path::PathBuf;

use super::Endpoint;

/// Who is told of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receivers {
    /// A program that is run with each event on standard input.
    pub command: Option<PathBuf>,
    /// Where each event is posted to.
    pub webhook: Option<Endpoint>,
}
