//! Exchange: a farm for each protocol over the same servers.

use std::{collections::BTreeSet, fs, path::Path};

use boring::pkcs12::Pkcs12;
use serde_json::Value;

use crate::support::{
    SOON,
    backend::{Backend, field, read_head, reply},
    certificates::{Certificates, authority, issue, rsa, save},
    client::Client,
    frontgate::Frontgate,
    lab::{Lab, shared},
    until,
};

const MAIL: &str = "mail.contoso.com";

/// Asks six times, each time on a new connection; the servers that answered with this status.
fn servers(lab: &Lab, directory: &str, marker: &str, status: u16) -> BTreeSet<String> {
    let certificates = Certificates { dir: lab.dir.path().to_owned() };
    let path = format!("{directory}/{marker}/");
    for n in 0..6 {
        let mut client = Client::tls(lab.address("/frontgate/https"), Some(MAIL), &certificates);
        let answer = client.get(MAIL, &format!("{path}{n}"));
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    until(&format!("six lines of {path}"), SOON, || {
        let log = fs::read_to_string(lab.path("log/access.log")).ok()?;
        let lines: Vec<Value> =
            log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let ours =
            lines.iter().filter(|l| l["path"].as_str().is_some_and(|p| p.starts_with(&path)));
        let ours: Vec<String> = ours.map(|l| l["server"].as_str().unwrap().to_string()).collect();
        (ours.len() == 6).then(|| ours.into_iter().collect())
    })
}

/// Managed Availability takes Outlook on the web of one server out of service: its clients go to
/// the other server, everybody else's stay where they are.
#[test]
fn a_protocol_that_is_out_of_service_moves_alone() {
    let lab = Lab::start();
    let both = BTreeSet::from(["exch01".to_string(), "exch02".to_string()]);
    let second = BTreeSet::from(["exch02".to_string()]);
    assert_eq!(servers(&lab, "/owa", "before", 200), both);
    assert_eq!(servers(&lab, "/ews", "before", 401), both);

    lab.control("/out/exch01/owa");
    lab.log_line("farm owa: server exch01 is down: ");
    assert_eq!(servers(&lab, "/owa", "out", 200), second);
    for directory in ["/ews", "/mapi", "/rpc", "/Microsoft-Server-ActiveSync"] {
        assert_eq!(servers(&lab, directory, "out", 401), both, "{directory}");
    }
    let log = fs::read_to_string(lab.path("stderr.log")).unwrap();
    let down: Vec<&str> = log.lines().filter(|line| line.contains(" is down")).collect();
    assert_eq!(down.len(), 1, "{down:?}");

    lab.control("/in/exch01/owa");
    lab.log_line("farm owa: server exch01 is up again");
    assert_eq!(servers(&lab, "/owa", "back", 200), both);
}

/// `conf/sfb-exchange-owas.yaml` with the lab's addresses and authority in it.
fn example(lab: &Lab) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/sfb-exchange-owas.yaml");
    let mut config = fs::read_to_string(file).unwrap();
    let mut change = |from: &str, to: &str| {
        assert!(config.contains(from), "{from} is not in the example");
        config = config.replace(from, to);
    };
    change("0.0.0.0:443\", tls", "127.0.0.1:0\", public_port: 443, tls");
    change("0.0.0.0:80", "127.0.0.2:0");
    let ca = lab.path("internal-ca.pem");
    change("tls/internal-ca.pem", ca.to_str().unwrap());
    let name = "tls: { name: mail.contoso.com }";
    change(name, &name.replace("name:", &format!("ca: {}, name:", ca.display())));
    for (name, server) in [
        ("sfbfe01", "fe01"),
        ("sfbfe02", "fe02"),
        ("exch01", "exch01"),
        ("exch02", "exch02"),
        ("wac01", "owas01"),
    ] {
        let servers = lab.manifest["servers"].as_array().unwrap();
        let entry = servers.iter().find(|entry| entry["name"] == server).unwrap();
        let address = |scheme: &str| -> std::net::SocketAddr {
            entry["external"][scheme].as_str().unwrap().parse().unwrap()
        };
        let (https, http) = (address("https"), address("http"));
        change(
            &format!("- {name}.contoso.local"),
            &format!(
                "- {{ name: {server}.contoso.local, address: {}, ports: {{ https: {}, http: {} }} }}",
                https.ip(),
                https.port(),
                http.port()
            ),
        );
    }
    format!("admin: {{ listen: 127.0.0.1:0 }}\naccess_log: {{ path: access.log }}\n{config}")
}

/// Frontgate on the example, with a wildcard certificate as Windows exports it.
fn wildcard(lab: &Lab) -> Frontgate {
    let dir = tempfile::tempdir().unwrap();
    let public = authority("Test Public CA");
    save(dir.path(), "public-ca", &public);
    let wildcard = issue(&public, &["*.contoso.com"], rsa());
    let pfx = Pkcs12::builder()
        .build("secret", "wildcard", &wildcard.key, &wildcard.certificate)
        .unwrap();
    fs::create_dir(dir.path().join("tls")).unwrap();
    fs::write(dir.path().join("tls/wildcard.pfx"), pfx.to_der().unwrap()).unwrap();
    fs::write(dir.path().join("tls/wildcard.pass"), "secret\r\n").unwrap();
    fs::write(dir.path().join("frontgate.yaml"), example(lab)).unwrap();
    let certificates = Certificates { dir: dir.path().to_owned() };
    Frontgate::in_dir(dir, certificates)
}

