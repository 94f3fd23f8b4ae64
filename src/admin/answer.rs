//! Answers of the admin side.

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::view::ProblemBody;

/// A whole answer.
pub(super) type Answer = Response<Vec<u8>>;

/// Why there is no other answer.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// For people; one sentence without its end.
    pub(super) error: String,
    /// Names that may be meant.
    pub(super) near: Vec<String>,
    /// The method that would have been right.
    pub(super) allow: Option<&'static str>,
}

impl Problem {
    /// SECURITY: what was sent may be part of `error`, and that stands in the log: a line end would
    /// begin a line of its own. Test: a_problem_stays_on_one_line
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let error: String = error.into();
        let error = error.replace(char::is_control, "\u{fffd}");
        Self { status, error, near: Vec::new(), allow: None }
    }

    pub(super) fn answer(self) -> Answer {
        let mut answer = json(self.status, &ProblemBody { error: self.error, near: self.near });
        let headers = answer.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer realm=\"frontgate\"");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        answer
    }
}

/// A value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // Texts and numbers always have a form in JSON.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    answer(status, "application/json", body)
}

/// A text.
pub(super) fn text(status: StatusCode, body: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", body.into())
}

pub(super) fn answer(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let length = body.len();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_stays_on_one_line() {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "unknown field `a\nb\u{1b}[2J`");
        assert_eq!(problem.error, "unknown field `a\u{fffd}b\u{fffd}[2J`");
    }
}
