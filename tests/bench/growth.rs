//! What a request costs as sites grow.

use std::{path::Path, time::Instant};

use super::{
    Options, connections, load,
    peers::{HOST, Kind, Peer, Scale, Server},
    report::{Report, median},
};

/// Processor time of a request of Frontgate at more hosts, servers and workers; start-up.
pub fn measure(options: &Options, dir: &Path, server: &Server, report: &mut Report) {
    if options.wants("start") {
        let begun = Instant::now();
        drop(Peer::start(Kind::Frontgate, dir, server, Scale::ONE));
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        report.own.push(("start", "start until it accepts".into(), took, "ms"));
    }
    if options.wants("route") {
        lookups(report);
    }
    if !options.wants("growth") {
        return;
    }
    let scales = [
        ("growth_hosts_1", "1 published host", Scale::ONE),
        ("growth_hosts_1000", "1,000 published hosts", Scale { hosts: 1000, ..Scale::ONE }),
        ("growth_hosts_100000", "100,000 published hosts", Scale { hosts: 100_000, ..Scale::ONE }),
        ("growth_servers_2", "2 servers", Scale { servers: 2, ..Scale::ONE }),
        ("growth_workers_2", "two workers", Scale { workers: 2, ..Scale::ONE }),
    ];
    for (key, name, scale) in scales {
        let peer = Peer::start(Kind::Frontgate, dir, server, scale);
        let costs: Vec<_> = (0..options.rounds)
            .map(|_| load::request(&peer, HOST, false, options.seconds))
            .collect();
        eprintln!("{key}: {:.1} µs/request", median(&costs));
        report.own.push((key, format!("a request with {name}"), median(&costs), "µs"));
    }
    for (key, name, count) in
        [("growth_polls_1000", "1,000 of them", 1000), ("growth_polls_5000", "5,000 of them", 5000)]
    {
        let peer = Peer::start(Kind::Frontgate, dir, server, Scale::ONE);
        let each = connections::polls(&peer, server, count);
        report.own.push((key, format!("memory a held poll, {name}"), each, "KiB"));
    }
}

/// Nanoseconds to find a rule, as `cargo bench --bench paths -- time` has measured.
fn lookups(report: &mut Report) {
    let file = std::env::var_os("PATHS").expect("PATHS is not set: run `make bench`");
    let times = std::fs::read_to_string(file).unwrap();
    let times: serde_json::Value = serde_json::from_str(&times).unwrap();
    for (key, hosts) in [("route_10", "10"), ("route_1000", "1,000"), ("route_100000", "100,000")] {
        let what = format!("to find the rule among {hosts} published hosts");
        report.own.push((key, what, times[key].as_f64().unwrap(), "ns"));
    }
}
