//! In what two answers to one request differ.
//!
//! By parts: the status; if that is the same, each header, and the body, as a whole or, where both are JSON, by field.
//! Another status brings another body and other headers, so naming those too would say one thing five times. Headers that
//! differ by their nature are left out; what else differs by itself is for `noise` to learn.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use http::HeaderName;

use super::fingerprint::Answer;
use super::json;
use super::shown;

/// Headers that say when, through whom and as which request an answer came, how it was framed, or how its server feels.
/// A set of cookies names a session, which no two answers share. A length is the body's.
const BY_NATURE: [&str; 27] = [
    "age",
    "alt-svc",
    "cf-ray",
    "connection",
    "content-length",
    "date",
    "endpoint-load-metrics",
    "endpoint-load-metrics-bin",
    "endpoint-load-metrics-json",
    "expires",
    "keep-alive",
    "nel",
    "report-to",
    "request-id",
    "server-timing",
    "set-cookie",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "via",
    "x-amz-request-id",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-correlation-id",
    "x-request-id",
    "x-runtime",
    "x-trace-id",
];

/// The parts in which two answers differ, by name.
pub(super) fn differences(a: &Answer, b: &Answer) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    if a.status != b.status {
        fields.insert("status".to_owned());
        return fields;
    }
    headers(&a.headers, &b.headers, &mut fields);
    if (a.bytes, a.digest) != (b.bytes, b.digest) {
        match (a.json(), b.json()) {
            (Some(a), Some(b)) => json::differences(&a, &b, "body", &mut fields),
            _ => drop(fields.insert("body".to_owned())),
        }
    }
    fields
}

/// Walks two lists that are sorted by name.
fn headers(mut a: &[(HeaderName, u64)], mut b: &[(HeaderName, u64)], fields: &mut BTreeSet<String>) {
    loop {
        let (first, rest_a, rest_b) = match (a.split_first(), b.split_first()) {
            (None, None) => return,
            (Some((x, rest)), None) => (&x.0, rest, b),
            (None, Some((y, rest))) => (&y.0, a, rest),
            (Some((x, of_a)), Some((y, of_b))) => match x.0.as_str().cmp(y.0.as_str()) {
                Ordering::Less => (&x.0, of_a, b),
                Ordering::Greater => (&y.0, a, of_b),
                Ordering::Equal if x.1 == y.1 => {
                    (a, b) = (of_a, of_b);
                    continue;
                }
                Ordering::Equal => (&x.0, of_a, of_b),
            },
        };
        if BY_NATURE.binary_search(&first.as_str()).is_err() {
            fields.insert(format!("header {}", shown::word(first.as_str())));
        }
        (a, b) = (rest_a, rest_b);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::tests::answer;
    use super::*;

    fn fields(a: &Answer, b: &Answer) -> Vec<String> {
        differences(a, b).into_iter().collect()
    }

    #[test]
    fn equal_answers_differ_in_nothing_and_dates_do_not_count() {
        let a = answer(
            200,
            &[("date", "1"), ("etag", "x"), ("set-cookie", "a")],
            &["body"],
        );
        let b = answer(
            200,
            &[("date", "2"), ("etag", "x"), ("x-request-id", "7")],
            &["bo", "dy"],
        );
        assert!(fields(&a, &b).is_empty());
    }

    #[test]
    fn another_status_says_it_all() {
        let (a, b) = (answer(200, &[], &["a"]), answer(500, &[("etag", "1")], &["b"]));
        assert_eq!(fields(&a, &b), ["status"]);
    }

    #[test]
    fn headers_differ_by_value_and_by_absence() {
        let a = answer(200, &[("a", "1"), ("b", "1"), ("c", "1")], &[]);
        let b = answer(200, &[("b", "2"), ("c", "1"), ("d", "1")], &[]);
        assert_eq!(fields(&a, &b), ["header a", "header b", "header d"]);
    }

    #[test]
    fn bodies_differ_as_a_whole_or_by_field_and_the_order_of_keys_is_nothing() {
        let json = [("content-type", "application/json")];
        let of = |text: &str| answer(200, &json, &[text]);
        assert_eq!(
            fields(&of("{\"a\":1,\"b\":2}"), &of("{\"a\":1, \"b\":3}")),
            ["body.b"]
        );
        assert!(fields(&of("{\"a\":1,\"b\":2}"), &of("{\"b\":2,\"a\":1}")).is_empty());
        assert_eq!(fields(&of("{\"a\":1}"), &of("<html>")), ["body"]);
        assert_eq!(
            fields(&answer(200, &[], &["a"]), &answer(200, &[], &["b"])),
            ["body"]
        );
    }

    #[test]
    fn the_list_of_headers_can_be_searched() {
        assert!(BY_NATURE.is_sorted());
    }
}
