//! `foreshade-bench scenarios`: plays the table of scenarios and judges the product by it.
//!
//! The page is that of a whole run: half a table looks like a whole one, and would stand in the place of one. What an
//! interrupted or failed run has measured is in the JSON, which names what is missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::faults::writable;
use crate::claim::judge;
use crate::faults::{INTERRUPTED, lasts_at_most, of_run};
use crate::play::seat::House;
use crate::play::{Performance, Seat, play};
use crate::results::{self, ContenderResult, FORMAT, FaultResults, ScenarioResult, Setting, Time};
use crate::rivals::Contender;
use crate::run::Run;
use crate::scenario::{Scenario, shipped};
use crate::stage::interrupt::Interrupt;
use crate::stage::process::{Programs, Scratch};
use crate::stage::topology::Topology;
use crate::table::{self, Provenance, Row};
use crate::terminal;
use crate::verdict::Verdict;

/// Longer scenarios are played only when they are asked for.
const LENGTH_BY_DEFAULT: Duration = Duration::from_secs(120);

/// What to play.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only these scenarios, as S3,S7 or hang; all but the ten-minute one where absent. Repeatable.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<String>,
    /// Also the ten-minute one.
    #[arg(long)]
    all: bool,
    /// Play each scenario this many times, with different seeds.
    #[arg(long, default_value_t = 1)]
    repeat: u64,
    /// The configuration; only its addresses are changed.
    #[arg(long, default_value = "configs/quickstart.yaml")]
    config: PathBuf,
    /// The proxy; beside this program where absent.
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// Also write the table to this file, if all of it was played.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write everything that was measured to this file, as `faults` does, and what is missing.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the names of all scenarios and what happens in them, and play none.
    #[arg(long)]
    list: bool,
}

/// Plays and judges. Fails if any claim does.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        for scenario in shipped::all()? {
            terminal::line(&format!("{:<18} {}", scenario.name, scenario.story));
        }
        return Ok(());
    }
    let chosen = choose(arguments)?;
    let outputs = [&arguments.json, &arguments.markdown];
    outputs
        .into_iter()
        .flatten()
        .try_for_each(|path| writable(path))?;
    let hall = Hall {
        programs: Programs::find(arguments.proxy.as_deref())?,
        topology: Topology::load(&arguments.config)?,
        interrupt: Interrupt::watch().context("cannot listen for Ctrl-C")?,
        scratch: Scratch::new("scenarios")?,
    };
    let seeds = arguments.repeat.max(1);
    let minutes = lasts_at_most(&chosen, seeds, 1).as_secs().div_ceil(60);
    terminal::line(&format!(
        "{} scenarios, seeds 1 to {seeds}: at most {minutes} min",
        chosen.len()
    ));
    let mut rows = Vec::new();
    let show = |scenario: &Scenario, runs: &[Run]| {
        let verdicts: Vec<_> = runs.iter().map(|run| verdicts(scenario, run)).collect();
        for row in table::rows(scenario, &verdicts) {
            terminal::line(&table::line(&row));
            rows.push(row);
        }
        result(scenario, runs)
    };
    let one = |scenario: &Scenario, seed| hall.play(scenario, seed);
    let played = perform(&chosen, seeds, &hall.interrupt, one, show);
    write(arguments, &rows, &played)?;
    match played.ended {
        None => conclude(&rows),
        Some(Ended::Failed(error)) => Err(error),
        Some(Ended::Interrupted) if arguments.json.is_some() => {
            bail!("{INTERRUPTED}; what was played until then is in the JSON")
        }
        Some(Ended::Interrupted) => bail!("{INTERRUPTED}"),
    }
}

/// What was played, and why it is not everything.
struct Performed {
    results: Vec<ScenarioResult>,
    /// By scenario.
    missing: BTreeMap<String, String>,
    /// `None` where everything was played.
    ended: Option<Ended>,
}

enum Ended {
    Interrupted,
    Failed(anyhow::Error),
}

