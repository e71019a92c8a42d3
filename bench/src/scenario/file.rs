//! Reading a scenario file: what is not understood is refused with its place and not guessed.
//!
//! ```yaml
//! id: S9                       # S0 to S14 of the table of faults, if it is one of those
//! story: one endpoint fails at one path
//! site: pairs                  # pairs: four primaries, each with its standby | pool: they share two | single: one
//! and one rate: 1200                   # requests per second, or { low: 300, high: 1200, period: 2m } posts: 10%
//! paths: { /a: 90%, "/e?bytes=80000": 10% } service: { median: 5ms, sigma: 0.5, cores: 16 } always: [{ at: standby,
//! kind: slow, factor: 3 }] faults: [{ at: faulty, kind: errors, share: 50%, path_prefix: /e, after: 1s, for: 2s,
//! every: 5s }] network: { loss: 5%, delay: 50ms, jitter: 50ms }    # to the faulty endpoint warm_up: 10s length: 12s
//! # of the fault recovery: 35s                # at most claims: [{ back_within: 30s }, no_post_twice]       # what
//! foreshade promises
//! ```
//!
//! Only `story` is needed. `at` is `faulty` (the second primary), `standby` (its standby), `primaries`, `standbys` or
//! `everybody`; everything else of a fault is as `foreshade-bench endpoints --help` has it.
//!
//! Two passes. The parser finds what is not even of the right form, and stops there; then everything that is
//! understood is checked at once, and all that is wrong with it is told. A fault's own fields are those of [`Fault`],
//! as the farm takes them over HTTP, so that whatever the farm can do stands in a scenario without a second list of
//! names.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::{At, Network, Scenario, Service, Site, users};
use crate::claim::Claim;
use crate::farm::fault::{Fault, Times};
use crate::load::mix::Mix;
use crate::load::schedule::Rate;
use crate::quantity::{Time, written};

/// Requests per second where the file does not say.
pub const RATE: f64 = 1_200.0;

/// Part of POSTs where the file does not say.
const POSTS: f64 = 0.1;

/// Usual times.
const WARM_UP: Duration = Duration::from_secs(10);
const LENGTH: Duration = Duration::from_secs(12);
const RECOVERY: Duration = Duration::from_secs(35);

/// Half a second is the least that anything healthy is measured in.
const WARM_UP_MIN: Duration = Duration::from_secs(1);

/// A network that is slower than this is none.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// Faults of one file; a hand writes fewer.
const FAULTS_MAX: usize = 64;

/// More requests at once than any endpoint of a farm works on.
const CORES_MAX: u32 = 4_096;

/// Largest file in bytes.
const BYTES_MAX: usize = 1 << 16;

