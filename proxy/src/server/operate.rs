//! The main thread, while others serve users: all that may be slow is done here, so that no user waits for it. It
//! answers operators, probes, reloads, talks to the supervisor, and waits for what ends the process.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use foreshade_door::{Door, Keys};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::connections::Connections;
use super::end::{Why, asked_to_stop, drain};
use super::work::{Ending, Order};
use super::{ServerError, Thread, runtime, spawn};
use crate::access_log::Writing;
use crate::acme;
use crate::acme::challenges::Challenges;
use crate::admin::{self, Admin, Readiness};
use crate::command::Command;
use crate::config::{AdminAddress, Config};
use crate::health::{self, Dropped, ProbeResult};
use crate::link::view::Viewed;
use crate::link::{Inside, Link};
use crate::mirror::Questions;
use crate::names::Names;
use crate::plan::Keeper;
use crate::reload::{Desk, Origin, Reloader};
use crate::supervisor;
use crate::topology::Topology;
use crate::trace::export::Exporting;
use crate::upgrade::predecessor::{Host, OwnAdmin, refuse_signals};
use crate::upgrade::start::{Start, Upgrades};
use crate::verbosity::Verbosity;

/// Who may connect to the socket of upgrades.
const UPGRADE_MODE: u32 = 0o600;

/// Where others than users come in.
#[derive(Debug)]
pub(super) struct Doors {
    admin: Door,
    upgrade: Option<Door>,
}

impl Doors {
    /// Opens them, or goes on with those that were `left`: of the admin interface, and of upgrades.
    pub(super) fn open(
        config: &Config,
        left: (Option<OwnedFd>, Option<OwnedFd>),
    ) -> Result<Self, ServerError> {
        let upgrade = config.upgrade_socket.clone().map(|path| AdminAddress::Unix {
            path,
            mode: UPGRADE_MODE,
        });
        Ok(Self {
            admin: open("admin", &config.admin.address, left.0)?,
            upgrade: upgrade
                .map(|address| open("upgrade", &address, left.1))
                .transpose()?,
        })
    }

    /// They are this process's from here on.
    pub(super) fn take(&self) {
        self.admin.take();
        self.upgrade.iter().for_each(Door::take);
    }
}

fn open(who: &str, address: &AdminAddress, left: Option<OwnedFd>) -> Result<Door, ServerError> {
    let door = match left {
        Some(socket) => Door::inherit(address, socket),
        None => Door::open(address),
    };
    door.map_err(|e| ServerError::refused(who, address, e))
}

/// All that the main thread needs.
pub(super) struct Operating {
    pub(super) start: Start,
    pub(super) origin: Origin,
    pub(super) topology: Arc<Topology>,
    pub(super) names: Names,
    pub(super) keeper: Option<Keeper>,
    pub(super) doors: Doors,
    pub(super) keys: Keys,
    pub(super) verbosity: Verbosity,
    pub(super) access_log: Option<Writing>,
    pub(super) traces: Option<Exporting>,
    pub(super) connections: Connections,
    pub(super) mirror: Questions,
    pub(super) upgrades: Upgrades,
    pub(super) challenges: Arc<Challenges>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) orders: Vec<mpsc::Sender<Order>>,
    pub(super) probes: mpsc::Sender<ProbeResult>,
}

