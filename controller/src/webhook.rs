//! Webhooks: who is asked before something happens, and who is told that it did. In Flagger's form, because what
//! listens to Flagger today should listen to foreshade tomorrow: `{name, namespace, phase, checksum, metadata}`, ten
//! seconds, and 200 to 202 for yes (<https://docs.flagger.app/usage/webhooks>).
//!
//! A gate that does not answer is closed: no answer is no consent. It is asked again; how often is the gate's to say,
//! so a question is one attempt. A notification that is not taken is sent again, with pauses that double and that
//! chance shortens, so that many controllers do not knock in step. Each hook has its own queue and its own task: one
//! that hangs keeps nobody else waiting, and drops its own messages, counted, when its queue is full.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Method, Request};
use foreshade_contract::{Generation, PairId, Round};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{self, CallError, Target};
use crate::config::url::Url;
use crate::config::{Notification, Occasion};

/// Messages that wait for one hook. At one transition per second that is four minutes of a hook that hangs.
const QUEUE_MAX: usize = 256;

/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Of what a closed gate says, so much is shown.
const SAID_CHARS_MAX: usize = 200;

/// What is posted: Flagger's payload, field by field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Payload {
    /// The pair's primary.
    pub name: String,
    /// Its cluster.
    pub namespace: String,
    /// Where the pair stands, in Flagger's words.
    pub phase: Phase,
    /// Names one intention: equal for all messages about the same rollout of the same plan.
    pub checksum: String,
    /// Whatever else there is to say.
    pub metadata: BTreeMap<String, String>,
}

impl Payload {
    /// About a pair.
    pub fn new(pair: &PairId, phase: Phase, generation: Generation, round: Round) -> Self {
        let named = format!("{pair}\n{generation}\n{round}");
        Self {
            name: pair.primary.to_string(),
            namespace: pair.cluster.to_string(),
            phase,
            checksum: format!("{:016x}", xxhash_rust::xxh3::xxh3_64(named.as_bytes())),
            metadata: BTreeMap::new(),
        }
    }

    /// With one thing more to say.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }
}

/// Where a pair stands, in Flagger's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "Flagger's own words: https://docs.flagger.app/usage/how-it-works#canary-status"
)]
pub enum Phase {
    Initializing,
    Initialized,
    Waiting,
    Progressing,
    WaitingPromotion,
    Promoting,
    Finalising,
    Succeeded,
    Failed,
}

/// What a gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Open,
    /// Not now, and why: its words, or that it could not be asked.
    Closed(String),
}

/// Asks a gate, once.
pub async fn ask(hook: &Url, payload: &Payload, patience: Duration) -> Answer {
    match post(hook, payload, patience).await {
        Ok((200..=202, _)) => Answer::Open,
        Ok((status, said)) => {
            let said: String = said
                .chars()
                .filter(|c| !c.is_control())
                .take(SAID_CHARS_MAX)
                .collect();
            Answer::Closed(format!("{status} {said}").trim_end().to_owned())
        }
        Err(error) => Answer::Closed(in_full(&error)),
    }
}

/// The error and what caused it, in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Status and body of the answer.
async fn post(hook: &Url, payload: &Payload, patience: Duration) -> Result<(u16, String), CallError> {
    let uri = hook.uri();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri
        .authority()
        .map(|authority| authority.as_str())
        .unwrap_or_default();
    // Neither can fail: strings and maps of strings are JSON, and the parts come out of a URI.
    let body = serde_json::to_vec(payload).unwrap_or_default();
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .unwrap_or_default();
    let Some(target) = Target::of(uri) else {
        // The configuration takes no other URL.
        let target = Target::Tcp(authority.to_owned(), 0);
        return Err(CallError::Connect(target, std::io::ErrorKind::Unsupported.into()));
    };
    let answer = client::call(&target, request, patience).await?;
    Ok((
        answer.status().as_u16(),
        String::from_utf8_lossy(answer.body()).into_owned(),
    ))
}

