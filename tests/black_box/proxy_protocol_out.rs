//! Servers that are told by the PROXY protocol whose connection it is.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use frontgate::proxy_protocol::Version;

use crate::{
    proxy_protocol::{behind, header, start},
    support::{
        SOON,
        backend::{Backend, Wire, read_head, read_line, reply},
        certificates::Certificates,
        client::{Client, connect_from},
        frontgate::{Frontgate, LISTENERS},
        haproxy::Haproxy,
        nginx::Nginx,
        until,
    },
};

/// What a server was told at the beginning of each connection, and whether that has ended.
#[derive(Clone, Default)]
struct Connections(Arc<Mutex<Vec<(String, bool)>>>);

impl Connections {
    fn all(&self) -> Vec<(String, bool)> {
        self.0.lock().unwrap().clone()
    }

    /// Those that clients were named on.
    fn named(&self) -> Vec<(String, bool)> {
        self.all().into_iter().filter(|(line, _)| line.contains(" TCP")).collect()
    }
}

/// A server that expects the header of version 1 and answers with it.
fn expecting() -> (Backend, Connections) {
    let connections = Connections::default();
    let seen = connections.clone();
    let backend = Backend::plain(move |wire: &mut dyn Wire, _| {
        if wire.tcp().peek(&mut [0; 1]).unwrap_or(0) == 0 {
            return;
        }
        let line = read_line(wire).trim_end().to_owned();
        let number = {
            let mut all = seen.0.lock().unwrap();
            all.push((line.clone(), false));
            all.len() - 1
        };
        while let Some(head) = read_head(wire) {
            crate::support::backend::read_body(wire, &head);
            let path = head.split(' ').nth(1).unwrap_or_default();
            if reply(wire, &format!("{number} {line} {path}")).is_err() {
                break;
            }
        }
        seen.0.lock().unwrap()[number].1 = true;
    });
    (backend, connections)
}

const FORWARD: &str = ", forward: { proxy_protocol: v1 }";

#[test]
fn no_two_clients_share_a_server_connection() {
    let (backend, connections) = expecting();
    let frontgate = start(&backend, "trusted_proxies: [192.0.2.99]", FORWARD);
    let address = frontgate.address("plain");
    let ask = |client: &mut Client, method: &str, fields: &str| {
        let length = "Content-Length: 0";
        client
            .ask(format!(
                "{method} /x HTTP/1.1\r\nHost: meet.contoso.com\r\n{length}\r\n{fields}\r\n"
            ))
            .text()
    };
    let mut one = behind(address, header(Version::V1, "192.0.2.7:4711"));
    let first = ask(&mut one, "GET", "");
    assert_eq!(first, "0 PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 /x");
    assert_eq!(ask(&mut one, "GET", ""), first, "a connection of its own, kept");
    let mut other = behind(address, header(Version::V2, "192.0.2.7:4712"));
    let told = ask(&mut other, "GET", "");
    assert_eq!(told, "1 PROXY TCP4 192.0.2.7 198.51.100.1 4712 443 /x");
    let mut third = behind(address, header(Version::V2, "[2001:db8::7]:1"));
    let told = ask(&mut third, "POST", "");
    assert_eq!(told, "2 PROXY TCP6 2001:db8::7 ::ffff:198.51.100.1 1 443 /x");
    assert_eq!(ask(&mut one, "GET", ""), first);
    // A trusted proxy brings several clients over one connection.
    let mut proxy = behind(address, header(Version::V2, "192.0.2.99:5"));
    for (client, named) in [
        ("192.0.2.8", "3 PROXY TCP4 192.0.2.8 198.51.100.1 0 443 /x"),
        ("192.0.2.9:77", "4 PROXY TCP4 192.0.2.9 198.51.100.1 77 443 /x"),
        ("192.0.2.8", "3 PROXY TCP4 192.0.2.8 198.51.100.1 0 443 /x"),
    ] {
        let fields = format!("X-Forwarded-For: {client}\r\n");
        assert_eq!(ask(&mut proxy, "GET", &fields), named);
    }
    // A client that leaves takes its own along, and no other.
    drop(proxy);
    drop(one);
    until("the clients that left took their connections along", SOON, || {
        let ended: Vec<_> = connections.named().into_iter().map(|(_, ended)| ended).collect();
        (ended == [true, false, false, true, true]).then_some(())
    });
    assert_eq!(ask(&mut other, "GET", ""), "1 PROXY TCP4 192.0.2.7 198.51.100.1 4712 443 /x");
}

