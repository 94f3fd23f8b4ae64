//! A request for the tests of this area.

use std::time::{Duration, SystemTime};

use super::Access;

/// One whose client sends this wherever it can.
pub(super) fn all_of(text: &str) -> Access<'_> {
    Access {
        host: Some(text),
        method: Some(text),
        path: Some(text),
        query: Some(text),
        user_agent: Some(text),
        ..access()
    }
}

pub(super) fn access<'a>() -> Access<'a> {
    Access {
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400),
        client: "192.0.2.7".parse().unwrap(),
        client_port: Some(5061),
        peer: None,
        local: "203.0.113.5".parse().unwrap(),
        port: 443,
        log_id: None,
        listener: "public",
        sni: Some("meet.contoso.com"),
        host: Some("meet.contoso.com"),
        method: Some("GET"),
        path: Some("/meet/bob/1"),
        query: None,
        protocol: Some("HTTP/1.1"),
        status: 200,
        received: 0,
        sent: 42,
        duration: Duration::from_micros(1500),
        first_byte: Some(Duration::from_micros(1250)),
        rule: Some("meet.*"),
        farm: Some("lyncweb"),
        server: Some("fe01"),
        server_connection: Some("reused"),
        reason: None,
        tls: Some("TLSv1.3"),
        referer: None,
        user_agent: Some("UCCAPI"),
    }
}
