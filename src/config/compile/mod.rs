//! The border: from what is written to what is used. Everything is resolved here, and whatever
//! cannot be is a finding; nothing is left that could fail while a request is served.

mod admin;
mod balance;
mod certificates;
mod conditions;
mod endpoint;
mod events;
mod farms;
mod headers;
mod listeners;
mod patterns;
mod respond;
mod rewriting;
mod rules;
pub mod same_as;
mod templates;
mod traces;

use std::{num::NonZero, sync::Arc, thread};

use crate::{
    config::{
        code,
        diagnostic::{Findings, nearest},
        files::Files,
        model::{
            Config,
            name::HostName,
            net::{FilePath, LogPath},
            service::{LogFormat, LogQuery, Workers},
            value::Size,
        },
        read::{At, List, Read},
        source::Mark,
    },
    site::{self, PathPattern, Site},
};

/// What compiling leaves for the linter besides the site.
pub struct Compiled {
    /// The site; complete only if there are no errors among the findings.
    pub site: Site,
    /// For each rule of the site, its entry in the model.
    pub written: Vec<usize>,
}

/// Compiles the model; the fingerprint is left empty.
pub fn compile(config: &Config, files: &mut Files, findings: &mut Findings) -> Compiled {
    let listeners = listeners::compile(config, findings);
    let (certificates, default_certificate) = certificates::compile(config, files, findings);
    let farms = farms::compile(config, files, findings);
    let (rules, written) = rules::compile(config, &farms, files, findings);
    let affinity_key = balance::affinity_key(certificates.get(default_certificate));
    let site = Site {
        affinity_key,
        fingerprint: String::new(),
        files: Vec::new(),
        directories: Vec::new(),
        listeners,
        certificates,
        default_certificate,
        farms: farms.into_iter().map(|(farm, _)| farm).collect(),
        rules,
        domains: strings(&config.domains),
        trusted_proxies: config.trusted_proxies.items.iter().map(|net| net.canonical()).collect(),
        limits: limits(config, findings),
        access_log: access_log(config, findings),
        admin: admin::compile(config, files, findings),
        receivers: events::compile(config, findings),
        traces: traces::compile(config, findings),
        state_dir: config.state_dir.path.clone(),
        workers: match config.workers.value {
            Workers::Auto => thread::available_parallelism().map_or(1, NonZero::get),
            Workers::Fixed(number) => number,
        },
        shutdown: site::Shutdown { delay: config.shutdown.delay.0, drain: config.shutdown.drain.0 },
    };
    Compiled { site, written }
}

fn strings(names: &List<HostName>) -> Vec<String> {
    names.items.iter().map(|name| name.0.clone()).collect()
}

fn limits(config: &Config, findings: &mut Findings) -> site::Limits {
    let limits = &config.limits;
    let (header, url) = (&limits.header_size, &limits.url);
    let mut fine = !header.fault && !url.fault;
    for (key, at, least) in [("header_size", header, Size(4 << 10)), ("url", url, Size(256))] {
        if at.0 < least.0 {
            fine = false;
            let least = least.show();
            let message = format!("`{key}` is too small for what browsers send");
            findings
                .add(code::RANGE, &at.mark, message)
                .help(format!("the least is {}", least.as_str().unwrap_or_default()));
        }
    }
    if fine && url.0 > header.0 {
        let at = if url.explicit { url } else { header };
        findings
            .add(code::RANGE, &at.mark, "`url` is larger than `header_size`, which it is a part of")
            .help("raise `header_size`, or lower `url` (default 16KiB)".to_string());
    }
    site::Limits {
        connections: limits.connections.usize(),
        connections_per_source: limits.connections_per_source.usize(),
        pins: limits.pins.usize(),
        pins_per_source: limits.pins_per_source.usize(),
        tls_handshake: limits.tls_handshake.0,
        header_timeout: limits.header_timeout.0,
        keep_alive: limits.keep_alive.0,
        header_size: limits.header_size.usize(),
        headers: limits.headers.usize(),
        url: limits.url.usize(),
        h2_streams: limits.h2_streams.usize(),
    }
}

