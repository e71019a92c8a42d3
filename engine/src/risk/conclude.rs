//! The third step of a tick: from detectors to terms, from terms to risk, from risk to what is learned and said.

use foreshade_contract::Risk;

use crate::assessment::{Assessment, BadShare, ClassRisk, Group, Standing, TickEvidence};
use crate::cusum::{Batch, threshold};
use crate::observation::Observation;
use crate::outcome::RouteClass;
use crate::spectrum::LN_BUCKET;

use super::combine::{Finding, Findings};
use super::endpoint::{Commons, Endpoint, Peers, Tick, whole};
use super::hard::Cause;
use super::memory::{News, PRIOR};
use super::{gray, performance};

/// Risk from which on nothing is learned: what is seen then may be the fault.
const RELEASE: f64 = 0.15;

/// Nats of a detector (with that of the whole, the logarithm of a slowdown, too) and seconds for which they keep a tick
/// from being learned.
const SUSPECT: f64 = 6.0;
const SUSPECT_LN: f64 = 0.1;
const SUSPECT_S: f64 = 60.0;

/// Good samples that a passed probe stands for: it is one request, of one kind, and none of a user's.
const PROBE_WEIGHT: f64 = 0.1;

/// Samples at which confidence is one half.
const CONFIDENCE: f64 = 30.0;

/// Standard deviations of a two-sided 95 % interval.
const Z95_TWO_SIDED: f64 = 1.96;

/// Seconds over which the usual share of broken connections fades.
const BREAKS_S: f64 = 600.0;

impl Endpoint {
    /// Step three: what is believed after this tick.
    pub fn conclude(
        &mut self,
        tick: &Tick,
        seen: &Observation,
        (peers, commons): (&Peers, &Commons),
        findings: &mut Findings,
    ) -> Assessment {
        let gone = if self.tick.refuses {
            Some(Cause::Refused)
        } else {
            (self.tick.hangs && !commons.stall).then_some(Cause::Stall)
        };
        let ended = self.tick.all();
        self.vitality.handle(seen.probes, ended, gone);
        findings.clear();
        let eta_seconds = self.collect(tick, peers, findings);
        let (terms, raw) = findings.combine();
        let good = ended.total - ended.bad + PROBE_WEIGHT * f64::from(seen.probes.passed);
        let any = ended.total > 0.0 || seen.probes.passed + seen.probes.failed > 0 || gone.is_some();
        self.memory
            .handle(tick.now, tick.seconds, News { raw, good, any });
        if self.memory.is_stale(tick.now) {
            self.forget();
        }
        let classes = self.conclude_classes(tick, commons, findings);
        let elevated = self.is_elevated();
        let slowdown = performance::slowdown(&self.slow, &self.now, &self.classes, peers.slow);
        let bad_baseline = self.own_bad_share();
        let well = self.memory.risk() <= RELEASE && self.vitality.dead().is_none();
        if well && !commons.slower && !commons.failing && !self.is_suspect(tick, slowdown) {
            self.learn(tick, seen);
        }
        let attempts = self.window.attempts();
        let (lower, upper) = attempts.bounds(Z95_TWO_SIDED);
        Assessment {
            risk: Risk::clamped(self.memory.risk()),
            raw: Risk::clamped(raw),
            terms,
            standing: self.standing(tick),
            confidence: attempts.total / (attempts.total + CONFIDENCE),
            bad: BadShare {
                lower,
                upper,
                samples: attempts.total,
            },
            bad_baseline,
            slowdown: slowdown.map_or(1.0, f64::exp),
            p50_us: self.window.quantile_us(0.50),
            p99_us: self.window.quantile_us(0.99),
            p999_baseline: self.typical.and_then(|typical| typical.p999),
            rps: self.window.rps(),
            in_flight: seen.in_flight,
            classes,
            tick: self.tick.evidence,
            elevated,
            utilization: self.resource.utilization(tick.now),
            eta_seconds,
        }
    }

