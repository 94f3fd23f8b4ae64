//! What a request is hashed by.

use std::net::IpAddr;

use http::HeaderMap;

use super::{Farm, affinity, balance};
use crate::site::{Affinity, Balance, HashKey};

/// The number that a request is balanced by: of the property that the farm hashes, or random
/// where there is none. `target` is path and query as sent, `host` normalised.
pub fn key(farm: &Farm, source: IpAddr, host: &str, target: &[u8], headers: &HeaderMap) -> u64 {
    fixed_key(farm, source, host, target, headers).unwrap_or_else(|| farm.random_key())
}

/// The same; `None` where it would be random.
pub fn fixed_key(
    farm: &Farm,
    source: IpAddr,
    host: &str,
    target: &[u8],
    headers: &HeaderMap,
) -> Option<u64> {
    let spec = farm.spec();
    let property = match (&spec.affinity, &spec.balance) {
        (Affinity::Source, _) => &HashKey::Source,
        (_, Balance::Hash(property)) => property,
        _ => return None,
    };
    match property {
        HashKey::Source => Some(affinity::key(source)),
        HashKey::Host => Some(balance::hash(host.as_bytes())),
        HashKey::Url => Some(balance::hash(target)),
        HashKey::Header(name) => headers.get(&**name).map(|value| balance::hash(value.as_bytes())),
        HashKey::Query(name) => parameter(target, name.as_bytes()).map(balance::hash),
    }
}

/// The value of the first query parameter of this name, as sent.
fn parameter<'t>(target: &'t [u8], name: &[u8]) -> Option<&'t [u8]> {
    let query = target.splitn(2, |b| *b == b'?').nth(1)?;
    query.split(|b| *b == b'&').find_map(|pair| match pair.strip_prefix(name)? {
        [b'=', value @ ..] => Some(value),
        [] => Some(&[][..]),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_their_whole_name() {
        let of = |target: &'static str| parameter(target.as_bytes(), b"id").map(<[u8]>::to_vec);
        assert_eq!(of("/x?a=b&id=7&id=8").as_deref(), Some(&b"7"[..]));
        assert_eq!(of("/x?ids=7&xid=8&id").as_deref(), Some(&b""[..]));
        assert_eq!(of("/id=7"), None);
        assert_eq!(of("/x?ID=7"), None);
    }
}
