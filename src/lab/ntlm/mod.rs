//! NTLM as IIS speaks it over HTTP, bare or inside Negotiate: what authenticates a *connection*
//! and therefore goes wrong behind a proxy that shares connections.
//!
//! Messages: [MS-NLMP]. Over HTTP: [MS-NTHT]. In SPNEGO: RFC 4178 and RFC 4559. Neither NTLMv1
//! nor message integrity codes nor channel bindings are checked: nothing here guards a secret.

mod client;
mod handshake;
mod messages;
mod proof;
mod spnego;
mod wire;

pub use self::client::Client;
pub(super) use self::{
    handshake::{Handshake, Server, Verdict},
    messages::Names,
};

/// How NTLM messages travel in `Authorization` and `WWW-Authenticate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// Scheme `NTLM`.
    Ntlm,
    /// Scheme `Negotiate` with bare NTLM messages, which Windows clients without Kerberos send.
    Negotiate,
    /// Scheme `Negotiate` with SPNEGO around the messages.
    Spnego,
}

impl Wrapping {
    fn scheme(self) -> &'static str {
        match self {
            Self::Ntlm => "NTLM",
            Self::Negotiate | Self::Spnego => "Negotiate",
        }
    }
}
