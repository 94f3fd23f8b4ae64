//! Which certificates the lab has, and their files.

use anyhow::Result;

use crate::lab::{
    certificates::{self, Identity},
    estate::Estate,
    files::{self, Directory},
    tickets,
};

/// Every authority and certificate of the lab.
pub(super) struct Identities {
    internal_ca: Identity,
    public_ca: Identity,
    public: Identity,
    /// In the order of [`Estate::servers`].
    pub(super) servers: Vec<Identity>,
}

impl Identities {
    pub(super) fn new(estate: &Estate) -> Result<Self> {
        let internal_ca = certificates::authority("Frontgate lab internal CA")?;
        let public_ca = certificates::authority("Frontgate lab public CA")?;
        let public = certificates::issue(&public_ca, &estate.external_names())?;
        let servers = estate
            .servers
            .iter()
            .map(|server| certificates::issue(&internal_ca, &estate.certificate_names(server)))
            .collect::<Result<_>>()?;
        Ok(Self { internal_ca, public_ca, public, servers })
    }

    pub(super) fn write(&self, estate: &Estate, directory: &Directory) -> Result<()> {
        directory.write(files::INTERNAL_CA, &self.internal_ca.cert_pem()?)?;
        directory.write(files::PUBLIC_CA, &self.public_ca.cert_pem()?)?;
        directory.write(files::CERTIFICATE, &self.public.cert_pem()?)?;
        directory.write_secret(files::KEY, &self.public.key_pem()?)?;
        let pfx = self.public.pfx(tickets::PASSWORD, &self.public_ca)?;
        directory.write_secret(files::PFX, &pfx)?;
        directory.write_secret(files::PFX_PASSWORD_FILE, tickets::PASSWORD.as_bytes())?;
        for (server, identity) in estate.servers.iter().zip(&self.servers) {
            directory.write(&format!("{}.pem", server.name), &identity.cert_pem()?)?;
            directory.write_secret(&format!("{}.key", server.name), &identity.key_pem()?)?;
        }
        Ok(())
    }
}
