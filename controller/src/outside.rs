//! Who is asked before something happens, and who is told that it did: hooks of gates, notifications, and the event log.
//!
//! Nothing here is waited for. A gate that is asked is closed until it has answered, and is asked again after its pause; at
//! each transition of its pair every answer is forgotten, because what it was asked about is past.

use std::collections::HashMap;

use foreshade_contract::{Name, PairId};
use foreshade_engine::lifecycle::cause::Obstacle;
use foreshade_engine::lifecycle::effect::Effect;
use foreshade_engine::lifecycle::state::{Promoting, Shifting, State};
use foreshade_engine::lifecycle::{Alert, Transition};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Occasion;
use crate::operator::events::{EventLog, Report};
use crate::reconcile::{Outcome, Reconciler};
use crate::spec::Hook;
use crate::webhook::{self, Answer, Notifier, Payload, Phase};

/// Questions under way at a time. Each ends within its own time, ten seconds as a rule.
const QUESTIONS_MAX: usize = 64;

/// What one gate of one pair was asked, and whether it has answered.
type Asked = (PairId, Name);

/// Everybody outside.
pub(crate) struct Outside {
    notifier: Notifier,
    /// When each question was asked last. Bounded by pairs and their gates.
    asked: HashMap<Asked, Instant>,
    questions: JoinSet<(PairId, Name, bool)>,
    /// Alerts that somebody was called for, by pair.
    paged: HashMap<PairId, (Alert, u64)>,
}

impl Outside {
    pub(crate) fn new(notifier: Notifier) -> Self {
        Self {
            notifier,
            asked: HashMap::new(),
            questions: JoinSet::new(),
            paged: HashMap::new(),
        }
    }

    /// How messages to hooks ended.
    pub(crate) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// What a gate has answered. Waits for ever where none is asked.
    pub(crate) async fn answered(&mut self) -> Option<(PairId, Name, bool)> {
        match self.questions.join_next().await {
            Some(answered) => answered.ok(),
            None => std::future::pending().await,
        }
    }

    /// Tells of everything that a tick came to.
    pub(crate) fn tell(&mut self, outcome: &Outcome, events: &EventLog) {
        for transition in &outcome.transitions {
            self.asked.retain(|(pair, _), _| *pair != transition.pair);
            events.report(Report {
                at_ms: transition.at_ms,
                pair: transition.pair.clone(),
                kind: if transition.order.is_some() {
                    "command"
                } else {
                    "transition"
                },
                generation: transition.generation.0,
                sentence: format!("{} -> {}: {}", transition.from, transition.to, transition.cause),
            });
            tracing::info!(
                pair = %transition.pair, from = %transition.from, to = %transition.to, cause = %transition.cause,
                generation = transition.generation.0, "transition"
            );
            if let Some(occasion) = occasion(transition) {
                self.notifier.tell(occasion, &payload(transition));
            }
        }
        for (pair, effect) in &outcome.effects {
            if let Effect::Page { alert, generation } = effect {
                let called = self.paged.insert(pair.clone(), (*alert, generation.0));
                if called != Some((*alert, generation.0)) {
                    tracing::error!(%pair, ?alert, "somebody has to look");
                    let text = Payload::new(pair, Phase::Failed, *generation, foreshade_contract::Round(0));
                    self.notifier
                        .tell(Occasion::Frozen, &text.with("alert", format!("{alert:?}")));
                }
            }
        }
    }

    /// Asks gates that something waits for.
    pub(crate) fn ask(&mut self, reconciler: &Reconciler) {
        for view in reconciler.waiting() {
            for gate in view.waiting.iter().filter_map(closed) {
                let Some(hook) = view.spec.hooks.get(gate) else {
                    continue;
                };
                let question = (view.pair.id.clone(), gate.clone());
                let is_due = self
                    .asked
                    .get(&question)
                    .is_none_or(|at| at.elapsed() >= hook.every);
                if is_due && self.questions.len() < QUESTIONS_MAX {
                    self.asked.insert(question.clone(), Instant::now());
                    let payload = Payload::new(
                        &view.pair.id,
                        Phase::Waiting,
                        view.pair.generation,
                        view.pair.round,
                    )
                    .with("gate", gate.as_str());
                    self.questions.spawn(put(question, hook.clone(), payload));
                }
            }
        }
    }
}

fn closed(obstacle: &Obstacle) -> Option<&Name> {
    match obstacle {
        Obstacle::GateClosed { gate } => Some(gate),
        _ => None,
    }
}

async fn put((pair, gate): Asked, hook: Hook, payload: Payload) -> (PairId, Name, bool) {
    let answer = webhook::ask(&hook.url, &payload, hook.timeout).await;
    if let Answer::Closed(said) = &answer {
        tracing::debug!(%pair, %gate, said, "a gate is closed");
    }
    let open = answer == Answer::Open;
    (pair, gate, open)
}

fn payload(transition: &Transition) -> Payload {
    let phase = match transition.to {
        State::Unassigned | State::Provisioning | State::Syncing => Phase::Initializing,
        State::Warm(_) => Phase::Initialized,
        State::Shifting(Shifting::Advancing) => Phase::Progressing,
        State::Shifting(_) => Phase::Waiting,
        State::Promoting(_) => Phase::Promoting,
        State::Baking | State::FailedOver => Phase::Finalising,
        State::Committed | State::Retired => Phase::Succeeded,
        State::RollingBack(_) | State::Failed | State::Frozen => Phase::Failed,
    };
    Payload::new(&transition.pair, phase, transition.generation, transition.round)
        .with("from", transition.from.to_string())
        .with("to", transition.to.to_string())
        .with("cause", transition.cause.to_string())
}

/// What a transition is for those who are told of it; nothing, where nobody would want to know.
fn occasion(transition: &Transition) -> Option<Occasion> {
    Some(match (transition.from, transition.to) {
        (_, State::Shifting(Shifting::Advancing)) if !matches!(transition.from, State::Shifting(_)) => {
            Occasion::Shift
        }
        (_, State::Shifting(Shifting::Advancing)) => Occasion::Advance,
        (_, State::Shifting(Shifting::Holding)) => Occasion::Hold,
        (_, State::Promoting(Promoting::Cutover)) => Occasion::Promotion,
        (from, State::RollingBack(_)) if !matches!(from, State::RollingBack(_)) => Occasion::Rollback,
        (_, State::FailedOver) => Occasion::Failover,
        (_, State::Frozen) => Occasion::Frozen,
        _ if transition.order.is_some() => Occasion::Command,
        _ => return None,
    })
}
