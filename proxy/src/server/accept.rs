//! The accept loop: from a listening socket to one task per connection, on the worker's own thread, and from one request
//! of a connection to the next.
//!
//! Between two requests the connection waits here and not in pingora, whose own wait holds its buffers and knows no limit
//! after the first request. A request is let through when its head has been read and checked; pingora gets it with the
//! head in hand, and the bytes of the body from a [`Conn`] that knows where they end. The yardstick of the bench shares
//! this loop without the check: [`Terms::guard`] is `None` then, and pingora reads for itself.
//!
//! The terms are asked for before each request, because a reload may change them while connections live.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pingora_core::apps::{HttpServerApp, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::arrive::{Arrival, arrive};
use super::conn::Conn;
use super::door::{Door, Visit};
use super::entrance::{Entrant, Refused};
use super::handshake::{Unsecured, secure};
use super::http2;
use super::leave::{answer, linger, skip_left_over, turn_away};
use super::listen::BACKLOG;
use super::local;
use super::stream::{EdgeStream, Home};
use crate::access_log::{Record, Trail};
use crate::framing::{Head, Limits, Refusal};
use crate::policy::pages::Shown;
use crate::relay::{self, Turn};
use crate::tls::Termination;
use crate::topology::ids::ListenerId;

/// How long a full table of open files is given to empty before the next try.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How long after a shutdown a connection that has had no request yet is waited for: who has just connected is about to
/// send, and would find his first request dropped. One that has been served is idle, and closed at once.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(500);

/// How long a client may pause inside the head of a request where nobody checks it, in seconds.
const HEAD_PAUSE_MAX_S: u64 = 10;

/// On what terms a listener serves now.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long a connection may idle before each request.
    pub idle_timeout: Duration,
    /// Who is let in, and with what; everybody with everything where `None`.
    pub guard: Option<Guard>,
}

/// What is asked of clients.
#[derive(Clone, Debug)]
pub struct Guard {
    /// How much they may ask for.
    pub limits: Limits,
    /// Where they have come in.
    pub listener: ListenerId,
    /// How many they may be. Shared by the workers of the listener.
    pub door: Arc<Door>,
}

impl Guard {
    /// Whether whoever connects may be told something before anything else.
    fn is_in_the_clear(&self) -> bool {
        matches!(self.termination(), Some(None))
    }

    /// What the listener speaks TLS with, as the configuration has it now, or that it does not. `None` where there is no
    /// such listener.
    fn termination(&self) -> Option<Option<Arc<Termination>>> {
        local::with(|l| {
            l.worker
                .listener(self.listener)
                .map(|listener| listener.tls.clone())
        })
        .flatten()
    }
}

/// Serves connections until `shutdown` says so. The listener is closed then; what is left are connections in the middle of
/// a request.
pub async fn serve<A, T>(listener: TcpListener, app: Arc<A>, shutdown: ShutdownWatch, terms: T) -> JoinSet<()>
where
    A: HttpServerApp + Send + Sync + 'static,
    T: Fn() -> Terms + Clone + Send + Sync + 'static,
{
    let begin = |tcp, client| {
        let conversation = Conversation {
            app: app.clone(),
            shutdown: shutdown.clone(),
            terms: terms.clone(),
        };
        let entrant = admit(tcp, client, &terms())?;
        Some(conversation.run(entrant))
    };
    accept_each(listener, shutdown.clone(), begin).await
}

/// Has `begin` begin something with each connection, and runs it, until `shutdown` says so. What is left then is still
/// running.
pub(crate) async fn accept_each<F>(
    listener: TcpListener,
    mut shutdown: ShutdownWatch,
    begin: impl Fn(TcpStream, SocketAddr) -> Option<F>,
) -> JoinSet<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, client)) => if let Some(begun) = begin(tcp, client) {
                    connections.spawn(begun);
                },
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
            () = until(&mut shutdown) => break,
        }
    }
    for (tcp, client) in waiting(listener) {
        if let Some(begun) = begin(tcp, client) {
            connections.spawn(begun);
        }
    }
    // Not pingora's `http_cleanup`: it drops requests whose head has begun to come.
    connections
}

