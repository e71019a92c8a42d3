//! A small world around the real loop, in virtual time: leaders that die at a chosen write, a store that outlives them,
//! proxies that are played, and messages that may come late, twice or never.
//!
//! Only the store's contents, the proxies and the operator outlive a leader, as in life. What must hold whatever happens
//! is asserted here, at every tick.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foreshade_contract::Round;
use foreshade_contract::report::{BootId, Report, Status};
use foreshade_engine::lifecycle::command::{Command, Outcome as Came};
use foreshade_engine::lifecycle::state::State;

use super::super::*;
use super::mortal::{Dies, Fate, Mortal};
use super::name;
use super::played::{Played, Sums};
use crate::config;
use crate::leader::Campaign;
use crate::store::{KeyRange, Memory, Op, Store, Txn};

/// The lease of a leader.
const TTL: Duration = Duration::from_secs(15);

/// Requests of one pair in one tick, over all proxies.
pub(super) const REQUESTS: u64 = 2_000;

/// One leader's time.
pub(super) struct Reign {
    store: Arc<Mortal>,
    leadership: Leadership,
    pub(super) reconciler: Reconciler,
    fleet: Fleet,
    /// Orders that wait in it, by key.
    given: Vec<String>,
}

/// What is on its way between a proxy and whoever leads.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Report(usize, BootId, Report),
    Status(usize, Status),
    Plan(usize, Arc<Plan>),
}

/// How messages travel in one tick.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// This one is lost.
    pub(super) lost: bool,
    /// It takes so many ticks.
    pub(super) late: u64,
    /// It comes once more, so many ticks later.
    pub(super) again: Option<u64>,
}

/// Everybody.
pub(super) struct World {
    disk: Arc<Memory>,
    fate: Arc<Mutex<Fate>>,
    spec: Spec,
    pub(super) reign: Reign,
    proxies: Vec<Played>,
    under_way: Vec<(u64, Message)>,
    pub(super) tick: u64,
    /// The wall beside the true time.
    pub(super) wall_skew_ms: i64,
    /// Requests of one pair in one tick, over all proxies.
    pub(super) requests: u64,
    /// Failures per thousand requests, by arm.
    pub(super) failing: [u64; 2],
    /// Orders that nobody has been heard to obey.
    pub(super) orders: Vec<(PairId, Order)>,
    obeyed: Vec<(PairId, String)>,
    /// Writes that have been looked at.
    checked: usize,
    /// What was written down last, by pair.
    last: BTreeMap<PairId, Kept>,
    /// Requests that were served in each round of a pair.
    served: BTreeMap<(PairId, Round), u64>,
}

async fn reign(disk: &Arc<Memory>, fate: &Arc<Mutex<Fate>>, spec: &Spec) -> Reign {
    let store = Arc::new(Mortal {
        disk: disk.clone(),
        fate: fate.clone(),
        is_dead: Mutex::new(false),
    });
    let journal = Journal::new("/foreshade");
    let campaign = Campaign::new(store.clone(), journal.leader().unwrap(), "me", TTL).unwrap();
    let leadership = campaign.win().await.unwrap();
    let kept = journal.load(disk.as_ref()).await.unwrap();
    let audit = journal.audit(disk.as_ref()).await.unwrap();
    let audited = audit.last().map_or(0, |last| last.seq);
    let reconciler = Reconciler::new(spec, &journal, (kept, audited), leadership.epoch()).unwrap();
    let mut fleet = Fleet::default();
    fleet.resume(reconciler.rounds());
    Reign {
        store,
        leadership,
        reconciler,
        fleet,
        given: Vec::new(),
    }
}

impl World {
    /// Two proxies, and a leader of what `text` configures.
    pub(super) async fn new(text: &str, dies: Option<Dies>) -> Self {
        let spec = Spec::of(&config::parse(text, "test").unwrap());
        let (disk, fate) = (Arc::new(Memory::new()), Arc::<Mutex<Fate>>::default());
        fate.lock().unwrap().dies = dies;
        let reign = reign(&disk, &fate, &spec).await;
        let proxy = |at: u64| Played {
            name: name(&format!("edge-{at}")),
            boot: BootId(at),
            plan: None,
            sums: BTreeMap::new(),
            sequence: 0,
            is_cut_off: false,
            lean: 1.0,
        };
        let mut world = Self {
            disk,
            fate,
            spec,
            reign,
            proxies: (0..2).map(proxy).collect(),
            under_way: Vec::new(),
            tick: 0,
            wall_skew_ms: 0,
            requests: REQUESTS,
            failing: [0; 2],
            orders: Vec::new(),
            obeyed: Vec::new(),
            checked: 0,
            last: BTreeMap::new(),
            served: BTreeMap::new(),
        };
        world.greet();
        world
    }

