//! Where access log lines go.

use std::{
    io,
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, SystemTime},
};

use log::warn;

use super::{
    Access, line,
    lines::{Event, Header, Lines},
    target::Target,
    w3c,
};
use crate::site::{self, LogFormat, LogTarget};

use crate::lock::lock;

/// How long a stop waits for lines that are not written yet.
const CLOSE: Duration = Duration::from_secs(2);
/// So long a line waits for others at most.
const GATHER: Duration = Duration::from_millis(10);

/// The access log. Only opening a file touches the disk; nothing here waits for a line to be
/// written, except [`close`](Self::close), for two seconds.
pub struct AccessLog {
    /// One change at a time.
    changing: Mutex<()>,
    /// Held for reading while a line is made and queued, so that none of the old format comes
    /// behind a header of the new one; for writing only for the moment of a change.
    settings: RwLock<site::AccessLog>,
    lines: Lines,
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or nobody listens on the syslog socket; the text
    /// names it.
    pub fn open(settings: &site::AccessLog) -> io::Result<Self> {
        let target = Target::open(&settings.target)?;
        let tell = Box::new(|event: &Event<'_>| warn!("access log: {event}"));
        let lines = Lines::start("access-log", target, header(settings, false), GATHER, tell)?;
        let settings = RwLock::new(settings.clone());
        Ok(Self { changing: Mutex::new(()), settings, lines })
    }

    /// Writes one line; never waits. A line that finds no room is dropped and counted.
    pub fn write(&self, access: &Access<'_>) {
        let settings = self.settings();
        self.lines.push(line(access, settings.format, settings.query).into_bytes());
    }

    /// Goes on as a reload asks for it. Lines that are not written yet go to the new file as well.
    ///
    /// # Errors
    /// The new file cannot be opened; the text names it, and everything stays as it was.
    pub fn apply(&self, settings: &site::AccessLog) -> io::Result<()> {
        let _one = lock(&self.changing);
        let old = self.settings().clone();
        if old == *settings {
            return Ok(());
        }
        let header = header(settings, old.format != settings.format);
        if old.target == settings.target {
            let mut current = self.change();
            self.lines.head(header.bytes);
            current.clone_from(settings);
        } else {
            let target = Target::open(&settings.target)?;
            let mut current = self.change();
            self.lines.retarget(target, header)?;
            current.clone_from(settings);
        }
        Ok(())
    }

    /// Opens the file again under its name, after a rotation has renamed the old one; connects
    /// to syslog again. Does nothing on stdout.
    ///
    /// # Errors
    /// The file cannot be opened; the text names it, and the renamed one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        let _one = lock(&self.changing);
        let settings = self.settings().clone();
        if settings.target == LogTarget::Stdout {
            return Ok(());
        }
        self.lines.retarget(Target::open(&settings.target)?, header(&settings, false))
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

    fn settings(&self) -> RwLockReadGuard<'_, site::AccessLog> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, site::AccessLog> {
        self.settings.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands in front of the lines. Syslog messages stand alone.
fn header(settings: &site::AccessLog, last: bool) -> Header {
    let alone = matches!(settings.target, LogTarget::Syslog(_));
    let bytes = match settings.format {
        LogFormat::W3c if !alone => w3c::header(SystemTime::now()),
        _ => Vec::new(),
    };
    Header { bytes, last }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{read_to_string, rename},
        path::Path,
        time::Instant,
    };

    use super::*;
    use crate::observe::testing::access;

    const SOON: Duration = Duration::from_secs(10);

    fn settings(path: &Path) -> site::AccessLog {
        site::AccessLog { target: LogTarget::File(path.to_owned()), ..site::AccessLog::default() }
    }

    fn write(log: &AccessLog, path: &str) {
        log.write(&Access { path: Some(path), ..access() });
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
        let log = AccessLog::open(&site::AccessLog::default()).unwrap();
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

    #[test]
    fn each_file_and_each_change_begins_with_a_header() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let json = settings(&path);
        let w3c = site::AccessLog { format: LogFormat::W3c, ..json.clone() };
        let log = AccessLog::open(&w3c).unwrap();
        write(&log, "/first");
        assert_eq!(log.lines.flush(SOON), 0);
        rename(&path, &old).unwrap();
        log.reopen().unwrap();
        write(&log, "/second");
        log.apply(&w3c).unwrap();
        write(&log, "/third");
        log.apply(&json).unwrap();
        write(&log, "/json");
        log.apply(&w3c).unwrap();
        write(&log, "/fourth");
        log.close();
        let kinds = |file: &Path| -> Vec<String> {
            let text = read_to_string(file).unwrap();
            let kind = |line: &str| match line.split([':', ' ']).next().unwrap() {
                "{\"time\"" => "json".to_owned(),
                "1970-01-02" => line.split(' ').nth(4).unwrap().to_owned(),
                directive => directive.to_owned(),
            };
            text.lines().map(kind).collect()
        };
        let head = ["#Software", "#Version", "#Date", "#Fields"];
        assert_eq!(kinds(&old), [&head[..], &["/first"]].concat());
        let lines = [&head[..], &["/second", "/third", "json"], &head, &["/fourth"]].concat();
        assert_eq!(kinds(&path), lines);
        assert_eq!(log.dropped(), 0);
    }
}
