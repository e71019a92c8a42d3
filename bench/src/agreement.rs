//! Whether simulated runs say the same as real ones: in direction, scenario by scenario and figure by figure.
//!
//! Directions and not numbers, because a model without sockets, handshakes and processor time cannot have the same
//! numbers and should come to the same conclusions. Three kinds are asked for: whether foreshade is better than somebody
//! who notices nothing, run by run with the same seed; what it did (it saw the fault, left, came back); and whether it
//! kept its promises. What more than half of the seeds say counts; where none of better and worse has that many, it is
//! level. A difference that nobody would notice is level, and level against
//! better is a disagreement: one real seed may be chance, and then somebody has to say so.

use std::fmt::{self, Write};

use crate::results::{ContenderResult, FaultResults, Figures, ScenarioResult};

/// A difference counts from this part of the larger value on, and from what the figure says at least.
const NOTICED: f64 = 0.1;

/// What is compared with nobody's run: its name, how it is read, and the least difference that matters.
type Measure = (&'static str, fn(&Figures) -> f64, f64);

const MEASURES: [Measure; 3] = [
    ("harm", |f| f.harm, 2.0),
    (
        "failed requests",
        |f| (f.failed_gets + f.failed_posts) as f64,
        2.0,
    ),
    ("p99", |f| f.p99_ms, 2.0),
];

/// What happened or did not: its name, and when.
type Event = (&'static str, fn(&Figures) -> Option<f64>);

const EVENTS: [Event; 3] = [
    ("sees it", |f| f.detect_s),
    ("leaves", |f| f.to_90_s),
    ("is back", |f| f.recovery_s),
];

/// What runs of one kind say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Than nobody.
    Better,
    /// As nobody.
    Level,
    /// Than nobody.
    Worse,
    /// It happened.
    Yes,
    /// It did not.
    No,
    /// The promise.
    Kept,
    /// The promise.
    Broken,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Better => "better",
            Self::Level => "level",
            Self::Worse => "worse",
            Self::Yes => "yes",
            Self::No => "no",
            Self::Kept => "kept",
            Self::Broken => "broken",
        })
    }
}

/// One question to one scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What is asked.
    pub subject: String,
    /// What the real runs say.
    pub real: Direction,
    /// What the simulated ones say.
    pub simulated: Direction,
}

impl Row {
    /// Whether both say the same.
    pub fn agrees(&self) -> bool {
        self.real == self.simulated
    }
}

/// One scenario that was played both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Its number and name.
    pub title: String,
    /// In the order of measures, events and promises; what one side cannot answer is left out.
    pub rows: Vec<Row>,
}

/// Everything that can be compared, and what cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// In the order of the real runs.
    pub twins: Vec<Twin>,
    /// What is not covered, in sentences.
    pub gaps: Vec<String>,
}

impl Agreement {
    /// Compares two files.
    pub fn of(real: &FaultResults, simulated: &FaultResults) -> Self {
        let (mut agreement, mut unasked) = (Self::default(), 0);
        for one in &real.scenarios {
            match simulated.scenarios.iter().find(|other| other.name == one.name) {
                Some(other) => unasked += agreement.add(one, other),
                None => agreement.gaps.push(format!("{}: not simulated", title(one))),
            }
        }
        if unasked > 0 {
            agreement.gaps.push(format!(
                "promises that were not judged in both, because of another rate or another version: {unasked}"
            ));
        }
        let is_real = |one: &&ScenarioResult| real.scenarios.iter().any(|other| other.name == one.name);
        let mut only: Vec<_> = simulated.scenarios.iter().collect();
        only.retain(|one| !is_real(one));
        if !only.is_empty() {
            let names: Vec<_> = only.into_iter().map(title).collect();
            agreement
                .gaps
                .push(format!("not played for real: {}", names.join(", ")));
        }
        agreement
    }

