//! Checks a history of a store: was it as if everything had been done at once, in the order of the revisions?
//!
//! Successful writes carry revisions of their own, so the order need not be searched for, as a general checker would have
//! to (Wing and Gong): sort by revision, look whether that contradicts the real time, replay, and compare every answer with
//! the state at its revision. O(n log n). Writes whose outcome is unknown may be there or not; writes that were refused may
//! not. The promises of watches have the names that etcd's robustness tests give them: Ordered, Unique, Atomic,
//! Bookmarkable, Reliable, Resumable, Filterable.

use std::collections::{BTreeMap, BTreeSet};

use foreshade_controller::store::{
    Change, Compare, Done, Entry, Event, Found, Key, KeyRange, Notice, Op, OpDone, Operand, ReadAt, Relation,
    Revision, Txn,
};

use crate::bench::{key, put, value};

/// What a client did, between two moments of a clock that all clients share.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) what: What,
}

/// What it was, and what came of it.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Txn(Txn, Outcome),
    Read(KeyRange, ReadAt, Found),
}

/// What came of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Done(Done),
    /// Nobody knows.
    Unknown,
    /// It was said that nothing was written.
    Refused,
}

/// What a watcher was told.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) keys: KeyRange,
    pub(crate) from: Revision,
    pub(crate) notices: Vec<Notice>,
}

type State = BTreeMap<Key, Entry>;

/// Every revision's state, by replaying what happened.
struct Replay {
    states: BTreeMap<Revision, State>,
    changes: BTreeMap<Revision, Vec<Event>>,
}

/// What is wrong with a history. `changes` is everything that ever happened, read at the end.
pub(crate) fn check(records: &[Record], changes: &[Change], watches: &[Watched]) -> Vec<String> {
    let mut wrong = Vec::new();
    let replay = Replay::new(changes, &mut wrong);
    real_time(records, &mut wrong);
    let mut claimed = BTreeSet::new();
    for record in records {
        match &record.what {
            What::Txn(txn, Outcome::Done(done)) => {
                if let Err(what) = replay.txn(txn, done, &mut claimed) {
                    wrong.push(format!("{txn:?} -> {done:?}: {what}"));
                }
            }
            What::Txn(..) => {}
            What::Read(keys, at, found) => {
                if let Err(what) = replay.read(keys, *at, found) {
                    wrong.push(format!("read {keys:?} {at:?} -> {found:?}: {what}"));
                }
            }
        }
    }
    unclaimed(records, &replay, &claimed, &mut wrong);
    for watched in watches {
        for (promise, holds) in PROMISES {
            if let Err(what) = holds(watched, &replay.changes) {
                wrong.push(format!(
                    "watch {:?} from {}: not {promise}: {what}",
                    watched.keys, watched.from
                ));
            }
        }
    }
    wrong
}

impl Replay {
    fn new(changes: &[Change], wrong: &mut Vec<String>) -> Self {
        let mut states = BTreeMap::from([(Revision::FIRST, State::new())]);
        let mut all = BTreeMap::new();
        let (mut state, mut last) = (State::new(), Revision::FIRST);
        for Change { revision, events } in changes {
            if *revision != last.next() {
                wrong.push(format!("revision {revision} follows {last}"));
            }
            last = *revision;
            for event in events {
                match event {
                    Event::Put(entry) => {
                        let before = state.get(&entry.key);
                        let created = before.map_or(*revision, |e| e.created);
                        let version = before.map_or(1, |e| e.version + 1);
                        if (entry.modified, entry.created, entry.version) != (*revision, created, version) {
                            wrong.push(format!("{entry:?} at {revision} follows {before:?}"));
                        }
                        state.insert(entry.key.clone(), entry.clone());
                    }
                    Event::Deleted(key) => {
                        if state.remove(key).is_none() {
                            wrong.push(format!("{key:?} was deleted at {revision} and not there"));
                        }
                    }
                }
            }
            states.insert(*revision, state.clone());
            all.insert(*revision, events.clone());
        }
        Self { states, changes: all }
    }

