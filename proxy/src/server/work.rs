//! One worker's life: its listeners come and go, its connections are served, the scorer is answered, deadlines are kept.
//!
//! A listener that goes stops accepting at once, after the connections that the kernel has accepted already. Its idle
//! connections are closed, those in the middle of a request are told with the answer that it was the last, and the
//! listener is done when the last one is. The same happens to all of them when the process is to stop, or when
//! another one has taken over; only that in this case idle connections may rest for a while more. Then there is an
//! end to patience, too: what is under way when the grace time is over is cut, and its lines are written.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use socket2::Socket;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::accept::{self, Guard, Terms};
use super::door::Door;
use super::listen::{Listening, Sockets};
use super::local::{self, Local};
use crate::config::Protocol;
use crate::http::EdgeProxy;
use crate::scorer::Question;
use crate::tcp;
use crate::topology::ids::ListenerId;
use crate::udp;
use crate::upstream::cut::Line;
use crate::upstream::deadline;

/// How long a connection may rest after another process has taken over, before it is closed. A client that sends a
/// request at the very moment has lost it, and one that has just been answered often does; one that has rested for so
/// long rarely does.
const REST_AT_HANDOVER: Duration = Duration::from_secs(5);

/// Attempts that pingora may make; the policy allows fewer, and is asked each time.
const PINGORA_ATTEMPTS_MAX: usize = 8;

/// What a worker is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Take the newest configuration over.
    Adopt {
        /// Of the listeners that are new in it.
        opened: Sockets,
        /// Told when it is done.
        done: oneshot::Sender<()>,
    },
    /// Show the sockets that it accepts from: another process is to accept from them, too.
    Lend(oneshot::Sender<Vec<(ListenerId, Socket)>>),
}

/// How a worker is spoken to.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) asked: mpsc::Receiver<Question>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) ending: watch::Receiver<Ending>,
}

/// How far the end of the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// It is not to end.
    NotYet,
    /// Another process has taken over: no more connections here, and on those that there are one more request.
    HandedOver,
    /// No more connections, and no more requests on those that there are.
    Drains,
    /// No more waiting for the requests under way.
    Cuts,
}

/// Runs until the process is to stop and the last connection is done, or cut.
pub(super) fn work(runtime: Runtime, local: Local, sockets: Sockets, inputs: Inputs) -> io::Result<()> {
    let served = runtime.block_on(serve(local, sockets, inputs));
    // Requests that are under way still are dropped with their tasks, and write their lines then.
    drop(runtime);
    // The last lines and spans are handed over when these are dropped, which nothing else would do before the process waits
    // for them.
    local::with(|l| (l.log, l.spans) = (None, None));
    served
}

async fn serve(local: Local, sockets: Sockets, inputs: Inputs) -> io::Result<()> {
    let (armed, mut orders, mut ending) = (local.armed.clone(), inputs.orders, inputs.ending);
    local::install(local);
    tokio::spawn(answer(inputs.asked));
    tokio::spawn(sweep(armed));
    let mut doors = Doors::default();
    doors.open(sockets)?;
    loop {
        tokio::select! {
            Some(order) = orders.recv() => doors.obey(order).await,
            Some(closed) = doors.serving.join_next() => doors.closed(closed.ok()),
            () = until(&mut ending, Ending::HandedOver) => break,
        }
    }
    if *ending.borrow() == Ending::HandedOver {
        local::with(|l| l.rest_at_end = REST_AT_HANDOVER);
    }
    doors.close_all();
    tokio::select! {
        () = doors.done() => {}
        () = until(&mut ending, Ending::Cuts) => {}
    }
    Ok(())
}

/// Waits until the end has come so far. A sender that is gone means the same.
async fn until(ending: &mut watch::Receiver<Ending>, stage: Ending) {
    let _ = ending.wait_for(|now| *now >= stage).await;
}

/// The listeners of one worker.
#[derive(Debug, Default)]
struct Doors {
    /// Accept loops, those included that only wait for their last connections.
    serving: JoinSet<ListenerId>,
    open: HashMap<ListenerId, OpenDoor>,
}

/// A listener that accepts connections.
#[derive(Debug)]
struct OpenDoor {
    /// Turned true, it closes it.
    close: watch::Sender<bool>,
    /// Told when its sockets are closed, and its address free.
    closed: oneshot::Receiver<()>,
    /// The same sockets once more, to be shown.
    sockets: Vec<Socket>,
}

/// A socket, and what is done with what comes to it.
enum Ear {
    Reads(TcpListener),
    Carries(TcpListener),
    Datagrams(Box<udp::Server>),
}

impl Ear {
    fn of(protocol: &Protocol, socket: Socket, listener: ListenerId) -> io::Result<Self> {
        match protocol {
            Protocol::Http => TcpListener::from_std(socket.into()).map(Self::Reads),
            Protocol::Tcp { .. } | Protocol::TlsPassthrough(_) => {
                TcpListener::from_std(socket.into()).map(Self::Carries)
            }
            Protocol::Udp { .. } => {
                let server = udp::Server::new(socket.into(), listener)?;
                Ok(Self::Datagrams(Box::new(server)))
            }
        }
    }
}

