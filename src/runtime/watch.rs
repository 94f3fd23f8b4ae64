//! Noticing that a file changed.
//!
//! Directories are watched, not files: editors write a new file and rename it, and Kubernetes
//! swaps a symbolic link beside the file. What else happens in those directories (an access log
//! that is written there) is told apart by what the followed files look like from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use log::{debug, warn};
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, timeout_at},
};

/// Changes come in bursts; this much quiet ends one.
const QUIET: Duration = Duration::from_millis(300);
/// A burst that does not end is taken as one after this.
const LONGEST: Duration = Duration::from_secs(3);

/// Watches the directories of a set of files.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
    /// Followed files, and directories where a new file counts, as they last looked.
    looks: BTreeMap<PathBuf, Look>,
    changes: Receiver<()>,
    /// Since when something has happened that was not looked at yet: kept here, because whoever
    /// waits may stop waiting and begin anew.
    stirred: Option<Instant>,
}

impl Watch {
    pub(super) fn new() -> Self {
        // One waiting note is enough: it says "look again".
        let (notes, changes) = channel(1);
        let watcher = notify::recommended_watcher(move |event| note(&notes, event))
            .inspect_err(|e| warn!("files are not watched ({e}); SIGHUP still reloads"))
            .ok();
        let directories = BTreeSet::new();
        Self { watcher, directories, looks: BTreeMap::new(), changes, stirred: None }
    }

    /// Follows these files, and `more` directories in which a new file counts, and nothing else.
    pub(super) fn follow(&mut self, config: &Path, files: &[PathBuf], more: &[PathBuf]) {
        let followed: BTreeSet<&Path> =
            std::iter::once(config).chain(files.iter().chain(more).map(PathBuf::as_path)).collect();
        self.looks.retain(|path, _| followed.contains(path.as_path()));
        for path in followed {
            self.looks.entry(path.to_owned()).or_insert_with(|| look(path));
        }
        self.watch_directories();
    }

    fn watch_directories(&mut self) {
        let wanted: BTreeSet<PathBuf> =
            self.looks.keys().flat_map(|path| directories(path)).collect();
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.directories.difference(&wanted) {
            let _ = watcher.unwatch(gone);
        }
        // Watching again what is watched is harmless, and finds a directory that was replaced.
        for directory in &wanted {
            if let Err(e) = watcher.watch(directory, RecursiveMode::NonRecursive)
                && !self.directories.contains(directory)
            {
                warn!("cannot watch {}: {e}", directory.display());
            }
        }
        self.directories = wanted;
    }

    /// Resolves when a followed file changed and things have settled. Dropped before that, it
    /// forgets nothing: the next one resolves for the same change.
    pub(super) async fn changed(&mut self) {
        loop {
            self.stirred().await;
            if self.look_again() {
                return;
            }
        }
    }

    /// The files are about to be read for another reason: what changed until now is no news.
    pub(super) fn seen(&mut self) {
        self.look_again();
    }

    /// Whether a followed file changed since the last look.
    fn look_again(&mut self) -> bool {
        self.stirred = None;
        // A directory may have come, gone, or been swapped for another.
        self.watch_directories();
        let mut changed = false;
        for (path, known) in &mut self.looks {
            let now = look(path);
            changed |= *known != now;
            *known = now;
        }
        changed
    }

    /// Resolves when anything happened in the directories and has settled.
    async fn stirred(&mut self) {
        let begun = match self.stirred {
            Some(begun) => begun,
            None if self.changes.recv().await.is_none() => return std::future::pending().await,
            None => *self.stirred.insert(Instant::now()),
        };
        let longest = begun + LONGEST;
        loop {
            let quiet = (Instant::now() + QUIET).min(longest);
            match timeout_at(quiet, self.changes.recv()).await {
                Ok(Some(())) if quiet < longest => {}
                _ => return,
            }
        }
    }
}

/// Device, inode, size and times of a file; `None` where there is none.
type Look = Option<(u64, u64, u64, i64, i64, i64, i64)>;

fn look(path: &Path) -> Look {
    let m = std::fs::metadata(path).ok()?;
    // Writing a log into an include directory changes the log only; a new file changes both times.
    Some((m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))
}

