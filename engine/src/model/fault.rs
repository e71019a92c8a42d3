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
    /// As slow, growing linearly from 1 to this factor over the span of the fault.
    Ramp(f64),
    /// This share of requests fails with status 500, in a fifth of the usual time: failing is cheap. Probes pass,
    /// which is what makes such a fault gray.
    Errors(f64),
    /// New requests are accepted and not answered until the fault heals.
    Hang(Release),
    /// Connections are refused at once.
    Refuse,
    /// Only this share of the processor is left.
    Capacity(f64),
    /// The process stands still: what it had begun waits too, and goes on after the fault.
    Pause,
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
    /// Share of requests that fail.
    pub errors: f64,
    /// Whether new requests hang.
    pub hang: Option<Release>,
    /// Whether connections are refused.
    pub refuse: bool,
    /// Share of the processor that is left.
    pub capacity: f64,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            slow: 1.0,
            errors: 0.0,
            hang: None,
            refuse: false,
            capacity: 1.0,
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
            Kind::Ramp(to) => {
                let way = now.seconds_since(self.from) / self.until.seconds_since(self.from);
                condition.slow *= 1.0 + (to - 1.0) * way;
            }
            Kind::Errors(share) => condition.errors = 1.0 - (1.0 - condition.errors) * (1.0 - share),
            Kind::Hang(release) => condition.hang = Some(release),
            Kind::Refuse => condition.refuse = true,
            Kind::Capacity(left) => condition.capacity *= left,
            Kind::Pause => condition.capacity = 0.0,
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
