//! Which fields of two JSON documents differ.
//!
//! A field is named by the keys on the way to it, without positions in lists: `items[].price`. Lists are compared in
//! order and, where their lengths differ, as one field; a key that is missing on one side is a difference of that key,
//! unless it is null on the other. What the documents say is compared, not how it is written: order of keys and blanks do
//! not count.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::shown::{self, FOLDED};

/// Differing fields that one comparison names.
const FIELDS_MAX: usize = 64;

/// An object with more keys is no record but a map, and its keys are data.
const RECORD_KEYS_MAX: usize = 64;

/// Longest name of a field; what lies deeper counts for the field above it.
const NAME_BYTES_MAX: usize = 160;

/// Adds the fields in which `a` and `b` differ to `fields`, each after `prefix`.
pub(super) fn differences(a: &Value, b: &Value, prefix: &str, fields: &mut BTreeSet<String>) {
    let mut name = prefix.to_owned();
    walk(a, b, &mut name, fields);
}

fn walk(a: &Value, b: &Value, name: &mut String, fields: &mut BTreeSet<String>) {
    if a == b {
        return;
    }
    let length = name.len();
    match (a, b) {
        _ if length > NAME_BYTES_MAX || fields.len() >= FIELDS_MAX => {
            if fields.len() < FIELDS_MAX {
                fields.insert(name.clone());
            }
        }
        (Value::Object(a), Value::Object(b)) => {
            for (key, of_a, of_b) in sides(a, b) {
                name.push('.');
                name.push_str(if a.len().max(b.len()) > RECORD_KEYS_MAX {
                    FOLDED
                } else {
                    shown::word(key)
                });
                walk(of_a, of_b, name, fields);
                name.truncate(length);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            name.push_str("[]");
            a.iter().zip(b).for_each(|(a, b)| walk(a, b, name, fields));
            name.truncate(length);
        }
        (Value::Array(_), Value::Array(_)) => {
            fields.insert(format!("{name}[] (length)"));
        }
        _ => {
            fields.insert(name.clone());
        }
    }
}

/// Every key of either side with both values; what is missing is null.
fn sides<'a>(
    a: &'a Map<String, Value>,
    b: &'a Map<String, Value>,
) -> impl Iterator<Item = (&'a String, &'a Value, &'a Value)> {
    const MISSING: &Value = &Value::Null;
    let of_a = a
        .iter()
        .map(|(key, value)| (key, value, b.get(key).unwrap_or(MISSING)));
    let only_b = b.iter().filter(|(key, _)| !a.contains_key(*key));
    of_a.chain(only_b.map(|(key, value)| (key, MISSING, value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(a: &Value, b: &Value) -> Vec<String> {
        let mut fields = BTreeSet::new();
        differences(a, b, "body", &mut fields);
        fields.into_iter().collect()
    }

    #[test]
    fn fields_are_named_by_their_keys_and_not_by_their_values() {
        let a = json!({"items": [{"price": 1, "name": "x"}, {"price": 2}], "total": 3, "gone": true});
        let b = json!({"items": [{"price": 9, "name": "x"}, {"price": 8}], "total": 3, "come": {"in": 1}});
        assert_eq!(fields(&a, &b), ["body.come", "body.gone", "body.items[].price"]);
        assert_eq!(fields(&json!([1]), &json!([1, 2])), ["body[] (length)"]);
        assert_eq!(fields(&json!("a"), &json!(1)), ["body"]);
        assert!(fields(&a, &a.clone()).is_empty());
    }

    #[test]
    fn keys_that_are_data_are_folded() {
        let map = |value: u32| Value::Object((0..100).map(|n| (format!("user_{n}"), json!(value))).collect());
        assert_eq!(fields(&map(1), &map(2)), ["body.{}"]);
        assert_eq!(fields(&json!({"4711": 1}), &json!({"4711": 2})), ["body.{}"]);
    }

    #[test]
    fn names_and_their_number_are_bounded() {
        let (mut a, mut b) = (json!(1), json!(2));
        for _ in 0..100 {
            (a, b) = (json!({"abcdefghij": a}), json!({"abcdefghij": b}));
        }
        let deep = fields(&a, &b);
        assert!(deep.len() == 1 && deep[0].len() < NAME_BYTES_MAX + 20, "{deep:?}");
        let wide = |value: u32| {
            let parts =
                (0..26u8).flat_map(|x| (0..10u8).map(move |y| format!("{}{y}", char::from(b'a' + x))));
            let part = |n: String| (n, json!({"a": value, "b": value}));
            json!(
                parts
                    .collect::<Vec<_>>()
                    .chunks(60)
                    .map(|keys| { json!({"k": Value::Object(keys.iter().cloned().map(part).collect())}) })
                    .collect::<Vec<_>>()
            )
        };
        assert_eq!(fields(&wide(1), &wide(2)).len(), FIELDS_MAX);
    }
}
