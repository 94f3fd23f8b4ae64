//! What tests of every area begin with.

use std::time::Duration;

use super::{AccessLog, Admin, AdminAddress, AffinityKey, Limits, Shutdown, Site};

/// A site of nothing: no listener, no farm, no rule.
pub(crate) fn empty() -> Site {
    let second = Duration::from_secs(1);
    Site {
        affinity_key: AffinityKey([7; 32]),
        fingerprint: String::new(),
        files: Vec::new(),
        directories: Vec::new(),
        listeners: Vec::new(),
        certificates: Vec::new(),
        default_certificate: 0,
        farms: Vec::new(),
        rules: Vec::new(),
        domains: Vec::new(),
        trusted_proxies: Vec::new(),
        limits: Limits {
            connections: 1,
            connections_per_source: 1,
            pins: 1,
            pins_per_source: 1,
            tls_handshake: second,
            header_timeout: second,
            keep_alive: second,
            header_size: 1,
            headers: 1,
            url: 1,
            h2_streams: 1,
        },
        access_log: AccessLog::default(),
        admin: admin(AdminAddress::Unix("admin".into())),
        receivers: Default::default(),
        traces: None,
        state_dir: "/nowhere".into(),
        workers: 1,
        shutdown: Shutdown { delay: Duration::ZERO, drain: Duration::ZERO },
    }
}

/// An admin side there, with nothing else set.
pub(crate) fn admin(listen: AdminAddress) -> Admin {
    Admin {
        listen,
        health: None,
        metrics: None,
        hosts: Vec::new(),
        token: None,
        token_file: "/nowhere".into(),
    }
}
