//! Who is ahead: foreshade against each rival in each scenario, judged so that chance alone decides nothing.
//!
//! What is compared is harm per thousand requests, because it exists in every scenario, also where there is nothing to be
//! avoided. Runs with the same seed met the same requests and faults, so differences are taken seed by seed. Foreshade
//! is ahead or behind only where nine seeds of ten say so (all of them, where there are fewer than ten) by more than what
//! one failed request in ten thousand weighs; everything else is level.

use std::collections::BTreeMap;

use crate::report::look::{Cast, Who};
use crate::report::spread::Spread;
use crate::results::{ContenderResult, FaultResults, Figures, ScenarioResult, Setting};

/// Harm per thousand requests that nobody would choose a proxy by.
const HARM_LEAST: f64 = 0.1;

/// A mean over scenarios counts each at least as this much: one in which a contender does twice the harm of nobody reacting
/// must not outweigh all the others.
const AVOIDED_FLOOR: f64 = -1.0;

/// How foreshade stands against a rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ahead,
    Level,
    Behind,
}

/// Foreshade against one rival in one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Duel<'a> {
    pub(crate) scenario: &'a ScenarioResult,
    pub(crate) rival: Who<'a>,
    /// Harm per thousand requests, foreshade's less the rival's.
    pub(crate) harm: Spread,
    /// Avoided harm, foreshade's less the rival's; absent where there is nothing to be avoided.
    pub(crate) avoided: Option<Spread>,
    pub(crate) standing: Standing,
}

impl ContenderResult {
    pub(crate) fn who(&self) -> Who<'_> {
        Who {
            contender: &self.contender,
            setting: self.setting,
        }
    }

    /// Middle and ends of a figure over all seeds.
    pub(crate) fn figure(&self, of: impl Fn(&Figures) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| of(&run.figures)))
    }
}

/// Harm per thousand requests; absent where nobody asked.
pub(crate) fn harm_per_thousand(figures: &Figures) -> Option<f64> {
    (figures.requests > 0).then(|| figures.harm / figures.requests as f64 * 1e3)
}

/// Everybody who took part in any scenario, in the order of lists.
pub(crate) fn everybody<'a>(results: &'a FaultResults, cast: &Cast) -> Vec<Who<'a>> {
    let mut all: Vec<Who<'a>> = Vec::new();
    let contenders = results.scenarios.iter().flat_map(|scenario| &scenario.contenders);
    for who in contenders.map(ContenderResult::who) {
        if !all.contains(&who) {
            all.push(who);
        }
    }
    all.sort_by_key(|who| cast.rank(*who));
    all
}

/// Everybody once: tuned, and as it comes only where nobody tuned it. What is left out stands in the tables.
pub(crate) fn once_each<'a>(all: impl IntoIterator<Item = Who<'a>>) -> Vec<Who<'a>> {
    let all: Vec<Who<'a>> = all.into_iter().collect();
    let is_tuned = |name: &str| all.contains(&Who::tuned(name));
    let chosen = all
        .iter()
        .filter(|who| who.setting == Setting::Tuned || !is_tuned(who.contender));
    chosen.copied().collect()
}

/// Foreshade against every rival in every scenario in which both played the same seeds.
pub(crate) fn duels(results: &FaultResults) -> Vec<Duel<'_>> {
    let mut duels = Vec::new();
    for scenario in &results.scenarios {
        let ours = scenario
            .contenders
            .iter()
            .find(|contender| contender.who().is_foreshade());
        let Some(ours) = ours else { continue };
        let rivals = scenario.contenders.iter().filter(|contender| {
            let who = contender.who();
            !who.is_yardstick() && !who.is_foreshade()
        });
        duels.extend(rivals.filter_map(|theirs| duel(scenario, ours, theirs)));
    }
    duels
}

fn duel<'a>(
    scenario: &'a ScenarioResult,
    ours: &ContenderResult,
    theirs: &'a ContenderResult,
) -> Option<Duel<'a>> {
    let by_seed: BTreeMap<u64, &Figures> = ours.runs.iter().map(|run| (run.seed, &run.figures)).collect();
    let difference = |of: fn(&Figures) -> Option<f64>| {
        let pairs = theirs
            .runs
            .iter()
            .filter_map(|run| Some((by_seed.get(&run.seed)?, &run.figures)));
        Spread::of(pairs.filter_map(|(ours, theirs)| Some(of(ours)? - of(theirs)?)))
    };
    let harm = difference(harm_per_thousand)?;
    let standing = if harm.high < -HARM_LEAST {
        Standing::Ahead
    } else if harm.low > HARM_LEAST {
        Standing::Behind
    } else {
        Standing::Level
    };
    Some(Duel {
        scenario,
        rival: theirs.who(),
        harm,
        avoided: difference(|figures| figures.avoided_harm),
        standing,
    })
}

