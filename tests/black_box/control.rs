//! Taking servers out and back: commands and the admin API.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    pins::{GET, config, server, sign_in},
    support::{
        SOON,
        backend::{Backend, always, read_head, reply},
        certificates::Certificates,
        client::{Answer, Client},
        frontgate::{Frontgate, LISTENERS, run},
        load::Load,
        until,
    },
};

fn done(frontgate: &Frontgate, words: &[&str]) -> String {
    let (code, out, err) = frontgate.command(words);
    assert_eq!(code, 0, "{words:?}: {out}{err}");
    out
}

fn token(frontgate: &Frontgate) -> String {
    std::fs::read_to_string(frontgate.path().join("state/admin.token")).unwrap().trim().to_owned()
}

fn servers(frontgate: &Frontgate) -> Value {
    Client::plain(frontgate.address("admin")).get("localhost", "/api/v1/servers").json()
}

/// `state` of each server, in order.
fn states(frontgate: &Frontgate) -> Vec<String> {
    let all = servers(frontgate);
    let rows = all["servers"].as_array().unwrap().iter();
    rows.map(|row| row["state"].as_str().unwrap().to_owned()).collect()
}

/// What so many clients, each on a connection of its own, are answered.
fn answers(frontgate: &Frontgate, count: usize) -> Vec<String> {
    let mut all: Vec<_> = (0..count).map(|_| frontgate.plain().ask(GET).text()).collect();
    all.sort();
    all.dedup();
    all
}

/// Two farms that share server names, plain.
fn two_farms(one: &Backend, two: &Backend) -> String {
    let servers = crate::support::servers_of(&[("exch01", one.port()), ("exch02", two.port())]);
    format!(
        "farms:\n  owa: {{ servers: [{servers}], bridge: http }}\n  \
         ews: {{ servers: [{servers}], bridge: http }}\n\
         publish:\n  - {{ host: meet.*, farm: owa, schemes: [https, http] }}\n  \
         - {{ host: dialin.*, farm: ews, schemes: [https, http] }}\n"
    )
}

#[test]
fn drain_moves_new_clients_and_leaves_pins_and_polls() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (one, two) = (server(), server());
    // Answers only when it is told to.
    let slow = Backend::plain(move |wire, _| {
        let Some(_) = read_head(wire) else { return };
        gate.lock().unwrap().recv().unwrap();
        reply(wire, "at last").unwrap();
    });
    let farms = config(&[("fe01", one.port())], "", "").replace(
        "publish:",
        &format!(
            "  slow: {{ servers: [{}], bridge: http }}\npublish:\n  - {{ host: dialin.*, farm: slow, schemes: [http] }}",
            crate::support::servers_of(&[("FE01", slow.port())])
        ),
    );
    let frontgate = Frontgate::with(&farms);
    let mut poll = frontgate.plain();
    poll.send("GET /poll HTTP/1.1\r\nHost: dialin.contoso.com\r\n\r\n");
    until("the poll arrives", SOON, || (slow.connections() == 1).then_some(()));
    let mut pinned = frontgate.plain();
    assert_eq!(pinned.ask(sign_in("alice")).text(), "alice 0");

    let out = done(&frontgate, &["drain", "fe01", "--why", "patches"]);
    assert!(out.contains("a     fe01    ready  drain\n"), "{out}");
    assert!(out.contains("slow  FE01    ready  drain\n"), "{out}");
    frontgate.log_line("farm a: server fe01 is drained by jo@");
    // The only server of its farm: new clients have none, the pin and the poll go on.
    let refused = frontgate.plain().ask(GET);
    assert_eq!((refused.status, refused.reason().as_str()), (503, "no_server"));
    let same = pinned.ask(GET);
    assert_eq!((same.text().as_str(), same.header("connection")), ("alice 0", Some("keep-alive")));
    go.send(()).unwrap();
    assert_eq!(poll.answer(false).text(), "at last");

    // With another server, that one takes the new clients.
    let servers = [("fe01", one.port()), ("fe02", two.port())];
    frontgate.rewrite(&config(&servers, "", ""));
    frontgate.log_line(" reloaded (");
    for n in 0..6 {
        assert_eq!(frontgate.plain().ask(sign_in("bob")).text(), format!("bob {n}"));
    }
    assert_eq!(two.connections(), 6);
    assert_eq!(pinned.ask(GET).text(), "alice 0");
    done(&frontgate, &["ready", "fe01"]);
    let before = one.connections();
    for _ in 0..2 {
        assert_eq!(frontgate.plain().ask(sign_in("carol")).status, 200);
    }
    assert_eq!(one.connections(), before + 1);
}

