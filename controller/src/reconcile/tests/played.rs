//! A played proxy: it follows plans, serves users by them, and says what it counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use foreshade_contract::plan::Plan;
use foreshade_contract::report::{ArmCounters, BootId, Health, PairReport, Segment};
use foreshade_contract::{Arm, Name, PairId, PairPlan, Round, Share};

/// Sums of one pair in one proxy.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) round: Round,
    arms: [ArmCounters; 2],
    segments: Vec<Segment>,
    /// The part of a request that the other arm has not had yet.
    owed: f64,
}

/// A played proxy.
pub(super) struct Played {
    pub(super) name: Name,
    pub(super) boot: BootId,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) sums: BTreeMap<PairId, Sums>,
    pub(super) sequence: u64,
    pub(super) is_cut_off: bool,
    /// How much more of the requests the other arm has here than was drawn, as balancing has it. A factor.
    pub(super) lean: f64,
}

impl Played {
    /// Follows a plan, unless it is older than the one it has.
    pub(super) fn take(&mut self, plan: Arc<Plan>) {
        if self.plan.as_ref().is_none_or(|mine| plan.id() > mine.id()) {
            self.plan = Some(plan);
        }
    }

    pub(super) fn reported(&self) -> Vec<PairReport> {
        let plan = self.plan.iter().flat_map(|plan| plan.pairs());
        let reported = plan.map(|planned| {
            let sums = self.sums.get(&planned.pair).cloned().unwrap_or_default();
            PairReport {
                pair: planned.pair.clone(),
                round: sums.round,
                serving: planned.serving,
                share: planned.directed.unwrap_or(Share::ZERO),
                risk: [None; 2],
                health: [Health::Up; 2],
                arms: sums.arms,
                segments: sums.segments,
                latency: Default::default(),
                network: Default::default(),
                mirrored: Default::default(),
            }
        });
        reported.collect()
    }
}

impl Sums {
    /// From zero, in this round.
    pub(super) fn of(round: Round) -> Self {
        Self {
            round,
            ..Self::default()
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part lies between 0 and 1"
    )]
    pub(super) fn serve(&mut self, planned: &PairPlan, lean: f64, failing: [u64; 2], requests: u64) {
        let share = planned.directed.unwrap_or(Share::ZERO);
        let known = self.segments.iter().position(|segment| segment.share == share);
        let at = known.unwrap_or_else(|| {
            let arms = Default::default();
            self.segments.push(Segment { share, arms });
            self.segments.len() - 1
        });
        let part = (share.value() * lean).min(1.0);
        self.owed += requests as f64 * part;
        let other = (self.owed + 1e-6) as u64;
        self.owed -= other as f64;
        let arms = match planned.serving {
            Arm::Primary => [requests - other, other],
            Arm::Shadow => [other, requests - other],
        };
        for (index, requests) in arms.into_iter().enumerate() {
            let counted = ArmCounters {
                requests,
                status_5xx: requests * failing[index] / 1000,
                over: [requests / 2, requests / 10, requests / 100, 0],
                ..ArmCounters::default()
            };
            self.arms[index].add(&counted);
            self.segments[at].arms[index].add(&counted);
        }
    }
}
