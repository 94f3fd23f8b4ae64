//! Which server: balancing, affinity, passive checks and the queue of a farm.

use std::sync::Arc;

use boring::{
    hash::hmac_sha256,
    sha::{Sha256, sha256},
};

use crate::{
    config::{
        compile::arc,
        model::{
            farm,
            probe::{self, Failure, FailureStatus},
        },
    },
    site::{Affinity, AffinityKey, Balance, Certificate, HashKey, Passive, Queue},
};

/// The balancing as a farm uses it.
pub(super) fn balance(written: &farm::Balance) -> Balance {
    match written {
        farm::Balance::RoundRobin => Balance::RoundRobin,
        farm::Balance::LeastRequests => Balance::LeastRequests,
        farm::Balance::LeastResponseTime => Balance::LeastResponseTime,
        farm::Balance::WeightedTraffic => Balance::WeightedTraffic,
        farm::Balance::Hash(key) => Balance::Hash(hash_key(key)),
    }
}

fn hash_key(key: &str) -> HashKey {
    match key.split_once(':') {
        Some(("header", name)) => HashKey::Header(arc(&name.to_ascii_lowercase())),
        Some((_, name)) => HashKey::Query(arc(name)),
        None if key == "host" => HashKey::Host,
        None if key == "url" => HashKey::Url,
        None => HashKey::Source,
    }
}

/// The affinity as a farm uses it.
pub(super) fn affinity(written: &farm::Affinity) -> Affinity {
    match written {
        farm::Affinity::None => Affinity::None,
        farm::Affinity::Source => Affinity::Source,
        farm::Affinity::Cookie(name) => Affinity::Cookie(arc(name)),
    }
}

/// The passive checks as a farm uses them.
pub(super) fn passive(written: &probe::Passive) -> Passive {
    let on = |what| written.on.items.iter().any(|failure| failure.value == what);
    Passive {
        connect: on(Failure::Connect),
        tls: on(Failure::Tls),
        reset: on(Failure::Reset),
        status: match &written.status.value {
            FailureStatus::None => Vec::new(),
            FailureStatus::Some(set) => set.0.clone(),
        },
        failures: written.failures.usize(),
        within: written.within.0,
        retry_after: written.retry_after.0,
        max_ejected: written.max_ejected.0,
        min_servers: written.min_servers.usize(),
    }
}

/// The queue as a farm uses it.
pub(super) fn queue(written: &farm::Queue) -> Queue {
    Queue { size: written.size.usize(), wait: written.wait.0 }
}

/// The key of affinity cookies, out of the private key of the default certificate: every
/// Frontgate with that certificate reads the cookies of the others, and nobody outside can try
/// names until one fits. Without any certificate it is the same everywhere.
pub(super) fn affinity_key(default: Option<&Arc<Certificate>>) -> AffinityKey {
    let mut secret = Sha256::new();
    secret.update(b"frontgate affinity");
    if let Some(der) = default.and_then(|c| c.key.private_key_to_der_pkcs8().ok()) {
        secret.update(&der);
    }
    let secret = secret.finish();
    AffinityKey(hmac_sha256(&secret, b"cookie 1").unwrap_or_else(|_| sha256(&secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_keys_are_told_apart() {
        let of = |key: &str| hash_key(key);
        assert_eq!(of("source"), HashKey::Source);
        assert_eq!(of("host"), HashKey::Host);
        assert_eq!(of("url"), HashKey::Url);
        assert_eq!(of("header:X-Key"), HashKey::Header("x-key".into()));
        assert_eq!(of("query:Id"), HashKey::Query("Id".into()));
    }

    #[test]
    fn without_a_certificate_the_key_is_the_same_everywhere_and_is_never_shown() {
        assert_eq!(affinity_key(None), affinity_key(None));
        assert_eq!(format!("{:?}", affinity_key(None)), "AffinityKey");
    }
}
