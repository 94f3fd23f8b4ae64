//! The deployment of `deploy/compose.yaml` as processes: the same configuration files, each
//! container an address of its own. `scripts/rolling-restart.sh` restarts all of it under load.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::support::{
    SOON,
    certificates::Certificates,
    client::{Answer, Client},
    frontgate::run,
    load::Load,
    until,
};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
const BINARY: &str = env!("CARGO_BIN_EXE_frontgate");
/// Containers, with the last number of their addresses.
const SERVERS: [(&str, u8); 8] = [
    ("fe01", 21),
    ("fe02", 22),
    ("fe03", 23),
    ("fe04", 24),
    ("owas01", 25),
    ("owas02", 26),
    ("exch01", 27),
    ("exch02", 28),
];
const GATES: [(&str, u8); 2] = [("gate1", 11), ("gate2", 12)];
const BALANCER: u8 = 10;

/// Stops a process in good order and starts it again, or starts it. What a test leaves behind is
/// ended by its number.
const RESTART: &str = r#"#!/bin/bash
set -eu
cd "$(dirname "$0")"
name=$1
if [ -f "$name.pid" ]; then
    pid=$(cat "$name.pid")
    kill -TERM "$pid"
    while [ -e "/proc/$pid" ] && ! grep -q ') Z ' "/proc/$pid/stat" 2>/dev/null; do sleep 0.05; done
fi
setsid bash -c "echo \$\$ >$name.pid; exec $(cat "$name.command")" \
    </dev/null >>"$name.out" 2>>"$name.err" &
until [ -s "$name.pid" ]; do sleep 0.01; done
"#;

struct Deployment {
    dir: TempDir,
    /// The first three numbers of every address: a network of this test's own.
    net: [u8; 3],
    balancer: Option<Child>,
}

impl Deployment {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let process = std::process::id().to_be_bytes();
        let net = [127, 64 + process[2] % 128, process[3]];
        let mut all = Self { dir, net, balancer: None };
        let lab = all.path("lab").display().to_string();
        let (code, _, err) = run(&["lab", "--prepare", "--dir", &lab]);
        assert_eq!(code, 0, "{err}");
        fs::write(all.path("restart.sh"), RESTART).unwrap();
        fs::set_permissions(all.path("restart.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        for (name, last) in SERVERS {
            // There are two of it, as in compose.yaml.
            let server = if name == "owas02" { "owas01" } else { name };
            let command = format!(
                "{BINARY} lab --server {server} --dir {lab} --address {} --internal-https 10443 \
                 --internal-http 10080",
                all.ip(last)
            );
            all.launch(name, &command);
        }
        for (name, last) in GATES {
            fs::create_dir(all.path(name)).unwrap();
            let file = all.path(name).join("config.yaml");
            fs::write(&file, all.configuration(last)).unwrap();
            all.launch(name, &format!("{BINARY} run --config {}", file.display()));
        }
        all.balancer = Some(all.haproxy());
        for (name, last) in GATES {
            until(&format!("{name}: {}", all.told(name)), SOON, || {
                let health = format!("{}:9181", all.ip(last));
                (run(&["healthcheck", "--admin", &health]).0 == 0).then_some(())
            });
        }
        // Every server at both, then the balancer has to see the two.
        let admins = all.admins();
        let status = ["status", "--admin", &admins[0], "--admin", &admins[1]];
        until("every server is up", SOON, || {
            let (code, out, _) = run(&[&status[..], &["--token-file", &all.token()]].concat());
            let open = out.lines().filter(|l| l.ends_with("of 12 servers take new clients"));
            let all_open = open.filter(|l| l.starts_with("12 ")).count() == 2;
            (code == 0 && all_open).then_some(())
        });
        until("the balancer", SOON, || {
            let answer = std::panic::catch_unwind(|| all.client("meet").get(MEET, "/lab/echo"));
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        });
        all
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ip(&self, last: u8) -> IpAddr {
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, last).into()
    }

    fn admins(&self) -> [String; 2] {
        GATES.map(|(_, last)| format!("{}:9180", self.ip(last)))
    }

    fn token(&self) -> String {
        self.path("lab/admin.token").display().to_string()
    }

    fn told(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.err"))).unwrap_or_default()
    }

    fn launch(&self, name: &str, command: &str) {
        fs::write(self.path(&format!("{name}.command")), command).unwrap();
        let done = Command::new(self.path("restart.sh")).arg(name).status().unwrap();
        assert!(done.success());
    }

    /// What both Frontgates get in Compose, with addresses for names.
    fn configuration(&self, last: u8) -> String {
        let mut text = deployed("compose/frontgate/config.yaml");
        for (name, last) in SERVERS {
            let long = format!("{{ name: {name}, address: {} }}", self.ip(last));
            for (before, behind) in [("[", ","), (" ", "]")] {
                let short = format!("{before}{name}{behind}");
                text = text.replace(&short, &format!("{before}{long}{behind}"));
            }
        }
        let lab = self.path("lab").display().to_string();
        let text = text.replace("/lab/", &format!("{lab}/"));
        let text = text.replace("0.0.0.0:", &format!("{}:", self.ip(last)));
        let text = text.replace("[10.0.0.0/8, ", "[127.0.0.0/8, ");
        assert_eq!(text.matches("{ name: ").count(), 1 + SERVERS.len(), "{text}");
        format!("state_dir: state\naccess_log: {{ path: access.log }}\n{text}")
    }

