//! Simulated servers as processes of their own, each with an address of its own, as in containers.
//! What they have in common is a directory: identities, users, and the UCWA applications of the
//! pools, which real Front Ends share as well.

use std::{net::IpAddr, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use boring::rand::rand_bytes;
use tokio::sync::broadcast;

use crate::lab::{
    Options,
    certificates::Identity,
    estate::{Estate, Server},
    files::{self, Directory},
    identities::Identities,
    read_users,
    seen::Seen,
    server::Simulated,
    servers, ucwa,
};

/// Makes what the servers of a lab have in common: certificates, `users.txt`, a token for
/// Frontgate's admin side. False: it is all there already.
///
/// # Errors
/// When a domain is not a DNS name or a file cannot be written.
pub fn prepare(dir: &Path, domains: &[String]) -> Result<bool> {
    let estate = Estate::new(domains)?;
    let directory = Directory::open(Some(dir))?;
    if directory.read(files::ADMIN_TOKEN)?.is_some() {
        return Ok(false);
    }
    Identities::new(&estate)?.write(&estate, &directory)?;
    read_users(&directory)?;
    let mut random = [0; 32];
    rand_bytes(&mut random)?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    directory.write_secret(files::ADMIN_TOKEN, token.as_bytes())?;
    Ok(true)
}

/// Some servers of a lab. They stop when this is dropped.
pub struct Separate {
    servers: Vec<Simulated>,
    seen: broadcast::Sender<Seen>,
}

/// Starts the servers `names` at the address of `options`, with what [`prepare`] left in its
/// directory. Ports are those of `options` for every one of them.
///
/// # Errors
/// When there is no such server, nothing was prepared or a port is taken.
pub async fn start_only(options: &Options, names: &[String]) -> Result<Separate> {
    let dir = options.dir.as_deref().context("--server needs --dir, where --prepare wrote to")?;
    let mut estate = Estate::new(&options.domains)?;
    if let Some(unknown) = names.iter().find(|name| !estate.servers.iter().any(is(name))) {
        let all: Vec<_> = estate.servers.iter().map(|server| server.name).collect();
        bail!("no server {unknown:?} in the lab; there are {}", all.join(", "));
    }
    estate.servers.retain(|server| names.iter().any(|name| is(name)(server)));
    for server in &mut estate.servers {
        server.ip = options.address;
    }
    let directory = Directory::open(Some(dir))?;
    let identity = |server: &Server| identity(&directory, server.name);
    let identities = estate.servers.iter().map(identity).collect::<Result<Vec<_>>>()?;
    let users = Arc::new(read_users(&directory)?);
    let applications =
        |farm| Arc::new(ucwa::Applications::shared(dir.join(format!("ucwa-{farm}"))));
    let pools = [applications(estate.pools[0].farm), applications(estate.pools[1].farm)];
    let (seen, _) = broadcast::channel(4096);
    let estate = Arc::new(estate);
    let mut servers = servers::simulate(options, &estate, &identities, pools, &seen, &users)?;
    for server in &mut servers {
        server.start().await?;
    }
    Ok(Separate { servers, seen })
}

impl Separate {
    /// Name, and every address it listens at.
    pub fn servers(&self) -> Vec<(&'static str, Vec<(IpAddr, u16)>)> {
        let address = |at: std::net::SocketAddr| (at.ip(), at.port());
        let addresses = |server: &Simulated| {
            server.sockets.iter().map(|socket| address(socket.context.address)).collect()
        };
        self.servers.iter().map(|server| (server.name(), addresses(server))).collect()
    }

    /// Every request from now on, as the servers see it.
    pub fn seen(&self) -> broadcast::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Stops everything and waits until every socket is closed.
    pub async fn shutdown(mut self) {
        for server in &mut self.servers {
            server.stop().await;
        }
    }
}

fn is(name: &str) -> impl Fn(&Server) -> bool {
    move |server| server.name.eq_ignore_ascii_case(name)
}

fn identity(directory: &Directory, name: &str) -> Result<Identity> {
    let read = |file: String| {
        let text = directory.read(&file)?;
        text.with_context(|| {
            let dir = directory.path().display();
            format!("there is no {file} in {dir}; `frontgate lab --prepare --dir {dir}` makes it")
        })
    };
    let (cert, key) = (read(format!("{name}.pem"))?, read(format!("{name}.key"))?);
    Identity::from_pem(cert.as_bytes(), key.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, os::unix::fs::PermissionsExt};

    use super::*;

    fn options(dir: &Path) -> Options {
        Options { dir: Some(dir.into()), ..Options::free_ports() }
    }

    async fn refused(options: &Options, name: &str) -> String {
        let started = start_only(options, &[name.to_owned()]).await;
        started.err().map(|error| format!("{error:#}")).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_runs_alone_with_what_was_prepared() {
        let dir = tempfile::tempdir().unwrap();
        let domains = ["contoso.com".to_owned()];
        let error = refused(&options(dir.path()), "fe01").await;
        assert!(error.contains("no fe01.pem in") && error.contains("--prepare"), "{error}");
        assert!(prepare(dir.path(), &domains).unwrap());
        let token = dir.path().join("admin.token");
        let text = std::fs::read(&token).unwrap();
        assert!(!prepare(dir.path(), &domains).unwrap());
        assert_eq!(std::fs::read(&token).unwrap(), text);
        assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);

        let names = ["FE01".to_owned(), "owas01".to_owned()];
        let separate = start_only(&options(dir.path()), &names).await.unwrap();
        let servers = separate.servers();
        let told: Vec<_> = servers.iter().map(|(name, at)| (*name, at.len())).collect();
        assert_eq!(told, [("fe01", 4), ("owas01", 2)]);
        let addresses: Vec<SocketAddr> =
            servers.iter().flat_map(|(_, at)| at).map(|at| SocketAddr::from(*at)).collect();
        for at in &addresses {
            assert!(std::net::TcpStream::connect(at).is_ok(), "{at}");
        }
        separate.shutdown().await;
        assert!(std::net::TcpStream::connect(addresses[0]).is_err());
        let error = refused(&options(dir.path()), "fe09").await;
        assert!(error.contains("there are fe01, fe02, fe03, fe04, owas01"), "{error}");
    }
}
