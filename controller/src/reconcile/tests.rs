//! The loop with a real store and real leadership, and proxies that are played: what a bad shadow, a crash, a full disk and
//! a deposed leader come to.

mod drills;
mod matrix;
mod mirrors;
mod mortal;
mod outage;
mod played;
mod seeds;
mod world;

use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::histogram::Histogram;
use foreshade_contract::report::{
    ArmCounters, BootId, Health as Seen, Mirrored, PairReport, Report, Segment, Status, Unapplied,
};
use foreshade_contract::{Arm, Name, Share};
use foreshade_engine::lifecycle::Mode;
use foreshade_engine::lifecycle::command::{Command, Outcome as Came};
use foreshade_engine::lifecycle::state::{Shifting, State};
use foreshade_engine::verdict::JudgePolicy;

use super::*;
use crate::leader::Campaign;
use crate::store::{Memory, Store};

mod placing;

/// What one arm does to requests: how many per tick, and how many of them fail.
type Does = (u64, u64);

/// A leader, one played proxy, and the pair shop/a.
struct Play {
    store: Arc<Memory>,
    leadership: Leadership,
    reconciler: Reconciler,
    fleet: Fleet,
    id: PairId,
    tick: u64,
    sums: [ArmCounters; 2],
    segments: Vec<Segment>,
    latency: [Histogram; 2],
    /// What each tick's copies to the shadow come to, and their sums.
    copies: Mirrored,
    copied: Mirrored,
    round: foreshade_contract::Round,
    spec: Spec,
    /// What the proxy sees of the shadow.
    shadow_is: Seen,
    /// What it has moved there by itself.
    moved: Share,
    /// Shadows that its configuration does not have.
    unknown: Vec<Name>,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn spec() -> Spec {
    Spec {
        pairs: vec![PairSpec {
            id: pair(),
            shadow: Some(name("a-standby")),
            ground: None,
            mode: Mode::Live,
            policy_name: name("default"),
            policy: Arc::default(),
            judge: Arc::new(JudgePolicy::default()),
            windows: Vec::new(),
            timetable: Arc::default(),
            hooks: std::collections::HashMap::new(),
        }],
        groups: Vec::new(),
    }
}

fn pair() -> PairId {
    PairId {
        cluster: name("shop"),
        primary: name("a"),
    }
}

async fn lead(store: &Arc<Memory>, spec: &Spec) -> (Leadership, Reconciler, Fleet) {
    let journal = Journal::new("/foreshade");
    let shared: Arc<dyn Store> = store.clone();
    let campaign = Campaign::new(shared, journal.leader().unwrap(), "me", Duration::from_secs(15)).unwrap();
    let leadership = campaign.win().await.unwrap();
    let kept = journal.load(store.as_ref()).await.unwrap();
    let audited = journal
        .audit(store.as_ref())
        .await
        .unwrap()
        .last()
        .map_or(0, |last| last.seq);
    let reconciler = Reconciler::new(spec, &journal, (kept, audited), leadership.epoch()).unwrap();
    let mut fleet = Fleet::default();
    fleet.resume(reconciler.rounds());
    (leadership, reconciler, fleet)
}

impl Play {
    async fn new() -> Self {
        Self::of(spec()).await
    }

    async fn of(spec: Spec) -> Self {
        let store = Arc::new(Memory::new());
        let (leadership, reconciler, fleet) = lead(&store, &spec).await;
        Self {
            store,
            leadership,
            reconciler,
            fleet,
            id: pair(),
            tick: 0,
            sums: Default::default(),
            segments: Vec::new(),
            latency: Default::default(),
            copies: Mirrored::default(),
            copied: Mirrored::default(),
            round: foreshade_contract::Round(0),
            spec,
            shadow_is: Seen::Up,
            moved: Share::ZERO,
            unknown: Vec::new(),
        }
    }

