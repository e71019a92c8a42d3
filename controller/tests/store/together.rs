//! Writes that wait for the disk together, and what can be seen of them before it has them.

use std::sync::Arc;
use std::time::Duration;

use foreshade_controller::store::{KeyRange, ReadAt, Redb, Store, Txn};
use futures_util::StreamExt;
use tokio::time::{sleep, timeout};

use crate::bench::{PROGRESS_EVERY, act, all, block_on, changes, key, put};
use crate::crash::Disk;

/// Writers at a time.
const WRITERS: usize = 64;

/// What comes while the disk is busy shares the next sync.
pub(crate) fn writes_that_wait_share_a_sync() {
    block_on(async {
        let disk = Disk::new().await;
        let store = Arc::new(Redb::on(Arc::new(disk.clone()), PROGRESS_EVERY).await.unwrap());
        let before = all(store.as_ref()).await.revision;
        let alone = disk.syncs();
        act(store.as_ref(), [put("alone", "")]).await;
        let each = disk.syncs() - alone;
        assert!(each > 0, "an acknowledged write is on disk");
        disk.keep_busy(true);
        let synced = disk.syncs();
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { act(store.as_ref(), [put(&format!("{n}"), "")]).await.revision })
            })
            .collect();
        // Time to come to the queue; however many have not, they only cost a sync more.
        sleep(Duration::from_millis(500)).await;
        disk.keep_busy(false);
        let mut revisions = Vec::new();
        for writer in writers {
            revisions.push(writer.await.unwrap());
        }
        revisions.sort_unstable();
        revisions.dedup();
        assert_eq!(revisions.len(), WRITERS, "each has a revision of its own");
        assert_eq!(
            all(store.as_ref()).await.revision.number(),
            before.number() + WRITERS as u64 + 1
        );
        let syncs = disk.syncs() - synced;
        assert!(
            syncs < WRITERS * each / 4,
            "{syncs} syncs for {WRITERS} writes, {each} for one"
        );
    });
}

/// Neither readers nor watchers see what is not on disk.
pub(crate) fn what_is_not_on_disk_is_not_seen() {
    block_on(async {
        let disk = Disk::new().await;
        let store = Arc::new(
            Redb::on(Arc::new(disk.clone()), Duration::from_secs(3600))
                .await
                .unwrap(),
        );
        let before = act(store.as_ref(), [put("a", "1")]).await.revision;
        let mut watch = store.watch(KeyRange::all(), before.next());
        disk.keep_busy(true);
        let writing = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { act(store.as_ref(), [put("a", "2")]).await.revision })
        };
        let early = timeout(Duration::from_millis(500), watch.next()).await;
        assert!(early.is_err(), "{early:?}");
        let found = store
            .range(KeyRange::key(&key("a")), ReadAt::Latest, 1)
            .await
            .unwrap();
        assert_eq!((found.revision, found.entries[0].version), (before, 1));
        assert!(!writing.is_finished());
        disk.keep_busy(false);
        assert_eq!(writing.await.unwrap(), before.next());
        assert_eq!(changes(&mut watch, before.next()).await.len(), 1);
        let done = store.txn(Txn::new()).await.unwrap();
        assert_eq!(done.revision, before.next());
    });
}
