//! All contenders in the same scenarios, at the same time, and what each run came to.
//!
//! Seed by seed and within that scenario by scenario, so that whatever changes on the machine in the meantime changes
//! for every scenario alike, and so that a run that is interrupted has the first seed of as many scenarios as
//! possible. What does not take part is named with its reason: a contender that is not installed or does not start, a
//! scenario that the machine does not allow.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::claim::{Claim, judge};
use crate::figures;
use crate::play::seat::House;
use crate::play::{AFTERMATH, Performance, Seat, play};
use crate::results::{ContenderResult, Figures, ScenarioResult, SeedResult, Setting};
use crate::rivals::{Contender, Found};
use crate::run::Run;
use crate::scenario::Scenario;
use crate::stage::interrupt::Interrupt;
use crate::stage::network::Cable;
use crate::stage::process::Programs;

pub mod table;

/// Requests per second and contender where nothing else is asked for: six of them, their farms and their loads share
/// two cores.
pub const RATE: f64 = 400.0;

/// Why a scenario is missing that Ctrl-C has ended.
pub(crate) const INTERRUPTED: &str = "interrupted";

/// Until a proxy and its endpoints have started; it is less, unless the machine is busy with something else.
const START: Duration = Duration::from_secs(1);

/// One who takes part, in one setting.
#[derive(Clone, Debug)]
pub struct Entrant {
    /// Who.
    pub found: Found,
    /// How configured.
    pub setting: Setting,
}

impl Entrant {
    /// As it is called in messages.
    fn label(&self) -> String {
        label(self.found.contender.name(), self.setting)
    }
}

/// A contender in a setting, for people.
pub fn label(contender: &str, setting: Setting) -> String {
    match setting {
        Setting::Tuned => contender.to_owned(),
        Setting::Defaults => format!("{contender} as it comes"),
    }
}

/// Everybody who was asked for: who takes part, and why the others do not.
#[derive(Clone, Debug, Default)]
pub struct Cast {
    /// In the order of the columns.
    pub entrants: Vec<Entrant>,
    /// By name.
    pub skipped: BTreeMap<String, String>,
}

impl Cast {
    /// Looks for `contenders`; with `defaults`, those who can be tuned also play as they come.
    pub fn find(contenders: &[Contender], defaults: bool, programs: &Programs) -> Self {
        let mut cast = Self::default();
        for contender in contenders {
            match contender.find(programs) {
                Ok(found) => {
                    let tunable = matches!(
                        contender,
                        Contender::Nginx | Contender::Haproxy | Contender::Envoy
                    );
                    let settings = [Setting::Tuned, Setting::Defaults];
                    for setting in settings.into_iter().take(if defaults && tunable { 2 } else { 1 }) {
                        cast.entrants.push(Entrant {
                            found: found.clone(),
                            setting,
                        });
                    }
                }
                Err(absent) => {
                    cast.skipped.insert(contender.name().to_owned(), absent.why);
                }
            }
        }
        cast
    }

    /// Versions by contender.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let version = |entrant: &Entrant| {
            (
                entrant.found.contender.name().to_owned(),
                entrant.found.version.clone(),
            )
        };
        self.entrants.iter().map(version).collect()
    }
}

/// How long playing takes at most: contenders play at the same time, scenarios and seeds one after another.
pub fn lasts_at_most(scenarios: &[Scenario], seeds: u64, seats: usize) -> Duration {
    let starting = START * u32::try_from(seats).unwrap_or(u32::MAX);
    let one = |scenario: &Scenario| {
        let returning = match scenario.is_quiet() {
            true => Duration::ZERO,
            false => scenario.recovery + AFTERMATH,
        };
        starting + scenario.warm_up + scenario.length + returning
    };
    let all: Duration = scenarios.iter().map(one).sum();
    all * u32::try_from(seeds).unwrap_or(u32::MAX)
}

