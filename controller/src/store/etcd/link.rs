//! The way to etcd: one connection at a time, to the next member when one fails, with a deadline on everything.
//!
//! A read is tried again elsewhere while there is time. A write is sent once: when its answer is lost, nobody knows
//! whether it was done, and only the caller knows how to find out.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status};

use super::wire::{nonsense, pb, unsigned};
use super::{EtcdOptions, EtcdTls};
use crate::store::error::{Invalid, StoreError};
use crate::store::key::{LeaseId, Revision};
use crate::store::pause::Pause;

/// How often a silent connection is asked whether it lives, and how long it may take to answer.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));

/// Largest answer: a page of the largest values, with room to spare.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What etcd says of a lease that has ended.
const NO_LEASE: &str = "etcdserver: requested lease not found";

/// What etcd says when its quota is used up.
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// The way to a cluster.
#[derive(Debug)]
pub(super) struct Link {
    members: Vec<Endpoint>,
    /// Which member is asked; counts up with each failure.
    turn: AtomicUsize,
    /// The connection to the member whose turn it was when it was opened.
    open: Mutex<Option<(usize, Channel)>>,
    deadline: Duration,
    /// The cluster that answered first; 0: none yet.
    cluster: AtomicU64,
    /// The latest revision that was seen.
    seen: AtomicU64,
}

/// Whether a call may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It only reads.
    None,
    /// It writes.
    Writes,
}

impl Link {
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, StoreError> {
        if options.endpoints.is_empty() {
            return Err(StoreError::Unavailable(
                "no endpoint of etcd is configured".to_owned(),
            ));
        }
        let members = options.endpoints.iter().map(|uri| member(uri, options));
        Ok(Self {
            members: members.collect::<Result<_, _>>()?,
            turn: AtomicUsize::new(0),
            open: Mutex::new(None),
            deadline: options.deadline,
            cluster: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        })
    }

    /// Calls, within the deadline.
    pub(super) async fn call<T, F>(
        &self,
        effect: Effect,
        send: impl Fn(Channel) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let until = Instant::now() + self.deadline;
        let mut pause = Pause::default();
        loop {
            let (turn, channel) = self.channel(until).await?;
            let attempt = match effect {
                // A member that hangs must leave time for the others.
                Effect::None => until.min(Instant::now() + self.patience()),
                Effect::Writes => until,
            };
            let error = match timeout_at(attempt, send(channel)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => blame(&status, effect),
                Err(_) => lost("it did not answer in time", effect),
            };
            if !matches!(error, StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)) {
                return Err(error);
            }
            self.give_up(turn);
            if effect == Effect::Writes || Instant::now() >= until {
                return Err(error);
            }
            // Without time for another try the deadline speaks.
            let _ = timeout_at(until, pause.wait()).await;
        }
    }

    /// How long one member has for an answer.
    pub(super) fn patience(&self) -> Duration {
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        self.deadline / members.max(2)
    }

    /// How long a call may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A connection, to whichever member can be reached. Nothing has been sent when this fails.
    pub(super) async fn channel(&self, until: Instant) -> Result<(usize, Channel), StoreError> {
        let mut pause = Pause::default();
        loop {
            let turn = self.turn.load(Ordering::Relaxed);
            if let Some((opened, channel)) = &*self.open()
                && *opened == turn
            {
                return Ok((turn, channel.clone()));
            }
            let member = turn
                .checked_rem(self.members.len())
                .and_then(|at| self.members.get(at));
            let member = member.ok_or_else(|| StoreError::Unavailable("no member".to_owned()))?;
            let within = until.min(Instant::now() + self.patience());
            let error = match timeout_at(within, member.connect()).await {
                Ok(Ok(channel)) => {
                    *self.open() = Some((turn, channel.clone()));
                    return Ok((turn, channel));
                }
                Ok(Err(error)) => chain(&error),
                Err(_) => "it cannot be reached in time".to_owned(),
            };
            self.give_up(turn);
            let round_done = (turn + 1).checked_rem(self.members.len()) == Some(0);
            if round_done && timeout_at(until, pause.wait()).await.is_err() || Instant::now() >= until {
                return Err(StoreError::Unavailable(format!("{}: {error}", member.uri())));
            }
        }
    }

    /// The member whose turn it is has failed: the next one's.
    pub(super) fn give_up(&self, turn: usize) {
        // Somebody else may have said so already.
        let _ = self
            .turn
            .compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Option<(usize, Channel)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest revision that anybody here has seen.
    pub(super) fn seen(&self) -> Revision {
        Revision::new(self.seen.load(Ordering::Acquire))
    }

    /// The revision of an answer, from the cluster that we know.
    pub(super) fn header(&self, header: Option<&pb::ResponseHeader>) -> Result<Revision, StoreError> {
        let header = header.ok_or_else(|| nonsense("an answer without a header"))?;
        let known = self
            .cluster
            .compare_exchange(0, header.cluster_id, Ordering::AcqRel, Ordering::Acquire);
        if let Err(known) = known
            && known != header.cluster_id
        {
            let other = header.cluster_id;
            return Err(StoreError::Foreign(format!(
                "cluster {other:x} answers instead of {known:x}"
            )));
        }
        let revision = unsigned(header.revision)?;
        self.seen.fetch_max(revision, Ordering::AcqRel);
        Ok(Revision::new(revision))
    }

    /// The same for an answer that has to know everything that was known before it was asked for.
    pub(super) fn latest(
        &self,
        header: Option<&pb::ResponseHeader>,
        before: Revision,
    ) -> Result<Revision, StoreError> {
        let revision = self.header(header)?;
        if revision < before {
            return Err(StoreError::Foreign(format!(
                "its revision went back from {before} to {revision}: has it been restored from a backup?"
            )));
        }
        Ok(revision)
    }
}