    /// The controller dies, and another one takes over from what is in the store.
    async fn crash(&mut self) {
        let store = self.store.clone();
        let dead = std::mem::replace(&mut self.leadership, lead_again(&store).await);
        drop(dead);
        let journal = Journal::new("/foreshade");
        let kept = journal.load(store.as_ref()).await.unwrap();
        self.reconciler = Reconciler::new(&self.spec, &journal, (kept, 0), self.leadership.epoch()).unwrap();
        self.fleet = Fleet::default();
        self.fleet.resume(self.reconciler.rounds());
    }

    fn view(&self) -> View<'_> {
        self.reconciler.view(&self.id).unwrap()
    }

    fn state(&self) -> State {
        self.view().pair.state
    }

    fn at(&self) -> Instant {
        Instant {
            now: Moment::from_micros(self.tick * 250_000),
            wall_ms: 1_700_000_000_000 + self.tick * 250,
        }
    }

    /// One tick, in which the arms did this, and the proxy follows whatever plan there is.
    async fn tick(&mut self, primary: Does, shadow: Does) -> Outcome {
        self.tick += 1;
        let at = self.at();
        let plan = self.reconciler.plan.clone();
        let proxy = name("edge");
        self.fleet
            .greet(&proxy, BootId(7), plan.as_deref().map(Plan::id), at.now)
            .unwrap();
        let planned = plan.as_ref().and_then(|plan| plan.pair(&self.id)).cloned();
        let is_known = |planned: &PairPlan| !self.unknown.contains(&planned.shadow);
        let unapplied = planned
            .iter()
            .filter(|planned| !is_known(planned))
            .map(|planned| Unapplied {
                pair: planned.pair.clone(),
                why: "the cluster has no endpoint of the shadow's name".to_owned(),
            });
        let unapplied: Vec<_> = unapplied.collect();
        if let Some(planned) = planned.filter(is_known) {
            self.serve(&planned, [primary, shadow]);
            let report = Report {
                sequence: self.tick,
                complete: true,
                pairs: vec![self.reported(&planned)],
            };
            self.fleet.report((&proxy, BootId(7)), &report, at.now);
        }
        let status = Status {
            plan: plan.as_deref().map(Plan::id),
            unapplied_total: unapplied.len(),
            unapplied,
            ..Status::default()
        };
        self.fleet.acknowledge(&proxy, &status, at.now);
        self.reconciler
            .tick(&self.leadership, &mut self.fleet, at)
            .await
            .unwrap()
    }

    /// One tick, in which no proxy says anything.
    async fn quiet(&mut self) -> Outcome {
        self.tick += 1;
        let at = self.at();
        self.reconciler
            .tick(&self.leadership, &mut self.fleet, at)
            .await
            .unwrap()
    }

    fn serve(&mut self, planned: &PairPlan, did: [Does; 2]) {
        if planned.round != self.round {
            (self.round, self.sums, self.segments) = (planned.round, Default::default(), Vec::new());
            (self.latency, self.copied) = Default::default();
        }
        self.copied.add(&self.copies);
        let share = planned.directed.unwrap_or(Share::ZERO);
        if !self.segments.iter().any(|segment| segment.share == share) {
            self.segments.push(Segment {
                share,
                arms: Default::default(),
            });
        }
        let segment = self
            .segments
            .iter_mut()
            .find(|segment| segment.share == share)
            .unwrap();
        for (index, (requests, failed)) in did.into_iter().enumerate() {
            // Each tenth request is slow, on either arm.
            let counted = ArmCounters {
                requests,
                status_5xx: failed,
                over: [requests / 2, requests / 10, requests / 100, 0],
                ..ArmCounters::default()
            };
            self.sums[index].add(&counted);
            segment.arms[index].add(&counted);
            self.latency[index].record(Duration::from_millis(5), requests - requests / 10);
            self.latency[index].record(Duration::from_millis(20), requests / 10);
        }
    }

