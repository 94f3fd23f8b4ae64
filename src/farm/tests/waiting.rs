//! Limits of requests and the queue before them.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use super::{super::*, site, until};
use crate::{
    farm::testing::farm,
    site::{Farm as Spec, Queue},
};

/// A farm whose servers take one request each.
fn narrow(servers: &[&str], size: usize, wait: Duration) -> Spec {
    let mut spec = Spec { queue: Queue { size, wait }, ..farm("a", servers) };
    spec.servers.iter_mut().for_each(|server| server.max_requests = 1);
    spec
}

const LONG: Duration = Duration::from_secs(30);

fn run(farms: &Farms, spec: Spec) -> Arc<Farm> {
    farms.apply(&site(vec![spec])).remove(0)
}

/// With a home it is a pin.
async fn ask(farm: &Farm, home: Option<&Arc<Server>>) -> Result<InFlight, Refused> {
    farm.place(&Wish {
        key: farm.random_key(),
        home,
        pinned: home.is_some(),
        tried: &Tried::default(),
    })
    .await
}

/// A request that begins to wait before this returns.
async fn queued(
    farm: &Arc<Farm>,
    home: Option<Arc<Server>>,
) -> JoinHandle<Result<InFlight, Refused>> {
    let before = farm.waiting();
    let asking = farm.clone();
    let task = tokio::spawn(async move { ask(&asking, home.as_ref()).await });
    until("waiting", || farm.waiting() > before).await;
    task
}

#[tokio::test]
async fn a_limit_holds_and_without_a_queue_the_rest_is_refused() {
    let running = run(&Farms::new(), narrow(&["x", "y"], 0, LONG));
    let (one, two) = (ask(&running, None).await.unwrap(), ask(&running, None).await.unwrap());
    assert_ne!(one.server().id(), two.server().id());
    assert_eq!(ask(&running, None).await.unwrap_err(), Refused::QueueFull);
    drop(one);
    assert!(ask(&running, None).await.is_ok());
}

#[tokio::test]
async fn waiting_requests_are_served_in_turn() {
    let running = run(&Farms::new(), narrow(&["x"], 10, LONG));
    let mut place = ask(&running, None).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(queued(&running, None).await);
    }
    for next in 0..5 {
        assert!(waiting.iter().all(|task| !task.is_finished()));
        drop(place);
        place = waiting.remove(0).await.unwrap().unwrap();
        assert_eq!(running.waiting(), 4 - next);
    }
    assert_eq!(running.servers()[0].in_flight(), 1);
}

#[tokio::test]
async fn a_newcomer_does_not_overtake() {
    let running = run(&Farms::new(), narrow(&["x"], 10, LONG));
    let place = ask(&running, None).await.unwrap();
    let first = queued(&running, None).await;
    let second = queued(&running, None).await;
    drop(place);
    let place = first.await.unwrap().unwrap();
    assert!(!second.is_finished());
    drop(place);
    drop(second.await.unwrap().unwrap());
}

#[tokio::test]
async fn one_that_waits_for_its_own_server_holds_nobody_up() {
    let running = run(&Farms::new(), narrow(&["x", "y"], 10, LONG));
    let (one, two) = (ask(&running, None).await.unwrap(), ask(&running, None).await.unwrap());
    let home = one.server().clone();
    let at_home = queued(&running, Some(home.clone())).await;
    let anywhere = queued(&running, None).await;
    drop(two);
    let elsewhere = anywhere.await.unwrap().unwrap();
    assert_ne!(elsewhere.server().id(), home.id());
    assert!(!at_home.is_finished());
    drop(one);
    assert_eq!(at_home.await.unwrap().unwrap().server().id(), home.id());
}

#[tokio::test]
async fn the_queue_is_bounded_in_length_and_time() {
    let running = run(&Farms::new(), narrow(&["x"], 2, Duration::from_millis(200)));
    let _place = ask(&running, None).await.unwrap();
    let (one, two) = (queued(&running, None).await, queued(&running, None).await);
    assert_eq!(ask(&running, None).await.unwrap_err(), Refused::QueueFull);
    for late in [one, two] {
        assert_eq!(late.await.unwrap().unwrap_err(), Refused::QueueTimeout);
    }
    // Who gave up leaves room.
    let again = tokio::spawn({
        let running = running.clone();
        async move { ask(&running, None).await.map(drop) }
    });
    assert_eq!(again.await.unwrap(), Err(Refused::QueueTimeout));
    assert_eq!(running.servers()[0].in_flight(), 1);
}

