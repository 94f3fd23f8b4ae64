//! `GET /api/v1/pins`.

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;

use crate::{admin::view, farm::Farm, forward::Live};

/// Sources that are told.
const SOURCES: usize = 100;

/// `GET /api/v1/pins`.
#[derive(Debug, Serialize)]
pub struct Pins {
    /// Version of this shape.
    pub version: u32,
    /// Client connections that own a connection to a server (NTLM, Negotiate), in all.
    pub total: usize,
    /// Most of them (`limits.pins`).
    pub limit: usize,
    /// Most of one source (`limits.pins_per_source`).
    pub limit_per_source: usize,
    /// Servers that have some.
    pub servers: Vec<PinnedServer>,
    /// The hundred sources with the most of them, the most first.
    pub sources: Vec<PinnedSource>,
}

/// Pins of one server.
#[derive(Debug, Serialize)]
pub struct PinnedServer {
    /// Its farm.
    pub farm: Arc<str>,
    /// Its name.
    pub server: Arc<str>,
    /// How many.
    pub pins: usize,
}

/// Pins of one client address.
#[derive(Debug, Serialize)]
pub struct PinnedSource {
    /// The address.
    pub source: IpAddr,
    /// How many.
    pub pins: usize,
}

impl Pins {
    pub(crate) fn of(live: &Live) -> Self {
        let sources = live.pins.sources(SOURCES).into_iter();
        Self {
            version: view::VERSION,
            total: live.pins.total(),
            limit: live.site.limits.pins,
            limit_per_source: live.site.limits.pins_per_source,
            servers: live.farms.iter().flat_map(|farm| servers(farm)).collect(),
            sources: sources.map(|(source, pins)| PinnedSource { source, pins }).collect(),
        }
    }
}

fn servers(farm: &Farm) -> Vec<PinnedServer> {
    let name = &farm.spec().name;
    let rows = farm.servers().iter().map(|server| PinnedServer {
        farm: name.clone(),
        server: server.name().clone(),
        pins: server.counters().pins,
    });
    rows.filter(|row| row.pins > 0).collect()
}
