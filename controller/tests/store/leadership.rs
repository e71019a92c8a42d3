//! Leaders: one at a time, each with a greater epoch than all before, and none that acts after his time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use foreshade_controller::leader::{Campaign, Deposed, LEADER_TTL, LeaderError, Leadership, current};
use foreshade_controller::store::{
    Compare, Done, Found, Invalid, Key, KeyRange, Lease, LeaseId, Memory, Op, OpDone, ReadAt, Revision,
    Status, Store, StoreError, Txn, Value, Watch,
};
use tokio::time::{Instant, sleep, timeout};

use crate::bench::{Bench, act, all, key, put, texts};
use crate::rules::{Rule, named};

/// Rules of leadership, for every store.
pub(crate) const OF_ALL: &[(&str, Rule)] = named![
    the_first_candidate_leads_and_the_next_one_follows,
    a_deposed_leader_can_neither_write_nor_command,
    a_leader_whose_lease_was_ended_is_deposed,
    a_comparison_that_fails_deposes_nobody,
    what_is_done_otherwise_only_reads,
    what_no_candidate_has_written_is_an_error,
];

fn leader_key() -> Key {
    key("control/leader")
}

fn campaign(store: &Arc<dyn Store>, who: &str, ttl: Duration) -> Campaign {
    Campaign::new(Arc::clone(store), leader_key(), who, ttl).unwrap()
}

async fn win(store: &Arc<dyn Store>, who: &str) -> Leadership {
    campaign(store, who, LEADER_TTL).win().await.unwrap()
}

async fn the_first_candidate_leads_and_the_next_one_follows(bench: Bench) {
    let store = &bench.store;
    assert_eq!(current(store.as_ref(), &leader_key()).await, Ok(None));
    let first = win(store, "first").await;
    assert_eq!(first.authority().unwrap().epoch(), Ok(first.epoch()));
    let leader = current(store.as_ref(), &leader_key()).await.unwrap().unwrap();
    assert_eq!((leader.who.as_str(), leader.epoch), ("first", first.epoch()));
    let waiting = campaign(store, "second", LEADER_TTL);
    let second = tokio::spawn(async move { waiting.win().await });
    sleep(Duration::from_millis(300)).await;
    assert!(!second.is_finished());
    let epoch = first.epoch();
    first.resign().await.unwrap();
    let second = timeout(Duration::from_secs(30), second)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(second.epoch() > epoch);
    let done = second.txn(Txn::new().then(put("a", "second"))).await.unwrap();
    assert!(done.succeeded && done.revision > Revision::new(second.epoch().0));
}

async fn a_deposed_leader_can_neither_write_nor_command(bench: Bench) {
    let store = &bench.store;
    let old = win(store, "old").await;
    old.txn(Txn::new().then(put("a", "old"))).await.unwrap();
    let authority = old.authority().unwrap();
    // Somebody takes the key away while he believes that he leads.
    act(store.as_ref(), [Op::delete(&leader_key())]).await;
    let new = win(store, "new").await;
    assert!(new.epoch() > old.epoch());
    new.txn(Txn::new().then(put("a", "new"))).await.unwrap();
    let before = all(store.as_ref()).await;
    let refused = old.txn(Txn::new().then(put("a", "old again"))).await;
    assert_eq!(refused, Err(LeaderError::Deposed(Deposed::Replaced)));
    assert_eq!(all(store.as_ref()).await, before, "nothing was written");
    // And now he knows.
    assert_eq!(old.authority().map(|_| ()), Err(Deposed::Replaced));
    assert_eq!(authority.epoch(), Err(Deposed::Replaced));
    assert_eq!(old.deposed().await, Deposed::Replaced);
    assert!(new.authority().is_ok());
    // Going, he takes nothing from the new one.
    old.resign().await.unwrap();
    let leader = current(store.as_ref(), &leader_key()).await.unwrap().unwrap();
    assert_eq!(leader.epoch, new.epoch());
}

async fn a_leader_whose_lease_was_ended_is_deposed(bench: Bench) {
    let store = &bench.store;
    let leadership = campaign(store, "leader", Duration::from_secs(2))
        .win()
        .await
        .unwrap();
    let lease = all(store.as_ref()).await.entries[0].lease.unwrap();
    store.lease_revoke(lease).await.unwrap();
    let why = timeout(Duration::from_secs(30), leadership.deposed())
        .await
        .unwrap();
    assert_eq!(why, Deposed::LeaseEnded);
    let refused = leadership.txn(Txn::new().then(put("a", ""))).await;
    assert_eq!(refused, Err(LeaderError::Deposed(Deposed::LeaseEnded)));
}

async fn a_comparison_that_fails_deposes_nobody(bench: Bench) {
    let store = &bench.store;
    let leadership = win(store, "leader").await;
    leadership.txn(Txn::new().then(put("a", "1"))).await.unwrap();
    let txn = Txn::new()
        .when(Compare::absent(key("a")))
        .then(put("a", "2"))
        .otherwise(Op::read(&key("a")));
    let done = leadership.txn(txn).await.unwrap();
    assert!(!done.succeeded);
    let [OpDone::Read(entries, false)] = &done.ops[..] else {
        panic!("{done:?}");
    };
    assert_eq!(entries[0].value, crate::bench::value("1"));
    assert!(leadership.authority().is_ok());
}

