//! The sessions of a listening socket: what becomes of a datagram, of an answer, and of time that passes.
//!
//! **Where a session goes** is decided when it begins, and again with the next datagram of its client once its endpoint has
//! let it down: refused something, not answered in time, failed over, or gone with a reload. It may be the same one again.
//! So a shift moves those that come, and those whom it would have helped; others, whose endpoint may know them by the
//! port that they come from, stay.
//!
//! **What is sent twice**: the first datagram by a socket, where the endpoint says that nobody listens. Of any later one
//! nobody knows whether it is the one that was refused, so after a refusal the session goes on by a new socket.
//!
//! A late answer reaches its client for as long as the session lasts, whatever the endpoint has been charged with.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use foreshade_engine::moment::Moment;
use foreshade_sys::datagrams::{self, Received};
use tokio::io::unix::AsyncFd;

use super::serve::watch;
use super::session::{Arrived, Exchange, KEPT_BYTES_MAX, Key, Session};
use super::table::{Id, SESSIONS_MAX, Table};
use super::terms::Terms;
use super::way::{self, Reached, Unsent, carry, reach, refuse, with_worker};
use crate::access_log::Reason;
use crate::config::Transport;
use crate::framing::Refusal;
use crate::outcome::Failure;
use crate::server::local;
use crate::topology::ids::ListenerId;
use crate::upstream::cut::Line;
use crate::upstream::deadline::{Deadlines, Entry, SLOT};
use crate::worker::{Flow, Next, SERVED, Worker};

/// Most exchanges that are waited for at a socket: some 20 MB. Datagrams beyond them are carried and not measured.
const WAITING_MAX: usize = 1 << 15;

/// Most memory of first datagrams at a socket: what thousands of clients begin with at the same time. None is kept beyond.
const KEPT_MAX: usize = 8 * 1024 * 1024;

/// When an answer that lay there unread is looked for again.
const UNREAD_PAUSE: Duration = Duration::from_millis(20);

/// Sessions that end in a turn because they have rested for long enough; more wait for the next one.
const ENDS_MAX: usize = 64;

/// Exchanges that are given up in a turn; more are looked at again a moment later.
const GIVEN_UP_MAX: usize = 256;

/// All sessions of a listening socket.
pub(super) struct Sessions {
    listener: ListenerId,
    /// What answers are sent by, and the address of it.
    socket: UdpSocket,
    address: SocketAddr,
    /// Where sockets to endpoints are watched.
    pub(super) queue: AsyncFd<OwnedFd>,
    table: Table<Key, Session>,
    deadlines: Deadlines<(Id, u32)>,
    /// Exchanges that are waited for.
    waiting: usize,
    /// Bytes of first datagrams.
    kept: usize,
    idle: Duration,
}

