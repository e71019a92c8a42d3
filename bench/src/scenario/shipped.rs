//! The scenarios that are compiled in: the files of `bench/scenarios`, so that a copied program has them too.
//!
//! In the order of the table of faults, S0 to S14, then those that have no number there, the long one last.

use super::Scenario;
use super::file::{self, Mistakes};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../scenarios/", $name, ".yaml")))),*]
    };
}

/// Name and text of each file.
const FILES: &[(&str, &str)] = &files![
    "healthy-day",
    "killed",
    "hang",
    "slow-10x",
    "slow-2x",
    "leak",
    "pause",
    "errors-5",
    "errors-50",
    "gray-path",
    "gray-size",
    "network",
    "capacity-half",
    "correlated",
    "flapping-1s",
    "flapping-5s",
    "standby-worse",
    "standby-cold",
    "slow-3x",
    "ramp-20x",
    "one-path-20x",
    "refused",
    "common-cause",
    "worse-standby",
    "half-broken",
    "hang-writes",
    "standby-small",
    "resets-everywhere",
    "errors-everywhere",
    "healthy-1m",
    "healthy-10m",
];

/// All scenarios.
///
/// # Errors
/// None that a test has not found before: the files are those of the build.
pub fn all() -> Result<Vec<Scenario>, Mistakes> {
    let read = |(name, text): &(&str, &str)| file::parse(name, &format!("bench/scenarios/{name}.yaml"), text);
    FILES.iter().map(read).collect()
}

/// What cannot be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no scenario {0:?}; there are {1}")]
pub struct Unknown(String, String);

/// The scenarios that are called by `words`, their names or numbers, in the order of `scenarios`; several may have one
/// number.
///
/// # Errors
/// The first word that calls none.
pub fn called(words: &[String], scenarios: &[Scenario]) -> Result<Vec<Scenario>, Unknown> {
    if let Some(word) = words
        .iter()
        .find(|word| !scenarios.iter().any(|scenario| scenario.is_called(word)))
    {
        let names: Vec<_> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        return Err(Unknown(word.clone(), names.join(", ")));
    }
    let called = |scenario: &&Scenario| words.iter().any(|word| scenario.is_called(word));
    Ok(scenarios.iter().filter(called).cloned().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::claim::Claim;

    #[test]
    fn every_file_of_the_folder_is_compiled_in_and_right() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let files: BTreeSet<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let listed: BTreeSet<_> = FILES.iter().map(|(name, _)| format!("{name}.yaml")).collect();
        assert_eq!(files, listed);
        if let Err(mistakes) = all() {
            panic!("{mistakes}");
        }
    }

    #[test]
    fn every_scenario_watches_its_writes_and_its_harness() {
        for scenario in all().unwrap() {
            for claim in [Claim::NoPostTwice, Claim::HarnessOnTime] {
                assert!(scenario.claims.contains(&claim), "{}", scenario.name);
            }
        }
    }

    #[test]
    fn whatever_moves_traffic_has_to_bring_it_back() {
        for scenario in all().unwrap().iter().filter(|scenario| !scenario.is_quiet()) {
            let stays = scenario.claims.contains(&Claim::NoShift);
            let returns = scenario
                .claims
                .iter()
                .any(|claim| matches!(claim, Claim::BackWithin(_)));
            assert!(stays != returns, "{}", scenario.name);
        }
    }

    #[test]
    fn a_number_calls_all_that_have_it_and_a_name_calls_one() {
        let all = all().unwrap();
        let called = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            called(&words, &all).map(|found| {
                found
                    .into_iter()
                    .map(|scenario| scenario.name)
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(called(&["s13"]).unwrap(), ["flapping-1s", "flapping-5s"]);
        assert_eq!(called(&["refused", "S3"]).unwrap(), ["slow-10x", "refused"]);
        assert!(
            called(&["S99"])
                .unwrap_err()
                .to_string()
                .starts_with("there is no scenario \"S99\"")
        );
    }
}