/// Under load: polls that hang at the drained server get their answers, nobody new comes, and no
/// request fails, neither when it is drained nor when it is back.
#[test]
fn a_drain_under_load_with_polls_open_fails_no_request() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let polls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let short = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (hanging, counted) = (polls.clone(), short.clone());
    let one = Backend::plain(move |wire, _| {
        while let Some(head) = read_head(wire) {
            if head.starts_with("GET /poll ") {
                hanging.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                gate.lock().unwrap().recv().unwrap();
            } else {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            if reply(wire, "one").is_err() {
                return;
            }
        }
    });
    let two = Backend::plain(crate::support::backend::always("two"));
    let servers = crate::support::servers_of(&[("fe01", one.port()), ("fe02", two.port())]);
    let frontgate = Frontgate::start(&format!(
        "farms:\n  a: {{ servers: [{servers}], bridge: http }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n"
    ));
    let mut waiting = Vec::new();
    let seen = || polls.load(std::sync::atomic::Ordering::SeqCst);
    until("eight polls at fe01", SOON, || {
        let mut client = frontgate.plain();
        client.send("GET /poll HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n");
        waiting.push(client);
        (seen() >= 8).then_some(())
    });
    let plain = frontgate.address("plain");
    let load = Load::start(4, move || Client::plain(plain), GET, |a| a.status == 200);
    until("load", SOON, || (load.answered() > 200).then_some(()));
    done(&frontgate, &["drain", "fe01"]);
    let after = || short.load(std::sync::atomic::Ordering::SeqCst);
    // What was on its way when the order came may still arrive.
    let settled = until("no more", SOON, || {
        let (before, answered) = (after(), load.answered());
        until("more load", SOON, || (load.answered() > answered + 100).then_some(()));
        (after() == before).then_some(before)
    });
    until("much more load", SOON, || (load.answered() > 2000).then_some(()));
    assert_eq!(after(), settled, "a drained server gets nobody new");
    // Those that hang there are answered, each in its time.
    let total = seen();
    for _ in 0..total {
        go.send(()).unwrap();
    }
    let answers: Vec<_> = waiting.iter_mut().map(|client| client.answer(false).text()).collect();
    assert_eq!(answers.iter().filter(|text| *text == "one").count(), total);
    done(&frontgate, &["ready", "fe01"]);
    until("traffic again", SOON, || (after() > settled + 50).then_some(()));
    load.finish();
}

#[test]
fn maintenance_takes_a_pins_server_away_and_ready_brings_it_back() {
    let (one, two) = (server(), server());
    let servers_of_a = [("fe01", one.port()), ("fe02", two.port())];
    let frontgate = Frontgate::with(&config(&servers_of_a, "", ""));
    let mut pinned = frontgate.plain();
    assert_eq!(pinned.ask(sign_in("alice")).text(), "alice 0");
    assert_eq!((one.connections(), two.connections()), (1, 0));
    let out = done(&frontgate, &["maintain", "a/fe01", "--why", "new disk"]);
    assert!(out.contains("a     fe01    ready  maintenance\n"), "{out}");
    let row = servers(&frontgate)["servers"][0].clone();
    assert_eq!((&row["state"], &row["why"]), (&json!("maintenance"), &json!("new disk")));
    assert!(row["who"].as_str().unwrap().starts_with("jo@"), "{row}");
    // The sign-in was made with the server that is out: one more answer, from the other one.
    let last = pinned.ask(GET);
    assert_eq!((last.status, last.header("connection")), (401, Some("close")));
    assert!(pinned.closed());
    assert_eq!((one.connections(), two.connections()), (1, 1));
    let mut others: Vec<_> = (0..4).map(|_| frontgate.plain()).collect();
    for other in &mut others {
        assert!(other.ask(sign_in("bob")).text().starts_with("bob "));
    }
    assert_eq!(one.connections(), 1);
    done(&frontgate, &["ready", "fe01"]);
    until("traffic again", SOON, || {
        frontgate.plain().ask(sign_in("carol"));
        (one.connections() > 1).then_some(())
    });
    let row = servers(&frontgate)["servers"][0].clone();
    assert_eq!(row["state"], "ready");
    assert!(row["who"].as_str().unwrap().starts_with("jo@"), "the last change is told: {row}");
    assert!(row["why"].is_null(), "{row}");
}