    fn reported(&self, planned: &PairPlan) -> PairReport {
        PairReport {
            pair: self.id.clone(),
            round: planned.round,
            serving: planned.serving,
            share: planned.directed.unwrap_or(self.moved),
            risk: [None; 2],
            health: [Seen::Up, self.shadow_is],
            arms: self.sums,
            segments: self.segments.clone(),
            latency: self.latency.clone(),
            network: Default::default(),
            mirrored: [Mirrored::default(), self.copied],
        }
    }

    /// Until the pair is in a state like this; the number of ticks that it took.
    async fn until(&mut self, (primary, shadow): (Does, Does), most: u64, is: impl Fn(State) -> bool) -> u64 {
        for tick in 0..most {
            if is(self.state()) {
                return tick;
            }
            self.tick(primary, shadow).await;
        }
        panic!("{} after {most} ticks: {:?}", self.state(), self.view().waiting);
    }

    /// A warm shadow, and an order to promote it, obeyed.
    async fn shifting() -> Self {
        let mut play = Self::new().await;
        play.until(((250, 1), (0, 0)), 200, |state| matches!(state, State::Warm(_)))
            .await;
        for _ in 0..8 {
            play.tick((250, 1), (0, 0)).await;
        }
        play.reconciler.order(&play.id, order("k1")).unwrap();
        play.until(((250, 1), (0, 0)), 200, |state| {
            matches!(state, State::Shifting(_))
        })
        .await;
        play
    }
}

/// So many of ten thousand requests a second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part lies between 0 and 1"
)]
fn per_tick(part: f64) -> u64 {
    (2500.0 * part).round() as u64
}

async fn lead_again(store: &Arc<Memory>) -> Leadership {
    // The dead one's lease has not ended; what it held is deleted, as its end would.
    let journal = Journal::new("/foreshade");
    let key = journal.leader().unwrap();
    let txn = crate::store::Txn::new().then(crate::store::Op::Delete(crate::store::KeyRange::key(&key)));
    store.txn(txn).await.unwrap();
    let shared: Arc<dyn Store> = store.clone();
    Campaign::new(shared, key, "next", Duration::from_secs(15))
        .unwrap()
        .win()
        .await
        .unwrap()
}

fn order(key: &str) -> Order {
    Order {
        command: Command::Promote { full: false },
        actor: "me".to_owned(),
        reason: "a new build".to_owned(),
        key: key.to_owned(),
        expected: None,
    }
}

#[tokio::test]
async fn a_shadow_that_fails_ten_times_as_often_is_rolled_back_within_seconds() {
    let mut play = Play::shifting().await;
    // A thousand requests a second; the primary fails one in five hundred, the shadow one in fifty.
    let ticks = play
        .until(((240, 0), (12, 4)), 400, |state| {
            matches!(state, State::RollingBack(_) | State::Failed)
        })
        .await;
    assert!(ticks < 40, "{ticks} ticks");
    let plan = play
        .reconciler
        .plan
        .as_ref()
        .and_then(|plan| plan.pair(&play.id))
        .unwrap();
    assert_eq!(plan.serving, Arm::Primary);
}

#[tokio::test]
async fn a_shadow_that_is_as_good_goes_up_the_steps_and_serves_everybody() {
    let mut play = Play::shifting().await;
    let mut seen = Vec::new();
    for _ in 0..60_000 {
        // Ten thousand requests a second, as many of them as the plan says.
        let [primary, shadow] = play
            .view()
            .pair
            .weights()
            .map(|weight| per_tick(weight.fraction()));
        play.tick((primary, primary / 500), (shadow, shadow / 500)).await;
        if seen.last() != Some(&play.state()) {
            seen.push(play.state());
        }
        if play.state() == State::Baking {
            break;
        }
    }
    assert_eq!(play.state(), State::Baking, "{seen:?} {:?}", play.view().waiting);
    assert_eq!(play.view().pair.serving, Arm::Shadow);
    let plan = play
        .reconciler
        .plan
        .as_ref()
        .and_then(|plan| plan.pair(&play.id))
        .unwrap();
    assert_eq!(plan.serving, Arm::Shadow);
}

