//! The rules of a store, each a test of every backend.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use foreshade_controller::store::{
    Change, Compare, Event, Invalid, KEY_BYTES_MAX, Key, KeyRange, LeaseId, Notice, Op, OpDone, Operand,
    REQUEST_BYTES_MAX, ReadAt, Relation, Revision, Store, StoreError, TXN_OPS_MAX, Txn, VALUE_BYTES_MAX,
    Value,
};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use crate::bench::{Bench, act, all, changes, key, put, texts, under, value};
use crate::recorded::{Notes, crowd};

/// A rule: given an empty store, it holds or panics.
pub(crate) type Rule = fn(Bench) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Names the rules by their functions.
macro_rules! named {
    ($($rule:ident),* $(,)?) => {
        &[$((stringify!($rule), |bench| Box::pin($rule(bench)))),*]
    };
}
pub(crate) use named;

/// Rules that hold for every store.
pub(crate) const OF_ALL: &[(&str, Rule)] = named![
    a_transaction_makes_one_revision_and_all_its_keys_have_it,
    a_transaction_that_writes_a_key_twice_is_refused,
    what_writes_nothing_makes_no_revision,
    a_deletion_is_a_revision_and_an_event,
    a_key_that_was_deleted_comes_into_being_again,
    a_comparison_is_of_what_is_there,
    operations_see_what_was_done_before_them,
    a_range_is_in_order_and_says_when_there_is_more,
    a_read_at_a_revision_is_as_it_was_then,
    only_one_of_many_writers_wins,
    a_watch_gives_everything_from_its_revision_once_and_whole,
    a_watch_may_begin_in_the_future,
    a_watch_of_silent_keys_learns_how_far_the_store_is,
    what_was_compacted_is_gone_and_the_rest_can_be_read,
    a_watch_from_what_was_compacted_says_so,
    a_lease_that_ends_takes_its_keys_in_one_revision,
    a_lease_that_is_kept_alive_lives,
    a_revoked_lease_takes_its_keys_in_one_revision,
    a_lease_that_is_not_there_is_refused,
    a_put_without_a_lease_keeps_the_key,
    what_exceeds_a_limit_is_refused_and_the_limit_is_not,
    the_status_says_how_it_is,
    what_many_do_at_once_is_as_if_done_one_after_the_other,
];

/// Rules that hold for stores that keep what they have.
pub(crate) const OF_DURABLE: &[(&str, Rule)] = named![
    everything_is_there_after_a_restart,
    a_watch_goes_on_after_a_restart,
    a_lease_has_its_whole_time_after_a_restart,
];

async fn a_transaction_makes_one_revision_and_all_its_keys_have_it(bench: Bench) {
    let store = bench.store.as_ref();
    let before = all(store).await.revision;
    let done = act(store, [put("a", "1"), put("b", "2"), put("c", "3")]).await;
    assert_eq!(done.revision, before.next());
    assert_eq!(done.ops, [OpDone::Put, OpDone::Put, OpDone::Put]);
    let found = all(store).await;
    assert_eq!((found.revision, found.entries.len()), (done.revision, 3));
    for entry in &found.entries {
        assert_eq!(
            (entry.modified, entry.created, entry.version),
            (done.revision, done.revision, 1)
        );
    }
    let again = act(store, [put("b", "4")]).await;
    let b = &all(store).await.entries[1];
    assert_eq!(
        (b.modified, b.created, b.version),
        (again.revision, done.revision, 2)
    );
}

async fn a_transaction_that_writes_a_key_twice_is_refused(bench: Bench) {
    let store = bench.store.as_ref();
    let before = all(store).await;
    for twice in [
        [put("a", "1"), put("a", "2")],
        [put("a", "1"), Op::Delete(under("a"))],
        [Op::delete(&key("a")), put("a", "1")],
        [Op::Delete(KeyRange::all()), Op::delete(&key("a"))],
    ] {
        let txn = twice
            .iter()
            .cloned()
            .fold(Txn::new().then(put("b", "0")), Txn::then);
        let refused = store.txn(txn).await;
        assert!(
            matches!(&refused, Err(StoreError::Invalid(Invalid::DuplicateKey(_)))),
            "{twice:?}: {refused:?}"
        );
        let otherwise = twice.iter().cloned().fold(Txn::new(), Txn::otherwise);
        assert!(store.txn(otherwise).await.is_err());
    }
    assert_eq!(all(store).await, before);
    let once_each = Txn::new().then(put("a", "1")).otherwise(put("a", "2"));
    assert!(store.txn(once_each).await.unwrap().succeeded);
}

