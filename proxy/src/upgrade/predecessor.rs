//! The side of the process that serves: it waits for a successor, starts one where it is told to, and hands over.
//!
//! One hand-over at a time, and no reload during one ([`Desk::hold`]): what the new process was told about the
//! listeners must be true when it serves. Everything up to the farewell only looks and lends, so giving up costs
//! nothing.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foreshade_door::{Door, Heir};
use rustix::net::sockopt::socket_cookie;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::line::{Line, Peer};
use super::start::{Start, Upgrades};
use super::talk::{blocking, expected, say, talked, understood};
use super::words::{Answer, Hello, Lent, Said, State, Welcome};
use super::{PATIENCE, PREPARING_MAX, UPGRADE_MAX};
use crate::command::Command;
use crate::config::Transport;
use crate::reload::{Desk, Held};
use crate::server::Order;
use crate::server::listen::spot;
use crate::supervisor;

/// Who may be talked to at a time: an operator, a successor, and some that are refused.
const TALKS_MAX: usize = 8;

/// After a failed accept, usually for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a second one gets nothing.
const BUSY: &str = "another process is taking over already";

/// The place of this process has been taken.
#[derive(Debug)]
pub struct HandedOver {
    /// By this process.
    pub pid: u32,
    /// Nothing is reloaded any more for as long as this is kept.
    pub held: Held,
}

/// Waits for successors.
#[derive(Debug)]
pub struct Host {
    /// How this process was started.
    pub start: Start,
    /// The one who reloads.
    pub desk: Desk,
    /// The one who knows of the endpoints.
    pub scorer: mpsc::Sender<Command>,
    /// What has been tried.
    pub upgrades: Upgrades,
    /// Told once, at the end.
    pub done: mpsc::Sender<HandedOver>,
}

/// The admin interface of this process.
#[derive(Debug)]
pub struct OwnAdmin {
    /// Where it is.
    pub address: String,
    /// Its socket.
    pub heir: Heir,
    /// Turned true, it hears nobody any more. Its receivers go when it does not.
    pub end: watch::Sender<bool>,
}

/// Sockets for others than users.
#[derive(Debug)]
struct Heirs {
    admin: OwnAdmin,
    /// Where successors ask.
    upgrade: Heir,
}

/// Whoever is talked to.
#[derive(Debug)]
struct Talk {
    host: Host,
    /// Where successors ask.
    socket: PathBuf,
    /// What is to be handed over beside what users connect to.
    heirs: Heirs,
    /// Held while sockets are handed over.
    handing: Mutex<()>,
    /// Held while a successor is started.
    starting: Mutex<()>,
    /// What became of the last hand-over.
    latest: watch::Sender<Option<Result<u32, String>>>,
    /// Whoever asks from here on is the successor's to answer, which listens on the same socket.
    over: watch::Sender<bool>,
}

