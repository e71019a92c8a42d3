//! Routes and requests out of any bytes, and what must hold for them.
//!
//! Text, a line each, so that seeds can be written by hand and an edit of a byte changes a piece of a route and not the
//! meaning of all bytes behind it. Routes go through the reader of the configuration and requests through the check of
//! heads: what neither lets in cannot be matched. The oracle walks all routes, and compares without the table, the order of
//! its looks, and the comparisons of the code that it judges; they have nothing in common but compiled patterns.

use std::cell::RefCell;
use std::collections::HashMap;

use foreshade_proxy::config::{self, Answers};
use foreshade_proxy::framing::{HeadCheck, Limits};
use foreshade_proxy::path::{DuplicateSlashes, EncodedSlashes, PathPolicy, escaped, normal};
use foreshade_proxy::request::RequestView;
use foreshade_proxy::rewrite::PathRewrite;
use foreshade_proxy::route::answer::Answer;
use foreshade_proxy::route::{Action, HostMatch, Match, PathMatch, Route, Router, Wanted, plain_host};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

/// More of either says nothing new, and takes its time.
const ROUTES_MAX: usize = 12;
const REQUESTS_MAX: usize = 8;

/// What passes the path policy of a listener passes this one unchanged.
const LOOSEST: PathPolicy = PathPolicy {
    encoded_slashes: EncodedSlashes::Keep,
    duplicate_slashes: DuplicateSlashes::Keep,
};

/// A request as it is decoded.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) host: String,
    pub(super) target: Vec<u8>,
    pub(super) headers: HeaderMap,
    client: Option<std::net::IpAddr>,
}

/// Routes and requests. The first letter of a line says what it is; [`condition`], [`action`] and [`request`] have them.
pub(crate) fn routing(data: &[u8]) {
    let mut routes: Vec<Value> = Vec::new();
    let mut heads: Vec<(Vec<u8>, Option<std::net::IpAddr>)> = Vec::new();
    let mut policy = PathPolicy::default();
    for line in data.split(|byte| *byte == b'\n') {
        let Some((key, rest)) = line.split_first() else {
            continue;
        };
        let value = rest.strip_prefix(b" ").unwrap_or(rest);
        let text = String::from_utf8_lossy(value);
        match key {
            b'R' if routes.len() < ROUTES_MAX => routes.push(json!({ "match": {}, "cluster": "c" })),
            b'P' => policy = self::policy(value),
            b'?' if heads.len() < REQUESTS_MAX => heads.push((request(value), None)),
            _ => match (heads.last_mut(), routes.last_mut()) {
                (Some((head, _)), _) if *key == b'+' => head.extend([b"\r\n", value].concat()),
                (Some((_, client)), _) if *key == b'@' => *client = text.parse().ok(),
                (None, Some(route)) => {
                    condition(*key, &text, &mut route["match"]);
                    action(*key, &text, route);
                }
                _ => {}
            },
        }
    }
    let lines = routes.iter().enumerate();
    let routes: Vec<Route> = lines.filter_map(|(line, route)| read(line, route)).collect();
    let router = Router::new(&routes);
    for (mut head, client) in heads {
        head.extend(b"\r\n\r\n");
        if let Some(asked) = checked(&head, &Limits::default()) {
            is_routed(&router, &routes, &Asked { client, ..asked }, policy);
        }
    }
}

/// `P`: k keeps escaped slashes, d decodes them, 2 keeps slashes that follow each other.
fn policy(value: &[u8]) -> PathPolicy {
    let encoded_slashes = match value.first() {
        Some(b'k') => EncodedSlashes::Keep,
        Some(b'd') => EncodedSlashes::Decode,
        _ => EncodedSlashes::Refuse,
    };
    let duplicate_slashes = match value.contains(&b'2') {
        true => DuplicateSlashes::Keep,
        false => DuplicateSlashes::Merge,
    };
    PathPolicy {
        encoded_slashes,
        duplicate_slashes,
    }
}

