//! Another process takes over: no client notices.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::support::{
    SOON,
    backend::{Backend, Wire, field, held, read_body, read_head, reply},
    certificates::Certificates,
    client::{Answer, Client},
    frontgate::{Frontgate, LISTENERS},
    servers_of, until,
};

const GET: &str = "GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n";
/// Hand-overs in a row.
const ROUNDS: usize = 10;

/// Farm `a` answers at once; `p` (dialin.contoso.com) has the long polls.
fn config(server: u16, polls: u16) -> String {
    format!(
        "{LISTENERS}shutdown: {{ delay: 5s, drain: 60s }}\nfarms:\n  a: {{ servers: [{}], bridge: http }}\n  \
         p: {{ servers: [{}], bridge: http }}\npublish:\n  \
         - {{ host: meet.*, farm: a, schemes: [https, http] }}\n  \
         - {{ host: dialin.*, farm: p, schemes: [https, http] }}\n",
        servers_of(&[("fe01", server), ("fe02", server)]),
        servers_of(&[("poll01", polls)]),
    )
}

/// Answers `user connection`; a sign-in takes two steps, as with NTLM: a name, then `prove`.
fn server() -> Backend {
    Backend::plain(|wire: &mut dyn Wire, number| {
        let (mut user, mut proved) = (String::from("nobody"), false);
        while let Some(head) = read_head(wire) {
            read_body(wire, &head);
            match field(&head, "authorization").and_then(|v| v.split(' ').nth(1)) {
                Some("prove") => proved = true,
                Some(name) => (user, proved) = (name.to_owned(), false),
                None => {}
            }
            let sent = if user == "nobody" || proved {
                reply(wire, &format!("{user} {number}"))
            } else {
                let challenge = format!(
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM {number}\r\n\
                     Content-Length: 0\r\n\r\n"
                );
                wire.write_all(challenge.as_bytes())
            };
            if sent.is_err() {
                return;
            }
        }
    })
}

/// Polls: each holds until its number is let go.
fn polls(gone: Arc<AtomicUsize>) -> Backend {
    Backend::plain(move |wire: &mut dyn Wire, _| {
        while let Some(head) = read_head(wire) {
            let round: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            while gone.load(Ordering::SeqCst) < round {
                std::thread::sleep(Duration::from_millis(5));
            }
            if reply(wire, &format!("poll {round}")).is_err() {
                return;
            }
        }
    })
}

fn step(word: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\nAuthorization: NTLM {word}\r\n\r\n")
}

fn poll(round: usize) -> String {
    format!("GET /{round} HTTP/1.1\r\nHost: dialin.contoso.com\r\n\r\n")
}

/// Threads that go on until they are told to stop; a failure is a panic.
struct Crowd {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn new() -> Self {
        Self { stop: Arc::default(), done: Arc::default(), threads: Vec::new() }
    }

    fn join(&mut self, mut act: impl FnMut() + Send + 'static) {
        let (stop, done) = (self.stop.clone(), self.done.clone());
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                act();
                done.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }

    fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.threads.into_iter().filter_map(|t| t.join().err()).count();
        assert_eq!(failed, 0, "clients that noticed something");
        self.done.load(Ordering::Relaxed)
    }
}

fn good(answer: &Answer) {
    assert_eq!(answer.status, 200, "{} {}", answer.head, answer.text());
}

/// A client connection that is used again and again, until an answer says that it was the last.
fn keeping(connect: impl Fn() -> Client) -> impl FnMut() {
    let mut client = None;
    move || {
        let answer = client.get_or_insert_with(&connect).ask(GET);
        good(&answer);
        if answer.header("connection") == Some("close") {
            client = None;
        }
    }
}

/// Waits for the end of a process that is nobody's child here.
fn ended(process: i32) {
    until(&format!("the end of {process}"), Duration::from_secs(60), || {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default();
        // Whoever it belongs to now need not have asked for its exit code yet.
        (state.is_empty() || state.starts_with(['Z', 'X'])).then_some(())
    });
}

fn kill(process: i32, signal: i32) {
    // SAFETY: kill(2) on a process that the test started, or that one of those started.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0);
}

