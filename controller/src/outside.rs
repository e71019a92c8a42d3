//! Who is asked before something happens, and who is told that it did: hooks of gates, notifications, and the event log.
//!
//! Nothing here is waited for. A gate that is asked is closed until it has answered, and is asked again after its pause; at
//! each transition of its pair every answer is forgotten, because what it was asked about is past, and so is an answer that
//! is still on its way. People are told of a gate that waits once per plan and round: of a hook's own gate only when the
//! hook has said no, because nobody need be woken for what a machine is about to answer.

mod told;

use std::collections::HashMap;

use foreshade_contract::{Generation, Name, PairId, Round};
use foreshade_engine::lifecycle::Alert;
use foreshade_engine::lifecycle::cause::Obstacle;
use foreshade_engine::lifecycle::effect::Effect;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::api::links::Signer;
use crate::config::Occasion;
use crate::operator::events::{EventLog, Report};
use crate::reconcile::{Outcome, Reconciler, View};
use crate::spec::Hook;
use crate::webhook::{self, Answer, Notifier, Payload, Phase};

/// Questions under way at a time. Each ends within its own time, ten seconds as a rule.
const QUESTIONS_MAX: usize = 64;

/// One gate of one pair.
type Gate = (PairId, Name);

/// Which intention a question or a message is about.
type About = (Generation, Round);

/// What the hook of a gate has answered.
pub(crate) struct Heard {
    pub(crate) pair: PairId,
    pub(crate) gate: Name,
    pub(crate) about: About,
    pub(crate) answer: Answer,
}

/// Everybody outside.
pub(crate) struct Outside {
    notifier: Notifier,
    links: Option<Signer>,
    /// When each question was asked last. Bounded by pairs and their gates.
    asked: HashMap<Gate, Instant>,
    /// What people were told last that a gate waits for. Bounded in the same way.
    called: HashMap<Gate, About>,
    questions: JoinSet<Heard>,
    /// Alerts that somebody was called for, by pair.
    paged: HashMap<PairId, (Alert, u64)>,
}

impl Outside {
    pub(crate) fn new(notifier: Notifier, links: Option<Signer>) -> Self {
        Self {
            notifier,
            links,
            asked: HashMap::new(),
            called: HashMap::new(),
            questions: JoinSet::new(),
            paged: HashMap::new(),
        }
    }

    /// How messages to hooks ended.
    pub(crate) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// What a gate has answered. Waits for ever where none is asked.
    pub(crate) async fn answered(&mut self) -> Option<Heard> {
        match self.questions.join_next().await {
            Some(answered) => answered.ok(),
            None => std::future::pending().await,
        }
    }

    /// Tells of everything that a tick came to.
    pub(crate) fn tell(&mut self, outcome: &Outcome, reconciler: &Reconciler, events: &EventLog) {
        for transition in &outcome.transitions {
            self.asked.retain(|(pair, _), _| *pair != transition.pair);
            let view = reconciler.view(&transition.pair);
            let drill = view.and_then(|view| told::drill(&view, transition.at_ms));
            events.report(Report {
                at_ms: transition.at_ms,
                pair: transition.pair.clone(),
                kind: told::kind(transition),
                generation: transition.generation.0,
                sentence: format!("{} -> {}: {}", transition.from, transition.to, transition.cause),
            });
            tracing::info!(
                pair = %transition.pair, from = %transition.from, to = %transition.to, cause = %transition.cause,
                generation = transition.generation.0, "transition"
            );
            let mut occasions = told::occasions(transition, drill.is_some());
            if !occasions.is_empty() {
                let mut payload = told::payload(transition, drill.as_ref());
                if let Some(alert) = self.called_for(outcome, &transition.pair) {
                    // Both are one message, as everything that is two things at once.
                    payload = payload.with("alert", format!("{alert:?}"));
                    if !occasions.contains(&Occasion::Frozen) {
                        occasions.push(Occasion::Frozen);
                    }
                }
                self.notifier.tell(&occasions, &payload);
            }
        }
        for (pair, effect) in &outcome.effects {
            if let Effect::Page { alert, generation } = effect
                && self.page(pair, *alert, *generation)
            {
                let round = reconciler.view(pair).map_or(Round(0), |view| view.pair.round);
                let text = Payload::new(pair, Phase::Failed, *generation, round);
                let text = text.with("alert", format!("{alert:?}"));
                self.notifier.tell(&[Occasion::Frozen], &text);
            }
        }
    }

    /// What somebody has to be called for at this pair, and has not been.
    fn called_for(&mut self, outcome: &Outcome, called: &PairId) -> Option<Alert> {
        let pages = outcome.effects.iter().filter(|(pair, _)| pair == called);
        let mut pages = pages.filter_map(|(_, effect)| match effect {
            Effect::Page { alert, generation } => Some((*alert, *generation)),
            _ => None,
        });
        let (alert, generation) = pages.next()?;
        self.page(called, alert, generation).then_some(alert)
    }

    /// Whether somebody has to be called: once per alert and generation.
    fn page(&mut self, pair: &PairId, alert: Alert, generation: Generation) -> bool {
        let called = self.paged.insert(pair.clone(), (alert, generation.0));
        let is_new = called != Some((alert, generation.0));
        if is_new {
            tracing::error!(%pair, ?alert, "somebody has to look");
        }
        is_new
    }

    /// Asks gates that something waits for: their hooks, or people.
    pub(crate) fn ask(&mut self, reconciler: &Reconciler, events: &EventLog, wall_ms: u64) {
        for view in reconciler.waiting() {
            for gate in view.waiting.iter().filter_map(closed) {
                match view.spec.hooks.get(gate) {
                    Some(hook) => {
                        self.put(&view, gate, hook);
                        if view.gates.contains_key(gate) {
                            self.call(&view, gate, events, wall_ms);
                        }
                    }
                    None => self.call(&view, gate, events, wall_ms),
                }
            }
        }
    }

