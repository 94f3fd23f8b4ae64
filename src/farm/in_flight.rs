//! What counts at a server while it lasts: requests, pins and tunnels.

use std::sync::Arc;

use super::server::Server;

/// A request's place at a server; counts until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Server>);

impl InFlight {
    /// For a request that was counted.
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self(server)
    }

    /// The server it is at.
    pub fn server(&self) -> &Arc<Server> {
        &self.0
    }

    /// Counts the request as failed.
    pub fn fail(&self) {
        self.0.load().failed();
    }

    /// Counts a tunnel (WebSocket), until the guard is dropped.
    pub fn tunnel(&self) -> Tunnel {
        self.0.load().tunnel(true);
        Tunnel(self.0.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// A client connection that owns a connection to a server; counts until it is dropped.
#[derive(Debug)]
pub struct Pinned(Arc<Server>);

impl Pinned {
    /// Counts one more.
    pub fn at(server: &Arc<Server>) -> Self {
        server.load().pinned(true);
        Self(server.clone())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.0.load().pinned(false);
    }
}

/// A tunnel through a server; counts until it is dropped.
#[derive(Debug)]
pub struct Tunnel(Arc<Server>);

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.load().tunnel(false);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Counters, testing::server},
        *,
    };

    #[test]
    fn everything_counts_until_it_is_dropped() {
        let server = server("fe01");
        let first = server.begin().unwrap();
        let second = server.begin().unwrap();
        second.fail();
        let pin = Pinned::at(&server);
        let tunnel = first.tunnel();
        let seen = |c: Counters| {
            (c.in_flight, c.requests, c.failures, c.pins, c.websockets, c.websockets_total)
        };
        assert_eq!(seen(server.counters()), (2, 2, 1, 1, 1, 1));
        drop((tunnel, pin, first, second));
        assert_eq!(seen(server.counters()), (0, 2, 1, 0, 0, 1));
    }
}
