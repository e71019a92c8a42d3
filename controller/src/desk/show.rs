//! A pair and what is known of it, as operators are shown it.

use foreshade_contract::{Arm, Name};
use foreshade_engine::lifecycle::Mode as Meant;
use foreshade_engine::lifecycle::Transition;
use foreshade_engine::lifecycle::cause::Obstacle;
use foreshade_engine::lifecycle::health::Health as State;
use foreshade_engine::lifecycle::overrides::{Override, Setting};
use foreshade_engine::lifecycle::policy::Point;
use foreshade_engine::lifecycle::state::State as Stand;
use foreshade_engine::verdict::Verdict as Answer;
use foreshade_engine::verdict::explain::{Evidence as Known, Explanation, MetricExplanation};
use foreshade_engine::verdict::mirror::{CheckExplanation, Explanation as Copies};

use crate::operator::What;
use crate::operator::view::{
    Analysis, AnalysisBrief, ArmView, Change, CheckView, Evidence, GateStanding, GateView, Health,
    MetricView, MirrorView, Mode, OverrideView, PairDetail, PairSummary, PlacementView, ProxiesView,
    StepView, TimetableView, UnappliedView, Verdict, WaiverView,
};
use crate::placing::Chosen;
use crate::reconcile::View;
use crate::webhook::Answer as Said;

/// A pair in a list.
pub(crate) fn summary(view: &View<'_>) -> PairSummary {
    let pair = view.pair;
    let (serving, [_, shadow]) = (view.sight.arm(pair.serving), pair.weights());
    PairSummary {
        pair: pair.id.to_string(),
        shadow: pair.shadow.as_ref().map(ToString::to_string),
        state: pair.state.to_string(),
        health: health(view.health),
        since_ms: pair.since_ms,
        generation: pair.generation.0,
        round: pair.round.0,
        serving: pair.serving.into(),
        share_set: shadow.fraction(),
        share_actual: view.share,
        risk: serving.risk.map(|risk| risk.value()),
        mode: mode(pair.mode),
        suspended: pair.suspended.is_some(),
        policy: view.spec.policy_name.to_string(),
        reason: view.reason.to_owned(),
    }
}

/// A pair with everything that is known of it.
pub(crate) fn detail(
    view: &View<'_>,
    proxies: ProxiesView,
    (explanation, mirror): (Option<&Explanation>, Option<&Copies>),
    now_ms: u64,
) -> PairDetail {
    let pair = view.pair;
    let is_moving = pair.state.is_active();
    let steps = &view.spec.policy.steps;
    PairDetail {
        summary: summary(view),
        arms: arms(view, explanation),
        step: is_moving.then(|| StepView {
            index: u32::try_from(pair.course.step.min(steps.last()))
                .unwrap_or(u32::MAX)
                .saturating_add(1),
            of: u32::try_from(steps.last()).unwrap_or(u32::MAX).saturating_add(1),
            share: steps.share(pair.course.step).fraction(),
        }),
        rollback_target: pair.rollback_target.map(Into::into),
        point_of_no_return: pair.ponr,
        gates: gates(view),
        overrides: pair.overrides.iter().filter_map(set_by_hand).collect(),
        waived: pair.overrides.iter().filter_map(waived).collect(),
        obstacles: view.waiting.iter().map(ToString::to_string).collect(),
        proxies,
        blocked_until_ms: view.spec.blocked_until(now_ms),
        cooldown_until_ms: rest(view).map(|rest| now_ms.saturating_add(ms(rest))),
        drill: view
            .drills
            .back()
            .filter(|drill| drill.ended.is_none())
            .map(|drill| drill.started_ms),
        timetable: view
            .timetable(now_ms)
            .map(|(scenario, every, next_ms)| TimetableView {
                scenario: scenario.into(),
                every_ms: ms(every),
                next_ms,
            })
            .collect(),
        analysis: explanation.map(brief),
        mirror: mirror.map(copies),
        placement: view.placement.map(placement),
        unapplied: view.unapplied.map(|unable| UnappliedView {
            proxies: count(unable.proxies),
            why: unable.why.clone(),
        }),
    }
}

