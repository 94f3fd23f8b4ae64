//! Farms from site to site: what stays, what goes, and what runs meanwhile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::net::TcpListener;

mod choice;
mod ejection;
mod waiting;

use super::{testing::*, *};
use crate::site::{self, Site, testing::empty};

pub(super) fn site(farms: Vec<site::Farm>) -> Site {
    Site { farms: farms.into_iter().map(Arc::new).collect(), ..empty() }
}

/// Waits until `done` is true, but not for ever.
pub(super) async fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A port on which the kernel refuses connections as long as the socket lives.
fn closed() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn farms_come_in_the_order_of_the_site_and_rotate() {
    let farms = Farms::new();
    let running =
        farms.apply(&site(vec![farm("b", &["one", "two"]), farm("a", &["three", "four"])]));
    let names: Vec<_> = running.iter().map(|farm| farm.spec().name.to_string()).collect();
    assert_eq!(names, ["b", "a"]);
    let turns: Vec<_> = (0..4).map(|_| chosen(&running[0]).unwrap()).collect();
    assert_eq!(turns, ["one", "two", "one", "two"]);
    let servers: Vec<_> = running[1].servers().iter().map(|s| s.name().to_string()).collect();
    assert_eq!(servers, ["three", "four"]);
}

#[tokio::test]
async fn a_dead_server_is_found_at_once_and_comes_back() {
    let (socket, port) = closed();
    let thresholds = site::Probe { rise: 2, fall: 3, ..tcp(port) };
    let spec = site::Farm { probes: vec![thresholds], ..farm("lyncweb", &["fe01"]) };
    let farms = Farms::new();
    let running = farms.apply(&site(vec![spec]));
    let server = running[0].servers()[0].clone();
    assert!(server.healthy(), "healthy until a probe says otherwise");
    until("the first probe", || !server.healthy()).await;
    assert_eq!(server.status().reason.as_deref(), Some("connect refused"));
    assert_eq!(chosen(&running[0]), None);

    let _listener = socket.listen(16).unwrap();
    until("rising", || server.healthy()).await;
    assert_eq!(server.status().reason, None);
    assert_eq!(chosen(&running[0]).as_deref(), Some("fe01"));
}

#[tokio::test]
async fn all_of_several_probes_have_to_be_content() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap().port();
    let (_socket, bad) = closed();
    let spec = site::Farm { probes: vec![tcp(good), tcp(bad)], ..farm("lyncweb", &["fe01"]) };
    let farms = Farms::new();
    let running = farms.apply(&site(vec![spec.clone()]));
    let server = &running[0].servers()[0];
    until("the second probe", || !server.healthy()).await;
    // The second one goes, and with it its verdict.
    farms.apply(&site(vec![site::Farm { probes: vec![tcp(good)], ..spec }]));
    assert!(server.healthy());
}

#[tokio::test]
async fn state_survives_new_weight_ports_and_probe_settings() {
    let (_socket, port) = closed();
    let before = site::Farm {
        probes: vec![site::Probe { interval: Duration::from_secs(3600), ..tcp(port) }],
        ..farm("lyncweb", &["fe01", "fe02"])
    };
    let farms = Farms::new();
    let first = farms.apply(&site(vec![before.clone()]));
    let server = first[0].servers()[0].clone();
    until("the first probe", || !server.healthy()).await;
    let since = server.status().since;
    let request = server.begin().unwrap();
    request.fail();

    let mut after = before.clone();
    after.servers[0].weight = 7;
    after.servers[0].ports.https = 9443;
    after.timeout = Duration::from_secs(1);
    after.probes[0].rise = 9;
    after.probes[0].interval = Duration::from_secs(7200);
    let second = farms.apply(&site(vec![after]));
    let same = &second[0].servers()[0];
    assert!(Arc::ptr_eq(same, &server));
    assert!(!same.healthy());
    assert_eq!(same.status().since, since);
    let counters = same.counters();
    assert_eq!((counters.in_flight, counters.requests, counters.failures), (1, 1, 1));
    assert_eq!((same.spec().weight, same.spec().ports.https), (7, 9443));
    assert_eq!(second[0].spec().timeout, Duration::from_secs(1));
    assert_eq!(first[0].spec().timeout, before.timeout, "an old snapshot keeps its settings");
}