async fn what_writes_nothing_makes_no_revision(bench: Bench) {
    let store = bench.store.as_ref();
    let before = act(store, [put("a", "1")]).await.revision;
    let failed = Txn::new().when(Compare::absent(key("a"))).then(put("a", "2"));
    let done = store.txn(failed).await.unwrap();
    assert_eq!(
        (done.succeeded, done.revision, done.ops.len()),
        (false, before, 0)
    );
    let done = act(
        store,
        [Op::delete(&key("x")), Op::Delete(under("y")), Op::read(&key("a"))],
    )
    .await;
    assert_eq!(done.revision, before);
    assert_eq!(done.ops[..2], [OpDone::Deleted(0), OpDone::Deleted(0)]);
    assert_eq!(store.txn(Txn::new()).await.unwrap().revision, before);
    let found = all(store).await;
    assert_eq!(
        (found.revision, texts(&found)),
        (before, vec![("a".into(), "1".into())])
    );
    assert_eq!(act(store, [put("a", "3")]).await.revision, before.next());
}

async fn a_deletion_is_a_revision_and_an_event(bench: Bench) {
    let store = bench.store.as_ref();
    let first = act(store, [put("a/1", ""), put("a/2", ""), put("b", "")])
        .await
        .revision;
    let deleted = act(store, [Op::Delete(under("a/"))]).await;
    assert_eq!(
        (deleted.revision, &deleted.ops[..]),
        (first.next(), &[OpDone::Deleted(2)][..])
    );
    let mut watch = store.watch(KeyRange::all(), first.next());
    let seen = changes(&mut watch, deleted.revision).await;
    let events = vec![Event::Deleted(key("a/1")), Event::Deleted(key("a/2"))];
    let revision = deleted.revision;
    assert_eq!(seen, [Change { revision, events }]);
    assert_eq!(texts(&all(store).await), [("b".to_owned(), String::new())]);
}

async fn a_key_that_was_deleted_comes_into_being_again(bench: Bench) {
    let store = bench.store.as_ref();
    act(store, [put("a", "1")]).await;
    act(store, [put("a", "2")]).await;
    act(store, [Op::delete(&key("a"))]).await;
    let absent = Txn::new().when(Compare::absent(key("a"))).then(put("a", "3"));
    let done = store.txn(absent).await.unwrap();
    assert!(done.succeeded);
    let entry = &all(store).await.entries[0];
    assert_eq!(
        (entry.created, entry.modified, entry.version),
        (done.revision, done.revision, 1)
    );
}

