//! The results of scenarios as a table: on the terminal while they run, and as a document.

use std::fmt::Write;

use crate::scenario::Scenario;
use crate::verdict::Verdict;

/// One claim of one scenario, over all repetitions.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name of the scenario.
    pub scenario: String,
    /// What happens in it.
    pub story: String,
    /// What was claimed.
    pub claim: String,
    /// One verdict per repetition.
    pub verdicts: Vec<Verdict>,
}

impl Row {
    /// Whether the claim held every time.
    pub fn holds(&self) -> bool {
        !self.verdicts.is_empty() && self.verdicts.iter().all(|verdict| verdict.holds)
    }

    fn measured(&self) -> String {
        let measured: Vec<_> = self
            .verdicts
            .iter()
            .map(|verdict| verdict.measured.as_str())
            .collect();
        measured.join("; ")
    }

    fn verdict(&self) -> String {
        let held = self.verdicts.iter().filter(|verdict| verdict.holds).count();
        match (held == self.verdicts.len(), self.verdicts.len()) {
            (true, _) => "holds".to_owned(),
            (false, 1) => "FAILS".to_owned(),
            (false, count) => format!("FAILS {} of {count}", count - held),
        }
    }
}

/// Rows of a scenario from its runs' verdicts: the outer list has one entry per run, the inner one per claim.
pub fn rows(scenario: &Scenario, runs: &[Vec<Verdict>]) -> Vec<Row> {
    let claims = scenario.claims.iter().enumerate();
    let row = |(index, claim): (usize, &crate::claim::Claim)| Row {
        scenario: scenario.name.clone(),
        story: scenario.story.clone(),
        claim: claim.to_string(),
        verdicts: runs.iter().filter_map(|run| run.get(index).cloned()).collect(),
    };
    claims.map(row).collect()
}

/// One row for the terminal.
pub fn line(row: &Row) -> String {
    format!(
        "{:<18} {:<52} {:<8} {}",
        row.scenario,
        row.claim,
        row.verdict(),
        row.measured()
    )
}

/// Where and how the results were obtained.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// The exact command.
    pub command: String,
    /// Cores of the machine.
    pub cores: usize,
    /// The processor's name.
    pub processor: String,
}

impl Provenance {
    /// Of this process.
    pub fn here() -> Self {
        let arguments = std::env::args().skip(1);
        let command = std::iter::once("foreshade-bench".to_owned())
            .chain(arguments)
            .collect::<Vec<_>>()
            .join(" ");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        Self {
            command,
            cores,
            processor: processor.unwrap_or_else(|| "unknown processor".to_owned()),
        }
    }
}

/// The document.
pub fn markdown(rows: &[Row], provenance: &Provenance) -> String {
    let mut text = String::new();
    let kept = rows.iter().filter(|row| row.holds()).count();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# Scenarios\n\n\
         Written by `{}` on {} cores ({}), which load, endpoints and proxy share. {kept} of {} claims hold.\n\n\
         Real processes on the loopback interface. Rate, endpoints, faults and their times are those of the scenario's \
         file in `bench/scenarios`: for most, 1200 requests per second (Poisson, 10 % POST, 10,000 users) for \
         endpoints with a log-normal service time (median 5 ms, p99 16 ms), each with a standby; 10 s of warm-up, \
         then the fault for \
         12 s, then up to 35 s for the traffic to come back. One configuration for all scenarios, changed only in its \
         addresses and in the header that names users.\n\n\
         A p99 is that of all users over the last second; healthy is the same run's warm-up. Traffic is counted at the \
         endpoints. Times count from just before the fault is set.\n\n\
         | scenario | claim | measured | verdict |\n|---|---|---|---|\n",
        provenance.command,
        provenance.cores,
        provenance.processor,
        rows.len(),
    );
    let mut last = "";
    for row in rows {
        let name = if row.scenario == last {
            String::new()
        } else {
            format!("`{}`: {}", row.scenario, row.story)
        };
        last = &row.scenario;
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} |",
            row.claim,
            row.measured(),
            row.verdict()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(held: &[bool]) -> Row {
        let verdict = |holds: &bool| Verdict {
            holds: *holds,
            measured: "1.0 s".into(),
        };
        Row {
            scenario: "x".into(),
            story: "y".into(),
            claim: "z".into(),
            verdicts: held.iter().map(verdict).collect(),
        }
    }

    #[test]
    fn a_claim_that_fails_once_fails() {
        assert!(row(&[true, true]).holds());
        assert!(!row(&[true, false]).holds());
        assert_eq!(row(&[true, false]).verdict(), "FAILS 1 of 2");
    }

    #[test]
    fn a_claim_that_was_never_judged_does_not_hold() {
        assert!(!row(&[]).holds());
    }

    #[test]
    fn the_document_names_its_command_and_machine() {
        let provenance = Provenance {
            command: "foreshade-bench scenarios".into(),
            cores: 2,
            processor: "P".into(),
        };
        let text = markdown(&[row(&[true]), row(&[false])], &provenance);
        assert!(text.contains("`foreshade-bench scenarios` on 2 cores (P)"));
        assert!(text.contains("1 of 2 claims hold"));
        assert!(text.contains("| `x`: y | z | 1.0 s | holds |\n|  | z | 1.0 s | FAILS |"));
    }
}
