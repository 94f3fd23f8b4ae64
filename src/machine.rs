//! What the kernel says about this machine, by system calls: a service may see nothing of `/proc` but
//! its own processes (`ProcSubset=pid` of systemd.exec(5)).

use std::{sync::OnceLock, time::Duration};

/// Its name (gethostname(2)); empty where it has none.
pub(crate) fn name() -> String {
    // HOST_NAME_MAX is 64; a name that is cut has no end mark, so there is room for one.
    let mut name = [0_u8; 256];
    let room = name.len() - 1;
    // SAFETY: gethostname(2) writes this many bytes at most to bytes of ours.
    if unsafe { libc::gethostname(name.as_mut_ptr().cast(), room) } != 0 {
        return String::new();
    }
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(room);
    String::from_utf8_lossy(name.get(..end).unwrap_or_default()).trim().to_owned()
}

/// When it was started, after 1970, as it is known when this is asked for the first time: later the
/// clock may be set. `None` where the kernel has no such clocks.
pub(crate) fn started() -> Option<Duration> {
    static STARTED: OnceLock<Option<Duration>> = OnceLock::new();
    *STARTED.get_or_init(|| clock(libc::CLOCK_REALTIME)?.checked_sub(clock(libc::CLOCK_BOOTTIME)?))
}

fn clock(which: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) fills a struct of ours.
    if unsafe { libc::clock_gettime(which, &raw mut time) } != 0 {
        return None;
    }
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs::read_to_string;

    use super::*;

    #[test]
    fn it_is_as_in_proc_where_that_is_seen() {
        if let Ok(told) = read_to_string("/proc/sys/kernel/hostname") {
            assert_eq!(name(), told.trim());
        }
        let started = started().unwrap().as_secs();
        if let Ok(told) = read_to_string("/proc/stat") {
            let boot = told.lines().find_map(|line| line.strip_prefix("btime ")).unwrap();
            assert!(started.abs_diff(boot.trim().parse().unwrap()) <= 2, "{started} {boot}");
        }
    }
}
