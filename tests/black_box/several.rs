//! Commands that several Frontgates get at once.

use serde_json::Value;

use crate::support::{
    SOON,
    backend::{Backend, always, held},
    certificates::Certificates,
    frontgate::{Frontgate, LISTENERS, run},
    servers_of, until,
};

/// Two with the same servers, and a token that both know.
fn pair(port: u16) -> [Frontgate; 2] {
    let servers = servers_of(&[("exch01", port), ("exch02", port)]);
    let text = format!(
        "{}farms:\n  owa: {{ servers: [{servers}], bridge: http }}\n\
         publish:\n  - {{ host: meet.*, farm: owa, schemes: [https, http] }}\n",
        LISTENERS.replace("127.0.0.1:0 }", "127.0.0.1:0, token_file: shared }")
    );
    [(); 2].map(|()| {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::write(dir.path());
        std::fs::write(dir.path().join("frontgate.yaml"), &text).unwrap();
        std::fs::write(dir.path().join("shared"), "a-secret-of-both-of-them").unwrap();
        Frontgate::in_dir(dir, certificates)
    })
}

#[test]
fn a_command_reaches_each_by_address_or_name_and_says_who_answered_what() {
    let backend = Backend::plain(always("ok"));
    let [one, mut two] = pair(backend.port());
    let first = one.address("admin").to_string();
    let second = format!("localhost:{}", two.address("admin").port());
    let token = one.path().join("shared").display().to_string();
    let ask = |words: &[&str]| {
        run(&[words, &["--admin", &first, "--admin", &second, "--token-file", &token]].concat())
    };

    let (code, out, err) = ask(&["drain", "exch01", "--why", "patches"]);
    assert_eq!(code, 0, "{err}");
    let rows: Vec<Vec<&str>> = out.lines().map(|l| l.split_whitespace().collect()).collect();
    let row = |at| vec![at, "owa", "exch01", "ready", "drain"];
    assert_eq!(rows[1..], [row(first.as_str()), row(second.as_str())], "{out}");
    for frontgate in [&one, &two] {
        frontgate.log_line("farm owa: server exch01 is drained by jo@");
    }

    let (code, out, err) = ask(&["ready", "exch01", "--json"]);
    assert_eq!(code, 0, "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    let at: Vec<_> = told.as_array().unwrap().iter().map(|one| &one["admin"]).collect();
    assert_eq!(at, [&first, &second]);
    assert_eq!(told[1]["changed"][0]["to"], "ready");

    let (code, out, err) = ask(&["status"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with(&format!("{first}\n")) && out.contains(&format!("{second}\n")),
        "{out}"
    );
    let (code, out, err) = ask(&["reload"]);
    assert_eq!(code, 0, "{err}");
    let unchanged = |at: &str| format!("{at}: nothing has changed\n");
    assert_eq!(out, unchanged(&first) + &unchanged(&second));
    let (code, out, err) = ask(&["events"]);
    assert_eq!(code, 0, "{err}");
    for at in [&first, &second] {
        assert!(out.lines().any(|l| l.starts_with(at.as_str()) && l.contains("exch01")), "{out}");
    }

    // One of them stops: the other is told all the same, and the command fails.
    two.signal(libc::SIGTERM);
    two.exit_code(SOON);
    let (code, out, err) = ask(&["maintain", "exch02", "--json"]);
    assert_eq!(code, 1);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told[0]["changed"][0]["to"], "maintenance");
    let why = format!("nobody listens on {second}");
    assert!(told[1]["error"].as_str().unwrap().starts_with(&why), "{told}");
    assert!(err.contains(&format!("{second}: {why}")), "{err}");
    assert_eq!(ask(&["status"]).0, 1);
    assert_eq!(ask(&["reload"]).0, 1);
}

#[test]
fn a_name_that_nobody_knows_is_said_and_the_other_is_told() {
    let backend = Backend::plain(always("ok"));
    let [one, _] = pair(backend.port());
    let (first, token) = (one.address("admin").to_string(), one.path().join("shared"));
    let words = ["drain", "exch01", "--admin", "uc2.invalid:9180", "--admin", &first];
    let (code, out, err) = run(&[&words[..], &["--token-file", token.to_str().unwrap()]].concat());
    assert_eq!(code, 1);
    assert!(out.contains(&format!("{first}  owa")), "{out}");
    assert!(err.contains("uc2.invalid:9180: cannot look up uc2.invalid:9180"), "{err}");
    // A token that matters has to be there, before anybody is asked.
    let (code, _, err) = run(&[&words[..], &["--token-file", "/nowhere"]].concat());
    assert_eq!(code, 1);
    assert!(err.contains("cannot read the token /nowhere"), "{err}");
    assert_eq!(run(&["drain", "exch01", "--admin", "uc2"]).0, 2);
}

#[test]
fn an_order_can_wait_for_what_it_is_for() {
    let (go, backend) = held("at last");
    let [one, two] = pair(backend.port());
    let token = one.path().join("shared").display().to_string();
    let admins = [one.address("admin").to_string(), two.address("admin").to_string()];
    let order = |word: &str, server: &str, wait: &str| {
        let at = ["--admin", &admins[0], "--admin", &admins[1], "--token-file", &token];
        run(&[&[word, server, "--wait", wait][..], &at].concat())
    };
    let mut poll = two.plain();
    poll.send("GET /poll HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n");
    until("the poll arrives", SOON, || (backend.connections() == 1).then_some(()));
    let (_, out, _) = run(&["status", "--admin", &admins[1], "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    let rows = told[0]["servers"].as_array().unwrap();
    let busy = rows.iter().find(|row| row["in_flight"] == 1).unwrap()["server"].as_str().unwrap();

    let (code, out, err) = order("drain", busy, "300ms");
    assert_eq!(code, 1, "{out}");
    let left = format!("{}: owa/{busy} has 1 requests under way", admins[1]);
    assert!(err.contains(&left) && !err.contains(&format!("{}: ", admins[0])), "{err}");
    go.send(()).unwrap();
    assert_eq!(poll.answer(false).text(), "at last");
    assert_eq!(order("drain", busy, "15s").0, 0);
    assert_eq!(order("ready", busy, "15s").0, 0);
}

#[test]
fn ready_waits_until_the_server_is_healthy() {
    let backend = Backend::plain(always("ok"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let servers = servers_of(&[("exch01", backend.port()), ("exch02", port)]);
    let frontgate = Frontgate::start(&format!(
        "farms:\n  owa: {{ servers: [{servers}], bridge: http, \
         probe: {{ path: /, interval: 200ms, rise: 1, fall: 1 }} }}\n\
         publish:\n  - {{ host: meet.*, farm: owa }}\n"
    ));
    frontgate.log_line("server exch02 is down");
    let (code, _, err) = frontgate.command(&["ready", "exch02", "--wait", "300ms"]);
    assert_eq!(code, 1);
    assert!(err.contains("owa/exch02 is down: connect refused"), "{err}");
    assert_eq!(frontgate.command(&["ready", "exch01", "--wait", "15s"]).0, 0);
}
