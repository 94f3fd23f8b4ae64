//! A process of a proxy: what it has cost so far, by the operating system's accounting.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A started program; it and its children end with this.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { child }
    }

    pub fn ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// It and its descendants.
    fn pids(&self) -> Vec<i32> {
        let mut pids = vec![self.pid()];
        let mut next = 0;
        while let Some(pid) = pids.get(next).copied() {
            next += 1;
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            pids.extend(
                children.unwrap_or_default().split_whitespace().flat_map(str::parse::<i32>),
            );
        }
        pids
    }

    /// Microseconds of processor time that it takes while `work` is done.
    pub fn spent<T>(&self, work: impl FnOnce() -> T) -> (f64, T) {
        let before = self.processor_time();
        let done = work();
        ((self.processor_time() - before).as_secs_f64() * 1e6, done)
    }

    /// Processor time of all its threads, user and system.
    fn processor_time(&self) -> Duration {
        self.pids().into_iter().map(processor_time).sum()
    }

    /// Resident memory, in KiB.
    pub fn resident(&self) -> u64 {
        let of = |pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        self.pids().into_iter().filter_map(of).sum()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill(2) on a child we own and have not waited for.
        unsafe { libc::kill(self.pid(), signal) };
    }
}

/// Of a process, and of its children that have ended: reloads of nginx are children that end.
fn processor_time(pid: i32) -> Duration {
    own_time(pid) + ended_children(pid)
}

fn ended_children(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may have spaces in it: cutime and cstime of proc(5), in ticks.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // SAFETY: sysconf(3) reads a constant.
    let second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / second as f64)
}

fn own_time(pid: i32) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls write to what they are given, which outlives them.
    let read = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    if read { Duration::new(time.tv_sec as u64, time.tv_nsec as u32) } else { Duration::ZERO }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Of nginx TERM ends the workers too; what does not listen is killed.
        self.signal(libc::SIGTERM);
        for _ in 0..100 {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for pid in self.pids() {
            // SAFETY: kill(2) on our child and what it has started.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let _ = self.child.wait();
    }
}
