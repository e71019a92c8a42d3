//! From a request's host and path to its route.
//!
//! The most specific route wins, whatever the order of the file: a named host before any host, then the longest path
//! prefix. A prefix matches whole segments, so that `/shop` never swallows `/shopping`. The table is sorted once, when it
//! is built; a listener has few routes, and walking a short sorted list beats hashing.

use crate::config::{Listener, Route};

/// The routes of one listener, most specific first.
#[derive(Clone, Debug)]
pub struct Router {
    routes: Vec<Route>,
}

impl Router {
    /// Sorts a listener's routes by how specific they are.
    pub fn new(listener: &Listener) -> Self {
        let mut routes = listener.routes.clone();
        // Stable, so that equally specific routes keep the order of the file.
        routes.sort_by_key(|r| (r.host.is_none(), usize::MAX - r.path_prefix.len()));
        Self { routes }
    }

    /// The route of a request, if any matches. `host` may carry a port and any letter case; `path` starts with a slash.
    pub fn route(&self, host: &str, path: &str) -> Option<&Route> {
        let host = without_port(host);
        self.routes
            .iter()
            .find(|r| host_matches(r, host) && path_matches(&r.path_prefix, path))
    }
}

fn host_matches(route: &Route, host: &str) -> bool {
    route.host.as_deref().is_none_or(|h| h.eq_ignore_ascii_case(host))
}

fn path_matches(prefix: &str, path: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

/// `example.com:80` and `[::1]:80` without their ports.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn router(routes: &[(Option<&str>, &str)]) -> Router {
        let routes = routes
            .iter()
            .enumerate()
            .map(|(cluster, (host, prefix))| Route {
                host: host.map(str::to_owned),
                path_prefix: (*prefix).to_owned(),
                cluster,
                timeout: Duration::from_secs(15),
                idempotent: false,
            })
            .collect();
        Router::new(&Listener {
            name: "web".parse().unwrap(),
            address: "127.0.0.1:0".parse().unwrap(),
            routes,
            idle_timeout: Duration::from_secs(60),
            limits: crate::framing::Limits::default(),
        })
    }

    fn cluster(router: &Router, host: &str, path: &str) -> Option<usize> {
        router.route(host, path).map(|r| r.cluster)
    }

    #[test]
    fn the_longest_prefix_wins_in_any_order() {
        let r = router(&[(None, "/"), (None, "/a"), (None, "/a/b")]);
        assert_eq!(cluster(&r, "x", "/a/b/c"), Some(2));
        assert_eq!(cluster(&r, "x", "/a/x"), Some(1));
        assert_eq!(cluster(&r, "x", "/a?b=/a/b"), Some(1));
        assert_eq!(cluster(&r, "x", "/"), Some(0));
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
        let r = router(&[(None, "/shop"), (None, "/b/")]);
        assert_eq!(cluster(&r, "x", "/shop"), Some(0));
        assert_eq!(cluster(&r, "x", "/shop/1"), Some(0));
        assert_eq!(cluster(&r, "x", "/shopping"), None);
        assert_eq!(cluster(&r, "x", "/b"), Some(1));
    }

    #[test]
    fn a_named_host_wins_over_any_host_and_ignores_port_and_case() {
        let r = router(&[(None, "/long/prefix"), (Some("shop.example"), "/")]);
        assert_eq!(cluster(&r, "SHOP.example:8080", "/long/prefix"), Some(1));
        assert_eq!(cluster(&r, "other", "/long/prefix"), Some(0));
        assert_eq!(cluster(&r, "other", "/"), None);
    }

    #[test]
    fn ports_are_told_from_ipv6_addresses() {
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
        assert_eq!(without_port("a:80"), "a");
        assert_eq!(without_port("a"), "a");
    }
}
