//! The file as operators may see it: what was read, from where, when, and its digest; without the secrets in it.
//!
//! Shown as written, not with the defaults filled in: the question at three in the morning is "is this the file that I
//! think it is?". Which values are secret nobody can know, so what may be one is hidden, by the key that it stands
//! under: the values of headers and cookies, and whatever calls itself a secret. Names of headers are kept.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value as Json;

use super::yaml::{Node, Value};

/// What stands where a secret was.
const HIDDEN: &str = "(hidden)";

/// Keys below which nothing is shown, but for the names of headers: `value` is that of a header or a cookie.
const SECRET: [&str; 5] = ["value", "values", "token", "password", "secret"];

/// Keys whose entries are headers: their names are shown, their values are not.
const HEADERS: [&str; 4] = ["headers", "add", "set", "append"];

/// Where a configuration came from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Equal texts have equal hashes.
    pub hash: u64,
    /// The text itself.
    pub text: String,
    /// The path of the file, or whatever else names the text.
    pub origin: String,
    /// SHA-256 of the text, in hexadecimal, as `sha256sum` prints it.
    pub sha256: String,
    /// When it was read.
    pub loaded: SystemTime,
    /// What it says, without secrets.
    pub shown: Arc<Json>,
}

impl Source {
    pub(super) fn new(origin: &str, text: &str, root: &Node) -> Self {
        let mut sha256 = String::with_capacity(64);
        for byte in digest(&SHA256, text.as_bytes()).as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        Self {
            hash: xxhash_rust::xxh3::xxh3_64(text.as_bytes()),
            text: text.to_owned(),
            origin: origin.to_owned(),
            sha256,
            loaded: SystemTime::now(),
            shown: Arc::new(json(root, Shown::All)),
        }
    }
}

/// How much of what stands below a key is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    All,
    /// A list or mapping of headers.
    Names,
    Nothing,
}

/// The recursion is bounded by the reader's: no deeper tree is ever built.
fn json(node: &Node, shown: Shown) -> Json {
    match &node.value {
        Value::Nothing => Json::Null,
        Value::Text(_) if shown != Shown::All => HIDDEN.into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(nodes) => nodes.iter().map(|node| json(node, shown)).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), json(&entry.node, below(&entry.key, shown))))
            .collect(),
    }
}

fn below(key: &str, shown: Shown) -> Shown {
    match shown {
        Shown::All if SECRET.contains(&key) => Shown::Nothing,
        Shown::All if HEADERS.contains(&key) => Shown::Names,
        // The name of a header in a list of names and values.
        Shown::Names if key == "name" => Shown::All,
        shown => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::mistake::Mistakes;
    use super::super::yaml;
    use super::*;
    use serde_json::json;

    fn source(text: &str) -> Source {
        let root = yaml::read(text, &mut Mistakes::none_yet("x", text)).unwrap();
        Source::new("x", text, &root)
    }

    #[test]
    fn values_of_headers_and_secrets_are_hidden_and_names_are_not() {
        let text = "
a: { match: { header: { name: authorization, value: Bearer s3cret } } }
b: { set: { x-key: s3cret }, add: [{ name: x-key, value: s3cret }], password: [s3cret, { deep: s3cret }] }
c: { tokenFile: /run/token, off: ~ }
";
        let shown = source(text).shown;
        assert!(!shown.to_string().contains("s3cret"), "{shown}");
        let expected = json!({
            "a": { "match": { "header": { "name": "authorization", "value": HIDDEN } } },
            "b": {
                "set": { "x-key": HIDDEN },
                "add": [{ "name": "x-key", "value": HIDDEN }],
                "password": [HIDDEN, { "deep": HIDDEN }],
            },
            "c": { "tokenFile": "/run/token", "off": null },
        });
        assert_eq!(*shown, expected);
    }

    #[test]
    fn the_digest_is_what_sha256sum_prints() {
        // printf 'a: 1\n' | sha256sum
        let expected = "37b128c59f1f5097f73f82691cb519f1f568667faab5ced1b4ab979d36837eae";
        assert_eq!(source("a: 1\n").sha256, expected);
    }
}