/// Plays everything; `played` hears of each scenario as soon as one more seed of it has been played. What was skipped
/// on the way is added to the cast.
///
/// # Errors
/// When the bench itself fails. An interruption is none: the results so far are returned, and what is missing is added
/// to what was skipped.
pub fn compete(
    scenarios: &[Scenario],
    seeds: u64,
    cast: &mut Cast,
    (programs, folder, interrupt): (&Programs, &Path, &Interrupt),
    mut played: impl FnMut(&ScenarioResult),
) -> Result<Vec<ScenarioResult>> {
    let mut results: Vec<ScenarioResult> = Vec::new();
    for seed in 1..=seeds {
        for scenario in scenarios {
            let stage = Stage {
                programs,
                interrupt,
                folder: &folder.join(format!("{}-{seed}", scenario.name)),
                seed,
            };
            let runs = match stage.one(scenario, cast) {
                Ok(runs) => runs,
                // Ctrl-C goes to the children, too: whatever fails then fails because of it.
                Err(_) if interrupt.is_asked() => {
                    let missing = missing(scenarios, &results, (seed, seeds));
                    cast.skipped.extend(missing);
                    return Ok(results);
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    cast.skipped.entry(scenario.name.clone()).or_insert(why);
                    continue;
                }
            };
            let index = results.iter().position(|result| result.name == scenario.name);
            let index = index.unwrap_or_else(|| {
                results.push(scenario.result(Vec::new()));
                results.len() - 1
            });
            if let Some(result) = results.get_mut(index) {
                add(result, scenario, seed, runs);
                played(result);
            }
        }
    }
    Ok(results)
}

/// The scenarios that an interruption in `seed` of `seeds` has cut short, and of how many seeds it has robbed them.
fn missing(
    scenarios: &[Scenario],
    results: &[ScenarioResult],
    (seed, seeds): (u64, u64),
) -> Vec<(String, String)> {
    let played = |scenario: &Scenario| {
        let result = results.iter().find(|result| result.name == scenario.name)?;
        let contenders = result.contenders.iter();
        contenders
            .filter_map(|one| one.runs.last())
            .map(|run| run.seed)
            .max()
    };
    let cut = scenarios.iter().filter_map(|scenario| {
        let last = played(scenario).unwrap_or(0);
        (seed < seeds || last < seed).then(|| {
            let why = format!("{INTERRUPTED} after {last} of {seeds} seeds");
            (scenario.name.clone(), why)
        })
    });
    cut.collect()
}

/// One scenario with one seed.
struct Stage<'a> {
    programs: &'a Programs,
    interrupt: &'a Interrupt,
    folder: &'a Path,
    seed: u64,
}

impl Stage<'_> {
    /// Starts everybody, plays, and returns the runs of those who were there to the end.
    fn one(&self, scenario: &Scenario, cast: &mut Cast) -> Result<Vec<(Entrant, Run)>> {
        let cable = match scenario.network {
            Some(_) => Some(
                Cable::lay(self.programs, &self.folder.join("cable"))
                    .context("this machine allows no network of one's own")?,
            ),
            None => None,
        };
        let house = House {
            programs: self.programs,
            scenario,
            seed: self.seed,
            cable: cable.as_ref(),
        };
        let (mut entrants, mut seats) = (Vec::new(), Vec::new());
        for (index, entrant) in cast.entrants.clone().into_iter().enumerate() {
            self.interrupt.check()?;
            let folder = self.folder.join(index.to_string());
            match Seat::contender(house, &entrant.found, entrant.setting, &folder) {
                Ok(seat) => {
                    entrants.push(entrant);
                    seats.push(seat);
                }
                Err(error) => {
                    self.interrupt.check()?;
                    note(cast, &entrant, scenario, &error);
                }
            }
        }
        let performance = Performance {
            scenario,
            pairs: &scenario.site.pairs(),
            seed: self.seed,
            cable: cable.as_ref(),
            interrupt: self.interrupt,
        };
        let runs = play(performance, &mut seats)?;
        let mut whole = Vec::new();
        for (entrant, run) in entrants.into_iter().zip(runs) {
            match run {
                Ok(run) => whole.push((entrant, run)),
                Err(error) => note(cast, &entrant, scenario, &error),
            }
        }
        Ok(whole)
    }
}

