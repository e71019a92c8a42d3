//! A scenario: which fault, on whom, when, and what the product promises to users meanwhile. It comes from a file.
//!
//! Data and not code, so that the real run, the simulator and a reader's own trial read one and the same description,
//! and so that a scenario can be added without building anything. One configuration of the product serves them all;
//! nothing is tuned per scenario. Everything here is checked once, where the [`mod@file`] is read: a fault never comes
//! after its run has ended, and a rate is one that a machine can make.
//!
//! The faulty endpoint is the second of several, since the first is too often special.

use std::time::Duration;

use crate::claim::Claim;
use crate::farm::fault::Fault;
use crate::farm::service_time::ServiceTime;
use crate::load::mix::Mix;
use crate::load::schedule::Rate;
use crate::results::{ContenderResult, ScenarioResult};

pub mod file;
pub mod lessons;
pub mod script;
pub mod shipped;
pub mod site;

pub(crate) mod users;

pub use self::site::{At, Site};

/// One scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name on the command line: that of its file.
    pub name: String,
    /// Its number in the table of scenarios, S0 to S14, if it is one of those. Several may share one.
    pub id: Option<String>,
    /// What happens, for people.
    pub story: String,
    /// Which endpoints there are.
    pub site: Site,
    /// Users' requests per second.
    pub rate: Rate,
    /// Part of them that are POSTs, 0 to 1.
    pub posts: f64,
    /// What users ask for, with relative weights.
    pub paths: Vec<(String, f64)>,
    /// What an endpoint does for each.
    pub service: Service,
    /// Faults that are there from the start and stay.
    pub always: Vec<(At, Fault)>,
    /// Faults that come at the end of the warm-up, from which their times count, and go with `length` at the latest.
    pub faults: Vec<(At, Fault)>,
    /// How bad the network between the proxy and the faulty endpoint is during the fault; as good as it is where
    /// absent.
    pub network: Option<Network>,
    /// Healthy at first: connections open, baselines form, and the healthy p99 is measured.
    pub warm_up: Duration,
    /// From the end of the warm-up until everything is healed, or until the end where nothing is to be healed.
    pub length: Duration,
    /// How long a run waits at most for the traffic to come back.
    pub recovery: Duration,
    /// What is promised, at this rate: what is seen of an endpoint in a second, and how sure that is, depends on it.
    pub claims: Vec<Claim>,
    /// What is promised at another rate and cannot be judged at this one.
    pub unjudged: Vec<Claim>,
}

/// What an endpoint does for a request: work that is log-normal in its length, on a limited number at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Service {
    /// Half of the requests take less; zero answers at once.
    pub median: Duration,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
    /// On how many it works at once; further ones wait. What it can carry is this many divided by the mean time.
    pub cores: u32,
}

/// A bad network; by default it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Network {
    /// Part of the packets that is lost in each direction, 0 to 1.
    pub loss: f64,
    /// Added to each packet.
    pub delay: Duration,
    /// How much that varies, up to as much as it is.
    pub jitter: Duration,
}

impl Default for Service {
    /// Sixteen cores for 5 ms of work: 2800 requests per second, nine times what a primary usually gets, so that
    /// nothing queues unless a scenario is about that.
    fn default() -> Self {
        Self {
            median: Duration::from_millis(5),
            sigma: 0.5,
            cores: 16,
        }
    }
}

impl Service {
    /// How long it works on one.
    pub fn time(&self) -> ServiceTime {
        ServiceTime::LogNormal {
            median: self.median,
            sigma: self.sigma,
        }
    }
}

impl Scenario {
    /// From the start of the load to its end at the latest, without the time for a last look.
    pub fn length_max(&self) -> Duration {
        self.warm_up + self.length + self.recovery
    }

    /// Whether `word` is its name or its number.
    pub fn is_called(&self, word: &str) -> bool {
        self.name == word || self.id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(word))
    }

    /// Whether nothing goes wrong during it that was not wrong before.
    pub fn is_quiet(&self) -> bool {
        self.faults.is_empty() && self.network.is_none()
    }

    /// Whether what goes wrong is at the faulty endpoint and nowhere else.
    pub fn is_about_one(&self) -> bool {
        !self.is_quiet() && self.faults.iter().all(|(at, _)| *at == At::Faulty)
    }

    /// Most requests per second.
    pub fn highest_rate(&self) -> f64 {
        match self.rate {
            Rate::Steady(rate) => rate,
            Rate::Wave { high, .. } => high,
            // No file has another; a generator's steps are as high as they are at the start.
            other => other.at(Duration::ZERO),
        }
    }

    /// How many cores of a primary are busy as long as all is well, at the highest rate.
    pub fn cores_needed(&self) -> f64 {
        let mean_s = self.service.median.as_secs_f64() * (self.service.sigma.powi(2) / 2.0).exp();
        self.highest_rate() * mean_s / self.site.pairs().len() as f64
    }

    /// What came of it, in the form in which it is kept. What never breaks is healed when it would have broken.
    pub fn result(&self, contenders: Vec<ContenderResult>) -> ScenarioResult {
        // Whether the harness was on time is no promise of the product: it casts doubt on the run, which the figures say.
        let told = |claims: &[Claim]| {
            let promises = claims.iter().filter(|claim| **claim != Claim::HarnessOnTime);
            promises.map(Claim::to_string).collect()
        };
        let lasting = if self.is_quiet() {
            Duration::ZERO
        } else {
            self.length
        };
        ScenarioResult {
            name: self.name.clone(),
            id: self.id.clone(),
            story: self.story.clone(),
            onset_s: self.warm_up.as_secs_f64(),
            healed_s: (self.warm_up + lasting).as_secs_f64(),
            rate: Some(self.highest_rate()),
            claims: told(&self.claims),
            unjudged: told(&self.unjudged),
            contenders,
        }
    }

    /// What users ask.
    pub fn mix(&self) -> Mix {
        Mix {
            post_share: self.posts,
            paths: self.paths.clone(),
            ..Mix::default()
        }
    }

    /// The same scenario at another rate: the highest one is `rate` now, and a wave keeps its shape. Nothing is
    /// promised there, but for the writes and the harness.
    #[must_use]
    pub fn at_rate(&self, rate: f64) -> Self {
        let mut other = self.clone();
        if rate.to_bits() != self.highest_rate().to_bits() {
            let always = [Claim::NoPostTwice, Claim::HarnessOnTime];
            let (judged, unjudged) = other.claims.into_iter().partition(|claim| always.contains(claim));
            (other.claims, other.unjudged) = (judged, unjudged);
        }
        other.rate = match self.rate {
            Rate::Steady(_) => Rate::Steady(rate),
            Rate::Wave { low, high, period } => Rate::Wave {
                low: low * rate / high,
                high: rate,
                period,
            },
            other => other,
        };
        other
    }
}