impl Sessions {
    pub(super) fn new(
        listener: ListenerId,
        socket: UdpSocket,
        queue: AsyncFd<OwnedFd>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            listener,
            address: socket.local_addr()?,
            socket,
            queue,
            table: Table::new(SESSIONS_MAX),
            deadlines: Deadlines::default(),
            waiting: 0,
            kept: 0,
            idle: Duration::ZERO,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// In which time something is to be done if nothing comes.
    pub(super) fn due(&self, now: Moment) -> Option<Duration> {
        if !self.deadlines.is_empty() {
            return Some(SLOT);
        }
        let (_, touched) = self.table.oldest()?;
        Some((touched + self.idle).since(now).max(SLOT))
    }

    /// A client's datagram.
    pub(super) fn hear(&mut self, datagram: &Received<'_>, terms: &Terms<'_>) {
        let key = (datagram.from, datagram.to);
        if let Some(id) = self.table.find(&key) {
            if !self.table.get(id).is_some_and(|session| terms.is_over(session)) {
                self.table.touch(id, terms.now);
                return self.go_on(id, datagram.bytes, terms);
            }
            self.end(id, Some(Failure::Lifetime));
        }
        self.begin(key, datagram.bytes, terms);
    }

    fn begin(&mut self, key: Key, bytes: &[u8], terms: &Terms<'_>) {
        if self.is_own(key) {
            return refuse(Refusal::DatagramLooped);
        }
        if self.table.len() >= SESSIONS_MAX {
            return refuse(Refusal::ConnectionsTooMany);
        }
        let visit = match terms.door.enter(key.0.ip(), &terms.limits) {
            Ok(visit) => visit,
            Err(refusal) => return refuse(refusal),
        };
        let Some(mut flow) = carry(self.listener, key) else {
            return;
        };
        let Some(Reached {
            socket: Some(socket),
            seat,
            places,
        }) = reach(&mut flow, bytes, None)
        else {
            return;
        };
        let session = Session::new(Arrived {
            key,
            socket,
            seat,
            begun: terms.now,
            places,
            visit,
            open: local::connected(),
        });
        // There is room, and its client has none.
        let Ok(id) = self.table.insert(key, session, terms.now) else {
            with_worker(|worker| worker.cut(&mut flow));
            return;
        };
        self.keep_first(id, bytes);
        self.watch(id);
        self.went(id, bytes.len(), Some(flow), terms);
    }

    /// Whether a datagram claims to come from here, by whichever listener: answers to it would be its answers' questions,
    /// without an end.
    fn is_own(&self, (from, to): Key) -> bool {
        let ip = from.ip();
        let is_of = |own: SocketAddr| {
            let is_local = || own.ip().is_unspecified() && UdpSocket::bind((ip, 0)).is_ok();
            from.port() == own.port() && (ip == own.ip() || Some(ip) == to || is_local())
        };
        let of_others = |worker: &mut Worker| {
            let listeners = &worker.topology().config().listeners;
            let mut datagrams = listeners.iter().filter(|l| l.transport() == Transport::Udp);
            datagrams.any(|listener| is_of(listener.address))
        };
        is_of(self.address) || with_worker(of_others) == Some(true)
    }

    /// Another datagram of a session.
    fn go_on(&mut self, id: Id, bytes: &[u8], terms: &Terms<'_>) {
        let listener = self.listener;
        for attempt in 0..2 {
            let Some(session) = self.table.get(id) else { return };
            let seat = &mut session.seat;
            let stays =
                !session.let_down && with_worker(|worker| worker.serves(listener, seat)) == Some(true);
            if !stays {
                return self.move_on(id, bytes, terms);
            }
            match way::send(&session.socket, bytes) {
                Ok(()) => return self.went(id, bytes.len(), None, terms),
                // It speaks of what was sent before, and this one was not sent.
                Err(Unsent::Unreached(failure)) if attempt == 0 => self.refused(id, failure, terms),
                Err(unsent) => return refuse(unsent.refusal()),
            }
        }
    }

    /// Picks a place once more, for a session whose endpoint has let it down.
    fn move_on(&mut self, id: Id, bytes: &[u8], terms: &Terms<'_>) {
        let Some(session) = self.table.get(id) else { return };
        let Some(mut flow) = carry(self.listener, session.key) else {
            return;
        };
        let here = (!session.is_refused).then_some((session.seat.endpoint(), &session.socket));
        let Some(reached) = reach(&mut flow, bytes, here) else {
            return;
        };
        self.settle(id, reached, bytes);
        self.went(id, bytes.len(), Some(flow), terms);
    }

    /// A session has a place for this datagram. By another socket than before it is the first one, and nothing comes by the old
    /// one any more.
    fn settle(&mut self, id: Id, reached: Reached, bytes: &[u8]) {
        let Some(session) = self.table.get(id) else { return };
        (session.seat, session.let_down) = (reached.seat, false);
        let Some(socket) = reached.socket else {
            // A refusal may be of this one, and the first have been done.
            return self.forget_first(id);
        };
        session.socket = socket;
        session.places += reached.places;
        (session.is_late, session.is_refused) = (false, false);
        let left = std::mem::take(&mut session.exchanges);
        self.forget_first(id);
        for mut exchange in left {
            self.disarm(&exchange);
            with_worker(|worker| worker.cut(&mut exchange.flow));
        }
        self.keep_first(id, bytes);
        self.watch(id);
    }

    /// A datagram has been sent to the session's endpoint: as its exchange, where it is one.
    fn went(&mut self, id: Id, length: usize, flow: Option<Flow>, terms: &Terms<'_>) {
        if flow.is_none() {
            // Which of several a refusal speaks of is not known.
            self.forget_first(id);
        }
        let has_room = self.waiting < WAITING_MAX;
        let Some(session) = self.table.get(id) else { return };
        session.up += length as u64;
        let is_measured = has_room && session.measures(&terms.datagrams, terms.now);
        let flow = with_worker(|worker| {
            worker.datagram(&mut session.seat, Some(length), None);
            match flow {
                None if is_measured => worker.follow(&mut session.seat),
                Some(mut flow) if !has_room || session.is_full() => {
                    worker.cut(&mut flow);
                    None
                }
                flow => flow,
            }
        });
        if let Some(flow) = flow.flatten() {
            self.wait_for(id, flow, terms);
        }
    }

    fn wait_for(&mut self, id: Id, mut flow: Flow, terms: &Terms<'_>) {
        let responses = terms.datagrams.responses;
        let sent = with_worker(|worker| worker.datagram_sent(&mut flow, responses));
        let (Some((at, is_owed)), Some(session)) = (sent, self.table.get(id)) else {
            return;
        };
        let number = session.next_number();
        let armed = self.deadlines.arm(Entry {
            line: session.socket.as_raw_fd().into(),
            at,
            what: (id, number),
        });
        session.exchanges.push_back(Exchange {
            flow,
            armed,
            number,
            responses,
            left: responses.unwrap_or(1).max(1),
            is_owed,
        });
        self.waiting += 1;
    }

    /// The endpoint of a session says that nobody listens there, or that it is out of reach. All that waits for it is charged.
    fn refused(&mut self, id: Id, failure: Failure, terms: &Terms<'_>) {
        let Some(session) = self.table.get(id) else { return };
        (session.let_down, session.is_refused) = (true, true);
        session.reason = Reason::Failed(failure);
        let waited = std::mem::take(&mut session.exchanges);
        let mut first = session.first.take();
        self.kept -= first.as_ref().map_or(0, |first| first.len());
        for mut exchange in waited {
            self.disarm(&exchange);
            let flow = &mut exchange.flow;
            let Some(first) = first.take() else {
                with_worker(|worker| {
                    worker.broke(flow, failure);
                    worker.answered(flow, 0);
                });
                continue;
            };
            if with_worker(|worker| worker.unreached(flow, failure)) != Some(Next::Elsewhere) {
                with_worker(|worker| worker.answered(flow, 0));
            } else if let Some(reached) = reach(flow, &first, None) {
                self.settle(id, reached, &first);
                self.wait_for(id, exchange.flow, terms);
            }
        }
    }

    /// Takes an answer of a session's endpoint, or what its socket has to say else.
    pub(super) fn take_answer(&mut self, id: Id, room: &mut [u8], terms: &Terms<'_>) {
        let Some(session) = self.table.get(id) else { return };
        match session.socket.recv(room) {
            Ok(length) => self.answer(id, room.get(..length).unwrap_or_default(), terms),
            Err(error) => {
                if let Unsent::Unreached(failure) = way::meaning(&error) {
                    self.refused(id, failure, terms);
                }
            }
        }
    }

    fn answer(&mut self, id: Id, bytes: &[u8], terms: &Terms<'_>) {
        self.forget_first(id);
        self.table.touch(id, terms.now);
        let Some(session) = self.table.get(id) else { return };
        session.answered.get_or_insert(terms.now);
        session.reason = Reason::Ok;
        let length = bytes.len() as u64;
        let most = terms
            .datagrams
            .amplification
            .map(|factor| session.up * u64::from(factor));
        if most.is_some_and(|most| session.down + length > most) {
            refuse(Refusal::AnswerAmplified);
        } else if datagrams::send(self.socket.as_raw_fd(), bytes, session.key.0, session.key.1).is_err() {
            refuse(Refusal::AnswerUnsent);
        } else {
            session.down += length;
            with_worker(|worker| worker.datagram(&mut session.seat, None, Some(bytes.len())));
        }
        if terms.datagrams.responses != Some(0) {
            while self.came(id) {}
        }
        let Some(session) = self.table.get(id) else { return };
        if session.is_done(&terms.datagrams) {
            self.end(id, None);
        } else if terms.is_over(session) {
            self.end(id, Some(Failure::Lifetime));
        }
    }

    /// The oldest exchange of a session has an answer. Whether the next one has it as well: where it is not known which one
    /// it is for, all that wait have seen that somebody is there.
    fn came(&mut self, id: Id) -> bool {
        let Some(session) = self.table.get(id) else {
            return false;
        };
        let Some(exchange) = session.exchanges.front_mut() else {
            // What was late has come after all.
            session.is_late = false;
            return false;
        };
        exchange.left = exchange.left.saturating_sub(1);
        let is_first = exchange.flow.first_byte().is_none();
        let more = with_worker(|worker| {
            if is_first {
                worker.spoke(&mut exchange.flow);
            }
            worker.more_to_come(&exchange.flow)
        });
        if exchange.left > 0 {
            let (armed, more) = (exchange.armed, more.unwrap_or(Moment::ZERO));
            self.deadlines.renew(armed, more, |_| {});
            return false;
        }
        if let Some(mut exchange) = session.exchanges.pop_front() {
            self.disarm(&exchange);
            with_worker(|worker| worker.answered(&mut exchange.flow, SERVED));
            return exchange.responses.is_none() && self.waits(id);
        }
        false
    }

    fn waits(&mut self, id: Id) -> bool {
        self.table
            .get(id)
            .is_some_and(|session| !session.exchanges.is_empty())
    }

    /// Time has passed.
    pub(super) fn pass(&mut self, terms: &Terms<'_>) {
        self.idle = terms.idle;
        let mut due = Vec::new();
        self.deadlines.sweep(terms.now, |entry| {
            let is_here = match entry.line {
                Line::Socket(socket) => foreshade_sys::unread(socket).is_ok_and(|bytes| bytes > 0),
                Line::Stream(_) => false,
            };
            // The answer came in time, and it is this worker that is late.
            if is_here || due.len() >= GIVEN_UP_MAX {
                return Some(terms.now + UNREAD_PAUSE);
            }
            due.push(entry.what);
            None
        });
        for (id, number) in due {
            let exchange = self.table.get(id).and_then(|session| session.take(number));
            if let Some(exchange) = exchange {
                self.give_up(id, exchange);
            }
        }
        for _ in 0..ENDS_MAX {
            match self.table.oldest() {
                Some((id, touched)) if touched + terms.idle <= terms.now => self.end(id, None),
                _ => return,
            }
        }
    }

    /// An exchange is waited for no longer.
    fn give_up(&mut self, id: Id, mut exchange: Exchange) {
        self.disarm(&exchange);
        self.forget_first(id);
        let (flow, responses) = (&mut exchange.flow, exchange.responses);
        let owed = with_worker(|worker| worker.given_up(flow, responses));
        if let (Some(true), Some(session)) = (owed, self.table.get(id)) {
            (session.let_down, session.is_late) = (true, true);
            session.reason = Reason::Failed(Failure::RouteTimeout);
        }
    }

    /// Ends the sessions that nothing is owed to, and that have rested for so long.
    pub(super) fn end_where_done(&mut self, now: Moment, rest: Duration) {
        let is_done = |(id, touched, session): (Id, Moment, &Session)| {
            (!session.is_owed() && touched + rest <= now).then_some(id)
        };
        let done: Vec<Id> = self.table.iter().filter_map(is_done).collect();
        done.into_iter().for_each(|id| self.end(id, None));
    }

    /// Ends a session: in order, or for this reason.
    fn end(&mut self, id: Id, why: Option<Failure>) {
        let exchanges = self
            .table
            .get(id)
            .map(|session| std::mem::take(&mut session.exchanges));
        for mut exchange in exchanges.into_iter().flatten() {
            match why {
                None if !exchange.is_owed => self.give_up(id, exchange),
                // Its time has not come: nobody knows what the endpoint would have said.
                _ => {
                    self.disarm(&exchange);
                    with_worker(|worker| worker.cut(&mut exchange.flow));
                }
            }
        }
        self.forget_first(id);
        if let Some(session) = self.table.remove(id) {
            let reason = why.map_or(session.reason, Reason::Failed);
            local::with(|l| session.tell(l, reason));
        }
    }

    /// Keeps the first datagram that went by a session's socket, where there is room for it.
    fn keep_first(&mut self, id: Id, first: &[u8]) {
        if first.len() <= KEPT_BYTES_MAX
            && self.kept + first.len() <= KEPT_MAX
            && let Some(session) = self.table.get(id)
        {
            self.kept += first.len();
            session.first = Some(first.into());
        }
    }

    fn forget_first(&mut self, id: Id) {
        let first = self.table.get(id).and_then(|session| session.first.take());
        self.kept -= first.map_or(0, |first| first.len());
    }

    fn disarm(&mut self, exchange: &Exchange) {
        self.deadlines.end(exchange.armed);
        self.waiting -= 1;
    }

    /// Has the session's socket watched. One that cannot be hears nothing: its client's next datagram gets another.
    fn watch(&mut self, id: Id) {
        if let Some(session) = self.table.get(id)
            && watch(&self.queue, &session.socket, id).is_err()
        {
            (session.let_down, session.is_refused) = (true, true);
            refuse(Refusal::DatagramUnsent);
        }
    }
}

impl Drop for Sessions {
    /// What is under way when the process ends must be told of, too.
    fn drop(&mut self) {
        while let Some((id, _)) = self.table.oldest() {
            let Some(mut session) = self.table.remove(id) else {
                return;
            };
            let reason = if session.is_owed() {
                Reason::Shutdown
            } else {
                session.reason
            };
            for exchange in &mut session.exchanges {
                with_worker(|worker| worker.cut(&mut exchange.flow));
            }
            local::with(|l| session.tell(l, reason));
        }
    }
}
