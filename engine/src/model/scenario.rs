//! The scenarios of the requirement: one cluster, one policy, and a fault after a warm-up.
//!
//! The policy is the default of every type in every one of them, because a policy that has to be tuned to the
//! fault is none. Four primaries, each with a standby of its own, share 1200 requests per second of which a tenth must
//! not be repeated; the fault starts at second 12 and lasts 12 seconds.

use std::time::Duration;

use foreshade_contract::Name;

use super::fault::{Fault, Kind, Release};
use super::load::{Load, Profile};
use crate::ablation::Ablations;
use crate::cluster::Guidance;
use crate::moment::Moment;
use crate::spec::{BalancePolicy, ClusterSpec, EndpointSpec, HealthPolicy, Role, ShiftPolicy};

/// When the fault of a named scenario starts, seconds.
pub const ONSET_S: u64 = 12;

/// When it is healed, seconds.
pub const HEALED_S: u64 = 24;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The cluster and its policy.
    pub spec: ClusterSpec,
    /// Requests that an endpoint works on at full speed at once, by endpoint index. What it can carry is this many
    /// divided by the mean time of a request.
    pub cores: Vec<f64>,
    /// A slow request keeps its part of the processor until it is answered, as one thread per request does. If not, it
    /// waits beside it for something else.
    pub slow_keeps_core: bool,
    /// Requests that an endpoint takes in at once; who comes later is turned away with 503.
    pub crowd_max: usize,
    /// Its users.
    pub load: Load,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Active probes: one per interval and endpoint, with this much time to answer.
    pub probes: Option<Probes>,
    /// Proxies in front of the same endpoints. They know nothing of each other, and each user comes to the same one always.
    pub proxies: usize,
    /// Workers of each proxy. Each balances by the loads that it sees itself.
    pub workers: usize,
    /// The proxy itself stands still from a moment for a while, and then sees everything at once.
    pub suspended: Option<(Moment, Duration)>,
    /// How long.
    pub length: Duration,
    /// Parts of the engine that are taken out.
    pub ablations: Ablations,
    /// What the last plan said, by primary. Nobody says anything else for as long as the run lasts.
    pub guidance: Vec<(usize, Guidance)>,
}

/// Active probes.
#[derive(Clone, Copy, Debug)]
pub struct Probes {
    /// From one probe of an endpoint to the next.
    pub interval: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// A connection is all that is asked for: the kernel gives it even where the process hangs.
    pub connect_only: bool,
}

impl Scenario {
    /// Four healthy pairs under the usual load, for `length_s` seconds. Endpoints 0 to 3 are primaries, 4 to 7 their
    /// standbys.
    pub fn healthy(length_s: u64) -> Self {
        Self::pairs(4, length_s)
    }

    /// The same with `pairs` pairs.
    pub fn pairs(pairs: usize, length_s: u64) -> Self {
        let shadows: Vec<usize> = (0..pairs).collect();
        Self::site(&shadows, length_s)
    }

    /// One primary per entry, which names its shadow among the shadows; several may share one. The shadows come after the
    /// primaries.
    pub fn site(shadows: &[usize], length_s: u64) -> Self {
        let spec = spec(shadows);
        Self {
            // 16 / 5.7 ms is 2800 requests per second, nine times the usual load of one primary.
            cores: vec![16.0; spec.endpoints.len()],
            slow_keeps_core: false,
            crowd_max: usize::MAX,
            spec,
            load: Load::default(),
            faults: Vec::new(),
            probes: Some(Probes {
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                connect_only: false,
            }),
            proxies: 1,
            workers: 1,
            suspended: None,
            length: Duration::from_secs(length_s),
            ablations: Ablations::default(),
            guidance: Vec::new(),
        }
    }

    /// One pair under all of the load: nobody but its standby can help the primary.
    pub fn one_pair(length_s: u64) -> Self {
        Self::pairs(1, length_s)
    }

    /// The same with `faults`.
    pub fn with(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults.extend(faults);
        self
    }

