//! What an order says reaches the servers that it names.

use std::{fmt, sync::Arc};

use super::{
    Farm,
    farms::Farms,
    server::Server,
    state::{Order, State},
};
use crate::config::diagnostic::nearest;

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commanded {
    /// Every server it named, in the order of the site.
    pub changed: Vec<Changed>,
    /// Whether a restart will find it.
    pub kept: bool,
    /// Farms among theirs without a healthy server that takes new clients.
    pub without_servers: Vec<Arc<str>>,
}

/// One server that an order named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its farm.
    pub farm: Arc<str>,
    /// Its name.
    pub server: Arc<str>,
    /// What it was.
    pub from: State,
    /// What it is now.
    pub to: State,
}

/// No server has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTarget {
    /// The name.
    pub target: String,
    /// Names that may be meant.
    pub near: Vec<String>,
}

impl fmt::Display for UnknownTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no server is called `{}`", self.target)?;
        match self.near.as_slice() {
            [] => Ok(()),
            near => write!(f, "; did you mean {}?", near.join(" or ")),
        }
    }
}

impl std::error::Error for UnknownTarget {}

impl Farms {
    /// Gives an order to `exch01` of every farm, or to `owa/exch01`; letter case does not matter.
    /// Writes a file.
    ///
    /// # Errors
    /// There is no such server.
    pub fn command(&self, target: &str, order: &Order) -> Result<Commanded, UnknownTarget> {
        let changed: Vec<_> = {
            let _still = self.still();
            let farms = self.list();
            let found = find(&farms, target);
            if found.is_empty() {
                return Err(UnknownTarget { target: target.into(), near: near(&farms, target) });
            }
            found.into_iter().map(|(farm, server)| self.order(farm, server, order)).collect()
        };
        let kept = self.orders.keep();
        Ok(Commanded { without_servers: self.without_servers(&changed), changed, kept })
    }

    fn order(&self, farm: &Farm, server: &Server, order: &Order) -> Changed {
        let (farm, server_name) = (farm.spec().name.clone(), server.name().clone());
        let from = server.state();
        server.obey(self.orders.set((farm.clone(), server_name.clone()), order));
        Changed { farm, server: server_name, from, to: server.state() }
    }

    fn without_servers(&self, changed: &[Changed]) -> Vec<Arc<str>> {
        let takes = |server: &Arc<Server>| server.enabled();
        let farms = self.list();
        let farms = farms.iter().filter(|farm| !farm.servers().iter().any(takes));
        let names = farms.map(|farm| farm.spec().name.clone());
        names.filter(|name| changed.iter().any(|changed| changed.farm == *name)).collect()
    }
}

/// The servers that `exch01` or `owa/exch01` names.
fn find<'a>(farms: &'a [Arc<Farm>], target: &str) -> Vec<(&'a Farm, &'a Server)> {
    let (farm, server) = split(target);
    let farms =
        farms.iter().filter(|it| farm.is_none_or(|farm| it.spec().name.eq_ignore_ascii_case(farm)));
    let servers = farms.flat_map(|farm| farm.servers().iter().map(move |s| (&**farm, &**s)));
    servers.filter(|(_, it)| it.name().eq_ignore_ascii_case(server)).collect()
}