/// `?`: method, host and target, with a blank between them. Lines with `+` add headers to it, `@` says who asks.
fn request(value: &[u8]) -> Vec<u8> {
    let mut words = value.splitn(3, |byte| *byte == b' ');
    let mut word = || words.next().unwrap_or_default();
    let (method, host, target) = (word(), word(), word());
    [method, b" ", target, b" HTTP/1.1\r\nHost: ", host].concat()
}

/// `h` host, `p` `e` `x` path by prefix, exactly, by pattern, `m` a method, `s` a source, `H` and `Q` a header or a query
/// parameter: a name, alone or with = (exact), ^ (prefix) or ~ (pattern) and a value, and ! before it for `not`.
fn condition(key: u8, text: &str, matches: &mut Value) {
    match key {
        b'h' => matches["host"] = text.into(),
        b'p' => matches["path"] = json!({ "prefix": text }),
        b'e' => matches["path"] = json!({ "exact": text }),
        b'x' => matches["path"] = json!({ "regex": text }),
        b'm' => push(&mut matches["methods"], text.into()),
        b's' => push(&mut matches["source"], text.into()),
        b'H' => push(&mut matches["headers"], comparison(text)),
        b'Q' => push(&mut matches["query"], comparison(text)),
        _ => {}
    }
}

fn comparison(text: &str) -> Value {
    let (not, text) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let at = text.find(['=', '^', '~']).unwrap_or(text.len());
    let (name, compared) = text.split_at(at);
    let mut found = Map::from_iter([("name".to_owned(), name.into())]);
    if not {
        found.insert("not".to_owned(), true.into());
    }
    let by = |how: &str| (how.to_owned(), Value::from(&compared[1..]));
    found.extend(match compared.as_bytes().first() {
        Some(b'=') => Some(by("exact")),
        Some(b'^') => Some(by("prefix")),
        Some(_) => Some(by("regex")),
        None => None,
    });
    found.into()
}

/// `w` rewrites the prefix, `W` a pattern (then a blank, then the replacement); `>` redirects to a path, `]` to another
/// prefix, `}` to a host.
fn action(key: u8, text: &str, route: &mut Value) {
    let redirect = |key: &str| json!({ "match": route["match"], "redirect": { key: text } });
    match key {
        b'w' => route["rewrite"] = json!({ "prefix": text }),
        b'W' => {
            let (pattern, replacement) = text.split_once(' ').unwrap_or((text, ""));
            route["rewrite"] = json!({ "regex": { "pattern": pattern, "replacement": replacement } });
        }
        b'>' => *route = redirect("path"),
        b']' => *route = redirect("prefix"),
        b'}' => *route = redirect("host"),
        _ => {}
    }
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

thread_local! {
    /// What the configuration made of routes. Compiling their patterns takes a hundred times as long as matching by them,
    /// and most edits of an input leave most of its routes as they were.
    static READ: RefCell<HashMap<String, Option<Route>>> = RefCell::default();
}

/// Some megabytes of patterns.
const READ_MAX: usize = 256;

/// The route, where the configuration takes it. Each alone, so that one that is wrong does not hide the others.
pub(super) fn read(line: usize, route: &Value) -> Option<Route> {
    READ.with_borrow_mut(|known| {
        if known.len() >= READ_MAX {
            known.clear();
        }
        let route = route.to_string();
        let read = match known.get(&route) {
            Some(read) => read.clone(),
            None => {
                let read = parsed(&route);
                known.insert(route, read.clone());
                read
            }
        };
        read.map(|route| Route { line, ..route })
    })
}

fn parsed(route: &str) -> Option<Route> {
    let text = format!(
        "{{ apiVersion: foreshade/v1, listeners: [{{ name: l, address: '127.0.0.1:80', routes: [{route}] }}], \
         clusters: [{{ name: c, endpoints: [{{ name: e, address: '127.0.0.1:81' }}] }}] }}"
    );
    let nobody = |_: &str, port: u16| Ok(vec![([127, 0, 0, 1], port).into()]);
    let config = config::parse_with(&text, "fuzzed", &nobody, &Answers::default()).ok()?;
    config.listeners.into_iter().next()?.routes.into_iter().next()
}

/// The request, where the check of heads lets it pass as a whole.
pub(super) fn checked(bytes: &[u8], limits: &Limits) -> Option<Asked> {
    let head = HeadCheck::default().advance(bytes, limits).ok()??;
    if head.place != (0..bytes.len()) {
        return None;
    }
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Request::new(&mut fields);
    other.parse(bytes).ok()?;
    let mut headers = HeaderMap::new();
    for field in other.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).expect("a name that passed is one");
        let value = HeaderValue::from_bytes(field.value).expect("a value that passed is one");
        headers.append(name, value);
    }
    let host = headers.get("host").and_then(|host| host.to_str().ok());
    Some(Asked {
        method: String::from_utf8_lossy(&bytes[head.method]).into_owned(),
        host: host.unwrap_or_default().to_owned(),
        target: bytes[head.target].to_vec(),
        headers,
        client: None,
    })
}

