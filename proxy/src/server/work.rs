//! One worker's life: its listeners come and go, its connections are served, the scorer is answered, deadlines are kept.
//!
//! A listener that goes stops accepting at once, after the connections that the kernel has accepted already. Its idle
//! connections are closed, those in the middle of a request are told with the answer that it was the last, and the
//! listener is done when the last one is. The same happens to all of them when the process is to stop.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::accept::{self, Guard, Terms};
use super::listen::Sockets;
use super::local::{self, Local};
use crate::http::EdgeProxy;
use crate::scorer::Question;
use crate::topology::ids::ListenerId;
use crate::upstream::deadline;

/// Attempts that pingora may make; the policy allows fewer, and is asked each time.
const PINGORA_ATTEMPTS_MAX: usize = 8;

/// A worker is told to take the newest configuration over.
#[derive(Debug)]
pub(crate) struct Order {
    /// Of the listeners that are new in it.
    pub(crate) opened: Sockets,
    /// Told when it is done.
    pub(crate) done: oneshot::Sender<()>,
}

/// How a worker is spoken to.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) asked: mpsc::Receiver<Question>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) stopped: ShutdownWatch,
}

/// Runs until the process is to stop and the last connection is done.
pub(super) async fn work(local: Local, sockets: Sockets, mut inputs: Inputs) -> io::Result<()> {
    let armed = local.armed.clone();
    local::install(local);
    let housekeeping = [tokio::spawn(answer(inputs.asked)), tokio::spawn(sweep(armed))];
    let mut doors = Doors::default();
    doors.open(sockets)?;
    loop {
        tokio::select! {
            Some(order) = inputs.orders.recv() => {
                local::with(Local::refresh);
                doors.close_where_gone();
                if let Err(error) = doors.open(order.opened) {
                    tracing::error!(%error, "a new listener cannot be served by this worker");
                }
                // Whoever gave it may have given up.
                let _ = order.done.send(());
            }
            Some(closed) = doors.serving.join_next() => doors.closed(closed.ok()),
            () = accept::until(&mut inputs.stopped) => break,
        }
    }
    doors.close_all();
    while doors.serving.join_next().await.is_some() {}
    housekeeping.iter().for_each(|task| task.abort());
    // Its last lines are handed over when it is dropped, which nothing else would do before the process waits for them.
    local::with(|l| l.log = None);
    Ok(())
}

/// The listeners of one worker.
#[derive(Debug, Default)]
struct Doors {
    /// Accept loops, those included that only wait for their last connections.
    serving: JoinSet<ListenerId>,
    /// Turned true, each closes its listener.
    open: HashMap<ListenerId, watch::Sender<bool>>,
}

impl Doors {
    fn open(&mut self, sockets: Sockets) -> io::Result<()> {
        for (listener, socket, door) in sockets {
            let socket = TcpListener::from_std(socket)?;
            let (close, closing) = watch::channel(false);
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
                    door: door.clone(),
                }),
            };
            let serving = accept::serve(socket, Arc::new(proxy), closing, terms);
            self.serving.spawn(async move {
                serving.await;
                listener
            });
            self.open.insert(listener, close);
        }
        Ok(())
    }

    /// Closes the listeners that the configuration does not have any more.
    fn close_where_gone(&mut self) {
        self.open.retain(|listener, close| {
            let stays = local::with(|l| l.worker.topology().listener(*listener).is_some());
            if stays == Some(false) {
                close.send_replace(true);
            }
            stays != Some(false)
        });
    }

    fn close_all(&mut self) {
        for close in self.open.values() {
            close.send_replace(true);
        }
    }

    /// The last connection of a listener is done.
    fn closed(&self, listener: Option<ListenerId>) {
        if let Some(listener) = listener {
            local::with(|l| l.worker.forget_listener(listener));
        }
    }
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
