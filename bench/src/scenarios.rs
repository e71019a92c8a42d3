//! The scenarios, as a table: which fault, on whom, and what the product promises to users meanwhile.
//!
//! One configuration serves them all; nothing is tuned per scenario. The fault concerns the second endpoint of the
//! configuration, since the first is too often special.

use std::time::Duration;

use crate::claim::Claim;
use crate::farm::fault::Fault;
use crate::load::schedule::Rate;

/// Index of the endpoint that becomes faulty.
pub const FAULTY: usize = 1;

/// Requests per second.
pub const RATE: f64 = 1_200.0;

/// Healthy at first: connections open, baselines form, and the healthy p99 is measured.
pub const WARM_UP: Duration = Duration::from_secs(10);

/// How long a fault lasts.
pub const FAULT: Duration = Duration::from_secs(12);

/// How long a run waits at most for the traffic to come back.
pub const RECOVERY: Duration = Duration::from_secs(35);

/// Longer scenarios are played only when they are asked for.
pub const LENGTH_BY_DEFAULT: Duration = Duration::from_secs(120);

/// The requirement on coming back.
const BACK: Duration = Duration::from_secs(30);

/// Who gets a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The endpoint that the scenario is about.
    Faulty,
    /// Its standby.
    ItsStandby,
    /// All endpoints and all standbys.
    Everybody,
}

/// One scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name on the command line.
    pub name: &'static str,
    /// What happens, for people.
    pub story: &'static str,
    /// Faults that are there from the start and stay.
    pub always: Vec<(Who, Fault)>,
    /// Faults that come after the warm-up and are healed after `length`.
    pub fault: Vec<(Who, Fault)>,
    /// From the end of the warm-up until healing, or until the end where nothing is to be healed.
    pub length: Duration,
    /// Requests per second.
    pub rate: Rate,
    /// What is promised.
    pub claims: Vec<Claim>,
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A fault that comes and goes.
fn passing(name: &'static str, story: &'static str, fault: Vec<(Who, Fault)>, claims: &[Claim]) -> Scenario {
    let mut claims = claims.to_vec();
    claims.extend([Claim::BackWithin(BACK), Claim::NoPostTwice, Claim::HarnessOnTime]);
    Scenario {
        name,
        story,
        always: Vec::new(),
        fault,
        length: FAULT,
        rate: Rate::Steady(RATE),
        claims,
    }
}

/// Nothing that anything should be done about.
fn quiet(
    name: &'static str,
    story: &'static str,
    always: Vec<(Who, Fault)>,
    length: Duration,
    rate: Rate,
) -> Scenario {
    let claims = vec![
        Claim::NoShift,
        Claim::NoEjection,
        Claim::NoPostTwice,
        Claim::HarnessOnTime,
    ];
    Scenario {
        name,
        story,
        always,
        fault: Vec::new(),
        length,
        rate,
        claims,
    }
}

/// All scenarios, the long one last.
pub fn all() -> Vec<Scenario> {
    let mut scenarios = slowness();
    scenarios.extend(failures());
    scenarios.extend(restraint());
    scenarios
}

// Concept: endpoint-gradual-shift
fn slowness() -> Vec<Scenario> {
    let slow = |factor| vec![(Who::Faulty, Fault::slow(factor))];
    let back = |within| Claim::P99Back { times: 1.3, within };
    let ramp = Fault::Ramp {
        to: 20.0,
        over_ms: 12_000,
    };
    let one_path = Fault::Slow {
        factor: 20.0,
        path_prefix: Some("/e".to_owned()),
    };
    vec![
        passing(
            "slow-10x",
            "one endpoint ten times slower",
            slow(10.0),
            &[back(s(4))],
        ),
        passing(
            "slow-3x",
            "one endpoint three times slower",
            slow(3.0),
            &[back(s(8))],
        ),
        passing(
            "ramp-20x",
            "one endpoint slower and slower, from 1 to 20 times within 12 s",
            vec![(Who::Faulty, ramp)],
            &[Claim::P99NeverAbove { times: 2.0 }],
        ),
        passing(
            "one-path-20x",
            "one path of one endpoint 20 times slower",
            vec![(Who::Faulty, one_path)],
            &[Claim::OnlyPathMoves(4)],
        ),
    ]
}