#[test]
fn a_name_means_every_farm_and_a_farm_with_a_name_one() {
    let (one, two) = (Backend::plain(always("one")), Backend::plain(always("two")));
    let frontgate = Frontgate::start(&two_farms(&one, &two));
    // Farms are sorted by name: ews, then owa.
    done(&frontgate, &["drain", "EXCH01"]);
    assert_eq!(states(&frontgate), ["drain", "ready", "drain", "ready"]);
    assert_eq!(answers(&frontgate, 4), ["two"]);
    done(&frontgate, &["ready", "OWA/exch01"]);
    assert_eq!(states(&frontgate), ["drain", "ready", "ready", "ready"]);
    assert_eq!(answers(&frontgate, 4), ["one", "two"]);
    let out = done(&frontgate, &["maintain", "ews/exch01", "--json"]);
    let out: Value = serde_json::from_str(&out).unwrap();
    let changed =
        json!([{ "farm": "ews", "server": "exch01", "from": "drain", "to": "maintenance" }]);
    assert_eq!((&out[0]["changed"], &out[0]["kept"]), (&changed, &json!(true)));
    // Out of a farm that has nobody left, that is said.
    let (code, _, err) = frontgate.command(&["drain", "ews/exch02"]);
    assert_eq!(code, 0);
    assert!(err.contains("farm ews has no healthy server left"), "{err}");
}

#[test]
fn an_unknown_server_is_told_with_its_neighbours() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&two_farms(&backend, &backend));
    let (code, out, err) = frontgate.command(&["drain", "exch1"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("no server is called `exch1`; did you mean exch01"), "{err}");
    let (code, out, err) = frontgate.command(&["drain", "owe/exch01", "--json"]);
    assert_eq!(code, 1);
    assert!(out.contains("did you mean") && err.contains("owa/exch01"), "{out}{err}");
    assert!(states(&frontgate).iter().all(|state| state == "ready"));
    assert_eq!(run(&["drain"]).0, 2);
}

#[test]
fn states_outlive_reloads_and_restarts() {
    let (one, two) = (Backend::plain(always("one")), Backend::plain(always("two")));
    let text = format!("{LISTENERS}{}", two_farms(&one, &two));
    let frontgate = Frontgate::with(&text);
    done(&frontgate, &["drain", "owa/exch01", "--why", "slow \"disk\""]);
    done(&frontgate, &["maintain", "ews/exch02"]);
    let before = servers(&frontgate);
    frontgate.rewrite(&text.replace("bridge: http", "bridge: http, timeout: 77s"));
    frontgate.log_line(" reloaded (");
    assert_eq!(states(&frontgate), ["ready", "maintenance", "drain", "ready"]);
    assert_eq!(answers(&frontgate, 4), ["two"]);
    let first_token = token(&frontgate);

    let frontgate = restart(frontgate);
    frontgate.log_line("farm owa: server exch01 is still drained by jo@");
    let after = servers(&frontgate);
    for n in 0..4 {
        for key in ["farm", "server", "state", "state_since", "who", "why"] {
            assert_eq!(before["servers"][n][key], after["servers"][n][key], "{n} {key}");
        }
    }
    assert_eq!(after["servers"][2]["why"], "slow \"disk\"");
    assert_eq!(answers(&frontgate, 4), ["two"]);
    assert_eq!(token(&frontgate), first_token, "scripts go on");

    // A file that cannot be used costs the orders, not the start, and is kept.
    std::fs::write(frontgate.path().join("state/servers.json"), "{ broken").unwrap();
    let frontgate = restart(frontgate);
    frontgate.log_line("servers.json.bad");
    assert!(states(&frontgate).iter().all(|state| state == "ready"));
    let bad = frontgate.path().join("state/servers.json.bad");
    assert_eq!(std::fs::read_to_string(bad).unwrap(), "{ broken");
    done(&frontgate, &["drain", "exch01"]);
    assert_eq!(states(&restart(frontgate)), ["drain", "ready", "drain", "ready"]);
}

