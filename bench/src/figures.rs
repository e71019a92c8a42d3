//! What a run came to, as numbers: how soon a contender saw the fault and left it, what users lost, how it came back.
//!
//! Pure functions of a [`Run`]. Where traffic went is counted at the endpoints, against the part that the faulty one
//! had of users' requests while all was well, so that a load that varies and a contender that tries again change
//! nothing. At 400 requests per second the faulty endpoint gets 50 in half a second, give or take 7 by chance alone: a
//! plain threshold would cry wolf in every run. So the moments at which traffic goes and comes back are change points
//! of a cumulative sum (Page, "Continuous inspection schemes", 1954), and the other thresholds are widened by what
//! chance explains.
//!
//! While nobody listens, or the process stands still, an endpoint sees no request whatever the contender does: these
//! moments tell nothing, and are left out.

use std::time::Duration;

use foreshade_engine::spec::ShiftPolicy;

use crate::farm::EndpointCounts;
use crate::farm::fault::{Fault, condition};
use crate::load::record::{Record, Span, micros, quantile, summarise};
use crate::results::{CURVE, Figures, Percentile, Second};
use crate::run::Run;

/// Traffic is cut into pieces of this.
const BIN: Duration = Duration::from_millis(100);

/// Under this part of its normal traffic, some of it has been moved.
const MOVED: f64 = 0.8;

/// Requests that must be missing before they count as moved: with a fifth to spare, chance alone piles up as many in
/// one of 20,000 cases (the probability is `exp(-2 x 0.2 x 25)`).
const MISSING: f64 = 25.0;

/// At most this part of its normal traffic: the endpoint has been left.
const LEFT: f64 = 0.1;

/// Bins over which it is counted whether an endpoint has been left: half a second.
const LEFT_BINS: usize = 5;

/// Bins over which a share is taken when its turns are counted: two seconds.
const SHARE_BINS: usize = 20;

/// A turn of the share is larger than this, beyond what chance explains.
const SWING: f64 = 0.1;

/// Standard deviations that chance is granted.
const CHANCE: f64 = 2.0;

/// The same for turns, of which a run has many occasions.
const CHANCE_OF_TURNS: f64 = 4.0;

/// Weight of a second of waiting against a failure.
const HARM_PER_SECOND: f64 = 0.2;

/// One piece of the time after the onset.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bin {
    /// Since the start of the load.
    from_us: u64,
    /// Requests that reached the faulty endpoint.
    got: f64,
    /// Requests that would have, if all were well.
    due: f64,
    /// Whether requests could reach it at all.
    open: bool,
}

/// Everything that can be computed from one run alone: [`Figures::avoided_harm`] needs others, and
/// [`Figures::broken`] a scenario's claims.
pub fn of(run: &Run) -> Figures {
    let after = Span {
        from_us: run.fault.from_us,
        to_us: run.end_us,
    };
    let users = run.records.within(after);
    let failed = |post| {
        users
            .iter()
            .filter(|record| record.outcome.failed() && record.post == post)
            .count() as u64
    };
    let mut during = latencies(run.records.within(run.fault));
    let mut during_ms = |part| quantile(&mut during, part).map_or(0.0, ms);
    let healthy_p99_us = quantile(&mut latencies(run.records.within(run.healthy)), 0.99).unwrap_or(0);
    let bins = bins(run);
    Figures {
        requests: users.len() as u64,
        failed_gets: failed(false),
        failed_posts: failed(true),
        posts_twice: run.ledger.repeats,
        posts_missing: run.missing.as_ref().map(|missing| missing.missing.len() as u64),
        p50_ms: during_ms(0.5),
        p99_ms: during_ms(0.99),
        p999_ms: during_ms(0.999),
        max_ms: during_ms(1.0),
        healthy_p99_ms: ms(healthy_p99_us),
        detect_s: detected(run, &bins).map(|at_us| since(at_us, run.fault.from_us)),
        to_90_s: left(run, &bins).map(|at_us| since(at_us, run.fault.from_us)),
        recovery_s: recovered(run, &bins).map(|at_us| since(at_us, run.fault.to_us)),
        reversals: reversals(&bins),
        harm: harm(users, healthy_p99_us),
        avoided_harm: None,
        amplification: amplification(run, after),
        lag_p99_ms: ms(run.lag.p99_us),
        broken: Vec::new(),
    }
}