/// The table finds what walking finds, and what becomes of the request is sound.
fn is_routed(router: &Router, routes: &[Route], asked: &Asked, policy: PathPolicy) {
    let end = asked.target.iter().position(|byte| *byte == b'?');
    let (path, query) = asked.target.split_at(end.unwrap_or(asked.target.len()));
    let path = match path {
        b"*" => "*".to_owned(),
        path => match normal(path, policy) {
            Ok(normal) => normal.unwrap_or_else(|| String::from_utf8(path.to_vec()).expect("it is ASCII")),
            Err(_) => return,
        },
    };
    if path != "*" {
        is_normal(&path, policy);
    }
    let query = escaped(query.get(1..).unwrap_or_default());
    let view = RequestView {
        host: &asked.host,
        path: &path,
        query: end.map(|_| query.as_str()),
        client: asked.client,
        ..RequestView::of(&asked.method, &asked.headers)
    };
    let walked = routes
        .iter()
        .filter(|route| holds(&route.matches, &view))
        .min_by_key(|route| (rank(&route.matches), route.line));
    let found = router.route(&view);
    assert_eq!(
        found.map(|route| route.line),
        walked.map(|route| route.line),
        "{view:?}"
    );
    let Some(route) = found else {
        return;
    };
    match &route.action {
        Action::Forward(_) => {
            let edits = route.edits.as_deref();
            if let Some(rewrite) = edits.and_then(|edits| edits.rewrite.path.as_ref()) {
                is_rewritten(rewrite, &path);
            }
        }
        Action::Redirect(_) | Action::Respond(_) => is_answered(route, &view),
    }
}

/// A normal path stays what it is, and has neither a way up nor a byte that ends it.
fn is_normal(path: &str, policy: PathPolicy) {
    assert_eq!(
        normal(path.as_bytes(), policy),
        Ok(None),
        "{path} has another form"
    );
    assert_eq!(
        normal(path.as_bytes(), LOOSEST),
        Ok(None),
        "{path} has a looser form"
    );
    assert!(
        path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()),
        "{path}"
    );
    assert!(!path.split('/').any(|s| matches!(s, "." | "..")), "{path}");
}

/// What an endpoint is asked for is a path, and a target as pingora takes it.
fn is_rewritten(rewrite: &PathRewrite, path: &str) {
    let Ok(Some(rewritten)) = rewrite.apply(path) else {
        return;
    };
    is_normal(&rewritten, LOOSEST);
    let target: PathAndQuery = rewritten.parse().expect("a rewritten path is a target");
    assert_eq!((target.path(), target.query()), (rewritten.as_str(), None));
}

