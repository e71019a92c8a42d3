//! What is not what it should be: other files, rotten files, two processes, no server. A typed error, and nothing changes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use foreshade_controller::store::redb::medium::File;
use foreshade_controller::store::{
    Change, Etcd, EtcdOptions, Found, KeyRange, Op, ReadAt, Redb, Revision, Store, StoreError,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::{Database, ReadableDatabase, TableDefinition};
use tokio::time::timeout;

use crate::bench::{PROGRESS_EVERY, act, all, block_on, changes, key, put, under};
use crate::etcd_server::EtcdServer;

/// Bits that are flipped, each in a file of its own.
const FLIPS: u64 = 150;

pub(crate) fn what_is_no_store() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        for content in [
            Vec::new(),
            b"redb".to_vec(),
            b"SQLite format 3\0 and more of it".to_vec(),
            b"apiVersion: foreshade/v1\n".to_vec(),
            vec![0; 1 << 20],
        ] {
            std::fs::write(&path, &content).unwrap();
            let opened = Redb::open(&path).await;
            assert!(matches!(opened, Err(StoreError::Foreign(_))), "{opened:?}");
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing was left beside it"
        );
        std::fs::remove_file(&path).unwrap();
        a_database_of_another_program(&path).await;
        let nowhere = Redb::open(folder.path().join("no/such/folder/store.redb")).await;
        assert!(matches!(nowhere, Err(StoreError::Unavailable(_))), "{nowhere:?}");
    });
}

async fn a_database_of_another_program(path: &Path) {
    const THEIRS: TableDefinition<'_, &str, u64> = TableDefinition::new("theirs");
    let database = Database::create(path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(THEIRS).unwrap().insert("a", 1).unwrap();
    txn.commit().unwrap();
    drop(database);
    let opened = Redb::open(path).await;
    assert!(matches!(opened, Err(StoreError::Foreign(_))), "{opened:?}");
    let database = Database::open(path).unwrap();
    let txn = database.begin_read().unwrap();
    assert_eq!(txn.list_tables().unwrap().count(), 1);
    assert_eq!(
        txn.open_table(THEIRS).unwrap().get("a").unwrap().unwrap().value(),
        1
    );
}

pub(crate) fn two_at_once() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let first = Redb::open(&path).await.unwrap();
        act(&first, [put("a", "1")]).await;
        let second = Redb::open(&path).await;
        assert!(matches!(second, Err(StoreError::InUse)), "{second:?}");
        act(&first, [put("a", "2")]).await;
        first.close().await;
        let second = Redb::open(&path).await.unwrap();
        assert_eq!(all(&second).await.entries[0].version, 2);
    });
}

/// What can be known of a store.
async fn everything(store: &dyn Store) -> Result<(Found, Vec<Change>), StoreError> {
    let found = store.range(KeyRange::all(), ReadAt::Latest, 1000).await?;
    let from = store.status().await?.compacted.next();
    let mut watch = store.watch(KeyRange::all(), from);
    let changes = timeout(Duration::from_secs(10), changes(&mut watch, found.revision)).await;
    Ok((found, changes.unwrap()))
}

pub(crate) fn a_rotten_file() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let store = Redb::open(&path).await.unwrap();
        let lease = store.lease_grant(Duration::from_secs(3600)).await.unwrap().id;
        // In few commits, because each leaves pages behind that nobody reads any more.
        for round in 0..4 {
            let ops = (0..40).map(|n| Op::Put {
                key: key(&format!("key/{n}")),
                value: crate::bench::value(&format!("{round} ").repeat(n * 20)),
                lease: (n % 7 == round).then_some(lease),
            });
            act(&store, ops).await;
        }
        act(&store, [Op::Delete(under("key/1"))]).await;
        store.compact(Revision::new(3)).await.unwrap();
        let sound = everything(&store).await.unwrap();
        store.close().await;
        let bytes = std::fs::read(&path).unwrap();
        let mut found = 0;
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..FLIPS {
            let mut rotten = bytes.clone();
            // Most of the file is empty; where something stands is where it matters.
            let used: usize = loop {
                let at = rng.random_range(0..bytes.len());
                if bytes[at] != 0 {
                    break at;
                }
            };
            rotten[used] ^= 1 << rng.random_range(0..8);
            std::fs::write(&path, &rotten).unwrap();
            match Redb::on(Arc::new(File::new(&path)), PROGRESS_EVERY).await {
                Err(StoreError::Corrupt { .. } | StoreError::Foreign(_) | StoreError::Unavailable(_)) => {
                    found += 1
                }
                Err(other) => panic!("byte {used}: {other:?}"),
                Ok(store) => {
                    let read = everything(&store).await;
                    assert!(read.as_ref() == Ok(&sound), "byte {used} is served: {read:?}");
                }
            }
        }
        assert!(found > FLIPS / 5, "{found} of {FLIPS} were found to matter");
    });
}

pub(crate) fn no_etcd() {
    block_on(async {
        let mut server = EtcdServer::start(&[]).await;
        let mut options = server.options();
        options.deadline = Duration::from_secs(2);
        let etcd = Etcd::new(&options).unwrap();
        let before = act(&etcd, [put("a", "1")]).await.revision;
        // It hangs: a write that was sent may be done later.
        server.freeze(0, true);
        let txn = || foreshade_controller::store::Txn::new().then(put("a", "2"));
        let sent = etcd.txn(txn()).await;
        assert!(matches!(sent, Err(StoreError::OutcomeUnknown(_))), "{sent:?}");
        let read = etcd.range(under("a"), ReadAt::Latest, 1).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
        server.freeze(0, false);
        let after = all(&etcd).await.revision;
        assert!(after <= before.next());
        // It is gone: nothing can have been written.
        server.kill(0);
        let mut certain = false;
        for _ in 0..3 {
            let refused = etcd.txn(txn()).await;
            certain = matches!(refused, Err(StoreError::Unavailable(_)));
            assert!(refused.is_err());
        }
        assert!(certain, "once the connection is known to be gone");
        let none = EtcdOptions::new(Vec::<String>::new());
        assert!(matches!(Etcd::new(&none), Err(StoreError::Unavailable(_))));
        let wrong = EtcdOptions::new(["no address at all"]);
        assert!(matches!(Etcd::new(&wrong), Err(StoreError::Unavailable(_))));
    });
}
