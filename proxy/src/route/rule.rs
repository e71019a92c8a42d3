//! One route: which requests it takes, how specific that is, and what becomes of them.
//!
//! What a rule compares is what the endpoint will see: a normal path (`path`), a host without port and case, query
//! parameters decoded, the client's address as resolved (`client`). A header that comes on several lines fits if one of
//! them does; of a query parameter that comes twice the first counts. A condition with `not` holds exactly where it would
//! not hold without: also where there is nothing to compare.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use foreshade_contract::Name;
use foreshade_engine::failover::ServerErrors;
use http::HeaderName;

use super::answer::{Redirect, Respond};
use super::pattern::Pattern;
use super::split::Split;
use crate::cidr::{Cidr, any_contains};
use crate::edit::Edits;
use crate::mirror::Rule;
use crate::policy::Policy;
use crate::request::RequestView;

/// A rule from requests to what becomes of them.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name, where it has one.
    pub name: Option<Name>,
    /// Line of the file where it begins.
    pub line: usize,
    /// Which requests it takes.
    pub matches: Match,
    /// What becomes of them.
    pub action: Action,
    /// What is changed on the way. Shared with the requests that are on their way; `None` for most routes.
    pub edits: Option<Arc<Edits>>,
    /// From the last byte of a request to the first byte of its answer, retries included.
    pub timeout: Duration,
    /// Attempts in all for a request, the first one included: 1 to `ATTEMPTS_MAX_NEVER_SENT` of the engine's failover,
    /// which allows fewer for most failures.
    pub attempts_max: u32,
    /// Statuses of an answer that are taken for failures of the endpoint, beside 502, 503 and 504.
    pub retry_on: ServerErrors,
    /// The operator vouches that every request of this route may be sent twice.
    pub idempotent: bool,
    /// Copies of its requests, with the limits that all workers share.
    pub mirror: Option<Arc<Rule>>,
    /// What is asked of its requests before they go anywhere; `None` for most routes.
    pub policy: Option<Arc<Policy>>,
    /// Clients are told where the time of an answer went.
    pub server_timing: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A cluster serves it.
    Forward(Split),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered here.
    Respond(Respond),
}

/// Which requests: all conditions have to hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Match {
    /// The host.
    pub host: HostMatch,
    /// The path.
    pub path: PathMatch,
    /// One of these methods, sorted; any where empty.
    pub methods: Vec<String>,
    /// Each of these headers, sorted.
    pub headers: Vec<HeaderMatch>,
    /// Each of these query parameters, sorted.
    pub query: Vec<QueryMatch>,
    /// The client's address lies in one of these networks, sorted; any where empty.
    pub source: Vec<Cidr>,
}

/// Which hosts. All in lower case, without port, without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// Exactly this one.
    Exact(String),
    /// Any host with at least one label more: `Under("example.com")` is `*.example.com`.
    Under(String),
    /// Any, none included.
    Any,
}

/// Which paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// Exactly this one.
    Exact(String),
    /// The whole path fits the pattern.
    Pattern(Pattern),
    /// Whole segments: `/a` is `/a` and `/a/b`, not `/ab`. Without a slash at its end, unless it is all of it.
    Prefix(String),
}

/// A header and what it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderMatch {
    /// Its name.
    pub name: HeaderName,
    /// What it has to be.
    pub wanted: Wanted,
    /// It must not be that: none of its lines may fit. What is not there fits nothing.
    pub not: bool,
}

/// A query parameter and what it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueryMatch {
    /// Its name, decoded.
    pub name: String,
    /// What it has to be.
    pub wanted: Wanted,
    /// It must not be that. What is not there fits nothing.
    pub not: bool,
}

/// What a value has to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// There.
    Present,
    /// This.
    Exact(String),
    /// Begin with this.
    Prefix(String),
    /// Fit the pattern, as a whole.
    Pattern(Pattern),
}

/// How specific a match is: the smaller, the more. Compared field by field, in this order; fields that are equal leave the
/// decision to the next, and at the end to the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Exact before wildcard before any; among wildcards, the longer name.
    pub host: (u8, Reverse<usize>),
    /// Exact before pattern before prefix; among prefixes, the longer one.
    pub path: (u8, Reverse<usize>),
    /// With methods before without.
    pub method: u8,
    /// The more headers.
    pub headers: Reverse<usize>,
    /// The more query parameters.
    pub query: Reverse<usize>,
    /// With a source before without.
    pub source: u8,
}

/// The conditions of a match, in the order in which they rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The host.
    Host,
    /// The path.
    Path,
    /// The method.
    Method,
    /// The headers.
    Headers,
    /// The query parameters.
    Query,
    /// The client's address.
    Source,
}

impl Condition {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Path => "path",
            Self::Method => "method",
            Self::Headers => "headers",
            Self::Query => "query",
            Self::Source => "source",
        }
    }
}

