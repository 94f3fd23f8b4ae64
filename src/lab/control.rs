//! The control port: stops and starts simulated servers from outside, for tests of the program.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::StatusCode;
use pingora::{
    http::ResponseHeader,
    protocols::{http::ServerSession as Session, l4},
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::lab::{message::Request, server::Running, servers::Servers};

/// Binds `127.0.0.1:port` and serves; the address, and what ends it.
pub(super) async fn start(port: u16, servers: Arc<Servers>) -> Result<(SocketAddr, Running)> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (control); --control chooses"))?;
    let address = listener.local_addr()?;
    let (stop, mut stopped) = watch::channel(());
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = stopped.changed() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => {
                    let Ok((tcp, _)) = accepted else { break };
                    connections.spawn(serve(tcp, servers.clone()));
                }
            }
        }
        connections.shutdown().await;
    });
    Ok((address, Running::new(stop, task)))
}

/// One request; the connection closes after it.
async fn serve(tcp: TcpStream, servers: Arc<Servers>) {
    let mut session = Session::new_http1(Box::new(l4::stream::Stream::from(tcp)));
    let served = async {
        if !session.read_request().await? {
            return pingora::Result::<()>::Ok(());
        }
        session.set_keepalive(None);
        let request = Request::new(session.req_header());
        let (status, body) = answer(&request, &servers).await;
        let body = Bytes::from(format!("{body}\n"));
        let mut head = ResponseHeader::build(status, Some(2))?;
        head.append_header("Content-Type", "application/json")?;
        head.append_header("Content-Length", body.len().to_string())?;
        session.write_response_header(Box::new(head)).await?;
        session.write_response_body(body, true).await?;
        session.finish().await?;
        Ok(())
    };
    if let Err(error) = served.await {
        log::debug!("lab control: {error}");
    }
}

async fn answer(request: &Request, servers: &Servers) -> (StatusCode, serde_json::Value) {
    // SECURITY: a web page that resolves its own name to 127.0.0.1 must not reach this (test
    // `the_control_port_stops_and_starts_servers`).
    if request.host != "127.0.0.1" && request.host != "localhost" {
        return (StatusCode::MISDIRECTED_REQUEST, json!({ "error": "unknown host" }));
    }
    let path = request.path.as_deref().unwrap_or_default();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let done = match (request.method.as_str(), path.as_slice()) {
        ("GET", []) => return (StatusCode::OK, json!({ "running": servers.running().await })),
        ("POST", ["stop", name]) => servers.stop(name).await,
        ("POST", ["start", name]) => servers.start(name).await,
        ("POST", ["overload", name]) => servers.set_overloaded(name, true).await,
        ("POST", ["recover", name]) => servers.set_overloaded(name, false).await,
        ("POST", ["out", name, protocol]) => servers.set_out(name, protocol, true).await,
        ("POST", ["in", name, protocol]) => servers.set_out(name, protocol, false).await,
        _ => {
            let usage = "GET / or POST /stop/NAME /start/NAME /overload/NAME /recover/NAME \
                         /out/NAME/PROTOCOL /in/NAME/PROTOCOL";
            return (StatusCode::NOT_FOUND, json!({ "error": usage }));
        }
    };
    match done {
        Ok(()) => (StatusCode::OK, json!({ "running": servers.running().await })),
        Err(error) => (StatusCode::CONFLICT, json!({ "error": format!("{error:#}") })),
    }
}