/// Names like `target`: the whole of one that was shortened to its host, and the nearest.
fn near(farms: &[Arc<Farm>], target: &str) -> Vec<String> {
    const MANY: usize = 3;
    let (wanted, _) = split(target);
    let names = farms.iter().flat_map(|farm| {
        farm.servers().iter().map(move |server| match wanted {
            Some(_) => format!("{}/{}", farm.spec().name, server.name()),
            None => server.name().to_string(),
        })
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    let host = format!("{}.", target.to_ascii_lowercase());
    let longer = names.iter().filter(|name| name.to_ascii_lowercase().starts_with(&host));
    let mut near: Vec<String> = longer.take(MANY).cloned().collect();
    if near.is_empty() {
        near.extend(nearest(target, names.iter().map(String::as_str)).map(str::to_owned));
    }
    near
}

fn split(target: &str) -> (Option<&str>, &str) {
    target.split_once('/').map_or((None, target), |(farm, server)| (Some(farm), server))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::{testing, tests::site};
    use super::*;

    fn order(state: State) -> Order {
        Order { state, who: "jo".into(), why: None, since: SystemTime::UNIX_EPOCH }
    }

    async fn exchange() -> Farms {
        let farms = Farms::new();
        farms.apply(&site(vec![
            testing::farm("owa", &["exch01", "exch02"]),
            testing::farm("ews", &["EXCH01", "exch02.contoso.local"]),
        ]));
        farms
    }

    fn changed(farms: &Farms, target: &str, state: State) -> Vec<String> {
        let done = farms.command(target, &order(state)).unwrap();
        done.changed
            .iter()
            .map(|c| format!("{}/{} {}>{}", c.farm, c.server, c.from, c.to))
            .collect()
    }

    #[tokio::test]
    async fn a_name_alone_means_every_farm_and_with_a_farm_only_that() {
        let farms = exchange().await;
        let both = ["owa/exch01 ready>drain", "ews/EXCH01 ready>drain"];
        assert_eq!(changed(&farms, "Exch01", State::Drain), both);
        let one = changed(&farms, "OWA/exch01", State::Maintenance);
        assert_eq!(one, ["owa/exch01 drain>maintenance"]);
        let both = ["owa/exch01 maintenance>ready", "ews/EXCH01 drain>ready"];
        assert_eq!(changed(&farms, "exch01", State::Ready), both);
        assert_eq!(changed(&farms, "ews/exch01", State::Ready), ["ews/EXCH01 ready>ready"]);
    }

    #[tokio::test]
    async fn an_unknown_name_changes_nothing_and_names_its_neighbours() {
        let farms = exchange().await;
        let near = |target: &str| farms.command(target, &order(State::Drain)).unwrap_err().near;
        assert_eq!(near("exch3"), ["EXCH01"]);
        assert_eq!(near("ews/exch02"), ["ews/exch02.contoso.local"]);
        assert_eq!(near("owa/exh01"), ["owa/exch01"]);
        for nothing in ["", "/", "owa/", "/exch01", "owa/exch01/x", "something else"] {
            assert!(farms.command(nothing, &order(State::Drain)).is_err(), "{nothing}");
        }
        let servers = farms.list();
        let mut servers = servers.iter().flat_map(|farm| farm.servers());
        assert!(servers.all(|server| server.state() == State::Ready));
    }

    #[tokio::test]
    async fn drained_servers_are_not_chosen_and_the_last_one_is_told() {
        let farms = exchange().await;
        let owa = farms.list()[0].clone();
        let chosen = || testing::chosen(&owa);
        let done = farms.command("owa/exch01", &order(State::Drain)).unwrap();
        assert!(done.without_servers.is_empty() && !done.kept);
        assert!((0..4).all(|_| chosen().as_deref() == Some("exch02")));
        let done = farms.command("exch02", &order(State::Maintenance)).unwrap();
        assert_eq!(done.without_servers, ["owa".into()]);
        assert_eq!(chosen(), None);
        farms.command("exch01", &order(State::Ready)).unwrap();
        assert_eq!(chosen().as_deref(), Some("exch01"));
    }

    #[tokio::test]
    async fn orders_stay_with_a_name_across_sites() {
        let farms = exchange().await;
        farms.command("owa/exch01", &order(State::Drain)).unwrap();
        let state = || farms.list()[0].servers()[0].state();
        // Another address is another machine, but the name is what was drained.
        let mut moved = testing::farm("owa", &["exch01", "exch02"]);
        moved.servers[0].address = crate::site::Address::Ip([127, 0, 0, 9].into());
        farms.apply(&site(vec![moved]));
        assert_eq!(state(), State::Drain);
        farms.apply(&site(vec![testing::farm("owa", &["exch02"])]));
        assert_eq!(state(), State::Ready);
        farms.apply(&site(vec![testing::farm("owa", &["exch01"])]));
        assert_eq!(state(), State::Drain, "gone and back");
    }
}
