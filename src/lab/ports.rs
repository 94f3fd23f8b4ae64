//! Which ports the lab uses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Context, Result};

use crate::lab::{
    Options,
    config::Listen,
    estate::{Estate, Role, Server, SiteKind},
};

/// The two ports of a web site; 0 = the kernel chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// TLS.
    pub https: u16,
    /// Plain.
    pub http: u16,
}

const USUAL: Ports = Ports { https: 443, http: 80 };
/// Where the internal site goes when 443 and 80 are not for us.
const UNPRIVILEGED: Ports = Ports { https: 10443, http: 10080 };

/// Frontgate's ports, kept from others (the lab's own control port among them) until dropped.
pub(super) struct Held(#[expect(dead_code, reason = "held, not used")] Vec<TcpListener>);

/// Where Frontgate will listen. A port that is taken is an error now, before anything starts.
pub(super) fn frontgate(options: &Options) -> Result<(Listen, Held)> {
    let mut held = Vec::new();
    let mut choose = |ip: Ipv4Addr, port: u16, option: &str| -> Result<SocketAddr> {
        let address = SocketAddr::from((ip, port));
        if options.servers_only && port != 0 {
            return Ok(address);
        }
        let listener = TcpListener::bind(address).with_context(|| {
            format!("Frontgate cannot listen on {address}; {option} chooses another port")
        })?;
        let address = listener.local_addr()?;
        held.push(listener);
        Ok(address)
    };
    let listen = Listen {
        https: choose(options.address, options.listen.https, "--https")?,
        http: choose(options.address, options.listen.http, "--http")?,
        // Never elsewhere: it would need a token.
        admin: choose(Ipv4Addr::LOCALHOST, options.admin, "--admin")?,
    };
    Ok((listen, Held(held)))
}

/// Ports of the internal site: as asked for, otherwise 443 and 80 where every server can have
/// them.
pub(super) fn internal(options: &Options, estate: &Estate) -> Ports {
    if let Some(ports) = options.internal {
        return ports;
    }
    if options.front_end.https == 0 || options.front_end.http == 0 {
        return Ports::default();
    }
    let ips: Vec<_> = estate.servers.iter().map(|server| IpAddr::from(server.ip)).collect();
    choose_internal(options.front_end, |port| {
        ips.iter().try_for_each(|ip| TcpListener::bind((*ip, port)).map(drop))
    })
}

fn choose_internal(front_end: Ports, can_bind: impl Fn(u16) -> io::Result<()>) -> Ports {
    let taken = |port| [front_end.https, front_end.http].contains(&port) || can_bind(port).is_err();
    if taken(USUAL.https) || taken(USUAL.http) { UNPRIVILEGED } else { USUAL }
}

/// The sockets of `server`: site, TLS or not, port, and the option that chooses another.
pub(super) fn of_server(
    server: &Server,
    front_end: Ports,
    internal: Ports,
) -> Vec<(SiteKind, bool, u16, &'static str)> {
    let inside = |site| {
        [
            (site, true, internal.https, "--internal-https"),
            (site, false, internal.http, "--internal-http"),
        ]
    };
    match server.role {
        Role::FrontEnd(_) => {}
        Role::OfficeWebApps => return inside(SiteKind::OfficeWebApps).to_vec(),
        Role::Exchange => return inside(SiteKind::Exchange).to_vec(),
    }
    let outside = [
        (SiteKind::External, true, front_end.https, "--front-end-https"),
        (SiteKind::External, false, front_end.http, "--front-end-http"),
    ];
    outside.into_iter().chain(inside(SiteKind::Internal)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRONT_END: Ports = Ports { https: 4443, http: 8080 };

    #[test]
    fn the_internal_site_gets_443_only_where_allowed() {
        assert_eq!(choose_internal(FRONT_END, |_| Ok(())), USUAL);
        let denied = |port| match port {
            80 => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        };
        assert_eq!(choose_internal(FRONT_END, denied), UNPRIVILEGED);
        let front_end = Ports { https: 443, http: 8080 };
        assert_eq!(choose_internal(front_end, |_| Ok(())), UNPRIVILEGED);
    }

    #[test]
    fn a_taken_port_is_named_with_the_option_that_chooses_another() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut options = Options::free_ports();
        options.listen.https = port;
        let error = format!("{:#}", frontgate(&options).map(|_| ()).unwrap_err());
        assert!(error.contains(&format!("127.0.0.1:{port}; --https chooses")), "{error}");
        options.servers_only = true;
        assert_eq!(frontgate(&options).unwrap().0.https.port(), port);
    }

    #[test]
    fn chosen_ports_differ() {
        let (listen, _held) = frontgate(&Options::free_ports()).unwrap();
        assert_ne!(listen.https.port(), listen.http.port());
        assert_ne!(listen.http.port(), listen.admin.port());
    }
}
