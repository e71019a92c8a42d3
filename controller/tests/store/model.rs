//! The same steps, by chance, for the model and for another store: every answer has to be the same.

use std::sync::Arc;
use std::time::Duration;

use foreshade_controller::store::{
    Change, Compare, Done, Entry, Event, Found, KeyRange, LeaseId, Op, OpDone, Operand, ReadAt, Relation,
    Revision, StoreError, Txn,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::bench::{Bench, Kind, block_on, changes, key, under, value};

/// Sequences that redb is tried with.
const CASES: u32 = 96;

/// Steps of the one long sequence that etcd is tried with.
const STEPS: usize = 400;

/// Keys: few, so that steps meet.
const KEYS: [&str; 6] = ["a", "a/1", "a/2", "b", "b/1", "c"];

/// What is done. Revisions are counted back from the latest, leases by when they were granted.
#[derive(Clone, Debug)]
enum Step {
    Txn(Vec<(usize, Against)>, Vec<Act>, Vec<Act>),
    Range(Where, Option<u64>, u32),
    Grant,
    Revoke(usize),
    KeepAlive(usize),
    Compact(u64),
    Watch(u64),
    Restart,
}

#[derive(Clone, Debug)]
enum Against {
    Created(Relation, u64),
    Modified(Relation, u64),
    Version(Relation, u64),
    Lease(Relation, Option<usize>),
    Value(Relation, u8),
}

#[derive(Clone, Debug)]
enum Act {
    Put(usize, u8, Option<usize>),
    Delete(Where),
    Read(Where, u32),
}

#[derive(Clone, Debug)]
enum Where {
    One(usize),
    Under(usize),
    Between(usize, usize),
    All,
}

/// What a step gave, with leases by when they were granted.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Done(Done),
    Found(Found),
    Changes(Vec<Change>),
    Lease(Duration),
    Nothing,
    Error(StoreError),
}

/// A store under test, and the leases that it has granted.
struct Subject {
    bench: Bench,
    leases: Vec<LeaseId>,
}

impl Where {
    fn range(&self) -> KeyRange {
        match self {
            Self::One(at) => KeyRange::key(&key(KEYS[*at])),
            Self::Under(at) => under(KEYS[*at]),
            Self::Between(a, b) => {
                let (a, b) = (key(KEYS[*a.min(b)]), key(KEYS[*a.max(b)]));
                KeyRange::between(&a, &b).unwrap_or_else(|_| KeyRange::key(&a))
            }
            Self::All => KeyRange::all(),
        }
    }
}

impl Subject {
    async fn new(kind: Kind) -> Self {
        let leases = Vec::new();
        Self {
            bench: Bench::new(kind).await,
            leases,
        }
    }

    /// A lease that was granted, or one that never was.
    fn lease(&self, at: usize) -> LeaseId {
        self.leases
            .get(at)
            .copied()
            .unwrap_or(LeaseId::new(1 << 40).unwrap())
    }

    fn txn(&self, compares: &[(usize, Against)], then: &[Act], otherwise: &[Act]) -> Txn {
        let mut txn = Txn::new();
        for (at, against) in compares {
            let (relation, operand) = match against {
                Against::Created(r, n) => (*r, Operand::Created(Revision::new(*n))),
                Against::Modified(r, n) => (*r, Operand::Modified(Revision::new(*n))),
                Against::Version(r, n) => (*r, Operand::Version(*n)),
                // Which of two leases is the greater one, each store decides for itself.
                Against::Lease(r, lease) => (*r, Operand::Lease(lease.map(|at| self.lease(at)))),
                Against::Value(r, n) => (*r, Operand::Value(value(&n.to_string()))),
            };
            let key = key(KEYS[*at]);
            txn = txn.when(Compare {
                key,
                relation,
                operand,
            });
        }
        let op = |act: &Act| match act {
            Act::Put(at, n, lease) => Op::Put {
                key: key(KEYS[*at]),
                value: value(&n.to_string()),
                lease: lease.map(|at| self.lease(at)),
            },
            Act::Delete(place) => Op::Delete(place.range()),
            Act::Read(place, limit) => Op::Read {
                keys: place.range(),
                limit: *limit,
            },
        };
        let txn = then.iter().map(op).fold(txn, Txn::then);
        otherwise.iter().map(op).fold(txn, Txn::otherwise)
    }

