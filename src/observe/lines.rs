//! Lines on their way to a log: a bounded queue and a thread that writes it out. Nothing a
//! request, a reload or a stop calls ever waits for the target; what does not fit is dropped
//! and counted. The access log and the program's own log both use it.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::target::Target;
use crate::lock::lock;

/// Bytes that may wait for the writer.
pub(super) const QUEUE: usize = 8 * 1024 * 1024;
/// Bytes written in one go.
const CHUNK: usize = 64 * 1024;
/// Between two reports of trouble.
const REPORT: Duration = Duration::from_secs(60);

/// What is worth telling about a log. `lines` counts since the trouble began, or since it was
/// last said to be over. Trouble with one target is told once a minute at most.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// The queue is full. Told by whoever brings a line: the writer may be stuck.
    Dropping { target: &'a str, lines: u64 },
    /// Writing failed, and did not before. Told by the writer.
    Failing { target: &'a str, error: &'a io::Error },
    /// Lines are written again. Told by the writer.
    Recovered { target: &'a str, lines: u64 },
}

/// What stands in front of the lines of a target.
#[derive(Default)]
pub(super) struct Header {
    /// Empty: nothing.
    pub(super) bytes: Vec<u8>,
    /// It stands behind the lines that are queued: those are of another format.
    pub(super) last: bool,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropping { target, lines } => {
                write!(f, "{target} takes lines too slowly or not at all, {lines} lines dropped")
            }
            Self::Failing { target, error } => {
                write!(f, "cannot write to {target}: {error}; lines are dropped until that works")
            }
            Self::Recovered { target, lines } => {
                write!(f, "{target} takes lines again, {lines} lines were dropped")
            }
        }
    }
}

/// Told of events, on the thread that brought them about and with nothing locked.
pub(super) type Tell = Box<dyn Fn(&Event<'_>) + Send + Sync>;

/// The queue of one log. Dropping it lets the writer finish on its own.
pub(super) struct Lines(Arc<Shared>);

impl Lines {
    /// Starts to write to a target. `gather` is how long lines are gathered after there was
    /// nothing to write: to wake the writer for every line costs more than the line.
    ///
    /// # Errors
    /// The writer thread cannot be started.
    pub(super) fn start(
        thread: &'static str,
        target: Target,
        header: Header,
        gather: Duration,
        tell: Tell,
    ) -> io::Result<Self> {
        let lines = Self(Arc::new(Shared {
            thread,
            gather,
            tell,
            state: Mutex::default(),
            wake: Condvar::new(),
            settled: Condvar::new(),
        }));
        lines.retarget(target, header)?;
        Ok(lines)
    }

    /// Queues one line, newline included, or drops it.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut state = self.0.lock();
        if !state.closed && state.bytes + line.len() <= QUEUE {
            state.bytes += line.len();
            state.lines.push_back(Line { bytes: line, header: false });
            if std::mem::take(&mut state.idle) {
                self.0.wake.notify_all();
            }
            return;
        }
        state.dropped += 1;
        state.missing += 1;
        if state.due() && !state.closed {
            state.told = true;
            state.reported = Some(Instant::now());
            let (target, lines) = (state.target.clone(), state.missing);
            drop(state);
            (self.0.tell)(&Event::Dropping { target: &target, lines });
        }
    }

    /// Goes on in another target, with what is queued. Each target has a thread of its own: the
    /// one before may be stuck, and is left to end when it can.
    ///
    /// # Errors
    /// The writer thread cannot be started; the old target stays.
    pub(super) fn retarget(&self, target: Target, header: Header) -> io::Result<()> {
        let (shared, name) = (self.0.clone(), target.name.clone());
        let mut state = self.0.lock();
        let generation = state.generation + 1;
        thread::Builder::new()
            .name(shared.thread.to_owned())
            .spawn(move || shared.write(target, generation))?;
        state.generation = generation;
        state.target = name;
        state.failing = false;
        state.reported = None;
        state.put(header);
        state.idle = false;
        self.0.wake.notify_all();
        Ok(())
    }

    /// Lines have another header from here on.
    pub(super) fn head(&self, bytes: Vec<u8>) {
        let mut state = self.0.lock();
        state.put(Header { bytes, last: true });
        state.idle = false;
        self.0.wake.notify_all();
    }

    /// Waits until everything is written, at most for `limit`. Returns the number of lines that
    /// still are not.
    pub(super) fn flush(&self, limit: Duration) -> u64 {
        let state = self.0.lock();
        let (state, _) = self
            .0
            .settled
            .wait_timeout_while(state, limit, |state| state.waiting() > 0)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting()
    }

    /// Takes no more lines, waits for the queued ones like [`flush`](Self::flush), and drops the
    /// rest. Returns the number of lines that may not have been written.
    pub(super) fn close(&self, limit: Duration) -> u64 {
        {
            let mut state = self.0.lock();
            state.closed = true;
            self.0.wake.notify_all();
        }
        let left = self.flush(limit);
        let mut state = self.0.lock();
        state.dropped += state.lines.iter().filter(|line| !line.header).count() as u64;
        state.lines.clear();
        state.bytes = 0;
        left
    }

    /// Lines that were dropped, for whatever reason.
    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.wake.notify_all();
    }
}