impl Rank {
    /// The first condition in which two ranks differ.
    pub fn differs(&self, other: &Self) -> Option<Condition> {
        [
            (self.host != other.host, Condition::Host),
            (self.path != other.path, Condition::Path),
            (self.method != other.method, Condition::Method),
            (self.headers != other.headers, Condition::Headers),
            (self.query != other.query, Condition::Query),
            (self.source != other.source, Condition::Source),
        ]
        .into_iter()
        .find_map(|(differs, condition)| differs.then_some(condition))
    }
}

impl Match {
    /// How specific it is.
    pub fn rank(&self) -> Rank {
        let host = match &self.host {
            HostMatch::Exact(_) => (0, Reverse(0)),
            HostMatch::Under(domain) => (1, Reverse(domain.len())),
            HostMatch::Any => (2, Reverse(0)),
        };
        let path = match &self.path {
            PathMatch::Exact(_) => (0, Reverse(0)),
            PathMatch::Pattern(_) => (1, Reverse(0)),
            PathMatch::Prefix(prefix) => (2, Reverse(prefix.len())),
        };
        Rank {
            host,
            path,
            method: u8::from(self.methods.is_empty()),
            headers: Reverse(self.headers.len()),
            query: Reverse(self.query.len()),
            source: u8::from(self.source.is_empty()),
        }
    }

    /// The first condition that does not hold; `None` where all do. `host` is as [`super::plain_host`] has it.
    pub fn lacks(&self, host: &str, view: &RequestView<'_>) -> Option<Condition> {
        if !self.host.takes(host) {
            Some(Condition::Host)
        } else if !self.path.takes(view.path) {
            Some(Condition::Path)
        } else {
            self.lacks_beside(view)
        }
    }

    /// The same, for a request whose host and path are known to fit.
    pub(super) fn lacks_beside(&self, view: &RequestView<'_>) -> Option<Condition> {
        if !self.methods.is_empty() && !self.methods.iter().any(|method| method == view.method) {
            Some(Condition::Method)
        } else if !self.headers.iter().all(|header| header.holds(view)) {
            Some(Condition::Headers)
        } else if !self.query.iter().all(|parameter| parameter.holds(view)) {
            Some(Condition::Query)
        } else if !self.source.is_empty() && !view.client.is_some_and(|c| any_contains(&self.source, c)) {
            Some(Condition::Source)
        } else {
            None
        }
    }

    /// Whether host and path are all it asks for.
    pub(super) fn is_plain(&self) -> bool {
        self.methods.is_empty() && self.headers.is_empty() && self.query.is_empty() && self.source.is_empty()
    }
}

impl HostMatch {
    fn takes(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Under(domain) => host
                .strip_suffix(domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty()),
            Self::Any => true,
        }
    }
}

impl PathMatch {
    fn takes(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Pattern(pattern) => pattern.fits(path.as_bytes()),
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.strip_suffix('/').unwrap_or(prefix))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

impl HeaderMatch {
    fn holds(&self, view: &RequestView<'_>) -> bool {
        let mut values = view.headers.all(&self.name);
        values.any(|value| self.wanted.accepts(value)) != self.not
    }
}

impl QueryMatch {
    fn holds(&self, view: &RequestView<'_>) -> bool {
        let pairs = view
            .query
            .unwrap_or_default()
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) => (name, value),
                None => (pair, ""),
            });
        let mut found = pairs.filter(|(name, _)| *decoded(name) == *self.name.as_bytes());
        let fits = found
            .next()
            .is_some_and(|(_, value)| self.wanted.accepts(&decoded(value)));
        fits != self.not
    }
}

impl Wanted {
    fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
            Self::Pattern(pattern) => pattern.fits(value),
        }
    }
}

impl Route {
    /// What people call it: its name, or its place in the file.
    pub fn called(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => format!("line-{}", self.line),
        }
    }

    /// The clusters that may serve its requests, by their indices.
    pub fn clusters(&self) -> impl Iterator<Item = usize> + '_ {
        let split = match &self.action {
            Action::Forward(split) => Some(split),
            Action::Redirect(_) | Action::Respond(_) => None,
        };
        split.into_iter().flat_map(Split::clusters)
    }
}

/// A name or a value of a query, decoded as forms are: `+` is a blank, and an escape that is none stays.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|b| matches!(b, b'%' | b'+')) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escape = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let digits = after.get(..2).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        match (*byte, digits.and_then(escape)) {
            (b'%', Some(value)) => {
                out.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_as_its_endpoint_will_decode_it() {
        for (text, meant) in [
            ("plain", &b"plain"[..]),
            ("a%20b+c", b"a b c"),
            ("100%", b"100%"),
            ("%zz%4", b"%zz%4"),
            ("%41%ff", b"A\xff"),
            ("%+1", b"% 1"),
        ] {
            assert_eq!(*decoded(text), *meant, "{text}");
        }
    }

    #[test]
    fn a_wildcard_takes_one_label_or_more_and_not_the_bare_domain() {
        let under = HostMatch::Under("example.com".to_owned());
        for (host, takes) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            (".example.com", false),
            ("aexample.com", false),
            ("example.com.evil", false),
        ] {
            assert_eq!(under.takes(host), takes, "{host}");
        }
    }
}
