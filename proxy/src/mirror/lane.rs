//! What is remembered of one comparison: counts, two histograms, and the fields that differed. No answers, no values.
//!
//! Counters only grow, so whoever reads them twice can take the difference. The pairs (good or bad on either side, for
//! the same request) and the sign of the latencies are what a paired test wants: both sides saw the same request, so only
//! the discordant ones say anything.

mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use foreshade_contract::Round;
use foreshade_contract::report::{Compared, Mirrored};
use foreshade_engine::observation::LATENCY_MAX_US;
use foreshade_engine::outcome::Class;
use hdrhistogram::Histogram;

pub use self::view::{FieldView, LaneView, Pairs, Quantiles, Sides, View};
use super::compare::differences;
use super::noise::{Rate, Verdict, verdict};
use super::shown;
use super::tee::{AnswerIn, Primary};
use super::{LaneKey, News, Sample};
use crate::tally::Counts;

/// Comparisons that are remembered. The configuration has fewer; a reload may bring others, and the one that has been
/// quiet for longest makes room.
const LANES_MAX: usize = 512;

/// Fields that one comparison remembers; later ones are counted together.
const FIELDS_MAX: usize = 256;

/// Fields that are shown of a comparison, the worst first.
const FIELDS_SHOWN_MAX: usize = 20;

/// A side is slower if it took this much longer. Below it the two are as fast as each other.
const SLOWER: f64 = 1.25;

/// How a copy ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) lane: LaneKey,
    /// Path of the request.
    pub(super) path: String,
    /// It went to a primary.
    pub(super) control: bool,
    /// It went without its credentials.
    pub(super) anonymous: bool,
    /// Whether noise is being learned at all.
    pub(super) learning: bool,
    pub(super) sample: Sample,
    pub(super) primary: Primary,
    /// What the target did: its answer, or the label of its failure.
    pub(super) target: Result<AnswerIn, &'static str>,
}

/// All comparisons.
#[derive(Debug, Default)]
pub(super) struct Book {
    lanes: HashMap<LaneKey, Lane>,
    /// Counts up with each copy: the clock by which the quietest lane is found.
    turn: u64,
}

#[derive(Debug)]
struct Lane {
    turn: u64,
    copies: u64,
    results: Counts,
    pairs: Pairs,
    untold: Untold,
    latency: [Histogram<u64>; 2],
    slower: Sides<u64>,
    compared: u64,
    controls: u64,
    learning: bool,
    fields: BTreeMap<String, Field>,
}

/// What was counted in the last round since it was told.
#[derive(Debug, Default)]
struct Untold {
    round: Round,
    counts: Mirrored,
}

#[derive(Debug, Default)]
struct Field {
    target: u64,
    primaries: u64,
    example: String,
}

impl Book {
    /// A copy ended without a word on its target: counted under `why`.
    pub(super) fn lost(&mut self, lane: &LaneKey, why: &'static str) {
        self.lane(lane).results.add(why, 1);
    }

    /// A copy ended.
    pub(super) fn enter(&mut self, finished: Finished) {
        let Finished {
            lane,
            path,
            control,
            anonymous,
            learning,
            sample,
            primary,
            target,
        } = finished;
        let lane = self.lane(&lane);
        lane.learning = learning;
        if control {
            // Without its credentials a request is another one, and what differs then is no noise.
            if let (Primary::Answered(primary), Ok(target), false) = (primary, target, anonymous) {
                lane.learn(&primary, &target, (&path, sample));
            }
            lane.results.add("control", 1);
            return;
        }
        if !anonymous {
            lane.pair(&primary, &target, sample);
        }
        let result = match (primary, target) {
            (_, Err(why)) => why,
            (_, Ok(_)) if anonymous => "anonymous",
            (Primary::Failed, Ok(_)) => "primary_failed",
            (Primary::Answered(primary), Ok(target)) => lane.compare(&primary, &target, (&path, sample)),
        };
        lane.results.add(result, 1);
    }

