//! Each way of balancing over real sockets; limits and the queue before them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    SOON,
    backend::{Backend, always, field, read_head, reply},
    client::Client,
    frontgate::Frontgate,
    servers_of, until,
};

const NAMES: [&str; 4] = ["fe01", "fe02", "fe03", "fe04"];

/// Four servers that answer with their names.
fn four() -> Vec<Backend> {
    NAMES.iter().map(|name| Backend::plain(always(name))).collect()
}

fn config(backends: &[Backend], more: &str) -> String {
    let servers: Vec<_> = NAMES.iter().zip(backends).map(|(n, b)| (*n, b.port())).collect();
    farm(&servers_of(&servers), more)
}

fn farm(servers: &str, more: &str) -> String {
    format!(
        "farms:\n  a:\n    servers: [{servers}]\n    bridge: http\n{more}\
         publish:\n  - {{ host: \"*.contoso.com\", farm: a, schemes: [http] }}\n"
    )
}

fn request(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: meet.contoso.com\r\n{more}\r\n")
}

/// Where each of 200 keys leads, the second time like the first.
fn by_key(client: &mut Client, ask: impl Fn(usize) -> String) -> Vec<String> {
    let first: Vec<_> = (0..200).map(|key| client.ask(ask(key)).text()).collect();
    let second: Vec<_> = (0..200).map(|key| client.ask(ask(key)).text()).collect();
    assert_eq!(first, second);
    first
}

fn tally(picks: &[String]) -> HashMap<&str, usize> {
    let mut tally = HashMap::new();
    picks.iter().for_each(|pick| *tally.entry(pick.as_str()).or_default() += 1);
    tally
}

#[test]
fn hashes_keep_a_key_at_its_server() {
    let backends = four();
    type Ask = fn(usize) -> String;
    let cases: [(&str, Ask); 4] = [
        ("url", |key| request(&format!("/x?{key}"), "")),
        ("\"header:X-Key\"", |key| request("/x", &format!("X-Key: {key}\r\n"))),
        ("\"query:id\"", |key| request(&format!("/{key}?a=b&id={}", key % 50), "")),
        ("host", |key| format!("GET / HTTP/1.1\r\nHost: H{key}.contoso.com\r\n\r\n")),
    ];
    for (hash, ask) in cases {
        let frontgate =
            Frontgate::start(&config(&backends, &format!("    balance: {{ hash: {hash} }}\n")));
        let mut client = frontgate.plain();
        let picks = by_key(&mut client, ask);
        let counts = tally(&picks);
        assert!(counts.len() == 4 && counts.values().all(|n| *n > 15), "{hash}: {counts:?}");
        if hash == "\"query:id\"" {
            // The rest of the URL does not matter.
            assert!((0..150).all(|key| picks[key] == picks[key + 50]));
        }
        if hash == "\"header:X-Key\"" {
            let without: Vec<_> = (0..100).map(|_| client.ask(request("/", "")).text()).collect();
            assert_eq!(tally(&without).len(), 4, "spread at random without the header");
        }
    }
}

#[test]
fn a_source_keeps_its_server_and_one_that_goes_moves_only_its_own() {
    let backends = four();
    let text = config(&backends, "    balance: { hash: source }\n");
    let frontgate = Frontgate::start(&text);
    let address = frontgate.address("plain");
    let ask = |n: usize| {
        Client::plain_from(&format!("127.0.1.{n}"), address).ask(request("/", "")).text()
    };
    let before: Vec<_> = (1..=80).map(ask).collect();
    assert_eq!((1..=80).map(ask).collect::<Vec<_>>(), before);
    // Without one of the four about a quarter moves: those that were there.
    let seen = frontgate.log_count(" reloaded (");
    let servers: Vec<_> =
        NAMES.iter().zip(&backends).take(3).map(|(n, b)| (*n, b.port())).collect();
    let rest = farm(&servers_of(&servers), "    balance: { hash: source }\n");
    frontgate.rewrite(&format!("{}{rest}", crate::support::frontgate::LISTENERS));
    until("reload", SOON, || (frontgate.log_count(" reloaded (") > seen).then_some(()));
    let after: Vec<_> = (1..=80).map(ask).collect();
    let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
    assert!(moved.iter().all(|(from, _)| *from == "fe04"));
    assert!((8..=35).contains(&moved.len()), "{}", moved.len());
}

