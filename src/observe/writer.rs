//! Where access log lines go: a thread of its own writes them, so that a slow disk or a full
//! pipe never holds up a request.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use log::warn;

use super::{Access, line};
use crate::site::{self, LogFormat};

/// Lines that may wait for the writer; past that they are dropped and counted.
const QUEUE: usize = 16 * 1024;

enum Order {
    Line(String),
    /// Go on in this file, or on stdout.
    Target(Option<PathBuf>),
    Stop,
}

/// The access log.
pub struct AccessLog {
    path: Mutex<Option<PathBuf>>,
    queue: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(settings: &site::AccessLog) -> io::Result<Self> {
        let target = open(settings.path.as_deref())?;
        let (queue, orders) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = dropped.clone();
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(target, &orders, &counter))?;
        let (path, thread) = (Mutex::new(settings.path.clone()), Mutex::new(Some(thread)));
        Ok(Self { path, queue, dropped, thread })
    }

    /// Writes one line; never waits.
    pub fn write(&self, access: &Access<'_>, format: LogFormat) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Order::Line(line(access, format))) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Goes on in another file where a reload asks for it.
    ///
    /// # Errors
    /// The new file cannot be opened; the old one stays.
    pub fn apply(&self, settings: &site::AccessLog) -> io::Result<()> {
        let mut path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        if *path != settings.path {
            open(settings.path.as_deref())?;
            let _ = self.queue.send(Order::Target(settings.path.clone()));
            path.clone_from(&settings.path);
        }
        Ok(())
    }

    /// Lines that were dropped because the writer could not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what is queued and stops the writer.
    pub fn close(&self) {
        let _ = self.queue.send(Order::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn open(path: Option<&Path>) -> io::Result<Box<dyn Write + Send>> {
    Ok(match path {
        Some(path) => Box::new(append(path)?),
        None => Box::new(io::stdout()),
    })
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_all(target: Box<dyn Write + Send>, orders: &Receiver<Order>, dropped: &AtomicU64) {
    let mut out = BufWriter::with_capacity(64 * 1024, target);
    let mut told = 0;
    while let Ok(mut order) = orders.recv() {
        // Write what has gathered in one go, then let it out: a reader of the log sees a line
        // as soon as there is a pause.
        loop {
            match order {
                Order::Line(line) => {
                    let _ = out.write_all(line.as_bytes());
                }
                Order::Target(path) => match open(path.as_deref()) {
                    Ok(target) => {
                        let _ = out.flush();
                        out = BufWriter::with_capacity(64 * 1024, target);
                    }
                    Err(e) => warn!("access log: {e}; the old target stays"),
                },
                Order::Stop => {
                    let _ = out.flush();
                    return;
                }
            }
            match orders.try_recv() {
                Ok(next) => order = next,
                Err(_) => break,
            }
        }
        let _ = out.flush();
        let lost = dropped.load(Ordering::Relaxed);
        if lost > told {
            warn!("access log: {} lines dropped, the target is too slow", lost - told);
            told = lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_the_file_and_a_reload_moves_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.log"), dir.path().join("two.log"));
        let settings =
            |path: &Path| site::AccessLog { format: LogFormat::Json, path: Some(path.to_owned()) };
        let log = AccessLog::open(&settings(&one)).unwrap();
        log.queue.send(Order::Line("first\n".into())).unwrap();
        log.apply(&settings(&two)).unwrap();
        log.queue.send(Order::Line("second\n".into())).unwrap();
        assert!(log.apply(&settings(Path::new("/nonexistent/dir/log"))).is_err());
        log.close();
        assert_eq!(std::fs::read_to_string(one).unwrap(), "first\n");
        assert_eq!(std::fs::read_to_string(two).unwrap(), "second\n");
        assert_eq!(log.dropped(), 0);
    }
}
