//! Why a server's certificate was refused.
//!
//! Pingora says only that it was: the verifier's verdict is dropped with the connection. So after
//! a refusal the handshake is made once more, with the same trust and the same expected name, and
//! this time the verdict is read. Nothing is ever sent over that connection.

use std::{
    pin::Pin,
    sync::{Arc, LazyLock},
};

use boring::{
    error::ErrorStack,
    ssl::{ConnectConfiguration, SslConnector, SslMethod, SslVerifyMode, SslVersion},
    x509::{X509VerifyError, store::X509StoreBuilder},
};
use pingora::{
    protocols::l4::stream::Stream,
    tls::tokio_ssl::SslStream,
    upstreams::peer::{HttpPeer, Peer},
};
use tokio::net::TcpStream;

/// The phrase for `peer`'s certificate.
pub(super) async fn why(peer: &HttpPeer) -> Arc<str> {
    match verdict(peer).await {
        Some(error) => phrase(error, peer.sni()),
        None => "TLS: certificate not trusted".into(),
    }
}

fn phrase(error: X509VerifyError, name: &str) -> Arc<str> {
    match error {
        X509VerifyError::HOSTNAME_MISMATCH | X509VerifyError::IP_ADDRESS_MISMATCH => {
            format!("TLS: certificate name does not match {name}").into()
        }
        X509VerifyError::CERT_HAS_EXPIRED => "TLS: certificate expired".into(),
        X509VerifyError::CERT_NOT_YET_VALID => "TLS: certificate not yet valid".into(),
        other => format!("TLS: certificate not trusted ({})", other.error_string()).into(),
    }
}

async fn verdict(peer: &HttpPeer) -> Option<X509VerifyError> {
    let ssl = configure(peer).ok()?.into_ssl(peer.sni()).ok()?;
    let tcp = match &peer.options.custom_l4 {
        Some(announced) => announced.connect(peer.address()).await.ok()?,
        None => TcpStream::connect(peer.address().as_inet()?).await.ok()?.into(),
    };
    let mut stream = SslStream::<Stream>::new(ssl, tcp).ok()?;
    Pin::new(&mut stream).connect().await.err()?;
    stream.ssl().verify_result().err().filter(|error| *error != X509VerifyError::INVALID_CALL)
}

fn configure(peer: &HttpPeer) -> Result<ConnectConfiguration, ErrorStack> {
    let mut configuration = match &*CONNECTOR {
        Ok(connector) => connector.configure()?,
        Err(error) => return Err(error.clone()),
    };
    configuration.set_verify(SslVerifyMode::PEER);
    configuration.set_verify_hostname(peer.verify_hostname());
    if let Some(authorities) = peer.get_ca() {
        let mut store = X509StoreBuilder::new()?;
        for authority in authorities.iter() {
            store.add_cert(authority.clone())?;
        }
        configuration.set_verify_cert_store(store.build())?;
    }
    Ok(configuration)
}

/// Trusts the system's authorities; reading them takes a while, so it is done once.
static CONNECTOR: LazyLock<Result<SslConnector, ErrorStack>> = LazyLock::new(|| {
    let mut builder = SslConnector::builder(SslMethod::tls())?;
    // As old as Pingora's connector goes: the certificate of a TLS 1.0 server has a verdict too.
    builder.set_min_proto_version(Some(SslVersion::TLS1))?;
    Ok(builder.build())
});
