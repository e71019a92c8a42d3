//! A connection on its way: an endpoint is found for it, bytes are carried, and the policy is told how it goes.

use std::os::fd::AsRawFd;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::pump::{Pump, Turn, Way, abort};
use super::told::{Ended, Visitor};
use crate::access_log::Reason;
use crate::outcome::Failure;
use crate::proxy_protocol;
use crate::server::accept::until;
use crate::server::entrance::Guest;
use crate::server::local;
use crate::upstream::connect::Socket;
use crate::worker::{Flow, Next, SERVED};

/// How often at most a connection on which bytes move is looked at: what has been carried is counted, and how its way to
/// the endpoint fares.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A connection on its way.
#[derive(Debug)]
struct Passage {
    visitor: Visitor,
    flow: Flow,
    /// The two connections, once there are two.
    pump: Option<Pump>,
    /// The client has said something, and it was sent.
    asked: bool,
    /// The endpoint has said something.
    spoke: bool,
    /// The endpoint has said everything before the client had.
    ended_first: bool,
    /// Bytes up and down that have been counted.
    counted: (u64, u64),
    looked: Instant,
    /// The policy has been told how it ended.
    concluded: bool,
}

/// Why a connection is carried no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both sides have said everything.
    Said,
    ClientBroke,
    EndpointBroke,
    /// Nothing has moved for too long.
    Idle,
    /// It has lived for long enough.
    Lifetime,
    /// Its listener is gone, and so is the time that it had left.
    Closing,
}