fn placement(chosen: &Chosen) -> PlacementView {
    PlacementView {
        shadow: chosen.shadow.as_ref().map(ToString::to_string),
        reason: chosen.reason.clone(),
        at_ms: chosen.at_ms,
        candidates: chosen.candidates.clone(),
        further: count(chosen.further),
    }
}

fn arms(view: &View<'_>, explanation: Option<&Explanation>) -> Vec<ArmView> {
    let pair = view.pair;
    let requests = explanation.map_or([0; 2], |explanation| explanation.requests);
    Arm::ALL
        .into_iter()
        .filter_map(|arm| {
            let endpoint = match arm {
                Arm::Primary => Some(&pair.id.primary),
                Arm::Shadow => pair.shadow.as_ref(),
            }?;
            let seen = view.sight.arm(arm);
            let [serving, standby] = requests;
            Some(ArmView {
                endpoint: endpoint.to_string(),
                arm: arm.into(),
                health: if seen.is_gone() {
                    "gone"
                } else {
                    seen.health.label()
                }
                .to_owned(),
                risk: seen.risk.map(|risk| risk.value()),
                requests: if arm == pair.serving { serving } else { standby },
                failures: failures(explanation, arm == pair.serving),
                lag_ms: None,
            })
        })
        .collect()
}

fn failures(explanation: Option<&Explanation>, is_serving: bool) -> u64 {
    let failures = explanation.and_then(|explanation| explanation.metrics.first());
    failures.map_or(0, |metric| {
        if is_serving {
            metric.n.saturating_sub(metric.k)
        } else {
            metric.k
        }
    })
}

fn gates(view: &View<'_>) -> Vec<GateView> {
    let waits = |name| {
        view.waiting.iter().any(|obstacle| match obstacle {
            Obstacle::GateClosed { gate } => gate == name,
            _ => false,
        })
    };
    let gates = view.spec.policy.gates.iter().map(|gate| GateView {
        name: gate.name.to_string(),
        before: point(gate.point).to_owned(),
        standing: match view.pair.gates.said(&gate.name) {
            Some(true) => GateStanding::Open,
            Some(false) => GateStanding::Denied,
            None if waits(&gate.name) => GateStanding::Waiting,
            None if view.gates.get(&gate.name) == Some(&Said::Open) => GateStanding::Open,
            None => GateStanding::Idle,
        },
        said: said(view, &gate.name),
        // Signed by the API, which has the secret.
        link: None,
    });
    gates.collect()
}

/// What waits for a gate of this point.
pub(crate) fn point(point: Point) -> &'static str {
    match point {
        Point::Shift => "shift",
        Point::Increase => "increase",
        Point::Promote => "promote",
    }
}

fn said(view: &View<'_>, gate: &Name) -> Option<String> {
    let Some(word) = view.pair.gates.word(gate) else {
        return view.gates.get(gate).map(|answer| match answer {
            Said::Open => "its hook says yes".to_owned(),
            Said::Closed(why) => format!("its hook says no: {why}"),
        });
    };
    let verb = if word.open { "approved" } else { "denied" };
    Some(match word.actor.as_str() {
        "" => format!("{verb} by an operator"),
        actor => format!("{verb} by {actor}: {}", word.reason),
    })
}

/// How long it rests after a failure, where it does.
fn rest(view: &View<'_>) -> Option<std::time::Duration> {
    let rests = matches!(view.pair.state, Stand::Failed);
    let rest = view.pair.flap.cooldown_left();
    (rests && !rest.is_zero()).then_some(rest)
}

fn set_by_hand(set: &Override) -> Option<OverrideView> {
    let (what, value) = match set.setting {
        Setting::Share(points) => (What::Share, points),
        Setting::Ceiling(points) => (What::Ceiling, points),
        Setting::Risk(points) => (What::Risk, points),
        Setting::Safety(_) => return None,
    };
    Some(OverrideView {
        what,
        value: value.fraction(),
        until_ms: set.until_ms,
        actor: set.actor.clone(),
        reason: set.reason.clone(),
    })
}

