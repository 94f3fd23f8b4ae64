//! Handing over to the program that is installed now, without a client noticing.
//!
//! The new process gets copies of the listening sockets and starts as far as it can. Only when it
//! says that it could serve does this one stop accepting, tell the service manager who is the main
//! process, and give the word. In between clients wait in the queues of the sockets, which both
//! share. Whatever goes wrong before, this process goes on as if nothing had been.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{self, PipeWriter},
    os::{
        fd::{AsRawFd, RawFd},
        unix::{fs::MetadataExt, net::UnixStream as StdUnixStream, process::ExitStatusExt},
    },
    path::{self, Path, PathBuf},
    pin::Pin,
    process::ExitStatus,
    time::Duration,
};

use log::{info, warn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::{Child, Command},
    sync::OwnedRwLockWriteGuard,
    time::{sleep, timeout},
};

use super::{
    Instance,
    signals::{Order, Signals, ignore_early},
    take_over::{Handed, READY, VARIABLE},
};
use crate::{
    config::EXIT_CONFIG,
    events::{News, code},
    listen::Owed,
};

/// How long the new process may take until it could serve.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the exit code of a process is waited for that has hung up.
const ITS_END: Duration = Duration::from_secs(5);
/// What the service manager says to one process alone.
const NOT_INHERITED: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How this process was started, so that it can be started again.
pub(super) struct Program {
    path: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// Of this process; to be called early, while the file is still where it was.
    ///
    /// # Errors
    /// Why it cannot be replaced.
    pub(super) fn of_this_process() -> Result<Self, &'static str> {
        let mut arguments = env::args_os();
        let name = arguments.next().unwrap_or_default();
        let arguments: Vec<_> = arguments.collect();
        may_be_replaced(std::process::id(), &arguments)?;
        let path = started_from(&name).map_err(|_| "nobody knows where its program is")?;
        Ok(Self { path, name, arguments })
    }
}

/// Why a process with this number and these arguments cannot be replaced while it runs.
fn may_be_replaced(process: u32, arguments: &[OsString]) -> Result<(), &'static str> {
    if process == 1 {
        // The kernel ends the successor with it.
        return Err(
            "this is process 1 of a container, which ends with it; start another container \
                    of the new image",
        );
    }
    if arguments.first().is_none_or(|command| command != "run") {
        // The lab would begin another lab.
        return Err("only `frontgate run` can be replaced while it runs");
    }
    Ok(())
}

/// The path that a process was started from: as it was named, because the path behind a link
/// stays with the old version.
fn started_from(name: &OsStr) -> io::Result<PathBuf> {
    let identity = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    let running = identity(Path::new("/proc/self/exe"));
    let named = Path::new(name);
    let is_it = |path: &PathBuf| running.is_some() && identity(path) == running;
    let found = if named.components().count() > 1 {
        path::absolute(named).ok().filter(is_it)
    } else {
        let places = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&places).map(|place| place.join(named)).find(is_it)
    };
    found.map_or_else(env::current_exe, Ok)
}

/// What came of an attempt.
pub(super) enum Attempt {
    /// Another process serves.
    Done(Box<Successor>),
    /// This one goes on. `reload`: somebody asked for a reload meanwhile.
    Failed { reload: bool },
    /// A signal asked to stop meanwhile.
    Stopped(Order),
}

/// The process that has taken over, and what is left to do here.
pub(super) struct Successor {
    pub(super) process: libc::pid_t,
    /// Ends with it.
    line: UnixStream,
    /// Clients that may still ask for something, until this is dropped.
    pub(super) _owed: Vec<Owed>,
    /// Resolves when the admin side has answered everybody.
    pub(super) answered: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Orders are given to the other one.
    _changes: OwnedRwLockWriteGuard<()>,
}

