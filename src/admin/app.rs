//! From a request to what answers it.

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use pingora::{apps::http_app::ServeHttp, protocols::http::ServerSession};

use super::{
    answer::{Answer, text},
    api,
    context::Context,
    guard, health, metrics, page,
    reloading::Waits,
};
use crate::site::Token;

/// What is served on one address.
pub(super) struct App {
    pub(super) context: Arc<Context>,
    /// Names accepted in `Host`; `None`: any (a listener that only tells its health).
    pub(super) hosts: Option<Vec<String>>,
    /// The API, where it is served.
    pub(super) api: Option<Access>,
    /// Whether the health endpoints are served.
    pub(super) health: bool,
    /// Whether `/metrics` is.
    pub(super) metrics: bool,
}

/// Who may use the API.
pub(super) struct Access {
    pub(super) token: Token,
    /// Whether also reading needs it, because other machines reach the address.
    pub(super) to_read: bool,
}

/// Who is at the other end of a connection.
pub(super) struct Peer {
    /// For logs.
    pub(super) from: String,
    /// The address it came to; none on a Unix socket.
    pub(super) local: Option<IpAddr>,
    /// Whether they wait for a reload.
    pub(super) waits: Waits,
}

/// One connection to it.
pub(super) struct Visit {
    pub(super) app: Arc<App>,
    /// Who is there.
    pub(super) peer: Peer,
}

impl Visit {
    /// Whether the request is for this address.
    pub(super) fn is_known_host(&self, headers: &HeaderMap) -> bool {
        let hosts = self.app.hosts.as_ref();
        hosts.is_none_or(|hosts| guard::knows_host(hosts, self.peer.local, headers))
    }
}

#[async_trait]
impl ServeHttp for Visit {
    async fn response(&self, session: &mut ServerSession) -> Answer {
        session.set_keepalive(None);
        let App { context, api, .. } = &*self.app;
        let request = session.req_header();
        if !self.is_known_host(&request.headers) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this Host is not served here\n");
        }
        let path = request.uri.path();
        if self.app.health
            && let Some(answer) = health::answer(&request.method, path, context.is_ready())
        {
            return answer;
        }
        if self.app.metrics && path == metrics::PATH {
            return metrics::answer(session, api.as_ref(), context).await;
        }
        match (api, path.starts_with(api::PREFIX)) {
            (Some(access), true) => api::answer(session, access, context, &self.peer).await,
            (Some(access), false) => page::answer(session, access, context).await,
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }
}
