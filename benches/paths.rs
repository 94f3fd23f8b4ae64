//! What the hot paths cost.
//!
//! `make paths` counts their instructions with callgrind and compares them with `benches/paths.json`;
//! it fails if one of them grew by more than 5 %. `FRONTGATE_BLESS=1 make paths` writes the file.
//! `cargo bench --bench paths -- time` prints nanoseconds, as JSON, for `make bench`.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{
    collections::BTreeMap,
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Command, ExitCode},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use frontgate::{
    config,
    farm::{Choice, Farms, Tried, Wish},
    guard::{self, HeadLimits},
    observe::{Access, line},
    route::{Question, Table, decide, normalize_host},
    site::{LogFormat, LogQuery, Site},
};
use http::{HeaderMap, HeaderValue, header};
use serde_json::json;

/// So much may a path grow before somebody has to say that it is meant to.
const GROWTH: f64 = 0.05;
/// The same where another compiler built it than the one the file was made with.
const OTHER_COMPILER: f64 = 0.20;
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/paths.json");
/// Rounds that are counted; what happens only once, in the first of them, is little beside them.
const COUNTED: u32 = 1000;

const REQUEST: &[u8] = b"GET /meet/bob/XYZ123?sl=1 HTTP/1.1\r\nHost: meet.contoso.com\r\n\
    User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64)\r\nAccept: text/html,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n\
    Cookie: a=0123456789abcdef; b=fedcba9876543210\r\nConnection: keep-alive\r\n\r\n";

/// Everything that is counted; timed are those and one more.
const PATHS: [(&str, Make); 6] = [
    ("guard", guard),
    ("route_10", |_| route(10)),
    ("route_1000", |_| route(1000)),
    ("balance", balance),
    ("log_combined", |_| log(LogFormat::Combined)),
    ("log_json", |_| log(LogFormat::Json)),
];
const ONLY_TIMED: (&str, Make) = ("route_100000", |_| route(100_000));

type Make = fn(&tokio::runtime::Runtime) -> Path;
type Path = Box<dyn FnMut()>;

/// The guard's look at a header, and at who the client is.
fn guard(_: &tokio::runtime::Runtime) -> Path {
    let limits = HeadLimits { headers: 200, url: 16 * 1024 };
    let peer = SocketAddr::from(([198, 51, 100, 7], 50123));
    let headers = headers();
    Box::new(move || {
        let end = guard::find_end(black_box(REQUEST), 0).unwrap();
        let head = guard::inspect(REQUEST.get(..end).unwrap(), &limits).unwrap();
        black_box((head, guard::client(peer, true, &headers, &[])));
    })
}

/// The way to a rule among so many published names.
fn route(hosts: usize) -> Path {
    let mut text = String::from(
        "farms: { a: { bridge: http, servers: [{ name: fe, address: 127.0.0.1 }] } }\npublish:\n",
    );
    for n in 0..hosts {
        text +=
            &format!("  - {{ host: h{n}.contoso.com, farm: a, schemes: [http], path: /meet }}\n");
    }
    let site = site(&text);
    let table = Table::new(&site);
    let (headers, raw) = (headers(), format!("H{}.Contoso.com:80", hosts / 2));
    Box::new(move || {
        let host = normalize_host(black_box(raw.as_bytes())).unwrap();
        let question = Question {
            listener: 0,
            https: false,
            host: host.as_str(),
            target_path: b"/meet/bob/XYZ123",
            query: Some(b"sl=1"),
            method: "GET",
            headers: &headers,
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let decision = decide(&table, &site, &question);
        assert!(black_box(decision.rule()).is_some());
    })
}

/// The choice of a server out of three, and giving its place back.
fn balance(runtime: &tokio::runtime::Runtime) -> Path {
    let _inside = runtime.enter();
    let site = site(
        "farms: { a: { bridge: http, servers: [{ name: fe1, address: 127.0.0.1 }, \
         { name: fe2, address: 127.0.0.2 }, { name: fe3, address: 127.0.0.3 }] } }\n\
         publish: [{ host: a.contoso.com, farm: a, schemes: [http] }]\n",
    );
    let farm = Farms::new().apply(&site).remove(0);
    let tried = Tried::default();
    Box::new(move || {
        let choice = farm.choose(&Wish::anyone(black_box(0), &tried));
        assert!(matches!(black_box(choice), Choice::Place(_)));
    })
}

/// A line of the access log.
fn log(format: LogFormat) -> Path {
    let access = Access {
        time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
        client: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
        client_port: Some(50123),
        peer: None,
        local: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 443,
        log_id: None,
        listener: "public",
        sni: Some("meet.contoso.com"),
        host: Some("meet.contoso.com"),
        method: Some("GET"),
        path: Some("/meet/bob/XYZ123"),
        query: Some("sl=1"),
        protocol: Some("HTTP/1.1"),
        status: 200,
        received: 0,
        sent: 1234,
        duration: Duration::from_micros(2345),
        first_byte: Some(Duration::from_micros(2100)),
        rule: Some("meet"),
        farm: Some("lyncweb"),
        server: Some("fe01"),
        server_connection: Some("reused"),
        reason: None,
        tls: Some("TLSv1.3"),
        referer: Some("https://meet.contoso.com/"),
        user_agent: Some("Mozilla/5.0 (Windows NT 10.0; Win64; x64)"),
    };
    Box::new(move || {
        black_box(line(black_box(&access), format, LogQuery::Masked));
    })
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::HOST, "meet.contoso.com"),
        (header::USER_AGENT, "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"),
        (header::ACCEPT, "text/html,*/*;q=0.8"),
        (header::ACCEPT_LANGUAGE, "en-GB,en;q=0.5"),
        (header::COOKIE, "a=0123456789abcdef; b=fedcba9876543210"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

fn site(text: &str) -> Arc<Site> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("frontgate.yaml");
    std::fs::write(&path, format!("listeners: [{{ address: \"127.0.0.1:80\" }}]\n{text}")).unwrap();
    let loaded = config::load(&path);
    loaded.site.unwrap_or_else(|| panic!("{:?}", loaded.findings))
}

/// What callgrind counts: only what happens in here.
#[inline(never)]
#[unsafe(no_mangle)]
fn frontgate_measured(path: &mut dyn FnMut(), rounds: u32) {
    for _ in 0..rounds {
        path();
    }
}

/// Instructions of a round of one path, counted in a process of its own.
fn count(key: &str) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--toggle-collect=frontgate_measured"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(std::env::current_exe().unwrap()).args(["once", key]);
    let done = command.output();
    let done = done.expect("valgrind is missing: scripts/dependencies.sh test installs it");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    let text = std::fs::read_to_string(&out).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total
        .and_then(|total| total.trim().parse().ok())
        .unwrap_or_else(|| panic!("{command:?} has no totals"));
    assert!(total > 0, "{command:?} counted nothing");
    total / u64::from(COUNTED)
}

