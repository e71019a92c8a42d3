//! Requests that are answered here: redirects, and short bodies.
//!
//! A redirect that changes neither scheme nor host nor port names none of them: its `Location` is a path, which is right
//! behind any number of proxies that end TLS. Such a path must never begin with two slashes, or with a slash and a
//! backslash: a browser takes what follows for a host, and the redirect for an invitation.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};

use super::rule::{Action, Route};
use crate::edit::Facts;
use crate::policy::pages::Shown;
use crate::request::RequestView;
use crate::rewrite::with_prefix;

/// Longest body of an answer, in bytes: a sentence or a page for people, not a file server.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// The client is sent elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The scheme, where it changes.
    pub scheme: Option<Scheme>,
    /// The host, where it changes.
    pub host: Option<String>,
    /// The port, where it changes.
    pub port: Option<u16>,
    /// The path, where it changes.
    pub path: Option<NewPath>,
}

/// Schemes that a client may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

impl Scheme {
    /// As it is written.
    pub fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Where a redirect leads within the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewPath {
    /// To this path; with its query, if it has one, else with the request's.
    Whole(String),
    /// To the same path with another beginning.
    Prefix {
        /// The prefix that the route matched.
        from: String,
        /// What stands there instead.
        to: String,
    },
}

/// It is answered here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// The body; may be empty.
    pub body: String,
    /// Its media type.
    pub content_type: String,
}

/// An answer that is ready to be sent.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, without those that frame it.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Why it was given, for the counters.
    pub reason: &'static str,
    /// Whether it refuses the request, by a policy and not by its route.
    pub refused: bool,
    /// What people see of it instead of its body.
    pub page: Option<Shown>,
}

impl Answer {
    /// What a route answers without an endpoint. A route to clusters answers nothing, and is not asked.
    pub fn of(route: &Route, view: &RequestView<'_>) -> Self {
        let (status, headers, body, reason) = match &route.action {
            Action::Respond(respond) => {
                let mut headers = HeaderMap::new();
                if let Ok(value) = HeaderValue::from_str(&respond.content_type) {
                    headers.insert(CONTENT_TYPE, value);
                }
                (
                    respond.status,
                    headers,
                    Bytes::from(respond.body.clone()),
                    "respond",
                )
            }
            Action::Redirect(redirect) => {
                let value = redirect.location(view).map(HeaderValue::try_from);
                match value {
                    Some(Ok(value)) => {
                        let headers = HeaderMap::from_iter([(LOCATION, value)]);
                        (redirect.status, headers, Bytes::new(), "redirect")
                    }
                    _ => return Self::refusal("redirect_host"),
                }
            }
            Action::Forward(_) => return Self::refusal("redirect_host"),
        };
        let mut answer = Self {
            status,
            headers,
            body,
            reason,
            refused: false,
            page: None,
        };
        if let Some(edits) = &route.edits {
            let facts = Facts {
                route: &edits.route,
                ..Facts::of(view)
            };
            edits.response.apply(&mut answer.headers, &facts);
        }
        answer
    }

    /// The request cannot be answered as its route says.
    fn refusal(reason: &'static str) -> Self {
        Self {
            status: 400,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"foreshade: the request breaks the rules of HTTP\n"),
            reason,
            refused: false,
            page: None,
        }
    }

    /// The same, as people see it.
    #[must_use]
    pub fn shown(mut self) -> Self {
        if let Some(page) = self.page.take() {
            self.headers.insert(CONTENT_TYPE, page.content_type);
            self.body = page.body;
        }
        self
    }
}

impl Redirect {
    /// The value of `Location`. `None` where a host is needed and the request has none that can be repeated.
    pub fn location(&self, view: &RequestView<'_>) -> Option<String> {
        let path = match &self.path {
            // The asterisk of OPTIONS leads nowhere else: behind another host it would be a part of that host.
            None if !view.path.starts_with('/') => "/".to_owned(),
            None => view.path.to_owned(),
            Some(NewPath::Whole(path)) => path.clone(),
            Some(NewPath::Prefix { from, to }) => with_prefix(view.path, from, to)?,
        };
        let mut location = self.origin(view)?;
        if location.is_empty() {
            location.push('/');
            location.push_str(path.trim_start_matches(['/', '\\']));
        } else {
            location.push_str(&path);
        }
        if let Some(query) = view.query.filter(|_| !path.contains('?')) {
            location.push('?');
            location.push_str(query);
        }
        Some(location)
    }

