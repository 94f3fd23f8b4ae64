//! Farms and their servers.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use boring::sha::Sha256;

use crate::{
    config::{
        certificate, code,
        compile::{arc, balance, check_name, collision, plain_path},
        diagnostic::Findings,
        files::Files,
        model::{
            Config,
            farm::{self, HostSetting},
            name::dns_name,
            probe,
            value::Port,
        },
        read::{At, List},
        source::Mark,
    },
    proxy_protocol,
    site::{
        self, Address, Bridge, Check, ConnectionAuth, Farm, Ports, Probe, Server, ServerTls, Verify,
    },
};

/// A compiled farm with the place of its name.
pub(super) type Placed = (Arc<Farm>, Mark);

/// Farms sorted by name. A farm with a fault is there too, as good as it can be made, so that
/// rules which name it are no faults of their own.
pub(super) fn compile(config: &Config, files: &mut Files, findings: &mut Findings) -> Vec<Placed> {
    let Some(written) = &config.farms else { return Vec::new() };
    if written.items.is_empty() && written.faulty.is_empty() {
        findings
            .add(code::NOTHING_THERE, &written.mark, "`farms` has no entry")
            .help("without one, nothing would be served".to_string());
    }
    let mut farms: Vec<Placed> = written
        .items
        .iter()
        .map(|(name, farm)| {
            (Arc::new(compile_farm(name, farm, files, findings)), name.mark.clone())
        })
        .collect();
    farms.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    farms
}

fn compile_farm(
    name: &At<String>,
    farm: &farm::Farm,
    files: &mut Files,
    findings: &mut Findings,
) -> Farm {
    check_name(name, findings);
    let ports = ports(farm.ports.as_ref(), Ports { https: 443, http: 80 });
    let bridge = match farm.bridge.value {
        farm::Bridge::Same => Bridge::Same,
        farm::Bridge::Https => Bridge::Https,
        farm::Bridge::Http => Bridge::Http,
    };
    let tls = server_tls(&farm.tls, files, findings);
    if farm.probe.is_some() && farm.probes.is_some() {
        let mark = farm.probes.as_ref().map_or(&name.mark, |probes| &probes.mark);
        findings
            .add(code::EXCLUSIVE, mark, "`probe` and `probes` exclude each other")
            .help("put all of them under `probes`".to_string());
    }
    let single = farm.probe.iter();
    let several = farm.probes.iter().flat_map(|probes| &probes.items);
    Farm {
        name: arc(name),
        preset: arc(&farm.preset.name()),
        servers: servers(name, farm, ports, bridge, tls.verify, findings),
        bridge,
        host: match &farm.host.value {
            HostSetting::Keep => None,
            HostSetting::Name(name) => Some(arc(&name.0)),
        },
        tls,
        timeout: farm.timeout.as_ref().map_or_else(Default::default, |t| t.0),
        connect_timeout: farm.connect_timeout.0,
        server_idle: farm.server_idle.0,
        probes: single.chain(several).filter_map(|p| compile_probe(p, findings)).collect(),
        balance: balance::balance(&farm.balance),
        affinity: balance::affinity(&farm.affinity),
        passive: balance::passive(&farm.passive),
        slow_start: farm.slow_start.0,
        queue: balance::queue(&farm.queue),
        connection_auth: match farm.connection_auth.value {
            farm::ConnectionAuth::Auto => ConnectionAuth::Auto,
            farm::ConnectionAuth::Always => ConnectionAuth::Always,
            farm::ConnectionAuth::Off => ConnectionAuth::Off,
        },
        deny_paths: texts(farm.deny_paths.as_ref(), |path| path.0.clone()),
        plain_paths: texts(farm.plain_paths.as_ref(), plain_path),
        hide_headers: texts(farm.hide_headers.as_ref(), |name| name.0.clone()),
        forward: site::Forward {
            style: match farm.forward.style.value {
                farm::ForwardStyle::Standard => site::ForwardStyle::Standard,
                farm::ForwardStyle::Arr => site::ForwardStyle::Arr,
            },
            rfc7239: farm.forward.rfc7239.value,
            proxy_protocol: match farm.forward.proxy_protocol.value {
                farm::ProxyVersion::None => None,
                farm::ProxyVersion::V1 => Some(proxy_protocol::Version::V1),
                farm::ProxyVersion::V2 => Some(proxy_protocol::Version::V2),
            },
        },
        place: name.place(),
    }
}

