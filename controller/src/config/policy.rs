//! How a pair lives and is judged, checked: what the lifecycle and the judge are given, and the hooks and calendar
//! beside them.

use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::{Name, Risk};
use foreshade_engine::lifecycle::drill::Scenario;
use foreshade_engine::lifecycle::points::BasisPoints;
use foreshade_engine::lifecycle::policy::{
    FlapPolicy, GATES_MAX, Gate as Asked, Inconclusive, MirrorUse, OldPrimary, Point, Policy as Lifecycle,
    RiskMarks, RollbackPolicy, STEPS_MAX, SafetyPolicy, Steps, SyncPolicy, Times,
};
use foreshade_engine::verdict::{JudgePolicy, Metric, MetricPolicy, Proof, WarmUp};
use foreshade_settings::{At, List, Mistake, Mistakes, Names, Part, Section as _, Shown};

use super::keys;
use super::url::Url;
use super::window::Window;
use crate::timetable::Entry;

/// Largest alpha and beta: beyond, a coin would do.
const CHANCE_MAX: f64 = 0.2;

/// How pairs live and are judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: Name,
    /// What the lifecycle goes by.
    pub lifecycle: Arc<Lifecycle>,
    /// What the judge is asked.
    pub judge: Arc<JudgePolicy>,
    /// Who is asked, and how; the lifecycle knows names and points only.
    pub gates: Vec<Gate>,
    /// When nothing may begin by itself.
    pub blocked: Vec<Window>,
    /// Drills that begin by themselves.
    pub drills: Arc<Vec<Entry>>,
}

/// Somebody who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: Name,
    /// What has to wait for it.
    pub before: Point,
    /// Who is asked; an operator where `None`.
    pub webhook: Option<Url>,
    /// For one question.
    pub timeout: Duration,
    /// Between two questions.
    pub every: Duration,
}

/// The policy of pairs that name none, where the file has none either.
#[expect(
    clippy::expect_used,
    reason = "a test parses a file that leaves everything out"
)]
pub(super) fn unwritten() -> Policy {
    let mut raw = keys::Policy::unwritten();
    raw.name = super::check::DEFAULT.parse::<Name>().ok().map(At::from);
    policy(raw, &mut Mistakes::none_yet("", "")).expect("invariant: the defaults are sound")
}

/// A policy, if what it says fits together.
pub(super) fn policy(mut raw: keys::Policy, mistakes: &mut Mistakes) -> Option<Policy> {
    let times = &raw.times;
    at_most(
        ("stepMin", &times.step_min),
        ("stepMax", &times.step_max),
        mistakes,
    );
    at_most(("bake", &times.bake), ("bakeMax", &times.bake_max), mistakes);
    at_most(
        ("cooldown", &raw.flaps.cooldown),
        ("cooldownMax", &raw.flaps.cooldown_max),
        mistakes,
    );
    at_most(
        ("lagPromote", &raw.sync.lag_promote),
        ("lagWarm", &raw.sync.lag_warm),
        mistakes,
    );
    let risk = &raw.risk;
    at_most(
        ("prepareAt", &risk.prepare_at),
        ("shiftAt", &risk.shift_at),
        mistakes,
    );
    at_most(
        ("hysteresis", &risk.hysteresis),
        ("shiftAt", &risk.shift_at),
        mistakes,
    );
    at_most(
        ("shiftAt", &risk.shift_at),
        ("severeAt", &risk.severe_at),
        mistakes,
    );
    let judge = judge(&raw.verdict, mistakes);
    let steps = steps(raw.steps.as_ref(), mistakes);
    let gates = gates(&mut raw.gates, mistakes);
    let blocked = std::mem::replace(&mut raw.blocked, List::unread());
    let drills = drills(&mut raw.drills, mistakes);
    let (steps, gates) = (steps?, gates?);
    Some(Policy {
        name: raw.name.as_ref()?.value.clone(),
        lifecycle: Arc::new(lifecycle(&raw, steps, &gates)),
        judge: Arc::new(judge?),
        gates,
        blocked: blocked.items.into_iter().map(window).collect(),
        drills: Arc::new(drills?),
    })
}

