//! The relay: plain HTTP/1.1 requests, served without an HTTP library in between.
//!
//! A request of a few hundred bytes costs the kernel about ten microseconds, and a general engine as much again: it
//! makes maps of headers, boxes for phases, channels between halves. Most requests need none of that. So the accept
//! loop, which has the head in hand and knows that it is sound, asks here first. What the relay serves it serves as the
//! full path does, by the same policy: [`Worker`](crate::worker::Worker) routes, picks, counts and decides about
//! failover, [`Conn`] frames the client's side, the pool lends connections, [`Report`] names requests and tells of them,
//! [`Copying`](crate::copying::Copying) shows them to a mirror.
//!
//! It never repairs a message. Whatever is the least unusual about a request is handed over whole before a byte of it has
//! been used: see [`request`]. An answer cannot be handed over any more, so every sound answer is served, and what is
//! not sound is none: see [`answer`].
//!
//! Buffers are the worker's and borrowed for one request ([`Scratch`]): an idle connection holds none, and a request
//! allocates none. What it does allocate, once, is the room for its own state, which is none of the connection's either.

mod request;

mod answer;
mod chunk;
pub mod dry;
mod exchange;
mod own;
mod upload;
mod written;

use std::borrow::Cow;

use foreshade_engine::moment::Moment;
use http::HeaderValue;
use tokio::sync::watch;

use self::exchange::{Buffers, Exchange};
use self::own::{Own, Told};
use self::request::Request;
use self::upload::{Room, Upload};
use crate::access_log::Record;
use crate::client::{Client, Peer};
use crate::fields::Line;
use crate::framing::{Head, Limits, Refusal};
use crate::outcome::sentence;
use crate::report::{self, Report};
use crate::request::RequestView;
use crate::rewrite::NoPath;
use crate::server::conn::Conn;
use crate::server::leave::{date, skip_left_over};
use crate::server::local::{self, Local};
use crate::topology::ids::ListenerId;
use crate::trace::Named;
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

/// A request whose head has just been read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived<'a> {
    /// Where it has come in.
    pub(crate) listener: ListenerId,
    /// What the check has found.
    pub(crate) head: &'a Head,
    /// Its bytes.
    pub(crate) bytes: &'a [u8],
    /// When the first of them was there, if anybody looked.
    pub(crate) begun: Option<Moment>,
}

/// On what terms the client is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// How much he may ask for.
    pub(crate) limits: &'a Limits,
    /// It is the last request of his connection.
    pub(crate) last: bool,
    /// Turned true, every answer is the last one.
    pub(crate) closing: &'a watch::Receiver<bool>,
}

/// What serving one request needs, so that no request has to allocate it.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Lines of the request.
    lines: Vec<Line>,
    room: Room,
    buffers: Buffers,
}

/// Largest buffer that is kept for the next request.
const KEPT_BYTES_MAX: usize = 128 * 1024;

impl Scratch {
    /// Makes it as good as new, and no larger than most requests need.
    pub(crate) fn clear(&mut self) {
        self.room.clear(KEPT_BYTES_MAX);
        self.buffers.clear(KEPT_BYTES_MAX);
    }
}

/// A request as it came, who sent it, and what is to be told of it.
#[derive(Debug)]
struct Came<'a> {
    request: Request<'a>,
    client: Client,
    /// What is asked for instead, where the route changes the path.
    target: Option<String>,
    report: Option<Report>,
}

/// Serves a request that has arrived on `conn`, or hands it over.
pub(crate) async fn serve(conn: &mut Conn, arrived: Arrived<'_>, terms: Terms<'_>) -> Turn {
    let Some(mut scratch) = local::scratch() else {
        return Turn::HandOver;
    };
    let Scratch { lines, room, buffers } = &mut scratch;
    let peer = Peer {
        address: Some(conn.client().ip()),
        tls: conn.agreed().map(|agreed| &**agreed),
    };
    let terms = Terms {
        last: terms.last || !arrived.head.keep_alive,
        ..terms
    };
    let turn = match local::with(|l| admit(l, arrived, peer, lines)).flatten() {
        None => Turn::HandOver,
        Some((came, Ok(flow))) => {
            let upload = Upload::new(room, arrived.head.framing);
            Exchange::new(conn, (came, flow), upload, buffers, terms)
                .run()
                .await
        }
        // Boxed: most requests go on, and need no room for what answers them here.
        Some((came, Err(own))) => Box::pin(came.answer(&own, conn, &mut buffers.out, &terms)).await,
    };
    local::keep(scratch);
    turn
}

