//! What answers cost at ten thousand hosts and a thousand servers.

use std::{fmt::Write as _, time::Instant};

use super::*;
use crate::{
    config,
    events::Events,
    farm::Farms,
    forward::{Current, Live},
    listen::Certificates as ByName,
    observe::{self, metrics::Metrics},
    route::Table,
    store::Store,
};

/// A hundred farms of ten servers, and so many hosts, every hundredth with conditions.
fn text(hosts: usize) -> String {
    let mut text = String::from(
        "listeners: [{ name: plain, address: \"127.0.0.1:80\" }]\naccess_log: { path: access.log }\n\
         farms:\n",
    );
    for farm in 0..100 {
        let list: Vec<_> = (0..10)
            .map(|n| format!("{{ name: server{farm:02}{n}, address: 127.0.0.1 }}"))
            .collect();
        writeln!(text, "  farm{farm}: {{ bridge: http, servers: [{}] }}", list.join(", ")).unwrap();
    }
    text += "publish:\n";
    for n in 0..hosts {
        let when = if n % 100 == 0 { ", when: [{ method: GET }]" } else { "" };
        writeln!(
            text,
            "  - {{ host: host{n:05}.contoso.com, farm: farm{}, schemes: [http]{when} }}",
            n % 100
        )
        .unwrap();
    }
    text
}

/// A running site, as the admin side sees it. Every server did something for six minutes.
fn context(dir: &std::path::Path, text: &str) -> Context {
    let path = dir.join("frontgate.yaml");
    std::fs::write(&path, text).unwrap();
    let outcome = config::load(&path);
    let site = outcome.site.unwrap_or_else(|| panic!("{:?}", outcome.findings));
    let (farms, metrics) = (Arc::new(Farms::new()), Arc::new(Metrics::default()));
    let live = Live {
        table: Table::new(&site),
        farms: farms.apply(&site),
        certificates: ByName::new(&site),
        pins: Arc::default(),
        settings: Vec::new(),
        routes: metrics.traffic.follow(&site),
        site: site.clone(),
    };
    let running = live.farms.clone();
    let log = observe::AccessLog::open(&site.access_log).unwrap();
    let (store, _) = Store::open(&dir.join("state"));
    let context = Context::new(Arc::default(), farms, store.into(), Events::default());
    context.show(&Arc::new(Current::new(live, log, metrics)));
    for _ in 0..40 {
        for server in running.iter().flat_map(|farm| farm.servers()) {
            let place = server.begin().unwrap();
            place.fail();
        }
        context.tick();
    }
    context
}

/// `cargo test --config profile.dev.package.frontgate.opt-level=3 --lib -- --ignored --nocapture
/// what_answers_cost`
#[tokio::test]
#[ignore = "a measurement, of optimised code"]
async fn what_answers_cost() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path(), &text(10_000));
    let measure = |what: &str, work: &dyn Fn() -> Answer| {
        let mut bytes = 0;
        let mut times: Vec<_> = (0..21)
            .map(|_| {
                let begun = Instant::now();
                let answer = work();
                let took = begun.elapsed();
                assert_eq!(answer.status(), StatusCode::OK, "{what}");
                bytes = answer.body().len();
                took
            })
            .collect();
        times.sort();
        println!("{what:<42} {:>8} kB  {:>8.2?}", bytes / 1000, times[10]);
        assert!(times[10].as_millis() < 50, "{what}: {:?}", times[10]);
    };
    for query in ["", "part=rest", "names=host0999", "url=http%3A%2F%2Fhost09990.contoso.com%2F"] {
        measure(&format!("/?{query}"), &|| crate::admin::page::written(&context, query.as_bytes()));
    }
    let explain = "url=http%3A%2F%2Fhost09990.contoso.com%2F";
    for (page, query) in [
        (Page::Site, None),
        (Page::Servers, None),
        (Page::Farms, None),
        (Page::Pins, None),
        (Page::Events, None),
        (Page::Certificates, None),
        (Page::Explain, Some(explain)),
    ] {
        let work = || written(&context, page, query).unwrap_or_else(Problem::answer);
        measure(&format!("/api/v1: {page:?}"), &work);
    }
}
