//! Whether a file that operators replace has changed since it was read, and what is said of it.
//!
//! Known by its time and length, looked at when somebody asks. One that is broken leaves what was read last in force, and
//! is told of once; it is tried again each time, because what was in the way need not show in its times.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwapOption, Guard};
use foreshade_engine::moment::Moment;
use tokio::sync::oneshot;

use super::aside::{Lane, aside};

/// How often a file is looked at, while somebody asks.
const LOOK: Duration = Duration::from_secs(1);

/// When a file was written, and its length.
type Stamp = (SystemTime, u64);

/// What is known of a file.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// What it was like when it was read.
    read: Option<Stamp>,
    /// What it was like when it was told last that it cannot be read.
    told: Option<Option<Stamp>>,
}

impl Followed {
    /// What is in the file, where that is new and sound. `kept` says whether something is in force without it.
    pub(super) fn news<T, E: Error + 'static>(
        &mut self,
        path: &Path,
        kept: bool,
        load: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Option<T> {
        let found = std::fs::metadata(path).and_then(|found| Ok((found.modified()?, found.len())));
        let stamp = found.ok();
        if stamp.is_some() && stamp == self.read {
            return None;
        }
        match load(path) {
            Ok(content) => {
                tracing::info!(path = %path.display(), "a policy's file is read");
                (self.read, self.told) = (stamp, None);
                Some(content)
            }
            Err(error) => {
                if self.told != Some(stamp) {
                    self.told = Some(stamp);
                    let error = &error as &dyn Error;
                    let path = path.display();
                    tracing::error!(%path, error, kept, "a policy's file cannot be read: what was read before holds");
                }
                None
            }
        }
    }
}

/// What a file says, read beside the workers and again when it has changed.
#[derive(Debug)]
pub(super) struct Watched<T, E> {
    path: PathBuf,
    load: fn(&Path) -> Result<T, E>,
    content: ArcSwapOption<T>,
    /// Microseconds on the proxy's clock when it was looked at; 0 for never.
    looked: AtomicU64,
    file: Mutex<Followed>,
}

impl<T: Send + Sync + 'static, E: Error + 'static> Watched<T, E> {
    /// Not read yet.
    pub(super) fn new(path: PathBuf, load: fn(&Path) -> Result<T, E>) -> Self {
        Self {
            path,
            load,
            content: ArcSwapOption::empty(),
            looked: AtomicU64::new(0),
            file: Mutex::default(),
        }
    }

    /// What was read last. Borrowed: a count of who holds it would be written by all workers with each request.
    pub(super) fn content(&self) -> Guard<Option<Arc<T>>> {
        self.content.load()
    }

    /// Has the file looked at, if it is time, or if somebody is in need of what is not there. Told when that is done.
    pub(super) fn look(self: &Arc<Self>, now: Moment, needed: bool) -> Option<oneshot::Receiver<()>> {
        let now_us = now.as_micros().max(1);
        let pause = u64::try_from(LOOK.as_micros()).unwrap_or(u64::MAX);
        let at_once = needed && self.content.load().is_none();
        let due = |looked: u64| {
            (at_once || looked == 0 || now_us >= looked.saturating_add(pause)).then_some(now_us)
        };
        self.looked.fetch_update(Relaxed, Relaxed, due).ok()?;
        let (tell, done) = oneshot::channel();
        let watched = self.clone();
        let taken = aside(Lane::Files, move || {
            watched.read();
            // Nobody may wait for it.
            let _ = tell.send(());
        });
        taken.then_some(done)
    }

    /// Reads the file, if it has changed. One that is broken leaves what was read last in force.
    pub(super) fn read(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.content.load().is_some();
        if let Some(content) = file.news(&self.path, kept, self.load) {
            self.content.store(Some(Arc::new(content)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn what_could_not_be_read_is_tried_again_and_what_was_read_is_not() {
        let path = std::env::temp_dir().join(format!("foreshade-followed-{}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let mut followed = Followed::default();
        let fails = |_: &Path| Err::<String, _>(io::Error::other("too many open files"));
        assert_eq!(followed.news(&path, false, fails), None);
        let reads = |path: &Path| std::fs::read_to_string(path);
        assert_eq!(
            followed.news(&path, false, reads).as_deref(),
            Some("one"),
            "nothing in its times has changed"
        );
        assert_eq!(followed.news(&path, true, reads), None);
        std::fs::write(&path, "three").unwrap();
        assert_eq!(followed.news(&path, true, reads).as_deref(), Some("three"));
        std::fs::remove_file(&path).unwrap();
    }
}
