//! Active and passive health checks.

use serde_yaml::Value as Yaml;

use crate::config::{
    diagnostic::Findings,
    model::{
        name::HostName,
        value::{Count, Number, Percent, Port, StatusSet, Timeout},
    },
    node::{Node, Value},
    read::{List, Read, choice},
    record::record,
};

record! {
    /// An active health check: a page that is fetched, or a port that must accept.
    pub struct Probe {
        /// Path and query to GET, over the protocol the farm uses. The preset's by default.
        optional path: String,
        /// `Host` to send. Default: the name the server's certificate is verified by.
        optional host: HostName,
        /// Status codes that count as success: `"200-399"`, `"200,401"`. Default `"200-399"`.
        optional status: StatusSet,
        /// Text that the page must contain; letter case matters. Default: any page will do.
        optional body: String,
        /// Connect to this port instead of fetching a page: 5061 is the Front End service.
        optional tcp: Port,
        /// Time from one probe to the next. Default `30s`.
        default interval: Timeout = Timeout::secs(30),
        /// Time for the whole probe. Default `10s`.
        default timeout: Timeout = Timeout::secs(10),
        /// Successes in a row that bring a server back. Default 2.
        default rise: Count = Number(2),
        /// Failures in a row that take a server out. Default 3.
        default fall: Count = Number(3),
    }
}

choice! {
    /// What live traffic may count against a server.
    pub enum Failure {
        /// It does not accept connections.
        Connect = "connect",
        /// TLS fails.
        Tls = "tls",
        /// It closes a connection in the middle of an exchange.
        Reset = "reset",
    }
}

/// Status codes that count against a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureStatus {
    /// No status counts: SOAP faults are answered with 500.
    None,
    /// These.
    Some(StatusSet),
}

impl Read for FailureStatus {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if scalar.text == "none" => Some(Self::None),
            _ => StatusSet::read(node, findings).map(Self::Some),
        }
    }

    fn show(&self) -> Yaml {
        match self {
            Self::None => Yaml::from("none"),
            Self::Some(set) => set.show(),
        }
    }
}

record! {
    /// Health learnt from live traffic.
    pub struct Passive {
        /// What counts. Default `[connect, tls, reset]`.
        default on: List<Failure> = [Failure::Connect, Failure::Tls, Failure::Reset],
        /// Status codes that count too, or `none`; never 401, 403, 404 and 409. A server that is
        /// out for these gets no new clients, like a drained one. Default `none`: SOAP faults are
        /// HTTP 500, so anybody could take servers out with 500.
        default status: FailureStatus = FailureStatus::None,
        /// How many failures take a server out. Default 10.
        default failures: Number<1, 10_000> = Number(10),
        /// In what time. Default `30s`.
        default within: Timeout = Timeout::secs(30),
        /// How long it stays out before it is tried again; every time it fails at once it is twice
        /// as long, up to 16 times this. Default `30s`.
        default retry_after: Timeout = Timeout::secs(30),
        /// Most of the farm that may be out for this reason. Default `50%`.
        default max_ejected: Percent = Percent(50),
        /// Servers that stay in whatever happens. Default 1.
        default min_servers: Number<0, 1_000_000> = Number(1),
    }
}
