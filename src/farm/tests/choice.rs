//! Which server a request gets: preference, slow start, affinity.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderMap, header};

use super::{super::*, site};
use crate::{
    farm::testing::{at, farm, named},
    site::{Affinity, Balance, Farm as Spec, HashKey, Site},
};

/// The running farm of one configuration.
fn run(farms: &Farms, spec: Spec) -> Arc<Farm> {
    farms.apply(&site(vec![spec])).remove(0)
}

/// Who gets the next requests, each over before the next one comes.
fn tally(farm: &Farm, requests: usize) -> HashMap<String, usize> {
    let mut tally = HashMap::new();
    for _ in 0..requests {
        let tried = Tried::default();
        let wish = Wish::anyone(farm.random_key(), &tried);
        let name = match farm.choose(&wish) {
            Choice::Place(place) => place.server().name().to_string(),
            Choice::Busy => "busy".to_owned(),
            Choice::Nobody => "nobody".to_owned(),
        };
        *tally.entry(name).or_default() += 1;
    }
    tally
}

fn down(server: &Server) {
    server.resolved(Err("name does not resolve".into()));
}

fn up(server: &Server) {
    server.resolved(Ok(vec![IpAddr::from([127, 0, 0, 1])]));
}

#[tokio::test]
async fn backups_serve_only_when_nobody_else_does() {
    let mut spec = farm("a", &["one", "two", "spare"]);
    spec.servers[2].backup = true;
    let running = run(&Farms::new(), spec);
    assert_eq!(tally(&running, 90), HashMap::from([("one".into(), 45), ("two".into(), 45)]));
    down(&running.servers()[0]);
    assert_eq!(tally(&running, 90), HashMap::from([("two".into(), 90)]));
    down(&running.servers()[1]);
    assert_eq!(tally(&running, 90), HashMap::from([("spare".into(), 90)]));
    down(&running.servers()[2]);
    assert_eq!(tally(&running, 90), HashMap::from([("nobody".into(), 90)]));
}

#[tokio::test]
async fn a_server_that_comes_back_gets_a_small_share_first() {
    for balance in [Balance::RoundRobin, Balance::LeastRequests, Balance::LeastResponseTime] {
        let spec =
            Spec { slow_start: Duration::from_secs(3600), balance, ..farm("a", &["x", "y"]) };
        let running = run(&Farms::new(), spec);
        let tally_of = |requests| tally(&running, requests).remove("x").unwrap_or(0);
        assert!(tally_of(1000) > 400, "no slow start when everything starts");
        down(&running.servers()[0]);
        up(&running.servers()[0]);
        let share = tally_of(2000);
        assert!((10..=110).contains(&share), "{share} of 2000");
        // Nobody is turned away to keep a server cool.
        down(&running.servers()[1]);
        assert_eq!(tally_of(100), 100);
    }
}

#[tokio::test]
async fn a_server_that_a_reload_adds_starts_slowly_too() {
    let farms = Farms::new();
    let slow =
        |servers: &[&str]| Spec { slow_start: Duration::from_secs(3600), ..farm("a", servers) };
    let running = run(&farms, slow(&["x", "y"]));
    assert_eq!(tally(&running, 100)["x"], 50);
    let running = run(&farms, slow(&["x", "y", "z"]));
    let share = tally(&running, 3000).remove("z").unwrap_or(0);
    assert!((10..=150).contains(&share), "{share} of 3000");
}

#[tokio::test]
async fn a_changed_algorithm_takes_over_and_an_equal_one_goes_on() {
    let farms = Farms::new();
    let running = run(&farms, farm("a", &["x", "y", "z"]));
    tally(&running, 1);
    let again = run(&farms, farm("a", &["x", "y", "z"]));
    assert!(tally(&again, 1).contains_key("y"), "reloads do not favour the first");
    let hashed =
        run(&farms, Spec { balance: Balance::Hash(HashKey::Host), ..farm("a", &["x", "y", "z"]) });
    let source = IpAddr::from([192, 0, 2, 1]);
    let keys: Vec<u64> =
        (0..9).map(|_| key(&hashed, source, "a.contoso.com", b"/", &HeaderMap::new())).collect();
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
}

