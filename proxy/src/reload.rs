//! A new configuration while the proxy runs: asked for by SIGHUP, by an operator, by the file itself or one of its
//! certificates when it changes, or by a name that has other addresses than before.
//!
//! Everything that can fail is done before anything changes: the file is read, checked and built, and new listeners are
//! bound. A file with mistakes, an address that is taken, or a change that needs a restart changes nothing, and says why.
//! Only then the scorer publishes configuration and decisions in one snapshot, and each worker takes it over between two
//! steps of its requests and opens and closes its listeners. One reload at a time; nothing here runs on a thread that
//! serves users.
//!
//! What stays is told from what is new by `topology::ids`, and keeps its history, risk, connections and counters.
//!
//! Who of a pair serves is not in the file but in the controller's plan (`plan::roles`): it is laid over every
//! configuration that is read, and when it changes, the one that runs is taken over once more.

pub mod outcome;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch as cell};
use tokio::time::{MissedTickBehavior, interval};

use self::outcome::{Applied, Refused, Status};
use self::watch::Watch;
use crate::command::Command;
use crate::config::{self, Cluster, Config, Mistakes};
use crate::names::{Known, Names};
use crate::plan::roles::Roles;
use crate::server::{Order, listen};
use crate::supervisor;
use crate::topology::Topology;

/// How often the file is looked at. A change counts when two looks in a row have seen the same, so that a file is not
/// read while it is written; it is then applied within two to three seconds.
const LOOK: Duration = Duration::from_secs(1);

/// Operators that may wait at a time; more are told to come back.
const WAITING_MAX: usize = 16;

/// Roles that wait to be assigned, and where it is told what became of them. The link sends one at a time.
type Assignment = (Roles, oneshot::Sender<Arc<Outcome>>);

/// What became of a reload.
pub type Outcome = Result<Applied, Refused>;

/// Where reloads are asked for, and asked about.
#[derive(Clone, Debug)]
pub struct Desk {
    requests: mpsc::Sender<oneshot::Sender<Arc<Outcome>>>,
    assignments: mpsc::Sender<Assignment>,
    holds: mpsc::Sender<oneshot::Sender<Held>>,
    /// The configuration that runs.
    pub topologies: cell::Receiver<Arc<Topology>>,
    /// What has been tried since the start.
    pub status: cell::Receiver<Status>,
    /// What names stand for.
    pub names: cell::Receiver<Arc<Known>>,
}

impl Desk {
    /// The configuration that runs now.
    pub fn topology(&self) -> Arc<Topology> {
        self.topologies.borrow().clone()
    }

    /// Asks for a reload. `None` where too many wait already, or the proxy is about to stop.
    pub async fn ask(&self) -> Option<Arc<Outcome>> {
        let (to, answer) = oneshot::channel();
        self.requests.try_send(to).ok()?;
        answer.await.ok()
    }

    /// Asks for other roles. `None` where the proxy is about to stop.
    pub async fn assign(&self, roles: Roles) -> Option<Arc<Outcome>> {
        let (to, answer) = oneshot::channel();
        self.assignments.send((roles, to)).await.ok()?;
        answer.await.ok()
    }

    /// Has nothing reloaded until what is returned is dropped: whoever asks meanwhile waits. `None` where the proxy is about to
    /// stop.
    pub async fn hold(&self) -> Option<Held> {
        let (to, held) = oneshot::channel();
        self.holds.send(to).await.ok()?;
        held.await.ok()
    }

    /// A desk for a configuration that will not change, for tests of what asks.
    #[cfg(test)]
    pub(crate) fn closed(topology: Arc<Topology>) -> Self {
        Self {
            requests: mpsc::channel(1).0,
            assignments: mpsc::channel(1).0,
            holds: mpsc::channel(1).0,
            status: cell::channel(Status::first(&topology)).1,
            names: cell::channel(Arc::default()).1,
            topologies: cell::channel(topology).1,
        }
    }
}

/// Nothing is reloaded while this is kept.
#[derive(Debug)]
pub struct Held {
    /// What runs.
    pub topology: Arc<Topology>,
    /// Who serves it.
    pub(crate) workers: Vec<mpsc::Sender<Order>>,
    _release: oneshot::Sender<()>,
}

/// What runs, and what it was made of.
#[derive(Debug)]
pub struct Origin {
    /// Where the configuration is read.
    pub path: PathBuf,
    /// As it was read.
    pub config: Config,
    /// What is laid over it.
    pub roles: Roles,
}

