//! Runs a scenario under many seeds, with the invariants checked, and tells every seed that failed.

#![allow(unreachable_pub, reason = "shared by test crates")]

use std::ops::Range;

use foreshade_engine::model;
use foreshade_engine::model::audit;
use foreshade_engine::model::record::Record;
use foreshade_engine::model::scenario::Scenario;

/// What did not hold in one run.
#[derive(Default)]
pub struct Checks {
    failed: Vec<String>,
}

impl Checks {
    /// Notes `told` where `held` is false.
    pub fn that(&mut self, held: bool, told: impl FnOnce() -> String) {
        if !held {
            self.failed.push(told());
        }
    }
}

/// Runs `scenario` under each seed, and fails with what did not hold under which.
pub fn over(scenario: &Scenario, seeds: Range<u64>, check: impl Fn(&Record, &mut Checks)) {
    let (mut told, mut bad, all) = (Vec::new(), 0, seeds.end - seeds.start);
    for seed in seeds {
        let record = model::run(scenario, seed);
        let mut checks = Checks {
            failed: audit::breaches(scenario, &record),
        };
        check(&record, &mut checks);
        bad += usize::from(!checks.failed.is_empty());
        // The first few of a run tell what the rest repeats.
        told.extend(checks.failed.iter().take(3).map(|f| format!("seed {seed}: {f}")));
    }
    assert!(told.is_empty(), "{bad} of {all} seeds fail\n{}", told.join("\n"));
}
