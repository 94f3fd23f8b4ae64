//! What a client connection holds on to: its server connections, one a farm.

use std::{
    any::Any,
    net::IpAddr,
    os::fd::RawFd,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Instant,
};

use super::pins::Place;
use crate::{
    farm::{self, Pinned},
    listen::{Connection, Handle},
    lock::lock,
    proxy_protocol::Version,
    site::{Action, Bridge, ConnectionAuth, HostPattern, PathPattern, Rule, Server, Site},
};

/// Everything one client connection is pinned to.
#[derive(Default)]
pub struct Holds {
    all: Mutex<Vec<Hold>>,
    /// The site they were last checked against.
    site: Mutex<Weak<Site>>,
}

/// One pin: a farm, the server that was chosen for it, and the connection to that server.
struct Hold {
    farm: Arc<str>,
    server: Server,
    bridge: Bridge,
    /// Digest of the farm's TLS settings.
    tls: u64,
    /// Whether its client was named to the server, and how.
    named: Option<Version>,
    /// The rule that led here.
    rule: (HostPattern, PathPattern),
    /// Once there is one.
    socket: Option<Handle>,
    /// The server's address that it leads to.
    address: Option<IpAddr>,
    /// Its place in the count; none while only an offer was seen.
    place: Option<Place>,
    /// Counts it at its server.
    _pinned: Pinned,
}

impl Holds {
    /// Those of a client connection. They end with it.
    pub fn of(connection: &Connection) -> Arc<Self> {
        let mut kept = lock(&connection.kept);
        if let Some(holds) = kept.as_ref().and_then(|k| k.downcast_ref::<Arc<Self>>()) {
            return holds.clone();
        }
        let holds = Arc::new(Self::default());
        let erased: Box<dyn Any + Send> = Box::new(holds.clone());
        *kept = Some(erased);
        holds
    }

    /// The server of a farm that this connection is pinned to.
    pub fn server(&self, farm: &str) -> Option<Arc<str>> {
        self.lock().iter().find(|h| *h.farm == *farm).map(|h| h.server.name.clone())
    }

    /// Which address of this server the pin's connection leads to. Another one would be another
    /// connection, and the end of the sign-in.
    pub fn address(&self, farm: &str, server: &str) -> Option<IpAddr> {
        let all = self.lock();
        all.iter().find(|h| *h.farm == *farm && *h.server.name == *server)?.address
    }

    /// Whether the pin of a farm has a place in the count.
    pub fn counted(&self, farm: &str) -> bool {
        self.lock().iter().any(|h| *h.farm == *farm && h.place.is_some())
    }

    /// Remembers the choice for a farm, with its place in the count.
    pub fn choose(
        &self,
        site: &Site,
        rule: &Rule,
        server: &Arc<farm::Server>,
        place: Option<Place>,
    ) {
        let Action::Forward(farm) = rule.action else { return };
        let Some(farm) = site.farms.get(farm.0) else { return };
        let mut all = self.lock();
        if let Some(hold) = all.iter_mut().find(|h| h.farm == farm.name) {
            if hold.server.name != *server.name() {
                hold.address = None;
            }
            hold.server = Server::clone(&server.spec());
            hold._pinned = Pinned::at(server);
            hold.place = place.or(hold.place.take());
            return;
        }
        all.push(Hold {
            farm: farm.name.clone(),
            server: Server::clone(&server.spec()),
            _pinned: Pinned::at(server),
            bridge: farm.bridge,
            tls: farm.tls.digest,
            named: farm.forward.proxy_protocol,
            rule: (rule.host.clone(), rule.path.clone()),
            socket: None,
            address: None,
            place,
        });
    }