/// Starts the program that is installed now and hands over to it.
pub(super) async fn hand_over(
    instance: &Instance,
    program: &Result<Program, &'static str>,
    signals: &mut Signals,
) -> Attempt {
    let program = match program {
        Ok(program) => program,
        Err(why) => return failed(instance, false, why),
    };
    // What the new one reads in the state directory stays true.
    let changes = instance.context.hold_changes().await;
    let starting = match starting(instance, program).await {
        Ok(starting) => starting,
        Err(e) => {
            return failed(
                instance,
                false,
                &format!("cannot start {}: {e}", program.path.display()),
            );
        }
    };
    let Starting { mut child, mut line, process, end } = starting;
    info!("upgrade: process {process} ({}) gets ready", program.path.display());
    instance.manager.status(&format!("process {process} gets ready to take over"));
    let (mut reload, mut stop) = (false, None);
    let outcome = {
        let ready = ready(&mut child, &mut line);
        tokio::pin!(ready);
        loop {
            tokio::select! {
                outcome = &mut ready => break outcome,
                order = signals.next() => match order {
                    Order::Terminate | Order::Interrupt => {
                        stop = Some(order);
                        break Err(format!("{order} came meanwhile"));
                    }
                    Order::Reload => reload = true,
                    Order::Reopen => instance.reopen_log(),
                    Order::Upgrade => warn!("an upgrade is under way; another one is refused"),
                },
            }
        }
    };
    if let Err(why) = outcome {
        let _ = child.kill().await;
        let attempt = failed(instance, reload, &why);
        return stop.map_or(attempt, Attempt::Stopped);
    }
    let _owed = instance.listeners.hand_over().await;
    let answered = Box::pin(instance.admin.hand_over().await);
    instance.manager.handed_over(process);
    // Where it has died in this moment, whoever waits for its end finds out.
    let _ = line.write_all(b"\n").await;
    info!("handed over to process {process}; what runs here may end");
    // Nor is it waited for here (`Successor::failure` says why).
    std::mem::forget(child);
    // Open until the last line of the access log is written.
    std::mem::forget(end);
    let process = libc::pid_t::try_from(process).unwrap_or(-1);
    Attempt::Done(Box::new(Successor { process, line, _owed, answered, _changes: changes }))
}

fn failed(instance: &Instance, reload: bool, why: &str) -> Attempt {
    let text = format!("upgrade failed: {why}; this process ({}) serves on", std::process::id());
    instance.events.tell(News::new(code::UPGRADE_FAILED, text).with("reason", why));
    // With the time, so that two attempts in a row can be told apart.
    let now = jiff::Timestamp::now();
    instance.manager.status(&format!("upgrade failed: {why} ({now:.0})"));
    Attempt::Failed { reload }
}

/// A process that gets ready.
struct Starting {
    child: Child,
    line: UnixStream,
    process: u32,
    /// Closed with this process, once that is one of those before.
    end: PipeWriter,
}

/// Starts the new process.
async fn starting(instance: &Instance, program: &Program) -> io::Result<Starting> {
    let mut sockets = instance.listeners.sockets()?;
    sockets.extend(instance.admin.sockets().await?);
    let mut lives = instance.replaced.copies()?;
    let (life, end) = io::pipe()?;
    lives.push((std::process::id(), life.into()));
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let line = UnixStream::from_std(ours)?;
    let handed = Handed {
        process: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        line: theirs.as_raw_fd(),
        sockets: sockets.iter().map(|(role, fd)| (role.clone(), fd.as_raw_fd())).collect(),
        lives: lives.iter().map(|(process, fd)| (*process, fd.as_raw_fd())).collect(),
    };
    // What it speaks of is open until the process has its copies.
    let child = spawn(program, &handed)?;
    let process = child.id().ok_or_else(|| io::Error::other("it ended at once"))?;
    Ok(Starting { child, line, process, end })
}

