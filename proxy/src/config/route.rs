//! A route, checked: its clusters exist, its patterns compile, its edits have an effect and do no harm.

use std::collections::HashMap;
use std::sync::Arc;

use foreshade_settings::{At, List, Mistake, Mistakes, Names, Place, Reference, quoted};

use super::edits::header_edits;
use super::mirror::{Clusters, mirror};
use super::policy::{self, policy};
use super::raw;
use super::text::route::{Prefix, Text, Written};
use crate::edit::{Edits, HeaderEdits};
use crate::mirror::Rule;
use crate::rewrite::{PathRewrite, Rewrite};
use crate::route::answer::{BODY_BYTES_MAX, NewPath, Redirect, Respond};
use crate::route::pattern::Pattern;
use crate::route::split::{CLUSTERS_MAX, Choice, Split};
use crate::route::{Action, HeaderMatch, HostMatch, Match, PathMatch, QueryMatch, Route, Wanted};

/// Checks the routes of a listener. `None` where one of them is wrong, and reported.
pub(super) fn routes(
    raw: List<At<raw::Route>, 1>,
    clusters: &Clusters<'_>,
    mistakes: &mut Mistakes,
) -> Option<Vec<Route>> {
    Names::collect(
        "route",
        raw.items.iter().map(|route| route.value.name.as_ref()),
        raw.whole,
        mistakes,
    );
    // By what a match is as text: its patterns make it no key of its own.
    let mut lines: HashMap<String, usize> = HashMap::new();
    let mut routes = Vec::new();
    for item in raw.items {
        let place = item.place();
        let route = route(item, raw.sound, clusters, mistakes);
        if let Some(route) = &route
            && let Some(first) = lines.insert(format!("{:?}", route.matches), route.line)
        {
            let what = format!("a route for {} exists already", described(&route.matches));
            mistakes.add(
                Mistake::at(place, what)
                    .expected("a match that no other route of the listener has")
                    .hint(format!(
                        "the first one is in line {first}; this one would never be used"
                    )),
            );
        }
        routes.push(route);
    }
    routes.into_iter().collect()
}

fn route(
    raw: At<raw::Route>,
    sound: bool,
    clusters: &Clusters<'_>,
    mistakes: &mut Mistakes,
) -> Option<Route> {
    let place = raw.place();
    let mut raw = raw.value;
    let sending = said_of_sending(&raw);
    let cors = raw.cors.as_ref().and_then(At::place);
    let policy = policy(policy::Written::of_route(&mut raw), clusters.world, mistakes);
    let given = Given {
        sound,
        cluster: raw.cluster,
        clusters: raw.clusters,
        redirect: raw.redirect,
        respond: raw.respond,
    };
    let matches = matches(raw.matches, mistakes);
    policy::check_preflights(cors, matches.as_ref(), mistakes);
    let matched = match matches.as_ref().map(|m| &m.path) {
        Some(PathMatch::Prefix(prefix)) => Matched::Prefix(prefix.clone()),
        Some(PathMatch::Exact(_) | PathMatch::Pattern(_)) => Matched::NoPrefix,
        None => Matched::Unclear,
    };
    if !given.is_one(place, mistakes) {
        return None;
    }
    given.check_effect(&sending, mistakes);
    let action = given.action(&matched, clusters.names, mistakes);
    let mirror = raw
        .mirror
        .map(|raw| mirror(raw.value, action.as_ref(), clusters, mistakes))
        .map(|mirror| Some(Arc::new(Rule::new(mirror?))));
    let rewrite = match raw.rewrite {
        Some(raw) => rewrite(raw, &matched, sound, mistakes),
        None => Some(Rewrite::default()),
    };
    let request = match raw.request_headers {
        Some(raw) => header_edits(raw.value, mistakes),
        None => Some(HeaderEdits::default()),
    };
    let response = header_edits(raw.response_headers, mistakes);

    let mut route = Route {
        name: raw.name.map(|name| name.value),
        line: place.map_or(0, |place| place.line),
        matches: matches?,
        action: action?,
        edits: None,
        timeout: raw.timeout.value.0,
        attempts_max: raw.attempts.value.0,
        retry_on: raw
            .retry_on
            .items
            .iter()
            .filter_map(|status| u16::try_from(status.0).ok())
            .collect(),
        idempotent: raw.idempotent.value,
        mirror: match mirror {
            Some(mirror) => Some(mirror?),
            None => None,
        },
        policy: policy?,
        server_timing: raw.server_timing.value,
    };
    let edits = Edits {
        rewrite: rewrite?,
        request: request?,
        response: response?,
        route: String::new(),
    };
    if edits != Edits::default() {
        let name = route.called();
        route.edits = Some(Arc::new(Edits { route: name, ..edits }));
    }
    Some(route)
}