    /// The arms have other parts of the requests at each proxy.
    pub(super) fn lean(&mut self, factors: [f64; 2]) {
        for (proxy, factor) in self.proxies.iter_mut().zip(factors) {
            proxy.lean = factor;
        }
    }

    /// Requests that a pair has had in its round, and those of them that were counted in what is written down.
    pub(super) async fn counted(&self, pair: &PairId) -> (u64, u64) {
        let kept = self.kept().await.remove(pair).unwrap();
        let served = self.served.get(&(pair.clone(), kept.pair.round));
        (served.copied().unwrap_or_default(), requests(&kept))
    }

    /// How many times anything was written down.
    pub(super) fn writes(&self) -> u64 {
        self.fate.lock().unwrap().writes
    }

    fn at(&self) -> Instant {
        let wall_ms = 1_700_000_000_000 + self.tick * 250;
        Instant {
            now: Moment::from_micros(self.tick * 250_000),
            wall_ms: wall_ms.saturating_add_signed(self.wall_skew_ms),
        }
    }

    /// Every proxy connects to whoever leads.
    fn greet(&mut self) {
        let now = self.at().now;
        for proxy in self.proxies.iter().filter(|proxy| !proxy.is_cut_off) {
            let plan = proxy.plan.as_deref().map(Plan::id);
            self.reign
                .fleet
                .greet(&proxy.name, proxy.boot, plan, now)
                .unwrap();
        }
        // The link of a new leader begins with the plan, where there is one.
        if let Some(plan) = self.reign.reconciler.plan.clone() {
            for at in 0..self.proxies.len() {
                self.send(Message::Plan(at, plan.clone()), Weather::default());
            }
        }
    }

    /// The link of a proxy goes down, or comes up again.
    pub(super) fn cut_off(&mut self, at: usize, is_cut_off: bool) {
        let now = self.at().now;
        let proxy = &mut self.proxies[at];
        if std::mem::replace(&mut proxy.is_cut_off, is_cut_off) == is_cut_off {
            return;
        }
        if is_cut_off {
            let name = proxy.name.clone();
            self.reign.fleet.lose(&name, now);
        } else {
            self.greet();
        }
    }

    /// A proxy starts anew: with the plan that it has on its disk, and counting from zero.
    pub(super) fn restart(&mut self, at: usize) {
        let proxy = &mut self.proxies[at];
        proxy.boot = BootId(proxy.boot.0 + 100);
        proxy.sums.clear();
        proxy.sequence = 0;
        if !proxy.is_cut_off {
            self.greet();
        }
    }

    /// Nobody leads for so many ticks, and proxies serve by what they have.
    pub(super) async fn without_a_leader(&mut self, ticks: u64) {
        // What was under way to them when the leader died has come, or never will.
        self.deliver();
        self.under_way.clear();
        for _ in 0..ticks {
            self.tick += 1;
            tokio::time::advance(TICK).await;
            (0..self.proxies.len()).for_each(|at| self.serve(at));
        }
        self.revive().await;
    }

    /// The disk is full for so many ticks: nothing can be written, and whoever leads goes on looking.
    pub(super) async fn with_a_full_disk(&mut self, ticks: u64) {
        self.fate.lock().unwrap().is_full = true;
        let kept = self.kept().await;
        for _ in 0..ticks {
            self.tick(Weather::default).await;
        }
        assert_eq!(self.kept().await, kept);
        self.fate.lock().unwrap().is_full = false;
    }

    /// The leader is gone, whatever it was about to do; the next one finds what is written down.
    pub(super) async fn revive(&mut self) {
        let key = Journal::new("/foreshade").leader().unwrap();
        let end = Txn::new().then(Op::Delete(KeyRange::key(&key)));
        self.disk.txn(end).await.unwrap();
        let before = self.reign.leadership.epoch();
        self.reign = reign(&self.disk, &self.fate, &self.spec).await;
        assert!(self.reign.leadership.epoch() > before);
        self.fate.lock().unwrap().dies = None;
        self.meet();
    }

    /// The links of the last leader are gone, and what was said on them; every proxy connects to this one.
    fn meet(&mut self) {
        self.under_way
            .retain(|(_, message)| matches!(message, Message::Plan(..)));
        self.greet();
    }

