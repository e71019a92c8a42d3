//! When a certificate is ordered: pure, with time and chance as arguments.
//!
//! One that is not there is due at once; one that is, after two thirds of its life and a little more by chance, so that a
//! fleet that started together does not ask together: an outage of the authority for a third of a life, a month of three,
//! harms nobody. After a failure the pause doubles from a minute to six hours, and is never shorter than what the authority
//! asks for: authorities count failures per name and hour, and shut out who goes on. They count certificates, too, so one
//! that was issued is left alone for an hour, whatever is found where it should be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Authority, Issued, Wanted};

/// Part of a certificate's life, at most, by which it is renewed later by chance.
const SPREAD: f64 = 0.05;

/// Pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// Longest pause that failures alone come to: three tries before a certificate that lives for six days has two thirds of
/// its last third behind it, and five failures an hour, which authorities grant, only in the first.
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3600);

/// Longest pause that an authority is granted. One that asks for more is asked once more all the same.
pub(super) const ASKED_PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Pause after a certificate: if what was issued is due at once (by a clock, a life or a disk that is wrong), the orders
/// for it stay within what authorities grant for long enough to be seen.
const ISSUED_PAUSE: Duration = Duration::from_secs(3600);

/// Part of a pause, at most, by which it is longer by chance.
const PAUSE_SPREAD: f64 = 0.25;

/// What is known of a certificate that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Since when it is valid, in seconds since 1970.
    pub begins_s: i64,
    /// Until when.
    pub ends_s: i64,
    /// The names that it bears, in lower case.
    pub names: Vec<String>,
}

impl Kept {
    /// Whether it bears all of these. It may bear more: some authorities add `www`.
    fn bears(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.names.contains(name))
    }

    /// Whether it bears all of these and nothing else.
    pub(crate) fn bears_only(&self, names: &[String]) -> bool {
        self.bears(names) && self.names.iter().all(|name| names.contains(name))
    }

    /// When it is renewed. `chance` is from 0 to 1.
    fn renewed_at(&self, chance: f64) -> SystemTime {
        let second = |s: i64| u64::try_from(s).unwrap_or(0);
        let life = Duration::from_secs(second(self.ends_s.saturating_sub(self.begins_s)));
        UNIX_EPOCH + Duration::from_secs(second(self.begins_s)) + life * 2 / 3 + life.mul_f64(SPREAD * chance)
    }
}

/// All certificates that are wanted, and what became of the tries to have them.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    authority: Option<Arc<Authority>>,
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug)]
struct Entry {
    wanted: Arc<Wanted>,
    kept: Option<Kept>,
    /// When it is due: drawn once for what is kept.
    due: SystemTime,
    /// It is to bear other names than when it was ordered last, so that those it bore beside them are to go.
    is_renamed: bool,
    /// What was issued and could not be written.
    unwritten: Option<Issued>,
    /// Not before, after an order.
    rest_until: SystemTime,
    /// In a row.
    failures: u32,
    issued: u64,
    failed: u64,
    last: Option<bool>,
}

/// A certificate that is wanted, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The first of its names.
    pub name: String,
    /// Orders that came to a certificate, since the start.
    pub issued: u64,
    /// Those that did not.
    pub failed: u64,
    /// Whether the last one did; `None` before the first.
    pub last: Option<bool>,
    /// When it is ordered next, in seconds since 1970.
    pub next_s: u64,
}

impl Schedule {
    /// Looks after these certificates of this authority from here on, and forgets the others. What is kept of each is with
    /// it.
    pub(super) fn follow(
        &mut self,
        authority: Option<&Arc<Authority>>,
        wanted: Vec<(Arc<Wanted>, Option<Kept>)>,
        mut chance: impl FnMut() -> f64,
    ) {
        self.entries
            .retain(|file, _| wanted.iter().any(|(wanted, _)| wanted.file == *file));
        if self.authority.as_ref() != authority {
            self.authority = authority.cloned();
            self.entries.values_mut().for_each(Entry::end_rest);
        }
        for (wanted, kept) in wanted {
            match self.entries.get_mut(&wanted.file) {
                Some(entry) => entry.follow(wanted, kept, &mut chance),
                None => {
                    let entry = Entry::new(wanted, kept, &mut chance);
                    self.entries.insert(entry.wanted.file.clone(), entry);
                }
            }
        }
    }