    fn lane(&mut self, key: &LaneKey) -> &mut Lane {
        self.turn += 1;
        if !self.lanes.contains_key(key) && self.lanes.len() >= LANES_MAX {
            let quietest = self.lanes.iter().min_by_key(|(_, lane)| lane.turn);
            if let Some(key) = quietest.map(|(key, _)| key.clone()) {
                self.lanes.remove(&key);
            }
        }
        let lane = self.lanes.entry(key.clone()).or_insert_with(Lane::new);
        lane.turn = self.turn;
        lane.copies += 1;
        lane
    }

    /// What was counted of endpoints and their shadows since it was told last.
    pub(super) fn untold(&self) -> News {
        let lanes = self.lanes.iter().filter(|(key, _)| key.primary.is_some());
        lanes
            .map(|(key, lane)| (key.clone(), lane.untold.round, lane.untold.counts))
            .filter(|(_, _, counts)| !counts.is_zero())
            .collect()
    }

    /// It was told.
    pub(super) fn told(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.untold.counts = Mirrored::default();
        }
    }

    /// All lanes, in the order of their names.
    pub(super) fn views(&self) -> Vec<LaneView> {
        let lanes: BTreeMap<_, _> = self.lanes.iter().collect();
        lanes.into_iter().map(|(key, lane)| lane.view(key)).collect()
    }
}

impl Lane {
    fn new() -> Self {
        Self {
            turn: 0,
            copies: 0,
            results: Counts::default(),
            pairs: Pairs::default(),
            untold: Untold::default(),
            latency: [histogram(), histogram()],
            slower: Sides::default(),
            compared: 0,
            controls: 0,
            learning: false,
            fields: BTreeMap::new(),
        }
    }

    /// Counts who failed and who was slower.
    fn pair(&mut self, primary: &Primary, target: &Result<AnswerIn, &'static str>, sample: Sample) {
        let primary_bad = match primary {
            Primary::Answered(answer) => answer.is_bad(),
            Primary::Failed => true,
        };
        let mut nobody = Mirrored::default();
        let untold = self.untold.of(sample.round).unwrap_or(&mut nobody);
        let (shown, told) = match (primary_bad, target.as_ref().map_or(true, AnswerIn::is_bad)) {
            (false, false) => (&mut self.pairs.both_good, &mut untold.both_good),
            (false, true) => (&mut self.pairs.target_bad, &mut untold.copy_bad),
            (true, false) => (&mut self.pairs.primary_bad, &mut untold.user_bad),
            (true, true) => (&mut self.pairs.both_bad, &mut untold.both_bad),
        };
        (*shown, *told) = (*shown + 1, *told + 1);
        let (Primary::Answered(primary), Ok(target)) = (primary, target) else {
            return;
        };
        let (of_primary, of_target) = (primary.latency, target.latency);
        for (histogram, latency) in self.latency.iter_mut().zip([of_primary, of_target]) {
            histogram.saturating_record(micros(latency));
        }
        self.slower.primary += u64::from(of_primary > of_target.mul_f64(SLOWER));
        self.slower.target += u64::from(is_slower(target, primary));
    }

