//! `/livez` and `/readyz`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::{apps::http_app::ServeHttp, protocols::http::ServerSession};

/// Answers the health endpoints.
pub(super) struct Health {
    /// A site is loaded, every listener is bound, and nobody asked to stop.
    pub(super) ready: Arc<AtomicBool>,
    /// Names accepted in `Host`; `None`: any (a listener that only tells its health).
    pub(super) hosts: Option<Vec<String>>,
}

#[async_trait]
impl ServeHttp for Health {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        session.set_keepalive(None);
        let request = session.req_header();
        if !self.knows(request.headers.get(header::HOST)) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this Host is not served here\n");
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        }
        match request.uri.path() {
            "/livez" => text(StatusCode::OK, "live\n"),
            "/readyz" if self.ready.load(Ordering::Acquire) => text(StatusCode::OK, "ready\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }
}

impl Health {
    /// SECURITY: a page in an administrator's browser must not reach the admin side under a name
    /// of its own (DNS rebinding). Test: unknown_host_is_refused.
    fn knows(&self, host: Option<&HeaderValue>) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        let Some(host) = host.and_then(|h| h.to_str().ok()) else { return false };
        let name = host.parse::<http::uri::Authority>().ok();
        name.is_some_and(|a| hosts.iter().any(|known| known.eq_ignore_ascii_case(a.host())))
    }
}

fn text(status: StatusCode, body: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(body.as_bytes().to_vec());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_host_is_refused() {
        let health =
            Health { ready: Arc::default(), hosts: Some(vec!["localhost".into(), "[::1]".into()]) };
        let knows = |host: &'static str| health.knows(Some(&HeaderValue::from_static(host)));
        assert!(knows("localhost:9180") && knows("LOCALHOST") && knows("[::1]:9180"));
        assert!(!knows("rebound.example") && !knows("localhost.example") && !knows(""));
        assert!(!health.knows(None));
    }
}
