//! Why an endpoint is where it is: the records that decisions were made from, and one line that says it.
//!
//! A record is taken from the assessment and the decision themselves, so an explanation is the decision and not a story
//! about it. The last 60 ticks are kept per endpoint, and apart from them the last 32 decisions that changed something,
//! because those are what is asked for an hour later.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use foreshade_contract::{Name, Risk, Share};
use serde::Serialize;

use crate::assessment::{Assessment, Group, Standing, Term};
use crate::decision::{Bound, EndpointDecision, Mode, Phase};
use crate::moment::Moment;

/// Ticks kept: six seconds of them.
pub const RECORDS_MAX: usize = 60;

/// Changes kept.
pub const CHANGES_MAX: usize = 32;

/// Terms kept per record: the strongest.
pub const TERMS_MAX: usize = 4;

/// A share that moved by this much is a change worth keeping.
const SHARE_STEP: f64 = 0.05;

/// One tick of one endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// When.
    pub at: Moment,
    /// Its risk.
    pub risk: Risk,
    /// Risk by that tick's evidence alone.
    pub raw: Risk,
    /// The strongest terms.
    pub terms: Vec<Term>,
    /// Sum of all hazards.
    pub hazard: f64,
    /// Where it stood.
    pub standing: Standing,
    /// Whether it could be chosen.
    pub available: bool,
    /// Its weight in balancing.
    pub weight: f64,
    /// The cluster's mode.
    pub mode: Mode,
    /// The shift to its shadow, if it has one.
    pub shift: Option<ShiftRecord>,
}

/// The shift in one tick.
#[derive(Clone, Debug, Serialize)]
pub struct ShiftRecord {
    /// Where it stood.
    pub phase: Phase,
    /// Share at the shadow.
    pub share: Share,
    /// Share that the risk asked for.
    pub wanted: Share,
    /// The most that could move.
    pub cap: Share,
    /// What bound it.
    pub bound: Bound,
    /// Why, in words.
    pub reason: Cow<'static, str>,
}

/// All that is kept of one endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The endpoint.
    pub endpoint: Name,
    /// The newest record in one line; empty before the first tick.
    pub line: String,
    /// The last ticks, oldest first.
    pub records: Vec<Record>,
    /// The last ticks that changed something, oldest first.
    pub changes: Vec<Record>,
}

/// The records of one endpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    records: VecDeque<Record>,
    changes: VecDeque<Record>,
}

impl History {
    /// Keeps a tick.
    pub(crate) fn record(&mut self, at: Moment, mode: Mode, seen: &Assessment, decided: &EndpointDecision) {
        let record = Record::new(at, mode, seen, decided);
        if self.changes.back().is_none_or(|last| record.differs_from(last)) {
            push_bounded(&mut self.changes, record.clone(), CHANGES_MAX);
        }
        push_bounded(&mut self.records, record, RECORDS_MAX);
    }

    /// All that is kept.
    pub(crate) fn explanation(&self, endpoint: Name) -> Explanation {
        Explanation {
            endpoint,
            line: self.records.back().map(Record::to_string).unwrap_or_default(),
            records: self.records.iter().cloned().collect(),
            changes: self.changes.iter().cloned().collect(),
        }
    }
}

impl Record {
    fn new(at: Moment, mode: Mode, seen: &Assessment, decided: &EndpointDecision) -> Self {
        Self {
            at,
            risk: seen.risk,
            raw: seen.raw,
            terms: seen.terms.iter().take(TERMS_MAX).cloned().collect(),
            hazard: seen.terms.iter().map(|term| term.hazard).sum(),
            standing: seen.standing,
            available: decided.available,
            weight: decided.weight,
            mode,
            shift: decided.shift.as_ref().map(|shift| ShiftRecord {
                phase: shift.phase,
                share: shift.share,
                wanted: shift.wanted,
                cap: shift.cap,
                bound: shift.bound,
                reason: shift.reason.clone(),
            }),
        }
    }

    fn differs_from(&self, last: &Self) -> bool {
        let shifts_differ = match (&self.shift, &last.shift) {
            (Some(now), Some(then)) => {
                now.phase != then.phase
                    || now.bound != then.bound
                    || (now.share.value() - then.share.value()).abs() >= SHARE_STEP
                    || (now.share == Share::ZERO) != (then.share == Share::ZERO)
            }
            (now, then) => now.is_some() != then.is_some(),
        };
        shifts_differ
            || self.available != last.available
            || self.mode != last.mode
            || self.standing != last.standing
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R={}", self.risk)?;
        if self.standing != Standing::Known {
            let standing = if self.standing == Standing::Dead {
                "dead"
            } else {
                "unknown"
            };
            write!(f, " {standing}")?;
        }
        for term in self.terms.iter().filter(|term| term.hazard > 0.0) {
            let part = 100.0 * term.hazard / self.hazard.max(f64::MIN_POSITIVE);
            write!(f, " {} {part:.0}% (", term.component)?;
            quantity(f, term, term.observed)?;
            if term.samples > 0.0 {
                write!(f, " of {:.0}", term.samples)?;
            }
            write!(f, ", base ")?;
            quantity(f, term, term.baseline)?;
            write!(f, ")")?;
        }
        if let Some(shift) = &self.shift {
            write!(f, " -> share {}", shift.share)?;
            if shift.bound != Bound::None {
                write!(f, " limited by {}", shift.bound.label())?;
            }
            write!(f, " ({}: {})", shift.phase.label(), shift.reason)?;
        }
        if self.mode != Mode::Normal {
            write!(f, " [{}]", self.mode.label())?;
        }
        Ok(())
    }
}

/// Shares of requests read best in percent, everything else as it is.
fn quantity(f: &mut fmt::Formatter<'_>, term: &Term, value: f64) -> fmt::Result {
    if term.group == Group::Hard && term.component == "errors" {
        write!(f, "{:.1}%", value * 100.0)
    } else {
        write!(f, "{value:.2}")
    }
}

fn push_bounded<T>(ring: &mut VecDeque<T>, value: T, max: usize) {
    if ring.len() >= max {
        ring.pop_front();
    }
    ring.push_back(value);
}