async fn what_is_done_otherwise_only_reads(bench: Bench) {
    let leadership = win(&bench.store, "leader").await;
    let before = all(bench.store.as_ref()).await;
    for op in [put("a", ""), Op::delete(&key("a"))] {
        let refused = leadership.txn(Txn::new().then(put("b", "")).otherwise(op)).await;
        assert_eq!(refused, Err(StoreError::from(Invalid::FencedOtherwise).into()));
    }
    assert_eq!(all(bench.store.as_ref()).await, before);
}

async fn what_no_candidate_has_written_is_an_error(bench: Bench) {
    let store = &bench.store;
    act(store.as_ref(), [put("control/leader", "a note of somebody")]).await;
    let before = all(store.as_ref()).await;
    let tried = campaign(store, "candidate", LEADER_TTL).win().await;
    assert!(matches!(tried, Err(StoreError::Foreign(_))), "{tried:?}");
    let lease = store.lease_grant(Duration::from_secs(60)).await.unwrap().id;
    let bytes = Op::Put {
        key: leader_key(),
        value: Value::new(vec![0xff, 0xfe]).unwrap(),
        lease: Some(lease),
    };
    assert_eq!(all(store.as_ref()).await, before, "nothing was changed");
    act(store.as_ref(), [bytes]).await;
    let tried = campaign(store, "candidate", LEADER_TTL).win().await;
    assert!(matches!(tried, Err(StoreError::Corrupt { .. })), "{tried:?}");
    let seen = current(store.as_ref(), &leader_key()).await;
    assert!(matches!(seen, Err(StoreError::Corrupt { .. })), "{seen:?}");
}

/// A store that one controller cannot reach any more, as far as its lease is concerned.
struct Deaf {
    store: Arc<dyn Store>,
    deaf: AtomicBool,
}

impl Deaf {
    fn hears(&self) -> Result<(), StoreError> {
        if self.deaf.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("nobody is there".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Deaf {
    async fn range(&self, keys: KeyRange, at: ReadAt, limit: u32) -> Result<Found, StoreError> {
        self.store.range(keys, at, limit).await
    }

    async fn txn(&self, txn: Txn) -> Result<Done, StoreError> {
        self.store.txn(txn).await
    }

    fn watch(&self, keys: KeyRange, from: Revision) -> Watch {
        self.store.watch(keys, from)
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.store.lease_grant(ttl).await
    }

    async fn lease_keepalive(&self, id: LeaseId) -> Result<Duration, StoreError> {
        self.hears()?;
        self.store.lease_keepalive(id).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), StoreError> {
        self.hears()?;
        self.store.lease_revoke(id).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.store.compact(revision).await
    }

    async fn status(&self) -> Result<Status, StoreError> {
        self.store.status().await
    }
}

/// In a time that goes on only when everybody waits.
fn in_virtual_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// A leader whose store hears nothing of his lease from now on, and the store itself.
async fn deaf_leader() -> (Leadership, Arc<Deaf>, Arc<dyn Store>) {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let deaf = Arc::new(Deaf {
        store: Arc::clone(&store),
        deaf: AtomicBool::new(false),
    });
    let his: Arc<dyn Store> = Arc::clone(&deaf) as Arc<dyn Store>;
    let leadership = win(&his, "deaf").await;
    (leadership, deaf, store)
}

pub(crate) fn steps_down_at_two_thirds() {
    in_virtual_time(async {
        let (leadership, deaf, store) = deaf_leader().await;
        let begun = Instant::now();
        // As long as he is heard, he leads. He is kept alive every fifth of his time: the last one was a moment ago.
        sleep(LEADER_TTL * 4 + Duration::from_millis(500)).await;
        assert!(leadership.authority().is_ok());
        deaf.deaf.store(true, Ordering::SeqCst);
        let last = begun + LEADER_TTL * 4;
        tokio::time::sleep_until(last + LEADER_TTL * 2 / 3 - Duration::from_millis(10)).await;
        assert!(leadership.authority().is_ok());
        leadership
            .txn(Txn::new().then(put("a", "in time")))
            .await
            .unwrap();
        sleep(Duration::from_millis(20)).await;
        assert_eq!(leadership.authority().map(|_| ()), Err(Deposed::Unconfirmed));
        assert_eq!(leadership.deposed().await, Deposed::Unconfirmed);
        // The store would still take it: the lease has not ended there. He does not even try.
        let refused = leadership.txn(Txn::new().then(put("a", "too late"))).await;
        assert_eq!(refused, Err(LeaderError::Deposed(Deposed::Unconfirmed)));
        assert_eq!(texts(&all(store.as_ref()).await)[0].1, "in time");
        // Heard again, he is not the leader again.
        deaf.deaf.store(false, Ordering::SeqCst);
        sleep(Duration::from_secs(1)).await;
        assert!(leadership.authority().is_err());
    });
}

pub(crate) fn a_silent_leader_is_followed() {
    in_virtual_time(async {
        let (leadership, deaf, store) = deaf_leader().await;
        deaf.deaf.store(true, Ordering::SeqCst);
        let silent_since = Instant::now();
        let next = campaign(&store, "next", LEADER_TTL);
        let next = tokio::spawn(async move {
            let won = next.win().await.unwrap();
            (won, Instant::now())
        });
        leadership.deposed().await;
        let stopped = silent_since.elapsed();
        let (next, followed_at) = next.await.unwrap();
        let followed = followed_at.duration_since(silent_since);
        assert!(
            stopped <= LEADER_TTL * 2 / 3 + Duration::from_millis(10),
            "{stopped:?}"
        );
        assert!(followed >= LEADER_TTL, "never both: {followed:?}");
        assert!(followed <= LEADER_TTL + Duration::from_secs(1), "{followed:?}");
        assert!(next.epoch() > leadership.epoch());
    });
}
