//! Who is believed about clients, and servers that could not tell connections apart.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::{
    config::{
        code,
        diagnostic::Findings,
        model::{Config, farm::ProxyVersion, net::Cidr},
        preset::Preset,
        read::At,
    },
    proxy_protocol::Version,
    site::{Address, Farm, Server, Site},
};

pub(super) fn lint(config: &Config, site: &Site, findings: &mut Findings) {
    for net in &config.trusted_proxies.items {
        everybody(net, "list the addresses of your own proxies only", findings);
    }
    let listeners = config.listeners.iter().flat_map(|list| &list.items);
    for proxied in listeners.filter_map(|listener| listener.proxy_protocol.as_ref()) {
        for net in proxied.from.iter().flat_map(|from| &from.items) {
            everybody(net, "list the addresses of your own load balancers only", findings);
        }
        if !proxied.required.value {
            let message = "clients may write the PROXY header themselves";
            findings.add(code::HEADER_OPTIONAL, &proxied.required.mark, message.to_string()).help(
                "remove `required: false`; to change over, give the balancer a listener with \
                 another port"
                    .to_string(),
            );
        }
    }
    differing(config, site, findings);
    windows(config, findings);
}

/// Networks that hold about everybody.
fn everybody(net: &At<Cidr>, help: &str, findings: &mut Findings) {
    let meant: IpNet = net.canonical();
    if meant.prefix_len() < 8 {
        let message = format!("`{}` lets strangers choose their address", net.told());
        findings.add(code::EVERYBODY_TRUSTED, &net.mark, message).help(help.to_string());
    }
}

/// Presets whose servers do not understand the header.
fn windows(config: &Config, findings: &mut Findings) {
    for (_, farm) in config.farms.iter().flat_map(|farms| &farms.items) {
        let named = &farm.forward.proxy_protocol;
        if farm.preset.value == Preset::None || named.value == ProxyVersion::None {
            continue;
        }
        let preset = farm.preset.value.name();
        let message = format!("servers of preset `{preset}` do not understand PROXY headers");
        findings.add(code::HEADER_FOR_WINDOWS, &named.mark, message).help(
            "remove it: `X-Forwarded-For` names the client; keep it only for a balancer in front \
             of them"
                .to_string(),
        );
    }
}

/// Farms that reach the same port of the same server, with a header and without.
fn differing(config: &Config, site: &Site, findings: &mut Findings) {
    let mut seen: HashMap<(Where, u16), &Farm> = HashMap::new();
    let mut told: Vec<(&Arc<str>, &Arc<str>)> = Vec::new();
    for farm in site.farms.iter().map(|farm| &**farm) {
        for (place, port) in farm.servers.iter().flat_map(|server| reached(farm, server)) {
            let first = *seen.entry((place, port)).or_insert(farm);
            let pair = (&first.name, &farm.name);
            if first.forward.proxy_protocol.is_none() == farm.forward.proxy_protocol.is_none()
                || told.contains(&pair)
            {
                continue;
            }
            told.push(pair);
            // The one that has the setting is the place to look at.
            let (with, without) =
                if farm.forward.proxy_protocol.is_some() { (farm, first) } else { (first, farm) };
            let written = config.farms.iter().flat_map(|farms| &farms.items);
            let mut named = written.filter(|(name, _)| *name.value == *with.name);
            let Some((_, model)) = named.next() else { continue };
            let version = with.forward.proxy_protocol.map_or("none", Version::word);
            let message = format!(
                "farm `{}` reaches port {port} of the same server without it",
                without.name
            );
            findings.add(code::HEADER_DIFFERS, &model.forward.proxy_protocol.mark, message).help(
                format!("give it `forward: {{ proxy_protocol: {version} }}` too, or another port"),
            );
        }
    }
}

#[derive(PartialEq, Eq, Hash)]
enum Where {
    Ip(IpAddr),
    Name(Arc<str>),
}

/// Where a farm connects to one of its servers.
fn reached(farm: &Farm, server: &Server) -> impl Iterator<Item = (Where, u16)> {
    let place = || match &server.address {
        Address::Ip(ip) => Where::Ip(ip.to_canonical()),
        Address::Name(name) => Where::Name(name.clone()),
    };
    let https = (farm.bridge.uses_tls(true) || farm.bridge.uses_tls(false))
        .then(|| (place(), server.ports.https));
    let http = (!farm.bridge.uses_tls(true) || !farm.bridge.uses_tls(false))
        .then(|| (place(), server.ports.http));
    https.into_iter().chain(http)
}