    /// What is still said when a tick cannot be judged: what was believed before it.
    pub fn held(&self, tick: &Tick, seen: &Observation) -> Assessment {
        Assessment {
            risk: Risk::clamped(self.memory.risk()),
            raw: Risk::ZERO,
            standing: self.standing(tick),
            bad_baseline: self.own_bad_share(),
            p999_baseline: self.typical.and_then(|typical| typical.p999),
            in_flight: seen.in_flight,
            utilization: self.resource.utilization(tick.now),
            ..Assessment::unknown()
        }
    }

    /// Gathers what every component found; returns the seconds until trouble, if it is coming.
    fn collect(&mut self, tick: &Tick, peers: &Peers, findings: &mut Findings) -> Option<f64> {
        let threshold = threshold(self.window.rps());
        if let Some(cause) = self.vitality.dead() {
            findings.add(Group::Hard, cause.label(), certain());
        }
        let errors = self.failures.finding(self.tick.healthy, threshold);
        findings.add(Group::Hard, "errors", errors);
        findings.add(
            Group::Hard,
            "connections",
            self.breaks.finding(self.usual_break_share(), threshold),
        );
        // Ages and queues are not told apart by class: where one class is sick alone, it is what waits.
        let together = !self.classes.iter().flatten().any(|class| class.alone);
        if together {
            findings.add(Group::Hard, "stuck", self.tick.stuck);
            findings.add(Group::Performance, "queue", self.queue.finding(peers.queue));
        }

        let own = performance::own_latency(&self.slow, Some(&self.now), &self.classes, peers.slow, threshold);
        findings.add(Group::Performance, "own_latency", own);
        findings.add(Group::Performance, "tail", self.slow.far_finding(threshold));
        if let Some(usual) = peers.usual.filter(|_| !self.is_learned()) {
            findings.add(
                Group::Performance,
                "peers",
                performance::peers(&self.now.us, usual),
            );
        }
        let passing = self.is_passing(tick.now);
        let disagreement = gray::disagreement(passing, &errors, self.window.attempts());
        findings.add(Group::Gray, "disagreement", disagreement);

        findings.add(Group::Network, "loss", self.network.loss());
        findings.add(Group::Network, "round_trip", self.network.round_trip());
        findings.add(Group::Network, "jitter", self.network.jitter());
        findings.add(Group::Resource, "utilization", self.resource.load(tick.now));
        findings.add(Group::Resource, "memory", self.resource.memory(tick.now));
        findings.add(Group::Resource, "own_errors", self.resource.errors(tick.now));
        findings.add(Group::Resource, "shedding", self.resource.shedding());
        let (trend, eta_seconds) = self.trend.finding(peers.slope);
        findings.add(Group::Trend, "latency_trend", trend);
        for finding in self.advisories.findings(tick.now) {
            findings.add(Group::External, "advisory", finding);
        }
        eta_seconds
    }

    /// The risks of classes that are sick by themselves.
    fn conclude_classes(
        &mut self,
        tick: &Tick,
        commons: &Commons,
        findings: &mut Findings,
    ) -> Vec<ClassRisk> {
        let threshold = threshold(self.window.rps());
        let mut risks = Vec::new();
        for index in 0..self.classes.len() {
            let Some(class) = self.classes.get(index).and_then(Option::as_deref) else {
                continue;
            };
            findings.clear();
            let is_common = commons.classes.get(index).is_some_and(|common| *common);
            if class.alone && !is_common {
                let healthy = class.baseline.bad_share();
                findings.add(Group::Hard, "errors", class.failures.finding(healthy, threshold));
                let own = performance::own_latency(&class.slow, None, &self.classes, 0.0, threshold);
                findings.add(Group::Performance, "own_latency", own);
                findings.add(Group::Performance, "tail", class.slow.far_finding(threshold));
            }
            let (_, raw) = findings.combine();
            let Some(class) = self.classes.get_mut(index).and_then(Option::as_deref_mut) else {
                continue;
            };
            let news = News {
                raw,
                good: class.attempts.total - class.attempts.bad,
                any: class.attempts.total > 0.0,
            };
            class.memory.handle(tick.now, tick.seconds, news);
            if class.alone && class.memory.risk() > PRIOR {
                let (risk, attempts) = (Risk::clamped(class.memory.risk()), class.attempts);
                risks.push(ClassRisk {
                    class: RouteClass::of_hash(index as u64),
                    risk,
                    tick: self.class_evidence(index, attempts),
                });
            }
        }
        risks
    }

