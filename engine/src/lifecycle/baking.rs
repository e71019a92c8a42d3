//! The shadow serves everybody: Baking and Committed, and FailedOver, which leads there.
//!
//! Most tools stop looking when a promotion is done, and scale the old primary to nothing (Argo Rollouts #1978, Flagger
//! #453). Here the new primary is watched until it has served enough, and the old one is kept for a quick undo.
// Concept: topo-switchover, topo-resync

use super::cause::{Cause, ms};
use super::command::Verb;
use super::guards::{CARRIES_NEXT, FLAP_BUDGET, IN_SYNC, SAFE, STANDBY_FIT, STANDBY_SILENT};
use super::rule::{Rule, When};
use super::state::{Shifting, State};
use super::view::Seen;
use super::{Alert, Course, Mode, Pair, Trigger, warm};

pub(super) const RULES: &[Rule] = &[
    Rule {
        from: State::FailedOver,
        to: State::Baking,
        when: When {
            says: "a quorum of proxies follows, and the new writer has begun",
            ask: |view| {
                let generation = view.pair.generation;
                (view.is_confirmed() && view.is_granted()).then_some(Cause::Acknowledged { generation })
            },
        },
        guards: &[],
        act: |pair, seen| pair.new_round(seen),
    },
    Rule {
        from: State::Baking,
        to: State::Committed,
        when: When {
            says: "it has served long enough and enough requests",
            ask: |view| {
                let requests = view.sight.bake.requests;
                // Nobody is sent there in a dry run, so nothing can be counted. A simulation counts what it supposes.
                let uncounted = view.pair.mode == Mode::DryRun;
                let enough = requests >= view.policy.bake_requests || uncounted;
                (enough && view.pair.elapsed >= view.policy.times.bake).then(|| Cause::Baked {
                    requests,
                    for_ms: ms(view.pair.elapsed),
                })
            },
        },
        guards: &[],
        act: commit,
    },
    Rule {
        from: State::Committed,
        to: State::Shifting(Shifting::Advancing),
        when: When {
            says: "an operator undoes it",
            ask: |view| {
                let undo = view.pair.course.trigger == Some(Trigger::Undo);
                undo.then_some(Cause::Ordered { verb: Verb::Undo })
            },
        },
        guards: &[
            &STANDBY_FIT,
            &STANDBY_SILENT,
            &IN_SYNC,
            &CARRIES_NEXT,
            &FLAP_BUDGET,
            &SAFE,
        ],
        act: warm::begin,
    },
];

/// It is the primary now.
pub(super) fn commit(pair: &mut Pair, _: Seen<'_>) {
    pair.course = Course::default();
    pair.gates.forget_all();
    pair.flap.succeeded();
}

/// The old primary becomes the shadow, or goes; there is nothing to go back to any more, also for an undo that still waits.
pub(super) fn settle(pair: &mut Pair, _: Seen<'_>) {
    if pair.course.trigger.is_some() {
        pair.alert = Some(Alert::GivenUp);
    }
    pair.course = Course::default();
    pair.rollback_target = None;
    pair.ponr = false;
    pair.looks.forget();
}
