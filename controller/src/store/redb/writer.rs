//! The thread that writes: it takes what has come meanwhile, writes it in one transaction, syncs once, and answers all.
//!
//! One thread, because redb has one writer anyway, and a sync blocks. While the disk is busy with one batch, the next one
//! gathers; so the more is written at once, the fewer syncs each write costs, without a delay that somebody has to tune.
//!
//! # When the medium fails
//!
//! redb takes no writes after an error, since it cannot know what reached the disk. So the database is closed and opened
//! again from what is there. Then the head says whether the batch came through. The store is read-only until a probe, a
//! commit of nothing, is on disk again; tried once a second, so a disk that has space again is noticed without a restart.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::audit::{Opened, audit};
use super::ledger::{Answer, Job, Ledger, begin};
use super::record::{Head, Place};
use super::{Inner, medium};
use crate::store::Mode;
use crate::store::error::StoreError;
use crate::store::key::Revision;
use redb::Database;

/// Jobs of one batch: beyond it the first ones would wait for the last ones.
const BATCH_JOBS_MAX: usize = 256;

/// How long a store that cannot write waits before it tries again.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What reaches the thread.
#[derive(Debug)]
pub(super) enum Order {
    /// To be done, and answered.
    Write(Request),
    /// Nothing comes any more: close the file.
    Stop,
}

/// A job, and who waits for it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) job: Job,
    pub(super) reply: oneshot::Sender<Result<Answer, StoreError>>,
    /// Its place in the queue; free again once it was answered.
    pub(super) place: OwnedSemaphorePermit,
}

/// The thread's state.
pub(super) struct Writer {
    pub(super) inner: Arc<Inner>,
    pub(super) orders: Receiver<Order>,
    /// As it is on disk.
    pub(super) head: Head,
    /// Where to sweep next, if there is something to sweep.
    pub(super) sweep_from: Option<Place>,
    /// Why nothing can be written.
    pub(super) broken: Option<Broken>,
    /// Whether what is open reaches the medium. Else nothing may be committed on it.
    pub(super) open_for_writing: bool,
}

/// Why a store does not write.
#[derive(Debug)]
pub(super) struct Broken {
    error: StoreError,
    probe_at: Instant,
}

impl Broken {
    /// For this reason, to be tried again at once.
    pub(super) fn new(error: StoreError) -> Self {
        Self {
            error,
            probe_at: Instant::now(),
        }
    }
}

/// Why a batch was not written.
enum Failure {
    /// One of several jobs cannot be done, and none of them was.
    OneOf(StoreError),
    /// The medium failed, or redb did.
    Medium(StoreError),
}

