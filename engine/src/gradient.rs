//! How many requests may be under way, found out by what they take: a limit that follows the service behind it.
//!
//! A service serves so many requests at a time; what is beyond waits inside it, where nobody can put it in order, give it
//! up or send it elsewhere. That shows in its latency: what a request takes against what it takes when nothing waits is
//! the part of the limit that is too much. So once per window the limit becomes `limit * gradient + sqrt(limit)`, where
//! the gradient is the latency without a queue, and a tolerance, over the latency of the window: it comes to rest a
//! little above the knee, with a queue of about its square root, which keeps the service busy and lets it be seen that
//! there is more. Sources: Envoy, `gradient_controller.cc`; Netflix, `Gradient2Limit.java`.
//!
//! What a request takes when nothing waits is the difficulty. A long-term mean (Netflix) takes a lasting queue for
//! normal, and the limit creeps up. Envoy measures anew each minute with a limit of three, which refuses users to ask a
//! question. Here it is measured with *two fifths* of what is under way: below the knee where the limit is right, and
//! nearer to it each time where it is not. Where these are no faster, nothing waits, and it is not asked again while no
//! more are under way. It is measured at once where the limit has fallen by half and requests are no faster, or requests
//! are faster than without a queue: then it was not the queue, and the service is another one than it was.
//!
//! - **Cold start**: it measures after one, two, four ... seconds, so a first window under load is soon corrected.
//! - **Idle**: without samples nothing changes; the limit grows only while half of it is used, so silence is no proof of
//!   capacity.
//! - **A service that hangs**: what is given up as too late says when its user lost patience, and not what a request
//!   takes. So it is in no mean and begins no measurement; where most requests end like that, the limit falls as fast as it
//!   may. Where fewer do, it is one endpoint of several that hangs, and the others serve as before.
//! - **A measurement that gets no samples**, because traffic has stopped or nothing is answered, is given up in time.
//! - **Burst**: a window has at least so many samples and lasts at least so long; one slow answer moves nothing.
//!
//! Latencies are averaged by their logarithms: one answer of a minute among a hundred of ten milliseconds is one that is a
//! few times slower, not all of them.

use std::time::Duration;

use crate::moment::Moment;

/// Between two adjustments at least: shorter, and nothing of the last one shows yet.
const WINDOW: Duration = Duration::from_millis(100);

/// Samples of a window: their mean is uncertain by a quarter where latencies are spread as an exponential is.
const SAMPLES_MIN: u32 = 32;

/// Samples by which the latency without a queue is measured: half the uncertainty, for what is kept for long.
const MEASURED_MIN: u32 = 96;

/// How much slower than without a queue counts as no slower. Netflix's.
const TOLERANCE: f64 = 1.5;

/// The smallest gradient: a limit is halved at most, whatever a window looks like.
const GRADIENT_MIN: f64 = 0.5;

/// How much of a new limit is taken over at once.
const SMOOTHING: f64 = 0.5;

/// How much of a window without a queue is learnt.
const LEARNT: f64 = 0.1;

/// What is no faster than this by what was measured before is the same: twice the uncertainty of a measurement.
const SAME_MIN: f64 = 0.8;

/// Between two measurements at least.
const RECHECK_MIN: Duration = Duration::from_secs(1);

/// So many times as long as one takes: half of a service for a twentieth of the time costs two in a hundred.
const RECHECK_RATIO: u32 = 20;

/// The same, while they tell something new.
const RECHECK_RATIO_MIN: u32 = 4;

/// With which part of what is under way it is measured: with the tolerance on top it is still less than was measured
/// with, so that a limit that is too high comes down each time, and no less than half of what a service can serve at its
/// knee.
const PROBED: f64 = 0.4;

/// How long a queue is let drain, and in how many of what a request takes: who had to wait is gone, and not only the
/// quick of those who came later have been answered.
const DRAINED: f64 = 4.0;

/// How long a queue is let drain at most, and how long it is measured, beside two of what a request takes: traffic that
/// stops meanwhile must not meet a part of its limit when it comes back.
const MEASURED_MAX: Duration = Duration::from_secs(10);

/// A client who goes away after so many times what a request takes has met one that is too late; before that he had his
/// own reasons. One in fifty takes so long where latencies are spread as an exponential is.
const PATIENCE: f64 = 4.0;

/// Between what a limit may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// At least; 1 or more.
    pub min: u32,
    /// At most; not below `min`.
    pub max: u32,
    /// At first.
    pub start: u32,
    /// Between two measurements of the latency without a queue at most.
    pub recheck: Duration,
}

