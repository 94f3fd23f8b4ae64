//! What routing asks about: one request, borrowed.

use std::net::IpAddr;

use http::HeaderMap;

/// What routing needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// Where it came in: an index into [`crate::site::Site::listeners`].
    pub listener: usize,
    /// Whether the client used TLS.
    pub https: bool,
    /// The normalised host, see [`super::normalize_host`].
    pub host: &'q str,
    /// The path as sent, without query, in origin form.
    pub target_path: &'q [u8],
    /// The query as sent, without `?`; `None` without one.
    pub query: Option<&'q [u8]>,
    /// The method.
    pub method: &'q str,
    /// The header.
    pub headers: &'q HeaderMap,
    /// The client's address.
    pub source: IpAddr,
}

impl<'q> Question<'q> {
    /// The path; `/` for an empty one.
    pub(super) fn path(&self) -> &'q [u8] {
        if self.target_path.is_empty() { b"/" } else { self.target_path }
    }
}
