//! When a drill begins by itself: once in each period, as early in it as it may.
//!
//! Periods are counted from 1970 and moved, for each pair and failure, by a part that its name decides. So a fleet is not
//! drilled at once, nothing has to be remembered but when drills began, and every controller finds the same. A drill
//! that somebody ordered in the meantime counts as well. A period in which no drill was possible passes without one:
//! what was missed is not made up for.
//!
//! A drill touches no traffic, and still may not begin while somebody has other things to look at: outside of its
//! windows, in those in which nothing may begin, or while anything else is wrong (`crate::reconcile`).
// Concept: region-drill

use std::time::Duration;

use foreshade_contract::PairId;
use foreshade_engine::lifecycle::drill::Scenario;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::window::{self, Window};

/// A drill that begins by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is rehearsed.
    pub scenario: Scenario,
    /// Once in so long.
    pub every: Duration,
    /// When it may begin; at any time where there are none.
    pub within: Vec<Window>,
}

/// What is known of a pair's drills.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a, I> {
    /// The pair.
    pub pair: &'a PairId,
    /// Its drills so far: what was rehearsed, and when that began, in milliseconds of Unix time.
    pub drills: I,
    /// When nothing may begin.
    pub blocked: &'a [Window],
}

impl Entry {
    /// Whether a drill is to begin now, if nothing but the calendar stands in the way. Asked of each pair once a second, so
    /// it looks at this moment alone.
    pub fn is_due(&self, known: Known<'_, impl Iterator<Item = (Scenario, u64)>>, now_ms: u64) -> bool {
        window::is_open(&self.within, now_ms)
            && window::closing(known.blocked, now_ms).is_none()
            && self.done_until(known, now_ms).is_none()
    }

    /// When its next drill begins, if nothing but the calendar stands in the way: at `now_ms`, where it is due. `None` where
    /// the calendar has no moment for it.
    pub fn next(&self, known: Known<'_, impl Iterator<Item = (Scenario, u64)>>, now_ms: u64) -> Option<u64> {
        let blocked = known.blocked;
        let from = self.done_until(known, now_ms).unwrap_or(now_ms);
        first_open(&self.within, blocked, from)
    }

    /// The end of this period, where it has had its drill. What a clock that was ahead has written down of a later one
    /// stands for that one alone.
    fn done_until(
        &self,
        known: Known<'_, impl Iterator<Item = (Scenario, u64)>>,
        now_ms: u64,
    ) -> Option<u64> {
        let every = u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX).max(1);
        let begun = now_ms.saturating_sub(now_ms.wrapping_sub(self.offset(known.pair) % every) % every);
        let period = begun..begun.saturating_add(every);
        let mut drills = known.drills;
        let is_done = drills.any(|(scenario, at_ms)| scenario == self.scenario && period.contains(&at_ms));
        is_done.then_some(period.end)
    }

    /// By how much its periods are moved.
    fn offset(&self, pair: &PairId) -> u64 {
        xxh3_64(format!("{pair} {:?}", self.scenario).as_bytes())
    }
}