/// A run second by second.
pub fn seconds(run: &Run) -> Vec<Second> {
    let normal = normal_part(run);
    let (faulty, _) = run.faulty_pair();
    let second = |from_us: u64| {
        let span = Span {
            from_us,
            to_us: from_us + 1_000_000,
        };
        let window = summarise(run.records.within(span), span)?;
        let due = normal * window.requests as f64;
        let got = run.timeline.requests(faulty, span, EndpointCounts::requests);
        let risks = run.timeline.views(span).filter(|view| view.name == faulty);
        Some(Second {
            at_s: from_us as f64 / 1e6,
            requests: window.requests as u64,
            failed: window.failed as u64,
            p50_ms: ms(window.p50_us),
            p99_ms: ms(window.p99_us),
            faulty_share: (due > 0.0 && run.alone.is_some()).then(|| got / due),
            risk: risks.map(|view| view.risk).reduce(f64::max),
        })
    };
    (0..run.end_us / 1_000_000)
        .filter_map(|index| second(index * 1_000_000))
        .collect()
}

/// The latency curve of the requests that were meant to start within `span`.
pub fn curve(run: &Run, span: Span) -> Vec<Percentile> {
    let mut latencies = latencies(run.records.within(span));
    CURVE
        .iter()
        .filter_map(|percentile| {
            let ms = ms(quantile(&mut latencies, percentile / 100.0)?);
            Some(Percentile {
                percentile: *percentile,
                ms,
            })
        })
        .collect()
}

/// What part of the harm that would have come without anybody reacting was avoided, of what could be. `None` where a
/// fault does not even cost one request, since then the quotient is noise.
pub fn avoided(harm: f64, unmoved: f64, oracle: f64) -> Option<f64> {
    (unmoved - oracle > 1.0).then(|| 1.0 - (harm - oracle) / (unmoved - oracle))
}

fn ms(us: u32) -> f64 {
    f64::from(us) / 1e3
}

fn since(at_us: u64, from_us: u64) -> f64 {
    at_us.saturating_sub(from_us) as f64 / 1e6
}

fn latencies(records: &[Record]) -> Vec<u32> {
    records.iter().map(|record| record.latency_us).collect()
}

/// The faulty endpoint's part of users' requests while all was well.
fn normal_part(run: &Run) -> f64 {
    let (faulty, _) = run.faulty_pair();
    let got = run
        .timeline
        .requests(faulty, run.healthy, EndpointCounts::requests);
    got / run.records.within(run.healthy).len().max(1) as f64
}

/// From the onset to the end; empty where it is not one endpoint that is faulty.
fn bins(run: &Run) -> Vec<Bin> {
    let (Some(faults), Some(last)) = (&run.alone, run.timeline.0.last()) else {
        return Vec::new();
    };
    let (normal, width_us) = (normal_part(run), micros(BIN));
    let (faulty, _) = run.faulty_pair();
    let count = run.end_us.min(last.at_us).saturating_sub(run.fault.from_us) / width_us;
    let bin = |index: u64| {
        let from_us = run.fault.from_us + index * width_us;
        let span = Span {
            from_us,
            to_us: from_us + width_us,
        };
        Bin {
            from_us,
            got: run.timeline.requests(faulty, span, EndpointCounts::requests),
            due: normal * run.records.within(span).len() as f64,
            open: from_us >= run.fault.to_us || is_open(faults, index),
        }
    };
    (0..count).map(bin).collect()
}

/// Whether requests can reach the faulty endpoint in the middle of a bin and a bin before, which it needs to catch up.
fn is_open(faults: &[Fault], index: u64) -> bool {
    let open = |index: u64| {
        let age = BIN.mul_f64(index as f64 + 0.5);
        let condition = condition(faults.iter().map(|fault| (fault, age)));
        condition.refuses.is_none() && !condition.paused
    };
    open(index) && index.checked_sub(1).is_none_or(open)
}