    fn haproxy(&self) -> Child {
        let text =
            deployed("compose/haproxy.cfg").replace(" resolvers network init-addr libc,none", "");
        let section = text.find("# Containers that are made anew").unwrap();
        let behind = section + text[section..].find("frontend https").unwrap();
        let mut text = format!("{}{}", &text[..section], &text[behind..]);
        text = text.replace("bind :", &format!("bind {}:", self.ip(BALANCER)));
        for (name, last) in GATES {
            text = text.replace(&format!(" {name}:"), &format!(" {}:", self.ip(last)));
        }
        fs::write(self.path("haproxy.cfg"), text).unwrap();
        let log = fs::File::create(self.path("haproxy.err")).unwrap();
        Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(self.path("haproxy.cfg"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("haproxy runs: scripts/dependencies.sh test installs it")
    }

    fn client(&self, label: &str) -> Client {
        connect(self.address(), self.path("lab"), label)
    }

    fn address(&self) -> SocketAddr {
        (self.ip(BALANCER), 8443).into()
    }

    fn load(&self, label: &'static str, request: String, good: fn(&Answer) -> bool) -> Load {
        let (address, lab) = (self.address(), self.path("lab"));
        // The load lives as long as the test process, near enough.
        let request: &'static str = request.leak();
        Load::start(2, move || connect(address, lab.clone(), label), request, good)
    }

    fn pid(&self, name: &str) -> i32 {
        let text = fs::read_to_string(self.path(&format!("{name}.pid"))).unwrap();
        text.trim().parse().unwrap()
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        for (name, _) in SERVERS.into_iter().chain(GATES) {
            if self.path(&format!("{name}.pid")).exists() {
                // SAFETY: kill(2) on a process that this test started.
                unsafe { libc::kill(self.pid(name), libc::SIGKILL) };
            }
            if std::thread::panicking() {
                eprintln!("--- {name}\n{}", self.told(name));
            }
        }
        if let Some(mut balancer) = self.balancer.take() {
            let _ = balancer.kill();
            let _ = balancer.wait();
        }
    }
}

const MEET: &str = "meet.contoso.com";

fn deployed(name: &str) -> String {
    fs::read_to_string(Path::new(REPOSITORY).join("deploy").join(name)).unwrap()
}

fn connect(address: SocketAddr, lab: PathBuf, label: &str) -> Client {
    Client::tls(address, Some(&format!("{label}.contoso.com")), &Certificates { dir: lab })
}

fn get(label: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {label}.contoso.com\r\n\r\n")
}

fn post(label: &str, path: &str, more: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {label}.contoso.com\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// An application that UCWA keeps for the pool, and a poll that it answers after a second.
fn poll(all: &Deployment) -> String {
    let mut client = all.client("lyncweb");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let sign_in = "grant_type=password&username=alice@contoso.com&password=Passw0rd!";
    let told = client.ask(post("lyncweb", "/WebTicket/oauthtoken", form, sign_in));
    let token = told.json()["access_token"].as_str().unwrap().to_owned();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let made = client.ask(post("lyncweb", "/ucwa/oauth/v1/applications", &bearer, "{}"));
    assert_eq!(made.status, 201, "{}", made.text());
    let path = format!("{}/events?ack=1&timeout=1", made.header("location").unwrap());
    get("lyncweb", &path).replace("\r\n\r\n", &format!("\r\n{bearer}\r\n"))
}

#[test]
fn everything_is_restarted_under_load_and_no_request_is_lost() {
    let all = Deployment::start();
    let ok = |answer: &Answer| answer.status == 200;
    let polls = poll(&all);
    let loads = [
        all.load("meet", get("meet", "/meet/alice/X7K2"), ok),
        all.load("lyncweb2", post("lyncweb2", "/lab/echo", "", "a body of its own"), ok),
        all.load("wac", get("wac", "/hosting/discovery"), ok),
        all.load("mail", get("mail", "/owa/"), ok),
    ];
    // One application has one poll at a time: two clients would replace each other's.
    let (address, lab) = (all.address(), all.path("lab"));
    let polls: &'static str = polls.leak();
    let poller = Load::start(1, move || connect(address, lab.clone(), "lyncweb"), polls, ok);
    until("load", SOON, || loads.iter().all(|load| load.answered() > 20).then_some(()));

    let names = SERVERS.map(|(name, _)| name);
    let names: Vec<_> = names.into_iter().chain(GATES.map(|(name, _)| name)).collect();
    let before: Vec<_> = names.iter().map(|name| all.pid(name)).collect();
    let healths = GATES.map(|(name, last)| format!("{name}={}:9181", all.ip(last)));
    let done = Command::new(Path::new(REPOSITORY).join("scripts/rolling-restart.sh"))
        .env("FRONTGATE", BINARY)
        .env("RESTART", all.path("restart.sh"))
        .env("ADMINS", all.admins().join(" "))
        .env("HEALTHS", healths.join(" "))
        .env("TOKEN", all.token())
        .env("PATIENCE", "60s")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}\n{errors}");
    assert!(told.ends_with("== everything restarted\n"), "{told}");
    for (name, before) in names.iter().zip(before) {
        assert_ne!(all.pid(name), before, "{name} was not restarted");
        assert!(told.contains(&format!("== {name}\n")), "{told}");
    }

    let mut answered = poller.finish();
    assert!(answered > 10, "{answered} polls");
    for load in loads {
        answered += load.finish();
    }
    println!("{answered} requests, none lost");
    for (name, _) in GATES {
        let log = fs::read_to_string(all.path(name).join("access.log")).unwrap();
        let served = log.lines().filter(|l| l.contains("\"status\":200")).count();
        assert!(served > 50, "{name} served {served}");
        assert!(log.lines().all(|l| l.contains("\"peer\":")), "who connected is not told");
    }
}