fn texts<T>(list: Option<&At<List<T>>>, text: impl Fn(&T) -> String) -> Vec<Arc<str>> {
    list.iter().flat_map(|list| &list.items).map(|item| arc(&text(&item.value))).collect()
}

fn ports(written: Option<&At<farm::Ports>>, default: Ports) -> Ports {
    let port = |port: Option<&At<Port>>, default| port.map_or(default, |port| port.0);
    let https = written.and_then(|ports| ports.https.as_ref());
    let http = written.and_then(|ports| ports.http.as_ref());
    Ports { https: port(https, default.https), http: port(http, default.http) }
}

fn servers(
    name: &At<String>,
    farm: &farm::Farm,
    farm_ports: Ports,
    bridge: Bridge,
    verify: Verify,
    findings: &mut Findings,
) -> Vec<Server> {
    let Some(list) = &farm.servers else { return Vec::new() };
    if list.is_empty() {
        findings
            .add(code::EMPTY_FARM, &list.mark, format!("farm `{}` has no servers", name.value))
            .help("list the names of its Front Ends: `- lyncfe01.labs.local`".to_string());
    }
    let expected = farm.tls.name.as_ref().map(|name| name.0.as_str());
    let needs_name = verify == Verify::Full && bridge != Bridge::Http;
    let mut servers: Vec<Server> = Vec::new();
    let mut taken: HashMap<String, &Mark> = HashMap::new();
    for entry in &list.items {
        let Some(written) = &entry.address else {
            if entry.same_as.is_none() && !entry.broken {
                findings
                    .add(code::MISSING_KEY, &entry.mark, "`address` is missing")
                    .help("add the server's DNS name or IP address".to_string());
            }
            continue;
        };
        let Some(address) = address(written, findings) else { continue };
        entry.name.iter().for_each(|name| check_name(name, findings));
        let name = entry.name.as_ref().unwrap_or(written);
        // What is wrong with it here only is told where this farm says it.
        let mark = entry.same_as.as_ref().map_or(&name.mark, |farm| &farm.mark);
        if let Some(first) = taken.get(&name.to_ascii_lowercase()) {
            let message = format!("server `{}` is in this farm already", name.shown());
            let help = "remove it, or give it a `name` of its own";
            collision(code::DUPLICATE_SERVER, first, mark, message, help, findings);
            continue;
        }
        let tls_name = tls_name(expected, &address, name);
        if tls_name.is_none() && needs_name {
            let message =
                format!("`{}` is an IP address: no name to verify it by", written.shown());
            let mark = entry.same_as.as_ref().map_or(&written.mark, |farm| &farm.mark);
            findings.add(code::SERVER_NAME, mark, message).help(
                "use the server's DNS name, or set `tls: { name: … }` in the farm".to_string(),
            );
        }
        servers.push(Server {
            name: arc(name),
            // Never empty: an empty name switches verification off.
            tls_name: tls_name.unwrap_or_else(|| arc(&written.to_ascii_lowercase())),
            address,
            weight: entry.weight.u32(),
            backup: entry.backup.value,
            max_requests: entry.max_requests.usize(),
            ports: ports(entry.ports.as_ref(), farm_ports),
        });
        taken.insert(name.to_ascii_lowercase(), mark);
    }
    servers
}

