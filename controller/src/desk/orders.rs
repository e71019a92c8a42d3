//! Orders on their way: who waits for which, and what the lifecycle's answer means to him.

use std::collections::HashMap;

use foreshade_contract::PairId;
use foreshade_engine::lifecycle::Pair;
use foreshade_engine::lifecycle::command::{self as engine, Answer, Verb};

use super::Reply;
use crate::operator::Fault;
use crate::operator::view::Outcome;
use crate::reconcile::View;

/// Orders whose outcome is not written down yet, each with its verb. Bounded by the orders that the loop takes.
#[derive(Debug, Default)]
pub(crate) struct Waiting(HashMap<(PairId, String), (Verb, Reply<Outcome>)>);

impl Waiting {
    /// Somebody waits for this order.
    pub(crate) fn add(&mut self, pair: PairId, key: String, verb: Verb, reply: Reply<Outcome>) {
        if let Some((_, before)) = self.0.insert((pair, key), (verb, reply)) {
            // The same key twice at once: the second one waits for what the first one is told.
            let _ = before.send(Err(Fault::Busy));
        }
    }

    /// What came of an order, and where it left the pair.
    pub(crate) fn answer(&mut self, view: &View<'_>, answer: &Answer) {
        let pair = view.pair;
        if let Some((verb, reply)) = self.0.remove(&(pair.id.clone(), answer.key.clone())) {
            let runs = view.drills.back().filter(|drill| drill.ended.is_none());
            let drill = runs.filter(|_| verb == Verb::Drill).map(|drill| drill.id);
            let outcome = outcome(pair, verb, answer, false);
            let _ = reply.send(outcome.map(|outcome| Outcome { drill, ..outcome }));
        }
    }

    /// Nothing can be written, so nobody is kept waiting for it. Returns whose orders are to be forgotten.
    pub(crate) fn give_up(&mut self, why: &str) -> Vec<(PairId, String)> {
        let given_up = std::mem::take(&mut self.0)
            .into_iter()
            .map(|(order, (_, reply))| {
                let _ = reply.send(Err(Fault::ReadOnly(why.to_owned())));
                order
            });
        given_up.collect()
    }
}

/// What an order came to, or would come to.
pub(crate) fn outcome(pair: &Pair, verb: Verb, answer: &Answer, dry_run: bool) -> Result<Outcome, Fault> {
    let changed = match &answer.outcome {
        engine::Outcome::Done => true,
        engine::Outcome::Unchanged => false,
        engine::Outcome::Refused(refusal) => return Err(refusal.clone().into()),
    };
    let sentence = if changed {
        format!("{verb}: {}", done(verb, pair))
    } else {
        let already = match verb {
            Verb::Promote | Verb::Undo => "it is so already, or on its way",
            _ => "it is so already",
        };
        format!("{verb}: {already}; {} is {}", pair.id, pair.state)
    };
    Ok(Outcome {
        pair: pair.id.to_string(),
        command: verb.to_string(),
        changed,
        dry_run,
        state: pair.state.to_string(),
        generation: pair.generation.0,
        drill: None,
        sentence,
    })
}

/// What an order that was obeyed has changed.
fn done(verb: Verb, pair: &Pair) -> String {
    let words = match verb {
        Verb::Promote | Verb::Undo if !pair.state.is_active() => {
            "it begins as soon as nothing stands in the way"
        }
        Verb::Override => "it is so until its end, or until it is cleared",
        Verb::ClearOverride => "it is the controller's again",
        Verb::Approve => "the gate is open for this rollout",
        Verb::Deny => "the gate is closed for this rollout",
        Verb::Drill => "the drill has begun; no user is moved",
        Verb::CancelDrill => "the drill is over",
        Verb::Pause if pair.suspended.is_some() => "nothing begins by itself but what protects users",
        _ => return format!("{} is {} now", pair.id, pair.state),
    };
    words.to_owned()
}
