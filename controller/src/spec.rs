//! What the leader is given: the configuration, pair by pair.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::{Name, PairId};
use foreshade_engine::lifecycle::Mode;
use foreshade_engine::lifecycle::policy::Policy;
use foreshade_engine::verdict::JudgePolicy;

use crate::config::Config;
use crate::config::placement::Ground;
use crate::config::url::Url;
use crate::config::window::{self, Window};
use crate::timetable::Entry;

/// Everything that is led.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// The pairs.
    pub pairs: Vec<PairSpec>,
    /// Those that move together. No pair is in two of them.
    pub groups: Vec<Vec<PairId>>,
}

/// How one pair is led.
#[derive(Clone, Debug)]
pub struct PairSpec {
    /// Which.
    pub id: PairId,
    /// Its shadow, where the configuration names one.
    pub shadow: Option<Name>,
    /// What it is chosen from, where it does not.
    pub ground: Option<Ground>,
    /// Whether anything is sent.
    pub mode: Mode,
    /// What its policy is called.
    pub policy_name: Name,
    /// How it lives.
    pub policy: Arc<Policy>,
    /// How its shadow is judged.
    pub judge: Arc<JudgePolicy>,
    /// When nothing begins by itself.
    pub windows: Vec<Window>,
    /// Drills that begin by themselves.
    pub timetable: Arc<Vec<Entry>>,
    /// Who is asked at its gates, where that is not an operator.
    pub hooks: HashMap<Name, Hook>,
}

/// Who is asked at a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where.
    pub url: Url,
    /// For how long.
    pub timeout: Duration,
    /// How often.
    pub every: Duration,
}

impl Spec {
    /// Of a configuration, whose pairs have policies.
    pub fn of(config: &Config) -> Self {
        let primaries: HashSet<&PairId> = config.pairs.iter().map(|pair| &pair.id).collect();
        let ground = |pair: &crate::config::Pair| {
            let chosen = pair.shadow.is_none();
            chosen.then(|| config.placement.ground(&pair.id, |id| primaries.contains(id)))
        };
        let pair = |pair: &crate::config::Pair| {
            let policy = config.policy_of(pair)?;
            let hooks = policy.gates.iter().filter_map(|gate| {
                let hook = Hook {
                    url: gate.webhook.clone()?,
                    timeout: gate.timeout,
                    every: gate.every,
                };
                Some((gate.name.clone(), hook))
            });
            Some(PairSpec {
                id: pair.id.clone(),
                shadow: pair.shadow.clone(),
                ground: ground(pair),
                mode: Mode::Live,
                policy_name: policy.name.clone(),
                policy: policy.lifecycle.clone(),
                judge: policy.judge.clone(),
                windows: policy.blocked.clone(),
                timetable: policy.drills.clone(),
                hooks: hooks.collect(),
            })
        };
        Self {
            pairs: config.pairs.iter().filter_map(pair).collect(),
            groups: config.groups.iter().map(|group| group.pairs.clone()).collect(),
        }
    }
}

impl PairSpec {
    /// Why nothing planned may begin now, where that is so.
    pub fn blocked(&self, wall_ms: u64) -> Option<String> {
        let (window, _) = window::closing(&self.windows, wall_ms)?;
        Some(window.reason.clone().unwrap_or_else(|| "calendar".to_owned()))
    }

    /// Until when nothing planned may begin. Looked for day by day, so for people and not for ticks.
    pub fn blocked_until(&self, wall_ms: u64) -> Option<u64> {
        window::closed(&self.windows, wall_ms).map(|(_, until)| until)
    }
}