/// A limit, and what it is found by.
#[derive(Clone, Debug)]
pub struct Gradient {
    bounds: Bounds,
    limit: f64,
    /// Seconds that a request takes when nothing waits, as far as that is known.
    base_s: Option<f64>,
    /// Seconds that one took in the last window.
    recent_s: f64,
    window: Window,
    phase: Phase,
    checked: Checked,
    /// With how many it is being measured.
    probe: f64,
    /// Since when.
    probed: Moment,
    /// And until when at most.
    given_up: Moment,
    /// So many were under way before that.
    used: u32,
    /// While no more than this are under way, nothing waits.
    clear: u32,
}

/// What was seen since the last adjustment.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// `None` before the first sample.
    began: Option<Moment>,
    /// Sum of the logarithms of seconds, of those that were answered.
    logs: f64,
    /// All of them.
    samples: u32,
    /// Samples that were given up as too late.
    late: u32,
    /// Most that were under way.
    peak: u32,
}

/// What the limit is for just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To serve.
    Steady,
    /// To let the queue drain, until then.
    Draining(Moment),
    /// To measure without one.
    Measuring,
}

/// When the latency without a queue was measured last.
#[derive(Clone, Copy, Debug)]
struct Checked {
    at: Option<Moment>,
    /// The limit of that time.
    limit: f64,
    /// Until the next time.
    pause: Duration,
}

impl Window {
    fn is_over(&self, now: Moment, least: Duration, samples: u32) -> bool {
        self.samples >= samples && self.began.is_some_and(|began| now.since(began) >= least)
    }

    /// Whether it says when users gave up, rather than what requests take.
    fn is_late(&self) -> bool {
        self.late > self.samples / 2
    }

    /// The mean of those that were answered, in seconds: there are some where it is not [late](Self::is_late).
    fn mean_s(&self) -> f64 {
        (self.logs / f64::from((self.samples - self.late).max(1))).exp()
    }
}

impl Gradient {
    /// A limit of which nothing is known but its bounds.
    pub fn new(bounds: Bounds) -> Self {
        let limit = f64::from(bounds.start.clamp(bounds.min, bounds.max.max(bounds.min)));
        Self {
            bounds,
            limit,
            base_s: None,
            recent_s: 0.0,
            window: Window::default(),
            phase: Phase::Steady,
            checked: Checked {
                at: None,
                limit,
                pause: RECHECK_MIN,
            },
            probe: limit,
            probed: Moment::ZERO,
            given_up: Moment::ZERO,
            used: 0,
            clear: 0,
        }
    }

