//! A store to test, of either kind, and what every test of one needs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foreshade_controller::store::redb::medium::File;
use foreshade_controller::store::{
    Change, Done, Etcd, Found, Key, KeyRange, Memory, Notice, Op, ReadAt, Redb, Revision, Store, Txn, Value,
    Watch,
};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::etcd_server::EtcdServer;

/// How often watchers of the embedded stores are told how far they have come.
pub(crate) const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Redb,
    Etcd,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Redb, Self::Etcd];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Redb => "redb",
            Self::Etcd => "etcd",
        })
    }
}

/// A store that is empty at first, and goes with the test.
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    place: Place,
}

enum Place {
    Memory,
    Redb(TempDir),
    Etcd(Box<EtcdServer>),
}

impl Bench {
    pub(crate) async fn new(kind: Kind) -> Self {
        match kind {
            Kind::Memory => Self {
                store: Arc::new(Memory::with_progress(PROGRESS_EVERY)),
                place: Place::Memory,
            },
            Kind::Redb => {
                let folder = tempfile::tempdir().unwrap();
                Self {
                    store: open_file(&folder).await,
                    place: Place::Redb(folder),
                }
            }
            Kind::Etcd => {
                let server = EtcdServer::start(&[]).await;
                Self {
                    store: Arc::new(Etcd::new(&server.options()).unwrap()),
                    place: Place::Etcd(Box::new(server)),
                }
            }
        }
    }

    /// Ends the store and starts it again on what it kept: etcd by a kill, while its client lives on; redb by closing.
    pub(crate) async fn restart(&mut self) {
        match &mut self.place {
            Place::Memory => panic!("a store in memory has nothing after a restart"),
            Place::Redb(folder) => {
                self.store = Arc::new(Memory::new());
                self.store = open_file(folder).await;
            }
            Place::Etcd(server) => server.restart().await,
        }
    }

    /// Whether a watch is to survive a restart: that of a process that ended does not.
    pub(crate) fn outlives_restarts(&self) -> bool {
        matches!(self.place, Place::Etcd(_))
    }
}

async fn open_file(folder: &TempDir) -> Arc<dyn Store> {
    let medium = Arc::new(File::new(folder.path().join("store.redb")));
    Arc::new(Redb::on(medium, PROGRESS_EVERY).await.unwrap())
}

/// Longer than any test takes on a busy machine; what hangs fails.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs a test on a runtime of its own, within bounds.
pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.expect("a test ends") })
}

pub(crate) fn key(text: &str) -> Key {
    Key::try_from(text).unwrap()
}

pub(crate) fn value(text: &str) -> Value {
    Value::new(text.as_bytes().to_vec()).unwrap()
}

pub(crate) fn put(name: &str, text: &str) -> Op {
    Op::put(key(name), value(text))
}

/// Everything that begins so.
pub(crate) fn under(text: &str) -> KeyRange {
    KeyRange::prefix(&key(text))
}

/// Does these operations.
pub(crate) async fn act(store: &dyn Store, ops: impl IntoIterator<Item = Op>) -> Done {
    let txn = ops.into_iter().fold(Txn::new(), Txn::then);
    store.txn(txn).await.unwrap()
}

/// What is there now, at most 100 keys.
pub(crate) async fn all(store: &dyn Store) -> Found {
    store.range(KeyRange::all(), ReadAt::Latest, 100).await.unwrap()
}

/// Key and value of each of them.
pub(crate) fn texts(found: &Found) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pairs = found.entries.iter();
    pairs
        .map(|e| (text(e.key.as_bytes()), text(e.value.as_bytes())))
        .collect()
}

/// The next changes of a watch, up to this revision.
pub(crate) async fn changes(watch: &mut Watch, upto: Revision) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    while changes.last().is_none_or(|change| change.revision < upto) {
        match watch.next().await.expect("the watch goes on").unwrap() {
            Notice::Change(change) => changes.push(change),
            Notice::Progress(_) => {}
        }
    }
    changes
}