/// An answer can be sent, and leads to no host that the route does not name.
fn is_answered(route: &Route, view: &RequestView<'_>) {
    let answer = Answer::of(route, view);
    assert!((200..600).contains(&answer.status));
    let Action::Redirect(redirect) = &route.action else {
        return;
    };
    let Some(location) = answer.headers.get("location") else {
        assert_eq!(answer.status, 400);
        return;
    };
    let location = location.to_str().expect("a location is ASCII");
    assert!(!location.contains([' ', '\t']), "{location}");
    match &redirect.host {
        Some(host) => {
            let rest = location.strip_prefix(&format!("http://{host}"));
            assert!(rest.is_some_and(|rest| rest.starts_with('/')), "{location}");
        }
        None => assert!(
            location.starts_with('/') && !location[1..].starts_with(['/', '\\']),
            "{location}"
        ),
    }
}

/// Whether all conditions hold: the plain way.
fn holds(matches: &Match, view: &RequestView<'_>) -> bool {
    let host = plain_host(view.host);
    let on_host = match &matches.host {
        HostMatch::Exact(exact) => *exact == *host,
        HostMatch::Under(domain) => host.len() > domain.len() + 1 && host.ends_with(&format!(".{domain}")),
        HostMatch::Any => true,
    };
    let on_path = match &matches.path {
        PathMatch::Exact(exact) => exact == view.path,
        PathMatch::Pattern(pattern) => pattern.fits(view.path.as_bytes()),
        PathMatch::Prefix(prefix) if prefix == "/" => view.path.starts_with('/'),
        PathMatch::Prefix(prefix) => {
            let mut segments = view.path.split('/');
            prefix.split('/').all(|segment| segments.next() == Some(segment))
        }
    };
    let headers = matches.headers.iter().all(|wanted| {
        let fitting = view
            .headers
            .all(&wanted.name)
            .filter(|value| fits(&wanted.wanted, value));
        (fitting.count() > 0) != wanted.not
    });
    let query = matches.query.iter().all(|wanted| {
        let pairs = view.query.unwrap_or_default().split('&').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decoded(name), form_decoded(value))
        });
        let named = pairs.filter(|(name, _)| name == wanted.name.as_bytes());
        let first = named.take(1).filter(|(_, value)| fits(&wanted.wanted, value));
        (first.count() > 0) != wanted.not
    });
    let method = matches.methods.is_empty() || matches.methods.iter().any(|m| m == view.method);
    let within = |client| matches.source.iter().any(|network| network.contains(client));
    let source = matches.source.is_empty() || view.client.is_some_and(within);
    on_host && on_path && method && headers && query && source
}

fn fits(wanted: &Wanted, value: &[u8]) -> bool {
    match wanted {
        Wanted::Present => true,
        Wanted::Exact(exact) => value == exact.as_bytes(),
        Wanted::Prefix(prefix) => value.get(..prefix.len()) == Some(prefix.as_bytes()),
        Wanted::Pattern(pattern) => pattern.fits(value),
    }
}

/// As a form is decoded.
fn form_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (byte, taken) = match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => (u8::try_from(high * 16 + low).expect("two digits"), 3),
            (b'+', ..) => (b' ', 1),
            (byte, ..) => (byte, 1),
        };
        out.push(byte);
        at += taken;
    }
    out
}

/// How specific a match is, as `route` has it in words; the smaller, the more.
fn rank(matches: &Match) -> [usize; 8] {
    let (host, host_length) = match &matches.host {
        HostMatch::Exact(_) => (0, 0),
        HostMatch::Under(domain) => (1, domain.len()),
        HostMatch::Any => (2, 0),
    };
    let (path, path_length) = match &matches.path {
        PathMatch::Exact(_) => (0, 0),
        PathMatch::Pattern(_) => (1, 0),
        PathMatch::Prefix(prefix) => (2, prefix.len()),
    };
    let more = |count: usize| usize::MAX - count;
    [
        host,
        more(host_length),
        path,
        more(path_length),
        usize::from(matches.methods.is_empty()),
        more(matches.headers.len()),
        more(matches.query.len()),
        usize::from(matches.source.is_empty()),
    ]
}
