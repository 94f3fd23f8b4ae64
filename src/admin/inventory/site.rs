//! `GET /api/v1/site`.

use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    admin::{Reload, view},
    site::{self, Action, Part, PathPattern, Template, TlsVersion},
};

/// `GET /api/v1/site`.
#[derive(Debug, Serialize)]
pub struct Site {
    /// Version of this shape.
    pub version: u32,
    /// Version of Frontgate.
    pub frontgate: &'static str,
    /// Digest over every file that was read.
    pub fingerprint: String,
    /// What the `*` of `meet.*` may be; empty: anything.
    pub domains: Vec<String>,
    /// Sockets that clients connect to.
    pub listeners: Vec<ListenerRow>,
    /// What is published, in the order of the files.
    pub rules: Vec<RuleRow>,
    /// The last start or reload.
    pub reload: Option<Arc<Reload>>,
}

/// A socket that clients connect to.
#[derive(Debug, Serialize)]
pub struct ListenerRow {
    /// Its name.
    pub name: Arc<str>,
    /// Address and port, as configured.
    pub address: String,
    /// The port that clients see.
    pub public_port: u16,
    /// The oldest TLS version, `1.2` for example; `null`: plain HTTP.
    pub tls: Option<&'static str>,
    /// The PROXY protocol from balancers in front; `null`: no header is read.
    pub proxy_protocol: Option<ProxiedRow>,
}

/// Who is believed to say whose connection it is.
#[derive(Debug, Serialize)]
pub struct ProxiedRow {
    /// Networks of the balancers.
    pub from: Vec<String>,
    /// Whether their connections have to begin with a header.
    pub required: bool,
}

/// A publish rule.
#[derive(Debug, Serialize)]
pub struct RuleRow {
    /// Its name.
    pub name: Arc<str>,
    /// `meet.contoso.com`, `meet.*` or `*.contoso.com`.
    pub host: String,
    /// `/meet`, `=/meet` (exactly), or empty: every path.
    pub path: String,
    /// `https`, `http` or both.
    pub schemes: Vec<&'static str>,
    /// Names of the listeners it is limited to; `null`: all.
    pub listeners: Option<Vec<Arc<str>>>,
    /// How many conditions must hold besides.
    pub conditions: usize,
    /// `forward`, `deny`, `redirect` or `respond`.
    pub action: &'static str,
    /// The farm, where it forwards.
    pub farm: Option<Arc<str>>,
    /// Where a redirect leads.
    pub to: Option<String>,
    /// The status of an answer of its own.
    pub status: Option<u16>,
    /// Where it is configured.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
}

impl Site {
    pub(crate) fn of(site: &site::Site, reload: Option<Arc<Reload>>) -> Self {
        Self {
            version: view::VERSION,
            frontgate: env!("CARGO_PKG_VERSION"),
            fingerprint: site.fingerprint.clone(),
            domains: site.domains.clone(),
            listeners: site.listeners.iter().map(|it| listener(it)).collect(),
            rules: site.rules.iter().map(|rule| RuleRow::of(site, rule)).collect(),
            reload,
        }
    }
}

fn listener(it: &site::Listener) -> ListenerRow {
    ListenerRow {
        name: it.name.clone(),
        address: it.address.to_string(),
        public_port: it.public_port,
        tls: it.tls.map(|tls| match tls.min_version {
            TlsVersion::Tls10 => "1.0",
            TlsVersion::Tls11 => "1.1",
            TlsVersion::Tls12 => "1.2",
            TlsVersion::Tls13 => "1.3",
        }),
        proxy_protocol: it.proxy_protocol.as_ref().map(|it| ProxiedRow {
            from: it.from.iter().map(IpNet::to_string).collect(),
            required: it.required,
        }),
    }
}

impl RuleRow {
    pub(crate) fn of(site: &site::Site, rule: &site::Rule) -> Self {
        let schemes = [("https", rule.schemes.https), ("http", rule.schemes.http)];
        let (action, farm, to, status) = match &rule.action {
            Action::Forward(id) => {
                let farm = site.farms.get(id.0).map(|farm| farm.name.clone());
                ("forward", farm, None, None)
            }
            Action::Deny => ("deny", None, None, Some(404)),
            Action::Redirect(it) => ("redirect", None, Some(written(&it.to)), Some(it.status)),
            Action::Respond(it) => ("respond", None, None, Some(it.status)),
        };
        Self {
            name: rule.name.clone(),
            host: rule.host.to_string(),
            path: match &rule.path {
                PathPattern::Any => String::new(),
                PathPattern::Prefix(path) => path.to_string(),
                PathPattern::Exact(path) => format!("={path}"),
            },
            schemes: schemes.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect(),
            listeners: rule.listeners.clone(),
            conditions: rule.when.len(),
            action,
            farm,
            to,
            status,
            file: rule.place.file.clone(),
            line: rule.place.line,
        }
    }
}

/// A template as the administrator writes it.
fn written(template: &Template) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => text.to_string(),
        Part::Rule(n) => format!("{{R:{n}}}"),
        Part::Condition(n) => format!("{{C:{n}}}"),
        Part::Host => "{HTTP_HOST}".to_owned(),
        Part::Https => "{HTTPS}".to_owned(),
        Part::Query => "{QUERY_STRING}".to_owned(),
        Part::Source => "{REMOTE_ADDR}".to_owned(),
        Part::Target => "{REQUEST_URI}".to_owned(),
        Part::Path => "{URL}".to_owned(),
    };
    template.parts.iter().map(part).collect()
}