/// Plays one scenario after another with the seeds from 1 on, until the first that cannot be played. What was played of
/// it until then counts.
fn perform(
    chosen: &[Scenario],
    seeds: u64,
    interrupt: &Interrupt,
    mut one: impl FnMut(&Scenario, u64) -> Result<Run>,
    mut show: impl FnMut(&Scenario, &[Run]) -> ScenarioResult,
) -> Performed {
    let mut performed = Performed {
        results: Vec::new(),
        missing: BTreeMap::new(),
        ended: None,
    };
    for scenario in chosen {
        let (mut runs, mut missing) = (Vec::new(), None);
        for seed in 1..=seeds {
            if performed.ended.is_some() {
                missing = Some("not played, because the run ended before".to_owned());
                break;
            }
            match one(scenario, seed) {
                Ok(run) => runs.push(run),
                // Ctrl-C goes to the children, too: whatever fails then fails because of it.
                Err(_) if interrupt.is_asked() => {
                    performed.ended = Some(Ended::Interrupted);
                    missing = Some(format!("{INTERRUPTED} in seed {seed} of {seeds}"));
                    break;
                }
                Err(error) => {
                    missing = Some(format!("seed {seed} of {seeds}: {error:#}"));
                    let error = error.context(format!("scenario {}", scenario.name));
                    performed.ended = Some(Ended::Failed(error));
                    break;
                }
            }
        }
        if !runs.is_empty() {
            performed.results.push(show(scenario, &runs));
        }
        performed
            .missing
            .extend(missing.map(|why| (scenario.name.clone(), why)));
    }
    performed
}

