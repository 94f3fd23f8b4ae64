//! All orders about servers: by farm and server, across reloads and restarts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use log::warn;
use serde::{Deserialize, Serialize};

use super::{
    server::LOG,
    state::{Order, State},
};
use crate::{lock::lock, store::Store};

/// The file in the state directory.
const FILE: &str = "servers.json";
/// Orders that are remembered about servers that the configuration no longer has.
const GONE: usize = 1000;

/// Farm and server.
pub(super) type Key = (Arc<str>, Arc<str>);
type Known = BTreeMap<Key, Arc<Order>>;

/// All orders. Without a store they last as long as the process.
#[derive(Debug, Default)]
pub struct Orders {
    known: Mutex<Known>,
    /// Held while the file is written, so that the last writer writes the latest.
    writing: Mutex<()>,
    store: Option<Arc<Store>>,
}

impl Orders {
    /// What an earlier process kept. A file that cannot be used is set aside, with a warning.
    pub fn load(store: Arc<Store>) -> Self {
        let kept = match store.read(FILE) {
            Ok(None) => Ok(Known::new()),
            Ok(Some(bytes)) => parse(&bytes),
            Err(e) => Err(e.to_string()),
        };
        let known = kept.unwrap_or_else(|fault| {
            let file = store.path(FILE);
            let aside = match store.set_aside(FILE) {
                Ok(aside) => format!("the file is kept as {}", aside.display()),
                Err(e) => format!("it cannot be set aside: {e}"),
            };
            warn!(
                target: LOG,
                "{}: {fault}; every drain and maintenance of before is lost and all servers are \
                 ready; {aside}",
                file.display()
            );
            Known::new()
        });
        Self { known: Mutex::new(known), writing: Mutex::default(), store: Some(store) }
    }

