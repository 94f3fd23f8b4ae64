//! What goes to a farm: target, port, TLS, timeouts, header fields.

use http::header;
use serde::{Deserialize, Serialize};

use super::words;
use crate::{
    route::{Question, Values, rewritten},
    site::{
        Affinity, Balance, ConnectionAuth, Farm, Field, FieldValue, ForwardStyle, HashKey,
        HeaderChanges, Rule, Server, Verify,
    },
};

/// What a farm gets of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Toward {
    /// The farm.
    pub farm: String,
    /// `file:line:column` of the farm.
    pub place: String,
    /// Its preset.
    pub preset: String,
    /// Protocol to the servers: `https` or `http`.
    pub scheme: String,
    /// Path and query that are sent.
    pub target: String,
    /// Whether `target` is another one than the client's.
    pub rewritten: bool,
    /// The `Host` that is sent.
    pub host: String,
    /// TLS to the servers; `null` for plain http. The name is each server's own.
    pub tls: Option<TlsTold>,
    /// How long a server may stay silent, in seconds.
    pub timeout_seconds: f64,
    /// How long connecting may take, in seconds.
    pub connect_timeout_seconds: f64,
    /// How long a client may stay silent inside its body, in seconds.
    pub body_timeout_seconds: f64,
    /// Most bytes of a body; `null`: no limit.
    pub body_size: Option<u64>,
    /// How a server is chosen: `round_robin`, `hash: source` …
    pub balance: String,
    /// What keeps a client on its server: `none`, `source`, `cookie NAME`.
    pub affinity: String,
    /// `auto`, `always` or `off`.
    pub connection_auth: String,
    /// Fields that Frontgate writes about the client, in place of what strangers say.
    pub told_headers: Vec<String>,
    /// Version of the PROXY header that each connection begins with: `v1` or `v2`; `null`: none.
    #[serde(default)]
    pub proxy_protocol: Option<String>,
    /// Changes that the rule makes to the request's header.
    pub request_headers: Vec<HeaderTold>,
    /// Changes that the rule makes to the answer's header.
    pub response_headers: Vec<HeaderTold>,
    /// Fields of answers that clients do not see.
    pub hidden_headers: Vec<String>,
    /// Whether names of the servers in `Location` and cookies become the client's.
    pub rewrite_host: bool,
    /// Its servers.
    pub servers: Vec<ServerTold>,
}

/// TLS to the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsTold {
    /// `full`, `chain` (any name) or `off`.
    pub verify: String,
    /// Whether authorities of the farm's own are trusted instead of the system's.
    pub own_ca: bool,
}

/// A change to a header field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderTold {
    /// `remove`, `set` or `add`.
    pub change: String,
    /// The field.
    pub name: String,
    /// Its value, for this request; `null` for `remove`.
    pub value: Option<String>,
}

/// One server of the farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTold {
    /// Its name.
    pub server: String,
    /// Address and port that are connected to.
    pub address: String,
    /// Name in SNI and expected in its certificate; `null` for plain http.
    pub tls_name: Option<String>,
    /// Share of new clients.
    pub weight: u32,
    /// Whether it serves only when no other can.
    pub backup: bool,
    /// Whether it could be chosen now; `null` where only the configuration was asked.
    pub eligible: Option<bool>,
    /// Why not, or what else is to be said about it.
    pub why: Option<String>,
}