impl Doors {
    async fn obey(&mut self, order: Order) {
        match order {
            Order::Adopt { opened, done } => {
                local::with(Local::refresh);
                self.close_where_gone().await;
                if let Err(error) = self.open(opened) {
                    tracing::error!(%error, "a new listener cannot be served by this worker");
                }
                // Whoever gave it may have given up.
                let _ = done.send(());
            }
            Order::Lend(to) => {
                let all = self
                    .open
                    .iter()
                    .flat_map(|(id, door)| door.sockets.iter().map(|s| (*id, s)));
                let lent: io::Result<Vec<_>> =
                    all.map(|(id, socket)| Ok((id, socket.try_clone()?))).collect();
                match lent {
                    // Whoever asked may have given up.
                    Ok(lent) => drop(to.send(lent)),
                    Err(error) => tracing::error!(%error, "this worker cannot show its sockets"),
                }
            }
        }
    }

    fn open(&mut self, opened: Sockets) -> io::Result<()> {
        for Listening {
            listener,
            sockets,
            door,
        } in opened
        {
            let shown = sockets
                .iter()
                .map(|socket| socket.try_clone())
                .collect::<io::Result<_>>()?;
            let protocol = local::with(|l| Some(l.worker.listener(listener)?.protocol.clone()));
            let Some(protocol) = protocol.flatten() else {
                // It has gone meanwhile.
                continue;
            };
            let sockets: Vec<_> = sockets
                .into_iter()
                .map(|socket| Ear::of(&protocol, socket, listener))
                .collect::<io::Result<_>>()?;
            let (close, closing) = watch::channel(false);
            let (tell_closed, closed) = oneshot::channel();
            self.serving.spawn(async move {
                let serve = |socket| {
                    let (door, closing) = (door.clone(), closing.clone());
                    async move {
                        match socket {
                            Ear::Carries(socket) => tcp::serve(socket, listener, door, closing).await,
                            Ear::Reads(socket) => serve_http(socket, listener, door, closing).await,
                            Ear::Datagrams(server) => {
                                server.serve(door, closing).await;
                                JoinSet::new()
                            }
                        }
                    }
                };
                let connections = join_all(sockets.into_iter().map(serve)).await;
                // Nobody asks where the whole process ends.
                let _ = tell_closed.send(());
                for mut left in connections {
                    while left.join_next().await.is_some() {}
                }
                listener
            });
            self.open.insert(
                listener,
                OpenDoor {
                    close,
                    closed,
                    sockets: shown,
                },
            );
        }
        Ok(())
    }

    /// Closes the listeners that the configuration does not have any more, and waits until their addresses are free: the
    /// next configuration may have them again.
    async fn close_where_gone(&mut self) {
        let is_gone =
            |listener| local::with(|l| l.worker.topology().listener(listener).is_none()) == Some(true);
        let gone: Vec<_> = self.open.extract_if(|listener, _| is_gone(*listener)).collect();
        for (_, door) in gone {
            drop(door.sockets);
            door.close.send_replace(true);
            let _ = door.closed.await;
        }
    }

    fn close_all(&mut self) {
        for door in self.open.values_mut() {
            // Open here as well, they would stay open, and who waits there would wait in vain.
            door.sockets.clear();
            door.close.send_replace(true);
        }
    }

    /// Waits for the last connection of the last listener.
    async fn done(&mut self) {
        while self.serving.join_next().await.is_some() {}
    }

    /// The last connection of a listener is done.
    fn closed(&self, listener: Option<ListenerId>) {
        if let Some(listener) = listener {
            local::with(|l| l.worker.forget_listener(listener));
        }
    }
}

/// Serves requests until `closing` says so. What is left then are connections in the middle of one.
async fn serve_http(
    socket: TcpListener,
    listener: ListenerId,
    door: Arc<Door>,
    closing: watch::Receiver<bool>,
) -> JoinSet<()> {
    let edge = EdgeProxy {
        listener,
        closing: closing.clone(),
    };
    let mut proxy = HttpProxy::new(edge, Arc::new(pingora_settings()));
    proxy.handle_init_modules();
    let terms = move || Terms {
        // Of a listener that is gone nothing is waited for.
        idle_timeout: local::with(|l| l.worker.idle_timeout(listener))
            .flatten()
            .unwrap_or(Duration::ZERO),
        guard: Some(Guard {
            limits: local::with(|l| l.worker.limits(listener).cloned())
                .flatten()
                .unwrap_or_default(),
            listener,
            door: door.clone(),
        }),
    };
    accept::serve(socket, Arc::new(proxy), closing, terms).await
}

fn pingora_settings() -> ServerConf {
    ServerConf {
        threads: 1,
        // It never gets one to keep.
        upstream_keepalive_pool_size: 1,
        max_retries: PINGORA_ATTEMPTS_MAX,
        ..ServerConf::default()
    }
}

/// Answers the scorer's questions, and takes the table over that came of the last ones.
async fn answer(mut asked: mpsc::Receiver<Question>) {
    while let Some(mut question) = asked.recv().await {
        local::with(|l| {
            l.refresh();
            l.worker.harvest(&mut question.spare);
            if let Some(log) = &mut l.log {
                log.flush();
            }
            if let Some(spans) = &mut l.spans {
                spans.flush();
            }
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
            let has_bytes = |line: &Line| match line {
                Line::Socket(socket) => foreshade_sys::unread(*socket).is_ok_and(|bytes| bytes > 0),
                // Whoever serves it looks for an answer before he looks for this.
                Line::Stream(_) => false,
            };
            l.worker.sweep(has_bytes, |line| match line {
                // The other side may have been faster, and then nothing is left to do.
                Line::Socket(socket) => drop(foreshade_sys::shutdown(*socket)),
                Line::Stream(cut) => cut.make(),
            });
        });
    }
}
