//! The process: threads, sockets, signals, and the order in which they start and stop.
//!
//! Threads share nothing but the table. One per worker serves users, one scores, one sends
//! copies for the mirrors, one talks to the controller; the main thread answers operators,
//! probes, and waits for signals. Start: every address is claimed before anything is served, so that
//! a port in use is an error at once and not half a proxy. Stop: readiness fails, accepting ends, requests in flight get
//! the grace time, and the process leaves as soon as the last one is done.

pub mod accept;
mod arrive;
pub mod conn;
pub mod connections;
pub mod door;
pub(crate) mod entrance;
mod handshake;
pub(crate) mod http2;
pub(crate) mod leave;
pub mod listen;
pub(crate) mod local;
mod pace;
pub mod stream;
mod work;

use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use foreshade_door::{Door, Keys, TokenError};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::access_log::{Logger, Writing, writer};
use crate::admin::{self, Admin, Readiness};
use crate::clock::Clock;
use crate::command::Command;
use crate::config::{self, Config};
use crate::health::{self, Dropped};
use crate::link::view::Viewed;
use crate::link::{Inside, Link};
use crate::mirror::{self, Mirror};
use crate::names::Names;
use crate::plan::Keeper;
use crate::plan::file::PlanFile;
use crate::plan::roles::Roles;
use crate::reload::{Desk, Origin, Reloader};
use crate::scorer::{Inputs, Question, Scorer};
use crate::table::Table;
use crate::topology::Topology;
use crate::verbosity::Verbosity;
use crate::worker::Worker;

use self::connections::Connections;
use self::listen::Sockets;
use self::local::Local;
use self::work::Ending;
pub(crate) use self::work::Order;

/// Commands and probe results that may wait for the scorer.
const WAITING_MAX: usize = 256;

/// After the grace time a worker has nothing left to do but to write a line for each request that it cuts.
const CUT_MAX: Duration = Duration::from_millis(500);