    async fn take(&mut self, step: &Step, latest: Revision) -> Answer {
        let store = Arc::clone(&self.bench.store);
        let back = |by: u64| Revision::new(latest.number().saturating_sub(by));
        let answer = match step {
            Step::Txn(compares, then, otherwise) => store
                .txn(self.txn(compares, then, otherwise))
                .await
                .map(Answer::Done),
            Step::Range(place, by, limit) => {
                let at = by.map_or(ReadAt::Latest, |by| ReadAt::Revision(back(by)));
                store.range(place.range(), at, *limit).await.map(Answer::Found)
            }
            Step::Grant => store.lease_grant(Duration::from_secs(3600)).await.map(|lease| {
                self.leases.push(lease.id);
                Answer::Lease(lease.ttl)
            }),
            Step::Revoke(at) => store
                .lease_revoke(self.lease(*at))
                .await
                .map(|()| Answer::Nothing),
            Step::KeepAlive(at) => store.lease_keepalive(self.lease(*at)).await.map(Answer::Lease),
            Step::Compact(by) => store.compact(back(*by)).await.map(|()| Answer::Nothing),
            Step::Watch(by) => return self.watched(back(*by), latest).await,
            Step::Restart => {
                drop(store);
                self.bench.restart().await;
                Ok(Answer::Nothing)
            }
        };
        let answer = match (step, answer.unwrap_or_else(Answer::Error)) {
            // Of a transaction with several leases etcd does not say which one is not there.
            (Step::Txn(..), Answer::Error(StoreError::LeaseNotFound(_))) => {
                Answer::Error(StoreError::LeaseNotFound(self.lease(usize::MAX)))
            }
            (_, answer) => answer,
        };
        self.neutral(answer)
    }

    /// Everything from a revision up to the latest, which always has something for a watcher of everything.
    async fn watched(&self, from: Revision, latest: Revision) -> Answer {
        use futures_util::StreamExt;
        if latest == Revision::FIRST {
            return Answer::Nothing;
        }
        let mut watch = self.bench.store.watch(KeyRange::all(), from).peekable();
        if let Some(Err(error)) = std::pin::Pin::new(&mut watch).peek().await {
            return Answer::Error(error.clone());
        }
        self.neutral(Answer::Changes(changes(&mut watch.boxed(), latest).await))
    }

    /// The answer with leases by when they were granted.
    fn neutral(&self, answer: Answer) -> Answer {
        let number = |id: LeaseId| {
            let at = self.leases.iter().position(|known| *known == id);
            LeaseId::new(at.map_or(i64::MAX, |at| at as i64 + 1)).unwrap()
        };
        let entry = |mut entry: Entry| {
            entry.lease = entry.lease.map(number);
            entry
        };
        let event = |event: Event| match event {
            Event::Put(put) => Event::Put(entry(put)),
            deleted @ Event::Deleted(_) => deleted,
        };
        match answer {
            Answer::Done(mut done) => {
                for op in &mut done.ops {
                    if let OpDone::Read(entries, _) = op {
                        *entries = entries.drain(..).map(entry).collect();
                    }
                }
                Answer::Done(done)
            }
            Answer::Found(mut found) => {
                found.entries = found.entries.into_iter().map(entry).collect();
                Answer::Found(found)
            }
            Answer::Changes(mut changes) => {
                for change in &mut changes {
                    change.events = change.events.drain(..).map(event).collect();
                }
                Answer::Changes(changes)
            }
            Answer::Error(StoreError::LeaseNotFound(id)) => {
                Answer::Error(StoreError::LeaseNotFound(number(id)))
            }
            other => other,
        }
    }
}