fn member(uri: &str, options: &EtcdOptions) -> Result<Endpoint, StoreError> {
    let wrong = |error: tonic::transport::Error| {
        StoreError::Unavailable(format!("endpoint {uri}: {}", chain(&error)))
    };
    let endpoint = Endpoint::from_shared(uri.to_owned())
        .map_err(wrong)?
        .connect_timeout(options.deadline)
        .http2_keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    match &options.tls {
        Some(tls) => endpoint.tls_config(tls_config(tls)).map_err(wrong),
        None => Ok(endpoint),
    }
}

fn tls_config(tls: &EtcdTls) -> ClientTlsConfig {
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.authority_pem));
    if let Some((certificate, key)) = &tls.identity_pem {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    config
}

/// A request to a member that has a leader: one that was cut off says so instead of waiting.
pub(super) fn request<T>(message: T, within: Duration) -> Request<T> {
    let mut request = stream_request(message);
    request.set_timeout(within);
    request
}

/// The same for a stream, which has no end.
pub(super) fn stream_request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("hasleader", MetadataValue::from_static("true"));
    request
}

/// What etcd's error means. It is told by its text: the codes are shared by several.
pub(super) fn blame(status: &Status, effect: Effect) -> StoreError {
    let text = status.message().to_owned();
    match (status.code(), text.as_str()) {
        (_, "etcdserver: mvcc: required revision has been compacted") => StoreError::Compacted {
            first: Revision::NONE,
        },
        (_, "etcdserver: mvcc: required revision is a future revision") => StoreError::Future {
            current: Revision::NONE,
        },
        // The write that uses the quota up is done, and gets this error all the same; the later ones are not done.
        (_, NO_SPACE) => match effect {
            Effect::None => StoreError::Full(text),
            Effect::Writes => StoreError::OutcomeUnknown(text),
        },
        (_, "etcdserver: request is too large") => Invalid::TooLarge(0).into(),
        // Said before anything is proposed.
        (_, "etcdserver: no leader" | "etcdserver: too many requests") => StoreError::Unavailable(text),
        (Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument | Code::Unimplemented, _) => {
            StoreError::Denied(text)
        }
        (Code::DataLoss, _) => StoreError::Corrupt {
            place: "etcd".to_owned(),
            what: text,
        },
        (Code::NotFound | Code::FailedPrecondition | Code::AlreadyExists, _) => StoreError::Denied(text),
        (code, _) => lost(&format!("{code:?}: {text}{}", chain_of(status)), effect),
    }
}

/// Names the lease that etcd does not, when it says that there is no such one.
pub(super) fn of_lease(error: StoreError, id: Option<LeaseId>) -> StoreError {
    match (error, id) {
        (StoreError::Denied(text), Some(id)) if text == NO_LEASE => StoreError::LeaseNotFound(id),
        (error, _) => error,
    }
}

fn lost(what: &str, effect: Effect) -> StoreError {
    match effect {
        Effect::None => StoreError::Unavailable(what.to_owned()),
        Effect::Writes => StoreError::OutcomeUnknown(what.to_owned()),
    }
}

fn chain_of(status: &Status) -> String {
    std::error::Error::source(status).map_or_else(String::new, |source| format!(": {}", chain(source)))
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_that_was_sent_leaves_its_outcome_open() {
        let lost = Status::unavailable("transport error");
        assert!(matches!(blame(&lost, Effect::None), StoreError::Unavailable(_)));
        assert!(matches!(
            blame(&lost, Effect::Writes),
            StoreError::OutcomeUnknown(_)
        ));
        let cut_off = Status::unavailable("etcdserver: no leader");
        assert!(matches!(
            blame(&cut_off, Effect::Writes),
            StoreError::Unavailable(_)
        ));
        // It is said of a write that was done, too.
        let full = Status::resource_exhausted(NO_SPACE);
        assert!(matches!(
            blame(&full, Effect::Writes),
            StoreError::OutcomeUnknown(_)
        ));
        let denied = Status::permission_denied("etcdserver: permission denied");
        assert!(matches!(blame(&denied, Effect::Writes), StoreError::Denied(_)));
    }

    #[test]
    fn another_cluster_and_a_revision_that_went_back_are_foreign() {
        let link = Link::new(&EtcdOptions::new(["http://127.0.0.1:1"])).unwrap();
        let header = |cluster_id, revision| pb::ResponseHeader {
            cluster_id,
            revision,
            ..pb::ResponseHeader::default()
        };
        assert_eq!(link.header(Some(&header(7, 5))), Ok(Revision::new(5)));
        assert!(matches!(
            link.header(Some(&header(8, 6))),
            Err(StoreError::Foreign(_))
        ));
        assert!(matches!(link.header(None), Err(StoreError::Foreign(_))));
        assert!(matches!(
            link.header(Some(&header(7, -1))),
            Err(StoreError::Foreign(_))
        ));
        let before = link.seen();
        assert!(matches!(
            link.latest(Some(&header(7, 4)), before),
            Err(StoreError::Foreign(_))
        ));
        assert_eq!(link.latest(Some(&header(7, 6)), before), Ok(Revision::new(6)));
    }
}
