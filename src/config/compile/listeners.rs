//! Listeners: names and addresses must not collide.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    config::{
        code,
        compile::{arc, check_name, collision, not_empty},
        diagnostic::Findings,
        model::{
            Config,
            listener::{self, Tls},
        },
        read::{At, Read},
        source::Mark,
    },
    site::{AdminAddress, Listener, ListenerTls, ProxyProtocol, TlsVersion},
};

pub(super) fn compile(config: &Config, findings: &mut Findings) -> Vec<Arc<Listener>> {
    not_empty(config.listeners.as_ref(), "listeners", findings);
    let entries = config.listeners.iter().flat_map(|list| &list.items);
    let mut sockets: Vec<Socket<'_>> = Vec::new();
    let mut names: Vec<(Arc<str>, Mark)> = Vec::new();
    let mut listeners = Vec::new();
    for entry in entries.clone() {
        let Some(address) = &entry.address else { continue };
        entry.name.iter().for_each(|name| check_name(name, findings));
        socket(address.value, address, &mut sockets, findings);
        let listener = listener(entry, address.value);
        if let Some(from) = entry.proxy_protocol.as_ref().and_then(|proxy| proxy.from.as_ref())
            && from.is_empty()
        {
            findings
                .add(code::NOTHING_THERE, &from.mark, "`from` has no entry")
                .help("list the load balancers that send the header".to_string());
        }
        let mark = entry.name.as_ref().map_or(&address.mark, |name| &name.mark);
        // Equal default names are equal addresses, which is told above.
        let taken = names.iter().find(|(name, _)| *name == listener.name);
        if let (Some((_, first)), Some(name)) = (taken, &entry.name) {
            let message = format!("another listener is called `{}`", name.shown());
            let help = "give each listener a name of its own";
            collision(code::EQUAL_LISTENERS, first, mark, message, help, findings);
        }
        names.push((listener.name.clone(), mark.clone()));
        listeners.push(Arc::new(listener));
    }
    admin(config, &mut sockets, findings);
    let tls = entries.filter_map(|entry| match &entry.tls.value {
        Tls::On(_) => Some(&entry.tls.mark),
        Tls::Off => None,
    });
    let certificates = config.certificates.as_ref();
    if certificates.is_none_or(|list| list.is_empty()) {
        for mark in tls {
            findings
                .add(
                    code::NO_CERTIFICATE,
                    mark,
                    "this listener has TLS, but there is no certificate",
                )
                .help("add one under `certificates`: cert and key, or pfx".to_string());
        }
    }
    listeners
}

fn listener(entry: &At<listener::Listener>, address: SocketAddr) -> Listener {
    let name = entry.name.as_ref().map(|name| arc(name));
    let tls = match &entry.tls.value {
        Tls::Off => None,
        Tls::On(tls) => Some(ListenerTls {
            min_version: match tls.min_version.value {
                listener::TlsVersion::Tls10 => TlsVersion::Tls10,
                listener::TlsVersion::Tls11 => TlsVersion::Tls11,
                listener::TlsVersion::Tls12 => TlsVersion::Tls12,
                listener::TlsVersion::Tls13 => TlsVersion::Tls13,
            },
            http2: tls.http2.value,
        }),
    };
    Listener {
        name: name.unwrap_or_else(|| arc(&address.to_string())),
        address,
        public_port: entry.public_port.as_ref().map_or(address.port(), |port| port.0),
        tls,
        proxy_protocol: entry.proxy_protocol.as_ref().map(|proxy| ProxyProtocol {
            from: proxy.from.iter().flat_map(|l| &l.items).map(|net| net.canonical()).collect(),
            required: proxy.required.value,
        }),
    }
}

/// A socket that is taken, with its place and how a message may show it.
struct Socket<'a> {
    address: SocketAddr,
    mark: &'a Mark,
    told: String,
}

/// Reports an address that another socket has; port 0 is a free one from the system.
fn socket<'a, T: Read>(
    address: SocketAddr,
    at: &'a At<T>,
    sockets: &mut Vec<Socket<'a>>,
    findings: &mut Findings,
) {
    let taken = sockets.iter().find(|other| collide(other.address, address));
    if let Some(other) = taken.filter(|_| address.port() != 0) {
        let message = format!("{} is taken by another listener", other.told);
        let help = "give one of the two another port or another address";
        collision(code::EQUAL_LISTENERS, other.mark, &at.mark, message, help, findings);
    }
    sockets.push(Socket { address, mark: &at.mark, told: at.told() });
}

/// Admin and health addresses against the listeners and each other.
fn admin<'a>(config: &'a Config, sockets: &mut Vec<Socket<'a>>, findings: &mut Findings) {
    let listen = &config.admin.listen;
    match (&listen.value, listen.explicit) {
        (AdminAddress::Tcp(address), true) => socket(*address, listen, sockets, findings),
        (AdminAddress::Tcp(address), false) if !listen.fault => {
            // Nobody wrote the default, so the listener is the place to look at.
            if let Some(taken) = sockets.iter().find(|other| collide(other.address, *address)) {
                let message = format!("{address} is taken: it is the default of `admin.listen`");
                findings
                    .add(code::EQUAL_LISTENERS, taken.mark, message)
                    .help("use another port here, or set `admin: { listen: … }`".to_string());
            }
            sockets.push(Socket { address: *address, mark: &listen.mark, told: listen.told() });
        }
        (AdminAddress::Tcp(_) | AdminAddress::Unix(_), _) => {}
    }
    let Some(health) = &config.health.listen else { return };
    match (&health.value, &listen.value) {
        (AdminAddress::Tcp(address), AdminAddress::Tcp(default))
            if !listen.explicit && !listen.fault && collide(*address, *default) =>
        {
            let message = format!("{default} is taken: it is the default of `admin.listen`");
            findings.add(code::EQUAL_LISTENERS, &health.mark, message).help(HEALTH.to_string());
        }
        (AdminAddress::Tcp(address), _) => socket(*address, health, sockets, findings),
        (AdminAddress::Unix(path), AdminAddress::Unix(other)) if path == other => {
            let message = format!("{} is taken by `admin`", listen.told());
            let (first, second) = (&listen.mark, &health.mark);
            collision(code::EQUAL_LISTENERS, first, second, message, HEALTH, findings);
        }
        (AdminAddress::Unix(_), _) => {}
    }
}

/// What to do when both want one address.
const HEALTH: &str = "leave it out: the admin address has the health endpoints too";

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    a.port() == b.port()
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip() == b.ip() || any(a.ip()) || any(b.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_collide_when_binding_would_fail() {
        let collide = |a: &str, b: &str| collide(a.parse().unwrap(), b.parse().unwrap());
        assert!(collide("0.0.0.0:443", "10.0.0.1:443"));
        assert!(collide("[::1]:80", "[::1]:80"));
        assert!(!collide("10.0.0.2:443", "10.0.0.1:443"));
        assert!(!collide("0.0.0.0:443", "0.0.0.0:80"));
        assert!(!collide("0.0.0.0:443", "[::1]:443"));
    }
}
