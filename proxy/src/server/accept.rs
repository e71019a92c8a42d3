//! The accept loop: from a listening socket to one task per connection, on the worker's own thread, and from one request
//! of a connection to the next.
//!
//! Between two requests the connection waits here and not in pingora, whose own wait holds its buffers and knows no limit
//! after the first request. Bytes that have come are then read by pingora within [`HEAD_PAUSE_MAX_S`] each.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::{HttpPersistentSettings, HttpServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stream::EdgeStream;

/// How long a full table of open files is given to empty before the next try.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How long a client may pause inside the head of a request, in seconds.
const HEAD_PAUSE_MAX_S: u64 = 10;

/// Serves connections until `shutdown` says so, then waits for those that are in the middle of a request. A connection
/// may idle for `idle_timeout` before each request.
pub async fn serve<A>(listener: TcpListener, app: Arc<A>, shutdown: ShutdownWatch, idle_timeout: Duration)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut connections = JoinSet::new();
    let mut stopped = shutdown.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, client)) => {
                    // A client that is gone already needs no answer.
                    let Ok(stream) = EdgeStream::new(tcp, client) else { continue };
                    connections.spawn(converse(stream, app.clone(), shutdown.clone(), idle_timeout));
                }
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
            () = until(&mut stopped) => break,
        }
    }
    drop(listener);
    app.http_cleanup().await;
    while connections.join_next().await.is_some() {}
}

/// One connection, request by request.
async fn converse<A>(stream: EdgeStream, app: Arc<A>, mut shutdown: ShutdownWatch, idle_timeout: Duration)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut stream: Stream = Box::new(stream);
    let mut settings: Option<HttpPersistentSettings> = None;
    while next_request(&stream, &mut shutdown, idle_timeout).await {
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

/// Waits for the first byte of the next request. False where none will be served any more.
async fn next_request(stream: &Stream, shutdown: &mut ShutdownWatch, idle_timeout: Duration) -> bool {
    // Nobody else makes streams for this loop, and pingora hands back what it was given.
    let Some(edge) = stream.as_any().downcast_ref::<EdgeStream>() else {
        return false;
    };
    tokio::select! {
        biased;
        readable = timeout(idle_timeout, edge.readable()) => matches!(readable, Ok(Ok(()))),
        () = until(shutdown) => false,
    }
}

/// Waits for the shutdown. A sender that is gone means the same.
async fn until(stopped: &mut ShutdownWatch) {
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