struct Shared {
    thread: &'static str,
    /// How long lines are gathered after there was nothing to write.
    gather: Duration,
    tell: Tell,
    state: Mutex<State>,
    /// There is something to write, or no reason to wait any more.
    wake: Condvar,
    /// Everything is written.
    settled: Condvar,
}

struct Line {
    bytes: Vec<u8>,
    /// Not one of the lines that are counted.
    header: bool,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Lines that writers are busy with.
    busy: u64,
    /// Which writer may take lines; the ones before it end.
    generation: u64,
    /// The name of its target.
    target: String,
    /// It waits to be woken.
    idle: bool,
    closed: bool,
    /// Its last write went wrong.
    failing: bool,
    dropped: u64,
    /// Dropped since lines were last known to get through.
    missing: u64,
    /// The trouble that goes on was told.
    told: bool,
    /// When trouble was last told.
    reported: Option<Instant>,
}

impl State {
    fn waiting(&self) -> u64 {
        self.lines.len() as u64 + self.busy
    }

    /// Whether trouble may be told.
    fn due(&self) -> bool {
        self.reported.is_none_or(|at| at.elapsed() >= REPORT)
    }

    /// Queues a header, even where there is no room: there is one a reload.
    fn put(&mut self, header: Header) {
        self.bytes += header.bytes.len();
        let line = Line { bytes: header.bytes, header: true };
        if header.last {
            self.lines.push_back(line);
        } else {
            self.lines.push_front(line);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The writer thread.
    fn write(&self, mut target: Target, generation: u64) {
        let mut chunk: Vec<Line> = Vec::new();
        let (mut header, mut owed) = (Vec::new(), false);
        while self.take(generation, &mut chunk) {
            let again =
                Line { bytes: if owed { header.clone() } else { Vec::new() }, header: true };
            if let Some(line) = chunk.iter().rfind(|line| line.header) {
                header.clone_from(&line.bytes);
            }
            let lines = || [&again].into_iter().chain(&chunk).filter(|l| !l.bytes.is_empty());
            // Nothing but the end of a header says nothing about the target.
            if lines().next().is_none() {
                continue;
            }
            let (written, error) = target.write(lines().map(|line| line.bytes.as_slice()));
            let lost = lines().skip(written).filter(|line| !line.header).count() as u64;
            // After a failure nobody knows what stands there: a new reader of a pipe has seen
            // no header.
            owed = error.is_some();
            self.wrote(&target.name, generation, lost, error.as_ref());
        }
    }

    /// Gives back the chunk that was written and waits for the next one. False: time to end.
    fn take(&self, generation: u64, chunk: &mut Vec<Line>) -> bool {
        let mut state = self.lock();
        state.busy -= chunk.len() as u64;
        chunk.clear();
        if state.waiting() == 0 {
            self.settled.notify_all();
        }
        loop {
            if state.generation != generation {
                return false;
            }
            if !state.lines.is_empty() {
                break;
            }
            if state.closed {
                return false;
            }
            state.idle = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            if !state.idle && !state.closed && state.generation == generation {
                let more = self.wake.wait_timeout(state, self.gather);
                (state, _) = more.unwrap_or_else(PoisonError::into_inner);
            }
        }
        let mut size = 0;
        while size < CHUNK
            && let Some(line) = state.lines.pop_front()
        {
            size += line.bytes.len();
            chunk.push(line);
        }
        state.bytes -= size;
        state.busy += chunk.len() as u64;
        true
    }

    /// Takes note of how a write went.
    fn wrote(&self, target: &str, generation: u64, lost: u64, error: Option<&io::Error>) {
        let mut state = self.lock();
        state.dropped += lost;
        state.missing += lost;
        if state.generation != generation {
            return;
        }
        match error {
            Some(error) if !state.failing => {
                state.failing = true;
                if state.due() {
                    state.told = true;
                    state.reported = Some(Instant::now());
                    drop(state);
                    (self.tell)(&Event::Failing { target, error });
                }
            }
            // A queue that is nearly full says that the trouble is not over.
            None if state.missing > 0 && state.bytes <= QUEUE / 2 => {
                state.failing = false;
                // Trouble that comes and goes is told once a minute, and so is its end.
                if !state.told && !state.due() {
                    return;
                }
                state.told = false;
                state.reported = Some(Instant::now());
                let lines = std::mem::take(&mut state.missing);
                drop(state);
                (self.tell)(&Event::Recovered { target, lines });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