impl Writer {
    /// Writes until it is stopped; then closes the file.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.gather() {
            if batch.is_empty() {
                self.idle();
            } else if let Some(broken) = &self.broken {
                let error = refusal(&broken.error);
                answer(batch, |_| Err(error.clone()));
            } else {
                self.write(batch);
            }
        }
        self.inner.close();
    }

    /// The next jobs; none when there is time for something else; nothing when it is over.
    fn gather(&mut self) -> Option<Vec<Request>> {
        let patience = match &self.broken {
            Some(broken) => Some(broken.probe_at.saturating_duration_since(Instant::now())),
            None => self.sweep_from.map(|_| Duration::ZERO),
        };
        let first = match patience {
            None => self.orders.recv().ok()?,
            Some(patience) => match self.orders.recv_timeout(patience) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => return None,
            },
        };
        let mut batch = Vec::new();
        let mut order = first;
        loop {
            match order {
                Order::Write(request) => batch.push(request),
                // Whoever still waits gets no answer, which means closed.
                Order::Stop => return None,
            }
            if batch.len() == BATCH_JOBS_MAX {
                return Some(batch);
            }
            order = match self.orders.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Some(batch),
            };
        }
    }

    /// Nobody wants anything: mend what is broken, or sweep.
    fn idle(&mut self) {
        if self.broken.is_some() {
            self.mend();
        } else if let Some(from) = self.sweep_from {
            match self.commit(|ledger| ledger.sweep(from)) {
                Ok(next) => self.sweep_from = next,
                Err(error) => {
                    tracing::error!(%error, "the store cannot be swept");
                    self.sweep_from = None;
                    if !matches!(error, StoreError::Corrupt { .. }) {
                        self.fail(error);
                    }
                }
            }
        }
    }

    /// Writes a batch and answers it.
    fn write(&mut self, batch: Vec<Request>) {
        let jobs: Vec<Job> = batch.iter().map(|request| request.job.clone()).collect();
        let before = self.head;
        match self.write_jobs(&jobs) {
            Ok(answers) => {
                let mut answers = VecDeque::from(answers);
                answer(batch, |_| answers.pop_front().unwrap_or(Err(StoreError::Closed)));
            }
            // The others need not suffer for one: each by itself, then.
            Err(Failure::OneOf(_)) if batch.len() > 1 => {
                for request in batch {
                    self.write(vec![request]);
                }
            }
            Err(Failure::OneOf(error)) => answer(batch, |_| Err(error.clone())),
            Err(Failure::Medium(error)) => {
                self.fail(error.clone());
                let unwritten = self.inner.is_open() && self.head.commits == before.commits;
                let error = if unwritten {
                    refusal(&error)
                } else {
                    StoreError::OutcomeUnknown(error.to_string())
                };
                answer(batch, |_| Err(error.clone()));
            }
        }
        if self.head.compacted > before.compacted {
            // From the beginning: what was kept until now may go.
            self.sweep_from = Some((0, 0));
        }
    }

    fn write_jobs(&mut self, jobs: &[Job]) -> Result<Vec<Result<Answer, StoreError>>, Failure> {
        let answers = self.commit(|ledger| {
            jobs.iter()
                .map(|job| ledger.run(job))
                .collect::<Result<Vec<_>, _>>()
        });
        let answers = answers.map_err(|error| match error {
            StoreError::Corrupt { .. } => Failure::OneOf(error),
            error => Failure::Medium(error),
        })?;
        self.inner.note_leases(jobs, &answers);
        Ok(answers)
    }

    /// One transaction of redb, on disk when it returns. Only then watchers are told.
    fn commit<T>(
        &mut self,
        act: impl FnOnce(&mut Ledger<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        // redb can panic over pages that make no sense. Its transaction is dropped on the way out, so nothing is half done.
        let committed = catch_unwind(AssertUnwindSafe(|| {
            inner.with(|database| {
                let txn = begin(database)?;
                let mut ledger = Ledger::open(&txn)?;
                let done = act(&mut ledger)?;
                let head = ledger.close()?;
                txn.commit().map_err(super::blame)?;
                Ok((done, head))
            })
        }));
        let (done, head) = committed.unwrap_or_else(|panic| Err(gave_up(panic.as_ref())))?;
        self.head = head;
        self.inner.publish(Revision::new(head.revision));
        Ok(done)
    }

    /// The medium has failed: what can still be read, can be read; nothing is written until it has been mended.
    fn fail(&mut self, error: StoreError) {
        tracing::error!(%error, "the store takes no writes");
        self.inner.set_mode(Mode::ReadOnly(error.to_string()));
        self.broken = Some(Broken {
            error,
            probe_at: Instant::now() + PROBE_EVERY,
        });
        self.open_for_writing = self.reopen();
    }

    /// Opens the database again from what is on the medium; where that takes no writes at all, for reading. What may not be
    /// on disk is not shown to readers: then there is nothing to read until the medium is mended. Says whether it can be
    /// written to.
    fn reopen(&mut self) -> bool {
        let inner = Arc::clone(&self.inner);
        let (medium, cache_bytes) = (inner.medium.as_ref(), inner.cache_bytes);
        // In one step: a reader between two would find nothing, though there is something to read.
        let opened = inner.replace(|| {
            let for_writing = open_and_audit(|| medium::open(medium, cache_bytes));
            if let Ok((database, opened)) = for_writing {
                return Ok((database, (opened.head, true)));
            }
            let (database, opened) = open_and_audit(|| medium::open_untouched(medium, cache_bytes))?;
            if opened.head.commits > self.head.commits {
                let why = "whether the last write is on disk is not known";
                return Err(StoreError::Unavailable(why.to_owned()));
            }
            Ok((database, (opened.head, false)))
        });
        match opened {
            Ok((head, for_writing)) => {
                self.head = head;
                for_writing
            }
            Err(error) => {
                tracing::error!(%error, "the store cannot be opened again");
                false
            }
        }
    }

    /// Tries whether the medium takes writes again. What had come through unnoticed is on disk after that, and watchers
    /// may know it.
    fn mend(&mut self) {
        if !self.open_for_writing && !self.reopen() {
            if let Some(broken) = &mut self.broken {
                broken.probe_at = Instant::now() + PROBE_EVERY;
            }
            return;
        }
        self.open_for_writing = true;
        match self.commit(|_| Ok(())) {
            Ok(()) => {
                tracing::info!("the store takes writes again");
                self.broken = None;
                self.sweep_from = self.head.unswept();
                self.inner.set_mode(Mode::Writable);
            }
            Err(error) => self.fail(error),
        }
    }
}

fn answer(batch: Vec<Request>, mut with: impl FnMut(&Job) -> Result<Answer, StoreError>) {
    for Request { job, reply, place } in batch {
        // Whoever asked may have gone; what he asked for was done all the same.
        let _ = reply.send(with(&job));
        drop(place);
    }
}

/// What a job gets that was not written.
fn refusal(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full(_) | StoreError::Unavailable(_) => error.clone(),
        other => StoreError::Unavailable(other.to_string()),
    }
}

/// Opens a database and looks at all of it. redb can panic over pages that make no sense.
pub(super) fn open_and_audit(
    open: impl FnOnce() -> Result<Database, StoreError>,
) -> Result<(Database, Opened), StoreError> {
    let opening = || {
        let database = open()?;
        let opened = audit(&database)?;
        Ok((database, opened))
    };
    catch_unwind(AssertUnwindSafe(opening)).unwrap_or_else(|panic| Err(gave_up(panic.as_ref())))
}

fn gave_up(panic: &(dyn std::any::Any + Send)) -> StoreError {
    StoreError::Unavailable(format!("redb gave up: {}", words(panic)))
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it did not say why")
}
