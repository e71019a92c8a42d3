//! What goes wrong with an endpoint, as a function of virtual time.
//!
//! A fault is data (endpoint, span, kind, path), never a callback: a scenario can be printed, compared and replayed.
//! The moments at which a condition changes are known beforehand ([`Fault::edges`]), so that the model can settle an
//! endpoint's queue exactly there; between two edges only a ramp changes, and a ramp is read when a request starts.

use std::time::Duration;

use crate::moment::Moment;

/// One fault of one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Index of the endpoint.
    pub endpoint: usize,
    /// When it starts.
    pub from: Moment,
    /// When it is healed.
    pub until: Moment,
    /// What it is.
    pub kind: Kind,
    /// The only path that suffers; every path if `None`. Probes suffer from faults of every path only.
    pub path: Option<usize>,
    /// Length of each of the alternating sick and well spans, sick first; sick all the time if `None`.
    pub flapping: Option<Duration>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Each request takes this many times longer, and does not use more of the processor for it (it waits for
    /// something).
    Slow(f64),
    /// So many times longer too, but a share of requests only.
    SlowSome(f64, f64),
    /// As slow, growing linearly from 1 to this factor over the span of the fault.
    Ramp(f64),
    /// As slow, growing by this part per second, compounding.
    Leak(f64),
    /// A share of requests fails. Probes pass, which is what makes such a fault gray.
    Fails(Failing),
    /// Requests are accepted and not answered until the fault heals, nor is what was being worked on.
    Hang(Release),
    /// Connections are refused at once; what was being worked on is still answered.
    Refuse,
    /// The same, and what was being worked on is lost.
    Die,
    /// Only this share of the processor is left.
    Capacity(f64),
    /// The process stands still: what it had begun waits too, and goes on after the fault.
    Pause,
    /// The way there loses packets, or is long.
    Network(Network),
    /// The first byte of an answer comes in time, the last one so much later. Probes pass.
    SlowBody(Duration),
}

/// How often requests fail, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failing {
    /// Share of requests that do.
    pub share: f64,
    /// What becomes of them.
    pub how: Failure,
    /// What failing costs, as a part of what serving costs.
    pub work: f64,
}

/// What becomes of a request that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// It is answered with this status.
    Status(u16),
    /// The connection breaks before the answer.
    Reset,
    /// The answer is not HTTP.
    Garbage,
    /// The answer breaks off after it has begun.
    Cut,
}

/// What a bad network does to each packet, in either direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    /// It comes so much later.
    pub delay: Duration,
    /// So much more or less than that at most, uniformly.
    pub jitter: Duration,
    /// Share of packets that are lost. A lost packet is sent again after [`RESEND`], twice as late each time.
    pub loss: f64,
}

/// The least time after which a lost packet of a short exchange is sent again: nothing that comes later betrays the
/// loss any earlier (RFC 6298, with the minimum that Linux uses).
pub const RESEND: Duration = Duration::from_millis(200);

/// Packets of a short exchange of which each delays the answer if it is lost: the request, and the answer.
pub const PACKETS: i32 = 2;

impl Kind {
    /// This share of requests fails with status 500, in a fifth of the usual time: failing is cheap.
    pub fn errors(share: f64) -> Self {
        Self::Fails(Failing {
            share,
            how: Failure::Status(500),
            work: 0.2,
        })
    }
}

/// What becomes of hung requests when the endpoint heals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// They are served then.
    Answered,
    /// Their connections break.
    Reset,
}

/// How an endpoint is at one moment: all its faults together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// Factor on the time that a request waits.
    pub slow: f64,
    /// Another one, and the share of requests that it concerns.
    pub slow_some: Option<(f64, f64)>,
    /// How requests fail, if they do.
    pub failing: Option<Failing>,
    /// Whether new requests hang.
    pub hang: Option<Release>,
    /// Whether connections are refused.
    pub refuse: bool,
    /// Whether what was being worked on is lost.
    pub dead: bool,
    /// Share of the processor that is left.
    pub capacity: f64,
    /// What the way there adds.
    pub network: Option<Network>,
    /// From the first byte of an answer to its last.
    pub body: Duration,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            slow: 1.0,
            slow_some: None,
            failing: None,
            hang: None,
            refuse: false,
            dead: false,
            capacity: 1.0,
            network: None,
            body: Duration::ZERO,
        }
    }
}

