//! What docs/sizing.md recommends follows from what was measured and from the default limits.

use std::{fs, path::Path};

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PAGE: &str = "docs/sizing.md";
/// Connections of a user's programs, and how many of them are pins.
const LYNC: (u64, u64) = (2, 0);
const OUTLOOK: (u64, u64) = (3, 3);

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&read(name)).unwrap()
}

/// `limits.connections` and `limits.pins`, as the annotated default has them.
fn limits() -> (u64, u64) {
    let limits = &yaml("conf/frontgate.yaml")["limits"];
    (limits["connections"].as_u64().unwrap(), limits["pins"].as_u64().unwrap())
}

/// What a connection that is held takes, rounded up.
fn kib() -> u64 {
    let measured: Value = serde_json::from_str(&read("docs/benchmark.json")).unwrap();
    let row = measured["rows"].as_array().unwrap().iter().find(|row| row["key"] == "poll").unwrap();
    assert_eq!(row["unit"], "KiB");
    let rounds = row["rounds"]["Frontgate"].as_array().unwrap();
    let mut rounds: Vec<f64> = rounds.iter().map(|round| round.as_f64().unwrap()).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2].ceil() as u64
}

fn mib(connections: u64) -> u64 {
    (connections * kib()).div_ceil(1024)
}

/// As people read them: 20,000.
fn thousands(number: u64) -> String {
    let (high, low) = (number / 1000, number % 1000);
    if high == 0 { low.to_string() } else { format!("{},{low:03}", thousands(high)) }
}

/// What a limit leaves before the alerts on it fire: four fifths.
fn usable(limit: u64) -> u64 {
    limit * 4 / 5
}

/// Pods at the default limits, and one more: any of them may be gone.
fn pods(connections: u64, pins: u64) -> u64 {
    let (most_connections, most_pins) = limits();
    let for_connections = connections.div_ceil(usable(most_connections));
    1 + for_connections.max(pins.div_ceil(usable(most_pins))).max(1)
}

/// The limits with which `connections` and `pins` raise no alert.
fn raised(connections: u64, pins: u64) -> String {
    let (most_connections, most_pins) = limits();
    let keys = [("connections", connections, most_connections), ("pins", pins, most_pins)];
    let raised: Vec<_> = keys
        .iter()
        .filter(|(_, number, most)| *number > usable(*most))
        .map(|(key, number, _)| format!("{key}: {}", (number * 5).div_ceil(4)))
        .collect();
    if raised.is_empty() { "the defaults".to_owned() } else { format!("`{}`", raised.join(", ")) }
}

fn table() -> String {
    let mut text = "\
| users | with | connections | pins | one machine: `limits` | memory | pods, one of them spare | memory of each |
|---|---|---|---|---|---|---|---|
"
    .to_owned();
    let both = (LYNC.0 + OUTLOOK.0, LYNC.1 + OUTLOOK.1);
    for (name, each) in [("Lync", LYNC), ("Lync, Outlook", both)] {
        for users in [1_000, 5_000, 10_000, 20_000, 50_000] {
            let (connections, pins) = (users * each.0, users * each.1);
            let pods = pods(connections, pins);
            text += &format!(
                "| {} | {name} | {} | {} | {} | {} MiB | {pods} | {} MiB |\n",
                thousands(users),
                thousands(connections),
                thousands(pins),
                raised(connections, pins),
                thousands(mib(connections)),
                thousands(mib(connections.div_ceil(pods - 1))),
            );
        }
    }
    text
}

/// `FRONTGATE_BLESS=1` writes the table, after other measurements or with other limits.
#[test]
fn the_table_is_what_measurements_and_limits_make_it() {
    let (begin, end) = ("<!-- users: made by a test -->\n", "<!-- end -->");
    let page = read(PAGE);
    let from = page.find(begin).unwrap() + begin.len();
    let to = from + page[from..].find(end).unwrap();
    let page = if std::env::var_os("FRONTGATE_BLESS").is_some() {
        let page = format!("{}{}{}", &page[..from], table(), &page[to..]);
        fs::write(Path::new(ROOT).join(PAGE), &page).unwrap();
        page
    } else {
        page
    };
    assert!(page.contains(&format!("{begin}{}{end}", table())), "{PAGE} lacks:\n{}", table());
}

/// Sentences around it.
#[test]
fn what_is_recommended_stays_below_the_limits() {
    let page = read(PAGE).split_whitespace().collect::<Vec<_>>().join(" ");
    let says = |text: String| assert!(page.contains(&text), "{PAGE} does not say: {text}");
    let (connections, pins) = limits();
    says(format!("| a poll that is held | {} KiB of memory", kib()));
    says(format!("users × connections × {} KiB", kib()));
    says(format!("`limits.connections` ({})", thousands(connections)));
    says(format!("`limits.pins` ({})", thousands(pins)));
    // The example: it meets both limits, and the page says with which ones it does not.
    let users = 10_000;
    let (own, signed_in) = (users * (LYNC.0 + OUTLOOK.0), users * OUTLOOK.1);
    assert!(own > connections && signed_in > pins);
    says(format!(
        "{} connections and {} pins, both more than the defaults allow",
        thousands(own),
        thousands(signed_in)
    ));
    says(
        raised(own, signed_in).replace('`', "").replace("connections:", "`limits: { connections:")
            + " }`",
    );
    says(format!("{} connections for each pod", thousands(usable(connections))));
}

/// The pods of `deploy/kubernetes` have the memory that the table reckons with.
#[test]
fn pods_have_the_memory_that_they_are_said_to_need() {
    let pod = yaml("deploy/kubernetes/base/deployment.yaml");
    let resources = &pod["spec"]["template"]["spec"]["containers"][0]["resources"];
    let told = |kind: &str| match resources[kind]["memory"].as_str().unwrap() {
        "1Gi" => 1024,
        "2Gi" => 2048,
        other => panic!("{other}"),
    };
    let (connections, _) = limits();
    // The program itself, and the kernel's part, come on top.
    assert!(told("requests") > mib(usable(connections)) * 5 / 4);
    assert!(told("limits") > mib(connections) * 3 / 2);
    let scaler = yaml("deploy/kubernetes/base/horizontalpodautoscaler.yaml");
    let least = scaler["spec"]["minReplicas"].as_u64().unwrap();
    let page = read(PAGE).split_whitespace().collect::<Vec<_>>().join(" ");
    let enough = thousands((least - 1) * usable(connections));
    let text = format!("`minReplicas` is {least}, enough for {enough} connections");
    assert!(page.contains(&text), "{PAGE} does not say: {text}");
}
