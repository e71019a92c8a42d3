//! The relay: plain HTTP/1.1 requests, served without an HTTP library in between.
//!
//! A request of a few hundred bytes costs the kernel about ten microseconds, and a general engine as much again: it
//! makes maps of headers, boxes for phases, channels between halves. Most requests need none of that. So the accept
//! loop, which has the head in hand and knows that it is sound, asks here first. What the relay serves it serves as the
//! full path does, by the same policy: [`Worker`](crate::worker::Worker) routes, picks, counts and decides about
//! failover, [`Conn`] frames the client's side, the pool lends connections.
//!
//! It never repairs a message. Whatever is the least unusual about a request, or needs more than lines left out and
//! added, is handed over whole before a byte of it has been used: see [`request`]. An answer cannot be handed over any
//! more, so every sound answer is served, and what is not sound is none: see [`answer`].
//!
//! Buffers are the worker's and borrowed for one request ([`Scratch`]): an idle connection holds none, and a request
//! allocates none.

mod answer;
mod exchange;
mod request;

use bytes::BytesMut;

use self::exchange::Exchange;
pub(crate) use self::exchange::Terms;
use crate::client::{Client, Peer};
use crate::fields::Line;
use crate::framing::Head;
use crate::server::conn::Conn;
use crate::server::local::{self, Local};
use crate::topology::ids::ListenerId;
use crate::worker::{Admission, Flow};

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is for the full path; nothing has happened to it.
    HandOver,
    /// It is served, and the connection lives on.
    Next,
    /// The client has been answered for the last time.
    Over,
    /// The answer broke off, or nobody is there to take it.
    Broken,
}

/// What serving one request needs, so that no request has to allocate it.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Lines of the request.
    lines: Vec<Line>,
    /// Lines of the answer.
    answer_lines: Vec<Line>,
    /// What is written next.
    out: Vec<u8>,
    /// The body, as far as it has come, where it is kept for another attempt.
    body: Vec<u8>,
    /// What the endpoint has sent.
    answer: BytesMut,
}

/// Largest buffer that is kept for the next request.
const KEPT_BYTES_MAX: usize = 128 * 1024;

impl Scratch {
    /// Makes it as good as new, and no larger than most requests need.
    pub(crate) fn clear(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES_MAX);
        self.body.clear();
        self.body.shrink_to(KEPT_BYTES_MAX);
        self.answer.clear();
        if self.answer.capacity() > KEPT_BYTES_MAX {
            self.answer = BytesMut::new();
        }
    }
}

/// Serves the request whose `head` has just been read from `conn` as `bytes`, or hands it over.
pub(crate) async fn serve(
    conn: &mut Conn,
    listener: ListenerId,
    head: &Head,
    bytes: &[u8],
    terms: Terms<'_>,
) -> Turn {
    let Some(mut scratch) = local::scratch() else {
        return Turn::HandOver;
    };
    let Scratch {
        lines,
        answer_lines,
        out,
        body,
        answer,
    } = &mut scratch;
    let agreed = conn.agreed().cloned();
    let peer = Peer {
        address: Some(conn.client().ip()),
        tls: agreed.as_deref(),
    };
    let admitted = local::with(|l| {
        let settings = l.worker.listener(listener).filter(|settings| settings.relay)?;
        if l.log.is_some() || l.namer.is_some() {
            return None;
        }
        let request = request::read(bytes, head, settings.path, lines)?;
        let client = Client::behind(&settings.trust, peer, request.fields());
        let flow = admit(l, listener, &request, &client)?;
        Some((request, client, flow))
    });
    let turn = match admitted.flatten() {
        None => Turn::HandOver,
        Some((request, client, flow)) => {
            let buffers = exchange::Buffers {
                lines: answer_lines,
                out,
                body,
                answer,
            };
            Exchange::new(conn, request, client, flow, buffers)
                .run(head, terms)
                .await
        }
    };
    local::keep(scratch);
    turn
}

/// The request's way, unless its route asks for more than the relay does.
fn admit(
    local: &mut Local,
    listener: ListenerId,
    request: &request::Request<'_>,
    client: &Client,
) -> Option<Flow> {
    let view = request.view(client);
    if !local.worker.is_plain(listener, &view) {
        return None;
    }
    match local.worker.admit(listener, &view) {
        Admission::Forward(flow) => Some(flow),
        Admission::Answer(_) | Admission::Unrouted => None,
    }
}