/// What is wrong with a scenario file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes {
    /// The file as it was named.
    file: String,
    /// Line, column and sentence; line 0 means the file as a whole.
    found: Vec<(u64, u64, String)>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, column, what)) in self.found.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            match line {
                0 => write!(f, "{end}{}: {what}", self.file)?,
                _ => write!(f, "{end}{}:{line}:{column}: {what}", self.file)?,
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: Option<Spanned<String>>,
    story: Spanned<String>,
    #[serde(default)]
    site: Site,
    #[serde(default = "usual_rate", deserialize_with = "users::rate")]
    rate: Rate,
    #[serde(default = "usual_posts", deserialize_with = "written::share")]
    posts: f64,
    #[serde(default = "usual_paths", deserialize_with = "users::paths")]
    paths: Vec<(String, f64)>,
    service: Option<Spanned<RawService>>,
    #[serde(default)]
    always: Vec<Spanned<Value>>,
    #[serde(default)]
    faults: Vec<Spanned<Value>>,
    network: Option<Spanned<RawNetwork>>,
    warm_up: Option<Spanned<Time>>,
    length: Option<Spanned<Time>>,
    recovery: Option<Time>,
    #[serde(default)]
    claims: Vec<Claim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    median: Option<Time>,
    sigma: Option<f64>,
    cores: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetwork {
    #[serde(default, deserialize_with = "written::share")]
    loss: f64,
    #[serde(default)]
    delay: Time,
    #[serde(default)]
    jitter: Time,
}

fn usual_rate() -> Rate {
    Rate::Steady(RATE)
}

fn usual_paths() -> Vec<(String, f64)> {
    Mix::default().paths
}

fn usual_posts() -> f64 {
    POSTS
}

/// Reads a file; its name without the ending becomes the scenario's.
///
/// # Errors
/// Everything that is wrong with it, or that it cannot be read.
pub fn load(path: &Path) -> Result<Scenario, Mistakes> {
    let file = path.display().to_string();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let text = std::fs::read_to_string(path).map_err(|error| Mistakes {
        file: file.clone(),
        found: vec![(0, 0, format!("cannot read it: {error}"))],
    })?;
    parse(&name, &file, &text)
}

/// Reads a text that came from `file`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(name: &str, file: &str, text: &str) -> Result<Scenario, Mistakes> {
    let mut reading = Reading(Mistakes {
        file: file.to_owned(),
        found: Vec::new(),
    });
    if text.len() > BYTES_MAX {
        reading.note(None, format!("it has more than {BYTES_MAX} bytes"));
        return Err(reading.0);
    }
    let plain = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    match serde_saphyr::from_str_with_options::<Raw>(text, plain) {
        Ok(raw) => {
            let scenario = reading.check(name, raw);
            if reading.0.found.is_empty() {
                return Ok(scenario);
            }
            reading.0.found.sort();
        }
        Err(error) => {
            let place = error.location();
            reading.note(place, sentence(error.without_snippet()));
        }
    }
    Err(reading.0)
}

/// The parser's error without its place, and with a hint where a name is almost right.
fn sentence(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error::{SerdeUnknownField, SerdeUnknownVariant};
    let (word, expected, what) = match error {
        SerdeUnknownField { field, expected, .. } => (field, expected, "key"),
        SerdeUnknownVariant {
            variant, expected, ..
        } => (variant, expected, "word"),
        _ => return without_place(&error.to_string()),
    };
    let hint = foreshade_settings::nearest(word, expected.iter().copied())
        .map(|meant| format!("did you mean {meant}? "))
        .unwrap_or_default();
    format!(
        "there is no {what} {word:?} here; {hint}there are {}",
        expected.join(", ")
    )
}

/// What stands before the parser's own mention of the place, or of its options.
fn without_place(text: &str) -> String {
    let ends = [" at line ", ", set "].map(|end| text.find(end).unwrap_or(text.len()));
    text.get(..ends[0].min(ends[1])).unwrap_or(text).trim().to_owned()
}

struct Reading(Mistakes);

impl Reading {
    fn note(&mut self, place: Option<Location>, what: impl Into<String>) {
        let (line, column) = place.map_or((0, 0), |place| (place.line(), place.column()));
        self.0.found.push((line, column, what.into()));
    }

    fn check(&mut self, name: &str, raw: Raw) -> Scenario {
        let length = self.lasting(raw.length, LENGTH, Duration::from_secs(1), "length");
        let warm_up = self.lasting(raw.warm_up, WARM_UP, WARM_UP_MIN, "warm_up");
        if let Some(id) = raw.id.as_ref().filter(|id| !is_id(&id.value)) {
            self.note(
                Some(id.referenced),
                format!("{:?} is no number of the table; expected S0 to S14", id.value),
            );
        }
        if raw.story.value.trim().is_empty() {
            self.note(
                Some(raw.story.referenced),
                "the story is empty; say in a sentence what happens",
            );
        }
        if raw.faults.len() + raw.always.len() > FAULTS_MAX {
            self.note(None, format!("it has more than {FAULTS_MAX} faults"));
        }
        let always = raw
            .always
            .iter()
            .filter_map(|entry| self.lasting_fault(entry))
            .collect();
        let faults = raw
            .faults
            .iter()
            .filter_map(|entry| self.passing_fault(entry, length))
            .collect();
        Scenario {
            name: name.to_owned(),
            id: raw.id.map(|id| id.value),
            story: raw.story.value,
            site: raw.site,
            rate: raw.rate,
            posts: raw.posts,
            paths: raw.paths,
            service: raw
                .service
                .map_or_else(Service::default, |raw| self.service(&raw)),
            always,
            faults,
            network: raw.network.map(|raw| self.network(&raw)),
            warm_up,
            length,
            recovery: raw.recovery.map_or(RECOVERY, |recovery| recovery.0),
            claims: raw.claims,
            unjudged: Vec::new(),
        }
    }

