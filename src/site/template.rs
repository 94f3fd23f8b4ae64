//! Texts with captures and request values in them, as URL Rewrite writes them.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

/// A text, taken apart once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Its parts, in order.
    pub parts: Vec<Part>,
}

impl Template {
    /// The text, if nothing in it depends on the request.
    pub fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

impl From<&str> for Template {
    fn from(text: &str) -> Self {
        Self { parts: vec![Part::Text(text.into())] }
    }
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As written.
    Text(Arc<str>),
    /// `{R:0}`: the path without its leading slash; `{R:1}`: what follows the rule's own path in
    /// it, likewise.
    Rule(u8),
    /// `{C:0}` to `{C:9}`: groups of the rule's last `matches`; `{C:0}` is the whole match.
    Condition(u8),
    /// `{HTTP_HOST}`: the host asked for, lower case, without port.
    Host,
    /// `{HTTPS}`: `on` or `off`.
    Https,
    /// `{QUERY_STRING}`: the query, without `?`.
    Query,
    /// `{REMOTE_ADDR}`: the client's address.
    Source,
    /// `{REQUEST_URI}`: path and query.
    Target,
    /// `{URL}`: the path, with its leading slash.
    Path,
}

/// Changes to path and query on the way to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The new path, decoded, with leading slash; `None` leaves the client's.
    pub path: Option<Template>,
    /// Where the new path stays whatever the captures are, lower case: the fixed text it starts
    /// with. A slash at its end stands for the whole directory, `/owa/` for `/owa` too.
    pub within: Arc<str>,
    /// The new query, empty for none at all; `None` leaves the client's.
    pub query: Option<Template>,
}

/// Changes to header fields: first `remove`, then `set`, then `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Taken out.
    pub remove: Vec<HeaderName>,
    /// In place of what is there.
    pub set: Vec<Field>,
    /// Beside what is there.
    pub add: Vec<Field>,
}

impl HeaderChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// A header field to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name as written.
    pub name: Arc<str>,
    /// Its value.
    pub value: FieldValue,
    /// What may be told of it where the environment had a part in it: the text of the file.
    pub told: Option<Arc<str>>,
}

/// The value of a header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// Always the same.
    Fixed(HeaderValue),
    /// Made for each request.
    Made(Template),
}
