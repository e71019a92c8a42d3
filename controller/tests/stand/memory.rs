//! A test double: an operator of plain maps. It keeps what it is told and behaves like a controller whose pairs obey
//! at once; it decides nothing, judges nothing, and forgets everything when it is dropped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use foreshade_contract::{Generation, PairId};
use foreshade_controller::operator::events::{EventLog, Report};
use foreshade_controller::operator::simulation::{Foreseen, Simulation};
use foreshade_controller::operator::view::{
    Analysis, AnalysisBrief, ArmView, AuditEntry, Change, Drill, DrillResult, Evidence, GateStanding,
    GateView, Health, MetricView, Mode, Outcome, OverrideView, PairDetail, PairSummary, ProxiesView, Side,
    StepView, Verdict, WaiverView,
};
use foreshade_controller::operator::{Fault, Operator, Order, Page, Rule, Standing, What};
use foreshade_engine::lifecycle::command::Command;
use foreshade_engine::lifecycle::overrides::{self, Setting};
use foreshade_engine::lifecycle::simulate::Question;

/// Shares of a shift.
const STEPS: [f64; 6] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0];

/// What time it is here: it does not pass by itself.
pub(crate) const NOON_MS: u64 = 1_795_694_400_000;

pub(crate) struct Memory {
    pairs: Mutex<BTreeMap<PairId, Held>>,
    answered: Mutex<BTreeMap<(PairId, String), Outcome>>,
    audit: Mutex<Vec<AuditEntry>>,
    drills: Mutex<Vec<Drill>>,
    events: EventLog,
    standing: Mutex<Standing>,
    seq: AtomicU64,
}

#[derive(Clone)]
struct Held {
    state: &'static str,
    step: Option<usize>,
    serving: Side,
    generation: u64,
    overrides: BTreeMap<u8, OverrideView>,
    waived: Vec<WaiverView>,
    gates: Vec<GateView>,
    drill: Option<u64>,
    reason: String,
    history: Vec<Change>,
}

impl Held {
    fn share(&self) -> f64 {
        let set = self.overrides.get(&(What::Share as u8)).map(|set| set.value);
        set.unwrap_or_else(|| self.step.and_then(|step| STEPS.get(step).copied()).unwrap_or(0.0))
    }

    fn health(&self) -> Health {
        let waits = self
            .gates
            .iter()
            .any(|gate| gate.standing == GateStanding::Waiting);
        match self.state {
            "Shifting.Advancing" if waits => Health::Paused,
            "Shifting.Advancing" => Health::Progressing,
            "Shifting.Paused" => Health::Paused,
            "Failed" | "Frozen" => Health::Degraded,
            _ => Health::Healthy,
        }
    }
}

impl Default for Memory {
    /// `shop/a` is in the middle of a shift with a gate before its promotion, `shop/b` is warm.
    fn default() -> Self {
        let gate = GateView {
            name: "release".to_owned(),
            before: "promote".to_owned(),
            standing: GateStanding::Idle,
            said: None,
            link: None,
        };
        let warm = Held {
            state: "Warm.Idle",
            step: None,
            serving: Side::Primary,
            generation: 7,
            overrides: BTreeMap::new(),
            waived: Vec::new(),
            gates: vec![gate],
            drill: None,
            reason: "nothing is wrong".to_owned(),
            history: Vec::new(),
        };
        let shifting = Held {
            state: "Shifting.Advancing",
            step: Some(2),
            reason: "risk 0.52 is at or above 0.35".to_owned(),
            ..warm.clone()
        };
        let pairs = [(pair("shop", "a"), shifting), (pair("shop", "b"), warm)];
        Self {
            pairs: Mutex::new(pairs.into()),
            answered: Mutex::default(),
            audit: Mutex::default(),
            drills: Mutex::default(),
            events: EventLog::default(),
            standing: Mutex::new(Standing::Leading),
            seq: AtomicU64::new(0),
        }
    }
}

