//! A service of systemd: what it is told, and the sockets that it holds.

use std::{
    io::ErrorKind,
    net::{TcpListener, TcpStream},
    os::{
        fd::AsRawFd,
        unix::{
            net::{UnixDatagram, UnixListener},
            process::CommandExt,
        },
    },
    path::Path,
    process::Command,
    time::Duration,
};

use crate::support::{
    SOON,
    backend::{Backend, always},
    certificates::Certificates,
    client::Client,
    frontgate::{Frontgate, LISTENERS},
    servers_of, until,
};

const GET: &str = "GET /x HTTP/1.1\r\nHost: meet.contoso.com\r\n\r\n";

fn config(port: u16) -> String {
    format!(
        "{LISTENERS}shutdown: {{ drain: 7s }}\nfarms:\n  a: {{ servers: [{}], bridge: http }}\n\
         publish:\n  - {{ host: meet.*, farm: a, schemes: [https, http] }}\n",
        servers_of(&[("fe01", port)])
    )
}

/// Stands for the service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Self(socket)
    }

    /// The next message, but for signs of life.
    fn next(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        match self.0.recv(&mut bytes) {
            Ok(n) => Some(String::from_utf8_lossy(&bytes[..n]).into_owned()),
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// Waits for a message with this line.
    fn told(&self, line: &str) -> String {
        until(line, SOON, || self.next().filter(|message| message.lines().any(|l| l == line)))
    }
}

#[test]
fn the_service_manager_is_told() {
    let backend = Backend::plain(always("ok"));
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    std::fs::write(dir.path().join("frontgate.yaml"), config(backend.port())).unwrap();
    let path = dir.path().join("notify");
    let manager = Manager::at(&path);
    let mut command = Command::new(env!("CARGO_BIN_EXE_frontgate"));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut frontgate = Frontgate::by(command, dir, certificates);
    let ready = manager.told("READY=1");
    assert!(ready.contains("STATUS=2 listeners, 1 farms, 1 rules; site "), "{ready}");
    assert_eq!(frontgate.plain().ask(GET).text(), "ok");
    for _ in 0..3 {
        manager.told("WATCHDOG=1");
    }

    frontgate.rewrite("farms: [");
    let refused = until("refusal", SOON, || {
        manager.next().filter(|m| m.starts_with("STATUS=reload refused: "))
    });
    assert!(refused.contains("; 2 listeners, 1 farms"), "{refused}");
    frontgate.signal(libc::SIGUSR2);
    until("failure", SOON, || manager.next().filter(|m| m.starts_with("STATUS=upgrade failed: ")));
    frontgate.rewrite(&config(backend.port()));
    until("good again", SOON, || manager.next().filter(|m| m.starts_with("STATUS=2 listeners")));

    // Only the main process is listened to: the old one says who that is, and no more.
    frontgate.signal(libc::SIGUSR2);
    let main = until("MAINPID", SOON, || {
        let message = manager.next()?;
        message.trim_end().strip_prefix("MAINPID=").map(|pid| pid.parse::<i32>().unwrap())
    });
    assert_ne!(main, frontgate.pid());
    manager.told("READY=1");
    assert_eq!(frontgate.exit_code(Duration::from_secs(30)), 0);
    manager.told("WATCHDOG=1");
    // SAFETY: kill(2) on a process of the test's Frontgate.
    assert_eq!(unsafe { libc::kill(main, libc::SIGTERM) }, 0);
    let stopping = manager.told("STOPPING=1");
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=22000000\n"), "{stopping}");
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let dir = tempfile::tempdir().unwrap();
    Certificates::write(dir.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = TcpListener::bind(taken).unwrap();
    let file = dir.path().join("frontgate.yaml");
    std::fs::write(&file, config(1).replace("127.0.0.2:0", &taken.to_string())).unwrap();
    let path = dir.path().join("notify");
    let manager = Manager::at(&path);
    let mut command = Command::new(env!("CARGO_BIN_EXE_frontgate"));
    let output = command.args(["run", "--config"]).arg(&file).env("NOTIFY_SOCKET", &path).output();
    assert_eq!(output.unwrap().status.code(), Some(1));
    assert_eq!(manager.next(), None);
}

/// What systemd does for socket units.
#[test]
fn sockets_of_the_service_manager_are_taken_by_address() {
    let backend = Backend::plain(always("ok"));
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(dir.path());
    let plain = TcpListener::bind("127.0.0.2:0").unwrap();
    let admin = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
    let unused = TcpListener::bind("127.0.0.3:0").unwrap();
    let address = plain.local_addr().unwrap();
    let text = config(backend.port()).replace("127.0.0.2:0", &address.to_string()).replacen(
        "127.0.0.1:0",
        &format!("unix:{}/admin.sock", dir.path().display()),
        1,
    );
    std::fs::write(dir.path().join("frontgate.yaml"), text).unwrap();
    // Who connects before anybody is there waits.
    let mut early = Client::plain(address);
    early.send(GET);

    let given = [plain.as_raw_fd(), admin.as_raw_fd(), unused.as_raw_fd()];
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_frontgate");
    command.args(["-c", &format!("export LISTEN_PID=$$; exec {program} \"$@\""), "sh"]);
    command.env("LISTEN_FDS", "3").env("LISTEN_FDNAMES", "a:b:c");
    // SAFETY: dup2(2) and fcntl(2) are all that happens between fork(2) and exec(2).
    unsafe {
        command.pre_exec(move || {
            // Away from where they are going first.
            let high = given.map(|fd| libc::fcntl(fd, libc::F_DUPFD, 100));
            for (at, fd) in high.iter().enumerate() {
                libc::dup2(*fd, 3 + at as i32);
                libc::close(*fd);
            }
            Ok(())
        });
    }
    let frontgate = Frontgate::by(command, dir, certificates);
    drop((plain, admin));
    assert_eq!(early.answer(false).text(), "ok");
    assert_eq!(Client::plain(address).ask(GET).text(), "ok");
    assert_eq!(frontgate.address("plain"), address);
    // The other listener was bound, and what nobody asked for was told and closed.
    assert_eq!(frontgate.tls("meet.contoso.com").ask(GET).text(), "ok");
    frontgate.log_line("nothing uses it");
    let address = unused.local_addr().unwrap();
    drop(unused);
    until("closed", SOON, || TcpStream::connect(address).is_err().then_some(()));
    let socket = format!("unix:{}/admin.sock", frontgate.path().display());
    let mut check = Command::new(program);
    assert!(check.args(["healthcheck", "--admin", &socket]).status().unwrap().success());
}

/// `systemd-analyze` with these arguments about a copy of the unit that starts this program here;
/// `None` where there is none.
fn analyze(words: &[&str]) -> Option<(bool, String)> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/frontgate.service");
    let text = std::fs::read_to_string(unit).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("frontgate.service");
    let here = text.replace("/usr/bin/frontgate", env!("CARGO_BIN_EXE_frontgate"));
    std::fs::write(&copy, here).unwrap();
    let output = match Command::new("systemd-analyze").args(words).arg(&copy).output() {
        Ok(output) => output,
        Err(e) => {
            eprintln!("SKIPPED: systemd-analyze: {e}; scripts/dependencies.sh test installs it");
            return None;
        }
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn the_unit_is_valid() {
    let Some((good, told)) = analyze(&["verify", "--man=no"]) else { return };
    assert!(good, "{told}");
    // Unknown settings are no failure, but are told.
    assert!(!told.contains("frontgate.service"), "{told}");
}

/// By default systemd gives up after five starts within ten seconds; a port may be free later.
#[test]
fn the_unit_is_started_again_for_as_long_as_it_takes() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/frontgate.service");
    let text = std::fs::read_to_string(unit).unwrap();
    let section = |name: &str| {
        let rest = text.split(&format!("[{name}]\n")).nth(1).unwrap();
        rest.split("\n[").next().unwrap().lines().collect::<Vec<_>>()
    };
    // In [Service] it would be ignored.
    assert!(section("Unit").contains(&"StartLimitIntervalSec=0"), "{text}");
    let service = section("Service");
    assert!(service.contains(&"Restart=on-failure"), "{text}");
    // Nobody but a person can mend that.
    assert!(service.contains(&"RestartPreventExitStatus=78"), "{text}");
}

#[test]
fn the_unit_has_few_rights() {
    // In tenths: below 2.0.
    let words = ["security", "--offline=true", "--no-pager", "--threshold=19"];
    let Some((good, told)) = analyze(&words) else { return };
    assert!(told.contains("Overall exposure level"), "{told}");
    assert!(good, "{told}");
}
