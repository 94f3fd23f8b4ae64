//! One request, as the access log tells it.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

/// One line of the access log. Borrowed where it can be: it lives for one write.
#[derive(Clone, Debug)]
pub struct Access<'a> {
    /// When the first byte of the request was read.
    pub time: SystemTime,
    /// The client, as far as trusted proxies told.
    pub client: IpAddr,
    /// Its port, if it is known.
    pub client_port: Option<u16>,
    /// The trusted proxy that brought the request, if one did.
    pub peer: Option<SocketAddr>,
    /// The address it came to.
    pub local: IpAddr,
    /// The port it came to, as the client sees it.
    pub port: u16,
    /// The number its server was told (`X-ARR-LOG-ID`), if it was.
    pub log_id: Option<&'a str>,
    /// Name of the listener.
    pub listener: &'a str,
    /// Server name of the TLS handshake.
    pub sni: Option<&'a str>,
    /// The `Host` header or HTTP/2 authority, as sent.
    pub host: Option<&'a str>,
    /// Method, as sent.
    pub method: Option<&'a str>,
    /// The target before its `?`, as sent. Credentials in it are masked when it is written.
    pub path: Option<&'a str>,
    /// The target behind its `?`, as sent. How much of it is written is a setting.
    pub query: Option<&'a str>,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: Option<&'a str>,
    /// Status sent to the client; 0 when none could be sent.
    pub status: u16,
    /// Body bytes read from the client.
    pub received: u64,
    /// Body bytes sent to the client (a refused request: the whole answer).
    pub sent: u64,
    /// From the first byte of the request to the end.
    pub duration: Duration,
    /// From the first byte of the request to the answer's header.
    pub first_byte: Option<Duration>,
    /// Name of the publish rule.
    pub rule: Option<&'a str>,
    /// Farm.
    pub farm: Option<&'a str>,
    /// Server that answered, or was tried last.
    pub server: Option<&'a str>,
    /// `new` or `reused`: the server connection.
    pub server_connection: Option<&'a str>,
    /// Reason code, when Frontgate made the answer or the exchange broke.
    pub reason: Option<&'a str>,
    /// TLS version towards the client.
    pub tls: Option<&'a str>,
    /// `Referer`, as sent; credentials and query are treated as those of the target.
    pub referer: Option<&'a str>,
    /// `User-Agent`.
    pub user_agent: Option<&'a str>,
}
