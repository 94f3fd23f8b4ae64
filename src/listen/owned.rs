//! Server connections that name one client, and so belong to its connection.

use std::{
    net::IpAddr,
    os::fd::RawFd,
    sync::{Arc, Mutex},
};

use super::Handle;
use crate::lock::lock;

/// Server connections that one client connection may leave in the pool, besides its counted pins:
/// shared ones, those that name its client, and those of farms that only offered a sign-in.
pub const UNCOUNTED: usize = 4;

/// What a connection is found by in the pool: the server's address, and the key of its group.
pub type Key = (IpAddr, u64);

/// Server connections of one client connection. Those that are idle end past [`UNCOUNTED`], the one
/// that was used longest ago first, or a proxy that brings many clients over one connection, or a
/// farm of many servers, would put the connections of others out of the pool.
/// Test: many_clients_of_one_connection_leave_few_server_connections
#[derive(Debug, Default)]
pub(super) struct Owned(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    /// The one that was used last stands at the end.
    connections: Vec<One>,
    /// What requests look for right now. The pool may have given such a connection away already,
    /// so it counts as in use.
    wanted: Vec<Key>,
}

#[derive(Debug)]
struct One {
    socket: Handle,
    key: Key,
    /// Requests that are served over it, or have been and are about to say so.
    users: usize,
}

impl Owned {
    /// Ends all of them: their client has left.
    pub(super) fn shut_down(&self) {
        let all = std::mem::take(&mut lock(&self.0).connections);
        all.into_iter().for_each(|one| one.socket.shut_down());
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl All {
    /// Ends what is too many, unless a request has it or may have it.
    fn trim(&mut self) {
        let Self { connections, wanted } = self;
        if connections.len() <= UNCOUNTED {
            return;
        }
        let idle = |one: &One| one.users == 0 && !wanted.contains(&one.key);
        connections.retain(|one| !idle(one) || !one.socket.hung_up());
        let mut excess = connections.len().saturating_sub(UNCOUNTED);
        connections.retain(|one| {
            let goes = excess > 0 && idle(one);
            if goes {
                excess -= 1;
                one.socket.shut_down();
            }
            !goes
        });
    }
}

/// A request's claim to one of these connections, from before it is looked for in the pool until it
/// is back there.
#[derive(Debug)]
pub struct Lease {
    owned: Arc<Owned>,
    key: Key,
    /// Once there is one.
    socket: Option<Handle>,
}

impl Lease {
    pub(super) fn new(owned: &Arc<Owned>, key: Key) -> Self {
        lock(&owned.0).wanted.push(key);
        Self { owned: owned.clone(), key, socket: None }
    }

    /// This connection was found, or made.
    pub fn serves(&mut self, server: RawFd) {
        let Some(socket) = Handle::of(server) else { return };
        let owned = self.owned.clone();
        let all = &mut *lock(&owned.0);
        self.end(all);
        let known = all.connections.iter().position(|one| one.socket == socket);
        let known = known.map(|at| all.connections.remove(at));
        let mut one = known.unwrap_or(One { socket, key: self.key, users: 0 });
        one.users += 1;
        all.connections.push(one);
        self.socket = Some(socket);
        all.trim();
    }

    fn end(&mut self, all: &mut All) {
        match self.socket.take() {
            Some(socket) => {
                let one = all.connections.iter_mut().find(|one| one.socket == socket);
                one.into_iter().for_each(|one| one.users = one.users.saturating_sub(1));
            }
            None => {
                let wanted = all.wanted.iter().position(|key| *key == self.key);
                if let Some(at) = wanted {
                    all.wanted.swap_remove(at);
                }
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let owned = self.owned.clone();
        let all = &mut *lock(&owned.0);
        self.end(all);
        all.trim();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read},
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
    };

    use super::*;

    /// Our end and the server's.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    fn ended((_, theirs): &(TcpStream, TcpStream)) -> bool {
        match (&*theirs).read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(e) => e.kind() != ErrorKind::WouldBlock,
        }
    }

    fn key(number: u64) -> Key {
        (IpAddr::from([192, 0, 2, 7]), number)
    }

    /// A request over this connection.
    fn over(owned: &Arc<Owned>, number: u64, pair: &(TcpStream, TcpStream)) -> Lease {
        let mut lease = Lease::new(owned, key(number));
        lease.serves(pair.0.as_raw_fd());
        lease
    }

    fn told(pairs: &[(TcpStream, TcpStream)]) -> Vec<bool> {
        pairs.iter().map(ended).collect()
    }

    #[test]
    fn the_one_that_was_used_longest_ago_ends_first() {
        let owned = Arc::new(Owned::default());
        let pairs: Vec<_> = (0..6).map(|_| pair()).collect();
        for (number, pair) in (0..).zip(&pairs[..UNCOUNTED]) {
            over(&owned, number, pair);
        }
        over(&owned, 0, &pairs[0]);
        assert_eq!(told(&pairs), [false; 6]);
        over(&owned, 4, &pairs[4]);
        assert_eq!(told(&pairs), [false, true, false, false, false, false]);
        // One that its server has closed makes room.
        pairs[3].1.shutdown(std::net::Shutdown::Write).unwrap();
        over(&owned, 5, &pairs[5]);
        assert_eq!([0, 2, 4, 5].map(|at| ended(&pairs[at])), [false; 4]);
        drop(owned);
        assert_eq!([0, 2, 4, 5].map(|at| ended(&pairs[at])), [true; 4], "their client has left");
    }

    #[test]
    fn none_ends_that_a_request_has_or_may_have() {
        let owned = Arc::new(Owned::default());
        let pairs: Vec<_> = (0..8).map(|_| pair()).collect();
        let busy: Vec<_> = (0..).zip(&pairs[..6]).map(|(n, pair)| over(&owned, n, pair)).collect();
        assert_eq!(told(&pairs), [false; 8]);
        drop(busy);
        assert_eq!(told(&pairs).iter().filter(|ended| **ended).count(), 6 - UNCOUNTED);
        // The oldest that is left may be on its way to this request.
        let oldest = told(&pairs).iter().position(|ended| !ended).unwrap();
        let coming = Lease::new(&owned, key(oldest as u64));
        over(&owned, 6, &pairs[6]);
        assert!(!ended(&pairs[oldest]));
        assert_eq!(told(&pairs).iter().filter(|ended| **ended).count(), 7 - UNCOUNTED);
        // It was not: the request was refused.
        drop(coming);
        over(&owned, 7, &pairs[7]);
        assert!(ended(&pairs[oldest]));
        let all = lock(&owned.0);
        assert!(all.wanted.is_empty() && all.connections.len() == UNCOUNTED);
    }
}