/// The one who reloads.
#[derive(Debug)]
pub struct Reloader {
    origin: Origin,
    hangups: Signal,
    requests: mpsc::Receiver<oneshot::Sender<Arc<Outcome>>>,
    assignments: mpsc::Receiver<Assignment>,
    holds: mpsc::Receiver<oneshot::Sender<Held>>,
    topologies: cell::Sender<Arc<Topology>>,
    status: cell::Sender<Status>,
    names: Names,
    scorer: mpsc::Sender<Command>,
    workers: Vec<mpsc::Sender<Order>>,
}

/// Who asks for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Signal,
    File,
    Operator,
    /// A name has other addresses.
    Names,
    /// The controller's plan has other roles.
    Plan,
}

impl Reloader {
    /// A reloader for a proxy that runs `topology`, and the desk in front of it. SIGHUP is caught from here on.
    ///
    /// # Errors
    /// When the signal cannot be caught.
    pub(crate) fn new(
        origin: Origin,
        topology: Arc<Topology>,
        names: Names,
        scorer: mpsc::Sender<Command>,
        workers: Vec<mpsc::Sender<Order>>,
    ) -> io::Result<(Self, Desk)> {
        let (ask, requests) = mpsc::channel(WAITING_MAX);
        let (assign, assignments) = mpsc::channel(1);
        let (hold, holds) = mpsc::channel(1);
        let (status, status_seen) = cell::channel(Status::first(&topology));
        let (topologies, topologies_seen) = cell::channel(topology);
        let desk = Desk {
            requests: ask,
            assignments: assign,
            holds: hold,
            topologies: topologies_seen,
            status: status_seen,
            names: names.known().clone(),
        };
        let reloader = Self {
            origin,
            hangups: signal(SignalKind::hangup())?,
            requests,
            assignments,
            holds,
            topologies,
            status,
            names,
            scorer,
            workers,
        };
        Ok((reloader, desk))
    }

    /// Reloads whenever it is asked for, until it is dropped.
    pub async fn run(mut self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut files = Watch::new(&self.origin);
        let mut known = self.names.known().clone();
        // What was learnt since the start is looked at, too.
        known.mark_changed();
        let mut answers = None;
        loop {
            tokio::select! {
                Some(()) = self.hangups.recv() => drop(self.reload(Asked::Signal).await),
                Some(operator) = self.requests.recv() => {
                    let outcome = self.reload(Asked::Operator).await;
                    // He may have given up.
                    let _ = operator.send(outcome);
                }
                Some((roles, link)) = self.assignments.recv() => {
                    let before = std::mem::replace(&mut self.origin.roles, roles);
                    let outcome = self.reload(Asked::Plan).await;
                    if outcome.is_err() {
                        self.origin.roles = before;
                    }
                    // It may have given up.
                    let _ = link.send(outcome);
                }
                Some(holder) = self.holds.recv() => self.wait_for(holder).await,
                Ok(()) = known.changed() => {
                    let newest = Some(known.borrow_and_update().answers.clone());
                    if newest != answers && self.reload(Asked::Names).await.is_ok() {
                        answers = newest;
                    }
                }
                _ = look.tick() => {
                    files.follow(&self.origin);
                    if files.have_changed() {
                        self.reload(Asked::File).await;
                    }
                }
            }
        }
    }

    /// Does nothing until the holder lets go.
    async fn wait_for(&self, holder: oneshot::Sender<Held>) {
        let (release, released) = oneshot::channel();
        let held = Held {
            topology: self.running(),
            workers: self.workers.clone(),
            _release: release,
        };
        // It may have given up; then what it was to hold is gone already.
        let _ = holder.send(held);
        let _ = released.await;
    }