    fn lasting(
        &mut self,
        raw: Option<Spanned<Time>>,
        usual: Duration,
        least: Duration,
        key: &str,
    ) -> Duration {
        let Some(raw) = raw else {
            return usual;
        };
        if raw.value.0 < least {
            self.note(Some(raw.referenced), format!("{key} is at least {least:?}"));
        }
        raw.value.0
    }

    fn service(&mut self, raw: &Spanned<RawService>) -> Service {
        let usual = Service::default();
        let RawService { median, sigma, cores } = &raw.value;
        let service = Service {
            median: median.map_or(usual.median, |median| median.0),
            sigma: sigma.unwrap_or(usual.sigma),
            cores: cores.unwrap_or(usual.cores),
        };
        if !(0.0..=3.0).contains(&service.sigma) {
            let what = format!("a sigma lies between 0 and 3, not at {}", service.sigma);
            self.note(Some(raw.referenced), what);
        }
        if !(1..=CORES_MAX).contains(&service.cores) {
            let what = format!(
                "an endpoint has 1 to {CORES_MAX} cores, and not {}",
                service.cores
            );
            self.note(Some(raw.referenced), what);
        }
        service
    }

    fn network(&mut self, raw: &Spanned<RawNetwork>) -> Network {
        let RawNetwork { loss, delay, jitter } = raw.value;
        if jitter > delay {
            let what = "a network's jitter is at most its delay: no packet arrives before it was sent";
            self.note(Some(raw.referenced), what);
        }
        if delay.0 > DELAY_MAX {
            self.note(
                Some(raw.referenced),
                format!("a network's delay is at most {DELAY_MAX:?}"),
            );
        }
        Network {
            loss,
            delay: delay.0,
            jitter: jitter.0,
        }
    }

    /// A fault that is always there: it has no times.
    fn lasting_fault(&mut self, entry: &Spanned<Value>) -> Option<(At, Fault)> {
        let (at, fault) = self.split(entry)?;
        if fault.times != Times::default() {
            let what = "what is always there has no `after`, `for` or `every`";
            self.note(Some(entry.referenced), what);
        }
        Some((at, fault))
    }

    fn passing_fault(&mut self, entry: &Spanned<Value>, length: Duration) -> Option<(At, Fault)> {
        let (at, fault) = self.split(entry)?;
        if fault.times.after >= length {
            self.note(Some(entry.referenced), "it would come when the scenario is over");
        }
        Some((at, fault))
    }

    /// An entry's place among the endpoints, and what is left: the fault.
    fn split(&mut self, entry: &Spanned<Value>) -> Option<(At, Fault)> {
        let Value::Object(mut map) = entry.value.clone() else {
            let what = "a fault is a mapping, as { at: faulty, kind: slow, factor: 10 }";
            self.note(Some(entry.referenced), what);
            return None;
        };
        let at = map.remove("at").map_or_else(
            || Err("it lacks `at`: who has it".to_owned()),
            |at| At::deserialize(at).map_err(|error| error.to_string()),
        );
        let fault = Fault::deserialize(Value::Object(map)).map_err(|error| error.to_string());
        match (at, fault) {
            (Ok(at), Ok(fault)) => Some((at, fault)),
            (at, fault) => {
                for what in [at.err(), fault.err()].into_iter().flatten() {
                    self.note(Some(entry.referenced), what);
                }
                None
            }
        }
    }
}

