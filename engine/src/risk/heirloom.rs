//! What is believed of an endpoint, as one process leaves it to the next.
//!
//! What was learnt slowly goes along: healthy days, the risk that holds until it is disproven, whether the endpoint
//! is dead, what others say of it. What is seen within seconds (detectors, windows, trends) is seen again. Without
//! the healthy days the new process would learn a sick endpoint's latencies as its ordinary ones, and send everybody
//! back to it.

use foreshade_contract::Risk;
use serde::{Deserialize, Serialize};

use super::Assessor;
use super::class::ClassState;
use super::endpoint::Endpoint;
use super::external::{ADVISORIES_MAX, Advisory};
use super::hard::Vitality;
use super::memory::Memory;
use crate::baseline::{Baseline, LoadBaseline};
use crate::cusum::Batch;
use crate::moment::Moment;
use crate::spec::HealthPolicy;

/// What is left of one endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Belief {
    memory: Memory,
    vitality: Vitality,
    usual_breaks: Batch,
    load: LoadBaseline,
    classes: Vec<ClassBelief>,
    advisories: Vec<Advisory>,
    passed: Option<Moment>,
    failed: Option<Moment>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ClassBelief {
    class: usize,
    baseline: Baseline,
    memory: Memory,
    alone: bool,
}

impl Belief {
    /// The risk that is believed.
    pub fn risk(&self) -> Risk {
        Risk::clamped(self.memory.risk())
    }
}

impl Assessor {
    /// What is left of an endpoint; `None` of one that does not exist.
    pub(crate) fn bequeath(&self, endpoint: usize) -> Option<Belief> {
        self.endpoints.get(endpoint).map(Endpoint::bequeath)
    }

    /// Believes what another process has believed of an endpoint.
    pub(crate) fn inherit(&mut self, endpoint: usize, belief: Belief, health: Option<HealthPolicy>) {
        let now = self.last;
        if let Some(inheritor) = self.endpoints.get_mut(endpoint) {
            inheritor.inherit(endpoint, belief, now);
            inheritor.adopt(health);
        }
    }
}

impl Endpoint {
    fn bequeath(&self) -> Belief {
        let known = |(class, state): (usize, &Option<Box<ClassState>>)| {
            state.as_deref().map(|state| ClassBelief {
                class,
                baseline: state.baseline.clone(),
                memory: state.memory,
                alone: state.alone,
            })
        };
        Belief {
            memory: self.memory,
            vitality: self.vitality,
            usual_breaks: self.usual_breaks,
            load: self.load.clone(),
            classes: self.classes.iter().enumerate().filter_map(known).collect(),
            advisories: self.advisories.all().to_vec(),
            passed: self.passed,
            failed: self.failed,
        }
    }

    fn inherit(&mut self, index: usize, belief: Belief, now: Moment) {
        self.memory = belief.memory;
        self.vitality = belief.vitality;
        self.usual_breaks = belief.usual_breaks;
        self.load = belief.load;
        (self.passed, self.failed) = (belief.passed, belief.failed);
        for known in belief.classes {
            if let Some(class) = self.classes.get_mut(known.class) {
                *class = Some(Box::new(ClassState {
                    baseline: known.baseline,
                    memory: known.memory,
                    alone: known.alone,
                    ..ClassState::new(now)
                }));
            }
        }
        for advisory in belief.advisories.into_iter().take(ADVISORIES_MAX) {
            self.advisories.handle(Advisory {
                endpoint: index,
                ..advisory
            });
        }
        self.refresh();
    }
}
