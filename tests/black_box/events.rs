//! Events: each change once, over the API, live, by command and by webhook.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    SOON,
    backend::{Backend, Wire, always, read_body, read_head},
    certificates::{Certificates, authority, ec, issue, lasting, save},
    client::Client,
    frontgate::{Frontgate, LISTENERS},
    servers_of, until,
};

fn config(top: &str, farm: &str, port: u16) -> String {
    let servers = servers_of(&[("fe01", port)]);
    format!(
        "{LISTENERS}{top}\nfarms:\n  a:\n    servers: [{servers}]\n    bridge: http\n{farm}\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n"
    )
}

/// Every event so far.
fn events(frontgate: &Frontgate) -> Vec<Value> {
    let list = Client::plain(frontgate.address("admin"))
        .get("localhost", "/api/v1/events?limit=1000")
        .json();
    assert_eq!(list["version"], 1);
    list["events"].as_array().unwrap().clone()
}

fn codes(frontgate: &Frontgate) -> Vec<String> {
    events(frontgate).iter().map(|event| event["code"].as_str().unwrap().to_owned()).collect()
}

/// Waits for an event.
fn event(frontgate: &Frontgate, code: &str) -> Value {
    until(&format!("{code} among {:?}", codes(frontgate)), SOON, || {
        events(frontgate).into_iter().find(|event| event["code"] == code)
    })
}

/// `frontgate WORDS` about this Frontgate.
fn command(frontgate: &Frontgate, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frontgate"));
    command.args(words).arg("--config").arg(frontgate.config_path());
    command.args(["--admin", &frontgate.address("admin").to_string()]);
    command.env("SUDO_USER", "jo").env_remove("FRONTGATE_CONFIG");
    command
}

fn done(frontgate: &Frontgate, words: &[&str]) -> String {
    let out = command(frontgate, words).output().unwrap();
    assert!(out.status.success(), "{words:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// A program that goes on, and its lines.
struct Reader {
    child: Child,
    lines: Receiver<String>,
}

impl Reader {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (to, lines) = channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = to.send(line);
            }
        });
        Self { child, lines }
    }

    /// `curl -N` of the stream.
    fn curl(frontgate: &Frontgate, path: &str, more: &[&str]) -> Self {
        let url = format!("http://{}{path}", frontgate.address("admin"));
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--no-buffer", "--noproxy", "*", "--max-time", "60"]);
        Self::start(curl.args(more).arg(url))
    }

    /// The next line that begins so.
    fn line(&self, start: &str) -> String {
        let end = std::time::Instant::now() + SOON * 2;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|e| panic!("no line with {start:?}: {e}"));
            if line.starts_with(start) {
                return line;
            }
        }
    }

    /// The next event of a stream with this code.
    fn event_of(&self, code: &str) -> Value {
        until(code, SOON, || Some(self.event()).filter(|event| event["code"] == code))
    }

    /// The next event of a stream.
    fn event(&self) -> Value {
        serde_json::from_str(self.line("data: ").strip_prefix("data: ").unwrap()).unwrap()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers with this status.
fn answering(status: &Arc<AtomicU16>) -> impl Fn(&mut dyn Wire, usize) + Send + Sync + 'static {
    let status = status.clone();
    move |wire, _| {
        while read_head(wire).is_some() {
            let status = status.load(Ordering::SeqCst);
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
            if wire.write_all(head.as_bytes()).is_err() {
                return;
            }
        }
    }
}

