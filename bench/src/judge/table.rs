//! What came of it: how often each judge was wrong, and how long it took. As lines, as a document, as JSON.
//!
//! An error is what the truth makes one: rolling an equal canary back, or promoting a worse one. Who decided neither
//! by the horizon is counted by itself; it is not wrong, and it is no help. The median is over runs in which it
//! decided.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::scenario::Truth;
use super::{CONTENDERS, Decision, Plan, Played};
use crate::results::Provenance;
use crate::table;

/// All results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeResults {
    /// Where it was made.
    pub provenance: Provenance,
    /// Runs of each scenario.
    pub runs: u64,
    /// Seed of the first one.
    pub seed: u64,
    /// Share of the canary.
    pub share: f64,
    /// Seconds until nobody has to decide any more.
    pub horizon_s: f64,
    /// In the order in which they were played.
    pub scenarios: Vec<ScenarioResult>,
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioResult {
    /// Its name.
    pub name: String,
    /// What happens in it.
    pub story: String,
    /// Whether the canary is worse.
    pub worse: bool,
    /// By contender, in the order of [`CONTENDERS`].
    pub judges: Vec<JudgeResult>,
}

/// One judge in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeResult {
    /// Its name.
    pub name: String,
    /// Runs that it played.
    pub runs: u64,
    /// In how many it rolled back.
    pub rolled_back: u64,
    /// In how many it promoted.
    pub promoted: u64,
    /// Median of the seconds until it decided, over those two.
    pub median_s: Option<f64>,
}

impl ScenarioResult {
    /// Of what was played.
    pub fn of(played: &Played) -> Self {
        let judge = |(index, contender): (usize, &super::Contender)| {
            let outcomes = || played.runs.iter().filter_map(move |run| *run.get(index)?);
            let count =
                |wanted: Decision| outcomes().filter(|(decision, _)| *decision == wanted).count() as u64;
            let mut seconds: Vec<f64> = outcomes().map(|(_, seconds)| seconds).collect();
            seconds.sort_by(f64::total_cmp);
            JudgeResult {
                name: contender.name.to_owned(),
                runs: played.runs.len() as u64,
                rolled_back: count(Decision::RollBack),
                promoted: count(Decision::Promote),
                median_s: seconds.get(seconds.len() / 2).copied(),
            }
        };
        Self {
            name: played.scenario.name.to_owned(),
            story: played.scenario.story.to_owned(),
            worse: played.scenario.truth == Truth::Worse,
            judges: CONTENDERS.iter().enumerate().map(judge).collect(),
        }
    }
}

impl JudgeResult {
    /// Runs in which it was wrong, if the canary is worse or is not.
    pub fn wrong(&self, worse: bool) -> u64 {
        if worse { self.promoted } else { self.rolled_back }
    }

    /// Errors, indecision, and the median: `1.0 % / 0 % / 44 s`.
    pub fn cell(&self, worse: bool) -> String {
        let percent = |count: u64| {
            let share = 100.0 * count as f64 / self.runs.max(1) as f64;
            if share > 0.0 && share < 10.0 {
                format!("{share:.1} %")
            } else {
                format!("{share:.0} %")
            }
        };
        let open = self.runs.saturating_sub(self.rolled_back + self.promoted);
        format!(
            "{} / {} / {}",
            percent(self.wrong(worse)),
            percent(open),
            self.median_s.map_or_else(|| "never".to_owned(), time)
        )
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 600.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// What the columns are, for the terminal.
pub fn head() -> String {
    let names = CONTENDERS
        .iter()
        .map(|contender| format!("{:>24}", contender.name));
    format!(
        "{:<16}{}\n{:<16}  wrong / undecided / median until decided",
        "scenario",
        names.collect::<String>(),
        ""
    )
}

/// A scenario for the terminal.
pub fn line(played: &Played) -> String {
    let result = ScenarioResult::of(played);
    let cells = result
        .judges
        .iter()
        .map(|judge| format!("{:>24}", judge.cell(result.worse)));
    format!("{:<16}{}", result.name, cells.collect::<String>())
}

/// The document.
pub fn markdown(plan: &Plan, played: &[Played], here: &table::Provenance) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# Judges\n\nWritten by `{}`: {} runs of each scenario, {} % of the requests to the canary, {} min at most. \
         Each cell: wrong / undecided at the end / median until decided. Wrong is an equal canary rolled back, or a \
         worse one promoted.\n\n",
        here.command,
        plan.runs,
        plan.share * 100.0,
        plan.horizon.as_secs() / 60,
    );
    for contender in &CONTENDERS {
        let _ = writeln!(text, "- **{}**: {}", contender.name, contender.rule);
    }
    let parts = [
        (Truth::Same, "Equal canaries: rolled back is wrong"),
        (Truth::Worse, "Worse canaries: promoted is wrong"),
    ];
    for (truth, title) in parts {
        let names: Vec<_> = CONTENDERS.iter().map(|contender| contender.name).collect();
        let _ = write!(
            text,
            "\n## {title}\n\n| scenario | {} |\n|---{}|\n",
            names.join(" | "),
            "|---".repeat(names.len())
        );
        for played in played.iter().filter(|played| played.scenario.truth == truth) {
            let result = ScenarioResult::of(played);
            let cells: Vec<_> = result
                .judges
                .iter()
                .map(|judge| judge.cell(result.worse))
                .collect();
            let _ = writeln!(
                text,
                "| `{}`: {} | {} |",
                result.name,
                result.story,
                cells.join(" | ")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::scenario::SCENARIOS;
    use super::*;

    fn played(outcome: super::super::Outcome) -> Played {
        Played {
            scenario: SCENARIOS
                .iter()
                .find(|scenario| scenario.name == "failing-3x")
                .unwrap(),
            runs: vec![[outcome; 5], [None; 5], [outcome; 5], [None; 5]],
        }
    }

    #[test]
    fn an_error_is_what_the_truth_makes_one() {
        let missed = ScenarioResult::of(&played(Some((Decision::Promote, 600.0))));
        assert_eq!(missed.judges[0].cell(missed.worse), "50 % / 50 % / 10 min");
        let found = ScenarioResult::of(&played(Some((Decision::RollBack, 44.0))));
        assert_eq!(found.judges[0].cell(found.worse), "0 % / 50 % / 44 s");
        assert_eq!(found.judges[0].cell(false), "50 % / 50 % / 44 s");
        assert_eq!(
            ScenarioResult::of(&played(None)).judges[4].cell(true),
            "0 % / 100 % / never"
        );
    }

    #[test]
    fn the_document_names_its_command_and_every_rule() {
        let plan = Plan {
            scenarios: Vec::new(),
            runs: 4,
            seed: 1,
            share: 0.05,
            horizon: std::time::Duration::from_secs(600),
            threads: 1,
        };
        let here = table::Provenance {
            command: "foreshade-bench judge".into(),
            cores: 2,
            processor: "P".into(),
        };
        let text = markdown(&plan, &[played(None)], &here);
        assert!(text.contains("Written by `foreshade-bench judge`: 4 runs"));
        assert!(CONTENDERS.iter().all(|contender| text.contains(contender.rule)));
        assert!(
            text.contains(
                "| `failing-3x`: 1000/s, 0.2 % fail, canary 3 times as many | 0 % / 100 % / never |"
            )
        );
    }
}
