//! `foreshade-proxy explain`: which route a request would take, why that one, and what would become of it.
//!
//! Asked of a configuration and not of a running proxy, so it can stand in a review and in a pipeline. It goes through the
//! same steps as a request (`path`, `client`, `route`, `cohort`, `rewrite`) and not through a second idea of them. What
//! only a running proxy knows is left out: every cluster counts as able to serve. What a running proxy decided about its
//! endpoints is at `/v1/explain` of the admin interface.

mod carried;

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use self::carried::Carried;
use crate::client::{Client, Peer};
use crate::cohort;
use crate::config::{Cluster, CohortKey, Config, Listener, Protocol, Transport};
use crate::edit::{Facts, HeaderEdits};
use crate::path::normal;
use crate::policy::{Denial, compress};
use crate::request::RequestView;
use crate::route::answer::Answer;
use crate::route::split::Split;
use crate::route::{Action, Route, Router, plain_host};
use crate::tls::Agreed;

/// Runners-up that are shown: those that match too, and were not specific enough.
const RUNNERS_UP_MAX: usize = 10;

/// A request to explain.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its URL. The port chooses the listener, where there are several.
    pub url: String,
    /// Its method.
    pub method: String,
    /// Its headers, as `Name: value`.
    pub headers: Vec<String>,
    /// Who holds the connection.
    pub client: IpAddr,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoAnswer {
    /// The URL is none.
    #[error(
        "{0:?} is no URL: write it as http://shop.example/path?query, tcp://:5432, udp://:53 or tls://shop.example"
    )]
    Url(String),
    /// A header is none.
    #[error("{0:?} is no header: write it as 'Name: value'")]
    Header(String),
}

/// What would become of the request.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The listener that was asked.
    pub listener: String,
    /// The path in its normal form.
    pub path: Option<String>,
    /// Why the path is refused.
    pub refused: Option<&'static str>,
    /// The user's address, as the listener resolves it.
    pub client: Option<IpAddr>,
    /// The route that wins.
    pub route: Option<Chosen>,
    /// Others that match, the most specific first.
    pub runners_up: Vec<RunnerUp>,
    /// What policies ask of it, a line each.
    pub policies: Vec<String>,
    /// What it becomes.
    pub outcome: Option<Outcome>,
    /// Where its connection goes, of a listener that reads no requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
}

/// The route that wins.
#[derive(Debug, Serialize)]
pub struct Chosen {
    /// Its name, or its place.
    pub name: String,
    /// Line of the file where it begins.
    pub line: usize,
}

/// A route that matches, too.
#[derive(Debug, Serialize)]
pub struct RunnerUp {
    /// Its name, or its place.
    pub name: String,
    /// Line of the file where it begins.
    pub line: usize,
    /// The rung at which it loses: a condition in which the winner is more specific, or the order of the file.
    pub loses_by: &'static str,
}

/// What becomes of the request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A cluster serves it.
    Forward {
        /// The user's cluster.
        cluster: String,
        /// All clusters of the route with their weights.
        clusters: Vec<(String, f64)>,
        /// What the endpoint is asked for.
        target: String,
        /// The `Host` that it is asked with.
        host: String,
        /// The user's hash, which decides when he changes sides; hexadecimal.
        cohort: String,
        /// What the user was recognised by.
        recognised_by: String,
        /// The segment that he belongs to.
        segment: Option<String>,
        /// What is changed in the request's headers.
        request_headers: Vec<String>,
        /// What is changed in the answer's headers.
        response_headers: Vec<String>,
    },
    /// It is answered by the proxy.
    Answer {
        /// The status.
        status: u16,
        /// `Location`, of a redirect.
        location: Option<String>,
        /// The body.
        body: String,
    },
    /// The rewrite makes no path of it: 400.
    NoPath,
    /// A policy refuses it.
    Refused {
        /// The status.
        status: u16,
        /// Why, as metrics and the access log have it.
        reason: &'static str,
    },
}

