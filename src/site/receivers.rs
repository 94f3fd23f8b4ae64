//! Who is told of events.

use std::path::PathBuf;

/// Who is told of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receivers {
    /// A program that is run with each event on standard input.
    pub command: Option<PathBuf>,
    /// Where each event is posted to.
    pub webhook: Option<Webhook>,
}

/// Where events are posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// With TLS.
    pub https: bool,
    /// DNS name or IP address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Host and port as written, for `Host` and logs.
    pub authority: String,
    /// Path and query; whoever knows it may be able to post there.
    pub target: String,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The target stays out of every log.
        f.debug_struct("Webhook").field("authority", &self.authority).finish_non_exhaustive()
    }
}
