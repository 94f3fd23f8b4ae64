//! Stopping in good order.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::support::{
    SOON,
    backend::{Backend, always, read_head, reply},
    client::Client,
    frontgate::{Frontgate, LISTENERS},
    until,
};

fn config(shutdown: &str, port: u16) -> String {
    format!(
        "{LISTENERS}shutdown: {{ {shutdown} }}\nfarms:\n  a: {{ servers: [{{ address: 127.0.0.1, ports: {{ http: {port} }} }}], bridge: http }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n"
    )
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n";

fn readyz(frontgate: &Frontgate) -> u16 {
    Client::plain(frontgate.address("admin")).get("localhost", "/readyz").status
}

#[test]
fn sigterm_lets_a_running_request_end_and_exits_0() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let backend = Backend::plain(move |wire, _| {
            let Some(_) = read_head(wire) else { return };
            gate.lock().unwrap().recv().unwrap();
            reply(wire, "done").unwrap();
        });
        let mut frontgate = Frontgate::with(&config("delay: 1s, drain: 20s", backend.port()));
        let mut idle = frontgate.plain();
        let mut running = frontgate.plain();
        running.send(GET);
        until("the request arrives", SOON, || (backend.connections() == 1).then_some(()));
        assert_eq!(readyz(&frontgate), 200);
        let plain = frontgate.address("plain");
        frontgate.signal(signal);
        // Not ready first; the listener goes on for the delay.
        until("not ready", SOON, || (readyz(&frontgate) == 503).then_some(()));
        assert!(std::net::TcpStream::connect(plain).is_ok());
        until("closed", SOON, || std::net::TcpStream::connect(plain).is_err().then_some(()));
        assert!(idle.closed());
        go.send(()).unwrap();
        let answer = running.answer(false);
        assert_eq!((answer.text().as_str(), answer.header("connection")), ("done", Some("close")));
        assert_eq!(frontgate.exit_code(Duration::from_secs(5)), 0);
        assert_eq!(frontgate.access().len(), 1, "the log is written to the end");
    }
}

#[test]
fn the_drain_time_and_a_second_sigint_end_what_does_not_end() {
    let hang = || {
        Backend::plain(|wire, _| {
            let _ = read_head(wire);
            std::thread::sleep(Duration::from_secs(60));
        })
    };
    let begun = Instant::now();
    let backend = hang();
    let mut frontgate = Frontgate::with(&config("drain: 1s", backend.port()));
    let mut client = frontgate.plain();
    client.send(GET);
    until("the request arrives", SOON, || (backend.connections() == 1).then_some(()));
    frontgate.signal(libc::SIGTERM);
    assert_eq!(frontgate.exit_code(SOON), 0);

    let backend = hang();
    let mut frontgate = Frontgate::with(&config("drain: 10m", backend.port()));
    let mut client = frontgate.plain();
    client.send(GET);
    until("the request arrives", SOON, || (backend.connections() == 1).then_some(()));
    frontgate.signal(libc::SIGINT);
    frontgate.log_line("stopping (SIGINT)");
    frontgate.signal(libc::SIGINT);
    assert_eq!(frontgate.exit_code(SOON), 1);
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn an_invalid_file_exits_78_and_a_taken_port_1() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("frontgate.yaml");
    let run = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_frontgate"));
        command.args(["run", "--config"]).arg(&file).output().unwrap()
    };
    std::fs::write(&file, "farms: {}\n").unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(78), "{}", String::from_utf8_lossy(&output.stderr));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    crate::support::certificates::Certificates::write(dir.path());
    std::fs::write(&file, config("drain: 1s", 1).replace("127.0.0.2:0", &address)).unwrap();
    let output = run();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&address), "{stderr}");
}

#[test]
fn health_endpoints_and_the_healthcheck_command() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&format!(
        "{}health: {{ listen: 127.0.0.1:0 }}\n",
        config("drain: 1s", backend.port())
    ));
    let ask = |listener: &str, host: &str, path: &str| {
        Client::plain(frontgate.address(listener)).get(host, path)
    };
    assert_eq!(ask("admin", "localhost", "/livez").text(), "live\n");
    assert_eq!(ask("admin", "127.0.0.1", "/readyz").text(), "ready\n");
    assert_eq!(ask("admin", "rebound.example", "/readyz").status, 421);
    assert_eq!(ask("health", "10.1.2.3", "/readyz").status, 200);
    assert_eq!(ask("admin", "localhost", "/").status, 404);
    let check = |address: String| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_frontgate"));
        command.args(["healthcheck", "--admin", &address]).output().unwrap().status.code()
    };
    assert_eq!(check(frontgate.address("health").to_string()), Some(0));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(check(nobody.to_string()), Some(1));
}
