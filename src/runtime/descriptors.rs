//! File descriptors: a proxied connection takes two.

use log::warn;

use crate::site::Limits;

/// Raises the soft limit of open files to the hard one, as nginx and Go programs do, and says so
/// when even that is too low for the configured limits.
pub(super) fn raise(limits: &Limits) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) fills a struct of ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return;
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: setrlimit(2) reads a struct of ours; the soft limit is within the hard one.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
    let wanted = (limits.connections as u64).saturating_mul(2);
    if limit.rlim_max < wanted {
        warn!(
            "at most {} files may be open, but limits.connections: {} may need {wanted}; raise \
             LimitNOFILE or nofile, or lower the limit",
            limit.rlim_max, limits.connections
        );
    }
}