/// The directories whose entries decide which file a path names: that of the file, that of every
/// link on the way, and where they end. For a directory that is missing, its nearest ancestor.
fn directories(path: &Path) -> Vec<PathBuf> {
    let Ok(named) = std::path::absolute(path) else { return Vec::new() };
    let is_link = |p: &&Path| p.symlink_metadata().is_ok_and(|m| m.file_type().is_symlink());
    let links = named.ancestors().filter(is_link).filter_map(Path::parent);
    let real = named.canonicalize().ok();
    let ends = [Some(named.as_path()), real.as_deref()].into_iter().flatten();
    let holders = ends.filter_map(|end| {
        let start = if end.is_dir() { end } else { end.parent()? };
        start.ancestors().find(|ancestor| ancestor.is_dir())
    });
    links.chain(holders).map(Path::to_owned).collect()
}

fn note(notes: &Sender<()>, event: notify::Result<Event>) {
    // Our own reading of the files is an event too, and no change.
    let read = |kind| matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write));
    match event {
        Ok(event) if read(event.kind) => {}
        Ok(_) => {
            let _ = notes.try_send(());
        }
        Err(e) => debug!("file watch: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn noticed(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn writes_renames_and_link_swaps_are_noticed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, "a").unwrap();
        let mut watch = Watch::new();
        watch.follow(&file, &[], &[]);
        std::fs::read(&file).unwrap();
        std::fs::write(dir.path().join("access.log"), "a line").unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(600), watch.changed()).await;
        assert!(quiet.is_err(), "reading, or another file, was taken for a change");

        std::fs::write(&file, "b").unwrap();
        assert!(noticed(&mut watch).await, "write");
        std::fs::write(dir.path().join("new"), "c").unwrap();
        std::fs::rename(dir.path().join("new"), &file).unwrap();
        assert!(noticed(&mut watch).await, "rename");

        std::fs::create_dir(dir.path().join("v2")).unwrap();
        std::fs::write(dir.path().join("v2/config.yaml"), "d").unwrap();
        std::os::unix::fs::symlink("v2/config.yaml", dir.path().join("link")).unwrap();
        std::fs::rename(dir.path().join("link"), &file).unwrap();
        assert!(noticed(&mut watch).await, "link swap");
        watch.follow(&file, &[], &[]);
        std::fs::write(dir.path().join("v2/config.yaml"), "e").unwrap();
        assert!(noticed(&mut watch).await, "write behind the link");
    }

    #[tokio::test]
    async fn a_change_outlives_whoever_waited_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, "a").unwrap();
        let mut watch = Watch::new();
        watch.follow(&file, &[], &[]);
        std::fs::write(&file, "bb").unwrap();
        // Noticed, but not settled, when another signal comes: again and again.
        for _ in 0..3 {
            let interrupted = tokio::time::timeout(QUIET / 2, watch.changed()).await;
            assert!(interrupted.is_err(), "a burst ends after {QUIET:?}");
        }
        assert!(noticed(&mut watch).await, "the change was forgotten");

        std::fs::write(&file, "ccc").unwrap();
        assert!(tokio::time::timeout(QUIET / 2, watch.changed()).await.is_err());
        watch.seen();
        let again = tokio::time::timeout(QUIET * 2, watch.changed()).await;
        assert!(again.is_err(), "what is read anyway is told once more");
    }

    #[tokio::test]
    async fn directories_that_vanish_return_or_are_swapped_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for release in ["r1", "r2"] {
            std::fs::create_dir(dir.path().join(release)).unwrap();
            std::fs::write(dir.path().join(release).join("config.yaml"), release).unwrap();
        }
        let current = dir.path().join("current");
        std::os::unix::fs::symlink("r1", &current).unwrap();
        let file = current.join("config.yaml");
        let mut watch = Watch::new();
        watch.follow(&file, &[], &[]);
        std::os::unix::fs::symlink("r2", dir.path().join("next")).unwrap();
        std::fs::rename(dir.path().join("next"), &current).unwrap();
        assert!(noticed(&mut watch).await, "link to a directory swapped");
        std::fs::remove_dir_all(dir.path().join("r2")).unwrap();
        assert!(noticed(&mut watch).await, "directory gone");
        std::fs::create_dir(dir.path().join("r2")).unwrap();
        std::fs::write(dir.path().join("r2/config.yaml"), "back").unwrap();
        assert!(noticed(&mut watch).await, "directory back");
        std::fs::write(dir.path().join("r2/config.yaml"), "again").unwrap();
        assert!(noticed(&mut watch).await, "and followed again");
    }
}
