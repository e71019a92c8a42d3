//! HTTP/2 with clients: one connection, many requests at a time, each served as one of HTTP/1.1 would be.
//!
//! The `h2` crate speaks the protocol; what it may be asked for is bounded here, by name. A request that it brings is
//! checked and translated ([`crate::framing::translate`]), and goes through pingora's phases as any other, on a session of
//! ours ([`session`]) that knows deadlines and sizes, which pingora's own does not.
//!
//! A connection ends when its client closes it, when it has been idle, when it has had its number of requests, or when
//! the listener closes: then it is told so (GOAWAY), and what is under way is finished. It ends at once when its client
//! breaks the protocol, or starts much and wants little of it: see [`RESETS_MAX`].

mod session;

use std::future::poll_fn;
use std::io::ErrorKind::WouldBlock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{Digest, SocketDigest};
use pingora_core::server::ShutdownWatch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use self::session::Session;
use super::accept::{Guard, count, log, page_of, until};
use super::conn::Conn;
use super::leave::date;
use crate::access_log::Trail;
use crate::framing::{Limits, Refusal, translate};
use crate::policy::pages::Shown;
use crate::tls::Agreed;
use crate::topology::ids::ListenerId;

/// How a connection of HTTP/2 begins. Source: RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Read at once while it is not known what is spoken.
const FIRST_BYTES: usize = 4 * 1024;

/// What of one request's body may lie here before an endpoint takes it: what one round trip of 100 ms brings at 20 Mbit/s.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The same of all requests of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What of one answer may lie here before the socket takes it.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// Requests that a client may take back before any has been answered in full. Beyond, and as soon as he has taken back more
/// than he has let be answered, he is told to calm down: each costs an endpoint a request, and the client two small frames
/// (CVE-2023-44487).
const RESETS_MAX: u32 = 200;

/// Requests that may be taken back before this proxy has seen them at all.
const UNSEEN_RESETS_MAX: usize = 20;

/// Streams that the client makes the library reset, by breaking the rules on them (CVE-2025-8671).
const BROKEN_STREAMS_MAX: usize = 100;

/// How long a client may take to close what he was told is over.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// How long a connection stays open after its last word: closed at once, with frames of the client unread, it would be
/// reset, and the reset overtake the word. Source: RFC 9112 section 9.6, which holds for every protocol above TCP.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Marks a request that came by HTTP/2, and what was agreed on with its client.
#[derive(Clone, Debug)]
pub(crate) struct ByHttp2 {
    pub(crate) agreed: Option<Arc<Agreed>>,
}

/// How the requests of a connection have ended.
#[derive(Debug, Default)]
struct Meter {
    /// Taken back by the client.
    reset: AtomicU32,
    /// In any other way.
    ended: AtomicU32,
}

impl Meter {
    fn is_abused(&self) -> bool {
        let (reset, ended) = (
            self.reset.load(Ordering::Relaxed),
            self.ended.load(Ordering::Relaxed),
        );
        reset > RESETS_MAX.max(ended)
    }
}

/// What all requests of a connection share.
#[derive(Clone)]
struct Shared<A> {
    app: Arc<A>,
    shutdown: ShutdownWatch,
    limits: Arc<Limits>,
    digest: Arc<Digest>,
    marked: ByHttp2,
    meter: Arc<Meter>,
    listener: ListenerId,
}

/// Serves a connection to its end. `streams` requests may be under way at a time.
pub(super) async fn serve<A, T>(mut conn: Conn, app: Arc<A>, shutdown: ShutdownWatch, terms: T, streams: u32)
where
    A: HttpServerApp + Send + Sync + 'static,
    T: Fn() -> Option<(Guard, Duration)>,
{
    let Some((guard, _)) = terms() else { return };
    let shared = Shared {
        app,
        shutdown,
        digest: Arc::new(digest(&conn)),
        marked: ByHttp2 {
            agreed: conn.agreed().cloned(),
        },
        limits: Arc::new(guard.limits.clone()),
        meter: Arc::default(),
        listener: guard.listener,
    };
    let client = conn.client();
    conn.carry_frames(&guard.limits);
    let deadline = Instant::now() + guard.limits.head_timeout;
    let handshake = builder(&guard.limits, streams).handshake(conn);
    match timeout_at(deadline, handshake).await {
        Ok(Ok(connection)) => {
            let serving = Serving {
                connection,
                client,
                shared,
                requests: 0,
                under_way_max: usize::try_from(streams.saturating_add(RESETS_MAX)).unwrap_or(usize::MAX),
                deaf_from: None,
            };
            // Bounded by the streams that may be under way, and those that may be taken back.
            let mut streams = JoinSet::new();
            serving.run(&mut streams, terms).await;
            // Nobody will hear of them, and they notice it; what they did so far is to be counted.
            while streams.join_next().await.is_some() {}
        }
        Ok(Err(error)) => count_broken(&error),
        Err(_) => count(Refusal::HeadSlow),
    }
}