/// Lets the program that is installed now take over, and returns its process.
fn upgrade(frontgate: &Frontgate, process: i32) -> i32 {
    let line = format!("took over from process {process} ");
    kill(process, libc::SIGUSR2);
    until(&format!("{line} in {:#?}", frontgate.logged()), Duration::from_secs(60), || {
        let log = frontgate.logged();
        let failed = log.iter().find(|l| l.contains("upgrade failed"));
        assert!(failed.is_none(), "{failed:?}");
        log.iter().any(|l| l.contains(&line)).then_some(())
    });
    let handed = until("handed over", SOON, || {
        let log = frontgate.logged();
        let mut lines = log.iter().filter_map(|l| l.split_once("handed over to process "));
        let next = lines.next_back().map(|(_, rest)| rest.split(';').next().unwrap().to_owned());
        next.filter(|next| next.parse::<i32>().unwrap() != process)
    });
    handed.parse().unwrap()
}

fn states(admin: SocketAddr) -> Vec<(String, String)> {
    let answer = Client::plain(admin).get("localhost", "/api/v1/servers");
    good(&answer);
    let rows = answer.json()["servers"].as_array().unwrap().clone();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.iter().map(|row| (text(row, "server"), text(row, "state"))).collect()
}

#[test]
fn ten_upgrades_under_load_cost_nobody_a_request() {
    let (server, gone) = (server(), Arc::new(AtomicUsize::new(0)));
    let polls = polls(gone.clone());
    let mut frontgate = Frontgate::with(&config(server.port(), polls.port()));
    let (plain, https) = (frontgate.address("plain"), frontgate.address("public"));
    let (admin, certificates) = (frontgate.address("admin"), frontgate.certificates.clone());
    let (code, _, err) = frontgate.command(&["drain", "fe02", "--why", "patches"]);
    assert_eq!(code, 0, "{err}");
    let tls = move || Client::tls(https, Some("meet.contoso.com"), &certificates);

    let mut crowd = Crowd::new();
    for _ in 0..4 {
        crowd.join(move || good(&Client::plain(plain).ask(GET)));
        let tls = tls.clone();
        crowd.join(move || good(&tls().ask(GET)));
    }
    for _ in 0..2 {
        crowd.join(keeping(move || Client::plain(plain)));
        crowd.join(keeping(tls.clone()));
    }
    crowd.join(move || good(&Client::plain(admin).get("localhost", "/readyz")));
    crowd.join(move || {
        let drained = states(admin).into_iter().find(|(server, _)| server == "fe02");
        assert_eq!(drained.unwrap().1, "drain");
    });

    let mut processes = vec![frontgate.pid()];
    for round in 1..=ROUNDS {
        let process = *processes.last().unwrap();
        // A poll, a signed-in poll's worth of a pin, a sign-in in the middle, somebody idle, and
        // somebody who has only connected.
        let mut polling = tls();
        polling.send(poll(round));
        let (mut signed_in, mut signing_in) = (tls(), tls());
        assert_eq!(signed_in.ask(step("alice")).status, 401);
        let who = signed_in.ask(step("prove")).text();
        assert!(who.starts_with("alice "), "{who}");
        let challenge = signing_in.ask(step("bob"));
        assert_eq!(challenge.status, 401);
        let (mut idle, mut silent) = (Client::plain(plain), Client::plain(plain));
        good(&idle.ask(GET));
        processes.push(upgrade(&frontgate, process));

        // Each of them is answered where it began.
        gone.store(round, Ordering::SeqCst);
        let answer = polling.answer(false);
        assert_eq!(answer.text(), format!("poll {round}"));
        assert_eq!(answer.header("connection"), Some("close"));
        let answer = signed_in.ask(GET);
        assert_eq!((answer.text(), answer.header("connection")), (who, Some("close")));
        let proved = signing_in.ask(step("prove"));
        assert!(proved.text().starts_with("bob "), "{}", proved.head);
        for client in [&mut idle, &mut silent] {
            let answer = client.ask(GET);
            good(&answer);
            assert_eq!(answer.header("connection"), Some("close"));
        }
    }
    let served = crowd.finish();
    assert!(served > 500, "only {served}");
    let last = processes.pop().unwrap();
    assert_eq!(frontgate.exit_code(SOON), 0);
    processes.iter().skip(1).for_each(|process| ended(*process));
    until("every end", SOON, || (frontgate.log_count("stopped, every") == ROUNDS).then_some(()));
    assert_eq!(frontgate.log_count("connections cut"), 0);
    // Who takes over later reads what was ordered in between.
    let (code, _, err) = frontgate.command(&["ready", "fe02"]);
    assert_eq!(code, 0, "{err}");
    let next = upgrade(&frontgate, last);
    ended(last);
    assert!(states(admin).iter().all(|(_, state)| state == "ready"));
    kill(next, libc::SIGTERM);
    ended(next);
}

