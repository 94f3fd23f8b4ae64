//! Sites for the tests of this area: listener 0 is `tls` on 443, listener 1 `plain` on 80; farm 0
//! is `lync` (its paths denied and limited as the preset does), farm 1 is `other`.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::HeaderMap;

use super::Question;
use crate::{
    farm::testing,
    site::{
        Action, Farm, FarmId, HeaderChanges, HostPattern, Listener, ListenerTls, PathPattern,
        Place, Rule, Schemes, Site, TlsVersion, testing::empty,
    },
};

pub(super) const LYNC: FarmId = FarmId(0);
pub(super) const OTHER: FarmId = FarmId(1);

pub(crate) fn site(domains: &[&str], rules: Vec<Rule>) -> Site {
    let number = |(index, rule)| Arc::new(Rule { index, ..rule });
    let tls = ListenerTls { min_version: TlsVersion::Tls12, http2: true };
    let mut lync = farm("lync");
    lync.deny_paths = vec!["/cscp".into(), "/admin".into(), "/reach/admin".into()];
    lync.plain_paths = vec!["=/".into(), "/autodiscover".into()];
    Site {
        listeners: vec![
            Arc::new(listener("tls", 443, Some(tls))),
            Arc::new(listener("plain", 80, None)),
        ],
        farms: vec![Arc::new(lync), Arc::new(farm("other"))],
        rules: rules.into_iter().enumerate().map(number).collect(),
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        ..empty()
    }
}

/// A rule for farm `lync` on both schemes; `path` as in the configuration, empty for any.
pub(crate) fn forward(host: &str, path: &str) -> Rule {
    let host_pattern = match (host.strip_suffix(".*"), host.strip_prefix("*.")) {
        (Some(prefix), _) => HostPattern::Prefix(prefix.into()),
        (_, Some(suffix)) => HostPattern::Suffix(suffix.into()),
        _ => HostPattern::Exact(host.into()),
    };
    let path_pattern = match path.strip_prefix('=') {
        Some(exact) => PathPattern::Exact(exact.into()),
        None if path.is_empty() => PathPattern::Any,
        None => PathPattern::Prefix(path.into()),
    };
    Rule {
        index: 0,
        name: format!("{host}{path}").into(),
        host: host_pattern,
        path: path_pattern,
        schemes: Schemes { https: true, http: true },
        listeners: None,
        when: Vec::new(),
        action: Action::Forward(LYNC),
        rewrite: None,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        rewrite_host: false,
        allow_denied: Vec::new(),
        timeout: None,
        body_size: None,
        body_timeout: Duration::from_secs(60),
        place: place(),
    }
}

/// A GET over TLS, without header and query.
pub(super) fn ask<'q>(host: &'q str, path: &'q str) -> Question<'q> {
    static NOTHING: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
    Question {
        listener: 0,
        https: true,
        host,
        target_path: path.as_bytes(),
        query: None,
        method: "GET",
        headers: &NOTHING,
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    }
}

pub(super) fn listener(name: &str, port: u16, tls: Option<ListenerTls>) -> Listener {
    Listener {
        name: name.into(),
        address: ([0, 0, 0, 0], port).into(),
        public_port: port,
        tls,
        proxy_protocol: None,
    }
}

fn farm(name: &str) -> Farm {
    Farm { timeout: Duration::from_secs(200), place: place(), ..testing::farm(name, &[]) }
}

fn place() -> Place {
    Place { file: "test".into(), line: 1, column: 1 }
}
