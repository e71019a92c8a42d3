//! etcd's messages, and what they are in our words. Nothing that comes over the wire is believed unchecked.

use bytes::Bytes;

use crate::store::error::StoreError;
use crate::store::key::{Entry, Key, KeyRange, LeaseId, Revision, Value};
use crate::store::txn::{Compare, Done, Op, OpDone, Operand, Relation, Txn};
use crate::store::watch::Event;

/// Generated from `proto/etcd.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated; the fields are explained by etcd's own documentation"
)]
pub(super) mod pb {
    tonic::include_proto!("etcdserverpb");
}

use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;

/// The first key of all, and the end of a range without one.
const ZERO: &[u8] = &[0];

/// First key and end of a range, as etcd has them.
pub(super) fn range(keys: &KeyRange) -> (Bytes, Bytes) {
    let start = match keys.start() {
        start if start.is_empty() => Bytes::from_static(ZERO),
        start => start.clone(),
    };
    (start, keys.end().cloned().unwrap_or(Bytes::from_static(ZERO)))
}

/// A revision, as etcd has it. Ours never reach the sign.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A revision or a count of etcd's.
pub(super) fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| nonsense("a number below zero"))
}

/// What etcd would never say.
pub(super) fn nonsense(what: &str) -> StoreError {
    StoreError::Foreign(format!("what answers does not speak etcd's language: {what}"))
}

/// A transaction, as etcd has it.
pub(super) fn txn(txn: Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compares.into_iter().map(compare).collect(),
        success: txn.then.into_iter().map(op).collect(),
        failure: txn.otherwise.into_iter().map(op).collect(),
    }
}

fn compare(compare: Compare) -> pb::Compare {
    let result = match compare.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::NotEqual => CompareResult::NotEqual,
        Relation::Less => CompareResult::Less,
        Relation::Greater => CompareResult::Greater,
    };
    let (target, operand) = match compare.operand {
        Operand::Created(r) => (
            CompareTarget::Create,
            TargetUnion::CreateRevision(signed(r.number())),
        ),
        Operand::Modified(r) => (CompareTarget::Mod, TargetUnion::ModRevision(signed(r.number()))),
        Operand::Version(n) => (CompareTarget::Version, TargetUnion::Version(signed(n))),
        Operand::Lease(id) => (CompareTarget::Lease, TargetUnion::Lease(lease(id))),
        Operand::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.bytes())),
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: compare.key.bytes(),
        target_union: Some(operand),
    }
}

fn op(op: Op) -> pb::RequestOp {
    let request = match op {
        Op::Put {
            key,
            value,
            lease: id,
        } => Request::RequestPut(pb::PutRequest {
            key: key.bytes(),
            value: value.bytes(),
            lease: lease(id),
        }),
        Op::Delete(keys) => {
            let (key, range_end) = range(&keys);
            Request::RequestDeleteRange(pb::DeleteRangeRequest { key, range_end })
        }
        Op::Read { keys, limit } => {
            let (key, range_end) = range(&keys);
            Request::RequestRange(pb::RangeRequest {
                key,
                range_end,
                limit: i64::from(limit),
                ..pb::RangeRequest::default()
            })
        }
    };
    pb::RequestOp {
        request: Some(request),
    }
}

fn lease(id: Option<LeaseId>) -> i64 {
    id.map_or(0, LeaseId::number)
}

/// What a transaction gave.
pub(super) fn done(response: pb::TxnResponse, revision: Revision) -> Result<Done, StoreError> {
    let ops: Result<Vec<OpDone>, StoreError> = response.responses.into_iter().map(op_done).collect();
    Ok(Done {
        revision,
        succeeded: response.succeeded,
        ops: ops?,
    })
}

fn op_done(op: pb::ResponseOp) -> Result<OpDone, StoreError> {
    match op.response {
        Some(Response::ResponsePut(_)) => Ok(OpDone::Put),
        Some(Response::ResponseDeleteRange(deleted)) => Ok(OpDone::Deleted(unsigned(deleted.deleted)?)),
        Some(Response::ResponseRange(found)) => {
            let entries: Result<Vec<Entry>, StoreError> = found.kvs.into_iter().map(entry).collect();
            Ok(OpDone::Read(entries?, found.more))
        }
        None => Err(nonsense("an operation without an answer")),
    }
}

/// A key, as it is.
pub(super) fn entry(kv: pb::KeyValue) -> Result<Entry, StoreError> {
    let key = key(kv.key)?;
    let value = Value::new(kv.value).map_err(|invalid| StoreError::Corrupt {
        place: key.to_string(),
        what: invalid.to_string(),
    })?;
    let created = Revision::new(unsigned(kv.create_revision)?);
    let modified = Revision::new(unsigned(kv.mod_revision)?);
    if created == Revision::NONE || created > modified {
        return Err(nonsense("a key that was written before it was there"));
    }
    Ok(Entry {
        key,
        value,
        created,
        modified,
        version: unsigned(kv.version)?,
        lease: LeaseId::new(kv.lease),
    })
}

fn key(bytes: Bytes) -> Result<Key, StoreError> {
    Key::new(bytes).map_err(|invalid| StoreError::Corrupt {
        place: "a key".to_owned(),
        what: invalid.to_string(),
    })
}

/// An event, and the revision that it belongs to.
pub(super) fn event(event: pb::Event) -> Result<(Revision, Event), StoreError> {
    let kind = pb::event::EventType::try_from(event.r#type);
    let kv = event.kv.ok_or_else(|| nonsense("an event without a key"))?;
    let revision = Revision::new(unsigned(kv.mod_revision)?);
    match kind {
        Ok(pb::event::EventType::Put) => Ok((revision, Event::Put(entry(kv)?))),
        Ok(pb::event::EventType::Delete) => Ok((revision, Event::Deleted(key(kv.key)?))),
        Err(_) => Err(nonsense("an event of no known kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_would_never_say_is_a_typed_error() {
        let kv = |created, modified| pb::KeyValue {
            key: Bytes::from_static(b"a"),
            create_revision: created,
            mod_revision: modified,
            ..pb::KeyValue::default()
        };
        for (created, modified) in [(-1, 2), (3, 2), (0, 0)] {
            assert!(matches!(
                entry(kv(created, modified)),
                Err(StoreError::Foreign(_))
            ));
        }
        let too_long = pb::KeyValue {
            value: vec![0; crate::store::VALUE_BYTES_MAX + 1].into(),
            ..kv(2, 2)
        };
        assert!(matches!(entry(too_long), Err(StoreError::Corrupt { .. })));
        assert!(matches!(
            entry(pb::KeyValue::default()),
            Err(StoreError::Corrupt { .. })
        ));
        assert!(matches!(event(pb::Event::default()), Err(StoreError::Foreign(_))));
        let odd = pb::Event {
            r#type: 9,
            kv: Some(kv(2, 2)),
        };
        assert!(matches!(event(odd), Err(StoreError::Foreign(_))));
        assert!(matches!(
            op_done(pb::ResponseOp { response: None }),
            Err(StoreError::Foreign(_))
        ));
    }

    #[test]
    fn open_ranges_are_written_as_etcd_reads_them() {
        let (first, end) = range(&KeyRange::all());
        assert_eq!((first.as_ref(), end.as_ref()), (ZERO, ZERO));
        let key = Key::try_from("a").unwrap();
        let (first, end) = range(&KeyRange::key(&key));
        assert_eq!(
            (first.as_ref(), end.as_ref()),
            (b"a".as_slice(), b"a\0".as_slice())
        );
    }
}