fn access_log(config: &Config, findings: &mut Findings) -> site::AccessLog {
    let log = &config.access_log;
    let format = match log.format.value {
        LogFormat::Json => site::LogFormat::Json,
        LogFormat::Combined => site::LogFormat::Combined,
        LogFormat::W3c => site::LogFormat::W3c,
    };
    let target = match &log.path.value {
        LogPath::Stdout => site::LogTarget::Stdout,
        LogPath::File(file) => {
            log_file(file, &log.path.mark, findings);
            site::LogTarget::File(file.path.clone())
        }
        LogPath::Syslog(address) => site::LogTarget::Syslog(address.clone()),
    };
    let query = match log.query.value {
        LogQuery::Masked => site::LogQuery::Masked,
        LogQuery::Full => site::LogQuery::Full,
        LogQuery::Off => site::LogQuery::Off,
    };
    site::AccessLog { format, target, query }
}

fn log_file(file: &FilePath, mark: &Mark, findings: &mut Findings) {
    let written = &file.written;
    if file.path.is_dir() {
        findings
            .add(code::LOG_FILE, mark, format!("`{written}` is a directory"))
            .help("name a file in it, such as `access.log`".to_string());
    } else if file.path.parent().is_some_and(|parent| !parent.is_dir()) {
        findings
            .add(code::NO_LOG_DIRECTORY, mark, format!("the directory of `{written}` is missing"))
            .help("make it, and let the user that Frontgate runs as write there".to_string());
    }
}

/// The finding that a list needs an entry, if the file says it has none.
fn not_empty<T>(list: Option<&At<List<T>>>, key: &str, findings: &mut Findings) {
    if let Some(list) = list.filter(|list| list.is_empty()) {
        findings
            .add(code::NOTHING_THERE, &list.mark, format!("`{key}` has no entry"))
            .help("without one, nothing would be served".to_string());
    }
}

/// The finding that a name cannot be used in commands and logs.
fn check_name(name: &At<String>, findings: &mut Findings) {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        findings
            .add(code::NAME, &name.mark, format!("`{}` cannot be a name", name.shown()))
            .help("no spaces, slashes or control characters: `pool01`".to_string());
    }
}

/// The finding that there is no farm of this name; `known` are those that there are, in order.
fn unknown_farm<'a>(
    farm: &At<String>,
    known: impl Iterator<Item = (&'a str, &'a Mark)> + Clone,
    findings: &mut Findings,
) {
    let names = known.clone().map(|(name, _)| name);
    let near = nearest(farm, names.clone()).filter(|_| farm.raw.is_none());
    let help = match known.clone().find(|(name, _)| near == Some(name)) {
        Some((near, mark)) => {
            format!("did you mean `{near}`? (defined at {})", mark.seen_from(&farm.mark))
        }
        None if known.clone().next().is_none() => "define it under `farms`".to_string(),
        None => format!("there are: {}", several(names)),
    };
    let message = format!("no farm named `{}`", farm.shown());
    findings.add(code::UNKNOWN_FARM, &farm.mark, message).help(help);
}

/// The finding that a name is taken; the place that took it comes first.
fn collision(
    code: &'static code::Code,
    first: &Mark,
    second: &Mark,
    message: String,
    help: &str,
    findings: &mut Findings,
) {
    findings
        .add(code, second, format!("{message} (at {})", first.seen_from(second)))
        .related(first, "the first one is here")
        .help(help.to_string());
}

/// Names for a remedy; of many only the first.
fn several<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    let first: Vec<&str> = names.by_ref().take(12).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// A path as lists of the site hold it: `=` in front of exact ones.
pub fn plain_path(path: &PathPattern) -> String {
    path.show().as_str().unwrap_or("/").to_string()
}

/// A shared text.
fn arc(text: &str) -> Arc<str> {
    Arc::from(text)
}
