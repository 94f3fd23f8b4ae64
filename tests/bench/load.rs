//! Load from programs of somebody else's: h2load and oha.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::peers::Peer;

/// Microseconds of processor time for a request, in a closed loop of so many seconds.
pub fn request(peer: &Peer, host: &str, http2: bool, seconds: u64) -> f64 {
    let (spent, requests) = peer.process.spent(|| closed(peer.rsa, host, http2, seconds));
    // The second of warming up costs processor time, too: requests are counted by rate.
    let seconds = seconds as f64;
    spent / (requests * (seconds + 1.0) / seconds)
}

/// Requests that were answered over sixteen connections in so many seconds, after another one.
fn closed(address: SocketAddr, host: &str, http2: bool, seconds: u64) -> f64 {
    let mut command = Command::new("h2load");
    command.args(["-t1", "-c16", "--warm-up-time=1s"]).arg(format!("-D{seconds}"));
    command.arg(format!("--connect-to={address}"));
    command.args(if http2 { ["-m10", "--npn-list=h2"] } else { ["-m1", "--npn-list=http/1.1"] });
    if !http2 {
        command.arg("--h1");
    }
    let done = command.arg(format!("https://{host}:{}/", address.port())).output();
    let done = done.expect("h2load is missing: scripts/dependencies.sh bench installs it");
    let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    let count = |what: &str| {
        let line = text.lines().find(|line| line.starts_with("requests:"));
        let line = line.unwrap_or_else(|| panic!("{command:?}: {text}"));
        let part = line.split(", ").find(|part| part.ends_with(what)).unwrap();
        let part = part.trim_start_matches("requests: ");
        part.split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let errors = count(" failed") + count(" errored");
    assert!(errors == 0.0, "{command:?}: {text}");
    let statuses = text.lines().find(|line| line.starts_with("status codes:")).unwrap();
    assert!(statuses.contains(" 0 3xx, 0 4xx, 0 5xx"), "{statuses}");
    count(" succeeded")
}

/// Latencies in ms at 50, 99 and 99.9 %, at a rate that does not depend on the answers.
pub fn open(address: SocketAddr, host: &str, http2: bool, rate: u32, seconds: u64) -> [f64; 3] {
    let mut command = Command::new(oha());
    command.args(["--no-tui", "--output-format", "json", "--insecure", "--latency-correction"]);
    command.args(["-c", "32", "-q", &rate.to_string(), "-z", &format!("{seconds}s")]);
    let port = address.port();
    command.args(["--connect-to", &format!("{host}:{port}:{}:{port}", address.ip())]);
    if http2 {
        command.arg("--http2");
    }
    let done = command.arg(format!("https://{host}:{port}/")).output().unwrap();
    let told: Value = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&done.stderr)));
    let good = told["statusCodeDistribution"]["200"].as_f64().unwrap_or_default();
    assert!(good >= 0.95 * f64::from(rate) * seconds as f64, "{told}");
    ["p50", "p99", "p99.9"].map(|p| told["latencyPercentiles"][p].as_f64().unwrap() * 1000.0)
}

fn oha() -> PathBuf {
    std::env::var_os("OHA").expect("OHA is not set: run `make bench`").into()
}

/// Fetches (or sends, if there is a file) a body so many times over one connection, with curl.
pub fn bodies(address: SocketAddr, host: &str, path: &str, file: Option<&Path>, times: usize) {
    let mut command = Command::new("curl");
    let common =
        ["--silent", "--show-error", "--fail", "--insecure", "--noproxy", "*", "--http1.1"];
    let resolve = format!("{host}:{}:{}", address.port(), address.ip());
    for n in 0..times {
        if n > 0 {
            command.arg("--next");
        }
        command.args(common).args(["--resolve", &resolve, "--output", "/dev/null"]);
        if let Some(file) = file {
            command.args(["-H", "Expect:", "--request", "POST", "--upload-file"]).arg(file);
        }
        command.arg(format!("https://{host}:{}{path}", address.port()));
    }
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
