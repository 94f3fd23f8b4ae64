//! HTTP/2 connections: Pingora's server, with this connection's limits.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pingora::{
    apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp},
    protocols::{
        Stream,
        http::{ServerSession, v2::server::H2Options, v2::server::default_h2_options},
    },
    proxy::{HttpProxy, ProxyHttp},
    server::ShutdownWatch,
};

use super::Settings;

/// One HTTP/2 connection: passes its requests on to the proxy.
struct Http2<SV> {
    proxy: Arc<HttpProxy<SV>>,
    options: H2Options,
    server_options: HttpServerOptions,
}

/// Serves one HTTP/2 connection until either end closes it.
///
/// SECURITY: streams, header lists and idle time are bounded (rapid reset and header bombs are
/// bounded in h2 itself). Test: h2_idle_connection_closes.
pub(super) async fn serve<SV>(
    stream: Stream,
    proxy: &Arc<HttpProxy<SV>>,
    settings: &Settings,
    shutdown: &ShutdownWatch,
) where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    let limits = &settings.site_limits;
    let mut options = default_h2_options();
    options.max_concurrent_streams(u32::try_from(limits.h2_streams).unwrap_or(u32::MAX));
    options.max_header_list_size(u32::try_from(limits.header_size).unwrap_or(u32::MAX));
    let mut server_options = HttpServerOptions::default();
    server_options.h2_idle_timeout = Some(limits.keep_alive.max(Duration::from_secs(1)));
    let app = Arc::new(Http2 { proxy: proxy.clone(), options, server_options });
    app.process_new(stream, shutdown).await;
}

#[async_trait]
impl<SV> HttpServerApp for Http2<SV>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.options.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.server_options)
    }
}