    /// Another leader takes over while this one still believes that it leads: one more tick of the old one changes
    /// nothing.
    pub(super) async fn depose(&mut self) {
        self.fate.lock().unwrap().dies = None;
        let key = Journal::new("/foreshade").leader().unwrap();
        let end = Txn::new().then(Op::Delete(KeyRange::key(&key)));
        self.disk.txn(end).await.unwrap();
        let next = reign(&self.disk, &self.fate, &self.spec).await;
        let mut old = std::mem::replace(&mut self.reign, next);
        let (at, before) = (self.at(), self.kept().await);
        for pair in old.reconciler.pairs.keys().cloned().collect::<Vec<_>>() {
            let key = format!("too late for {pair}");
            let _ = old.reconciler.order(&pair, order(Command::Freeze, &key));
        }
        let ticked = old.reconciler.tick(&old.leadership, &mut old.fleet, at).await;
        assert!(matches!(ticked, Err(LeaderError::Deposed(_))), "{ticked:?}");
        assert_eq!(self.kept().await, before);
        self.meet();
    }

    async fn kept(&self) -> BTreeMap<PairId, Kept> {
        Journal::new("/foreshade").load(self.disk.as_ref()).await.unwrap()
    }

    /// Gives an order; it is given again to the next leader until one has obeyed it.
    pub(super) fn order(&mut self, pair: &PairId, command: Command, key: &str) {
        self.orders.push((pair.clone(), order(command, key)));
    }

    pub(super) fn state(&self, pair: &PairId) -> State {
        self.reign.reconciler.view(pair).unwrap().pair.state
    }

    pub(super) fn pairs(&self) -> Vec<PairId> {
        self.spec.pairs.iter().map(|pair| pair.id.clone()).collect()
    }

    fn send(&mut self, message: Message, weather: Weather) {
        if weather.lost {
            return;
        }
        if let Some(again) = weather.again {
            let due = self.tick + weather.late + again;
            self.under_way.push((due, message.clone()));
        }
        self.under_way.push((self.tick + weather.late, message));
    }

    /// One tick of everybody.
    pub(super) async fn tick(&mut self, mut weather: impl FnMut() -> Weather) {
        self.tick += 1;
        tokio::time::advance(TICK).await;
        for at in 0..self.proxies.len() {
            self.serve(at);
            let proxy = &mut self.proxies[at];
            proxy.sequence += 1;
            let (boot, sequence) = (proxy.boot, proxy.sequence);
            let report = Report {
                sequence,
                complete: true,
                pairs: proxy.reported(),
            };
            let status = Status {
                plan: proxy.plan.as_deref().map(Plan::id),
                ..Status::default()
            };
            self.send(Message::Status(at, status), weather());
            self.send(Message::Report(at, boot, report), weather());
        }
        self.deliver();
        self.give_orders();
        let at = self.at();
        let Reign {
            leadership,
            reconciler,
            fleet,
            ..
        } = &mut self.reign;
        let outcome = reconciler.tick(leadership, fleet, at).await.unwrap();
        let is_dead = self.reign.store.dead();
        self.check_disk().await;
        if is_dead && outcome.unwritten.is_some() {
            return self.revive().await;
        }
        self.carry_out(outcome, weather);
        if is_dead {
            self.revive().await;
        }
    }

    /// As the loop in `lead` does it: proxies first, then rounds, then answers.
    fn carry_out(&mut self, outcome: Outcome, mut weather: impl FnMut() -> Weather) {
        if let Some(plan) = outcome.plan {
            // Nobody is told what is not written down.
            for told in plan.pairs() {
                let spec = self.spec.pairs.iter().find(|spec| spec.id == told.pair).unwrap();
                let kept = self.last[&told.pair].pair.plan(&spec.policy);
                assert_eq!(kept.as_ref(), Some(told), "at tick {}", self.tick);
            }
            for at in 0..self.proxies.len() {
                self.send(Message::Plan(at, plan.clone()), weather());
            }
        }
        for transition in &outcome.transitions {
            self.reign.fleet.begin(&transition.pair, transition.round);
        }
        for (pair, answer) in outcome.answers {
            self.orders.retain(|(_, order)| order.key != answer.key);
            if answer.outcome == Came::Done {
                self.obeyed.push((pair, answer.key));
            }
        }
        self.reign.fleet.tidy(self.at().now);
    }

    fn give_orders(&mut self) {
        for (pair, order) in &self.orders {
            if !self.reign.given.contains(&order.key) {
                self.reign.reconciler.order(pair, order.clone()).unwrap();
                self.reign.given.push(order.key.clone());
            }
        }
    }

    fn deliver(&mut self) {
        let (tick, now) = (self.tick, self.at().now);
        let (due, later): (Vec<_>, Vec<_>) = self.under_way.drain(..).partition(|(due, _)| *due <= tick);
        self.under_way = later;
        for (_, message) in due {
            let (Message::Report(at, ..) | Message::Status(at, _) | Message::Plan(at, _)) = &message;
            let proxy = &mut self.proxies[*at];
            if proxy.is_cut_off {
                continue;
            }
            match message {
                Message::Report(_, boot, report) => {
                    self.reign.fleet.report((&proxy.name, boot), &report, now);
                }
                Message::Status(_, status) => self.reign.fleet.acknowledge(&proxy.name, &status, now),
                Message::Plan(_, plan) => proxy.take(plan),
            }
        }
    }