    fn state(&self, revision: Revision) -> Result<&State, String> {
        let state = self.states.get(&revision);
        state.ok_or_else(|| format!("revision {revision} never was"))
    }

    fn read(&self, keys: &KeyRange, at: ReadAt, found: &Found) -> Result<(), String> {
        let revision = match at {
            ReadAt::Latest | ReadAt::Local => found.revision,
            ReadAt::Revision(at) => at,
        };
        let expected: Vec<&Entry> = inside(self.state(revision)?, keys).collect();
        let found: Vec<&Entry> = found.entries.iter().collect();
        (expected == found)
            .then_some(())
            .ok_or_else(|| format!("at {revision} it was {expected:?}"))
    }

    /// Replays a transaction: its answer has to be what the state before it makes of it.
    fn txn(&self, txn: &Txn, done: &Done, claimed: &mut BTreeSet<Revision>) -> Result<(), String> {
        let branch = txn.branch(done.succeeded);
        let wrote = wrote(&done.ops);
        let before = if wrote {
            Revision::new(done.revision.number() - 1)
        } else {
            done.revision
        };
        let mut state = self.state(before)?.clone();
        if txn.compares().iter().all(|c| holds(c, &state)) != done.succeeded {
            return Err(format!("its comparisons at {before} say the opposite"));
        }
        let (ops, events) = apply(branch, &mut state, done.revision);
        if ops != done.ops {
            return Err(format!("at {before} it gives {ops:?}"));
        }
        if !wrote {
            return Ok(());
        }
        if self.changes.get(&done.revision) != Some(&events) {
            return Err(format!("the history has {:?}", self.changes.get(&done.revision)));
        }
        claimed
            .insert(done.revision)
            .then_some(())
            .ok_or_else(|| "another write has this revision".to_owned())
    }
}

fn inside<'a>(state: &'a State, keys: &'a KeyRange) -> impl Iterator<Item = &'a Entry> {
    state.values().filter(|entry| keys.contains(entry.key.as_bytes()))
}

fn wrote(ops: &[OpDone]) -> bool {
    ops.iter().any(|op| match op {
        OpDone::Put => true,
        OpDone::Deleted(count) => *count > 0,
        OpDone::Read(..) => false,
    })
}

/// An independent second opinion on what operations do.
fn apply(ops: &[Op], state: &mut State, revision: Revision) -> (Vec<OpDone>, Vec<Event>) {
    let (mut done, mut events) = (Vec::new(), Vec::new());
    for op in ops {
        done.push(match op {
            Op::Put { key, value, lease } => {
                let before = state.get(key);
                let entry = Entry {
                    key: key.clone(),
                    value: value.clone(),
                    created: before.map_or(revision, |e| e.created),
                    modified: revision,
                    version: before.map_or(1, |e| e.version + 1),
                    lease: *lease,
                };
                events.push(Event::Put(entry.clone()));
                state.insert(key.clone(), entry);
                OpDone::Put
            }
            Op::Delete(keys) => {
                let gone: Vec<Key> = inside(state, keys).map(|e| e.key.clone()).collect();
                for key in &gone {
                    state.remove(key);
                    events.push(Event::Deleted(key.clone()));
                }
                OpDone::Deleted(gone.len() as u64)
            }
            Op::Read { keys, limit } => {
                let all: Vec<Entry> = inside(state, keys).cloned().collect();
                let some = all.iter().take(*limit as usize).cloned().collect();
                OpDone::Read(some, all.len() > *limit as usize)
            }
        });
    }
    (done, events)
}

fn holds(compare: &Compare, state: &State) -> bool {
    let entry = state.get(&compare.key);
    let numbers = |a: u64, b: u64| a.cmp(&b);
    let order = match &compare.operand {
        Operand::Created(r) => numbers(entry.map_or(0, |e| e.created.number()), r.number()),
        Operand::Modified(r) => numbers(entry.map_or(0, |e| e.modified.number()), r.number()),
        Operand::Version(n) => numbers(entry.map_or(0, |e| e.version), *n),
        Operand::Lease(id) => entry.and_then(|e| e.lease).cmp(id),
        Operand::Value(v) => match entry {
            Some(entry) => entry.value.as_bytes().cmp(v.as_bytes()),
            None => return false,
        },
    };
    match compare.relation {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Less => order.is_lt(),
        Relation::Greater => order.is_gt(),
    }
}