fn lifecycle(raw: &keys::Policy, steps: Steps, gates: &[Gate]) -> Lifecycle {
    let risk = |level: &At<foreshade_settings::Level>| Risk::clamped(level.value.0);
    Lifecycle {
        always_warm: raw.always_warm,
        automatic: raw.automatic,
        failover: raw.failover,
        ceiling: BasisPoints::at_most(raw.ceiling.0),
        mirror: match raw.mirror {
            keys::MirrorUse::Off => MirrorUse::Off,
            keys::MirrorUse::Watch => MirrorUse::Watch,
            keys::MirrorUse::Required => MirrorUse::Required,
        },
        rollback: match raw.rollback {
            keys::Rollback::Auto => RollbackPolicy::Auto,
            keys::Rollback::Freeze => RollbackPolicy::Freeze,
            keys::Rollback::Manual => RollbackPolicy::Manual,
        },
        on_inconclusive: match raw.on_inconclusive {
            keys::Inconclusive::Rollback => Inconclusive::Rollback,
            keys::Inconclusive::Promote => Inconclusive::Promote,
        },
        old_primary: match raw.old_primary {
            keys::OldPrimary::Shadow => OldPrimary::Shadow,
            keys::OldPrimary::Retire => OldPrimary::Retire,
        },
        risk: RiskMarks {
            prepare_at: risk(&raw.risk.prepare_at),
            shift_at: risk(&raw.risk.shift_at),
            hysteresis: raw.risk.hysteresis.value.0,
            severe_at: risk(&raw.risk.severe_at),
        },
        steps,
        gates: gates
            .iter()
            .map(|gate| Asked {
                name: gate.name.clone(),
                point: gate.before,
            })
            .collect(),
        times: times(&raw.times),
        flap: FlapPolicy {
            changes: usize::try_from(raw.flaps.changes.0).unwrap_or(usize::MAX),
            window: raw.flaps.window.0,
            dwell: raw.flaps.dwell.0,
            cooldown: raw.flaps.cooldown.value.0,
            cooldown_max: raw.flaps.cooldown_max.value.0,
        },
        sync: SyncPolicy {
            lag_warm: raw.sync.lag_warm.value.0,
            lag_promote: raw.sync.lag_promote.value.0,
            reverse: raw.sync.reverse,
        },
        safety: SafetyPolicy {
            healthy_floor: BasisPoints::at_most(raw.safety.healthy_floor.0),
            delta_max: BasisPoints::at_most(raw.safety.delta_max.0),
        },
        health_looks: raw.health_looks.0,
        bake_requests: raw.bake_requests.0.into(),
    }
}

fn times(raw: &keys::Times) -> Times {
    Times {
        provisioning: raw.provisioning.0,
        syncing: raw.syncing.0,
        validating: raw.validating.0,
        step_min: raw.step_min.value.0,
        step_max: raw.step_max.value.0,
        hold_max: raw.hold_max.0,
        pause_max: raw.pause_max.0,
        promoting: raw.promoting.0,
        rolling_back: raw.rolling_back.0,
        failed_over: raw.failed_over.0,
        bake: raw.bake.value.0,
        bake_max: raw.bake_max.value.0,
        retain_old: raw.retain_old.0,
        drill_max: raw.drill_max.0,
        // What one tick of the controller counts for is no matter of a pair's.
        tick_max: Times::default().tick_max,
    }
}

/// A key and what it says.
type Written<'a, T> = (&'a str, &'a At<T>);

/// Reports where what should be the smaller one is not.
fn at_most<T: Shown + PartialOrd>(small: Written<'_, T>, large: Written<'_, T>, mistakes: &mut Mistakes) {
    let ((small_key, small), (large_key, large)) = (small, large);
    if small.value > large.value {
        let what = format!("{small_key}: {small} is more than {large_key}, {large}");
        let place = small.place().or(large.place());
        mistakes.add(Mistake::at(place, what).expected(format!("{small_key} at most {large_key}")));
    }
}

fn steps(written: Option<&At<List<At<Part>, 1>>>, mistakes: &mut Mistakes) -> Option<Steps> {
    let Some(written) = written else {
        return Some(Steps::default());
    };
    let steps = &written.value;
    if steps.items.len() > STEPS_MAX {
        let what = format!("steps: {} of them", steps.items.len());
        mistakes.add(Mistake::at(written.place(), what).expected(format!("at most {STEPS_MAX}")));
        return None;
    }
    let points = |step: &At<Part>| BasisPoints::at_most(step.value.0);
    for (before, after) in steps.items.iter().zip(steps.items.iter().skip(1)) {
        if points(after) <= points(before) {
            let what = format!("steps: {after} is not more than the step before, {before}");
            mistakes.add(Mistake::at(after.place(), what).expected("shares that grow by 0.01% at least"));
        }
    }
    if let Some(first) = steps
        .items
        .first()
        .filter(|first| points(first) == BasisPoints::ZERO)
    {
        let mistake = Mistake::at(first.place(), format!("steps: {first} is nobody"));
        mistakes.add(mistake.expected("a first step of 0.01% at least"));
    }
    if let Some(last) = steps
        .items
        .last()
        .filter(|last| steps.whole && points(last) < BasisPoints::ALL)
    {
        let mistake = Mistake::at(last.place(), format!("steps: the last one is {last}"));
        let hint = "add 100%: what has not carried everybody is not proven to".to_owned();
        mistakes.add(mistake.expected("100% as the last step").hint(hint));
    }
    Steps::new(steps.items.iter().map(points).collect()).ok()
}