fn spawn(program: &Program, handed: &Handed) -> io::Result<Child> {
    let Handed { sockets, lives, line, .. } = handed;
    let inherited = sockets.iter().map(|(_, fd)| *fd).chain(lives.iter().map(|(_, fd)| *fd));
    let inherited: Vec<RawFd> = inherited.chain([*line]).collect();
    let mut command = Command::new(&program.path);
    command.arg0(&program.name).args(&program.arguments);
    command.env(VARIABLE, serde_json::to_string(handed)?);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    // Only in the new process: whatever else is started in this moment inherits nothing.
    // SAFETY: fcntl(2) and signal(2) may be called between fork(2) and exec(2) (signal-safety(7)),
    // and nothing is allocated there.
    unsafe {
        command.pre_exec(move || {
            ignore_early();
            let pass_on = |fd: &RawFd| libc::fcntl(*fd, libc::F_SETFD, 0) == 0;
            if inherited.iter().all(pass_on) { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
    command.spawn()
}

/// Waits until the new process could serve; or tells why it does not.
async fn ready(child: &mut Child, line: &mut UnixStream) -> Result<(), String> {
    let mut word = [0; READY.len()];
    match timeout(PATIENCE, line.read_exact(&mut word)).await {
        Ok(Ok(_)) if word == *READY => Ok(()),
        Ok(_) => Err(match timeout(ITS_END, child.wait()).await {
            Ok(Ok(status)) => told(status),
            _ => "it has hung up".to_owned(),
        }),
        Err(_) => Err(format!("it is not ready after {PATIENCE:?}")),
    }
}

fn told(status: ExitStatus) -> String {
    match status.code() {
        Some(EXIT_CONFIG) => {
            format!("its configuration is invalid (exit code {EXIT_CONFIG}; `frontgate check`)")
        }
        Some(code) => format!("it ended with exit code {code}; the log tells why"),
        None => format!("it ended: {status}"),
    }
}

impl Successor {
    /// Resolves when the process has failed; never when it ended well.
    ///
    /// Its exit code is looked at and not taken: that is left to the service manager, whose child
    /// it becomes with the end of this one. Otherwise systemd would see a service that ended by
    /// itself, and not start it anew. Test: scripts/systemd-test.sh
    pub(super) async fn failure(&mut self) -> String {
        while matches!(self.line.read(&mut [0; 16]).await, Ok(1..)) {}
        // Files are closed a moment before.
        let end = async {
            loop {
                match look_at_end(self.process) {
                    Ok(Some(status)) if status.success() => std::future::pending().await,
                    Ok(Some(status)) => break told(status),
                    Ok(None) => sleep(Duration::from_millis(5)).await,
                    Err(error) => break error.to_string(),
                }
            }
        };
        end.await
    }
}

/// How a child has ended, if it has; it stays as it is.
fn look_at_end(process: libc::pid_t) -> io::Result<Option<ExitStatus>> {
    // SAFETY: all zeros are a valid value of this plain struct.
    let mut end: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = libc::id_t::try_from(process).unwrap_or_default();
    let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
    // SAFETY: waitid(2) fills a struct of ours.
    if unsafe { libc::waitid(libc::P_PID, id, &raw mut end, flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid(2) sets these for every child that has ended.
    let (ended, status) = unsafe { (end.si_pid() != 0, end.si_status()) };
    // As wait(2) has it: the exit code in the second byte, the signal in the first.
    let raw = if end.si_code == libc::CLD_EXITED { status << 8 } else { status };
    Ok(ended.then(|| ExitStatus::from_raw(raw)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_kept_as_it_was_named() {
        let running = env::current_exe().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("frontgate");
        std::os::unix::fs::symlink(&running, &link).unwrap();
        assert_eq!(started_from(link.as_os_str()).unwrap(), link);
        // What is there is another program: it is not what was started.
        assert_eq!(started_from(OsStr::new("/bin/sh")).unwrap(), running);
        assert_eq!(started_from(OsStr::new("no-such-program")).unwrap(), running);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_never_ready_is_given_up() {
        let mut child = Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
        let (ours, _theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut line = UnixStream::from_std(ours).unwrap();
        let told = ready(&mut child, &mut line).await;
        assert_eq!(told.unwrap_err(), "it is not ready after 60s");
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_told() {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut line = UnixStream::from_std(ours).unwrap();
        drop(theirs);
        let mut child = Command::new("sh").args(["-c", "exit 78"]).spawn().unwrap();
        let told = ready(&mut child, &mut line).await.unwrap_err();
        assert!(told.starts_with("its configuration is invalid"), "{told}");
    }

    #[tokio::test]
    async fn an_end_is_looked_at_and_left_to_others() {
        let mut child = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let process = child.id() as libc::pid_t;
        let seen = loop {
            match look_at_end(process).unwrap() {
                Some(status) => break status,
                None => sleep(Duration::from_millis(5)).await,
            }
        };
        assert_eq!(seen.code(), Some(3));
        assert_eq!(child.wait().unwrap().code(), Some(3), "it is still there");
        assert!(look_at_end(process).is_err());
        let mut killed = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        assert!(look_at_end(killed.id() as libc::pid_t).unwrap().is_none());
        killed.kill().unwrap();
        killed.wait().unwrap();
    }

    #[test]
    fn only_run_can_be_started_again() {
        // These tests are no `frontgate run`.
        let why = Program::of_this_process().err().unwrap();
        assert!(why.starts_with("only `frontgate run`"), "{why}");
    }

    #[test]
    fn a_container_ends_with_its_first_process() {
        let run = [OsString::from("run")];
        assert!(may_be_replaced(1, &run).unwrap_err().contains("start another container"));
        assert_eq!(may_be_replaced(2, &run), Ok(()));
    }
}
