//! What the choice of a server costs, for every algorithm at 2, 16 and 256 servers:
//! `cargo bench --bench balance`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, net::IpAddr};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use frontgate::{
    config,
    farm::{Choice, Farms, Tried, Wish, key},
};
use http::HeaderMap;

const BALANCES: [&str; 5] = [
    "round_robin",
    "least_requests",
    "least_response_time",
    "weighted_traffic",
    "{ hash: source }",
];

fn choices(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    for balance in BALANCES {
        let mut group = c.benchmark_group(balance);
        for servers in [2, 16, 256] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("frontgate.yaml");
            let list: Vec<_> =
                (0..servers).map(|n| format!("{{ name: fe{n}, address: 127.0.0.1 }}")).collect();
            let text = format!(
                "listeners: [{{ address: \"127.0.0.1:80\" }}]\n\
                 farms: {{ a: {{ bridge: http, balance: {balance}, servers: [{}] }} }}\n\
                 publish: [{{ host: a.contoso.com, farm: a, schemes: [http] }}]\n",
                list.join(", ")
            );
            std::fs::write(&path, text).unwrap();
            let site = config::load(&path).site.unwrap();
            let running = Farms::new();
            let farm = running.apply(&site).remove(0);
            let (tried, headers) = (Tried::default(), HeaderMap::new());
            let mut source = 0u32;
            group.bench_function(BenchmarkId::from_parameter(servers), |b| {
                b.iter(|| {
                    source = source.wrapping_add(1);
                    let source = IpAddr::from(source.to_be_bytes());
                    let key = key(&farm, source, "a.contoso.com", b"/", &headers);
                    let choice = farm.choose(&Wish::anyone(key, &tried));
                    assert!(matches!(black_box(choice), Choice::Place(_)));
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, choices);
criterion_main!(benches);