    /// Puts a gate's question to its hook, if it is due.
    fn put(&mut self, view: &View<'_>, gate: &Name, hook: &Hook) {
        let question = (view.pair.id.clone(), gate.clone());
        let last = self.asked.get(&question);
        let is_due = last.is_none_or(|at| at.elapsed() >= hook.every);
        if !is_due || self.questions.len() >= QUESTIONS_MAX {
            return;
        }
        self.asked.insert(question, Instant::now());
        let payload = told::at_gate(view, gate);
        let (pair, gate, hook) = (view.pair.id.clone(), gate.clone(), hook.clone());
        let about = (view.pair.generation, view.pair.round);
        self.questions.spawn(async move {
            let answer = webhook::ask(&hook.url, &payload, hook.timeout).await;
            if let Answer::Closed(said) = &answer {
                tracing::debug!(%pair, %gate, said, "a gate is closed");
            }
            Heard {
                pair,
                gate,
                about,
                answer,
            }
        });
    }

    /// Tells people that a gate waits, once.
    fn call(&mut self, view: &View<'_>, gate: &Name, events: &EventLog, wall_ms: u64) {
        let about = (view.pair.generation, view.pair.round);
        let before = self.called.insert((view.pair.id.clone(), gate.clone()), about);
        if before == Some(about) {
            return;
        }
        let mut payload = told::at_gate(view, gate).with("standing", "waiting");
        if let Some(Answer::Closed(said)) = view.gates.get(gate) {
            payload = payload.with("said", said);
        }
        if let Some(signer) = &self.links {
            payload = payload.with("link", signer.link(&view.pair.id, gate, about.0, wall_ms));
        }
        events.report(told::of_gate(view, gate, "waits for an answer", wall_ms));
        self.notifier.tell(&[Occasion::Gate], &payload);
    }

    /// Tells people that a hook has opened its gate.
    pub(crate) fn opened(&self, view: &View<'_>, heard: &Heard, events: &EventLog, wall_ms: u64) {
        if heard.answer != Answer::Open {
            return;
        }
        events.report(told::of_gate(
            view,
            &heard.gate,
            "is open: its hook says yes",
            wall_ms,
        ));
        let payload = told::at_gate(view, &heard.gate).with("standing", "open");
        self.notifier.tell(&[Occasion::Gate], &payload);
    }
}

fn closed(obstacle: &Obstacle) -> Option<&Name> {
    match obstacle {
        Obstacle::GateClosed { gate } => Some(gate),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use axum::routing::post;
    use axum::{Json, Router};
    use foreshade_contract::Epoch;
    use foreshade_engine::lifecycle::Transition;
    use foreshade_engine::lifecycle::cause::Cause;
    use foreshade_engine::lifecycle::points::BasisPoints;
    use foreshade_engine::lifecycle::state::{Shifting, State};
    use foreshade_settings::Scalar as _;
    use serde_json::Value;

    use super::*;
    use crate::config::Notification;
    use crate::config::url::Url;
    use crate::journal::Journal;
    use crate::spec::Spec;

    /// A pair is frozen, and somebody is called for it.
    fn frozen() -> Outcome {
        let pair = PairId {
            cluster: "shop".parse().unwrap(),
            primary: "a".parse().unwrap(),
        };
        let weights = [BasisPoints::ALL, BasisPoints::ZERO];
        let generation = Generation(7);
        let transition = Transition {
            pair: pair.clone(),
            epoch: Epoch(1),
            generation,
            round: Round(2),
            from: State::Shifting(Shifting::Holding),
            to: State::Frozen,
            cause: Cause::Waived,
            order: None,
            before: weights,
            after: weights,
            rollback_target: None,
            ponr: false,
            at_ms: 0,
        };
        let alert = Alert::Frozen;
        Outcome {
            transitions: vec![transition],
            effects: vec![(pair, Effect::Page { alert, generation })],
            ..Outcome::default()
        }
    }

    #[tokio::test]
    async fn a_freeze_is_told_once() {
        let told = Arc::<Mutex<Vec<Value>>>::default();
        let heard = told.clone();
        let take = move |Json(body): Json<Value>| {
            heard.lock().unwrap().push(body);
            std::future::ready(())
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let server = Router::new().route("/hook", post(take));
        let server = tokio::spawn(async move { axum::serve(listener, server).await });
        let notification = Notification {
            name: "pager".parse().unwrap(),
            webhook: Url::parse(&url).unwrap(),
            on: vec![Occasion::Frozen],
            timeout: Duration::from_secs(5),
            attempts: 1,
            pause: Duration::from_millis(1),
        };
        let mut tasks = JoinSet::new();
        let mut outside = Outside::new(Notifier::start(&[notification], &mut tasks), None);
        let spec = Spec {
            pairs: Vec::new(),
            groups: Vec::new(),
        };
        let kept = (BTreeMap::new(), 0);
        let reconciler = Reconciler::new(&spec, &Journal::new("/test"), kept, Epoch(1)).unwrap();
        // The alert stands for as long as nobody has looked.
        let mut outcome = frozen();
        for _ in 0..2 {
            outside.tell(&outcome, &reconciler, &EventLog::default());
            outcome.transitions.clear();
        }
        drop(outside);
        while tasks.join_next().await.is_some() {}
        server.abort();
        let told = told.lock().unwrap();
        let [one] = told.as_slice() else {
            panic!("{told:?}")
        };
        let metadata = &one["metadata"];
        assert_eq!(
            (&metadata["to"], &metadata["alert"]),
            (&"Frozen".into(), &"Frozen".into())
        );
    }
}
