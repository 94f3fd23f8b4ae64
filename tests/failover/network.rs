//! Network namespaces on one bridge: a client and two gateways.

use std::{
    fs::File,
    net::Ipv4Addr,
    os::fd::AsRawFd,
    process::{Command, Stdio},
};

/// Address of the client, where the servers are as well.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The address that moves.
pub const SHARED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
/// Addresses of the gateways.
pub const GATEWAYS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 11), Ipv4Addr::new(10, 77, 0, 12)];
/// Each gateway's interface.
pub const INTERFACE: &str = "uplink";

/// The namespaces; they go away with this.
pub struct Network {
    prefix: String,
}

impl Network {
    pub fn new() -> Self {
        // SAFETY: geteuid(2) cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        assert!(root, "network namespaces need root: sudo make failover-test");
        let network = Self { prefix: format!("fg{}", std::process::id()) };
        let client = network.client();
        for namespace in [&client, &network.gateway(0), &network.gateway(1)] {
            ip(&["netns", "add", namespace]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        ip(&["-n", &client, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &client, "addr", "add", &format!("{CLIENT}/24"), "dev", "bridge"]);
        ip(&["-n", &client, "link", "set", "bridge", "up"]);
        for (number, address) in GATEWAYS.iter().enumerate() {
            let (port, gateway) = (port(number), network.gateway(number));
            let pair = ["type", "veth", "peer", "name", INTERFACE, "netns", &gateway];
            ip(&[&["-n", &client, "link", "add", &port][..], &pair].concat());
            ip(&["-n", &client, "link", "set", &port, "master", "bridge", "up"]);
            ip(&["-n", &gateway, "addr", "add", &format!("{address}/24"), "dev", INTERFACE]);
            ip(&["-n", &gateway, "link", "set", INTERFACE, "up"]);
        }
        network
    }

    fn client(&self) -> String {
        format!("{}-client", self.prefix)
    }

    fn gateway(&self, number: usize) -> String {
        format!("{}-gw{}", self.prefix, number + 1)
    }

    /// From here on this thread, and those it starts, live with the client.
    pub fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.client())).unwrap();
        // SAFETY: setns(2) with an open descriptor.
        let done = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// A command that runs in a gateway.
    pub fn command(&self, number: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.gateway(number), program]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// The cable between the gateway and the switch.
    pub fn link(&self, number: usize, up: bool) {
        let state = if up { "up" } else { "down" };
        ip(&["-n", &self.client(), "link", "set", &port(number), state]);
    }

    /// Whether the gateway has the address that moves.
    pub fn holds(&self, number: usize) -> bool {
        let all = ip(&["-n", &self.gateway(number), "-o", "-4", "addr", "show"]);
        all.contains(&format!(" {SHARED}/"))
    }

    pub fn take_shared_away(&self, number: usize) {
        let address = format!("{SHARED}/24");
        ip(&["-n", &self.gateway(number), "addr", "del", &address, "dev", INTERFACE]);
    }
}

/// The switch's end of the cable of a gateway.
fn port(number: usize) -> String {
    format!("gw{}", number + 1)
}

fn ip(args: &[&str]) -> String {
    let done = Command::new("ip").args(args).output().unwrap();
    assert!(done.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [self.client(), self.gateway(0), self.gateway(1)] {
            let _ = Command::new("ip").args(["netns", "del", &namespace]).status();
        }
    }
}