/// Farm `a` has a server that answers, one that accepts and never does, and one that is not there;
/// probes take `timeout`, events go to a file. Tells how many requests the silent one got besides
/// probes.
fn with_a_silent_server(timeout: &str) -> (Frontgate, [Backend; 2], Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let silent = Backend::plain(move |wire: &mut dyn Wire, _| {
        while let Some(head) = read_head(wire) {
            if !head.starts_with("GET /probe ") {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let server = server();
    let text = format!(
        "{LISTENERS}shutdown: {{ drain: 60s }}\nevents: {{ command: told.sh }}\nfarms:\n  \
         a: {{ servers: [{}], bridge: http, probe: {{ path: /probe, interval: 60s, \
         timeout: {timeout}, fall: 2 }} }}\npublish:\n  \
         - {{ host: meet.*, farm: a, schemes: [https, http] }}\n",
        servers_of(&[("good", server.port()), ("silent", silent.port()), ("gone", 1)]),
    );
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    std::fs::write(dir.path().join("frontgate.yaml"), text).unwrap();
    replace(&dir.path().join("told.sh"), "#!/bin/sh\ncat >>\"${0%.sh}\"\n");
    (Frontgate::in_dir(dir, certificates), [server, silent], asked)
}

/// How many events with this text the command was told of.
fn told(frontgate: &Frontgate, text: &str) -> usize {
    let told = std::fs::read_to_string(frontgate.path().join("told")).unwrap_or_default();
    told.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn a_server_that_hangs_gets_nothing_from_the_next_process_either() {
    let (mut frontgate, _servers, asked) = with_a_silent_server("7s");
    let down =
        || (frontgate.log_count("server silent is down: timeout after 7s") > 0).then_some(());
    until("the silent one is out", Duration::from_secs(60), down);
    let plain = frontgate.address("plain");
    let mut crowd = Crowd::new();
    for _ in 0..2 {
        crowd.join(move || good(&Client::plain(plain).ask(GET)));
    }
    let next = upgrade(&frontgate, frontgate.pid());
    for _ in 0..20 {
        good(&Client::plain(plain).ask(GET));
    }
    crowd.finish();
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    assert_eq!(frontgate.exit_code(SOON), 0);
    // What it saw before it took over is told now.
    until("both have told", Duration::from_secs(60), || {
        (told(&frontgate, "server gone is down") == 2 && told(&frontgate, "upgraded: ") == 1)
            .then_some(())
    });
    kill(next, libc::SIGTERM);
    ended(next);
}

/// It may never serve, and the other one tells the same.
#[test]
fn nobody_is_told_of_anything_by_a_process_that_only_gets_ready() {
    // So long that it is not ready before this test ends.
    let (mut frontgate, _servers, _) = with_a_silent_server("60s");
    let (down, long) = ("server gone is down", Duration::from_secs(60));
    until("the first one tells", long, || (told(&frontgate, down) == 1).then_some(()));
    frontgate.signal(libc::SIGUSR2);
    until("the next one sees it", long, || (frontgate.log_count(down) == 2).then_some(()));
    // No event says that nothing was told. The command takes milliseconds.
    std::thread::sleep(Duration::from_secs(2));
    frontgate.signal(libc::SIGTERM);
    frontgate.log_line("SIGTERM came meanwhile");
    assert_eq!(frontgate.exit_code(Duration::from_secs(60)), 0);
    assert_eq!(told(&frontgate, down), 1);
}

/// A sign-in whose first step comes after the hand-over, on a connection from before it.
#[test]
fn a_sign_in_that_has_begun_ends_where_it_began() {
    let (server, (_go, polls)) = (server(), held("poll"));
    let mut frontgate = Frontgate::with(&config(server.port(), polls.port()));
    let mut early = frontgate.plain();
    good(&early.ask(GET));
    let next = upgrade(&frontgate, frontgate.pid());
    let challenge = early.ask(step("carol"));
    assert_eq!((challenge.status, challenge.header("connection")), (401, Some("keep-alive")));
    let proved = early.ask(step("prove"));
    assert!(proved.text().starts_with("carol "), "{}", proved.head);
    assert_eq!(proved.header("connection"), Some("close"));
    assert_eq!(frontgate.exit_code(SOON), 0);
    kill(next, libc::SIGTERM);
    ended(next);
}

#[test]
fn what_a_replaced_process_still_serves_is_told_and_waited_for() {
    let (server, gone) = (server(), Arc::new(AtomicUsize::new(0)));
    let polls = polls(gone.clone());
    let text = config(server.port(), polls.port());
    let text = text.replace("delay: 5s, drain: 60s", "delay: 0s, drain: 10m");
    let mut frontgate = Frontgate::with(&text);
    let (first, admin) = (frontgate.pid(), frontgate.address("admin"));
    let mut polling = frontgate.plain();
    polling.send(poll(1));
    until("the poll", SOON, || (polls.connections() == 1).then_some(()));
    // Whoever means Frontgate is told that this is another one now.
    let second = upgrade(&frontgate, first);
    frontgate.signal(libc::SIGTERM);
    frontgate.log_line(&format!("SIGTERM: process {second} has taken over"));
    // Also two upgrades later, when nobody that serves ever spoke to it.
    let last = upgrade(&frontgate, second);
    ended(second);
    let replaced = || {
        let told = Client::plain(admin).get("localhost", "/api/v1/servers").json();
        serde_json::from_value::<Vec<i32>>(told["replaced"].clone()).unwrap()
    };
    until("the second one is gone", SOON, || (replaced() == [first]).then_some(()));
    let (code, out, err) = frontgate.command(&["drain", "poll01", "--wait", "300ms"]);
    let told =
        format!("process {first}, which an upgrade has replaced, still lets its requests end");
    assert!(code == 1 && err.contains(&told), "{code} {out} {err}");
    let (code, out, err) = frontgate.command(&["status"]);
    assert!(code == 1 && out.contains(&told), "poll01 takes nobody: {code} {out} {err}");
    // Whoever becomes ready again has not to wait for that.
    let (code, _, err) = frontgate.command(&["ready", "poll01", "--wait", "15s"]);
    assert_eq!(code, 0, "{err}");

    // Whoever stops waits for it: a service manager ends what is left after the main process.
    kill(last, libc::SIGTERM);
    frontgate.log_line(&format!("process {first}, which an upgrade has replaced, has requests"));
    let (code, _, err) = frontgate.command(&["drain", "poll01", "--wait", "1s"]);
    assert!(code == 1 && err.contains(&told), "{code} {err}");
    gone.store(1, Ordering::SeqCst);
    assert_eq!(polling.answer(false).text(), "poll 1");
    assert_eq!(frontgate.exit_code(SOON), 0);
    ended(last);
}

#[test]
fn waiting_for_a_drained_server_ends_with_the_replaced_process() {
    let (server, gone) = (server(), Arc::new(AtomicUsize::new(0)));
    let polls = polls(gone.clone());
    let text = config(server.port(), polls.port()).replace("drain: 60s", "drain: 10m");
    let mut frontgate = Frontgate::with(&text);
    let mut polling = frontgate.plain();
    polling.send(poll(1));
    until("the poll", SOON, || (polls.connections() == 1).then_some(()));
    let next = upgrade(&frontgate, frontgate.pid());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| frontgate.command(&["drain", "poll01", "--wait", "60s"]));
        frontgate.log_line("server poll01 is drained");
        gone.store(1, Ordering::SeqCst);
        let (code, _, err) = waiting.join().unwrap();
        assert_eq!(code, 0, "{err}");
    });
    assert_eq!(polling.answer(false).text(), "poll 1");
    assert_eq!(frontgate.exit_code(SOON), 0);
    kill(next, libc::SIGTERM);
    ended(next);
}

/// A directory with a link to the program, which can be replaced, and a Frontgate started by it.
fn linked(config: &str) -> (std::path::PathBuf, Frontgate) {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    std::fs::write(dir.path().join("frontgate.yaml"), config).unwrap();
    let program = dir.path().join("frontgate");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_frontgate"), &program).unwrap();
    let command = Command::new(&program);
    (program, Frontgate::by(command, dir, certificates))
}

fn replace(program: &std::path::Path, script: &str) {
    let new = program.with_extension("new");
    std::fs::write(&new, script).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, program).unwrap();
}

#[test]
fn what_cannot_take_over_changes_nothing() {
    let (server, (_go, polls)) = (server(), held("poll"));
    let text = config(server.port(), polls.port());
    let (program, mut frontgate) = linked(&text);
    let plain = frontgate.address("plain");
    let admin = frontgate.address("admin");
    let mut kept = frontgate.plain();
    good(&kept.ask(GET));
    let fails = |frontgate: &Frontgate, why: &str| {
        let seen = frontgate.log_count("upgrade failed: ");
        frontgate.signal(libc::SIGUSR2);
        until(why, Duration::from_secs(60), || {
            let log = frontgate.logged();
            log.iter().filter(|l| l.contains("upgrade failed: ")).nth(seen).map(|line| {
                assert!(line.contains(why), "{line}");
            })
        });
        good(&Client::plain(plain).ask(GET));
        good(&Client::plain(admin).get("localhost", "/readyz"));
    };
    let mut crowd = Crowd::new();
    crowd.join(move || good(&Client::plain(plain).ask(GET)));
    crowd.join(move || good(&Client::plain(admin).get("localhost", "/readyz")));

    frontgate.rewrite(&text.replace("farm: a,", "farm: nobody,"));
    frontgate.log_line("reload refused");
    fails(&frontgate, "its configuration is invalid");
    frontgate.rewrite(&text);
    replace(&program, "#!/bin/sh\nexit 3\n");
    fails(&frontgate, "exit code 3");
    std::fs::remove_file(&program).unwrap();
    fails(&frontgate, "cannot start");
    let (code, _, err) = frontgate.command(&["drain", "fe01"]);
    assert_eq!(code, 0, "{err}");

    // One that takes its time: nothing can be changed meanwhile, nor another one be started.
    replace(&program, "#!/bin/sh\nexec sleep 300\n");
    frontgate.signal(libc::SIGUSR2);
    frontgate.log_line("gets ready");
    let (code, _, err) = frontgate.command(&["ready", "fe01"]);
    assert!(code == 1 && err.contains("another Frontgate is taking over"), "{code} {err}");
    frontgate.signal(libc::SIGUSR2);
    frontgate.log_line("another one is refused");
    good(&kept.ask(GET));
    let served = crowd.finish();
    assert!(served > 10, "only {served}");
    assert!(states(admin).contains(&("fe01".to_owned(), "drain".to_owned())));
    // Whoever is told to stop stops, and leaves nobody behind.
    let begun = Instant::now();
    frontgate.signal(libc::SIGTERM);
    frontgate.log_line("SIGTERM came meanwhile");
    drop(kept);
    assert_eq!(frontgate.exit_code(Duration::from_secs(30)), 0);
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn when_the_next_one_dies_the_rest_ends_so_that_it_is_noticed() {
    let (server, (_go, polls)) = (server(), held("poll"));
    let mut frontgate = Frontgate::with(&config(server.port(), polls.port()));
    let mut polling = frontgate.plain();
    polling.send(poll(1));
    until("the poll", SOON, || (polls.connections() == 1).then_some(()));
    let next = upgrade(&frontgate, frontgate.pid());
    kill(next, libc::SIGKILL);
    assert_eq!(frontgate.exit_code(SOON), 1);
    frontgate.log_line("the process that took over has failed");
}

/// The admin side on a Unix socket: it stays where it is.
#[test]
fn a_unix_socket_is_handed_over_and_stays() {
    let (server, (_go, polls)) = (server(), held("poll"));
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    let socket = dir.path().join("admin.sock");
    let admin = format!("unix:{}", socket.display());
    let text = config(server.port(), polls.port());
    let text = text.replacen("listen: 127.0.0.1:0", &format!("listen: \"{admin}\""), 1);
    std::fs::write(dir.path().join("frontgate.yaml"), text).unwrap();
    let mut frontgate = Frontgate::in_dir(dir, certificates);
    let asked = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_frontgate"));
        command.args(["healthcheck", "--admin", &admin]).output().unwrap().status.code()
    };
    assert_eq!(asked(), Some(0));
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&socket).unwrap());
    let before = inode();
    let next = upgrade(&frontgate, frontgate.pid());
    assert_eq!(frontgate.exit_code(SOON), 0);
    assert_eq!((asked(), inode()), (Some(0), before));
    kill(next, libc::SIGTERM);
    ended(next);
}
