//! Requests by farm, rule and class of status, and how long they took.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Labels, Page, families as f};
use crate::site::{Action, Rule, Site};

use crate::lock::lock;

/// Rules that have series of their own; those after them share `other`, one a farm.
const ROUTES: usize = 1000;
/// What rules past [`ROUTES`] are called.
const OTHER: &str = "other";

/// Classes of status. `none`: nothing could be sent.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Upper bounds in microseconds, and as the text says them. A poll of UCWA takes up to 1800 s.
const BUCKETS: [(u64, &str); 18] = [
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (60_000_000, "60"),
    (120_000_000, "120"),
    (300_000_000, "300"),
    (600_000_000, "600"),
    (900_000_000, "900"),
    (1_800_000_000, "1800"),
];

/// Every counter of requests, by name: a farm or rule that a reload keeps goes on counting.
#[derive(Debug, Default)]
pub struct Traffic {
    // Reloads and those who read lock it, never a request.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By farm and route; empty where there is none.
    answers: BTreeMap<(Arc<str>, Arc<str>), Arc<Answers>>,
    durations: BTreeMap<Arc<str>, Arc<Durations>>,
}

/// The counters of one site, found by a rule's index.
#[derive(Debug)]
pub struct Routes {
    rules: Vec<Route>,
    unrouted: Route,
}

/// Where the requests of one rule are counted.
#[derive(Clone, Debug, Default)]
pub struct Route {
    answers: Arc<Answers>,
    durations: Option<Arc<Durations>>,
}

#[derive(Debug, Default)]
struct Answers([AtomicU64; CLASSES.len()]);

#[derive(Debug, Default)]
struct Durations {
    buckets: [AtomicU64; BUCKETS.len()],
    above: AtomicU64,
    micros: AtomicU64,
}

impl Traffic {
    /// The counters of a site. What it no longer has is forgotten.
    pub fn follow(&self, site: &Site) -> Routes {
        let mut known = lock(&self.known);
        let mut before = std::mem::take(&mut *known);
        for farm in &site.farms {
            let kept = before.durations.remove(&farm.name).unwrap_or_default();
            known.durations.insert(farm.name.clone(), kept);
        }
        let mut route = |key: (Arc<str>, Arc<str>)| -> Route {
            let durations = known.durations.get(&key.0).cloned();
            let kept = || before.answers.remove(&key).unwrap_or_default();
            // Rules of one name and farm share a series.
            let answers = known.answers.entry(key.clone()).or_insert_with(kept).clone();
            Route { answers, durations }
        };
        let (empty, other): (Arc<str>, Arc<str>) = (Arc::from(""), Arc::from(OTHER));
        let name = |rule: &Rule| {
            let name = if rule.index < ROUTES { &rule.name } else { &other };
            let farm = match rule.action {
                Action::Forward(id) => site.farms.get(id.0).map(|farm| farm.name.clone()),
                _ => None,
            };
            (farm.unwrap_or_else(|| empty.clone()), name.clone())
        };
        let rules = site.rules.iter().map(|rule| route(name(rule))).collect();
        Routes { rules, unrouted: route((empty.clone(), empty.clone())) }
    }

    /// Writes everything that was counted.
    pub fn write(&self, page: &mut Page) {
        let known = lock(&self.known);
        let mut series = page.family(&f::REQUESTS);
        for ((farm, route), answers) in &known.answers {
            let labels = Labels::new(&[("farm", farm), ("route", route)]);
            for (class, count) in CLASSES.iter().zip(&answers.0) {
                series.put_with(&labels, "code_class", class, count.load(Ordering::Relaxed));
            }
        }
        let mut series = page.family(&f::DURATION);
        for (farm, durations) in &known.durations {
            let counts = durations.buckets.iter().zip(BUCKETS);
            let counts = counts.map(|(count, (_, bound))| (bound, count.load(Ordering::Relaxed)));
            let above = durations.above.load(Ordering::Relaxed);
            let seconds = durations.micros.load(Ordering::Relaxed) as f64 / 1e6;
            let counts: Vec<_> = counts.collect();
            series.histogram(&Labels::new(&[("farm", farm)]), &counts, above, seconds);
        }
    }
}

impl Routes {
    /// Where requests are counted that this rule took, or none.
    pub fn of(&self, rule: Option<&Rule>) -> &Route {
        rule.and_then(|rule| self.rules.get(rule.index)).unwrap_or(&self.unrouted)
    }
}

impl Route {
    /// Counts a request that ended with this status (0: none could be sent).
    pub fn count(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100);
        let [none, ..] = &self.answers.0;
        self.answers.0.get(class).unwrap_or(none).fetch_add(1, Ordering::Relaxed);
        // How long a tunnel stood says nothing about answers.
        if let (Some(durations), true) = (&self.durations, status != 101) {
            durations.count(took);
        }
    }
}

