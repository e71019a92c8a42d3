//! The store for more than one controller: an etcd that others run, spoken to by its own protocol.
//!
//! The client is ours, some hundred lines over generated stubs: the usual one needs protoc on every machine that builds,
//! and decides by itself what to repeat. Here a write is sent once ([`link`]), a watch resumes by itself ([`watching`]), a
//! lease is kept by etcd's word only ([`keeper`]), and nothing that comes over the wire is believed unchecked ([`wire`]).
//!
//! Versions: 3.5.26 or later of 3.5, 3.6, 3.7. Older ones have lost or reordered events; the tests run against 3.4, which
//! has the same protocol, and docs/store.md says what that means.

mod keeper;
mod link;
mod watching;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::time::timeout;

use self::keeper::Keeper;
use self::link::{ANSWER_BYTES_MAX, Effect, Link, of_lease, request};
use self::wire::{nonsense, pb, unsigned};
use super::error::StoreError;
use super::key::{Entry, KeyRange, LeaseId, Revision};
use super::txn::{Done, Op, Txn};
use super::watch::{Watch, refused};
use super::{Found, Lease, Mode, ReadAt, Status, Store, check_limit, check_ttl};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;

/// Keys that are asked for at a time. A page of the largest values is 50 MiB.
const PAGE_KEYS: usize = 100;

/// How long a call may take, unless it is told otherwise.
const DEADLINE: Duration = Duration::from_secs(5);

/// Where etcd is, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Its members: `http://127.0.0.1:2379` or `https://...`.
    pub endpoints: Vec<String>,
    /// How long a call may take.
    pub deadline: Duration,
    /// Certificates, where it is spoken to by TLS.
    pub tls: Option<EtcdTls>,
}

/// Certificates.
#[derive(Clone)]
pub struct EtcdTls {
    /// Who signed etcd's certificate.
    pub authority_pem: Vec<u8>,
    /// Our own certificate and its key, where etcd asks for one.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is nobody's business.
        f.debug_struct("EtcdTls")
            .field("identity", &self.identity_pem.is_some())
            .finish_non_exhaustive()
    }
}

impl EtcdOptions {
    /// These members, without TLS.
    pub fn new<S: Into<String>>(endpoints: impl IntoIterator<Item = S>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            deadline: DEADLINE,
            tls: None,
        }
    }
}

/// An etcd.
#[derive(Debug)]
pub struct Etcd {
    link: Arc<Link>,
    keeper: Keeper,
}

impl Etcd {
    /// A store there. Connects when it is used. Has to be called inside a tokio runtime.
    ///
    /// # Errors
    /// When an endpoint is no address, or a certificate cannot be read.
    pub fn new(options: &EtcdOptions) -> Result<Self, StoreError> {
        let link = Arc::new(Link::new(options)?);
        let keeper = Keeper::start(Arc::clone(&link));
        Ok(Self { link, keeper })
    }

    async fn page(
        &self,
        keys: &KeyRange,
        at: Revision,
        local: bool,
        limit: usize,
    ) -> Result<pb::RangeResponse, StoreError> {
        let (key, range_end) = wire::range(keys);
        let message = pb::RangeRequest {
            key,
            range_end,
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            revision: wire::signed(at.number()),
            serializable: local,
        };
        let within = self.link.deadline();
        self.link
            .call(Effect::None, |channel| {
                let mut client = KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
                let message = request(message.clone(), within);
                async move { client.range(message).await }
            })
            .await
    }

    /// Reads in pages, all of them at the revision of the first one.
    async fn pages(&self, keys: KeyRange, at: ReadAt, limit: usize) -> Result<Found, StoreError> {
        let before = self.link.seen();
        let (mut pinned, local) = match at {
            ReadAt::Latest => (Revision::NONE, false),
            ReadAt::Local => (Revision::NONE, true),
            ReadAt::Revision(at) => (at, false),
        };
        let mut found: Option<Found> = None;
        let mut rest = keys;
        loop {
            let have = found.as_ref().map_or(0, |found| found.entries.len());
            let page = self
                .page(&rest, pinned, local, PAGE_KEYS.min(limit - have))
                .await?;
            let revision = match at {
                ReadAt::Latest if found.is_none() => self.link.latest(page.header.as_ref(), before)?,
                _ => self.link.header(page.header.as_ref())?,
            };
            if pinned == Revision::NONE {
                pinned = revision;
            }
            let entries: Result<Vec<Entry>, StoreError> = page.kvs.into_iter().map(wire::entry).collect();
            let found = found.get_or_insert(Found {
                revision,
                entries: Vec::new(),
                more: false,
            });
            found.entries.extend(entries?);
            found.more = page.more;
            let next = found.entries.last().and_then(|last| rest.after(&last.key));
            match next {
                Some(next) if page.more && found.entries.len() < limit => rest = next,
                _ => return Ok(found.clone()),
            }
        }
    }

