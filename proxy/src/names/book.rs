//! What has been learnt of each name: its addresses, since when, and when to ask again. Time comes in; nothing goes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{ADDRESSES_MAX, Answers, DnsName, Found};

/// Shortest time between two questions for a name, whatever its answer allows.
const LIFE_MIN: Duration = Duration::from_secs(1);

/// Longest life of an answer: who changes a record with a life of a day does not want to wait for it.
const LIFE_MAX: Duration = Duration::from_secs(300);

/// After a failure a name is asked again after a second, then two, and so on, up to this.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A question that has no answer by then is asked again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a name server said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// Addresses and their weights, not empty.
    pub(super) addresses: Vec<(SocketAddr, u16)>,
    /// How long it holds.
    pub(super) life: Duration,
}

/// Everything that is known of names, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What names stand for.
    pub answers: Answers,
    /// By name.
    pub rows: Vec<NameRow>,
}

/// One name, as operators see it.
#[derive(Clone, Debug)]
pub struct NameRow {
    /// The name.
    pub name: DnsName,
    /// Its addresses, as of the last good answer.
    pub addresses: Vec<SocketAddr>,
    /// When that came; `None` before the first.
    pub answered: Option<Instant>,
    /// Lookups that brought an answer, since the name is wanted.
    pub ok: u64,
    /// Lookups that did not.
    pub failed: u64,
    /// Why the last one did not, until one does.
    pub error: Option<String>,
}

impl Known {
    pub(super) fn is_asked(&self, name: &DnsName) -> bool {
        self.rows
            .iter()
            .any(|row| row.name == *name && row.ok + row.failed > 0)
    }
}

/// The book.
#[derive(Debug, Default)]
pub(super) struct Book {
    pages: BTreeMap<DnsName, Page>,
}

#[derive(Debug)]
struct Page {
    found: Vec<Found>,
    answered: Option<Instant>,
    due: Instant,
    ok: u64,
    failed: u64,
    failed_in_a_row: u32,
    error: Option<String>,
}

impl Book {
    /// These names and no others. What is known of those that stay stays.
    pub(super) fn want(&mut self, names: &BTreeSet<DnsName>, now: Instant) {
        self.pages.retain(|name, _| names.contains(name));
        for name in names {
            self.pages.entry(name.clone()).or_insert_with(|| Page {
                found: Vec::new(),
                answered: None,
                due: now,
                ok: 0,
                failed: 0,
                failed_in_a_row: 0,
                error: None,
            });
        }
    }

    /// A name to ask for now. It counts as asked.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<DnsName> {
        let (name, page) = self.pages.iter_mut().find(|(_, page)| page.due <= now)?;
        page.due = now + PATIENCE;
        Some(name.clone())
    }

    /// When the next name is to be asked for.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.pages.values().map(|page| page.due).min()
    }

    /// What came of a lookup. It is asked again after `early` times its life.
    pub(super) fn record(
        &mut self,
        name: &DnsName,
        answer: Result<Answer, String>,
        now: Instant,
        early: f64,
    ) {
        // Nobody wants it any more.
        let Some(page) = self.pages.get_mut(name) else {
            return;
        };
        match answer {
            Ok(answer) => {
                page.found = numbered(&page.found, &answer.addresses);
                page.answered = Some(now);
                page.ok += 1;
                page.failed_in_a_row = 0;
                page.error = None;
                page.due = now + answer.life.clamp(LIFE_MIN, LIFE_MAX).mul_f64(early).max(LIFE_MIN);
            }
            Err(error) => {
                page.failed += 1;
                let wait = Duration::from_secs(1 << page.failed_in_a_row.min(5)).min(RETRY_MAX);
                page.failed_in_a_row += 1;
                page.error = Some(error);
                page.due = now + wait;
            }
        }
    }

    /// Everything.
    pub(super) fn known(&self) -> Known {
        let rows = self.pages.iter().map(|(name, page)| NameRow {
            name: name.clone(),
            addresses: page.found.iter().map(|found| found.address).collect(),
            answered: page.answered,
            ok: page.ok,
            failed: page.failed,
            error: page.error.clone(),
        });
        let answers = self.pages.iter().filter(|(_, page)| !page.found.is_empty());
        Known {
            rows: rows.collect(),
            answers: Answers(
                answers
                    .map(|(name, page)| (name.clone(), page.found.clone()))
                    .collect(),
            ),
        }
    }
}