/// What was done before something else began has to come before it.
fn real_time(records: &[Record], wrong: &mut Vec<String>) {
    let revision = |record: &Record| match &record.what {
        What::Txn(_, Outcome::Done(done)) => Some((done.revision, wrote(&done.ops))),
        What::Read(_, ReadAt::Latest | ReadAt::Revision(_), found) => Some((found.revision, false)),
        What::Read(_, ReadAt::Local, _) | What::Txn(..) => None,
    };
    let known: Vec<(&Record, (Revision, bool))> =
        records.iter().filter_map(|r| Some((r, revision(r)?))).collect();
    let mut by_end = known.clone();
    by_end.sort_by_key(|(record, _)| record.end);
    let mut by_start = known;
    by_start.sort_by_key(|(record, _)| record.start);
    let (mut ended, mut least) = (by_end.iter().peekable(), Revision::NONE);
    for (record, (revision, writes)) in by_start {
        while let Some((_, (earlier, _))) = ended.next_if(|(earlier, _)| earlier.end < record.start) {
            least = least.max(*earlier);
        }
        if revision < least || (writes && revision == least) {
            wrong.push(format!(
                "{:?} has {revision}, though {least} was known before it began",
                record.what
            ));
        }
    }
}

/// Revisions that no answer told of: each has to be a write whose answer was lost, and none one that was refused.
fn unclaimed(records: &[Record], replay: &Replay, claimed: &BTreeSet<Revision>, wrong: &mut Vec<String>) {
    let mut unknown: Vec<&Txn> = Vec::new();
    for record in records {
        if let What::Txn(txn, Outcome::Unknown) = &record.what {
            unknown.push(txn);
        }
    }
    for (revision, events) in &replay.changes {
        if claimed.contains(revision) {
            continue;
        }
        let before = Revision::new(revision.number() - 1);
        let explains = |txn: &&Txn| {
            let Some(state) = replay.states.get(&before) else {
                return false;
            };
            let succeeded = txn.compares().iter().all(|c| holds(c, state));
            apply(txn.branch(succeeded), &mut state.clone(), *revision).1 == *events
        };
        match unknown.iter().position(explains) {
            Some(at) => drop(unknown.swap_remove(at)),
            None => wrong.push(format!("nobody did {events:?} at {revision}")),
        }
    }
}

/// A promise of a watch, given everything that happened.
type Promise = fn(&Watched, &BTreeMap<Revision, Vec<Event>>) -> Result<(), String>;

const PROMISES: [(&str, Promise); 7] = [
    ("Ordered", ordered),
    ("Unique", unique),
    ("Atomic", atomic),
    ("Bookmarkable", bookmarkable),
    ("Reliable", reliable),
    ("Resumable", resumable),
    ("Filterable", filterable),
];

fn seen(watched: &Watched) -> impl Iterator<Item = &Change> {
    watched.notices.iter().filter_map(|notice| match notice {
        Notice::Change(change) => Some(change),
        Notice::Progress(_) => None,
    })
}

/// Revisions do not go back.
fn ordered(watched: &Watched, _: &BTreeMap<Revision, Vec<Event>>) -> Result<(), String> {
    let revisions: Vec<Revision> = seen(watched).map(|change| change.revision).collect();
    match revisions.windows(2).find(|pair| pair[1] < pair[0]) {
        Some(pair) => Err(format!("{} after {}", pair[1], pair[0])),
        None => Ok(()),
    }
}

/// No event comes twice.
fn unique(watched: &Watched, _: &BTreeMap<Revision, Vec<Event>>) -> Result<(), String> {
    let mut known = BTreeSet::new();
    for change in seen(watched) {
        for event in &change.events {
            if !known.insert((change.revision, event.key().clone())) {
                return Err(format!("{event:?} of {} twice", change.revision));
            }
        }
    }
    Ok(())
}

