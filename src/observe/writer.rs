//! Where access log lines go.

use std::{
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use log::warn;

use super::{
    Access, line,
    lines::{Event, Lines},
    target::Target,
};
use crate::site::{self, LogFormat};

/// How long a stop waits for lines that are not written yet.
const CLOSE: Duration = Duration::from_secs(2);

/// The access log. Only opening a file touches the disk; nothing here waits for a line to be
/// written, except [`close`](Self::close), for two seconds.
pub struct AccessLog {
    path: Mutex<Option<PathBuf>>,
    lines: Lines,
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// The file cannot be opened for appending; the text names it.
    pub fn open(settings: &site::AccessLog) -> io::Result<Self> {
        let target = Target::open(settings.path.as_deref())?;
        let tell = Box::new(|event: &Event<'_>| warn!("access log: {event}"));
        let lines = Lines::start("access-log", target, tell)?;
        Ok(Self { path: Mutex::new(settings.path.clone()), lines })
    }

    /// Writes one line; never waits. A line that finds no room is dropped and counted.
    pub fn write(&self, access: &Access<'_>, format: LogFormat) {
        self.lines.push(line(access, format).into_bytes());
    }

    /// Goes on in another file where a reload asks for it. Lines that are not written yet go
    /// there as well.
    ///
    /// # Errors
    /// The new file cannot be opened; the text names it, and the old one stays.
    pub fn apply(&self, settings: &site::AccessLog) -> io::Result<()> {
        let mut path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        if *path != settings.path {
            self.lines.retarget(Target::open(settings.path.as_deref())?)?;
            path.clone_from(&settings.path);
        }
        Ok(())
    }

    /// Opens the file again under its name, after a rotation has renamed the old one. Does
    /// nothing on stdout.
    ///
    /// # Errors
    /// The file cannot be opened; the text names it, and the renamed one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        let path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        match path.as_deref() {
            Some(path) => self.lines.retarget(Target::open(Some(path))?),
            None => Ok(()),
        }
    }

    /// Lines that were dropped: no room in the queue, or writing failed.
    pub fn dropped(&self) -> u64 {
        self.lines.dropped()
    }

    /// Writes what is queued and stops the writer. After two seconds gives up on a target that
    /// takes nothing.
    pub fn close(&self) {
        let left = self.lines.close(CLOSE);
        if left > 0 {
            warn!("access log: {left} lines were not written before the stop");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{read_to_string, rename},
        path::Path,
        time::{Instant, SystemTime},
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn settings(path: &Path) -> site::AccessLog {
        site::AccessLog { format: LogFormat::Json, path: Some(path.to_owned()) }
    }

    fn write(log: &AccessLog, path: &str) {
        let access = Access {
            time: SystemTime::UNIX_EPOCH,
            client: "192.0.2.7".parse().unwrap(),
            client_port: Some(5061),
            peer: None,
            log_id: None,
            listener: "public",
            sni: None,
            host: None,
            method: Some("GET"),
            path: Some(path),
            protocol: None,
            status: 200,
            received: 0,
            sent: 0,
            duration: Duration::ZERO,
            first_byte: None,
            rule: None,
            farm: None,
            server: None,
            server_connection: None,
            reason: None,
            tls: None,
            referer: None,
            user_agent: None,
        };
        log.write(&access, LogFormat::Json);
    }

    /// The paths of a log's lines.
    fn paths(file: &Path) -> Vec<String> {
        let text = read_to_string(file).unwrap();
        let path = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["path"].as_str().unwrap().to_owned()
        };
        text.lines().map(path).collect()
    }

    #[test]
    fn lines_reach_the_file_and_a_reload_moves_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.log"), dir.path().join("two.log"));
        let log = AccessLog::open(&settings(&one)).unwrap();
        write(&log, "/first");
        assert_eq!(log.lines.flush(SOON), 0);
        log.apply(&settings(&two)).unwrap();
        write(&log, "/second");
        log.close();
        assert_eq!(paths(&one), ["/first"]);
        assert_eq!(paths(&two), ["/second"]);
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn a_rotation_goes_on_in_a_new_file_of_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let log = AccessLog::open(&settings(&path)).unwrap();
        write(&log, "/before");
        assert_eq!(log.lines.flush(SOON), 0);
        rename(&path, &old).unwrap();
        write(&log, "/renamed");
        assert_eq!(log.lines.flush(SOON), 0);
        log.reopen().unwrap();
        write(&log, "/after");
        log.close();
        assert_eq!(paths(&old), ["/before", "/renamed"]);
        assert_eq!(paths(&path), ["/after"]);
    }

    #[test]
    fn errors_name_the_path_and_the_old_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (sub, nowhere) = (dir.path().join("sub"), Path::new("/nonexistent/dir/log"));
        std::fs::create_dir(&sub).unwrap();
        let (path, moved) = (sub.join("access.log"), dir.path().join("moved"));
        assert!(
            AccessLog::open(&settings(nowhere)).err().unwrap().to_string().contains("/dir/log")
        );
        let log = AccessLog::open(&settings(&path)).unwrap();
        assert!(log.apply(&settings(nowhere)).unwrap_err().to_string().contains("/dir/log"));
        rename(&sub, &moved).unwrap();
        assert!(log.reopen().unwrap_err().to_string().contains("sub/access.log"));
        write(&log, "/still");
        log.close();
        assert_eq!(paths(&moved.join("access.log")), ["/still"]);
    }

    #[test]
    fn a_full_disk_is_counted_and_another_file_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = AccessLog::open(&settings(Path::new("/dev/full"))).unwrap();
        write(&log, "/lost");
        assert_eq!(log.lines.flush(SOON), 0);
        assert_eq!(log.dropped(), 1);
        log.apply(&settings(&path)).unwrap();
        write(&log, "/kept");
        log.close();
        assert_eq!(paths(&path), ["/kept"]);
        assert_eq!(log.dropped(), 1);
    }

    #[test]
    fn stdout_is_not_reopened() {
        let log =
            AccessLog::open(&site::AccessLog { format: LogFormat::Json, path: None }).unwrap();
        log.reopen().unwrap();
        log.close();
    }

    #[test]
    fn a_named_pipe_nobody_reads_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, file) = (dir.path().join("pipe"), dir.path().join("access.log"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = AccessLog::open(&settings(&pipe)).err().unwrap().to_string();
        assert!(error.contains("nobody reads"), "{error}");

        // The reader is there, but reads nothing.
        let _reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let log = AccessLog::open(&settings(&pipe)).unwrap();
        let path = format!("/{}", "x".repeat(16 * 1024));
        let begun = Instant::now();
        for _ in 0..1024 {
            write(&log, &path);
        }
        assert!(log.dropped() > 0);
        log.reopen().unwrap();
        assert!(begun.elapsed() < SOON);
        // What the writer of the pipe has in its hands is stuck; the rest goes to the file.
        log.apply(&settings(&file)).unwrap();
        write(&log, "/dropped or written");
        let begun = Instant::now();
        log.close();
        assert!(begun.elapsed() < SOON);
        assert!(paths(&file).len() > 400);
    }
}
