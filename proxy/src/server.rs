//! The process: threads, sockets, signals, and the order in which they start and stop.
//!
//! Threads share nothing but the table. One per worker serves users, one scores, one sends
//! copies for the mirrors, one talks to the controller; the main thread answers operators,
//! probes, and waits for signals. Start: every address is claimed before anything is served, so that
//! a port in use is an error at once and not half a proxy. Where it takes the place of another process, all that could fail
//! has been done before the first user is served ([`crate::upgrade`]). How it stops: `end`.

pub mod accept;
mod arrive;
pub mod conn;
pub mod connections;
pub mod door;
mod end;
pub(crate) mod entrance;
mod handshake;
pub(crate) mod http2;
pub(crate) mod leave;
pub mod listen;
pub(crate) mod local;
mod operate;
mod pace;
pub mod stream;
mod work;

use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use foreshade_door::{Keys, TokenError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use crate::access_log::{Logger, Writing, writer};
use crate::acme::challenges::Challenges;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::mirror::{self, Mirror};
use crate::names::Names;
use crate::plan::Keeper;
use crate::plan::file::PlanFile;
use crate::plan::roles::Roles;
use crate::reload::Origin;
use crate::scorer::{Inputs, Question, Scorer};
use crate::table::Table;
use crate::topology::Topology;
use crate::trace::export::{self, Exporting};
use crate::trace::spans::Spans;
use crate::upgrade::start::{Start, Upgrades};
use crate::upgrade::successor::{Predecessor, UpgradeError};
use crate::upgrade::words::State;
use crate::verbosity::Verbosity;
use crate::worker::Worker;

use self::connections::Connections;
use self::listen::Sockets;
use self::local::Local;
use self::operate::{Doors, Operating};
use self::work::Ending;
pub(crate) use self::work::Order;

/// Commands and probe results that may wait for the scorer.
const WAITING_MAX: usize = 256;

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
    /// The process that serves does not give its place up.
    #[error("this process cannot take over")]
    Upgrade(#[from] UpgradeError),
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

/// Serves until SIGTERM or SIGINT, or until a successor does, then drains. `start` says where `config` came from, and where
/// the next one will; and whose place is to be taken, if anybody's.
///
/// # Errors
/// When an address cannot be listened on, or the system has no threads to give; or when the place is not given up.
pub fn run(start: Start, config: Config, verbosity: Verbosity) -> Result<(), ServerError> {
    let main = runtime().map_err(ServerError::Resources)?;
    let (names, config) = main.block_on(resolved(config));
    // Before the plan is read: from here on nobody else changes who serves.
    let (mut predecessor, left) = match &start.take_over {
        Some(path) => Predecessor::ask(path, &config).map(|(asked, left)| (Some(asked), left))?,
        None => Default::default(),
    };
    let (origin, keeper) = with_plan(start.config.clone(), config);
    let topology = Topology::new(origin.roles.applied(origin.config.clone()));
    let before = listen::Before::new(left.addresses, left.listeners);
    let sockets = listen::open_all(&topology, before, topology.config().workers)?;
    let doors = Doors::open(topology.config(), (left.admin, left.upgrade))?;
    let keys = keys(&topology.config().admin)?;
    let connections = Connections::new(sockets.len());
    let (loggers, access_log) = start_access_log(topology.config(), sockets.len())?;
    let (spans, traces) = start_traces(topology.config(), sockets.len())?;

    let known = predecessor.as_mut().map(Predecessor::prepared).transpose()?;
    listen::begin(&topology, &sockets)?;
    let mind = Mind::new(&topology, keeper, known);
    let (end, ending) = watch::channel(Ending::NotYet);
    let (commands, commands_in) = mpsc::channel(WAITING_MAX);
    let (probes, probes_in) = mpsc::channel(WAITING_MAX);
    let (mirror, mirror_questions, mirror_inputs) = mirror::channel();
    let challenges = Arc::<Challenges>::default();
    let beside = Beside {
        loggers,
        spans,
        connections: connections.clone(),
        // The mirror's thread ends with the last worker that could send it something.
        mirror,
        challenges: challenges.clone(),
    };
    let crew = start_workers(mind.clock, &mind.table, sockets, &ending, beside)?;
    let mirror = spawn("mirror", move || {
        runtime().map(|r| r.block_on(mirror::run(mirror_inputs)))
    })?;
    let inputs = Inputs {
        workers: crew.questions,
        commands: commands_in,
        probes: probes_in,
    };
    let scorer = start_scorer(mind.scorer, inputs)?;
    // Users are served here; whoever serves them beside this process stops now.
    if let Some(Err(error)) = predecessor.map(Predecessor::take_place) {
        // Some may have come in here, and the other one knows nothing of them.
        let grace = topology.config().grace;
        main.block_on(end::drain(&crew.threads, Ending::HandedOver, grace, &end));
        return Err(error.into());
    }
    doors.take();
    let operating = Operating {
        start,
        origin,
        topology,
        names,
        keeper: mind.keeper,
        doors,
        keys,
        verbosity,
        access_log: access_log.as_ref().map(|log| log.0.clone()),
        traces: traces.as_ref().map(|traces| traces.0.clone()),
        connections,
        mirror: mirror_questions,
        upgrades: mind.upgrades,
        challenges,
        commands,
        orders: crew.orders,
        probes,
    };
    let outcome = main.block_on(operating.run(&crew.threads, &end));
    drop(main);
    end::leave(crew.threads, [scorer, mirror], (access_log, traces));
    tracing::info!("stopped");
    outcome
}

/// What decides, and how much it knows.
struct Mind {
    clock: Clock,
    scorer: Scorer,
    table: Arc<Table>,
    keeper: Option<Keeper>,
    upgrades: Upgrades,
}

impl Mind {
    /// Begins with the plan that was kept, and with what a process before this one has learnt.
    fn new(topology: &Arc<Topology>, keeper: Option<Keeper>, known: Option<State>) -> Self {
        let is_known = known.is_some();
        let known = known.unwrap_or_default();
        let clock = if is_known {
            Clock::showing(known.now())
        } else {
            Clock::start()
        };
        // It may have come after the file was read.
        let keeper = match &topology.config().controller {
            Some(controller) if is_known && keeper.as_ref().and_then(Keeper::id) != known.plan => {
                Some(kept(controller))
            }
            _ => keeper,
        };
        let (mut scorer, table) = Scorer::new(clock, topology.clone());
        scorer.inherit(&known.clusters);
        if let Some(plan) = keeper.as_ref().and_then(Keeper::in_force) {
            scorer.begin_with(plan.clone());
        }
        Self {
            clock,
            scorer,
            table,
            keeper,
            upgrades: Upgrades::going_on_from(known.upgrades),
        }
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

/// What each worker makes spans with, and the thread that sends them; nothing where nobody is told of them.
type StartedTraces = (Vec<Spans>, Option<(Exporting, Thread)>);

fn start_traces(config: &Config, workers: usize) -> Result<StartedTraces, ServerError> {
    let Some(settings) = config.trace_export.clone() else {
        return Ok(Default::default());
    };
    let started = export::start(settings, workers).map_err(ServerError::Resources)?;
    let (spans, exporting, thread) = started;
    Ok((spans, Some((exporting, thread))))
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
    /// The same.
    spans: Vec<Spans>,
    connections: Connections,
    mirror: Mirror,
    challenges: Arc<Challenges>,
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
    let (mut loggers, mut spans) = (beside.loggers.into_iter(), beside.spans.into_iter());
    for (index, sockets) in sockets.into_iter().enumerate() {
        let (told, connections) = (
            (loggers.next(), spans.next()),
            beside.connections.of_worker(index),
        );
        let (ask, asked) = mpsc::channel(1);
        let (order, orders) = mpsc::channel(1);
        crew.questions.push(ask);
        crew.orders.push(order);
        let (table, mirror) = (table.clone(), beside.mirror.clone());
        let challenges = beside.challenges.clone();
        let inputs = work::Inputs {
            asked,
            orders,
            ending: ending.clone(),
        };
        crew.threads.push(spawn(&format!("worker-{index}"), move || {
            let worker = Worker::new(clock, table, count);
            let local = Local::new(worker.answering(challenges), told, connections, mirror);
            work::work(runtime()?, local, sockets, inputs)
        })?);
    }
    Ok(crew)
}