/// A revision comes whole.
fn atomic(watched: &Watched, all: &BTreeMap<Revision, Vec<Event>>) -> Result<(), String> {
    for change in seen(watched) {
        let expected = concerning(watched, all.get(&change.revision));
        if change.events.len() < expected.len() {
            return Err(format!("{change:?} instead of {expected:?}"));
        }
    }
    Ok(())
}

/// After a bookmark nothing comes from before it.
fn bookmarkable(watched: &Watched, _: &BTreeMap<Revision, Vec<Event>>) -> Result<(), String> {
    let mut bookmark = Revision::NONE;
    for notice in &watched.notices {
        match notice {
            Notice::Progress(revision) if *revision < bookmark => {
                return Err(format!("bookmark {revision} after {bookmark}"));
            }
            Notice::Progress(revision) => bookmark = *revision,
            Notice::Change(change) if change.revision <= bookmark => {
                return Err(format!("{} after bookmark {bookmark}", change.revision));
            }
            Notice::Change(_) => {}
        }
    }
    Ok(())
}

/// Nothing is missing between the first and the last thing that came, bookmarks included.
fn reliable(watched: &Watched, all: &BTreeMap<Revision, Vec<Event>>) -> Result<(), String> {
    let told = watched.notices.iter().map(|notice| match notice {
        Notice::Change(change) => change.revision,
        Notice::Progress(revision) => *revision,
    });
    let (Some(first), Some(last)) = (seen(watched).map(|c| c.revision).next(), told.max()) else {
        return Ok(());
    };
    complete(watched, all, first, last)
}

/// It begins with the first thing that it was to begin with.
fn resumable(watched: &Watched, all: &BTreeMap<Revision, Vec<Event>>) -> Result<(), String> {
    let told = watched.notices.iter().map(|notice| match notice {
        Notice::Change(change) => change.revision,
        Notice::Progress(revision) => *revision,
    });
    match told.min() {
        Some(first) if first < watched.from && seen(watched).any(|c| c.revision < watched.from) => {
            Err(format!("{first} is before {}", watched.from))
        }
        Some(first) if first >= watched.from => complete(watched, all, watched.from, first),
        _ => Ok(()),
    }
}

/// Only what it asked for.
fn filterable(watched: &Watched, _: &BTreeMap<Revision, Vec<Event>>) -> Result<(), String> {
    let mut events = seen(watched).flat_map(|change| &change.events);
    match events.find(|event| !watched.keys.contains(event.key().as_bytes())) {
        Some(event) => Err(format!("{event:?}")),
        None => Ok(()),
    }
}

fn complete(
    watched: &Watched,
    all: &BTreeMap<Revision, Vec<Event>>,
    first: Revision,
    last: Revision,
) -> Result<(), String> {
    let came: BTreeMap<Revision, &Change> = seen(watched).map(|change| (change.revision, change)).collect();
    if first > last {
        return Ok(());
    }
    for (revision, events) in all.range(first..=last) {
        let expected = concerning(watched, Some(events));
        let missing = came.get(revision).is_none_or(|change| change.events != expected);
        if !expected.is_empty() && missing {
            return Err(format!("{expected:?} of {revision} is missing"));
        }
    }
    Ok(())
}

fn concerning(watched: &Watched, events: Option<&Vec<Event>>) -> Vec<Event> {
    let events = events.into_iter().flatten();
    let concern = events.filter(|event| watched.keys.contains(event.key().as_bytes()));
    concern.cloned().collect()
}

