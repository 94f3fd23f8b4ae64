//! The configuration as written: the whole contract, one file a subject.
//!
//! The comments on the keys are the manual: unit, default, when to change it. `compile` turns
//! this into the site and is the only way from here to there.

pub mod farm;
pub mod listener;
pub mod name;
pub mod net;
pub mod policy;
pub mod probe;
pub mod publish;
pub mod service;
pub mod traces;
pub mod value;

use crate::config::{
    model::{
        farm::Farm,
        listener::{Certificate, Listener},
        name::HostName,
        net::{Cidr, FilePath},
        policy::{Events, Limits, Spray},
        publish::Rule,
        service::{AccessLog, Admin, Health, Metrics, Shutdown, Workers},
        traces::Traces,
    },
    read::{List, Named},
    record::record,
};

record! {
    /// A configuration, all files together.
    pub struct Config {
        /// More files, relative to this one; `*` and `?` stand for any characters. Lists append,
        /// farms add up, and nothing may be set twice. Default: none.
        optional include: List<String>,
        /// The admin side: API and health endpoints.
        section admin: Admin,
        /// A separate address for `/livez` and `/readyz`.
        section health: Health,
        /// A separate address for metrics.
        section metrics: Metrics,
        /// Directory for what survives a restart: which servers are drained or in maintenance, and
        /// the token for commands. Made where it is missing; if it cannot be written, Frontgate
        /// says so and runs on without. Default `/var/lib/frontgate`.
        default state_dir: FilePath = FilePath::absolute("/var/lib/frontgate"),
        /// One line for every request.
        section access_log: AccessLog,
        /// Threads for traffic: a number or `auto` (the processors this process may use).
        /// Default `auto`; lower it where other programs share the machine.
        default workers: Workers = Workers::Auto,
        /// How Frontgate stops.
        section shutdown: Shutdown,
        /// Your public domains: what the `*` of `meet.*` may be. Default: none, which takes any
        /// name and is a warning as soon as a rule has such a host.
        default domains: List<HostName> = [],
        /// Proxies in front of this one whose `X-Forwarded-*` and `Forwarded` are believed; they
        /// must overwrite what clients send. Default: none.
        default trusted_proxies: List<Cidr> = [],
        /// Limits on clients.
        section limits: Limits,
        /// Protection against guessed passwords.
        later spray: Spray,
        /// Who is told when something happens.
        section events: Events,
        /// Spans of requests, for OpenTelemetry. Default: none.
        optional traces: Traces,
        /// Addresses that clients connect to.
        required listeners: List<Listener>,
        /// Certificates for clients, chosen by the name they ask for. The first one, or the one
        /// with `default: true`, answers all others.
        optional certificates: List<Certificate>,
        /// Servers that do the same job, by name.
        required farms: Named<Farm>,
        /// Which names lead where.
        required publish: List<Rule>,
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Reading single values in tests.

    use std::path::Path;

    use crate::config::{diagnostic::Findings, node, read::Read, source::Source};

    fn read<T: Read>(text: &str) -> (Option<T>, Findings) {
        let source = Source::new(Path::new("t.yaml"), format!("- {text}\n"));
        let mut findings = Findings::default();
        let node = node::parse(&source, &mut findings).expect("valid YAML");
        let node::Value::List(items) = node.value else { panic!("a list") };
        let value = T::read(&items[0], &mut findings);
        (value, findings)
    }

    /// The value, or `None` after findings.
    pub(crate) fn value<T: Read>(text: &str) -> Option<T> {
        let (value, findings) = read(text);
        assert_eq!(value.is_none(), findings.errors() > 0, "{text}: silence");
        value
    }

    /// The codes of the findings.
    pub(crate) fn codes<T: Read>(text: &str) -> Vec<&'static str> {
        read::<T>(text).1.iter().map(|f| f.code.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::record::{Key, Record};

    fn documented(keys: &[Key]) {
        for key in keys {
            assert!(key.doc.trim().len() > 15, "{} needs more than that", key.name);
            assert!(key.doc.trim().ends_with('.'), "{}: {}", key.name, key.doc);
        }
    }

    #[test]
    fn every_key_is_documented() {
        documented(Config::KEYS);
        documented(Farm::KEYS);
        documented(Listener::KEYS);
        documented(Rule::KEYS);
        documented(publish::Condition::KEYS);
        documented(publish::HeaderChanges::KEYS);
        documented(publish::Respond::KEYS);
        documented(publish::Rewrite::KEYS);
        documented(Limits::KEYS);
        documented(probe::Probe::KEYS);
        documented(Traces::KEYS);
    }
}