#[tokio::test]
async fn a_raised_limit_and_a_server_that_comes_back_let_the_waiting_in() {
    let farms = Farms::new();
    let running = run(&farms, narrow(&["x"], 10, LONG));
    let _place = ask(&running, None).await.unwrap();
    let first = queued(&running, None).await;
    let mut wider = narrow(&["x"], 10, LONG);
    wider.servers[0].max_requests = 2;
    run(&farms, wider.clone());
    let _second = first.await.unwrap().unwrap();

    let running = run(&farms, {
        wider.servers[0].max_requests = 1;
        wider
    });
    let waits = queued(&running, None).await;
    running.servers()[0].resolved(Err("name does not resolve".into()));
    assert_eq!(waits.await.unwrap().unwrap_err(), Refused::NoServer, "nobody is left to wait for");
}

/// Many threads, few places: never more at once than allowed, and everybody gets through.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_pressure_the_limit_is_never_passed_and_nobody_is_forgotten() {
    let running = run(&Farms::new(), narrow(&["x", "y", "z"], 1000, LONG));
    let tasks: Vec<_> = (0..300)
        .map(|_| {
            let running = running.clone();
            tokio::spawn(async move {
                let place = ask(&running, None).await.unwrap();
                assert!(running.servers().iter().all(|server| server.in_flight() <= 1));
                tokio::task::yield_now().await;
                drop(place);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((running.waiting(), running.servers()[0].in_flight()), (0, 0));
}

/// Clients of one server that is full must not shut out those that others have room for.
#[tokio::test]
async fn a_queue_full_of_one_servers_clients_leaves_the_others_open() {
    let mut spec = narrow(&["x", "y"], 3, LONG);
    spec.servers[1].max_requests = 0;
    let running = run(&Farms::new(), spec);
    let home = running.servers()[0].clone();
    let _place = ask(&running, Some(&home)).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(queued(&running, Some(home.clone())).await);
    }
    assert_eq!(ask(&running, Some(&home)).await.unwrap_err(), Refused::QueueFull);
    let mut places = Vec::new();
    for _ in 0..20 {
        places.push(ask(&running, None).await.unwrap());
    }
    assert!(waiting.iter().all(|task| !task.is_finished()));
    waiting.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn who_waits_for_a_server_that_goes_is_served_elsewhere() {
    for pinned in [false, true] {
        let running = run(&Farms::new(), narrow(&["x", "y"], 10, LONG));
        let home = running.servers()[0].clone();
        let _place = ask(&running, Some(&home)).await.unwrap();
        let before = running.waiting();
        let task = tokio::spawn({
            let (running, home) = (running.clone(), home.clone());
            async move {
                let (tried, home) = (Tried::default(), Some(&home));
                running.place(&Wish { key: 0, home, pinned, tried: &tried }).await
            }
        });
        until("waiting", || running.waiting() > before).await;
        let order = Order {
            state: State::Maintenance,
            who: "jo".into(),
            why: None,
            since: std::time::SystemTime::now(),
        };
        home.obey(Some(Arc::new(order)));
        let place = task.await.unwrap().unwrap();
        assert_ne!(place.server().id(), home.id());
    }
}

#[tokio::test]
async fn affinity_yields_where_there_is_no_queue_and_a_pin_does_not() {
    let running = run(&Farms::new(), narrow(&["x", "y"], 0, LONG));
    let home = running.servers()[0].clone();
    let _place = ask(&running, Some(&home)).await.unwrap();
    assert_eq!(ask(&running, Some(&home)).await.unwrap_err(), Refused::QueueFull);
    let tried = Tried::default();
    let wish = Wish { key: 0, home: Some(&home), pinned: false, tried: &tried };
    assert_ne!(running.place(&wish).await.unwrap().server().id(), home.id());
}

/// A cold server is better than a full one; a backup is not there for what full ones leave over.
#[tokio::test]
async fn a_cold_server_takes_what_a_full_one_leaves_and_a_backup_does_not() {
    let mut spec = narrow(&["full", "cold", "spare"], 0, LONG);
    spec.slow_start = Duration::from_secs(3600);
    spec.servers[1].max_requests = 0;
    spec.servers[2].backup = true;
    let running = run(&Farms::new(), spec.clone());
    running.servers()[1].warm_up();
    let _place = ask(&running, Some(&running.servers()[0].clone())).await.unwrap();
    for _ in 0..50 {
        assert_eq!(&**ask(&running, None).await.unwrap().server().name(), "cold");
    }
    running.servers()[1].resolved(Err("name does not resolve".into()));
    for _ in 0..50 {
        assert_eq!(ask(&running, None).await.unwrap_err(), Refused::QueueFull);
    }
}

/// Full and free again all the time: never "no server", never the backup.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_at_its_limit_is_never_taken_for_none() {
    let mut spec = narrow(&["x", "spare"], 0, LONG);
    spec.servers[1].backup = true;
    let running = run(&Farms::new(), spec);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let running = running.clone();
            tokio::spawn(async move {
                for _ in 0..5000 {
                    match ask(&running, None).await {
                        Ok(place) => assert_eq!(&**place.server().name(), "x"),
                        Err(refused) => assert_eq!(refused, Refused::QueueFull),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