impl Toward {
    /// What `farm` gets of a request that `rule` took.
    pub(super) fn new(rule: &Rule, farm: &Farm, question: &Question<'_>) -> Self {
        let values = Values::new(rule, question);
        let new = rewritten(rule, farm, &values).ok().flatten();
        let own = words::target(question);
        let https = farm.bridge.uses_tls(question.https);
        let tls = https.then(|| TlsTold {
            verify: verify(farm.tls.verify).to_owned(),
            own_ca: farm.tls.ca.is_some(),
        });
        let host = question.headers.get(header::HOST).map(|value| words::text(value.as_bytes()));
        let host = host.unwrap_or_else(|| question.host.to_owned());
        Self {
            farm: farm.name.to_string(),
            place: farm.place.to_string(),
            preset: farm.preset.to_string(),
            scheme: words::scheme(https).to_owned(),
            rewritten: new.is_some(),
            target: words::text(&new.unwrap_or(own)),
            host: farm.host.as_ref().map_or(host, ToString::to_string),
            tls,
            timeout_seconds: rule.timeout.unwrap_or(farm.timeout).as_secs_f64(),
            connect_timeout_seconds: farm.connect_timeout.as_secs_f64(),
            body_timeout_seconds: rule.body_timeout.as_secs_f64(),
            body_size: rule.body_size,
            balance: balance(farm),
            affinity: match &farm.affinity {
                Affinity::None => "none".to_owned(),
                Affinity::Source => "source".to_owned(),
                Affinity::Cookie(name) => format!("cookie {name}"),
            },
            connection_auth: match farm.connection_auth {
                ConnectionAuth::Auto => "auto",
                ConnectionAuth::Always => "always",
                ConnectionAuth::Off => "off",
            }
            .to_owned(),
            told_headers: told(farm, question.https),
            proxy_protocol: farm.forward.proxy_protocol.map(|it| it.word().to_owned()),
            request_headers: changes(&rule.request_headers, &values),
            response_headers: changes(&rule.response_headers, &values),
            hidden_headers: farm.hide_headers.iter().map(ToString::to_string).collect(),
            rewrite_host: rule.rewrite_host,
            servers: farm.servers.iter().map(|server| ServerTold::of(server, https)).collect(),
        }
    }
}

impl ServerTold {
    fn of(server: &Server, https: bool) -> Self {
        let port = if https { server.ports.https } else { server.ports.http };
        Self {
            server: server.name.to_string(),
            address: match &server.address {
                crate::site::Address::Ip(ip) => std::net::SocketAddr::new(*ip, port).to_string(),
                crate::site::Address::Name(name) => format!("{name}:{port}"),
            },
            tls_name: https.then(|| server.tls_name.to_string()),
            weight: server.weight,
            backup: server.backup,
            eligible: None,
            why: None,
        }
    }
}

fn verify(verify: Verify) -> &'static str {
    match verify {
        Verify::Full => "full",
        Verify::Chain => "chain",
        Verify::Off => "off",
    }
}

/// How a server is chosen; clients that keep theirs by their address are spread by it.
fn balance(farm: &Farm) -> String {
    let property = match (&farm.affinity, &farm.balance) {
        (Affinity::Source, _) => &HashKey::Source,
        (_, Balance::Hash(property)) => property,
        (_, Balance::RoundRobin) => return "round_robin".to_owned(),
        (_, Balance::LeastRequests) => return "least_requests".to_owned(),
        (_, Balance::LeastResponseTime) => return "least_response_time".to_owned(),
        (_, Balance::WeightedTraffic) => return "weighted_traffic".to_owned(),
    };
    let property = match property {
        HashKey::Source => "source".to_owned(),
        HashKey::Host => "host".to_owned(),
        HashKey::Url => "url".to_owned(),
        HashKey::Header(name) => format!("header:{name}"),
        HashKey::Query(name) => format!("query:{name}"),
    };
    format!("hash: {property}")
}

/// Fields about the client. That these are the ones is held by the black-box test
/// what_is_explained_is_what_the_server_gets.
fn told(farm: &Farm, https: bool) -> Vec<String> {
    let mut names =
        vec!["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"];
    if farm.forward.rfc7239 {
        names.push("Forwarded");
    }
    if farm.forward.style == ForwardStyle::Arr {
        names.push("X-ARR-LOG-ID");
        if https {
            names.push("X-ARR-SSL");
        }
        names.push("X-Original-URL");
    }
    names.into_iter().map(str::to_owned).collect()
}

fn changes(changes: &HeaderChanges, values: &Values<'_>) -> Vec<HeaderTold> {
    let field = |change: &'static str| {
        move |field: &Field| {
            // SECURITY: variables carry secrets, and explanations end up in tickets.
            // Test: what_the_environment_says_is_not_explained
            let value = match &field.value {
                _ if field.told.is_some() => field.told.as_deref().unwrap_or_default().to_owned(),
                FieldValue::Fixed(value) => words::text(value.as_bytes()),
                FieldValue::Made(made) => words::text(&values.field(made).unwrap_or_default()),
            };
            let name = field.name.to_string();
            HeaderTold { change: change.to_owned(), name, value: Some(value) }
        }
    };
    let removed = changes.remove.iter().map(|name| HeaderTold {
        change: "remove".to_owned(),
        name: name.to_string(),
        value: None,
    });
    let set = changes.set.iter().map(field("set"));
    removed.chain(set).chain(changes.add.iter().map(field("add"))).collect()
}