    /// Fills in what etcd does not say in its errors.
    async fn explain(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Compacted {
                first: Revision::NONE,
            } => match self.compacted().await {
                Ok(first) => StoreError::Compacted { first },
                Err(error) => error,
            },
            StoreError::Future {
                current: Revision::NONE,
            } => StoreError::Future {
                current: self.link.seen(),
            },
            error => error,
        }
    }

    /// The compacted revision, which etcd tells to watchers only: one that begins at the first revision learns it.
    async fn compacted(&self) -> Result<Revision, StoreError> {
        // Whether there is one; a watcher would wait for good if not.
        let anything = KeyRange::all();
        match self.page(&anything, Revision::FIRST, false, 1).await {
            Ok(_) => return Ok(Revision::NONE),
            Err(StoreError::Compacted { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut watch = watching::watch(Arc::clone(&self.link), anything, Revision::FIRST);
        let late = |_| StoreError::Unavailable("etcd did not say what it compacted in time".to_owned());
        match timeout(self.link.deadline(), watch.next()).await.map_err(late)? {
            Some(Err(StoreError::Compacted { first })) => Ok(first),
            Some(Err(error)) => Err(error),
            _ => Err(nonsense("a compacted revision that can be watched")),
        }
    }
}

#[async_trait]
impl Store for Etcd {
    async fn range(&self, keys: KeyRange, at: ReadAt, limit: u32) -> Result<Found, StoreError> {
        let limit = check_limit(limit)?;
        if at == ReadAt::Revision(Revision::NONE) {
            return Err(super::Invalid::Revision.into());
        }
        match self.pages(keys, at, limit).await {
            Ok(found) => Ok(found),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn txn(&self, txn: Txn) -> Result<Done, StoreError> {
        txn.check()?;
        let before = self.link.seen();
        let lease = txn.then.iter().chain(&txn.otherwise).find_map(|op| match op {
            Op::Put { lease, .. } => *lease,
            _ => None,
        });
        let message = wire::txn(txn);
        let within = self.link.deadline();
        let sent = self.link.call(Effect::Writes, |channel| {
            let mut client = KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            let message = request(message.clone(), within);
            async move { client.txn(message).await }
        });
        let response = sent.await.map_err(|error| of_lease(error, lease))?;
        let revision = self.link.latest(response.header.as_ref(), before)?;
        wire::done(response, revision)
    }

    fn watch(&self, keys: KeyRange, from: Revision) -> Watch {
        if from == Revision::NONE {
            return refused(super::Invalid::Revision.into());
        }
        watching::watch(Arc::clone(&self.link), keys, from)
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        let seconds = check_ttl(ttl)?.as_secs();
        let within = self.link.deadline();
        let granting = self.link.call(Effect::Writes, |channel| {
            let mut client = LeaseClient::new(channel);
            let message = pb::LeaseGrantRequest {
                ttl: wire::signed(seconds),
                id: 0,
            };
            let message = request(message, within);
            async move { client.lease_grant(message).await }
        });
        let granted = granting.await?;
        self.link.header(granted.header.as_ref())?;
        if !granted.error.is_empty() {
            return Err(StoreError::Denied(granted.error));
        }
        let ttl = Duration::from_secs(unsigned(granted.ttl)?);
        let id = LeaseId::new(granted.id).ok_or_else(|| nonsense("a lease without an id"))?;
        Ok(Lease { id, ttl })
    }

    async fn lease_keepalive(&self, id: LeaseId) -> Result<Duration, StoreError> {
        self.keeper.keep_alive(id, self.link.deadline()).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), StoreError> {
        let within = self.link.deadline();
        let revoking = self.link.call(Effect::Writes, |channel| {
            let mut client = LeaseClient::new(channel);
            let message = request(pb::LeaseRevokeRequest { id: id.number() }, within);
            async move { client.lease_revoke(message).await }
        });
        let revoked = revoking.await.map_err(|error| of_lease(error, Some(id)))?;
        self.link.header(revoked.header.as_ref()).map(|_| ())
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        if revision == Revision::NONE {
            return Err(super::Invalid::Revision.into());
        }
        let within = self.link.deadline();
        let compacting = self.link.call(Effect::Writes, |channel| {
            let mut client = KvClient::new(channel);
            let message = pb::CompactionRequest {
                revision: wire::signed(revision.number()),
                physical: false,
            };
            let message = request(message, within);
            async move { client.compact(message).await }
        });
        match compacting.await {
            Ok(response) => self.link.header(response.header.as_ref()).map(|_| ()),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn status(&self) -> Result<Status, StoreError> {
        let within = self.link.deadline();
        let asking = self.link.call(Effect::None, |channel| {
            let mut client = MaintenanceClient::new(channel);
            let message = request(pb::StatusRequest {}, within);
            async move { client.status(message).await }
        });
        let status = asking.await?;
        let revision = self.link.header(status.header.as_ref())?;
        // An alarm of its own stops its writes; whatever else it reports does not.
        let alarm = status.errors.iter().find(|error| error.contains("NOSPACE"));
        Ok(Status {
            revision,
            compacted: self.compacted().await?,
            term: status.raft_term,
            led: status.leader != 0,
            bytes: unsigned(status.db_size)?,
            mode: alarm.map_or(Mode::Writable, |why| Mode::ReadOnly(why.clone())),
            engine: format!("etcd {}", status.version),
        })
    }
}
