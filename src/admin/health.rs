//! `/livez` and `/readyz`.

use http::{Method, StatusCode};

use super::answer::{Answer, text};

/// Answers a health endpoint; `None`: it is none.
pub(super) fn answer(method: &Method, path: &str, ready: bool) -> Option<Answer> {
    if !matches!(path, "/livez" | "/readyz") {
        return None;
    }
    Some(match path {
        _ if !matches!(*method, Method::GET | Method::HEAD) => {
            text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n")
        }
        "/livez" => text(StatusCode::OK, "live\n"),
        _ if ready => text(StatusCode::OK, "ready\n"),
        _ => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    })
}