/// What is said about how a request is sent, each with its place where it is written.
fn said_of_sending(raw: &raw::Route) -> [(&'static str, Option<Place>); 10] {
    [
        ("rewrite", raw.rewrite.as_ref().and_then(At::place)),
        ("requestHeaders", raw.request_headers.as_ref().and_then(At::place)),
        ("timeout", raw.timeout.place()),
        ("attempts", raw.attempts.place()),
        ("idempotent", raw.idempotent.place()),
        ("mirror", raw.mirror.as_ref().and_then(At::place)),
        ("concurrency", raw.concurrency.as_ref().and_then(At::place)),
        ("priority", raw.priority.place()),
        ("compression", raw.compression.as_ref().and_then(At::place)),
        ("serverTiming", raw.server_timing.place()),
    ]
}

/// What the route's path leaves to be replaced.
enum Matched {
    Prefix(String),
    NoPrefix,
    /// The match is wrong, and reported.
    Unclear,
}

impl Matched {
    /// The prefix in whose place something is to stand.
    fn replaced_by(&self, to: &At<Prefix>, mistakes: &mut Mistakes) -> Option<String> {
        match self {
            Self::Prefix(prefix) => Some(prefix.clone()),
            Self::NoPrefix => {
                let what = "prefix: the route matches no prefix that it could replace";
                let expected = "a route with match: { path: { prefix: ... } }, or another key";
                mistakes.add(Mistake::at(to.place(), what).expected(expected));
                None
            }
            Self::Unclear => None,
        }
    }
}

/// What becomes of the requests, as it was written.
struct Given {
    /// Whether all routes of the listener could be read: else what seems to be missing may only be misspelt.
    sound: bool,
    cluster: Option<At<Reference>>,
    clusters: Option<At<List<At<raw::ClusterPart>, 1>>>,
    redirect: Option<At<raw::Redirect>>,
    respond: Option<At<raw::Respond>>,
}

impl Given {
    /// Whether exactly one of them is.
    fn is_one(&self, route: Option<Place>, mistakes: &mut Mistakes) -> bool {
        let expected = "one of cluster, clusters, redirect and respond";
        let given = [
            self.cluster.as_ref().map(|given| ("cluster", given.place())),
            self.clusters.as_ref().map(|given| ("clusters", given.place())),
            self.redirect.as_ref().map(|given| ("redirect", given.place())),
            self.respond.as_ref().map(|given| ("respond", given.place())),
        ];
        let mut given = given.into_iter().flatten();
        let Some((first, _)) = given.next() else {
            if self.sound {
                mistakes.add(Mistake::at(route, "the route leads nowhere").expected(expected));
            }
            return false;
        };
        let Some((second, at)) = given.next() else {
            return true;
        };
        let what = format!("a route does one thing, and this one has {first} and {second}");
        mistakes.add(Mistake::at(at, what).expected(expected));
        false
    }

    /// What is said about how a request is sent needs one that is sent. Takes the place of each key that is written.
    fn check_effect(&self, said: &[(&str, Option<Place>)], mistakes: &mut Mistakes) {
        if self.cluster.is_some() || self.clusters.is_some() {
            return;
        }
        for (key, place) in said.iter().filter(|(_, place)| place.is_some()) {
            let what = format!("{key} has no effect: nothing is sent to an endpoint");
            mistakes.add(Mistake::at(*place, what).expected("a route with cluster or clusters"));
        }
    }

    fn action(self, matched: &Matched, clusters: &Names, mistakes: &mut Mistakes) -> Option<Action> {
        if let Some(cluster) = &self.cluster {
            let cluster = clusters.find("cluster", Some(cluster), mistakes)?;
            Some(Action::Forward(Split::one(cluster)))
        } else if let Some(parts) = self.clusters {
            split(parts, clusters, mistakes).map(Action::Forward)
        } else if let Some(raw) = self.redirect {
            redirect(raw, matched, self.sound, mistakes).map(Action::Redirect)
        } else {
            respond(self.respond?.value, mistakes).map(Action::Respond)
        }
    }
}

fn matches(raw: raw::Match, mistakes: &mut Mistakes) -> Option<Match> {
    let host = match raw.host.map(|host| host.0) {
        None => HostMatch::Any,
        Some(host) => match host.strip_prefix("*.") {
            Some(domain) => HostMatch::Under(domain.to_owned()),
            None => HostMatch::Exact(host),
        },
    };
    let path = path(raw.path, mistakes);
    let headers: Option<Vec<_>> = each(raw.headers, |raw: raw::HeaderCondition| {
        let wanted = wanted(raw.exact, raw.prefix, raw.regex, mistakes);
        Some(HeaderMatch {
            name: raw.name?.0,
            wanted: wanted?,
            not: raw.not,
        })
    });
    let query: Option<Vec<_>> = each(raw.query, |raw: raw::QueryCondition| {
        let wanted = wanted(raw.exact, raw.prefix, raw.regex, mistakes);
        Some(QueryMatch {
            name: raw.name?.0,
            wanted: wanted?,
            not: raw.not,
        })
    });
    let mut matches = Match {
        host,
        path: path?,
        methods: raw.methods.items.into_iter().map(|method| method.0).collect(),
        headers: headers?,
        query: query?,
        source: raw.source.items.into_iter().map(|network| network.0).collect(),
    };
    // Two matches that differ in order only are one.
    matches.methods.sort();
    matches.methods.dedup();
    matches
        .headers
        .sort_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
    matches
        .query
        .sort_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
    matches.source.sort();
    matches.source.dedup();
    raw.methods.whole.then_some(())?;
    raw.source.whole.then_some(matches)
}

fn path(raw: raw::PathMatch, mistakes: &mut Mistakes) -> Option<PathMatch> {
    let places = [
        raw.prefix.place(),
        raw.exact.as_ref().and_then(At::place),
        raw.regex.as_ref().and_then(At::place),
    ];
    if !at_most_one(
        &places,
        "a path is matched in one way",
        "one of exact, prefix and regex",
        mistakes,
    ) {
        return None;
    }
    match (raw.exact, raw.regex) {
        (Some(exact), _) => Some(PathMatch::Exact(exact.value.0)),
        (None, Some(text)) => pattern(&text, "regex", mistakes).map(PathMatch::Pattern),
        (None, None) => Some(PathMatch::Prefix(raw.prefix.value.0)),
    }
}

fn wanted(
    exact: Option<At<Written>>,
    prefix: Option<At<Written>>,
    regex: Option<At<Text>>,
    mistakes: &mut Mistakes,
) -> Option<Wanted> {
    let places = [
        exact.as_ref().and_then(At::place),
        prefix.as_ref().and_then(At::place),
        regex.as_ref().and_then(At::place),
    ];
    let expected = "one of exact, prefix and regex, or none of them for any value";
    if !at_most_one(&places, "a value is compared in one way", expected, mistakes) {
        return None;
    }
    match (exact, prefix, regex) {
        (Some(exact), ..) => Some(Wanted::Exact(exact.value.0)),
        (None, Some(prefix), _) => Some(Wanted::Prefix(prefix.value.0)),
        (None, None, Some(text)) => pattern(&text, "regex", mistakes).map(Wanted::Pattern),
        (None, None, None) => Some(Wanted::Present),
    }
}

fn at_most_one(places: &[Option<Place>], what: &str, expected: &str, mistakes: &mut Mistakes) -> bool {
    let second = places.iter().flatten().nth(1);
    if let Some(second) = second {
        mistakes.add(Mistake::at(*second, what).expected(expected));
    }
    second.is_none()
}

fn pattern(text: &At<Text>, key: &str, mistakes: &mut Mistakes) -> Option<Pattern> {
    Pattern::new(&text.value.0)
        .inspect_err(|why| {
            let what = format!("{key}: {} {why}", quoted(&text.value.0));
            mistakes
                .add(Mistake::at(text.place(), what).expected("a regular expression without look-around"));
        })
        .ok()
}

fn split(
    parts: At<List<At<raw::ClusterPart>, 1>>,
    clusters: &Names,
    mistakes: &mut Mistakes,
) -> Option<Split> {
    let place = parts.place();
    let (parts, whole) = (parts.value.items, parts.value.whole);
    if parts.len() > CLUSTERS_MAX {
        let what = format!("clusters has {} entries", parts.len());
        mistakes.add(Mistake::at(place, what).expected(format!("at most {CLUSTERS_MAX}")));
        return None;
    }
    let mut choices: Vec<Choice> = Vec::new();
    let count = parts.len();
    for part in parts {
        let reference = part.value.cluster.as_ref();
        let Some(index) = clusters.find("cluster", reference, mistakes) else {
            continue;
        };
        let name = reference.map_or("", |reference| reference.value.0.as_str());
        if choices.iter().any(|choice| choice.cluster == index) {
            let what = format!("the cluster {} is among them already", quoted(name));
            mistakes
                .add(Mistake::at(part.place(), what).expected("each cluster once, with its whole weight"));
        }
        choices.push(Choice::new(index, name, part.value.weight.0));
    }
    (whole && choices.len() == count)
        .then(|| Split::weighted(choices))
        .flatten()
}

fn redirect(
    raw: At<raw::Redirect>,
    matched: &Matched,
    sound: bool,
    mistakes: &mut Mistakes,
) -> Option<Redirect> {
    let place = raw.place();
    let raw = raw.value;
    let status = u16::try_from(raw.status.value.0).ok()?;
    if !matches!(status, 301..=303 | 307 | 308) {
        let what = format!("status: {status} leads nowhere");
        mistakes.add(Mistake::at(raw.status.place(), what).expected("301, 302, 303, 307 or 308"));
    }
    let places = [
        raw.path.as_ref().and_then(At::place),
        raw.prefix.as_ref().and_then(At::place),
    ];
    at_most_one(
        &places,
        "a redirect changes the path in one way",
        "either path or prefix",
        mistakes,
    );
    let elsewhere = raw.scheme.is_some() || raw.host.is_some() || raw.port.is_some();
    // What was meant may be wrong already.
    if sound && !elsewhere && raw.path.is_none() && raw.prefix.is_none() {
        mistakes.add(
            Mistake::at(place, "the redirect leads to where it came from")
                .expected("scheme, host, port, path or prefix"),
        );
    }
    let path = match (raw.path, raw.prefix) {
        (Some(path), _) => Some(NewPath::Whole(path.value.0)),
        (None, Some(to)) => Some(NewPath::Prefix {
            from: matched.replaced_by(&to, mistakes)?,
            to: to.value.0,
        }),
        (None, None) => None,
    };
    Some(Redirect {
        status,
        scheme: raw.scheme,
        host: raw.host.map(|host| host.0),
        port: raw.port.and_then(|port| u16::try_from(port.0).ok()),
        path,
    })
}

fn respond(raw: raw::Respond, mistakes: &mut Mistakes) -> Option<Respond> {
    let length = raw.body.value.0.len();
    if length > BODY_BYTES_MAX {
        let what = format!("body has {length} bytes");
        mistakes.add(
            Mistake::at(raw.body.place(), what)
                .expected(format!("at most {BODY_BYTES_MAX}"))
                .hint("serve files from a cluster".to_owned()),
        );
    }
    Some(Respond {
        status: u16::try_from(raw.status?.0).ok()?,
        body: raw.body.value.0,
        content_type: raw.content_type.0,
    })
}

fn rewrite(
    raw: At<raw::Rewrite>,
    matched: &Matched,
    sound: bool,
    mistakes: &mut Mistakes,
) -> Option<Rewrite> {
    let place = raw.place();
    let raw = raw.value;
    let places = [
        raw.prefix.as_ref().and_then(At::place),
        raw.regex.as_ref().and_then(At::place),
    ];
    at_most_one(
        &places,
        "a rewrite changes the path in one way",
        "either prefix or regex",
        mistakes,
    );
    if sound && raw.prefix.is_none() && raw.regex.is_none() && raw.host.is_none() {
        mistakes.add(Mistake::at(place, "the rewrite changes nothing").expected("prefix, regex or host"));
    }
    let path = match (raw.prefix, raw.regex) {
        (Some(to), _) => Some(PathRewrite::Prefix {
            from: matched.replaced_by(&to, mistakes)?,
            to: to.value.0,
        }),
        (None, Some(regex)) => {
            let (text, replacement) = (regex.value.pattern?, regex.value.replacement?);
            let pattern = pattern(&text, "pattern", mistakes)?;
            check_groups(&pattern, &replacement.value.0, replacement.place(), mistakes);
            Some(PathRewrite::Pattern {
                pattern,
                replacement: replacement.value.0,
            })
        }
        (None, None) => None,
    };
    Some(Rewrite {
        path,
        host: raw.host.map(|host| host.0),
    })
}

/// Every group that a replacement names exists: one that does not would be replaced by nothing.
fn check_groups(pattern: &Pattern, replacement: &str, place: Option<Place>, mistakes: &mut Mistakes) {
    let mut rest = replacement;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(after) = after.strip_prefix('$') {
            rest = after;
            continue;
        }
        let (name, braces) = match after.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
            Some((name, _)) => (name, true),
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                (after.get(..end.unwrap_or(after.len())).unwrap_or_default(), false)
            }
        };
        if !pattern.has_group(name) {
            let digits = name.bytes().take_while(u8::is_ascii_digit).count();
            let (number, letters) = name.split_at(digits);
            let split = !braces && !number.is_empty() && !letters.is_empty();
            mistakes.add(
                Mistake::at(
                    place,
                    format!("replacement: the pattern has no group {}", quoted(name)),
                )
                .expected("a group of the pattern")
                .hint(split.then(|| format!("write ${{{number}}}{letters}"))),
            );
        }
        rest = after;
    }
}

/// All items checked; `None` where one is wrong or could not be read.
pub(super) fn each<T, U, const LEAST: usize>(
    list: List<T, LEAST>,
    mut check: impl FnMut(T) -> Option<U>,
) -> Option<Vec<U>> {
    // All of them first, so that all mistakes are reported.
    let checked: Vec<_> = list.items.into_iter().map(&mut check).collect();
    let checked: Option<Vec<_>> = checked.into_iter().collect();
    checked.filter(|_| list.whole)
}

/// A match in the words of a message.
fn described(matches: &Match) -> String {
    let host = match &matches.host {
        HostMatch::Exact(host) => host.clone(),
        HostMatch::Under(domain) => format!("*.{domain}"),
        HostMatch::Any => "any host, ".to_owned(),
    };
    let path = match &matches.path {
        PathMatch::Exact(path) => format!("{path} exactly"),
        PathMatch::Prefix(prefix) => prefix.clone(),
        PathMatch::Pattern(pattern) => format!("paths like {}", pattern.written()),
    };
    let plain = Match {
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        source: Vec::new(),
        ..matches.clone()
    };
    let more = if plain == *matches {
        ""
    } else {
        " with the same conditions"
    };
    format!("{host}{path}{more}")
}