#[tokio::test]
async fn a_controller_that_dies_leaves_what_the_next_one_goes_on_from_and_does_not_reset_alpha() {
    let mut play = Play::shifting().await;
    for _ in 0..12 {
        play.tick((240, 1), (12, 0)).await;
    }
    let (before, counted) = (
        play.view().pair.clone(),
        play.reconciler.explain(&play.id).unwrap(),
    );
    play.crash().await;
    let after = play.view().pair.clone();
    assert_eq!(
        (after.state, after.round, after.share),
        (before.state, before.round, before.share)
    );
    let resumed = play.reconciler.explain(&play.id).unwrap();
    let [now, then] = [&resumed, &counted].map(|explained| explained.requests[0]);
    // At most what a second may cost, and nothing twice.
    assert!(now <= then && now + 5 * 240 >= then, "{now} of {then}");
    play.tick((240, 1), (12, 0)).await;
    assert!(play.reconciler.explain(&play.id).unwrap().requests[0] <= then);
    // The plan is of the new epoch, and says the same.
    let plan = play.reconciler.plan.clone().unwrap();
    assert_eq!(plan.id().epoch, play.leadership.epoch());
    assert_eq!(plan.pair(&play.id).unwrap().directed, Some(after.share.share()));
}

#[tokio::test]
async fn an_order_that_comes_twice_is_obeyed_once_and_stands_in_the_audit() {
    let mut play = Play::shifting().await;
    let records = play.reconciler.pairs[&play.id].kept.records;
    play.reconciler.order(&play.id, order("k1")).unwrap();
    let outcome = play.tick((240, 1), (12, 0)).await;
    let [(_, answer)] = outcome.answers.as_slice() else {
        panic!("{:?}", outcome.answers)
    };
    assert_eq!((answer.key.as_str(), &answer.outcome), ("k1", &Came::Done));
    assert_eq!(play.reconciler.pairs[&play.id].kept.records, records);
    let audit = Journal::new("/foreshade")
        .audit(play.store.as_ref())
        .await
        .unwrap();
    assert!(audit.iter().all(|entry| entry.order.actor == "me"));
    assert_eq!(audit.first().map(|entry| entry.seq), Some(1));
}

#[tokio::test]
async fn what_an_operator_saw_is_compared_when_he_is_obeyed_and_his_order_is_known_after_a_crash() {
    use foreshade_engine::lifecycle::command::Refusal;
    let mut play = Play::shifting().await;
    let expected = Some(play.view().pair.generation);
    let abort = |key: &str| Order {
        command: Command::Abort,
        expected,
        ..order(key)
    };
    // Both arrive between the same two ticks.
    for key in ["k2", "k3"] {
        play.reconciler.order(&play.id, abort(key)).unwrap();
    }
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.extend(play.tick((240, 1), (12, 0)).await.answers);
    }
    let outcomes: Vec<_> = answers.into_iter().map(|(_, answer)| answer.outcome).collect();
    assert_eq!(outcomes[0], Came::Done);
    assert!(
        matches!(outcomes[1], Came::Refused(Refusal::Stale { expected: seen, .. }) if Some(seen) == expected),
        "{outcomes:?}"
    );
    play.crash().await;
    play.reconciler.order(&play.id, abort("k2")).unwrap();
    let again = play.tick((240, 1), (12, 0)).await.answers;
    assert_eq!(again[0].1.outcome, Came::Done);
}

#[tokio::test]
async fn a_deposed_leader_writes_nothing_and_says_so() {
    let mut play = Play::shifting().await;
    let before = Journal::new("/foreshade")
        .load(play.store.as_ref())
        .await
        .unwrap();
    let _next = lead_again(&play.store).await;
    play.tick += 40;
    let at = play.at();
    play.reconciler.order(&play.id, order("k2")).unwrap();
    let deposed = play.reconciler.tick(&play.leadership, &mut play.fleet, at).await;
    assert!(matches!(deposed, Err(LeaderError::Deposed(_))), "{deposed:?}");
    assert_eq!(
        Journal::new("/foreshade")
            .load(play.store.as_ref())
            .await
            .unwrap(),
        before
    );
}

