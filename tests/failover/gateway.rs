//! A gateway: Frontgate and keepalived, with the repository's configuration, in a namespace.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use crate::{
    network::{CLIENT, GATEWAYS, INTERFACE, Network, SHARED},
    support::until,
};

/// Where Frontgate listens for clients, everywhere in its namespace.
pub const PORT: u16 = 8080;
const SETTLED: Duration = Duration::from_secs(30);

/// The two machines' programs; those that run end with this.
pub struct Gateways<'a> {
    network: &'a Network,
    /// Below /run: keepalived runs nothing from a directory that others than root may write to.
    dir: tempfile::TempDir,
    frontgates: [Option<Child>; 2],
    keepaliveds: [Option<Child>; 2],
}

impl<'a> Gateways<'a> {
    pub fn start(network: &'a Network, server: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("frontgate-failover").tempdir_in("/run").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_frontgate"), dir.path().join("frontgate")).unwrap();
        // Connections whose address has moved never end by themselves.
        let recommended = recommended().replace("drain: 30m", "drain: 10s");
        let text = format!(
            "{recommended}state_dir: state
access_log: {{ path: access.log }}
listeners: [{{ name: plain, address: \"0.0.0.0:{PORT}\" }}]
farms:
  a: {{ servers: [{{ address: {CLIENT}, ports: {{ http: {server} }} }}], bridge: http }}
publish:
  - {{ host: meet.contoso.com, farm: a, schemes: [http] }}
"
        );
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/keepalived/keepalived.conf");
        let keepalived = fs::read_to_string(file).unwrap();
        let values = [
            ("$INTERFACE=", INTERFACE.to_owned()),
            ("$ADDRESS=", format!("{SHARED}/24")),
            ("$GW1=", GATEWAYS[0].to_string()),
            ("$GW2=", GATEWAYS[1].to_string()),
            ("$FRONTGATE=", dir.path().join("frontgate").display().to_string()),
        ];
        let line = |line: &str| {
            let own = values.iter().find(|(name, _)| line.starts_with(name));
            own.map_or(line.to_owned(), |(name, value)| format!("{name}{value}")) + "\n"
        };
        let keepalived: String = keepalived.lines().map(line).collect();
        for number in 0..2 {
            let own = dir.path().join(number.to_string());
            fs::create_dir(&own).unwrap();
            fs::write(own.join("frontgate.yaml"), &text).unwrap();
            fs::write(own.join("admin.token"), "a-secret-of-both-of-them").unwrap();
            fs::write(own.join("keepalived.conf"), &keepalived).unwrap();
        }
        let mut gateways =
            Self { network, dir, frontgates: [None, None], keepaliveds: [None, None] };
        gateways.mend();
        gateways
    }

    /// Starts what does not run, plugs the cables in, and waits until one gateway has the address
    /// and the other one could take it.
    pub fn mend(&mut self) -> usize {
        for number in 0..2 {
            self.network.link(number, true);
            if self.frontgates[number].is_none() {
                self.frontgates[number] = Some(self.frontgate(number));
            }
        }
        for number in 0..2 {
            until("a ready Frontgate", SETTLED, || self.is_ready(number).then_some(()));
            if self.keepaliveds[number].is_none() {
                self.keepaliveds[number] = Some(self.keepalived(number));
            }
        }
        until("one gateway with the address", SETTLED, || self.holder());
        // Two checks in a row have to be good before a gateway counts again: what they said before
        // this moment is of the past, and nothing tells from outside.
        std::thread::sleep(Duration::from_secs(5));
        for keepalived in self.keepaliveds.iter_mut().flatten() {
            let ended = keepalived.try_wait().unwrap();
            assert!(ended.is_none(), "keepalived ended: {ended:?}");
        }
        self.holder().unwrap_or_else(|| panic!("the address is nowhere:\n{}", self.logs()))
    }

    /// Which gateway has the address, if it is one.
    pub fn holder(&self) -> Option<usize> {
        match [self.network.holds(0), self.network.holds(1)] {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    pub fn stop_keepalived(&mut self, number: usize) {
        self.end(Program::Keepalived, number, libc::SIGTERM);
    }

    pub fn stop_frontgate(&mut self, number: usize) {
        self.end(Program::Frontgate, number, libc::SIGTERM);
    }

    pub fn kill_frontgate(&mut self, number: usize) {
        self.end(Program::Frontgate, number, libc::SIGKILL);
    }

    /// What a machine without power does: nothing, from one moment to the next.
    pub fn crash(&mut self, number: usize) {
        self.network.link(number, false);
        // Its helper first, or else that one would notice and clean up.
        for name in ["vrrp.pid", "keepalived.pid"] {
            let file = self.own(number).join(name);
            let pid = fs::read_to_string(&file).unwrap();
            signal(pid.trim().parse().unwrap(), libc::SIGKILL);
            // A machine that starts has an empty /run.
            fs::remove_file(file).unwrap();
        }
        self.end(Program::Keepalived, number, libc::SIGKILL);
        self.kill_frontgate(number);
        if self.network.holds(number) {
            self.network.take_shared_away(number);
        }
    }

    fn end(&mut self, program: Program, number: usize, how: i32) {
        let children = match program {
            Program::Frontgate => &mut self.frontgates,
            Program::Keepalived => &mut self.keepaliveds,
        };
        let Some(mut child) = children[number].take() else { return };
        signal(child.id() as i32, how);
        child.wait().unwrap();
    }

    fn own(&self, number: usize) -> PathBuf {
        self.dir.path().join(number.to_string())
    }

    fn frontgate(&self, number: usize) -> Child {
        let own = self.own(number);
        let binary = self.dir.path().join("frontgate");
        let mut command = self.network.command(number, binary.to_str().unwrap());
        command.args(["run", "--config"]).arg(own.join("frontgate.yaml"));
        command.env("ADMIN_ADDRESS", GATEWAYS[number].to_string());
        command.stderr(log(&own, "frontgate.log")).spawn().unwrap()
    }

    fn keepalived(&self, number: usize) -> Child {
        let own = self.own(number);
        let mut command = self.network.command(number, "keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"]);
        command.args(["--config-id", &format!("gw{}", number + 1), "--use-file"]);
        command.arg(own.join("keepalived.conf"));
        command.arg("--pid").arg(own.join("keepalived.pid"));
        command.arg("--vrrp_pid").arg(own.join("vrrp.pid"));
        let errors = log(&own, "keepalived.log");
        command.stdout(errors.try_clone().unwrap()).stderr(errors).spawn().unwrap()
    }

    fn is_ready(&self, number: usize) -> bool {
        let binary = self.dir.path().join("frontgate");
        let mut command = self.network.command(number, binary.to_str().unwrap());
        command.args(["healthcheck", "--admin", "127.0.0.1:9181"]).stderr(Stdio::null());
        command.status().unwrap().success()
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for number in 0..2 {
            for name in ["frontgate.log", "keepalived.log"] {
                let file = self.own(number).join(name);
                text += &format!("--- gw{} {name}\n", number + 1);
                text += &fs::read_to_string(file).unwrap_or_default();
            }
        }
        text
    }
}

/// What docs/high-availability.md says for two machines with one address.
fn recommended() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/high-availability.md");
    let page = fs::read_to_string(page).unwrap();
    let section = page.split("\n## Two machines, one address\n").nth(1).unwrap();
    let block = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    block.lines().map(|line| format!("{}\n", line.trim())).collect()
}

#[derive(Clone, Copy)]
enum Program {
    Frontgate,
    Keepalived,
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: kill(2) on a process that this test started.
    unsafe { libc::kill(pid, signal) };
}

fn log(dir: &Path, name: &str) -> fs::File {
    fs::OpenOptions::new().create(true).append(true).open(dir.join(name)).unwrap()
}

impl Drop for Gateways<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for number in 0..2 {
            self.stop_keepalived(number);
            self.kill_frontgate(number);
        }
    }
}
