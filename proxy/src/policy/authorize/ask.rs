//! One question over HTTP/1.1, and the connections that questions go over.
//!
//! A connection is driven by the worker that opened it, and only that worker uses it again: whoever took another's would
//! wake its thread for every question. The one that was used last is used next. A question changes nothing, so one that a
//! kept connection loses is asked again, once, on a new one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::pin::Pin;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::{Denial, Reason};

/// Connections at rest, of all workers.
const IDLE_MAX: usize = 64;

/// How long one may rest.
const IDLE: Duration = Duration::from_secs(30);

/// Bytes that a connection buffers: a head has to fit into it.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Largest body of an answer: a page that says why not.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What belongs to the service's connection, or is this proxy's to say, beside what `Connection` names.
const OURS: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Connections at rest.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    connection: Connection,
    worker: ThreadId,
    until: Instant,
}

/// A way to ask one question after the other; dropping it ends it.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<String>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    /// The same, for the client.
    pub(super) fn denial(self) -> Denial {
        let mut headers = self.headers;
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect();
        for name in OURS.iter().chain(&named) {
            headers.remove(name);
        }
        Denial {
            status: self.status,
            headers,
            body: Some(self.body.as_ref().into()),
            ..Denial::of(Reason::NotAuthorized)
        }
    }
}

impl Pool {
    /// Asks, on a kept connection or a new one.
    ///
    /// # Errors
    /// The label of what went wrong.
    pub(super) async fn ask(
        &self,
        address: &str,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Asked, &'static str> {
        if let Some(kept) = self.take()
            && let Ok(asked) = self.ask_on(kept, question(address, path, headers)?).await
        {
            return Ok(asked);
        }
        let connection = connect(address).await?;
        self.ask_on(connection, question(address, path, headers)?).await
    }

    async fn ask_on(
        &self,
        mut connection: Connection,
        question: Request<String>,
    ) -> Result<Asked, &'static str> {
        let said = |error: hyper::Error| if error.is_parse() { "garbage" } else { "broken" };
        connection.sender.ready().await.map_err(said)?;
        let answer = connection.sender.send_request(question).await.map_err(said)?;
        let (head, body) = answer.into_parts();
        let status = head.status.as_u16();
        if status == 101 {
            return Err("garbage");
        }
        let body = read(body).await?;
        self.keep(connection);
        Ok(Asked {
            status,
            headers: head.headers,
            body,
        })
    }

    /// The connection of this worker that was used last, if it still lives.
    fn take(&self) -> Option<Connection> {
        let (now, worker) = (Instant::now(), thread::current().id());
        let mut idle = self.idle();
        idle.retain(|kept| now < kept.until && !kept.connection.sender.is_closed());
        let at = idle.iter().rposition(|kept| kept.worker == worker)?;
        Some(idle.remove(at).connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX && !connection.sender.is_closed() {
            idle.push(Idle {
                connection,
                worker: thread::current().id(),
                until: Instant::now() + IDLE,
            });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn question(address: &str, path: &str, headers: &HeaderMap) -> Result<Request<String>, &'static str> {
    let mut request = Request::get(path).body(String::new()).map_err(|_| "unsuited")?;
    *request.headers_mut() = headers.clone();
    let host = HeaderValue::from_str(address).map_err(|_| "unsuited")?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

async fn connect(address: &str) -> Result<Connection, &'static str> {
    let stream = TcpStream::connect(address).await.map_err(|_| "unreachable")?;
    // With no way to set it, the question may wait a little.
    let _ = stream.set_nodelay(true);
    let handshake = Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        .handshake(TokioIo::new(stream));
    let (sender, driver) = handshake.await.map_err(|_| "unreachable")?;
    let driver = tokio::spawn(async move {
        // Whoever waits for an answer on it is told the same.
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection to who is asked broke");
        }
    });
    Ok(Connection {
        sender,
        driver: driver.abort_handle(),
    })
}

/// A body, to its end.
async fn read(mut body: Incoming) -> Result<Bytes, &'static str> {
    let mut all = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let piece = frame.map_err(|_| "broken")?.into_data().unwrap_or_default();
        if all.len() + piece.len() > BODY_BYTES_MAX {
            return Err("too_large");
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}