// Concept: endpoint-failover
fn failures() -> Vec<Scenario> {
    let errors = |share| vec![(Who::Faulty, Fault::errors(share))];
    let refuse = |cut| vec![(Who::Faulty, Fault::Refuse { cut })];
    let under = |within| Claim::TrafficUnder { share: 0.05, within };
    vec![
        passing(
            "hang",
            "one endpoint accepts, reads and never answers",
            vec![(Who::Faulty, Fault::Hang)],
            &[
                Claim::NoGetFails,
                Claim::NoGetLongerThan(Duration::from_millis(300)),
            ],
        ),
        passing(
            "refused",
            "one endpoint stops and refuses connections",
            refuse(false),
            &[Claim::NothingFails],
        ),
        passing(
            "killed",
            "one endpoint dies with what it was working on",
            refuse(true),
            &[Claim::OnlyLostPostsFail],
        ),
        passing(
            "errors-50",
            "one endpoint answers half of its requests with 500",
            errors(0.5),
            &[under(s(1))],
        ),
        passing(
            "errors-5",
            "one endpoint answers 5 % of its requests with 500",
            errors(0.05),
            &[under(s(6))],
        ),
    ]
}

fn restraint() -> Vec<Scenario> {
    let steady = Rate::Steady(RATE);
    let wave = |low, high, period| Rate::Wave { low, high, period };
    let mut common = passing(
        "common-cause",
        "all endpoints and standbys four times slower at once",
        vec![(Who::Everybody, Fault::slow(4.0))],
        &[Claim::NoShift, Claim::NoEjection],
    );
    common
        .claims
        .retain(|claim| !matches!(claim, Claim::BackWithin(_)));
    let mut worse = passing(
        "worse-standby",
        "one endpoint ten times slower, its standby thirty times",
        vec![(Who::Faulty, Fault::slow(10.0))],
        &[Claim::CanaryAtMost {
            share: 0.05,
            lasting: s(2),
        }],
    );
    worse.always = vec![(Who::ItsStandby, Fault::slow(30.0))];
    let everywhere = vec![(Who::Everybody, Fault::errors(0.005))];
    let varying = wave(300.0, RATE, s(120));
    vec![
        common,
        worse,
        quiet(
            "errors-everywhere",
            "0.5 % errors on every endpoint, all the time",
            everywhere,
            s(50),
            steady,
        ),
        quiet(
            "healthy-1m",
            "nothing wrong for a minute",
            Vec::new(),
            s(60),
            wave(600.0, RATE, s(30)),
        ),
        quiet(
            "healthy-10m",
            "nothing wrong for ten minutes, the load varies",
            Vec::new(),
            s(600),
            varying,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_scenario_watches_its_writes_and_its_harness() {
        let scenarios = all();
        let mut names: Vec<_> = scenarios.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), scenarios.len());
        for scenario in &scenarios {
            assert!(scenario.claims.contains(&Claim::NoPostTwice), "{}", scenario.name);
            assert!(
                scenario.claims.contains(&Claim::HarnessOnTime),
                "{}",
                scenario.name
            );
        }
    }

    #[test]
    fn whatever_moves_traffic_has_to_bring_it_back() {
        for scenario in all().iter().filter(|scenario| !scenario.fault.is_empty()) {
            let stays = scenario.claims.contains(&Claim::NoShift);
            let returns = scenario.claims.contains(&Claim::BackWithin(BACK));
            assert!(stays != returns, "{}", scenario.name);
        }
    }

    #[test]
    fn every_fault_is_one_that_the_farm_accepts() {
        for scenario in all() {
            for (_, fault) in scenario.always.iter().chain(&scenario.fault) {
                assert_eq!(fault.check(), Ok(()), "{}", scenario.name);
            }
        }
    }
}