    fn serve(&mut self, at: usize) {
        let (failing, each) = (self.failing, self.requests / self.proxies.len() as u64);
        let proxy = &mut self.proxies[at];
        let Some(plan) = proxy.plan.clone() else { return };
        for planned in plan.pairs() {
            let sums = proxy.sums.entry(planned.pair.clone()).or_default();
            if sums.round != planned.round {
                *sums = Sums::of(planned.round);
            }
            sums.serve(planned, proxy.lean, failing, each);
            let served = self.served.entry((planned.pair.clone(), planned.round));
            *served.or_default() += each;
        }
    }

    /// What must hold of what is written down, whoever wrote it and whoever died.
    async fn check_disk(&mut self) {
        let writers = {
            let fate = self.fate.lock().unwrap();
            assert!(
                fate.writers.is_sorted(),
                "an older epoch wrote after a newer one: {:?}",
                fate.writers
            );
            fate.writers.len()
        };
        if std::mem::replace(&mut self.checked, writers) == writers {
            return;
        }
        for (id, kept) in self.kept().await {
            let served = self.served.get(&(id.clone(), kept.pair.round)).copied();
            let (counted, served) = (requests(&kept), served.unwrap_or_default());
            assert!(
                !is_judged(&kept) || counted <= served,
                "{id} counted {counted} of {served}"
            );
            if let Some(before) = self.last.insert(id.clone(), kept.clone()) {
                check_after(&before, &kept);
            }
        }
    }

    /// Every order that was answered as done is in the audit.
    pub(super) async fn check_audit(&self) {
        let audit = Journal::new("/foreshade")
            .audit(self.disk.as_ref())
            .await
            .unwrap();
        for (pair, key) in &self.obeyed {
            let stands = audit
                .iter()
                .any(|entry| entry.pair == *pair && entry.order.key == *key);
            assert!(stands, "{key} of {pair} was obeyed, and is not in the audit");
        }
        assert!(audit.windows(2).all(|two| two[0].seq + 1 == two[1].seq));
    }

    /// The states that a pair went through, as they are written down; a hold on the way is no other way.
    pub(super) async fn path(&self, pair: &PairId) -> Vec<State> {
        use foreshade_engine::lifecycle::state::Shifting;
        let journal = Journal::new("/foreshade");
        let records = journal.records(self.disk.as_ref(), pair).await.unwrap();
        let mut path: Vec<_> = records.iter().map(|(_, record)| record.to).collect();
        path.retain(|state| *state != State::Shifting(Shifting::Holding));
        path.dedup();
        path
    }
}

fn check_after(before: &Kept, after: &Kept) {
    let id = &after.pair.id;
    assert!(
        after.pair.round >= before.pair.round,
        "{id} fell back to an earlier round"
    );
    assert!(
        after.pair.generation >= before.pair.generation,
        "{id} fell back to an earlier generation"
    );
    assert!(
        after.pair.epoch >= before.pair.epoch,
        "{id} was written by an older leader"
    );
    assert!(after.records >= before.records, "{id} lost a record");
    if after.pair.round == before.pair.round {
        let is_kept = requests(after) >= requests(before);
        assert!(
            !is_judged(after) || is_kept,
            "{id} lost evidence: alpha would begin anew"
        );
        let is_back = matches!(before.pair.state, State::RollingBack(_) | State::Failed);
        let goes_on = matches!(
            after.pair.state,
            State::Shifting(_) | State::Promoting(_) | State::Baking | State::Committed
        );
        assert!(
            !(is_back && goes_on),
            "{id} was rolled back, and goes on without a new analysis"
        );
    }
}

/// Its evidence decides what becomes of it. Elsewhere what the judge says of the last analysis is left standing.
fn is_judged(kept: &Kept) -> bool {
    matches!(kept.pair.state, State::Shifting(_) | State::Promoting(_))
}

/// What the judge has counted in this round, of both arms.
fn requests(kept: &Kept) -> u64 {
    let judge = serde_json::to_value(&kept.judge).unwrap();
    let arms = judge["requests"].as_array().cloned().unwrap_or_default();
    arms.iter().filter_map(serde_json::Value::as_u64).sum()
}

pub(super) fn order(command: Command, key: &str) -> Order {
    Order {
        command,
        actor: "me".to_owned(),
        reason: "to see what happens".to_owned(),
        key: key.to_owned(),
        expected: None,
    }
}