    /// Which one is due, and how long it is until one is.
    pub(super) fn next(&self, now: SystemTime) -> Option<(Arc<Wanted>, Duration)> {
        let next = self.entries.values().min_by_key(|entry| entry.at())?;
        let pause = next.at().duration_since(now).unwrap_or_default();
        Some((next.wanted.clone(), pause))
    }

    /// What was kept of it when it was looked at last.
    pub(super) fn kept(&self, file: &Path) -> Option<Kept> {
        self.entries.get(file)?.kept.clone()
    }

    /// An order has come to a certificate. What is kept says when the next one is due.
    pub(super) fn issued(&mut self, file: &Path, now: SystemTime) {
        if let Some(entry) = self.entries.get_mut(file) {
            (entry.issued, entry.last, entry.failures) = (entry.issued + 1, Some(true), 0);
            (entry.is_renamed, entry.rest_until) = (false, now + ISSUED_PAUSE);
            entry.unwritten = None;
        }
    }

    /// What was issued could not be written: it is, before another one is ordered.
    pub(super) fn keep(&mut self, file: &Path, issued: Issued) {
        if let Some(entry) = self.entries.get_mut(file) {
            entry.unwritten = Some(issued);
        }
    }

    /// What was issued and could not be written.
    pub(super) fn unwritten(&self, file: &Path) -> Option<Issued> {
        self.entries.get(file)?.unwritten.clone()
    }

    /// An order has come to nothing; `asked` is what the authority wants to be left alone for. Says how long it rests.
    pub(super) fn failed(
        &mut self,
        file: &Path,
        now: SystemTime,
        asked: Option<Duration>,
        chance: f64,
    ) -> Duration {
        let Some(entry) = self.entries.get_mut(file) else {
            return Duration::ZERO;
        };
        (entry.failed, entry.last) = (entry.failed + 1, Some(false));
        entry.failures = entry.failures.saturating_add(1);
        let pause = pause(entry.failures, asked, chance);
        entry.rest_until = now + pause;
        pause
    }

    /// Somebody else is about to order it.
    pub(super) fn postponed(&mut self, file: &Path, until: SystemTime) {
        if let Some(entry) = self.entries.get_mut(file) {
            entry.rest_until = until;
        }
    }

    /// For operators.
    pub(super) fn rows(&self) -> Vec<Row> {
        let rows = self.entries.values().map(|entry| Row {
            name: entry.wanted.names.first().cloned().unwrap_or_default(),
            issued: entry.issued,
            failed: entry.failed,
            last: entry.last,
            next_s: entry
                .at()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        });
        rows.collect()
    }
}

impl Entry {
    fn new(wanted: Arc<Wanted>, kept: Option<Kept>, chance: impl FnMut() -> f64) -> Self {
        let mut entry = Self {
            wanted,
            kept,
            due: UNIX_EPOCH,
            is_renamed: false,
            unwritten: None,
            rest_until: UNIX_EPOCH,
            failures: 0,
            issued: 0,
            failed: 0,
            last: None,
        };
        entry.draw(chance);
        entry
    }

    fn follow(&mut self, wanted: Arc<Wanted>, kept: Option<Kept>, chance: impl FnMut() -> f64) {
        if self.wanted == wanted && self.kept == kept {
            return;
        }
        if self.wanted != wanted {
            if self.wanted.names != wanted.names {
                (self.is_renamed, self.unwritten) = (true, None);
            }
            self.end_rest();
        }
        if kept.is_some() && kept != self.kept {
            // Somebody else has issued one since.
            self.unwritten = None;
        }
        (self.wanted, self.kept) = (wanted, kept);
        self.draw(chance);
    }

    /// Says when it is due.
    fn draw(&mut self, mut chance: impl FnMut() -> f64) {
        let names = &self.wanted.names;
        let usable = self.kept.as_ref().filter(|kept| match self.is_renamed {
            true => kept.bears_only(names),
            false => kept.bears(names),
        });
        self.due = usable.map_or(UNIX_EPOCH, |kept| kept.renewed_at(chance()));
    }

    /// What has failed before may not fail now.
    fn end_rest(&mut self) {
        (self.failures, self.rest_until) = (0, UNIX_EPOCH);
    }

    fn at(&self) -> SystemTime {
        self.due.max(self.rest_until)
    }
}

