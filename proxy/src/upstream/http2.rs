//! HTTP/2 to endpoints: the connections of one worker, and a stream of one of them for each attempt.
//!
//! Streams fill one connection before the next one is opened, up to what the cluster's `streams` and the endpoint's own
//! `MAX_CONCURRENT_STREAMS` allow, whichever is less: few connections, of which those that are not needed come of age. A
//! connection counts as one only when its endpoint has said that it speaks HTTP/2 and how many streams it takes, so that
//! nothing is ever sent to somebody who does not, and no stream is refused for want of having waited. Attempts that come
//! meanwhile wait together, as many as will find room on it.
//!
//! What the attempt must know of a stream that failed is whether the endpoint may have worked on it ([`Lease::failure`]).
//! `REFUSED_STREAM` says no (RFC 9113 section 8.7); so does `GOAWAY`, of streams above the last one that it names (section
//! 6.8). The library tells neither apart from a connection that broke once it has, so [`watch`] reads that number along.
//!
//! Of one answer no more lies here than a window ([`STREAM_WINDOW_BYTES`]), and a connection grants the windows of all its
//! streams together: a client who does not read holds up nobody but himself.

mod open;
mod watch;

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use foreshade_engine::moment::Moment;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use tokio::sync::watch as channel;

use self::watch::Seen;
use crate::config::Http2;
use crate::outcome::Failure;
use crate::topology::ids::EndpointId;
use crate::upstream::connect::To;

/// What of one answer may lie here before its client takes it: what a round trip of 10 ms brings at 200 Mbit/s.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// What of one request may lie here before the socket takes it.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// Largest head of an answer, and largest trailers, as the library counts them.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// Connections of one worker to one endpoint: with a hundred streams each more than an endpoint should have to carry.
const LINKS_MAX: usize = 64;

/// Times that an attempt looks for room once more, after others were faster to take what was opened for it.
const LOOKS_MAX: usize = 8;

/// The connections of one worker. Its lock is there because streams have to be able to travel, and is never contended.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<HashMap<EndpointId, Links>>);

/// The connections to one endpoint.
#[derive(Debug, Default)]
struct Links {
    /// In the order in which they were opened: the first one with room is taken.
    open: Vec<Arc<Link>>,
    /// Those that are being opened.
    opening: Vec<Opening>,
    /// How many streams the endpoint took on the last connection that was opened.
    granted: Option<usize>,
}

/// A connection that is being opened, and how many wait for it.
#[derive(Debug)]
struct Opening {
    waiting: usize,
    done: channel::Receiver<Option<Result<(), Failure>>>,
}

/// A connection.
struct Link {
    /// Where it leads, and how it was secured.
    to: Arc<To>,
    send: SendRequest<Bytes>,
    socket: RawFd,
    seen: Arc<Seen>,
    /// Streams under way.
    streams: AtomicUsize,
    /// Streams that there have been.
    served: AtomicU64,
    /// It is not to be used again.
    retired: AtomicBool,
    /// How many streams there had been when it was tidied last, and since when that is so.
    rests: Mutex<(u64, Moment)>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let streams = self.streams.load(Ordering::Relaxed);
        out.debug_struct("Link")
            .field("streams", &streams)
            .finish_non_exhaustive()
    }
}

/// How an endpoint is reached.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: EndpointId,
    pub(crate) to: Arc<To>,
    pub(crate) terms: Http2,
}

/// Room for one stream of a connection.
#[derive(Debug)]
pub(crate) struct Lease {
    link: Arc<Link>,
    /// What had been heard on the connection when the stream began.
    heard: u64,
    /// The connection had served before.
    reused: bool,
}

impl Pool {
    fn links(&self) -> MutexGuard<'_, HashMap<EndpointId, Links>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a stream: on a connection that has some, or on a new one.
    ///
    /// # Errors
    /// Why there is none. Nothing has been sent.
    pub(crate) async fn lease(self: &Arc<Self>, target: &Target) -> Result<Lease, Failure> {
        for _ in 0..LOOKS_MAX {
            if let Some(lease) = self.take(target) {
                return Ok(lease);
            }
            let mut done = self.wait_for_one(target)?;
            match done.wait_for(Option::is_some).await.map(|done| *done) {
                Ok(Some(Err(failure))) => return Err(failure),
                Ok(_) => {}
                // Whoever opened it was dropped with the worker.
                Err(_) => return Err(Failure::ConnectFailed),
            }
        }
        // On what has been waited for last.
        self.take(target).ok_or(Failure::NoStream)
    }

    /// Room on a connection that is there.
    fn take(&self, target: &Target) -> Option<Lease> {
        let mut links = self.links();
        let links = links.get_mut(&target.endpoint)?;
        links.open.retain(|link| link.is_usable());
        links
            .open
            .iter()
            .filter(|link| link.to.secures_like(&target.to))
            .find_map(|link| link.lease(target.terms.streams))
    }