/// Everybody whom foreshade met, in the order of lists.
pub(crate) fn rivals<'a>(duels: &[Duel<'a>], cast: &Cast) -> Vec<Who<'a>> {
    let mut rivals: Vec<Who<'a>> = Vec::new();
    for duel in duels {
        if !rivals.contains(&duel.rival) {
            rivals.push(duel.rival);
        }
    }
    rivals.sort_by_key(|who| cast.rank(*who));
    rivals
}

/// Mean of a contender's avoided harm over the scenarios in which there is some, and how many those were.
pub(crate) fn mean_avoided(results: &FaultResults, who: Who<'_>) -> Option<(f64, usize)> {
    let contenders = results.scenarios.iter().flat_map(|scenario| &scenario.contenders);
    let medians: Vec<f64> = contenders
        .filter(|contender| contender.who() == who)
        .filter_map(|contender| contender.figure(|figures| figures.avoided_harm))
        .map(|spread| spread.median.max(AVOIDED_FLOOR))
        .collect();
    let count = medians.len();
    (count > 0).then(|| (medians.iter().sum::<f64>() / count as f64, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Provenance, SeedResult, Time};

    fn contender(name: &str, harms: &[(u64, f64)]) -> ContenderResult {
        let run = |(seed, harm): &(u64, f64)| SeedResult {
            seed: *seed,
            figures: Figures {
                requests: 1_000,
                harm: *harm,
                avoided_harm: Some(1.0 - harm),
                ..Figures::default()
            },
            seconds: Vec::new(),
            healthy: Vec::new(),
            during: Vec::new(),
        };
        ContenderResult {
            contender: name.into(),
            setting: Setting::Tuned,
            runs: harms.iter().map(run).collect(),
        }
    }

    fn results(contenders: Vec<ContenderResult>) -> FaultResults {
        FaultResults {
            provenance: Provenance {
                format: 1,
                command: String::new(),
                cores: 1,
                processor: String::new(),
                versions: BTreeMap::new(),
                skipped: BTreeMap::new(),
            },
            time: Time::Real,
            scenarios: vec![ScenarioResult {
                name: "x".into(),
                id: None,
                story: String::new(),
                onset_s: 0.0,
                healed_s: 1.0,
                rate: None,
                claims: Vec::new(),
                unjudged: Vec::new(),
                contenders,
            }],
        }
    }

    fn standing(ours: &[(u64, f64)], theirs: &[(u64, f64)]) -> Option<Standing> {
        let results = results(vec![contender("foreshade", ours), contender("nginx", theirs)]);
        duels(&results).first().map(|duel| duel.standing)
    }

    #[test]
    fn one_seed_that_says_otherwise_makes_it_level() {
        let ours = [(1, 1.0), (2, 1.0), (3, 1.0)];
        assert_eq!(
            standing(&ours, &[(1, 2.0), (2, 2.0), (3, 2.0)]),
            Some(Standing::Ahead)
        );
        assert_eq!(
            standing(&ours, &[(1, 2.0), (2, 2.0), (3, 0.5)]),
            Some(Standing::Level)
        );
        assert_eq!(
            standing(&ours, &[(1, 0.5), (2, 0.5), (3, 0.5)]),
            Some(Standing::Behind)
        );
        assert_eq!(
            standing(&ours, &[(1, 1.05), (2, 1.05), (3, 1.05)]),
            Some(Standing::Level)
        );
    }

    #[test]
    fn only_runs_with_the_same_seed_are_compared() {
        // By their medians ours would be ahead; seed by seed they are equal.
        let ours = [(1, 1.0), (2, 5.0), (3, 1.0)];
        assert_eq!(standing(&ours, &[(2, 5.0), (4, 9.0)]), Some(Standing::Level));
        assert_eq!(standing(&ours, &[(7, 9.0)]), None);
    }

    #[test]
    fn who_is_tuned_is_not_shown_as_it_comes_too() {
        let as_it_comes = |contender| Who {
            contender,
            setting: Setting::Defaults,
        };
        let all = [Who::tuned("nginx"), as_it_comes("nginx"), as_it_comes("envoy")];
        assert_eq!(once_each(all), [Who::tuned("nginx"), as_it_comes("envoy")]);
    }

    #[test]
    fn who_cannot_be_installed_is_no_rival() {
        let all = ["foreshade", "none", "oracle", "envoy"].map(|name| contender(name, &[(1, 1.0)]));
        let results = results(all.to_vec());
        let rivals: Vec<&str> = duels(&results).iter().map(|duel| duel.rival.contender).collect();
        assert_eq!(rivals, ["envoy"]);
    }

    #[test]
    fn one_disaster_does_not_outweigh_all_other_scenarios() {
        let mut results = results(vec![contender("nginx", &[(1, 51.0)])]);
        let mut other = results.scenarios[0].clone();
        other.contenders = vec![contender("nginx", &[(1, 0.0)])];
        results.scenarios.push(other);
        assert_eq!(mean_avoided(&results, Who::tuned("nginx")), Some((0.0, 2)));
        assert_eq!(mean_avoided(&results, Who::tuned("envoy")), None);
    }
}