#[test]
fn every_change_is_one_event_with_a_code_and_a_reason() {
    let status = Arc::new(AtomicU16::new(200));
    let backend = Backend::plain(answering(&status));
    let probe = "    probe: { path: /probe, interval: 1s, timeout: 1s, rise: 1, fall: 1 }\n";
    let good = config("", probe, backend.port());
    let frontgate = Frontgate::with(&good);
    let started = event(&frontgate, "started");
    assert_eq!((&started["severity"], &started["details"]["farms"]), (&"info".into(), &1.into()));

    until("a good probe", SOON, || (backend.connections() > 0).then_some(()));
    status.store(503, Ordering::SeqCst);
    let down = event(&frontgate, "server_down");
    assert_eq!(down["details"]["reason"], "status 503");
    assert_eq!((&down["farm"], &down["server"]), (&"a".into(), &"fe01".into()));
    assert_eq!(down["severity"], "warning");
    let without = event(&frontgate, "farm_without_servers");
    assert_eq!(without["details"]["servers"]["fe01"], "status 503");
    assert_eq!((&without["severity"], &without["server"]), (&"error".into(), &Value::Null));
    status.store(200, Ordering::SeqCst);
    event(&frontgate, "server_up");
    event(&frontgate, "farm_serves_again");

    done(&frontgate, &["drain", "fe01", "--why", "patches"]);
    done(&frontgate, &["drain", "fe01", "--why", "more patches"]);
    let drained = event(&frontgate, "server_drained");
    assert_eq!(drained["details"]["why"], "patches");
    assert!(drained["details"]["who"].as_str().unwrap().starts_with("jo@"), "{drained}");
    done(&frontgate, &["maintain", "fe01"]);
    event(&frontgate, "server_maintenance");
    done(&frontgate, &["ready", "fe01"]);
    event(&frontgate, "server_ready");

    frontgate.rewrite("farms: [");
    let refused = event(&frontgate, "reload_refused");
    assert!(refused["details"]["findings"].as_str().unwrap().contains("frontgate.yaml:1"));
    frontgate.rewrite(&good.replace("probe:", "timeout: 100s\n    probe:"));
    let reloaded = event(&frontgate, "reload_done");
    assert_eq!(reloaded["details"]["was"], started["details"]["site"]);
    frontgate.signal(libc::SIGHUP);
    frontgate.log_line("reload (SIGHUP): nothing has changed");

    let all = events(&frontgate);
    for code in [
        "started",
        "server_down",
        "server_up",
        "server_drained",
        "server_maintenance",
        "server_ready",
        "reload_refused",
        "reload_done",
    ] {
        let told: Vec<_> = all.iter().filter(|event| event["code"] == code).collect();
        assert_eq!(told.len(), 1, "{code}: {all:#?}");
        // The log says the same, as often.
        frontgate.logged_times(told[0]["text"].as_str().unwrap(), 1);
    }
    let ids: Vec<_> = all.iter().map(|event| event["id"].as_u64().unwrap()).collect();
    assert!(ids.windows(2).all(|two| two[0] + 1 == two[1]), "{ids:?}");
    let path = format!("/api/v1/events?after={}", ids[ids.len() - 2]);
    let last = Client::plain(frontgate.address("admin")).get("localhost", &path).json();
    assert_eq!(last["events"], Value::from(vec![all.last().unwrap().clone()]));
    let wrong = Client::plain(frontgate.address("admin")).get("localhost", "/api/v1/events?x=1");
    assert_eq!(wrong.status, 400);
}

#[test]
fn events_come_live_and_go_on_after_the_last_one_seen() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&config("", "", backend.port()));
    let live = Reader::curl(&frontgate, "/api/v1/events/stream", &["--include"]);
    assert_eq!(live.line("Content-Type").to_ascii_lowercase(), "content-type: text/event-stream");
    live.line("retry: ");
    done(&frontgate, &["drain", "fe01"]);
    let drained = live.event();
    assert_eq!(drained["code"], "server_drained");
    let without = live.event();
    assert_eq!(without["code"], "farm_without_servers", "half a second later");
    // A heartbeat: the stream outlives what other connections may take.
    live.line(":");
    done(&frontgate, &["ready", "fe01"]);
    assert_eq!(live.event()["code"], "server_ready");
    drop(live);

    done(&frontgate, &["maintain", "fe01"]);
    let seen = format!("Last-Event-ID: {}", without["id"]);
    let accept = "Accept: text/event-stream";
    let resumed = Reader::curl(&frontgate, "/api/v1/events?after=1", &["-H", &seen, "-H", accept]);
    assert_eq!(resumed.event()["code"], "server_ready");
    resumed.event_of("server_maintenance");
    let latest = Reader::curl(&frontgate, "/api/v1/events/stream?limit=2", &[]);
    latest.event();
    latest.event();
    done(&frontgate, &["ready", "fe01"]);
    latest.event_of("server_ready");

    let stranger =
        Client::plain(frontgate.address("admin")).get("evil.example", "/api/v1/events/stream");
    assert_eq!(stranger.status, 421);
}

