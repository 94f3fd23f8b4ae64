//! What live traffic does to a farm.

use std::{sync::Arc, time::Duration};

use super::{super::*, site, until};
use crate::{
    farm::testing::{farm, passive},
    site::{Farm as Spec, Passive},
};

fn run(servers: usize, policy: Passive) -> (Farms, Arc<Farm>) {
    let names: Vec<String> = (0..servers).map(|n| format!("fe{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let farms = Farms::new();
    let running = farms.apply(&site(vec![Spec { passive: policy, ..farm("a", &names) }])).remove(0);
    (farms, running)
}

fn chosen(farm: &Farm) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..64 {
        let tried = Tried::default();
        let wish = Wish::anyone(farm.random_key(), &tried);
        if let Choice::Place(place) = farm.choose(&wish) {
            let name = place.server().name().to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names.sort();
    names
}

#[tokio::test]
async fn at_most_half_of_a_farm_is_put_out() {
    let (_farms, running) = run(5, passive());
    for server in running.servers() {
        for _ in 0..20 {
            running.failed(server, Failure::Connect);
        }
    }
    assert_eq!(chosen(&running), ["fe2", "fe3", "fe4"]);
    assert_eq!(running.servers()[0].status().standing, Standing::Out);
    // The last resort: what probes do not speak against.
    for server in &running.servers()[2..] {
        server.resolved(Err("name does not resolve".into()));
    }
    assert_eq!(chosen(&running), ["fe0", "fe1"]);
}

#[tokio::test]
async fn the_last_servers_stay_in() {
    let (_farms, running) = run(4, Passive { max_ejected: 100, min_servers: 3, ..passive() });
    for server in running.servers() {
        (0..20).for_each(|_| running.failed(server, Failure::Reset));
    }
    assert_eq!(chosen(&running), ["fe1", "fe2", "fe3"]);
    let (_farms, single) = run(1, passive());
    (0..20).for_each(|_| single.failed(&single.servers()[0], Failure::Connect));
    assert_eq!(chosen(&single), ["fe0"]);
}

#[tokio::test]
async fn soap_faults_and_sign_ins_put_nobody_out_by_default() {
    let (_farms, running) = run(4, passive());
    for status in [500, 503, 401, 403, 404] {
        (0..50).for_each(|_| running.answered(&running.servers()[0], status));
    }
    assert_eq!(chosen(&running).len(), 4);
}

/// Front Ends under overload answer 503, all of them: the farm goes on, and those that are out
/// keep the clients they have.
#[tokio::test]
async fn a_flood_of_503_drains_half_and_no_more() {
    let (_farms, running) = run(4, Passive { status: vec![(503, 503)], failures: 3, ..passive() });
    for _ in 0..10 {
        running.servers().iter().for_each(|server| running.answered(server, 503));
    }
    assert_eq!(chosen(&running), ["fe2", "fe3"]);
    let out = &running.servers()[0];
    assert_eq!(out.standing(), Standing::Gently);
    let wish = Wish { key: 0, home: Some(out), pinned: false, tried: &Tried::default() };
    assert!(
        matches!(running.choose(&wish), Choice::Place(place) if place.server().id() == out.id())
    );
}

#[tokio::test]
async fn it_is_tried_again_and_one_good_answer_brings_it_back() {
    let policy = Passive { failures: 2, retry_after: Duration::from_millis(1), ..passive() };
    let (_farms, running) = run(2, policy);
    let server = &running.servers()[0];
    (0..2).for_each(|_| running.failed(server, Failure::Tls));
    assert_eq!((server.standing(), chosen(&running)), (Standing::Out, vec!["fe1".to_owned()]));
    until("probation", || server.standing() == Standing::Probation).await;
    assert_eq!(chosen(&running).len(), 2);
    running.failed(server, Failure::Tls);
    assert_eq!(server.standing(), Standing::Out);
    until("probation again", || server.standing() == Standing::Probation).await;
    running.answered(server, 401);
    assert_eq!(server.standing(), Standing::Fine);
}

/// A hundred threads report failures of every server at once.
#[tokio::test]
async fn however_many_fail_at_once_the_limit_holds() {
    let (_farms, running) = run(8, Passive { failures: 1, ..passive() });
    std::thread::scope(|scope| {
        for n in 0..100usize {
            let running = &running;
            scope.spawn(move || {
                for m in 0..8 {
                    running.failed(&running.servers()[(n + m) % 8], Failure::Connect);
                }
            });
        }
    });
    let out = running.servers().iter().filter(|s| s.standing() == Standing::Out).count();
    assert_eq!(out, 4);
}

#[tokio::test]
async fn ready_brings_an_ejected_server_back_also_if_it_was_ready() {
    let (farms, running) = run(2, passive());
    let server = &running.servers()[0];
    (0..10).for_each(|_| running.failed(server, Failure::Connect));
    let status = server.status();
    assert_eq!(status.standing, Standing::Out);
    let (why, left) = status.ejected.unwrap();
    assert_eq!(&*why, "failures in live traffic: 10, the last one: connect");
    assert!(left > Duration::from_secs(20) && left <= Duration::from_secs(30));
    let order = Order {
        state: State::Ready,
        who: "jo".into(),
        why: None,
        since: std::time::SystemTime::now(),
    };
    farms.command("fe0", &order).unwrap();
    assert_eq!((server.standing(), server.status().ejected), (Standing::Fine, None));
}
