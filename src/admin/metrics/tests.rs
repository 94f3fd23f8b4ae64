use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Instant,
};

use super::*;
use crate::{
    config,
    events::Undelivered,
    farm::Farms,
    observe::metrics::{Family, Kind, Metrics, families},
    pin::Pins,
    site::Site,
};

/// A site with so many servers, in farms of ten.
fn site(servers: usize) -> Arc<Site> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("frontgate.yaml");
    let (mut farms, mut rules) = (String::new(), String::new());
    for farm in 0..servers.div_ceil(10) {
        let list: Vec<_> = (farm * 10..(farm * 10 + 10).min(servers))
            .map(|n| format!("{{ name: fe{n}, address: 127.0.0.1 }}"))
            .collect();
        farms += &format!("  f{farm}: {{ bridge: http, servers: [{}] }}\n", list.join(", "));
        rules += &format!(
            "  - {{ host: h{farm}.contoso.com, name: 'a \"{farm}\"', farm: f{farm}, schemes: [http] }}\n"
        );
    }
    let text = format!(
        "listeners: [{{ name: plain, address: \"127.0.0.1:80\" }}]\nfarms:\n{farms}\
         publish:\n{rules}"
    );
    std::fs::write(&path, text).unwrap();
    let outcome = config::load(&path);
    outcome.site.unwrap_or_else(|| panic!("{:?}", outcome.findings))
}

struct Estate {
    site: Arc<Site>,
    running: Vec<Arc<crate::farm::Farm>>,
    metrics: Metrics,
    connections: Arc<Connections>,
    pins: Arc<Pins>,
    _farms: Farms,
}

impl Estate {
    fn new(servers: usize) -> Self {
        let site = site(servers);
        let farms = Farms::new();
        let running = farms.apply(&site);
        let metrics = Metrics::default();
        metrics.traffic.follow(&site);
        let (connections, pins) = (Arc::default(), Arc::default());
        Self { site, running, metrics, connections, pins, _farms: farms }
    }

    fn page(&self) -> String {
        page(&Sources {
            site: &self.site,
            farms: &self.running,
            pins: &self.pins,
            metrics: &self.metrics,
            connections: &self.connections,
            log_dropped: 3,
            undelivered: Undelivered { command: 2, webhook: 5 },
            spans: (5, 2),
        })
    }
}

/// One series: its name, its labels in their order, its value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Reads a line of the text format, strictly.
fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value = value.parse().unwrap_or_else(|_| panic!("value of {line}"));
    let Some((name, rest)) = series.split_once('{') else {
        return Sample { name: series.to_owned(), labels: Vec::new(), value };
    };
    let mut labels = Vec::new();
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("no end: {line}"));
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap();
        let mut text = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("open value: {line}")) {
                (_, '\\') => text.push(chars.next().unwrap().1),
                (at, '"') => break at,
                (_, c) => text.push(c),
            }
        };
        labels.push((label.to_owned(), text));
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Sample { name: name.to_owned(), labels, value }
}

/// Takes the page apart and checks that it is what the table of metrics says: every metric once,
/// in its order, with its labels, and no series twice.
fn read(text: &str) -> BTreeMap<&'static str, Vec<Sample>> {
    let mut all: BTreeMap<&'static str, Vec<Sample>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut family: Option<&Family> = None;
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            let found = families::ALL.iter().find(|family| family.name == name);
            let found = found.unwrap_or_else(|| panic!("{name} is not in the table"));
            assert_eq!(help, found.help);
            assert!(all.insert(found.name, Vec::new()).is_none(), "{name} twice");
            family = Some(found);
            continue;
        }
        let family = family.unwrap();
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind, format!("{} {}", family.name, family.kind.word()));
            continue;
        }
        assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "twice: {line}");
        let sample = sample(line);
        let suffix = sample.name.strip_prefix(family.name).unwrap_or_else(|| panic!("{line}"));
        let suffixes: &[&str] = match family.kind {
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(suffixes.contains(&suffix), "{line}");
        let labels = sample.labels.iter().map(|(label, _)| label.as_str());
        let labels: Vec<_> = labels.filter(|label| *label != "le").collect();
        assert_eq!(labels, family.labels, "{line}");
        all.get_mut(family.name).unwrap().push(sample);
    }
    all
}