/// Explains a request.
///
/// # Errors
/// Where the question is none.
pub fn explain(config: &Config, question: &Question) -> Result<Explanation, NoAnswer> {
    let no_url = || NoAnswer::Url(question.url.clone());
    let (rest, scheme) = match question.url.split_once("://") {
        Some((scheme @ ("http" | "https" | "tcp" | "tls" | "udp"), rest)) => (rest, scheme),
        Some(_) => return Err(no_url()),
        None => (question.url.as_str(), "http"),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    // A port alone is enough for who asks for no name.
    let is_port = authority
        .strip_prefix(':')
        .is_some_and(|port| port.parse::<u16>().is_ok());
    if !authority.is_empty() && !is_port && authority.parse::<http::uri::Authority>().is_err() {
        return Err(no_url());
    }
    let listener = listener(config, authority, scheme).ok_or_else(no_url)?;
    if !listener.is_http() {
        return Ok(carried::through(config, listener, question, authority));
    }
    let mut headers = parsed_headers(&question.headers)?;
    if let Ok(host) = HeaderValue::from_str(authority)
        && !headers.contains_key(http::header::HOST)
    {
        headers.insert(http::header::HOST, host);
    }
    Ok(through(config, listener, question, (path, query), &headers))
}

/// The listener whose port the URL names; the first one that speaks its scheme where it names none, or one that nobody
/// listens on.
fn listener<'a>(config: &'a Config, authority: &str, scheme: &str) -> Option<&'a Listener> {
    let default = if matches!(scheme, "https" | "tls") {
        443
    } else {
        80
    };
    let written = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port = written.unwrap_or(default);
    let listeners = config.listeners.iter();
    // One port may be two listeners': of connections, and of datagrams.
    let takes = |l: &&Listener| (l.transport() == Transport::Udp) == (scheme == "udp");
    let at_port = listeners.clone().filter(|l| l.address.port() == port);
    let named = at_port.clone().find(takes).or_else(|| at_port.clone().next());
    let speaks = |l: &&Listener| {
        matches!(
            (&l.protocol, scheme),
            (Protocol::Http, "http" | "https")
                | (Protocol::Tcp { .. }, "tcp")
                | (Protocol::TlsPassthrough(_), "tls")
                | (Protocol::Udp { .. }, "udp")
        )
    };
    named
        .or_else(|| listeners.clone().find(speaks))
        .or_else(|| config.listeners.first())
}

fn parsed_headers(lines: &[String]) -> Result<HeaderMap, NoAnswer> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            let value: HeaderValue = value.trim().parse().ok()?;
            Some((name, value))
        });
        let (name, value) = parsed.ok_or_else(|| NoAnswer::Header(line.clone()))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Sends the request through the steps.
fn through(
    config: &Config,
    listener: &Listener,
    question: &Question,
    (path, query): (&str, Option<&str>),
    headers: &HeaderMap,
) -> Explanation {
    let agreed = listener.tls.as_ref().map(|_| Agreed::anonymous());
    let peer = Peer {
        address: Some(question.client),
        tls: agreed.as_ref(),
    };
    let client = Client::behind(&listener.trust, peer, headers);
    let mut explanation = Explanation {
        listener: listener.name.to_string(),
        path: None,
        refused: None,
        client: client.address,
        route: None,
        runners_up: Vec::new(),
        policies: Vec::new(),
        outcome: None,
        carried: None,
    };
    let path = match normal(path.as_bytes(), listener.path) {
        Ok(normal) => normal.unwrap_or_else(|| path.to_owned()),
        Err(why) => {
            explanation.refused = Some(why.label());
            return explanation;
        }
    };
    let host = headers.get(http::header::HOST).and_then(|h| h.to_str().ok());
    let view = RequestView {
        host: host.unwrap_or_default(),
        path: &path,
        query,
        scheme: client.scheme(),
        client: client.address,
        ..RequestView::of(&question.method, headers)
    };
    let router = Router::new(&listener.routes);
    let route = router.route(&view);
    let mut policies = listener
        .policy
        .iter()
        .chain(route.and_then(|route| route.policy.as_ref()));
    explanation.policies = policies.clone().flat_map(|policy| policy.in_words()).collect();
    let of_route = route.and_then(|route| route.policy.as_deref());
    let compresses = compress::rule(listener.policy.as_deref(), of_route);
    explanation
        .policies
        .extend(compresses.map(|rule| rule.in_words()));
    let denied = policies.find_map(|policy| policy.denies(&view));
    if let Some(route) = route {
        explanation.route = Some(Chosen {
            name: route.called(),
            line: route.line,
        });
        explanation.runners_up = runners_up(&router, route, &view);
        explanation.outcome = outcome(config, route, &view);
        explanation
            .policies
            .extend(at_its_cluster(config, explanation.outcome.as_ref()));
    }
    if let Some(Denial { reason, .. }) = denied {
        explanation.outcome = Some(Outcome::Refused {
            status: reason.status(),
            reason: reason.label(),
        });
    }
    explanation.path = Some(path);
    explanation
}

