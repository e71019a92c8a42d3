//! Threads for what takes too long for a worker: one for hashes of passwords, and one for files.
//!
//! One of each for the whole process, so that whatever strangers ask takes one processor at most, and apart, so that a
//! flood of passwords keeps no key from being read. What each may be asked at a time is bounded: at a few hashes per
//! second more would not be done while anybody waits for it.

use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Jobs that wait.
const JOBS_MAX: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// What must not wait for each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    /// Hashes: slow, and asked for by strangers.
    Hashes,
    /// Files that operators change.
    Files,
}

/// Has a job done beside. False where there is too much to do, or no thread to do it.
pub(super) fn aside(lane: Lane, job: impl FnOnce() + Send + 'static) -> bool {
    static HASHES: OnceLock<Option<SyncSender<Job>>> = OnceLock::new();
    static FILES: OnceLock<Option<SyncSender<Job>>> = OnceLock::new();
    let thread = match lane {
        Lane::Hashes => &HASHES,
        Lane::Files => &FILES,
    };
    let thread = thread.get_or_init(|| {
        let (send, jobs) = sync_channel::<Job>(JOBS_MAX);
        let work = move || jobs.into_iter().for_each(|job| job());
        let started = std::thread::Builder::new().name("aside".to_owned()).spawn(work);
        started.ok().map(|_| send)
    });
    thread
        .as_ref()
        .is_some_and(|thread| thread.try_send(Box::new(job)).is_ok())
}