/// The connections that the kernel has accepted already: closing the socket would reset them.
fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    // As many as can have waited; who comes later finds the door closed.
    let accepted = std::iter::from_fn(|| listener.accept().ok()).take(BACKLOG);
    let accepted = accepted.filter_map(|(tcp, client)| {
        tcp.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(tcp).ok()?, client))
    });
    accepted.collect()
}

/// Lets a client in, or tells him why not.
fn admit(tcp: TcpStream, client: SocketAddr, terms: &Terms) -> Option<Entrant> {
    let Some(guard) = &terms.guard else {
        return Some(Entrant::at_no_door(tcp, client));
    };
    Entrant::at(guard.listener, (tcp, client), &guard.door, &guard.limits)
        .map_err(|refused| turn_back(&refused, terms))
        .ok()
}

/// Tells somebody who has just connected why he is not let in.
fn turn_back((tcp, client, refusal): &Refused, terms: &Terms) {
    count(*refusal);
    log(*refusal, *client, Trail::default(), b"");
    let in_the_clear = terms.guard.as_ref().is_none_or(Guard::is_in_the_clear);
    if refusal.status() > 0 && in_the_clear {
        // A new connection takes so much at once. If not, it closes without a word; so it does where TLS is spoken.
        let _ = SockRef::from(tcp).send(&answer(*refusal, None));
    }
}

/// One connection, request by request.
struct Conversation<A, T> {
    app: Arc<A>,
    shutdown: ShutdownWatch,
    terms: T,
}

