//! What one run left behind: records, samples and a ledger, on one clock. Claims and figures are read from it.
//!
//! Pure data, so that a judgement needs no clock, and a test plants the run that it needs.

use crate::farm::fault::Fault;
use crate::farm::ledger::{LedgerReport, Missing};
use crate::load::Lag;
use crate::load::record::{Records, Span};
use crate::stage::timeline::Timeline;
use crate::stage::topology::Pair;

/// Everything a run left behind.
#[derive(Debug, Default)]
pub struct Run {
    /// What users saw.
    pub records: Records,
    /// What was seen of endpoints and proxy.
    pub timeline: Timeline,
    /// What took effect.
    pub ledger: LedgerReport,
    /// What did not, of the writes that users were told are done; `None` where nobody asked.
    pub missing: Option<Missing>,
    /// How well the load kept its schedule.
    pub lag: Lag,
    /// All primaries.
    pub pairs: Vec<Pair>,
    /// Index in `pairs` of the endpoint that the claims are about.
    pub faulty: usize,
    /// What is wrong with that endpoint itself, since the start of `fault`; `None` where others are faulty too, or
    /// nobody is.
    pub alone: Option<Vec<Fault>>,
    /// The end of the warm-up: what everything is compared with.
    pub healthy: Span,
    /// From just before the fault was set until it was healed.
    pub fault: Span,
    /// End of the load.
    pub end_us: u64,
}

impl Run {
    /// From the end of the warm-up to the end of the load: what claims without a span of their own cover.
    pub fn whole(&self) -> Span {
        Span {
            from_us: self.healthy.from_us,
            to_us: self.end_us,
        }
    }

    /// The endpoint that the claims are about, and its shadow.
    pub fn faulty_pair(&self) -> (&str, Option<&str>) {
        self.pairs
            .get(self.faulty)
            .map_or(("", None), |pair| (&pair.primary, pair.shadow.as_deref()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::farm::EndpointCounts;
    use crate::load::record::tests::get;
    use crate::stage::admin::EndpointView;
    use crate::stage::timeline::Sample;

    pub(crate) const HEALTHY: Span = Span {
        from_us: 3_000_000,
        to_us: 10_000_000,
    };
    pub(crate) const FAULT: Span = Span {
        from_us: 10_000_000,
        to_us: 22_000_000,
    };
    pub(crate) const END_US: u64 = 40_000_000;

    /// A run in which users see `latency_ms(at_ms)`, a GET each millisecond, and in which the primary `b` and its
    /// shadow `s` serve `rates(at_ms)` requests per second while `a` serves 100.
    pub(crate) fn played(latency_ms: impl Fn(u64) -> u32, rates: impl Fn(u64) -> (u64, u64)) -> Run {
        let records: Vec<_> = (0..END_US / 1_000)
            .map(|ms| get(ms, latency_ms(ms), 200))
            .collect();
        let mut done = [0, 0, 0];
        let samples = (0..=END_US / 100_000).map(|tick| {
            let counted = |requests: u64| EndpointCounts {
                by_path: [requests, 0, 0, 0, 0, 0],
                ..Default::default()
            };
            let counts = ["a", "b", "s"]
                .iter()
                .zip(done)
                .map(|(name, done)| ((*name).to_owned(), counted(done)));
            let (primary, shadow) = rates(tick * 100);
            let share = shadow as f64 / (primary + shadow).max(1) as f64;
            let view = EndpointView {
                name: "b".into(),
                role: "primary".into(),
                share,
                ..Default::default()
            };
            let sample = Sample {
                at_us: tick * 100_000,
                counts: counts.collect(),
                views: Some(vec![view]),
            };
            done = [done[0] + 10, done[1] + primary / 10, done[2] + shadow / 10];
            sample
        });
        let pairs = vec![
            Pair {
                primary: "a".into(),
                shadow: None,
            },
            Pair {
                primary: "b".into(),
                shadow: Some("s".into()),
            },
        ];
        Run {
            timeline: Timeline(samples.collect()),
            records: Records::from(records),
            pairs,
            faulty: 1,
            healthy: HEALTHY,
            fault: FAULT,
            end_us: END_US,
            ..Run::default()
        }
    }

    pub(crate) fn steady(_: u64) -> (u64, u64) {
        (100, 0)
    }
}