async fn a_comparison_is_of_what_is_there(bench: Bench) {
    let store = bench.store.as_ref();
    let lease = store.lease_grant(Duration::from_secs(60)).await.unwrap().id;
    let leased = Op::Put {
        key: key("a"),
        value: value("m"),
        lease: Some(lease),
    };
    act(store, [leased]).await;
    let leased = Op::Put {
        key: key("a"),
        value: value("n"),
        lease: Some(lease),
    };
    let modified = act(store, [leased]).await.revision;
    let created = all(store).await.entries[0].created;
    let of = |operand: Operand| Compare::equal(key("a"), operand);
    let with = |relation, operand| Compare {
        relation,
        ..of(operand)
    };
    for (holds, compare) in [
        (true, of(Operand::Created(created))),
        (false, of(Operand::Created(modified))),
        (true, of(Operand::Modified(modified))),
        (true, of(Operand::Version(2))),
        (true, of(Operand::Lease(Some(lease)))),
        (false, of(Operand::Lease(None))),
        (true, of(Operand::Value(value("n")))),
        (true, with(Relation::NotEqual, Operand::Value(value("m")))),
        (true, with(Relation::Greater, Operand::Value(value("m")))),
        (false, with(Relation::Less, Operand::Value(value("m")))),
        (true, with(Relation::Less, Operand::Modified(modified.next()))),
        (false, with(Relation::Less, Operand::Modified(modified))),
        (true, with(Relation::Greater, Operand::Version(1))),
        (false, with(Relation::NotEqual, Operand::Version(2))),
    ] {
        let done = store.txn(Txn::new().when(compare.clone())).await.unwrap();
        assert_eq!(done.succeeded, holds, "{compare:?}");
    }
    // What is not there has zeros, and no value that could be compared with anything.
    let nothing = |relation, operand| Compare {
        key: key("x"),
        relation,
        operand,
    };
    for (holds, compare) in [
        (true, nothing(Relation::Equal, Operand::Created(Revision::NONE))),
        (true, nothing(Relation::Equal, Operand::Version(0))),
        (true, nothing(Relation::Equal, Operand::Lease(None))),
        (true, nothing(Relation::Less, Operand::Modified(modified))),
        (false, nothing(Relation::Equal, Operand::Value(value("")))),
        (false, nothing(Relation::NotEqual, Operand::Value(value("m")))),
        (false, nothing(Relation::Less, Operand::Value(value("m")))),
    ] {
        let done = store.txn(Txn::new().when(compare.clone())).await.unwrap();
        assert_eq!(done.succeeded, holds, "{compare:?}");
    }
    // All of them have to hold.
    let both = Txn::new()
        .when(of(Operand::Version(2)))
        .when(of(Operand::Version(3)))
        .otherwise(put("b", "else"));
    let done = store.txn(both).await.unwrap();
    assert_eq!((done.succeeded, done.ops), (false, vec![OpDone::Put]));
}

async fn operations_see_what_was_done_before_them(bench: Bench) {
    let store = bench.store.as_ref();
    act(store, [put("b", "old")]).await;
    let ops = [
        Op::read(&key("a")),
        put("a", "new"),
        Op::delete(&key("b")),
        Op::Read {
            keys: KeyRange::all(),
            limit: 10,
        },
    ];
    let done = act(store, ops).await;
    let OpDone::Read(before, false) = &done.ops[0] else {
        panic!("{done:?}");
    };
    let OpDone::Read(after, false) = &done.ops[3] else {
        panic!("{done:?}");
    };
    assert!(before.is_empty());
    assert_eq!(after.len(), 1);
    assert_eq!(
        (after[0].value.clone(), after[0].modified),
        (value("new"), done.revision)
    );
}

async fn a_range_is_in_order_and_says_when_there_is_more(bench: Bench) {
    let store = bench.store.as_ref();
    // More than any backend reads at a time.
    let keys: Vec<String> = (0..250).map(|n| format!("k/{n:03}")).collect();
    for some in keys.chunks(100) {
        act(store, some.iter().rev().map(|name| put(name, name))).await;
    }
    let found = store.range(under("k/"), ReadAt::Latest, 1000).await.unwrap();
    let names = |entries: &[foreshade_controller::store::Entry]| -> Vec<String> {
        entries.iter().map(|entry| entry.key.to_string()).collect()
    };
    assert_eq!((names(&found.entries), found.more), (keys.clone(), false));
    let first = store.range(under("k/"), ReadAt::Local, 249).await.unwrap();
    assert_eq!((names(&first.entries), first.more), (keys[..249].to_vec(), true));
    let rest = under("k/").after(&first.entries[248].key).unwrap();
    let rest = store
        .range(rest, ReadAt::Revision(first.revision), 10)
        .await
        .unwrap();
    assert_eq!((names(&rest.entries), rest.more), (keys[249..].to_vec(), false));
    let exact = store.range(under("k/"), ReadAt::Latest, 250).await.unwrap();
    assert_eq!((exact.entries.len(), exact.more), (250, false));
    let between = KeyRange::between(&key("k/010"), &key("k/012")).unwrap();
    let between = store.range(between, ReadAt::Latest, 10).await.unwrap();
    assert_eq!(names(&between.entries), ["k/010", "k/011"]);
    for limit in [0, 10_001] {
        let refused = store.range(under("k/"), ReadAt::Latest, limit).await;
        assert_eq!(refused, Err(Invalid::Limit(limit).into()));
    }
}