#[test]
fn many_clients_of_one_connection_leave_few_server_connections() {
    let (backend, connections) = expecting();
    let frontgate = start(&backend, "trusted_proxies: [192.0.2.99]", FORWARD);
    let mut proxy = behind(frontgate.address("plain"), header(Version::V2, "192.0.2.99:5"));
    let mut ask = |client: usize| {
        let request = format!(
            "GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\nX-Forwarded-For: 198.51.100.{client}\r\n\r\n"
        );
        proxy.ask(request).text()
    };
    let named = |number: usize, client: usize| {
        format!("{number} PROXY TCP4 198.51.100.{client} 198.51.100.1 0 443 /x")
    };
    for client in 0..20 {
        assert_eq!(ask(client), named(client, client));
        // One that is used goes on being used.
        assert_eq!(ask(0), named(0, 0));
    }
    until("all but the last four have ended", SOON, || {
        let ended: Vec<_> = connections.named().into_iter().map(|(_, ended)| ended).collect();
        let expected: Vec<_> = (0..20).map(|number| (1..17).contains(&number)).collect();
        (ended == expected).then_some(())
    });
    assert_eq!(ask(19), named(19, 19));
    assert_eq!(ask(1), named(20, 1), "anew");
}

#[test]
fn pinned_connections_name_their_client() {
    let (backend, connections) = expecting();
    let farm = format!("{FORWARD}, connection_auth: always");
    let frontgate = start(&backend, "", &farm);
    let address = frontgate.address("plain");
    for (number, client) in ["192.0.2.7:1", "192.0.2.8:2"].into_iter().enumerate() {
        let mut one = behind(address, header(Version::V1, client));
        let (ip, port) = client.split_once(':').unwrap();
        for _ in 0..3 {
            let told = one.get("meet.contoso.com", "/").text();
            assert_eq!(told, format!("{number} PROXY TCP4 {ip} 198.51.100.1 {port} 443 /"));
        }
    }
    until("both have ended", SOON, || {
        connections.named().iter().all(|(_, ended)| *ended).then_some(())
    });
}

#[test]
fn probes_speak_for_themselves() {
    let (backend, connections) = expecting();
    let probes = "probes: [{ path: /probe, interval: 1s, timeout: 5s, status: \"200\", body: /probe }, \
                  { tcp: PORT, interval: 1s, timeout: 5s }]";
    let probes = probes.replace("PORT", &backend.port().to_string());
    let frontgate = start(&backend, "", &format!("{FORWARD}, {probes}"));
    until("both probes", SOON, || (connections.all().len() >= 2).then_some(()));
    assert!(connections.all().iter().all(|(line, _)| line == "PROXY UNKNOWN"));
    let mut client = behind(frontgate.address("plain"), header(Version::V1, "192.0.2.7:4711"));
    let told = client.get("meet.contoso.com", "/").text();
    assert!(told.ends_with("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 /"), "{told}");
    assert_eq!(frontgate.log_count("is down"), 0);
}

#[test]
fn version_2_is_local_for_probes() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let orders = seen.clone();
    let backend = Backend::plain(move |wire: &mut dyn Wire, _| {
        let mut fixed = [0; 16];
        if wire.read_exact(&mut fixed).is_err() {
            return;
        }
        orders.lock().unwrap().push(fixed[12]);
        wire.read_exact(&mut vec![0; usize::from(fixed[15])]).unwrap();
        while read_head(wire).is_some() && reply(wire, "ok").is_ok() {}
    });
    let probe = "probe: { path: /, interval: 1s, timeout: 5s }";
    let farm = format!(", forward: {{ proxy_protocol: v2 }}, {probe}");
    let frontgate = start(&backend, "", &farm);
    until("a probe", SOON, || seen.lock().unwrap().first().copied());
    let mut client = behind(frontgate.address("plain"), header(Version::V1, "192.0.2.7:4711"));
    assert_eq!(client.get("meet.contoso.com", "/").text(), "ok");
    let seen = seen.lock().unwrap();
    assert!(seen.contains(&0x20) && seen.iter().filter(|order| **order == 0x21).count() == 1);
}