impl Operating {
    /// Runs until the process is to end, and until the workers have: `end` tells them.
    pub(super) async fn run(
        self,
        workers: &[Thread],
        end: &watch::Sender<Ending>,
    ) -> Result<(), ServerError> {
        let reloader = Reloader::new(
            self.origin,
            self.topology,
            self.names,
            self.commands.clone(),
            self.orders,
        );
        let (reloader, desk) = reloader.map_err(ServerError::Resources)?;
        let (link, viewed) = start_link(self.keeper, (self.commands.clone(), self.mirror.clone()), &desk)?;
        let (readiness, dropped) = (Readiness::default(), Dropped::default());
        let (book, ordered) = watch::channel(Vec::new());
        let admin = Admin {
            ordered,
            link: viewed,
            commands: self.commands.clone(),
            reload: desk.clone(),
            readiness: readiness.clone(),
            probes_dropped: dropped.clone(),
            keys: self.keys,
            verbosity: self.verbosity,
            access_log: self.access_log.clone(),
            traces: self.traces,
            connections: self.connections,
            mirror: self.mirror,
            upgrades: self.upgrades.clone(),
        };
        let (done, handed_over) = mpsc::channel(1);
        let host = Host {
            start: self.start,
            desk: desk.clone(),
            scorer: self.commands.clone(),
            upgrades: self.upgrades,
            done,
        };
        tokio::spawn(rotate(self.access_log));
        let address = desk.topology().config().admin.address.to_string();
        answer(self.doors, &address, admin, host).map_err(ServerError::Resources)?;
        let probing = tokio::spawn(health::run(desk.topologies.clone(), self.probes, dropped));
        let reloading = tokio::spawn(reloader.run());
        let ordering = start_ordering(&desk, self.challenges, book)?;
        tokio::spawn(supervisor::keep_alive(self.commands));
        readiness.serving();
        supervisor::ready();
        tracing::info!(workers = workers.len(), admin = address, "serving");

        let outcome = asked_to_stop(workers, handed_over).await;
        readiness.draining();
        let ending = if let Ok(Why::HandedOver(by)) = &outcome {
            tracing::info!(pid = by.pid, "another process serves");
            Ending::HandedOver
        } else {
            supervisor::stopping();
            Ending::Drains
        };
        let grace = desk.topology().config().grace;
        tracing::info!(grace_s = grace.as_secs(), "draining");
        reloading.abort();
        probing.abort();
        // Whoever serves next orders.
        drop(ordering);
        drop(link);
        drain(workers, ending, grace, end).await;
        outcome.map(drop)
    }
}

/// Answers operators, until a successor does, and waits for that one.
fn answer(doors: Doors, address: &str, admin: Admin, host: Host) -> io::Result<()> {
    let (end, mut ended) = watch::channel(false);
    match doors.upgrade {
        Some(upgrade) => {
            let own = OwnAdmin {
                address: address.to_owned(),
                heir: doors.admin.heir()?,
                end,
            };
            tokio::spawn(host.run(upgrade, own));
        }
        None => drop(tokio::spawn(refuse_signals())),
    }
    let until = async move {
        if ended.wait_for(|ended| *ended).await.is_err() {
            // Nobody is waited for.
            std::future::pending::<()>().await;
        }
    };
    tokio::spawn(admin::serve(doors.admin, admin, until));
    Ok(())
}

/// The link to the controller, on a thread of its own that ends when what is returned is dropped; nothing where none is
/// configured.
fn start_link(
    keeper: Option<Keeper>,
    (scorer, mirror): (mpsc::Sender<Command>, Questions),
    desk: &Desk,
) -> Result<(Option<watch::Sender<bool>>, Viewed), ServerError> {
    let topology = desk.topology();
    let (Some(keeper), Some(settings)) = (keeper, topology.config().controller.clone()) else {
        return Ok((None, None));
    };
    let desk = desk.clone();
    let (link, viewed) = Link::new(settings, keeper, Inside { scorer, desk, mirror });
    let (stop, stopped) = watch::channel(false);
    // Nobody waits for it: it may be in the middle of a write, and has nothing that could be lost.
    spawn("link", move || {
        runtime().and_then(|r| r.block_on(link.run(stopped)))
    })?;
    Ok((Some(stop), viewed))
}

/// Orders certificates, on a thread of its own that ends when what is returned is dropped: it waits for the disk, and
/// nobody waits for it.
fn start_ordering(
    desk: &Desk,
    challenges: Arc<Challenges>,
    book: watch::Sender<Vec<acme::Row>>,
) -> Result<watch::Sender<bool>, ServerError> {
    let topologies = desk.topologies.clone();
    let (stop, mut stopped) = watch::channel(false);
    spawn("acme", move || {
        runtime()?.block_on(async {
            tokio::select! {
                () = acme::run(topologies, &challenges, book) => {}
                _ = stopped.changed() => {}
            }
        });
        Ok(())
    })?;
    Ok(stop)
}

/// Opens the access log anew at each SIGUSR1, as logrotate expects. Without a log the signal is taken all the same: left
/// alone it would end the process.
async fn rotate(log: Option<Writing>) -> io::Result<()> {
    let mut rotated = signal(SignalKind::user_defined1())?;
    while rotated.recv().await.is_some() {
        if let Some(log) = &log {
            log.reopen();
        }
    }
    Ok(())
}