#[tokio::test]
async fn a_thousand_servers_make_a_page_as_the_table_says() {
    let estate = Estate::new(1000);
    let text = estate.page();
    let all = read(&text);
    let missing: Vec<_> = families::ALL.iter().filter(|f| !all.contains_key(f.name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let sum = |name: &str| all[name].iter().map(|sample| sample.value).sum::<f64>();
    assert_eq!(all["frontgate_server_up"].len(), 1000);
    assert_eq!(sum("frontgate_server_up"), 1000.0);
    assert_eq!(all["frontgate_server_state"].len(), 3000);
    assert_eq!(sum("frontgate_server_state"), 1000.0);
    assert_eq!(sum("frontgate_farm_servers"), 1000.0);
    assert_eq!(sum("frontgate_farm_servers_open"), 1000.0);
    assert_eq!(sum("frontgate_access_log_dropped_lines_total"), 3.0);
    assert_eq!(all["frontgate_request_duration_seconds"].len(), 100 * (18 + 3));
    let route = &all["frontgate_requests_total"].last().unwrap().labels[1];
    assert_eq!(*route, ("route".to_owned(), "a \"99\"".to_owned()));
    // What a page may grow to: Prometheus takes it over the wire every few seconds.
    assert!(text.len() < 2 * 1024 * 1024, "{}", text.len());
}

#[tokio::test]
async fn what_happens_is_told() {
    let estate = Estate::new(2);
    let server = &estate.running[0].servers()[0];
    let place = server.begin().unwrap();
    place.fail();
    server.look(1, Ok(()));
    server.look(1, Err("no".into()));
    estate.metrics.ended(crate::reason::DENIED);
    let counted = estate.connections.listener(&"plain".into());
    let source = "127.0.0.1".parse().unwrap();
    let connection = estate.connections.admit(source, 9, 9).unwrap().at(&counted);
    let text = estate.page();
    read(&text);
    for line in [
        r#"frontgate_server_in_flight{farm="f0",server="fe0"} 1"#,
        r#"frontgate_server_in_flight{farm="f0",server="fe1"} 0"#,
        r#"frontgate_server_failures_total{farm="f0",server="fe0"} 1"#,
        r#"frontgate_probe_total{farm="f0",server="fe0",result="ok"} 1"#,
        r#"frontgate_probe_total{farm="f0",server="fe0",result="failed"} 1"#,
        r#"frontgate_server_state{farm="f0",server="fe0",state="ready"} 1"#,
        r#"frontgate_reasons_total{reason="denied"} 1"#,
        r#"frontgate_connections{listener="plain"} 1"#,
        r#"frontgate_events_undelivered_total{receiver="command"} 2"#,
        r#"frontgate_events_undelivered_total{receiver="webhook"} 5"#,
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
    drop(connection);
    let text = estate.page();
    assert!(text.contains("frontgate_connections{listener=\"plain\"} 0\n"));
    assert!(text.contains("frontgate_connections_total{listener=\"plain\"} 1\n"));
}

/// `cargo test --config profile.dev.package.frontgate.opt-level=3 --lib -- --ignored --nocapture
/// a_scrape_is_cheap`
#[tokio::test]
#[ignore = "a measurement, of optimised code"]
async fn a_scrape_is_cheap() {
    let estate = Estate::new(1000);
    let mut times: Vec<_> = (0..100)
        .map(|_| {
            let begun = Instant::now();
            assert!(!estate.page().is_empty());
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!("1000 servers: median {:?}, slowest {:?}", times[50], times[99]);
    assert!(times[50].as_millis() < 5, "{:?}", times[50]);
}

/// Names of our metrics in a text, without the suffixes of a histogram.
fn mentioned(text: &str) -> BTreeSet<String> {
    let word = regex::Regex::new(r"\b(frontgate|process)_[a-z_]+").unwrap();
    let found = word.find_iter(text).map(|found| found.as_str());
    let bare = |name: &str| {
        let suffixes = ["_bucket", "_sum", "_count"];
        let cut = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
        let histogram = |name: &&str| {
            families::ALL.iter().any(|f| f.name == *name && f.kind == Kind::Histogram)
        };
        cut.filter(histogram).unwrap_or(name).to_owned()
    };
    found.map(bare).collect()
}

fn deployed(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn dashboard_and_alerts_use_metrics_that_exist() {
    for file in ["grafana/frontgate.json", "prometheus/alerts.yaml"] {
        let names = mentioned(&deployed(file));
        assert!(names.len() >= 8, "{file}: {names:?}");
        for name in names {
            assert!(families::ALL.iter().any(|f| f.name == name), "{file}: {name}");
        }
    }
}

#[test]
fn panels_of_the_dashboard_ask_the_chosen_source_and_do_not_overlap() {
    let board: serde_json::Value =
        serde_json::from_str(&deployed("grafana/frontgate.json")).unwrap();
    assert_eq!(board["uid"], "frontgate");
    let panels = board["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: id twice");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(x < 24 && places.insert((x, y)), "{title} lies on another one");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert!(!mentioned(target["expr"].as_str().unwrap()).is_empty(), "{title}");
        }
    }
    assert!(panels.len() > 10);
}
