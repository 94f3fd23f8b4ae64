//! The way of a request, hook by hook: a table of contents.

mod admit;
mod ctx;
pub mod explain;
mod failure;
mod headers;
mod live;
mod log;
mod log_id;
mod place;
mod respond;
mod rewrite_host;
mod rule;
mod server;
mod told;
mod traced;

use std::{any::Any, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{
    Error, Result,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    protocols::Digest,
    proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session},
    upstreams::peer::{HttpPeer, Peer},
};

pub use self::{
    ctx::Ctx,
    live::{Current, Live},
    log::refused,
};
use crate::listen::{self, Arrival};

/// Frontgate as Pingora's proxy application.
pub struct Forward {
    current: Arc<Current>,
}

impl Forward {
    /// Serves whatever `current` holds.
    pub fn new(current: Arc<Current>) -> Self {
        Self { current }
    }
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(self.current.load())
    }

    /// No modules: nothing is compressed or buffered on the way.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// HTTP/1: the connection loop hands over the arrival with every request.
    fn on_connection_reuse(
        &self,
        _: &mut Session,
        ctx: &mut Ctx,
        arrival: Box<dyn Any + Send + Sync>,
    ) {
        if let Ok(arrival) = arrival.downcast::<Arrival>() {
            ctx.arrived(arrival.started);
            ctx.connection = Some(arrival.connection);
        }
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        admit::prepare(session, ctx)
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        admit::admit(session, ctx).await
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        server::peer(session, ctx).await
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        peer: &HttpPeer,
        fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.connected(reused, fd, peer.address().as_inet().map(|at| at.ip()));
        if let (true, Some(rule)) = (session.is_http2() && !session.is_body_done(), &ctx.rule) {
            listen::body::expect(rule.body_timeout, fd);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        headers::to_server(session, request, ctx)?;
        rule::to_server(session, request, ctx)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        admit::body(session, body, end, ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.answered(response.status);
        headers::from_server(session, response, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        listen::body::progress();
        ctx.sent_on(body.as_ref().map_or(0, Bytes::len));
        Ok(None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        headers::to_client(session, response, ctx);
        if response.status.is_informational() {
            return Ok(());
        }
        rule::to_client(session, response, ctx)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Ctx,
        error: Box<Error>,
    ) -> Box<Error> {
        server::connect_failed(ctx, error)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        failure::while_proxying(session, ctx, error, reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        failure::answer(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Ctx) {
        ctx.ended();
        log::request(&self.current, session, ctx);
    }

    /// Failures are told by the access log and by `failure`, once.
    fn suppress_error_log(&self, _: &Session, _: &Ctx, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Ctx,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
