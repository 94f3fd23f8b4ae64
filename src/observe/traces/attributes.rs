//! What a span says, as names with values.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Status, status::StatusCode},
};

/// The longest text of an attribute, in bytes.
///
/// SECURITY: a client chooses path and `User-Agent`, and thousands of spans may wait for a
/// collector. Test: nothing_a_client_sends_makes_a_span_large
const LONGEST: usize = 1024;

/// Methods that spans tell by name (RFC 9110, PATCH, and those of the servers published here); a
/// client could invent others without end.
const METHODS: [&str; 18] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "RPC_IN_DATA",
    "RPC_OUT_DATA",
    "PROPFIND",
    "PROPPATCH",
    "SEARCH",
    "SUBSCRIBE",
    "POLL",
    "MKCOL",
    "BPROPPATCH",
];

/// Attributes, in the order in which they are told.
#[derive(Default)]
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// All of them.
    pub(super) fn list(self) -> Vec<KeyValue> {
        self.0
    }

    /// Tells the method; what it is called in names of spans.
    pub(super) fn method<'a>(&mut self, sent: Option<&'a str>) -> &'a str {
        match sent {
            Some(method) if METHODS.contains(&method) => {
                self.text("http.request.method", method);
                method
            }
            other => {
                self.text("http.request.method", "_OTHER");
                self.maybe("http.request.method_original", other);
                "HTTP"
            }
        }
    }

    fn put(&mut self, key: &str, value: Value) {
        let (key, value) = (key.to_owned(), Some(AnyValue { value: Some(value) }));
        self.0.push(KeyValue { key, value, ..KeyValue::default() });
    }

    /// A text, cut where it is too long.
    pub(super) fn text(&mut self, key: &str, text: &str) {
        let mut end = LONGEST.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let cut = text.get(..end).unwrap_or_default();
        self.put(key, Value::StringValue(cut.to_owned()));
    }

    /// A text that may not be there.
    pub(super) fn maybe(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// A number.
    pub(super) fn number(&mut self, key: &str, number: i64) {
        self.put(key, Value::IntValue(number));
    }

    /// The status of an answer.
    pub(super) fn status(&mut self, status: Option<u16>) {
        if let Some(status) = status {
            self.number("http.response.status_code", status.into());
        }
    }

    /// Whether it went wrong, and what `error.type` says of it: `why`, else the status.
    pub(super) fn outcome(
        &mut self,
        failed: bool,
        why: Option<&str>,
        status: Option<u16>,
    ) -> Option<Status> {
        if !failed {
            return None;
        }
        let status = status.map(|status| status.to_string());
        self.text("error.type", why.or(status.as_deref()).unwrap_or("_OTHER"));
        Some(Status { message: String::new(), code: StatusCode::Error.into() })
    }
}

/// Attributes of everything that this process sends.
pub(super) fn resource(service: &str, host: &str) -> Vec<KeyValue> {
    let mut to = Attributes::default();
    to.text("service.name", service);
    to.text("service.version", env!("CARGO_PKG_VERSION"));
    if !host.is_empty() {
        to.text("host.name", host);
    }
    to.0
}
