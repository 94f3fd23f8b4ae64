//! The server that has the least of something: running requests, response time, traffic.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use super::{super::server::Server, Algorithm, Dice, Entry};

/// What is compared.
pub(crate) trait Measure: Send + Sync + Sized + 'static {
    /// What one choice knows about all servers.
    type View;

    /// The floor to start with.
    fn start(_entries: &[Entry]) -> f64 {
        0.0
    }

    /// Looks at all servers.
    fn view(entries: &[Entry], floor: f64) -> Self::View;

    /// What one more request costs at this server; the least wins. `weight` is never 0.
    fn cost(server: &Server, weight: f64, view: &Self::View) -> f64;

    /// The server was chosen; returns the floor for the next choice.
    fn chosen(_server: &Server, _weight: f64, floor: f64) -> f64 {
        floor
    }
}

/// Chooses the server with the least cost; among equals at random, so that the first one in the
/// file is not preferred and several Frontgates do not all think of the same one.
pub(crate) struct Least<M> {
    entries: Box<[Entry]>,
    dice: Dice,
    /// Of the measure: bits of a number that never falls.
    floor: AtomicU64,
    measure: PhantomData<M>,
}

impl<M: Measure> Algorithm for Least<M> {
    fn over(entries: Box<[Entry]>) -> Self {
        let floor = AtomicU64::new(M::start(&entries).to_bits());
        Self { entries, dice: Dice::default(), floor, measure: PhantomData }
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn fits_weights(&self) -> bool {
        true
    }

    fn pick(&self, _key: u64, usable: impl Fn(&Server) -> bool) -> Option<&Entry> {
        let floor = f64::from_bits(self.floor.load(Ordering::Relaxed));
        let view = M::view(&self.entries, floor);
        let mut best: Option<(f64, u64, &Entry)> = None;
        for entry in self.entries.iter().filter(|(_, server)| usable(server)) {
            let weight = f64::from(entry.1.weight());
            if weight == 0.0 {
                continue;
            }
            let cost = M::cost(&entry.1, weight, &view);
            best = match best {
                Some((least, _, _)) if cost > least => continue,
                Some((least, equals, other)) if cost == least => {
                    // Each of n equals is kept with a chance of 1/n.
                    let equals = equals + 1;
                    let keep = self.dice.roll().is_multiple_of(equals);
                    Some((least, equals, if keep { entry } else { other }))
                }
                _ => Some((cost, 1, entry)),
            };
        }
        let (.., entry) = best?;
        let next = M::chosen(&entry.1, f64::from(entry.1.weight()), floor);
        if next > floor {
            // Positive numbers compare like their bits.
            self.floor.fetch_max(next.to_bits(), Ordering::Relaxed);
        }
        Some(entry)
    }
}

/// Running requests for the weight, polls included (ARR `LeastRequests`).
pub(crate) struct Requests;

impl Measure for Requests {
    type View = ();

    fn view(_: &[Entry], _: f64) {}

    fn cost(server: &Server, weight: f64, (): &()) -> f64 {
        (server.in_flight() + 1) as f64 / weight
    }
}

/// Time to the answer's header, by a decaying average, times the requests that run already (ARR
/// `LeastResponseTime`).
///
/// What is known of a server is believed less and less while nothing new comes; in its place steps
/// what the others take on the average. So a server that is new, or comes back after a while,
/// counts like the others and is not flooded while its first answers are on their way; and one that
/// was slow once is asked again, because the average it fades to is taken a tenth lower.
pub(crate) struct ResponseTime;

/// What others take counts by this much for a server that nothing recent is known of.
const BENEFIT_OF_DOUBT: f64 = 0.9;

impl Measure for ResponseTime {
    /// Now, the sum of what is known, and of how many servers.
    type View = (Instant, f64, f64);

    fn view(entries: &[Entry], _: f64) -> Self::View {
        let now = Instant::now();
        let known = entries.iter().filter_map(|(_, server)| server.load().response_time(now));
        let (sum, count) =
            known.fold((0.0, 0.0), |(sum, count), (time, _)| (sum + time, count + 1.0));
        (now, sum, count)
    }