    /// What this tick showed of a class.
    fn class_evidence(&self, class: usize, attempts: Batch) -> TickEvidence {
        let mut evidence = TickEvidence {
            total: whole(attempts.total),
            bad: whole(attempts.bad),
            ..TickEvidence::default()
        };
        let state = self.classes.get(class).and_then(Option::as_deref);
        let reference = state.and_then(|class| class.baseline.reference());
        for sample in self.tick.samples.iter().filter(|sample| sample.class == class) {
            let (count, ln_us) = (f64::from(sample.count), sample.position * LN_BUCKET);
            evidence.served = evidence.served.saturating_add(whole(count));
            evidence.sum_ln_us += ln_us * count;
            evidence.sum_sq_ln_us += ln_us * ln_us * count;
            let ln = reference.map_or(0.0, |reference| ln_us - reference.ln_us - self.tick.excuse);
            evidence.sum_ln_ratio += ln * count;
            evidence.sum_sq_ln_ratio += ln * ln * count;
        }
        evidence
    }

    /// Whether the onset of a fault may be under way. A minute at most: what lasts without becoming a risk is the way it is.
    fn is_suspect(&mut self, tick: &Tick, slowdown: Option<f64>) -> bool {
        let slower = self.slow.score() >= SUSPECT && slowdown.is_some_and(|ln| ln > SUSPECT_LN);
        let suspect = slower
            || self.clearly_slower().is_some()
            || self.slow.far_score() >= SUSPECT
            || self.failures.score() >= SUSPECT;
        self.suspect_s = if suspect {
            self.suspect_s + tick.seconds
        } else {
            0.0
        };
        suspect && self.suspect_s <= SUSPECT_S
    }

    fn standing(&self, tick: &Tick) -> Standing {
        if self.vitality.dead().is_some() {
            Standing::Dead
        } else if self.memory.is_unknown(tick.now) {
            Standing::Unknown
        } else {
            Standing::Known
        }
    }

    fn is_elevated(&self) -> bool {
        self.tick.hangs
            || self.tick.refuses
            || self.clearly_slower().is_some()
            || self.clearly_failing().is_some()
    }

    /// Takes a tick into the notion of what is usual.
    fn learn(&mut self, tick: &Tick, seen: &Observation) {
        for sample in self.tick.samples.iter().filter(|_| !tick.void) {
            if let Some(class) = self.classes.get_mut(sample.class).and_then(Option::as_deref_mut)
                && class.is_well()
            {
                class.baseline.learn_latency(sample.position, sample.count);
            }
        }
        for class in self.classes.iter_mut().flatten() {
            if class.attempts.total > 0.0 && class.is_well() {
                class.failures.learn(class.attempts, class.baseline.bad_share());
                class.slow.learn(&class.tick);
                class.baseline.learn(class.attempts, tick.seconds);
            }
        }
        if self.tick.breaks.total > 0.0 {
            self.failures.learn(self.tick.attempts, self.tick.healthy);
            self.slow.learn(&self.tick.slow);
            self.usual_breaks.decay((-tick.seconds / BREAKS_S).exp());
            self.usual_breaks.add(self.tick.breaks);
            let together = self.classes.iter().flatten().all(|class| !class.alone);
            if !tick.void && together {
                self.load.learn(&seen.loads, tick.seconds);
            }
        }
        self.network.learn(&seen.network, tick.seconds);
    }

    /// After ten minutes of silence: old evidence is no evidence.
    fn forget(&mut self) {
        self.failures.reset();
        self.breaks.reset();
        self.slow.reset();
        for class in self.classes.iter_mut().flatten() {
            class.reset();
            class.alone = false;
        }
    }
}

/// A finding that leaves no doubt.
fn certain() -> Finding {
    Finding {
        effect: 1.0,
        evidence: 1.0,
        observed: 1.0,
        baseline: 0.0,
        samples: 1.0,
    }
}