/// The addresses with their numbers: who had one keeps it, who is new gets the lowest that is free. Weights are relative to
/// their mean, so that a name with weights weighs what one without does; a weight of 0 is a very small one (RFC 2782).
fn numbered(before: &[Found], addresses: &[(SocketAddr, u16)]) -> Vec<Found> {
    let distinct: BTreeMap<SocketAddr, f64> = addresses
        .iter()
        .map(|(address, weight)| (*address, f64::from(*weight).max(0.01)))
        .collect();
    let mean = distinct.values().sum::<f64>() / distinct.len().max(1) as f64;
    let number_of = |address| before.iter().find(|f| f.address == address).map(|f| f.number);
    let kept: BTreeSet<u32> = distinct
        .keys()
        .filter_map(|address| number_of(*address))
        .collect();
    let mut free = (1u32..).filter(|number| !kept.contains(number));
    let mut found: Vec<Found> = distinct
        .iter()
        .filter_map(|(address, weight)| {
            Some(Found {
                number: number_of(*address).or_else(|| free.next())?,
                address: *address,
                weight: weight / mean,
            })
        })
        .collect();
    found.sort_by_key(|f| f.number);
    // Those that were there stay; so a name that has too many does not change its mind with every answer.
    found.retain(|f| f.number as usize <= ADDRESSES_MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> DnsName {
        DnsName::Host("shop.example".to_owned(), 80)
    }

    fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 80).into()
    }

    fn answer(last: &[u8], seconds: u64) -> Answer {
        Answer {
            addresses: last.iter().map(|last| (address(*last), 1)).collect(),
            life: Duration::from_secs(seconds),
        }
    }

    fn book(now: Instant) -> Book {
        let mut book = Book::default();
        book.want(&BTreeSet::from([name()]), now);
        assert_eq!(book.next_due(now), Some(name()));
        assert_eq!(book.next_due(now), None, "asked once");
        book
    }

    fn numbers(book: &Book) -> Vec<(u32, SocketAddr)> {
        let known = book.known();
        let found = known.answers.0.get(&name()).into_iter().flatten();
        found.map(|f| (f.number, f.address)).collect()
    }

    #[test]
    fn an_address_keeps_its_number_and_a_new_one_takes_the_lowest_free() {
        let now = Instant::now();
        let mut book = book(now);
        book.record(&name(), Ok(answer(&[7, 3, 5], 60)), now, 1.0);
        assert_eq!(
            numbers(&book),
            [(1, address(3)), (2, address(5)), (3, address(7))]
        );
        book.record(&name(), Ok(answer(&[7, 1, 5], 60)), now, 1.0);
        assert_eq!(
            numbers(&book),
            [(1, address(1)), (2, address(5)), (3, address(7))]
        );
        book.record(&name(), Ok(answer(&[7], 60)), now, 1.0);
        assert_eq!(numbers(&book), [(3, address(7))]);
    }

    #[test]
    fn a_failure_keeps_the_last_good_answer_and_is_asked_again_ever_more_seldom() {
        let now = Instant::now();
        let mut book = book(now);
        book.record(&name(), Ok(answer(&[1], 60)), now, 1.0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            book.record(&name(), Err("no such host".to_owned()), now, 1.0);
            waits.push((book.due_at().unwrap() - now).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(numbers(&book), [(1, address(1))]);
        let row = &book.known().rows[0];
        assert_eq!(
            (row.ok, row.failed, row.error.as_deref()),
            (1, 8, Some("no such host"))
        );
        assert_eq!(row.answered, Some(now), "its age is known");
        book.record(&name(), Ok(answer(&[2], 60)), now, 1.0);
        assert_eq!(
            (book.known().rows[0].error.clone(), numbers(&book)),
            (None, vec![(1, address(2))])
        );
    }

    #[test]
    fn an_answer_is_asked_for_again_when_it_expires_within_bounds_and_a_little_early() {
        let now = Instant::now();
        for (seconds, early, wait_ms) in [
            (60, 0.95, 57_000),
            (0, 1.0, 1_000),
            (86_400, 1.0, 300_000),
            (1, 0.9, 1_000),
        ] {
            let mut book = book(now);
            book.record(&name(), Ok(answer(&[1], seconds)), now, early);
            assert_eq!((book.due_at().unwrap() - now).as_millis(), wait_ms, "{seconds} s");
        }
    }

    #[test]
    fn who_is_not_wanted_any_more_is_forgotten_and_late_answers_are_dropped() {
        let now = Instant::now();
        let mut book = book(now);
        book.want(&BTreeSet::new(), now);
        book.record(&name(), Ok(answer(&[1], 60)), now, 1.0);
        assert!(book.known().rows.is_empty() && book.due_at().is_none());
    }

    #[test]
    fn weights_are_relative_to_their_mean() {
        let found = numbered(&[], &[(address(1), 30), (address(2), 10), (address(3), 0)]);
        let sum: f64 = found.iter().map(|f| f.weight).sum();
        assert!((sum - 3.0).abs() < 1e-9);
        assert!((found[0].weight / found[1].weight - 3.0).abs() < 1e-9);
        assert!(found[2].weight > 0.0 && found[2].weight < 0.01);
    }

    proptest! {
        #[test]
        fn numbers_are_distinct_bounded_and_kept(
            answers in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 1..20),
        ) {
            let mut before: Vec<Found> = Vec::new();
            for answer in answers {
                let addresses: Vec<_> = answer.iter().map(|last| (address(*last), 1)).collect();
                let now = numbered(&before, &addresses);
                let distinct: BTreeSet<u32> = now.iter().map(|f| f.number).collect();
                prop_assert_eq!(distinct.len(), now.len());
                prop_assert!(now.iter().all(|f| f.number >= 1 && f.number as usize <= ADDRESSES_MAX));
                for found in &before {
                    let again = now.iter().find(|f| f.address == found.address);
                    prop_assert_eq!(again.map(|f| f.number), answer.contains(&ipv4_last(found.address)).then_some(found.number));
                }
                before = now;
            }
        }
    }

    fn ipv4_last(address: SocketAddr) -> u8 {
        let std::net::IpAddr::V4(ip) = address.ip() else {
            panic!("v4")
        };
        ip.octets()[3]
    }
}
