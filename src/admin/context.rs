//! What the admin side knows, and can do.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use log::{info, warn};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore};

use super::{
    Scrape,
    desk::Desk,
    history::History,
    reloading::{AskedReloads, ReloadAsked},
    reloads::{Reload, Reloads},
    stream::STREAMS,
};
use crate::{
    events::Events,
    farm::Farms,
    forward::{Current, Live},
    lock::lock,
    replaced::Replaced,
    site::{Admin, Token},
    store::Store,
};

/// What the admin side knows, and can do. It outlives reloads.
pub struct Context {
    ready: Arc<AtomicBool>,
    pub(super) farms: Arc<Farms>,
    store: Arc<Store>,
    /// What serves, once it does.
    current: OnceLock<Arc<Current>>,
    pub(super) reloads: Reloads,
    pub(super) history: History,
    pub(super) events: Events,
    /// Places for streams of events.
    pub(super) streams: Arc<Semaphore>,
    /// Where pages and answers of the API are written.
    pub(super) desk: Desk,
    /// Where metrics are: a Prometheus is not sent away because of dashboards.
    pub(super) scrapes: Desk,
    /// Reloads that were asked for.
    pub(super) asked: AskedReloads,
    /// Read by whoever changes something; written while nothing may change.
    changes: Arc<RwLock<()>>,
    /// The token that was made, once it was needed.
    made: Mutex<Option<Token>>,
    /// What `/metrics` reads, once there is something.
    pub(super) scrape: OnceLock<Scrape>,
    /// The processes before this one.
    replaced: OnceLock<Arc<Replaced>>,
}

impl Context {
    /// Time between two calls of [`Context::tick`].
    pub const TICK: std::time::Duration = super::history::TICK;

    /// `ready`: a site is loaded, every listener is bound, and nobody asked to stop.
    pub fn new(
        ready: Arc<AtomicBool>,
        farms: Arc<Farms>,
        store: Arc<Store>,
        events: Events,
    ) -> Self {
        Self {
            ready,
            farms,
            store,
            events,
            streams: Arc::new(Semaphore::new(STREAMS)),
            current: OnceLock::new(),
            reloads: Reloads::default(),
            history: History::default(),
            desk: Desk::default(),
            scrapes: Desk::default(),
            asked: AskedReloads::default(),
            changes: Arc::default(),
            made: Mutex::default(),
            scrape: OnceLock::new(),
            replaced: OnceLock::new(),
        }
    }

    /// From now on there is something to measure.
    pub fn measure(&self, scrape: Scrape) {
        let _ = self.scrape.set(scrape);
    }

    /// From here on it is told of these, as long as they have not ended.
    pub fn tell_of(&self, replaced: &Arc<Replaced>) {
        let _ = self.replaced.set(replaced.clone());
    }

    /// Processes that upgrades have replaced and that still let their requests end.
    pub(super) fn replaced(&self) -> Vec<u32> {
        self.replaced.get().map(|replaced| replaced.alive()).unwrap_or_default()
    }

    /// From here on this is what serves.
    pub fn show(&self, current: &Arc<Current>) {
        let _ = self.current.set(current.clone());
    }

    /// Keeps what came of a start or a reload.
    pub fn reloaded(&self, reload: Reload) {
        self.reloads.keep(reload);
    }

    /// Notes what every server did since the last time; to be called every
    /// [`Context::TICK`].
    pub fn tick(&self) {
        self.history.note(&self.farms.list());
    }

    /// The snapshot that serves; `None` while Frontgate is still starting.
    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.current.get().map(|current| current.load())
    }

    /// Waits until no stream of events is open, but not longer: for the end of the program.
    pub async fn streams_ended(&self, patience: Duration) {
        let all = self.streams.acquire_many(u32::try_from(STREAMS).unwrap_or(1));
        let _ = tokio::time::timeout(patience, all).await;
    }

    /// The next one that asks for a reload.
    pub async fn reload_asked(&self) -> ReloadAsked {
        self.asked.next().await
    }

    /// Waits for changes that are under way; until the returned guard is dropped, others are
    /// refused. What a new process has read of the state directory stays true meanwhile.
    pub async fn hold_changes(&self) -> OwnedRwLockWriteGuard<()> {
        self.changes.clone().write_owned().await
    }

    /// Leave to change something, until the guard is dropped; none while changes are held.
    pub(super) fn change(&self) -> Option<OwnedRwLockReadGuard<()>> {
        self.changes.clone().try_read_owned().ok()
    }

    /// Those who wait for a reload are told that Frontgate stops.
    pub async fn no_more_reloads(&self) {
        self.asked.close().await;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The token that changes need: the configured one, or one that is made here.
    pub(super) fn token(&self, admin: &Admin) -> anyhow::Result<Token> {
        if let Some(token) = &admin.token {
            return Ok(token.clone());
        }
        let mut made = lock(&self.made);
        if let Some(token) = &*made {
            return Ok(token.clone());
        }
        Ok(made.insert(token_of(&self.store)?).clone())
    }
}

/// The token that is kept in the store; made where there is none.
fn token_of(store: &Store) -> anyhow::Result<Token> {
    let path = store.path(Token::FILE);
    match store.read_secret(Token::FILE) {
        // Scripts that know it go on, and so does another Frontgate that uses the directory.
        Ok(Some(bytes)) => match Token::parse(&String::from_utf8_lossy(&bytes)) {
            Some(token) => return Ok(token),
            None => warn!("{}: this is no token; a new one is made", path.display()),
        },
        Ok(None) => {}
        Err(e) => warn!("{}: {e}; a new token is made", path.display()),
    }
    let mut random = [0; 32];
    boring::rand::rand_bytes(&mut random).context("no random numbers for the admin token")?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = Token::parse(&text).context("no admin token")?;
    match store.write(Token::FILE, format!("{text}\n").as_bytes()) {
        Ok(()) => info!("admin: the token for changes is in {}", path.display()),
        Err(e) => warn!(
            "{}: {e}; commands cannot change anything: set admin.token_file, or mend state_dir",
            path.display()
        ),
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path());
        let token = token_of(&store).unwrap();
        assert_eq!(token.reveal().len(), 64);
        let path = dir.path().join(Token::FILE);
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), token.reveal());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(token_of(&store).unwrap(), token);
        // SECURITY: others may have read it.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let other = token_of(&store).unwrap();
        assert_ne!(other, token);
        std::fs::write(&path, "short").unwrap();
        assert_ne!(token_of(&store).unwrap(), other);
    }

    #[test]
    fn without_a_directory_every_process_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let (store, _) = Store::open(&file);
        assert_ne!(token_of(&store).unwrap(), token_of(&store).unwrap());
    }
}