impl<A, T> Conversation<A, T>
where
    A: HttpServerApp + Send + Sync + 'static,
    T: Fn() -> Terms,
{
    async fn run(mut self, entrant: Entrant) {
        let _open = local::connected();
        let Some((tcp, client, _visit)) = self.introduced(entrant).await else {
            return;
        };
        let Some(conn) = self.greeted(tcp, client).await else {
            return;
        };
        let Some(conn) = self.unless_http2(conn).await else {
            return;
        };
        let home = Arc::new(Home::default());
        let mut stream = Box::new(EdgeStream::new(conn, home.clone()));
        let (mut first, mut served, mut opened_to_nothing) = (true, 0, None);
        loop {
            let Some(conn) = stream.conn_mut() else { return };
            if !self.has_request(conn, first, opened_to_nothing).await {
                return conn.part();
            }
            first = false;
            stream.begin(local::now_if_told());
            let guard = (self.terms)().guard;
            let head = match &guard {
                None => None,
                Some(guard) => match checked(guard, stream, &home).await {
                    Ok((same, head, bytes)) => {
                        (stream, opened_to_nothing) = (same, None);
                        served += 1;
                        let last = served >= guard.limits.requests;
                        match self.relayed(guard, &mut stream, &head, &bytes, last).await {
                            Turn::HandOver => Some((bytes, last)),
                            Turn::Next => {
                                local::keep_head_room(bytes);
                                continue;
                            }
                            turn => return left(stream, &home, turn).await,
                        }
                    }
                    Err(Some(same)) => {
                        stream = same;
                        opened_to_nothing.get_or_insert_with(Instant::now);
                        continue;
                    }
                    Err(None) => return,
                },
            };
            let reusable = self.lend(stream, head).await;
            let back = match reusable {
                Some(reusable) => reusable.consume().0.into_any().downcast().ok(),
                None => brought_home(guard.as_ref(), &home).await,
            };
            let Some(back) = back else { return };
            stream = back;
            if let Some(conn) = stream.conn_mut() {
                conn.rest();
            }
        }
    }

    /// The client's connection, once he is known. `None` where he is not let in.
    async fn introduced(&self, entrant: Entrant) -> Option<(TcpStream, SocketAddr, Option<Visit>)> {
        let terms = (self.terms)();
        let limits = terms.guard.as_ref().map(|guard| guard.limits.clone());
        let introduced = entrant.introduced(&limits.unwrap_or_default()).await;
        let guest = introduced.map_err(|refused| turn_back(&refused, &terms)).ok()?;
        Some((guest.tcp, guest.client, guest.visit))
    }

    /// The connection, ready for its first request: after the handshake, where TLS is spoken.
    async fn greeted(&self, tcp: TcpStream, client: SocketAddr) -> Option<Conn> {
        let Some(guard) = (self.terms)().guard else {
            return Conn::new(tcp, client).ok();
        };
        // A listener of which nothing is known any more must not serve in the clear what it served with TLS.
        let Some(tls) = guard.termination()? else {
            // A client that is gone already needs no answer.
            return Conn::new(tcp, client).ok();
        };
        // Boxed: it is large, and over before the first request.
        match Box::pin(secure(tcp, client, &tls, &guard)).await {
            Ok((conn, handshake)) => {
                local::shaken(Ok(handshake));
                Some(conn)
            }
            Err(Unsecured::Proven(handshake)) => {
                local::shaken(Ok(handshake));
                None
            }
            Err(Unsecured::Failed(failed)) => {
                local::shaken(Err(failed));
                None
            }
            Err(Unsecured::Plain(conn)) => {
                count(Refusal::PlainHttp);
                log(Refusal::PlainHttp, client, Trail::default(), b"");
                Box::pin(turn_away(*conn, Refusal::PlainHttp, None)).await;
                None
            }
        }
    }

    /// Serves a connection of HTTP/2 to its end; gives any other back.
    async fn unless_http2(&mut self, mut conn: Conn) -> Option<Conn> {
        let Some(guard) = (self.terms)().guard else {
            return Some(conn);
        };
        let streams = local::with(|l| l.worker.listener(guard.listener)?.http2).flatten();
        let Some(streams) = streams else {
            return Some(conn);
        };
        let is_http2 = match conn.agreed() {
            Some(agreed) => agreed.http2,
            None => {
                if !self.has_request(&mut conn, true, None).await {
                    return None;
                }
                http2::begins(&mut conn, &guard.limits).await
            }
        };
        if !is_http2 {
            return Some(conn);
        }
        let terms = || {
            let terms = (self.terms)();
            Some((terms.guard?, terms.idle_timeout))
        };
        Box::pin(http2::serve(
            conn,
            self.app.clone(),
            self.shutdown.clone(),
            terms,
            streams,
        ))
        .await;
        None
    }

    /// Lends pingora the stream for a request, with its head where that has been read. Not a part of the connection's task:
    /// a session is large, and would have its room there as long as the connection lives.
    fn lend(
        &self,
        stream: Box<EdgeStream>,
        head: Option<(BytesMut, bool)>,
    ) -> impl Future<Output = Option<ReusedHttpStream>> + Send {
        let mut session = ServerSession::new_http1(stream);
        match head {
            Some((head, is_last)) => prepare(&mut session, head, is_last),
            None => session.set_keepalive(Some(HEAD_PAUSE_MAX_S)),
        }
        self.app.process_new_http(session, &self.shutdown)
    }

    /// Has the relay serve the request, if it is for the relay.
    async fn relayed(
        &self,
        guard: &Guard,
        stream: &mut EdgeStream,
        head: &Head,
        bytes: &[u8],
        last: bool,
    ) -> Turn {
        let arrived = relay::Arrived {
            listener: guard.listener,
            head,
            bytes,
            begun: stream.begun(),
        };
        let Some(conn) = stream.conn_mut() else {
            return Turn::Broken;
        };
        let terms = relay::Terms {
            limits: &guard.limits,
            last,
            closing: &self.shutdown,
        };
        // Boxed: a connection's task keeps room for whatever it may wait in, and nearly all connections are idle.
        let turn = Box::pin(relay::serve(conn, arrived, terms)).await;
        if turn == Turn::Next {
            conn.rest();
        }
        turn
    }

    /// Waits for the first byte of the next request; after a shutdown only for that of the `first` one, and not for long.
    /// False where none will be served any more. Bytes of TLS that `opened_to_nothing` are no request and buy no time: it
    /// runs since the first of them.
    async fn has_request(
        &mut self,
        conn: &mut Conn,
        first: bool,
        opened_to_nothing: Option<Instant>,
    ) -> bool {
        if conn.has_ahead() {
            return first || !*self.shutdown.borrow() || !rest_at_end().is_zero();
        }
        let since = opened_to_nothing.unwrap_or_else(Instant::now);
        let until_idle = since + (self.terms)().idle_timeout;
        tokio::select! {
            biased;
            readable = timeout_at(until_idle, conn.readable(first)) => matches!(readable, Ok(Ok(()))),
            () = async {
                until(&mut self.shutdown).await;
                let least = if first { FIRST_REQUEST_GRACE } else { Duration::ZERO };
                let rest = least.max(rest_at_end());
                if !rest.is_zero() {
                    tokio::time::sleep(rest).await;
                }
            } => false,
        }
    }
}