fn by_key(farm: &Farm, key: u64) -> Arc<Server> {
    match farm.choose(&Wish::anyone(key, &Tried::default())) {
        Choice::Place(place) => place.server().clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn sources_stay_at_their_server_and_two_frontgates_agree() {
    let spec = || Spec { affinity: Affinity::Source, ..farm("a", &["x", "y", "z"]) };
    let (one, two) = (run(&Farms::new(), spec()), run(&Farms::new(), spec()));
    let none = HeaderMap::new();
    let sources: Vec<IpAddr> = (1..=60).map(|n| IpAddr::from([192, 0, 2, n])).collect();
    let mut homes = HashMap::new();
    for source in &sources {
        let key = key(&one, *source, "h", b"/", &none);
        let server = by_key(&one, key);
        assert_eq!(by_key(&two, key).name(), server.name());
        assert!(one.affinity(*source, &none).is_none());
        assert_eq!(one.keep(*source, &server, true), None, "no cookie");
        homes.insert(*source, server);
    }
    // Its server goes and comes back: who moved away meanwhile does not move again.
    down(&one.servers()[0]);
    let lost: Vec<_> =
        sources.iter().filter(|s| homes[s].name() == one.servers()[0].name()).collect();
    assert!(lost.len() > 5, "{}", lost.len());
    for source in &sources {
        assert_eq!(one.affinity(*source, &none).is_none(), lost.contains(&source));
    }
    let refuge = by_key(&one, key(&one, *lost[0], "h", b"/", &none));
    one.keep(*lost[0], &refuge, true);
    up(&one.servers()[0]);
    assert_eq!(one.affinity(*lost[0], &none).unwrap().server.id(), refuge.id());
}

#[tokio::test]
async fn a_cookie_leads_back_also_to_a_server_that_takes_no_new_clients() {
    let farms = Farms::new();
    let cookie = |weight| {
        let mut spec = Spec { affinity: Affinity::Cookie("id".into()), ..farm("a", &["x", "y"]) };
        spec.servers[0].weight = weight;
        spec
    };
    let source = IpAddr::from([192, 0, 2, 1]);
    let running = run(&farms, cookie(100));
    let line = running.keep(source, &running.servers()[0], true).unwrap().clone();
    let mut headers = HeaderMap::new();
    let pair = line.to_str().unwrap().split(';').next().unwrap().to_owned();
    headers.insert(header::COOKIE, pair.parse().unwrap());
    let home = running.affinity(source, &headers).unwrap();
    assert_eq!((&**home.server.name(), home.told), ("x", true));
    assert!(running.affinity(source, &HeaderMap::new()).is_none());

    let running = run(&farms, cookie(0));
    assert_eq!(tally(&running, 10), HashMap::from([("y".into(), 10)]));
    let home = running.affinity(source, &headers).unwrap();
    let wish = Wish { key: 0, home: Some(&home.server), pinned: false, tried: &Tried::default() };
    assert!(
        matches!(running.choose(&wish), Choice::Place(place) if place.server().id() == home.server.id())
    );

    // Another certificate: understood, and told anew. Down: somewhere else.
    let renewed =
        Site { affinity_key: crate::site::AffinityKey([8; 32]), ..site(vec![cookie(100)]) };
    let running = farms.apply(&renewed).remove(0);
    assert!(!running.affinity(source, &headers).unwrap().told);
    down(&running.servers()[0]);
    assert!(running.affinity(source, &headers).is_none());
}

/// A browser may send ARR's cookie of another path or domain beside ours, and in front of it.
#[tokio::test]
async fn of_several_cookies_the_one_that_holds_counts() {
    let spec = Spec { affinity: Affinity::Cookie("ARRAffinity".into()), ..farm("a", &["x", "y"]) };
    let running = run(&Farms::new(), spec);
    let source = IpAddr::from([192, 0, 2, 1]);
    let ours = running.keep(source, &running.servers()[1], true).unwrap().clone();
    let ours = ours.to_str().unwrap().split(';').next().unwrap();
    // printf x | iconv -t UTF-16LE | sha256sum
    let arr = "14f825b2bbc32dd8d196367fa8776873069c12a8954d8da7513aa7704ddd09eb";
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, format!("ARRAffinity={arr}; {ours}").parse().unwrap());
    let home = running.affinity(source, &headers).unwrap();
    assert_eq!((&**home.server.name(), home.told), ("y", true));
    headers.insert(header::COOKIE, format!("ARRAffinity={arr}").parse().unwrap());
    let home = running.affinity(source, &headers).unwrap();
    assert_eq!((&**home.server.name(), home.told), ("x", false));
}

#[tokio::test]
async fn a_server_with_a_name_and_one_with_an_address_have_cookies() {
    let mut spec = Spec { affinity: Affinity::Cookie("id".into()), ..farm("a", &[]) };
    spec.servers = vec![at("10.0.0.1", [10, 0, 0, 1].into()), named("fe02.contoso.local")];
    let running = run(&Farms::new(), spec);
    let source = IpAddr::from([192, 0, 2, 1]);
    let lines: Vec<_> =
        running.servers().iter().map(|s| running.keep(source, s, false).unwrap()).collect();
    assert_ne!(lines[0], lines[1]);
}