    /// The order about a server.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Order>> {
        self.lock().get(key).cloned()
    }

    /// Takes an order; returns what holds from now on, `None` if nobody ever said anything.
    pub(super) fn set(&self, key: Key, order: &Order) -> Option<Arc<Order>> {
        let mut known = self.lock();
        let next = next(known.get(&key).map(|order| &**order), order).map(Arc::new);
        if let Some(next) = &next {
            known.insert(key, next.clone());
        }
        next
    }

    /// Forgets what nobody needs of servers that the configuration no longer has.
    pub(super) fn follow(&self, present: &BTreeSet<Key>) {
        forget(&mut self.lock(), present);
    }

    /// Writes the file; returns whether a restart will find the orders.
    pub(super) fn keep(&self) -> bool {
        let Some(store) = &self.store else { return false };
        let _turn = lock(&self.writing);
        let text = text(&self.lock());
        match store.write(FILE, text.as_bytes()) {
            Ok(()) => true,
            Err(e) => {
                let file = store.path(FILE);
                warn!(target: LOG, "{}: {e}; a restart will forget this", file.display());
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

/// What holds after an order: a new state begins now, the same one goes on with the new reason.
/// That a ready server is ready says nothing new.
fn next(before: Option<&Order>, order: &Order) -> Option<Order> {
    let state = before.map_or(State::Ready, |before| before.state);
    match before {
        _ if state != order.state => Some(order.clone()),
        Some(before) if state == State::Ready => Some(before.clone()),
        Some(before) => Some(Order { since: before.since, ..order.clone() }),
        None => None,
    }
}

/// Of servers that are gone, only what takes them out is remembered, in case they come back; and
/// of that the latest.
fn forget(known: &mut Known, present: &BTreeSet<Key>) {
    known.retain(|key, order| order.state != State::Ready || present.contains(key));
    let gone = known.iter().filter(|(key, _)| !present.contains(*key));
    let mut gone: Vec<_> = gone.map(|(key, order)| (order.since, key.clone())).collect();
    gone.sort();
    let many = gone.len().saturating_sub(GONE);
    for (_, key) in gone.into_iter().take(many) {
        known.remove(&key);
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    servers: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    farm: Arc<str>,
    server: Arc<str>,
    state: State,
    /// RFC 3339.
    since: String,
    who: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<Arc<str>>,
}

const VERSION: u32 = 1;

fn text(known: &Known) -> String {
    let entry = |((farm, server), order): (&Key, &Arc<Order>)| Entry {
        farm: farm.clone(),
        server: server.clone(),
        state: order.state,
        since: humantime::format_rfc3339_millis(order.since).to_string(),
        who: order.who.clone(),
        why: order.why.clone(),
    };
    let kept = Kept { version: VERSION, servers: known.iter().map(entry).collect() };
    // Texts and numbers always have a form in JSON.
    serde_json::to_string_pretty(&kept).unwrap_or_default() + "\n"
}

fn parse(bytes: &[u8]) -> Result<Known, String> {
    let kept: Kept = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if kept.version != VERSION {
        return Err(format!("version {} is not known here", kept.version));
    }
    let order = |entry: Entry| {
        let since: SystemTime = humantime::parse_rfc3339(&entry.since)
            .map_err(|e| format!("`{}` is no time: {e}", entry.since))?;
        let order = Order { state: entry.state, who: entry.who, why: entry.why, since };
        Ok(((entry.farm, entry.server), Arc::new(order)))
    };
    kept.servers.into_iter().map(order).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn order(state: State, who: &str, second: u64) -> Order {
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        Order { state, who: who.into(), why: Some(format!("{who}'s reason").into()), since }
    }

    fn key(farm: &str, server: &str) -> Key {
        (farm.into(), server.into())
    }

    #[test]
    fn a_state_has_one_beginning_and_the_latest_reason() {
        let drained = order(State::Drain, "jo", 10);
        assert_eq!(next(None, &order(State::Ready, "jo", 10)), None);
        assert_eq!(next(None, &drained), Some(drained.clone()));
        let again = next(Some(&drained), &order(State::Drain, "kim", 20)).unwrap();
        assert_eq!(again, order(State::Drain, "kim", 10));
        let out = order(State::Maintenance, "kim", 30);
        assert_eq!(next(Some(&again), &out), Some(out.clone()));
        let back = order(State::Ready, "jo", 40);
        assert_eq!(next(Some(&out), &back), Some(back.clone()));
        let twice = next(Some(&back), &order(State::Ready, "kim", 50));
        assert_eq!(twice, Some(back), "ready is not news");
    }

    #[test]
    fn the_file_gives_back_what_it_was_given() {
        let mut known = Known::new();
        known.insert(key("owa", "exch01"), Arc::new(order(State::Drain, "jo@ws1", 1_700_000_000)));
        let silent = Order { why: None, ..order(State::Ready, "kim \"quoted\"\\", 5) };
        known.insert(key("ews", "exch01"), Arc::new(silent));
        assert_eq!(parse(text(&known).as_bytes()).unwrap(), known);
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_with_a_reason() {
        for (wrong, why) in [
            ("", "EOF"),
            ("{\"version\":1,\"servers\":[{", "EOF"),
            ("{\"version\":2,\"servers\":[]}", "version 2"),
            (
                r#"{"version":1,"servers":[{"farm":"a","server":"b","state":"out","since":"2026-01-01T00:00:00Z","who":"x"}]}"#,
                "unknown variant",
            ),
            (
                r#"{"version":1,"servers":[{"farm":"a","server":"b","state":"drain","since":"today","who":"x"}]}"#,
                "no time",
            ),
        ] {
            let fault = parse(wrong.as_bytes()).unwrap_err();
            assert!(fault.contains(why), "{wrong}: {fault}");
        }
    }

    #[test]
    fn what_is_gone_is_remembered_within_bounds() {
        let mut known = Known::new();
        let present = BTreeSet::from([key("a", "here"), key("a", "ready")]);
        known.insert(key("a", "here"), Arc::new(order(State::Drain, "jo", 0)));
        known.insert(key("a", "ready"), Arc::new(order(State::Ready, "jo", 0)));
        known.insert(key("a", "gone and ready"), Arc::new(order(State::Ready, "jo", 9)));
        for n in 0..GONE + 5 {
            let order = order(State::Maintenance, "jo", 100 + n as u64);
            known.insert(key("b", &format!("gone{n}")), Arc::new(order));
        }
        forget(&mut known, &present);
        assert_eq!(known.len(), 2 + GONE);
        assert!(known.contains_key(&key("a", "here")) && known.contains_key(&key("a", "ready")));
        assert!(!known.contains_key(&key("b", "gone4")) && known.contains_key(&key("b", "gone5")));
    }

    #[test]
    fn orders_outlive_the_process_and_a_broken_file_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Orders::load(Arc::new(Store::open(dir.path()).0));
        let orders = open();
        let drained = order(State::Drain, "jo", 10);
        orders.set(key("a", "fe01"), &drained);
        assert!(orders.keep());
        assert_eq!(open().get(&key("a", "fe01")).as_deref(), Some(&drained));

        std::fs::write(dir.path().join(FILE), "{ broken").unwrap();
        let orders = open();
        assert_eq!(orders.get(&key("a", "fe01")), None);
        assert_eq!(std::fs::read(dir.path().join("servers.json.bad")).unwrap(), b"{ broken");
        orders.set(key("a", "fe02"), &drained);
        assert!(orders.keep());
        assert!(open().get(&key("a", "fe02")).is_some());
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        std::fs::write(&file, "").unwrap();
        let orders = Orders::load(Arc::new(Store::open(&file).0));
        orders.set(key("a", "fe01"), &order(State::Drain, "jo", 10));
        assert!(!orders.keep());
        assert!(orders.get(&key("a", "fe01")).is_some());
        assert!(!Orders::default().keep());
    }
}
