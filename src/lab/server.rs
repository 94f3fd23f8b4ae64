//! A simulated server: its sockets, started, stopped and started again at the same addresses.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use boring::ssl::{NameType, SslAcceptor, SslMethod, SslVersion};
use pingora::protocols::{l4, tls};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::lab::{
    certificates::Identity,
    connection::{self, Tls},
    context::Context,
    estate::SiteKind,
};

/// What Windows Server 2012 R2 takes with an RSA certificate, as far as BoringSSL has it: no GCM.
/// A proxy that offers only modern suites fails here as it would in the field.
const CIPHERS: &str = "ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA:ECDHE-RSA-AES128-SHA:\
                       AES256-SHA:AES128-SHA";
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A server and its sockets.
pub(super) struct Simulated {
    pub(super) sockets: Vec<Socket>,
    acceptor: Arc<SslAcceptor>,
    running: Option<Running>,
}

/// One socket of a server.
#[derive(Clone)]
pub(super) struct Socket {
    /// What its connections are served with; the address has port 0 until it is bound first.
    pub(super) context: Context,
    /// The option that chooses another port.
    pub(super) option: &'static str,
}

/// Tasks that end when this is dropped.
pub(super) struct Running {
    stop: watch::Sender<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Simulated {
    pub(super) fn new(sockets: Vec<Socket>, identity: &Identity) -> Result<Self> {
        Ok(Self { sockets, acceptor: Arc::new(acceptor(identity)?), running: None })
    }

    pub(super) fn name(&self) -> &'static str {
        self.sockets.first().map_or("", |socket| socket.context.server.name)
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Address of the socket for this site and scheme.
    pub(super) fn address(&self, site: SiteKind, tls: bool) -> Option<SocketAddr> {
        let mut contexts = self.sockets.iter().map(|socket| &socket.context);
        contexts.find(|it| it.site == site && it.tls == tls).map(|it| it.address)
    }

    /// Binds every socket and serves; does nothing when it already runs.
    pub(super) async fn start(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let mut listeners = Vec::with_capacity(self.sockets.len());
        for socket in &mut self.sockets {
            let listener = bind(socket).await?;
            socket.context.address = listener.local_addr()?;
            listeners.push((listener, Arc::new(socket.context.clone())));
        }
        let (stop, stopped) = watch::channel(());
        let tasks = listeners
            .into_iter()
            .map(|(listener, context)| {
                let acceptor = context.tls.then(|| self.acceptor.clone());
                tokio::spawn(accept(listener, context, acceptor, stopped.clone()))
            })
            .collect();
        self.running = Some(Running { stop, tasks });
        Ok(())
    }

    /// Closes every socket and connection, as a server that dies.
    pub(super) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end().await;
        }
    }
}

impl Running {
    pub(super) fn new(stop: watch::Sender<()>, task: JoinHandle<()>) -> Self {
        Self { stop, tasks: vec![task] }
    }

    /// Ends the tasks and waits until they are gone.
    pub(super) async fn end(self) {
        drop(self.stop);
        for task in self.tasks {
            if let Err(error) = task.await {
                log::warn!("lab: {error}");
            }
        }
    }
}

async fn bind(socket: &Socket) -> Result<TcpListener> {
    let Context { address, server, site, .. } = &socket.context;
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address} ({}, {site} site); {} chooses another port",
            server.name, socket.option
        )
    })
}

/// Accepts until `stopped` ends, then drops the listener and every connection.
async fn accept(
    listener: TcpListener,
    context: Arc<Context>,
    acceptor: Option<Arc<SslAcceptor>>,
    mut stopped: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => {
                    connections.spawn(greet(tcp, peer, context.clone(), acceptor.clone()));
                }
                Err(error) => {
                    log::warn!("lab: accept on {}: {error}", context.address);
                    // Out of descriptors, most likely: leave others time to close some.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// The TLS handshake where there is one, then the requests.
async fn greet(
    tcp: TcpStream,
    peer: SocketAddr,
    context: Arc<Context>,
    acceptor: Option<Arc<SslAcceptor>>,
) {
    if let Err(error) = tcp.set_nodelay(true) {
        log::debug!("lab: {peer}: {error}");
        return;
    }
    let stream = l4::stream::Stream::from(tcp);
    let Some(acceptor) = acceptor else {
        return connection::serve(Box::new(stream), context, peer, None).await;
    };
    match tokio::time::timeout(HANDSHAKE, tls::server::handshake(&acceptor, stream)).await {
        Ok(Ok(stream)) => {
            let tls = Tls {
                version: stream.ssl().version_str().to_owned(),
                sni: stream.ssl().servername(NameType::HOST_NAME).map(str::to_owned),
            };
            connection::serve(Box::new(stream), context, peer, Some(tls)).await;
        }
        Ok(Err(error)) => log::debug!("{}: {peer}: {error}", context.server.name),
        Err(_) => log::debug!("{}: {peer}: no TLS handshake", context.server.name),
    }
}

fn acceptor(identity: &Identity) -> Result<SslAcceptor> {
    let mut builder = SslAcceptor::mozilla_intermediate(SslMethod::tls())?;
    builder.set_certificate(&identity.cert)?;
    builder.set_private_key(&identity.key)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_max_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_cipher_list(CIPHERS)?;
    Ok(builder.build())
}