/// Whether a client begins as HTTP/2 does where nothing was agreed on before. What has been read of him stays to be read.
pub(super) async fn begins(conn: &mut Conn, limits: &Limits) -> bool {
    let deadline = Instant::now() + limits.head_timeout;
    let mut bytes = conn.take_ahead();
    let begins = loop {
        let common = bytes.len().min(PREFACE.len());
        if bytes.get(..common) != PREFACE.get(..common) {
            break false;
        }
        if common == PREFACE.len() {
            break true;
        }
        bytes.reserve(FIRST_BYTES);
        match conn.try_read(&mut bytes) {
            Ok(1..) => {}
            Err(error) if error.kind() == WouldBlock => {
                if !matches!(timeout_at(deadline, conn.readable(false)).await, Ok(Ok(()))) {
                    break false;
                }
            }
            // Whoever reads the head of a request finds out the same.
            Ok(0) | Err(_) => break false,
        }
    };
    conn.put_ahead(bytes);
    begins
}

fn builder(limits: &Limits, streams: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(streams)
        .max_header_list_size(list_bytes_max(limits))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
        .max_local_error_reset_streams(Some(BROKEN_STREAMS_MAX));
    builder
}

/// Bytes of a head as the library counts them, with 32 for each header: more than our own limit, so that who is somewhat
/// above that is refused and counted here. Beyond it the library answers 431.
fn list_bytes_max(limits: &Limits) -> u32 {
    let overhead = limits.fields.saturating_mul(64);
    let bytes = u32::try_from(limits.head_bytes).unwrap_or(u32::MAX);
    bytes.saturating_add(overhead)
}

/// Known from accept(2), so that asking for it costs no system call.
fn digest(conn: &Conn) -> Digest {
    let socket = SocketDigest::from_raw_fd(conn.socket());
    let _ = socket.peer_addr.set(Some(conn.client().into()));
    Digest {
        socket_digest: Some(Arc::new(socket)),
        ..Digest::default()
    }
}

/// A connection that is being served.
struct Serving<A> {
    connection: Connection<Conn, Bytes>,
    client: SocketAddr,
    shared: Shared<A>,
    requests: u32,
    /// What is under way beyond the streams that there may be are requests that were taken back and have not noticed.
    under_way_max: usize,
    /// The client has been told that it is over, and from here on nothing new is begun: he has had time to hear of it.
    deaf_from: Option<Instant>,
}

