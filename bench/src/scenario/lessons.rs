//! What the oracle is taught, and when: a scenario's faults as advice.
//!
//! Whoever is faulty is left alone for what fails there; a part of an endpoint that still has some cores goes on
//! serving. What is wrong with everybody cannot be routed around, so nobody is taught it.

use std::time::Duration;

use super::{Scenario, site};
use crate::bare::oracle::{Faulty, Teaching};
use crate::farm::fault::{Fault, Kind};
use crate::scenario::script::by_endpoint;
use crate::stage::topology::Pair;

/// How busy an endpoint may be kept that has lost some of its cores. Above, its queue grows without bound for a while.
const BUSY_MAX: f64 = 0.8;

/// Changes of the teaching within one scenario.
const LESSONS_MAX: usize = 1_000;

/// What is wrong from one moment on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lesson {
    /// Since the onset.
    pub after: Duration,
    /// All of it.
    pub teaching: Teaching,
}

/// All lessons of a scenario in the order of their time, the first at the onset.
pub fn lessons(scenario: &Scenario, pairs: &[Pair]) -> Vec<Lesson> {
    let always = by_endpoint(&scenario.always, pairs);
    let passing = by_endpoint(&scenario.faults, pairs);
    let names = pairs.len() + site::standbys(pairs).len();
    let mut lessons: Vec<Lesson> = Vec::new();
    let mut next = Some(Duration::ZERO);
    while let Some(after) = next.filter(|after| *after < scenario.length && lessons.len() < LESSONS_MAX) {
        let mut teaching = Teaching::default();
        // An endpoint under a fault that everybody has all the time is as good as any.
        let own = if always.len() < names { Some(&always) } else { None };
        for (name, faults) in own.into_iter().flatten() {
            teaching
                .faulty
                .extend(faults.iter().map(|fault| advice(scenario, name, fault)));
        }
        let faulty = if passing.len() < names { passing.len() } else { 0 };
        for (name, faults) in passing.iter().take(faulty) {
            let active = faults.iter().filter(|fault| fault.active(after).is_some());
            teaching
                .faulty
                .extend(active.map(|fault| advice(scenario, name, fault)));
        }
        // A bad network is a fault of the endpoint behind it.
        if scenario.network.is_some()
            && let Some(pair) = pairs.get(site::faulty(pairs))
        {
            teaching.faulty.push(Faulty {
                endpoint: pair.primary.clone(),
                ..Faulty::default()
            });
        }
        lessons.push(Lesson { after, teaching });
        let edges = passing
            .values()
            .flatten()
            .filter_map(|fault| fault.next_edge(after));
        next = edges.min();
    }
    lessons
}

/// What to do about one fault of the endpoint `name`.
fn advice(scenario: &Scenario, name: &str, fault: &Fault) -> Faulty {
    let keep = match fault.kind {
        Kind::Capacity { left } => {
            let cores = f64::from(scenario.service.cores) * left;
            (BUSY_MAX * cores / scenario.cores_needed().max(f64::MIN_POSITIVE)).min(1.0)
        }
        _ => 0.0,
    };
    Faulty {
        endpoint: name.to_owned(),
        path_prefix: fault.only.path_prefix.clone(),
        body_over: fault.only.bodies_above,
        keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file;

    fn taught(text: &str) -> Vec<Lesson> {
        let scenario = file::parse("x", "x.yaml", text).unwrap();
        lessons(&scenario, &scenario.site.pairs())
    }

    #[test]
    fn a_fault_that_comes_and_goes_is_taught_each_time() {
        let lessons = taught(
            "{story: x, length: 5s, faults: [{at: faulty, kind: hang, after: 1s, for: 1s, every: 2s}]}",
        );
        let what: Vec<_> = lessons
            .iter()
            .map(|lesson| (lesson.after.as_secs(), lesson.teaching.faulty.len()))
            .collect();
        assert_eq!(what, [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]);
    }

    #[test]
    fn only_the_class_that_fails_is_moved() {
        let lessons = taught("{story: x, faults: [{at: faulty, kind: errors, share: 50%, path_prefix: /e}]}");
        let faulty = &lessons[0].teaching.faulty[0];
        assert_eq!(
            (faulty.endpoint.as_str(), faulty.path_prefix.as_deref()),
            ("b", Some("/e"))
        );
        assert!(faulty.keep <= 0.0);
    }

    #[test]
    fn what_concerns_everybody_is_not_taught_and_a_bad_standby_is() {
        let common = taught("{story: x, faults: [{at: everybody, kind: slow, factor: 4}]}");
        assert!(common[0].teaching.faulty.is_empty());
        let worse = taught(
            "{story: x, always: [{at: standby, kind: slow, factor: 9}], faults: [{at: faulty, kind: hang}]}",
        );
        let names: Vec<_> = worse[0]
            .teaching
            .faulty
            .iter()
            .map(|faulty| faulty.endpoint.as_str())
            .collect();
        assert_eq!(names, ["b-standby", "b"]);
    }

    #[test]
    fn who_has_lost_cores_keeps_what_it_can_carry() {
        // 100 requests per second of 22.7 ms at each primary need 2.27 cores; two are left, of which four fifths may
        // be busy.
        let lessons = taught(
            "{story: x, rate: 400, service: {median: 20ms, cores: 4},
                faults: [{at: faulty, kind: capacity, left: 50%}]}",
        );
        let keep = lessons[0].teaching.faulty[0].keep;
        assert!((keep - 1.6 / 2.27).abs() < 0.01, "{keep}");
    }
}
