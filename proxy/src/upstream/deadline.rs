//! Deadlines of exchanges: a wheel of connections that may have to be given up.
//!
//! pingora's read timeout holds for every read, so a limit of 70 ms for the first byte would also cut a download that
//! pauses for 70 ms. Here a deadline is armed when the request has been sent and renewed by the first byte and by each
//! piece of a body; a request that reaches it has its connection shut down, which pingora reports as an ended
//! connection, and the entry tells that it was us. Arming, renewing and ending are a few stores; nothing is allocated
//! once the wheel has warmed up, and one timer per worker serves all. Precision is one slot: never early, late by at
//! most two slots.

use std::time::Duration;

use foreshade_engine::moment::Moment;

use super::cut::Line;

/// Width of a slot of the wheel.
pub const SLOT: Duration = Duration::from_micros(SLOT_US);

const SLOT_US: u64 = 5_000;

/// Slots of the wheel: 2.56 s. Later deadlines go round more than once.
const SLOTS: u64 = 512;

/// An armed deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    index: usize,
    serial: u64,
}

/// What a deadline was armed for.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// What is given up.
    pub line: Line,
    /// When at the earliest.
    pub at: Moment,
    /// What its owner wants to know at that time.
    pub what: T,
}

/// How a deadline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// It was disarmed in time.
    InTime(T),
    /// It had been reached, and its connection shut down.
    Reached(T),
}

/// All deadlines of one worker.
#[derive(Debug)]
pub struct Deadlines<T> {
    /// Bounded by the requests in flight: places are used again.
    places: Vec<Place<T>>,
    free: Vec<usize>,
    wheel: Vec<Vec<Armed>>,
    due: Vec<Armed>,
    swept: u64,
    serial: u64,
    pending: usize,
}

#[derive(Debug)]
struct Place<T> {
    serial: u64,
    entry: Option<Entry<T>>,
    reached: bool,
}

impl<T: Copy> Default for Deadlines<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            wheel: (0..SLOTS).map(|_| Vec::new()).collect(),
            due: Vec::new(),
            swept: 0,
            serial: 0,
            pending: 0,
        }
    }
}

impl<T: Copy> Deadlines<T> {
    /// Whether no deadline lies ahead.
    pub fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Arms a deadline. Whoever armed it must [`end`](Self::end) it, reached or not.
    pub fn arm(&mut self, entry: Entry<T>) -> Armed {
        let at = entry.at;
        self.serial += 1;
        let place = Place {
            serial: self.serial,
            entry: Some(entry),
            reached: false,
        };
        let armed = match self
            .free
            .pop()
            .and_then(|i| self.places.get_mut(i).map(|p| (i, p)))
        {
            Some((index, free)) => {
                *free = place;
                Armed {
                    index,
                    serial: self.serial,
                }
            }
            None => {
                self.places.push(place);
                Armed {
                    index: self.places.len() - 1,
                    serial: self.serial,
                }
            }
        };
        self.pending += 1;
        self.file(armed, at);
        armed
    }

    /// Moves a deadline that has not been reached, in either direction, and notes what has changed.
    pub fn renew(&mut self, armed: Armed, at: Moment, note: impl FnOnce(&mut T)) {
        let Some(place) = self
            .places
            .get_mut(armed.index)
            .filter(|p| p.serial == armed.serial && !p.reached)
        else {
            return;
        };
        let Some(entry) = place.entry.as_mut() else {
            return;
        };
        note(&mut entry.what);
        let sooner = at < entry.at;
        entry.at = at;
        // A later one is filed anew when the wheel comes to where it was filed before.
        if sooner {
            self.file(armed, at);
        }
    }

    /// Ends a deadline and says whether it had been reached. `None` only where it was ended before.
    pub fn end(&mut self, armed: Armed) -> Option<Ended<T>> {
        let place = self
            .places
            .get_mut(armed.index)
            .filter(|p| p.serial == armed.serial)?;
        let entry = place.entry.take()?;
        self.free.push(armed.index);
        if place.reached {
            return Some(Ended::Reached(entry.what));
        }
        self.pending -= 1;
        Some(Ended::InTime(entry.what))
    }

    /// All entries, reached or not, in no order.
    pub fn entries(&mut self) -> impl Iterator<Item = &mut Entry<T>> {
        self.places.iter_mut().filter_map(|place| place.entry.as_mut())
    }

