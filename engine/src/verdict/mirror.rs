//! The gate of a mirror: did the shadow answer copies as the primary would have, before a single user depends on it?
//!
//! Three checks, none of which learns a baseline or compares averages:
//!
//! - **Failures.** Both saw the same request, so only pairs that disagree say anything: where exactly one of the two
//!   failed, it is the shadow with probability one half if it is no worse (McNemar). Requests that fail for everybody
//!   count for nobody.
//! - **Differences** in what was answered, and **slowness**. Two good primaries differ as well, and whoever sends copies
//!   adds to their time, so the user's answer is no measure by itself. But the mirror's own coin sends a part of the
//!   copies to another primary, and compares these answers in the same way. Whatever the base rate, of all copies that
//!   differ the shadow's are the fraction that the coin gave it, if it is no worse. Without that coin (`noise: off`)
//!   there is no such test, and only the ceiling may pass it.
//!
//! So all three are the test of [`super::mixture`] at a weight that is known, and their e-values are averaged as those
//! of the judge are. A shadow passes by ratio or by ceiling in each check: where nothing fails there is nothing to
//! compare. The ceilings are looser than those of the judge, who has the word once users are there: this is the gate
//! before one in a hundred of them.
//!
//! **Cold**: undecided. **Idle**: nothing changes. **Burst**: bad copies must have come three times, a second and a half
//! apart: what befalls a shadow in one moment is told by each proxy in its turn.
//! **Restart**: [`State`] is all there is to keep. *Worse* does not stay: no user is waiting for it to be undone, and a
//! shadow that was mended may show so. Research: progressive delivery, section 3.6.

use std::fmt;
use std::time::Duration;

use foreshade_contract::Mirrored;
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::absolute::proof_nats;
use super::explain::Evidence;
use super::mixture::{Level, Ratio, log_weighted_sum};
use super::policy::{Proof, TICKS_MIN};
use super::tally::{EVENT, Tally, Weight};
use crate::moment::Moment;

/// P(ever "worse") of a shadow within the tolerances.
const ALPHA: f64 = 0.01;

/// P(ever "not worse") of a shadow beyond the margin and the ceiling of one check.
const BETA: f64 = 0.05;

/// From bad copies that count as a tick to the next that do. Proxies report once a second, each at its own time, and half a
/// second is left for the way: one moment is one tick, and a second of failures no more than two.
const TICK: Duration = Duration::from_millis(1500);

/// A probability of one, in the unit of the mirror's coin.
const MILLION: f64 = 1e6;

/// What copies are checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The copy failed.
    Failures,
    /// It was answered otherwise.
    Differences,
    /// It took a quarter longer.
    Slowness,
}

/// How a check is judged.
struct Rule {
    check: Check,
    /// Its part of alpha.
    weight: f64,
    /// Up to so many times as many are tolerated.
    tolerance: f64,
    /// From so many times as many it must not pass, unless fewer than the ceiling are.
    margin: f64,
    ceiling: f64,
}

const RULES: [Rule; 3] = [
    Rule {
        check: Check::Failures,
        weight: 0.5,
        tolerance: 1.25,
        margin: 2.0,
        ceiling: 0.01,
    },
    Rule {
        check: Check::Differences,
        weight: 0.3,
        tolerance: 1.25,
        margin: 2.0,
        ceiling: 0.01,
    },
    // An endpoint that nobody else asks is another one than one under load, in either direction.
    Rule {
        check: Check::Slowness,
        weight: 0.2,
        tolerance: 1.5,
        margin: 3.0,
        ceiling: 0.1,
    },
];

/// What is known of a shadow's answers to copies. Written down, it can be gone on from as if nothing had happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    checks: [Counts; 3],
}

/// Counts of one check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    /// Bad ones of either side, by the probability that they are the shadow's.
    tally: Tally,
    /// Copies, and those of them that were bad.
    copies: [u64; 2],
    /// What they are held against: those that might have been bad, and those that were.
    others: [u64; 2],
    /// Ticks with bad copies.
    ticks: u32,
    /// When the last of them was. It is not written down: whoever goes on has another clock.
    #[serde(skip)]
    last: Option<Moment>,
}

/// What one check says of one tick.
struct Seen {
    weight: Option<Weight>,
    copies: [u64; 2],
    others: [u64; 2],
}