#[tokio::test]
async fn a_proxy_that_says_nothing_is_no_evidence_and_confirms_nothing() {
    let mut play = Play::shifting().await;
    for _ in 0..4 {
        play.tick((240, 1), (12, 0)).await;
    }
    let (before, seen) = (
        play.view().pair.share,
        play.reconciler.explain(&play.id).unwrap().requests,
    );
    play.fleet.lose(&name("edge"), play.at().now);
    for _ in 0..80 {
        play.quiet().await;
    }
    // It holds: nobody moves, in either direction.
    assert_eq!(play.state(), State::Shifting(Shifting::Holding));
    assert_eq!(play.view().pair.share, before);
    assert_eq!(play.reconciler.explain(&play.id).unwrap().requests, seen);
    assert_eq!(play.view().share, None);
}

#[tokio::test]
async fn a_proxy_that_is_linked_and_idle_stands_by_what_it_said() {
    let mut play = Play::new().await;
    play.until(((250, 1), (0, 0)), 200, |state| matches!(state, State::Warm(_)))
        .await;
    for _ in 0..8 {
        play.tick((250, 1), (0, 0)).await;
    }
    let (state, share) = (play.state(), play.view().share);
    for _ in 0..240 {
        play.quiet().await;
    }
    assert_eq!((play.state(), play.view().share), (state, share));
    assert_ne!(share, None);
}

#[tokio::test]
async fn a_shadow_that_failed_altogether_is_warm_again_once_probes_call_it_well() {
    let mut play = Play::shifting().await;
    play.until(((240, 0), (12, 12)), 400, |state| {
        matches!(state, State::RollingBack(_) | State::Failed)
    })
    .await;
    play.until(((250, 1), (0, 0)), 40_000, |state| {
        matches!(state, State::Warm(_))
    })
    .await;
}

#[tokio::test]
async fn what_an_earlier_start_of_a_proxy_says_late_is_not_counted() {
    let mut play = Play::shifting().await;
    for _ in 0..4 {
        play.tick((240, 1), (12, 0)).await;
    }
    let planned = play.reconciler.plan.as_ref().and_then(|plan| plan.pair(&play.id));
    let planned = planned.unwrap().clone();
    play.serve(&planned, [(24_000, 24_000), (12_000, 12_000)]);
    let late = Report {
        sequence: 1,
        complete: true,
        pairs: vec![play.reported(&planned)],
    };
    let before = play.reconciler.explain(&play.id).unwrap().requests;
    let now = play.at().now;
    play.fleet.report((&name("edge"), BootId(6)), &late, now);
    play.quiet().await;
    assert_eq!(play.reconciler.explain(&play.id).unwrap().requests, before);
    play.fleet.report((&name("edge"), BootId(7)), &late, now);
    play.quiet().await;
    assert_ne!(play.reconciler.explain(&play.id).unwrap().requests, before);
}

#[tokio::test]
async fn a_proxy_that_was_forgotten_and_comes_back_is_not_counted_twice() {
    let mut play = Play::shifting().await;
    for _ in 0..4 {
        play.tick((240, 1), (12, 0)).await;
    }
    let before = play.reconciler.explain(&play.id).unwrap().requests;
    play.fleet.lose(&name("edge"), play.at().now);
    // Three minutes: more than anybody who is gone is waited for.
    for _ in 0..720 {
        play.quiet().await;
        let now = play.at().now;
        play.fleet.tidy(now);
    }
    assert_eq!(play.fleet.proxies().count(), 0);
    play.tick((240, 1), (12, 0)).await;
    let after = play.reconciler.explain(&play.id).unwrap().requests;
    assert_eq!(
        after, before,
        "its sums of this round are in what was counted already"
    );
}
