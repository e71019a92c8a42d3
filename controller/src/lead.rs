//! A controller's life: it waits to lead, leads until it is deposed or has to end, and waits again.
//!
//! Whoever leads has its own links: proxies that are connected to one that was deposed are let go, and find the new one.
//! The loop below is the only one that changes anything. In each turn it does one thing: hear a proxy, answer an operator,
//! hear a gate, or take a tick.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foreshade_engine::lifecycle::command::Command;
use foreshade_engine::moment::Moment;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant as Clock, MissedTickBehavior, interval, sleep};

use crate::desk::{self, Board, Note, Waiting};
use crate::fleet::Fleet;
use crate::journal::{Journal, JournalError};
use crate::leader::{Campaign, Deposed, LeaderError, Leadership, current};
use crate::link::{Arrival, Arrived, Links};
use crate::operator::view::Outcome as Settled;
use crate::operator::{Fault, Order, Standing};
use crate::outside::{Heard, Outside};
use crate::reconcile::{Instant, OrderError, Outcome, Reconciler, TICK};
use crate::spec::Spec;
use crate::store::{Certainty, Key, Mode, Store, StoreError};

/// Things that proxies said and nobody has heard yet. A full queue makes them wait, and they drop what is oldest.
const ARRIVALS_MAX: usize = 4096;

/// How often metrics are written anew, in ticks.
const METRICS_TICKS: u32 = 4;

/// How often a store that could not be written is asked whether it could be again, in ticks.
const STORE_TICKS: u32 = 4;

/// How long to wait before the leadership is tried for again after the store failed.
const PAUSE: Duration = Duration::from_secs(1);

/// What a controller is made of.
pub struct Controller {
    /// What it was told.
    pub spec: Spec,
    /// Where everything lives.
    pub store: Arc<dyn Store>,
    /// What is written down, and where.
    pub journal: Journal,
    /// Its name among candidates.
    pub who: String,
    /// How long its lease lives.
    pub ttl: Duration,
    /// What operators ask.
    pub(crate) notes: mpsc::Receiver<Note>,
    /// What they are shown.
    pub(crate) board: Arc<Board>,
    /// How links are made: an epoch's links are no other's.
    pub(crate) links: Box<dyn LinkMaker>,
    /// Who is asked and told outside.
    pub(crate) outside: Outside,
    /// Turned true, it ends.
    pub(crate) ending: watch::Receiver<bool>,
}

/// Opens the links of an epoch.
pub(crate) trait LinkMaker: Send {
    /// Links that serve until the task set is dropped.
    fn open(
        &self,
        epoch: foreshade_contract::Epoch,
        arrivals: mpsc::Sender<Arrival>,
        tasks: &mut JoinSet<()>,
    ) -> Links;
}

/// Why a controller cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The store does not hold what a controller keeps.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration cannot be followed.
    #[error(transparent)]
    Policy(#[from] foreshade_engine::verdict::PolicyError),
}

impl Fatal {
    /// Whether waiting helps after all: a store that is away comes back, what it holds does not change by itself.
    fn passes(&self) -> bool {
        match self {
            Self::Store(error) | Self::Journal(JournalError::Store(error)) => {
                error.certainty() != Certainty::Refused
            }
            Self::Journal(JournalError::Unreadable { .. }) | Self::Policy(_) => false,
        }
    }
}

/// Why it leads no longer.
enum End {
    /// It was deposed.
    Deposed(Deposed),
    /// The process ends.
    Asked,
}

