//! The embedded store: one file, one process, every answer on disk before it is given.
//!
//! redb is a copy-on-write tree: a commit is a new root, so a crash leaves the old state or the new one. It knows no
//! revisions, watches and leases; [`ledger`] makes them of its tables. SQLite would have the longer record and bring a
//! second compiler; of the Rust ones, others lose acknowledged writes by default.
//!
//! - **Cold start**: [`audit`] reads the whole file once. After a crash nothing is replayed.
//! - **Idle**: no thread runs. **Burst**: [`writer`] writes what has gathered with one sync; [`QUEUE_MAX`] callers wait
//!   there, all others before it.
//! - **Full or failing disk**: nothing is written, everything can be read, [`Status::mode`] says so, and it mends itself.
//! - **Two processes**: the second one gets [`StoreError::InUse`].

mod audit;
mod ledger;
pub mod medium;
mod record;
mod view;
mod writer;

use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use redb::{Database, ReadTransaction, ReadableDatabase};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::audit::Opened;
use self::ledger::{Answer, Job};
use self::medium::{File, Medium};
use self::writer::{Broken, Order, Request, Writer, open_and_audit};
use super::error::StoreError;
use super::key::{KeyRange, LeaseId, Revision};
use super::lease::Lessor;
use super::txn::{Done, Txn};
use super::watch::{History, Look, PROGRESS_EVERY, Watch, follow};
use super::{Found, Lease, Mode, ReadAt, Status, Store, check_limit, check_ttl};

/// Writes that wait for the disk. Whoever comes then waits for one of them.
const QUEUE_MAX: usize = 1024;

/// Memory for pages that were read or will be written.
const CACHE_BYTES: usize = 16 << 20;

/// How long leases whose keys could not be deleted wait for another try.
const END_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A store in a file.
#[derive(Debug)]
pub struct Redb {
    inner: Arc<Inner>,
    progress_every: Duration,
    orders: mpsc::Sender<Order>,
    /// The thread that writes; joined when the store goes, so that the file is closed then.
    writer: Option<JoinHandle<()>>,
    /// Ends the leases; goes with the store.
    lessor: AbortHandle,
}

/// What the callers, the writer and the watchers share.
#[derive(Debug)]
struct Inner {
    medium: Arc<dyn Medium>,
    cache_bytes: usize,
    /// Nothing while it cannot be opened, and after it was closed. Only the writer replaces it.
    database: RwLock<Option<Database>>,
    mode: Mutex<Mode>,
    lessor: Mutex<Lessor>,
    /// Says that there is a new lease to watch over.
    granted: Notify,
    tip: watch::Sender<Revision>,
    queue: Arc<Semaphore>,
}