pub(crate) fn pair(cluster: &str, primary: &str) -> PairId {
    PairId {
        cluster: cluster.parse().unwrap(),
        primary: primary.parse().unwrap(),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    pub(crate) fn stands(&self, standing: Standing) {
        *locked(&self.standing) = standing;
    }

    /// Something waits for the gate of a pair.
    pub(crate) fn waits_for_gate(&self, pair: &PairId) {
        locked(&self.pairs).get_mut(pair).unwrap().gates[0].standing = GateStanding::Waiting;
    }

    fn next(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn found<T>(&self, pair: &PairId, show: impl FnOnce(&Held) -> T) -> Result<T, Fault> {
        locked(&self.pairs)
            .get(pair)
            .map(show)
            .ok_or_else(|| Fault::UnknownPair(pair.clone()))
    }

    /// Begins a drill, unless this is only a trial.
    fn drill(&self, order: &Order, held: &mut Held) -> Result<String, Fault> {
        let Command::Drill { scenario } = order.command else {
            return Err(Fault::Invalid("no drill".to_owned()));
        };
        if let Some(id) = held.drill {
            return Err(Fault::NotNow(format!("drill {id} runs already")));
        }
        let id = self.next();
        held.drill = Some(id);
        if !order.dry_run {
            locked(&self.drills).push(Drill {
                id,
                pair: order.pair.to_string(),
                scenario: scenario.into(),
                result: DrillResult::Running,
                started_ms: NOON_MS,
                ended_ms: None,
                until_ms: NOON_MS + 1_800_000,
                rto_ms: None,
                rpo_ms: None,
                actor: order.actor.to_string(),
                report: vec!["begun".to_owned()],
            });
        }
        Ok(format!("drill {id} has begun"))
    }

    fn end_drill(&self, order: &Order, held: &mut Held) -> Result<String, Fault> {
        let Some(id) = held.drill.take() else {
            return Err(Fault::NotNow("no drill runs".to_owned()));
        };
        if !order.dry_run {
            for drill in locked(&self.drills).iter_mut().filter(|drill| drill.id == id) {
                drill.result = DrillResult::Interrupted;
                drill.ended_ms = Some(NOON_MS);
                drill.report.push("ended by an operator".to_owned());
            }
        }
        Ok(format!("drill {id} has ended"))
    }

    /// What becomes of a pair; the sentence, and nothing where nothing changes.
    fn obeyed(&self, order: &Order, held: &mut Held) -> Result<Option<String>, Fault> {
        let is_shifting = held.state.starts_with("Shifting");
        let not_now = |held: &Held| {
            Fault::NotNow(format!(
                "a pair in {} cannot {}",
                held.state,
                order.command.verb()
            ))
        };
        let (state, step, sentence) = match &order.command {
            Command::Promote { full: true } => {
                held.serving = Side::Shadow;
                ("Committed", None, "the shadow is the primary now")
            }
            Command::Promote { full: false } if is_shifting => {
                let step = held.step.map_or(0, |step| (step + 1).min(STEPS.len() - 1));
                ("Shifting.Advancing", Some(step), "the next step is taken")
            }
            Command::Promote { .. } if held.state == "Warm.Idle" => {
                ("Shifting.Advancing", Some(0), "a shift begins")
            }
            Command::Abort if is_shifting => ("Failed", None, "everybody goes back to the primary"),
            Command::Pause if is_shifting => ("Shifting.Paused", held.step, "the share stays where it is"),
            Command::Resume if held.state == "Shifting.Paused" => {
                ("Shifting.Advancing", held.step, "the shift goes on")
            }
            Command::Retry if held.state == "Failed" => {
                ("Warm.Idle", None, "the pair is ready for the next try")
            }
            Command::Undo if held.state == "Committed" => {
                held.serving = Side::Primary;
                ("Warm.Idle", None, "the promotion is taken back")
            }
            Command::Freeze => ("Frozen", held.step, "nothing moves until it is unfrozen"),
            Command::Unfreeze if held.state == "Frozen" => ("Warm.Idle", None, "the pair moves again"),
            Command::Abort | Command::Resume | Command::Unfreeze => return Ok(None),
            Command::Promote { .. }
            | Command::Pause
            | Command::Retry
            | Command::Undo
            | Command::UndoTo { .. } => {
                return Err(not_now(held));
            }
            Command::Override { .. } | Command::ClearOverride { .. } => return Ok(by_hand(order, held)),
            Command::Approve { gate } => return say(held, gate.as_str(), GateStanding::Open),
            Command::Deny { gate } => return say(held, gate.as_str(), GateStanding::Denied),
            Command::Drill { .. } => return self.drill(order, held).map(Some),
            Command::CancelDrill => return self.end_drill(order, held).map(Some),
        };
        held.history.push(Change {
            seq: self.next(),
            at_ms: NOON_MS,
            from: held.state.to_owned(),
            to: state.to_owned(),
            generation: held.generation + 1,
            share: step.and_then(|step| STEPS.get(step).copied()).unwrap_or(0.0),
            cause: format!("an operator ordered: {}", order.command.verb()),
            actor: Some(order.actor.to_string()),
        });
        (held.state, held.step) = (state, step);
        Ok(Some(sentence.to_owned()))
    }
}

/// What is set by hand, or waived, or no longer.
fn by_hand(order: &Order, held: &mut Held) -> Option<String> {
    match &order.command {
        Command::Override {
            setting: Setting::Safety(rule),
            until_ms,
        } => {
            let rule = Rule::from(*rule);
            held.waived.retain(|waived| waived.rule != rule);
            held.waived.push(WaiverView {
                rule,
                until_ms: *until_ms,
                actor: order.actor.to_string(),
                reason: order.reason.to_string(),
            });
            Some(format!("safety rule {rule} is not asked"))
        }
        Command::ClearOverride {
            what: overrides::What::Safety(rule),
        } => {
            let before = held.waived.len();
            held.waived.retain(|waived| waived.rule != Rule::from(*rule));
            (held.waived.len() < before).then(|| format!("safety rule {rule} is asked again"))
        }
        Command::Override { setting, until_ms } => {
            let set = set(*setting, *until_ms, order);
            let sentence = format!("the {} is set to {}", set.what, set.value);
            held.overrides.insert(set.what as u8, set);
            Some(sentence)
        }
        Command::ClearOverride { what } => {
            let what = seen(*what);
            let ended = held.overrides.remove(&(what as u8)).is_some();
            ended.then(|| format!("the {what} is the controller's again"))
        }
        _ => None,
    }
}

fn seen(what: overrides::What) -> What {
    match what {
        overrides::What::Share => What::Share,
        overrides::What::Ceiling => What::Ceiling,
        overrides::What::Risk => What::Risk,
        overrides::What::Safety(_) => unreachable!("it is waived, not set"),
    }
}

fn set(setting: Setting, until_ms: u64, order: &Order) -> OverrideView {
    let (Setting::Share(points) | Setting::Ceiling(points) | Setting::Risk(points)) = setting else {
        unreachable!("it is waived, not set")
    };
    OverrideView {
        what: seen(setting.what()),
        value: points.fraction(),
        until_ms,
        actor: order.actor.to_string(),
        reason: order.reason.to_string(),
    }
}

fn say(held: &mut Held, name: &str, standing: GateStanding) -> Result<Option<String>, Fault> {
    let gate = held.gates.iter_mut().find(|gate| gate.name == name);
    let gate = gate.ok_or_else(|| Fault::Unknown {
        what: "gate",
        name: name.to_owned(),
    })?;
    let is_new = gate.standing != standing;
    gate.standing = standing;
    Ok(is_new.then(|| format!("gate {name} is {}", standing.to_string().to_lowercase())))
}

fn summary(pair: &PairId, held: &Held) -> PairSummary {
    PairSummary {
        pair: pair.to_string(),
        shadow: Some(format!("{}-standby", pair.primary)),
        state: held.state.to_owned(),
        health: held.health(),
        since_ms: NOON_MS - 12_000,
        generation: held.generation,
        round: 3,
        serving: held.serving,
        share_set: held.share(),
        share_actual: Some((held.share() * 0.98 * 1e4).round() / 1e4),
        risk: Some(0.52),
        mode: if held.drill.is_some() {
            Mode::Drill
        } else {
            Mode::Live
        },
        suspended: held.state == "Shifting.Paused",
        policy: "default".to_owned(),
        reason: held.reason.clone(),
    }
}

fn brief() -> AnalysisBrief {
    AnalysisBrief {
        verdict: Verdict::Undecided,
        worse: Evidence {
            e: 0.31,
            limit: 100.0,
        },
        ok: Some(Evidence { e: 12.4, limit: 20.0 }),
        needed_requests: Some(140),
        eta_ms: Some(9_000),
        sentence: "undecided: failures: about 140 more requests if the shadow is as good as its primary"
            .to_owned(),
    }
}

fn arm(pair: &PairId, arm: Side) -> ArmView {
    let (endpoint, risk, requests, failures) = match arm {
        Side::Primary => (pair.primary.to_string(), 0.52, 9_000, 21),
        Side::Shadow => (format!("{}-standby", pair.primary), 0.03, 1_000, 2),
    };
    ArmView {
        endpoint,
        arm,
        health: if arm == Side::Primary { "sick" } else { "well" }.to_owned(),
        risk: Some(risk),
        requests,
        failures,
        lag_ms: (arm == Side::Shadow).then_some(140),
    }
}

fn paged<T: Clone>(entries: &[T], page: Page, number: impl Fn(&T) -> u64) -> Vec<T> {
    let older = |entry: &&T| page.before.is_none_or(|before| number(entry) < before);
    entries
        .iter()
        .rev()
        .filter(older)
        .take(page.limit)
        .cloned()
        .collect()
}

#[async_trait]
impl Operator for Memory {
    async fn pairs(&self) -> Result<Vec<PairSummary>, Fault> {
        Ok(locked(&self.pairs)
            .iter()
            .map(|(pair, held)| summary(pair, held))
            .collect())
    }

    async fn pair(&self, pair: &PairId) -> Result<PairDetail, Fault> {
        self.found(pair, |held| PairDetail {
            summary: summary(pair, held),
            arms: [Side::Primary, Side::Shadow].map(|side| arm(pair, side)).to_vec(),
            step: held.step.map(|step| StepView {
                index: u32::try_from(step).unwrap() + 1,
                of: 6,
                share: STEPS[step],
            }),
            rollback_target: held.step.map(|_| Side::Primary),
            point_of_no_return: false,
            gates: held.gates.clone(),
            overrides: held.overrides.values().cloned().collect(),
            waived: held.waived.clone(),
            obstacles: held
                .step
                .map(|_| "evidence is missing".to_owned())
                .into_iter()
                .collect(),
            proxies: ProxiesView {
                connected: 3,
                acknowledged: 3,
                stale: 0,
            },
            blocked_until_ms: None,
            cooldown_until_ms: None,
            drill: held.drill,
            timetable: Vec::new(),
            analysis: held.step.map(|_| brief()),
            mirror: None,
            placement: None,
            unapplied: None,
        })
    }

    async fn history(&self, pair: &PairId, page: Page) -> Result<Vec<Change>, Fault> {
        self.found(pair, |held| paged(&held.history, page, |change| change.seq))
    }

    async fn analysis(&self, pair: &PairId) -> Result<Option<Analysis>, Fault> {
        let metric = MetricView {
            metric: "failures".to_owned(),
            events: 23,
            on_shadow: 2,
            worse: Evidence {
                e: 0.31,
                limit: 250.0,
            },
            ok: Some(Evidence { e: 12.4, limit: 20.0 }),
            ratio_low: Some(0.11),
            ratio_high: Some(1.62),
            needed_requests: Some(140),
            eta_ms: Some(9_000),
            sentence: "failures: 2 of 23 on the shadow, 0.11 to 1.62 times the primary's rate".to_owned(),
        };
        self.found(pair, |held| {
            held.step.map(|_| Analysis {
                brief: brief(),
                requests: vec![9_000, 1_000],
                warming: false,
                metrics: vec![metric],
            })
        })
    }

    async fn simulate(&self, pair: &PairId, question: Question) -> Result<Simulation, Fault> {
        let ordered = question.order.map(|command| command.verb().to_string());
        self.found(pair, |held| Simulation {
            pair: pair.to_string(),
            answer: ordered.as_ref().map(|_| "done".to_owned()),
            told: vec![Foreseen {
                after_ms: 1_000,
                from: held.state.to_owned(),
                to: "FailedOver".to_owned(),
                share: 1.0,
                cause: format!("{:?}, {ordered:?}", question.suppose),
            }],
            state: "FailedOver".to_owned(),
            serving: Side::Shadow,
            share: 1.0,
            obstacles: vec!["evidence is missing".to_owned()],
            looked_ms: u64::try_from(question.within.as_millis()).unwrap(),
        })
    }

    async fn command(&self, order: Order) -> Result<Outcome, Fault> {
        match locked(&self.standing).clone() {
            Standing::Leading => {}
            Standing::Starting => return Err(Fault::Busy),
            Standing::Following { leader } => return Err(Fault::NotLeading { leader }),
            Standing::ReadOnly { why } => return Err(Fault::ReadOnly(why)),
        }
        let mut pairs = locked(&self.pairs);
        let held = pairs
            .get_mut(&order.pair)
            .ok_or_else(|| Fault::UnknownPair(order.pair.clone()))?;
        let known = (order.pair.clone(), order.key.clone());
        if let Some(outcome) = locked(&self.answered).get(&known) {
            return Ok(outcome.clone());
        }
        let current = Generation(held.generation);
        if let Some(expected) = order.expected.filter(|expected| *expected != current) {
            return Err(Fault::Stale { expected, current });
        }
        if let Some(to) = order.to.filter(|to| *to > current) {
            return Err(Fault::Unknown {
                what: "generation",
                name: to.to_string(),
            });
        }
        let mut after = held.clone();
        let said = self.obeyed(&order, &mut after)?;
        if let Some(sentence) = &said {
            // What is said to a gate is no news for proxies.
            let is_planned = !matches!(order.command, Command::Approve { .. } | Command::Deny { .. });
            after.generation += u64::from(is_planned);
            after.reason.clone_from(sentence);
        }
        let outcome = Outcome {
            pair: order.pair.to_string(),
            command: order.command.verb().to_string(),
            changed: said.is_some(),
            dry_run: order.dry_run,
            state: after.state.to_owned(),
            generation: after.generation,
            drill: matches!(order.command, Command::Drill { .. })
                .then_some(after.drill)
                .flatten(),
            sentence: said.unwrap_or_else(|| "there is nothing to do".to_owned()),
        };
        if order.dry_run {
            return Ok(outcome);
        }
        *held = after;
        locked(&self.answered).insert(known, outcome.clone());
        locked(&self.audit).push(AuditEntry {
            seq: self.next(),
            at_ms: NOON_MS,
            pair: outcome.pair.clone(),
            command: outcome.command.clone(),
            with: None,
            actor: order.actor,
            reason: order.reason,
            key: order.key,
            generation: outcome.generation,
            outcome: outcome.sentence.clone(),
        });
        self.events.report(Report {
            at_ms: NOON_MS,
            pair: order.pair,
            kind: "command",
            generation: outcome.generation,
            sentence: outcome.sentence.clone(),
        });
        Ok(outcome)
    }

    async fn drills(&self, page: Page) -> Result<Vec<Drill>, Fault> {
        Ok(paged(&locked(&self.drills), page, |drill| drill.id))
    }

    async fn drill(&self, id: u64) -> Result<Drill, Fault> {
        let found = locked(&self.drills).iter().find(|drill| drill.id == id).cloned();
        found.ok_or_else(|| Fault::Unknown {
            what: "drill",
            name: id.to_string(),
        })
    }

    async fn audit(&self, page: Page) -> Result<Vec<AuditEntry>, Fault> {
        Ok(paged(&locked(&self.audit), page, |entry| entry.seq))
    }

    fn events(&self) -> &EventLog {
        &self.events
    }

    fn standing(&self) -> Standing {
        locked(&self.standing).clone()
    }

    fn metrics(&self) -> String {
        String::new()
    }
}