impl Durations {
    fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|(bound, _)| *bound < micros);
        self.buckets.get(bucket).unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn site(farms: &str, rules: &str) -> Arc<Site> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frontgate.yaml");
        let text = format!(
            "listeners: [{{ address: \"127.0.0.1:80\" }}]\nfarms: {{ {farms} }}\n\
             publish:\n{rules}"
        );
        std::fs::write(&path, text).unwrap();
        let outcome = config::load(&path);
        outcome.site.unwrap_or_else(|| panic!("{:?}", outcome.findings))
    }

    fn farm(name: &str) -> String {
        format!("{name}: {{ bridge: http, servers: [127.0.0.1] }}")
    }

    fn rule(host: &str, farm: &str) -> String {
        format!("  - {{ host: {host}.contoso.com, name: {host}, farm: {farm}, schemes: [http] }}\n")
    }

    fn lines(traffic: &Traffic) -> Vec<String> {
        let mut page = Page::default();
        traffic.write(&mut page);
        page.into_text().lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn has(traffic: &Traffic, line: &str) {
        let lines = lines(traffic);
        assert!(lines.iter().any(|l| l == line), "no {line} in {lines:#?}");
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn requests_count_by_farm_rule_and_class() {
        let traffic = Traffic::default();
        let deny = "  - { host: x.contoso.com, name: x, deny: true }\n";
        let site = site(&farm("web"), &(rule("a", "web") + deny));
        let routes = traffic.follow(&site);
        let of = |n: usize| routes.of(Some(&site.rules[n]));
        of(0).count(200, 4 * MS);
        of(0).count(204, 5 * MS);
        of(0).count(503, 1_800_000 * MS);
        of(0).count(0, 1_800_001 * MS);
        of(0).count(101, MS);
        of(1).count(404, MS);
        routes.of(None).count(421, MS);
        routes.of(None).count(999, MS);
        for line in [
            r#"frontgate_requests_total{farm="web",route="a",code_class="2xx"} 2"#,
            r#"frontgate_requests_total{farm="web",route="a",code_class="5xx"} 1"#,
            r#"frontgate_requests_total{farm="web",route="a",code_class="none"} 1"#,
            r#"frontgate_requests_total{farm="web",route="a",code_class="1xx"} 1"#,
            r#"frontgate_requests_total{farm="",route="x",code_class="4xx"} 1"#,
            r#"frontgate_requests_total{farm="",route="",code_class="4xx"} 1"#,
            r#"frontgate_requests_total{farm="",route="",code_class="none"} 1"#,
            r#"frontgate_request_duration_seconds_bucket{farm="web",le="0.005"} 2"#,
            r#"frontgate_request_duration_seconds_bucket{farm="web",le="900"} 2"#,
            r#"frontgate_request_duration_seconds_bucket{farm="web",le="1800"} 3"#,
            r#"frontgate_request_duration_seconds_bucket{farm="web",le="+Inf"} 4"#,
            r#"frontgate_request_duration_seconds_sum{farm="web"} 3600.01"#,
            r#"frontgate_request_duration_seconds_count{farm="web"} 4"#,
        ] {
            has(&traffic, line);
        }
    }

    #[test]
    fn counters_outlive_reloads_by_name_and_go_with_their_rule() {
        let traffic = Traffic::default();
        let one = site(&farm("web"), &(rule("a", "web") + &rule("b", "web")));
        traffic.follow(&one).of(Some(&one.rules[1])).count(200, MS);
        // `b` is another index now; `a` is gone.
        let farms = farm("web") + ", " + &farm("more");
        let two = site(&farms, &(rule("b", "web") + &rule("c", "more")));
        let routes = traffic.follow(&two);
        routes.of(Some(&two.rules[0])).count(200, MS);
        has(&traffic, r#"frontgate_requests_total{farm="web",route="b",code_class="2xx"} 2"#);
        has(&traffic, r#"frontgate_request_duration_seconds_count{farm="web"} 2"#);
        has(&traffic, r#"frontgate_request_duration_seconds_count{farm="more"} 0"#);
        assert!(!lines(&traffic).iter().any(|line| line.contains("route=\"a\"")));
    }

    #[test]
    fn rules_past_the_thousandth_share_a_series() {
        let traffic = Traffic::default();
        let rules: String = (0..ROUTES + 2).map(|n| rule(&format!("h{n}"), "web")).collect();
        let site = site(&farm("web"), &rules);
        let routes = traffic.follow(&site);
        routes.of(site.rules.last().map(|rule| &**rule)).count(200, MS);
        routes.of(Some(&site.rules[ROUTES])).count(200, MS);
        routes.of(Some(&site.rules[ROUTES - 1])).count(200, MS);
        has(&traffic, r#"frontgate_requests_total{farm="web",route="other",code_class="2xx"} 2"#);
        has(&traffic, r#"frontgate_requests_total{farm="web",route="h999",code_class="2xx"} 1"#);
        let series = lines(&traffic).iter().filter(|line| line.contains("2xx\"}")).count();
        assert_eq!(series, ROUTES + 2);
    }
}