/// Carries the connection of a client, of which `said` has been read, to its end. What it needs is made before the future
/// is, and so is in it once: a connection that rests has nothing else.
pub(super) fn carry(
    guest: Guest,
    visitor: Visitor,
    mut said: Vec<u8>,
    flow: Flow,
    closing: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send {
    let Guest {
        tcp: mut client,
        visit,
        ..
    } = guest;
    let mut passage = Passage::new(visitor, flow);
    async move {
        // He has left when all is over.
        let _visit = &visit;
        loop {
            let failure = match passage.reach().await {
                Ok(endpoint) => {
                    passage.pump = Some(Pump {
                        client,
                        endpoint,
                        up: Way::beginning_with(said),
                        down: Way::default(),
                    });
                    let end = passage.watch(closing.clone()).await;
                    if end != End::EndpointBroke || passage.asked || passage.spoke {
                        return passage.conclude(end);
                    }
                    let Some(pump) = passage.pump.take() else { return };
                    (client, said) = (pump.client, pump.up.into_left());
                    Failure::ResetUnused
                }
                Err(failure) => failure,
            };
            let next = local::with(|l| l.worker.unreached(&mut passage.flow, failure));
            if next != Some(Next::Elsewhere) {
                abort(&client);
                return passage.tell(0, Reason::Failed(failure));
            }
        }
    }
}

impl Passage {
    fn new(mut visitor: Visitor, flow: Flow) -> Self {
        visitor.admitted(flow.arrived());
        Self {
            visitor,
            flow,
            pump: None,
            asked: false,
            spoke: false,
            ended_first: false,
            counted: (0, 0),
            looked: Instant::now(),
            concluded: false,
        }
    }

    /// A connection to the endpoint that the policy chooses, which has been told of the client where it wants to be.
    async fn reach(&mut self) -> Result<Socket, Failure> {
        let way = local::with(|l| {
            let place = l.worker.start(&mut self.flow)?;
            self.visitor.trail.started(l.worker.latest());
            let topology = l.worker.topology();
            let told = topology.cluster(place.cluster)?.proxy_protocol;
            Some((topology.to(place)?, told))
        });
        let (to, told) = way.flatten().ok_or(Failure::NobodyLeft)?;
        let mut greeting = Vec::new();
        if let Some(version) = told {
            proxy_protocol::write(version, Some(self.visitor.ends), &mut greeting);
        }
        let socket = Box::pin(to.connect(&greeting)).await?;
        local::with(|l| {
            l.sampler.connected(socket.as_raw_fd());
            l.worker.connected(&mut self.flow);
            self.visitor.trail.sent(l.worker.latest());
        });
        Ok(socket)
    }

    /// Carries bytes until it is over, and says why it is.
    async fn watch(&mut self, mut closing: watch::Receiver<bool>) -> End {
        let begun = Instant::now();
        let (mut latest, mut leave_by) = (begun, None);
        let mut closed = pin!(until(&mut closing));
        let mut timer = pin!(sleep_until(self.due(begun, latest, leave_by).0));
        loop {
            tokio::select! {
                biased;
                // First: a transfer that never pauses would leave them no turn.
                () = &mut timer => {
                    let (due, why) = self.due(begun, latest, leave_by);
                    if due <= Instant::now() {
                        return why;
                    }
                    timer.as_mut().reset(due);
                }
                () = &mut closed, if leave_by.is_none() => {
                    let grace = local::with(|l| l.worker.topology().config().grace);
                    leave_by = Some(Instant::now() + grace.unwrap_or_default());
                    timer.as_mut().reset(self.due(begun, latest, leave_by).0);
                }
                turn = turn(&mut self.pump) => {
                    latest = Instant::now();
                    self.look(latest);
                    match turn {
                        Turn::Moved => {}
                        Turn::Done => return End::Said,
                        Turn::ClientBroke => return End::ClientBroke,
                        Turn::EndpointBroke => return End::EndpointBroke,
                    }
                }
            }
        }
    }

    /// When the connection is over if nothing moves until then, and why. Asked for whenever that may be, because a reload
    /// may have changed it.
    fn due(&self, begun: Instant, latest: Instant, leave_by: Option<Instant>) -> (Instant, End) {
        let limits = local::with(|l| {
            let listener = l.worker.listener(self.visitor.listener)?;
            Some((listener.idle_timeout, listener.lifetime))
        });
        let (idle, lifetime) = limits.flatten().unwrap_or_default();
        let ends = [
            Some((latest + idle, End::Idle)),
            lifetime.map(|life| (begun + life, End::Lifetime)),
            leave_by.map(|at| (at, End::Closing)),
        ];
        let soonest = ends.into_iter().flatten().min_by_key(|(at, _)| *at);
        soonest.unwrap_or((latest, End::Idle))
    }

    /// Something has moved: tells the policy what it waits for, and now and then what has been carried.
    fn look(&mut self, now: Instant) {
        let Some(pump) = &self.pump else { return };
        let socket = pump.endpoint.as_raw_fd();
        let (up, down) = (pump.up.moved(), pump.down.moved());
        self.ended_first |= pump.down.is_done() && !pump.up.is_done();
        if !self.asked && up > 0 {
            self.asked = true;
            local::with(|l| l.worker.asked(&mut self.flow));
        }
        let first = !self.spoke && down > 0;
        if first {
            self.spoke = true;
            local::with(|l| l.worker.spoke(&mut self.flow));
        }
        if first || now.duration_since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.count(up, down);
            local::with(|l| l.observe(&self.flow, socket, None));
        }
    }

    /// Counts what has been carried since it was counted last.
    fn count(&mut self, up: u64, down: u64) {
        let (counted_up, counted_down) = std::mem::replace(&mut self.counted, (up, down));
        local::with(|l| {
            l.worker.carried(
                &mut self.flow,
                up.saturating_sub(counted_up),
                down.saturating_sub(counted_down),
            );
        });
    }

    /// Tells the policy how it ended. Whoever has not heard the other side out gets a reset: what was not said must not look
    /// as if it had been.
    fn conclude(mut self, end: End) {
        let Some(pump) = &self.pump else { return };
        let (up, down) = (pump.up.moved(), pump.down.moved());
        let endpoint_is_done = pump.down.is_done();
        self.count(up, down);
        local::with(|l| l.worker.delivered(&mut self.flow, down));
        let owed = local::with(|l| l.worker.is_owed_an_answer(&mut self.flow)) == Some(true);
        let failure = match end {
            End::Said if owed && self.ended_first => Some(Failure::Reset),
            End::Said => None,
            // It had nothing more to say, and hears no more.
            End::EndpointBroke if endpoint_is_done => None,
            End::EndpointBroke if self.spoke => Some(Failure::Truncated),
            End::EndpointBroke => Some(Failure::Reset),
            End::ClientBroke => Some(Failure::ClientGone),
            End::Idle if owed => Some(Failure::RouteTimeout),
            End::Idle => Some(Failure::Idle),
            End::Lifetime => Some(Failure::Lifetime),
            // Dropped, it tells of itself.
            End::Closing => return,
        };
        let Some(failure) = failure else {
            local::with(|l| l.worker.closed(&mut self.flow));
            return self.tell_line(Reason::Ok);
        };
        if end != End::Said {
            self.abort();
        }
        local::with(|l| l.worker.broke(&mut self.flow, failure));
        let status = if self.spoke { SERVED } else { 0 };
        self.tell(status, Reason::Failed(failure));
    }

    /// Has both sides hear that there is more that they will not hear.
    fn abort(&self) {
        if let Some(pump) = &self.pump {
            abort(&pump.client);
            abort(pump.endpoint.tcp());
        }
    }

    /// The client has been served, or not; and the line says why it ended.
    fn tell(mut self, status: u16, reason: Reason) {
        local::with(|l| l.worker.answered(&mut self.flow, status));
        self.tell_line(reason);
    }

    fn tell_line(&mut self, reason: Reason) {
        self.concluded = true;
        let (up, down) = self.counted;
        local::with(|l| self.visitor.tell(l, &self.flow, Ended { reason, up, down }));
    }
}

async fn turn(pump: &mut Option<Pump>) -> Turn {
    match pump {
        Some(pump) => pump.turn().await,
        None => Turn::Done,
    }
}

impl Drop for Passage {
    /// A connection that is dropped on its way must not stay in flight for ever.
    fn drop(&mut self) {
        if !self.concluded {
            self.abort();
            local::with(|l| l.worker.cut(&mut self.flow));
            self.tell_line(Reason::Shutdown);
        }
    }
}