    /// Compares two answers and says how it ended.
    fn compare(
        &mut self,
        primary: &AnswerIn,
        target: &AnswerIn,
        (path, sample): (&str, Sample),
    ) -> &'static str {
        self.compared += 1;
        let fields = differences(&primary.answer, &target.answer);
        let told = (self.is_telling(&fields), is_slower(target, primary));
        if let Some(counts) = self.untold.drawn(sample) {
            count(&mut counts.copies, told);
        }
        self.remember(&fields, path, |field| field.target += 1);
        let worst = fields.iter().map(|name| self.verdict(name)).min_by_key(severity);
        match worst {
            None => "equal",
            Some(Verdict::Noise) => "noise",
            Some(Verdict::Unclear) => "unclear",
            Some(Verdict::Differs) => "differs",
        }
    }

    /// Learns from two answers of primaries.
    fn learn(&mut self, a: &AnswerIn, b: &AnswerIn, (path, sample): (&str, Sample)) {
        self.controls += 1;
        let fields = differences(&a.answer, &b.answer);
        let told = (self.is_telling(&fields), is_slower(b, a));
        if let Some(counts) = self.untold.drawn(sample) {
            count(&mut counts.controls, told);
        }
        self.remember(&fields, path, |field| field.primaries += 1);
    }

    /// Whether fields that differ say something, by what was known of them before: this comparison must not decide which of
    /// them count in it.
    fn is_telling(&self, fields: &BTreeSet<String>) -> bool {
        fields.iter().any(|name| self.verdict(name) != Verdict::Noise)
    }

    fn remember(&mut self, names: &BTreeSet<String>, path: &str, count: impl Fn(&mut Field)) {
        /// Stands for all fields beyond the limit.
        const OTHERS: &str = "(others)";
        for name in names {
            let known = self.fields.contains_key(name) || self.fields.len() < FIELDS_MAX;
            let name = if known { name.as_str() } else { OTHERS };
            let field = self.fields.entry(name.to_owned()).or_insert_with(|| Field {
                example: shown::path(path),
                ..Field::default()
            });
            count(field);
        }
    }

    fn verdict(&self, name: &str) -> Verdict {
        if !self.learning {
            return Verdict::Differs;
        }
        let rate = |happened, of| Rate { happened, of };
        self.fields.get(name).map_or(Verdict::Unclear, |field| {
            verdict(
                rate(field.target, self.compared),
                rate(field.primaries, self.controls),
            )
        })
    }

    fn view(&self, key: &LaneKey) -> LaneView {
        let mut fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, field)| FieldView {
                field: name.clone(),
                verdict: self.verdict(name),
                differed: field.target,
                differed_among_primaries: field.primaries,
                example: field.example.clone(),
            })
            .collect();
        fields.sort_by_key(|field| (severity(&field.verdict), std::cmp::Reverse(field.differed)));
        fields.truncate(FIELDS_SHOWN_MAX);
        let [primary, target] = &self.latency;
        LaneView {
            cluster: key.cluster.to_string(),
            primary: key.primary.as_ref().map(ToString::to_string),
            target: key.target.to_string(),
            copies: self.copies,
            results: self.results.iter().collect(),
            pairs: self.pairs,
            latency: Sides {
                primary: quantiles(primary),
                target: quantiles(target),
            },
            slower: self.slower,
            compared: self.compared,
            controls: self.controls,
            fields,
        }
    }
}

impl Untold {
    /// Where copies of this round count: nowhere once a later one has begun, in which they would be others' evidence.
    fn of(&mut self, round: Option<Round>) -> Option<&mut Mirrored> {
        let round = round.filter(|round| *round >= self.round)?;
        if round > self.round {
            *self = Self {
                round,
                ..Self::default()
            };
        }
        Some(&mut self.counts)
    }

    /// Where comparisons count that chance had made, or not made, controls with this probability; nowhere where it was not
    /// chance, or another probability than that of those which have not been told yet.
    fn drawn(&mut self, sample: Sample) -> Option<&mut Mirrored> {
        let (coin, counts) = (sample.coin?, self.of(sample.round)?);
        if counts.copies.answers == 0 && counts.controls.answers == 0 {
            counts.control_millionths = coin;
        }
        Some(counts).filter(|counts| counts.control_millionths == coin)
    }
}

impl AnswerIn {
    /// Whether the endpoint would be charged with this answer.
    fn is_bad(&self) -> bool {
        Class::of_status(self.answer.status, self.answer.retry_after).is_bad()
    }
}

fn is_slower(this: &AnswerIn, other: &AnswerIn) -> bool {
    this.latency > other.latency.mul_f64(SLOWER)
}

fn count(of: &mut Compared, (differs, slower): (bool, bool)) {
    of.answers += 1;
    of.differed += u64::from(differs);
    of.slower += u64::from(slower);
}

/// The worst first.
fn severity(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Differs => 0,
        Verdict::Unclear => 1,
        Verdict::Noise => 2,
    }
}

fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    Quantiles {
        p50_us: histogram.value_at_quantile(0.5),
        p90_us: histogram.value_at_quantile(0.9),
        p99_us: histogram.value_at_quantile(0.99),
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::expect_used,
    reason = "the bounds are constants, checked by every test that makes a lane"
)]
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 1).expect("invariant: constant bounds are valid")
}

#[cfg(test)]
mod tests;
