//! From a request to its route: the most specific one wins, whatever the order of the file.
//!
//! Specific means, compared rung by rung ([`Rank`]):
//!
//! 1. host: exact, then wildcard (`*.shop.example` before `*.example`), then any;
//! 2. path: exact, then pattern, then prefix (the longer first);
//! 3. method: a route that names methods before one that does not;
//! 4. headers: the more conditions first;
//! 5. query: the more conditions first;
//! 6. source: a route that names networks before one that does not;
//! 7. the order of the file.
//!
//! A route that fits host and path and lacks another condition is passed over, and the next in that order is asked: so
//! a request falls from the exact host to the wildcard, and from the longest prefix to the root. A prefix matches whole
//! segments, so that `/shop` never swallows `/shopping`. The order of the file decides last, because people sort files by
//! what belongs together, and a route that hides another one three screens below is found in an incident.
//!
//! The table is built once, in that order. A host is looked up by hash, then its wildcards from the longest suffix on; in
//! each of them the path, then its prefixes from the deepest on, no deeper than the table is. What is walked are patterns
//! (each a search of its own, so a host should have few) and routes with the same host and path. Headers, queries and
//! addresses are looked at only when a route asks. The usual single route for `/` costs three empty tables and one step.

pub mod answer;
mod lookup;
pub mod pattern;
pub mod rule;
pub mod split;

#[cfg(test)]
mod reference;

use arrayvec::ArrayString;

use self::lookup::Lookup;
pub use self::rule::{
    Action, Condition, HeaderMatch, HostMatch, Match, PathMatch, QueryMatch, Rank, Route, Wanted,
};
use crate::request::RequestView;

/// Longest host in bytes that a route can name: what the DNS carries, or an address in brackets.
pub const HOST_BYTES_MAX: usize = 253;

/// The routes of one listener.
#[derive(Clone, Debug)]
pub struct Router {
    /// The most specific first.
    routes: Vec<Route>,
    hosts: Lookup<Paths>,
    /// By the domain below which they match.
    wildcards: Lookup<Paths>,
    any: Paths,
}

/// The routes of one host, by path: positions in [`Router::routes`], each list the most specific first.
#[derive(Clone, Debug, Default)]
struct Paths {
    exact: Lookup<Vec<usize>>,
    patterns: Vec<usize>,
    prefixes: Lookup<Vec<usize>>,
    /// Segments of the deepest prefix.
    depth: usize,
    /// Of the prefix `/`.
    root: Vec<usize>,
}

impl Router {
    /// Builds the table.
    pub fn new(routes: &[Route]) -> Self {
        let mut routes = routes.to_vec();
        // Stable, so that equally specific routes keep the order of the file.
        routes.sort_by_key(|route| route.matches.rank());
        let mut router = Self {
            routes: Vec::new(),
            hosts: Lookup::default(),
            wildcards: Lookup::default(),
            any: Paths::default(),
        };
        for (position, route) in routes.iter().enumerate() {
            let paths = match &route.matches.host {
                HostMatch::Exact(host) => router.hosts.or_insert_with(host, Paths::default),
                HostMatch::Under(domain) => router.wildcards.or_insert_with(domain, Paths::default),
                HostMatch::Any => Some(&mut router.any),
            };
            if let Some(paths) = paths {
                paths.add(&route.matches.path, position);
            }
        }
        router.routes = routes;
        router
    }

    /// The route of a request, if any matches. The path is in its normal form.
    pub fn route(&self, view: &RequestView<'_>) -> Option<&Route> {
        if self.hosts.is_empty() && self.wildcards.is_empty() {
            return self.any.find(&self.routes, view);
        }
        let host = plain_host(view.host);
        let named = self.hosts.find(&host).and_then(|p| p.find(&self.routes, view));
        named
            .or_else(|| self.below(&host, view))
            .or_else(|| self.any.find(&self.routes, view))
    }

    /// All routes, the most specific first.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// By the wildcards that hold the host, the longest first.
    fn below(&self, host: &str, view: &RequestView<'_>) -> Option<&Route> {
        if self.wildcards.is_empty() {
            return None;
        }
        host.match_indices('.')
            .filter(|(dot, _)| *dot > 0)
            .filter_map(|(dot, _)| self.wildcards.find(host.get(dot + 1..)?))
            .find_map(|paths| paths.find(&self.routes, view))
    }
}

impl Paths {
    fn add(&mut self, path: &PathMatch, position: usize) {
        let positions = match path {
            PathMatch::Exact(exact) => self.exact.or_insert_with(exact, Vec::new),
            PathMatch::Pattern(_) => Some(&mut self.patterns),
            PathMatch::Prefix(prefix) if prefix == "/" => Some(&mut self.root),
            PathMatch::Prefix(prefix) => {
                self.depth = self.depth.max(prefix.matches('/').count());
                self.prefixes.or_insert_with(prefix, Vec::new)
            }
        };
        positions
            .into_iter()
            .for_each(|positions| positions.push(position));
    }

    fn find<'a>(&self, routes: &'a [Route], view: &RequestView<'_>) -> Option<&'a Route> {
        let exact = self.exact.find(view.path).and_then(|at| first(routes, at, view));
        exact
            .or_else(|| self.by_pattern(routes, view))
            .or_else(|| self.by_prefix(routes, view))
            // What is no path, as the `*` of OPTIONS, lies below no prefix.
            .or_else(|| first(routes, &self.root, view).filter(|_| view.path.starts_with('/')))
    }

    fn by_pattern<'a>(&self, routes: &'a [Route], view: &RequestView<'_>) -> Option<&'a Route> {
        let mut candidates = self.patterns.iter().filter_map(|at| routes.get(*at));
        // The pattern last: it costs most.
        candidates.find(|route| match &route.matches.path {
            PathMatch::Pattern(pattern) => {
                route.matches.lacks_beside(view).is_none() && pattern.fits(view.path.as_bytes())
            }
            PathMatch::Exact(_) | PathMatch::Prefix(_) => false,
        })
    }

    fn by_prefix<'a>(&self, routes: &'a [Route], view: &RequestView<'_>) -> Option<&'a Route> {
        if self.prefixes.is_empty() {
            return None;
        }
        // Over bytes: searching for characters costs several times as much.
        let bytes = view.path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        // A prefix of `depth` segments ends before the slash after them.
        let mut slashes = slashes.map(|(at, _)| at);
        let mut end = slashes.nth(self.depth).unwrap_or(bytes.len());
        while end > 0 {
            let found = self.prefixes.find(view.path.get(..end)?);
            if let Some(route) = found.and_then(|at| first(routes, at, view)) {
                return Some(route);
            }
            end = bytes.get(..end)?.iter().rposition(|byte| *byte == b'/')?;
        }
        None
    }
}

/// The first of some routes whose other conditions hold.
fn first<'a>(routes: &'a [Route], positions: &[usize], view: &RequestView<'_>) -> Option<&'a Route> {
    positions
        .iter()
        .filter_map(|at| routes.get(*at))
        .find(|route| route.matches.is_plain() || route.matches.lacks_beside(view).is_none())
}

/// A host as routes have it: in lower case, without port, without a dot at its end. Empty where it is too long for any.
pub fn plain_host(host: &str) -> ArrayString<HOST_BYTES_MAX> {
    let name = without_port(host);
    let mut plain = ArrayString::from(name.strip_suffix('.').unwrap_or(name)).unwrap_or_default();
    plain.make_ascii_lowercase();
    plain
}

/// `example.com:80` and `[::1]:80` without their ports.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests;
