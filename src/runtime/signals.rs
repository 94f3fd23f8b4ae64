//! Signals, from the first moment on: a signal without a handler would kill.

use std::io;

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

/// Every signal that Frontgate knows.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Installs the handlers.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next order.
    pub(super) async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Terminate,
            _ = self.interrupt.recv() => Order::Interrupt,
            _ = self.hangup.recv() => Order::Reload,
            _ = self.user1.recv() => Order::Reopen,
            _ = self.user2.recv() => Order::Upgrade,
        }
    }

    /// The next order to stop; others are passed over.
    pub(super) async fn stop(&mut self) -> Order {
        loop {
            let order = self.next().await;
            if matches!(order, Order::Terminate | Order::Interrupt) {
                return order;
            }
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
