//! Is the endpoint full, by its own word? ORCA load reports, and answers that say "I am full".
//!
//! A report is believed as long as three times its usual spacing (one to thirty seconds): stale input that acts for
//! ever is how an endpoint that stopped reporting at 95 % is avoided until somebody restarts the proxy.

use crate::cusum::{Batch, ramp};
use crate::moment::Moment;
use crate::observation::ResourceReport;

use super::combine::Finding;

/// Spacing of reports after which one is stale, as a multiple of the usual one.
const STALE_SPACINGS: f64 = 3.0;

/// Shortest and longest time that a report is believed, seconds.
const STALE_S: (f64, f64) = (1.0, 30.0);

/// Time constant of the share of refused work, seconds.
const NOW_S: f64 = 2.0;

/// What an endpoint says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceWatch {
    report: ResourceReport,
    heard: Option<Moment>,
    spacing_s: Option<f64>,
    shed: Batch,
}

impl ResourceWatch {
    /// Takes a tick: the newest report if one came, and how many of the attempts were answered with "I am full".
    pub fn handle(&mut self, now: Moment, seconds: f64, report: Option<ResourceReport>, shed: Batch) {
        self.shed.decay((-seconds / NOW_S).exp());
        self.shed.add(shed);
        let Some(report) = report else { return };
        if let Some(heard) = self.heard {
            let spacing = now.seconds_since(heard);
            self.spacing_s = Some(
                self.spacing_s
                    .map_or(spacing, |usual| usual + 0.2 * (spacing - usual)),
            );
        }
        self.heard = Some(now);
        self.report = report;
    }

    /// Utilisation, 1 = full, if fresh.
    pub fn utilization(&self, now: Moment) -> Option<f64> {
        self.fresh(now)
            .and_then(|report| report.utilization)
            .filter(|u| u.is_finite())
    }

    /// CPU or application utilisation: queues grow from 80 % on.
    pub fn load(&self, now: Moment) -> Finding {
        said(self.utilization(now), (0.80, 1.0))
    }

    /// Memory: a cache may fill 85 %, and 98 % is the killer's.
    pub fn memory(&self, now: Moment) -> Finding {
        said(self.fresh(now).and_then(|report| report.memory), (0.85, 0.98))
    }

    /// Errors per request that the endpoint itself counts.
    pub fn errors(&self, now: Moment) -> Finding {
        let share = self.fresh(now).and_then(|report| match (report.eps, report.rps) {
            (Some(eps), Some(rps)) if rps > 0.0 => Some(eps / rps),
            _ => None,
        });
        said(share, (0.02, 0.10))
    }

    /// Share of attempts that it answered with "I am full": never a failure, always a sign.
    pub fn shedding(&self) -> Finding {
        let (lower, _) = self.shed.bounds(1.645);
        Finding {
            effect: ramp(lower, 0.01, 0.20),
            evidence: 1.0,
            observed: self.shed.share(),
            baseline: 0.01,
            samples: self.shed.total,
        }
    }

    fn fresh(&self, now: Moment) -> Option<&ResourceReport> {
        let usual = self.spacing_s.unwrap_or(STALE_S.1);
        let believed = (STALE_SPACINGS * usual).clamp(STALE_S.0, STALE_S.1);
        self.heard
            .filter(|&heard| now.seconds_since(heard) <= believed)
            .map(|_| &self.report)
    }
}

fn said(value: Option<f64>, (begins, full): (f64, f64)) -> Finding {
    value.map_or_else(Finding::default, |value| Finding {
        effect: ramp(value, begins, full),
        evidence: 1.0,
        observed: value,
        baseline: begins,
        samples: 1.0,
    })
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "nothing and everything are exact")]
mod tests {
    use super::*;

    fn report(utilization: f64) -> Option<ResourceReport> {
        Some(ResourceReport {
            utilization: Some(utilization),
            memory: Some(0.5),
            rps: Some(100.0),
            eps: Some(20.0),
        })
    }

    fn second(n: u64) -> Moment {
        Moment::from_micros(n * 1_000_000)
    }

    // Concept: endpoint-metrics
    #[test]
    fn a_report_counts_and_goes_stale() {
        let mut watch = ResourceWatch::default();
        for n in 0..5 {
            watch.handle(second(n), 1.0, report(0.9), Batch::default());
        }
        assert!((watch.load(second(5)).effect - 0.5).abs() < 1e-9);
        assert_eq!(watch.memory(second(5)).effect, 0.0);
        assert_eq!(watch.errors(second(5)).effect, 1.0);
        assert_eq!(watch.utilization(second(8)), None);
        assert_eq!(watch.load(second(8)).effect, 0.0);
    }

    #[test]
    fn shedding_is_a_sign_of_its_own() {
        let mut watch = ResourceWatch::default();
        watch.handle(second(1), 0.1, None, Batch::of(10, 30));
        assert!(watch.shedding().effect > 0.5);
        for n in 2..12 {
            watch.handle(second(n), 1.0, None, Batch::of(0, 300));
        }
        assert_eq!(watch.shedding().effect, 0.0);
    }
}