/// Both do the same steps, and give the same answers.
async fn compare(kind: Kind, steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut model, mut other) = (Subject::new(Kind::Memory).await, Subject::new(kind).await);
    for (n, step) in steps.iter().enumerate() {
        let latest = model.bench.store.status().await.unwrap().revision;
        let expected = match step {
            Step::Restart => Answer::Nothing,
            step => model.take(step, latest).await,
        };
        let answer = other.take(step, latest).await;
        prop_assert_eq!(answer, expected, "step {}: {:?}", n, step);
    }
    let latest = model.bench.store.status().await.unwrap();
    let status = other.bench.store.status().await.unwrap();
    prop_assert_eq!(
        (status.revision, status.compacted),
        (latest.revision, latest.compacted)
    );
    Ok(())
}

fn steps(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<Step>> {
    let key = 0..KEYS.len();
    let place = prop_oneof![
        key.clone().prop_map(Where::One),
        key.clone().prop_map(Where::Under),
        (key.clone(), key.clone()).prop_map(|(a, b)| Where::Between(a, b)),
        Just(Where::All),
    ];
    let lease = proptest::option::weighted(0.3, 0_usize..4);
    let relation = prop_oneof![
        2 => Just(Relation::Equal),
        1 => Just(Relation::NotEqual),
        1 => Just(Relation::Less),
        1 => Just(Relation::Greater),
    ];
    let equality = prop_oneof![Just(Relation::Equal), Just(Relation::NotEqual)];
    let against = prop_oneof![
        2 => (relation.clone(), 0_u64..6).prop_map(|(r, n)| Against::Created(r, n)),
        1 => (relation.clone(), 0_u64..9).prop_map(|(r, n)| Against::Modified(r, n)),
        1 => (relation.clone(), 0_u64..4).prop_map(|(r, n)| Against::Version(r, n)),
        1 => (equality, lease.clone()).prop_map(|(r, l)| Against::Lease(r, l)),
        1 => (relation, 0_u8..4).prop_map(|(r, n)| Against::Value(r, n)),
    ];
    let act = prop_oneof![
        4 => (key.clone(), 0_u8..4, lease).prop_map(|(k, v, l)| Act::Put(k, v, l)),
        1 => place.clone().prop_map(Act::Delete),
        1 => (place.clone(), 1_u32..4).prop_map(|(p, l)| Act::Read(p, l)),
    ];
    let compares = vec((key, against), 0..2);
    let step = prop_oneof![
        8 => (compares, vec(act.clone(), 0..4), vec(act, 0..3)).prop_map(|(c, t, o)| Step::Txn(c, t, o)),
        4 => (place, proptest::option::of(0_u64..12), 1_u32..8).prop_map(|(p, b, l)| Step::Range(p, b, l)),
        2 => Just(Step::Grant),
        1 => (0_usize..4).prop_map(Step::Revoke),
        1 => (0_usize..4).prop_map(Step::KeepAlive),
        1 => (0_u64..12).prop_map(Step::Compact),
        1 => (0_u64..12).prop_map(Step::Watch),
        1 => Just(Step::Restart),
    ];
    vec(step, length)
}

fn runner() -> TestRunner {
    TestRunner::new(Config {
        cases: CASES,
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        ..Config::default()
    })
}

pub(crate) fn redb_does_what_the_model_does() {
    let tried = runner().run(&steps(1..40), |steps| block_on(compare(Kind::Redb, &steps)));
    if let Err(error) = tried {
        panic!("{error}");
    }
}

/// One long sequence, because etcd takes a second to start.
pub(crate) fn etcd_does_what_the_model_does() {
    let mut steps = steps(STEPS).new_tree(&mut runner()).unwrap().current();
    // Each takes a second, too.
    let mut restarts = 0;
    steps.retain(|step| {
        restarts += usize::from(matches!(step, Step::Restart));
        !matches!(step, Step::Restart) || restarts % 8 == 1
    });
    let compared = block_on(compare(Kind::Etcd, &steps));
    if let Err(error) = compared {
        panic!("{error}");
    }
}