fn note(cast: &mut Cast, entrant: &Entrant, scenario: &Scenario, error: &anyhow::Error) {
    let key = format!("{} in {}", entrant.label(), scenario.name);
    cast.skipped.entry(key).or_insert_with(|| format!("{error:#}"));
}

/// Adds the runs of one seed.
fn add(result: &mut ScenarioResult, scenario: &Scenario, seed: u64, runs: Vec<(Entrant, Run)>) {
    let mut all: Vec<(Entrant, SeedResult)> = runs
        .into_iter()
        .map(|(entrant, run)| {
            let ours = entrant.found.contender.is_ours();
            let seeded = of_run(scenario, seed, &run, ours);
            (entrant, seeded)
        })
        .collect();
    let harm = |contender| {
        let mut found = all.iter();
        let found = found.find(|(entrant, _)| entrant.found.contender == contender);
        found.map(|(_, seeded)| seeded.figures.harm)
    };
    if let (Some(unmoved), Some(oracle)) = (harm(Contender::Unmoved), harm(Contender::Oracle)) {
        for (_, seeded) in &mut all {
            seeded.figures.avoided_harm = figures::avoided(seeded.figures.harm, unmoved, oracle);
        }
    }
    for (entrant, seeded) in all {
        let name = entrant.found.contender.name();
        let is = |known: &ContenderResult| known.contender == name && known.setting == entrant.setting;
        match result.contenders.iter_mut().find(|known| is(known)) {
            Some(known) => known.runs.push(seeded),
            None => result.contenders.push(ContenderResult {
                contender: name.to_owned(),
                setting: entrant.setting,
                runs: vec![seeded],
            }),
        }
    }
}

/// All that one run came to but how much harm it avoided; the promises that it broke as well, if it is `ours`.
pub fn of_run(scenario: &Scenario, seed: u64, run: &Run, ours: bool) -> SeedResult {
    let mut broken = Vec::new();
    if ours {
        // A late load casts doubt on the run, which the figures say; it is nobody's broken promise.
        let promises = scenario
            .claims
            .iter()
            .filter(|claim| **claim != Claim::HarnessOnTime);
        for claim in promises {
            let verdict = judge(claim, run);
            if !verdict.holds {
                broken.push(format!("{claim}: {}", verdict.measured));
            }
        }
    }
    SeedResult {
        seed,
        figures: Figures {
            broken,
            ..figures::of(run)
        },
        seconds: figures::seconds(run),
        healthy: figures::curve(run, run.healthy),
        during: figures::curve(run, run.fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::shipped;

    #[test]
    fn the_table_of_faults_with_all_rivals_and_their_defaults_takes_less_than_forty_minutes() {
        let mut table = shipped::all().unwrap();
        table.retain(|scenario| scenario.id.is_some());
        let seats = 6 + 3;
        let lasts = lasts_at_most(&table, 1, seats);
        assert!(lasts < Duration::from_secs(40 * 60), "{lasts:?}");
        assert_eq!(lasts_at_most(&table, 3, seats), lasts * 3);
    }

    #[test]
    fn who_plays_at_the_same_time_takes_no_longer_and_what_never_breaks_has_nothing_to_come_back_from() {
        let known = shipped::all().unwrap();
        let of = |word: &str| shipped::called(&[word.to_owned()], &known).unwrap();
        let minute = lasts_at_most(&of("healthy-1m"), 1, 0);
        assert_eq!(minute, Duration::from_secs(60) + of("healthy-1m")[0].warm_up);
        let slow = of("S3");
        let whole = slow[0].warm_up + slow[0].length + slow[0].recovery + AFTERMATH;
        assert_eq!(lasts_at_most(&slow, 1, 6), whole + 6 * START);
    }
}