impl Fault {
    /// A fault of every request to `endpoint`, from second `from` until second `until`.
    pub fn new(endpoint: usize, kind: Kind, from: u64, until: u64) -> Self {
        Self {
            endpoint,
            from: Moment::from_micros(from * 1_000_000),
            until: Moment::from_micros(until * 1_000_000),
            kind,
            path: None,
            flapping: None,
        }
    }

    /// The same, for one path only.
    pub fn on_path(self, path: usize) -> Self {
        Self {
            path: Some(path),
            ..self
        }
    }

    /// The same, coming and going.
    pub fn flapping(self, period: Duration) -> Self {
        Self {
            flapping: Some(period),
            ..self
        }
    }

    /// The moments at which it comes or goes.
    pub fn edges(&self) -> Vec<Moment> {
        let mut edges = vec![self.from];
        if let Some(period) = self.flapping.filter(|p| !p.is_zero()) {
            let mut edge = self.from + period;
            while edge < self.until {
                edges.push(edge);
                edge = edge + period;
            }
        }
        edges.push(self.until);
        edges
    }

    /// Whether it is there.
    pub fn is_active(&self, now: Moment) -> bool {
        let within = self.from <= now && now < self.until;
        let period = self.flapping.map_or(0, |p| p.as_micros());
        within && (period == 0 || (now.since(self.from).as_micros() / period).is_multiple_of(2))
    }

    fn apply(&self, now: Moment, condition: &mut Condition) {
        match self.kind {
            Kind::Slow(factor) => condition.slow *= factor,
            Kind::SlowSome(factor, share) => condition.slow_some = Some((factor, share)),
            Kind::Leak(growth) => condition.slow *= (1.0 + growth).powf(now.seconds_since(self.from)),
            Kind::Ramp(to) => {
                let way = now.seconds_since(self.from) / self.until.seconds_since(self.from);
                condition.slow *= 1.0 + (to - 1.0) * way;
            }
            // The worse one counts, where there are two.
            Kind::Fails(failing) => {
                let before = condition.failing.filter(|before| before.share >= failing.share);
                condition.failing = before.or(Some(failing));
            }
            Kind::Hang(release) => condition.hang = Some(release),
            Kind::Refuse => condition.refuse = true,
            Kind::Die => (condition.refuse, condition.dead) = (true, true),
            Kind::Capacity(left) => condition.capacity *= left,
            Kind::Pause => condition.capacity = 0.0,
            Kind::Network(network) => condition.network = Some(network),
            Kind::SlowBody(body) => condition.body += body,
        }
    }
}

/// How an endpoint with these faults (of which there may be others' among them) meets a request for `path` now. `None`
/// asks for what every path meets.
pub fn condition(faults: &[Fault], endpoint: usize, path: Option<usize>, now: Moment) -> Condition {
    let mut condition = Condition::default();
    for fault in faults {
        let meets = fault.path.is_none() || fault.path == path;
        if fault.endpoint == endpoint && meets && fault.is_active(now) {
            fault.apply(now, &mut condition);
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Moment {
        Moment::ZERO + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_fault_holds_for_its_span_its_endpoint_and_its_path() {
        let faults = [Fault::new(1, Kind::Slow(20.0), 10, 22).on_path(3)];
        let slow = |endpoint, path, s| condition(&faults, endpoint, path, at(s)).slow;
        assert!(slow(1, Some(3), 10.0) > 19.9);
        for healthy in [
            slow(1, Some(3), 9.99),
            slow(1, Some(3), 22.0),
            slow(0, Some(3), 15.0),
            slow(1, Some(2), 15.0),
            slow(1, None, 15.0),
        ] {
            assert!(healthy < 1.1);
        }
    }

    #[test]
    fn a_ramp_grows_from_one_to_its_factor() {
        let faults = [Fault::new(0, Kind::Ramp(20.0), 10, 22)];
        assert!((condition(&faults, 0, None, at(10.0)).slow - 1.0).abs() < 1e-9);
        assert!((condition(&faults, 0, None, at(16.0)).slow - 10.5).abs() < 1e-9);
    }

    #[test]
    fn flapping_alternates_and_its_edges_are_where_it_changes() {
        let fault = Fault::new(0, Kind::Refuse, 10, 14).flapping(Duration::from_secs(1));
        let sick = [10.0, 10.99, 12.0].map(|s| fault.is_active(at(s)));
        let well = [11.0, 13.5, 14.0].map(|s| fault.is_active(at(s)));
        assert_eq!((sick, well), ([true; 3], [false; 3]));
        assert_eq!(fault.edges(), [10.0, 11.0, 12.0, 13.0, 14.0].map(at));
    }
}