/// The first moment that is in one of these windows and in none of those; looked for no further ahead than the end of a
/// closure is.
fn first_open(within: &[Window], blocked: &[Window], from: u64) -> Option<u64> {
    let mut at = from;
    while at < from.saturating_add(window::AHEAD_MS_MAX) {
        let open = window::opening(within, at)?;
        let Some((_, until)) = window::closed(blocked, open) else {
            return Some(open);
        };
        at = until;
    }
    None
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::config::window::{Clock, Date, Day};

    const HOUR_MS: u64 = 3_600_000;

    fn pair(name: &str) -> PairId {
        PairId {
            cluster: "shop".parse().unwrap(),
            primary: name.parse().unwrap(),
        }
    }

    fn window(days: &[Day], from: u64, to: u64) -> Window {
        Window {
            days: days.to_vec(),
            dates: Vec::new(),
            from: Clock(from),
            to: Clock(to),
            reason: None,
        }
    }

    fn weekly(within: Vec<Window>) -> Entry {
        Entry {
            scenario: Scenario::PrimaryGone,
            every: Duration::from_secs(7 * 86_400),
            within,
        }
    }

    const ALL_DAYS: [Day; 7] = [
        Day::Monday,
        Day::Tuesday,
        Day::Wednesday,
        Day::Thursday,
        Day::Friday,
        Day::Saturday,
        Day::Sunday,
    ];

    /// A few windows, drawn at random.
    fn windows(rng: &mut StdRng, most: usize) -> Vec<Window> {
        let drawn = (0..rng.random_range(0..=most)).map(|_| {
            let days: Vec<_> = ALL_DAYS.into_iter().filter(|_| rng.random_bool(0.4)).collect();
            window(&days, rng.random_range(0..1440), rng.random_range(0..=1440))
        });
        drawn.collect()
    }

    fn covers(windows: &[Window], at: u64) -> bool {
        windows.iter().any(|window| window.closed_until(at).is_some())
    }

    /// Eight weeks by halves of an hour, in which other things go wrong now and then.
    #[test]
    fn whatever_the_calendar_there_is_one_drill_in_each_period_with_room_for_it_and_none_elsewhere() {
        const STEP_MS: u64 = HOUR_MS / 2;
        for seed in 0..64 {
            let mut rng = StdRng::seed_from_u64(seed);
            let entry = Entry {
                every: Duration::from_secs(rng.random_range(1..=14) * 43_200),
                ..weekly(windows(&mut rng, 3))
            };
            let (blocked, id) = (windows(&mut rng, 2), pair(&format!("a{seed}")));
            let every = u64::try_from(entry.every.as_millis()).unwrap();
            let begin = 1_790_000_000_000u64 / STEP_MS * STEP_MS;
            let (mut drills, mut had_room, mut period) = (Vec::new(), false, None);
            for at in (begin..begin + 8 * 7 * 24 * HOUR_MS).step_by(usize::try_from(STEP_MS).unwrap()) {
                let now = Some((at - entry.offset(&id) % every) / every);
                if now != period {
                    let of_last = |drill: &u64| Some((drill - entry.offset(&id) % every) / every) == period;
                    let had = drills.iter().filter(|drill| of_last(drill)).count();
                    assert_eq!(had, usize::from(had_room), "seed {seed} at {at}");
                    (period, had_room) = (now, false);
                }
                let is_allowed =
                    (entry.within.is_empty() || covers(&entry.within, at)) && !covers(&blocked, at);
                let is_calm = rng.random_bool(0.8);
                let known = Known {
                    pair: &id,
                    drills: drills.iter().map(|at_ms| (Scenario::PrimaryGone, *at_ms)),
                    blocked: &blocked,
                };
                let next = entry.next(known.clone(), at);
                assert!(next.is_none_or(|next| next >= at), "seed {seed}");
                assert_eq!(entry.is_due(known, at), next == Some(at), "seed {seed} at {at}");
                if next == Some(at) {
                    assert!(is_allowed, "seed {seed} at {at}");
                    if is_calm {
                        drills.push(at);
                    }
                }
                had_room |= is_allowed && is_calm;
            }
        }
    }

    #[test]
    fn a_drill_of_another_failure_does_not_count_and_one_by_hand_does() {
        let entry = weekly(Vec::new());
        let (id, now) = (pair("a"), 1_790_000_000_000);
        let next = |drills: Vec<(Scenario, u64)>| {
            let known = Known {
                pair: &id,
                drills: drills.into_iter(),
                blocked: &[],
            };
            entry.next(known, now).unwrap()
        };
        assert_eq!(next(vec![(Scenario::ShadowWorse, now)]), now);
        assert_eq!(next(vec![(Scenario::PrimaryGone, now - 15 * 86_400_000)]), now);
        let later = next(vec![(Scenario::PrimaryGone, now)]);
        assert!(later > now && later <= now + 7 * 86_400_000, "{later}");
        // Nor does one that a clock far ahead has written down, before its time has come.
        let ahead = (Scenario::PrimaryGone, now + 400 * 86_400_000);
        assert_eq!(next(vec![ahead]), now);
    }

    #[test]
    fn a_fleet_is_not_drilled_at_once() {
        let entry = weekly(Vec::new());
        let now = 1_790_000_000_000;
        let mut days = [0; 7];
        for n in 0..700 {
            let id = pair(&format!("a{n}"));
            let drills = std::iter::once((Scenario::PrimaryGone, now));
            let known = Known {
                pair: &id,
                drills,
                blocked: &[],
            };
            let after = entry.next(known, now).unwrap() - now;
            days[usize::try_from((after / 86_400_000).min(6)).unwrap()] += 1;
        }
        assert!(days.iter().all(|day| (50..160).contains(day)), "{days:?}");
    }

    #[test]
    fn a_calendar_without_room_has_none_and_is_no_endless_search() {
        let entry = weekly(vec![window(&[Day::Tuesday], 600, 720)]);
        let next = |blocked: &[Window]| {
            let known = Known {
                pair: &pair("a"),
                drills: std::iter::empty(),
                blocked,
            };
            entry.next(known, 1_790_000_000_000)
        };
        assert_eq!(next(&[window(&[Day::Tuesday], 0, 1440)]), None);
        // Nobody waits for the end of a closure of five hundred days.
        let today = 1_790_000_000_000 / (24 * HOUR_MS);
        let closure = |days| Window {
            dates: (today..today + days).map(Date).collect(),
            ..window(&[], 0, 1440)
        };
        assert!(next(&[closure(300)]).is_some());
        assert_eq!(next(&[closure(500)]), None);
    }
}
