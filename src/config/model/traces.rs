//! Traces.

use serde_yaml::Value as Yaml;

use crate::config::{
    diagnostic::Findings,
    model::{publish::Headers, value::Percent},
    node::Node,
    read::Read,
    record::record,
};

record! {
    /// Where spans of requests go, for OpenTelemetry.
    pub struct Traces {
        /// URL that spans are posted to (OTLP over HTTP, protobuf); without a path, `/v1/traces`
        /// there. With https the certificate is verified.
        required endpoint: String,
        /// Share of the requests that are traced. Default `100%`; less where there are many. Where
        /// one of `trusted_proxies` sends `traceparent`, it has decided.
        default sample: Percent = Percent(100),
        /// Header fields for the collector, such as `Authorization: "Bearer ${TOKEN}"`. Default:
        /// none.
        optional headers: Secrets,
        /// `service.name` of the spans. Default `frontgate`; another one tells several apart.
        default service_name: String = "frontgate".to_string(),
    }
}

/// Header names with values that may be secrets: they are shown only as far as they name a
/// variable of the environment.
#[derive(Clone, Debug, PartialEq)]
pub struct Secrets(pub Headers);

impl Read for Secrets {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        Headers::read(node, findings).map(Self)
    }

    fn show(&self) -> Yaml {
        let shown = |raw: Option<&str>| Yaml::from(raw.unwrap_or("***"));
        let pairs = self.0.0.iter();
        Yaml::Mapping(
            pairs.map(|(k, v)| (k.value.clone().into(), shown(v.raw.as_deref()))).collect(),
        )
    }
}