/// What becomes of a request: it goes to a cluster, or is answered here. `None` where it is for the full path.
fn admit<'a>(
    local: &mut Local,
    arrived: Arrived<'a>,
    peer: Peer<'_>,
    lines: &'a mut Vec<Line>,
) -> Option<(Came<'a>, Result<Flow, Own>)> {
    let Arrived {
        listener,
        head,
        bytes,
        begun,
    } = arrived;
    let settings = local
        .worker
        .listener(listener)
        .filter(|settings| settings.relay)?;
    let request = request::read(bytes, head, settings.path, lines)?;
    let client = Client::behind(&settings.trust, peer, request.fields());
    if !local.worker.is_unpoliced(listener, &request.view(&client, None)) {
        return None;
    }
    let named = report::named(local, request.fields());
    let view = RequestView {
        tls: peer.tls,
        ..request.view(&client, Some(&named))
    };
    let admission = local.worker.admit(listener, &view);
    let (mut admission, target) = match rewritten(&admission, &request) {
        Ok(target) => (Ok(admission), target),
        Err(NoPath) => {
            local.worker.refuse(Refusal::PathRewrite);
            (Err(Refusal::PathRewrite), None)
        }
    };
    let came = Came {
        report: Report::arrived(local, begun, &mut admission, named),
        request,
        client,
        target,
    };
    let outcome = match admission {
        Ok(Admission::Forward(flow)) => Ok(flow),
        Ok(Admission::Answer(answer)) => return Some((came, Err(Own::of_a_route(answer)))),
        Ok(Admission::Unrouted | Admission::Wait(_)) => Err((404, sentence(404))),
        Err(why) => Err((why.status(), why.sentence())),
    };
    let outcome = outcome.map_err(|(status, sentence)| {
        let page = local.worker.page(listener, status);
        Own::failure(status, &came.named_in(sentence), page)
    });
    Some((came, outcome))
}

/// What is asked for instead, where the route changes the path.
fn rewritten(admission: &Admission, request: &Request<'_>) -> Result<Option<String>, NoPath> {
    let changes = match admission {
        Admission::Forward(flow) => flow.changes(),
        Admission::Answer(_) | Admission::Unrouted | Admission::Wait(_) => None,
    };
    let (path, query) = request.path_and_query();
    changes.map_or(Ok(None), |changes| changes.target(path, query))
}

/// An answer of our own that has been given.
#[derive(Clone, Copy, Debug)]
struct Given {
    /// Bytes of its body.
    body: u64,
    /// What becomes of the connection, as far as it is known.
    turn: Turn,
}

impl<'a> Came<'a> {
    /// What the request is called, where names are made or changed.
    fn named(&self) -> Option<&Named> {
        self.report.as_ref().map(|report| &report.named)
    }

    /// Its name, where the client is to know it.
    fn told_id(&self) -> Option<&[u8]> {
        self.report.as_ref()?.told(self.request.fields())
    }

    /// What the client is told of where the time went; `None` where he is told nothing.
    fn server_timing(&self, flow: &Flow) -> Option<HeaderValue> {
        self.report.as_ref()?.server_timing(flow)
    }

    /// A sentence of our own, with the request's name where the client is to know it.
    fn named_in(&self, sentence: &'static str) -> Cow<'static, str> {
        match &self.report {
            Some(report) => report.named_in(self.request.fields(), sentence),
            None => sentence.into(),
        }
    }

    /// Writes its line, once.
    fn log(&mut self, local: &mut Local, flow: Option<&Flow>, line: &Record<'_>) {
        if let Some(report) = self.report.take() {
            report.write(local, &self.request.asked(), flow, line);
        }
    }

    /// Answers it without asking any endpoint.
    async fn answer(mut self, own: &Own, conn: &mut Conn, out: &mut Vec<u8>, terms: &Terms<'_>) -> Turn {
        let given = self.tell(own, conn, out, terms).await;
        let (reason, detail) = self
            .report
            .as_ref()
            .map(|report| report.unsent)
            .unwrap_or_default();
        let line = Record {
            client: self.client.address,
            scheme: self.client.scheme(),
            status: own.status,
            reason,
            detail,
            bytes_in: Some(0),
            bytes_out: Some(given.body),
            ..Record::default()
        };
        local::with(|l| self.log(l, None, &line));
        given.settle(conn, terms.limits).await
    }

    /// Tells the client. His connection lives on where its next request can be found.
    async fn tell(&self, own: &Own, conn: &mut Conn, out: &mut Vec<u8>, terms: &Terms<'_>) -> Given {
        let close =
            terms.last || *terms.closing.borrow() || conn.refusal().is_some() || !conn.is_nearly_read();
        out.clear();
        let told = Told {
            date: &date(),
            close,
            head_only: self.request.wants_head_only(),
            request_id: self.told_id(),
        };
        let body = own.write(&told, out);
        let turn = match conn.send(out).await {
            Ok(()) if close => Turn::Over,
            Ok(()) => Turn::Next,
            Err(_) => Turn::Broken,
        };
        Given {
            body: if turn == Turn::Broken { 0 } else { body as u64 },
            turn,
        }
    }
}

impl Given {
    /// Reads what is left of the request, if the connection lives on.
    async fn settle(self, conn: &mut Conn, limits: &Limits) -> Turn {
        match self.turn {
            Turn::Next if !skip_left_over(conn, limits).await => Turn::Over,
            turn => turn,
        }
    }
}