async fn a_read_at_a_revision_is_as_it_was_then(bench: Bench) {
    let store = bench.store.as_ref();
    let empty = all(store).await.revision;
    let mut then = BTreeMap::new();
    for ops in [
        vec![put("a", "1")],
        vec![put("a", "2"), put("b", "1")],
        vec![Op::delete(&key("a"))],
        vec![put("a", "3")],
    ] {
        let done = act(store, ops).await;
        then.insert(done.revision, all(store).await.entries);
    }
    for (revision, entries) in &then {
        let found = store
            .range(KeyRange::all(), ReadAt::Revision(*revision), 10)
            .await
            .unwrap();
        assert_eq!(&found.entries, entries, "at {revision}");
        assert_eq!(&found.revision, then.last_key_value().unwrap().0);
    }
    let found = store
        .range(KeyRange::all(), ReadAt::Revision(empty), 10)
        .await
        .unwrap();
    assert!(found.entries.is_empty());
    let current = found.revision;
    let future = store
        .range(KeyRange::all(), ReadAt::Revision(current.next()), 10)
        .await;
    assert_eq!(future, Err(StoreError::Future { current }));
    let none = store
        .range(KeyRange::all(), ReadAt::Revision(Revision::NONE), 10)
        .await;
    assert_eq!(none, Err(Invalid::Revision.into()));
    let one = store
        .range(KeyRange::key(&key("b")), ReadAt::Revision(current), 1)
        .await
        .unwrap();
    assert_eq!(texts(&one), [("b".to_owned(), "1".to_owned())]);
}

