//! The link to the controller: plans come down, reports and status go up, on one stream that is opened again whenever it
//! breaks.
//!
//! It has a thread of its own, beside everything that serves users: a plan of 10,000 pairs is read, checked and written to
//! disk here, and a worker never knows. Nothing waits for the controller: while it is gone, the plan in force stays in
//! force, and how long it has been gone is shown. Connecting is tried again after a pause that doubles up to
//! [`PAUSE_MAX`] and is drawn at random in its upper half, so that a thousand proxies do not come back at the same moment.
//!
//! A plan is carried out before it is acknowledged: the scorer publishes what it says, roles are swapped where it wants it,
//! it is written to disk; then the status names it. What cannot be carried out leaves everything as it was.

pub(crate) mod dial;
mod outbox;
pub mod view;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::report::{Reason, Refused, Unapplied};
use foreshade_contract::wire::proto::Down;
use foreshade_contract::wire::{Downward, Gathering, Unreadable, Upward};
use foreshade_contract::{BootId, Hello, Name, Plan, PlanId, Report, Status};
use rand::RngExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tonic::Streaming;

use self::dial::DialError;
use self::outbox::Outbox;
use self::view::{View, Viewed};
use crate::command::Command;
use crate::config::Controller;
use crate::mirror::{News, Questions};
use crate::plan::follow::Told;
use crate::plan::roles::Roles;
use crate::plan::{Keeper, refused, weighed};
use crate::reload::Desk;

/// Between two reports. The verdict's fastest answer takes a second, and a controller of a thousand proxies reads a
/// thousand reports in it.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// First pause before another try.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest pause: a controller that comes back has all of its proxies within this time.
pub const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long a connection and its first answer may take.
const DIAL_PATIENCE: Duration = Duration::from_secs(5);

/// How long the scorer or a reload may take: as long as an operator waits for them.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the mirror may take: its thread answers between two turns, and what it does not tell now it tells next time.
const MIRROR_PATIENCE: Duration = Duration::from_millis(100);

/// A connection that has lasted so long was a good one: the next try after it is soon.
const GOOD: Duration = Duration::from_secs(10);

/// What the link is connected to in this proxy.
#[derive(Debug)]
pub struct Inside {
    /// The way to the scorer.
    pub scorer: mpsc::Sender<Command>,
    /// The way to the one who reloads.
    pub desk: Desk,
    /// The way to the mirror.
    pub mirror: Questions,
}

/// The proxy's end of the link.
#[derive(Debug)]
pub struct Link {
    settings: Controller,
    name: Name,
    boot: BootId,
    keeper: Keeper,
    inside: Inside,
    view: watch::Sender<View>,
    /// The last status that was said on this connection.
    said: Option<Status>,
    refused: Option<Refused>,
    unapplied: (Vec<Unapplied>, usize),
    /// Reports of this connection.
    sequence: u64,
    /// The next report tells everything: what was told before may not have arrived.
    complete: bool,
}

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// No connection came about.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It broke, or the controller ended it.
    #[error("{}: {}", .0.code(), .0.message())]
    Broke(Box<tonic::Status>),
    /// The controller has said all that it wanted to.
    #[error("the controller closed the link")]
    Closed,
    /// The controller did not say welcome.
    #[error("the controller did not answer in time")]
    Silent,
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        Self::Broke(Box::new(status))
    }
}

impl Link {
    /// A link with the plan that was kept, and where it can be looked at.
    pub fn new(settings: Controller, keeper: Keeper, inside: Inside) -> (Self, Viewed) {
        let view = View::of(&settings.address, &keeper);
        let (view, viewed) = watch::channel(view);
        let link = Self {
            name: settings.name.clone().unwrap_or_else(machine_name),
            // Zero stands for nobody.
            boot: BootId(rand::rng().random_range(1..=u64::MAX)),
            settings,
            keeper,
            inside,
            view,
            said: None,
            refused: None,
            unapplied: (Vec::new(), 0),
            sequence: 0,
            complete: true,
        };
        (link, Some(viewed))
    }

