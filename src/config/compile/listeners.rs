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
        read::At,
        source::Mark,
    },
    site::{AdminAddress, Listener, ListenerTls, TlsVersion},
};

pub(super) fn compile(config: &Config, findings: &mut Findings) -> Vec<Arc<Listener>> {
    not_empty(config.listeners.as_ref(), "listeners", findings);
    let entries = config.listeners.iter().flat_map(|list| &list.items);
    let mut sockets: Vec<(SocketAddr, Mark)> = Vec::new();
    let mut names: Vec<(Arc<str>, Mark)> = Vec::new();
    let mut listeners = Vec::new();
    for entry in entries.clone() {
        let Some(address) = &entry.address else { continue };
        entry.name.iter().for_each(|name| check_name(name, findings));
        socket(address.value, &address.mark, &mut sockets, findings);
        let listener = listener(entry, address.value);
        let mark = entry.name.as_ref().map_or(&address.mark, |name| &name.mark);
        // Equal default names are equal addresses, which is told above.
        let taken = names.iter().find(|(name, _)| *name == listener.name);
        if let (Some((_, first)), Some(name)) = (taken, &entry.name) {
            let message = format!("another listener is called `{}`", name.shown());
            collision(code::EQUAL_LISTENERS, first, mark, message, findings);
        }
        names.push((listener.name.clone(), mark.clone()));
        listeners.push(Arc::new(listener));
    }
    let admin = [Some(&config.admin.listen), config.health.listen.as_ref()];
    for listen in admin.into_iter().flatten() {
        if let AdminAddress::Tcp(address) = listen.value {
            socket(address, &listen.mark, &mut sockets, findings);
        }
    }
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
    }
}

/// Reports an address that another socket has; port 0 is a free one from the system.
fn socket(
    address: SocketAddr,
    mark: &Mark,
    sockets: &mut Vec<(SocketAddr, Mark)>,
    findings: &mut Findings,
) {
    let taken = sockets.iter().find(|(other, _)| collide(*other, address));
    if let Some((other, first)) = taken.filter(|_| address.port() != 0) {
        let message = format!("{other} is taken by another listener");
        collision(code::EQUAL_LISTENERS, first, mark, message, findings);
    }
    sockets.push((address, mark.clone()));
}

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
