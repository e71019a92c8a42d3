//! What becomes worse without a part of the engine: each part taken out by itself, on the same scenarios and seeds.
//!
//! A part earns its place where something that users or endpoints feel is worse without it. What that is differs from
//! part to part, so all of it is looked at, and the scenario in which it is worst is named: harm, failures, the
//! writes among them, the p99, how often the share turns, how often users are thrown back and forth, how full a
//! standby gets, and how much a failed request is repeated. Runs with and without a part have the same users and the
//! same faults, so the two are compared seed by seed, and the mean difference is told with its standard error.

use std::fmt::Write;

use foreshade_engine::ablation::{Ablations, Part};

use super::translate::Setup;
use super::{Plan, Played, Seed};
use crate::stage::interrupt::Interrupt;

/// Standard errors by which a difference has to be clear of nothing.
const CLEAR: f64 = 4.0;

/// Something that should not grow: its name, how it is read, and the least growth that matters to anybody.
pub type Measure = (&'static str, fn(&Seed) -> f64, f64);

/// All of them.
pub const MEASURES: [Measure; 8] = [
    ("harm", |seed| seed.product().harm, 2.0),
    (
        "failed requests",
        |seed| (seed.product().failed_gets + seed.product().failed_posts) as f64,
        2.0,
    ),
    ("failed POSTs", |seed| seed.product().failed_posts as f64, 0.5),
    ("p99 of users, ms", |seed| seed.product().p99_ms, 2.0),
    ("turns of the share", |seed| seed.inside.share_turns as f64, 0.5),
    (
        "changes of sides per 100 returns of a user",
        |seed| 100.0 * seed.inside.side_changes,
        1.0,
    ),
    (
        "load of a standby, % of its capacity",
        |seed| 100.0 * seed.inside.standby_load,
        10.0,
    ),
    (
        "attempts per 100 requests",
        |seed| 100.0 * seed.inside.amplification,
        2.0,
    ),
];

/// One measure in one scenario, with and without a part.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Name of the scenario.
    pub scenario: String,
    /// Name of the measure.
    pub measure: &'static str,
    /// Mean with the part.
    pub with: f64,
    /// Mean without it.
    pub without: f64,
    /// Standard error of the mean of the differences.
    pub error: f64,
    /// The least that matters.
    least: f64,
}

impl Difference {
    fn growth(&self) -> f64 {
        self.without - self.with
    }

    /// Whether it is worse without the part, beyond chance and beyond what nobody would notice.
    pub fn hurts(&self) -> bool {
        self.growth() >= self.least && self.growth() >= CLEAR * self.error
    }

    /// Whether it is better without the part, by the same measure.
    pub fn helps(&self) -> bool {
        -self.growth() >= self.least && -self.growth() >= CLEAR * self.error
    }

    /// How much worse, in what matters.
    fn weight(&self) -> f64 {
        self.growth() / self.least
    }
}

/// A part, and all that changes without it.
#[derive(Clone, Debug)]
pub struct Rung {
    /// The part.
    pub part: Part,
    /// By scenario and measure.
    pub differences: Vec<Difference>,
}

impl Rung {
    /// What hurts, the worst first.
    pub fn hurts(&self) -> Vec<&Difference> {
        let mut hurts: Vec<_> = self
            .differences
            .iter()
            .filter(|difference| difference.hurts())
            .collect();
        hurts.sort_by(|a, b| b.weight().total_cmp(&a.weight()));
        hurts
    }

    /// What is better, the best first.
    pub fn helps(&self) -> Vec<&Difference> {
        let mut helps: Vec<_> = self
            .differences
            .iter()
            .filter(|difference| difference.helps())
            .collect();
        helps.sort_by(|a, b| a.weight().total_cmp(&b.weight()));
        helps
    }
}

/// Plays `plan` without each part in turn, against `whole`, which is the same plan with all of them. `told` hears of
/// each as it is done.
pub fn climb(plan: &Plan, whole: &[Played], interrupt: &Interrupt, mut told: impl FnMut(&Rung)) -> Vec<Rung> {
    let climb = |&part: &Part| {
        let setup = Setup {
            ablations: Ablations::default().with(part),
            ..plan.setup
        };
        let plan = Plan {
            setup,
            baselines: false,
            ..plan.clone()
        };
        let without = super::play(&plan, interrupt, |_| {});
        let pairs = whole.iter().zip(&without);
        let rung = Rung {
            part,
            differences: pairs
                .flat_map(|(with, without)| differences(with, without))
                .collect(),
        };
        told(&rung);
        rung
    };
    let parts = Part::ALL.iter().take_while(|_| interrupt.check().is_ok());
    parts.map(climb).collect()
}

/// All measures of one scenario.
pub fn differences(with: &Played, without: &Played) -> Vec<Difference> {
    let of = |&(measure, read, least): &Measure| {
        let pairs = || with.seeds.iter().zip(&without.seeds);
        let n = pairs().count().max(1) as f64;
        let mean = |value: &dyn Fn(&Seed, &Seed) -> f64| pairs().map(|(a, b)| value(a, b)).sum::<f64>() / n;
        let growth = mean(&|a, b| read(b) - read(a));
        let variance = mean(&|a, b| (read(b) - read(a) - growth).powi(2));
        Difference {
            scenario: with.scenario.name.clone(),
            measure,
            with: mean(&|a, _| read(a)),
            without: mean(&|_, b| read(b)),
            error: (variance / n).sqrt(),
            least,
        }
    };
    MEASURES.iter().map(of).collect()
}

/// One rung in a line.
pub fn line(rung: &Rung) -> String {
    let worst: Vec<_> = rung.hurts().into_iter().take(3).map(phrase).collect();
    let worse = if worst.is_empty() {
        "nothing is worse".to_owned()
    } else {
        worst.join("; ")
    };
    let best: Vec<_> = rung.helps().into_iter().take(2).map(phrase).collect();
    let better = if best.is_empty() {
        String::new()
    } else {
        format!(" | better: {}", best.join("; "))
    };
    format!("{:<14} {worse}{better}", rung.part.label())
}

/// The ladder as a part of a document.
pub fn markdown(rungs: &[Rung]) -> String {
    let mut text = "\n## What each part is for\n\n\
        The engine with one part taken out, on the same scenarios and seeds. Means over the seeds, with the part and \
        without it, where the difference matters and is beyond four standard errors; the three that are worst, and the \
        two that are better, if any.\n\n\
        | taken out | worse without it | better without it |\n|---|---|---|\n"
        .to_owned();
    for rung in rungs {
        let list = |differences: Vec<&Difference>, most: usize| {
            let phrases: Vec<_> = differences.into_iter().take(most).map(phrase).collect();
            if phrases.is_empty() {
                "nothing".to_owned()
            } else {
                phrases.join("; ")
            }
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} |",
            rung.part.label(),
            list(rung.hurts(), 3),
            list(rung.helps(), 2)
        );
    }
    text
}

fn phrase(difference: &Difference) -> String {
    let Difference {
        scenario,
        measure,
        with,
        without,
        ..
    } = difference;
    format!("{scenario}: {measure} {with:.1} -> {without:.1}")
}
