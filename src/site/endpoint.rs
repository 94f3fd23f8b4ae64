//! Where something is posted to.

/// Where something is posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
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

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The target stays out of every log.
        f.debug_struct("Endpoint").field("authority", &self.authority).finish_non_exhaustive()
    }
}
