//! `frontgate lab` as a process: simulated servers and Frontgate before them.

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{SOON, client::Client, until};

/// A lab of its own process, with Frontgate in it, on ports of the kernel's choice.
pub struct Lab {
    child: Child,
    pub dir: TempDir,
    pub manifest: Value,
}

impl Lab {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_frontgate"))
            .args(["lab", "--free-ports", "--control", "--dir"])
            .arg(dir.path())
            .env("RUST_LOG", "warn,frontgate=info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("stderr.log")).unwrap())
            .spawn()
            .unwrap();
        let mut lab = Self { child, dir, manifest: Value::Null };
        until("lab.json", SOON, || {
            let text = std::fs::read_to_string(lab.dir.path().join("lab.json")).ok()?;
            lab.manifest = serde_json::from_str(&text).ok()?;
            Some(())
        });
        until("ready", SOON, || {
            let address = lab.address("/frontgate/admin");
            // Whoever held the port for it may still be there, and closes.
            let mut asked = std::net::TcpStream::connect(address).ok()?;
            asked.set_read_timeout(Some(SOON)).ok()?;
            let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            asked.write_all(request.as_bytes()).ok()?;
            let mut answer = Vec::new();
            asked.read_to_end(&mut answer).ok()?;
            answer.starts_with(b"HTTP/1.1 200 ").then_some(())
        });
        lab
    }

    pub fn address(&self, pointer: &str) -> std::net::SocketAddr {
        self.manifest.pointer(pointer).unwrap().as_str().unwrap().parse().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// curl to Frontgate; `url` without port.
    pub fn curl(&self, scheme: &str, host: &str, path: &str) -> Command {
        let address =
            self.address(if scheme == "https" { "/frontgate/https" } else { "/frontgate/http" });
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "250", "--noproxy", "*", "--include"])
            .arg("--cacert")
            .arg(self.path("public-ca.pem"))
            .args(["--resolve", &format!("{host}:{}:{}", address.port(), address.ip())])
            .arg(format!("{scheme}://{host}:{}{path}", address.port()));
        curl
    }

    /// What curl got: status line, headers, body.
    pub fn get(&self, scheme: &str, host: &str, path: &str, arguments: &[&str]) -> String {
        let out = self.curl(scheme, host, path).args(arguments).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    pub fn body(&self, host: &str, path: &str, arguments: &[&str]) -> String {
        let answer = self.get("https", host, path, arguments);
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Stops or starts a simulated server.
    pub fn control(&self, order: &str) {
        let request =
            format!("POST {order} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        let answer = Client::plain(self.address("/control")).ask(request);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn log_line(&self, needle: &str) {
        until(&format!("log line with {needle:?}"), SOON, || {
            let log = std::fs::read_to_string(self.path("stderr.log")).ok()?;
            log.contains(needle).then_some(())
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.path("stderr.log")).unwrap_or_default());
        }
        // SAFETY: kill(2) on a child we own.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        std::thread::sleep(Duration::from_millis(50));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One lab for the tests that change nothing in it.
static LAB: LazyLock<Lab> = LazyLock::new(Lab::start);

/// Called by the tests that share [`LAB`]: a static is never dropped, so its process is told to
/// end with this one.
pub fn shared() -> &'static Lab {
    extern "C" fn end() {
        // SAFETY: kill(2) on a child of this process.
        unsafe { libc::kill(LAB.child.id() as i32, libc::SIGKILL) };
        let _ = std::fs::remove_dir_all(LAB.dir.path());
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    let lab = &*LAB;
    // SAFETY: `end` is async-signal-safe enough for atexit: it runs on the main thread.
    ONCE.call_once(|| unsafe {
        libc::atexit(end);
    });
    lab
}