fn waived(set: &Override) -> Option<WaiverView> {
    let Setting::Safety(rule) = set.setting else {
        return None;
    };
    Some(WaiverView {
        rule: rule.into(),
        until_ms: set.until_ms,
        actor: set.actor.clone(),
        reason: set.reason.clone(),
    })
}

/// The verdict so far.
pub(crate) fn analysis(explanation: &Explanation) -> Analysis {
    Analysis {
        brief: brief(explanation),
        requests: explanation.requests.to_vec(),
        warming: explanation.warming,
        metrics: explanation.metrics.iter().map(metric).collect(),
    }
}

/// What mirrors say.
fn copies(explanation: &Copies) -> MirrorView {
    let check = |check: &CheckExplanation| {
        let ([copies, bad], [others, others_bad]) = (check.copies, check.others);
        CheckView {
            check: check.check.to_string(),
            copies,
            bad,
            others,
            others_bad,
            worse: known(check.worse),
            ok: known(check.ok),
        }
    };
    MirrorView {
        verdict: verdict(explanation.verdict),
        worse: known(explanation.worse),
        checks: explanation.checks.iter().map(check).collect(),
        sentence: explanation.sentence.clone(),
    }
}

fn verdict(answer: Answer) -> Verdict {
    match answer {
        Answer::Worse => Verdict::Worse,
        Answer::NotWorse => Verdict::NotWorse,
        Answer::Undecided => Verdict::Undecided,
    }
}

fn brief(explanation: &Explanation) -> AnalysisBrief {
    let weakest = explanation
        .metrics
        .iter()
        .filter_map(|metric| metric.ok)
        .min_by(|one, other| {
            let part = |known: &Known| known.e / known.limit;
            part(one).total_cmp(&part(other))
        });
    let needed = explanation
        .metrics
        .iter()
        .filter_map(|metric| metric.needed)
        .max_by_key(|needed| needed.requests);
    AnalysisBrief {
        verdict: verdict(explanation.verdict),
        worse: known(explanation.worse),
        ok: weakest.map(known),
        needed_requests: needed.map(|needed| needed.requests),
        eta_ms: needed.and_then(|needed| needed.eta).map(ms),
        sentence: explanation.sentence.clone(),
    }
}

fn metric(metric: &MetricExplanation) -> MetricView {
    MetricView {
        metric: metric.metric.to_string(),
        events: metric.n,
        on_shadow: metric.k,
        worse: known(metric.worse),
        ok: metric.ok.map(known),
        ratio_low: metric.ratio.low,
        ratio_high: metric.ratio.high,
        needed_requests: metric.needed.map(|needed| needed.requests),
        eta_ms: metric.needed.and_then(|needed| needed.eta).map(ms),
        sentence: metric.sentence.clone(),
    }
}

fn known(evidence: Known) -> Evidence {
    Evidence {
        e: evidence.e,
        limit: evidence.limit,
    }
}

pub(crate) fn ms(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Something that became of a pair.
pub(crate) fn change(seq: u64, transition: &Transition) -> Change {
    let [_, shadow] = transition.after;
    Change {
        seq,
        at_ms: transition.at_ms,
        from: transition.from.to_string(),
        to: transition.to.to_string(),
        generation: transition.generation.0,
        share: shadow.fraction(),
        cause: transition.cause.to_string(),
        actor: transition.order.as_ref().map(|order| order.actor.clone()),
    }
}

fn health(health: State) -> Health {
    match health {
        State::Healthy => Health::Healthy,
        State::Progressing => Health::Progressing,
        State::Paused => Health::Paused,
        State::Degraded => Health::Degraded,
    }
}

fn mode(mode: Meant) -> Mode {
    match mode {
        Meant::Live => Mode::Live,
        Meant::DryRun => Mode::DryRun,
        Meant::Drill => Mode::Drill,
    }
}

/// Who carries the plan out, of a pair's point of view; all proxies have all pairs.
pub(crate) fn proxies(connected: usize, acknowledged: usize, stale: usize) -> ProxiesView {
    ProxiesView {
        connected: count(connected),
        acknowledged: count(acknowledged),
        stale: count(stale),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
