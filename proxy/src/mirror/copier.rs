//! The mirror's thread: it sends copies, reads their answers, and has them compared.
//!
//! One task per copy, as many as there are slots; a copy that waits for its target costs a task and a socket and holds up
//! nobody. Its target may be slow: it has the rule's timeout to take the next piece of the request, and again from the
//! request's last byte to the answer's. The verdict needs both sides, so the copy then waits as long for what the
//! endpoint did.
//!
//! Waking a thread costs more than what a copy makes it do, above all the worker that it takes the processor from. So while
//! there is work it is done by turns: at each, all copies that have come are begun, and all that have both their answers
//! are settled; between two, workers find nobody to wake. Only a copy whose body is on its way is begun at once.
//!
//! The tasks are the runtime's own and not those of a `LocalSet`, which wakes its thread once more for each of their
//! events; the locks that this takes are never contended.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::body::Body;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::feed::{CopyBody, Waiting};
use super::fingerprint::Recording;
use super::lane::{Book, Finished, View};
use super::limits::Limits;
use super::pool::{self, Connection, Pool};
use super::rule::Slot;
use super::tee::{AnswerIn, Primary};
use super::{Inputs, Job, LaneKey, Question, Sample, Target};

/// Between two turns. Long enough for several copies at a thousand per second, short beside what a request takes.
const TURN: Duration = Duration::from_millis(5);

/// How often a copy that waits for its target looks up: whether it has been given up, and whether it has waited too long.
const LOOK: Duration = Duration::from_millis(50);

/// The target did nothing for too long.
const TIMEOUT: &str = "timeout";

/// A kept connection broke.
const STALE: &str = "stale";

/// What the thread owns.
#[derive(Debug)]
struct Copier {
    pool: Mutex<Pool>,
    book: Mutex<Book>,
    halves: Mutex<Vec<Half>>,
    /// There is one more of them.
    ended: Notify,
    limits: Arc<Limits>,
}

/// A copy that has ended at its target.
#[derive(Debug)]
struct Half {
    lane: LaneKey,
    path: String,
    control: bool,
    anonymous: bool,
    learning: bool,
    sample: Sample,
    answered: Result<AnswerIn, &'static str>,
    primary: oneshot::Receiver<Primary>,
    seen: Option<Primary>,
    /// How long the endpoint is waited for.
    until: Instant,
    slot: Slot,
}

/// Runs the mirror until no worker is left. Wants a runtime of its own, of one thread.
pub async fn run(mut inputs: Inputs) {
    let copier = Arc::new(Copier {
        pool: Mutex::default(),
        book: Mutex::default(),
        halves: Mutex::default(),
        ended: Notify::new(),
        limits: inputs.limits.clone(),
    });
    let mut tidy_at = Instant::now() + pool::TIDY;
    loop {
        let mut awake = false;
        tokio::select! {
            biased;
            Some(job) = inputs.bodies.recv() => {
                copier.begin(job);
                awake = true;
            }
            job = inputs.jobs.recv() => match job {
                Some(job) => {
                    copier.begin(job);
                    awake = true;
                }
                None => return,
            },
            () = copier.ended.notified() => awake = true,
            Some(question) = inputs.questions.recv() => copier.answer(question),
            () = sleep_until(tidy_at) => {}
        }
        while awake {
            let turn = sleep(TURN);
            tokio::pin!(turn);
            loop {
                tokio::select! {
                    biased;
                    Some(job) = inputs.bodies.recv() => copier.begin(job),
                    () = &mut turn => break,
                }
            }
            let Some(began) = copier.begin_all(&mut inputs) else {
                return;
            };
            awake = copier.settle() || began;
            if Instant::now() >= tidy_at {
                break;
            }
        }
        if Instant::now() >= tidy_at {
            locked(&copier.pool).tidy();
            tidy_at = Instant::now() + pool::TIDY;
        }
    }
}