    /// Adds a scenario, and returns how many promises cannot be compared.
    fn add(&mut self, real: &ScenarioResult, simulated: &ScenarioResult) -> usize {
        let title = title(real);
        let (Some(one), Some(other)) = (ours(real), ours(simulated)) else {
            self.gaps.push(format!("{title}: foreshade did not play both"));
            return 0;
        };
        if let (Some(rate), Some(virtual_rate)) = (real.rate, simulated.rate)
            && rate.to_bits() != virtual_rate.to_bits()
        {
            self.gaps.push(format!(
                "{title}: {rate} requests per second in the one, {virtual_rate} in the other"
            ));
        }
        let (promises, unasked) = promises((real, one), (simulated, other));
        let measures = MEASURES.iter().filter_map(|measure| {
            Some(row(
                measure.0,
                against(real, measure)?,
                against(simulated, measure)?,
            ))
        });
        let events = EVENTS
            .iter()
            .filter_map(|event| Some(row(event.0, happened(one, event)?, happened(other, event)?)));
        let rows = measures.chain(events).chain(promises).collect();
        self.twins.push(Twin { title, rows });
        unasked
    }

    /// Questions that both answered the same, and questions.
    pub fn count(&self) -> (usize, usize) {
        let rows = || self.twins.iter().flat_map(|twin| &twin.rows);
        (rows().filter(|row| row.agrees()).count(), rows().count())
    }

    /// For the terminal.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for twin in &self.twins {
            lines.push(twin.title.clone());
            lines.extend(twin.rows.iter().map(|row| {
                let verdict = if row.agrees() { "" } else { "  DISAGREE" };
                format!(
                    "  {:<54} {:<7} {:<7}{verdict}",
                    row.subject, row.real, row.simulated
                )
            }));
        }
        lines.extend(self.gaps.iter().map(|gap| format!("not covered: {gap}")));
        lines.push(self.summary());
        lines
    }

    /// A table with one line for each scenario: what both say, or both in turn where they differ, the real run first.
    pub fn markdown(&self) -> String {
        let measures = MEASURES.iter().map(|(name, ..)| *name);
        let columns: Vec<_> = measures.chain(EVENTS.iter().map(|(name, _)| *name)).collect();
        let mut text = format!(
            "{}.\n\n| | {} | promises |\n|---",
            self.summary(),
            columns.join(" | ")
        );
        text.push_str(&"|---".repeat(columns.len() + 1));
        text.push_str("|\n");
        for twin in &self.twins {
            let cell = |subject: &&str| {
                let row = twin.rows.iter().find(|row| row.subject == **subject);
                match row {
                    Some(row) if row.agrees() => row.real.to_string(),
                    Some(row) => format!("**{} / {}**", row.real, row.simulated),
                    None => "–".to_owned(),
                }
            };
            let cells: Vec<_> = columns.iter().map(cell).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} |",
                twin.title,
                cells.join(" | "),
                twin.promises()
            );
        }
        for gap in &self.gaps {
            let _ = write!(text, "\n- not covered: {gap}");
        }
        text
    }

    fn summary(&self) -> String {
        let (same, all) = self.count();
        format!(
            "the simulator says the same as real processes in {same} of {all} questions to {} scenarios",
            self.twins.len()
        )
    }
}

impl Twin {
    /// What became of the promises, in a phrase.
    fn promises(&self) -> String {
        let is_promise = |row: &&Row| matches!(row.real, Direction::Kept | Direction::Broken);
        let promises: Vec<_> = self.rows.iter().filter(is_promise).collect();
        let differ: Vec<_> = promises.iter().filter(|row| !row.agrees()).collect();
        match (promises.len(), differ.as_slice()) {
            (0, _) => "–".to_owned(),
            (all, []) => format!("{all} the same"),
            (all, differ) => {
                let phrase = |row: &&&Row| format!("{}: {} / {}", row.subject, row.real, row.simulated);
                let phrases: Vec<_> = differ.iter().map(phrase).collect();
                format!("{} of {all} differ: **{}**", differ.len(), phrases.join("; "))
            }
        }
    }
}

fn title(scenario: &ScenarioResult) -> String {
    match &scenario.id {
        Some(id) => format!("{id} {}", scenario.name),
        None => scenario.name.clone(),
    }
}

fn row(subject: &str, real: Direction, simulated: Direction) -> Row {
    Row {
        subject: subject.to_owned(),
        real,
        simulated,
    }
}

fn called<'a>(scenario: &'a ScenarioResult, name: &str) -> Option<&'a ContenderResult> {
    scenario.contenders.iter().find(|one| one.contender == name)
}

