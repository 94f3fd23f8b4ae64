//! What a simulated web site knows when it answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::broadcast;

use crate::lab::{
    estate::{Estate, Pool, Server, SiteKind},
    exchange::OutOfService,
    seen::Seen,
    ucwa::Applications,
    users::Users,
};

/// One web site of one server, seen from one of its sockets.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) estate: Arc<Estate>,
    pub(super) server: Server,
    pub(super) site: SiteKind,
    pub(super) tls: bool,
    pub(super) address: SocketAddr,
    /// UCWA applications, shared by the pool: its Front Ends find them wherever a request lands.
    pub(super) applications: Arc<Applications>,
    /// How long the event channel is held when the request names no `timeout`.
    pub(super) poll: Duration,
    /// UCWA answers 503 while set.
    pub(super) overloaded: Arc<AtomicBool>,
    /// Protocols of Exchange whose health page does not answer 200.
    pub(super) out_of_service: Arc<OutOfService>,
    pub(super) seen: broadcast::Sender<Seen>,
    /// Who may sign in.
    pub(super) users: Arc<Users>,
    /// Counts the connections of the whole lab.
    pub(super) connections: Arc<AtomicU64>,
}

/// Under which names a server speaks of its pool in an answer.
pub(super) struct Names<'a> {
    /// `External` or `Internal`, as in `AccessLocation`.
    pub(super) location: &'static str,
    /// Web services FQDN for links.
    pub(super) web: &'a str,
}

impl Context {
    pub(super) fn pool(&self) -> Option<&Pool> {
        self.estate.pools.get(self.server.pool()?)
    }

    /// The names an answer to `host` uses. External ones only on the external site and only for
    /// a name that the internet knows: a rewritten Host shows internal names, as in the field.
    pub(super) fn names(&self, host: &str) -> Names<'_> {
        let known = self.estate.external_names().iter().any(|name| name == host);
        match self.pool() {
            Some(pool) if self.site == SiteKind::External && known => {
                Names { location: "External", web: &pool.external }
            }
            Some(pool) => Names { location: "Internal", web: &pool.internal },
            None => Names { location: "External", web: &self.estate.wac },
        }
    }

    pub(super) fn is_overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::lab::users;

    /// A context for tests of pages, with nothing listening.
    pub(in crate::lab) fn context(name: &str, site: SiteKind, tls: bool) -> Context {
        let estate = Arc::new(Estate::new(&["contoso.com".to_string()]).unwrap());
        let server = estate.servers.iter().find(|server| server.name == name).unwrap().clone();
        Context {
            address: SocketAddr::new(server.ip.into(), 4443),
            estate,
            server,
            site,
            tls,
            applications: Arc::default(),
            poll: Duration::from_secs(180),
            overloaded: Arc::default(),
            out_of_service: Arc::default(),
            seen: broadcast::channel(16).0,
            users: Arc::new(Users::parse(&users::text()).unwrap()),
            connections: Arc::default(),
        }
    }

    #[test]
    fn internal_names_show_on_the_internal_site_and_for_a_strange_host() {
        let external = context("fe03", SiteKind::External, true);
        assert_eq!(external.names("lyncdiscover.contoso.com").web, "lyncweb2.contoso.com");
        assert_eq!(external.names("pool-b.contoso.local").web, "webint-b.contoso.local");
        let internal = context("fe01", SiteKind::Internal, true);
        let names = internal.names("lyncweb.contoso.com");
        assert_eq!((names.location, names.web), ("Internal", "webint-a.contoso.local"));
    }
}
