//! Which shadow a pair gets that names none: `engine::placement`, told what is configured and what proxies have said, and
//! asked at the right time.
//!
//! It is asked every ten seconds, and only while the pair is at rest: nobody is at its shadow, nothing is ordered, and the
//! configured primary serves. Else what stands stays, whatever is measured, because a shadow that is exchanged under its
//! users takes them along. What stands also after a restart is kept with the pair, so a new leader goes on from it, and
//! only the margin makes it another one.
//!
//! Proxies see the shadow that a pair has and nobody else's. So what they have seen of one that was given up is
//! remembered: a standby that did not come up would else look as good as new the moment it is replaced, be chosen again,
//! and leave the pair without a shadow each time. It is left alone for an hour, twice as long each further time.
// Concept: endpoint-shadow-choice

use std::time::Duration;

use foreshade_contract::{Arm, Name, PairId};
use foreshade_engine::lifecycle::Pair;
use foreshade_engine::lifecycle::sight::ArmHealth;
use foreshade_engine::lifecycle::state::{State, Warm};
use foreshade_engine::moment::Moment;
use foreshade_engine::placement::{Candidate, Choice, Need, choose};
use serde::{Deserialize, Serialize};

use crate::config::placement::Ground;
use crate::fleet::PairView;
use crate::reconcile::Instant;

/// How often it is asked. Probes need a few seconds to call an endpoint well or not; nothing here is urgent.
pub const LOOK: Duration = Duration::from_secs(10);

/// Looks in a row at which a shadow was unwell until it is given up: a minute, in which most restarts are over.
const UNWELL_LOOKS: u32 = 6;

/// Looks for which a shadow that was given up is left alone: an hour.
const REST_LOOKS: u32 = 360;

/// How often that is doubled at most: a day and a third.
const DOUBLINGS_MAX: u32 = 5;

/// Most candidates of which something is remembered. More than this do not fail by turns.
const REMEMBERED_MAX: usize = 32;

/// Most candidates that are shown, the best of them.
const SHOWN_MAX: usize = 16;

/// The last choice: kept with the pair, and shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Who; nobody, where every candidate is ruled out.
    pub shadow: Option<Name>,
    /// Why, in one sentence.
    pub reason: String,
    /// When it was looked at last, in milliseconds since 1970.
    pub at_ms: u64,
    /// Candidates, the best first, each in one sentence.
    pub candidates: Vec<String>,
    /// Further ones.
    pub further: usize,
    /// What is remembered of candidates.
    remembered: Vec<Remembered>,
}

/// What proxies said of a candidate while it was the shadow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    name: Name,
    /// Looks for which it is still left alone.
    rest: u32,
    /// How often it was given up.
    given_up: u32,
    /// Round trip to it.
    rtt: Option<Duration>,
}

/// The choice of one pair, from look to look.
#[derive(Debug, Default)]
pub(crate) struct Choosing {
    chosen: Option<Chosen>,
    looked: Option<Moment>,
    unwell: u32,
}

/// What a look has to go by.
pub(crate) struct Seen<'a> {
    pub(crate) pair: &'a Pair,
    pub(crate) view: &'a PairView,
    /// Standbys that others have, and who.
    pub(crate) taken: &'a [(Name, PairId)],
    pub(crate) at: Instant,
}

impl Choosing {
    /// Goes on from what was kept.
    pub(crate) fn resume(chosen: Option<Chosen>) -> Self {
        Self {
            chosen,
            ..Self::default()
        }
    }

    /// The last choice.
    pub(crate) fn chosen(&self) -> Option<&Chosen> {
        self.chosen.as_ref()
    }

