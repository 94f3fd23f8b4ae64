//! How long answers take at a rate that nobody is saturated by.

use std::path::Path;

use super::{
    Options, load,
    peers::{HOST, HOST_H2, Kind, Peer, Scale, Server},
    report::Row,
};

type Names = [(&'static str, &'static str); 3];

/// Key, whether HTTP/2, and key and name of each percentile.
pub const KINDS: [(&str, bool, Names); 2] = [
    (
        "latency_h1",
        false,
        [
            ("latency_h1_p50", "latency at 1,000 requests/s, HTTP/1.1, median"),
            ("latency_h1_p99", "latency at 1,000 requests/s, HTTP/1.1, 99 %"),
            ("latency_h1_p999", "latency at 1,000 requests/s, HTTP/1.1, 99.9 %"),
        ],
    ),
    (
        "latency_h2",
        true,
        [
            ("latency_h2_p50", "latency at 1,000 requests/s, HTTP/2, median"),
            ("latency_h2_p99", "latency at 1,000 requests/s, HTTP/2, 99 %"),
            ("latency_h2_p999", "latency at 1,000 requests/s, HTTP/2, 99.9 %"),
        ],
    ),
];

/// Far below what each of them can do with one worker on one half of a slow machine.
const RATE: u32 = 1000;

/// Three rows: the percentiles of the same runs.
pub fn measure(
    options: &Options,
    dir: &Path,
    server: &Server,
    http2: bool,
    names: Names,
) -> Vec<Row> {
    let peers = Kind::ALL.map(|kind| (kind, Peer::start(kind, dir, server, Scale::ONE)));
    let host = if http2 { HOST_H2 } else { HOST };
    let mut rows = names.map(|(key, work)| Row::new(key, work, "ms"));
    for round in 0..options.rounds {
        for (kind, peer) in &peers {
            let found = load::open(peer.rsa, host, http2, RATE, options.seconds);
            eprintln!("{} round {round}: {} {found:.2?} ms", names[0].0, kind.name());
            for (row, figure) in rows.iter_mut().zip(found) {
                row.add(*kind, figure);
            }
        }
    }
    rows.into()
}
