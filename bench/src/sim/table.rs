//! Results in virtual time: the table of `faults`, and the claims with the seeds that break them.
//!
//! A claim is told with the share of seeds that break it, and with the first of those by number, because they can be
//! played again one by one. How bad the worst seed is stands beside the median of the table.

use std::fmt::Write;

use super::{Played, Seed, result};
use crate::claim::Claim;
use crate::faults::table as grid;
use crate::results::{Figures, ScenarioResult};
use crate::table::Provenance;

/// Seeds that are named where a claim does not hold.
const NAMED: usize = 3;

/// What the worst seed is asked for: its name, and the figure.
type Extreme = (&'static str, fn(&Figures) -> Option<f64>);

const EXTREMES: [Extreme; 5] = [
    ("failed", |f| Some((f.failed_gets + f.failed_posts) as f64)),
    ("p99 ms", |f| Some(f.p99_ms)),
    ("left s", |f| f.to_90_s),
    ("back s", |f| f.recovery_s),
    ("harm", |f| Some(f.harm)),
];

/// One claim of one scenario.
#[derive(Clone, Debug)]
pub struct ClaimRow {
    /// Name of the scenario.
    pub scenario: String,
    /// What is claimed.
    pub claim: String,
    /// Seeds played.
    pub seeds: usize,
    /// Those that broke it, with what was measured.
    pub broken: Vec<(u64, String)>,
    /// Why it says nothing here, where it does not.
    pub unjudged: Option<String>,
}

impl ClaimRow {
    /// The claims of a scenario.
    pub fn of(played: &Played) -> Vec<Self> {
        let broken = |index: usize| {
            let of_seed = |seed: &Seed| {
                let verdict = seed.verdicts.get(index)?;
                (!verdict.holds).then(|| (seed.seed, verdict.measured.clone()))
            };
            played.seeds.iter().filter_map(of_seed).collect()
        };
        let scenario = &played.scenario;
        let row = |claim: &Claim, broken, unjudged| Self {
            scenario: scenario.name.clone(),
            claim: claim.to_string(),
            seeds: played.seeds.len(),
            broken,
            unjudged,
        };
        let claims = scenario.claims.iter().enumerate();
        let judged = claims.map(|(index, claim)| match claim {
            Claim::HarnessOnTime => row(claim, Vec::new(), Some("virtual time is never late".to_owned())),
            _ => row(claim, broken(index), None),
        });
        let elsewhere = scenario.unjudged.iter().map(|claim| {
            let why = format!(
                "promised at the scenario's own rate, not at {} per second",
                scenario.highest_rate()
            );
            row(claim, Vec::new(), Some(why))
        });
        judged.chain(elsewhere).collect()
    }

    /// Whether it was judged, and no seed broke it.
    pub fn holds(&self) -> bool {
        self.unjudged.is_none() && self.broken.is_empty()
    }

    /// How many of `rows` hold, of how many that were judged, in a phrase that tells of the others, too.
    pub fn summary(rows: &[Self]) -> String {
        let held = rows.iter().filter(|row| row.holds()).count();
        let unjudged = rows.iter().filter(|row| row.unjudged.is_some()).count();
        let mut text = format!("{held} of {} claims hold in every seed", rows.len() - unjudged);
        if unjudged > 0 {
            text += &format!("; {unjudged} more cannot be judged here");
        }
        text
    }

    /// In one phrase.
    pub fn verdict(&self) -> String {
        if let Some(why) = &self.unjudged {
            return format!("not judged: {why}");
        }
        if self.broken.is_empty() {
            return format!("holds in all {}", self.seeds);
        }
        let part = 100.0 * self.broken.len() as f64 / self.seeds.max(1) as f64;
        let first: Vec<_> = self
            .broken
            .iter()
            .take(NAMED)
            .map(|(seed, measured)| format!("{seed}: {measured}"))
            .collect();
        format!(
            "FAILS in {} ({part:.1} %); seed {}",
            self.broken.len(),
            first.join("; seed ")
        )
    }
}

/// One scenario for the terminal.
pub fn lines(played: &Played) -> Vec<String> {
    let mut lines = grid::lines(&quiet(played));
    lines.push(format!("  worst seed       {}", worst(played)));
    let claims = ClaimRow::of(played);
    lines.extend(
        claims
            .iter()
            .map(|row| format!("  {:<52} {}", row.claim, row.verdict())),
    );
    lines
}

/// The document.
pub fn markdown(played: &[Played], provenance: &Provenance) -> String {
    let claims: Vec<ClaimRow> = played.iter().flat_map(ClaimRow::of).collect();
    let seeds = played.first().map_or(0, |scenario| scenario.seeds.len());
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# Scenarios in virtual time\n\nWritten by `{}`: {seeds} seeds of each scenario. {}.\n\nThe engine in a closed loop \
         with modelled endpoints. Failures are added up over the seeds, all else is the median. Latencies are those from \
         onset to healing. *none* notices nothing; *oracle* knows the fault beforehand. Harm is 1 per failed request and \
         0.2 per second of waiting beyond the healthy p99; harm avoided is measured between those two.\n",
        provenance.command,
        ClaimRow::summary(&claims),
    );
    for scenario in played {
        text.push_str(&grid::section(&quiet(scenario)));
        let _ = write!(
            text,
            "\nWorst seed of foreshade, figure by figure: {}.\n\n",
            worst(scenario)
        );
        text.push_str("| claim | verdict |\n|---|---|\n");
        for row in ClaimRow::of(scenario) {
            let _ = writeln!(text, "| {} | {} |", row.claim, row.verdict());
        }
    }
    text
}