/// Ends it without a goodbye, and starts another one in the same directory.
fn restart(frontgate: Frontgate) -> Frontgate {
    let dir = tempfile::tempdir().unwrap();
    copy(frontgate.path(), dir.path());
    drop(frontgate);
    let certificates = Certificates { dir: dir.path().to_owned() };
    Frontgate::in_dir(dir, certificates)
}

/// The directory of a test goes with its Frontgate, so the next one gets a copy.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

const DRAIN: &str = r#"{ "server": "exch01", "who": "test" }"#;

/// POSTs JSON with these header lines.
fn post(frontgate: &Frontgate, path: &str, host: &str, headers: &str, body: &str) -> Answer {
    Client::plain(frontgate.address("admin")).ask(format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    ))
}

#[test]
fn changes_need_the_token_and_come_from_here() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&two_farms(&backend, &backend));
    let good = format!("Authorization: Bearer {}\r\n", token(&frontgate));
    let wrong = format!("Authorization: Bearer {}\r\n", "0".repeat(64));
    let json = "Content-Type: application/json\r\n";
    let ask = |host: &str, headers: &str, body: &str| {
        post(&frontgate, "/api/v1/drain", host, headers, body)
    };
    let status = |headers: &str| ask("localhost", headers, DRAIN).status;
    let missing = ask("localhost", json, DRAIN);
    assert_eq!(missing.status, 401);
    assert!(missing.header("www-authenticate").unwrap().starts_with("Bearer"));
    assert_eq!(status(&format!("{json}{wrong}")), 401);
    for cross in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        assert_eq!(status(&format!("{json}{good}{cross}")), 403, "{cross}");
    }
    assert_eq!(status(&format!("Content-Type: text/plain\r\n{good}")), 415);
    assert_eq!(status(&good), 415);
    let rebound = ask("rebound.example", &format!("{json}{good}"), DRAIN);
    assert_eq!(rebound.status, 421);
    let all = format!("{json}{good}");
    let long = format!(r#"{{ "server": "exch01", "who": "{}" }}"#, "x".repeat(20_000));
    for (body, status) in [
        ("", 400),
        ("[]", 400),
        (r#"{ "server": "exch01" }"#, 400),
        (r#"{ "server": "exch01", "who": " " }"#, 400),
        (r#"{ "server": "exch01", "who": "a\nb" }"#, 400),
        (r#"{ "server": "exch01", "who": "a", "force": true }"#, 400),
        (&long, 413),
    ] {
        let answer = ask("localhost", &all, body);
        assert_eq!(answer.status, status, "{body}");
        assert!(!answer.json()["error"].as_str().unwrap().is_empty());
    }
    let admin = || Client::plain(frontgate.address("admin"));
    let got = admin().get("localhost", "/api/v1/drain");
    assert_eq!((got.status, got.header("allow")), (405, Some("POST")));
    assert_eq!(admin().get("localhost", "/api/v1/nothing").status, 404);
    let posted = post(&frontgate, "/api/v1/servers", "localhost", &all, DRAIN);
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
    assert!(states(&frontgate).iter().all(|state| state == "ready"), "nothing of that counted");

    let unknown = ask("localhost", &all, r#"{ "server": "exch1", "who": "test" }"#);
    assert_eq!((unknown.status, &unknown.json()["near"]), (404, &json!(["exch01"])));
    let here = format!("{all}Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(ask("localhost", &here, DRAIN).status, 200);
    assert_eq!(states(&frontgate), ["drain", "ready", "drain", "ready"]);
    // Who, from where, what, and the result; but never the token.
    frontgate.log_line("admin: drain for exch01 by test from 127.0.0.1:");
    frontgate.log_line("refused: 403");
    assert_eq!(frontgate.log_count(&token(&frontgate)), 0);
}

#[test]
fn the_servers_are_told_with_their_columns() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&two_farms(&backend, &backend));
    assert_eq!(answers(&frontgate, 4), ["ok"]);
    let all = servers(&frontgate);
    assert_eq!(all["version"], 1);
    let row = &all["servers"][2];
    for (key, value) in [
        ("farm", json!("owa")),
        ("server", json!("exch01")),
        ("address", json!("127.0.0.1")),
        ("weight", json!(100)),
        ("state", json!("ready")),
        ("state_since", Value::Null),
        ("who", Value::Null),
        ("why", Value::Null),
        ("healthy", json!(true)),
        ("reason", Value::Null),
        ("requests", json!(2)),
        ("failures", json!(0)),
        ("in_flight", json!(0)),
    ] {
        assert_eq!(row[key], value, "{key}");
    }
    assert!(row["healthy_since"].as_str().unwrap().ends_with('Z'), "{row}");
}

#[test]
fn a_configured_token_counts_and_follows_its_file() {
    let backend = Backend::plain(always("ok"));
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    let file = dir.path().join("admin.secret");
    std::fs::write(&file, "first-secret-of-ours\n").unwrap();
    let text = format!("{LISTENERS}{}", two_farms(&backend, &backend));
    // Every address of this machine but the first: other machines could reach it.
    let text = text.replace(
        "admin: { listen: 127.0.0.1:0 }",
        "admin: { listen: \"0.0.0.0:0\", token_file: admin.secret }",
    );
    std::fs::write(dir.path().join("frontgate.yaml"), text).unwrap();
    let frontgate = Frontgate::in_dir(dir, certificates);
    assert!(!frontgate.path().join("state/admin.token").exists());
    let at = |frontgate: &Frontgate| format!("127.0.0.1:{}", frontgate.address("admin").port());
    let read = |authorization: &str| {
        let mut client = Client::plain(at(&frontgate).parse().unwrap());
        client
            .ask(format!("GET /api/v1/servers HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n"))
    };
    // Reading needs it, too; health does not.
    assert_eq!(read("").status, 401);
    assert_eq!(read("Authorization: Bearer first-secret-of-ours\r\n").status, 200);
    let mut health = Client::plain(at(&frontgate).parse().unwrap());
    assert_eq!(health.get("localhost", "/livez").status, 200);
    let file = frontgate.config_path();
    let drain = |admin: &str| {
        run(&["drain", "exch01", "--config", file.to_str().unwrap(), "--admin", admin])
    };
    assert_eq!(drain(&at(&frontgate)).0, 0);
    std::fs::write(frontgate.path().join("admin.secret"), "second-secret-of-ours\n").unwrap();
    frontgate.log_line(" reloaded (");
    let moved = frontgate.logged().into_iter().rfind(|line| line.contains("admin: http on "));
    let port = moved.unwrap().rsplit(':').next().unwrap().to_owned();
    assert_eq!(drain(&format!("127.0.0.1:{port}")).0, 0);
}

#[test]
fn an_open_admin_side_without_a_token_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Certificates::write(dir.path());
    let backend = Backend::plain(always("ok"));
    let text = format!("{LISTENERS}{}", two_farms(&backend, &backend));
    let file = dir.path().join("frontgate.yaml");
    std::fs::write(&file, text.replace("listen: 127.0.0.1:0", "listen: \"0.0.0.0:0\"")).unwrap();
    let (code, _, err) = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(code, 78);
    assert!(err.contains("E051"), "{err}");
}

#[test]
fn without_a_state_directory_it_runs_and_says_so() {
    let (one, two) = (Backend::plain(always("one")), Backend::plain(always("two")));
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    // The tests run as root, for whom every directory is writable: below a file there is none.
    std::fs::write(dir.path().join("occupied"), "a file").unwrap();
    std::fs::write(dir.path().join("token"), "0123456789abcdef").unwrap();
    let text = format!("{LISTENERS}{}", two_farms(&one, &two));
    let without = text.replace("state_dir: state", "state_dir: occupied/state");
    std::fs::write(dir.path().join("frontgate.yaml"), &without).unwrap();
    let frontgate = Frontgate::in_dir(dir, certificates);
    frontgate.log_line("warning[W017]");
    frontgate.log_line("commands cannot change anything");
    let (code, _, err) = frontgate.command(&["drain", "exch01"]);
    assert_eq!(code, 1);
    assert!(err.contains("cannot read the token"), "{err}");
    // With a token of the administrator's own, commands work, and say what they cannot.
    frontgate.rewrite(&without.replace(
        "admin: { listen: 127.0.0.1:0 }",
        "admin: { listen: 127.0.0.3:0, token_file: token }",
    ));
    let line = frontgate.log_line("admin: http on 127.0.0.3:");
    frontgate.log_line(" reloaded (");
    let (admin, file) = (line.rsplit(" on ").next().unwrap().to_owned(), frontgate.config_path());
    let file = file.to_str().unwrap();
    let (code, out, err) = run(&["drain", "exch01", "--config", file, "--admin", &admin]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("exch01  ready  drain") && err.contains("a restart will forget"), "{err}");
    assert_eq!(answers(&frontgate, 4), ["two"]);
    // Another state directory is for the next start.
    frontgate.rewrite(&text);
    frontgate.log_line("needs_restart: state_dir changed");
}

#[test]
fn each_of_several_frontgates_is_asked_and_one_that_is_gone_is_named() {
    let backend = Backend::plain(always("ok"));
    let one = Frontgate::start(&two_farms(&backend, &backend));
    let two = Frontgate::start(&two_farms(&backend, &backend));
    let shared = one.path().join("shared");
    std::fs::copy(one.path().join("state/admin.token"), &shared).unwrap();
    let (first, second) = (one.address("admin").to_string(), two.address("admin").to_string());
    let closed = crate::support::closed::Closed::new();
    let nobody = closed.address.to_string();
    let ask = |admins: &[&str]| {
        let mut args = vec!["drain", "owa/exch01", "--token-file", shared.to_str().unwrap()];
        admins.iter().for_each(|admin| args.extend(["--admin", admin]));
        run(&args)
    };
    let (code, out, err) = ask(&[&first, &nobody, &second]);
    assert_eq!(code, 1);
    let row = format!("{first}  owa   exch01  ready  drain\n");
    assert!(out.starts_with("ADMIN ") && out.contains(&row), "{out}");
    assert!(err.contains(&format!("{nobody}: nobody listens on")), "{err}");
    assert!(err.contains(&format!("{second}: this is not the token")), "{err}");
    assert_eq!(states(&one), ["ready", "ready", "drain", "ready"]);
    assert_eq!(states(&two), ["ready"; 4]);
    let (code, out, _) = ask(&[&first]);
    assert_eq!(code, 0);
    assert!(out.contains("drain  drain (as it was)"), "{out}");
    // Where there is no configuration, nobody is asked by guess.
    let (code, _, err) = run(&["drain", "exch01", "--config", "/nowhere/config.yaml"]);
    assert_eq!(code, 78);
    assert!(err.contains("E001"), "{err}");
}

#[test]
fn a_unix_socket_needs_the_token_as_well() {
    let backend = Backend::plain(always("ok"));
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", dir.path().join("admin.sock").display());
    let text = format!("{LISTENERS}{}", two_farms(&backend, &backend))
        .replace("listen: 127.0.0.1:0 }", &format!("listen: \"{socket}\" }}"));
    let frontgate = Frontgate::with(&text);
    let file = frontgate.config_path();
    let file = file.to_str().unwrap();
    let wrong = dir.path().join("wrong");
    std::fs::write(&wrong, "0123456789abcdef").unwrap();
    let (code, _, err) =
        run(&["drain", "exch01", "--config", file, "--token-file", wrong.to_str().unwrap()]);
    assert!(code == 1 && err.contains("this is not the token"), "{err}");
    let (code, out, err) = run(&["drain", "exch01", "--config", file]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("owa   exch01  ready  drain"), "{out}");
    frontgate.log_line("from the Unix socket, user ");
}

/// A body that never comes costs the admin side a connection for ten seconds, not more.
#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::start(&two_farms(&backend, &backend));
    let mut slow = Client::plain(frontgate.address("admin"));
    slow.send(format!(
        "POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {}\r\nContent-Length: 100\r\n\r\n{{",
        token(&frontgate)
    ));
    slow.patience(Duration::from_secs(20));
    let begun = std::time::Instant::now();
    assert!(slow.closed());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(states(&frontgate).iter().all(|state| state == "ready"));
}