#[tokio::test]
async fn a_new_weight_counts_at_once_and_an_equal_site_keeps_the_turn() {
    let farms = Farms::new();
    let mut spec = farm("lyncweb", &["fe01", "fe02", "fe03"]);
    let running = farms.apply(&site(vec![spec.clone()]));
    assert_eq!(chosen(&running[0]).as_deref(), Some("fe01"));
    // Reloading all the time must not send everything to the first server.
    let running = farms.apply(&site(vec![spec.clone()]));
    assert_eq!(chosen(&running[0]).as_deref(), Some("fe02"));
    let running = farms.apply(&site(vec![spec.clone()]));
    assert_eq!(chosen(&running[0]).as_deref(), Some("fe03"));

    spec.servers[0].weight = 0;
    spec.servers[1].weight = 200;
    let running = farms.apply(&site(vec![spec]));
    let mut turns: Vec<_> = (0..6).map(|_| chosen(&running[0]).unwrap()).collect();
    turns.sort();
    assert_eq!(turns, ["fe02", "fe02", "fe02", "fe02", "fe03", "fe03"]);
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_a_new_one() {
    let farms = Farms::new();
    let both = farm("lyncweb", &["fe01", "fe02"]);
    let one = farm("lyncweb", &["fe02"]);
    let first = farms.apply(&site(vec![both.clone()]));
    first[0].servers()[0].begin().unwrap();
    let second = farms.apply(&site(vec![one]));
    assert_eq!(second[0].servers().len(), 1);
    assert!(Arc::ptr_eq(&second[0].servers()[0], &first[0].servers()[1]));
    assert_eq!(chosen(&second[0]).as_deref(), Some("fe02"));
    let third = farms.apply(&site(vec![both]));
    assert!(!Arc::ptr_eq(&third[0].servers()[0], &first[0].servers()[0]));
    assert_eq!(third[0].servers()[0].counters().requests, 0);
}

#[tokio::test]
async fn another_address_is_another_machine() {
    let farms = Farms::new();
    let mut spec = farm("lyncweb", &["fe01"]);
    let first = farms.apply(&site(vec![spec.clone()]));
    first[0].servers()[0].begin().unwrap();
    spec.servers[0].address = site::Address::Ip([127, 0, 0, 2].into());
    let second = farms.apply(&site(vec![spec]));
    let server = &second[0].servers()[0];
    assert!(!Arc::ptr_eq(server, &first[0].servers()[0]));
    assert_eq!(server.counters().requests, 0);
    assert_eq!(**server.addresses(), [std::net::IpAddr::from([127, 0, 0, 2])]);
}

#[tokio::test]
async fn servers_of_one_name_in_two_farms_have_health_of_their_own() {
    let (_socket, port) = closed();
    let probed = site::Farm { probes: vec![tcp(port)], ..farm("owa", &["exch01"]) };
    let farms = Farms::new();
    let running = farms.apply(&site(vec![probed, farm("ews", &["exch01"])]));
    until("the probe", || !running[0].servers()[0].healthy()).await;
    assert!(running[1].servers()[0].healthy());
}

#[tokio::test]
async fn names_resolve_beside_the_traffic() {
    let spec = site::Farm {
        servers: vec![named("localhost"), named("fe01.frontgate.invalid")],
        ..farm("lyncweb", &[])
    };
    let farms = Farms::new();
    let running = farms.apply(&site(vec![spec]));
    assert_eq!(chosen(&running[0]), None, "no address yet");
    tokio::time::timeout(Duration::from_secs(20), running[0].looked_up()).await.unwrap();
    let [good, bad] = running[0].servers() else { panic!("two servers") };
    assert!(good.healthy() && good.addresses().iter().all(|ip| ip.is_loopback()));
    assert!(!bad.healthy());
    assert_eq!(bad.status().reason.as_deref(), Some("name does not resolve"));
    assert_eq!(chosen(&running[0]).as_deref(), Some("localhost"));
}

#[tokio::test]
async fn a_name_is_probed_once_it_has_an_address() {
    let (_socket, port) = closed();
    let spec = site::Farm {
        servers: vec![named("localhost")],
        probes: vec![tcp(port)],
        ..farm("lyncweb", &[])
    };
    let farms = Farms::new();
    let running = farms.apply(&site(vec![spec]));
    let server = &running[0].servers()[0];
    let refused = || server.status().reason.as_deref() == Some("connect refused");
    until("the probe", refused).await;
}

#[tokio::test]
async fn two_hundred_reloads_leak_no_task() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let spec = |weight: u32, interval: u64| {
        let interval = Duration::from_secs(interval);
        let mut spec = site::Farm {
            probes: vec![site::Probe { interval, ..tcp(port) }, tcp(port)],
            ..farm("lyncweb", &["fe01", "fe02"])
        };
        spec.servers.push(named("localhost"));
        spec.servers.iter_mut().for_each(|server| server.weight = weight);
        spec
    };
    let farms = Farms::new();
    // Weights change, probes change, farms come and go.
    for round in 0..200 {
        let mut wanted = vec![spec(1 + round, 60 + u64::from(round % 2))];
        if round % 3 == 0 {
            wanted.push(farm("owas", &["wac01"]));
        }
        farms.apply(&site(wanted));
    }
    // Three servers with two probes each, and one name.
    until("the old tasks' end", || farms.tasks() == 7).await;

    let probes = farms.tasks();
    farms.apply(&site(vec![spec(5, 61)]));
    assert_eq!(farms.tasks(), probes, "an unchanged probe goes on, whatever the weight");

    farms.apply(&site(Vec::new()));
    until("the end of all tasks", || farms.tasks() == 0).await;
}

#[tokio::test]
async fn a_request_that_outlives_its_server_keeps_no_probe_alive() {
    let (_socket, port) = closed();
    let farms = Farms::new();
    let running = farms
        .apply(&site(vec![site::Farm { probes: vec![tcp(port)], ..farm("lyncweb", &["fe01"]) }]));
    let request = running[0].servers()[0].begin().unwrap();
    farms.apply(&site(Vec::new()));
    until("the probe's end", || farms.tasks() == 0).await;
    assert_eq!(request.server().in_flight(), 1);
}