impl Redb {
    /// Opens the file, or makes it. Has to be called inside a tokio runtime, which it uses to end leases.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] and [`StoreError::Corrupt`] for what is no sound store of ours: it is left as it is.
    /// [`StoreError::InUse`] when another process has it.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::on(Arc::new(File::new(path)), PROGRESS_EVERY).await
    }

    /// Opens what is on a medium, and tells watchers so often how far the store has come.
    ///
    /// # Errors
    /// As [`Redb::open`].
    pub async fn on(medium: Arc<dyn Medium>, progress_every: Duration) -> Result<Self, StoreError> {
        let opening = Arc::clone(&medium);
        let ((database, opened), broken) = blocking(move || {
            let medium = opening.as_ref();
            match open_and_audit(|| medium::open(medium, CACHE_BYTES)) {
                // A full disk can be read, and may have space again.
                Err(error @ StoreError::Full(_)) => {
                    let opened = open_and_audit(|| medium::open_untouched(medium, CACHE_BYTES))?;
                    Ok((opened, Some(error)))
                }
                opened => Ok((opened?, None)),
            }
        })
        .await?;
        let mode = match &broken {
            Some(error) => Mode::ReadOnly(error.to_string()),
            None => Mode::Writable,
        };
        let inner = Arc::new(Inner {
            medium,
            cache_bytes: CACHE_BYTES,
            database: RwLock::new(Some(database)),
            mode: Mutex::new(mode),
            lessor: Mutex::new(lessor_of(&opened)),
            granted: Notify::new(),
            tip: watch::Sender::new(Revision::new(opened.head.revision)),
            queue: Arc::new(Semaphore::new(QUEUE_MAX)),
        });
        let (orders, receiver) = mpsc::channel();
        let writer = Writer {
            inner: Arc::clone(&inner),
            orders: receiver,
            head: opened.head,
            sweep_from: opened.head.unswept(),
            open_for_writing: broken.is_none(),
            broken: broken.map(Broken::new),
        };
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let lessor = tokio::spawn(end_leases(Arc::clone(&inner), orders.clone())).abort_handle();
        Ok(Self {
            inner,
            progress_every,
            orders,
            writer: Some(writer),
            lessor,
        })
    }

    async fn order(&self, job: Job) -> Result<Answer, StoreError> {
        order(&self.inner, &self.orders, job).await
    }

    /// Closes the file, after what is being written. Dropping does the same, and blocks for it.
    pub async fn close(self) {
        // Joining is all that can take time; a failure to join means that it is closed already.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        self.lessor.abort();
        // An error means that the thread has ended.
        let _ = self.orders.send(Order::Stop);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Every lease has its whole time again.
fn lessor_of(opened: &Opened) -> Lessor {
    let (mut lessor, now) = (Lessor::default(), Instant::now());
    for (id, seconds) in &opened.leases {
        lessor.begin(*id, Duration::from_secs(*seconds), now);
    }
    lessor
}

/// Ends each lease when its time has come.
async fn end_leases(inner: Arc<Inner>, orders: mpsc::Sender<Order>) {
    loop {
        let due = inner.lessor().due(Instant::now());
        let mut all_ended = true;
        for id in due {
            let ended = order(&inner, &orders, Job::End(id)).await;
            all_ended &= matches!(ended, Ok(_) | Err(StoreError::LeaseNotFound(_)));
        }
        let next = if all_ended {
            inner.lessor().next()
        } else {
            Some(Instant::now() + END_AGAIN_AFTER)
        };
        let granted = inner.granted.notified();
        match next {
            Some(next) => {
                tokio::select! { () = tokio::time::sleep_until(next) => {}, () = granted => {} }
            }
            None => granted.await,
        }
    }
}

/// Has the writer do something, and waits until it is on disk.
async fn order(inner: &Inner, orders: &mpsc::Sender<Order>, job: Job) -> Result<Answer, StoreError> {
    let place = Arc::clone(&inner.queue).acquire_owned().await;
    let place = place.map_err(|_| StoreError::Closed)?;
    let (reply, answer) = oneshot::channel();
    let request = Request { job, reply, place };
    orders
        .send(Order::Write(request))
        .map_err(|_| StoreError::Closed)?;
    // Without an answer nobody knows how far it came.
    answer.await.unwrap_or_else(|_| {
        Err(StoreError::OutcomeUnknown(
            "the store was closed meanwhile".to_owned(),
        ))
    })
}

/// Runs what may wait for the disk where it holds nobody up.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result,
        // redb can panic over pages that make no sense.
        Err(error) => Err(StoreError::Corrupt {
            place: "the file".to_owned(),
            what: error.to_string(),
        }),
    }
}

impl Inner {
    /// Does something with the open database.
    fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match database.as_ref() {
            Some(database) => act(database),
            None => Err(match self.mode() {
                Mode::ReadOnly(why) => StoreError::Unavailable(why),
                Mode::Writable => StoreError::Closed,
            }),
        }
    }

    /// Closes the database, and opens it again.
    fn replace<T>(&self, open: impl FnOnce() -> Result<(Database, T), StoreError>) -> Result<T, StoreError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // First: two of them cannot have one file.
        *slot = None;
        let (database, rest) = open()?;
        *slot = Some(database);
        Ok(rest)
    }

    fn close(&self) {
        self.queue.close();
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn is_open(&self) -> bool {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.is_some()
    }

    fn mode(&self) -> Mode {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_mode(&self, mode: Mode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    fn lessor(&self) -> std::sync::MutexGuard<'_, Lessor> {
        self.lessor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the time of granted leases begin, and forgets those that have ended; all of it is on disk.
    fn note_leases(&self, jobs: &[Job], answers: &[Result<Answer, StoreError>]) {
        let mut lessor = self.lessor();
        for (job, answer) in jobs.iter().zip(answers) {
            match (job, answer) {
                (Job::Grant(seconds), Ok(Answer::Granted(id))) => {
                    lessor.begin(*id, Duration::from_secs(*seconds), Instant::now());
                    self.granted.notify_one();
                }
                (Job::End(id), _) => lessor.forget(*id),
                _ => {}
            }
        }
    }

    fn publish(&self, revision: Revision) {
        self.tip.send_if_modified(|tip| {
            let newer = *tip < revision;
            *tip = revision.max(*tip);
            newer
        });
    }
}

/// Reads in a snapshot, off the runtime's threads.
async fn read<T: Send + 'static>(
    inner: Arc<Inner>,
    act: impl FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    blocking(move || inner.with(|database| act(&database.begin_read().map_err(blame)?))).await
}

/// What an error of redb means to whoever uses the store.
fn blame(error: impl Into<redb::Error>) -> StoreError {
    use std::io::ErrorKind;
    match error.into() {
        redb::Error::Io(error) => match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                StoreError::Full(error.to_string())
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                StoreError::Denied(error.to_string())
            }
            _ => StoreError::Unavailable(error.to_string()),
        },
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse,
        redb::Error::UpgradeRequired(version) => {
            StoreError::Foreign(format!("the file has version {version} of redb's format"))
        }
        error @ redb::Error::Corrupted(_) => StoreError::Corrupt {
            place: "the file".to_owned(),
            what: error.to_string(),
        },
        error @ (redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableIsNotMultimap(_)
        | redb::Error::TableDoesNotExist(_)) => StoreError::Foreign(error.to_string()),
        error => StoreError::Unavailable(error.to_string()),
    }
}

