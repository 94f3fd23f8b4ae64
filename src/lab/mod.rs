//! Simulated Front End pools, an Office Web Apps and two Exchange servers, in process: enough of a
//! deployment to try Frontgate on, and to test it against, without a Windows server.
//!
//! Each server really listens, on loopback addresses of its own; [`start`] also makes the
//! certificates and the configuration that publish them.

mod autodiscover;
mod certificates;
mod config;
mod connection;
mod context;
mod control;
mod estate;
mod exchange;
/// What is in the directory of a lab.
pub mod files;
mod identities;
mod message;
/// NTLM over HTTP.
pub mod ntlm;
mod options;
mod pages;
mod ports;
mod seen;
mod separate;
mod server;
mod servers;
mod sites;
#[cfg(test)]
mod tests;
mod tickets;
mod tools;
mod ucwa;
mod users;
mod windows;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use tokio::sync::{Mutex, broadcast};

use self::{
    estate::Estate,
    files::{Directory, FileNames, FrontgateAddresses},
    identities::Identities,
    server::Running,
    servers::Servers,
    users::Users,
};
pub use self::{
    estate::SiteKind,
    files::Manifest,
    options::Options,
    ports::Ports,
    seen::{Outcome, Seen},
    separate::{Separate, prepare, start_only},
};

/// A running lab. Everything stops when it is dropped; [`Lab::shutdown`] waits for it.
pub struct Lab {
    servers: Arc<Servers>,
    control: Option<Running>,
    manifest: Manifest,
    seen: broadcast::Sender<Seen>,
    directory: Directory,
}

/// Starts every simulated server and writes certificates, `users.txt`, `frontgate.yaml` and
/// `lab.json`.
///
/// # Errors
/// When a domain is not a DNS name, an edited `users.txt` cannot be read, a port is taken (the message names the address and the
/// option that chooses another) or a file cannot be written.
pub async fn start(options: Options) -> Result<Lab> {
    let estate = Arc::new(Estate::new(&options.domains)?);
    let (listen, held) = ports::frontgate(&options)?;
    let directory = Directory::open(options.dir.as_deref())?;
    // Whoever waits for the manifest must not see that of an earlier lab.
    directory.remove(files::MANIFEST)?;
    directory.make_log_directory()?;
    let identities = {
        let estate = estate.clone();
        tokio::task::spawn_blocking(move || Identities::new(&estate)).await??
    };
    identities.write(&estate, &directory)?;
    let users = Arc::new(read_users(&directory)?);

    let (seen, _) = broadcast::channel(4096);
    let mut simulated = servers::simulate(
        &options,
        &estate,
        &identities.servers,
        Default::default(),
        &seen,
        &users,
    )?;
    for server in &mut simulated {
        server.start().await?;
    }
    let config = config::text(&estate, &simulated, listen);
    directory.keep_old(files::CONFIG, config.as_bytes())?;
    directory.write(files::CONFIG, config.as_bytes())?;
    let entries = simulated.iter().filter_map(|server| servers::entry(&estate, server)).collect();

    let servers = Arc::new(Servers { list: Mutex::new(simulated) });
    let (control_address, control) = match options.control {
        Some(port) => {
            let (address, running) = control::start(port, servers.clone()).await?;
            (Some(address), Some(running))
        }
        None => (None, None),
    };
    let manifest = Manifest {
        dir: directory.path().to_owned(),
        external_names: estate.external_names(),
        domains: estate.domains.clone(),
        frontgate: FrontgateAddresses {
            https: listen.https,
            http: listen.http,
            admin: listen.admin,
        },
        control: control_address,
        servers: entries,
        files: FileNames::default(),
        password: tickets::PASSWORD.into(),
    };
    directory.write(files::MANIFEST, &serde_json::to_vec_pretty(&manifest)?)?;
    drop(held);
    Ok(Lab { servers, control, manifest, seen, directory })
}

/// The users of the file in `directory`, which is made where it is missing.
fn read_users(directory: &Directory) -> Result<Users> {
    let text = match directory.read(files::USERS)? {
        Some(text) => text,
        None => {
            let text = users::text();
            directory.write_secret(files::USERS, text.as_bytes())?;
            text
        }
    };
    Users::parse(&text).context(files::USERS)
}

impl Lab {
    /// All addresses, ports and file names; the same as `lab.json`.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The directory with the files.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration that publishes this lab.
    pub fn config(&self) -> PathBuf {
        self.dir().join(files::CONFIG)
    }

    /// Every request from now on, as the simulated servers see it. A receiver that falls more
    /// than 4096 behind misses some.
    pub fn seen(&self) -> broadcast::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Stops the server `name` as if it died: its sockets and connections close at once.
    ///
    /// # Errors
    /// When there is no such server.
    pub async fn stop(&self, name: &str) -> Result<()> {
        self.servers.stop(name).await
    }

    /// Starts the server `name` again, at its old addresses.
    ///
    /// # Errors
    /// When there is no such server or somebody took its port meanwhile.
    pub async fn start_server(&self, name: &str) -> Result<()> {
        self.servers.start(name).await
    }

    /// Lets UCWA on the server `name` answer 503 (or stop doing so).
    ///
    /// # Errors
    /// When there is no such server.
    pub async fn set_overloaded(&self, name: &str, overloaded: bool) -> Result<()> {
        self.servers.set_overloaded(name, overloaded).await
    }

    /// Stops everything and waits until every socket is closed.
    pub async fn shutdown(mut self) {
        if let Some(control) = self.control.take() {
            control.end().await;
        }
        for server in self.servers.list.lock().await.iter_mut() {
            server.stop().await;
        }
    }
}