/// How long to wait after so many failures in a row. `chance` is from 0 to 1.
fn pause(failures: u32, asked: Option<Duration>, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    let own = doubled.min(PAUSE_MAX);
    let least = asked.unwrap_or_default().min(ASKED_PAUSE_MAX);
    own.max(least).mul_f64(1.0 + PAUSE_SPREAD * chance)
}

#[cfg(test)]
mod tests {
    use super::super::Proof;
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn at(s: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(s)
    }

    fn wanted(names: &[&str]) -> Arc<Wanted> {
        Arc::new(Wanted {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            proof: Proof::Http,
            file: PathBuf::from(names[0]),
        })
    }

    fn kept(begins: u64, ends: u64, names: &[&str]) -> Option<Kept> {
        Some(Kept {
            begins_s: i64::try_from(begins).unwrap(),
            ends_s: i64::try_from(ends).unwrap(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    #[test]
    fn a_certificate_is_renewed_with_a_third_of_its_life_left_and_a_missing_one_at_once() {
        let mut schedule = Schedule::default();
        let a = wanted(&["a.example"]);
        schedule.follow(None, vec![(a.clone(), None)], || 0.0);
        assert_eq!(schedule.next(at(5)), Some((a.clone(), Duration::ZERO)));
        schedule.issued(&a.file, at(5));
        schedule.follow(
            None,
            vec![(a.clone(), kept(DAY, 91 * DAY, &["a.example"]))],
            || 0.0,
        );
        assert_eq!(
            schedule.next(at(DAY)),
            Some((a.clone(), Duration::from_secs(60 * DAY)))
        );
        assert_eq!(schedule.rows()[0].next_s, 61 * DAY);
        // Chance is drawn once for what is kept, and not at each look.
        schedule.follow(
            None,
            vec![(a.clone(), kept(DAY, 91 * DAY, &["a.example"]))],
            || 1.0,
        );
        assert_eq!(schedule.rows()[0].next_s, 61 * DAY);
        schedule.follow(None, vec![(a, kept(2 * DAY, 92 * DAY, &["a.example"]))], || 1.0);
        assert_eq!(schedule.rows()[0].next_s, 62 * DAY + 90 * DAY / 20);
    }

    #[test]
    fn other_names_are_ordered_at_once_and_what_is_not_wanted_is_forgotten() {
        let mut schedule = Schedule::default();
        let more = wanted(&["a.example", "b.example"]);
        schedule.follow(
            None,
            vec![(more.clone(), kept(0, 90 * DAY, &["a.example"]))],
            || 0.5,
        );
        assert_eq!(schedule.next(at(1)), Some((more, Duration::ZERO)));
        schedule.follow(None, vec![], || 0.5);
        assert_eq!(schedule.next(at(1)), None);
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_respect_what_the_authority_asks() {
        let minutes = |n| pause(n, None, 0.0).as_secs() / 60;
        let pauses: Vec<_> = (1..12).map(minutes).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360]);
        assert_eq!(pause(u32::MAX, None, 1.0), PAUSE_MAX.mul_f64(1.25));
        let asked = Duration::from_secs(3600);
        assert_eq!(pause(1, Some(asked), 0.0), asked);
        assert_eq!(pause(1, Some(Duration::MAX), 0.0), ASKED_PAUSE_MAX);
    }

    #[test]
    fn a_failure_makes_room_for_the_others_and_a_success_ends_the_row() {
        let mut schedule = Schedule::default();
        let (a, b) = (wanted(&["a.example"]), wanted(&["b.example"]));
        let both = || vec![(a.clone(), None), (b.clone(), None)];
        schedule.follow(None, both(), || 0.0);
        assert_eq!(schedule.failed(&a.file, at(1000), None, 0.0), FIRST_PAUSE);
        assert_eq!(schedule.next(at(1000)), Some((b.clone(), Duration::ZERO)));
        schedule.postponed(&b.file, at(5000));
        assert_eq!(schedule.next(at(1000)), Some((a.clone(), FIRST_PAUSE)));
        // The same look again changes nothing.
        schedule.follow(None, both(), || 0.0);
        assert_eq!(schedule.failed(&a.file, at(1060), None, 0.0), FIRST_PAUSE * 2);
        let row = &schedule.rows()[0];
        assert_eq!((row.failed, row.issued, row.last), (2, 0, Some(false)));
        schedule.issued(&a.file, at(1060));
        assert_eq!(schedule.rows()[0].last, Some(true));
        assert_eq!(schedule.failed(&a.file, at(9000), None, 0.0), FIRST_PAUSE);
    }

    #[test]
    fn what_was_issued_rests_even_where_it_is_due_at_once() {
        let mut schedule = Schedule::default();
        let a = wanted(&["a.example"]);
        schedule.follow(None, vec![(a.clone(), None)], || 0.0);
        schedule.issued(&a.file, at(1000));
        for kept in [None, kept(0, 900, &["a.example"]), kept(0, 901, &["b.example"])] {
            schedule.follow(None, vec![(a.clone(), kept)], || 0.0);
            assert_eq!(schedule.next(at(1000)), Some((a.clone(), ISSUED_PAUSE)));
        }
        // Who asks for something else does not wait.
        let more = wanted(&["a.example", "b.example"]);
        schedule.follow(None, vec![(more.clone(), None)], || 0.0);
        assert_eq!(schedule.next(at(1000)), Some((more, Duration::ZERO)));
    }

    #[test]
    fn a_name_that_is_wanted_no_more_is_ordered_away_once_and_one_that_the_authority_adds_is_not() {
        let mut schedule = Schedule::default();
        let (a, both) = (wanted(&["a.example"]), wanted(&["a.example", "b.example"]));
        let older = || kept(0, 90 * DAY, &["a.example", "b.example"]);
        schedule.follow(None, vec![(both, older())], || 0.0);
        assert_eq!(schedule.rows()[0].next_s, 60 * DAY);
        schedule.follow(None, vec![(a.clone(), older())], || 0.0);
        assert_eq!(schedule.next(at(1)), Some((a.clone(), Duration::ZERO)));
        // It has issued both all the same.
        schedule.issued(&a.file, at(1));
        let newer = kept(DAY, 91 * DAY, &["a.example", "b.example"]);
        schedule.follow(None, vec![(a, newer)], || 0.0);
        assert_eq!(schedule.rows()[0].next_s, 61 * DAY);
    }

    #[test]
    fn another_authority_ends_the_pause() {
        let authority = |contact: &str| {
            Arc::new(Authority {
                directory: "https://acme.example/dir".to_owned(),
                contacts: vec![contact.to_owned()],
                folder: PathBuf::new(),
                ca_file: None,
                external: None,
            })
        };
        let (mut schedule, a) = (Schedule::default(), wanted(&["a.example"]));
        let follow = |schedule: &mut Schedule, contact| {
            schedule.follow(Some(&authority(contact)), vec![(a.clone(), None)], || 0.0);
            schedule.next(at(1000)).unwrap().1
        };
        follow(&mut schedule, "mailto:nobody");
        schedule.failed(&a.file, at(1000), None, 0.0);
        assert_eq!(follow(&mut schedule, "mailto:nobody"), FIRST_PAUSE);
        assert_eq!(follow(&mut schedule, "mailto:ops@a.example"), Duration::ZERO);
        assert_eq!(schedule.failed(&a.file, at(1000), None, 0.0), FIRST_PAUSE);
    }

    #[test]
    fn what_could_not_be_written_is_kept_until_it_is_or_is_not_wanted() {
        let issued = || Issued(b"issued".as_slice().into());
        let (mut schedule, a) = (Schedule::default(), wanted(&["a.example"]));
        schedule.follow(None, vec![(a.clone(), None)], || 0.0);
        schedule.keep(&a.file, issued());
        schedule.follow(None, vec![(a.clone(), None)], || 0.0);
        assert_eq!(schedule.unwritten(&a.file), Some(issued()));
        schedule.issued(&a.file, at(1));
        assert_eq!(schedule.unwritten(&a.file), None);
        schedule.keep(&a.file, issued());
        schedule.follow(None, vec![(a.clone(), kept(0, DAY, &["a.example"]))], || 0.0);
        assert_eq!(schedule.unwritten(&a.file), None);
        schedule.keep(&a.file, issued());
        schedule.follow(None, vec![(wanted(&["a.example", "b.example"]), None)], || 0.0);
        assert_eq!(schedule.unwritten(&a.file), None);
    }
}
