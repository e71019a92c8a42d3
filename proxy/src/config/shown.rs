//! The file as operators may see it: what was read, from where, when, and its digest; without the secrets in it.
//!
//! Shown as written, not with the defaults filled in: the question at three in the morning is "is this the file that I
//! think it is?". Which values are secret nobody can know, so what may be one is hidden, by the key that it stands
//! under: the values of headers, cookies and query parameters, the query behind a path, and whatever calls itself a
//! secret. Names of headers and parameters are kept. A test walks the schema: a key that takes any text is either hidden
//! or listed there as harmless.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use foreshade_settings::{Node, Value};
use serde_json::Value as Json;

/// What stands where a secret was.
const HIDDEN: &str = "(hidden)";

/// Keys below which nothing is shown: `value` is that of a header or a cookie, what a probe sends by datagram may have to
/// name a secret (a community of SNMP), and URLs of a controller's hooks are often secrets themselves.
const SECRET: [&str; 8] = [
    "value",
    "values",
    "token",
    "password",
    "secret",
    "send",
    "expect",
    "controller",
];

/// Keys whose entries are headers or query parameters: their names are shown, their values are not. An access log has a
/// `query`, too, which is a word.
const NAMED: [&str; 4] = ["headers", "add", "set", "query"];

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
    /// All of a mapping, and of a path what stands before its query.
    Paths,
    /// A list or mapping of names and values.
    Names,
    Nothing,
}

/// The recursion is bounded by the reader's: no deeper tree is ever built.
fn json(node: &Node, shown: Shown) -> Json {
    match &node.value {
        Value::Nothing => Json::Null,
        Value::Text(text) => match (shown, text.split_once('?')) {
            (Shown::All, _) | (Shown::Paths, None) => text.as_str().into(),
            (Shown::Paths, Some((path, _))) => format!("{path}?{HIDDEN}").into(),
            (Shown::Names | Shown::Nothing, _) => HIDDEN.into(),
        },
        Value::List(nodes) => nodes.iter().map(|node| json(node, shown)).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| {
                (
                    entry.key.clone(),
                    json(&entry.node, below(&entry.key, &entry.node, shown)),
                )
            })
            .collect(),
    }
}

