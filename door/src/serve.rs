//! Conversations, each within limits: a bounded number of them, one request per connection, and one time limit that
//! bounds everything that a slow or vanished client can do.
//!
//! An answer that is a stream of events outlives that limit on purpose: its handler asks for more time through
//! [`Life`], and so it is the handler, which knows what it sends, that decides how much.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::listen::{Listening, Stream};

/// How long a client may take to send the head of its request.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// After a failed accept, usually for want of file descriptors: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What bounds all conversations together, and each one.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections_max: usize,
    /// How long a connection may last, from accept to the last byte of its answer, unless its handler asks for more.
    pub life: Duration,
}

/// How long a connection may last: an extension of its request.
#[derive(Clone, Debug)]
pub struct Life {
    born: Instant,
    lasts_ms: Arc<AtomicU64>,
}

impl Life {
    fn new(lasts: Duration) -> Self {
        let life = Self {
            born: Instant::now(),
            lasts_ms: Arc::default(),
        };
        life.extend(lasts);
        life
    }

    /// Grants the connection so much from its accept on, where that is more than it had.
    pub fn extend(&self, lasts: Duration) {
        let ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        self.lasts_ms.fetch_max(ms, Ordering::Relaxed);
    }

    fn until(&self) -> Instant {
        self.born + Duration::from_millis(self.lasts_ms.load(Ordering::Relaxed))
    }
}

/// Accepts until `end`, and then finishes the conversations that have begun. Dropping it ends them all.
pub async fn serve(listening: Listening, router: &Router, limits: Limits, end: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    let mut end = pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            Some(_) = connections.join_next() => {}
            accepted = listening.accept(), if connections.len() < limits.connections_max => match accepted {
                Ok(stream) => drop(connections.spawn(converse(stream, router.clone(), Life::new(limits.life)))),
                Err(error) => {
                    tracing::debug!(%error, "operator's connection not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listening);
    while connections.join_next().await.is_some() {}
}

/// One connection: one request, one answer.
async fn converse(stream: Box<dyn Stream>, router: Router, life: Life) {
    let router = TowerToHyperService::new(router);
    let granted = life.clone();
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(granted.clone());
        router.call(request.map(axum::body::Body::new) as Request)
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut conversation = pin!(conversation);
    loop {
        let until = life.until();
        tokio::select! {
            ended = &mut conversation => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "operator's connection failed");
                }
                return;
            }
            () = sleep_until(until) => {
                if life.until() <= until {
                    tracing::debug!("operator's client too slow");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_life_only_ever_gets_longer() {
        let life = Life::new(Duration::from_secs(30));
        let first = life.until();
        life.extend(Duration::from_secs(10));
        assert_eq!(life.until(), first);
        life.extend(Duration::from_secs(60));
        assert_eq!(life.until(), first + Duration::from_secs(30));
    }
}
