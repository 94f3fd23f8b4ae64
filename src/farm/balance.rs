//! Smooth weighted round robin: which server is next.
//!
//! A schedule is made once, when servers or weights change: each server appears in it in
//! proportion to its weight and spread out evenly. A request takes the next slot whose server can
//! be used. Slots that are passed over are used up, so a dead server's share goes to all others in
//! proportion to their weights; it does not fall on its neighbour.
//!
//! The hot path is one compare-and-swap: no lock, no allocation, no hashing of backends, which is
//! why it is called directly instead of through `LoadBalancer::select_with` (that allocates a set
//! for each request and weighs only its first pick).

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use pingora::lb::{
    Backend,
    selection::{BackendIter, BackendSelection},
};

use super::{server::Server, state::State};

/// Servers that a request has tried already. Empty, it takes no memory.
#[derive(Clone, Debug, Default)]
pub struct Tried(Vec<u64>);

impl Tried {
    /// Notes that `server` is not to be chosen again for this request.
    pub fn add(&mut self, server: &Server) {
        if !self.contains(server) {
            self.0.push(server.id());
        }
    }

    /// Whether `server` was tried.
    pub fn contains(&self, server: &Server) -> bool {
        self.0.contains(&server.id())
    }

    /// How many servers were tried.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is the request's first attempt.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Weighted round robin over the servers of one farm.
pub struct SmoothRoundRobin {
    backends: Box<[(Backend, Arc<Server>)]>,
    weights: Box<[u32]>,
    /// Indices into `backends`.
    schedule: Box<[usize]>,
    cursor: AtomicUsize,
}

impl SmoothRoundRobin {
    /// The next healthy server with a weight that is not in `tried`.
    pub fn choose(&self, tried: &Tried) -> Option<&Arc<Server>> {
        self.next(tried).map(|(_, server)| server)
    }

    /// Whether this is the selector for exactly these backends with their present weights.
    pub(crate) fn fits(&self, backends: &BTreeSet<Backend>) -> bool {
        self.backends.iter().map(|(backend, _)| backend).eq(backends.iter())
            && self.backends.iter().zip(&self.weights).all(|((_, s), w)| s.spec().weight == *w)
    }

    fn next(&self, tried: &Tried) -> Option<&(Backend, Arc<Server>)> {
        let mut start = self.cursor.load(Ordering::Relaxed);
        loop {
            let (steps, found) = self.first_usable(start, tried)?;
            // Taking the slot and the ones passed over is one step: requests that choose at the
            // same moment get different slots, and none is lost in between.
            let next = self.after(start, steps);
            match self.cursor.compare_exchange_weak(
                start,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(found),
                Err(now) => start = now,
            }
        }
    }

    /// The first usable server at or after slot `start`, and how many slots that takes.
    fn first_usable(
        &self,
        start: usize,
        tried: &Tried,
    ) -> Option<(usize, &(Backend, Arc<Server>))> {
        let slots = self.schedule.iter().skip(start).chain(self.schedule.iter().take(start));
        slots.enumerate().find_map(|(passed, index)| {
            let entry = self.backends.get(*index)?;
            let server = &entry.1;
            (server.healthy() && server.state() == State::Ready && !tried.contains(server))
                .then_some((passed + 1, entry))
        })
    }

    /// The slot `steps` after `start`; the cursor stays inside the schedule, so it cannot wrap in
    /// the middle of a round.
    fn after(&self, start: usize, steps: usize) -> usize {
        (start + steps) % self.schedule.len().max(1)
    }
}

impl BackendSelection for SmoothRoundRobin {
    type Iter = Turns;
    type Config = ();

    /// Backends without a [`Server`] in `ext` are left out: they are none of ours.
    fn build(backends: &BTreeSet<Backend>) -> Self {
        let backends: Box<[_]> = backends
            .iter()
            .filter_map(|b| Some((b.clone(), b.ext.get::<Arc<Server>>()?.clone())))
            .collect();
        let weights: Box<[u32]> = backends.iter().map(|(_, s)| s.spec().weight).collect();
        let schedule = schedule(&weights);
        Self { backends, weights, schedule, cursor: AtomicUsize::new(0) }
    }