impl Controller {
    /// Runs until it is to end.
    ///
    /// # Errors
    /// What does not go away by waiting.
    pub async fn run(mut self) -> Result<(), Fatal> {
        let key = self.journal.leader()?;
        let campaign = Campaign::new(self.store.clone(), key.clone(), &self.who, self.ttl)?;
        loop {
            let Some(leadership) = self.follow(&campaign, &key).await? else {
                return Ok(());
            };
            tracing::info!(epoch = %leadership.epoch(), who = self.who, "this controller leads");
            let ended = match self.lead(&leadership).await {
                Ok(End::Deposed(why)) => {
                    tracing::warn!(%why, "this controller leads no longer");
                    continue;
                }
                Ok(End::Asked) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = leadership.resign().await {
                tracing::warn!(%error, "the lease ends by itself");
            }
            match ended {
                Err(error) if error.passes() => {
                    tracing::warn!(%error, "this controller cannot lead now, and tries again");
                    sleep(PAUSE).await;
                }
                ended => return ended,
            }
        }
    }

    /// Waits for the leadership, and tells operators who has it. `None` when the process ends.
    async fn follow(&mut self, campaign: &Campaign, key: &Key) -> Result<Option<Leadership>, Fatal> {
        let won = campaign.win();
        tokio::pin!(won);
        let mut look = interval(PAUSE);
        let mut leader = None;
        loop {
            tokio::select! {
                won = &mut won => return Ok(Some(won?)),
                _ = self.ending.wait_for(|ending| *ending) => return Ok(None),
                _ = look.tick() => {
                    leader = current(self.store.as_ref(), key).await.ok().flatten().map(|leader| leader.who);
                    self.board.stand(Standing::Following { leader: leader.clone() });
                }
                Some(note) = self.notes.recv() => note.refuse(Fault::NotLeading { leader: leader.clone() }),
            }
        }
    }

    /// Leads.
    async fn lead(&mut self, leadership: &Leadership) -> Result<End, Fatal> {
        self.board.stand(Standing::Starting);
        let kept = self.journal.load(self.store.as_ref()).await?;
        let audited = self
            .journal
            .audit(self.store.as_ref())
            .await?
            .last()
            .map_or(0, |last| last.seq);
        let epoch = leadership.epoch();
        let mut tasks = JoinSet::new();
        let (arrivals, mut arrived) = mpsc::channel(ARRIVALS_MAX);
        let mut reign = Reign {
            reconciler: Reconciler::new(&self.spec, &self.journal, (kept, audited), epoch)?,
            fleet: Fleet::default(),
            links: self.links.open(epoch, arrivals, &mut tasks),
            waiting: Waiting::default(),
            begun: Clock::now(),
            ticks: 0,
        };
        reign.fleet.resume(reign.reconciler.rounds());
        self.board.stand(Standing::Leading);
        let mut tick = interval(TICK);
        // After a pause the controller goes on from now; what it missed it has not seen.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ending = self.ending.clone();
        loop {
            tokio::select! {
                biased;
                why = leadership.deposed() => return Ok(End::Deposed(why)),
                _ = ending.wait_for(|ending| *ending) => return Ok(End::Asked),
                _ = tick.tick() => {
                    let at = reign.now();
                    match reign.reconciler.tick(leadership, &mut reign.fleet, at).await {
                        Ok(outcome) => {
                            let is_written = outcome.unwritten.is_none();
                            self.carry_out(&mut reign, outcome, at);
                            if is_written && reign.ticks.is_multiple_of(STORE_TICKS) {
                                self.ask_whether_writable().await;
                            }
                        }
                        Err(LeaderError::Deposed(why)) => return Ok(End::Deposed(why)),
                        Err(LeaderError::Store(error)) => return Err(error.into()),
                    }
                }
                Some(note) = self.notes.recv() => self.answer(&mut reign, note).await,
                Some(arrival) = arrived.recv() => reign.hear(arrival),
                Some(heard) = self.outside.answered() => self.hear_gate(&mut reign, heard),
            }
        }
    }

    /// Tells everybody what a tick came to: the proxies first.
    fn carry_out(&mut self, reign: &mut Reign, mut outcome: Outcome, at: Instant) {
        if let Some(plan) = outcome.plan.take()
            && let Err(error) = reign.links.publish(plan)
        {
            tracing::error!(%error, "the plan is not published");
        }
        for transition in &outcome.transitions {
            reign.fleet.begin(&transition.pair, transition.round);
        }
        for (pair, answer) in &outcome.answers {
            if let Some(view) = reign.reconciler.view(pair) {
                reign.waiting.answer(&view, answer);
            }
        }
        self.outside.tell(&outcome, &reign.reconciler, &self.board.events);
        self.outside
            .ask(&reign.reconciler, &self.board.events, at.wall_ms);
        match outcome.unwritten {
            Some(why) => {
                for (pair, key) in reign.waiting.give_up(&why) {
                    reign.reconciler.forget(&pair, &key);
                }
                self.board.stand(Standing::ReadOnly { why });
            }
            None if matches!(self.board.standing(), Standing::ReadOnly { .. }) && outcome.wrote => {
                self.board.stand(Standing::Leading);
            }
            None => {}
        }
        reign.fleet.tidy(at.now);
        if reign.ticks.is_multiple_of(METRICS_TICKS) {
            self.board.show_metrics(crate::metrics::page(
                &reign.reconciler,
                &reign.fleet,
                &self.outside,
            ));
        }
        reign.ticks = reign.ticks.wrapping_add(1);
    }

    /// Where something could not be written and there is nothing more to write, the store itself knows when it could again:
    /// a controller that says that it is not ready is given no orders.
    async fn ask_whether_writable(&self) {
        if !matches!(self.board.standing(), Standing::ReadOnly { .. }) {
            return;
        }
        let status = self.store.status().await;
        if status.is_ok_and(|status| status.mode == Mode::Writable) {
            self.board.stand(Standing::Leading);
        }
    }

    /// The hook of a gate has answered. What it was asked about may be past: then nobody wants to know any more.
    fn hear_gate(&self, reign: &mut Reign, heard: Heard) {
        let Some(view) = reign.reconciler.view(&heard.pair) else {
            return;
        };
        if heard.about != (view.pair.generation, view.pair.round) {
            return;
        }
        self.outside.opened(&view, &heard, &self.board.events, wall_ms());
        reign.reconciler.gate(&heard.pair, &heard.gate, heard.answer);
    }

    /// An undo to a generation becomes the order that leads to whoever served then.
    async fn led_back(&self, reign: &Reign, order: &mut Order) -> Result<(), Fault> {
        let Some(generation) = order.to else {
            return Ok(());
        };
        let unreadable = |error: JournalError| Fault::ReadOnly(error.to_string());
        let records = self.journal.records(self.store.as_ref(), &order.pair).await;
        let records = records.map_err(unreadable)?;
        let unknown = || Fault::UnknownPair(order.pair.clone());
        let view = reign.reconciler.view(&order.pair).ok_or_else(unknown)?;
        let serving = desk::served_at(view.pair, &records, generation)?;
        order.command = Command::UndoTo { generation, serving };
        Ok(())
    }

    async fn answer(&self, reign: &mut Reign, note: Note) {
        match note {
            Note::Command(mut order, reply) => match self.led_back(reign, &mut order).await {
                Ok(()) => reign.order(*order, reply),
                Err(fault) => drop(reply.send(Err(fault))),
            },
            note => reign.look(note, &self.journal, self.store.as_ref()).await,
        }
    }
}

/// The time of one leader.
pub(crate) struct Reign {
    pub(crate) reconciler: Reconciler,
    pub(crate) fleet: Fleet,
    links: Links,
    waiting: Waiting,
    begun: Clock,
    ticks: u32,
}

impl Reign {
    fn now(&self) -> Instant {
        let us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        Instant {
            now: Moment::from_micros(us),
            wall_ms: wall_ms(),
        }
    }