#[test]
fn the_example_publishes_everything_on_one_address_and_one_certificate() {
    let lab = shared();
    let frontgate = wildcard(lab);
    let ask = |host: &str, path: &str| frontgate.tls(host).get(host, path);
    for (host, path, status, shown) in [
        ("meet.contoso.com", "/meet/alice/X7K2", 200, "reachURL"),
        ("dialin.contoso.com", "/", 200, "Dial-in"),
        ("lyncweb.contoso.com", "/scheduler/", 200, "Web Scheduler"),
        ("lyncweb.contoso.com", "/macp/", 404, "denied"),
        ("wac.contoso.com", "/hosting/discovery", 200, "wopi-discovery"),
        (MAIL, "/owa/", 200, "Outlook"),
        (MAIL, "/OWA/auth.owa", 200, "Outlook"),
        (MAIL, "/ecp/", 200, "Control Panel"),
        (MAIL, "/EWS/Exchange.asmx", 401, ""),
        (MAIL, "/mapi/emsmdb/?MailboxId=1", 401, ""),
        (MAIL, "/rpc/rpcproxy.dll", 401, ""),
        (MAIL, "/OAB/oab.xml", 401, ""),
        (MAIL, "/Microsoft-Server-ActiveSync?Cmd=Ping", 401, ""),
        (MAIL, "/Autodiscover/Autodiscover.xml", 401, ""),
        ("autodiscover.contoso.com", "/autodiscover/autodiscover.xml", 401, ""),
        // Inside names and the administration stay inside.
        (MAIL, "/owa/healthcheck.htm", 404, "denied"),
        (MAIL, "/powershell", 404, "path_not_published"),
        ("autodiscover.contoso.com", "/owa/", 404, "path_not_published"),
    ] {
        let answer = ask(host, path);
        assert_eq!(answer.status, status, "{host}{path}: {}", answer.text());
        assert!(answer.text().contains(shown), "{host}{path}: {}", answer.text());
        assert!(answer.header("x-ms-server-fqdn").is_none(), "{}", answer.head);
    }
    let root = ask(MAIL, "/");
    assert_eq!((root.status, root.header("location")), (302, Some("/owa/")), "{}", root.head);

    let discovery = frontgate.plain().get("lyncdiscover.contoso.com", "/?sipuri=alice@contoso.com");
    assert_eq!(discovery.status, 200, "{}", discovery.text());
    let plain = frontgate.plain().get(MAIL, "/owa/");
    assert_eq!(plain.header("location"), Some("https://mail.contoso.com/owa/"), "{}", plain.head);
}

/// Frontgate before a server that says what it was asked for, without waiting for a body.
fn protocols(words: &[&str]) -> (Backend, Frontgate) {
    let backend = Backend::plain(|wire, _| {
        while let Some(head) = read_head(wire) {
            let length = field(&head, "content-length").unwrap_or("0").to_owned();
            if reply(wire, &length).is_err() {
                return;
            }
        }
    });
    let mut config = "farms:\n".to_string();
    for word in words {
        config += &format!(
            "  {word}: {{ preset: exchange/{word}, probes: [], bridge: http, \
             servers: [{{ address: 127.0.0.1, ports: {{ http: {} }} }}] }}\n",
            backend.port()
        );
    }
    config += "publish:\n";
    for word in words {
        config += &format!(
            "  - {{ host: meet.contoso.com, path: /{word}, farm: {word}, schemes: [http] }}\n  \
             - {{ host: meet.contoso.com, path: /{word}/small, farm: {word}, schemes: [http], \
             body_size: 1KiB }}\n"
        );
    }
    (backend, Frontgate::start(&config))
}

#[test]
fn bodies_larger_than_the_protocol_ever_sends_are_refused() {
    let (_backend, frontgate) = protocols(&["owa", "ews", "autodiscover"]);
    for (word, limit) in [("owa", 64_u64 << 20), ("ews", 128 << 20), ("autodiscover", 64 << 20)] {
        let announce = |path: &str, length: u64| {
            frontgate.plain().ask(format!(
                "POST /{path} HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: {length}\r\n\r\n"
            ))
        };
        let large = announce(word, limit + 1);
        assert_eq!((large.status, large.reason().as_str()), (413, "body_too_large"), "{word}");
        let fits = announce(word, limit);
        assert_eq!((fits.status, fits.text()), (200, limit.to_string()), "{word}");
        // What the rule says counts.
        assert_eq!(announce(&format!("{word}/small"), 1025).status, 413, "{word}");
    }
}

#[test]
fn an_announced_gigabyte_is_outlook_anywhere() {
    let (_backend, frontgate) = protocols(&["rpc"]);
    let answer = frontgate.plain().ask(
        "RPC_IN_DATA /rpc/rpcproxy.dll HTTP/1.1\r\nHost: meet.contoso.com\r\n\
         Content-Length: 1073741824\r\n\r\npdu",
    );
    assert_eq!((answer.status, answer.text().as_str()), (200, "1073741824"));
}