    fn iter(self: &Arc<Self>, _key: &[u8]) -> Turns {
        Turns { selector: self.clone(), tried: Tried::default() }
    }
}

/// Servers in the order in which a request would try them, each once.
pub struct Turns {
    selector: Arc<SmoothRoundRobin>,
    tried: Tried,
}

impl BackendIter for Turns {
    fn next(&mut self) -> Option<&Backend> {
        let (backend, server) = self.selector.next(&self.tried)?;
        self.tried.add(server);
        Some(backend)
    }
}

/// Longest schedule, unless there are more servers than that: weights whose proportions need
/// more slots are rounded, each server keeping one slot at least.
const MAX_SLOTS: u64 = 4096;

/// Indices in the order of their turns; an index whose weight is 0 has none. Each turn, every
/// server gains its weight in credit; the richest one has the turn and pays for the whole round.
fn schedule(weights: &[u32]) -> Box<[usize]> {
    let shares = shares(weights);
    let total: i64 = shares.iter().sum();
    let mut credits = vec![0i64; shares.len()];
    let mut turns = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
    for _ in 0..total {
        let mut richest: Option<(usize, i64)> = None;
        for (index, (credit, share)) in credits.iter_mut().zip(&shares).enumerate() {
            *credit += share;
            if *share > 0 && richest.is_none_or(|(_, most)| *credit > most) {
                richest = Some((index, *credit));
            }
        }
        let Some((index, _)) = richest else { break };
        if let Some(credit) = credits.get_mut(index) {
            *credit -= total;
        }
        turns.push(index);
    }
    turns.into()
}

/// The weights in lowest terms, fitted to the longest schedule.
fn shares(weights: &[u32]) -> Vec<i64> {
    let divisor = u64::from(weights.iter().copied().fold(0, greatest_common_divisor).max(1));
    let lowest = weights.iter().map(|weight| u64::from(*weight) / divisor);
    let total: u64 = lowest.clone().sum();
    let fitted = lowest.map(|share| match total {
        0..=MAX_SLOTS => share,
        _ if share == 0 => 0,
        _ => ((share * MAX_SLOTS + total / 2) / total).max(1),
    });
    fitted.map(|share| i64::try_from(share).unwrap_or(i64::MAX)).collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::testing::{server, server_weighing};
    use super::*;

    fn selector(servers: &[Arc<Server>]) -> Arc<SmoothRoundRobin> {
        Arc::new(SmoothRoundRobin::build(&servers.iter().map(|s| s.backend()).collect()))
    }

    fn picks(selector: &SmoothRoundRobin, count: usize) -> Vec<String> {
        let tried = Tried::default();
        (0..count).map(|_| selector.choose(&tried).unwrap().name().to_string()).collect()
    }

    fn tally(picks: &[String]) -> HashMap<&str, usize> {
        let mut tally = HashMap::new();
        picks.iter().for_each(|pick| *tally.entry(pick.as_str()).or_default() += 1);
        tally
    }

    #[test]
    fn five_one_one_is_spread_out() {
        assert_eq!(*schedule(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(*schedule(&[500, 100, 100]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(*schedule(&[100, 100, 100]), [0, 1, 2]);
    }

    #[test]
    fn weights_nobody_has_make_no_schedule() {
        assert!(schedule(&[]).is_empty());
        assert!(schedule(&[0, 0]).is_empty());
        assert_eq!(*schedule(&[0, 7]), [1]);
    }

    #[test]
    fn huge_and_odd_weights_stay_near_their_proportions() {
        let turns = schedule(&[u32::MAX, u32::MAX - 2, 1]);
        assert!(turns.len() <= MAX_SLOTS as usize + 3);
        assert_eq!(turns.iter().filter(|turn| **turn == 2).count(), 1);
        let first = turns.iter().filter(|turn| **turn == 0).count();
        let second = turns.iter().filter(|turn| **turn == 1).count();
        assert!(first.abs_diff(second) <= 1, "{first} {second}");
    }

    #[test]
    fn proportions_are_exact_in_every_round() {
        let servers = [
            server_weighing("a", 100),
            server_weighing("b", 50),
            server_weighing("c", 0),
            server_weighing("d", 25),
        ];
        let selector = selector(&servers);
        for _ in 0..3 {
            let round = picks(&selector, 7);
            assert_eq!(tally(&round), HashMap::from([("a", 4), ("b", 2), ("d", 1)]));
        }
    }

    #[test]
    fn the_share_of_a_dead_server_goes_to_all_others() {
        let servers = [server("a"), server("b"), server("c"), server("d")];
        let selector = selector(&servers);
        servers[1].look(1, Err("connect refused".into()));
        let spread = picks(&selector, 300);
        assert_eq!(tally(&spread), HashMap::from([("a", 100), ("c", 100), ("d", 100)]));
        servers[1].look(1, Ok(()));
        assert_eq!(tally(&picks(&selector, 400))["b"], 100);
    }

    #[test]
    fn the_share_of_a_dead_server_follows_the_weights_of_the_others() {
        let servers =
            [server_weighing("a", 30), server_weighing("b", 50), server_weighing("c", 10)];
        let selector = selector(&servers);
        servers[1].look(1, Err("status 503".into()));
        assert_eq!(tally(&picks(&selector, 400)), HashMap::from([("a", 300), ("c", 100)]));
    }

    #[test]
    fn tried_servers_are_passed_over_until_none_is_left() {
        let servers = [server("a"), server("b"), server("c")];
        let selector = selector(&servers);
        let mut tried = Tried::default();
        assert!(tried.is_empty());
        for left in (0..3).rev() {
            let server = selector.choose(&tried).unwrap();
            assert!(!tried.contains(server));
            tried.add(server);
            tried.add(server);
            assert_eq!(tried.len(), 3 - left);
        }
        assert!(selector.choose(&tried).is_none());
    }

    #[test]
    fn nobody_healthy_is_nobody_chosen() {
        let servers = [server("a"), server("b")];
        let selector = selector(&servers);
        servers.iter().for_each(|s| s.look(1, Err("connect refused".into())));
        assert!(selector.choose(&Tried::default()).is_none());
        assert!(self::selector(&[]).choose(&Tried::default()).is_none());
    }

    #[test]
    fn threads_that_choose_at_once_share_exact_proportions() {
        let servers = [server_weighing("a", 3), server_weighing("b", 2), server_weighing("c", 1)];
        servers[1].look(1, Err("connect refused".into()));
        let selector = selector(&servers);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let selector = selector.clone();
                std::thread::spawn(move || picks(&selector, 1000))
            })
            .collect();
        let all: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        assert_eq!(tally(&all), HashMap::from([("a", 3000), ("c", 1000)]));
    }

    #[tokio::test]
    async fn pingoras_load_balancer_runs_on_it_and_equal_addresses_stay_apart() {
        use pingora::lb::{Backends, LoadBalancer, discovery::Static};

        let servers = [server_weighing("a", 2), server_weighing("b", 1)];
        assert_eq!(servers[0].spec().address, servers[1].spec().address);
        let backends = servers.iter().map(|s| s.backend()).collect();
        let balancer =
            LoadBalancer::<SmoothRoundRobin>::from_backends(Backends::new(Static::new(backends)));
        balancer.update().await.unwrap();
        let picks: Vec<_> = (0..6)
            .map(|_| {
                let backend = balancer.select(b"", 10).unwrap();
                backend.ext.get::<Arc<Server>>().unwrap().name().to_string()
            })
            .collect();
        assert_eq!(tally(&picks), HashMap::from([("a", 4), ("b", 2)]));
        servers[0].look(1, Err("connect refused".into()));
        let backend = balancer.select(b"", 10).unwrap();
        assert_eq!(&**backend.ext.get::<Arc<Server>>().unwrap().name(), "b");
    }
}
