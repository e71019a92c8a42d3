//! Who judges a canary right, and when: our verdict and the rules of Flagger, Argo Rollouts and Kayenta on the same
//! streams.
//!
//! A [`scenario`] says how the two arms differ, a [`stream`] draws from it what happens tick by tick, and every
//! [`Judge`] is told of the same ticks until it promotes, rolls back, or the horizon ends. All see the same fixed
//! share: a rival's own ramp of weights would be another stream. The rules are those that their manuals give as
//! examples, with the numbers they give, implemented anew from what the manuals and sources say ([`flagger`],
//! [`argo`], [`kayenta`] cite them).
//!
//! What this is not: a test of those programs. They scrape, they average with `rate()`, they are configured by people
//! who know their service. It is a test of the *rule*, with perfect and immediate metrics, which is kinder than the
//! field.
//!
//! The same seed gives the same result, whatever the number of threads.

pub mod argo;
pub mod flagger;
pub mod kayenta;
pub mod ours;
pub mod ranks;
pub mod scenario;
pub mod stream;
pub mod table;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use self::scenario::{SCENARIOS, Scenario};
use self::stream::{Stream, Tick};
use crate::stage::interrupt::Interrupt;

/// Runs of each scenario at most.
pub const RUNS_MAX: u64 = 100_000;

/// What a judge may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The canary takes over.
    Promote,
    /// The canary goes.
    RollBack,
}

/// Whoever decides about a canary by what it is told.
pub trait Judge {
    /// Takes a tick. Once it has decided it is not told any more.
    fn observe(&mut self, tick: &Tick) -> Option<Decision>;
}

/// How a contender is called, and how it begins.
pub struct Contender {
    /// In tables and results.
    pub name: &'static str,
    /// The rule in a few words.
    pub rule: &'static str,
    make: fn() -> Box<dyn Judge>,
    /// Whether it looks at every tick, so that ticks have to be short until it has decided.
    is_quick: bool,
}

/// How many are compared.
pub const JUDGES: usize = 5;

/// All who are compared.
pub static CONTENDERS: [Contender; JUDGES] = [
    Contender {
        name: "foreshade",
        rule: "as shipped: alpha 1 %, beta 5 %",
        make: || Box::new(ours::Ours::shipped()),
        is_quick: true,
    },
    Contender {
        name: "robust",
        rule: "foreshade with bursts collapsed",
        make: || Box::new(ours::Ours::robust()),
        is_quick: true,
    },
    Contender {
        name: "flagger",
        rule: "success >= 99 %, p99 <= 500 ms, each minute; 10 good: promote, 10 bad: roll back",
        make: || Box::new(flagger::Flagger::default()),
        is_quick: false,
    },
    Contender {
        name: "argo",
        rule: "success >= 95 % each 5 min; 4 bad: roll back; promote after 40 min",
        make: || Box::new(argo::Argo::default()),
        is_quick: false,
    },
    Contender {
        name: "kayenta",
        rule: "Mann-Whitney 0.98, tolerance 0.25, each hour of 3 over minutes; pass 90, marginal 75",
        make: || Box::new(kayenta::Kayenta::default()),
        is_quick: false,
    },
];

/// What to play.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In this order.
    pub scenarios: Vec<&'static Scenario>,
    /// Runs of each.
    pub runs: u64,
    /// The first run's seed; the others follow.
    pub seed: u64,
    /// Share of the requests that the canary gets.
    pub share: f64,
    /// How long nobody has to decide.
    pub horizon: Duration,
    /// Threads that play; at least one.
    pub threads: usize,
}

/// What a contender came to in a run, and after how many seconds; none for "not by the horizon".
pub type Outcome = Option<(Decision, f64)>;

/// One scenario: for each run that was played the outcome of each contender.
#[derive(Clone, Debug)]
pub struct Played {
    /// Which.
    pub scenario: &'static Scenario,
    /// By run.
    pub runs: Vec<[Outcome; JUDGES]>,
}

/// The scenarios of these names, all of them if there are none.
///
/// # Errors
/// With the names that there are, where one is not among them.
pub fn called(names: &[String]) -> Result<Vec<&'static Scenario>, String> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let find = |name: &String| {
        let known = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>();
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| format!("no scenario {name:?}; there are {}", known().join(", ")))
    };
    names.iter().map(find).collect()
}

