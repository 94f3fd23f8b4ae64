//! A real HAProxy from the distribution.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{SOON, until};

/// A running HAProxy; it stops when dropped.
pub struct Haproxy {
    child: Child,
    pub addresses: Vec<SocketAddr>,
}

impl Haproxy {
    /// Starts one in front of `ports` free ports. `sections` gets their addresses, and returns
    /// what stands behind `defaults`.
    pub fn start(dir: &Path, ports: usize, sections: impl FnOnce(&[SocketAddr]) -> String) -> Self {
        let free: Vec<_> = (0..ports).map(|_| TcpListener::bind("127.0.0.8:0").unwrap()).collect();
        let addresses: Vec<_> = free.iter().map(|free| free.local_addr().unwrap()).collect();
        drop(free);
        let configuration = format!(
            "global\n  maxconn 200\ndefaults\n  mode tcp\n  timeout connect 10s\n  \
             timeout client 60s\n  timeout server 60s\n{}\n",
            sections(&addresses)
        );
        let file = dir.join("haproxy.cfg");
        std::fs::write(&file, configuration).unwrap();
        let log = std::fs::File::create(dir.join("haproxy.log")).unwrap();
        // In the foreground, one process.
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .env("PATH", "/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("haproxy is installed by scripts/dependencies.sh test");
        let haproxy = Self { child, addresses };
        for address in &haproxy.addresses {
            until("haproxy", SOON, || TcpStream::connect(address).ok());
        }
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