impl Host {
    /// Waits until it is dropped. SIGQUIT starts a successor.
    ///
    /// # Errors
    /// The runtime takes no more.
    pub async fn run(self, door: Door, admin: OwnAdmin) -> io::Result<()> {
        let upgrade = door.heir()?;
        // Kept until the end: its file goes with it.
        let (listening, _remove) = match door {
            Door::Unix(listening, remove) => (listening, remove),
            Door::Tcp(_) => return Ok(()),
        };
        let socket = listening
            .local_addr()?
            .as_pathname()
            .map(PathBuf::from)
            .unwrap_or_default();
        let listening = tokio::net::UnixListener::from_std(listening)?;
        let mut quits = signal(SignalKind::quit())?;
        let talks = Arc::new(Semaphore::new(TALKS_MAX));
        let talk = Arc::new(Talk {
            host: self,
            socket,
            heirs: Heirs { admin, upgrade },
            handing: Mutex::default(),
            starting: Mutex::default(),
            latest: watch::channel(None).0,
            over: watch::channel(false).0,
        });
        let mut over = talk.over.subscribe();
        loop {
            let is_over = *over.borrow_and_update();
            tokio::select! {
                _ = over.changed() => {}
                accepted = listening.accept(), if !is_over => match accepted {
                    Ok((stream, _)) => {
                        // Who comes when too many are there already is hung up on.
                        let Ok(place) = talks.clone().try_acquire_owned() else { continue };
                        let (talk, stream) = (talk.clone(), stream.into_std()?);
                        tokio::spawn(async move {
                            talk.with(stream).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot hear successors");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(()) = quits.recv() => {
                    let talk = talk.clone();
                    tokio::spawn(async move { talk.start_by_signal().await });
                }
            }
        }
    }
}

/// Where no successor is waited for, SIGQUIT starts none; left alone it would end the process.
pub async fn refuse_signals() -> io::Result<()> {
    let mut quits = signal(SignalKind::quit())?;
    while quits.recv().await.is_some() {
        tracing::error!("not upgraded, this process goes on: the configuration has no upgrade.socket");
    }
    Ok(())
}

impl Talk {
    async fn with(&self, stream: std::os::unix::net::UnixStream) {
        let line = blocking(move || {
            let mut line = Line::with(stream).map_err(|error| error.to_string())?;
            let peer = line.peer().map_err(|error| error.to_string())?;
            if !peer.is_trusted() {
                // Nothing of what a stranger says is read.
                let why = format!("user {} is neither root nor the user of this process", peer.uid);
                let _ = line.say(&Answer::Refused { why: why.clone() }, PATIENCE);
                return Err(why);
            }
            let said = line.hear::<Said>(PATIENCE).map_err(|error| error.to_string())?;
            Ok((line, peer, said))
        });
        let (line, peer, said) = match line.await {
            Ok(heard) => heard,
            Err(why) => return tracing::warn!(why, "whoever asked for an upgrade is not answered"),
        };
        match said {
            Said::Upgrade { protocol } => {
                // Kept until he has been told: the process does not end before.
                let starting = self.starting.try_lock();
                let answer = match understood(protocol) {
                    Ok(()) if starting.is_err() => Err("an upgrade is under way already".to_owned()),
                    Ok(()) => self.start().await,
                    Err(why) => Err(why),
                };
                let answer =
                    answer.map_or_else(|why| Answer::Refused { why }, |pid| Answer::Upgraded { pid });
                say(line, answer).await;
            }
            Said::Hello(hello) => self.hand_over(line, peer, hello).await,
            Said::Prepared | Said::Serving => {
                let why = "nothing has been handed over yet".to_owned();
                say(line, Answer::Refused { why }).await;
            }
        }
    }

    /// Starts a successor because a signal says so.
    async fn start_by_signal(&self) {
        let started = match self.starting.try_lock() {
            Ok(_starting) => self.start().await,
            Err(_) => Err("an upgrade is under way already".to_owned()),
        };
        if let Err(why) = started {
            tracing::error!(why, "not upgraded, this process goes on");
        }
    }

    /// Starts a successor, and waits until it serves: its process.
    async fn start(&self) -> Result<u32, String> {
        if self.handing.try_lock().is_err() {
            return Err(BUSY.to_owned());
        }
        let mut latest = self.latest.subscribe();
        latest.mark_unchanged();
        let (pid, mut ended) = self.host.start.successor(&self.socket).map_err(|error| {
            self.host.upgrades.add("failed");
            format!("a new process cannot be started: {error}")
        })?;
        tracing::info!(pid, "a successor is started");
        let outcome = async {
            let status = tokio::select! {
                biased;
                _ = latest.changed() => return latest.borrow().clone(),
                status = &mut ended => status.ok(),
            };
            // What has been begun with it says more than that it has ended.
            drop(self.handing.lock().await);
            if latest.has_changed().unwrap_or_default() {
                return latest.borrow().clone();
            }
            let how = status.map_or_else(String::new, |status| format!(" ({status})"));
            Some(Err(format!(
                "the new process ended{how} before it asked; its log says why"
            )))
        };
        let late = || Some(Err("the new process did not get ready in time".to_owned()));
        let outcome = timeout(UPGRADE_MAX, outcome).await.unwrap_or_else(|_| late());
        let outcome = outcome.unwrap_or_else(|| Err("it is not known what became of it".to_owned()));
        if outcome.is_err() {
            self.host.upgrades.add("failed");
            // One that hangs must not come to itself later, and find its sockets in use.
            let lives = matches!(ended.try_recv(), Err(TryRecvError::Empty));
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| lives) {
                // It may have been faster.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        outcome
    }

    async fn hand_over(&self, line: Line, peer: Peer, hello: Hello) {
        let Ok(_handing) = self.handing.try_lock() else {
            let why = BUSY.to_owned();
            return say(line, Answer::Refused { why }).await;
        };
        tracing::info!(
            pid = peer.pid,
            version = hello.version,
            "a successor asks for the sockets"
        );
        match self.hand_over_to(line, peer, hello).await {
            Ok(held) => {
                tracing::info!(pid = peer.pid, "the successor serves");
                self.latest.send_replace(Some(Ok(peer.pid)));
                // Whoever has ordered it is told first.
                let _ = timeout(PATIENCE, self.starting.lock()).await;
                // Only the end of the process can have been faster.
                let _ = self.host.done.send(HandedOver { pid: peer.pid, held }).await;
            }
            Err((line, why)) => {
                tracing::error!(pid = peer.pid, why, "not upgraded, this process goes on");
                if self.starting.try_lock().is_ok() {
                    // Nobody has ordered it who would count it.
                    self.host.upgrades.add("failed");
                }
                self.latest.send_replace(Some(Err(why.clone())));
                if let Some(line) = line {
                    say(line, Answer::Refused { why }).await;
                }
            }
        }
    }

    /// `Err` with the line, where whoever is at its other end has to be told.
    async fn hand_over_to(
        &self,
        line: Line,
        peer: Peer,
        hello: Hello,
    ) -> Result<Held, (Option<Line>, String)> {
        if let Err(why) = understood(hello.protocol) {
            return Err((Some(line), why));
        }
        let Some(held) = self.host.desk.hold().await else {
            return Err((Some(line), "this process is about to stop".to_owned()));
        };
        let (welcome, sockets) = match self.lend(&held, &hello).await {
            Ok(lent) => lent,
            Err(why) => return Err((Some(line), why)),
        };
        let line = talked(line, move |line| {
            line.say(&Answer::Welcome(welcome), PATIENCE)?;
            let sockets: Vec<_> = sockets.iter().map(OwnedFd::as_fd).collect();
            line.send(&sockets, PATIENCE)?;
            line.hear(PREPARING_MAX)
        })
        .await;
        let line = expected(line, |said| matches!(said, Said::Prepared))?;
        let Some(state) = self.state().await else {
            return Err((Some(line), "the scorer does not answer".to_owned()));
        };
        let line = talked(line, move |line| {
            line.say(&Answer::State(Box::new(state)), PATIENCE)?;
            line.hear(PATIENCE)
        })
        .await;
        let line = expected(line, |said| matches!(said, Said::Serving))?;
        // Before the farewell, after which the successor answers.
        self.over.send_replace(true);
        let said = blocking(move || {
            let mut line = line;
            line.say(&Answer::Farewell, PATIENCE)
                .map_err(|error| error.to_string())
        });
        if let Err(why) = said.await {
            self.over.send_replace(false);
            return Err((None, why));
        }
        // Not before: a supervisor that listens to its main process alone could not be told that this one goes on.
        supervisor::main_process(peer.pid);
        self.wanted(&hello).for_each(|(_, heir)| heir.leave());
        // Before anybody is told: whoever has been, and looks at the admin interface, finds the new process.
        let end = &self.heirs.admin.end;
        end.send_replace(true);
        let _ = timeout(PATIENCE, end.closed()).await;
        Ok(held)
    }

    /// The sockets that a successor needs, each once, and what they are.
    async fn lend(&self, held: &Held, hello: &Hello) -> Result<(Welcome, Vec<OwnedFd>), String> {
        let mut shown = Vec::new();
        for worker in &held.workers {
            let (to, from) = oneshot::channel();
            let asked = async {
                worker.send(Order::Lend(to)).await.ok()?;
                from.await.ok()
            };
            let sockets = timeout(PATIENCE, asked).await.ok().flatten();
            shown.extend(sockets.ok_or("a worker does not show its sockets")?);
        }
        let mut known = HashSet::new();
        let (mut names, mut sockets) = (Vec::new(), Vec::new());
        for (listener, socket) in shown {
            let Some((listener, _)) = held.topology.listener(listener) else {
                continue;
            };
            let (wanted, name) = match spot(listener) {
                (Transport::Tcp, address) => (hello.listeners.contains(&address), Lent::Listener(address)),
                (Transport::Udp, address) => (hello.datagrams.contains(&address), Lent::Datagrams(address)),
            };
            if !wanted {
                continue;
            }
            // One that several workers accept from is shown by each.
            if known.insert(socket_cookie(&socket).map_err(|error| error.to_string())?) {
                names.push(name);
                sockets.push(OwnedFd::from(socket));
            }
        }
        for (name, heir) in self.wanted(hello) {
            names.push(name);
            sockets.push(heir.socket.try_clone().map_err(|error| error.to_string())?);
        }
        let on = |transport| {
            let spots = held.topology.listeners().map(|(_, listener)| spot(listener));
            spots
                .filter_map(|spot| (spot.0 == transport).then_some(spot.1))
                .collect()
        };
        let welcome = Welcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listeners: on(Transport::Tcp),
            datagrams: on(Transport::Udp),
            sockets: names,
        };
        Ok((welcome, sockets))
    }

    /// Those of the other sockets that a successor wants to have, too.
    fn wanted(&self, hello: &Hello) -> impl Iterator<Item = (Lent, &Heir)> {
        let Heirs { admin, upgrade } = &self.heirs;
        let admin = (hello.admin == admin.address).then_some((Lent::Admin, &admin.heir));
        let is_here = hello.upgrade.as_deref() == self.socket.to_str();
        admin
            .into_iter()
            .chain(is_here.then_some((Lent::Upgrade, upgrade)))
    }

    /// What is known now.
    async fn state(&self) -> Option<State> {
        let (to, from) = oneshot::channel();
        let asked = async {
            self.host.scorer.send(Command::Bequeath(to)).await.ok()?;
            from.await.ok()
        };
        let mut state = timeout(PATIENCE, asked).await.ok().flatten()?;
        state.upgrades = self.host.upgrades.all();
        *state.upgrades.entry("done".to_owned()).or_default() += 1;
        Some(state)
    }
}
