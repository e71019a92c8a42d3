//! Where operators' questions and orders wait for the leader: the API's side of the loop, and the loop's side of the API.
//!
//! The loop owns the pairs, so whoever asks writes a note and waits for its answer; between two ticks the loop reads the
//! notes. Nothing is locked, and what is shown is never half of a step. A controller that does not lead says who does.
//!
//! An order is answered when what came of it is written down, and not before: see [`Waiting`].

mod looks;
mod orders;
pub(crate) mod show;
mod undo;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use foreshade_contract::PairId;
use foreshade_engine::lifecycle::Pair;
use foreshade_engine::lifecycle::policy::Policy;
use foreshade_engine::lifecycle::sight::Sight;
use foreshade_engine::lifecycle::simulate::{Question, foretell};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::lead::wall_ms;
use crate::operator::events::EventLog;
use crate::operator::simulation::Simulation;
use crate::operator::view::{Analysis, AuditEntry, Change, Drill, Outcome, PairDetail, PairSummary};
use crate::operator::{Fault, Operator, Order, Page, Standing};

pub(crate) use self::looks::drill;
pub(crate) use self::orders::{Waiting, outcome};
pub(crate) use self::undo::served_at;

/// Notes that wait. Who writes one waits for its answer, and the API has fewer connections.
const NOTES_MAX: usize = 512;

/// Simulations at a time: each is thousands of steps, and none may take the time of those that are real.
const SIMULATIONS_MAX: usize = 1;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Fault>>;

/// What the API asks of the loop.
#[derive(Debug)]
pub(crate) enum Note {
    /// All pairs.
    Pairs(Reply<Vec<PairSummary>>),
    /// One pair.
    Pair(PairId, Reply<PairDetail>),
    /// What became of it.
    History(PairId, Page, Reply<Vec<Change>>),
    /// What the judge says.
    Analysis(PairId, Reply<Option<Analysis>>),
    /// Everything that its next steps are decided from.
    Copy(PairId, Reply<Box<Copy>>),
    /// An order.
    Command(Box<Order>, Reply<Outcome>),
    /// All drills.
    Drills(Page, Reply<Vec<Drill>>),
    /// One drill.
    Drill(u64, Reply<Drill>),
    /// Who ordered what.
    Audit(Page, Reply<Vec<AuditEntry>>),
}

impl Note {
    /// Answers without looking.
    pub(crate) fn refuse(self, fault: Fault) {
        // Whoever asked may have gone; then nobody needs an answer.
        match self {
            Self::Pairs(reply) => drop(reply.send(Err(fault))),
            Self::Pair(_, reply) => drop(reply.send(Err(fault))),
            Self::History(_, _, reply) => drop(reply.send(Err(fault))),
            Self::Analysis(_, reply) => drop(reply.send(Err(fault))),
            Self::Copy(_, reply) => drop(reply.send(Err(fault))),
            Self::Command(_, reply) => drop(reply.send(Err(fault))),
            Self::Drills(_, reply) => drop(reply.send(Err(fault))),
            Self::Drill(_, reply) => drop(reply.send(Err(fault))),
            Self::Audit(_, reply) => drop(reply.send(Err(fault))),
        }
    }
}

/// Everything that a pair's next steps are decided from, as of the last tick.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) pair: Pair,
    pub(crate) sight: Sight,
    pub(crate) policy: Arc<Policy>,
}

/// The desk, from the API's side.
#[derive(Debug)]
pub(crate) struct Desk {
    notes: mpsc::Sender<Note>,
    board: Arc<Board>,
    simulations: Arc<Semaphore>,
}

/// What is shown without asking.
#[derive(Debug)]
pub(crate) struct Board {
    /// What happens.
    pub(crate) events: EventLog,
    standing: Mutex<Standing>,
    metrics: Mutex<String>,
}

impl Desk {
    /// A desk, and the notes that arrive at it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Note>, Arc<Board>) {
        let (notes, inbox) = mpsc::channel(NOTES_MAX);
        let board = Arc::new(Board {
            events: EventLog::default(),
            standing: Mutex::new(Standing::Starting),
            metrics: Mutex::default(),
        });
        let desk = Self {
            notes,
            board: board.clone(),
            simulations: Arc::new(Semaphore::new(SIMULATIONS_MAX)),
        };
        (desk, inbox, board)
    }

    async fn ask<T>(&self, note: impl FnOnce(Reply<T>) -> Note) -> Result<T, Fault> {
        let (reply, answer) = oneshot::channel();
        self.notes.try_send(note(reply)).map_err(|_| Fault::Busy)?;
        // A loop that ended in between has lost its leadership, or the process ends.
        answer.await.unwrap_or(Err(Fault::NotLeading { leader: None }))
    }
}

impl Board {
    /// How the controller stands now.
    pub(crate) fn stand(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// How it stands.
    pub(crate) fn standing(&self) -> Standing {
        self.standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The page of metrics, as of the last second.
    pub(crate) fn show_metrics(&self, page: String) {
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = page;
    }
}

#[async_trait]
impl Operator for Desk {
    async fn pairs(&self) -> Result<Vec<PairSummary>, Fault> {
        self.ask(Note::Pairs).await
    }

    async fn pair(&self, pair: &PairId) -> Result<PairDetail, Fault> {
        self.ask(|reply| Note::Pair(pair.clone(), reply)).await
    }

    async fn history(&self, pair: &PairId, page: Page) -> Result<Vec<Change>, Fault> {
        self.ask(|reply| Note::History(pair.clone(), page, reply)).await
    }

    async fn analysis(&self, pair: &PairId) -> Result<Option<Analysis>, Fault> {
        self.ask(|reply| Note::Analysis(pair.clone(), reply)).await
    }

    async fn simulate(&self, pair: &PairId, question: Question) -> Result<Simulation, Fault> {
        let permit = Arc::clone(&self.simulations).try_acquire_owned();
        let permit = permit.map_err(|_| Fault::Busy)?;
        let copy = self.ask(|reply| Note::Copy(pair.clone(), reply)).await?;
        // Away from the threads that serve: the loop goes on meanwhile.
        let simulated = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            foretell(&copy.pair, &copy.sight, &copy.policy, wall_ms(), &question).into()
        });
        simulated.await.map_err(|_| Fault::Busy)
    }

    async fn command(&self, order: Order) -> Result<Outcome, Fault> {
        self.ask(|reply| Note::Command(Box::new(order), reply)).await
    }

    async fn drills(&self, page: Page) -> Result<Vec<Drill>, Fault> {
        self.ask(|reply| Note::Drills(page, reply)).await
    }

    async fn drill(&self, id: u64) -> Result<Drill, Fault> {
        self.ask(|reply| Note::Drill(id, reply)).await
    }

    async fn audit(&self, page: Page) -> Result<Vec<AuditEntry>, Fault> {
        self.ask(|reply| Note::Audit(page, reply)).await
    }

    fn events(&self) -> &EventLog {
        &self.board.events
    }

    fn standing(&self) -> Standing {
        self.board.standing()
    }

    fn metrics(&self) -> String {
        let page = self.board.metrics.lock();
        let page = page.unwrap_or_else(PoisonError::into_inner).clone();
        // The page is the last leader's; how it stands is asked now, or nobody would see that the store is away.
        page + &crate::metrics::standing(&self.board.standing())
    }
}