    /// Whether it will ask who is taken.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.looked.is_none_or(|looked| now.since(looked) >= LOOK)
    }

    /// The shadow that the pair is to have.
    pub(crate) fn shadow(&mut self, ground: &Ground, seen: &Seen<'_>) -> Option<Name> {
        let standing = seen.pair.shadow.clone();
        if !is_at_rest(seen.pair, seen.view) {
            // What was thought of it before is no reason to change it afterwards.
            (self.looked, self.unwell) = (None, 0);
            return standing;
        }
        if self.is_due(seen.at.now) {
            self.looked = Some(seen.at.now);
            self.look(ground, seen);
        }
        let chosen = self.chosen.as_ref().and_then(|chosen| chosen.shadow.clone());
        chosen.or(standing)
    }

    fn look(&mut self, ground: &Ground, seen: &Seen<'_>) {
        let before = self.chosen.take().unwrap_or_default();
        let mut remembered = before.remembered;
        for known in &mut remembered {
            known.rest = known.rest.saturating_sub(1);
        }
        self.learn(&mut remembered, seen);
        let candidates: Vec<Candidate> = ground
            .candidates
            .iter()
            .map(|candidate| known(candidate, ground, &remembered, seen))
            .collect();
        let need = Need {
            primary: &ground.primary,
            name: &seen.pair.id.primary,
            demand_rps: seen.view.demand_rps,
            current: seen.pair.shadow.as_ref(),
        };
        let choice = choose(&need, &candidates, &ground.policy);
        if choice.changed {
            tracing::info!(cluster = %seen.pair.id.cluster, endpoint = %seen.pair.id.primary,
                shadow = choice.shadow.as_ref().map(Name::as_str), reason = choice.reason, "shadow chosen");
        }
        self.chosen = Some(kept(choice, remembered, seen.at.wall_ms));
    }

    /// What proxies say of the shadow that stands.
    fn learn(&mut self, remembered: &mut Vec<Remembered>, seen: &Seen<'_>) {
        let Some(standing) = &seen.pair.shadow else {
            self.unwell = 0;
            return;
        };
        let [_, arm] = &seen.view.arms;
        let is_unwell = matches!(arm.health, ArmHealth::Sick | ArmHealth::Draining) || arm.is_gone();
        let is_nowhere = seen.view.share.is_none() && seen.view.unapplied.is_some();
        let rtt = seen.view.shadow_rtt;
        self.unwell = match is_unwell || is_nowhere {
            true => self.unwell.saturating_add(1),
            false => 0,
        };
        let is_given_up = self.unwell >= UNWELL_LOOKS;
        if is_given_up || rtt.is_some() || remembered.iter().any(|known| known.name == *standing) {
            let mut known = taken_out(remembered, standing);
            known.rtt = rtt.or(known.rtt);
            if is_given_up {
                known.rest = REST_LOOKS << known.given_up.min(DOUBLINGS_MAX);
                known.given_up = known.given_up.saturating_add(1);
                self.unwell = 0;
            } else if arm.is_well() {
                // Nobody could replace it, and it came back.
                known.rest = 0;
            }
            // The one of which nothing was learnt for longest makes room.
            if remembered.len() >= REMEMBERED_MAX {
                remembered.remove(0);
            }
            remembered.push(known);
        }
    }
}

/// Nobody would notice another shadow.
fn is_at_rest(pair: &Pair, view: &PairView) -> bool {
    let rests = matches!(
        pair.state,
        State::Unassigned
            | State::Provisioning
            | State::Syncing
            | State::Warm(Warm::Idle | Warm::Mirroring)
            | State::Failed
    );
    let nobody_is_there = match view.share {
        Some(share) => share <= 0.0,
        // Nobody was heard: it may be that they have moved users. Where no proxy knows it, none can have.
        None => pair.shadow.is_none() || view.unapplied.is_some(),
    };
    let nothing_is_ordered =
        pair.course.trigger.is_none() && pair.suspended.is_none() && pair.overrides.share().is_none();
    rests && nobody_is_there && nothing_is_ordered && pair.serving == Arm::Primary
}

/// A candidate, with what is known of it now.
fn known(candidate: &Candidate, ground: &Ground, remembered: &[Remembered], seen: &Seen<'_>) -> Candidate {
    let known = remembered.iter().find(|known| known.name == candidate.name);
    let taken = seen.taken.iter().find(|(name, _)| *name == candidate.name);
    Candidate {
        latency: known.and_then(|known| known.rtt).or(candidate.latency),
        fit: known.is_none_or(|known| known.rest == 0),
        taken_by: taken.filter(|_| !ground.shared).map(|(_, by)| by.primary.clone()),
        ..candidate.clone()
    }
}

/// What is remembered of one candidate; of one that is new, nothing.
fn taken_out(remembered: &mut Vec<Remembered>, name: &Name) -> Remembered {
    match remembered.iter().position(|known| known.name == *name) {
        Some(at) => remembered.remove(at),
        None => Remembered {
            name: name.clone(),
            rest: 0,
            given_up: 0,
            rtt: None,
        },
    }
}

fn kept(choice: Choice, remembered: Vec<Remembered>, at_ms: u64) -> Chosen {
    let further = choice.judged.len().saturating_sub(SHOWN_MAX) + choice.dropped;
    let shown = choice.judged.into_iter().take(SHOWN_MAX);
    Chosen {
        shadow: choice.shadow,
        reason: choice.reason,
        at_ms,
        candidates: shown.map(|judged| judged.sentence).collect(),
        further,
        remembered,
    }
}
