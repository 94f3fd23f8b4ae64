//! Addresses of servers that are configured by name, kept up to date beside the traffic.

use std::{collections::HashSet, io, net::IpAddr, sync::Arc, time::Duration};

use super::{jitter::spread, server::Server};
use crate::events::code;

/// How often each name is looked up.
pub const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// Looks `name` up at once and from then on every [`RESOLVE_EVERY`]; never returns.
pub(crate) async fn keep_resolved(server: Arc<Server>, name: Arc<str>) {
    let mut failing = false;
    for round in 0u64.. {
        let found = lookup(&name).await;
        let known = server.addresses().to_vec();
        let (news, fails) = compare(&known, found, failing);
        failing = fails;
        match news {
            News::Same => {}
            News::Addresses(addresses) => {
                if !known.is_empty() {
                    let what = format!("({name}) has new addresses: {addresses:?}");
                    let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
                    let news = server.news(code::SERVER_ADDRESSES, &what);
                    server.events().tell(news.with("addresses", addresses));
                }
                server.resolved(Ok(addresses));
            }
            News::Never => server.resolved(Err("name does not resolve".into())),
            News::Stopped(why) => {
                let what = format!("({name}) does not resolve any more ({why})");
                let what = format!("{what}; keeping its last addresses");
                let news = server.news(code::SERVER_NAME_LOST, &what);
                server.events().tell(news.with("reason", why));
            }
        }
        let pause = if server.addresses().is_empty() { retry(round) } else { RESOLVE_EVERY };
        tokio::time::sleep(spread(pause, server.id(), round)).await;
    }
}

/// A server without any address is wanted soon: name servers are often late when a machine
/// starts. 1, 2, 4 … seconds, up to [`RESOLVE_EVERY`].
fn retry(round: u64) -> Duration {
    let seconds = 1u64 << round.min(5);
    Duration::from_secs(seconds).min(RESOLVE_EVERY)
}

/// What a lookup changes.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Same,
    Addresses(Vec<IpAddr>),
    /// There is no address, and never was.
    Never,
    /// There was one until now.
    Stopped(String),
}

/// Decides what a lookup means: (known addresses, failing already?) + result → news, failing?
fn compare(known: &[IpAddr], found: Result<Vec<IpAddr>, String>, failing: bool) -> (News, bool) {
    match found {
        // Name servers like to rotate: the same addresses in another order are no news.
        Ok(found) if same_set(known, &found) => (News::Same, false),
        Ok(found) => (News::Addresses(found), false),
        Err(_) if known.is_empty() => (News::Never, true),
        Err(_) if failing => (News::Same, true),
        Err(why) => (News::Stopped(why), true),
    }
}

fn same_set(a: &[IpAddr], b: &[IpAddr]) -> bool {
    a.len() == b.len() && a.iter().collect::<HashSet<_>>() == b.iter().collect()
}

/// At least one address, each once, in the order of the system's resolver (RFC 6724).
async fn lookup(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = tokio::net::lookup_host((name, 0)).await;
    unique(found).map_err(|error| error.to_string())
}

fn unique(
    found: io::Result<impl Iterator<Item = std::net::SocketAddr>>,
) -> io::Result<Vec<IpAddr>> {
    let mut seen = HashSet::new();
    let addresses: Vec<_> = found?.map(|a| a.ip()).filter(|ip| seen.insert(*ip)).collect();
    if addresses.is_empty() { Err(io::Error::other("no address")) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|n| IpAddr::from([192, 0, 2, *n])).collect()
    }

    fn failure() -> Result<Vec<IpAddr>, String> {
        Err("no such host".into())
    }

    #[test]
    fn a_name_without_address_is_asked_for_again_soon() {
        let pauses: Vec<_> = (0..8).map(|round| retry(round).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_name_that_stops_resolving_is_told_once_and_keeps_its_addresses() {
        let (news, failing) = compare(&ips(&[1]), failure(), false);
        assert_eq!((news, failing), (News::Stopped("no such host".into()), true));
        let (news, failing) = compare(&ips(&[1]), failure(), true);
        assert_eq!((news, failing), (News::Same, true));
        let (news, failing) = compare(&ips(&[1]), Ok(ips(&[1])), true);
        assert_eq!((news, failing), (News::Same, false));
    }

    #[test]
    fn a_name_that_never_resolved_says_so() {
        assert_eq!(compare(&[], failure(), false), (News::Never, true));
        assert_eq!(compare(&[], Ok(ips(&[1])), true), (News::Addresses(ips(&[1])), false));
    }

    #[test]
    fn rotation_is_no_news_but_a_change_is() {
        assert_eq!(compare(&ips(&[1, 2]), Ok(ips(&[2, 1])), false), (News::Same, false));
        let moved = compare(&ips(&[1, 2]), Ok(ips(&[2, 3])), false);
        assert_eq!(moved, (News::Addresses(ips(&[2, 3])), false));
        let fewer = compare(&ips(&[1, 2]), Ok(ips(&[2])), false);
        assert_eq!(fewer, (News::Addresses(ips(&[2])), false));
    }

    #[test]
    fn addresses_come_once_and_in_order() {
        let found = ["192.0.2.2:0", "192.0.2.1:0", "192.0.2.2:0"].map(|a| a.parse().unwrap());
        assert_eq!(unique(Ok(found.into_iter())).unwrap(), ips(&[2, 1]));
        assert!(unique(Ok(std::iter::empty())).is_err());
    }

    #[tokio::test]
    async fn localhost_is_found_and_a_reserved_name_is_not() {
        assert!(lookup("localhost").await.unwrap().iter().all(IpAddr::is_loopback));
        assert!(lookup("fe01.frontgate.invalid").await.is_err());
    }
}