fn address(written: &At<String>, findings: &mut Findings) -> Option<Address> {
    let bare = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let with_port = written.strip_prefix('[').and_then(|rest| rest.split_once("]:"));
    if let Ok(ip) = bare.unwrap_or(written).parse::<IpAddr>() {
        return Some(Address::Ip(ip));
    }
    // `10.0.0.300` is a legal name by its letters, and never meant as one.
    let number = written.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let help = match dns_name(written) {
        Ok(name) if !number => return Some(Address::Name(arc(&name))),
        Ok(_) => "an IPv4 address is four numbers from 0 to 255".to_string(),
        Err(_) if written.raw.is_some() => {
            "its value comes from the environment, so it is not shown".to_string()
        }
        Err(_) if with_port.is_some_and(|(ip, _)| ip.parse::<IpAddr>().is_ok()) => {
            "write the address without port; ports stand under `ports`".to_string()
        }
        Err(_) if written.starts_with('[') || written.matches(':').count() > 1 => {
            "an IPv6 address looks like `2001:db8::1`".to_string()
        }
        Err(help) => help,
    };
    let message = format!("`{}` is not the address of a server", written.shown());
    findings.add(code::SERVER_ADDRESS, &written.mark, message).help(help);
    None
}

/// What the certificate is asked for: the farm's name, the server's DNS name, or its configured
/// name if that is a full one.
fn tls_name(expected: Option<&str>, address: &Address, name: &str) -> Option<Arc<str>> {
    if let Some(expected) = expected {
        return Some(arc(expected));
    }
    match address {
        Address::Name(dns) => Some(dns.clone()),
        Address::Ip(_) if name.parse::<IpAddr>().is_err() && name.contains('.') => {
            dns_name(name).ok().map(|name| arc(&name))
        }
        Address::Ip(_) => None,
    }
}

fn server_tls(tls: &farm::ServerTls, files: &mut Files, findings: &mut Findings) -> ServerTls {
    let verify = match tls.verify.value {
        farm::Verify::Full => Verify::Full,
        farm::Verify::Chain => Verify::Chain,
        farm::Verify::Off => Verify::Off,
    };
    let mut digest = Sha256::new();
    digest.update(tls.verify.word().as_bytes());
    let ca = tls.ca.as_ref().and_then(|file| certificate::authorities(file, files, findings));
    for authority in ca.iter().flatten() {
        digest.update(&authority.to_der().unwrap_or_default());
    }
    let ca = ca.map(|list| Arc::new(list.into_boxed_slice()));
    let first = digest.finish().first_chunk::<8>().copied().unwrap_or_default();
    ServerTls { verify, ca, digest: u64::from_le_bytes(first) }
}

fn compile_probe(probe: &At<probe::Probe>, findings: &mut Findings) -> Option<Probe> {
    let page = [
        probe.path.as_ref().map(|at| &at.mark),
        probe.host.as_ref().map(|at| &at.mark),
        probe.status.as_ref().map(|at| &at.mark),
        probe.body.as_ref().map(|at| &at.mark),
    ];
    let check = match (&probe.path, &probe.tcp) {
        (None, Some(port)) => {
            for mark in page.into_iter().flatten() {
                findings
                    .add(code::EXCLUSIVE, mark, "a TCP probe fetches no page")
                    .help("use a second entry under `probes` for the page".to_string());
            }
            Check::Tcp { port: port.0 }
        }
        (Some(path), None) => {
            let fine = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
            if !fine {
                let message = format!("`{}` is not a path to ask for", path.shown());
                findings
                    .add(code::PATH, &path.mark, message)
                    .help("it starts with `/` and is percent-encoded".to_string());
            }
            Check::Http {
                path: arc(path),
                host: probe.host.as_ref().map(|host| arc(&host.0)),
                status: probe.status.as_ref().map_or(vec![(200, 399)], |set| set.0.clone()),
                body: probe.body.as_ref().map(|body| arc(body)),
            }
        }
        (Some(_), Some(port)) => {
            findings
                .add(code::EXCLUSIVE, &port.mark, "`path` and `tcp` exclude each other")
                .help("put two entries under `probes`".to_string());
            return None;
        }
        (None, None) if probe.broken => return None,
        (None, None) => {
            findings
                .add(code::EXCLUSIVE, &probe.mark, "a probe needs `path` or `tcp`")
                .help("for example `path: /` or `tcp: 443`".to_string());
            return None;
        }
    };
    Some(Probe {
        check,
        interval: probe.interval.0,
        timeout: probe.timeout.0,
        rise: probe.rise.u32(),
        fall: probe.fall.u32(),
    })
}
