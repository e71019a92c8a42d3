//! Gray failures: the endpoint is well for some and sick for others.
//!
//! Two kinds. A *route class* is sick by itself while others demonstrably are not: then it alone moves, and its bad
//! samples are kept out of the endpoint's judgement, before they could trip it. And *disagreement*: probes pass while
//! users fail, which is what HotOS'17 calls differential observability; the users are right.
//!
//! Who is sick is settled by an inquest that opens when the first class becomes suspect: for every other class, are its
//! samples since then like the suspect's, or like its own healthy ones? Few samples prove neither, and such a class has no
//! vote. Nearly all sick: it is the endpoint.

use crate::cusum::{Batch, Hypotheses, ramp};
use crate::outcome::ROUTE_CLASSES;

use super::class::{ClassState, Inquest};
use super::combine::Finding;
use super::watch::{FailureWatch, SlowWatch};

/// Nats at which a class is suspect, and at which it counts as sick: below any threshold, so that the question who it
/// is is settled before any detector trips.
const SUSPECT: f64 = 3.0;
const SICK: f64 = 6.0;

/// Nats by which a class has to look healthy rather than as sick as the sick ones.
const WELL: f64 = 3.0;

/// Largest share of the judged classes that may be sick for them to be sick by themselves.
const SHARE: f64 = 0.7;

/// Time constant of an inquest, seconds.
const INQUEST_S: f64 = 2.0;

/// Endpoint risk under which a class that was sick alone is taken back, once its detectors are quiet.
const RELEASE: f64 = 0.15;

/// The classes of an endpoint, by index.
pub type Classes = [Option<Box<ClassState>>; ROUTE_CLASSES];

/// Decides who is sick alone, after all watches were fed. Moves evidence out of and into the endpoint's own watches: those
/// of failures and of broken connections, and that of slow answers.
pub fn settle(
    classes: &mut Classes,
    seconds: f64,
    [failures, breaks]: [&mut FailureWatch; 2],
    slow: &mut SlowWatch,
) {
    let open = classes.iter().flatten().any(|class| class.score() >= SUSPECT);
    let keep = (-seconds / INQUEST_S).exp();
    for class in classes.iter_mut().flatten() {
        if open {
            class.inquest.add(keep, class.attempts, &class.tick);
        } else {
            class.inquest = Inquest::default();
        }
        if class.alone && class.score() <= 0.0 && class.memory.risk() < RELEASE {
            class.alone = false;
        }
    }
    if !open {
        return;
    }
    let (sick, well) = count(classes);
    let share = sick as f64 / (sick + well).max(1) as f64;
    for class in classes.iter_mut().flatten() {
        let is_sick = class.score() >= SICK;
        if is_sick && !class.alone && well > 0 && share <= SHARE {
            class.alone = true;
            failures.expel(&class.failures);
            // How many of a class's failures were resets is not known; those of the endpoint's connections come again.
            breaks.expel(&class.failures);
            slow.expel(&class.slow);
        } else if is_sick && class.alone && sick > 1 && share > SHARE {
            class.alone = false;
            failures.absorb(&class.failures);
            slow.absorb(&class.slow);
        }
    }
}

/// How many classes are sick, and how many are demonstrably not.
fn count(classes: &Classes) -> (usize, usize) {
    let (mut failed, mut slowed) = (Batch::default(), Batch::default());
    let mut sick = 0;
    for class in classes.iter().flatten().filter(|class| class.score() >= SICK) {
        sick += 1;
        if class.failures.score() >= SICK {
            failed.add(class.inquest.attempts);
        }
        if class.slow.score() >= SICK {
            slowed.add(class.inquest.near);
        }
    }
    let well = classes
        .iter()
        .flatten()
        .filter(|class| class.score() < SICK && is_well(class, failed, slowed))
        .count();
    (sick, well)
}

/// Whether a class's samples speak for health, against being as sick as the sick ones are.
fn is_well(class: &ClassState, failed: Batch, slowed: Batch) -> bool {
    let inquest = &class.inquest;
    let mut asked = false;
    if failed.bad > 0.0 {
        asked = true;
        let as_sick = half_as_sick(class.baseline.bad_share().min(0.01), failed);
        if as_sick.log_ratio(inquest.attempts) > -WELL {
            return false;
        }
    }
    if slowed.bad > 0.0 {
        asked = true;
        let healthy = inquest.near_expected / inquest.near.total.max(1.0);
        if inquest.near.total <= 0.0 || half_as_sick(healthy, slowed).log_ratio(inquest.near) > -WELL {
            return false;
        }
    }
    asked
}

/// Healthy, or half as sick as the sick: those were noticed first because they looked worst, and who is sick by the same
/// cause looks better than they do.
fn half_as_sick(healthy: f64, sick: Batch) -> Hypotheses {
    Hypotheses::new(healthy, healthy + (sick.share() - healthy) / 2.0)
}

/// Probes pass while users fail. `passing`: probes passed in the last seconds and none failed.
pub fn disagreement(passing: bool, failures: &Finding, attempts: Batch) -> Finding {
    if !passing {
        return Finding::default();
    }
    let (lower, _) = attempts.bounds(1.645);
    Finding {
        effect: ramp(lower, 0.025, 0.05),
        evidence: failures.evidence,
        observed: attempts.share(),
        baseline: 0.0,
        samples: attempts.total,
    }
}
