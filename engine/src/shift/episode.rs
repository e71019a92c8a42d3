//! One illness of a primary: what it looked like at its worst, and what has been tried since.

use std::time::Duration;

use foreshade_contract::{Risk, Share};
use serde::{Deserialize, Serialize};

use super::cap::Limits;
use super::loss::Loss;
use super::recovery::Recovery;
use super::{Sight, cap, loss, memory, ramp, recovery};
use crate::assessment::{Assessment, Group};
use crate::moment::Moment;

/// How long the first step after a relapse is left to show what it does: an overload drains within a second of having
/// less to do, and latency is judged over two seconds that must not begin before that.
const SETTLING: Duration = Duration::from_secs(3);

/// Largest first step after a relapse.
const STEP: f64 = 0.15;

/// Slowdown that shows in the first few answers of a contact, so that failures need not be waited for.
const PLAINLY_SLOW: f64 = 2.0;

/// One illness of the primary, from engagement until all traffic is back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Episode {
    /// The highest risk in it.
    pub(super) worst: Risk,
    /// The largest loss in it.
    pub(super) loss: Loss,
    /// The largest share that its causes may move by themselves.
    pub(super) authority: Share,
    /// The largest share that the risk asked for.
    pub(super) wanted: Share,
    pub(super) hold: Duration,
    /// No contact before.
    pub(super) contact_at: Moment,
    pub(super) contacts_failed: u32,
    /// Lower bound of the share of requests that failed, at its largest.
    pub(super) worst_bad: f64,
    /// It has been plainly slow.
    slow: bool,
    /// When, and at which share, it failed again after it had been well enough to take traffic back.
    relapsed: Option<(Moment, f64)>,
    /// It has been dead.
    pub(super) died: bool,
    /// Requests per second at engagement, where load was the cause.
    pub(super) overloaded_at_rps: Option<f64>,
    pub(super) recovery: Option<Recovery>,
}

impl Episode {
    /// It begins; no contact with the primary before `hold` is over. In panic it comes as soon as one after a failed
    /// contact.
    pub(super) fn new(sight: &Sight<'_>, hold: Duration) -> Self {
        // Where capacity is what is missing, nobody may idle for long without being asked.
        let first = if sight.in_panic {
            recovery::next_contact(hold, 0, hold)
        } else {
            hold
        };
        Self {
            worst: sight.primary.risk,
            loss: Loss::NONE,
            authority: Share::ZERO,
            wanted: Share::ZERO,
            hold,
            contact_at: sight.now + first,
            contacts_failed: 0,
            worst_bad: 0.0,
            slow: false,
            relapsed: None,
            died: false,
            overloaded_at_rps: is_overload(sight.primary).then_some(sight.primary.rps),
            recovery: None,
        }
    }

    /// Opens the recovery, where it is time to.
    pub(super) fn consider_contact(&mut self, sight: &Sight<'_>, share: f64) {
        if sight.holds_returns() || !recovery::may_contact(sight, self.contact_at) {
            return;
        }
        let failing = if self.slow { 0.0 } else { self.worst_bad };
        let recovery = Recovery::open(sight, share, failing, self.overloaded_at_rps);
        self.recovery = Some(if self.died {
            recovery.forgiving(sight)
        } else {
            recovery
        });
    }

    /// It failed again on its way back, at this share. What it looked like before its recovery was proven counts no
    /// longer: an endpoint that has lost half its cores was dead under all of its load and is well under half of it,
    /// and moving everything again would only start the same cycle anew. A little more than at the relapse is wanted
    /// for now; if it is truly sick again, its risk will ask for the rest.
    pub(super) fn relapse(&mut self, sight: &Sight<'_>, share: f64) {
        self.worst = sight.primary.risk;
        self.loss = Loss::NONE;
        self.worst_bad = 0.0;
        self.slow = false;
        self.died = false;
        self.relapsed = Some((sight.now, share));
        self.wanted = Share::clamped(share + memory::MARGIN);
        self.contacts_failed = 0;
        self.latch_worst(sight);
    }

    /// The share that the risk asks for now. After a relapse what is seen now counts, because risk that is still
    /// remembered was found under more load; and for a moment no more than one step is taken, until it shows what that
    /// has done.
    fn asked(&self, sight: &Sight<'_>) -> Share {
        let Some((at, share)) = self.relapsed else {
            return ramp::wanted(sight.primary.risk, sight.policy);
        };
        let asked = ramp::wanted(sight.primary.raw, sight.policy);
        if sight.now.since(at) < SETTLING && self.worst_bad < super::FAILING {
            Share::clamped(asked.value().min(share + STEP))
        } else {
            asked
        }
    }

    /// What bounds the share beside the shadow. A plan's ceiling does not bind whoever has fled from a primary that was
    /// gone: he comes back on proof.
    pub(super) fn limits(&self, sight: &Sight<'_>) -> Limits {
        let fled = self.died && sight.guidance.failover;
        Limits {
            authority: self.authority,
            ceiling: if fled { Share::ONE } else { sight.guidance.ceiling },
        }
    }

    /// Remembers the worst of it, and what follows from that.
    pub(super) fn latch_worst(&mut self, sight: &Sight<'_>) {
        self.worst_bad = self.worst_bad.max(loss::bad_bounds(sight.primary).0);
        self.slow |= sight.primary.slowdown >= PLAINLY_SLOW;
        let risk = sight.primary.risk;
        if risk > self.worst {
            self.worst = risk;
        }
        let wanted = if sight.primary.is_dead() {
            Share::ONE
        } else {
            self.asked(sight)
        };
        if wanted > self.wanted {
            self.wanted = wanted;
        }
        let authority = cap::authority(sight.primary);
        if authority > self.authority {
            self.authority = authority;
        }
        self.died |= sight.primary.is_dead();
        self.loss = self.loss.max(Loss::of_primary(sight.primary, sight.reference));
    }
}

/// Whether the strongest cause is load.
fn is_overload(primary: &Assessment) -> bool {
    primary
        .terms
        .first()
        .is_some_and(|term| term.group == Group::Resource || term.component == "queue")
}
