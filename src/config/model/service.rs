//! Frontgate as a service: admin side, log, threads, stopping.

use std::net::{Ipv4Addr, SocketAddr};

use serde_yaml::Value as Yaml;

use crate::{
    config::{
        code,
        diagnostic::Findings,
        model::{
            name::HostName,
            net::{FilePath, LogPath},
            value::Period,
        },
        node::Node,
        read::{List, Read, bad, choice, scalar},
        record::record,
    },
    site::AdminAddress,
};

record! {
    /// The admin side.
    pub struct Admin {
        /// Address with port, or `unix:/path`. Default `127.0.0.1:9180`.
        default listen: AdminAddress =
            AdminAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 9180))),
        /// File whose first line is the token that changes need, and without which nothing is
        /// read over an address that other machines reach. Default: one is made in `state_dir`.
        optional token_file: FilePath,
        /// Authority whose client certificates may use the admin side. Default: none.
        later client_ca: FilePath,
        /// Names that `Host` may carry besides addresses of this machine: protects against web
        /// sites that point their own name at this address. Default `[localhost]`.
        default hosts: List<HostName> = [HostName("localhost".to_string())],
    }
}

record! {
    /// A separate address for health endpoints.
    pub struct Health {
        /// Address with port, or `unix:/path`. Default: the admin address.
        optional listen: AdminAddress,
    }
}

record! {
    /// A separate address for metrics.
    pub struct Metrics {
        /// Address with port, or `unix:/path`. Default: the admin address.
        optional listen: AdminAddress,
    }
}

choice! {
    /// How a line of the access log looks.
    pub enum LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// Apache's combined format with more fields at the end.
        Combined = "combined",
        /// The extended format of IIS.
        W3c = "w3c",
    }
}

record! {
    /// The access log.
    pub struct AccessLog {
        /// `json`, `combined` or `w3c` (extended, as IIS writes it). Default `json`.
        default format: LogFormat = LogFormat::Json,
        /// A file, `"-"` for standard output, or `syslog`: `/dev/log`, `syslog:/path` another
        /// Unix socket, `syslog:udp:10.0.0.5:514` UDP. Default `"-"`.
        default path: LogPath = LogPath::Stdout,
        /// What is told of queries: `masked` (names, `*` for values), `full` or `off`; the same for
        /// `Referer`. Default `masked`: values carry tickets, names and addresses.
        default query: LogQuery = LogQuery::Masked,
    }
}

choice! {
    /// What the access log tells of queries.
    pub enum LogQuery {
        /// Names, and `*` for values.
        Masked = "masked",
        /// As sent.
        Full = "full",
        /// Nothing.
        Off = "off",
    }
}

record! {
    /// How Frontgate stops.
    pub struct Shutdown {
        /// How long it goes on accepting while it already says it is not ready. Default `0s`;
        /// behind a load balancer its probe interval times its fall.
        default delay: Period = Period::secs(0),
        /// How long running requests may take to end. Default `30m`, as long as a poll.
        default drain: Period = Period::secs(1800),
    }
}

/// Threads for traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// The processors this process may use.
    Auto,
    /// This many.
    Fixed(usize),
}

impl Read for Workers {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let text = &scalar(node, "`auto` or a number", findings)?.text;
        match text.parse() {
            _ if text == "auto" => Some(Self::Auto),
            Ok(number @ 1..=1024) => Some(Self::Fixed(number)),
            _ => {
                let help = "`auto` takes the processors this process may use";
                bad(node, code::RANGE, "`auto` or a number from 1 to 1024", help, findings);
                None
            }
        }
    }

    fn show(&self) -> Yaml {
        match self {
            Self::Auto => Yaml::from("auto"),
            Self::Fixed(number) => Yaml::from(*number),
        }
    }
}
