//! The configuration that publishes the lab, as an administrator would write it.

use std::{fmt::Write as _, net::SocketAddr};

use crate::lab::{
    estate::{Estate, Role, SiteKind},
    files,
    server::Simulated,
};

/// What Frontgate's health checks ask the Front Ends for.
pub(super) const LYNC_PROBE: &str = "/autodiscover/autodiscoverservice.svc/root";
/// What Frontgate's health checks ask the Office Web Apps server for.
pub(super) const OWAS_PROBE: &str = "/hosting/discovery";
/// What Frontgate's health checks ask Exchange for.
pub(super) const EXCHANGE_PROBE: &str = "/ews/healthcheck.htm";
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
        "# Made by `frontgate lab`: two Front End pools, an Office Web Apps farm and Exchange.
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
        farm(&mut out, pool.farm, "lync", &pool.external, LYNC_PROBE, LYNC_PORTS, members);
    }
    let members = servers.iter().filter(|it| role_of(it) == Some(Role::OfficeWebApps));
    farm(&mut out, "owas", "owas", &estate.wac, OWAS_PROBE, WEB_PORTS, members);
    let members = servers.iter().filter(|it| role_of(it) == Some(Role::Exchange));
    farm(&mut out, "exchange", "none", &estate.mail, EXCHANGE_PROBE, WEB_PORTS, members);
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
    let _ = writeln!(out, "  - {{ host: {}, farm: exchange }}", estate.mail);
    out
}

fn role_of(simulated: &Simulated) -> Option<Role> {
    simulated.sockets.first().map(|socket| socket.context.server.role)
}

fn farm<'a>(
    out: &mut String,
    name: &str,
    preset: &str,
    tls_name: &str,
    probe: &str,
    usual: (u16, u16),
    servers: impl Iterator<Item = &'a Simulated>,
) {
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
    let _ = write!(
        out,
        "  {name}:
    preset: {preset}
    servers:
{lines}    tls: {{ ca: {ca}, name: {tls_name} }}
    probe: {{ path: {probe}, host: {tls_name}, interval: 2s, timeout: 2s, rise: 1, fall: 2 }}

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
