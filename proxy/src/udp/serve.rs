//! A listening socket: its turns, and its end.
//!
//! Whoever has nothing to wait for does a turn: some answers, some datagrams, what has been waited for long enough. Each is
//! bounded, and after each turn the worker's other tasks have theirs, so that a flood of datagrams costs requests of HTTP
//! on the same thread a fraction of a millisecond and no more.

use std::io;
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use foreshade_engine::moment::Moment;
use foreshade_sys::datagrams::{BATCH_MAX, Batch};
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::sessions::Sessions;
use super::table::Id;
use super::terms::Terms;
use crate::server::accept::until;
use crate::server::door::Door;
use crate::server::local;
use crate::topology::ids::ListenerId;

/// Answers that are taken in a turn, each of another session: more of one wait for the next turn, behind the others'.
const ANSWERS_MAX: usize = 16;

/// How often a listener that is about to end looks whether it can.
const LOOK: Duration = Duration::from_millis(20);

/// How long a listener that a reload has taken away waits for answers that are owed. Its address is not free before, and no
/// other reload is made meanwhile.
const LEAVE_MAX: Duration = Duration::from_millis(500);

/// Turns that a listener has for what its clients have sent before it closed: all that the kernel keeps, unless they go on.
const LAST_TURNS_MAX: usize = 256;

/// A listening socket, its clients, and their endpoints.
pub(crate) struct Server {
    listener: ListenerId,
    socket: tokio::net::UdpSocket,
    batch: Batch,
    sessions: Sessions,
}

impl Server {
    /// Makes ready to serve. The socket does not block.
    ///
    /// # Errors
    /// The machine has no files left.
    pub(crate) fn new(socket: UdpSocket, listener: ListenerId) -> io::Result<Self> {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "what is to replace it is unsafe; this descriptor is owned, and stays open as long as it is watched"
        )]
        let queue = AsyncFd::with_interest(queue, Interest::READABLE)?;
        let sessions = Sessions::new(listener, socket.try_clone()?, queue)?;
        Ok(Self {
            listener,
            socket: tokio::net::UdpSocket::from_std(socket)?,
            batch: Batch::default(),
            sessions,
        })
    }

    /// Serves until `closing` says so, and until what is owed then has come, or is waited for no longer.
    pub(crate) async fn serve(mut self, door: Arc<Door>, mut closing: watch::Receiver<bool>) {
        let mut timer = pin!(sleep(Duration::ZERO));
        loop {
            tokio::select! {
                biased;
                () = until(&mut closing) => break,
                () = &mut timer => {}
                ready = self.sessions.queue.readable() => if ready.is_err() { break },
                ready = self.socket.readable() => if ready.is_err() { break },
            }
            let now = self.turn(&door, true);
            let due = self.sessions.due(now).map(|due| Instant::now() + due);
            // One that is too early costs a turn, and setting it anew each time would cost each datagram.
            if let Some(due) = due.filter(|due| timer.is_elapsed() || *due < timer.deadline()) {
                timer.as_mut().reset(due);
            } else if due.is_none() && timer.is_elapsed() {
                timer.as_mut().reset(Instant::now() + Duration::from_secs(3600));
            }
            tokio::task::yield_now().await;
        }
        self.end(&door).await;
    }

    /// Clients are heard no longer, those aside whose datagrams are here already; answers come and go on.
    async fn end(mut self, door: &Arc<Door>) {
        let listener = self.listener;
        let terms = local::with(|l| {
            let topology = l.worker.topology();
            let is_gone = topology.listener(listener).is_none();
            let grace = topology.config().grace;
            (l.rest_at_end, if is_gone { LEAVE_MAX.min(grace) } else { grace })
        });
        let (rest, grace) = terms.unwrap_or_default();
        // Where another process has taken over it hears by the same socket.
        if rest.is_zero() {
            for _ in 0..LAST_TURNS_MAX {
                let terms = self.terms(door);
                if !self.hear(&terms) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let leave_by = Instant::now() + grace;
        let mut look = tokio::time::interval(LOOK);
        while !self.sessions.is_empty() && Instant::now() < leave_by {
            let looks = tokio::select! {
                ready = self.sessions.queue.readable() => match ready {
                    Ok(_) => false,
                    Err(_) => break,
                },
                _ = look.tick() => true,
            };
            let now = self.turn(door, false);
            // It walks all of them, which no answer may cost.
            if looks {
                self.sessions.end_where_done(now, rest);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Does some of everything that there is to do: the time of it.
    fn turn(&mut self, door: &Arc<Door>, hears: bool) -> Moment {
        let terms = self.terms(door);
        self.answer(&terms);
        if hears {
            self.hear(&terms);
        }
        self.sessions.pass(&terms);
        terms.now
    }

    /// On what terms the listener serves now: a reload may have changed them.
    fn terms<'a>(&self, door: &'a Arc<Door>) -> Terms<'a> {
        Terms::now(self.listener, door)
    }

    /// Takes answers.
    fn answer(&mut self, terms: &Terms<'_>) {
        let mut room = [const { MaybeUninit::uninit() }; ANSWERS_MAX];
        let found = self.sessions.queue.try_io(Interest::READABLE, |queue| {
            let at_once = Timespec::default();
            match epoll::wait(queue, &mut room, Some(&at_once))? {
                ([], _) => Err(io::ErrorKind::WouldBlock.into()),
                (events, _) => Ok(events),
            }
        });
        for event in found.into_iter().flatten() {
            let id = Id::from(event.data.u64());
            self.sessions.take_answer(id, self.batch.room(), terms);
        }
    }

    /// Takes datagrams of clients. Whether there may be more.
    fn hear(&mut self, terms: &Terms<'_>) -> bool {
        let batch = &mut self.batch;
        let socket = self.socket.as_raw_fd();
        let came = self.socket.try_io(Interest::READABLE, || {
            match batch.receive(socket)? {
                BATCH_MAX => Ok(()),
                // There were no more: whatever comes now is told anew.
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        for datagram in self.batch.iter() {
            self.sessions.hear(&datagram, terms);
        }
        self.batch.clear();
        came.is_ok()
    }
}

/// Watches the socket of a session.
pub(super) fn watch(queue: &impl AsFd, socket: &UdpSocket, id: Id) -> io::Result<()> {
    let data = EventData::new_u64(id.into());
    Ok(epoll::add(queue, socket, data, EventFlags::IN)?)
}
