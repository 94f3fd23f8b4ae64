//! Consistent hashing: the same key leads to the same server, on every Frontgate.
//!
//! Rendezvous (highest random weight) hashing: every server draws a number from the key and its
//! own name, and the best one wins. So a server that goes takes only its own keys along, and they
//! are spread over all others; one that joins takes its share from each. No ring has to be built,
//! and a key's second choice is as well spread as its first.

use super::{super::server::Server, Algorithm, Entry};

/// Rendezvous hashing over the servers of one farm.
pub(crate) struct Rendezvous {
    entries: Box<[Entry]>,
    /// Hash of the name and weight, in the order of `entries`.
    draws: Box<[(u64, u32)]>,
    /// Whether all weights are the same, which saves a logarithm a server.
    uniform: bool,
}

impl Algorithm for Rendezvous {
    fn over(entries: Box<[Entry]>) -> Self {
        let draw = |(_, server): &Entry| (hash(server.name().as_bytes()), server.weight());
        let draws: Box<[_]> = entries.iter().map(draw).collect();
        let uniform = draws.windows(2).all(|pair| matches!(pair, [a, b] if a.1 == b.1));
        Self { entries, draws, uniform }
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn fits_weights(&self) -> bool {
        self.entries.iter().zip(&self.draws).all(|((_, s), (_, weight))| s.weight() == *weight)
    }

    fn pick(&self, key: u64, usable: impl Fn(&Server) -> bool) -> Option<&Entry> {
        let mut best: Option<(f64, u64, &Entry)> = None;
        for (entry, (seed, weight)) in self.entries.iter().zip(&self.draws) {
            if *weight == 0 || !usable(&entry.1) {
                continue;
            }
            let number = mix(key ^ seed);
            let score = if self.uniform { 0.0 } else { score(number, *weight) };
            let better = best.is_none_or(|(s, n, _)| score > s || (score == s && number > n));
            if better {
                best = Some((score, number, entry));
            }
        }
        best.map(|(.., entry)| entry)
    }
}

/// Of numbers that are uniformly distributed, the highest score falls to each weight in
/// proportion to it: -w / ln(u).
fn score(number: u64, weight: u32) -> f64 {
    // In (0, 1): 53 bits, never 0 and never 1.
    let uniform = ((number >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(weight) / uniform.ln()
}

/// A hash that is the same in every build and on every machine (FNV-1a, then mixed).
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Spreads every bit over all others (the finish of splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use super::{
        super::super::testing::{server, server_weighing},
        *,
    };

    const KEYS: u64 = 20_000;

    fn over(servers: &[Arc<Server>]) -> Rendezvous {
        Rendezvous::over(servers.iter().map(|s| (s.backend(), s.clone())).collect())
    }

    fn all(selector: &Rendezvous) -> Vec<String> {
        let pick = |key: u64| selector.pick(hash(&key.to_le_bytes()), Server::healthy);
        (0..KEYS).map(|key| pick(key).unwrap().1.name().to_string()).collect()
    }

    fn tally(picks: &[String]) -> HashMap<&str, usize> {
        let mut tally = HashMap::new();
        picks.iter().for_each(|pick| *tally.entry(pick.as_str()).or_default() += 1);
        tally
    }

    #[test]
    fn hashes_do_not_change_between_versions() {
        // splitmix64's first number from seed 0, and FNV-1a of these texts mixed the same way.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(hash(b""), 0xc381_7c01_6ba4_ff30);
        assert_eq!(hash(b"fe01"), 0xcffa_9e52_513d_9511);
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let names: Vec<String> = (0..16).map(|n| format!("fe{n:02}")).collect();
        let servers: Vec<_> = names.iter().map(|name| server(name)).collect();
        let picks = all(&over(&servers));
        let counts = tally(&picks);
        let share = KEYS as usize / 16;
        assert!(counts.values().all(|n| n.abs_diff(share) < share / 5), "{counts:?}");

        let servers =
            [server_weighing("a", 300), server_weighing("b", 100), server_weighing("c", 0)];
        let picks = all(&over(&servers));
        let counts = tally(&picks);
        assert!(counts["a"].abs_diff(KEYS as usize * 3 / 4) < KEYS as usize / 50, "{counts:?}");
        assert!(!counts.contains_key("c"));
    }

    #[test]
    fn a_server_that_goes_takes_only_its_own_keys_along() {
        for weights in [[100; 8], [100, 50, 100, 100, 25, 100, 100, 200]] {
            let make = |(n, w): (usize, &u32)| server_weighing(&format!("fe{n}"), *w);
            let servers: Vec<_> = weights.iter().enumerate().map(make).collect();
            let selector = over(&servers);
            let before = all(&selector);
            servers[3].look(1, Err("connect refused".into()));
            let after = all(&selector);
            let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
            assert!(moved.iter().all(|(from, _)| *from == "fe3"));
            let share = KEYS as usize * weights[3] as usize / weights.iter().sum::<u32>() as usize;
            assert!(moved.len().abs_diff(share) < share / 5, "{} of {share}", moved.len());
            // And they are spread over all others, not given to one neighbour.
            let heirs: std::collections::HashSet<_> = moved.iter().map(|(_, to)| *to).collect();
            assert_eq!(heirs.len(), 7);
            // The same without it at all, as in a configuration that lost the line.
            let mut rest = servers.clone();
            rest.remove(3);
            assert_eq!(all(&over(&rest)), after);
        }
    }

    #[test]
    fn the_order_of_the_configuration_does_not_matter() {
        let names = ["a", "b", "c", "d"];
        let forwards: Vec<_> = names.iter().map(|name| server(name)).collect();
        let backwards: Vec<_> = names.iter().rev().map(|name| server(name)).collect();
        assert_eq!(all(&over(&forwards)), all(&over(&backwards)));
    }
}