impl Check {
    fn of(self, news: &Mirrored) -> Seen {
        let coin = || Weight::of(1.0 - f64::from(news.control_millionths) / MILLION);
        let (copies, controls) = (news.copies, news.controls);
        match self {
            Self::Failures => Seen {
                weight: Weight::of(0.5),
                copies: [news.pairs(), news.copy_bad],
                others: [news.pairs(), news.user_bad],
            },
            Self::Differences => Seen {
                weight: coin(),
                copies: [copies.answers, copies.differed],
                others: [controls.answers, controls.differed],
            },
            Self::Slowness => Seen {
                weight: coin(),
                copies: [copies.answers, copies.slower],
                others: [controls.answers, controls.slower],
            },
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failures => "failed",
            Self::Differences => "answered otherwise",
            Self::Slowness => "slower",
        })
    }
}

impl Counts {
    fn count(&mut self, seen: &Seen) -> bool {
        let ([_, bad], [_, others_bad]) = (seen.copies, seen.others);
        if let Some(weight) = seen.weight {
            let events = bad.saturating_add(others_bad).saturating_mul(EVENT);
            self.tally.add(weight, events, bad.saturating_mul(EVENT));
        }
        super::add(&mut self.copies, seen.copies);
        super::add(&mut self.others, seen.others);
        bad > 0
    }

    fn tick(&mut self, now: Moment) {
        if self.last.is_none_or(|last| now.since(last) >= TICK) {
            self.last = Some(now);
            self.ticks = self.ticks.saturating_add(1);
        }
    }

    fn worse_nats(&self, rule: &Rule) -> f64 {
        if self.ticks < TICKS_MIN {
            return f64::NEG_INFINITY;
        }
        Ratio::above(rule.tolerance).nats(self.tally.for_worse())
    }

    fn pass_nats(&self, rule: &Rule) -> f64 {
        let proof = Proof::Either {
            ratio: rule.margin,
            ceiling: rule.ceiling,
        };
        let [copies, bad] = self.copies;
        let nats = proof_nats(
            proof,
            |margin| Ratio::below(margin).nats(self.tally.for_not_worse()),
            |ceiling| Level::below(ceiling).nats(copies as f64, bad as f64),
        );
        nats.unwrap_or(f64::NEG_INFINITY)
    }
}

impl State {
    /// Takes what all proxies told between two looks: one tick at most, however many have seen it.
    pub fn observe(&mut self, news: &[Mirrored], now: Moment) {
        for (counts, rule) in self.checks.iter_mut().zip(&RULES) {
            let mut is_hit = false;
            for news in news {
                is_hit |= counts.count(&rule.check.of(news));
            }
            if is_hit {
                counts.tick(now);
            }
        }
    }

    /// Whether no copy has been counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The answer now.
    pub fn verdict(&self) -> Verdict {
        let passes = |(counts, rule): (&Counts, &Rule)| {
            counts.pass_nats(rule) >= -BETA.ln() && counts.worse_nats(rule) <= 0.0
        };
        if self.worse_nats() >= -ALPHA.ln() {
            Verdict::Worse
        } else if self.each().all(passes) {
            Verdict::NotWorse
        } else {
            Verdict::Undecided
        }
    }

    fn worse_nats(&self) -> f64 {
        let each = self
            .each()
            .map(|(counts, rule)| (rule.weight, counts.worse_nats(rule)));
        log_weighted_sum(each).unwrap_or(f64::NEG_INFINITY)
    }

    fn each(&self) -> impl Iterator<Item = (&Counts, &'static Rule)> + Clone {
        self.checks.iter().zip(&RULES)
    }

    /// Why the answer is what it is.
    pub fn explain(&self) -> Explanation {
        let verdict = self.verdict();
        let checks: Vec<_> = self.each().map(|(counts, rule)| explain(counts, rule)).collect();
        Explanation {
            verdict,
            worse: Evidence::of(self.worse_nats(), -ALPHA.ln()),
            sentence: sentence(verdict, &checks),
            checks,
        }
    }
}

/// Why mirrors say what they say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The answer.
    pub verdict: Verdict,
    /// Over all checks, that the shadow is worse.
    pub worse: Evidence,
    /// One by one.
    pub checks: Vec<CheckExplanation>,
    /// In one sentence.
    pub sentence: String,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckExplanation {
    /// Which.
    pub check: Check,
    /// Copies to the shadow, and those of them that were bad.
    pub copies: [u64; 2],
    /// What they are held against, and those of it that were bad: for failures the same requests of users, else copies to
    /// another primary.
    pub others: [u64; 2],
    /// That the shadow is worse. Its limit is what it would take without the other checks.
    pub worse: Evidence,
    /// That it is not.
    pub ok: Evidence,
}

fn explain(counts: &Counts, rule: &Rule) -> CheckExplanation {
    CheckExplanation {
        check: rule.check,
        copies: counts.copies,
        others: counts.others,
        worse: Evidence::of(counts.worse_nats(rule), -(ALPHA * rule.weight).ln()),
        ok: Evidence::of(counts.pass_nats(rule), -BETA.ln()),
    }
}