    /// How many may be under way now, within the bounds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between two bounds that are whole numbers"
    )]
    pub fn limit(&self) -> u32 {
        let limit = match self.phase {
            Phase::Steady => self.limit,
            Phase::Draining(_) | Phase::Measuring => self.probe,
        };
        (limit as u32).clamp(self.bounds.min, self.bounds.max.max(self.bounds.min))
    }

    /// What a request takes when nothing waits, as far as that is known.
    pub fn base(&self) -> Option<Duration> {
        self.base_s
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// A request was answered, or given up as too `late`, after `latency`; so many were under way with it. What
    /// failed at once says nothing of the service's speed, and is no sample.
    pub fn sample(&mut self, now: Moment, latency: Duration, under_way: u32, late: bool) {
        self.look(now);
        if let Phase::Draining(until) = self.phase {
            if now < until {
                return;
            }
            (self.phase, self.window) = (Phase::Measuring, Window::default());
        }
        let window = &mut self.window;
        window.began.get_or_insert(now);
        if !late {
            // A clock of microseconds tells nothing below one.
            window.logs += latency.as_secs_f64().max(1e-6).ln();
        }
        window.samples += 1;
        window.late += u32::from(late);
        window.peak = window.peak.max(under_way);
        match self.phase {
            Phase::Measuring if self.window.is_over(now, self.least() * 2, MEASURED_MIN) => {
                let window = std::mem::take(&mut self.window);
                self.measured(now, &window);
            }
            Phase::Steady if self.window.is_over(now, self.least(), SAMPLES_MIN) => {
                let window = std::mem::take(&mut self.window);
                self.adjust(now, &window);
            }
            _ => {}
        }
    }

    /// A client went away after `waited`, and had no answer; so many requests were under way with his.
    pub fn abandoned(&mut self, now: Moment, waited: Duration, under_way: u32) {
        let usual_s = self.base_s.unwrap_or(f64::INFINITY);
        if waited.as_secs_f64() > usual_s * PATIENCE {
            self.sample(now, waited, under_way, true);
        }
    }

    /// Time has passed: a measurement that takes too long is over, with what there is.
    pub fn look(&mut self, now: Moment) {
        if self.phase == Phase::Steady || now < self.given_up {
            return;
        }
        let window = std::mem::take(&mut self.window);
        match self.phase {
            Phase::Measuring if window.samples >= SAMPLES_MIN => self.measured(now, &window),
            _ => self.unmeasured(now),
        }
    }

    /// How long a window lasts at least: so long that requests of the last limit have gone through.
    fn least(&self) -> Duration {
        WINDOW.max(Duration::try_from_secs_f64(self.recent_s).unwrap_or_default())
    }

    fn adjust(&mut self, now: Moment, window: &Window) {
        if window.is_late() {
            self.clear = 0;
            self.limit = self.next_limit(GRADIENT_MIN, window.peak);
            return;
        }
        let mean_s = window.mean_s();
        self.recent_s = mean_s;
        let since = *self.checked.at.get_or_insert(now);
        let base_s = *self.base_s.get_or_insert(mean_s);
        let is_used = f64::from(window.peak) >= self.limit / 2.0;
        let is_slower = mean_s > base_s * TOLERANCE;
        if !is_used && !is_slower && window.peak <= self.clear {
            // Nothing waits, and nobody knows whether more would.
            self.base_s = Some(base_s + LEARNT * (mean_s - base_s));
            (self.checked.at, self.checked.limit) = (Some(now), self.limit);
            return;
        }
        if is_slower {
            self.clear = 0;
        } else if mean_s * TOLERANCE < base_s {
            // A queue makes nothing faster: the service has become another one.
            self.base_s = Some(mean_s * TOLERANCE);
            self.checked.pause = RECHECK_MIN;
        }
        self.limit = self.next_limit(base_s * TOLERANCE / mean_s, window.peak);
        self.recheck(now, since, window);
    }

    /// Begins a measurement, if it is time for one; the last was at `since`.
    fn recheck(&mut self, now: Moment, since: Moment, window: &Window) {
        let pause = match self.limit < self.checked.limit / 2.0 {
            true => RECHECK_MIN,
            false => self.checked.pause,
        };
        if now.since(since) >= pause {
            let drained = Duration::try_from_secs_f64(window.mean_s() * DRAINED).unwrap_or_default();
            let drained = drained.min(MEASURED_MAX);
            self.phase = Phase::Draining(now + drained);
            self.probed = now;
            self.given_up = now + drained + self.least() * 2 + MEASURED_MAX;
            self.used = window.peak;
            self.probe = self.limit.min(f64::from(window.peak)) * PROBED;
        }
    }

    /// The limit that follows of what requests take without a queue, over what they take, and of how many were under way.
    fn next_limit(&self, ratio: f64, peak: u32) -> f64 {
        let gradient = ratio.clamp(GRADIENT_MIN, 1.0);
        let used = f64::from(peak) * 2.0;
        // What nobody uses is no part of what is too much, and no reason for more.
        let from = self.limit.min(used.max(1.0));
        if from < self.limit && ratio >= 1.0 {
            return self.limit;
        }
        let wanted = from * gradient + from.sqrt();
        let limit = (from + SMOOTHING * (wanted - from)).min(if from < self.limit {
            self.limit
        } else {
            f64::INFINITY
        });
        let (min, max) = (self.bounds.min, self.bounds.max.max(self.bounds.min));
        limit.clamp(f64::from(min), f64::from(max))
    }

    /// It is known what they take when there are fewer.
    fn measured(&mut self, now: Moment, window: &Window) {
        if window.is_late() {
            return self.unmeasured(now);
        }
        let mean_s = window.mean_s();
        let before_s = self.base_s.unwrap_or(mean_s);
        // Where fewer of them are no faster, none of them waits.
        let is_clear = self.recent_s <= mean_s * TOLERANCE;
        self.clear = if is_clear { self.used } else { 0 };
        self.phase = Phase::Steady;
        let took = now.since(self.probed);
        // Faster than it was thought to be means that there was a queue: there may be one still.
        let is_same = (SAME_MIN..=TOLERANCE).contains(&(mean_s / before_s));
        let (base_s, pause) = match is_same {
            // Two measurements of one thing are worth more than either.
            true => {
                let pause = (self.checked.pause * 2).min(self.bounds.recheck);
                ((mean_s + before_s) / 2.0, pause.max(took * RECHECK_RATIO))
            }
            // What has become another one is looked at again soon.
            false => (mean_s, RECHECK_MIN.max(took * RECHECK_RATIO_MIN)),
        };
        self.base_s = Some(base_s);
        self.checked = Checked {
            at: Some(now),
            limit: self.limit,
            pause,
        };
    }

    /// It is not known, and what was known before holds.
    fn unmeasured(&mut self, now: Moment) {
        self.phase = Phase::Steady;
        self.clear = 0;
        self.checked = Checked {
            at: Some(now),
            limit: self.limit,
            pause: RECHECK_MIN.max(now.since(self.probed) * RECHECK_RATIO_MIN),
        };
    }
}

#[cfg(test)]
mod tests;