    /// One reload, logged, counted, and told to the supervisor.
    async fn reload(&mut self, asked: Asked) -> Arc<Outcome> {
        let outcome = Arc::new(match asked {
            Asked::Names => self.answer().await,
            Asked::Plan => self.apply(self.origin.config.clone()).await,
            Asked::Signal | Asked::File | Asked::Operator => {
                supervisor::reloading();
                let outcome = self.attempt().await;
                supervisor::ready();
                outcome
            }
        });
        if matches!(asked, Asked::File | Asked::Names | Asked::Plan)
            && matches!(*outcome, Ok(Applied { changes: None, .. }))
        {
            // Touched, or asked for again with the same answer.
            return outcome;
        }
        match &*outcome {
            Ok(Applied {
                generation,
                changes: Some(changes),
                ..
            }) => tracing::info!(generation, by = ?asked, %changes, "configuration replaced"),
            Ok(Applied { generation, .. }) => {
                tracing::info!(generation, by = ?asked, "configuration is the one that runs already");
            }
            Err(refused) => {
                let result = refused.label();
                tracing::error!(result, by = ?asked, "configuration refused, nothing is changed: {refused}");
            }
        }
        let running = self.running();
        self.status
            .send_modify(|status| status.record(&running, outcome.clone()));
        outcome
    }

    fn running(&self) -> Arc<Topology> {
        self.topologies.borrow().clone()
    }

    /// The file, with what its names stand for.
    async fn attempt(&mut self) -> Outcome {
        let path = self.origin.path.clone();
        let answers = self.names.known().borrow().answers.clone();
        let config = blocking(move || config::load(&path, &answers)).await?;
        // Those that run are still needed if this one is refused.
        let running = self.running();
        self.names.want(&[&config, running.config()]).await;
        let outcome = self.apply(self.answered(config).await?).await;
        self.names.want(&[self.running().config()]).await;
        outcome
    }

    /// The text that runs, with other answers.
    async fn answer(&mut self) -> Outcome {
        let same_text = self.origin.config.clone();
        self.apply(self.answered(same_text).await?).await
    }

    /// The same text, with what its names stand for now.
    async fn answered(&self, config: Config) -> Result<Config, Refused> {
        if config.names().is_empty() {
            return Ok(config);
        }
        let known = self.names.known().borrow().clone();
        blocking(move || config::parse_again(&config, &known.answers)).await
    }

    /// Takes a checked configuration over, if it can be.
    async fn apply(&mut self, as_read: Config) -> Outcome {
        let before = self.running();
        let as_read = as_read.keeping(before.config());
        let config = self.origin.roles.applied(as_read.clone());
        if is_same(&config, before.config()) {
            return Ok(Applied::unchanged(&before));
        }
        let restart = outcome::needs_restart(before.config(), &config);
        if !restart.is_empty() {
            return Err(Refused::NeedsRestart(restart));
        }
        let after = before.next(config);
        let sockets = listen::open_new(&after, &before, self.workers.len())?;
        let (adopted, published) = oneshot::channel();
        let stopping = Refused::NotReady("the proxy is about to stop");
        if self
            .scorer
            .send(Command::Adopt(after.clone(), adopted))
            .await
            .is_err()
            || published.await.is_err()
        {
            return Err(stopping);
        }
        as_read.warnings().for_each(|warning| tracing::warn!("{warning}"));
        // From here on it runs, whatever the rest says.
        self.topologies.send_replace(after.clone());
        self.origin.config = as_read;
        let mut waiting = Vec::new();
        for (worker, opened) in self.workers.iter().zip(sockets) {
            let (done, is_done) = oneshot::channel();
            // A worker that is gone takes the process with it; that is seen elsewhere.
            if worker.send(Order::Adopt { opened, done }).await.is_ok() {
                waiting.push(is_done);
            }
        }
        for is_done in waiting {
            let _ = is_done.await;
        }
        Ok(Applied::new(&before, &after))
    }
}

/// Whether nothing is different: the same text, the same addresses behind its names, the same certificates and
/// pages in its files.
fn is_same(new: &Config, running: &Config) -> bool {
    let endpoints = |(a, b): (&Cluster, &Cluster)| a.endpoints == b.endpoints;
    // The same text has the same clusters and listeners, in the same order.
    new.source.hash == running.source.hash
        && new.clusters.iter().zip(&running.clusters).all(endpoints)
        && new
            .terminations()
            .zip(running.terminations())
            .all(|(a, b)| a.is_same_as(b))
        && new
            .originations()
            .zip(running.originations())
            .all(|(a, b)| a.is_same_as(b))
        && new.pages().eq(running.pages())
}

/// Reads where it disturbs nobody: a disk may be slow, and a listener's host name has to be resolved.
async fn blocking(
    read: impl FnOnce() -> Result<Config, Mistakes> + Send + 'static,
) -> Result<Config, Refused> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|_| Refused::NotReady("the file could not be read"))?
        .map_err(Refused::Invalid)
}
