//! Noticing that a file changed.
//!
//! Directories are watched, not files: editors write a new file and rename it, and Kubernetes
//! swaps a symbolic link beside the file.

use std::{
    collections::BTreeSet,
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
    changes: Receiver<()>,
}

impl Watch {
    pub(super) fn new() -> Self {
        // One waiting note is enough: it says "look again".
        let (notes, changes) = channel(1);
        let watcher = notify::recommended_watcher(move |event| note(&notes, event))
            .inspect_err(|e| warn!("files are not watched ({e}); SIGHUP still reloads"))
            .ok();
        Self { watcher, directories: BTreeSet::new(), changes }
    }

    /// Watches the directories of these files, and `more` directories, and no others.
    pub(super) fn follow(&mut self, config: &Path, files: &[PathBuf], more: &[PathBuf]) {
        let wanted: BTreeSet<PathBuf> = std::iter::once(config)
            .chain(files.iter().map(PathBuf::as_path))
            .flat_map(directories)
            .chain(more.iter().cloned())
            .collect();
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.directories.difference(&wanted) {
            let _ = watcher.unwatch(gone);
        }
        // Watching again what is watched is harmless, and finds a directory that was replaced.
        for directory in &wanted {
            if let Err(e) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                debug!("cannot watch {}: {e}", directory.display());
            }
        }
        self.directories = wanted;
    }

    /// Resolves when something changed and has settled.
    pub(super) async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            return std::future::pending().await;
        }
        let longest = Instant::now() + LONGEST;
        loop {
            let quiet = (Instant::now() + QUIET).min(longest);
            match timeout_at(quiet, self.changes.recv()).await {
                Ok(Some(())) if quiet < longest => {}
                _ => return,
            }
        }
    }
}

/// The directory a file is named in, and the one it really lies in.
fn directories(file: &Path) -> Vec<PathBuf> {
    let named = std::path::absolute(file).ok();
    let real = file.canonicalize().ok();
    [named, real].into_iter().flatten().filter_map(|f| f.parent().map(Path::to_owned)).collect()
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
    async fn a_write_a_rename_and_a_link_swap_are_noticed_and_reading_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, "a").unwrap();
        let mut watch = Watch::new();
        watch.follow(&file, &[], &[]);
        std::fs::read(&file).unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(600), watch.changed()).await;
        assert!(quiet.is_err(), "reading was taken for a change");

        std::fs::write(&file, "b").unwrap();
        assert!(noticed(&mut watch).await, "write");
        std::fs::write(dir.path().join("new"), "c").unwrap();
        std::fs::rename(dir.path().join("new"), &file).unwrap();
        assert!(noticed(&mut watch).await, "rename");

        std::fs::create_dir(dir.path().join("v2")).unwrap();
        std::fs::write(dir.path().join("v2/config.yaml"), "d").unwrap();
        assert!(noticed(&mut watch).await, "new directory");
        std::os::unix::fs::symlink("v2/config.yaml", dir.path().join("link")).unwrap();
        std::fs::rename(dir.path().join("link"), &file).unwrap();
        assert!(noticed(&mut watch).await, "link swap");
        watch.follow(&file, &[], &[]);
        std::fs::write(dir.path().join("v2/config.yaml"), "e").unwrap();
        assert!(noticed(&mut watch).await, "write behind the link");
    }
}