/// What is asked at the gate of the cluster that the request goes to.
fn at_its_cluster(config: &Config, outcome: Option<&Outcome>) -> Vec<String> {
    let Some(Outcome::Forward { cluster: name, .. }) = outcome else {
        return Vec::new();
    };
    let mut clusters = config.clusters.iter();
    let Some(cluster) = clusters.find(|cluster| cluster.name.as_str() == name) else {
        return Vec::new();
    };
    let gate = cluster.gate.as_ref().map(|gate| gate.in_words());
    let sticky = cluster.sticky.as_ref().map(|sticky| sticky.in_words());
    let all = gate.into_iter().chain(sticky);
    all.map(|words| format!("of the cluster {name}: {words}"))
        .collect()
}

fn runners_up(router: &Router, winner: &Route, view: &RequestView<'_>) -> Vec<RunnerUp> {
    let (host, rank) = (plain_host(view.host), winner.matches.rank());
    let others = router.routes().iter().filter(|route| route.line != winner.line);
    others
        .filter(|route| route.matches.lacks(&host, view).is_none())
        .take(RUNNERS_UP_MAX)
        .map(|route| RunnerUp {
            name: route.called(),
            line: route.line,
            loses_by: rank
                .differs(&route.matches.rank())
                .map_or("order", |condition| condition.label()),
        })
        .collect()
}

fn outcome(config: &Config, route: &Route, view: &RequestView<'_>) -> Option<Outcome> {
    match &route.action {
        Action::Forward(split) => forward(config, route, split, view),
        Action::Redirect(_) | Action::Respond(_) => {
            let answer = Answer::of(route, view);
            let location = answer.headers.get(http::header::LOCATION);
            Some(Outcome::Answer {
                status: answer.status,
                location: location.and_then(|l| l.to_str().ok()).map(str::to_owned),
                body: String::from_utf8_lossy(&answer.body).into_owned(),
            })
        }
    }
}

fn forward(config: &Config, route: &Route, split: &Split, view: &RequestView<'_>) -> Option<Outcome> {
    let first = config.clusters.get(split.recognises())?;
    let recognised = cohort::request(view, route, first);
    let cluster = config.clusters.get(split.choose(recognised.cohort, |_| true))?;
    let request = cohort::request(view, route, cluster);
    let edits = route.edits.as_deref().cloned().unwrap_or_default();
    let path = match edits
        .rewrite
        .path
        .as_ref()
        .map(|rewrite| rewrite.apply(view.path))
    {
        Some(Err(_)) => return Some(Outcome::NoPath),
        Some(Ok(Some(path))) => path,
        Some(Ok(None)) | None => view.path.to_owned(),
    };
    let facts = Facts {
        route: &edits.route,
        cluster: cluster.name.as_str(),
        ..Facts::of(view)
    };
    let weighed = split.choices().filter_map(|choice| {
        let cluster = config.clusters.get(choice.cluster)?;
        Some((cluster.name.to_string(), choice.weight))
    });
    let segment = request.segment.and_then(|at| cluster.segments.get(at));
    Some(Outcome::Forward {
        cluster: cluster.name.to_string(),
        clusters: weighed.collect(),
        target: view.query.map_or(path.clone(), |query| format!("{path}?{query}")),
        host: edits.rewrite.host.clone().unwrap_or_else(|| view.host.to_owned()),
        cohort: format!("{:016x}", request.cohort.hash()),
        recognised_by: recognised_by(cluster, view),
        segment: segment.map(|segment| segment.name.to_string()),
        request_headers: in_words(&edits.request, &facts),
        response_headers: in_words(&edits.response, &facts),
    })
}