/// Index of the bin from which on so much traffic is missing that chance does not explain it.
fn missing_from<'a>(bins: impl Iterator<Item = &'a Bin>) -> Option<usize> {
    let (mut missing, mut from) = (0.0, 0);
    for (index, bin) in bins.enumerate() {
        missing += MOVED * bin.due - bin.got;
        if missing <= 0.0 {
            (missing, from) = (0.0, index + 1);
        }
        if missing > MISSING {
            return Some(from);
        }
    }
    None
}

/// When the contender shows that it has seen the fault: by what it says it thinks, if it does, or by where traffic
/// goes.
fn detected(run: &Run, bins: &[Bin]) -> Option<u64> {
    let moved = moved(run, bins);
    let thought = thought(run);
    moved.into_iter().chain(thought).min()
}

/// The first look at which the contender says that something is wrong.
fn thought(run: &Run) -> Option<u64> {
    run.alone.as_ref()?;
    let (faulty, _) = run.faulty_pair();
    let engage = ShiftPolicy::default().engage;
    let mut looks = run.timeline.within(run.fault);
    let first = looks.find(|sample| {
        let views = sample.views.iter().flatten();
        let mut own = views.filter(|view| view.name == faulty);
        own.any(|view| view.risk >= engage || view.share_max() > 0.0 || view.available == Some(false))
    });
    first.map(|sample| sample.at_us)
}

/// From when on traffic is missing at the faulty endpoint.
fn moved(run: &Run, bins: &[Bin]) -> Option<u64> {
    let open: Vec<_> = bins
        .iter()
        .filter(|bin| bin.open && bin.from_us < run.fault.to_us)
        .copied()
        .collect();
    let from = missing_from(open.iter())?;
    open.get(from).map(|bin| bin.from_us)
}

/// When the endpoint has been left for good, until it is healed.
fn left(run: &Run, bins: &[Bin]) -> Option<u64> {
    let windows = bins.windows(LEFT_BINS).filter(|window| {
        let within = window.last().is_some_and(|last| last.from_us < run.fault.to_us);
        within && window.iter().all(|bin| bin.open)
    });
    let mut since_us = None;
    for window in windows {
        let most = LEFT * window.iter().map(|bin| bin.due).sum::<f64>();
        let got: f64 = window.iter().map(|bin| bin.got).sum();
        if got > most + CHANCE * most.sqrt() {
            since_us = None;
        } else if since_us.is_none() {
            since_us = window.first().map(|bin| bin.from_us);
        }
    }
    since_us
}

/// When, after healing, the endpoint has its traffic back for good: read backwards, where it begins to be missing.
fn recovered(run: &Run, bins: &[Bin]) -> Option<u64> {
    let after = bins.iter().filter(|bin| bin.from_us >= run.fault.to_us);
    let after: Vec<_> = after.collect();
    let Some(from_end) = missing_from(after.iter().rev().copied()) else {
        return (!after.is_empty()).then_some(run.fault.to_us);
    };
    // Missing to the very end, or so near to it that it may be chance: it has not come back.
    let back = after
        .len()
        .checked_sub(from_end)
        .filter(|_| from_end >= LEFT_BINS)?;
    after.get(back).map(|bin| bin.from_us)
}

/// Turns of the share beyond the one at which it comes back.
fn reversals(bins: &[Bin]) -> u64 {
    let shares: Vec<_> = bins
        .chunks_exact(SHARE_BINS)
        .filter(|chunk| chunk.iter().all(|bin| bin.open))
        .filter_map(|chunk| {
            let due: f64 = chunk.iter().map(|bin| bin.due).sum();
            let got: f64 = chunk.iter().map(|bin| bin.got).sum();
            (due > 0.0).then(|| (got / due, SWING + CHANCE_OF_TURNS / due.sqrt()))
        })
        .collect();
    let Some((first, _)) = shares.first() else {
        return 0;
    };
    let (mut low, mut high, mut rising, mut turns) = (*first, *first, None, 0_u64);
    for (share, swing) in shares {
        (low, high) = (low.min(share), high.max(share));
        if rising != Some(true) && share > low + swing {
            turns += u64::from(rising.is_some());
            (rising, high) = (Some(true), share);
        } else if rising != Some(false) && share < high - swing {
            turns += u64::from(rising.is_some());
            (rising, low) = (Some(false), share);
        }
    }
    turns.saturating_sub(1)
}

