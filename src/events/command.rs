//! The command that is run for each event.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use log::warn;
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{Event, Follower, bus::Receiver};
use crate::site::Receivers;

/// How many may run at a time.
const AT_ONCE: usize = 4;
/// How long one may run.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the command for each event; never returns. `done` tells the last one that has ended, but
/// for those that still hold a place.
pub(super) async fn keep_running(
    mut follower: Follower,
    to: watch::Receiver<Receivers>,
    places: Arc<Semaphore>,
    done: watch::Sender<u64>,
) {
    loop {
        let event = follower.next().await;
        let program = to.borrow().command.clone();
        let missed = follower.missed();
        if let Some(program) = program {
            if missed > 0 {
                follower.events().count_undelivered(Receiver::Command, missed);
                warn!("events.command: {missed} events came too fast and were left out");
            }
            // While all places are taken, events wait where they are kept.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (events, told) = (follower.events().clone(), event.clone());
            tokio::spawn(async move {
                if let Err(why) = run(&program, &told, PATIENCE).await {
                    events.count_undelivered(Receiver::Command, 1);
                    let Event { id, code, .. } = &*told;
                    warn!("events.command: {} for {code} {id}: {why}", program.display());
                }
                drop(place);
            });
        }
        done.send_replace(event.id);
    }
}

/// Every place: whoever has them all knows that nothing runs.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(AT_ONCE))
}

/// Waits until nothing runs.
pub(super) async fn all_ended(places: &Semaphore) {
    let _ = places.acquire_many(u32::try_from(AT_ONCE).unwrap_or(1)).await;
}

/// SECURITY: the program sees nothing of this process but the event: no environment (which may
/// hold passwords for `${NAME}`), no open files, no working directory. An event holds texts of
/// strangers at most as JSON on standard input, never as arguments.
/// Test: a_command_gets_the_event_and_nothing_else
async fn run(program: &Path, event: &Event, patience: Duration) -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", path)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    // What Frontgate opens closes by itself; this is about what whoever started it left open.
    // SAFETY: one system call, which is safe between fork(2) and exec(2); a kernel that does not
    // know it changes nothing.
    unsafe {
        command.pre_exec(|| {
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
    let mut child = command.spawn().map_err(|e| format!("cannot be run: {e}"))?;
    let group = child.id().and_then(|id| libc::pid_t::try_from(id).ok());
    let mut text = serde_json::to_vec(event).unwrap_or_default();
    text.push(b'\n');
    let talk = async {
        if let Some(mut stdin) = child.stdin.take() {
            // Who does not read it does not want it.
            let _ = stdin.write_all(&text).await;
        }
        child.wait().await
    };
    match timeout(patience, talk).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("ended with {status}")),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => {
            if let Some(group) = group {
                // Also what it started itself.
                // SAFETY: kill(2) on the group of a child that was not waited for.
                unsafe { libc::kill(-group, libc::SIGKILL) };
            }
            let _ = child.wait().await;
            Err(format!("still ran after {patience:?} and was ended"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, path::PathBuf, time::Instant};

    use super::*;
    use crate::events::{Events, News, code};

    fn script(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("notify.sh");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn event() -> Arc<Event> {
        let events = Events::default();
        events.tell(News::new(code::SERVER_DOWN, "$(reboot)"));
        events.latest(1).remove(0)
    }

    #[tokio::test]
    async fn a_command_gets_the_event_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let text =
            format!("cat > {0}; env >> {0}; pwd >> {0}; ls /proc/$$/fd >> {0}", out.display());
        let event = event();
        run(&script(dir.path(), &text), &event, PATIENCE).await.unwrap();
        let told = std::fs::read_to_string(out).unwrap();
        let (json, rest) = told.split_once('\n').unwrap();
        assert_eq!(serde_json::from_str::<Event>(json).unwrap(), *event);
        let names: Vec<_> = rest.lines().filter_map(|line| line.split_once('=')).collect();
        // What sh itself sets.
        let own = ["PATH", "PWD", "OLDPWD", "SHLVL", "_"];
        assert!(names.iter().all(|(name, _)| own.contains(name)), "{rest}");
        assert!(rest.lines().any(|line| line == "/"), "{rest}");
        let open = rest.lines().filter(|line| line.parse::<u32>().is_ok_and(|fd| fd > 2)).count();
        assert!(open <= 2, "the script and its redirection: {rest}");
    }

    #[tokio::test]
    async fn a_command_that_fails_or_hangs_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let event = event();
        let run =
            async |text: &str, patience| run(&script(dir.path(), text), &event, patience).await;
        assert_eq!(run("exit 3", PATIENCE).await.unwrap_err(), "ended with exit status: 3");
        let begun = Instant::now();
        let why = run("sleep 60 & wait", Duration::from_millis(300)).await.unwrap_err();
        assert!(why.contains("was ended") && begun.elapsed() < Duration::from_secs(20), "{why}");
        let none = super::run(&dir.path().join("none"), &event, PATIENCE).await.unwrap_err();
        assert!(none.starts_with("cannot be run: "), "{none}");
    }
}
