//! Tests over real sockets, with ports from the kernel.

mod client;
mod lifecycle;
mod ntlm;
mod protocol;
mod tools;

use std::net::SocketAddr;

use tempfile::TempDir;

use self::client::Client;
use crate::lab::{Lab, Options, files::ServerEntry, start};

/// A lab in a directory of its own.
async fn lab() -> (TempDir, Lab) {
    lab_with(|_| {}).await
}

async fn lab_with(change: impl FnOnce(&mut Options)) -> (TempDir, Lab) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options { dir: Some(dir.path().into()), ..Options::free_ports() };
    change(&mut options);
    let lab = start(options).await.unwrap();
    (dir, lab)
}

fn server<'a>(lab: &'a Lab, name: &str) -> &'a ServerEntry {
    lab.manifest().servers.iter().find(|server| server.name == name).unwrap()
}

/// A TLS connection to the external site of `name`, verified as Frontgate would.
async fn external(lab: &Lab, name: &str) -> Client {
    tls(lab, server(lab, name).external.https, "lyncweb.contoso.com").await
}

async fn tls(lab: &Lab, address: SocketAddr, name: &str) -> Client {
    Client::tls(address, name, &lab.dir().join("internal-ca.pem")).await
}