fn is_id(id: &str) -> bool {
    let number = id.strip_prefix('S').and_then(|digits| digits.parse::<u8>().ok());
    number.is_some_and(|number| number <= 14 && format!("S{number}") == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::fault::Kind;

    fn wrong(text: &str) -> String {
        parse("x", "x.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_story_is_enough_and_the_rest_is_usual() {
        let scenario = parse("x", "x.yaml", "story: nothing at all").unwrap();
        assert_eq!((scenario.name.as_str(), scenario.site), ("x", Site::Pairs));
        assert_eq!(scenario.rate, Rate::Steady(RATE));
        assert_eq!(scenario.length_max(), WARM_UP + LENGTH + RECOVERY);
        assert!(scenario.faults.is_empty() && scenario.claims.is_empty());
    }

    #[test]
    fn every_part_of_a_file_is_read() {
        let text = "
id: S13
story: all of it
site: pool
rate: { low: 300, high: 1200, period: 2m }
posts: 20%
paths: { /b: 60%, /a: 40% }
service: { median: 20ms, sigma: 0.3, cores: 4 }
always:
  - { at: standbys, kind: slow, factor: 3 }
faults:
  - { at: faulty, kind: errors, share: 0.05, after: 1s, for: 2s, every: 3s }
length: 9s
warm_up: 5s
recovery: 4s
claims:
  - p99_back: { times: 1.3, within: 4s }
  - traffic_under: { share: 5%, within: 1s }
  - only_path_moves: /e
  - back_within: 30s
  - no_post_twice
";
        let scenario = parse("x", "x.yaml", text).unwrap();
        assert_eq!(scenario.id.as_deref(), Some("S13"));
        assert_eq!((scenario.site, scenario.service.cores), (Site::Pool, 4));
        assert!((scenario.posts - 0.2).abs() < 1e-9);
        assert_eq!(
            scenario.mix().paths,
            [("/b".to_owned(), 0.6), ("/a".to_owned(), 0.4)]
        );
        assert_eq!(scenario.always, [(At::Standbys, Fault::slow(3.0))]);
        let (at, errors) = &scenario.faults[0];
        assert_eq!((*at, errors.kind), (At::Faulty, Kind::Errors { status: 500 }));
        assert_eq!(errors.times.every, Some(Duration::from_secs(3)));
        assert_eq!(scenario.length_max(), Duration::from_secs(18));
        let within = Duration::from_secs(1);
        assert_eq!(scenario.claims[1], Claim::TrafficUnder { share: 0.05, within });
        assert_eq!(scenario.claims[2], Claim::OnlyPathMoves(4));
    }

    #[test]
    fn another_rate_keeps_the_shape_of_a_wave() {
        let wave = parse(
            "x",
            "x.yaml",
            "{story: x, rate: {low: 300, high: 1200, period: 2m}}",
        )
        .unwrap();
        let Rate::Wave { low, high, .. } = wave.at_rate(400.0).rate else {
            panic!("a wave");
        };
        assert!((low - 100.0).abs() < 1e-9 && (high - 400.0).abs() < 1e-9);
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        for (text, expected) in [
            (
                "story: x\nlenght: 3s",
                "x.yaml:2:1: there is no key \"lenght\" here; did you mean length? there are id,",
            ),
            ("story: x\nlength: 3", "x.yaml:2:1: invalid type"),
            (
                "story: x\nrate: 0",
                "x.yaml:2:7: 0 requests per second are impossible",
            ),
            (
                "story: x\nrate: 1e9",
                "x.yaml:2:7: 1000000000 requests per second are impossible",
            ),
            (
                "story: x\nrate: { low: 9, high: 1, period: 1m }",
                "a wave's low lies above its high",
            ),
            ("story: x\nrate: fast", "x.yaml:2:1: invalid type"),
            ("story: x\nposts: 110%", "x.yaml:2:8: a share lies between"),
            (
                "story: x\nsite: pair",
                "x.yaml:2:7: there is no word \"pair\" here; did you mean pairs?",
            ),
            ("story: x\nstory: y", "x.yaml:2:1: duplicate mapping key: story"),
            (
                "id: S15\nstory: x",
                "x.yaml:1:5: \"S15\" is no number of the table",
            ),
            ("story: ''", "x.yaml:1:8: the story is empty"),
            ("length: 5s", "missing field"),
            (
                "story: x\nclaims:\n  - nothing_fales",
                "did you mean nothing_fails?",
            ),
            (
                "story: x\nclaims:\n  - only_path_moves: /z",
                "requests for \"/z\" are not counted apart",
            ),
            ("story: x\npaths: { a: 1 }", "\"a\" is no path"),
            ("story: x\npaths: { /a: 0 }", "the weight of /a is above 0"),
            ("story: x\npaths: {}", "there is no path"),
            (
                "story: x\nnetwork: { delay: 5ms, jitter: 9ms }",
                "x.yaml:2:10: a network's jitter is at most",
            ),
            ("story: x\nfaults: [", "x.yaml:"),
        ] {
            let found = wrong(text);
            assert!(found.contains(expected), "{text}\n{found}");
        }
    }

    #[test]
    fn a_fault_is_checked_as_a_whole() {
        let with = |fault: &str| wrong(&format!("story: x\nlength: 9s\nfaults:\n  - {fault}"));
        for (fault, expected) in [
            (
                "{ at: faulty, kind: slow }",
                "x.yaml:4:5: this kind of fault needs `factor`",
            ),
            (
                "{ at: faulty, kind: slow, factor: -1 }",
                "x.yaml:4:5: a factor lies between",
            ),
            (
                "{ at: faulty, kind: slow, factor: 2, speed: 1 }",
                "x.yaml:4:5: unknown field `speed`",
            ),
            (
                "{ at: nobody, kind: hang }",
                "x.yaml:4:5: unknown variant `nobody`, expected one of `faulty`",
            ),
            ("{ kind: hang }", "x.yaml:4:5: it lacks `at`"),
            (
                "{ at: faulty, kind: hang, after: 9s }",
                "it would come when the scenario is over",
            ),
            ("{ at: faulty, kind: hang, every: 2s }", "`every` needs `for`"),
            (
                "{ at: faulty, kind: hang, for: 3s, every: 2s }",
                "cannot last 3s each time",
            ),
            (
                "{ at: faulty, kind: hang, for: 0s }",
                "`for` 0s is no fault at all",
            ),
            ("hang", "a fault is a mapping"),
        ] {
            let found = with(fault);
            assert!(found.contains(expected), "{fault}\n{found}");
        }
        let always = wrong("story: x\nalways:\n  - { at: standby, kind: hang, after: 1s }");
        assert!(
            always.contains("x.yaml:3:5: what is always there has no `after`"),
            "{always}"
        );
    }

    #[test]
    fn all_that_is_understood_and_wrong_is_told_at_once_in_the_order_of_the_file() {
        let found =
            wrong("id: X\nstory: x\nfaults:\n  - { kind: hang }\nwarm_up: 500ms\nservice: { cores: 0 }");
        let lines: Vec<_> = found
            .lines()
            .map(|line| line.split(": ").next().unwrap())
            .collect();
        assert_eq!(
            lines,
            ["x.yaml:1:5", "x.yaml:4:5", "x.yaml:5:10", "x.yaml:6:10"],
            "{found}"
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let missing = load(Path::new("nowhere/x.yaml")).unwrap_err().to_string();
        assert!(
            missing.starts_with("nowhere/x.yaml: cannot read it: "),
            "{missing}"
        );
    }
}