fn harm(users: &[Record], healthy_p99_us: u32) -> f64 {
    let of_one = |record: &Record| {
        if record.outcome.failed() {
            return 1.0;
        }
        let late_us = record.latency_us.saturating_sub(healthy_p99_us);
        HARM_PER_SECOND * (f64::from(late_us) / 1e6).min(1.0)
    };
    users.iter().map(of_one).sum()
}

fn amplification(run: &Run, span: Span) -> Option<f64> {
    let users = run.records.within(span).len();
    let names = run.timeline.0.last()?.counts.keys();
    let attempts: f64 = names
        .map(|name| run.timeline.requests(name, span, EndpointCounts::requests))
        .sum();
    (users > 0).then(|| attempts / users as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::{Outcome, Records};
    use crate::run::tests::{FAULT, played, steady};

    /// A planted run in which one endpoint alone is slow.
    fn slow(rates: impl Fn(u64) -> (u64, u64)) -> Run {
        let mut run = played(|_| 10, rates);
        run.alone = Some(vec![Fault::slow(10.0)]);
        // What the proxy thinks is planted where a test is about it.
        run.timeline.0.iter_mut().for_each(|sample| sample.views = None);
        run
    }

    /// The same with what chance does to an even flow: bins of 5, 15, 10, ... requests in place of 10.
    fn noisy(at_ms: u64) -> (u64, u64) {
        let swing = [50, 150, 100, 70, 130][usize::try_from(at_ms / 100 % 5).unwrap()];
        (swing, 0)
    }

    fn near(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() < 0.25)
    }

    #[test]
    fn who_leaves_at_once_and_for_good_has_seen_it_and_left_it() {
        let run = slow(|ms| match ms {
            10_500..30_000 => (0, 100),
            _ => (100, 0),
        });
        let figures = of(&run);
        assert!(near(figures.detect_s, 0.5), "{:?}", figures.detect_s);
        assert!(near(figures.to_90_s, 0.5), "{:?}", figures.to_90_s);
        assert!(near(figures.recovery_s, 8.0), "{:?}", figures.recovery_s);
        assert_eq!(figures.reversals, 0);
    }

    #[test]
    fn who_does_nothing_has_seen_nothing_whatever_chance_does() {
        let figures = of(&slow(noisy));
        assert_eq!((figures.detect_s, figures.to_90_s), (None, None));
        assert!(
            near(figures.recovery_s, 0.0),
            "there is nothing to come back from"
        );
        assert_eq!(figures.reversals, 0);
    }

    #[test]
    fn who_moves_a_part_has_seen_it_and_not_left_it() {
        let figures = of(&slow(|ms| match ms {
            12_000..22_000 => (60, 40),
            _ => (100, 0),
        }));
        assert!(near(figures.detect_s, 2.0), "{:?}", figures.detect_s);
        assert_eq!(figures.to_90_s, None);
        assert!(near(figures.recovery_s, 0.0), "{:?}", figures.recovery_s);
    }

    #[test]
    fn who_does_not_come_back_has_no_recovery() {
        let figures = of(&slow(|ms| if ms < 11_000 { (100, 0) } else { (0, 100) }));
        assert_eq!(figures.recovery_s, None);
    }

    #[test]
    fn who_comes_back_too_early_has_not_left_until_the_last_time() {
        let figures = of(&slow(|ms| match ms {
            10_500..13_000 | 15_000..30_000 => (0, 100),
            _ => (100, 0),
        }));
        assert!(near(figures.detect_s, 0.5));
        assert!(near(figures.to_90_s, 5.0), "{:?}", figures.to_90_s);
    }

    #[test]
    fn each_going_and_coming_beyond_the_first_is_two_turns() {
        let flapping = |ms: u64| match ms {
            12_000..14_000 | 16_000..18_000 | 20_000..22_000 => (0, 100),
            _ => (100, 0),
        };
        assert_eq!(of(&slow(flapping)).reversals, 4);
    }

    #[test]
    fn what_the_proxy_thinks_is_believed_and_it_may_think_before_it_acts() {
        let mut run = slow(|ms| if ms < 12_000 { (100, 0) } else { (0, 100) });
        let view = crate::stage::admin::EndpointView {
            name: "b".into(),
            risk: 0.5,
            ..Default::default()
        };
        for sample in run
            .timeline
            .0
            .iter_mut()
            .filter(|sample| sample.at_us >= 10_200_000)
        {
            sample.views = Some(vec![view.clone()]);
        }
        let figures = of(&run);
        assert!(near(figures.detect_s, 0.2), "{:?}", figures.detect_s);
        assert!(near(figures.to_90_s, 2.0), "{:?}", figures.to_90_s);
    }

    #[test]
    fn an_endpoint_at_which_nobody_listens_tells_nothing_of_who_would_ask() {
        let mut run = slow(|ms| {
            if FAULT.contains(ms * 1_000) {
                (0, 0)
            } else {
                (100, 0)
            }
        });
        run.alone = Some(vec![Fault::refuse(true)]);
        let figures = of(&run);
        assert_eq!((figures.detect_s, figures.to_90_s), (None, None));
        assert!(near(figures.recovery_s, 0.0), "{:?}", figures.recovery_s);
    }

    #[test]
    fn where_several_are_faulty_there_is_none_to_leave() {
        let mut run = slow(|ms| if ms < 11_000 { (100, 0) } else { (0, 100) });
        run.alone = None;
        let figures = of(&run);
        assert_eq!((figures.detect_s, figures.recovery_s), (None, None));
        assert!(seconds(&run).iter().all(|second| second.faulty_share.is_none()));
    }

    #[test]
    fn harm_is_a_failure_or_a_part_of_the_wait() {
        let mut run = played(
            |ms| match ms {
                10_000 => 510,
                10_001 => 5_000,
                _ => 10,
            },
            steady,
        );
        let figures = of(&run);
        assert!((figures.harm - 0.2 * 0.5 - 0.2).abs() < 1e-9, "{}", figures.harm);
        let mut records = run.records.all().to_vec();
        records[12_000].outcome = Outcome::CUT;
        records[13_000].outcome = Outcome::status(503);
        records[13_000].post = true;
        run.records = Records::from(records);
        let failing = of(&run);
        assert_eq!((failing.failed_gets, failing.failed_posts), (1, 1));
        assert!((failing.harm - figures.harm - 2.0).abs() < 1e-9);
        assert_eq!(failing.requests, 30_000);
    }

    #[test]
    fn what_could_not_be_avoided_is_not_asked_for() {
        assert_eq!(avoided(10.0, 100.0, 10.0), Some(1.0));
        assert_eq!(avoided(100.0, 100.0, 10.0), Some(0.0));
        assert!(
            avoided(190.0, 100.0, 10.0).is_some_and(|part| part < 0.0),
            "it may be worse than nothing"
        );
        assert_eq!(avoided(1.0, 1.5, 1.0), None);
    }

    #[test]
    fn a_request_that_is_tried_again_is_two_attempts() {
        let single = of(&played(|_| 10, |_| (900, 0))).amplification.unwrap();
        let double = of(&played(|_| 10, |_| (900, 1_000))).amplification.unwrap();
        assert!((single - 1.0).abs() < 0.02, "{single}");
        assert!((double - 2.0).abs() < 0.03, "{double}");
    }

    #[test]
    fn curves_and_seconds_cover_their_spans() {
        let run = slow(|ms| {
            if FAULT.contains(ms * 1_000) {
                (50, 50)
            } else {
                (100, 0)
            }
        });
        let curve = curve(&run, run.fault);
        assert_eq!(curve.len(), CURVE.len());
        assert!(curve.iter().all(|point| (point.ms - 10.0).abs() < 1e-9));
        let seconds = seconds(&run);
        assert_eq!(seconds.len(), 40);
        let share = seconds[15].faulty_share.unwrap();
        assert!((share - 0.5).abs() < 0.05, "{share}");
    }
}
