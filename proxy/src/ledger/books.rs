//! What is known of each pair since its round began: the sums that the controller is told.
//!
//! Kept by the pair's name and not by an index, so that a reload, or roles that are swapped, lose nothing of them.
//! Cumulative, so that a report that is lost does no harm; a new round starts at 0. Belongs to the scorer, who alone
//! writes it.

use std::collections::BTreeMap;

use foreshade_contract::report::{Health, Network, SEGMENTS_MAX, Segment};
use foreshade_contract::{
    Arm, ArmCounters, Histogram, Mirrored, PairId, PairPlan, PairReport, Risk, Round, Share,
};
use foreshade_engine::assessment::{Assessment, Standing};
use foreshade_engine::cohort::share_below;
use foreshade_engine::observation::Observation;

use super::Cell;

/// The books of all pairs under the plan.
#[derive(Debug, Default)]
pub struct Books {
    pairs: BTreeMap<PairId, Book>,
    /// Segments that were forgotten because there were too many, since the start.
    pub forgotten: u64,
}

/// What is known of one pair.
#[derive(Debug)]
struct Book {
    report: PairReport,
    /// When each segment was last counted in, in the order of the report's.
    used: Vec<u64>,
    /// Counts the calls that counted something.
    clock: u64,
    changed: bool,
}

/// What one tick saw of one arm.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// What is believed of its endpoint.
    pub believed: &'a Assessment,
    /// What this tick brought.
    pub seen: &'a Observation,
}

impl Book {
    fn new(plan: &PairPlan) -> Self {
        Self {
            report: PairReport {
                pair: plan.pair.clone(),
                round: plan.round,
                serving: plan.serving,
                share: Share::ZERO,
                risk: [None; 2],
                health: [Health::Unknown; 2],
                arms: [ArmCounters::default(); 2],
                segments: Vec::new(),
                latency: Default::default(),
                network: [Network::default(); 2],
                mirrored: Default::default(),
            },
            used: Vec::new(),
            clock: 0,
            changed: true,
        }
    }

    /// The segment of this probability, and whether another one was forgotten for it.
    fn segment(&mut self, share: Share) -> (Option<&mut Segment>, bool) {
        let segments = &mut self.report.segments;
        let bits = share.value().to_bits();
        let found = segments.iter().position(|s| s.share.value().to_bits() == bits);
        let full = found.is_none() && segments.len() >= SEGMENTS_MAX;
        let at = found.unwrap_or_else(|| {
            let fresh = Segment {
                share,
                arms: [ArmCounters::default(); 2],
            };
            let oldest = self.used.iter().enumerate().min_by_key(|(_, used)| **used);
            match oldest.filter(|_| full) {
                Some((oldest, _)) => {
                    if let Some(segment) = segments.get_mut(oldest) {
                        *segment = fresh;
                    }
                    oldest
                }
                None => {
                    segments.push(fresh);
                    self.used.push(0);
                    segments.len() - 1
                }
            }
        });
        if let Some(used) = self.used.get_mut(at) {
            *used = self.clock;
        }
        (segments.get_mut(at), full)
    }
}

impl Books {
    /// Keeps books for the pairs of this plan from here on. Those of a round that goes on go on.
    pub fn open(&mut self, plan: &[PairPlan]) {
        let mut before = std::mem::take(&mut self.pairs);
        let books = plan.iter().map(|pair| {
            let kept = before
                .remove(&pair.pair)
                .filter(|book| book.report.round == pair.round);
            (pair.pair.clone(), kept.unwrap_or_else(|| Book::new(pair)))
        });
        self.pairs = books.collect();
    }

    /// Adds what a worker counted of a pair. Counts of another round than the one of now are dropped: they are of requests
    /// that were under way when it began.
    pub fn add(&mut self, pair: &PairId, cells: &[Cell]) {
        let Some(book) = self.pairs.get_mut(pair) else {
            return;
        };
        book.clock += 1;
        let round = book.report.round;
        for cell in cells.iter().filter(|cell| cell.round == round) {
            book.changed = true;
            for (sum, counted) in book.report.arms.iter_mut().zip(&cell.arms) {
                sum.add(counted);
            }
            let (segment, forgot) = book.segment(share_below(cell.limit));
            let sums = segment.into_iter().flat_map(|segment| &mut segment.arms);
            for (sum, counted) in sums.zip(&cell.arms) {
                sum.add(counted);
            }
            self.forgotten += u64::from(forgot);
        }
    }

