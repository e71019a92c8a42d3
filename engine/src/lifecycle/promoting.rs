//! The roles change hands: Fence, CatchUp, Flip, Cutover.
//!
//! First the old writer stops, then the new one takes in what was written, then it begins, then traffic follows. Each
//! part is confirmed before the next one starts, and until the flip going back is free. What can be undone after it is
//! decided at the flip and written down there: where the old primary follows the new one, both stay possible; where it
//! does not, this is the point of no return.
//!
//! A pair without state goes through the same parts, and waits in none of them.
// Concept: topo-switchover

use super::Pair;
use super::cause::Cause;
use super::guards::STANDBY_FIT;
use super::points::BasisPoints;
use super::rule::{NOTHING, Rule, When};
use super::state::{Promoting, State};
use super::view::{Seen, View};

pub(super) const RULES: &[Rule] = &[
    Rule {
        from: State::Promoting(Promoting::Fence),
        to: State::Promoting(Promoting::CatchUp),
        when: When {
            says: "the old writer has stopped",
            ask: |view| {
                let term = view.pair.writer.term;
                view.is_fenced().then(|| or_nothing(view, Cause::Fenced { term }))
            },
        },
        guards: &[],
        act: NOTHING,
    },
    Rule {
        from: State::Promoting(Promoting::CatchUp),
        to: State::Promoting(Promoting::Flip),
        when: When {
            says: "all that was written has arrived",
            ask: |view| {
                let term = view.pair.writer.term;
                view.is_caught_up()
                    .then(|| or_nothing(view, Cause::CaughtUp { term }))
            },
        },
        guards: &[&STANDBY_FIT],
        act: flip,
    },
    Rule {
        from: State::Promoting(Promoting::Flip),
        to: State::Promoting(Promoting::Cutover),
        when: When {
            says: "the new writer has begun",
            ask: |view| {
                let (arm, term) = (view.standby(), view.pair.writer.term);
                view.is_granted()
                    .then(|| or_nothing(view, Cause::Granted { arm, term }))
            },
        },
        guards: &[],
        act: cut_over,
    },
    Rule {
        from: State::Promoting(Promoting::Cutover),
        to: State::Baking,
        when: When {
            says: "every proxy follows",
            ask: |view| {
                let generation = view.pair.generation;
                view.is_confirmed_by_all()
                    .then_some(Cause::Acknowledged { generation })
            },
        },
        guards: &[],
        act: |pair, seen| pair.new_round(seen),
    },
];

/// The old writer has to stop.
pub(super) fn begin(pair: &mut Pair, _: Seen<'_>) {
    if pair.writer.stateful {
        pair.writer.fence();
    }
}

/// The shadow becomes the writer; what is possible from here on is written down.
fn flip(pair: &mut Pair, seen: Seen<'_>) {
    let old = pair.serving;
    if pair.writer.stateful {
        pair.writer.grant(old.other());
    }
    pair.ponr = pair.writer.stateful && !seen.policy.sync.reverse;
    pair.rollback_target = (!pair.ponr).then_some(old);
}

/// The roles are swapped: what was everything at the standby is everything at the primary.
fn cut_over(pair: &mut Pair, seen: Seen<'_>) {
    pair.serving = pair.serving.other();
    pair.share = BasisPoints::ZERO;
    pair.flap.changed_roles(&seen.policy.flap);
}

fn or_nothing(view: &View<'_>, cause: Cause) -> Cause {
    if view.is_stateful() {
        cause
    } else {
        Cause::NothingToSync
    }
}
