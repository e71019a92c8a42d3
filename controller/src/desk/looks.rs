//! What operators look at, from the loop's side.

use foreshade_contract::PairId;

use super::{Copy, Note, show};
use crate::journal::{Audited, DrillRecord, Journal};
use crate::lead::{Reign, wall_ms};
use crate::operator::view::{AuditEntry, Drill, DrillResult};
use crate::operator::{Actor, Fault, Page, Reason, Scenario};
use crate::reconcile::View;
use crate::store::Store;
use foreshade_engine::lifecycle::command::{Command, Outcome};
use foreshade_engine::lifecycle::drill::DrillEnd;
use foreshade_engine::lifecycle::overrides::Setting;

impl Reign {
    /// Answers whoever only looks.
    pub(crate) async fn look(&self, note: Note, journal: &Journal, store: &dyn Store) {
        // Whoever asked may have gone.
        match note {
            Note::Pairs(reply) => drop(reply.send(Ok(
                self.reconciler.views().map(|view| show::summary(&view)).collect(),
            ))),
            Note::Pair(pair, reply) => drop(reply.send(self.pair(&pair))),
            Note::Analysis(pair, reply) => {
                let explained = self.reconciler.explain(&pair);
                let is_judged = self
                    .reconciler
                    .view(&pair)
                    .is_some_and(|view| view.pair.state.is_active());
                drop(reply.send(match explained {
                    Some(explanation) => Ok(is_judged.then(|| show::analysis(&explanation))),
                    None => Err(Fault::UnknownPair(pair)),
                }));
            }
            Note::History(pair, page, reply) => {
                let found = if self.reconciler.view(&pair).is_none() {
                    Err(Fault::UnknownPair(pair))
                } else {
                    match journal.records(store, &pair).await {
                        Ok(records) => Ok(newest(records, page, |(seq, _)| *seq)
                            .iter()
                            .map(|(seq, transition)| show::change(*seq, transition))
                            .collect()),
                        Err(error) => Err(Fault::ReadOnly(error.to_string())),
                    }
                };
                drop(reply.send(found));
            }
            Note::Audit(page, reply) => {
                let found = journal
                    .audit(store)
                    .await
                    .map_err(|error| Fault::ReadOnly(error.to_string()));
                drop(reply.send(found.map(|all| {
                    newest(all, page, |entry| entry.seq)
                        .into_iter()
                        .filter_map(audit)
                        .collect()
                })));
            }
            Note::Drills(page, reply) => {
                let mut drills: Vec<Drill> = self.drills().collect();
                drills.sort_by_key(|drill| drill.id);
                drop(reply.send(Ok(newest(drills, page, |drill| drill.id))));
            }
            Note::Drill(id, reply) => {
                let found = self.drills().find(|drill| drill.id == id);
                drop(reply.send(found.ok_or_else(|| Fault::Unknown {
                    what: "drill",
                    name: id.to_string(),
                })));
            }
            Note::Copy(pair, reply) => {
                let copy = self.reconciler.view(&pair).map(|view| {
                    Box::new(Copy {
                        pair: view.pair.clone(),
                        sight: view.sight.clone(),
                        policy: view.spec.policy.clone(),
                    })
                });
                drop(reply.send(copy.ok_or(Fault::UnknownPair(pair))));
            }
            Note::Command(_, reply) => drop(reply.send(Err(Fault::Busy))),
        }
    }

    fn pair(&self, pair: &PairId) -> Result<crate::operator::view::PairDetail, Fault> {
        let view = self
            .reconciler
            .view(pair)
            .ok_or_else(|| Fault::UnknownPair(pair.clone()))?;
        let explanation = view
            .pair
            .state
            .is_active()
            .then(|| self.reconciler.explain(pair))
            .flatten();
        let (connected, acknowledged, stale) = self.proxies();
        Ok(show::detail(
            &view,
            show::proxies(connected, acknowledged, stale),
            (
                explanation.as_ref(),
                self.reconciler.explain_mirror(pair).as_ref(),
            ),
            wall_ms(),
        ))
    }

    fn drills(&self) -> impl Iterator<Item = Drill> + '_ {
        self.reconciler.views().flat_map(|view| {
            let drills = view.drills.iter();
            drills.map(|record| drill(&view, record)).collect::<Vec<_>>()
        })
    }
}

/// A drill as operators are shown it.
pub(crate) fn drill(view: &View<'_>, record: &DrillRecord) -> Drill {
    let longest_ms = show::ms(view.spec.policy.times.drill_max);
    let report = record.ended.as_ref();
    Drill {
        id: record.id,
        pair: view.pair.id.to_string(),
        scenario: record.scenario.into(),
        result: match report.map(|(_, report)| report.end) {
            None => DrillResult::Running,
            Some(DrillEnd::Succeeded) => DrillResult::Succeeded,
            Some(DrillEnd::Failed) => DrillResult::Failed,
            Some(DrillEnd::Interrupted) => DrillResult::Interrupted,
        },
        started_ms: record.started_ms,
        ended_ms: report.map(|(at, _)| *at),
        until_ms: record.started_ms.saturating_add(longest_ms),
        rto_ms: report
            .filter(|(_, report)| report.end == DrillEnd::Succeeded)
            .map(|(_, report)| report.took_ms),
        rpo_ms: report.and_then(|(_, report)| report.lag_ms),
        actor: record.actor.clone(),
        report: report
            .map(|(_, report)| report.trail.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
    }
}

fn audit(entry: Audited) -> Option<AuditEntry> {
    Some(AuditEntry {
        seq: entry.seq,
        at_ms: entry.at_ms,
        pair: entry.pair.to_string(),
        command: entry.order.command.verb().to_string(),
        with: particulars(&entry.order.command),
        // They were checked when they were given.
        actor: Actor::try_from(entry.order.actor).ok()?,
        reason: Reason::try_from(entry.order.reason).ok()?,
        key: entry.order.key,
        generation: entry.generation.0,
        outcome: match entry.answer.outcome {
            Outcome::Done => "done".to_owned(),
            Outcome::Unchanged => "nothing to change".to_owned(),
            Outcome::Refused(refusal) => format!("refused: {refusal}"),
        },
    })
}

/// What an order says beyond its verb.
fn particulars(command: &Command) -> Option<String> {
    Some(match command {
        Command::Promote { full: true } => "full".to_owned(),
        Command::UndoTo { generation, .. } => format!("--to {generation}"),
        Command::Override { setting, .. } => match setting {
            Setting::Share(to) => format!("share {to}"),
            Setting::Ceiling(to) => format!("ceiling {to}"),
            Setting::Risk(least) => format!("risk {:.2}", least.fraction()),
            Setting::Safety(rule) => format!("safety rule {rule}"),
        },
        Command::ClearOverride { what } => what.to_string(),
        Command::Approve { gate } | Command::Deny { gate } => gate.to_string(),
        Command::Drill { scenario } => Scenario::from(*scenario).to_string(),
        _ => return None,
    })
}

/// The newest of them, as a page asks; they come in order of their numbers.
fn newest<T>(mut all: Vec<T>, page: Page, number: impl Fn(&T) -> u64) -> Vec<T> {
    if let Some(before) = page.before {
        all.retain(|one| number(one) < before);
    }
    all.reverse();
    all.truncate(page.limit);
    all
}