#[test]
fn the_command_tells_and_follows() {
    let backend = Backend::plain(always("ok"));
    let frontgate = Frontgate::with(&config("", "", backend.port()));
    let mut follow = command(&frontgate, &["events", "--follow", "--json"]);
    let follow = Reader::start(&mut follow);
    follow.line("{");
    done(&frontgate, &["drain", "fe01", "--why", "patches"]);
    let drained = until("the drain", SOON, || {
        let event: Value = serde_json::from_str(&follow.line("{")).unwrap();
        (event["code"] == "server_drained").then_some(event)
    });
    assert_eq!(drained["details"]["why"], "patches");
    event(&frontgate, "farm_without_servers");
    let table = done(&frontgate, &["events", "-n", "2"]);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(
        lines[0].contains("  info     server_drained        farm a: server fe01 is drained by jo@")
    );
    assert!(lines[1].contains("  error    farm_without_servers  farm a: no healthy server"));
    let out = Command::new(env!("CARGO_BIN_EXE_frontgate"))
        .args(["events", "--admin", "127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn streams_are_few_and_end_with_the_listener() {
    const STREAMS: usize = 64;
    let backend = Backend::plain(always("ok"));
    let before = config("", "", backend.port());
    let mut frontgate = Frontgate::with(&before);
    let open = |frontgate: &Frontgate| {
        let line = frontgate.logged().into_iter().rfind(|l| l.contains("admin: http on ")).unwrap();
        let address = line.rsplit(" on ").next().unwrap().parse().unwrap();
        let mut client = Client::plain(address);
        client.send("GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let head = client.take_until("\r\n\r\n");
        if head.contains(" 200 ") {
            client.take_until("\n\n");
        }
        (client, head)
    };
    let streams: Vec<_> = (0..STREAMS).map(|_| open(&frontgate)).collect();
    assert!(streams.iter().all(|(_, head)| head.contains(" 200 ")));
    assert!(open(&frontgate).1.contains(" 503 "));
    assert_eq!(Client::plain(frontgate.address("admin")).get("localhost", "/livez").status, 200);
    // The admin side starts anew.
    frontgate.rewrite(
        &before.replace("listen: 127.0.0.1:0 }\nacc", "listen: 127.0.0.1:0, hosts: [x] }\nacc"),
    );
    frontgate.log_line(" reloaded (");
    for (mut client, _) in streams {
        while client.read_some().unwrap() > 0 {}
    }
    let (mut last, head) = until("a place", SOON, || {
        Some(open(&frontgate)).filter(|(_, head)| head.contains(" 200 "))
    });
    assert!(head.contains(" 200 "));
    // The end of the process is an event, and then the end of the stream.
    frontgate.signal(libc::SIGTERM);
    assert!(last.take_until("\n\n").contains("\"code\":\"stopping\""));
    while last.read_some().unwrap() > 0 {}
    assert_eq!(frontgate.exit_code(SOON), 0);
}

/// Bodies that were posted.
type Posted = Arc<Mutex<Vec<Value>>>;

/// Bodies that were posted; the first answers have these statuses, all others 204.
fn receiver(first: &'static [u16]) -> (Posted, impl Fn(&mut dyn Wire, usize)) {
    let posted = Arc::new(Mutex::new(Vec::new()));
    let all = posted.clone();
    let script = move |wire: &mut dyn Wire, number: usize| {
        let Some(head) = read_head(wire) else { return };
        assert!(head.starts_with("POST /hook?key=1 HTTP/1.1\r\n"), "{head}");
        let body = serde_json::from_slice(&read_body(wire, &head)).unwrap();
        all.lock().unwrap().push(body);
        let status = first.get(number).copied().unwrap_or(204);
        let _ =
            wire.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").as_bytes());
    };
    (posted, script)
}

fn posted_codes(posted: &Mutex<Vec<Value>>) -> Vec<String> {
    let code = |event: &Value| event["code"].as_str().unwrap().to_owned();
    posted.lock().unwrap().iter().map(code).collect()
}

#[test]
fn a_command_and_a_webhook_get_every_event_and_a_503_is_tried_again() {
    let backend = Backend::plain(always("ok"));
    let (posted, script) = receiver(&[503, 500]);
    let hook = Backend::plain(script);
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    // Lasting, so that nothing is said about it.
    save(dir.path(), "public", &lasting(&authority("CA"), &["meet.contoso.com"], ec(), 90));
    let notify = dir.path().join("notify.sh");
    std::fs::write(&notify, format!("#!/bin/sh\ncat >> {}/told\n", dir.path().display())).unwrap();
    std::fs::set_permissions(&notify, std::fs::Permissions::from_mode(0o755)).unwrap();
    let url = format!("http://127.0.0.1:{}/hook?key=1", hook.port());
    let top = format!("events: {{ command: notify.sh, webhook: \"{url}\" }}");
    std::fs::write(dir.path().join("frontgate.yaml"), config(&top, "", backend.port())).unwrap();
    let mut frontgate = Frontgate::in_dir(dir, certificates);
    frontgate.log_line("status 503; trying again");
    done(&frontgate, &["drain", "fe01"]);
    done(&frontgate, &["ready", "fe01"]);
    let posted_already = |code: &str| posted_codes(&posted).iter().any(|posted| posted == code);
    until("the drain is over", SOON, || posted_already("server_ready").then_some(()));
    frontgate.signal(libc::SIGTERM);
    let all = ["started", "started", "started", "server_drained", "server_ready", "stopping"];
    until("the end", SOON, || posted_already("stopping").then_some(()));
    assert_eq!(frontgate.exit_code(SOON), 0);
    let codes = posted_codes(&posted);
    // Between a drain and its end half a second may pass, and may not.
    let codes: Vec<_> = codes.iter().filter(|code| !code.starts_with("farm_")).collect();
    assert_eq!(codes, all);
    let told = std::fs::read_to_string(frontgate.path().join("told")).unwrap();
    let told = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut by_command: Vec<_> = told.map(|event| event["id"].as_u64().unwrap()).collect();
    by_command.sort_unstable();
    let mut by_hook: Vec<_> =
        posted.lock().unwrap().iter().map(|event| event["id"].as_u64().unwrap()).collect();
    by_hook.dedup();
    assert_eq!(by_command, by_hook);
    assert!(!frontgate.logged().iter().any(|line| line.contains("key=1")), "a secret in the log");
}

#[test]
fn https_is_verified() {
    let (posted, script) = receiver(&[]);
    let dir = tempfile::tempdir().unwrap();
    let inside = authority("Inside");
    save(dir.path(), "hook-ca", &inside);
    let identity = issue(&inside, &["localhost"], ec());
    let mut acceptor =
        boring::ssl::SslAcceptor::mozilla_intermediate_v5(boring::ssl::SslMethod::tls()).unwrap();
    acceptor.set_certificate(&identity.certificate).unwrap();
    acceptor.set_private_key(&identity.key).unwrap();
    let hook = Backend::listen("127.0.0.1", Some(acceptor.build()), script);
    let backend = Backend::plain(always("ok"));
    let top = format!("events: {{ webhook: \"https://localhost:{}/hook?key=1\" }}", hook.port());
    let text = config(&top, "", backend.port());

    let stranger = Frontgate::with(&text);
    stranger.log_line("trying again");
    assert!(posted.lock().unwrap().is_empty(), "posted to somebody who cannot be verified");
    drop(stranger);

    let certificates = Certificates::write(dir.path());
    std::fs::write(dir.path().join("frontgate.yaml"), text).unwrap();
    let authorities = dir.path().join("hook-ca.pem");
    let trusted = [("SSL_CERT_FILE", authorities.to_str().unwrap())];
    let _frontgate = Frontgate::in_dir_with(dir, certificates, &trusted);
    until("the event", SOON, || {
        posted_codes(&posted).contains(&"started".to_owned()).then_some(())
    });
}

#[test]
fn a_certificate_that_expires_is_told_once_and_a_renewed_one_is_not() {
    let backend = Backend::plain(always("ok"));
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    let public = authority("CA");
    let path = dir.path().to_owned();
    let put = |days| {
        save(&path, "new", &lasting(&public, &["meet.contoso.com"], ec(), days));
        for end in ["key", "pem"] {
            let (new, old) = (format!("new.{end}"), format!("public.{end}"));
            std::fs::rename(path.join(new), path.join(old)).unwrap();
        }
    };
    put(10);
    std::fs::write(dir.path().join("frontgate.yaml"), config("", "", backend.port())).unwrap();
    let frontgate = Frontgate::in_dir(dir, certificates);
    let told = event(&frontgate, "certificate_expiring");
    assert_eq!(told["details"]["days"], 9, "ten days, but for the moment since");
    assert_eq!(told["details"]["names"], Value::from(vec!["meet.contoso.com"]));
    assert!(told["details"]["place"].as_str().unwrap().contains("frontgate.yaml:"));
    let reloads = || frontgate.log_count(" reloaded (");
    let reloaded = |count| until("reload", SOON, || (reloads() >= count).then_some(()));
    frontgate.rewrite(&config("", "    timeout: 99s\n", backend.port()));
    reloaded(1);
    let expiring = || codes(&frontgate).iter().filter(|c| *c == "certificate_expiring").count();
    assert_eq!(expiring(), 1, "the same certificate again");
    put(90);
    reloaded(2);
    assert_eq!(expiring(), 1, "renewed in time");
    let seen = reloads();
    put(2);
    reloaded(seen + 1);
    until("a third one", SOON, || (expiring() == 2).then_some(()));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(expiring(), 2);
}