fn sentence(verdict: Verdict, checks: &[CheckExplanation]) -> String {
    let strongest = checks
        .iter()
        .max_by(|one, other| one.worse.e.total_cmp(&other.worse.e));
    let missing = checks.iter().find(|check| !check.ok.suffices());
    let told = |check: &CheckExplanation| {
        let ([copies, bad], [others, others_bad]) = (check.copies, check.others);
        format!(
            "{bad} of {copies} copies {}, {others_bad} of {others} others",
            check.check
        )
    };
    match (verdict, strongest, missing) {
        (Verdict::Worse, Some(check), _) => format!("mirrored answers are worse: {}", told(check)),
        (Verdict::Undecided, _, Some(check)) => format!("mirrored answers have not decided: {}", told(check)),
        (Verdict::Undecided, Some(check), None) => {
            format!("mirrored answers lean towards worse: {}", told(check))
        }
        (Verdict::NotWorse, ..) | (_, None, _) => "mirrored answers are as good".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use foreshade_contract::report::Compared;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// What a shadow does: the chance that a copy fails alone, and that one is answered otherwise or late; of a primary it
    /// is one in fifty.
    struct Shadow {
        fails: f64,
        differs: f64,
        slow: f64,
    }

    const USUAL: f64 = 0.02;

    const AS_GOOD: Shadow = Shadow {
        fails: USUAL,
        differs: USUAL,
        slow: USUAL,
    };

    fn at(ms: u64) -> Moment {
        Moment::from_micros(ms * 1000)
    }

    impl Shadow {
        /// One second of a proxy that makes so many copies.
        fn second(&self, copies: u64, coin: u32, rng: &mut StdRng) -> Mirrored {
            let mut news = Mirrored {
                control_millionths: coin,
                ..Mirrored::default()
            };
            for _ in 0..copies {
                let count = |of: &mut Compared, rng: &mut StdRng, [differs, slow]: [f64; 2]| {
                    of.answers += 1;
                    of.differed += u64::from(rng.random_bool(differs));
                    of.slower += u64::from(rng.random_bool(slow));
                };
                if rng.random_bool(f64::from(coin) / MILLION) {
                    count(&mut news.controls, rng, [USUAL; 2]);
                    continue;
                }
                match (rng.random_bool(USUAL), rng.random_bool(self.fails)) {
                    (false, false) => news.both_good += 1,
                    (false, true) => news.copy_bad += 1,
                    (true, false) => news.user_bad += 1,
                    (true, true) => news.both_bad += 1,
                }
                count(&mut news.copies, rng, [self.differs, self.slow]);
            }
            news
        }

        /// What mirrors of five proxies say after each second; ten copies in each.
        fn says(&self, seconds: u32, seed: u64) -> Vec<Verdict> {
            let (mut rng, mut state) = (StdRng::seed_from_u64(seed), State::default());
            let says = (0..seconds).map(|second| {
                let news: Vec<_> = (0..5).map(|_| self.second(10, 50_000, &mut rng)).collect();
                state.observe(&news, at(1000 * u64::from(second)));
                state.verdict()
            });
            says.collect()
        }

        fn ever(&self, wanted: Verdict, runs: u64) -> u64 {
            let is_ever = |seed: &u64| self.says(200, *seed).contains(&wanted);
            (0..runs).filter(is_ever).count() as u64
        }
    }

    #[test]
    fn a_shadow_within_the_tolerance_is_not_called_worse_more_often_than_promised() {
        let tolerable = Shadow {
            fails: USUAL * 1.25,
            differs: USUAL * 1.25,
            slow: USUAL * 1.5,
        };
        // One in a hundred, and three standard deviations.
        assert!(tolerable.ever(Verdict::Worse, 300) <= 8);
    }

    #[test]
    fn a_shadow_at_the_margin_of_one_check_does_not_pass_more_often_than_promised() {
        let at_margin = Shadow {
            fails: USUAL * 2.0,
            ..AS_GOOD
        };
        assert!(at_margin.ever(Verdict::NotWorse, 200) <= 19);
        let otherwise = Shadow {
            differs: USUAL * 2.0,
            ..AS_GOOD
        };
        assert!(otherwise.ever(Verdict::NotWorse, 200) <= 19);
    }

    #[test]
    fn each_check_finds_a_shadow_that_is_worse_in_it_and_no_good_one() {
        let worse = [
            Shadow {
                fails: 0.2,
                ..AS_GOOD
            },
            Shadow {
                differs: 0.5,
                ..AS_GOOD
            },
            Shadow { slow: 0.9, ..AS_GOOD },
        ];
        for (check, shadow) in worse.iter().enumerate() {
            let says = shadow.says(400, 1);
            assert_eq!(says.last(), Some(&Verdict::Worse), "{check}");
            assert!(!says.contains(&Verdict::NotWorse), "{check}");
        }
        assert_eq!(AS_GOOD.says(400, 1).last(), Some(&Verdict::NotWorse));
    }

    #[test]
    fn what_fails_for_both_says_nothing() {
        let mut state = State::default();
        let both = Mirrored {
            both_bad: 1000,
            ..Mirrored::default()
        };
        state.observe(&[both; 3], at(0));
        assert_eq!(state.checks[0].tally, Tally::default());
        assert_eq!(state.checks[0].ticks, 0);
    }

    #[test]
    fn a_burst_is_not_believed_though_five_proxies_report_it_one_after_the_other() {
        let mut state = State::default();
        let burst = Mirrored {
            copy_bad: 1000,
            ..Mirrored::default()
        };
        // All of it within one second, and the shadow is well in the next two.
        for ms in [0, 250, 500, 750, 1000] {
            state.observe(&[burst], at(ms));
            assert_eq!(state.verdict(), Verdict::Undecided, "{ms}");
        }
        // A second moment is none either; a third one is.
        for (ms, verdict) in [
            (2000, Verdict::Undecided),
            (3250, Verdict::Undecided),
            (3500, Verdict::Worse),
        ] {
            state.observe(&[burst; 2], at(ms));
            assert_eq!(state.verdict(), verdict, "{ms}");
        }
        let sentence = state.explain().sentence;
        assert!(sentence.contains("11000 of 11000 copies failed"), "{sentence}");
    }

    /// Copies without anything bad until a check passes.
    fn until_it_passes(rule: &Rule) -> u64 {
        let passes = |copies: &u64| {
            let counts = Counts {
                copies: [*copies, 0],
                ..Counts::default()
            };
            counts.pass_nats(rule) >= -BETA.ln()
        };
        (0..1000).find(passes).unwrap()
    }

    /// Median of the pairs that disagree, until failures of the copy `times` as frequent as those of the user are worse.
    fn until_it_is_worse(times: f64) -> u64 {
        let weight = Weight::of(0.5).unwrap();
        let is_worse = |pairs: u64, bad: u64| {
            let mut counts = Counts {
                ticks: TICKS_MIN,
                ..Counts::default()
            };
            counts.tally.add(weight, pairs * EVENT, bad * EVENT);
            counts.worse_nats(&RULES[0]) >= -(ALPHA * RULES[0].weight).ln()
        };
        // By how many of them were the copy's, how likely it is that nothing has been said yet.
        let (is_copy, mut open) = (times / (times + 1.0), vec![1.0]);
        (1..1000)
            .find(|pairs| {
                let mut next = vec![0.0; open.len() + 1];
                for (bad, likely) in open.iter().enumerate() {
                    next[bad] += likely * (1.0 - is_copy);
                    next[bad + 1] += likely * is_copy;
                }
                for (bad, likely) in next.iter_mut().enumerate() {
                    if is_worse(*pairs, bad as u64) {
                        *likely = 0.0;
                    }
                }
                open = next;
                open.iter().sum::<f64>() <= 0.5
            })
            .unwrap()
    }

    /// As `docs/verdict.md` says.
    #[test]
    fn so_many_good_copies_pass_and_so_many_bad_ones_do_not() {
        assert_eq!(RULES.each_ref().map(until_it_passes), [433, 433, 42]);
        assert_eq!(until_it_is_worse(10.0), 17);
    }

    #[test]
    fn without_a_coin_only_what_hardly_ever_differs_passes() {
        let all_good = |differed| Mirrored {
            both_good: 1000,
            copies: Compared {
                answers: 1000,
                differed,
                slower: 0,
            },
            ..Mirrored::default()
        };
        let verdict = |differed| {
            let mut state = State::default();
            state.observe(&[all_good(differed)], at(0));
            state.verdict()
        };
        assert_eq!(verdict(0), Verdict::NotWorse);
        // By itself, or by the shadow: nobody can tell.
        assert_eq!(verdict(1000), Verdict::Undecided);
    }

    #[test]
    fn what_was_written_down_goes_on_as_if_nothing_had_happened() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut state = State::default();
        for second in 0..50 {
            state.observe(&[AS_GOOD.second(10, 50_000, &mut rng)], at(1000 * second));
            let kept = serde_json::to_string(&state).unwrap();
            let mut resumed: State = serde_json::from_str(&kept).unwrap();
            for (counts, before) in resumed.checks.iter_mut().zip(&state.checks) {
                // Another clock.
                assert_eq!(counts.last, None);
                counts.last = before.last;
            }
            assert_eq!(resumed, state);
        }
    }
}
