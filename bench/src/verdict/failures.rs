//! Claims about requests that failed, and about writes.

use std::time::Duration;

use super::Verdict;
use crate::load::record::{Record, Span, micros};
use crate::run::Run;

impl Run {
    /// At most `allowed` of the selected requests failed.
    pub(crate) fn fails(&self, select: impl Fn(&Record) -> bool, allowed: u64) -> Verdict {
        let asked: Vec<_> = self
            .records
            .within(self.whole())
            .iter()
            .filter(|record| select(record))
            .collect();
        let failed: Vec<_> = asked.iter().filter(|record| record.outcome.failed()).collect();
        let mut measured = format!("{} of {}", failed.len(), asked.len());
        if let Some(first) = failed.first() {
            let at_s = (first.intended_us as f64 - self.fault.from_us as f64) / 1e6;
            let method = if first.post { "POST" } else { "GET" };
            measured += &format!(" (first: {method}, {}, {at_s:+.2} s)", first.outcome);
        }
        Verdict::new(!asked.is_empty() && failed.len() as u64 <= allowed, measured)
    }

    /// At least `share` of what is begun during the fault, from `after` its onset, is answered.
    pub(crate) fn answered(&self, share: f64, after: Duration) -> Verdict {
        let span = Span {
            from_us: self.fault.from_us + micros(after),
            ..self.fault
        };
        let asked = self.records.within(span);
        if asked.is_empty() {
            return Verdict::new(false, "nobody asked");
        }
        let answered = asked.iter().filter(|record| !record.outcome.failed()).count();
        let part = answered as f64 / asked.len() as f64;
        let measured = format!("{:.1} %, {answered} of {}", part * 100.0, asked.len());
        Verdict::new(part >= share, measured)
    }

    pub(crate) fn only_lost_posts_fail(&self) -> Verdict {
        let lost: u64 = self
            .timeline
            .0
            .last()
            .map_or(0, |last| last.counts.values().map(|c| c.posts_lost).sum());
        let gets = self.fails(|record| !record.post, 0);
        let posts = self.fails(|record| record.post, lost);
        let measured = format!("GET {}, POST {}, {lost} lost", gets.measured, posts.measured);
        Verdict::new(gets.holds && posts.holds, measured)
    }

    pub(crate) fn no_post_twice(&self) -> Verdict {
        let answered = self
            .records
            .all()
            .iter()
            .filter(|record| record.post && !record.outcome.failed())
            .count();
        let ledger = &self.ledger;
        let missing = self.missing.clone().unwrap_or_default();
        // What the ledger can no longer tell is nobody's broken promise; it is said below.
        let untold = ledger.forgotten + missing.forgotten;
        let holds = ledger.repeats == 0 && missing.missing.is_empty() && ledger.writes >= answered as u64;
        let mut measured = format!("{} of {} twice", ledger.repeats, ledger.writes);
        if let Some(repeat) = ledger.kept.first() {
            measured += &format!(" (first: number {})", repeat.number);
        }
        if let Some(lost) = missing.missing.first() {
            measured += &format!(
                ", {} lost although acknowledged (first: number {lost})",
                missing.missing.len()
            );
        } else if ledger.writes < answered as u64 {
            measured += &format!(", {} answered without effect", answered as u64 - ledger.writes);
        }
        if untold > 0 {
            measured += &format!(", {untold} too long ago to tell");
        }
        Verdict::new(holds, measured)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::holds;
    use crate::claim::{Claim, judge};
    use crate::farm::ledger::{LedgerReport, Missing};
    use crate::load::record::{Outcome, Record, Records};
    use crate::run::tests::{played, steady};

    #[test]
    fn failures_count_by_method() {
        let mut run = played(|_| 10, steady);
        let mut records = run.records.all().to_vec();
        records[12_000].outcome = Outcome::CUT;
        records[12_000].post = true;
        run.records = Records::from(records);
        assert!(holds(&Claim::NoGetFails, &run));
        assert!(!holds(&Claim::NothingFails, &run));
        assert!(!holds(&Claim::OnlyLostPostsFail, &run), "the endpoint lost none");
        let last = run.timeline.0.last_mut().unwrap();
        last.counts.get_mut("b").unwrap().posts_lost = 1;
        assert!(holds(&Claim::OnlyLostPostsFail, &run));
    }

    #[test]
    fn what_cannot_all_be_answered_is_counted_while_it_lasts() {
        let answered = |share, after| Claim::Answered {
            share,
            after: Duration::from_secs(after),
        };
        let mut run = played(|_| 10, steady);
        let mut records = run.records.all().to_vec();
        let fault = run.fault;
        let during = |record: &Record| (fault.from_us..fault.to_us).contains(&record.intended_us);
        let late = |record: &Record| record.intended_us >= fault.from_us + 2_000_000;
        let mut turn = 0;
        for record in records.iter_mut().filter(|record| during(record)) {
            turn += 1;
            if !late(record) || turn % 4 == 0 {
                record.outcome = Outcome::CUT;
            }
        }
        run.records = Records::from(records);
        assert!(holds(&answered(0.74, 2), &run));
        assert!(!holds(&answered(0.76, 2), &run));
        assert!(
            !holds(&answered(0.74, 0), &run),
            "all of the first two seconds failed"
        );
        assert!(!holds(&answered(0.0, 3_600), &run), "nothing is not all");
    }

    #[test]
    fn a_post_without_effect_is_as_bad_as_one_with_two() {
        let mut run = played(|_| 10, steady);
        assert!(holds(&Claim::NoPostTwice, &run));
        run.ledger = LedgerReport {
            writes: 2,
            repeats: 1,
            ..Default::default()
        };
        assert!(!holds(&Claim::NoPostTwice, &run));
        run.ledger = LedgerReport::default();
        let mut records = run.records.all().to_vec();
        records[0].post = true;
        run.records = Records::from(records);
        assert!(!holds(&Claim::NoPostTwice, &run));
        // As many writes as acknowledged, and yet not the same ones.
        run.ledger.writes = 1;
        assert!(holds(&Claim::NoPostTwice, &run));
        // The ring of a long run has come round: that is not the proxy's doing.
        run.ledger.forgotten = 2;
        run.missing = Some(Missing {
            missing: Vec::new(),
            forgotten: 3,
        });
        let verdict = judge(&Claim::NoPostTwice, &run);
        assert!(verdict.holds, "{}", verdict.measured);
        assert_eq!(verdict.measured, "0 of 1 twice, 5 too long ago to tell");
        run.missing = Some(Missing {
            missing: vec![0],
            forgotten: 3,
        });
        let verdict = judge(&Claim::NoPostTwice, &run);
        assert!(!verdict.holds);
        assert!(
            verdict
                .measured
                .contains("1 lost although acknowledged (first: number 0)"),
            "{}",
            verdict.measured
        );
    }
}