/// The results without promises that single seeds broke: with a thousand of them that is what [`ClaimRow`] is for.
fn quiet(played: &Played) -> ScenarioResult {
    let mut result = result(played);
    result.unjudged.clear();
    for run in result
        .contenders
        .iter_mut()
        .flat_map(|contender| &mut contender.runs)
    {
        run.figures.broken.clear();
    }
    result
}

/// The worst of each figure over all seeds. What never came is worse than anything that did.
fn worst(played: &Played) -> String {
    let of = |(name, figure): &Extreme| {
        let figures = played.seeds.iter().map(Seed::product);
        let worst = figures
            .map(|figures| figure(&figures).unwrap_or(f64::INFINITY))
            .fold(0.0, f64::max);
        let shown = if worst.is_finite() {
            format!("{worst:.1}")
        } else {
            "never".to_owned()
        };
        format!("{name} {shown}")
    };
    EXTREMES.iter().map(of).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::Inside;
    use super::*;
    use crate::scenario::shipped;
    use crate::verdict::Verdict;

    /// S3 at `rate`, played twice; the second seed breaks whatever is first.
    fn played(rate: f64) -> Played {
        let known = shipped::all().unwrap();
        let scenario = known
            .iter()
            .find(|scenario| scenario.is_called("S3"))
            .unwrap()
            .at_rate(rate);
        let verdict = |broken: bool, index: usize| Verdict {
            holds: !(broken && index == 0),
            measured: "5.2 s".to_owned(),
        };
        let seed = |number: u64| Seed {
            seed: number,
            verdicts: (0..scenario.claims.len())
                .map(|index| verdict(number == 2, index))
                .collect(),
            results: Vec::new(),
            inside: Inside::default(),
        };
        let seeds = vec![seed(1), seed(2)];
        Played { scenario, seeds }
    }

    #[test]
    fn what_a_run_cannot_judge_is_neither_kept_nor_broken() {
        let own = ClaimRow::of(&played(1_200.0));
        let verdicts: Vec<_> = own.iter().map(ClaimRow::verdict).collect();
        assert_eq!(
            verdicts,
            [
                "FAILS in 1 (50.0 %); seed 2: 5.2 s",
                "holds in all 2",
                "holds in all 2",
                "not judged: virtual time is never late"
            ]
        );
        assert_eq!(
            ClaimRow::summary(&own),
            "2 of 3 claims hold in every seed; 1 more cannot be judged here"
        );
        let other = ClaimRow::of(&played(400.0));
        assert_eq!(other.len(), own.len(), "none is dropped in silence");
        assert_eq!(
            ClaimRow::summary(&other),
            "0 of 1 claims hold in every seed; 3 more cannot be judged here"
        );
        assert_eq!(
            other.last().map(ClaimRow::verdict).unwrap(),
            "not judged: promised at the scenario's own rate, not at 400 per second"
        );
    }
}
