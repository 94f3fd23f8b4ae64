//! The configuration that publishes the lab, as an administrator would write it.

use std::{fmt::Write as _, net::SocketAddr};

use crate::{
    config::preset::Protocol,
    lab::{
        estate::{Estate, Role, SiteKind},
        files,
        server::Simulated,
    },
};

/// What Frontgate's health checks ask the Front Ends for.
pub(super) const LYNC_PROBE: &str = "/autodiscover/autodiscoverservice.svc/root";
/// What Frontgate's health checks ask the Office Web Apps server for.
pub(super) const OWAS_PROBE: &str = "/hosting/discovery";
/// The Exchange farm that lists the servers; those of the other protocols share them.
pub(super) const EXCHANGE: &str = "owa";
/// The ports a Front End's external site has by default.
const LYNC_PORTS: (u16, u16) = (4443, 8080);
const WEB_PORTS: (u16, u16) = (443, 80);

/// Where Frontgate itself listens in the lab.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listen {
    pub(super) https: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// The text of `frontgate.yaml`. Every value in it is a number, an address or a checked DNS
/// name, so nothing needs quoting.
pub(super) fn text(estate: &Estate, servers: &[Simulated], listen: Listen) -> String {
    let mut out = format!(
        "# Made by `frontgate lab`: two Front End pools, Office Web Apps and Exchange.
# Edit it while Frontgate runs: it is read again when it changes.
domains: [{domains}]
admin: {{ listen: {admin} }}
state_dir: state
access_log: {{ format: json, path: {access_log} }}

listeners:
  - {{ name: https, address: \"{https}\", public_port: {port}, tls: true }}
  - {{ name: http, address: \"{http}\" }}

certificates:
  - {{ cert: {cert}, key: {key} }}

farms:
",
        domains = estate.domains.join(", "),
        admin = listen.admin,
        https = listen.https,
        port = listen.https.port(),
        http = listen.http,
        access_log = files::ACCESS_LOG,
        cert = files::CERTIFICATE,
        key = files::KEY,
    );
    for (index, pool) in estate.pools.iter().enumerate() {
        let members = servers.iter().filter(|it| role_of(it) == Some(Role::FrontEnd(index)));
        farm(&mut out, pool.farm, "lync", &pool.external, &list(members, LYNC_PORTS));
    }
    let members = servers.iter().filter(|it| role_of(it) == Some(Role::OfficeWebApps));
    farm(&mut out, "owas", "owas", &estate.wac, &list(members, WEB_PORTS));
    let members = servers.iter().filter(|it| role_of(it) == Some(Role::Exchange));
    let listed = list(members, WEB_PORTS);
    for protocol in Protocol::ALL {
        let name = protocol.word();
        let shared = format!("      - {{ same_as: {EXCHANGE} }}\n");
        let servers = if name == EXCHANGE { &listed } else { &shared };
        farm(&mut out, name, &format!("exchange/{name}"), &estate.mail, servers);
    }
    out += "publish:\n";
    let [first, _] = &estate.pools;
    for host in ["meet.*", "dialin.*"] {
        let _ = writeln!(out, "  - {{ host: {host}, farm: {} }}", first.farm);
    }
    let _ = writeln!(
        out,
        "  - {{ host: lyncdiscover.*, farm: {}, schemes: [https, http] }}",
        first.farm
    );
    for pool in &estate.pools {
        let _ = writeln!(out, "  - {{ host: {}, farm: {} }}", pool.external, pool.farm);
    }
    let _ = writeln!(out, "  - {{ host: {}, farm: owas }}", estate.wac);
    let mail = &estate.mail;
    let _ = writeln!(out, "  - {{ host: {mail}, path: \"=/\", redirect: /owa/ }}");
    for protocol in Protocol::ALL {
        let (path, name) = (protocol.directory(), protocol.word());
        let _ = writeln!(out, "  - {{ host: {mail}, path: {path}, farm: {name} }}");
    }
    let found = Protocol::Autodiscover;
    let (path, name) = (found.directory(), found.word());
    let _ = writeln!(out, "  - {{ host: autodiscover.*, path: {path}, farm: {name} }}");
    out
}

fn role_of(simulated: &Simulated) -> Option<Role> {
    simulated.sockets.first().map(|socket| socket.context.server.role)
}

/// The lines of servers, without the ports that the preset says anyway.
fn list<'a>(servers: impl Iterator<Item = &'a Simulated>, usual: (u16, u16)) -> String {
    let mut lines = String::new();
    for simulated in servers {
        let Some((ip, ports)) = published(simulated) else { continue };
        let own = if ports == usual {
            String::new()
        } else {
            format!(", ports: {{ https: {}, http: {} }}", ports.0, ports.1)
        };
        let _ = writeln!(lines, "      - {{ name: {}, address: {ip}{own} }}", simulated.name());
    }
    lines
}

/// A farm; the preset knows the page to probe.
fn farm(out: &mut String, name: &str, preset: &str, tls_name: &str, servers: &str) {
    let _ = write!(
        out,
        "  {name}:
    preset: {preset}
    servers:
{servers}    tls: {{ ca: {ca}, name: {tls_name} }}
    probe: {{ host: {tls_name}, interval: 2s, timeout: 5s, rise: 1, fall: 2 }}

",
        ca = files::INTERNAL_CA,
    );
}

/// Address and ports (https, http) of the site that is meant for the internet.
fn published(simulated: &Simulated) -> Option<(std::net::IpAddr, (u16, u16))> {
    SiteKind::PUBLISHED.into_iter().find_map(|site| {
        let https = simulated.address(site, true)?;
        let http = simulated.address(site, false)?;
        Some((https.ip(), (https.port(), http.port())))
    })
}
