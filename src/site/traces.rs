//! Where traces go.

use std::fmt;

use http::{HeaderName, HeaderValue};

use super::Endpoint;

/// Where traces go, and how much of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Traces {
    /// Where OTLP is posted to.
    pub endpoint: Endpoint,
    /// Share of the requests that are traced where no trusted proxy has decided, in percent.
    pub sample: u8,
    /// Header fields for the collector; they may sign in there.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `service.name` of all spans.
    pub service_name: String,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SECURITY: values of headers stay out of every log. Test: headers_are_not_told
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Traces")
            .field("endpoint", &self.endpoint)
            .field("sample", &self.sample)
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}
