//! The files a lab leaves in its directory.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The configuration for Frontgate.
pub const CONFIG: &str = "frontgate.yaml";
/// What the lab consists of, for programs: a [`Manifest`]. Written last.
pub const MANIFEST: &str = "lab.json";
/// Issued the simulated servers' certificates.
pub const INTERNAL_CA: &str = "internal-ca.pem";
/// Issued Frontgate's certificate; give it to clients.
pub const PUBLIC_CA: &str = "public-ca.pem";
/// Frontgate's certificate.
pub const CERTIFICATE: &str = "public.pem";
/// Its key.
pub const KEY: &str = "public.key";
/// Certificate and key as Windows exports them.
pub const PFX: &str = "public.pfx";
/// Password of the PFX, in a file.
pub const PFX_PASSWORD_FILE: &str = "public.pass";
/// Who may sign in with Windows authentication: `name:password`. One that is there is used as
/// it is.
pub const USERS: &str = "users.txt";
/// Frontgate's access log; in a directory of its own, because that of the configuration is
/// watched for changes.
pub const ACCESS_LOG: &str = "log/access.log";
/// A token for the admin sides of Frontgates before servers that run apart. Written last.
pub const ADMIN_TOKEN: &str = "admin.token";
const LOG_DIRECTORY: &str = "log";

/// Everything a test needs to find its way: `lab.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Manifest {
    /// Absolute path of the directory; file names are relative to it.
    pub dir: PathBuf,
    /// SIP domains.
    pub domains: Vec<String>,
    /// Addresses that the configuration gives Frontgate.
    pub frontgate: FrontgateAddresses,
    /// The control port, when there is one.
    pub control: Option<SocketAddr>,
    /// Names on the certificate, all of them published.
    pub external_names: Vec<String>,
    /// Simulated servers.
    pub servers: Vec<ServerEntry>,
    /// File names.
    pub files: FileNames,
    /// Password of every simulated user, except for Windows authentication, where the numbered
    /// users of [`USERS`] have their own; `bob` lives in pool B, everybody else in pool A.
    pub password: String,
}

/// Where Frontgate listens.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct FrontgateAddresses {
    /// TLS listener.
    pub https: SocketAddr,
    /// Plain listener.
    pub http: SocketAddr,
    /// Admin listener.
    pub admin: SocketAddr,
}

/// A simulated server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServerEntry {
    /// Short name, as in the configuration.
    pub name: String,
    /// What `X-MS-Server-Fqdn` says.
    pub fqdn: String,
    /// Farm it belongs to; for Exchange the one that the farms of other protocols share it with.
    pub farm: String,
    /// The site for the internet.
    pub external: Sockets,
    /// The site that must not be reached from there; only a Front End has one.
    pub internal: Option<Sockets>,
    /// Its certificate; the key has the same name ending in `.key`.
    pub certificate: String,
}

/// The two sockets of a web site.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Sockets {
    /// TLS.
    pub https: SocketAddr,
    /// Plain.
    pub http: SocketAddr,
}

/// Names of the files in the directory.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "each is the constant of that name above")]
pub struct FileNames {
    pub config: String,
    pub internal_ca: String,
    pub public_ca: String,
    pub certificate: String,
    pub key: String,
    pub pfx: String,
    pub pfx_password_file: String,
    pub users: String,
    pub access_log: String,
}

impl Default for FileNames {
    fn default() -> Self {
        Self {
            config: CONFIG.into(),
            internal_ca: INTERNAL_CA.into(),
            public_ca: PUBLIC_CA.into(),
            certificate: CERTIFICATE.into(),
            key: KEY.into(),
            pfx: PFX.into(),
            pfx_password_file: PFX_PASSWORD_FILE.into(),
            users: USERS.into(),
            access_log: ACCESS_LOG.into(),
        }
    }
}

/// The directory of a lab; a temporary one goes away with it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    /// `path`, made where it is missing, or a new temporary directory.
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        let mut private = DirBuilder::new();
        private.mode(0o700);
        let Some(path) = path else {
            // SECURITY: whoever may write to /tmp may guess a name; creating fails on one that
            // exists, link or not, so keys never land in a stranger's directory (test
            // `a_temporary_directory_is_private_and_goes_away`).
            for attempt in 0..100 {
                let name = format!("frontgate-lab-{}-{attempt}", std::process::id());
                let path = std::env::temp_dir().join(name);
                match private.create(&path) {
                    Ok(()) => return Ok(Self { path, temporary: true }),
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                    Err(error) => {
                        return Err(error).with_context(|| format!("making {}", path.display()));
                    }
                }
            }
            bail!("no temporary directory can be made; --dir names one");
        };
        private
            .recursive(true)
            .create(path)
            .with_context(|| format!("making {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { path, temporary: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory of the access log.
    pub(super) fn make_log_directory(&self) -> Result<()> {
        let path = self.path.join(LOG_DIRECTORY);
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&path)
            .with_context(|| format!("making {}", path.display()))
    }

    /// The text of a file; `None` where there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Writes a file that everybody may read.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        self.write_with(name, content, 0o644)
    }

    /// Writes a file that only the owner may read.
    pub(super) fn write_secret(&self, name: &str, content: &[u8]) -> Result<()> {
        self.write_with(name, content, 0o600)
    }

    /// Removes a file that an earlier lab may have left.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Moves `name` aside (to `name.old`) when it exists with another content: it may have been
    /// edited.
    pub(super) fn keep_old(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(old) if old != content => {
                fs::rename(&path, self.path.join(format!("{name}.old")))?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// By a new file and a rename, so that a reader never sees half of it.
    fn write_with(&self, name: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.path.join(name);
        let new = self.path.join(format!(".{name}.new"));
        let write = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
            // `mode` counts only where the file is new.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(content)?;
            fs::rename(&new, &path)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            log::warn!("lab: removing {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_temporary_directory_is_private_and_goes_away() {
        let directory = Directory::open(None).unwrap();
        let other = Directory::open(None).unwrap();
        let path = directory.path().to_owned();
        assert_ne!(path, other.path());
        assert_eq!(mode(&path), 0o700);
        directory.write("a.pem", b"x").unwrap();
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn secrets_are_for_the_owner_even_over_an_old_file() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(Some(&parent.path().join("lab"))).unwrap();
        directory.write("public.key", b"old").unwrap();
        directory.write_secret("public.key", b"new").unwrap();
        let path = directory.path().join("public.key");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        drop(directory);
        assert!(path.exists());
    }

    #[test]
    fn an_edited_file_is_kept_aside() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(Some(parent.path())).unwrap();
        directory.write(CONFIG, b"mine").unwrap();
        directory.keep_old(CONFIG, b"theirs").unwrap();
        let old = directory.path().join("frontgate.yaml.old");
        assert_eq!(fs::read(old).unwrap(), b"mine");
    }
}