/// The thread has these locks to itself; whoever panicked with one left it in order.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Copier {
    fn begin(self: &Arc<Self>, job: Box<Job>) {
        tokio::spawn(self.clone().carry(job));
    }

    /// Takes up what has come since the last turn. Whether there was anything; `None` once no worker is left.
    fn begin_all(self: &Arc<Self>, inputs: &mut Inputs) -> Option<bool> {
        let mut began = false;
        loop {
            match inputs.jobs.try_recv() {
                Ok(job) => self.begin(job),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
            }
            began = true;
        }
        while let Ok(question) = inputs.questions.try_recv() {
            self.answer(question);
        }
        Some(began)
    }

    /// Settles the copies whose endpoint has answered as well. Whether some still wait.
    fn settle(&self) -> bool {
        let mut halves = locked(&self.halves);
        let now = Instant::now();
        let mut at = 0;
        while let Some(half) = halves.get_mut(at) {
            match half.seen.take().map_or_else(|| half.primary.try_recv(), Ok) {
                Ok(primary) => self.enter(halves.swap_remove(at), primary),
                // Given up, and counted, by the worker.
                Err(TryRecvError::Closed) => drop(halves.swap_remove(at)),
                Err(TryRecvError::Empty) if half.until <= now => {
                    let half = halves.swap_remove(at);
                    locked(&self.book).lost(&half.lane, "primary_slow");
                }
                Err(TryRecvError::Empty) => at += 1,
            }
        }
        !halves.is_empty()
    }

    fn enter(&self, half: Half, primary: Primary) {
        let mut book = locked(&self.book);
        if half.answered.as_ref().is_err_and(|why| *why == STALE) {
            return book.lost(&half.lane, STALE);
        }
        book.enter(Finished {
            lane: half.lane,
            path: half.path,
            control: half.control,
            anonymous: half.anonymous,
            learning: half.learning,
            sample: half.sample,
            primary,
            target: half.answered,
        });
        drop(half.slot);
    }

    /// One copy, from its request to its answer.
    async fn carry(self: Arc<Self>, job: Box<Job>) {
        let job = *job;
        let (patience, learning) = (job.rule.policy().timeout, job.rule.policy().noise.value() > 0.0);
        let (path, anonymous) = (job.head.path().to_owned(), job.head.anonymous);
        let waiting = Waiting::new(Instant::now());
        // What a worker has sent to an endpoint can be sent again.
        let Some(request) = job.head.request(CopyBody::new(job.body, waiting.clone())) else {
            return locked(&self.book).lost(&job.lane, "unsuited");
        };
        let (mut primary, mut seen) = (job.primary, None);
        let answered = {
            let mut exchange = pin!(self.exchange(&job.target, request));
            loop {
                tokio::select! {
                    biased;
                    answered = &mut exchange => break answered,
                    () = sleep(LOOK.min(patience)) => {}
                }
                if seen.is_none() {
                    match primary.try_recv() {
                        Ok(done) => seen = Some(done),
                        // Given up, and counted, by the worker.
                        Err(TryRecvError::Closed) => return,
                        Err(TryRecvError::Empty) => {}
                    }
                }
                if waiting.since().is_some_and(|since| since.elapsed() >= patience) {
                    break Err(TIMEOUT);
                }
            }
        };
        if answered.as_ref().is_err_and(|why| *why == TIMEOUT) && seen.is_none() {
            // Neither has answered: the request may be one that takes so long.
            return locked(&self.book).lost(&job.lane, "both_slow");
        }
        let half = Half {
            lane: job.lane,
            path,
            control: job.control,
            anonymous,
            learning,
            sample: job.sample,
            answered,
            primary,
            seen,
            until: Instant::now() + patience,
            slot: job.slot,
        };
        locked(&self.halves).push(half);
        self.ended.notify_one();
    }

    /// Sends a request and reads its answer to the end.
    async fn exchange(&self, target: &Target, request: Request<CopyBody>) -> Result<AnswerIn, &'static str> {
        let kept = locked(&self.pool).take(&target.to);
        let (mut connection, reused) = match kept {
            Some(connection) => (connection, true),
            None => (pool::connect(target).await?, false),
        };
        let mut sent = Instant::now();
        let mut response = send(&mut connection, request).await;
        if let Err((_, Some(unsent))) = response {
            connection = pool::connect(target).await?;
            sent = Instant::now();
            response = send(&mut connection, unsent).await;
        }
        let response = response.map_err(|(error, _)| label(&error, reused))?;
        let latency = sent.elapsed();
        let (head, mut body) = response.into_parts();
        let mut recording = Recording::new(head.status, &head.headers, &self.limits);
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let frame = frame.map_err(|error| label(&error, false))?;
            if let Ok(piece) = frame.into_data() {
                recording.piece(&piece);
            }
        }
        locked(&self.pool).keep(target, connection);
        let answer = recording.finish();
        Ok(AnswerIn { answer, latency })
    }

    /// Nobody may be waiting any more.
    fn answer(&self, question: Question) {
        match question {
            Question::View(to) => drop(to.send(self.view())),
            Question::News(to) => {
                let mut book = locked(&self.book);
                if to.send(book.untold()).is_ok() {
                    book.told();
                }
            }
        }
    }

    fn view(&self) -> View {
        View {
            under_way: self.limits.under_way(),
            held_bytes: self.limits.held(),
            lanes: locked(&self.book).views(),
        }
    }
}

type Unsent = Option<Request<CopyBody>>;

/// The head of the answer, or why there is none and the request, if nothing of it was sent.
async fn send(
    connection: &mut Connection,
    request: Request<CopyBody>,
) -> Result<hyper::Response<hyper::body::Incoming>, (hyper::Error, Unsent)> {
    let sender = &mut connection.sender;
    if let Err(error) = sender.ready().await {
        return Err((error, Some(request)));
    }
    sender.try_send_request(request).await.map_err(|mut error| {
        let unsent = error.take_message();
        (error.into_error(), unsent)
    })
}

/// Under which label a failure of the target counts. What breaks on a kept connection before the head of an answer may be
/// the end of its idle time, and says nothing.
fn label(error: &hyper::Error, reused: bool) -> &'static str {
    if error.is_parse() {
        "garbage"
    } else if reused {
        STALE
    } else {
        "reset"
    }
}
