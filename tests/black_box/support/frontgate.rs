//! The real binary, as a process.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{SOON, certificates::Certificates, client::Client, until};

/// A running Frontgate with its configuration in a directory of its own.
pub struct Frontgate {
    pub dir: TempDir,
    pub certificates: Certificates,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// What every configuration starts with; a test adds farms and publish rules.
pub const LISTENERS: &str = "
admin: { listen: 127.0.0.1:0 }
access_log: { format: json, path: access.log }
state_dir: state
domains: [contoso.com]
listeners:
  - { name: public, address: \"127.0.0.1:0\", public_port: 443, tls: true }
  - { name: plain, address: \"127.0.0.2:0\" }
certificates:
  - { cert: public.pem, key: public.key }
";

impl Frontgate {
    /// Starts with [`LISTENERS`] and `rest`.
    pub fn start(rest: &str) -> Self {
        Self::with(&format!("{LISTENERS}{rest}"))
    }

    /// Starts with a whole configuration; certificates lie beside it.
    pub fn with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::write(dir.path());
        std::fs::write(dir.path().join("frontgate.yaml"), config).unwrap();
        Self::in_dir(dir, certificates)
    }

    pub fn in_dir(dir: TempDir, certificates: Certificates) -> Self {
        Self::in_dir_with(dir, certificates, &[])
    }

    /// With these environment variables besides.
    pub fn in_dir_with(
        dir: TempDir,
        certificates: Certificates,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_frontgate"));
        command.envs(environment.iter().copied());
        Self::by(command, dir, certificates)
    }

    /// As this command starts it.
    pub fn by(mut command: Command, dir: TempDir, certificates: Certificates) -> Self {
        let mut child = command
            .args(["run", "--config"])
            .arg(dir.path().join("frontgate.yaml"))
            .env("RUST_LOG", "warn,frontgate=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Its successors are members, too.
            .process_group(0)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (log.clone(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let mut frontgate = Self { dir, certificates, child, log };
        until("ready", SOON, || {
            if let Some(status) = frontgate.child.try_wait().unwrap() {
                panic!("frontgate ended at start: {status}\n{}", frontgate.logged().join("\n"));
            }
            frontgate.logged().iter().any(|l| l.contains("published: ")).then_some(())
        });
        frontgate
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Every line of the program's log so far.
    pub fn logged(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line of the program's log.
    pub fn log_line(&self, needle: &str) -> String {
        until(&format!("log line with {needle:?} in:\n{}", self.logged().join("\n")), SOON, || {
            self.logged().into_iter().find(|l| l.contains(needle))
        })
    }

    /// Waits until so many lines of the program's log contain this; there must not be more.
    pub fn logged_times(&self, needle: &str, count: usize) {
        let what = format!("{count} log lines with {needle:?} in:\n{}", self.logged().join("\n"));
        until(&what, SOON, || (self.log_count(needle) >= count).then_some(()));
        assert_eq!(self.log_count(needle), count, "{needle}");
    }

    /// How many lines of the program's log contain this.
    pub fn log_count(&self, needle: &str) -> usize {
        self.logged().iter().filter(|l| l.contains(needle)).count()
    }

    /// Where a listener is bound; `name` as in the configuration, or `admin`, `health`, `metrics`.
    pub fn address(&self, name: &str) -> SocketAddr {
        let start = if ["admin", "health", "metrics"].contains(&name) {
            format!("{name}: http on ")
        } else {
            format!("listener {name}: ")
        };
        let line = self.log_line(&start);
        line.rsplit(" on ").next().unwrap().trim().parse().unwrap()
    }

    /// A TLS connection to the `public` listener, trusting the test's public authority.
    pub fn tls(&self, sni: &str) -> Client {
        Client::tls(self.address("public"), Some(sni), &self.certificates)
    }

    /// A plain connection to the `plain` listener.
    pub fn plain(&self) -> Client {
        Client::plain(self.address("plain"))
    }

    /// `curl` with the right address, authority and limits; add the rest.
    pub fn curl(&self, host: &str, path: &str) -> Command {
        let https = self.address("public");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"])
            .arg("--cacert")
            .arg(self.dir.path().join("public-ca.pem"))
            .args(["--resolve", &format!("{host}:{}:{}", https.port(), https.ip())])
            .arg(format!("https://{host}:{}{path}", https.port()));
        curl
    }

    /// Replaces the configuration the way editors do: a new file, renamed.
    pub fn rewrite(&self, config: &str) {
        let new = self.dir.path().join(".frontgate.yaml.new");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(new, self.dir.path().join("frontgate.yaml")).unwrap();
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill(2) on a child we own and have not waited for.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    /// Waits for the end and returns the exit code.
    pub fn exit_code(&mut self, deadline: Duration) -> i32 {
        until("exit", deadline, || self.child.try_wait().unwrap()).code().unwrap()
    }

    /// Every line of the access log so far. The last one may be met while it is
    /// being written: it counts once its end is there.
    pub fn access(&self) -> Vec<Value> {
        let text = std::fs::read(self.dir.path().join("access.log")).unwrap_or_default();
        let whole = text.split_inclusive(|byte| *byte == b'\n').filter(|l| l.ends_with(b"\n"));
        whole.map(|l| serde_json::from_slice(l).unwrap()).collect()
    }

    /// Waits for a line of the access log.
    pub fn access_line(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("access log line: {what}; there are {:#?}", self.access()), SOON, || {
            self.access().into_iter().find(|l| wanted(l))
        })
    }

    /// The command `words` for this Frontgate, its token from its configuration.
    pub fn command(&self, words: &[&str]) -> (i32, String, String) {
        let (file, admin) = (self.config_path(), self.address("admin").to_string());
        run(&[words, &["--config", file.to_str().unwrap(), "--admin", &admin]].concat())
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("frontgate.yaml")
    }
}

/// Exit code, standard output, standard error of `frontgate ARGS`.
pub fn run(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frontgate"));
    command.args(args).env("SUDO_USER", "jo").env_remove("FRONTGATE_CONFIG");
    let out = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

impl Drop for Frontgate {
    fn drop(&mut self) {
        // SAFETY: kill(2) on the process group that was made for it, with everybody in it.
        unsafe { libc::kill(-self.pid(), libc::SIGKILL) };
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- frontgate's log ---\n{}", self.logged().join("\n"));
        }
    }
}