#[async_trait]
impl History for Inner {
    async fn look(self: Arc<Self>, keys: &KeyRange, from: Revision) -> Result<Look, StoreError> {
        let keys = keys.clone();
        read(self, move |txn| view::look(txn, &keys, from)).await
    }
}

#[async_trait]
impl Store for Redb {
    async fn range(&self, keys: KeyRange, at: ReadAt, limit: u32) -> Result<Found, StoreError> {
        let limit = check_limit(limit)?;
        let inner = Arc::clone(&self.inner);
        read(inner, move |txn| view::range(txn, &keys, at, limit)).await
    }

    async fn txn(&self, txn: Txn) -> Result<Done, StoreError> {
        txn.check()?;
        match self.order(Job::Txn(txn)).await? {
            Answer::Done(done) => Ok(done),
            other => Err(unexpected(&other)),
        }
    }

    fn watch(&self, keys: KeyRange, from: Revision) -> Watch {
        let tip = self.inner.tip.subscribe();
        follow(&self.inner, tip, keys, from, self.progress_every)
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        let ttl = check_ttl(ttl)?;
        match self.order(Job::Grant(ttl.as_secs())).await? {
            Answer::Granted(id) => Ok(Lease { id, ttl }),
            other => Err(unexpected(&other)),
        }
    }

    async fn lease_keepalive(&self, id: LeaseId) -> Result<Duration, StoreError> {
        self.inner.lessor().keep_alive(id, Instant::now())
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), StoreError> {
        self.order(Job::End(id)).await.map(|_| ())
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.order(Job::Compact(revision)).await.map(|_| ())
    }

    async fn status(&self) -> Result<Status, StoreError> {
        let head = read(Arc::clone(&self.inner), |txn| {
            view::head(&txn.open_table(view::HEAD).map_err(blame)?)
        });
        let head = head.await?;
        Ok(Status {
            revision: Revision::new(head.revision),
            compacted: Revision::new(head.compacted),
            term: 0,
            led: true,
            bytes: self.inner.medium.bytes(),
            mode: self.inner.mode(),
            engine: "redb".to_owned(),
        })
    }
}

fn unexpected(answer: &Answer) -> StoreError {
    StoreError::OutcomeUnknown(format!("the writer answered something else: {answer:?}"))
}

#[cfg(test)]
mod tests {
    use redb::ReadableTableMetadata;

    use super::*;
    use crate::store::key::{Key, Value};
    use crate::store::txn::Op;

    #[tokio::test]
    async fn what_was_compacted_is_swept_out_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Redb::open(folder.path().join("store.redb")).await.unwrap();
        let put = |n: u64| Op::put(Key::new(format!("k{n}")).unwrap(), Value::default());
        let round = || (0..100).map(put).fold(Txn::new(), Txn::then);
        // More than one sweep looks at.
        for _ in 0..25 {
            store.txn(round()).await.unwrap();
        }
        let gone = Op::Delete(KeyRange::prefix(&Key::new("k1").unwrap()));
        let at = store.txn(Txn::new().then(gone)).await.unwrap().revision;
        store.txn(Txn::new().then(put(50))).await.unwrap();
        store.compact(at).await.unwrap();
        let counts = || {
            read(Arc::clone(&store.inner), |txn| {
                let head = view::head(&txn.open_table(view::HEAD).map_err(blame)?)?;
                let events = txn.open_table(view::HISTORY).map_err(blame)?;
                let versions = txn.open_table(view::VERSIONS).map_err(blame)?;
                let (events, versions) = (events.len().map_err(blame)?, versions.len().map_err(blame)?);
                Ok((head.swept == head.compacted, events, versions))
            })
        };
        while !counts().await.unwrap().0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // k1 and k10 to k19 are gone; k50 is there as it was and as it is.
        assert_eq!(counts().await.unwrap(), (true, 90, 90));
        let found = store
            .range(KeyRange::all(), ReadAt::Revision(at), 1000)
            .await
            .unwrap();
        assert_eq!(found.entries.len(), 89);
        store.close().await;
        let store = Redb::open(folder.path().join("store.redb")).await.unwrap();
        let found = store.range(KeyRange::all(), ReadAt::Latest, 1000).await.unwrap();
        assert_eq!(found.entries.len(), 89);
    }
}
