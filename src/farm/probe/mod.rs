//! Probes: asking a server, again and again, whether it can work.
//!
//! A probe is a `HealthCheck` of Pingora's load balancing, run by a loop of our own: the crate's
//! loop asks all servers of a farm in rounds, so one that hangs would delay the verdict on the
//! others, knows one interval for all checks, and has no way to let the first look decide.

mod http;
mod reason;
#[cfg(test)]
mod tests;
mod verify;

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use pingora::{
    Error, ErrorType, Result,
    connectors::TransportConnector,
    lb::{Backend, health_check::HealthCheck},
};
use tokio::time::Instant;

use self::reason::Failure;
use super::{health::Thresholds, jitter::spread, server::Server};
use crate::site::{self, Check};

/// Everything one probe of one server depends on.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) farm: Arc<site::Farm>,
    pub(crate) server: Arc<site::Server>,
    pub(crate) probe: site::Probe,
}

impl Plan {
    /// Whether a probe made from `other` would do exactly the same. Other settings may differ:
    /// a reload that changes a weight does not start a probe anew.
    pub(crate) fn does_the_same(&self, other: &Self) -> bool {
        let (farm, before) = (&*self.farm, &*other.farm);
        let (server, was) = (&*self.server, &*other.server);
        self.probe == other.probe
            && (farm.bridge, &farm.tls, farm.connect_timeout)
                == (before.bridge, &before.tls, before.connect_timeout)
            && farm.forward.proxy_protocol == before.forward.proxy_protocol
            && (server.ports, &server.tls_name) == (was.ports, &was.tls_name)
    }
}

/// Probes `server` at once and then every interval; never returns.
pub(crate) async fn keep_probing(server: Arc<Server>, number: usize, probe: Probe) {
    let interval = probe.plan.probe.interval;
    // Without an address there is nothing to ask, and the server is out anyway.
    server.has_address().await;
    let target = server.backend();
    let thresholds =
        Thresholds { rise: probe.health_threshold(true), fall: probe.health_threshold(false) };
    for round in 0u64.. {
        let started = Instant::now();
        let outcome = probe.check(&target).await.map_err(|error| reason_of(&error));
        server.probed(number, outcome, thresholds);
        // From start to start; a probe that took longer than that is followed at once.
        let pause = spread(interval, server.id(), round).saturating_sub(started.elapsed());
        tokio::time::sleep(pause).await;
    }
}

/// One probe of one server.
pub(crate) struct Probe {
    plan: Plan,
    connector: Arc<TransportConnector>,
}

const FAILED: ErrorType = ErrorType::new("ProbeFailed");

#[async_trait]
impl HealthCheck for Probe {
    async fn check(&self, target: &Backend) -> Result<()> {
        let Some(server) = target.ext.get::<Arc<Server>>() else {
            return Error::e_explain(FAILED, "not a server of a farm");
        };
        let addresses = server.addresses().to_vec();
        self.ask(&addresses).await.map_err(|why| Error::explain(FAILED, why.to_string()))
    }

    fn health_threshold(&self, success: bool) -> usize {
        let probe = &self.plan.probe;
        usize::try_from(if success { probe.rise } else { probe.fall }).unwrap_or(usize::MAX)
    }
}

fn reason_of(error: &Error) -> Arc<str> {
    match &error.context {
        Some(reason) => reason.as_str().into(),
        None => error.etype().as_str().into(),
    }
}

impl Probe {
    pub(crate) fn new(plan: Plan, connector: Arc<TransportConnector>) -> Self {
        Self { plan, connector }
    }

    /// Asks the first address that can be connected to, all under one deadline.
    async fn ask(&self, addresses: &[IpAddr]) -> Result<(), Arc<str>> {
        let deadline = self.plan.probe.timeout;
        let asking = async {
            let mut reason = Arc::from("name does not resolve");
            for ip in addresses {
                match self.ask_address(*ip).await {
                    Ok(()) => return Ok(()),
                    Err(Failure::Unreachable(why)) => reason = why,
                    Err(Failure::Unfit(why)) => return Err(why),
                }
            }
            Err(reason)
        };
        match tokio::time::timeout(deadline, asking).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("timeout after {}", humantime::format_duration(deadline)).into()),
        }
    }

    async fn ask_address(&self, ip: IpAddr) -> Result<(), Failure> {
        let Plan { farm, server, probe } = &self.plan;
        match &probe.check {
            Check::Tcp { port } => reason::connect(&self.connector, farm, server, ip, *port).await,
            Check::Http { path, host, status, body } => {
                let page = http::Page {
                    path,
                    host: host.as_deref().unwrap_or(&server.tls_name),
                    status,
                    body: body.as_deref(),
                };
                http::get(&self.connector, farm, server, ip, &page).await
            }
        }
    }
}