/// A farm that reaches `server` with the header, over TLS where it has to.
fn toward(server: SocketAddr, version: &str, tls: bool) -> Frontgate {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    toward_in(dir, certificates, server, version, tls)
}

fn toward_in(
    dir: tempfile::TempDir,
    certificates: Certificates,
    server: SocketAddr,
    version: &str,
    tls: bool,
) -> Frontgate {
    let (ip, port) = (server.ip(), server.port());
    let bridge = if tls { "https" } else { "http" };
    let config = format!(
        "{LISTENERS}farms:\n  a:\n    servers: [{{ name: fe01, address: {ip} }}]\n    \
         ports: {{ https: {port}, http: {port} }}\n    bridge: {bridge}\n    \
         tls: {{ ca: internal-ca.pem, name: fe.contoso.local }}\n    \
         forward: {{ proxy_protocol: {version} }}\n    \
         probe: {{ path: /, interval: 1s, timeout: 5s }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n"
    );
    std::fs::write(dir.path().join("frontgate.yaml"), config).unwrap();
    Frontgate::in_dir(dir, certificates)
}

/// Two clients, each seen as itself.
fn both_are_seen(frontgate: &Frontgate) {
    let (https, http) = (frontgate.address("public"), frontgate.address("plain"));
    let mut clients = Vec::new();
    for source in ["127.0.0.31", "127.0.0.32"] {
        let tcp = connect_from(source, https);
        let own = tcp.local_addr().unwrap();
        let name = Some("meet.contoso.com");
        let tls = Client::tls_over(tcp, name, &frontgate.certificates, |_| ()).unwrap();
        clients.push((own, https, tls));
        let tcp = connect_from(source, http);
        clients.push((tcp.local_addr().unwrap(), http, Client::over(tcp)));
    }
    for _ in 0..3 {
        for (own, reached, client) in &mut clients {
            let seen = client.get("meet.contoso.com", "/").text();
            let expected =
                format!("{} {} {} {}", own.ip(), own.port(), reached.ip(), reached.port());
            assert_eq!(seen.trim(), expected);
        }
    }
    assert_eq!(frontgate.log_count("is down"), 0, "the probe is content, too");
}

#[test]
fn haproxy_understands_it() {
    for (version, tls) in [("v1", false), ("v2", false), ("v1", true), ("v2", true)] {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::write(dir.path());
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join("both.pem"), read("internal.pem") + &read("internal.key"))
            .unwrap();
        let ssl =
            if tls { format!(" ssl crt {}/both.pem", dir.path().display()) } else { String::new() };
        let haproxy = Haproxy::start(dir.path(), 1, |addresses| {
            format!(
                "frontend web\n  mode http\n  bind {}{ssl} accept-proxy\n  http-request return \
                 status 200 content-type text/plain lf-string \"%[src] %[src_port] %[dst] %[dst_port]\"\n",
                addresses[0]
            )
        });
        both_are_seen(&toward_in(dir, certificates, haproxy.addresses[0], version, tls));
    }
}

#[test]
fn nginx_understands_it() {
    for version in ["v1", "v2"] {
        let dir = tempfile::tempdir().unwrap();
        let nginx = Nginx::start(dir.path(), |address| {
            let said = "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr \
                        $proxy_protocol_server_port";
            format!(
                "server {{ listen {address} proxy_protocol; location / {{ return 200 \"{said}\"; }} }}"
            )
        });
        both_are_seen(&toward(nginx.address, version, false));
    }
}

#[test]
fn explain_tells_it() {
    let (backend, _) = expecting();
    let frontgate = start(&backend, "", FORWARD);
    let config = frontgate.config_path();
    let url = "https://meet.contoso.com/";
    let words = ["explain", url, "--offline", "--config", config.to_str().unwrap()];
    let (code, out, err) = crate::support::frontgate::run(&words);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("names the client to the server by the PROXY protocol, v1"), "{out}");
}
