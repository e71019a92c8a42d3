//! What a route changes in the headers of requests and answers.
//!
//! A value is a text with a few variables, cut into pieces when the configuration is loaded. Its letters are checked there;
//! what a variable brings in has come through a header or a path of its own, and the whole is checked once more when it
//! becomes a value: no line can be smuggled in. What frames a message or speaks of its connection cannot be edited at all
//! ([`is_reserved`]): one wrong length, and two requests are one.
//!
//! Edits are made in the order remove, set, add, whatever the order of the file.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::fields::Fields;
use crate::request::RequestView;
use crate::rewrite::Rewrite;
use crate::trace::{self, MadeId};

/// Longest value, in bytes, as written.
pub const VALUE_BYTES_MAX: usize = 4096;

/// Most headers that one list of edits names. Each is a search and a copy per request; and a file could ask for more
/// headers than a map of headers holds, which is 2^15.
pub const EDITS_MAX: usize = 64;

/// Headers of a message that can be edited, whoever read it from the wire.
pub trait Head {
    /// Takes all values of a header out.
    fn remove(&mut self, name: &HeaderName);
    /// Puts a value in the place of all that a header has.
    fn set(&mut self, name: &HeaderName, value: HeaderValue);
    /// Puts a value behind those that a header has.
    fn add(&mut self, name: &HeaderName, value: HeaderValue);
}

impl Head for HeaderMap {
    fn remove(&mut self, name: &HeaderName) {
        Self::remove(self, name);
    }

    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) {
        self.append(name, value);
    }
}

/// Everything that a route changes on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// Path and host of the request.
    pub rewrite: Rewrite,
    /// Headers of the request.
    pub request: HeaderEdits,
    /// Headers of the answer.
    pub response: HeaderEdits,
    /// What the route is called.
    pub route: String,
}

/// Changes of one message's headers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderEdits {
    /// These go.
    pub remove: Vec<HeaderName>,
    /// These have this value and no other.
    pub set: Vec<(HeaderName, Template)>,
    /// These have this value, too.
    pub add: Vec<(HeaderName, Template)>,
}

impl HeaderEdits {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Makes the changes. A value that is none after all leaves its header as it was.
    pub fn apply(&self, head: &mut impl Head, facts: &Facts<'_>) {
        self.remove.iter().for_each(|name| head.remove(name));
        for (name, template) in &self.set {
            if let Some(value) = template.value(facts) {
                head.set(name, value);
            }
        }
        for (name, template) in &self.add {
            if let Some(value) = template.value(facts) {
                head.add(name, value);
            }
        }
    }
}

/// What variables stand for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The host that the user asked for, as he wrote it.
    pub host: &'a str,
    /// The path that the user asked for, in its normal form.
    pub path: &'a str,
    /// The method.
    pub method: &'a str,
    /// The scheme that the user speaks.
    pub scheme: &'a str,
    /// What the route is called.
    pub route: &'a str,
    /// The cluster's name; empty where none is concerned.
    pub cluster: &'a str,
    /// The name that was made for the request, if one was.
    pub made_id: Option<&'a MadeId>,
    /// The headers that came, for the name that the request brought. Looked at only where a value asks for it.
    pub came: Option<Fields<'a>>,
}

impl<'a> Facts<'a> {
    /// What is known of a request before it has a route.
    pub fn of(view: &RequestView<'a>) -> Self {
        Self {
            client: view.client,
            host: view.host,
            path: view.path,
            method: view.method,
            scheme: view.scheme,
            route: "",
            cluster: "",
            made_id: view.made_id,
            came: Some(view.headers),
        }
    }

    /// The name that the endpoint sees; empty where the request has none that can be kept, and none was made.
    fn request_id(&self) -> &'a str {
        let id = trace::known_as(self.made_id, self.came);
        // Names are ASCII.
        id.and_then(|id| std::str::from_utf8(id).ok()).unwrap_or_default()
    }
}

/// A value with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable),
}

/// What can stand in braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    ClientIp,
    Host,
    Path,
    Method,
    Scheme,
    Route,
    Cluster,
    RequestId,
}

/// All variables by their names.
const VARIABLES: [(&str, Variable); 8] = [
    ("client_ip", Variable::ClientIp),
    ("host", Variable::Host),
    ("path", Variable::Path),
    ("method", Variable::Method),
    ("scheme", Variable::Scheme),
    ("route", Variable::Route),
    ("cluster", Variable::Cluster),
    ("request_id", Variable::RequestId),
];

/// The names of all variables.
pub fn variables() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|(name, _)| *name)
}

/// Why a text is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A variable that there is not.
    #[error("has the unknown variable {{{0}}}")]
    Variable(String),
    /// A brace without its other half.
    #[error("has a brace without its other half")]
    Brace,
    /// A letter that no header has: a line end above all.
    #[error("has a character that no header has")]
    Character,
    /// Too long.
    #[error("is longer than {VALUE_BYTES_MAX} bytes")]
    Long,
}

