//! Publish rules.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Condition, FarmId, HeaderChanges, Place, Rewrite, Template};

/// A publish rule: host (+ path) → farm.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its position in [`super::Site::rules`].
    pub index: usize,
    /// Name for logs; default `host/path` as written.
    pub name: Arc<str>,
    /// Host names it takes.
    pub host: HostPattern,
    /// Paths it takes.
    pub path: PathPattern,
    /// Client protocols it is published on.
    pub schemes: Schemes,
    /// Names of the listeners it is limited to; `None`: all.
    pub listeners: Option<Vec<Arc<str>>>,
    /// What must hold besides; empty: nothing. Rules with conditions are asked before the one of
    /// the same host and path without.
    pub when: Vec<Condition>,
    /// What happens.
    pub action: Action,
    /// Changes to path and query on the way to the server.
    pub rewrite: Option<Rewrite>,
    /// Changes to the request's header on the way to the server.
    pub request_headers: HeaderChanges,
    /// Changes to the answer's header on the way to the client.
    pub response_headers: HeaderChanges,
    /// Whether names of the servers in `Location` and cookies become the client's. Default false.
    pub rewrite_host: bool,
    /// Paths of the farm's `deny_paths` that this rule publishes all the same.
    pub allow_denied: Vec<Arc<str>>,
    /// Silence allowed to the server, instead of the farm's.
    pub timeout: Option<Duration>,
    /// Largest request body in bytes.
    pub body_size: Option<u64>,
    /// How long a client may stay silent inside a request body. Default 60 s.
    pub body_timeout: Duration,
    /// Where it is configured.
    pub place: Place,
}

/// Which host names a rule takes; all lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `meet.contoso.com`
    Exact(Arc<str>),
    /// `meet.*`: a first label, then one of the site's `domains` or something under it. Holds
    /// `meet` (it may have several labels: `meet.emea.*` holds `meet.emea`).
    Prefix(Arc<str>),
    /// `*.contoso.com`: anything under it, any number of labels. Holds `contoso.com`.
    Suffix(Arc<str>),
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(h) => f.write_str(h),
            Self::Prefix(p) => write!(f, "{p}.*"),
            Self::Suffix(s) => write!(f, "*.{s}"),
        }
    }
}

/// Which paths a rule takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// Every path.
    Any,
    /// Whole segments, lower case, leading slash, no trailing slash: `/meet`.
    Prefix(Arc<str>),
    /// Exactly this path, lower case (`=/x`).
    Exact(Arc<str>),
}

/// Client protocols a rule is published on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schemes {
    /// On TLS listeners.
    pub https: bool,
    /// On plain listeners.
    pub http: bool,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send the request to a farm.
    Forward(FarmId),
    /// Answer 404.
    Deny,
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer with a page.
    Respond(Respond),
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Absolute URL or a path, percent-encoded. Nothing but the host asked for is put into its
    /// authority.
    pub to: Template,
    /// 301, 302, 303, 307 or 308. Default 302.
    pub status: u16,
    /// Append the request's path to `to`. Default false.
    pub keep_path: bool,
    /// Append the request's query to `to`. Default true.
    pub keep_query: bool,
}

/// An answer of Frontgate's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// Its status. Default 200.
    pub status: u16,
    /// Its body; `None`: a short text.
    pub page: Option<Page>,
}

/// A file, read when the configuration was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its bytes.
    pub body: Bytes,
    /// Its `Content-Type`, by its extension.
    pub content_type: &'static str,
}
