//! How long clients wait when the shared address moves: real keepalived with the repository's
//! configuration, real Frontgates, network namespaces. `make failover-test`, as root.

#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod gateway;
mod network;
#[path = "../black_box/support/mod.rs"]
mod support;
mod watch;

use std::{net::SocketAddr, time::Duration};

use self::{
    gateway::{Gateways, PORT},
    network::{CLIENT, Network, SHARED},
    support::{
        SOON,
        backend::{Backend, always},
        until,
    },
    watch::{Seen, Watch},
};

/// What happens to the gateway that has the address.
type Case = (&'static str, Duration, fn(&Network, &mut Gateways<'_>, usize));

/// With the longest gap that is good enough.
const CASES: [Case; 5] = [
    ("keepalived stopped", Duration::from_millis(140), |_, gateways, holder| {
        gateways.stop_keepalived(holder);
    }),
    ("Frontgate stopped", Duration::from_millis(140), |_, gateways, holder| {
        gateways.stop_frontgate(holder);
    }),
    ("machine crashed", Duration::from_millis(690), |_, gateways, holder| gateways.crash(holder)),
    ("Frontgate killed", Duration::from_millis(1190), |_, gateways, holder| {
        gateways.kill_frontgate(holder);
    }),
    ("link lost", Duration::from_millis(680), |network, _, holder| network.link(holder, false)),
];

#[test]
fn the_address_moves_in_time() {
    let rounds = std::env::var("ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let network = Network::new();
    network.enter();
    let server = Backend::listen(&CLIENT.to_string(), None, always("ok"));
    let mut gateways = Gateways::start(&network, server.port());
    let mut table =
        vec!["| what happens | median | longest | kept connections that broke |".to_owned()];
    table.push("|---|---|---|---|".to_owned());
    let mut late = Vec::new();
    for (what, bound, happen) in CASES {
        let mut seen: Vec<Seen> =
            (0..rounds).map(|_| round(&network, &mut gateways, what, happen)).collect();
        seen.sort_by_key(|seen| seen.gap);
        let (median, longest) = (seen[seen.len() / 2].gap, seen[seen.len() - 1].gap);
        let broken: usize = seen.iter().map(|seen| seen.broken).sum();
        table.push(format!(
            "| {what} | {:.2} s | {:.2} s | {:.1} of 8 |",
            median.as_secs_f64(),
            longest.as_secs_f64(),
            broken as f64 / seen.len() as f64,
        ));
        if median > bound {
            late.push(format!("{what}: {median:?} is more than {bound:?}"));
        }
    }
    println!("{}", table.join("\n"));
    assert!(late.is_empty(), "{late:?}");
}

/// One move of the address under load.
fn round(
    network: &Network,
    gateways: &mut Gateways<'_>,
    what: &str,
    happen: fn(&Network, &mut Gateways<'_>, usize),
) -> Seen {
    let holder = gateways.mend();
    let watch = Watch::start(SocketAddr::from((SHARED, PORT)));
    until("answers", SOON, || (watch.answers() > 100).then_some(()));
    happen(network, gateways, holder);
    until("the other gateway", SOON, || (gateways.holder() == Some(1 - holder)).then_some(()));
    let before = watch.answers();
    until("answers again", SOON, || (watch.answers() > before + 100).then_some(()));
    let seen = watch.finish();
    println!("{what}: {seen:?}");
    assert!(seen.kept > 100, "{seen:?}");
    seen
}
