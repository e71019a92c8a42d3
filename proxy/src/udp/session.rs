//! One session: whose it is, where it goes, what it waits for, and what is told of it at its end.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use foreshade_engine::moment::Moment;

use crate::access_log::{Reason, Record, Trail};
use crate::config::Datagrams;
use crate::server::connections::Open;
use crate::server::door::Visit;
use crate::server::local::Local;
use crate::upstream::deadline::Armed;
use crate::worker::datagrams::Seat;
use crate::worker::{Flow, SERVED};

/// Most exchanges of a session that are waited for at a time; datagrams beyond them are carried and not measured.
const EXCHANGES_MAX: usize = 32;

/// How long an exchange that it is not known how to match waits before another one is begun beside it: shorter than clients
/// wait until they ask again, and long enough that a stream of datagrams is measured ten times a second and not each time.
const AGAIN: Duration = Duration::from_millis(100);

/// Longest first datagram that is kept until it is known that somebody heard it: what every network carries in one piece,
/// and so all that requests of DNS, QUIC, DTLS and the like begin with.
pub(super) const KEPT_BYTES_MAX: usize = 1500;

/// Who asks: his address, and the one of this machine that he asks, where the listener has several.
pub(super) type Key = (SocketAddr, Option<IpAddr>);

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: Key,
    /// To its endpoint.
    pub(super) socket: UdpSocket,
    pub(super) seat: Seat,
    /// What is waited for, the oldest first.
    pub(super) exchanges: VecDeque<Exchange>,
    /// The number of the next one.
    number: u32,
    /// The datagram that it began with, while that may go elsewhere still.
    pub(super) first: Option<Box<[u8]>>,
    /// Its endpoint has refused something, or has not answered in time.
    pub(super) let_down: bool,
    /// It has refused: what is sent by the same socket would not be known from what was refused before.
    pub(super) is_refused: bool,
    /// An answer is late, and may come yet.
    pub(super) is_late: bool,
    pub(super) begun: Moment,
    pub(super) answered: Option<Moment>,
    /// How many endpoints it has been to.
    pub(super) places: u32,
    /// Bytes from the client, and to him.
    pub(super) up: u64,
    pub(super) down: u64,
    /// How it would end, if it did now.
    pub(super) reason: Reason,
    /// He has left when they are dropped.
    pub(super) _visit: Visit,
    pub(super) _open: Option<Open>,
}

/// A datagram that is waited with for its answers.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) flow: Flow,
    pub(super) armed: Armed,
    pub(super) number: u32,
    /// How many were expected, as the listener had it then.
    pub(super) responses: Option<u32>,
    /// Answers that are to come.
    pub(super) left: u32,
    /// They are owed, and not only possible.
    pub(super) is_owed: bool,
}

/// Somebody who has come, and where his first datagram went.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) key: Key,
    pub(super) socket: UdpSocket,
    pub(super) seat: Seat,
    pub(super) begun: Moment,
    pub(super) places: u32,
    pub(super) visit: Visit,
    pub(super) open: Option<Open>,
}

impl Session {
    /// A session that is waited with for nothing yet.
    pub(super) fn new(arrived: Arrived) -> Self {
        Self {
            key: arrived.key,
            socket: arrived.socket,
            seat: arrived.seat,
            exchanges: VecDeque::with_capacity(1),
            number: 0,
            first: None,
            let_down: false,
            is_refused: false,
            is_late: false,
            begun: arrived.begun,
            answered: None,
            places: arrived.places,
            up: 0,
            down: 0,
            reason: Reason::Ok,
            _visit: arrived.visit,
            _open: arrived.open,
        }
    }

    /// Whether a datagram is measured: each one where it is said how many answers it gets. Else it is not known which one an
    /// answer is for: then one, and another one each time that nothing has come for a while. Whoever asks again says that he
    /// waits.
    pub(super) fn measures(&self, datagrams: &Datagrams, now: Moment) -> bool {
        let rested = |newest: &Exchange| newest.flow.arrived() + AGAIN <= now;
        let may = datagrams.responses.is_some() || self.exchanges.back().is_none_or(rested);
        may && !self.is_full()
    }

    /// Whether as much is waited for as may be.
    pub(super) fn is_full(&self) -> bool {
        self.exchanges.len() >= EXCHANGES_MAX
    }

    /// Whether something is owed to its client.
    pub(super) fn is_owed(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.is_owed)
    }

    /// The number of the next exchange.
    pub(super) fn next_number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    /// Takes an exchange out, if it is waited for still.
    pub(super) fn take(&mut self, number: u32) -> Option<Exchange> {
        let index = self.exchanges.iter().position(|e| e.number == number)?;
        self.exchanges.remove(index)
    }

    /// Whether all that was asked has been answered, where it is said how many answers there are: such a session is over.
    pub(super) fn is_done(&self, datagrams: &Datagrams) -> bool {
        datagrams.responses.is_some_and(|responses| responses > 0)
            && self.exchanges.is_empty()
            && self.answered.is_some()
            && !self.is_late
    }

    /// Writes its line.
    pub(super) fn tell(&self, local: &mut Local, reason: Reason) {
        if local.log.is_none() {
            return;
        }
        let mut trail = Trail::arrived(Some(self.begun), self.begun);
        trail.started(self.begun);
        trail.sent(self.begun);
        trail.first_byte(self.answered);
        let record = Record {
            client: Some(self.key.0.ip()),
            protocol: "UDP",
            reason,
            bytes_in: Some(self.up),
            bytes_out: Some(self.down),
            times: trail.times(local.worker.clock().now()),
            served: local.worker.served_at(self.seat.endpoint(), self.places),
            ..Record::default()
        };
        let status = if reason == Reason::Ok { SERVED } else { 0 };
        if let Some(log) = &mut local.log
            && log.wants(status, reason)
        {
            log.write(&record);
        }
    }
}
