//! What the kernel says about this process, under the names that every exporter uses.

use std::fs;

use super::{Page, families as f};
use crate::machine;

/// Writes the `process_*` metrics; what `/proc` does not tell is left out.
pub fn process(page: &mut Page) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse)
    {
        let ticks = system(libc::_SC_CLK_TCK);
        page.single(&f::CPU, stat.cpu as f64 / ticks);
        page.single(&f::RESIDENT, stat.resident as f64 * system(libc::_SC_PAGESIZE));
        page.single(&f::VIRTUAL, stat.virtual_memory);
        if let Some(boot) = machine::started() {
            page.single(&f::START_TIME, boot.as_secs_f64() + stat.started as f64 / ticks);
        }
    }
    if let Some(open) = open_files() {
        page.single(&f::OPEN_FDS, open);
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) fills a struct of ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        page.single(&f::MAX_FDS, limit.rlim_cur);
    }
}

/// A setting of the system that never changes.
fn system(name: libc::c_int) -> f64 {
    // SAFETY: sysconf(3) of a number.
    unsafe { libc::sysconf(name) as f64 }
}

/// Fields of `/proc/self/stat` (proc(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    /// User and system time in ticks.
    cpu: u64,
    /// Ticks after the system's start.
    started: u64,
    /// Bytes.
    virtual_memory: u64,
    /// Pages.
    resident: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The program's name stands in parentheses and may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        // The next field is the third.
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu: field(14)? + field(15)?,
            started: field(22)?,
            virtual_memory: field(23)?,
            resident: field(24)?,
        })
    }
}

/// Since Linux 6.2 the size of the directory is the number of descriptors; before that they have to
/// be counted, which takes a while where there are many.
fn open_files() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) R (b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 9 0 1234 5000 60 18\n";
        let stat = Stat { cpu: 200, started: 1234, virtual_memory: 5000, resident: 60 };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse("7 (a) S 1 7"), None);
    }

    #[test]
    fn this_process_has_memory_and_files_and_started() {
        let mut page = Page::default();
        process(&mut page);
        let text = page.into_text();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("no {name}: {text}"))[name.len() + 1..].parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "{age}");
    }
}
