//! Stopping in good order.

use std::time::{Duration, Instant};

use crate::support::{
    SOON,
    backend::{Backend, always, held, read_head},
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
        let (go, backend) = held("done");
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
        // Written to the end; what reads it here may be a moment behind.
        until("the line", SOON, || (frontgate.access().len() == 1).then_some(()));
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
    assert_eq!(ask("health", "localhost", "/").status, 404);
    let check = |address: String| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_frontgate"));
        command.args(["healthcheck", "--admin", &address]).output().unwrap().status.code()
    };
    assert_eq!(check(frontgate.address("health").to_string()), Some(0));
    let nobody = crate::support::closed::Closed::new();
    assert_eq!(check(nobody.address.to_string()), Some(1));
}

/// Clients are asked to go elsewhere before anything is closed: those that do lose no request.
#[test]
fn during_the_delay_answers_end_their_connections() {
    let backend = Backend::plain(always("ok"));
    let mut frontgate = Frontgate::with(&config("delay: 3s, drain: 20s", backend.port()));
    let mut client = frontgate.plain();
    assert_eq!(client.ask(GET).header("connection"), Some("keep-alive"));
    frontgate.signal(libc::SIGTERM);
    until("not ready", SOON, || (readyz(&frontgate) == 503).then_some(()));
    let last = client.ask(GET);
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(client.closed());
    // Whoever still comes here is served.
    assert_eq!(frontgate.plain().ask(GET).status, 200);
    assert_eq!(frontgate.exit_code(SOON), 0);
}

/// While the last requests end, a changed file must not open the listeners again.
#[test]
fn a_reload_during_the_drain_opens_nothing() {
    let (go, backend) = held("done");
    let mut frontgate = Frontgate::with(&config("drain: 30s", backend.port()));
    let plain = frontgate.address("plain");
    let mut running = frontgate.plain();
    running.send(GET);
    until("the request arrives", SOON, || (backend.connections() == 1).then_some(()));
    frontgate.signal(libc::SIGTERM);
    until("closed", SOON, || std::net::TcpStream::connect(plain).is_err().then_some(()));
    frontgate.rewrite(&config("drain: 31s", backend.port()));
    frontgate.signal(libc::SIGHUP);
    frontgate.signal(libc::SIGUSR1);
    frontgate.log_line("access log opened anew");
    // Long enough for the file watch's quiet time and a reload.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(std::net::TcpStream::connect(plain).is_err());
    assert_eq!(frontgate.log_count("reloaded ("), 0);
    go.send(()).unwrap();
    assert_eq!(running.answer(false).text(), "done");
    assert_eq!(frontgate.exit_code(Duration::from_secs(5)), 0);
}

#[test]
fn a_client_in_the_handshake_does_not_hold_up_the_stop() {
    let backend = Backend::plain(always("ok"));
    let mut frontgate = Frontgate::with(&config("drain: 60s", backend.port()));
    let silent = Client::plain(frontgate.address("public"));
    let begun = Instant::now();
    frontgate.signal(libc::SIGTERM);
    assert_eq!(frontgate.exit_code(SOON), 0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(silent);
}

#[test]
fn signals_at_start_stop_and_do_not_kill() {
    let dir = tempfile::tempdir().unwrap();
    crate::support::certificates::Certificates::write(dir.path());
    let file = dir.path().join("frontgate.yaml");
    std::fs::write(&file, config("drain: 1s", 1)).unwrap();
    for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGTERM] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_frontgate"))
            .args(["run", "--config"])
            .arg(&file)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        // The first line of all: the signals are installed before anything is bound.
        std::io::BufRead::read_line(&mut log, &mut line).unwrap();
        // SAFETY: kill(2) on a child we own.
        unsafe { libc::kill(child.id() as i32, signal) };
        if signal == libc::SIGTERM {
            let code = until("exit", SOON, || child.try_wait().unwrap()).code();
            assert_eq!(code, Some(0));
        } else {
            std::thread::sleep(Duration::from_millis(300));
            assert!(child.try_wait().unwrap().is_none(), "signal {signal} killed it");
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Also before anything listens for them: it takes a while to read ten thousand rules.
#[test]
fn signals_while_the_configuration_is_read_are_kept() {
    use std::{io::BufRead, os::unix::process::CommandExt, sync::mpsc::sync_channel};

    let dir = tempfile::tempdir().unwrap();
    crate::support::certificates::Certificates::write(dir.path());
    let file = dir.path().join("frontgate.yaml");
    // So many warnings that nothing goes on until somebody reads them.
    let unused = |n| format!("  u{n}: {{ servers: [127.0.0.1], bridge: http }}\n");
    let unused: String = (0..1500).map(unused).collect();
    let text = config("drain: 1s", 1).replacen("farms:\n", &format!("farms:\n{unused}"), 1);
    std::fs::write(&file, text).unwrap();
    for (signal, wanted) in [
        (libc::SIGHUP, "reload (SIGHUP): nothing has changed"),
        (libc::SIGUSR1, "access log opened anew"),
        (libc::SIGUSR2, "took over from process"),
    ] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_frontgate"))
            .args(["run", "--config"])
            .arg(&file)
            .stderr(std::process::Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        // Each line is taken before the one after the next is read.
        let (to, lines) = sync_channel(0);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        let next = || lines.recv_timeout(Duration::from_secs(60));
        assert!(next().unwrap().starts_with("warning["));
        // SAFETY: kill(2) on a child we own, and on the group that was made for it.
        unsafe { libc::kill(child.id() as i32, signal) };
        while !next().unwrap_or_else(|e| panic!("no {wanted}: {e}")).contains(wanted) {}
        // SAFETY: as above.
        unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
        let _ = child.wait();
    }
}

#[test]
fn idle_connections_do_not_silence_the_health_listener() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&format!(
        "{}health: {{ listen: 127.0.0.1:0 }}\n",
        config("drain: 1s", backend.port())
    ));
    let address = frontgate.address("health");
    let held: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let begun = Instant::now();
    assert_eq!(Client::plain(address).get("x", "/livez").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(2));
    drop(held);
}

#[test]
fn the_healthcheck_does_not_mind_errors_in_the_file() {
    let backend = Backend::plain(always("ok"));
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = probe.local_addr().unwrap().to_string();
    drop(probe);
    let text = config("drain: 1s", backend.port())
        .replace("127.0.0.1:0 }\naccess_log", &format!("{admin} }}\naccess_log"));
    let frontgate = Frontgate::with(&text);
    let check = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_frontgate"));
        command.args(["healthcheck", "--config"]).arg(frontgate.config_path()).output().unwrap()
    };
    assert_eq!(check().status.code(), Some(0));
    frontgate.rewrite(&text.replace("farm: a,", "farm: b,"));
    frontgate.log_line("reload refused");
    assert_eq!(check().status.code(), Some(0), "{}", String::from_utf8_lossy(&check().stderr));
}