    /// Talks to the controller, again and again, until the proxy stops.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let mut pause = PAUSE;
        loop {
            let begun = Instant::now();
            let ended = tokio::select! {
                ended = self.converse() => ended,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            };
            self.ended(&ended);
            if begun.elapsed() >= GOOD {
                pause = PAUSE;
            }
            let drawn = rand::rng().random_range(pause / 2..=pause);
            tokio::select! {
                () = sleep(drawn) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn ended(&mut self, ended: &Ended) {
        let was_connected = self.view.borrow().is_connected();
        let (address, error) = (&self.settings.address, ended.to_string());
        if was_connected {
            tracing::warn!(
                address,
                error,
                "link to the controller lost: its last plan stays in force"
            );
        } else {
            tracing::debug!(address, error, "no link to the controller");
        }
        self.view.send_modify(|view| view.lost(error));
    }

    /// One connection, from its hello to its end.
    async fn converse(&mut self) -> Ended {
        self.view.send_modify(|view| view.dials += 1);
        (self.said, self.sequence, self.complete) = (None, 0, true);
        let (outbox, outgoing) = outbox::outbox();
        outbox.hello(&Upward::Hello(Hello {
            boot: self.boot,
            proxy: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plan: self.keeper.id(),
            pieces: true,
        }));
        let mut incoming = match timeout(DIAL_PATIENCE, dial::join(&self.settings, outgoing)).await {
            Ok(Ok(incoming)) => incoming,
            Ok(Err(error)) => return error.into(),
            Err(_) => return Ended::Silent,
        };
        match timeout(DIAL_PATIENCE, self.welcomed(&mut incoming)).await {
            Ok(Ok(())) => {}
            Ok(Err(ended)) => return ended,
            Err(_) => return Ended::Silent,
        }
        match self.talk(&outbox, &mut incoming).await {
            Ok(()) => Ended::Closed,
            Err(status) => status.into(),
        }
    }

    /// The first message has to be a welcome.
    async fn welcomed(&mut self, incoming: &mut Streaming<Down>) -> Result<(), Ended> {
        let message = incoming.message().await?.ok_or(Ended::Closed)?;
        let Ok(Downward::Welcome(welcome)) = Downward::read(message) else {
            return Err(Ended::Silent);
        };
        self.keeper.heard(welcome.epoch);
        let (address, version, epoch) = (&self.settings.address, &welcome.version, welcome.epoch.0);
        tracing::info!(address, version, epoch, "link to the controller");
        self.view.send_modify(|view| view.connected(welcome));
        Ok(())
    }

    async fn talk(&mut self, outbox: &Outbox, incoming: &mut Streaming<Down>) -> Result<(), tonic::Status> {
        let mut reports = interval(REPORT_EVERY);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut gathering = Gathering::default();
        loop {
            tokio::select! {
                message = incoming.message() => match message? {
                    Some(message) => {
                        let read = match gathering.take(message) {
                            Ok(None) => continue,
                            Ok(Some(whole)) => Downward::read(whole),
                            Err(source) => Err(Unreadable { plan: None, source }),
                        };
                        self.hear(read).await;
                        self.report(outbox).await;
                    }
                    None => return Ok(()),
                },
                _ = reports.tick() => {
                    self.keeper.keep();
                    self.report(outbox).await;
                }
            }
        }
    }

    /// Carries out what the controller says, or notes why not.
    async fn hear(&mut self, message: Result<Downward, Unreadable>) {
        let weighed = match message {
            Ok(Downward::Welcome(welcome)) => {
                self.keeper.heard(welcome.epoch);
                return;
            }
            Ok(about_plans) => weighed(&self.keeper, about_plans),
            Err(Unreadable { plan, source }) => Err(Refused {
                plan,
                reason: Reason::Malformed,
                detail: source.to_string(),
            }),
        };
        let outcome = match weighed {
            Ok(None) => return,
            Ok(Some(plan)) => self.carry_out(plan).await,
            Err(refused) => Err(refused),
        };
        match outcome {
            Ok(()) => self.refused = None,
            Err(refused) => {
                let (plan, reason) = (refused.plan.map(|id| id.to_string()), refused.reason.label());
                tracing::warn!(
                    plan,
                    reason,
                    detail = refused.detail,
                    "plan refused, nothing is changed"
                );
                self.view.send_modify(|view| view.refused(&refused));
                self.refused = Some(refused);
            }
        }
    }

    /// Has the plan carried out and keeps it.
    async fn carry_out(&mut self, plan: Arc<Plan>) -> Result<(), Refused> {
        let id = plan.id();
        self.follow(id, Some(plan.clone())).await?;
        let roles = Roles::of(&plan);
        let before = self.keeper.in_force().cloned();
        if before.as_deref().map(Roles::of).unwrap_or_default() != roles
            && let Err(refused) = self.assign(id, roles).await
        {
            self.follow(id, before).await?;
            return Err(refused);
        }
        self.keeper.take(plan);
        if let Some(error) = self.keeper.unkept() {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "the plan is in force and could not be kept: a restart would begin with an older one"
            );
        }
        tracing::info!(epoch = id.epoch.0, generation = id.generation.0, "plan in force");
        self.view.send_modify(|view| view.took(&self.keeper));
        Ok(())
    }

    async fn follow(&self, id: PlanId, plan: Option<Arc<Plan>>) -> Result<(), Refused> {
        let (published, is_published) = oneshot::channel();
        let followed = self.ask(Command::Follow(plan, published), is_published).await;
        let why = || refused(id, Reason::NotReady, "the scorer does not answer".to_owned());
        followed.ok_or_else(why)
    }

    async fn assign(&self, id: PlanId, roles: Roles) -> Result<(), Refused> {
        let not_ready = |why: String| refused(id, Reason::NotReady, why);
        match timeout(PATIENCE, self.inside.desk.assign(roles)).await {
            Ok(Some(outcome)) => match &*outcome {
                Ok(_) => Ok(()),
                Err(error) => Err(not_ready(error.to_string())),
            },
            Ok(None) => Err(not_ready("the proxy is about to stop".to_owned())),
            Err(_) => Err(not_ready("roles could not be swapped in time".to_owned())),
        }
    }

    /// Says what was seen, and what became of plans.
    async fn report(&mut self, outbox: &Outbox) {
        let mirrored = self.mirrored().await;
        let (to, answer) = oneshot::channel();
        let complete = self.complete;
        let tell = Command::Tell {
            complete,
            mirrored,
            to,
        };
        let Some(told) = self.ask(tell, answer).await else {
            return;
        };
        let Told {
            pairs,
            unapplied,
            unapplied_total,
        } = told;
        self.unapplied = (unapplied, unapplied_total);
        if complete || !pairs.is_empty() {
            self.sequence += 1;
            let report = Report {
                sequence: self.sequence,
                complete,
                pairs,
            };
            // What was dropped is told again, with everything else.
            self.complete = outbox.report(&report);
        }
        let status = self.status();
        if self.said.as_ref() != Some(&status) {
            outbox.status(&Upward::Status(status.clone()));
            self.said = Some(status);
        }
        let dropped = outbox.dropped();
        let (unapplied, total) = self.unapplied.clone();
        let kept = self.keeper.is_kept();
        self.view.send_modify(|view| {
            view.reports = self.sequence;
            view.reports_dropped += dropped;
            view.persisted = kept;
            view.unapplied(unapplied, total);
        });
    }

    /// What the mirror has counted; nothing where it is too busy to be asked.
    async fn mirrored(&self) -> News {
        let news = timeout(MIRROR_PATIENCE, self.inside.mirror.news());
        news.await.unwrap_or_default()
    }

    fn status(&self) -> Status {
        Status {
            plan: self.keeper.id(),
            persisted: self.keeper.is_kept(),
            refused: self.refused.clone(),
            unapplied: self.unapplied.0.clone(),
            unapplied_total: self.unapplied.1,
        }
    }

    /// Asks the scorer, but not for ever.
    async fn ask<T>(&self, command: Command, answer: oneshot::Receiver<T>) -> Option<T> {
        let answered = async {
            self.inside.scorer.send(command).await.ok()?;
            answer.await.ok()
        };
        timeout(PATIENCE, answered).await.ok().flatten()
    }
}

/// What the machine is called; `proxy` where it has no name that can be one here.
fn machine_name() -> Name {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().parse().or_else(|_| "proxy".parse());
    #[expect(clippy::expect_used, reason = "a literal that every test of the link parses")]
    name.expect("invariant: `proxy` is a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_usable_name_has_one_all_the_same() {
        assert!(!machine_name().as_str().is_empty());
    }
}
