//! The process: threads, sockets, signals, and the order in which they start and stop.
//!
//! Threads share nothing but the table. One per worker serves users, one scores; the main thread answers operators,
//! probes, and waits for signals. Start: every address is claimed before anything is served, so that
//! a port in use is an error at once and not half a proxy. Stop: readiness fails, accepting ends, requests in flight get
//! the grace time, and the process leaves as soon as the last one is done.

pub mod accept;
pub mod listen;
pub(crate) mod local;
pub mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::admin::{self, Admin, Readiness};
use crate::clock::Clock;
use crate::config::Config;
use crate::health::{self, Dropped};
use crate::http::EdgeProxy;
use crate::scorer::{Inputs, Question, Scorer};
use crate::table::Table;
use crate::topology::Topology;
use crate::upstream::Peers;
use crate::upstream::deadline;
use crate::upstream::network::Sampler;
use crate::worker::Worker;

use self::local::Local;

/// Idle upstream connections that one worker keeps per listener, over all endpoints.
const KEPT_CONNECTIONS_MAX: usize = 1024;

/// Attempts that pingora may make; the policy allows fewer, and is asked each time.
const PINGORA_ATTEMPTS_MAX: usize = 8;

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
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A thread or a runtime could not be made.
    #[error("the operating system refused a thread or an event queue")]
    Resources(#[source] io::Error),
    /// A worker ended by itself.
    #[error("a worker thread died")]
    WorkerDied,
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// When an address cannot be listened on, or the system has no threads to give.
pub fn run(config: Config) -> Result<(), ServerError> {
    let clock = Clock::start();
    let grace = config.grace;
    for listener in &config.listeners {
        listen::claim(listener.address).map_err(|e| refused(listener.name.as_str(), listener.address, e))?;
    }
    let admin_address = config.admin.address;
    let admin_socket = listen::exclusive(admin_address).map_err(|e| refused("admin", admin_address, e))?;

    let topology = Topology::new(config);
    let (scorer, table) = Scorer::new(clock, topology.clone());
    let (stop, stopped) = watch::channel(false);
    let (commands, commands_in) = mpsc::channel(WAITING_MAX);
    let (probes, probes_in) = mpsc::channel(WAITING_MAX);
    let (readiness, dropped) = (Readiness::default(), Dropped::default());

    let (workers, questions) = start_workers(clock, &topology, &table, &stopped)?;
    let inputs = Inputs {
        workers: questions,
        commands: commands_in,
        probes: probes_in,
    };
    let scorer = spawn("scorer", move || {
        runtime().map(|r| r.block_on(scorer.run(inputs)))
    })?;

    let main = runtime().map_err(ServerError::Resources)?;
    let outcome = main.block_on(async {
        let admin = Admin {
            commands,
            topology: topology.clone(),
            readiness: readiness.clone(),
            probes_dropped: dropped.clone(),
        };
        tokio::spawn(admin::serve(admin_socket, admin));
        tokio::spawn(health::run(topology, probes, dropped, stopped));
        readiness.serving();
        tracing::info!(workers = workers.len(), admin = %admin_address, "serving");
        let outcome = asked_to_stop(&workers).await;
        readiness.draining();
        tracing::info!(grace_s = grace.as_secs(), "draining");
        let _ = stop.send(true);
        drain(&workers, grace).await;
        outcome
    });
    drop(main);
    if workers.iter().all(JoinHandle::is_finished) {
        for thread in workers.into_iter().chain([scorer]) {
            let _ = thread.join();
        }
    }
    tracing::info!("stopped");
    outcome
}

fn refused(who: &str, address: SocketAddr, source: io::Error) -> ServerError {
    ServerError::Listen {
        who: who.to_owned(),
        address,
        source,
    }
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

/// Starts one thread per worker. Sockets are opened here, so that a failure is reported before anything serves.
fn start_workers(
    clock: Clock,
    topology: &Arc<Topology>,
    table: &Arc<Table>,
    stopped: &ShutdownWatch,
) -> Result<(Vec<Thread>, Vec<mpsc::Sender<Question>>), ServerError> {
    let (mut threads, mut questions) = (Vec::new(), Vec::new());
    let count = topology.config().workers;
    for index in 0..count {
        let mut sockets = Vec::new();
        for listener in &topology.config().listeners {
            let socket = listen::shared(listener.address);
            sockets.push(socket.map_err(|e| refused(listener.name.as_str(), listener.address, e))?);
        }
        let (ask, asked) = mpsc::channel(1);
        questions.push(ask);
        let (topology, table, stopped) = (topology.clone(), table.clone(), stopped.clone());
        threads.push(spawn(&format!("worker-{index}"), move || {
            let local = Local {
                worker: Worker::new(clock, topology.clone(), table, count),
                peers: Peers::new(&topology),
                sampler: Sampler::new(&topology.sizes()),
                armed: Arc::new(Notify::new()),
            };
            runtime()?.block_on(work(local, topology, sockets, asked, stopped))
        })?);
    }
    Ok((threads, questions))
}

/// One worker's life.
async fn work(
    local: Local,
    topology: Arc<Topology>,
    sockets: Vec<std::net::TcpListener>,
    asked: mpsc::Receiver<Question>,
    stopped: ShutdownWatch,
) -> io::Result<()> {
    let armed = local.armed.clone();
    local::install(local);
    let housekeeping = [tokio::spawn(answer(asked)), tokio::spawn(sweep(armed))];
    let mut listeners = JoinSet::new();
    for (index, (socket, listener)) in sockets.into_iter().zip(&topology.config().listeners).enumerate() {
        let edge = EdgeProxy { listener: index };
        let mut proxy = HttpProxy::new(edge, Arc::new(pingora_settings()));
        proxy.handle_init_modules();
        listeners.spawn(accept::serve(
            TcpListener::from_std(socket)?,
            Arc::new(proxy),
            stopped.clone(),
            listener.idle_timeout,
        ));
    }
    while listeners.join_next().await.is_some() {}
    housekeeping.iter().for_each(|task| task.abort());
    Ok(())
}

fn pingora_settings() -> ServerConf {
    ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: KEPT_CONNECTIONS_MAX,
        max_retries: PINGORA_ATTEMPTS_MAX,
        ..ServerConf::default()
    }
}

/// Answers the scorer's questions, and takes the table over that came of the last ones.
async fn answer(mut asked: mpsc::Receiver<Question>) {
    while let Some(mut question) = asked.recv().await {
        local::with(|l| {
            l.worker.refresh();
            l.worker.harvest(&mut question.spare);
        });
        // Sized for all answers that can be under way; a scorer that is gone needs none.
        let _ = question.answers.try_send(question.spare);
    }
}

/// Looks after the deadlines, and sleeps while there are none.
async fn sweep(armed: Arc<Notify>) {
    loop {
        if local::with(|l| l.worker.has_deadlines()) != Some(true) {
            armed.notified().await;
        }
        tokio::time::sleep(deadline::SLOT).await;
        local::with(|l| {
            l.worker.sweep(|socket| {
                // The other side may have been faster, and then nothing is left to do.
                let _ = foreshade_sys::shutdown(socket);
            });
        });
    }
}

/// Waits for a signal, or for a worker's death.
async fn asked_to_stop(workers: &[Thread]) -> Result<(), ServerError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Resources)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Resources)?;
    let mut look = tokio::time::interval(std::time::Duration::from_secs(1));
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

/// Waits until all workers are done, at most the grace time.
async fn drain(workers: &[Thread], grace: std::time::Duration) {
    let deadline = tokio::time::Instant::now() + grace;
    let mut look = tokio::time::interval(std::time::Duration::from_millis(20));
    while !workers.iter().all(JoinHandle::is_finished) && tokio::time::Instant::now() < deadline {
        look.tick().await;
    }
}
