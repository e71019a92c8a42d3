//! What belongs to one worker's thread, found from pingora's phases.
//!
//! pingora demands that a proxy can be sent between threads; a worker never is. Its state therefore lies in a
//! thread-local: no lock, no atomic, and no way to reach another worker's.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use foreshade_engine::moment::Moment;
use foreshade_engine::observation::ResourceReport;
use rustls::ServerConfig;
use rustls::server::ClientHello;
use tokio::sync::Notify;

use super::connections::{Counter, Failed, Handshake, Open};
use crate::access_log::{Logger, Record};
use crate::mirror::{Mirror, Tee, is_safe};
use crate::outcome::Failure;
use crate::recorder::Place;
use crate::relay::Scratch;
use crate::topology::ids::EndpointId;
use crate::trace::Namer;
use crate::trace::spans::Spans;
use crate::upstream::Peers;
use crate::upstream::connect::Socket;
use crate::upstream::cut::Cut;
use crate::upstream::http2;
use crate::upstream::network::Sampler;
use crate::upstream::pool::Pool;
use crate::worker::stream::Terms;
use crate::worker::{Flow, Next, Worker};

/// One worker's own things.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) worker: Worker,
    pub(crate) peers: Peers,
    pub(crate) sampler: Sampler,
    pub(crate) mirror: Mirror,
    /// Idle upstream connections.
    pool: Arc<Pool>,
    /// Connections of HTTP/2 to endpoints, idle or not.
    pub(crate) streams: Arc<http2::Pool>,
    /// Wakes the sweeper when the first deadline is armed.
    pub(crate) armed: Arc<Notify>,
    /// Writes a line per request; `None` where nobody wants one.
    pub(crate) log: Option<Logger>,
    /// Makes spans of requests; `None` where nobody is told of them.
    pub(crate) spans: Option<Spans>,
    /// Names requests; `None` where nobody wants names.
    pub(crate) namer: Option<Namer>,
    /// How long connections may rest once their listener has closed: no time, unless another process has taken over.
    pub(crate) rest_at_end: Duration,
    /// Counts this worker's clients.
    connections: Arc<Counter>,
    /// Room for requests of the relay that none is using now: as many as were under way at once.
    scratch: Vec<Scratch>,
    /// The same for heads, and for what comes with them.
    heads: Vec<BytesMut>,
}

/// Room that is kept for requests to come. More than that are rarely under way at once, and cost an allocation each.
const SCRATCH_MAX: usize = 256;

/// Largest room for a head that is kept. Nearly all heads are smaller.
const HEAD_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// Makes this thread a worker.
pub(crate) fn install(local: Local) {
    LOCAL.with(|l| *l.borrow_mut() = Some(local));
}

/// Calls `f` with this thread's worker. `None` on a thread that is none, and while another call is under way: `f` must
/// not call back.
pub(crate) fn with<R>(f: impl FnOnce(&mut Local) -> R) -> Option<R> {
    LOCAL
        .try_with(|l| l.try_borrow_mut().ok()?.as_mut().map(f))
        .ok()
        .flatten()
}

/// The attempt's request goes out: waits for its first byte from here on.
pub(crate) fn sent(flow: &mut Flow, socket: RawFd, replayable: bool) {
    watching(|l| l.worker.sent(flow, socket, replayable));
}

/// The same on a stream, which `cut` gives up.
pub(crate) fn sent_on(flow: &mut Flow, cut: &Arc<Cut>, terms: Terms, whole_and_replayable: (bool, bool)) {
    watching(|l| l.worker.sent_on(flow, cut, terms, whole_and_replayable));
}

/// Does what may arm a deadline.
pub(crate) fn watching<R>(f: impl FnOnce(&mut Local) -> R) -> Option<R> {
    with(|l| {
        let idle = !l.worker.has_deadlines();
        let done = f(l);
        if idle && l.worker.has_deadlines() {
            l.armed.notify_one();
        }
        done
    })
}

/// A client has connected; counts as open until what is returned is dropped.
pub(crate) fn connected() -> Option<Open> {
    with(|l| l.connections.accept())
}

/// A client's handshake has ended.
pub(crate) fn shaken(ended: Result<Handshake, Failed>) {
    with(|l| l.connections.shake(ended));
}

/// What an authority is shown that asks whether a name leads here; `None` for everybody else.
pub(crate) fn proof(hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
    with(|l| l.worker.challenges().server(hello)).flatten()
}

/// Now, where somebody may be told of what has no spans, in the access log.
pub(crate) fn now_if_logged() -> Option<Moment> {
    with(|l| l.log.is_some().then(|| l.worker.clock().now())).flatten()
}

/// Now, where somebody may be told in the access log or in spans. Whether a request has some says its head.
pub(crate) fn now_if_told() -> Option<Moment> {
    with(|l| (l.log.is_some() || l.spans.is_some()).then(|| l.worker.clock().now())).flatten()
}

