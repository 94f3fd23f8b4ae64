//! Starting, stopping, and what a lab leaves behind.

use std::{fs, net::TcpStream, os::unix::fs::PermissionsExt};

use boring::x509::X509;

use super::{client::Client, external, lab, lab_with, server};
use crate::lab::{Manifest, Ports};

const WEB: &str = "lyncweb.contoso.com";

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_refuses_and_comes_back_at_its_old_address() {
    let (_dir, lab) = lab().await;
    let sockets = server(&lab, "fe01").external;
    let mut idle = external(&lab, "fe01").await;
    assert_eq!(idle.get(WEB, "/dialin/", "").await.status, 200);

    lab.stop("fe01").await.unwrap();
    idle.closed().await;
    for address in [sockets.https, sockets.http] {
        assert!(TcpStream::connect(address).is_err(), "{address}");
    }
    assert_eq!(external(&lab, "fe02").await.get(WEB, "/dialin/", "").await.status, 200);

    lab.start_server("fe01").await.unwrap();
    lab.start_server("fe01").await.unwrap();
    assert_eq!(external(&lab, "fe01").await.get(WEB, "/dialin/", "").await.status, 200);
    let error = lab.stop("fe09").await.unwrap_err().to_string();
    assert!(error.contains("fe01, fe02, fe03, fe04, owas01, exch01, exch02"), "{error}");

    lab.shutdown().await;
    assert!(TcpStream::connect(sockets.https).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_port_stops_and_starts_servers() {
    let (_dir, lab) = lab_with(|options| options.control = Some(0)).await;
    let control = lab.manifest().control.unwrap();
    let https = server(&lab, "fe02").external.https;
    let host = control.to_string();

    let post = async |host: &str, target: &str| {
        Client::plain(control).await.post(host, target, "", "").await
    };
    let reply = post(&host, "/stop/fe02").await;
    let running = serde_json::json!(["fe01", "fe03", "fe04", "owas01", "exch01", "exch02"]);
    assert_eq!(reply.json()["running"], running);
    assert!(TcpStream::connect(https).is_err());
    assert_eq!(post(&host, "/start/fe02").await.status, 200);
    assert!(TcpStream::connect(https).is_ok());
    assert_eq!(post(&host, "/stop/nobody").await.status, 409);
    assert_eq!(post(&host, "/reboot/fe02").await.status, 404);
    assert_eq!(post("attacker.example", "/stop/fe02").await.status, 421);
    assert!(TcpStream::connect(https).is_ok());

    assert_eq!(post(&host, "/overload/fe02").await.status, 200);
    let ucwa = "/ucwa/oauth/v1/applications";
    assert_eq!(external(&lab, "fe02").await.get(WEB, ucwa, "").await.status, 503);
    assert_eq!(post(&host, "/recover/fe02").await.status, 200);
    assert_eq!(external(&lab, "fe02").await.get(WEB, ucwa, "").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_port_takes_one_protocol_out_of_service() {
    let (_dir, lab) = lab_with(|options| options.control = Some(0)).await;
    let control = lab.manifest().control.unwrap();
    let post = async |target: &str| {
        Client::plain(control).await.post(&control.to_string(), target, "", "").await
    };
    let health = async |name: &str, directory: &str| {
        let mut client = Client::plain(server(&lab, name).external.http).await;
        client.get("mail.contoso.com", &format!("{directory}/healthcheck.htm"), "").await.status
    };
    assert_eq!(post("/out/exch01/owa").await.status, 200);
    assert_eq!(health("exch01", "/owa").await, 503);
    assert_eq!(health("exch01", "/ews").await, 200);
    assert_eq!(health("exch02", "/owa").await, 200);
    assert_eq!(post("/in/exch01/owa").await.status, 200);
    assert_eq!(health("exch01", "/owa").await, 200);
    assert_eq!(post("/out/fe01/owa").await.status, 409);
    let unknown = post("/out/exch01/imap").await;
    let error = unknown.json()["error"].to_string();
    assert!(unknown.status == 409 && error.contains("there are owa, ecp, ews"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_json_and_the_certificates_say_where_everything_is() {
    let (dir, lab) = lab().await;
    let text = fs::read_to_string(dir.path().join("lab.json")).unwrap();
    let manifest: Manifest = serde_json::from_str(&text).unwrap();
    assert_eq!(manifest.servers.len(), 7);
    for entry in &manifest.servers {
        assert!(TcpStream::connect(entry.external.https).is_ok(), "{entry:?}");
        assert!(TcpStream::connect(entry.external.http).is_ok(), "{entry:?}");
        let pem = fs::read(dir.path().join(&entry.certificate)).unwrap();
        assert!(X509::from_pem(&pem).unwrap().check_host(&entry.fqdn).unwrap());
    }
    let names: Vec<_> =
        manifest.servers.iter().map(|it| (it.name.as_str(), it.farm.as_str())).collect();
    assert_eq!(
        names,
        [
            ("fe01", "lyncweb-a"),
            ("fe02", "lyncweb-a"),
            ("fe03", "lyncweb-b"),
            ("fe04", "lyncweb-b"),
            ("owas01", "owas"),
            ("exch01", "owa"),
            ("exch02", "owa"),
        ]
    );
    let pem = fs::read(dir.path().join(&manifest.files.certificate)).unwrap();
    let certificate = X509::from_pem(&pem).unwrap();
    for name in &manifest.external_names {
        assert!(certificate.check_host(name).unwrap(), "{name}");
    }
    let secrets = [&manifest.files.key, &manifest.files.pfx, &manifest.files.users];
    for name in secrets.into_iter().chain([&"fe01.key".to_string()]) {
        let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    drop(lab);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_publishes_every_name_on_the_ports_that_were_bound() {
    let (dir, lab) = lab_with(|options| {
        options.domains = vec!["contoso.com".into(), "fabrikam.com".into()];
    })
    .await;
    let text = fs::read_to_string(dir.path().join("frontgate.yaml")).unwrap();
    let config: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let manifest = lab.manifest();
    assert_eq!(config["domains"][1], "fabrikam.com");
    let access_log = dir.path().join(config["access_log"]["path"].as_str().unwrap());
    assert!(access_log.parent().unwrap().is_dir(), "{}", access_log.display());
    assert_eq!(config["listeners"][0]["address"], manifest.frontgate.https.to_string());
    assert_eq!(config["listeners"][0]["public_port"], manifest.frontgate.https.port());
    for entry in &manifest.servers {
        let farm = &config["farms"][entry.farm.as_str()];
        let written = farm["servers"]
            .as_sequence()
            .unwrap()
            .iter()
            .find(|it| it["name"] == entry.name.as_str())
            .unwrap_or_else(|| panic!("{} is missing in {text}", entry.name));
        assert_eq!(written["address"], entry.external.https.ip().to_string());
        assert_eq!(written["ports"]["https"], entry.external.https.port());
        assert_eq!(written["ports"]["http"], entry.external.http.port());
        assert_eq!(farm["tls"]["ca"], "internal-ca.pem");
        let name = farm["tls"]["name"].as_str().unwrap();
        assert!(manifest.external_names.iter().any(|it| it == name), "{name}");
    }
    let publish = config["publish"].as_sequence().unwrap();
    for name in &manifest.external_names {
        let (label, rest) = name.split_once('.').unwrap();
        let matches = |host: &str| {
            host == name
                || host == format!("{label}.*") && manifest.domains.iter().any(|it| it == rest)
        };
        assert!(publish.iter().any(|rule| matches(rule["host"].as_str().unwrap())), "{name}");
    }
    for rule in publish.iter().filter(|rule| rule.get("redirect").is_none()) {
        assert!(config["farms"].get(rule["farm"].as_str().unwrap()).is_some(), "{rule:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_says_which_server_wants_it() {
    let (_dir, first) = lab().await;
    let https = server(&first, "fe01").external.https;
    let dir = tempfile::tempdir().unwrap();
    let mut options = crate::lab::Options::free_ports();
    options.dir = Some(dir.path().into());
    options.front_end = Ports { https: https.port(), http: 0 };
    fs::write(dir.path().join("lab.json"), "of an earlier lab").unwrap();
    let error = match crate::lab::start(options).await {
        Ok(_) => panic!("two labs at {https}"),
        Err(error) => format!("{error:#}"),
    };
    let expected = format!("cannot listen on {https} (fe01, external site); --front-end-https");
    assert!(error.contains(&expected), "{error}");
    // Who waits for lab.json is not misled by an old one.
    assert!(!dir.path().join("lab.json").exists());
}
