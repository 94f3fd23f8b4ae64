//! Signals, from the first moment on: a signal without a handler would kill.

use std::{
    collections::VecDeque,
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// SIGTERM: stop in good order.
    Terminate,
    /// SIGINT: the same; the second one stops at once.
    Interrupt,
    /// SIGHUP: reload.
    Reload,
    /// SIGUSR1: open the access log anew.
    Reopen,
    /// SIGUSR2: let the program that is installed now take over.
    Upgrade,
}

/// What came while the configuration was being read, and would have killed this process.
static EARLY: [(libc::c_int, Order, AtomicBool); 3] = [
    (libc::SIGHUP, Order::Reload, AtomicBool::new(false)),
    (libc::SIGUSR1, Order::Reopen, AtomicBool::new(false)),
    (libc::SIGUSR2, Order::Upgrade, AtomicBool::new(false)),
];

/// From now on these signals do no harm; [`Signals::listen`] knows which came. To be called first
/// of all.
pub(super) fn note_early() {
    extern "C" fn note(signal: libc::c_int) {
        EARLY.iter().filter(|(it, ..)| *it == signal).for_each(|(.., came)| {
            came.store(true, Ordering::Relaxed);
        });
    }
    let note = note as extern "C" fn(libc::c_int);
    for (signal, ..) in &EARLY {
        // SAFETY: signal(2); all that the handler does is to store into an atomic.
        unsafe { libc::signal(*signal, note as libc::sighandler_t) };
    }
}

/// The same for a process that is just being made, until it calls [`note_early`]: it ignores them.
/// May be called between fork(2) and exec(2).
pub(super) fn ignore_early() {
    for (signal, ..) in &EARLY {
        // SAFETY: signal(2), which is safe there (signal-safety(7)).
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
}

/// Every signal that Frontgate knows.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
    /// Passed over so far, and not forgotten.
    early: VecDeque<Order>,
}

impl Signals {
    /// Installs the handlers.
    pub(super) fn listen() -> io::Result<Self> {
        let mut signals = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            early: VecDeque::new(),
        };
        // Only now does none fall between the two.
        let came = EARLY.iter().filter(|(.., came)| came.swap(false, Ordering::Relaxed));
        signals.early.extend(came.map(|(_, order, _)| *order));
        Ok(signals)
    }

    /// The next order.
    pub(super) async fn next(&mut self) -> Order {
        match self.early.pop_front() {
            Some(order) => order,
            None => self.arriving().await,
        }
    }

    /// The next order to stop; others are passed over, and come next.
    pub(super) async fn stop(&mut self) -> Order {
        loop {
            match self.arriving().await {
                order @ (Order::Terminate | Order::Interrupt) => return order,
                order if self.early.contains(&order) => {}
                order => self.early.push_back(order),
            }
        }
    }

    async fn arriving(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Terminate,
            _ = self.interrupt.recv() => Order::Interrupt,
            _ = self.hangup.recv() => Order::Reload,
            _ = self.user1.recv() => Order::Reopen,
            _ = self.user2.recv() => Order::Upgrade,
        }
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Reload => "SIGHUP",
            Self::Reopen => "SIGUSR1",
            Self::Upgrade => "SIGUSR2",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Looking up names may take the start some seconds.
    #[tokio::test]
    async fn what_is_asked_during_the_start_is_done_afterwards() {
        let mut signals = Signals::listen().unwrap();
        let mut arrived = signal(SignalKind::hangup()).unwrap();
        for _ in 0..2 {
            // SAFETY: raise(3); there is a handler.
            assert_eq!(unsafe { libc::raise(libc::SIGHUP) }, 0);
            // Everybody who listens is told at once.
            timeout(Duration::from_secs(60), arrived.recv()).await.unwrap();
            assert_eq!(now(signals.stop()), Poll::Pending, "SIGHUP does not stop");
        }
        assert_eq!(now(signals.next()), Poll::Ready(Order::Reload));
        assert_eq!(now(signals.next()), Poll::Pending, "asked twice, done once");
    }
}