    /// Scheme, host and port; empty where all stay what they are.
    fn origin(&self, view: &RequestView<'_>) -> Option<String> {
        if self.scheme.is_none() && self.host.is_none() && self.port.is_none() {
            return Some(String::new());
        }
        let scheme = self.scheme.map_or(view.scheme, Scheme::label);
        let host = match &self.host {
            Some(host) => host.as_str(),
            None => Some(super::without_port(view.host)).filter(|host| is_plain_host(host))?,
        };
        Some(match self.port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        })
    }
}

/// Whether a host of a request can be repeated in a URL: names and addresses, nothing that ends a host or starts a path.
fn is_plain_host(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inside {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    const HERE: Redirect = Redirect {
        status: 307,
        scheme: None,
        host: None,
        port: None,
        path: None,
    };

    fn location(redirect: &Redirect, host: &str, path: &str, query: Option<&str>) -> Option<String> {
        let headers = HeaderMap::new();
        redirect.location(&RequestView {
            host,
            path,
            query,
            ..RequestView::of("GET", &headers)
        })
    }

    #[test]
    fn a_redirect_changes_what_it_says_and_keeps_the_rest() {
        let prefix = |to: &str| {
            Some(NewPath::Prefix {
                from: "/old".to_owned(),
                to: to.to_owned(),
            })
        };
        let whole = |path: &str| Some(NewPath::Whole(path.to_owned()));
        let (to_https, elsewhere) = (Some(Scheme::Https), Some("b.example".to_owned()));
        for (redirect, expected) in [
            (
                Redirect {
                    scheme: to_https,
                    ..HERE
                },
                "https://a.example/old/x?q=1",
            ),
            (
                Redirect {
                    host: elsewhere,
                    ..HERE
                },
                "http://b.example/old/x?q=1",
            ),
            (
                Redirect {
                    port: Some(8443),
                    scheme: to_https,
                    ..HERE
                },
                "https://a.example:8443/old/x?q=1",
            ),
            (
                Redirect {
                    path: whole("/new"),
                    ..HERE
                },
                "/new?q=1",
            ),
            (
                Redirect {
                    path: whole("/new?r=2"),
                    ..HERE
                },
                "/new?r=2",
            ),
            (
                Redirect {
                    path: prefix("/new"),
                    ..HERE
                },
                "/new/x?q=1",
            ),
            (
                Redirect {
                    path: prefix("/"),
                    ..HERE
                },
                "/x?q=1",
            ),
        ] {
            assert_eq!(
                location(&redirect, "a.example:80", "/old/x", Some("q=1")).as_deref(),
                Some(expected)
            );
        }
    }

    #[test]
    fn a_path_never_becomes_a_host() {
        let redirect = Redirect {
            path: Some(NewPath::Prefix {
                from: "/old".to_owned(),
                to: "/".to_owned(),
            }),
            ..HERE
        };
        for path in ["/old//evil.example", "/old///evil.example", "/old/\\evil.example"] {
            let location = location(&redirect, "a.example", path, None).unwrap();
            assert!(location.starts_with("/e"), "{location}");
        }
    }

    #[test]
    fn what_is_no_path_never_becomes_a_part_of_a_host() {
        let elsewhere = Redirect {
            host: Some("b.example".to_owned()),
            ..HERE
        };
        let found = location(&elsewhere, "a.example", "*", None);
        assert_eq!(found.as_deref(), Some("http://b.example/"));
    }

    #[test]
    fn a_host_that_ends_early_is_not_repeated() {
        let redirect = Redirect {
            scheme: Some(Scheme::Https),
            ..HERE
        };
        for host in ["", "a/b", "a@b", "a b", "a?b", "a#b", "[::1", "[a]", "a\\b"] {
            assert_eq!(location(&redirect, host, "/", None), None, "{host}");
        }
        assert_eq!(
            location(&redirect, "[::1]:80", "/", None).as_deref(),
            Some("https://[::1]/")
        );
    }
}