impl<A> Serving<A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    async fn run(mut self, streams: &mut JoinSet<()>, terms: impl Fn() -> Option<(Guard, Duration)>) {
        let mut shutdown = self.shared.shutdown.clone();
        let mut rests_until = Instant::now();
        let mut rested = false;
        loop {
            if streams.is_empty() != rested {
                rested = !rested;
                let patience = match self.deaf_from {
                    Some(_) => self.patience(),
                    None => terms().map(|(_, idle)| idle).unwrap_or_default(),
                };
                rests_until = Instant::now() + patience;
            }
            tokio::select! {
                biased;
                () = until(&mut shutdown), if self.deaf_from.is_none() => self.say_goodbye(&mut rests_until),
                accepted = self.connection.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        if let Some((guard, _)) = terms() {
                            self.follow(guard.limits);
                        }
                        self.begin(request, respond, streams);
                    }
                    Some(Err(error)) => {
                        count_broken(&error);
                        if !error.is_io() {
                            sleep(LAST_WORD).await;
                        }
                        return;
                    }
                    None => return,
                },
                Some(_) = streams.join_next() => {}
                () = sleep_until(rests_until), if streams.is_empty() => {
                    if self.deaf_from.is_some() {
                        return;
                    }
                    self.say_goodbye(&mut rests_until);
                }
            }
            // Also where another request is always there already.
            while streams.try_join_next().is_some() {}
            if self.shared.meter.is_abused() || streams.len() > self.under_way_max {
                count(Refusal::Http2Flood);
                return self.give_up().await;
            }
            if self.requests >= self.shared.limits.requests && self.deaf_from.is_none() {
                self.say_goodbye(&mut rests_until);
            }
        }
    }

    /// Tells the client that no more will be served, and gives him time to take it in.
    fn say_goodbye(&mut self, rests_until: &mut Instant) {
        self.connection.graceful_shutdown();
        self.deaf_from = Some(Instant::now() + GOODBYE_MAX);
        *rests_until = Instant::now() + self.patience();
    }

    /// How long a connection that is over is kept for what lies here answered and has not left yet.
    fn patience(&self) -> Duration {
        GOODBYE_MAX.max(self.shared.limits.answer_timeout)
    }

    /// Holds the requests to come to the limits of now: a reload may have changed them.
    fn follow(&mut self, limits: Limits) {
        if *self.shared.limits != limits {
            self.shared.limits = Arc::new(limits);
        }
    }

    /// Ends the connection at once, and says why.
    async fn give_up(&mut self) {
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        let told = poll_fn(|cx| self.connection.poll_closed(cx));
        // Whoever does not read it is not waited for.
        let _ = timeout_at(Instant::now() + GOODBYE_MAX, told).await;
        sleep(LAST_WORD).await;
    }

    /// Has a request served beside the others, or tells its client why not.
    fn begin(
        &mut self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        streams: &mut JoinSet<()>,
    ) {
        self.requests += 1;
        if self.deaf_from.is_some_and(|from| Instant::now() >= from) {
            // To be sent again on another connection.
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        let (mut head, body) = request.into_parts();
        if let Err(refusal) = translate(&mut head, &self.shared.limits) {
            self.shared.meter.ended.fetch_add(1, Ordering::Relaxed);
            count(refusal);
            log(refusal, self.client, Trail::default(), &line(&head));
            return refuse(respond, refusal, page_of(self.shared.listener, refusal));
        }
        head.extensions.insert(self.shared.marked.clone());
        let session = Session::new((head, body, respond), &self.shared);
        let (app, shutdown) = (self.shared.app.clone(), self.shared.shutdown.clone());
        streams.spawn(async move {
            let session = ServerSession::new_custom(Box::new(session));
            // A stream is of no use to anybody afterwards.
            let _ = app.process_new_http(session, &shutdown).await;
        });
    }
}

/// Answers a request that no engine has seen.
fn refuse(mut respond: SendResponse<Bytes>, refusal: Refusal, page: Option<Shown>) {
    let page = page.unwrap_or_else(|| Shown {
        body: format!("foreshade: {}\n", refusal.sentence()).into(),
        content_type: HeaderValue::from_static("text/plain"),
    });
    let response = Response::builder()
        .status(refusal.status())
        .header(DATE, date())
        .header(CONTENT_TYPE, page.content_type)
        .header(CONTENT_LENGTH, page.body.len())
        .body(());
    let Ok(response) = response else { return };
    // The client may have gone, and then there is nobody to tell.
    if let Ok(mut sending) = respond.send_response(response, false) {
        let _ = sending.send_data(page.body, true);
    }
}

/// A request as the access log reads it.
fn line(head: &Parts) -> Vec<u8> {
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    format!("{} {target} HTTP/2.0\r\n\r\n", head.method).into_bytes()
}

/// Why a connection broke, if its client is to blame.
fn count_broken(error: &h2::Error) {
    // A connection that was closed or reset by the client, or by our own goodbye, has broken no rule.
    if error.is_io() || error.is_remote() {
        return;
    }
    match error.reason() {
        Some(Reason::NO_ERROR) | None => {}
        Some(Reason::ENHANCE_YOUR_CALM) => count(Refusal::Http2Flood),
        Some(_) => count(Refusal::Http2Protocol),
    }
}