fn below(key: &str, node: &Node, shown: Shown) -> Shown {
    let is_word = matches!(node.value, Value::Text(_));
    match shown {
        Shown::All | Shown::Paths if SECRET.contains(&key) => Shown::Nothing,
        Shown::All | Shown::Paths if NAMED.contains(&key) && !is_word => Shown::Names,
        Shown::All | Shown::Paths if key == "path" => Shown::Paths,
        Shown::All | Shown::Paths => Shown::All,
        // In a list of names and values.
        Shown::Names if key == "name" => Shown::All,
        Shown::Names | Shown::Nothing => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreshade_settings::{Mistakes, yaml};
    use serde_json::json;
    use std::collections::BTreeSet;

    fn source(text: &str) -> Source {
        let root = yaml::read(text, &mut Mistakes::none_yet("x", text)).unwrap();
        Source::new("x", text, &root)
    }

    #[test]
    fn values_of_headers_queries_and_secrets_are_hidden_and_names_are_not() {
        let text = "
a: { match: { header: { name: authorization, value: Bearer s3cret } } }
b: { set: { x-key: s3cret }, add: [{ name: x-key, value: s3cret }], password: [s3cret, { deep: s3cret }] }
c: { tokenFile: /run/token, off: ~, query: false }
d: { match: { query: [{ name: key, exact: s3cret }], path: { regex: /a(/b)? } } }
e: { http: { path: '/healthz?key=s3cret' }, to: { path: /healthz } }
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
            "c": { "tokenFile": "/run/token", "off": null, "query": "false" },
            "d": { "match": { "query": [{ "name": "key", "exact": HIDDEN }], "path": { "regex": "/a(/b)?" } } },
            "e": { "http": { "path": "/healthz?(hidden)" }, "to": { "path": "/healthz" } },
        });
        assert_eq!(*shown, expected);
    }

    /// What a secret may look like.
    const LIKE_A_SECRET: [&str; 3] = ["s3cret", "S3CRET", "/s3cret"];

    /// Keys that take any text and are shown all the same: names, hosts, files, and what is compared with or sent instead
    /// of a path. Whoever adds a key to the format decides here, or hides it.
    const HARMLESS: &str = "
        accessLog.to acme.caFile acme.externalAccount.keyFile acme.externalAccount.keyId acme.storage admin.tokenFile
        clusters.cohort.cookie clusters.cohort.header clusters.endpoints.name clusters.endpoints.region
        clusters.endpoints.serverName clusters.endpoints.shadow clusters.health.grpc.host clusters.health.grpc.service
        clusters.health.http.host clusters.health.http.path clusters.name
        clusters.segments.match.cookie.name clusters.segments.match.header.name clusters.segments.name
        clusters.shadows.name clusters.shadows.region clusters.shadows.serverName
        clusters.sticky.cookie clusters.sticky.keysFile clusters.sticky.path
        clusters.tls.caFile clusters.tls.certFile clusters.tls.keyFile clusters.tls.serverName
        follow.name follow.planFile follow.tls.caFile follow.tls.certFile follow.tls.keyFile
        follow.tls.serverName follow.tokenFile
        listeners.rateLimits.key.header listeners.rateLimits.name
        listeners.basicAuth.realm listeners.basicAuth.userHeader listeners.basicAuth.usersFile
        listeners.routes.basicAuth.realm listeners.routes.basicAuth.userHeader listeners.routes.basicAuth.usersFile
        listeners.jwt.audiences listeners.jwt.claims.claim listeners.jwt.claims.header listeners.jwt.issuer
        listeners.jwt.keysCaFile listeners.jwt.keysFile listeners.routes.jwt.audiences listeners.routes.jwt.claims.claim
        listeners.routes.jwt.claims.header listeners.routes.jwt.issuer listeners.routes.jwt.keysCaFile
        listeners.routes.jwt.keysFile listeners.errorPages.body listeners.errorPages.file
        listeners.routes.errorPages.body listeners.routes.errorPages.file
        listeners.authorize.answerHeaders listeners.authorize.path listeners.routes.authorize.answerHeaders
        listeners.routes.authorize.path listeners.routes.faults.header
        listeners.maintenance.body listeners.routes.maintenance.body listeners.routes.cors.allowHeaders
        listeners.routes.cors.exposeHeaders listeners.routes.cors.methods
        listeners.cluster listeners.name listeners.routes.cluster listeners.routes.clusters.name listeners.routes.name
        listeners.routes.match.headers.name listeners.routes.match.host listeners.routes.match.methods
        listeners.routes.match.path.exact listeners.routes.match.path.prefix listeners.routes.match.path.regex
        listeners.routes.match.query.name listeners.routes.mirror.keepHeaders listeners.routes.mirror.target
        listeners.routes.priority.header listeners.routes.rateLimits.key.header listeners.routes.rateLimits.name
        listeners.routes.redirect.host listeners.routes.redirect.path listeners.routes.redirect.prefix
        listeners.routes.requestHeaders.add.name listeners.routes.requestHeaders.remove
        listeners.routes.requestHeaders.set.name listeners.routes.respond.body
        listeners.routes.responseHeaders.add.name listeners.routes.responseHeaders.remove
        listeners.routes.responseHeaders.set.name
        listeners.routes.clientCertificate.dnsNames listeners.routes.clientCertificate.subjects
        listeners.tls.certificates.acme.names
        listeners.tls.certificates.certFile listeners.tls.certificates.keyFile listeners.tls.certificates.ocspFile
        listeners.tls.clientCertificates.caFile
        listeners.routes.rewrite.host listeners.routes.rewrite.prefix listeners.routes.rewrite.regex.pattern
        listeners.routes.rewrite.regex.replacement
        listeners.serverNames.cluster listeners.serverNames.names
        trace.export.attributes.name trace.export.headers.name trace.export.service trace.export.tls.caFile
        trace.export.tls.certFile trace.export.tls.keyFile trace.export.tls.serverName trace.export.tokenFile
        upgrade.socket";

    /// Calls `found` with each text of the schema that may be a secret, the way there, and a file that has it there.
    fn texts(schema: &Json, way: &str, around: &dyn Fn(Json) -> Json, found: &mut dyn FnMut(&str, Json)) {
        let [variants, properties] = ["anyOf", "properties"].map(|key| &schema[key]);
        for variant in variants.as_array().into_iter().flatten() {
            texts(variant, way, around, found);
        }
        for (key, below) in properties.as_object().into_iter().flatten() {
            let way = format!("{way}.{key}");
            let around = |value: Json| around(json!({ key: value }));
            texts(below, way.trim_start_matches('.'), &around, found);
        }
        if let Some(item) = schema.get("items") {
            texts(item, way, &|value| around(json!([value])), found);
        }
        if schema["type"] == "string" {
            let pattern = regex::Regex::new(schema["pattern"].as_str().unwrap_or_default()).unwrap();
            for text in LIKE_A_SECRET.into_iter().filter(|text| pattern.is_match(text)) {
                found(way, around(text.into()));
            }
        }
    }

    #[test]
    fn every_key_that_takes_any_text_is_hidden_or_known_to_be_harmless() {
        let (mut shown, mut hidden) = (BTreeSet::new(), BTreeSet::new());
        let schema = super::super::schema();
        texts(&schema, "", &|value| value, &mut |way, file| {
            // JSON is YAML.
            let text = source(&file.to_string()).shown.to_string();
            let is_shown = text.to_lowercase().contains("s3cret");
            let to = if is_shown { &mut shown } else { &mut hidden };
            to.insert(way.to_owned());
        });
        let harmless = HARMLESS.split_whitespace().map(str::to_owned);
        assert_eq!(shown, harmless.collect());
        let routes = "listeners.routes";
        for way in [
            format!("{routes}.requestHeaders.set.value"),
            format!("{routes}.responseHeaders.add.value"),
            format!("{routes}.match.headers.exact"),
            format!("{routes}.match.query.regex"),
            "clusters.segments.match.cookie.value".to_owned(),
        ] {
            assert!(hidden.contains(&way), "{way} is not among {hidden:?}");
        }
    }

    #[test]
    fn the_digest_is_what_sha256sum_prints() {
        // printf 'a: 1\n' | sha256sum
        let expected = "37b128c59f1f5097f73f82691cb519f1f568667faab5ced1b4ab979d36837eae";
        assert_eq!(source("a: 1\n").sha256, expected);
    }
}
