//! Who could take the next request, and who not, for people. Nothing is chosen by it.

use std::sync::Arc;

use super::{
    Farm, Wish,
    balance::Selector,
    choose::{ROUNDS, Round, takes},
    passive::Standing,
    server::Server,
    state::State,
};

/// One server, seen by a new client.
#[derive(Clone, Debug)]
pub struct Prospect {
    /// The server.
    pub server: Arc<Server>,
    /// Whether it could be chosen now.
    pub eligible: bool,
    /// Why not; or what else is to be said about it.
    pub why: Option<String>,
}

impl Farm {
    /// Every server, in the order of the configuration.
    pub fn prospects(&self) -> Vec<Prospect> {
        let servers = self.servers();
        // As the choice goes: backups only for servers that are out, not for full ones.
        let round = ROUNDS.iter().find(|rounds| {
            servers.iter().any(|server| rounds.iter().any(|round| may(server, *round)))
        });
        let prospect = |server: &Arc<Server>| {
            let now = round.is_some_and(|rounds| rounds.iter().any(|round| may(server, *round)));
            let eligible = now && !server.full();
            let why = if eligible { remark(server) } else { obstacle(server) };
            Prospect { server: server.clone(), eligible, why }
        };
        servers.iter().map(prospect).collect()
    }

    /// The server that a request with this key leads to, where that does not depend on what other
    /// requests do. Takes no place there.
    pub fn foresee(&self, wish: &Wish<'_>) -> Option<&Arc<Server>> {
        let Selector::Hash(_) = self.selector() else { return None };
        for rounds in ROUNDS {
            let mut full = false;
            for round in *rounds {
                let usable = |server: &Server| {
                    !wish.tried.contains(server)
                        && takes(server, *round, wish.key)
                        && !server.full()
                };
                if let Some(server) = self.selector().pick(wish.key, usable) {
                    return Some(server);
                }
                full |= self.servers().iter().any(|s| takes(s, *round, wish.key) && s.full());
            }
            if full {
                return None;
            }
        }
        None
    }
}

/// Whether a server takes some client in this round: a cold one with its share too.
fn may(server: &Server, round: Round) -> bool {
    match round {
        Round::Usual | Round::Cold => !server.backup() && server.open(),
        round => takes(server, round, 0),
    }
}

/// Why a server cannot be chosen.
fn obstacle(server: &Server) -> Option<String> {
    let status = server.status();
    let order = server.order().map(|order| order.told());
    Some(if server.state() != State::Ready {
        order.unwrap_or_else(|| server.state().to_string())
    } else if !status.healthy {
        format!("down: {}", status.reason.as_deref().unwrap_or("not yet seen alive"))
    } else if server.weight() == 0 {
        "its weight is 0".to_owned()
    } else if let (false, Some((reason, left))) = (status.standing.takes(), &status.ejected) {
        format!("out: {reason}; for another {} s", left.as_secs())
    } else if server.full() {
        format!("full: it has its max_requests, {}", server.spec().max_requests)
    } else if server.backup() {
        "a backup: it serves only when no other server can".to_owned()
    } else {
        format!("live traffic says: {}", status.standing.word())
    })
}

/// What is to be said about one that can be.
fn remark(server: &Server) -> Option<String> {
    let status = server.status();
    match (status.standing, status.share) {
        (Standing::Out | Standing::Gently, _) => {
            Some("live traffic speaks against it, but there is no other".to_owned())
        }
        (_, Some(share)) => Some(format!("came back: {:.0} % of its share", share * 100.0)),
        (Standing::Probation, _) => Some("on probation: its next failure puts it out".to_owned()),
        _ if server.backup() => Some("a backup: no other server can".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        farm::{Order, Tried, testing},
        site,
    };

    fn running(change: impl FnOnce(&mut site::Farm)) -> Arc<Farm> {
        let mut farm = testing::farm("owa", &["a", "b", "c"]);
        change(&mut farm);
        super::super::Farms::new().apply(&super::super::tests::site(vec![farm])).remove(0)
    }

    fn told(farm: &Farm) -> Vec<String> {
        let told = |p: Prospect| {
            let sign = if p.eligible { '+' } else { '-' };
            format!("{sign}{} {}", p.server.name(), p.why.unwrap_or_default()).trim().to_owned()
        };
        farm.prospects().into_iter().map(told).collect()
    }

    #[tokio::test]
    async fn everybody_who_cannot_be_chosen_has_a_reason() {
        let farm = running(|farm| {
            farm.servers[1].weight = 0;
            farm.servers[2].backup = true;
        });
        let backup = "-c a backup: it serves only when no other server can";
        assert_eq!(told(&farm), ["+a", "-b its weight is 0", backup]);
        let order = |state| {
            let (who, why) = ("jo@ws1".into(), Some("patches".into()));
            Arc::new(Order { state, who, why, since: SystemTime::now() })
        };
        farm.servers()[0].ordered.obey(Some(order(State::Drain)));
        assert_eq!(
            told(&farm),
            [
                "-a drained by jo@ws1: patches",
                "-b its weight is 0",
                "+c a backup: no other server can"
            ]
        );
        farm.servers()[2].resolved(Err("name does not resolve".into()));
        assert_eq!(told(&farm)[2], "-c down: name does not resolve");
    }

    #[tokio::test]
    async fn full_servers_do_not_call_for_backups() {
        let farm = running(|farm| {
            farm.servers[0].max_requests = 1;
            farm.servers[1].max_requests = 1;
            farm.servers[2].backup = true;
        });
        let places: Vec<_> = farm.servers()[..2].iter().map(Server::begin).collect();
        assert!(farm.prospects().iter().all(|prospect| !prospect.eligible));
        assert_eq!(told(&farm)[0], "-a full: it has its max_requests, 1");
        drop(places);
        assert_eq!(farm.prospects().iter().filter(|prospect| prospect.eligible).count(), 2);
    }

    #[tokio::test]
    async fn a_hash_is_foreseen_as_it_is_chosen() {
        let farm = running(|farm| farm.balance = site::Balance::Hash(site::HashKey::Source));
        let tried = Tried::default();
        for key in 0..200u64 {
            if key == 100 {
                farm.servers()[0].resolved(Err("name does not resolve".into()));
            }
            let wish = Wish::anyone(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), &tried);
            let seen = farm.foresee(&wish).unwrap().id();
            match farm.choose(&wish) {
                super::super::Choice::Place(place) => assert_eq!(place.server().id(), seen),
                other => panic!("{other:?}"),
            }
        }
        assert!(running(|_| {}).foresee(&Wish::anyone(7, &tried)).is_none());
    }
}