/// The checker has to find what is wrong on purpose, or it proves nothing.
pub(crate) fn validators() -> Vec<(&'static str, fn())> {
    vec![
        ("checker::a_sound_history_passes", || {
            assert_eq!(judge(|_| {}), Vec::<String>::new())
        }),
        ("checker::a_lost_write_is_found", || {
            finds("the history has", |h| drop(h.changes.pop()))
        }),
        ("checker::a_stale_read_is_found", || {
            finds("was known before it began", |h| {
                h.records.push(read(100, 101, Revision::FIRST, vec![]));
            });
        }),
        ("checker::a_read_of_what_never_was_is_found", || {
            finds("it was", |h| {
                h.records.push(read(100, 101, Revision::new(4), vec![]))
            });
        }),
        ("checker::a_write_of_nobody_is_found", || {
            finds("nobody did", |h| drop(h.records.remove(0)));
        }),
        ("checker::a_refused_write_that_was_done_is_found", || {
            finds("nobody did", |h| h.outcome(0, Outcome::Refused));
        }),
        ("checker::a_lost_answer_is_no_fault", || {
            let found = judge(|h| h.outcome(0, Outcome::Unknown));
            assert_eq!(found, Vec::<String>::new());
        }),
        ("checker::two_writes_of_one_revision_are_found", || {
            finds("another write has this revision", |h| {
                let twice = h.records[2].clone();
                h.records.push(twice);
            });
        }),
        ("checker::a_watch_out_of_order_is_found", || {
            finds("not Ordered", |h| h.watch.notices.swap(0, 1));
        }),
        ("checker::an_event_that_comes_twice_is_found", || {
            finds("not Unique", |h| {
                let twice = h.watch.notices[0].clone();
                h.watch.notices.insert(1, twice);
            });
        }),
        ("checker::half_a_revision_is_found", || {
            finds("not Atomic", |h| {
                if let Notice::Change(change) = &mut h.watch.notices[0] {
                    change.events.pop();
                }
            });
        }),
        ("checker::an_event_from_before_a_bookmark_is_found", || {
            finds("not Bookmarkable", |h| {
                h.watch.notices.insert(0, Notice::Progress(Revision::new(2)));
            });
        }),
        ("checker::a_gap_is_found", || {
            finds("not Reliable", |h| drop(h.watch.notices.remove(1)))
        }),
        ("checker::a_late_beginning_is_found", || {
            finds("not Resumable", |h| drop(h.watch.notices.remove(0)));
        }),
        ("checker::a_stranger_is_found", || {
            finds("not Filterable", |h| h.watch.keys = crate::bench::under("b"))
        }),
    ]
}

struct Sample {
    records: Vec<Record>,
    changes: Vec<Change>,
    watch: Watched,
}

impl Sample {
    fn outcome(&mut self, at: usize, outcome: Outcome) {
        if let What::Txn(_, before) = &mut self.records[at].what {
            *before = outcome;
        }
    }
}

fn read(start: u64, end: u64, revision: Revision, entries: Vec<Entry>) -> Record {
    let found = Found {
        revision,
        entries,
        more: false,
    };
    let what = What::Read(KeyRange::all(), ReadAt::Latest, found);
    Record { start, end, what }
}

fn finds(what: &str, spoil: impl FnOnce(&mut Sample)) {
    let found = judge(spoil);
    assert!(
        found.iter().any(|wrong| wrong.contains(what)),
        "{what}: {found:?}"
    );
}

/// Three writes one after the other, watched, and spoilt.
fn judge(spoil: impl FnOnce(&mut Sample)) -> Vec<String> {
    let txns = [
        Txn::new().then(put("a", "1")).then(put("b", "1")),
        Txn::new().then(put("a", "2")),
        Txn::new()
            .when(Compare::equal(key("a"), Operand::Value(value("2"))))
            .then(put("a", "3")),
    ];
    let (mut state, mut records, mut changes) = (State::new(), Vec::new(), Vec::new());
    for (n, txn) in txns.into_iter().enumerate() {
        let revision = Revision::new(n as u64 + 2);
        let (ops, events) = apply(txn.branch(true), &mut state, revision);
        changes.push(Change { revision, events });
        let done = Done {
            revision,
            succeeded: true,
            ops,
        };
        let (start, end) = (n as u64 * 10, n as u64 * 10 + 5);
        let what = What::Txn(txn, Outcome::Done(done));
        records.push(Record { start, end, what });
    }
    let mut sample = Sample {
        records,
        watch: Watched {
            keys: KeyRange::all(),
            from: Revision::new(2),
            notices: changes.iter().cloned().map(Notice::Change).collect(),
        },
        changes,
    };
    spoil(&mut sample);
    check(&sample.records, &sample.changes, &[sample.watch])
}