async fn only_one_of_many_writers_wins(bench: Bench) {
    let before = act(bench.store.as_ref(), [put("counter", "0")]).await.revision;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let store = bench.store.clone();
            tokio::spawn(async move {
                let mut won = 0;
                while won < 5 {
                    let found = store.range(under("counter"), ReadAt::Latest, 1).await.unwrap();
                    let entry = &found.entries[0];
                    let count: u32 = std::str::from_utf8(entry.value.as_bytes())
                        .unwrap()
                        .parse()
                        .unwrap();
                    let txn = Txn::new()
                        .when(Compare::modified(key("counter"), entry.modified))
                        .then(put("counter", &(count + 1).to_string()));
                    won += u32::from(store.txn(txn).await.unwrap().succeeded);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let found = all(bench.store.as_ref()).await;
    assert_eq!(texts(&found), [("counter".to_owned(), "40".to_owned())]);
    assert_eq!(found.revision.number() - before.number(), 40);
}

async fn a_watch_gives_everything_from_its_revision_once_and_whole(bench: Bench) {
    let store = bench.store.as_ref();
    let mut expected = Vec::new();
    let mut last = Revision::NONE;
    for n in 0..20 {
        let text = n.to_string();
        last = act(store, [put("w/a", &text), put("other", &text), put("w/b", &text)])
            .await
            .revision;
        let found = all(store).await.entries;
        let put = |at: usize| Event::Put(found[at].clone());
        expected.push((last, vec![put(1), put(2)]));
    }
    let from = expected[5].0;
    let mut watch = store.watch(under("w/"), from);
    let seen = changes(&mut watch, last).await;
    let past: Vec<_> = seen
        .into_iter()
        .map(|change| (change.revision, change.events))
        .collect();
    assert_eq!(past, expected[5..]);
    // And on, with what comes now; also more at once than it looks at in one go.
    let mut next = last;
    for _ in 0..15 {
        next = act(store, (0..100).map(|n| put(&format!("w/{n:03}"), "x")))
            .await
            .revision;
    }
    let seen = changes(&mut watch, next).await;
    assert_eq!(seen.len(), 15);
    assert!(seen.iter().all(|change| change.events.len() == 100));
    assert_eq!(seen[0].revision, last.next());
    let mut again = store.watch(under("w/"), from);
    assert_eq!(changes(&mut again, next).await.len(), 15 + 15);
}

async fn a_watch_may_begin_in_the_future(bench: Bench) {
    let store = bench.store.as_ref();
    let now = act(store, [put("a", "0")]).await.revision;
    let from = now.next().next();
    let mut watch = store.watch(under("a"), from);
    // Given the time to see what it must not.
    sleep(Duration::from_millis(300)).await;
    act(store, [put("a", "1")]).await;
    let wanted = act(store, [put("a", "2")]).await.revision;
    let seen = changes(&mut watch, wanted).await;
    assert_eq!(
        seen.iter().map(|change| change.revision).collect::<Vec<_>>(),
        [from]
    );
    let mut never = store.watch(under("a"), Revision::NONE);
    assert_eq!(never.next().await, Some(Err(Invalid::Revision.into())));
    assert_eq!(never.next().await, None);
}

async fn a_watch_of_silent_keys_learns_how_far_the_store_is(bench: Bench) {
    let store = bench.store.as_ref();
    let from = all(store).await.revision.next();
    let mut watch = store.watch(under("silent"), from);
    act(store, [put("loud", "1")]).await;
    let upto = act(store, [put("loud", "2")]).await.revision;
    loop {
        match timeout(Duration::from_secs(30), watch.next()).await {
            Ok(Some(Ok(Notice::Progress(revision)))) if revision == upto => break,
            Ok(Some(Ok(Notice::Progress(revision)))) => assert!(revision < upto),
            other => panic!("{other:?}"),
        }
    }
    let next = act(store, [put("silent", "")]).await.revision;
    let seen = changes(&mut watch, next).await;
    assert_eq!(seen.len(), 1);
}

async fn what_was_compacted_is_gone_and_the_rest_can_be_read(bench: Bench) {
    let store = bench.store.as_ref();
    let read = |at: Revision| store.range(KeyRange::all(), ReadAt::Revision(at), 10);
    act(store, [put("a", "1"), put("gone", "1"), put("stays", "1")]).await;
    act(store, [put("a", "2")]).await;
    act(store, [Op::delete(&key("gone"))]).await;
    let at = act(store, [put("a", "3")]).await.revision;
    let last = act(store, [put("a", "4")]).await.revision;
    let then = read(at).await.unwrap().entries;
    assert_eq!(store.status().await.unwrap().compacted, Revision::NONE);
    store.compact(at).await.unwrap();
    assert_eq!(store.status().await.unwrap().compacted, at);
    assert_eq!(read(at).await.unwrap().entries, then);
    assert_eq!(texts(&read(last).await.unwrap())[0].1, "4");
    let before = Revision::new(at.number() - 1);
    let gone = Err(StoreError::Compacted { first: at });
    assert_eq!(read(before).await, gone);
    for again in [at, before] {
        assert_eq!(
            store.compact(again).await,
            Err(StoreError::Compacted { first: at })
        );
    }
    let future = store.compact(last.next()).await;
    assert_eq!(future, Err(StoreError::Future { current: last }));
    assert_eq!(store.compact(Revision::NONE).await, Err(Invalid::Revision.into()));
    // Nothing that is there was lost, and a key that is written again knows since when it has been there.
    act(store, [put("stays", "2")]).await;
    let found = all(store).await;
    let stays = &found.entries[1];
    assert_eq!((stays.created.number(), stays.version), (2, 2));
}

async fn a_watch_from_what_was_compacted_says_so(bench: Bench) {
    let store = bench.store.as_ref();
    act(store, [put("a", "1")]).await;
    let at = act(store, [Op::delete(&key("a"))]).await.revision;
    let next = act(store, [put("a", "2")]).await.revision;
    store.compact(at).await.unwrap();
    for from in [Revision::new(2), at] {
        let mut watch = store.watch(under("a"), from);
        let compacted = timeout(Duration::from_secs(30), watch.next()).await.unwrap();
        assert_eq!(
            compacted,
            Some(Err(StoreError::Compacted { first: at })),
            "from {from}"
        );
        assert_eq!(watch.next().await, None);
    }
    // The way out: read again, and watch from behind what was read.
    let mut watch = store.watch(under("a"), next);
    assert_eq!(changes(&mut watch, next).await.len(), 1);
    let found = all(store).await;
    let mut watch = store.watch(under("a"), found.revision.next());
    let later = act(store, [put("a", "3")]).await.revision;
    assert_eq!(changes(&mut watch, later).await.len(), 1);
}

fn leased(name: &str, lease: LeaseId) -> Op {
    Op::Put {
        key: key(name),
        value: value("leased"),
        lease: Some(lease),
    }
}

/// Waits until there are so many keys.
async fn wait_for_keys(store: &dyn Store, count: usize) {
    while all(store).await.entries.len() != count {
        sleep(Duration::from_millis(20)).await;
    }
}

async fn a_lease_that_ends_takes_its_keys_in_one_revision(bench: Bench) {
    let store = bench.store.as_ref();
    let granted_at = Instant::now();
    let lease = store
        .lease_grant(Duration::from_millis(900) + Duration::from_millis(200))
        .await
        .unwrap();
    assert!(
        lease.ttl >= Duration::from_secs(2),
        "in whole seconds: {:?}",
        lease.ttl
    );
    act(store, [leased("l/b", lease.id), put("stays", "")]).await;
    let before = act(store, [leased("l/a", lease.id)]).await.revision;
    let mut watch = store.watch(KeyRange::all(), before.next());
    let seen = changes(&mut watch, before.next()).await;
    assert!(granted_at.elapsed() >= lease.ttl, "never earlier than promised");
    let events = vec![Event::Deleted(key("l/a")), Event::Deleted(key("l/b"))];
    let revision = before.next();
    assert_eq!(seen, [Change { revision, events }]);
    let found = all(store).await;
    assert_eq!(
        (found.revision, texts(&found)),
        (revision, vec![("stays".into(), String::new())])
    );
    let ended = Err(StoreError::LeaseNotFound(lease.id));
    assert_eq!(store.lease_keepalive(lease.id).await, ended);
}

async fn a_lease_that_is_kept_alive_lives(bench: Bench) {
    let store = bench.store.as_ref();
    let lease = store.lease_grant(Duration::from_secs(3)).await.unwrap();
    act(store, [leased("l", lease.id)]).await;
    let begun = Instant::now();
    while begun.elapsed() < lease.ttl * 2 {
        assert_eq!(store.lease_keepalive(lease.id).await, Ok(lease.ttl));
        sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(all(store).await.entries.len(), 1);
    wait_for_keys(store, 0).await;
}

async fn a_revoked_lease_takes_its_keys_in_one_revision(bench: Bench) {
    let store = bench.store.as_ref();
    let lease = store.lease_grant(Duration::from_secs(60)).await.unwrap().id;
    let empty = store.lease_grant(Duration::from_secs(60)).await.unwrap().id;
    assert_ne!(lease, empty);
    let before = act(store, [leased("b", lease), leased("a", lease), put("c", "")])
        .await
        .revision;
    store.lease_revoke(empty).await.unwrap();
    assert_eq!(all(store).await.revision, before, "nothing went with it");
    store.lease_revoke(lease).await.unwrap();
    let found = all(store).await;
    assert_eq!((found.revision, found.entries.len()), (before.next(), 1));
    for gone in [lease, empty] {
        assert_eq!(
            store.lease_revoke(gone).await,
            Err(StoreError::LeaseNotFound(gone))
        );
    }
}

async fn a_lease_that_is_not_there_is_refused(bench: Bench) {
    let store = bench.store.as_ref();
    let before = act(store, [put("a", "1")]).await.revision;
    let id = LeaseId::new(0x1234_5678).unwrap();
    let none = StoreError::LeaseNotFound(id);
    let txn = Txn::new().then(put("a", "2")).then(leased("b", id));
    assert_eq!(store.txn(txn).await, Err(none.clone()));
    assert_eq!(store.lease_keepalive(id).await, Err(none.clone()));
    assert_eq!(store.lease_revoke(id).await, Err(none));
    let found = all(store).await;
    assert_eq!(
        (found.revision, texts(&found)),
        (before, vec![("a".into(), "1".into())])
    );
    // What is not done need not be possible.
    let other_branch = Txn::new().then(put("a", "3")).otherwise(leased("b", id));
    assert!(store.txn(other_branch).await.unwrap().succeeded);
}

async fn a_put_without_a_lease_keeps_the_key(bench: Bench) {
    let store = bench.store.as_ref();
    let first = store.lease_grant(Duration::from_secs(60)).await.unwrap().id;
    let second = store.lease_grant(Duration::from_secs(60)).await.unwrap().id;
    act(
        store,
        [
            leased("kept", first),
            leased("moved", first),
            leased("deleted", first),
        ],
    )
    .await;
    act(store, [put("kept", ""), leased("moved", second)]).await;
    act(store, [Op::delete(&key("deleted"))]).await;
    act(store, [put("deleted", "again")]).await;
    store.lease_revoke(first).await.unwrap();
    let found = all(store).await;
    assert_eq!(found.entries.len(), 3);
    assert_eq!(found.entries[2].lease, Some(second));
    assert_eq!(found.entries[1].lease, None);
    store.lease_revoke(second).await.unwrap();
    assert_eq!(all(store).await.entries.len(), 2);
}

async fn what_exceeds_a_limit_is_refused_and_the_limit_is_not(bench: Bench) {
    let store = bench.store.as_ref();
    let before = all(store).await.revision;
    let puts = |count: usize| (0..count).fold(Txn::new(), |txn, n| txn.then(put(&format!("n{n}"), "")));
    let compares = |count: usize| (0..count).fold(Txn::new(), |txn, _| txn.when(Compare::absent(key("x"))));
    for txn in [puts(TXN_OPS_MAX + 1), compares(TXN_OPS_MAX + 1)] {
        let refused = store.txn(txn).await;
        assert_eq!(refused, Err(Invalid::TooManyOps(TXN_OPS_MAX + 1).into()));
    }
    let large = Value::new(vec![7; VALUE_BYTES_MAX]).unwrap();
    let larges = |count: usize| {
        let names = (0..count).map(|n| key(&format!("large{n}")));
        names.fold(Txn::new(), |txn, name| txn.then(Op::put(name, large.clone())))
    };
    assert!(matches!(
        store.txn(larges(3)).await,
        Err(StoreError::Invalid(Invalid::TooLarge(bytes))) if bytes > REQUEST_BYTES_MAX
    ));
    for ttl in [
        Duration::ZERO,
        Duration::from_millis(999),
        Duration::from_secs(24 * 3600 + 1),
    ] {
        assert_eq!(store.lease_grant(ttl).await, Err(Invalid::Ttl(ttl).into()));
    }
    assert_eq!(all(store).await.revision, before);
    // Exactly the limit is fine.
    assert!(store.txn(puts(TXN_OPS_MAX)).await.unwrap().succeeded);
    assert!(store.txn(compares(TXN_OPS_MAX)).await.unwrap().succeeded);
    assert!(store.txn(larges(2)).await.unwrap().succeeded);
    let longest = Key::new(vec![b'z'; KEY_BYTES_MAX]).unwrap();
    act(store, [Op::put(longest.clone(), value("long"))]).await;
    // Each needs the room of all others, too: an answer of a hundred of the largest values.
    let found = store
        .range(KeyRange::key(&longest), ReadAt::Latest, 1)
        .await
        .unwrap();
    assert_eq!(found.entries[0].key, longest);
    let found = store.range(under("large"), ReadAt::Latest, 10).await.unwrap();
    assert!(found.entries.iter().all(|entry| entry.value == large));
    let mut watch = store.watch(under("large"), before.next());
    let seen = changes(&mut watch, found.entries[0].modified).await;
    assert_eq!((seen.len(), seen[0].events.len()), (1, 2));
}

async fn the_status_says_how_it_is(bench: Bench) {
    let store = bench.store.as_ref();
    let revision = act(store, [put("a", "1")]).await.revision;
    let status = store.status().await.unwrap();
    assert_eq!((status.revision, status.compacted), (revision, Revision::NONE));
    assert!(status.led && status.bytes > 0, "{status:?}");
    assert_eq!(status.mode, foreshade_controller::store::Mode::Writable);
}

async fn what_many_do_at_once_is_as_if_done_one_after_the_other(bench: Bench) {
    let notes = Arc::new(Notes::default());
    crowd(&bench.store, &notes, 1, 6, (60, Duration::ZERO)).await;
    assert!(notes.acknowledged() > 200);
    notes.judge(bench.store.as_ref()).await;
}

async fn everything_is_there_after_a_restart(mut bench: Bench) {
    let store = bench.store.clone();
    let lease = store.lease_grant(Duration::from_secs(60)).await.unwrap().id;
    let first = act(&*store, [put("a", "1"), leased("l", lease)]).await.revision;
    act(&*store, [put("a", "2")]).await;
    let compacted = act(&*store, [Op::delete(&key("a")), put("b", "1")])
        .await
        .revision;
    act(&*store, [put("a", "3")]).await;
    store.compact(compacted).await.unwrap();
    let (before, then) = (all(&*store).await, ReadAt::Revision(compacted));
    let old = store.range(KeyRange::all(), then, 10).await.unwrap();
    drop(store);
    bench.restart().await;
    let store = bench.store.as_ref();
    assert_eq!(all(store).await, before);
    assert_eq!(
        store.range(KeyRange::all(), then, 10).await.unwrap().entries,
        old.entries
    );
    let gone = store.range(KeyRange::all(), ReadAt::Revision(first), 10).await;
    assert_eq!(gone, Err(StoreError::Compacted { first: compacted }));
    assert_eq!(store.status().await.unwrap().compacted, compacted);
    let mut watch = store.watch(KeyRange::all(), compacted.next());
    assert_eq!(changes(&mut watch, before.revision).await.len(), 1);
    assert_eq!(act(store, [put("c", "")]).await.revision, before.revision.next());
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(all(store).await.entries.len(), 3);
    assert_ne!(
        store.lease_grant(Duration::from_secs(60)).await.unwrap().id,
        lease
    );
}

async fn a_watch_goes_on_after_a_restart(mut bench: Bench) {
    let first = act(bench.store.as_ref(), [put("a", "1")]).await.revision;
    let mut watch = bench.store.watch(under("a"), first);
    assert_eq!(changes(&mut watch, first).await.len(), 1);
    let second = act(bench.store.as_ref(), [put("a", "2")]).await.revision;
    if !bench.outlives_restarts() {
        assert_eq!(changes(&mut watch, second).await.len(), 1);
    }
    bench.restart().await;
    if !bench.outlives_restarts() {
        // That of a store that was closed ends, and says so.
        loop {
            match watch.next().await {
                Some(Ok(Notice::Progress(_))) => {}
                Some(Err(StoreError::Closed)) => break,
                other => panic!("{other:?}"),
            }
        }
        watch = bench.store.watch(under("a"), second);
    }
    let third = act(bench.store.as_ref(), [put("a", "3")]).await.revision;
    let seen = changes(&mut watch, third).await;
    assert_eq!(
        seen.iter().map(|change| change.revision).collect::<Vec<_>>(),
        [second, third]
    );
}

async fn a_lease_has_its_whole_time_after_a_restart(mut bench: Bench) {
    let store = bench.store.clone();
    let lease = store.lease_grant(Duration::from_secs(4)).await.unwrap();
    act(&*store, [leased("l", lease.id)]).await;
    drop(store);
    // Most of its time goes by, and then it has the whole of it again.
    sleep(Duration::from_secs(2)).await;
    bench.restart().await;
    let begun = Instant::now();
    let store = bench.store.as_ref();
    while begun.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(all(store).await.entries.len(), 1, "after {:?}", begun.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    wait_for_keys(store, 0).await;
}