    /// Takes a tick of a pair: its roles, its share, and by arm what was seen.
    pub fn tick(&mut self, pair: &PairId, serving: Arm, share: Share, arms: [Sight<'_>; 2]) {
        let Some(book) = self.pairs.get_mut(pair) else {
            return;
        };
        let report = &mut book.report;
        let risk = arms.map(|arm| risk_of(arm.believed));
        let health = arms.map(|arm| health_of(arm.believed));
        let now = (serving, share, risk, health);
        if (report.serving, report.share, report.risk, report.health) != now {
            (report.serving, report.share, report.risk, report.health) = now;
            book.changed = true;
        }
        for ((arm, latency), network) in arms.iter().zip(&mut report.latency).zip(&mut report.network) {
            book.changed |= add_latencies(latency, arm.seen) | add_network(network, arm.seen);
        }
    }

    /// Adds what copies to one arm of a pair came to, whose requests went out in this round; of another one than that of now
    /// they are dropped, like [other counts](Self::add).
    pub fn copied(&mut self, (pair, round): (&PairId, Round), to: Arm, counts: &Mirrored) {
        let book = self.pairs.get_mut(pair);
        if let Some(book) = book.filter(|book| book.report.round == round)
            && let Some(mirrored) = book.report.mirrored.get_mut(to.index())
        {
            mirrored.add(counts);
            book.changed = true;
        }
    }

    /// What is to be told: of all pairs, or of those alone of which something has changed since they were told last.
    pub fn told(&mut self, complete: bool) -> Vec<PairReport> {
        let books = self.pairs.values_mut();
        let told = books
            .filter_map(|book| (std::mem::take(&mut book.changed) || complete).then(|| book.report.clone()));
        told.collect()
    }
}

fn risk_of(believed: &Assessment) -> Option<Risk> {
    (believed.standing != Standing::Unknown).then_some(believed.risk)
}

fn health_of(believed: &Assessment) -> Health {
    match believed.standing {
        Standing::Unknown => Health::Unknown,
        Standing::Known => Health::Up,
        Standing::Dead => Health::Down,
    }
}

/// Whether there were any.
fn add_latencies(histogram: &mut Histogram, seen: &Observation) -> bool {
    let mut any = false;
    for class in seen.classes.iter().flatten().filter(|class| class.total > 0) {
        for (latency, n) in class.latency.times() {
            histogram.record(latency, u64::from(n));
            any = true;
        }
    }
    any
}

/// Whether there were any.
fn add_network(network: &mut Network, seen: &Observation) -> bool {
    let sampled = &seen.network;
    network.samples += u64::from(sampled.connections);
    network.rtt_us += sampled.rtt_us;
    network.rtt_var_us += sampled.rtt_var_us;
    network.segments_out += sampled.segments_out;
    network.retransmits += sampled.retransmits;
    sampled.connections > 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use foreshade_engine::cohort::threshold;
    use foreshade_engine::outcome::{Class, Outcome, RouteClass};

    fn plan(round: u64) -> PairPlan {
        PairPlan {
            pair: PairId {
                cluster: "shop".parse().unwrap(),
                primary: "a".parse().unwrap(),
            },
            shadow: "b".parse().unwrap(),
            round: Round(round),
            serving: Arm::Primary,
            ceiling: Share::ONE,
            directed: None,
            frozen: false,
            failover: true,
            thresholds: None,
        }
    }

    fn cell(round: u64, limit: u32, requests: u64) -> Cell {
        let counters = ArmCounters {
            requests,
            ..ArmCounters::default()
        };
        Cell {
            round: Round(round),
            limit,
            arms: [counters, ArmCounters::default()],
        }
    }

    fn requests(books: &mut Books) -> (u64, Vec<u64>) {
        let [report] = &books.told(true)[..] else {
            panic!("one pair")
        };
        let apart = report.segments.iter().map(|s| s.arms[0].requests);
        (report.arms[0].requests, apart.collect())
    }

    #[test]
    fn counters_go_on_with_their_round_and_start_at_zero_with_the_next() {
        let mut books = Books::default();
        let pair = plan(1).pair;
        books.open(&[plan(1)]);
        let half = threshold(Share::clamped(0.5));
        books.add(&pair, &[cell(1, half, 3), cell(1, 7, 1), cell(2, 7, 9)]);
        books.add(&pair, &[cell(1, half, 2)]);
        assert_eq!(requests(&mut books), (6, vec![5, 1]));
        // Other limits, the same round.
        let mut directed = plan(1);
        directed.directed = Some(Share::ONE);
        books.open(&[directed]);
        assert_eq!(requests(&mut books), (6, vec![5, 1]));
        books.open(&[plan(2)]);
        books.add(&pair, &[cell(1, half, 2), cell(2, half, 4)]);
        assert_eq!(requests(&mut books), (4, vec![4]));
        books.open(&[]);
        assert!(books.told(true).is_empty());
    }

    #[test]
    fn copies_of_a_round_that_is_over_are_not_counted_in_the_next() {
        let mut books = Books::default();
        let pair = plan(1).pair;
        let failed = Mirrored {
            copy_bad: 1,
            ..Mirrored::default()
        };
        let counted = |books: &mut Books| books.told(true)[0].mirrored[1].copy_bad;
        books.open(&[plan(1)]);
        books.copied((&pair, Round(1)), Arm::Shadow, &failed);
        assert_eq!(counted(&mut books), 1);
        books.open(&[plan(2)]);
        books.copied((&pair, Round(1)), Arm::Shadow, &failed);
        assert_eq!(counted(&mut books), 0);
        books.copied((&pair, Round(2)), Arm::Shadow, &failed);
        assert_eq!(counted(&mut books), 1);
    }

    #[test]
    fn the_probability_least_lately_used_is_forgotten_first_and_the_sum_is_not() {
        let mut books = Books::default();
        let pair = plan(1).pair;
        books.open(&[plan(1)]);
        for limit in (0..).take(SEGMENTS_MAX + 2) {
            books.add(&pair, &[cell(1, limit * 1000, 1)]);
            // Used all the time.
            books.add(&pair, &[cell(1, 0, 1)]);
        }
        let (all, apart) = requests(&mut books);
        assert_eq!(
            (all, apart.len(), books.forgotten),
            (2 * SEGMENTS_MAX as u64 + 4, SEGMENTS_MAX, 2)
        );
        assert_eq!(apart[0], SEGMENTS_MAX as u64 + 3, "the one in use is there");
    }

    #[test]
    fn only_what_has_changed_is_told_unless_all_is_wanted() {
        let mut books = Books::default();
        let pair = plan(1).pair;
        books.open(&[plan(1)]);
        assert_eq!(books.told(false).len(), 1, "a new one is news");
        assert_eq!(books.told(false).len(), 0);
        assert_eq!(books.told(true).len(), 1);
        let (believed, nothing) = (Assessment::unknown(), Observation::default());
        let idle = Sight {
            believed: &believed,
            seen: &nothing,
        };
        books.tick(&pair, Arm::Primary, Share::ZERO, [idle; 2]);
        assert_eq!(books.told(false).len(), 0);
        books.tick(&pair, Arm::Primary, Share::clamped(0.1), [idle; 2]);
        assert_eq!(books.told(false)[0].share, Share::clamped(0.1));
        let mut seen = Observation::default();
        for ms in [5, 5, 50] {
            seen.record(&Outcome {
                class: Class::Ok,
                latency: Duration::from_millis(ms),
                route_class: RouteClass::default(),
                in_flight_at_start: 0,
            });
        }
        seen.network.connections = 1;
        seen.network.rtt_us = 90;
        let mut dead = Assessment::unknown();
        dead.standing = Standing::Dead;
        let arms = [
            idle,
            Sight {
                believed: &dead,
                seen: &seen,
            },
        ];
        books.tick(&pair, Arm::Shadow, Share::ZERO, arms);
        books.tick(&pair, Arm::Shadow, Share::ZERO, arms);
        let [report] = &books.told(false)[..] else {
            panic!("one pair")
        };
        assert_eq!(report.serving, Arm::Shadow);
        assert_eq!(report.health, [Health::Unknown, Health::Down]);
        assert_eq!((report.risk[0], report.latency[0].total()), (None, 0));
        assert_eq!((report.latency[1].total(), report.network[1].rtt_us), (6, 180));
        let median = report.latency[1].quantile(0.5).unwrap();
        assert!((4_900..5_700).contains(&median.as_micros()), "{median:?}");
    }
}
