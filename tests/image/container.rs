//! Containers of the image, and directories that are mounted into them.

use std::{
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread::JoinHandle,
    time::Duration,
};

use tempfile::TempDir;

use crate::support::{SOON, until};

/// What `ENGINE` names; said loudly where it is missing, since then nothing was tested.
pub fn command() -> Command {
    let engine = std::env::var("ENGINE").expect("ENGINE is not set: run `make image-test`");
    Command::new(engine)
}

pub fn image() -> String {
    std::env::var("IMAGE").expect("IMAGE is not set: run `make image-test`")
}

/// Standard output of a command that has to succeed.
pub fn engine(args: &[&str]) -> String {
    let done = command().args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {errors}");
    String::from_utf8(done.stdout).unwrap()
}

/// Names of the files in a tar archive.
pub fn list(archive: &[u8]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), archive).unwrap();
    let listed = Command::new("tar").arg("-tf").arg(file.path()).output().unwrap();
    String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
}

/// A directory for `/etc/frontgate`.
pub struct Mounted {
    dir: TempDir,
    versions: AtomicUsize,
}

impl Mounted {
    /// As Kubernetes lays out a ConfigMap: `config.yaml` → `..data/config.yaml`, and `..data` is
    /// a link that is replaced.
    pub fn new(text: &str) -> Self {
        let mounted = Self::empty();
        mounted.swap(text);
        for name in ["config.yaml", "page.txt"] {
            symlink(format!("..data/{name}"), mounted.dir.path().join(name)).unwrap();
        }
        mounted
    }

    pub fn plain(text: &str) -> Self {
        let mounted = Self::empty();
        mounted.edit(text);
        mounted
    }

    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        readable(dir.path(), 0o755);
        Self { dir, versions: AtomicUsize::new(0) }
    }

    pub fn swap(&self, text: &str) {
        let number = self.versions.fetch_add(1, Ordering::Relaxed);
        let (dir, name) = (self.dir.path(), format!("..version-{number}"));
        std::fs::create_dir(dir.join(&name)).unwrap();
        readable(&dir.join(&name), 0o755);
        write(&dir.join(&name), text);
        symlink(&name, dir.join("..data_tmp")).unwrap();
        std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        if let Some(old) = number.checked_sub(1) {
            std::fs::remove_dir_all(dir.join(format!("..version-{old}"))).unwrap();
        }
    }

    pub fn edit(&self, text: &str) {
        write(self.dir.path(), text);
    }

    pub fn volume(&self) -> String {
        format!("{}:/etc/frontgate:ro", self.dir.path().display())
    }
}

fn write(dir: &Path, text: &str) {
    for (name, text) in [("config.yaml", text), ("page.txt", "not here\n")] {
        std::fs::write(dir.join(name), text).unwrap();
        readable(&dir.join(name), 0o644);
    }
}

fn readable(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A running container; it goes away with this.
pub struct Container {
    id: String,
}

impl Container {
    /// With a configuration, on the network of this machine, with nothing it could write to but
    /// its state and no right at all.
    pub fn start(mounted: &Mounted, more: &[&str]) -> Self {
        let volume = mounted.volume();
        let mut args = vec!["--network", "host", "--read-only", "--cap-drop=all"];
        args.extend(["--security-opt", "no-new-privileges", "-v", &volume]);
        args.extend(more);
        let image = image();
        args.push(&image);
        let container = Self::run(&args);
        container.log_line("published: ");
        container
    }

    pub fn run(args: &[&str]) -> Self {
        let id = engine(&[&["run", "--detach"], args].concat());
        Self { id: id.trim().to_owned() }
    }

    /// Everything on its standard output and error so far.
    pub fn logged(&self) -> String {
        let told = command().args(["logs", &self.id]).output().unwrap();
        String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned()
    }

    pub fn log_line(&self, needle: &str) -> String {
        until(&format!("{needle:?} in {}", self.logged()), SOON, || {
            self.logged().lines().find(|line| line.contains(needle)).map(str::to_owned)
        })
    }

    pub fn address(&self, listener: &str) -> SocketAddr {
        let line = self.log_line(&format!("listener {listener}: "));
        line.rsplit(" on ").next().unwrap().trim().parse().unwrap()
    }

    /// `/proc/PID/status` of the first process.
    pub fn status_of_process(&self) -> String {
        let pid = engine(&["inspect", "--format", "{{.State.Pid}}", &self.id]);
        std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap()
    }

    /// Exit code of `frontgate healthcheck` inside.
    pub fn healthcheck(&self) -> i32 {
        let args = ["exec", &self.id, "/usr/local/bin/frontgate", "healthcheck"];
        command().args(args).output().unwrap().status.code().unwrap()
    }

    /// Podman without systemd has nobody who runs the check from time to time.
    pub fn check_health(&self) {
        let _ = command().args(["healthcheck", "run", &self.id]).output();
    }

    pub fn health(&self) -> String {
        let format = "{{if .State.Health}}{{.State.Health.Status}}{{end}}";
        engine(&["inspect", "--format", format, &self.id]).trim().to_owned()
    }

    /// Sends a signal, named without `SIG`.
    pub fn signal(&self, name: &str) {
        engine(&["kill", "--signal", name, &self.id]);
    }

    /// SIGTERM; the exit code.
    pub fn stop(&self) -> i32 {
        stop(&self.id)
    }

    pub fn stop_in_background(&self) -> JoinHandle<i32> {
        let id = self.id.clone();
        std::thread::spawn(move || stop(&id))
    }
}

fn stop(id: &str) -> i32 {
    engine(&["stop", "--time", "60", id]);
    let code = || engine(&["inspect", "--format", "{{.State.ExitCode}}", id]);
    until("the exit code", Duration::from_secs(10), || code().trim().parse().ok())
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logged());
        }
        let _ = command().args(["rm", "--force", &self.id]).output();
    }
}
