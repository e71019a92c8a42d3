//! Clients that do something by chance, all at once, and write down what came of it; and watchers beside them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foreshade_controller::store::{
    Certainty, Change, Compare, KeyRange, Notice, Op, ReadAt, Revision, Store, StoreError, Txn,
};
use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::bench::{all, changes, key, put, under};
use crate::checker::{Outcome, Record, Watched, What, check};

/// Keys that they fight for.
const KEYS: [&str; 5] = ["a/1", "a/2", "b/1", "b/2", "c"];

/// How long a watcher waits for more when all clients are done.
const REST: Duration = Duration::from_millis(50);

/// What all clients of a test share.
#[derive(Default)]
pub(crate) struct Notes {
    clock: AtomicU64,
    records: Mutex<Vec<Record>>,
    watches: Mutex<Vec<Watched>>,
    values: AtomicU64,
}

impl Notes {
    fn moment(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        let records = self.records.lock().unwrap();
        let done = |r: &&Record| matches!(&r.what, What::Txn(_, Outcome::Done(_)));
        records.iter().filter(done).count()
    }

    /// How many were not, for sure or perhaps.
    pub(crate) fn troubled(&self) -> usize {
        let records = self.records.lock().unwrap();
        let failed = |r: &&Record| matches!(&r.what, What::Txn(_, Outcome::Unknown | Outcome::Refused));
        records.iter().filter(failed).count()
    }

    /// Fails with everything that is wrong, given what there is in the end.
    pub(crate) async fn judge(&self, store: &dyn Store) {
        let latest = all(store).await.revision;
        let mut everything: Vec<Change> = Vec::new();
        if latest > Revision::FIRST {
            let mut watch = store.watch(KeyRange::all(), Revision::FIRST);
            everything = timeout(Duration::from_secs(30), changes(&mut watch, latest))
                .await
                .unwrap();
        }
        let (records, watches) = (self.records.lock().unwrap(), self.watches.lock().unwrap());
        let wrong = check(&records, &everything, &watches);
        assert!(
            wrong.is_empty(),
            "{} of {}:\n{}",
            wrong.len(),
            records.len(),
            wrong.join("\n")
        );
    }
}

/// A client that does so many things, or stops when the store is gone for good.
async fn client(store: Arc<dyn Store>, notes: Arc<Notes>, seed: u64, (steps, pause): (usize, Duration)) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..steps {
        sleep(pause).await;
        let start = notes.moment();
        let (what, over) = if rng.random_bool(0.3) {
            read(store.as_ref(), &mut rng).await
        } else {
            let txn = transaction(store.as_ref(), &notes, &mut rng).await;
            write(store.as_ref(), txn).await
        };
        let end = notes.moment();
        if let Some(what) = what {
            notes.records.lock().unwrap().push(Record { start, end, what });
        }
        if over {
            return;
        }
    }
}

async fn read(store: &dyn Store, rng: &mut StdRng) -> (Option<What>, bool) {
    let keys = match rng.random_range(0..3) {
        0 => KeyRange::all(),
        1 => under("a/"),
        _ => KeyRange::key(&key("c")),
    };
    let mut at = ReadAt::Latest;
    if rng.random_bool(0.3)
        && let Ok(found) = store.range(keys.clone(), ReadAt::Local, 100).await
    {
        let back = rng.random_range(0..5);
        at = ReadAt::Revision(Revision::new(found.revision.number().saturating_sub(back).max(1)));
    }
    match store.range(keys.clone(), at, 100).await {
        Ok(found) => (Some(What::Read(keys, at, found)), false),
        Err(error) => (None, is_over(&error)),
    }
}

/// Writes with values that nobody else writes, so that each can be told from all others.
async fn transaction(store: &dyn Store, notes: &Notes, rng: &mut StdRng) -> Txn {
    let unique = || notes.values.fetch_add(1, Ordering::SeqCst).to_string();
    let mut any = || KEYS[rng.random_range(0..KEYS.len())];
    let (first, second) = (any(), any());
    match rng.random_range(0..6) {
        0 | 1 => Txn::new().then(put(first, &unique())),
        2 if first != second => Txn::new()
            .then(put(first, &unique()))
            .then(put(second, &unique())),
        3 => Txn::new()
            .then(Op::Delete(under("b/")))
            .then(put("a/1", &unique())),
        _ => {
            let found = store.range(KeyRange::key(&key(first)), ReadAt::Local, 1).await;
            let modified = found.ok().and_then(|f| f.entries.first().map(|e| e.modified));
            Txn::new()
                .when(Compare::modified(key(first), modified.unwrap_or(Revision::NONE)))
                .then(put(first, &unique()))
                .then(Op::Read {
                    keys: KeyRange::all(),
                    limit: 100,
                })
                .otherwise(Op::read(&key(first)))
        }
    }
}

async fn write(store: &dyn Store, txn: Txn) -> (Option<What>, bool) {
    match store.txn(txn.clone()).await {
        Ok(done) => (Some(What::Txn(txn, Outcome::Done(done))), false),
        Err(error) => {
            let outcome = match error.certainty() {
                Certainty::Unknown => Outcome::Unknown,
                Certainty::Refused | Certainty::Later => Outcome::Refused,
            };
            (Some(What::Txn(txn, outcome)), is_over(&error))
        }
    }
}

fn is_over(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Closed | StoreError::Corrupt { .. } | StoreError::Foreign(_)
    )
}

/// A watcher that writes down what it is told, until the clients are done and nothing comes any more.
async fn watcher(store: Arc<dyn Store>, notes: Arc<Notes>, keys: KeyRange, mut done: watch::Receiver<bool>) {
    let from = Revision::FIRST.next();
    let mut watch = store.watch(keys.clone(), from);
    drop(store);
    let mut notices: Vec<Notice> = Vec::new();
    loop {
        let over = *done.borrow_and_update();
        let next = async {
            tokio::select! {
                biased;
                notice = watch.next() => notice,
                _ = done.changed(), if !over => Some(Ok(Notice::Progress(Revision::NONE))),
            }
        };
        match timeout(if over { REST } else { Duration::from_secs(60) }, next).await {
            Ok(Some(Ok(Notice::Progress(Revision::NONE)))) => {}
            Ok(Some(Ok(notice))) => notices.push(notice),
            _ => break,
        }
    }
    notes
        .watches
        .lock()
        .unwrap()
        .push(Watched { keys, from, notices });
}

/// Clients and watchers, until all clients have done so many things, with so much of a pause before each.
pub(crate) async fn crowd(
    store: &Arc<dyn Store>,
    notes: &Arc<Notes>,
    seed: u64,
    clients: u64,
    pace: (usize, Duration),
) {
    let (all_done, done) = watch::channel(false);
    let watchers: Vec<_> = [KeyRange::all(), under("a/"), under("b/")]
        .into_iter()
        .map(|keys| tokio::spawn(watcher(Arc::clone(store), Arc::clone(notes), keys, done.clone())))
        .collect();
    let clients: Vec<_> = (0..clients)
        .map(|n| {
            let seed = seed * 1000 + n;
            tokio::spawn(client(Arc::clone(store), Arc::clone(notes), seed, pace))
        })
        .collect();
    for task in clients {
        task.await.unwrap();
    }
    all_done.send(true).unwrap();
    for task in watchers {
        task.await.unwrap();
    }
}