fn compiler() -> String {
    let told = Command::new("rustc").arg("--version").output().unwrap().stdout;
    String::from_utf8_lossy(&told).trim().to_owned()
}

/// Counts everything and compares it with what was counted before.
fn compare() -> ExitCode {
    let counts: BTreeMap<_, _> = PATHS.iter().map(|(key, _)| (*key, count(key))).collect();
    let compiler = compiler();
    if std::env::var_os("FRONTGATE_BLESS").is_some() {
        let text = json!({ "compiler": compiler, "instructions": counts });
        std::fs::write(BASELINE, serde_json::to_string_pretty(&text).unwrap() + "\n").unwrap();
    }
    let baseline = std::fs::read_to_string(BASELINE).unwrap();
    let baseline: serde_json::Value = serde_json::from_str(&baseline).unwrap();
    let other = baseline["compiler"] != *compiler;
    let allowed = if other { OTHER_COMPILER } else { GROWTH };
    if other {
        let theirs = &baseline["compiler"];
        println!("{compiler} is not {theirs}: {:.0} % may be its doing", allowed * 100.0);
    }
    let mut grown = false;
    for (key, now) in counts {
        let before = baseline["instructions"][key].as_u64().unwrap_or_default();
        let change = now as f64 / before as f64 - 1.0;
        println!("{key:14} {before:8} -> {now:8} instructions ({:+.1} %)", change * 100.0);
        // Also a path that the file does not know: its change is infinite.
        grown |= change > allowed;
    }
    if grown {
        eprintln!(
            "A path grew by more than {:.0} %. If that is what it is worth: FRONTGATE_BLESS=1 make paths",
            allowed * 100.0
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Nanoseconds of a round: the best of several, since only what disturbs makes it longer.
fn time(runtime: &tokio::runtime::Runtime) {
    let all = PATHS.iter().chain([&ONLY_TIMED]);
    let times = all.map(|(key, make)| {
        let mut path = make(runtime);
        let rounds = 20_000;
        let best = (0..10).map(|_| {
            let begun = Instant::now();
            frontgate_measured(&mut path, rounds);
            begun.elapsed().as_secs_f64() * 1e9 / f64::from(rounds)
        });
        (*key, best.fold(f64::INFINITY, f64::min))
    });
    println!("{}", json!(times.collect::<BTreeMap<_, _>>()));
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => return compare(),
        ["time"] => time(&runtime),
        ["once", key] => {
            let (_, make) = PATHS.iter().find(|(known, _)| *known == key).unwrap();
            frontgate_measured(&mut make(&runtime), COUNTED);
        }
        _ => panic!("nothing, `time`, or `once PATH`: {words:?}"),
    }
    ExitCode::SUCCESS
}