fn ours(scenario: &ScenarioResult) -> Option<&ContenderResult> {
    called(scenario, "foreshade").filter(|ours| !ours.runs.is_empty())
}

/// foreshade against nobody: what more than half of the seeds say that both played, and level if there is no such thing.
fn against(scenario: &ScenarioResult, (_, read, least): &Measure) -> Option<Direction> {
    let nobody = called(scenario, "none")?;
    let pairs = ours(scenario)?.runs.iter().filter_map(|run| {
        let other = nobody.runs.iter().find(|other| other.seed == run.seed)?;
        Some((read(&run.figures), read(&other.figures)))
    });
    let verdict = |(ours, theirs): (f64, f64)| {
        let noticed = least.max(NOTICED * ours.max(theirs));
        match ours - theirs {
            difference if difference <= -noticed => -1,
            difference if difference >= noticed => 1,
            _ => 0,
        }
    };
    let verdicts: Vec<i8> = pairs.map(verdict).collect();
    let most = |wanted: i8| verdicts.iter().filter(|said| **said == wanted).count() * 2 > verdicts.len();
    match () {
        () if verdicts.is_empty() => None,
        () if most(-1) => Some(Direction::Better),
        () if most(1) => Some(Direction::Worse),
        () => Some(Direction::Level),
    }
}

/// Whether it happened in most runs.
fn happened(ours: &ContenderResult, (_, when): &Event) -> Option<Direction> {
    let times = ours
        .runs
        .iter()
        .filter(|run| when(&run.figures).is_some())
        .count();
    Some(match times * 2 > ours.runs.len() {
        true => Direction::Yes,
        false => Direction::No,
    })
}