/// Room for one request of the relay.
pub(crate) fn scratch() -> Option<Scratch> {
    with(|l| l.scratch.pop().unwrap_or_default())
}

/// Keeps it for the next one.
pub(crate) fn keep(mut scratch: Scratch) {
    scratch.clear();
    with(|l| {
        if l.scratch.len() < SCRATCH_MAX {
            l.scratch.push(scratch);
        }
    });
}

/// Room for one head, or for what has come with it. Empty, and on other threads than a worker's without any room yet.
pub(crate) fn head_room() -> BytesMut {
    with(|l| l.heads.pop()).flatten().unwrap_or_default()
}

/// Keeps it for the next one.
pub(crate) fn keep_head_room(mut room: BytesMut) {
    if !(1..=HEAD_BYTES_MAX).contains(&room.capacity()) {
        return;
    }
    room.clear();
    with(|l| {
        if l.heads.len() < SCRATCH_MAX {
            l.heads.push(room);
        }
    });
}

/// Writes a line for what no engine has seen.
pub(crate) fn log(record: &Record<'_>) {
    with(|l| {
        if let Some(log) = &mut l.log {
            log.log(record);
        }
    });
}

impl Local {
    pub(crate) fn new(
        worker: Worker,
        (log, spans): (Option<Logger>, Option<Spans>),
        connections: Arc<Counter>,
        mirror: Mirror,
    ) -> Self {
        let topology = worker.topology();
        let pool = Arc::<Pool>::default();
        Self {
            peers: Peers::new(topology, &pool),
            sampler: Sampler::new(&topology.sizes()),
            pool,
            streams: Arc::default(),
            mirror,
            armed: Arc::new(Notify::new()),
            log,
            spans,
            namer: Namer::new(topology.config()),
            rest_at_end: Duration::ZERO,
            connections,
            scratch: Vec::new(),
            heads: Vec::new(),
            worker,
        }
    }

    /// Begins the copy of a request whose head goes out now, if there is to be one.
    pub(crate) fn copy(
        &mut self,
        flow: &mut Flow,
        request: &http::request::Parts,
        has_body: bool,
    ) -> Option<Box<Tee>> {
        let errand = self.worker.errand(flow, is_safe(request.method.as_str()))?;
        match self.mirror.begin(errand, request, has_body) {
            Ok(tee) => Some(tee),
            Err(reason) => {
                self.worker.unmirrored(flow, reason);
                None
            }
        }
    }

    /// The way to an endpoint that is asked in HTTP/2.
    pub(crate) fn target(&self, place: Place) -> Option<http2::Target> {
        let terms = self.worker.topology().cluster(place.cluster)?.http2?;
        let (endpoint, to) = self.peers.to(place)?;
        Some(http2::Target { endpoint, to, terms })
    }

    /// Keeps a connection on which everything has been answered.
    pub(crate) fn put_back(&self, endpoint: EndpointId, socket: Socket) {
        self.pool.put(endpoint, socket);
    }

    /// Reports a failed attempt, and says what becomes of the request. Where the endpoint had given a kept connection up, a
    /// new attempt finds a new one.
    pub(crate) fn fail(&mut self, flow: &mut Flow, failure: Failure, replayable: bool) -> Next {
        let next = self.worker.fail(flow, failure, replayable);
        if let (Some(Failure::StaleConnection), Some(endpoint)) = (flow.failure(), flow.asked_last()) {
            self.pool.forget(endpoint);
        }
        next
    }

    /// Takes the newest snapshot over, and with a new configuration everything that hangs on it.
    pub(crate) fn refresh(&mut self) {
        if let Some(descent) = self.worker.refresh() {
            self.peers = Peers::new(self.worker.topology(), &self.pool);
            self.sampler.reshape(&descent);
            self.namer = Namer::new(self.worker.topology().config());
        }
        let topology = self.worker.topology();
        let now = self.worker.clock().now();
        let patience = |endpoint| {
            let cluster = topology.cluster(topology.place(endpoint)?.cluster)?;
            Some((cluster.idle_timeout, cluster.http2.is_some()))
        };
        self.pool.tidy(now, |endpoint| Some(patience(endpoint)?.0));
        // Of a cluster that is asked in HTTP/1.1 now they are of no more use.
        self.streams.tidy(now, |endpoint| {
            patience(endpoint).and_then(|(patience, speaks)| speaks.then_some(patience))
        });
    }

    /// Takes what an answer tells beside itself: how its connection fares, and what the endpoint says of its load.
    pub(crate) fn observe(&mut self, flow: &Flow, socket: RawFd, report: Option<ResourceReport>) {
        let Some(place) = flow.place() else { return };
        if let Some(sample) = self.sampler.sample(place, socket, self.worker.latest()) {
            self.worker.recorder().network(place, &sample);
        }
        if let Some(report) = report {
            self.worker.recorder().resource(place, report);
        }
    }
}