/// Writes what was asked for: the page of everything, or none.
fn write(arguments: &Arguments, rows: &[Row], played: &Performed) -> Result<()> {
    let mut files = Vec::new();
    if let Some(file) = &arguments.json {
        let results = FaultResults {
            provenance: provenance(&played.missing),
            time: Time::Real,
            scenarios: played.results.clone(),
        };
        files.push((file, serde_json::to_string_pretty(&results)?));
    }
    match &arguments.markdown {
        Some(file) if played.ended.is_none() => {
            files.push((file, table::markdown(rows, &Provenance::here())));
        }
        Some(file) => terminal::note(&format!(
            "{} is left as it was: it is the page of a whole run",
            file.display()
        )),
        None => {}
    }
    for (file, text) in files {
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Where everything is played.
struct Hall {
    programs: Programs,
    topology: Topology,
    interrupt: Interrupt,
    scratch: Scratch,
}

impl Hall {
    fn play(&self, scenario: &Scenario, seed: u64) -> Result<Run> {
        self.interrupt.check()?;
        let topology = self.topology.for_site(scenario.site)?;
        let house = House {
            programs: &self.programs,
            scenario,
            seed,
            cable: None,
        };
        let folder = self.scratch.path().join(format!("{}-{seed}", scenario.name));
        one(house, &topology, &folder, &self.interrupt)
    }
}

fn verdicts(scenario: &Scenario, run: &Run) -> Vec<Verdict> {
    scenario.claims.iter().map(|claim| judge(claim, run)).collect()
}

/// The runs of foreshade, who has the stage to itself.
fn result(scenario: &Scenario, runs: &[Run]) -> ScenarioResult {
    let seeded = (1..).zip(runs);
    scenario.result(vec![ContenderResult {
        contender: Contender::Foreshade.name().to_owned(),
        setting: Setting::Tuned,
        runs: seeded
            .map(|(seed, run)| of_run(scenario, seed, run, true))
            .collect(),
    }])
}

fn provenance(missing: &BTreeMap<String, String>) -> results::Provenance {
    let Provenance {
        command,
        cores,
        processor,
    } = Provenance::here();
    results::Provenance {
        format: FORMAT,
        command,
        cores,
        processor,
        versions: [("foreshade".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        skipped: missing.clone(),
    }
}

fn one(house: House<'_>, topology: &Topology, folder: &Path, interrupt: &Interrupt) -> Result<Run> {
    let mut seat = Seat::configured(house, topology, folder)?;
    let performance = Performance {
        scenario: house.scenario,
        pairs: topology.pairs(),
        seed: house.seed,
        cable: None,
        interrupt,
    };
    let mut runs = play(performance, std::slice::from_mut(&mut seat))?;
    runs.pop().context("nobody played")?
}

fn choose(arguments: &Arguments) -> Result<Vec<Scenario>> {
    let known = shipped::all()?;
    if !arguments.only.is_empty() {
        return Ok(shipped::called(&arguments.only, &known)?);
    }
    // A bad network needs a namespace, for which one's own configuration is not made: `faults` has it.
    let here = |scenario: &Scenario| scenario.network.is_none();
    let short =
        |scenario: &Scenario| here(scenario) && (arguments.all || scenario.length <= LENGTH_BY_DEFAULT);
    Ok(known.into_iter().filter(short).collect())
}

fn conclude(rows: &[Row]) -> Result<()> {
    let failed = rows.iter().filter(|row| !row.holds()).count();
    if failed > 0 {
        bail!("{failed} of {} claims fail", rows.len());
    }
    terminal::line(&format!("all {} claims hold", rows.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    /// Two scenarios with five seeds each, by whoever plays so.
    fn performed(interrupt: &Interrupt, one: impl FnMut(&Scenario, u64) -> Result<Run>) -> Performed {
        let known = shipped::all().unwrap();
        let chosen = shipped::called(&["hang".to_owned(), "slow-3x".to_owned()], &known).unwrap();
        perform(&chosen, 5, interrupt, one, result)
    }

    fn seeds(performed: &Performed) -> Vec<usize> {
        let results = performed.results.iter();
        results.map(|one| one.contenders[0].runs.len()).collect()
    }

    #[test]
    fn what_fails_because_of_ctrl_c_is_an_interruption_and_seeds_before_it_are_kept() {
        let interrupt = Interrupt::default();
        let played = performed(&interrupt, |_, seed| {
            if seed < 5 {
                return Ok(Run::default());
            }
            interrupt.ask();
            Err(anyhow!("GET http://127.0.0.1:1/ledger: connection refused"))
        });
        assert!(matches!(played.ended, Some(Ended::Interrupted)));
        assert_eq!(seeds(&played), [4]);
        let missing: Vec<_> = played
            .missing
            .iter()
            .map(|(name, why)| (&**name, &**why))
            .collect();
        assert_eq!(
            missing,
            [
                ("hang", "interrupted in seed 5 of 5"),
                ("slow-3x", "not played, because the run ended before")
            ]
        );
    }

    #[test]
    fn a_failure_ends_the_run_and_what_was_played_before_it_is_kept() {
        let played = performed(&Interrupt::default(), |scenario, _| {
            match scenario.name.as_str() {
                "hang" => Ok(Run::default()),
                _ => Err(anyhow!("no port is free")),
            }
        });
        assert_eq!(seeds(&played), [5]);
        let Some(Ended::Failed(error)) = &played.ended else {
            panic!("it has not failed");
        };
        assert_eq!(format!("{error:#}"), "scenario slow-3x: no port is free");
        assert_eq!(played.missing["slow-3x"], "seed 1 of 5: no port is free");
        let whole = performed(&Interrupt::default(), |_, _| Ok(Run::default()));
        assert!(whole.ended.is_none() && whole.missing.is_empty());
        assert_eq!(seeds(&whole), [5, 5]);
    }

    #[test]
    fn the_page_is_that_of_a_whole_run() {
        let scratch = Scratch::new("test-scenarios-page").unwrap();
        let (page, json) = (
            scratch.path().join("page.md"),
            scratch.path().join("results.json"),
        );
        let arguments = Arguments {
            only: Vec::new(),
            all: false,
            repeat: 5,
            config: PathBuf::new(),
            proxy: None,
            markdown: Some(page.clone()),
            json: Some(json.clone()),
            list: false,
        };
        std::fs::write(&page, "the last whole run").unwrap();
        let interrupt = Interrupt::default();
        let half = performed(&interrupt, |_, seed| {
            interrupt.ask();
            if seed < 2 {
                Ok(Run::default())
            } else {
                bail!("refused")
            }
        });
        write(&arguments, &[], &half).unwrap();
        assert_eq!(std::fs::read_to_string(&page).unwrap(), "the last whole run");
        let results: FaultResults = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
        assert_eq!(results.provenance.skipped, half.missing);
        let whole = performed(&Interrupt::default(), |_, _| Ok(Run::default()));
        write(&arguments, &[], &whole).unwrap();
        assert!(std::fs::read_to_string(&page).unwrap().starts_with("# Scenarios"));
    }
}
