//! Publish rules: which names and paths lead where.

use serde_yaml::Value as Yaml;

use crate::{
    config::{
        code,
        diagnostic::Findings,
        model::{
            name::{HeaderName, PathPrefix, Target},
            net::FilePath,
            value::{Count, Number, Size, Timeout},
        },
        node::{Node, Value},
        read::{At, List, Read, choice, read_at, report_duplicate, scalar, show_at, wrong_type},
        record::{Record, record},
    },
    site::{HostPattern, PathPattern},
};

record! {
    /// A publish rule: host (+ path) → farm, a denial, a redirect or a page.
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
        /// Client protocols it is published on. Default `[https]`, plain http is then redirected;
        /// with `deny` both.
        default schemes: List<Scheme> = [Scheme::Https],
        /// The farm it leads to.
        optional farm: String,
        /// Answers 404. Default `false`.
        default deny: bool = false,
        /// Answers with a redirect: the URL, or a block with details.
        optional redirect: Redirect,
        /// Answers with a page, such as one that says when maintenance will be over.
        optional respond: Respond,
        /// Further conditions, all of which must hold. Rules with conditions are asked first, in
        /// the order of the file, then the one of the same path without, then shorter paths.
        optional when: List<Condition>,
        /// Changes path and query on the way to the server; the log keeps the client's.
        optional rewrite: Rewrite,
        /// Changes headers on the way to the server, after everything else.
        optional request_headers: HeaderChanges,
        /// Changes headers on the way to the client, after everything else. Of Frontgate's own
        /// answers only those of `respond` are changed.
        optional response_headers: HeaderChanges,
        /// Turns the servers' names in `Location`, `Content-Location` and cookie domains into the
        /// client's. Default `false`.
        default rewrite_host: bool = false,
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
        /// `https://host/path`, or a path on the same host; with `{R:1}`, `{C:1}` and so on as in
        /// `rewrite`, of which only `{HTTP_HOST}` may stand in the host.
        required to: Target,
        /// 301, 302, 303, 307 or 308. Default 302; a permanent one stays in browsers for ever.
        default status: RedirectStatus = RedirectStatus(302),
        /// Append the request's path. Default `false`.
        default keep_path: bool = false,
        /// Append the request's query, unless `to` holds it already. Default `true`.
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
    /// An answer of Frontgate's own.
    pub struct Respond {
        /// Its status, 200 to 599 without redirects. Default 200.
        default status: Number<200, 599> = Number(200),
        /// The file that is its body, at most 1 MiB; read with the configuration, and again when
        /// it changes. The type comes from its extension. Default: a short text.
        optional file: FilePath,
    }
}

record! {
    /// A condition on a request. It has one subject, which carries the value itself
    /// (`{ method: POST }`) or is left empty in front of a comparison
    /// (`{ path: ~, matches: "^/x/(.*)" }`). `header` and `query` name what is compared.
    pub struct Condition {
        /// A request header, by name; alone: it is there. Values compare exactly. Not `Host`: that
        /// is `host`.
        optional header: HeaderName,
        /// A query parameter, by name, decoded; alone: it is there. Values compare exactly.
        optional query: String,
        /// The method, in capitals: `POST`, or several.
        optional method: Texts,
        /// The client's protocol, `https` or `http`.
        optional scheme: Texts,
        /// The client's address: an address, a network such as `10.0.0.0/8`, or several.
        optional source: Texts,
        /// The path, as in the rule: `/x` with everything under it, `=/x` only itself, or several.
        optional path: Texts,
        /// Path and query together, `/x?a=b`, as sent, decoded once or decoded twice, in any letter
        /// case.
        optional url: Texts,
        /// The host, as in the rule: a name, `name.*` or `"*.domain"`, or several.
        optional host: Texts,
        /// Equal to this, or to one of several.
        optional is: Texts,
        /// A regular expression that matches somewhere in it, in any letter case unless it starts
        /// with `(?-i)`. Its groups are `{C:1}` to `{C:9}`. For a header or parameter that is
        /// missing it is asked about an empty text.
        optional matches: String,
        /// Not equal to this, nor to any of several; also if it is missing.
        optional not: Texts,
    }
}

/// One text or several; none where a comparison follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Texts(pub Vec<At<String>>);

impl Read for Texts {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.value {
            Value::Null => Some(Self(Vec::new())),
            Value::List(_) => {
                let list = List::<String>::read(node, findings)?;
                (!list.broken).then_some(Self(list.items))
            }
            _ => read_at(node, findings).map(|text| Self(vec![text])),
        }
    }

    fn show(&self) -> Yaml {
        match self.0.as_slice() {
            [] => Yaml::Null,
            [one] => show_at(one),
            several => Yaml::Sequence(several.iter().map(show_at).collect()),
        }
    }

    fn takes_nothing() -> bool {
        true
    }
}

record! {
    /// Changes to path and query. `{R:1}` is what follows the rule's `path`, `{R:0}` the whole
    /// path, both without leading slash; `{C:1}` a group of the last `matches`; `{URL}`,
    /// `{QUERY_STRING}`, `{HTTP_HOST}`, `{HTTPS}` and `{REMOTE_ADDR}` as in URL Rewrite.
    pub struct Rewrite {
        /// The new path, decoded. The farm's `deny_paths` are asked about it again.
        optional path: String,
        /// The new query; `""` for none. Default: the client's.
        optional query: QueryText,
    }
}

/// The text of a query, which may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryText(pub String);

impl Read for QueryText {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if scalar.text.is_empty() => Some(Self(String::new())),
            _ => String::read(node, findings).map(Self),
        }
    }

    fn show(&self) -> Yaml {
        Yaml::from(self.0.clone())
    }
}

record! {
    /// Changes to headers: first `remove`, then `set`, then `add`. Values may hold the variables
    /// of `rewrite`.
    pub struct HeaderChanges {
        /// Written in place of what is there.
        optional set: Headers,
        /// Written beside what is there.
        optional add: Headers,
        /// Names of those that are taken out.
        optional remove: List<HeaderName>,
    }
}

/// Header names with their values, in file order.
#[derive(Clone, Debug, PartialEq)]
pub struct Headers(pub Vec<(At<String>, At<String>)>);

impl Read for Headers {
    fn read(node: &Node, findings: &mut Findings) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let help = "write `X-Name: value`, one a line".to_string();
            wrong_type(node, "header names with values", help, findings);
            return None;
        };
        let mut pairs = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let earlier = entries.iter().take(index);
            if let Some(first) =
                earlier.into_iter().find(|e| e.key.eq_ignore_ascii_case(&entry.key))
            {
                report_duplicate(first, entry, code::DUPLICATE_KEY, findings);
            }
            pairs.push((At::name(entry), read_at(&entry.value, findings)?));
        }
        Some(Self(pairs))
    }

    fn show(&self) -> Yaml {
        let pairs = self.0.iter();
        Yaml::Mapping(pairs.map(|(k, v)| (k.value.clone().into(), show_at(v))).collect())
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