    /// Shows `decide` every deadline that `now` has reached. It answers with a later moment to give it more time, or with
    /// `None` once the connection is shut down.
    pub fn sweep(&mut self, now: Moment, mut decide: impl FnMut(&mut Entry<T>) -> Option<Moment>) {
        let newest = slot_of(now);
        let oldest = self.swept.max((newest + 1).saturating_sub(SLOTS));
        let mut due = std::mem::take(&mut self.due);
        for slot in oldest..=newest {
            if let Some(filed) = self.wheel.get_mut(place_of(slot)) {
                due.append(filed);
            }
        }
        self.swept = newest;
        for armed in due.drain(..) {
            let Some(place) = self
                .places
                .get_mut(armed.index)
                .filter(|p| p.serial == armed.serial && !p.reached)
            else {
                continue;
            };
            let Some(entry) = place.entry.as_mut() else {
                continue;
            };
            let later = if entry.at > now {
                Some(entry.at)
            } else {
                decide(entry).filter(|at| *at > now)
            };
            match later {
                Some(at) => {
                    entry.at = at;
                    self.file(armed, at);
                }
                None => {
                    place.reached = true;
                    self.pending -= 1;
                }
            }
        }
        self.due = due;
    }

    /// Files a deadline into the slot after its moment, so that it is never early, and never into one already swept.
    fn file(&mut self, armed: Armed, at: Moment) {
        let slot = (slot_of(at) + 1).max(self.swept + 1);
        if let Some(filed) = self.wheel.get_mut(place_of(slot)) {
            filed.push(armed);
        }
    }
}

fn slot_of(at: Moment) -> u64 {
    at.as_micros() / SLOT_US
}

fn place_of(slot: u64) -> usize {
    (slot % SLOTS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(at_ms: u64, what: u32) -> Entry<u32> {
        Entry {
            line: Line::Socket(-1),
            at: Moment::from_micros(at_ms * 1000),
            what,
        }
    }

    fn reached(wheel: &mut Deadlines<u32>, now_ms: u64) -> Vec<u32> {
        let mut seen = Vec::new();
        wheel.sweep(Moment::from_micros(now_ms * 1000), |e| {
            seen.push(e.what);
            None
        });
        seen
    }

    #[test]
    fn an_ended_deadline_is_never_reached_and_its_place_is_used_again() {
        let mut wheel = Deadlines::default();
        let first = wheel.arm(entry(50, 1));
        assert_eq!(wheel.end(first), Some(Ended::InTime(1)));
        assert_eq!(wheel.end(first), None);
        let second = wheel.arm(entry(60, 2));
        assert_eq!(second.index, first.index);
        assert_eq!(
            wheel.end(first),
            None,
            "an old handle must not end a new deadline"
        );
        assert_eq!(reached(&mut wheel, 1000), [2]);
        assert!(wheel.is_empty());
        assert_eq!(wheel.end(second), Some(Ended::Reached(2)));
    }

    #[test]
    fn a_renewed_deadline_is_reached_once_at_its_new_time() {
        for (renewed, early, late) in [(400, 390, 411), (30, 25, 41)] {
            let mut wheel = Deadlines::default();
            let armed = wheel.arm(entry(100, 1));
            wheel.renew(armed, Moment::from_micros(renewed * 1000), |what| *what = 2);
            assert_eq!(reached(&mut wheel, early), Vec::<u32>::new());
            assert_eq!(reached(&mut wheel, late), [2]);
            assert_eq!(reached(&mut wheel, 1000), Vec::<u32>::new());
            wheel.renew(armed, Moment::from_micros(2_000_000), |_| {});
            assert_eq!(wheel.end(armed), Some(Ended::Reached(2)));
        }
    }

    #[test]
    fn a_deadline_can_be_given_more_time_and_a_note() {
        let mut wheel = Deadlines::default();
        let armed = wheel.arm(entry(50, 1));
        wheel.sweep(Moment::from_micros(60_000), |e| {
            e.what = 7;
            Some(Moment::from_micros(90_000))
        });
        assert_eq!(reached(&mut wheel, 80), Vec::<u32>::new());
        assert!(!wheel.is_empty());
        assert_eq!(reached(&mut wheel, 100), [7]);
        assert_eq!(wheel.end(armed), Some(Ended::Reached(7)));
    }

    proptest! {
        #[test]
        fn every_deadline_is_reached_once_never_early_and_late_by_two_slots_at_most(
            ats in prop::collection::vec(0u64..20_000, 1..100),
            step in 1u64..4000,
        ) {
            let mut wheel = Deadlines::default();
            for (what, at) in (0..).zip(&ats) {
                wheel.arm(entry(*at, what));
            }
            let mut now = 0;
            let mut seen = vec![false; ats.len()];
            while now < 30_000 {
                now += step;
                for what in reached(&mut wheel, now) {
                    let at = ats[what as usize];
                    prop_assert!(at <= now && now < at + step + 10, "{at} reached at {now}");
                    prop_assert!(!std::mem::replace(&mut seen[what as usize], true));
                }
            }
            prop_assert!(seen.into_iter().all(|s| s) && wheel.is_empty());
        }
    }
}