impl Template {
    /// Cuts a text into pieces. `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// Where it is no value of a header.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > VALUE_BYTES_MAX {
            return Err(TemplateError::Long);
        }
        if !text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t')) {
            return Err(TemplateError::Character);
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                literal.push_str(brace.get(..1).unwrap_or_default());
                rest = after;
                continue;
            }
            let inside = brace.strip_prefix('{').and_then(|b| b.split_once('}'));
            let (name, after) = inside.ok_or(TemplateError::Brace)?;
            let variable = VARIABLES.iter().find(|(known, _)| *known == name);
            let (_, variable) = variable.ok_or_else(|| TemplateError::Variable(name.to_owned()))?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Variable(*variable));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self { pieces })
    }

    /// The value for a request. `None` where a variable brought in what no header has.
    pub fn value(&self, facts: &Facts<'_>) -> Option<HeaderValue> {
        // Copied each time: a value that is shared would be counted by all workers in one place.
        if let [Piece::Text(text)] = self.pieces.as_slice() {
            return HeaderValue::from_str(text).ok();
        }
        HeaderValue::try_from(self.text(facts)).ok()
    }

    /// The value for a request, as text.
    pub fn text(&self, facts: &Facts<'_>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Variable(variable) => variable.write(facts, &mut out),
            }
        }
        out
    }
}

impl Variable {
    fn write(self, facts: &Facts<'_>, out: &mut String) {
        use fmt::Write as _;
        match self {
            Self::ClientIp => {
                if let Some(client) = facts.client {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "{client}");
                }
            }
            Self::Host => out.push_str(facts.host),
            Self::Path => out.push_str(facts.path),
            Self::Method => out.push_str(facts.method),
            Self::Scheme => out.push_str(facts.scheme),
            Self::Route => out.push_str(facts.route),
            Self::Cluster => out.push_str(facts.cluster),
            Self::RequestId => out.push_str(facts.request_id()),
        }
    }
}

/// What frames a message, belongs to one connection (RFC 9110 section 7.6.1), or is this proxy's own. `Host` is none of
/// a header's business either: it is part of what is asked for, and is rewritten as such.
const RESERVED: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-foreshade-attempt",
];

/// Whether a header cannot be edited.
pub fn is_reserved(name: &HeaderName) -> bool {
    RESERVED.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FACTS: Facts<'_> = Facts {
        client: Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7))),
        host: "shop.example",
        path: "/a",
        method: "GET",
        scheme: "http",
        route: "front",
        cluster: "blue",
        made_id: Some(b"0123456789abcdef0123456789abcdef"),
        came: None,
    };

    #[test]
    fn variables_stand_for_facts_and_doubled_braces_for_braces() {
        for (text, expected) in [
            ("plain", "plain"),
            ("{client_ip} via {route}", "10.0.0.7 via front"),
            ("{{\"c\":\"{cluster}\"}}", "{\"c\":\"blue\"}"),
            ("{scheme}://{host}{path} {method}", "http://shop.example/a GET"),
            ("id={request_id}", "id=0123456789abcdef0123456789abcdef"),
            ("", ""),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.value(&FACTS).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn the_request_id_is_the_one_made_else_the_one_that_came_else_nothing() {
        let template = Template::parse("<{request_id}>").unwrap();
        let came =
            |id: &'static str| HeaderMap::from_iter([(trace::REQUEST_ID, HeaderValue::from_static(id))]);
        let (sound, broken) = (came("abc-1"), came("a b"));
        for (made_id, came, expected) in [
            (FACTS.made_id, &sound, "<0123456789abcdef0123456789abcdef>"),
            (None, &sound, "<abc-1>"),
            (None, &broken, "<>"),
            (None, &HeaderMap::new(), "<>"),
        ] {
            let facts = Facts {
                made_id,
                came: Some(came.into()),
                ..FACTS
            };
            assert_eq!(template.value(&facts).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (text, error) in [
            ("{user}", TemplateError::Variable("user".to_owned())),
            ("{}", TemplateError::Variable(String::new())),
            ("{host", TemplateError::Brace),
            ("host}", TemplateError::Brace),
            ("a\r\nx: y", TemplateError::Character),
            ("é", TemplateError::Character),
            (&"a".repeat(VALUE_BYTES_MAX + 1), TemplateError::Long),
        ] {
            assert_eq!(Template::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn removed_is_gone_set_is_alone_and_added_is_last() {
        let mut head = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "2"), ("x-b", "1"), ("x-c", "1")] {
            head.append(name, value.parse().unwrap());
        }
        let named = |name: &'static str| HeaderName::from_static(name);
        let edits = HeaderEdits {
            remove: vec![named("x-c"), named("x-none")],
            set: vec![(named("x-a"), Template::parse("{cluster}").unwrap())],
            add: vec![(named("x-b"), Template::parse("2").unwrap())],
        };
        edits.apply(&mut head, &FACTS);
        let values = |name: &str| {
            head.get_all(name)
                .iter()
                .map(|v| v.to_str().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(values("x-a"), ["blue"]);
        assert_eq!(values("x-b"), ["1", "2"]);
        assert!(values("x-c").is_empty());
    }

    proptest! {
        #[test]
        fn no_value_has_a_line_end(text in "[ -~\r\n{}a-z_]{0,40}", host in any::<String>(), path in any::<String>()) {
            if let Ok(template) = Template::parse(&text) {
                let facts = Facts { host: &host, path: &path, ..FACTS };
                if let Some(value) = template.value(&facts) {
                    prop_assert!(!value.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
                }
            }
        }
    }
}
