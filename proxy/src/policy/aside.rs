//! One thread for what takes too long for a worker: hashes of passwords, and files.
//!
//! One for the whole process, so that whatever strangers ask of it takes one processor at most. What it may be asked at a
//! time is bounded: at a few hashes per second more would not be done while anybody waits for it.

use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Jobs that wait.
const JOBS_MAX: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// Has a job done beside. False where there is too much to do, or no thread to do it.
pub(super) fn aside(job: impl FnOnce() + Send + 'static) -> bool {
    static THREAD: OnceLock<Option<SyncSender<Job>>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (send, jobs) = sync_channel::<Job>(JOBS_MAX);
        let work = move || jobs.into_iter().for_each(|job| job());
        let started = std::thread::Builder::new().name("aside".to_owned()).spawn(work);
        started.ok().map(|_| send)
    });
    thread
        .as_ref()
        .is_some_and(|thread| thread.try_send(Box::new(job)).is_ok())
}
