//! TLS towards clients: versions, ciphers, certificates by name, HTTP/2 by ALPN.

use std::{
    any::Any,
    os::fd::RawFd,
    sync::{Arc, LazyLock, Mutex, OnceLock},
};

use async_trait::async_trait;
use boring::{
    error::ErrorStack,
    ex_data::Index,
    ssl::{
        AlpnError, ClientHello, ExtensionType, NameType, SelectCertError, Ssl, SslAcceptor,
        SslMethod, SslOptions, SslRef, SslVersion,
    },
};
use pingora::{
    Error, ErrorType,
    listeners::TlsAccept,
    protocols::tls::{SslStream, TlsRef, server::handshake_with_callback},
    tls::ext,
};

use super::{
    Admitted, Connection, Ends, Stopping, View, connection::ConnectionTls, socket::Socket,
};
use crate::site::{Certificate, Listener, ListenerTls, TlsVersion};

use crate::lock::lock;

/// In our order: AES-128 with SHA-256 makes a handshake cheaper than the AES-256 with SHA-384 most
/// clients name first, and is as safe. Who has no AES in hardware says so by naming ChaCha20 first.
///
/// COMPAT: Windows 7 and 8.1 clients (Schannel) offer ECDHE with RSA certificates only with CBC
/// suites, so those stay behind the AEAD ones. Test: windows_client_cipher_list_is_accepted.
const CIPHERS: &str = "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]:\
    [ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]:\
    ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
    ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:\
    AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA:AES256-SHA";

/// Builds the acceptor of a listener. It asks `view` at each handshake which certificates there
/// are, so it outlives reloads, and with it the keys of its session tickets.
///
/// # Errors
/// BoringSSL refuses the settings (does not happen with the fixed lists above).
pub fn acceptor(tls: &ListenerTls, view: Arc<dyn View>) -> Result<SslAcceptor, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    builder.clear_options(SslOptions::NO_TLSV1 | SslOptions::NO_TLSV1_1);
    builder.set_min_proto_version(Some(version(tls.min_version)))?;
    builder.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_cipher_list(CIPHERS)?;
    builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
    let certificates = view.clone();
    builder.set_select_certificate_callback(move |hello| select(hello, certificates.as_ref()));
    let http2 = tls.http2;
    builder.set_alpn_select_callback(move |ssl, offered| {
        let offer_h2 = http2
            && ssl
                .servername(NameType::HOST_NAME)
                .is_some_and(|name| host_name(name).is_some_and(|name| view.http2_allowed(&name)));
        let preference: &[u8] = if offer_h2 { b"\x02h2\x08http/1.1" } else { b"\x08http/1.1" };
        boring::ssl::select_next_proto(preference, offered).ok_or(AlpnError::NOACK)
    });
    Ok(builder.build())
}

/// Runs the handshake and returns the stream with what is known about it.
///
/// # Errors
/// The handshake failed; the text says why.
pub(super) async fn handshake(
    acceptor: &SslAcceptor,
    socket: Socket,
    facts: Facts,
) -> pingora::Result<(SslStream<Socket>, Arc<Connection>)> {
    let stream = handshake_with_callback(acceptor, socket, &facts).await?;
    match facts.connection.into_inner() {
        Some(connection) => Ok((stream, connection)),
        None => Err(Error::explain(ErrorType::TLSHandshakeFailure, "no connection facts")),
    }
}

/// What is known before the handshake. What it adds becomes part of Pingora's TLS digest as an
/// `Arc<Connection>`, which is how requests of an HTTP/2 connection find it.
pub(super) struct Facts {
    listener: Arc<Listener>,
    ends: Ends,
    stopping: Stopping,
    admitted: Mutex<Option<Admitted>>,
    fd: RawFd,
    connection: OnceLock<Arc<Connection>>,
}

impl Facts {
    pub(super) fn new(
        listener: Arc<Listener>,
        ends: Ends,
        stopping: Stopping,
        admitted: Admitted,
        fd: RawFd,
    ) -> Self {
        let (admitted, connection) = (Mutex::new(Some(admitted)), OnceLock::new());
        Self { listener, ends, stopping, admitted, fd, connection }
    }
}

#[async_trait]
impl TlsAccept for Facts {
    async fn handshake_complete_callback(
        &self,
        ssl: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let tls = ConnectionTls {
            sni: ssl.servername(NameType::HOST_NAME).and_then(host_name),
            version: ssl.version_str(),
            resumed: ssl.session_reused(),
            cipher_bits: ssl.current_cipher().map_or(0, |cipher| cipher.bits().secret),
            certificate: ssl.ex_data(*SERVED).cloned(),
        };
        let admitted = lock(&self.admitted).take()?;
        let (listener, stopping) = (self.listener.clone(), self.stopping.clone());
        let connection =
            Connection::new(listener, self.ends, Some(tls), stopping, admitted, self.fd);
        let connection = self.connection.get_or_init(|| Arc::new(connection));
        Some(Arc::new(connection.clone()))
    }
}

/// Where a TLS session remembers which certificate it served. An index can only be refused when
/// memory is exhausted; index 0 would then hold a pointer of another type.
static SERVED: LazyLock<Index<Ssl, Arc<Certificate>>> = LazyLock::new(|| {
    #[allow(clippy::expect_used)]
    Ssl::new_ex_index().expect("BoringSSL has memory for one index")
});

/// Picks the certificate while the ClientHello is read.
fn select(mut hello: ClientHello<'_>, view: &dyn View) -> Result<(), SelectCertError> {
    let sni = hello.servername(NameType::HOST_NAME).and_then(host_name);
    let accepts_ecdsa =
        hello.get_extension(ExtensionType::SIGNATURE_ALGORITHMS).is_some_and(lists_ecdsa);
    let certificate =
        view.certificate(sni.as_deref(), accepts_ecdsa).ok_or(SelectCertError::ERROR)?;
    let ssl = hello.ssl_mut();
    serve_certificate(ssl, &certificate).map_err(|_| SelectCertError::ERROR)?;
    ssl.set_ex_data(*SERVED, certificate);
    Ok(())
}

fn serve_certificate(ssl: &mut SslRef, certificate: &Certificate) -> Result<(), ErrorStack> {
    let mut chain = certificate.chain.iter();
    if let Some(leaf) = chain.next() {
        ext::ssl_use_certificate(ssl, leaf)?;
    }
    ext::ssl_use_private_key(ssl, &certificate.key)?;
    for intermediate in chain {
        ext::ssl_add_chain_cert(ssl, intermediate)?;
    }
    Ok(())
}

/// Whether a `signature_algorithms` extension names ecdsa_secp256r1_sha256 (RFC 8446 4.2.3).
fn lists_ecdsa(extension: &[u8]) -> bool {
    let list = extension.get(2..).unwrap_or_default();
    list.chunks_exact(2).any(|pair| pair == [0x04, 0x03])
}

/// Lower case, without trailing dot; `None` for what cannot be a host name.
fn host_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty() && name.is_ascii()).then(|| name.to_ascii_lowercase())
}

fn version(version: TlsVersion) -> SslVersion {
    match version {
        TlsVersion::Tls10 => SslVersion::TLS1,
        TlsVersion::Tls11 => SslVersion::TLS1_1,
        TlsVersion::Tls12 => SslVersion::TLS1_2,
        TlsVersion::Tls13 => SslVersion::TLS1_3,
    }
}