    /// A named scenario of [`NAMES`].
    pub fn named(name: &str) -> Option<Self> {
        let fault = |endpoint, kind| Fault::new(endpoint, kind, ONSET_S, HEALED_S);
        let during = Self::healthy(HEALED_S);
        Some(match name {
            "healthy" => Self::healthy(60),
            "slow10" => during.with([fault(0, Kind::Slow(10.0))]),
            "slow3" => during.with([fault(0, Kind::Slow(3.0))]),
            "hang" => during.with([fault(0, Kind::Hang(Release::Answered))]),
            "hang_reset" => during.with([fault(0, Kind::Hang(Release::Reset))]),
            "pause" => during.with([fault(0, Kind::Pause)]),
            "refuse" => during.with([fault(0, Kind::Refuse)]),
            "errors50" => during.with([fault(0, Kind::errors(0.5))]),
            "errors5" => during.with([fault(0, Kind::errors(0.05))]),
            "ramp" => during.with([fault(0, Kind::Ramp(20.0))]),
            "one_path" => during.with([fault(0, Kind::Slow(20.0)).on_path(1)]),
            "common" => during.with((0..8).map(|e| fault(e, Kind::Slow(4.0)))),
            "background" => Self::healthy(60).with((0..8).map(|e| Fault::new(e, Kind::errors(0.005), 0, 60))),
            "heavy_path" => Self {
                load: Load {
                    weights: vec![1.0, 1.0, 1.0, 1.0, 20.0],
                    ..Load::default()
                },
                ..Self::healthy(60)
            },
            "rare" => Self::healthy(60).with((0..8).map(|e| Fault::new(e, Kind::errors(0.0003), 0, 60))),
            "one_pair_slow10" => {
                Self::one_pair(HEALED_S).with([Fault::new(0, Kind::Slow(10.0), ONSET_S, HEALED_S)])
            }
            "one_pair_errors5" => {
                Self::one_pair(HEALED_S).with([Fault::new(0, Kind::errors(0.05), ONSET_S, HEALED_S)])
            }
            "bad_standby" => during.with([
                fault(0, Kind::errors(0.05)),
                Fault::new(4, Kind::errors(0.2), 0, HEALED_S),
            ]),
            "slow_standby" => during.with([
                fault(0, Kind::errors(0.05)),
                Fault::new(4, Kind::Slow(3.0), 0, HEALED_S),
            ]),
            // 1200 requests per second of 5.7 ms keep 6.8 cores busy. The primary can serve 280 of them, its standby 700.
            "small_standby" => Self {
                slow_keeps_core: true,
                crowd_max: 1_040,
                ..Self::one_pair(60).with([
                    fault(0, Kind::Slow(10.0)),
                    Fault::new(1, Kind::Capacity(0.25), 0, 60),
                ])
            },
            "return" => Self::healthy(60).with([fault(0, Kind::Slow(10.0))]),
            "flapping" => Self::healthy(90)
                .with([Fault::new(0, Kind::Slow(10.0), ONSET_S, 72).flapping(Duration::from_secs(5))]),
            "waves" => Self {
                load: Load {
                    profile: Profile::Wave {
                        low: 0.2,
                        high: 1.8,
                        period: Duration::from_secs(90),
                    },
                    ..Load::default()
                },
                ..Self::healthy(600)
            },
            _ => return None,
        })
    }
}

/// The names that [`Scenario::named`] knows.
pub const NAMES: [&str; 23] = [
    "healthy",
    "slow10",
    "slow3",
    "hang",
    "hang_reset",
    "pause",
    "refuse",
    "errors50",
    "errors5",
    "ramp",
    "one_path",
    "common",
    "background",
    "rare",
    "heavy_path",
    "one_pair_slow10",
    "one_pair_errors5",
    "bad_standby",
    "slow_standby",
    "small_standby",
    "return",
    "flapping",
    "waves",
];

/// Primaries with their shadows, with the default policy.
fn spec(shadows: &[usize]) -> ClusterSpec {
    let primaries = shadows.len();
    let endpoint = |letter: char, index: usize, role: Role| EndpointSpec {
        name: name(&format!("{letter}{index}")),
        role,
        weight: 1.0,
        capacity_rps: None,
        region: None,
    };
    let primary = |(index, shadow): (usize, &usize)| {
        let role = Role::Primary {
            shadow: Some(primaries + shadow),
        };
        endpoint('p', index, role)
    };
    let count = shadows.iter().max().map_or(0, |last| last + 1);
    let endpoints = shadows
        .iter()
        .enumerate()
        .map(primary)
        .chain((0..count).map(|index| endpoint('s', index, Role::Shadow)));
    ClusterSpec {
        name: name("model"),
        endpoints: endpoints.collect(),
        shift: ShiftPolicy::default(),
        attempt_timeout: Duration::from_secs(15),
        balance: BalancePolicy::default(),
        health: Some(HealthPolicy::default()),
        slow_start: Duration::from_secs(10),
        segments: Vec::new(),
    }
}

#[expect(clippy::expect_used, reason = "a letter and digits")]
fn name(text: &str) -> Name {
    text.parse().expect("invariant: letters and digits are a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_scenario() {
        for name in NAMES {
            let scenario = Scenario::named(name).unwrap();
            assert_eq!(scenario.cores.len(), scenario.spec.endpoints.len());
        }
        assert!(Scenario::named("no such thing").is_none());
    }
}
