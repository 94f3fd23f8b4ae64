//! `GET /api/v1/farms`.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    admin::view,
    farm::Farm,
    site::{Affinity, Balance, Bridge, Check, ConnectionAuth, HashKey, Probe},
};

/// `GET /api/v1/farms`.
#[derive(Debug, Serialize)]
pub struct Farms {
    /// Version of this shape.
    pub version: u32,
    /// Every farm, by name.
    pub farms: Vec<FarmRow>,
}

/// One farm.
#[derive(Debug, Serialize)]
pub struct FarmRow {
    /// Its name.
    pub name: Arc<str>,
    /// The preset it came from: `lync`, `owas`, `exchange/ews`, `none`.
    pub preset: Arc<str>,
    /// `same`, `https` or `http`: the protocol to its servers.
    pub bridge: &'static str,
    /// How a new client's server is chosen: `round_robin`, `hash of source` …
    pub balance: String,
    /// What keeps a client on its server: `none`, `source` or `cookie NAME`.
    pub affinity: String,
    /// `auto`, `always` or `off`.
    pub connection_auth: &'static str,
    /// Silence that its servers are allowed.
    pub timeout_seconds: f64,
    /// Its probes, each in one line; empty: its servers always count as healthy.
    pub probes: Vec<String>,
    /// Its servers.
    pub servers: Vec<Arc<str>>,
    /// How many of them are healthy.
    pub healthy: usize,
    /// How many take new clients.
    pub taking_clients: usize,
    /// Where it is configured.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
}

impl Farms {
    pub(crate) fn of(farms: &[Arc<Farm>]) -> Self {
        Self { version: view::VERSION, farms: farms.iter().map(|farm| row(farm)).collect() }
    }
}

fn row(farm: &Farm) -> FarmRow {
    let (spec, servers) = (farm.spec(), farm.servers());
    FarmRow {
        name: spec.name.clone(),
        preset: spec.preset.clone(),
        bridge: match spec.bridge {
            Bridge::Same => "same",
            Bridge::Https => "https",
            Bridge::Http => "http",
        },
        balance: balance(&spec.balance),
        affinity: match &spec.affinity {
            Affinity::None => "none".to_owned(),
            Affinity::Source => "source".to_owned(),
            Affinity::Cookie(name) => format!("cookie {name}"),
        },
        connection_auth: match spec.connection_auth {
            ConnectionAuth::Auto => "auto",
            ConnectionAuth::Always => "always",
            ConnectionAuth::Off => "off",
        },
        timeout_seconds: spec.timeout.as_secs_f64(),
        probes: spec.probes.iter().map(probe).collect(),
        servers: servers.iter().map(|server| server.name().clone()).collect(),
        healthy: servers.iter().filter(|server| server.status().healthy).count(),
        taking_clients: servers.iter().filter(|server| server.open()).count(),
        file: spec.place.file.clone(),
        line: spec.place.line,
    }
}

fn balance(balance: &Balance) -> String {
    match balance {
        Balance::RoundRobin => "round_robin".to_owned(),
        Balance::LeastRequests => "least_requests".to_owned(),
        Balance::LeastResponseTime => "least_response_time".to_owned(),
        Balance::WeightedTraffic => "weighted_traffic".to_owned(),
        Balance::Hash(HashKey::Source) => "hash of source".to_owned(),
        Balance::Hash(HashKey::Host) => "hash of host".to_owned(),
        Balance::Hash(HashKey::Url) => "hash of url".to_owned(),
        Balance::Hash(HashKey::Header(name)) => format!("hash of header {name}"),
        Balance::Hash(HashKey::Query(name)) => format!("hash of query {name}"),
    }
}

fn probe(probe: &Probe) -> String {
    let every = humantime::format_duration(probe.interval);
    match &probe.check {
        Check::Tcp { port } => format!("tcp {port} every {every}"),
        Check::Http { path, .. } => format!("GET {path} every {every}"),
    }
}