/// How messages to one hook ended.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    retried: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// How messages to one hook ended, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Taken by the hook.
    pub sent: u64,
    /// Attempts that were not the first.
    pub retried: u64,
    /// Given up.
    pub failed: u64,
    /// Not even queued: the queue was full.
    pub dropped: u64,
}

struct Lane {
    notification: Arc<Notification>,
    queue: mpsc::Sender<Payload>,
    counts: Arc<Counts>,
}

/// Tells hooks what happens, and never waits for one.
pub struct Notifier {
    lanes: Vec<Lane>,
}

impl Notifier {
    /// One task per hook, which ends when the notifier is dropped and its queue is empty, or with the set.
    pub fn start(notifications: &[Notification], tasks: &mut JoinSet<()>) -> Self {
        let lanes = notifications.iter().map(|notification| {
            let (queue, messages) = mpsc::channel(QUEUE_MAX);
            let notification = Arc::new(notification.clone());
            let counts = Arc::<Counts>::default();
            tasks.spawn(deliver(notification.clone(), messages, counts.clone()));
            Lane {
                notification,
                queue,
                counts,
            }
        });
        Self {
            lanes: lanes.collect(),
        }
    }

    /// Tells everybody who wants to know of one of these: one message each, however many they are.
    pub fn tell(&self, occasions: &[Occasion], payload: &Payload) {
        let interested = |lane: &&Lane| {
            let on = &lane.notification.on;
            on.is_empty() || occasions.iter().any(|occasion| on.contains(occasion))
        };
        for lane in self.lanes.iter().filter(interested) {
            if lane.queue.try_send(payload.clone()).is_err() {
                lane.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// By name of the notification.
    pub fn counted(&self) -> impl Iterator<Item = (&str, Counted)> {
        self.lanes.iter().map(|lane| {
            let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
            let Counts {
                sent,
                retried,
                failed,
                dropped,
            } = &*lane.counts;
            let counted = Counted {
                sent: of(sent),
                retried: of(retried),
                failed: of(failed),
                dropped: of(dropped),
            };
            (lane.notification.name.as_str(), counted)
        })
    }
}

/// The task of one hook.
async fn deliver(to: Arc<Notification>, mut messages: mpsc::Receiver<Payload>, counts: Arc<Counts>) {
    while let Some(payload) = messages.recv().await {
        for attempt in 0..to.attempts {
            if attempt > 0 {
                counts.retried.fetch_add(1, Ordering::Relaxed);
                sleep(pause(to.pause, attempt, rand::random())).await;
            }
            let last = attempt + 1 == to.attempts;
            match outcome(&post(&to.webhook, &payload, to.timeout).await) {
                Outcome::Taken => {
                    counts.sent.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Outcome::Later(why) if !last => {
                    tracing::debug!(hook = %to.name, why, "notification is sent again")
                }
                Outcome::Later(why) | Outcome::Never(why) => {
                    counts.failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(hook = %to.name, why, "notification given up");
                    break;
                }
            }
        }
    }
}

enum Outcome {
    Taken,
    /// Another attempt may help.
    Later(String),
    /// The hook understood, and does not want it.
    Never(String),
}

fn outcome(posted: &Result<(u16, String), CallError>) -> Outcome {
    match posted {
        Ok((200..=299, _)) => Outcome::Taken,
        Ok((status @ (408 | 425 | 429 | 500..=599), _)) => Outcome::Later(format!("it answered {status}")),
        Ok((status, _)) => Outcome::Never(format!("it answered {status}")),
        Err(error) => Outcome::Later(in_full(error)),
    }
}

/// The pause before attempt `attempt`, from 1: between half and all of what doubles each time; `chance` is from 0 to 1.
fn pause(first: Duration, attempt: u32, chance: f64) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    doubled.min(PAUSE_MAX).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests;