    /// A proxy has said something.
    fn hear(&mut self, arrival: Arrival) {
        let now = self.now().now;
        let proxy = &arrival.proxy;
        match arrival.what {
            Arrived::Joined(plan) => {
                if let Err(error) = self.fleet.greet(proxy, arrival.boot, plan, now) {
                    tracing::warn!(%proxy, %error, "a proxy is not listened to");
                }
            }
            Arrived::Report(report) => self.fleet.report((proxy, arrival.boot), &report, now),
            Arrived::Status(status) => self.fleet.acknowledge(proxy, &status, now),
            Arrived::Left => self.fleet.lose(proxy, now),
        }
    }

    /// How many proxies there are, and how many follow.
    pub(crate) fn proxies(&self) -> (usize, usize, usize) {
        self.fleet.counts(self.reconciler.plan_id(), self.now().now)
    }

    fn order(&mut self, order: Order, reply: desk::Reply<Settled>) {
        if let Some(refused) = self.consider(&order) {
            let _ = reply.send(refused);
            return;
        }
        let verb = order.command.verb();
        match self.reconciler.order(&order.pair, order.for_lifecycle()) {
            Ok(()) => self.waiting.add(order.pair, order.key, verb, reply),
            Err(OrderError::Unknown) => drop(reply.send(Err(Fault::UnknownPair(order.pair)))),
            Err(OrderError::Full) => drop(reply.send(Err(Fault::Busy))),
        }
    }

    /// What can be said to an order without carrying it out.
    fn consider(&self, order: &Order) -> Option<Result<Settled, Fault>> {
        if !order.dry_run {
            return None;
        }
        let (pair, answer) = self
            .reconciler
            .rehearse(&order.pair, order.for_lifecycle(), wall_ms())?;
        let verb = order.command.verb();
        Some(match answer {
            Some(answer) => desk::outcome(&pair, verb, &answer, true),
            None => Err(Fault::NotNow(
                "something more urgent is to be done first; try again".to_owned(),
            )),
        })
    }
}

/// What the wall shows, in milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
