//! The simulated servers together.

use std::sync::{Arc, atomic::Ordering};

use anyhow::{Result, bail};
use tokio::sync::{Mutex, broadcast};

use crate::{
    config::preset::Protocol,
    lab::{
        Options,
        certificates::Identity,
        config,
        context::Context,
        estate::{Estate, Role, Server, SiteKind},
        files::{ServerEntry, Sockets},
        ports,
        seen::Seen,
        server::{Simulated, Socket},
        ucwa,
        users::Users,
    },
};

/// The simulated servers, shared by the lab and its control port.
pub(super) struct Servers {
    pub(super) list: Mutex<Vec<Simulated>>,
}

impl Servers {
    pub(super) async fn stop(&self, name: &str) -> Result<()> {
        find(&mut self.list.lock().await, name)?.stop().await;
        Ok(())
    }

    pub(super) async fn start(&self, name: &str) -> Result<()> {
        find(&mut self.list.lock().await, name)?.start().await
    }

    pub(super) async fn set_overloaded(&self, name: &str, overloaded: bool) -> Result<()> {
        for socket in &find(&mut self.list.lock().await, name)?.sockets {
            socket.context.overloaded.store(overloaded, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes a protocol of an Exchange server out of service, or puts it back.
    pub(super) async fn set_out(&self, name: &str, protocol: &str, out: bool) -> Result<()> {
        let Some(protocol) = Protocol::named(protocol) else {
            let words: Vec<_> = Protocol::ALL.iter().map(|protocol| protocol.word()).collect();
            bail!("no protocol {protocol:?}; there are {}", words.join(", "));
        };
        for socket in &find(&mut self.list.lock().await, name)?.sockets {
            if socket.context.server.role != Role::Exchange {
                bail!("{name} is not an Exchange server");
            }
            socket.context.out_of_service.set(protocol, out);
        }
        Ok(())
    }

    pub(super) async fn running(&self) -> Vec<&'static str> {
        let list = self.list.lock().await;
        list.iter().filter(|it| it.is_running()).map(Simulated::name).collect()
    }
}

fn find<'a>(list: &'a mut [Simulated], name: &str) -> Result<&'a mut Simulated> {
    let names: Vec<_> = list.iter().map(Simulated::name).collect();
    match list.iter_mut().find(|server| server.name().eq_ignore_ascii_case(name)) {
        Some(server) => Ok(server),
        None => bail!("no server {name:?} here; there are {}", names.join(", ")),
    }
}

/// The servers of the estate, not started yet, with their identities in the same order.
pub(super) fn simulate(
    options: &Options,
    estate: &Arc<Estate>,
    identities: &[Identity],
    pools: [Arc<ucwa::Applications>; 2],
    seen: &broadcast::Sender<Seen>,
    users: &Arc<Users>,
) -> Result<Vec<Simulated>> {
    let internal = ports::internal(options, estate);
    let connections = Arc::default();
    let simulate = |(server, identity): (&Server, &Identity)| {
        let overloaded = Arc::default();
        let out_of_service = Arc::default();
        let applications = server.pool().and_then(|index| pools.get(index)).cloned();
        let socket = |(site, tls, port, option): (SiteKind, bool, u16, &'static str)| Socket {
            context: Context {
                estate: estate.clone(),
                server: server.clone(),
                site,
                tls,
                address: (server.ip, port).into(),
                applications: applications.clone().unwrap_or_default(),
                poll: options.poll,
                overloaded: Arc::clone(&overloaded),
                out_of_service: Arc::clone(&out_of_service),
                seen: seen.clone(),
                users: Arc::clone(users),
                connections: Arc::clone(&connections),
            },
            option,
        };
        let planned = ports::of_server(server, options.front_end, internal);
        Simulated::new(planned.into_iter().map(socket).collect(), identity)
    };
    estate.servers.iter().zip(identities).map(simulate).collect()
}

pub(super) fn entry(estate: &Estate, simulated: &Simulated) -> Option<ServerEntry> {
    let server = &simulated.sockets.first()?.context.server;
    let sockets = |site| {
        Some(Sockets {
            https: simulated.address(site, true)?,
            http: simulated.address(site, false)?,
        })
    };
    Some(ServerEntry {
        name: server.name.into(),
        fqdn: server.fqdn.clone(),
        farm: match server.role {
            Role::FrontEnd(index) => estate.pools.get(index)?.farm,
            Role::OfficeWebApps => "owas",
            Role::Exchange => config::EXCHANGE,
        }
        .into(),
        external: SiteKind::PUBLISHED.into_iter().find_map(sockets)?,
        internal: sockets(SiteKind::Internal),
        certificate: format!("{}.pem", server.name),
    })
}
