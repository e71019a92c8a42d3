//! Copies of requests whose answers no user sees: sent elsewhere, compared with what the user got, and thrown away.
//!
//! Three promises decide the shape. *Users never wait*: a worker tees what passes anyway (a body's pieces are shared, not
//! copied) into bounded queues, and where one is full the copy is given up and counted, not the request held. *A sick
//! target costs its copies only*: they are sent by a thread of their own, from a pool, with timeouts and limits of their
//! own; the worker's share of the work ends when it has handed over. *A copy is the truth about a request*: it begins
//! when the head goes out to an endpoint, so that it is of what the endpoint got and not of what was refused, and once
//! per request, whatever is retried.
//!
//! In the order in which a copy meets them: `rule` (is this request to be copied?), [`Tee`] (the worker's end), `head`
//! (what the target gets), `feed` (its body), `copier` (the thread), `fingerprint` (what an answer was), `compare` and
//! `json` (where two differ), `noise` (what that says), `lane` (what is remembered). Nothing of this feeds the risk
//! model: a copy is not a user, and a target that was never meant to serve this traffic must not look sick by it.
//!
//! Cold: a copy opens a connection; noise is unknown, and differences count as unclear. Idle: the thread sleeps. Burst:
//! the rate, the concurrency and the memory are capped for the process, each with a reason under which the surplus is
//! counted.
// Concept: store-stream

mod rule;

mod tee;

mod head;

mod feed;

mod limits;

mod copier;

mod pool;

mod fingerprint;

mod compare;

mod json;

mod shown;

mod noise;

mod lane;

use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::{Mirrored, Name, Round};
use foreshade_engine::moment::Moment;
use tokio::sync::{mpsc, oneshot};

pub use self::copier::run;
pub use self::lane::{FieldView, LaneView, Pairs, Quantiles, Sides, View};
pub use self::limits::HELD_BYTES_MAX;
use self::limits::Limits;
use self::rule::Slot;
pub use self::rule::{Reason, Rule, is_safe};
pub use self::tee::{Primary, Tee};
use crate::upstream::connect::To;

/// Copies that may wait for the mirror's thread to take them up. It takes up one in microseconds.
const JOBS_MAX: usize = 512;

/// Copies with a body that may wait. They are taken up at once.
const BODIES_MAX: usize = 64;

/// Questions of operators that may wait.
const QUESTIONS_MAX: usize = 16;

/// Which comparison a copy belongs to: a primary and its shadow, or a cluster and another one. The configuration bounds
/// how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey {
    /// The cluster that serves the users.
    pub cluster: Name,
    /// The primary, where the target is its shadow.
    pub primary: Option<Name>,
    /// The shadow, or the other cluster.
    pub target: Name,
}

/// Where a copy goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The endpoint.
    pub to: To,
    /// Its idle connections are closed after this.
    pub idle_timeout: Duration,
}

/// What a copy is a sample of, for the judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The round of the pair when the head goes out; none where no plan speaks of it.
    pub round: Option<Round>,
    /// The probability with which it was to go to a primary, in millionths; none where that was not left to chance.
    pub coin: Option<u32>,
}

/// A copy that was decided: by which rule, where to, and what it will be compared in.
#[derive(Clone, Debug)]
pub struct Errand {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The comparison.
    pub lane: LaneKey,
    /// The destination.
    pub target: Target,
    /// Whether it goes to a primary, to learn what differs between two good answers.
    pub control: bool,
    /// What it says something of.
    pub sample: Sample,
    /// When the head goes out to the endpoint that serves the user.
    pub now: Moment,
}

/// A copy on its way to the mirror's thread.
#[derive(Debug)]
struct Job {
    rule: Arc<Rule>,
    lane: LaneKey,
    target: Target,
    control: bool,
    sample: Sample,
    head: head::Head,
    body: Option<feed::Pieces>,
    primary: oneshot::Receiver<Primary>,
    slot: Slot,
}

/// The workers' way to the mirror. Clones lead to the same one.
#[derive(Clone, Debug)]
pub struct Mirror {
    jobs: mpsc::Sender<Box<Job>>,
    bodies: mpsc::Sender<Box<Job>>,
    limits: Arc<Limits>,
}

/// The operators' way to the mirror.
#[derive(Clone, Debug)]
pub struct Questions(mpsc::Sender<Question>);

/// What the mirror's thread may be asked.
#[derive(Debug)]
enum Question {
    /// What it has seen so far.
    View(oneshot::Sender<View>),
    /// What it has counted of pairs since it was asked this last.
    News(oneshot::Sender<News>),
}

/// What was counted of copies that went to the shadow of an endpoint in one round, since it was told last.
pub type News = Vec<(LaneKey, Round, Mirrored)>;

/// What the mirror's thread listens to.
#[derive(Debug)]
pub struct Inputs {
    jobs: mpsc::Receiver<Box<Job>>,
    bodies: mpsc::Receiver<Box<Job>>,
    questions: mpsc::Receiver<Question>,
    limits: Arc<Limits>,
}

/// A mirror that is not running yet: give the inputs to [`run`], on a thread of its own.
pub fn channel() -> (Mirror, Questions, Inputs) {
    let (jobs, jobs_in) = mpsc::channel(JOBS_MAX);
    let (bodies, bodies_in) = mpsc::channel(BODIES_MAX);
    let (ask, questions) = mpsc::channel(QUESTIONS_MAX);
    let limits = Arc::<Limits>::default();
    let inputs = Inputs {
        jobs: jobs_in,
        bodies: bodies_in,
        questions,
        limits: limits.clone(),
    };
    let mirror = Mirror { jobs, bodies, limits };
    (mirror, Questions(ask), inputs)
}

impl Questions {
    /// What the mirror has seen so far. `None` if its thread is gone or too busy to be asked.
    pub async fn view(&self) -> Option<View> {
        let (to, answer) = oneshot::channel();
        self.0.try_send(Question::View(to)).ok()?;
        answer.await.ok()
    }

    /// What the mirror has counted since it was asked this last. Nothing if its thread is gone or too busy; then it is told
    /// the next time.
    pub async fn news(&self) -> News {
        let (to, answer) = oneshot::channel();
        match self.0.try_send(Question::News(to)) {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => News::new(),
        }
    }
}

impl Mirror {
    /// Begins a copy of a request whose head goes out now. `has_body` says whether a body will follow.
    ///
    /// # Errors
    /// Why there is no copy.
    pub fn begin(
        &self,
        errand: Errand,
        request: &http::request::Parts,
        has_body: bool,
    ) -> Result<Box<Tee>, Reason> {
        let Errand {
            rule,
            lane,
            target,
            control,
            sample,
            now,
        } = errand;
        let head = head::Head::of(request, &rule, has_body)?;
        let slot = Slot::take(&rule, &self.limits)?;
        rule.take_turn(now)?;
        let (feed, body) = feed::channel(has_body, head.length, &rule, &self.limits);
        let (tell, primary) = oneshot::channel();
        let job = Job {
            rule,
            lane,
            target,
            control,
            sample,
            head,
            body,
            primary,
            slot,
        };
        let way = if has_body { &self.bodies } else { &self.jobs };
        way.try_send(Box::new(job)).map_err(|_| Reason::Queue)?;
        Ok(Box::new(Tee::new(feed, tell, now, self.limits.clone())))
    }
}
