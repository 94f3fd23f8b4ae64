//! Metrics of the real binary, read by Prometheus's own tool.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::{
    pins::sign_in,
    support::{
        SOON,
        backend::{Backend, always, held, read_head},
        client::{Answer, Client},
        frontgate::{Frontgate, LISTENERS},
        servers_of, until,
    },
};

/// `promtool` with a text on its standard input: whether it is content, and what it says.
fn promtool(args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of the Debian package prometheus: scripts/dependencies.sh test");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn ask(frontgate: &Frontgate, listener: &str) -> Answer {
    Client::plain(frontgate.address(listener)).get("localhost", "/metrics")
}

fn scrape(frontgate: &Frontgate) -> String {
    let answer = ask(frontgate, "admin");
    assert_eq!(answer.status, 200);
    answer.text()
}

/// The value of a series, which has to be there.
#[track_caller]
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().unwrap()
}

/// Waits until a series has a value.
fn reaches(frontgate: &Frontgate, series: &str, wanted: f64) -> String {
    until(&format!("{series} {wanted}"), SOON, || {
        let page = scrape(frontgate);
        (value(&page, series) == wanted).then_some(page)
    })
}

fn config(first: &str, servers: &[(&str, u16)], more: &str) -> String {
    format!(
        "{first}farms:\n  web: {{ servers: [{}], bridge: http }}\npublish:\n  \
         - {{ name: meet, host: meet.*, farm: web, schemes: [https, http] }}\n  \
         - {{ name: 'gone \"x\"', host: gone.*, deny: true, schemes: [http] }}\n{more}",
        servers_of(servers)
    )
}

const OK: &str = r#"frontgate_requests_total{farm="web",route="meet",code_class="2xx"}"#;

fn get(frontgate: &Frontgate, host: &str) -> u16 {
    frontgate.plain().get(host, "/").status
}

