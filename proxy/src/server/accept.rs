//! The accept loop: from a listening socket to one task per connection, on the worker's own thread, and from one request
//! of a connection to the next.
//!
//! Between two requests the connection waits here and not in pingora, whose own wait holds its buffers and knows no limit
//! after the first request. Bytes that have come are then read by pingora within [`HEAD_PAUSE_MAX_S`] each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::{HttpPersistentSettings, HttpServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stream::EdgeStream;

/// How long a full table of open files is given to empty before the next try.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How long after a shutdown a connection that has had no request yet is waited for: who has just connected is about to
/// send, and would find his first request dropped. One that has been served is idle, and closed at once.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(500);

/// How long a client may pause inside the head of a request, in seconds.
const HEAD_PAUSE_MAX_S: u64 = 10;

/// Serves connections until `shutdown` says so, then waits for those that are in the middle of a request. A connection
/// may idle for as long as `idle_timeout` says before each request.
pub async fn serve<A, I>(listener: TcpListener, app: Arc<A>, shutdown: ShutdownWatch, idle_timeout: I)
where
    A: HttpServerApp + Send + Sync + 'static,
    I: Fn() -> Duration + Clone + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut stopped = shutdown.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, client)) => {
                    // A client that is gone already needs no answer.
                    let Ok(stream) = EdgeStream::new(tcp, client) else { continue };
                    connections.spawn(converse(stream, app.clone(), shutdown.clone(), idle_timeout.clone()));
                }
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
            () = until(&mut stopped) => break,
        }
    }
    for (tcp, client) in waiting(listener) {
        if let Ok(stream) = EdgeStream::new(tcp, client) {
            connections.spawn(converse(
                stream,
                app.clone(),
                shutdown.clone(),
                idle_timeout.clone(),
            ));
        }
    }
    // Not pingora's `http_cleanup`: it drops requests whose head has begun to come.
    while connections.join_next().await.is_some() {}
}

/// The connections that the kernel has accepted already: closing the socket would reset them.
fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let accepted = std::iter::from_fn(|| listener.accept().ok());
    let accepted = accepted.filter_map(|(tcp, client)| {
        tcp.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(tcp).ok()?, client))
    });
    accepted.collect()
}

/// One connection, request by request.
async fn converse<A>(
    stream: EdgeStream,
    app: Arc<A>,
    mut shutdown: ShutdownWatch,
    idle_timeout: impl Fn() -> Duration,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut stream: Stream = Box::new(stream);
    let mut settings: Option<HttpPersistentSettings> = None;
    let mut patience = FIRST_REQUEST_GRACE;
    while next_request(
        &stream,
        &mut shutdown,
        idle_timeout(),
        std::mem::take(&mut patience),
    )
    .await
    {
        let mut session = ServerSession::new_http1(stream);
        if let Some(settings) = settings.take() {
            settings.apply_to_session(&mut session);
        }
        session.set_keepalive(Some(HEAD_PAUSE_MAX_S));
        let Some(reusable) = app.process_new_http(session, &shutdown).await else {
            return;
        };
        (stream, settings) = reusable.consume();
    }
}

/// Waits for the first byte of the next request, after a shutdown for `grace` more, which only the first request of a
/// connection has. False where none will be served.
async fn next_request(
    stream: &Stream,
    shutdown: &mut ShutdownWatch,
    idle_timeout: Duration,
    grace: Duration,
) -> bool {
    // Nobody else makes streams for this loop, and pingora hands back what it was given.
    let Some(edge) = stream.as_any().downcast_ref::<EdgeStream>() else {
        return false;
    };
    tokio::select! {
        biased;
        readable = timeout(idle_timeout, edge.readable(!grace.is_zero())) => matches!(readable, Ok(Ok(()))),
        () = async {
            until(shutdown).await;
            if !grace.is_zero() {
                tokio::time::sleep(grace).await;
            }
        } => false,
    }
}

/// Waits for the shutdown. A sender that is gone means the same.
pub(super) async fn until(stopped: &mut ShutdownWatch) {
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