    fn cost(server: &Server, weight: f64, (now, sum, count): &Self::View) -> f64 {
        let known = server.load().response_time(*now);
        let (sum, count) = known.map_or((*sum, *count), |(time, _)| (sum - time, count - 1.0));
        let others = (count > 0.5).then(|| sum / count);
        let time = match (known, others) {
            (Some((time, believed)), Some(others)) => {
                time * believed + others * BENEFIT_OF_DOUBT * (1.0 - believed)
            }
            (Some((time, _)), None) => time,
            (None, others) => others.unwrap_or_default(),
        };
        // Faster than a microsecond is all the same.
        time.max(1.0) * (server.in_flight() + 1) as f64 / weight
    }
}

/// Bytes both ways for the weight (ARR `WeightedTotalTraffic`). Requests that run count with the
/// bytes of an average one, as their own are not known yet.
///
/// A server that joins or comes back starts at the present least of the others: otherwise it had
/// to catch up with what they moved for days, and would be given every request until then.
pub(crate) struct Traffic;

impl Measure for Traffic {
    /// The least any server may count, and the bytes of an average request.
    type View = (f64, f64);

    /// After a reload: what those that moved something moved on the average.
    fn start(entries: &[Entry]) -> f64 {
        let moved = |server: &Server| server.load().traffic() as f64 / f64::from(server.weight());
        let moved = entries.iter().map(|(_, server)| moved(server));
        let moved = moved.filter(|moved| moved.is_finite() && *moved > 0.0);
        let (sum, count) = moved.fold((0.0, 0.0), |(sum, count), moved| (sum + moved, count + 1.0));
        if count == 0.0 { 0.0 } else { sum / count }
    }

    fn view(entries: &[Entry], floor: f64) -> Self::View {
        let sums = entries.iter().fold((0, 0), |(bytes, requests), (_, server)| {
            let load = server.load();
            (bytes + load.received() + load.sent(), requests + load.requests())
        });
        (floor, (sums.0 as f64 / sums.1.max(1) as f64).max(1.0))
    }

    fn cost(server: &Server, weight: f64, (floor, average): &Self::View) -> f64 {
        let moved = server.load().traffic() as f64 / weight;
        moved.max(*floor) + server.in_flight() as f64 * average / weight
    }

    fn chosen(server: &Server, weight: f64, floor: f64) -> f64 {
        server.load().raise_traffic((floor * weight) as u64);
        server.load().traffic() as f64 / weight
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc, time::Duration};

    use super::{
        super::super::{
            InFlight,
            testing::{server, server_weighing},
        },
        *,
    };

    fn over<M: Measure>(servers: &[Arc<Server>]) -> Least<M> {
        Least::over(servers.iter().map(|s| (s.backend(), s.clone())).collect())
    }

    fn pick<M: Measure>(selector: &Least<M>) -> Arc<Server> {
        selector.pick(0, Server::healthy).unwrap().1.clone()
    }

    fn begin(server: &Arc<Server>) -> InFlight {
        server.begin().unwrap()
    }

    #[test]
    fn least_requests_follows_the_weights_and_refills_what_ends() {
        let servers = [server_weighing("a", 200), server_weighing("b", 100), server("c")];
        let selector = over::<Requests>(&servers);
        let mut running: Vec<InFlight> = (0..400).map(|_| begin(&pick(&selector))).collect();
        let counts = servers.clone().map(|s| s.in_flight());
        assert!(counts[0].abs_diff(200) <= 1 && counts[1].abs_diff(100) <= 1, "{counts:?}");
        // What ends at one server is where the next requests go.
        running.retain(|place| place.server().name().as_ref() != "b");
        for _ in 0..50 {
            let server = pick(&selector);
            assert_eq!(&**server.name(), "b");
            running.push(begin(&server));
        }
    }

    #[test]
    fn equals_are_chosen_at_random() {
        let servers = [server("a"), server("b"), server("c"), server("d")];
        let selector = over::<Requests>(&servers);
        let mut tally: HashMap<String, usize> = HashMap::new();
        for _ in 0..8000 {
            *tally.entry(pick(&selector).name().to_string()).or_default() += 1;
        }
        assert!(tally.len() == 4 && tally.values().all(|n| n.abs_diff(2000) < 250), "{tally:?}");
    }