    /// A server took the connection for a farm, at this address. Returns whether it replaces one
    /// that is gone: a sign-in went down with that one.
    pub fn connected(&self, farm: &str, reused: bool, fd: RawFd, at: Option<IpAddr>) -> bool {
        let mut all = self.lock();
        let Some(hold) = all.iter_mut().find(|h| *h.farm == *farm) else { return false };
        let replaces = !reused && hold.socket.is_some();
        if !reused || hold.socket.is_none() {
            // SECURITY: one server connection a farm; what was signed in on the old one ends.
            // Test: a_closing_server_takes_its_client_connection_along
            if let Some(old) = hold.socket.take() {
                old.shut_down();
            }
            hold.socket = Handle::of(fd);
            hold.address = at;
        }
        if let (Some(place), Some(socket)) = (&hold.place, &hold.socket) {
            place.watches(socket);
        }
        replaces
    }

    /// A request of a farm is under way (none), or its client's turn began at that moment.
    pub fn waits(&self, farm: &str, since: Option<Instant>) {
        for hold in self.lock().iter().filter(|h| *h.farm == *farm) {
            if let Some(place) = &hold.place {
                place.waits(since);
            }
        }
    }

    /// The server said something other than 401.
    pub fn proved(&self, farm: &str) {
        for hold in self.lock().iter().filter(|h| *h.farm == *farm) {
            if let Some(place) = &hold.place {
                place.proved();
            }
        }
    }

    /// Gives up what a new site no longer has: the rule, the server, or the TLS settings. Returns
    /// whether anything was given up. Costs nothing while the site is the same.
    pub fn recheck(&self, site: &Arc<Site>) -> bool {
        let mut checked = lock(&self.site);
        if checked.ptr_eq(&Arc::downgrade(site)) {
            return false;
        }
        *checked = Arc::downgrade(site);
        drop(checked);
        let mut all = self.lock();
        let before = all.len();
        all.retain(|hold| hold.stands_in(site));
        all.len() < before
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Hold>> {
        lock(&self.all)
    }
}

impl Hold {
    fn stands_in(&self, site: &Site) -> bool {
        let Some(index) = site.farms.iter().position(|f| f.name == self.farm) else { return false };
        let Some(farm) = site.farms.get(index) else { return false };
        let published = site.rules.iter().any(|rule| {
            (&rule.host, &rule.path) == (&self.rule.0, &self.rule.1)
                && matches!(rule.action, Action::Forward(id) if id.0 == index)
        });
        let server = farm.servers.iter().find(|s| s.name == self.server.name);
        let same = |s: &Server| {
            s.address == self.server.address
                && s.ports == self.server.ports
                && s.tls_name == self.server.tls_name
        };
        published
            && farm.connection_auth != ConnectionAuth::Off
            && farm.bridge == self.bridge
            && farm.tls.digest == self.tls
            && farm.forward.proxy_protocol == self.named
            && server.is_some_and(same)
    }
}

impl Drop for Hold {
    /// SECURITY: nobody else may find a server connection that was signed in on, and it must not
    /// outlive its client. Test: a_leaving_client_takes_its_server_connection_along
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.shut_down();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, os::fd::AsRawFd, os::unix::net::UnixStream};

    use super::*;
    use crate::{config, farm::Farms};

    #[tokio::test]
    async fn a_pin_knows_where_its_connection_leads_until_it_has_another_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frontgate.yaml");
        let text = "listeners: [{ address: \"127.0.0.1:80\" }]\n\
                    farms: { a: { servers: [127.0.0.1, 127.0.0.2], bridge: http } }\n\
                    publish: [{ host: a.contoso.com, farm: a, schemes: [http] }]\n";
        std::fs::write(&path, text).unwrap();
        let site = config::load(&path).site.unwrap();
        let farms = Farms::new();
        let farm = farms.apply(&site).remove(0);
        let (one, two) = (&farm.servers()[0], &farm.servers()[1]);
        let holds = Holds::default();
        let choose = |server| holds.choose(&site, &site.rules[0], server, None);
        let address = |server: &farm::Server| holds.address("a", server.name());
        choose(one);
        assert_eq!(address(one), None);
        let (socket, _server) = UnixStream::pair().unwrap();
        let at = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        holds.connected("a", false, socket.as_raw_fd(), at);
        choose(one);
        assert_eq!((address(one), address(two)), (at, None));
        choose(two);
        assert_eq!((address(one), address(two)), (None, None));
    }
}