fn judge(raw: &keys::Verdict, mistakes: &mut Mistakes) -> Option<JudgePolicy> {
    for (key, chance) in [("alpha", &raw.alpha), ("beta", &raw.beta)] {
        if chance.value.0 > CHANCE_MAX {
            let what = format!("{key}: {chance} is no guarantee");
            let expected = format!("a chance of at most {}", At::from(Part(CHANCE_MAX)));
            mistakes.add(Mistake::at(chance.place(), what).expected(expected));
        }
    }
    let metrics = raw.metrics();
    if metrics.iter().all(|(_, metric)| metric.weight <= 0.0) {
        let what = "verdict: every metric has the weight 0, so nothing could ever be rolled back";
        mistakes.add(Mistake::of_the_file(what));
    }
    if metrics
        .iter()
        .all(|(_, metric)| metric.margin.is_none() && metric.ceiling.is_none())
    {
        let what = "verdict: no metric has a margin or a ceiling, so nothing could ever be promoted";
        mistakes.add(Mistake::of_the_file(what));
    }
    let judge = JudgePolicy {
        alpha: raw.alpha.value.0,
        beta: raw.beta.value.0,
        metrics: metrics
            .into_iter()
            .map(|(metric, keys)| metric_policy(metric, keys))
            .collect(),
        warm_up: WarmUp {
            span: raw.warm_up.span.0,
            requests: raw.warm_up.requests.0.into(),
        },
        ..JudgePolicy::default()
    };
    // What it would say against this was said above, with places.
    judge.check().is_ok().then_some(judge)
}

fn metric_policy(metric: Metric, keys: &keys::Metric) -> MetricPolicy {
    MetricPolicy {
        weight: keys.weight,
        tolerance: keys.tolerance,
        proof: match (keys.margin, keys.ceiling) {
            (Some(ratio), Some(ceiling)) => Proof::Either { ratio, ceiling },
            (Some(ratio), None) => Proof::Ratio(ratio),
            (None, Some(ceiling)) => Proof::Ceiling(ceiling),
            (None, None) => Proof::Nothing,
        },
        ..MetricPolicy::shipped(metric)
    }
}

fn gates(written: &mut List<keys::Gate, 0>, mistakes: &mut Mistakes) -> Option<Vec<Gate>> {
    let written = std::mem::replace(written, List::unread());
    Names::collect(
        "gate",
        written.items.iter().map(|gate| gate.name.as_ref()),
        written.whole,
        mistakes,
    );
    if let Some(beyond) = written.items.get(GATES_MAX) {
        let place = beyond.name.as_ref().and_then(At::place);
        mistakes.add(Mistake::at(place, format!("more than {GATES_MAX} gates")));
    }
    let checked = written.items.into_iter().map(|raw| {
        Some(Gate {
            name: raw.name?.value,
            before: match raw.before? {
                keys::GateAt::Shift => Point::Shift,
                keys::GateAt::Increase => Point::Increase,
                keys::GateAt::Promote => Point::Promote,
            },
            webhook: raw.webhook,
            timeout: raw.timeout.0,
            every: raw.every.0,
        })
    });
    checked.collect()
}

fn drills(written: &mut List<keys::Drill, 0>, mistakes: &mut Mistakes) -> Option<Vec<Entry>> {
    let written = std::mem::replace(written, List::unread());
    let mut known = Vec::new();
    for scenario in written.items.iter().filter_map(|raw| raw.scenario.as_ref()) {
        if known.contains(&scenario.value) {
            let what = format!("drills: {scenario} stands there twice");
            let mistake = Mistake::at(scenario.place(), what).expected("each scenario once");
            mistakes.add(mistake.hint("write all its windows into one drill".to_owned()));
        }
        known.push(scenario.value);
    }
    let checked = written.items.into_iter().map(|raw| {
        Some(Entry {
            scenario: match raw.scenario?.value {
                keys::Rehearsed::PrimaryGone => Scenario::PrimaryGone,
                keys::Rehearsed::PrimaryAtRisk => Scenario::PrimaryAtRisk,
                keys::Rehearsed::ShadowWorse => Scenario::ShadowWorse,
            },
            every: raw.every.0,
            within: raw.within.items.into_iter().map(window).collect(),
        })
    });
    checked.collect()
}

fn window(raw: keys::Window) -> Window {
    Window {
        days: raw.days.items,
        dates: raw.dates.items,
        from: raw.from.value,
        to: raw.to.value,
        reason: raw.reason.map(|line| line.0),
    }
}