    /// Servers that take 10, 20 and 40 ms; eight requests run at any time.
    #[test]
    fn least_response_time_gives_the_faster_server_more_in_proportion() {
        let servers = [server("a"), server("b"), server("c")];
        let takes = [10u64, 20, 40];
        let selector = over::<ResponseTime>(&servers);
        let mut tally = [0usize; 3];
        let mut clock = 0u64;
        let mut running: Vec<(u64, usize, InFlight)> = Vec::new();
        for _ in 0..6000 {
            if running.len() == 8 {
                running.sort_by_key(|(end, ..)| *end);
                let (end, index, _place) = running.remove(0);
                clock = end;
                servers[index].load().answered(Duration::from_millis(takes[index]), Instant::now());
            }
            let server = pick(&selector);
            let index = servers.iter().position(|s| s.id() == server.id()).unwrap();
            tally[index] += 1;
            running.push((clock + takes[index], index, begin(&server)));
        }
        assert!(tally[0] > tally[1] * 2 && tally[1] > tally[2] * 2, "{tally:?}");
        assert!(tally[2] > 0, "{tally:?}");
    }

    #[test]
    fn a_new_server_is_not_flooded_with_requests() {
        let servers = [server("a"), server("b"), server("new")];
        let selector = over::<ResponseTime>(&servers);
        for server in &servers[..2] {
            server.load().answered(Duration::from_millis(20), Instant::now());
        }
        let running: Vec<InFlight> = (0..30).map(|_| begin(&pick(&selector))).collect();
        assert!(servers[2].in_flight() <= 11, "{}", servers[2].in_flight());
        drop(running);
    }

    /// Drained, down or out for a while, it comes back to two that are busy.
    #[test]
    fn a_server_that_comes_back_is_not_flooded_either() {
        for seconds in [20, 60, 120, 600] {
            let servers = [server("a"), server("b"), server("back")];
            let selector = over::<ResponseTime>(&servers);
            let then = Instant::now() - Duration::from_secs(seconds);
            servers[2].load().answered(Duration::from_millis(20), then);
            for server in &servers[..2] {
                server.load().answered(Duration::from_millis(20), Instant::now());
            }
            let running: Vec<InFlight> = (0..30).map(|_| begin(&pick(&selector))).collect();
            let got = servers[2].in_flight();
            assert!((1..=13).contains(&got), "{got} after {seconds} s");
            drop(running);
        }
    }

    #[test]
    fn a_slow_server_is_asked_again_after_a_while() {
        let servers = [server("fast"), server("slow")];
        let selector = over::<ResponseTime>(&servers);
        let long_ago = Instant::now() - Duration::from_secs(120);
        servers[1].load().answered(Duration::from_secs(5), long_ago);
        servers[0].load().answered(Duration::from_millis(20), Instant::now());
        assert_eq!(&**pick(&selector).name(), "slow");
        servers[1].load().answered(Duration::from_secs(5), Instant::now());
        assert_eq!(&**pick(&selector).name(), "fast");
    }

    /// Answers of very different size: what counts is the sum.
    #[test]
    fn traffic_is_shared_by_weight_whatever_the_requests_are() {
        let servers = [server_weighing("a", 300), server_weighing("b", 100)];
        let selector = over::<Traffic>(&servers);
        for number in 0..4000u64 {
            let server = pick(&selector);
            let _place = begin(&server);
            server.load().add_sent(if number.is_multiple_of(7) { 100_000 } else { 1_000 + number });
        }
        let [a, b] = servers.map(|s| s.load().sent() as f64);
        assert!((a / b - 3.0).abs() < 0.15, "{}", a / b);
    }

    #[test]
    fn a_changed_weight_counts_from_now_on() {
        let farm = crate::farm::testing::farm("lyncweb", &["a"]);
        let servers = [server("a"), server("b")];
        let selector = over::<Traffic>(&servers);
        for server in &servers {
            server.load().add_sent(1_000_000_000);
        }
        servers[0].update(&farm, crate::site::Server { weight: 50, ..farm.servers[0].clone() });
        let mut got = 0;
        for _ in 0..300 {
            let server = pick(&selector);
            server.load().add_sent(1000);
            got += usize::from(server.id() == servers[0].id());
        }
        assert!((90..=110).contains(&got), "{got} of 300");
    }

    #[test]
    fn a_server_that_joins_does_not_catch_up() {
        let old = [server("a"), server("b")];
        for server in &old {
            server.load().add_sent(1_000_000_000);
        }
        let mut servers = old.to_vec();
        let selector = over::<Traffic>(&servers);
        pick(&selector);
        // A reload keeps the servers and makes a selector over all three.
        servers.push(server("new"));
        let selector = over::<Traffic>(&servers);
        let mut tally: HashMap<String, usize> = HashMap::new();
        for _ in 0..300 {
            let server = pick(&selector);
            server.load().add_sent(1000);
            *tally.entry(server.name().to_string()).or_default() += 1;
        }
        assert!(tally["new"] < 120, "{tally:?}");
    }
}