/// Plays all of `plan`. `told` hears of each scenario that is done. After an interruption, what was played until then
/// is returned.
pub fn play(plan: &Plan, interrupt: &Interrupt, mut told: impl FnMut(&Played)) -> Vec<Played> {
    let mut played = Vec::new();
    for scenario in &plan.scenarios {
        let runs = runs(plan, scenario, interrupt);
        if runs.is_empty() {
            break;
        }
        let done = Played { scenario, runs };
        told(&done);
        played.push(done);
    }
    played
}

fn runs(plan: &Plan, scenario: &Scenario, interrupt: &Interrupt) -> Vec<[Outcome; JUDGES]> {
    let next = AtomicU64::new(0);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while interrupt.check().is_ok() {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= plan.runs || sender.send((run, one(plan, scenario, run))).is_err() {
                        return;
                    }
                }
            });
        }
    });
    drop(sender);
    let mut runs: Vec<_> = receiver.into_iter().collect();
    runs.sort_by_key(|(run, _)| *run);
    runs.into_iter().map(|(_, outcomes)| outcomes).collect()
}

/// Plays one run: one stream, and everybody who looks at it.
pub fn one(plan: &Plan, scenario: &Scenario, run: u64) -> [Outcome; JUDGES] {
    let mut stream = Stream::new(scenario, plan.share, plan.seed.wrapping_add(run));
    let mut judges = CONTENDERS.each_ref().map(|contender| (contender.make)());
    let mut outcomes = [None; JUDGES];
    let horizon = plan.horizon.as_secs_f64();
    loop {
        let open = |quick: bool| {
            let mut all = CONTENDERS.iter().zip(&outcomes);
            all.any(|(contender, outcome)| outcome.is_none() && contender.is_quick == quick)
        };
        let (quick, slow) = (open(true), open(false));
        if !(quick || slow) || stream.seconds() >= horizon {
            return outcomes;
        }
        let tick = stream.next(quick);
        for (judge, outcome) in judges.iter_mut().zip(&mut outcomes) {
            if outcome.is_none() {
                *outcome = judge.observe(&tick).map(|decision| (decision, tick.at_s));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(names: &[&str], runs: u64, minutes: u64) -> Plan {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        Plan {
            scenarios: called(&names).unwrap(),
            runs,
            seed: 1,
            share: 0.05,
            horizon: Duration::from_secs(60 * minutes),
            threads: 2,
        }
    }

    #[test]
    fn a_run_depends_on_its_seed_and_nothing_else() {
        let plan = plan(&["outage"], 3, 15);
        let interrupt = Interrupt::default();
        let played = play(&plan, &interrupt, |_| {});
        let alone = one(&plan, plan.scenarios[0], 2);
        assert_eq!(played[0].runs[2], alone);
        assert_eq!(played[0].runs.len(), 3);
    }

    #[test]
    fn an_outage_is_found_by_everybody_and_by_us_first() {
        let plan = plan(&["outage"], 1, 181);
        let outcomes = one(&plan, plan.scenarios[0], 0);
        let after = outcomes.map(|outcome| {
            let (decision, seconds) = outcome.unwrap();
            assert_eq!(decision, Decision::RollBack);
            seconds
        });
        let [ours, robust, flagger, argo, kayenta] = after;
        assert!(ours < 1.0 && robust < 2.0, "{after:?}");
        for (found, expected) in [(flagger, 600.0), (argo, 1200.0), (kayenta, 3600.0)] {
            assert!((found - expected).abs() < 1.0, "{after:?}");
        }
    }

    #[test]
    fn an_interruption_ends_it() {
        let interrupt = Interrupt::default();
        interrupt.ask();
        assert!(play(&plan(&[], 1, 1), &interrupt, |_| {}).is_empty());
    }

    #[test]
    fn an_unknown_scenario_names_the_known_ones() {
        let error = called(&["outrage".to_owned()]).unwrap_err();
        assert!(
            error.contains("\"outrage\"") && error.contains("outage"),
            "{error}"
        );
    }
}