/// Why the proxy cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address cannot be listened on.
    #[error("{who} cannot listen on {address}")]
    Listen {
        /// The listener's name, or `admin`.
        who: String,
        /// What it should have listened on.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The access log cannot be opened.
    #[error("the access log cannot be opened")]
    AccessLog(#[source] io::Error),
    /// What should hold the admin interface's token does not.
    #[error("the tokenFile {}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TokenError,
    },
    /// A thread or a runtime could not be made.
    #[error("the operating system refused a thread or an event queue")]
    Resources(#[source] io::Error),
    /// A worker ended by itself.
    #[error("a worker thread died")]
    WorkerDied,
}

impl ServerError {
    fn refused(who: &str, address: impl Display, source: io::Error) -> Self {
        Self::Listen {
            who: who.to_owned(),
            address: address.to_string(),
            source,
        }
    }
}

/// Serves until SIGTERM or SIGINT, then drains. `path` is where `config` came from, and where the next one will.
///
/// # Errors
/// When an address cannot be listened on, or the system has no threads to give.
pub fn run(path: PathBuf, config: Config, verbosity: Verbosity) -> Result<(), ServerError> {
    let clock = Clock::start();
    let main = runtime().map_err(ServerError::Resources)?;
    let (names, config) = main.block_on(resolved(config));
    let (origin, keeper) = with_plan(path, config);
    let topology = Topology::new(origin.roles.applied(origin.config.clone()));
    let sockets = listen::open(&topology, None, topology.config().workers)?;
    let admin_address = topology.config().admin.address.clone();
    let door = Door::open(&admin_address).map_err(|e| ServerError::refused("admin", &admin_address, e))?;
    let keys = keys(&topology.config().admin)?;
    let connections = Connections::new(sockets.len());
    let (loggers, access_log) = start_access_log(topology.config(), sockets.len())?;

    let (scorer, table) = first_scorer(clock, &topology, keeper.as_ref());
    let (end, ending) = watch::channel(Ending::NotYet);
    let (commands, commands_in) = mpsc::channel(WAITING_MAX);
    let (probes, probes_in) = mpsc::channel(WAITING_MAX);
    let (readiness, dropped) = (Readiness::default(), Dropped::default());

    let (mirror, mirror_questions, mirror_inputs) = mirror::channel();
    let beside = Beside {
        loggers,
        connections: connections.clone(),
        // The mirror's thread ends with the last worker that could send it something.
        mirror,
    };
    let crew = start_workers(clock, &table, sockets, &ending, beside)?;
    let mirror = spawn("mirror", move || {
        runtime().map(|r| r.block_on(mirror::run(mirror_inputs)))
    })?;
    let inputs = Inputs {
        workers: crew.questions,
        commands: commands_in,
        probes: probes_in,
    };
    let scorer = start_scorer(scorer, inputs)?;

    let workers = crew.threads;
    let outcome = main.block_on(async {
        let (reloader, desk) = Reloader::new(origin, topology, names, commands.clone(), crew.orders)
            .map_err(ServerError::Resources)?;
        let (link, viewed) = start_link(keeper, commands.clone(), &desk)?;
        let admin = Admin {
            link: viewed,
            commands,
            reload: desk.clone(),
            readiness: readiness.clone(),
            probes_dropped: dropped.clone(),
            keys,
            verbosity,
            access_log: access_log.as_ref().map(|log| log.0.clone()),
            connections,
            mirror: mirror_questions,
        };
        tokio::spawn(rotate(admin.access_log.clone()));
        tokio::spawn(admin::serve(door, admin));
        let probing = tokio::spawn(health::run(desk.topologies.clone(), probes, dropped));
        let reloading = tokio::spawn(reloader.run());
        readiness.serving();
        tracing::info!(workers = workers.len(), admin = %admin_address, "serving");
        let outcome = asked_to_stop(&workers).await;
        readiness.draining();
        let grace = desk.topology().config().grace;
        tracing::info!(grace_s = grace.as_secs(), "draining");
        reloading.abort();
        probing.abort();
        drop(link);
        drain(&workers, grace, &end).await;
        outcome
    });
    drop(main);
    leave(workers, [scorer, mirror], access_log);
    tracing::info!("stopped");
    outcome
}

/// Waits for the other threads, which end with the last worker, and for the access log's last lines. A worker that is
/// still busy after the grace time ends with the process.
fn leave(workers: Vec<Thread>, others: [Thread; 2], access_log: Option<(Writing, JoinHandle<()>)>) {
    if workers.iter().all(JoinHandle::is_finished) {
        for thread in workers.into_iter().chain(others) {
            let _ = thread.join();
        }
    }
    if let Some((writing, thread)) = access_log {
        writing.end(thread);
    }
}

/// What the process starts with, and who keeps the plan where a controller is configured.
fn with_plan(path: PathBuf, config: Config) -> (Origin, Option<Keeper>) {
    config.warnings().for_each(|warning| tracing::warn!("{warning}"));
    let keeper = config.controller.as_ref().map(kept);
    let plan = keeper.as_ref().and_then(Keeper::in_force);
    let roles = plan.map(|plan| Roles::of(plan)).unwrap_or_default();
    (Origin { path, config, roles }, keeper)
}

/// The scorer and the first table, as the plan that was kept has it.
fn first_scorer(clock: Clock, topology: &Arc<Topology>, keeper: Option<&Keeper>) -> (Scorer, Arc<Table>) {
    let (mut scorer, table) = Scorer::new(clock, topology.clone());
    if let Some(plan) = keeper.and_then(Keeper::in_force) {
        scorer.begin_with(plan.clone());
    }
    (scorer, table)
}

fn start_scorer(scorer: Scorer, inputs: Inputs) -> Result<Thread, ServerError> {
    spawn("scorer", move || {
        runtime().map(|r| r.block_on(scorer.run(inputs)))
    })
}

/// The plan that was kept, or none.
fn kept(controller: &config::Controller) -> Keeper {
    let (keeper, outcome) = Keeper::start(PlanFile::new(&controller.plan_file));
    let path = controller.plan_file.display();
    match (keeper.id(), outcome) {
        (_, Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(%path, error, "starting without a plan: the proxy decides alone");
        }
        (Some(id), Ok(())) => {
            let (epoch, generation) = (id.epoch.0, id.generation.0);
            tracing::info!(%path, epoch, generation, "starting with the last good plan");
        }
        (None, Ok(())) => tracing::info!(%path, "no plan yet: the proxy decides alone"),
    }
    keeper
}

/// The link to the controller, on a thread of its own that ends when what is returned is dropped; nothing where none is
/// configured.
fn start_link(
    keeper: Option<Keeper>,
    scorer: mpsc::Sender<Command>,
    desk: &Desk,
) -> Result<(Option<watch::Sender<bool>>, Viewed), ServerError> {
    let topology = desk.topology();
    let (Some(keeper), Some(settings)) = (keeper, topology.config().controller.clone()) else {
        return Ok((None, None));
    };
    let desk = desk.clone();
    let (link, viewed) = Link::new(settings, keeper, Inside { scorer, desk });
    let (stop, stopped) = watch::channel(false);
    // Nobody waits for it: it may be in the middle of a write, and has nothing that could be lost.
    spawn("link", move || {
        runtime().and_then(|r| r.block_on(link.run(stopped)))
    })?;
    Ok((Some(stop), viewed))
}

fn keys(admin: &config::Admin) -> Result<Keys, ServerError> {
    let Some(path) = &admin.token_file else {
        return Ok(Keys::default());
    };
    Keys::load(path, admin.without_token).map_err(|source| ServerError::Token {
        path: path.clone(),
        source,
    })
}

/// What each worker logs with, and the writer; nothing where there is no access log.
type StartedLog = (Vec<Logger>, Option<(Writing, JoinHandle<()>)>);

fn start_access_log(config: &Config, workers: usize) -> Result<StartedLog, ServerError> {
    let Some(settings) = config.access_log.clone() else {
        return Ok(Default::default());
    };
    let started = writer::start(settings, workers).map_err(ServerError::AccessLog)?;
    let (loggers, writing, thread) = started;
    Ok((loggers, Some((writing, thread))))
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

/// The configuration with the addresses of its names, as far as they can be had in time. The others come in later.
async fn resolved(config: Config) -> (Names, Config) {
    let names = Names::start();
    if config.names().is_empty() {
        return (names, config);
    }
    let known = names.want(&[&config]).await;
    for row in known.rows.iter().filter(|row| row.addresses.is_empty()) {
        let (name, error) = (row.name.to_string(), &row.error);
        tracing::warn!(
            name,
            error,
            "name has no addresses yet: what it stands for is not available"
        );
    }
    // The text has been read before; only its names may mean more now.
    let answered = config::parse_again(&config, &known.answers);
    (names, answered.unwrap_or(config))
}

type Thread = JoinHandle<io::Result<()>>;

fn spawn(name: &str, body: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<Thread, ServerError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(ServerError::Resources)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// The workers, and how they are spoken to.
struct Crew {
    threads: Vec<Thread>,
    questions: Vec<mpsc::Sender<Question>>,
    orders: Vec<mpsc::Sender<Order>>,
}

/// What workers have beside their requests.
struct Beside {
    /// One per worker, or none at all.
    loggers: Vec<Logger>,
    connections: Connections,
    mirror: Mirror,
}

/// Starts one thread per list of sockets.
fn start_workers(
    clock: Clock,
    table: &Arc<Table>,
    sockets: Vec<Sockets>,
    ending: &watch::Receiver<Ending>,
    beside: Beside,
) -> Result<Crew, ServerError> {
    let count = sockets.len();
    let mut crew = Crew {
        threads: Vec::new(),
        questions: Vec::new(),
        orders: Vec::new(),
    };
    let mut loggers = beside.loggers.into_iter();
    for (index, sockets) in sockets.into_iter().enumerate() {
        let (log, connections) = (loggers.next(), beside.connections.of_worker(index));
        let (ask, asked) = mpsc::channel(1);
        let (order, orders) = mpsc::channel(1);
        crew.questions.push(ask);
        crew.orders.push(order);
        let (table, mirror) = (table.clone(), beside.mirror.clone());
        let inputs = work::Inputs {
            asked,
            orders,
            ending: ending.clone(),
        };
        crew.threads.push(spawn(&format!("worker-{index}"), move || {
            let local = Local::new(Worker::new(clock, table, count), log, connections, mirror);
            work::work(runtime()?, local, sockets, inputs)
        })?);
    }
    Ok(crew)
}

/// Waits for a signal, or for a worker's death.
async fn asked_to_stop(workers: &[Thread]) -> Result<(), ServerError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Resources)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Resources)?;
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = look.tick() => if workers.iter().any(JoinHandle::is_finished) {
                return Err(ServerError::WorkerDied);
            },
        }
    }
}

/// Has the workers end, and waits until all are done, at most the grace time. Then those that are not cut off what they
/// have.
async fn drain(workers: &[Thread], grace: Duration, end: &watch::Sender<Ending>) {
    end.send_replace(Ending::Drains);
    if !all_end(workers, grace).await {
        tracing::warn!("the grace time is over: requests under way are cut off");
        end.send_replace(Ending::Cuts);
        all_end(workers, CUT_MAX).await;
    }
}

/// Waits until all workers are done, at most so long. Whether they are.
async fn all_end(workers: &[Thread], limit: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + limit;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while !workers.iter().all(JoinHandle::is_finished) {
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        look.tick().await;
    }
    true
}
