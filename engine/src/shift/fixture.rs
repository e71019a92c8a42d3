//! Synthetic assessments and a clock, for the open-loop tests of the laws.

use std::time::Duration;

use foreshade_contract::{Risk, Share};

use super::{Reference, Sight};
use crate::ablation::Ablations;
use crate::assessment::{Assessment, Group, Standing, Term, TickEvidence};
use crate::cluster::Guidance;
use crate::moment::Moment;
use crate::spec::ShiftPolicy;

/// Logarithm of the healthy latency, microseconds.
pub(crate) const LN_US: f64 = 8.5;

pub(crate) struct Bench {
    pub(crate) now: Moment,
    pub(crate) policy: ShiftPolicy,
    pub(crate) shadow_available: bool,
    pub(crate) probed: bool,
    pub(crate) capacity: Share,
    pub(crate) frozen: bool,
    pub(crate) in_panic: bool,
    pub(crate) demand_rps: f64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            now: Moment::from_micros(1_000_000),
            policy: ShiftPolicy::default(),
            shadow_available: true,
            probed: false,
            capacity: Share::ONE,
            frozen: false,
            in_panic: false,
            demand_rps: 500.0,
        }
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    pub(crate) fn sight<'a>(&'a self, primary: &'a Assessment, shadow: &'a Assessment) -> Sight<'a> {
        Sight {
            now: self.now,
            dt: 0.1,
            primary,
            shadow,
            shadow_available: self.shadow_available,
            probed: self.probed,
            reference: Reference {
                bad: 0.001,
                ln_us: Some(LN_US),
            },
            demand_rps: self.demand_rps,
            capacity: self.capacity,
            granted: Share::ONE,
            frozen: self.frozen,
            in_panic: self.in_panic,
            guidance: Guidance::NONE,
            policy: &self.policy,
            ablations: Ablations::default(),
        }
    }
}

pub(crate) fn known(risk: f64) -> Assessment {
    let mut assessment = Assessment::unknown();
    assessment.standing = Standing::Known;
    assessment.risk = Risk::clamped(risk);
    assessment.raw = Risk::clamped(risk);
    if risk > 0.0 {
        assessment.terms = vec![term(Group::Hard, -(1.0 - risk).max(0.01).ln())];
    }
    assessment
}

pub(crate) fn term(group: Group, hazard: f64) -> Term {
    Term {
        group,
        component: "errors",
        effect: 1.0,
        evidence: 1.0,
        hazard,
        observed: 0.5,
        baseline: 0.001,
        samples: 100.0,
    }
}

/// A tick of `total` attempts of which `bad` failed and the rest was `slower` times as slow as usual.
pub(crate) fn tick(total: u32, bad: u32, slower: f64) -> TickEvidence {
    let served = total - bad;
    let n = f64::from(served);
    let (ratio, ln_us) = (slower.ln(), slower.ln() + LN_US);
    // Two points at one standard deviation of .5 have the spread of a quiet service.
    TickEvidence {
        total,
        bad,
        served,
        sum_ln_ratio: n * ratio,
        sum_sq_ln_ratio: n * (ratio * ratio + 0.25),
        sum_ln_us: n * ln_us,
        sum_sq_ln_us: n * (ln_us * ln_us + 0.25),
        started: total,
        ..TickEvidence::default()
    }
}