/// Each promise that was judged in both, and how many were not.
fn promises(
    (real, one): (&ScenarioResult, &ContenderResult),
    (simulated, other): (&ScenarioResult, &ContenderResult),
) -> (Vec<Row>, usize) {
    let kept = |ours: &ContenderResult, claim: &str| {
        let broken = |figures: &Figures| {
            let mut broken = figures.broken.iter();
            broken.any(|told| {
                told.strip_prefix(claim)
                    .is_some_and(|rest| rest.starts_with(": "))
            })
        };
        let times = ours.runs.iter().filter(|run| broken(&run.figures)).count();
        match times * 2 < ours.runs.len() {
            true => Direction::Kept,
            false => Direction::Broken,
        }
    };
    let made = |scenario: &'_ ScenarioResult| [&scenario.claims[..], &scenario.unjudged[..]].concat();
    let mut all = made(simulated);
    all.extend(
        made(real)
            .into_iter()
            .filter(|claim| !made(simulated).contains(claim)),
    );
    let (judged, unasked): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|claim| real.claims.contains(claim) && simulated.claims.contains(claim));
    let rows = judged
        .into_iter()
        .map(|claim| row(claim, kept(one, claim), kept(other, claim)));
    (rows.collect(), unasked.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{FORMAT, Provenance, SeedResult, Setting, Time};

    fn contender(name: &str, figures: Vec<Figures>) -> ContenderResult {
        let run = |(seed, figures)| SeedResult {
            seed,
            figures,
            seconds: Vec::new(),
            healthy: Vec::new(),
            during: Vec::new(),
        };
        ContenderResult {
            contender: name.to_owned(),
            setting: Setting::Tuned,
            runs: (1..).zip(figures).map(run).collect(),
        }
    }

    fn figures(harm: f64, left: bool) -> Figures {
        Figures {
            harm,
            to_90_s: left.then_some(1.0),
            ..Figures::default()
        }
    }

    /// One scenario, in which nobody comes to a harm of 100.
    fn results(time: Time, ours: Vec<Figures>) -> FaultResults {
        let nobody = ours.iter().map(|_| figures(100.0, false)).collect();
        let scenario = ScenarioResult {
            name: "slow-10x".to_owned(),
            id: Some("S3".to_owned()),
            story: String::new(),
            onset_s: 10.0,
            healed_s: 22.0,
            rate: Some(400.0),
            claims: vec!["no GET fails".to_owned()],
            unjudged: vec!["traffic back".to_owned()],
            contenders: vec![contender("foreshade", ours), contender("none", nobody)],
        };
        FaultResults {
            provenance: Provenance {
                format: FORMAT,
                command: String::new(),
                cores: 2,
                processor: String::new(),
                versions: [].into(),
                skipped: [].into(),
            },
            time,
            scenarios: vec![scenario],
        }
    }

    fn of(agreement: &Agreement, subject: &str) -> (Direction, Direction) {
        let mut rows = agreement.twins[0].rows.iter();
        let row = rows.find(|row| row.subject == subject).unwrap();
        (row.real, row.simulated)
    }

    #[test]
    fn what_most_seeds_say_counts_and_what_nobody_would_notice_is_level() {
        let real = results(Time::Real, vec![figures(95.0, true)]);
        let simulated = results(
            Time::Virtual,
            vec![figures(10.0, true), figures(120.0, false), figures(20.0, false)],
        );
        let agreement = Agreement::of(&real, &simulated);
        assert_eq!(of(&agreement, "harm"), (Direction::Level, Direction::Better));
        assert_eq!(of(&agreement, "leaves"), (Direction::Yes, Direction::No));
        assert_eq!(of(&agreement, "p99"), (Direction::Level, Direction::Level));
        let (same, all) = agreement.count();
        assert_eq!(all - same, 2);
        let text = agreement.markdown();
        assert!(
            text.contains(
                "| S3 slow-10x | **level / better** | level | level | no | **yes / no** | no | 1 the same |"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_only_half_of_the_seeds_say_is_level() {
        let harms = |harms: &[f64]| harms.iter().map(|harm| figures(*harm, true)).collect();
        let agreement = Agreement::of(
            &results(Time::Real, harms(&[10.0, 100.0])),
            &results(Time::Virtual, harms(&[10.0, 10.0, 10.0, 200.0])),
        );
        assert_eq!(of(&agreement, "harm"), (Direction::Level, Direction::Better));
        let agreement = Agreement::of(
            &results(Time::Real, harms(&[10.0, 200.0])),
            &results(Time::Virtual, harms(&[10.0, 100.0, 200.0])),
        );
        assert_eq!(of(&agreement, "harm"), (Direction::Level, Direction::Level));
    }

    #[test]
    fn worse_is_not_better_by_another_name() {
        let agreement = Agreement::of(
            &results(Time::Real, vec![figures(150.0, true)]),
            &results(Time::Virtual, vec![figures(150.0, true)]),
        );
        assert_eq!(of(&agreement, "harm"), (Direction::Worse, Direction::Worse));
    }

    #[test]
    fn a_promise_is_compared_where_both_judged_it() {
        let mut broken = figures(10.0, true);
        broken.broken = vec!["no GET fails: 1 of 9".to_owned()];
        let agreement = Agreement::of(
            &results(Time::Real, vec![broken]),
            &results(Time::Virtual, vec![figures(10.0, true)]),
        );
        assert_eq!(
            of(&agreement, "no GET fails"),
            (Direction::Broken, Direction::Kept)
        );
        assert!(agreement.gaps[0].ends_with("another version: 1"));
        let text = agreement.markdown();
        assert!(
            text.contains("1 of 1 differ: **no GET fails: broken / kept**"),
            "{text}"
        );
    }

    #[test]
    fn what_is_in_one_file_only_or_at_another_rate_is_said() {
        let real = results(Time::Real, vec![figures(10.0, true)]);
        let mut simulated = results(Time::Virtual, vec![figures(10.0, true)]);
        simulated.scenarios[0].rate = Some(1_200.0);
        let gaps = Agreement::of(&real, &simulated).gaps;
        assert!(
            gaps[0].contains("400 requests per second in the one, 1200 in the other"),
            "{gaps:?}"
        );
        assert!(gaps[1].ends_with("another version: 1"), "{gaps:?}");
        // Promises that only the real run knows are not compared either.
        simulated.scenarios[0].claims.clear();
        simulated.scenarios[0].unjudged.clear();
        let gaps = Agreement::of(&real, &simulated).gaps;
        assert!(gaps[1].ends_with("another version: 2"), "{gaps:?}");
        simulated.scenarios[0].name = "hang".to_owned();
        let gaps = Agreement::of(&real, &simulated).gaps;
        assert_eq!(
            gaps,
            ["S3 slow-10x: not simulated", "not played for real: S3 hang"]
        );
    }
}
