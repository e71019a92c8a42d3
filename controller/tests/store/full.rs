//! Full disks: nothing is written, everything can be read, it says so, and goes on when there is space again.

use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foreshade_controller::store::redb::medium::{File, Medium};
use foreshade_controller::store::{
    Etcd, KeyRange, Mode, Op, ReadAt, Redb, Revision, Store, StoreError, Txn, Value,
};
use redb::StorageBackend;
use tokio::time::{sleep, timeout};

use crate::bench::{PROGRESS_EVERY, all, block_on, changes, key, put};
use crate::etcd_server::EtcdServer;

/// Longer than the store takes to notice that it can write again.
const PATIENCE: Duration = Duration::from_secs(30);

/// A disk of so many bytes.
#[derive(Clone, Debug)]
struct Limited {
    file: File,
    bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct LimitedFile {
    file: Box<dyn StorageBackend>,
    bytes: Arc<AtomicU64>,
}

impl LimitedFile {
    fn check(&self, end: u64) -> io::Result<()> {
        if end > self.bytes.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Medium for Limited {
    fn open(&self) -> Result<Box<dyn StorageBackend>, StoreError> {
        Ok(Box::new(LimitedFile {
            file: self.file.open()?,
            bytes: Arc::clone(&self.bytes),
        }))
    }

    fn bytes(&self) -> u64 {
        self.file.bytes()
    }
}

impl StorageBackend for LimitedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(len)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check(offset + data.len() as u64)?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn large(n: usize) -> Txn {
    let value = Value::new(vec![u8::try_from(n % 256).unwrap(); 200_000]).unwrap();
    Txn::new().then(Op::put(key(&format!("large/{n:04}")), value))
}

/// Fills a store; says how many writes were acknowledged, and what the first other one got.
async fn fill(store: &dyn Store) -> (usize, StoreError) {
    for n in 0..1000 {
        if let Err(error) = store.txn(large(n)).await {
            return (n, error);
        }
    }
    panic!("it is never full");
}

/// Everything acknowledged is there, and nothing else.
async fn holds(store: &dyn Store, written: usize) {
    let found = store.range(KeyRange::all(), ReadAt::Latest, 1000).await.unwrap();
    assert_eq!(found.entries.len(), written);
    assert_eq!(found.revision.number(), written as u64 + 1);
    assert!(
        found
            .entries
            .iter()
            .all(|entry| entry.value.as_bytes().len() == 200_000)
    );
}

async fn wait_until_writable(store: &dyn Store) {
    let waiting = async {
        while store.status().await.unwrap().mode != Mode::Writable {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waiting)
        .await
        .expect("it notices that there is space");
}

pub(crate) fn a_full_disk() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let disk = Limited {
            file: File::new(folder.path().join("store.redb")),
            bytes: Arc::new(AtomicU64::new(8 << 20)),
        };
        let store = Redb::on(Arc::new(disk.clone()), PROGRESS_EVERY).await.unwrap();
        let mut watch = store.watch(KeyRange::all(), Revision::FIRST);
        let (written, error) = fill(&store).await;
        assert!(matches!(error, StoreError::Full(_)), "{error:?}");
        assert!(written > 3);
        // No space at all from here on, not even for a probe.
        disk.bytes.store(0, Ordering::SeqCst);
        let refused = store.txn(Txn::new().then(put("small", ""))).await;
        assert!(
            matches!(refused, Err(StoreError::Full(_) | StoreError::Unavailable(_))),
            "{refused:?}"
        );
        // Several probes fail meanwhile, and nobody who reads notices.
        let reading = async {
            loop {
                holds(&store, written).await;
            }
        };
        assert!(timeout(Duration::from_millis(2_500), reading).await.is_err());
        assert!(matches!(store.status().await.unwrap().mode, Mode::ReadOnly(_)));
        holds(&store, written).await;
        disk.bytes.store(1 << 30, Ordering::SeqCst);
        wait_until_writable(&store).await;
        holds(&store, written).await;
        let done = store.txn(large(written)).await.unwrap();
        assert_eq!(
            done.revision.number(),
            written as u64 + 2,
            "no revision was used up"
        );
        let seen = changes(&mut watch, done.revision).await;
        assert_eq!(seen.len(), written + 1, "the watch has missed nothing");
        store.close().await;
        // Also one that is full from the beginning is opened, and mends itself.
        disk.bytes.store(0, Ordering::SeqCst);
        let store = Redb::on(Arc::new(disk.clone()), PROGRESS_EVERY).await.unwrap();
        assert!(matches!(store.status().await.unwrap().mode, Mode::ReadOnly(_)));
        holds(&store, written + 1).await;
        disk.bytes.store(1 << 30, Ordering::SeqCst);
        wait_until_writable(&store).await;
        store.txn(large(written + 1)).await.unwrap();
        store.close().await;
        let store = Redb::open(folder.path().join("store.redb")).await.unwrap();
        holds(&store, written + 2).await;
    });
}

/// Whether this process may mount a file system of its own.
pub(crate) fn can_mount() -> bool {
    const MAY_ADMINISTER: u64 = 1 << 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits & MAY_ADMINISTER != 0)
}

/// A file system of a few megabytes, unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=8m", "store-test"])
            .arg(folder.path());
        assert!(mount.status().unwrap().success());
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // What cannot be unmounted goes with the machine.
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

pub(crate) fn a_full_file_system() {
    block_on(async {
        let folder = Small::new();
        let path = folder.0.path().join("store.redb");
        let store = Redb::open(&path).await.unwrap();
        let ballast = folder.0.path().join("ballast");
        std::fs::write(&ballast, vec![1; 3 << 20]).unwrap();
        let (written, error) = fill(&store).await;
        assert!(matches!(error, StoreError::Full(_)), "{error:?}");
        holds(&store, written).await;
        std::fs::remove_file(&ballast).unwrap();
        wait_until_writable(&store).await;
        store.txn(large(written)).await.unwrap();
        holds(&store, written + 1).await;
        store.close().await;
        let store = Redb::open(&path).await.unwrap();
        holds(&store, written + 1).await;
        store.close().await;
    });
}

pub(crate) fn etcd_at_its_quota() {
    block_on(async {
        let server = EtcdServer::start(&["--quota-backend-bytes", "4000000"]).await;
        let etcd = Etcd::new(&server.options()).unwrap();
        let (written, error) = fill(&etcd).await;
        // etcd does the write that uses its quota up, and says that it did not: so nobody knows.
        let space = matches!(&error, StoreError::OutcomeUnknown(why) if why.contains("space exceeded"));
        assert!(space, "{error:?}");
        assert!(written > 3);
        let status = etcd.status().await.unwrap();
        assert!(matches!(status.mode, Mode::ReadOnly(_)), "{status:?}");
        let there = all(&etcd).await.revision.number() as usize - 1;
        assert!(there == written || there == written + 1, "{there} of {written}");
        holds(&etcd, there).await;
        // From here on nothing is written.
        let refused = etcd.txn(Txn::new().then(put("small", ""))).await;
        assert!(
            matches!(refused, Err(StoreError::OutcomeUnknown(_))),
            "{refused:?}"
        );
        holds(&etcd, there).await;
    });
}