fn recognised_by(cluster: &Cluster, view: &RequestView<'_>) -> String {
    match &cluster.cohort {
        CohortKey::Header(name) if view.header(name).is_some() => format!("header {name}"),
        CohortKey::Cookie(name) if view.cookie(name).is_some() => format!("cookie {name}"),
        CohortKey::Header(_) | CohortKey::Cookie(_) | CohortKey::ClientAddress => "client address".to_owned(),
    }
}

fn in_words(edits: &HeaderEdits, facts: &Facts<'_>) -> Vec<String> {
    let remove = edits.remove.iter().map(|name| format!("remove {name}"));
    let set = edits
        .set
        .iter()
        .map(|(name, t)| format!("set {name}: {}", t.text(facts)));
    let add = edits
        .add
        .iter()
        .map(|(name, t)| format!("add {name}: {}", t.text(facts)));
    remove.chain(set).chain(add).collect()
}

impl Explanation {
    /// Whether a route takes the request, or a cluster its connection.
    pub fn is_routed(&self) -> bool {
        self.route.is_some() || self.carried.as_ref().is_some_and(Carried::is_served)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listener   {}", self.listener)?;
        if let Some(client) = self.client {
            writeln!(f, "client     {client}")?;
        }
        if let Some(carried) = &self.carried {
            return write!(f, "{carried}");
        }
        if let Some(why) = self.refused {
            return write!(f, "refused    400, {why}");
        }
        writeln!(f, "path       {}", self.path.as_deref().unwrap_or_default())?;
        match &self.route {
            Some(route) => write!(f, "route      {} (line {})", route.name, route.line)?,
            None => write!(f, "route      none: 404")?,
        }
        for other in &self.runners_up {
            let RunnerUp { name, line, loses_by } = other;
            write!(f, "\n  before   {name} (line {line}), by {loses_by}")?;
        }
        for policy in &self.policies {
            write!(f, "\npolicy     {policy}")?;
        }
        match &self.outcome {
            Some(outcome) => write!(f, "\n{outcome}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPath => write!(f, "refused    400, the rewrite makes no path of it"),
            Self::Refused { status, reason } => write!(f, "refused    {status}, {reason}"),
            Self::Answer {
                status,
                location,
                body,
            } => {
                write!(f, "answer     {status}")?;
                if let Some(location) = location {
                    write!(f, "\nlocation   {location}")?;
                }
                body.trim_end()
                    .lines()
                    .try_for_each(|line| write!(f, "\n  body     {line}"))
            }
            Self::Forward {
                cluster,
                clusters,
                target,
                host,
                cohort,
                recognised_by,
                segment,
                request_headers,
                response_headers,
            } => {
                write!(f, "cluster    {cluster}")?;
                let total: f64 = clusters.iter().map(|(_, weight)| weight).sum();
                for (name, weight) in clusters.iter().filter(|_| clusters.len() > 1) {
                    write!(f, "\n  among    {name} with {:.1}%", 100.0 * weight / total)?;
                }
                write!(f, "\ncohort     {cohort}, by {recognised_by}")?;
                write!(
                    f,
                    "\nsegment    {}",
                    segment.as_deref().unwrap_or("none: moves last")
                )?;
                write!(f, "\nasks for   {target}\nhost       {host}")?;
                for (message, edits) in [("request", request_headers), ("answer", response_headers)] {
                    edits
                        .iter()
                        .try_for_each(|edit| write!(f, "\n{message:10} {edit}"))?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
