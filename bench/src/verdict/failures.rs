//! Claims about requests that failed, and about writes.

use super::Verdict;
use crate::load::record::Record;
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
    use super::super::tests::holds;
    use crate::claim::{Claim, judge};
    use crate::farm::ledger::{LedgerReport, Missing};
    use crate::load::record::{Outcome, Records};
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
