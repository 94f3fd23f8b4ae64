//! Processes that upgrades have replaced, and that still let their requests end.
//!
//! Whoever hands over keeps the writing end of a pipe until its own end, and gives the reading end to
//! the next process, with those of the processes before. So the end of each of them is seen also by
//! those that it never spoke to, and a number that the kernel gives out anew misleads nobody.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use log::warn;
use tokio::time::sleep;

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(50);

/// The processes before this one; each with a pipe whose writing end only it holds.
#[derive(Debug, Default)]
pub struct Replaced(Vec<(u32, OwnedFd)>);

impl Replaced {
    /// Takes inherited descriptors, each with the number of its process.
    ///
    /// # Safety
    /// Nothing else in this process may use or close these descriptors.
    pub unsafe fn inherit(lives: impl IntoIterator<Item = (u32, RawFd)>) -> Self {
        let owned = |(process, fd): (u32, RawFd)| {
            // SAFETY: fcntl(2) on a number; a closed one is an error.
            if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
                warn!("nobody will know when process {process} ends");
                return None;
            }
            // SAFETY: it is open, and as the caller promises nobody else's.
            Some((process, unsafe { OwnedFd::from_raw_fd(fd) }))
        };
        Self(lives.into_iter().filter_map(owned).collect())
    }

    /// The numbers of those that have not ended, the oldest first.
    pub fn alive(&self) -> Vec<u32> {
        self.living().map(|(process, _)| *process).collect()
    }

    /// Resolves when all have ended.
    pub async fn gone(&self) {
        while self.living().next().is_some() {
            sleep(EVERY).await;
        }
    }

    /// The same for the next process: copies of the descriptors.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn copies(&self) -> io::Result<Vec<(u32, OwnedFd)>> {
        self.living().map(|(process, life)| Ok((*process, life.try_clone()?))).collect()
    }

    fn living(&self) -> impl Iterator<Item = &(u32, OwnedFd)> {
        self.0.iter().filter(|(_, life)| !has_ended(life))
    }
}

/// Whether the writing end of a pipe is closed. Nothing is ever written.
fn has_ended(life: &OwnedFd) -> bool {
    let mut look = libc::pollfd { fd: life.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: poll(2) of one struct of ours, which does not wait.
    unsafe { libc::poll(&raw mut look, 1, 0) == 1 }
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    #[tokio::test]
    async fn the_end_of_each_is_seen_also_by_the_next() {
        let ((one, first), (two, second)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let given = [(11, one.into_raw_fd()), (12, two.into_raw_fd()), (13, -1)];
        // SAFETY: they were just given up.
        let replaced = unsafe { Replaced::inherit(given) };
        assert_eq!(replaced.alive(), [11, 12]);
        let copies = replaced.copies().unwrap().into_iter();
        // SAFETY: as above.
        let next = unsafe { Replaced::inherit(copies.map(|(n, fd)| (n, fd.into_raw_fd()))) };
        drop(first);
        assert_eq!((replaced.alive(), next.alive()), (vec![12], vec![12]));
        assert_eq!(next.copies().unwrap().len(), 1);
        let waiting = tokio::time::timeout(Duration::from_millis(120), next.gone());
        assert!(waiting.await.is_err(), "one is still there");
        drop(second);
        tokio::time::timeout(Duration::from_secs(60), next.gone()).await.unwrap();
        assert!(replaced.alive().is_empty());
    }
}