#[test]
fn least_requests_goes_where_the_fewest_run() {
    let (gate, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let arrived = Arc::new(AtomicUsize::new(0));
    let counter = arrived.clone();
    let slow = Backend::plain(move |wire, _| {
        while let Some(head) = read_head(wire) {
            counter.fetch_add(1, Ordering::SeqCst);
            if head.starts_with("GET /hold ") {
                let _ = held.lock().unwrap().recv();
            }
            reply(wire, "slow").unwrap();
        }
    });
    let quick = Backend::plain(always("quick"));
    let servers = servers_of(&[("fe01", slow.port()), ("fe02", quick.port())]);
    let frontgate = Frontgate::start(&farm(&servers, "    balance: least_requests\n"));
    // Hold one at the slow server, by asking until one is there.
    let mut holding = Vec::new();
    until("a held request", SOON, || {
        let mut client = frontgate.plain();
        client.send(request("/hold", ""));
        client.patience(Duration::from_millis(200));
        holding.push(client);
        (arrived.load(Ordering::SeqCst) > 0).then_some(())
    });
    let mut client = frontgate.plain();
    // An answer is read a moment before its request is over, so now and then both have one.
    let picks: Vec<_> = (0..100).map(|_| client.ask(request("/x", "")).text()).collect();
    assert!(tally(&picks)["quick"] > 80, "{:?}", tally(&picks));
    drop(gate);
}

/// Answers after this time.
fn taking(time: Duration, name: &'static str) -> Backend {
    Backend::plain(move |wire, _| {
        while read_head(wire).is_some() {
            std::thread::sleep(time);
            if reply(wire, name).is_err() {
                return;
            }
        }
    })
}

#[test]
fn least_response_time_prefers_the_faster_server() {
    let (slow, fast) = (taking(Duration::from_millis(60), "slow"), taking(Duration::ZERO, "fast"));
    let servers = servers_of(&[("fe01", slow.port()), ("fe02", fast.port())]);
    let frontgate = Frontgate::start(&farm(&servers, "    balance: least_response_time\n"));
    let mut client = frontgate.plain();
    let picks: Vec<_> = (0..100).map(|_| client.ask(request("/x", "")).text()).collect();
    let counts = tally(&picks);
    assert!(counts["fast"] >= 90 && counts["slow"] >= 1, "{counts:?}");
}

#[test]
fn weighted_traffic_shares_bytes() {
    let sent = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let backends = sent.clone().map(|sent| {
        Backend::plain(move |wire, _| {
            while let Some(head) = read_head(wire) {
                let size: usize = field(&head, "x-size").unwrap().parse().unwrap();
                sent.fetch_add(size as u64, Ordering::SeqCst);
                if reply(wire, &"x".repeat(size)).is_err() {
                    return;
                }
            }
        })
    });
    let servers = servers_of(&[("fe01", backends[0].port()), ("fe02", backends[1].port())])
        .replace("fe02,", "fe02, weight: 300,");
    let frontgate = Frontgate::start(&farm(&servers, "    balance: weighted_traffic\n"));
    let mut client = frontgate.plain();
    for n in 0..300usize {
        let size = if n % 10 == 0 { 50_000 } else { 100 + n };
        assert_eq!(client.ask(request("/x", &format!("X-Size: {size}\r\n"))).body.len(), size);
    }
    let [one, three] = sent.map(|sent| sent.load(Ordering::SeqCst) as f64);
    assert!((three / one - 3.0).abs() < 0.5, "{one} {three}");
}

#[test]
fn a_backup_serves_only_when_no_other_can() {
    let (main, spare) = (Backend::plain(always("main")), Backend::plain(always("spare")));
    let servers = servers_of(&[("fe01", main.port()), ("fe02", spare.port())])
        .replace("fe02,", "fe02, backup: true,");
    let frontgate = Frontgate::start(&farm(&servers, ""));
    let mut client = frontgate.plain();
    for _ in 0..10 {
        assert_eq!(client.ask(request("/x", "")).text(), "main");
    }
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let servers = servers_of(&[("fe01", dead), ("fe02", spare.port())])
        .replace("fe02,", "fe02, backup: true,");
    let frontgate = Frontgate::start(&farm(&servers, ""));
    assert_eq!(frontgate.plain().ask(request("/x", "")).text(), "spare");
}

/// A server that answers each request when told to, and says how many it has.
struct Gated {
    backend: Backend,
    go: std::sync::mpsc::Sender<()>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Gated {
    fn start() -> Self {
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = std::sync::Mutex::new(gate);
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (now, peak) = (running.clone(), most.clone());
        let backend = Backend::plain(move |wire, _| {
            while let Some(head) = read_head(wire) {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let _ = gate.lock().unwrap().recv();
                now.fetch_sub(1, Ordering::SeqCst);
                if reply(wire, head.split(' ').nth(1).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { backend, go, running, most }
    }

    /// Takes one request at a time, behind a Frontgate with this queue.
    fn behind(queue: &str) -> (Self, Frontgate) {
        let gated = Self::start();
        let servers = servers_of(&[("fe01", gated.backend.port())])
            .replace("fe01,", "fe01, max_requests: 1,");
        let frontgate = Frontgate::start(&farm(&servers, &format!("    queue: {{ {queue} }}\n")));
        (gated, frontgate)
    }

    fn arrived(&self, count: usize) {
        until("arrival", SOON, || (self.running.load(Ordering::SeqCst) == count).then_some(()));
    }
}

/// A request that waits for its answer.
fn sent(frontgate: &Frontgate, target: &str) -> Client {
    let mut client = frontgate.plain();
    client.send(request(target, ""));
    client
}

#[test]
fn requests_wait_in_turn_and_are_refused_with_a_reason() {
    let (gated, frontgate) = Gated::behind("size: 2, wait: 10s");
    let send = |target: &str| sent(&frontgate, target);
    let mut first = send("/1");
    gated.arrived(1);
    // One after the other, so that there is an order to keep.
    let mut waiting = Vec::new();
    for target in ["/2", "/3"] {
        waiting.push(send(target));
        std::thread::sleep(Duration::from_millis(150)); // nothing tells from outside that it waits
    }
    let begun = Instant::now();
    let refused = frontgate.plain().ask(request("/4", ""));
    assert_eq!((refused.status, refused.reason().as_str()), (503, "queue_full"));
    assert!(begun.elapsed() < Duration::from_secs(2));
    for (client, target) in std::iter::once(&mut first).chain(&mut waiting).zip(["/1", "/2", "/3"])
    {
        gated.go.send(()).unwrap();
        assert_eq!(client.answer(false).text(), target);
    }
    assert_eq!(gated.most.load(Ordering::SeqCst), 1, "never more than one at a time");
    let line = frontgate.access_line("queue_full", |l| l["reason"] == "queue_full");
    assert_eq!((line["farm"].as_str(), line["server"].as_str()), (Some("a"), None));
}

/// It neither keeps its place in the line nor reaches the server.
#[test]
fn a_client_that_leaves_while_it_waits_gives_its_turn_away() {
    let (gated, frontgate) = Gated::behind("size: 1, wait: 30s");
    let send = |target: &str| sent(&frontgate, target);
    let mut first = send("/1");
    gated.arrived(1);
    drop(send("/left"));
    let line = frontgate.access_line("499", |l| l["path"] == "/left");
    assert_eq!(
        (line["status"].as_u64(), line["reason"].as_str()),
        (Some(499), Some("client_left"))
    );
    let mut next = send("/2");
    for (client, target) in [(&mut first, "/1"), (&mut next, "/2")] {
        gated.go.send(()).unwrap();
        assert_eq!(client.answer(false).text(), target);
    }
    assert_eq!(frontgate.access().iter().filter(|l| l["status"] == 503).count(), 0);
}

#[test]
fn waiting_has_an_end() {
    let (gated, frontgate) = Gated::behind("size: 5, wait: 1s");
    let mut first = sent(&frontgate, "/1");
    gated.arrived(1);
    let begun = Instant::now();
    let late = frontgate.plain().ask(request("/2", ""));
    assert_eq!((late.status, late.reason().as_str()), (503, "queue_timeout"));
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&begun.elapsed()));
    gated.go.send(()).unwrap();
    assert_eq!(first.answer(false).text(), "/1");
    // The place is free again.
    first.send(request("/3", ""));
    gated.go.send(()).unwrap();
    assert_eq!(first.answer(false).text(), "/3");
}

/// Comes back after probes had it out: gets a twentieth first.
#[test]
fn a_server_that_comes_back_starts_slowly() {
    let healthy = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let told = healthy.clone();
    let one = Backend::plain(move |wire, _| {
        while let Some(head) = read_head(wire) {
            let fine = told.load(Ordering::SeqCst) || !head.starts_with("GET /probe ");
            if reply(wire, if fine { "one fine" } else { "no" }).is_err() {
                return;
            }
        }
    });
    let two = Backend::plain(always("two fine"));
    let servers = servers_of(&[("fe01", one.port()), ("fe02", two.port())]);
    let frontgate = Frontgate::start(&farm(
        &servers,
        "    slow_start: 1h\n    probe: { path: /probe, body: fine, interval: 200ms, timeout: 1s, rise: 1, fall: 1 }\n",
    ));
    let mut client = frontgate.plain();
    let mut share = || {
        let picks: Vec<_> = (0..200).map(|_| client.ask(request("/x", "")).text()).collect();
        picks.iter().filter(|pick| *pick == "one fine").count()
    };
    assert_eq!(share(), 100);
    healthy.store(false, Ordering::SeqCst);
    frontgate.log_line("server fe01 is down");
    assert_eq!(share(), 0);
    healthy.store(true, Ordering::SeqCst);
    frontgate.log_line("server fe01 is up again");
    let cold = share();
    assert!((1..=25).contains(&cold), "{cold} of 200");
}
