//! A new configuration while the proxy runs: asked for by SIGHUP, by an operator, or by the file itself when it changes.
//!
//! Everything that can fail is done before anything changes: the file is read, checked and built, and new listeners are
//! bound. A file with mistakes, an address that is taken, or a change that needs a restart changes nothing, and says why.
//! Only then the scorer publishes configuration and decisions in one snapshot, and each worker takes it over between two
//! steps of its requests and opens and closes its listeners. One reload at a time; nothing here runs on a thread that
//! serves users.
//!
//! What stays is told from what is new by `topology::ids`, and keeps its history, risk, connections and counters.

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
use self::watch::FileWatch;
use crate::command::Command;
use crate::config::{self, Config};
use crate::server::{Order, listen};
use crate::topology::Topology;

/// How often the file is looked at. A change counts when two looks in a row have seen the same, so that a file is not
/// read while it is written; it is then applied within two to three seconds.
const LOOK: Duration = Duration::from_secs(1);

/// Operators that may wait at a time; more are told to come back.
const WAITING_MAX: usize = 16;

/// What became of a reload.
pub type Outcome = Result<Applied, Refused>;

/// Where reloads are asked for, and asked about.
#[derive(Clone, Debug)]
pub struct Desk {
    requests: mpsc::Sender<oneshot::Sender<Arc<Outcome>>>,
    /// The configuration that runs.
    pub topologies: cell::Receiver<Arc<Topology>>,
    /// What has been tried since the start.
    pub status: cell::Receiver<Status>,
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

    /// A desk for a configuration that will not change, for tests of what asks.
    #[cfg(test)]
    pub(crate) fn closed(topology: Arc<Topology>) -> Self {
        Self {
            requests: mpsc::channel(1).0,
            status: cell::channel(Status::first(&topology)).1,
            topologies: cell::channel(topology).1,
        }
    }
}

/// The one who reloads.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    hangups: Signal,
    requests: mpsc::Receiver<oneshot::Sender<Arc<Outcome>>>,
    topologies: cell::Sender<Arc<Topology>>,
    status: cell::Sender<Status>,
    scorer: mpsc::Sender<Command>,
    workers: Vec<mpsc::Sender<Order>>,
}

/// Who asks for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Signal,
    File,
    Operator,
}

impl Reloader {
    /// A reloader for a proxy that runs `topology`, and the desk in front of it. SIGHUP is caught from here on.
    ///
    /// # Errors
    /// When the signal cannot be caught.
    pub(crate) fn new(
        path: PathBuf,
        topology: Arc<Topology>,
        scorer: mpsc::Sender<Command>,
        workers: Vec<mpsc::Sender<Order>>,
    ) -> io::Result<(Self, Desk)> {
        let (ask, requests) = mpsc::channel(WAITING_MAX);
        let (status, status_seen) = cell::channel(Status::first(&topology));
        let (topologies, topologies_seen) = cell::channel(topology);
        let desk = Desk {
            requests: ask,
            topologies: topologies_seen,
            status: status_seen,
        };
        let reloader = Self {
            path,
            hangups: signal(SignalKind::hangup())?,
            requests,
            topologies,
            status,
            scorer,
            workers,
        };
        Ok((reloader, desk))
    }

    /// Reloads whenever it is asked for, until it is dropped.
    pub async fn run(mut self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut file = FileWatch::new(self.path.clone());
        loop {
            tokio::select! {
                Some(()) = self.hangups.recv() => drop(self.reload(Asked::Signal).await),
                Some(operator) = self.requests.recv() => {
                    let outcome = self.reload(Asked::Operator).await;
                    // He may have given up.
                    let _ = operator.send(outcome);
                }
                _ = look.tick() => if file.has_changed() {
                    self.reload(Asked::File).await;
                },
            }
        }
    }

    /// One reload, logged and counted.
    async fn reload(&self, asked: Asked) -> Arc<Outcome> {
        let outcome = Arc::new(self.attempt().await);
        if asked == Asked::File && matches!(*outcome, Ok(Applied { changes: None, .. })) {
            // Touched, or what we have read already.
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

    async fn attempt(&self) -> Outcome {
        let path = self.path.clone();
        // Reading may block on a disk, resolving on a network.
        let read = tokio::task::spawn_blocking(move || config::load(&path));
        let config = read
            .await
            .map_err(|_| Refused::NotReady("the file could not be read in time"))?
            .map_err(Refused::Invalid)?;
        self.apply(config).await
    }

    /// Takes a checked configuration over, if it can be.
    async fn apply(&self, config: Config) -> Outcome {
        let before = self.running();
        if config.hash == before.config().hash {
            return Ok(Applied::unchanged(&before));
        }
        let restart = outcome::needs_restart(before.config(), &config);
        if !restart.is_empty() {
            return Err(Refused::NeedsRestart(restart));
        }
        let after = before.next(config);
        let sockets = listen::open(&after, Some(&before), self.workers.len())?;
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
        // From here on it runs, whatever the rest says.
        self.topologies.send_replace(after.clone());
        let mut waiting = Vec::new();
        for (worker, opened) in self.workers.iter().zip(sockets) {
            let (done, is_done) = oneshot::channel();
            // A worker that is gone takes the process with it; that is seen elsewhere.
            if worker.send(Order { opened, done }).await.is_ok() {
                waiting.push(is_done);
            }
        }
        for is_done in waiting {
            let _ = is_done.await;
        }
        Ok(Applied::new(&before, &after))
    }
}