#[test]
fn requests_are_counted_where_they_belong() {
    let (backend, broken) = (Backend::plain(always("ok")), Backend::plain(|_, _| ()));
    let frontgate = Frontgate::with(&config(LISTENERS, &[("fe01", backend.port())], ""));
    let page = scrape(&frontgate);
    // Known from the start, so that the first error is an increase.
    assert_eq!(value(&page, OK), 0.0);
    assert_eq!(value(&page, &OK.replace("2xx", "5xx")), 0.0);
    for _ in 0..3 {
        assert_eq!(get(&frontgate, "meet.contoso.com"), 200);
    }
    assert_eq!(get(&frontgate, "gone.contoso.com"), 404);
    assert_eq!(get(&frontgate, "nobody.contoso.com"), 404);
    // Refused before any hook of Pingora's saw it.
    assert_eq!(frontgate.plain().ask("GET / HTTP/1.1\r\nHost : x\r\n\r\n").status, 400);
    let unrouted = r#"frontgate_requests_total{farm="",route="",code_class="4xx"}"#;
    let page = reaches(&frontgate, unrouted, 2.0);
    for (series, wanted) in [
        (OK, 3.0),
        (r#"frontgate_requests_total{farm="",route="gone \"x\"",code_class="4xx"}"#, 1.0),
        (r#"frontgate_reasons_total{reason="denied"}"#, 1.0),
        (r#"frontgate_reasons_total{reason="bad_header"}"#, 1.0),
        (r#"frontgate_request_duration_seconds_count{farm="web"}"#, 3.0),
        (r#"frontgate_request_duration_seconds_bucket{farm="web",le="1800"}"#, 3.0),
        (r#"frontgate_server_requests_total{farm="web",server="fe01"}"#, 3.0),
        (r#"frontgate_server_sent_bytes_total{farm="web",server="fe01"}"#, 6.0),
        (r#"frontgate_server_failures_total{farm="web",server="fe01"}"#, 0.0),
        (r#"frontgate_server_up{farm="web",server="fe01"}"#, 1.0),
        (r#"frontgate_farm_servers_open{farm="web"}"#, 1.0),
        (r#"frontgate_connections_total{listener="plain"}"#, 6.0),
        (r#"frontgate_config_last_reload_successful"#, 1.0),
    ] {
        assert_eq!(value(&page, series), wanted, "{series}");
    }

    // After a reload the counters of what stays go on, by name.
    frontgate.rewrite(&config(LISTENERS, &[("fe01", backend.port()), ("fe02", broken.port())], ""));
    frontgate.log_line(" reloaded (");
    let page = reaches(&frontgate, r#"frontgate_config_reload_total{result="success"}"#, 1.0);
    assert_eq!(value(&page, OK), 3.0);
    assert_eq!(value(&page, r#"frontgate_server_requests_total{farm="web",server="fe01"}"#), 3.0);
    assert_eq!(value(&page, r#"frontgate_server_requests_total{farm="web",server="fe02"}"#), 0.0);
    let good = value(&page, "frontgate_config_last_reload_success_timestamp_seconds");
    let hash = |page: &str| {
        page.lines().find(|l| l.starts_with("frontgate_config_info{")).unwrap().to_owned()
    };
    let serves = hash(&page);
    frontgate.rewrite("farms: 7\n");
    let page = reaches(&frontgate, r#"frontgate_config_reload_total{result="refused"}"#, 1.0);
    assert_eq!(value(&page, "frontgate_config_last_reload_successful"), 0.0);
    assert_eq!(value(&page, "frontgate_config_last_reload_success_timestamp_seconds"), good);
    assert_eq!(hash(&page), serves);
    // What breaks off without an answer is no 2xx.
    let fails = |_: &u32| {
        frontgate
            .plain()
            .ask("POST / HTTP/1.1\r\nHost: meet.contoso.com\r\nContent-Length: 0\r\n\r\n")
            .status
            == 502
    };
    assert!((0..4).find(fails).is_some());
    reaches(&frontgate, &OK.replace("2xx", "5xx"), 1.0);
    let failures = r#"frontgate_server_failures_total{farm="web",server="fe02"}"#;
    reaches(&frontgate, failures, 1.0);
}

#[test]
fn what_lasts_is_told_while_it_does() {
    let (go, slow) = held("at last");
    let certificates = r#"frontgate_cert_expiry_timestamp_seconds{name=""#;
    let frontgate = Frontgate::with(&config(LISTENERS, &[("fe01", slow.port())], ""));
    let mut poll = frontgate.plain();
    poll.send(sign_in("alice"));
    until("the poll arrives", SOON, || (slow.connections() == 1).then_some(()));
    let page = scrape(&frontgate);
    for (series, wanted) in [
        (r#"frontgate_server_in_flight{farm="web",server="fe01"}"#, 1.0),
        (r#"frontgate_server_pins{farm="web",server="fe01"}"#, 1.0),
        (r#"frontgate_pins{farm="web"}"#, 1.0),
        ("frontgate_pins_counted", 1.0),
        ("frontgate_pins_limit", 20000.0),
        (r#"frontgate_pins_total{outcome="admitted"}"#, 1.0),
        (r#"frontgate_pins_total{outcome="proved"}"#, 0.0),
        (r#"frontgate_connections{listener="plain"}"#, 1.0),
        (r#"frontgate_connections{listener="public"}"#, 0.0),
    ] {
        assert_eq!(value(&page, series), wanted, "{series}");
    }
    let expiry = page.lines().find_map(|line| line.strip_prefix(certificates)).unwrap();
    let expiry: i64 = expiry.rsplit(' ').next().unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(expiry > now.as_secs() as i64, "{expiry}");
    assert!(value(&page, "process_resident_memory_bytes") > 1e6);
    go.send(()).unwrap();
    assert_eq!(poll.answer(false).text(), "at last");
    reaches(&frontgate, r#"frontgate_pins_total{outcome="proved"}"#, 1.0);
    drop(poll);
    reaches(&frontgate, r#"frontgate_connections{listener="plain"}"#, 0.0);
    reaches(&frontgate, r#"frontgate_pins{farm="web"}"#, 0.0);
    reaches(&frontgate, r#"frontgate_server_in_flight{farm="web",server="fe01"}"#, 0.0);
}

#[test]
fn promtool_is_content_with_the_page() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&config(LISTENERS, &[("fe01", backend.port())], ""));
    assert_eq!(get(&frontgate, "meet.contoso.com"), 200);
    let answer = ask(&frontgate, "admin");
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    let (content, said) = promtool(&["check", "metrics"], &answer.text());
    assert!(content, "{said}");
    // It does notice.
    assert!(!promtool(&["check", "metrics"], "# TYPE x counter\nx 1\n").0);
}

#[test]
fn events_that_arrive_nowhere_are_counted() {
    let first = format!("events: {{ command: /bin/false }}{LISTENERS}");
    let frontgate = Frontgate::with(&config(&first, &[("fe01", 9)], ""));
    let of = |receiver: &str| {
        let series = format!("frontgate_events_undelivered_total{{receiver=\"{receiver}\"}}");
        value(&scrape(&frontgate), &series)
    };
    until("undelivered", SOON, || (of("command") >= 1.0).then_some(()));
    assert_eq!(of("webhook"), 0.0);
}

#[test]
fn a_listener_of_its_own_tells_metrics_and_nothing_else() {
    let backend = Backend::plain(read_nothing);
    let first = format!("metrics: {{ listen: \"0.0.0.0:0\" }}{LISTENERS}");
    let frontgate = Frontgate::with(&config(&first, &[("fe01", backend.port())], ""));
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], frontgate.address("metrics").port()));
    let ask = |request: &str| Client::plain(address).ask(request);
    // By any name: Prometheus asks by the pod's address.
    let answer = ask("GET /metrics HTTP/1.1\r\nHost: 10.1.2.3\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert_eq!(value(&answer.text(), r#"frontgate_farm_servers{farm="web"}"#), 1.0);
    for path in ["/", "/livez", "/readyz", "/api/v1/servers", "/metrics/", "/metrics/x"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(ask(&request).status, 404, "{path}");
    }
    let drain = "POST /api/v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(drain).status, 404);
    let refused = ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(get_admin(&frontgate, "localhost"), 200);
    assert_eq!(get_admin(&frontgate, "evil.example"), 421);
}

/// Ends every connection once something came.
fn read_nothing(wire: &mut dyn crate::support::backend::Wire, _: usize) {
    read_head(wire);
}

fn get_admin(frontgate: &Frontgate, host: &str) -> u16 {
    Client::plain(frontgate.address("admin")).get(host, "/metrics").status
}

#[test]
fn an_admin_address_that_others_reach_wants_the_token_for_metrics_too() {
    let first = LISTENERS
        .replace("listen: 127.0.0.1:0", "listen: \"0.0.0.0:0\", token_file: token")
        .replace("state_dir: state", "state_dir: state\nmetrics: { listen: \"127.0.0.1:0\" }");
    let dir = tempfile::tempdir().unwrap();
    let certificates = crate::support::certificates::Certificates::write(dir.path());
    std::fs::write(dir.path().join("token"), "0123456789abcdef\n").unwrap();
    let config = config(&first, &[("fe01", 9)], "");
    std::fs::write(dir.path().join("frontgate.yaml"), config).unwrap();
    let frontgate = Frontgate::in_dir(dir, certificates);
    let port = frontgate.address("admin").port();
    let with = |more: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
        Client::plain(([127, 0, 0, 1], port).into()).ask(request).status
    };
    assert_eq!(with(""), 401);
    assert_eq!(with("Authorization: Bearer fedcba9876543210\r\n"), 401);
    assert_eq!(with("Authorization: Bearer 0123456789abcdef\r\n"), 200);
    // The one of its own needs none.
    assert_eq!(ask(&frontgate, "metrics").status, 200);
}

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/alerts.yaml");

#[test]
fn promtool_is_content_with_the_alert_rules_and_they_fire() {
    let (content, said) = promtool(&["check", "rules", RULES], "");
    assert!(content && said.contains("rules found"), "{said}");
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/alerts_test.yaml");
    let (content, said) = promtool(&["test", "rules", cases], "");
    assert!(content, "{said}");
}

/// Every question of the dashboard, with its variables filled in, as recording rules.
#[test]
fn promtool_understands_the_dashboard() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/grafana/frontgate.json");
    let board: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let rules: Vec<_> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .chain([board["annotations"]["list"][0]["expr"].as_str().unwrap()])
        .map(|asked| asked.replace("$__rate_interval", "1m"))
        .enumerate()
        .map(|(n, expr)| serde_json::json!({ "record": format!("q:{n}"), "expr": expr }))
        .collect();
    assert!(rules.len() > 20, "{}", rules.len());
    let file = tempfile::NamedTempFile::new().unwrap();
    // JSON is YAML.
    let text = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    std::fs::write(file.path(), text.to_string()).unwrap();
    let (content, said) = promtool(&["check", "rules", file.path().to_str().unwrap()], "");
    assert!(content, "{said}");
}