    /// A connection that is being opened and will have room, or is from now on.
    fn wait_for_one(
        self: &Arc<Self>,
        target: &Target,
    ) -> Result<channel::Receiver<Option<Result<(), Failure>>>, Failure> {
        let mut links = self.links();
        let links = links.entry(target.endpoint).or_default();
        links
            .opening
            .retain(|opening| opening.done.borrow().is_none() && opening.done.has_changed().is_ok());
        let most = links.granted.map_or(target.terms.streams, |granted| {
            granted.clamp(1, target.terms.streams.max(1))
        });
        let room = links.opening.iter_mut().find(|opening| opening.waiting < most);
        if let Some(opening) = room {
            opening.waiting += 1;
            return Ok(opening.done.clone());
        }
        if links.open.len() + links.opening.len() >= LINKS_MAX {
            return Err(Failure::NoStream);
        }
        let (tell, done) = channel::channel(None);
        links.opening.push(Opening {
            waiting: 1,
            done: done.clone(),
        });
        // It ends when nobody holds the connection any more: the pool, and the streams on it.
        tokio::spawn(open::open(self.clone(), target.clone(), tell));
        Ok(done)
    }

    /// Closes what will not be used again. `patience` is how long connections to an endpoint may idle; `None` for one that
    /// is gone.
    pub(crate) fn tidy(&self, now: Moment, patience: impl Fn(EndpointId) -> Option<Duration>) {
        self.links().retain(|endpoint, links| {
            let Some(patience) = patience(*endpoint) else {
                // Streams that are under way hold their connection until they are over.
                return false;
            };
            links
                .open
                .retain(|link| link.is_usable() && link.rested(now) < patience);
            !links.open.is_empty() || !links.opening.is_empty()
        });
    }

    /// Keeps a connection that has been opened.
    fn keep(&self, endpoint: EndpointId, link: Link) {
        let mut links = self.links();
        let links = links.entry(endpoint).or_default();
        links.granted = Some(link.send.current_max_send_streams());
        links.open.push(Arc::new(link));
    }
}

impl Link {
    fn new(to: Arc<To>, send: SendRequest<Bytes>, socket: RawFd, seen: Arc<Seen>) -> Self {
        Self {
            to,
            send,
            socket,
            seen,
            streams: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            rests: Mutex::default(),
        }
    }

    /// Whether a stream may be begun on it.
    fn is_usable(&self) -> bool {
        !self.retired.load(Ordering::Relaxed) && !self.seen.is_over() && self.seen.last_stream().is_none()
    }

    /// Room for one more stream, if there is any.
    fn lease(self: &Arc<Self>, most: usize) -> Option<Lease> {
        let most = most.min(self.send.current_max_send_streams());
        if self.streams.load(Ordering::Relaxed) >= most {
            return None;
        }
        self.streams.fetch_add(1, Ordering::Relaxed);
        Some(Lease {
            link: self.clone(),
            heard: self.seen.heard(),
            reused: self.served.fetch_add(1, Ordering::Relaxed) > 0,
        })
    }

    /// For how long there has been no stream on it.
    fn rested(&self, now: Moment) -> Duration {
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        let served = self.served.load(Ordering::Relaxed);
        if rests.0 != served || self.streams.load(Ordering::Relaxed) > 0 {
            *rests = (served, now);
        }
        now.since(rests.1)
    }
}

impl Lease {
    /// The connection's descriptor; -1 once it is closed.
    pub(crate) fn socket(&self) -> RawFd {
        match self.link.seen.is_over() {
            true => -1,
            false => self.link.socket,
        }
    }

    /// Whether the connection had served before.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends the head of a request, which is the whole of it where `end` says so.
    ///
    /// # Errors
    /// It has not been sent.
    pub(crate) fn send(
        &self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Failure> {
        self.link
            .send
            .clone()
            .send_request(request, end)
            .map_err(|error| {
                self.link.retired.store(true, Ordering::Relaxed);
                match error.is_io() || error.is_go_away() || error.is_reset() {
                    true => Failure::GoneAway,
                    // A head that HTTP/2 cannot say, or a connection that has used up its numbers.
                    false => Failure::Internal,
                }
            })
    }

    /// What it means that the stream with this number broke before the head of its answer was there.
    pub(crate) fn failure(&self, error: &h2::Error, stream: u32) -> Failure {
        let seen = &self.link.seen;
        if error.is_reset() {
            return match error.reason() {
                Some(Reason::REFUSED_STREAM) if error.is_remote() => Failure::RefusedStream,
                // What came broke the rules, and it was this side that gave the stream up.
                _ if error.is_library() => Failure::Garbage,
                _ => Failure::Reset,
            };
        }
        if seen.last_stream().is_some_and(|last| stream > last) {
            return Failure::GoneAway;
        }
        match (
            error.is_go_away() && error.is_library(),
            self.reused && seen.heard() == self.heard,
        ) {
            (true, _) => Failure::Garbage,
            (false, true) => Failure::StaleConnection,
            (false, false) => Failure::Reset,
        }
    }

    /// The stream was given up because nothing came of it. Where nothing came of the whole connection meanwhile, it may be
    /// dead without knowing: nothing is begun on it any more.
    pub(crate) fn give_up(&self) {
        if self.link.seen.heard() == self.heard {
            self.link.retired.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