/// How long a connection may rest after its listener has closed.
fn rest_at_end() -> Duration {
    local::with(|l| l.rest_at_end).unwrap_or_default()
}

/// The head of a request, once it has passed. `Err` with the stream where there was none after all, and without where the
/// connection is over.
async fn checked(
    guard: &Guard,
    mut stream: Box<EdgeStream>,
    home: &Home,
) -> Result<(Box<EdgeStream>, Head, BytesMut), Option<Box<EdgeStream>>> {
    let begun = stream.begun();
    let conn = stream.conn_mut().ok_or(None)?;
    match arrive(conn, &guard.limits).await {
        Arrival::Request(head, bytes) => Ok((stream, head, bytes)),
        Arrival::Nothing => Err(Some(stream)),
        Arrival::Gone => {
            conn.part();
            Err(None)
        }
        Arrival::Refused(refusal, head) => {
            count(refusal);
            log(refusal, conn.client(), Trail::begun(begun), &head);
            drop(stream);
            if let Some(returned) = home.take() {
                let page = page_of(guard.listener, refusal);
                Box::pin(turn_away(returned.conn, refusal, page)).await;
            }
            Err(None)
        }
    }
}

/// Gives a session the head that has been read. The connection itself knows how long is too long, and that another
/// protocol may rest.
fn prepare(session: &mut ServerSession, head: BytesMut, is_last: bool) {
    session.set_pipelined_prefix(head);
    session.set_read_timeout(None);
    if is_last {
        session.set_keepalive_reuses_remaining(Some(0));
    }
}

/// What becomes of a connection that the relay has served for the last time.
async fn left(stream: Box<EdgeStream>, home: &Home, turn: Turn) {
    drop(stream);
    let Some(returned) = home.take() else { return };
    if let Some(refusal) = returned.conn.refusal() {
        count(refusal);
    }
    match turn {
        // An answer that has no end but that of the connection must not look whole.
        Turn::Broken => returned.conn.abort(),
        _ => Box::pin(linger(returned.conn)).await,
    }
}

/// What becomes of a connection that pingora has dropped.
async fn brought_home(guard: Option<&Guard>, home: &Arc<Home>) -> Option<Box<EdgeStream>> {
    let guard = guard?;
    let mut returned = home.take()?;
    if let Some(refusal) = returned.conn.refusal() {
        count(refusal);
        if refusal == Refusal::AnswerSlow {
            returned.conn.abort();
            return None;
        }
    }
    if returned.lives && Box::pin(skip_left_over(&mut returned.conn, &guard.limits)).await {
        return Some(Box::new(EdgeStream::again(*returned, home.clone())));
    }
    Box::pin(linger(returned.conn)).await;
    None
}

/// A line for who was refused before any engine saw him.
pub(super) fn log(refusal: Refusal, client: SocketAddr, trail: Trail, head: &[u8]) {
    if let Some(now) = local::now_if_logged() {
        let refused = Record::refused(Some(client.ip()), head, refusal.status(), refusal.label());
        local::log(&Record {
            times: trail.times(now),
            ..refused
        });
    }
}

/// What people see of a refusal at a listener, instead of one line.
pub(super) fn page_of(listener: ListenerId, refusal: Refusal) -> Option<Shown> {
    local::with(|l| l.worker.page(listener, refusal.status())).flatten()
}

pub(super) fn count(refusal: Refusal) {
    local::with(|l| l.worker.refuse(refusal));
}

/// Waits for the shutdown. A sender that is gone means the same.
pub(crate) async fn until(stopped: &mut ShutdownWatch) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// A connection that broke before it was accepted is nothing; a lack of files or memory needs time to pass.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::warn!(%error, "cannot accept connections");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}
