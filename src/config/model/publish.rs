//! Publish rules: which names and paths lead where.

use serde_yaml::Value as Yaml;

use crate::{
    config::{
        code,
        diagnostic::Findings,
        model::{
            name::{PathPrefix, Target},
            net::FilePath,
            value::{Count, Number, Size, Timeout},
        },
        node::{Node, Value},
        read::{List, Read, choice, scalar, wrong_type},
        record::{Record, record},
    },
    site::{HostPattern, PathPattern},
};

record! {
    /// A publish rule: host (+ path) → farm, or a denial, or a redirect.
    pub struct Rule {
        /// Its name in logs. Default: host and path as written.
        optional name: String,
        /// `meet.contoso.com`, `meet.*` (any of `domains`), or `"*.contoso.com"`.
        required host: HostPattern,
        /// Path prefix by whole segments, letter case does not matter; `=/x` is exact. Default:
        /// every path.
        default path: PathPattern = PathPattern::Any,
        /// Listeners it is limited to, by name. Default: all.
        optional listeners: List<String>,
        /// Client protocols it is published on. Default `[https]`; plain http is then redirected.
        default schemes: List<Scheme> = [Scheme::Https],
        /// The farm it leads to.
        optional farm: String,
        /// Answers 404. Default `false`.
        default deny: bool = false,
        /// Answers with a redirect: the URL, or a block with details.
        optional redirect: Redirect,
        /// Answers with a file.
        later respond: Respond,
        /// Further conditions, all of which must hold.
        later when: List<Condition>,
        /// Changes path or query on the way to the server.
        later rewrite: Rewrite,
        /// Changes headers on the way to the server.
        later request_headers: HeaderChanges,
        /// Changes headers on the way to the client.
        later response_headers: HeaderChanges,
        /// Turns the server's names in `Location` and cookies into the client's. Default `false`.
        later_default rewrite_host: bool = false,
        /// Client networks that may use it, or files with one a line. Default: all.
        later allow: List<String>,
        /// Client networks that may not use it, or files with one a line. Default: none.
        later block: List<String>,
        /// Requests a client may send.
        later rate: Rate,
        /// Largest request body. Default: what the farm's preset says (`exchange/owa` 64MiB,
        /// `exchange/ews` 128MiB …); otherwise none, the server decides.
        optional body_size: Size,
        /// How long a client may stay silent inside a request body. Default `60s`; farms of the
        /// presets `exchange/rpc` and `exchange/mapi`, whose clients trickle: the farm's `timeout`.
        optional body_timeout: Timeout,
        /// Slowest request body, a second. Default: none.
        later min_body_rate: Size,
        /// Silence allowed to the server. Default: the farm's `timeout`.
        optional timeout: Timeout,
        /// How odd a request may be. Default `strict`.
        later_default hygiene: Hygiene = Hygiene::Strict,
        /// Paths of the farm's `deny_paths` that this rule publishes all the same.
        optional allow_denied: List<PathPrefix>,
    }
}

choice! {
    /// A client protocol.
    pub enum Scheme {
        /// TLS listeners.
        Https = "https",
        /// Plain listeners.
        Http = "http",
    }
}

choice! {
    /// How odd a request may be.
    pub enum Hygiene {
        /// What the standards say.
        Strict = "strict",
        /// What IIS accepts.
        Tolerant = "tolerant",
    }
}

record! {
    /// Where a redirect leads.
    short redirect_url;
    pub struct Redirect {
        /// `https://host/path`, or a path on the same host.
        required to: Target,
        /// 301, 302, 303, 307 or 308. Default 302; a permanent one stays in browsers for ever.
        default status: RedirectStatus = RedirectStatus(302),
        /// Append the request's path. Default `false`.
        default keep_path: bool = false,
        /// Append the request's query. Default `true`.
        default keep_query: bool = true,
    }
}

fn redirect_url(node: &Node, findings: &mut Findings) -> Option<Option<Redirect>> {
    matches!(node.value, Value::Scalar(_)).then(|| {
        let to = crate::config::read::read_at(node, findings)?;
        Some(Redirect { to: Some(to), ..Redirect::defaults(&node.mark) })
    })
}

/// A status of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectStatus(pub u16);

impl Read for RedirectStatus {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let scalar = scalar(node, "the status of a redirect", findings)?;
        match scalar.text.parse() {
            Ok(status @ (301 | 302 | 303 | 307 | 308)) => Some(Self(status)),
            _ => {
                let message = format!("`{}` is not the status of a redirect", scalar.shown());
                findings
                    .add(code::STATUS, &node.mark, message)
                    .help("it can be 301, 302, 303, 307 or 308".to_string());
                None
            }
        }
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.0)
    }
}

record! {
    /// An answer from a file.
    pub struct Respond {
        /// Its status. Default 200.
        default status: Number<200, 599> = Number(200),
        /// The file.
        optional file: FilePath,
    }
}

record! {
    /// A condition on a request; the value is that of the one key named.
    pub struct Condition {
        /// A request header, by name.
        optional header: String,
        /// A query parameter, by name.
        optional query: String,
        /// The method.
        optional method: String,
        /// The scheme.
        optional scheme: String,
        /// The client's address.
        optional source: String,
        /// The path.
        optional path: String,
        /// The host.
        optional host: String,
        /// Equal to this.
        optional is: String,
        /// Matches this regular expression.
        optional matches: String,
        /// Not equal to this.
        optional not: String,
    }
}

record! {
    /// Changes to path and query; `{R:1}` and `{C:1}` stand for captures.
    pub struct Rewrite {
        /// The new path.
        optional path: String,
        /// The new query.
        optional query: String,
    }
}

record! {
    /// Changes to headers.
    pub struct HeaderChanges {
        /// Replaced or added.
        optional set: Headers,
        /// Added beside what is there.
        optional add: Headers,
        /// Taken out.
        optional remove: List<String>,
    }
}

/// Header names with their values, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Read for Headers {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let help = "write `X-Name: value`, one a line".to_string();
            wrong_type(node, "header names with values", help, findings);
            return None;
        };
        let pair = |entry: &crate::config::node::Entry, findings: &mut Findings| {
            Some((entry.key.clone(), String::read(&entry.value, findings)?))
        };
        Some(Self(entries.iter().filter_map(|entry| pair(entry, findings)).collect()))
    }

    fn show(&self) -> Yaml {
        let pairs = self.0.iter();
        Yaml::Mapping(pairs.map(|(k, v)| (k.clone().into(), v.clone().into())).collect())
    }
}

record! {
    /// Requests a client may send.
    pub struct Rate {
        /// How many.
        required requests: Count,
        /// In what time.
        required per: Timeout,
        /// How many at once on top.
        optional burst: Number<0, 1_000_000_000>,
        /// How much of an address is one client.
        optional source_prefix: SourcePrefix,
    }
}

record! {
    /// How many bits of an address tell clients apart.
    pub struct SourcePrefix {
        /// Of IPv4 addresses. Default 32.
        default v4: Number<1, 32> = Number(32),
        /// Of IPv6 addresses. Default 56, what a household gets.
        default v6: Number<1, 128> = Number(56),
    }
}
