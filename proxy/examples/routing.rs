//! What finding a route costs: by instruction count, for one route and for 25,000. `scripts/routing` counts it.
//!
//! Each mode does the same work `n` times over changing requests. Run it under callgrind with two different counts; the
//! difference is the cost of one request alone, exact to the instruction.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a program for measuring")]

use std::fmt::Write as _;
use std::hint::black_box;

use foreshade_proxy::client::{Client, Trust};
use foreshade_proxy::config;
use foreshade_proxy::path::{PathPolicy, normal};
use foreshade_proxy::request::RequestView;
use foreshade_proxy::route::Router;
use http::HeaderMap;

const HOSTS: usize = 500;
const ROUTES_PER_HOST: usize = 50;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().expect("a mode");
    let count: usize = arguments.next().and_then(|n| n.parse().ok()).expect("a number");
    let done = match mode.as_str() {
        "one" => route(&one(), &["shop.example"], &["/api/v1/items"], count),
        "many" => route(&many(), &hosts(), &paths(), count),
        "missing" => route(&many(), &["nobody.example"], &["/nothing/here/at/all"], count),
        "normal" => paths_made_normal("/api/v1/items/4711", count),
        "spelt" => paths_made_normal("/api/./v1/%69tems/../4711", count),
        "client" => clients(count),
        _ => panic!("one, many, missing, normal, spelt or client"),
    };
    println!("{mode}: {done} of {count}");
}

/// As most files are.
fn one() -> Router {
    router("      - { match: { path: { prefix: / } }, cluster: shop }\n")
}

/// As a provider's is: each host with exact paths, prefixes of three depths, and a route for a header.
fn many() -> Router {
    let mut routes = String::new();
    for host in hosts() {
        for n in 0..ROUTES_PER_HOST {
            let path = match n % 4 {
                0 => format!("exact: /page-{n}"),
                1 => format!("prefix: /service-{n}"),
                2 => format!("prefix: /service-{}/api", n - 1),
                _ => format!("prefix: /service-{n}/api/v1"),
            };
            let _ = writeln!(
                routes,
                "      - {{ match: {{ host: {host}, path: {{ {path} }} }}, cluster: shop }}"
            );
        }
    }
    router(&routes)
}

fn hosts() -> Vec<&'static str> {
    // Made once, for the whole run.
    let names = (0..HOSTS).map(|n| &*format!("customer-{n}.shop.example").leak());
    names.collect()
}

fn paths() -> Vec<&'static str> {
    let names = (0..ROUTES_PER_HOST).map(|n| &*format!("/service-{n}/api/v1/items/4711").leak());
    names.collect()
}

fn router(routes: &str) -> Router {
    let mut all = Vec::new();
    // A file has at most a mebibyte; a table may come of several.
    for lines in routes.lines().collect::<Vec<_>>().chunks(1000) {
        let text = format!(
            "apiVersion: foreshade/v1\nlisteners:\n  - name: web\n    address: 127.0.0.1:8080\n    routes:\n{}\nclusters:\n  \
             - {{ name: shop, endpoints: [{{ name: a, address: '127.0.0.1:9001' }}] }}\n",
            lines.join("\n")
        );
        let config = config::parse(&text, "made here").expect("it is well");
        all.extend(config.listeners.into_iter().flat_map(|listener| listener.routes));
    }
    Router::new(&all)
}

fn route(router: &Router, hosts: &[&str], paths: &[&str], count: usize) -> usize {
    let headers = HeaderMap::new();
    let asked = hosts.iter().cycle().zip(paths.iter().cycle()).take(count);
    asked
        .filter(|(host, path)| {
            let view = RequestView {
                host,
                path,
                ..RequestView::of("GET", &headers)
            };
            router.route(black_box(&view)).is_some()
        })
        .count()
}

fn paths_made_normal(path: &str, count: usize) -> usize {
    let made = (0..count).filter(|_| normal(black_box(path.as_bytes()), PathPolicy::default()) == Ok(None));
    made.count()
}

/// Who the client is, where nobody is trusted: as most listeners are.
fn clients(count: usize) -> usize {
    let trust = Trust {
        proxies: Vec::new(),
        told_by: foreshade_proxy::client::ToldBy::XForwardedFor,
    };
    let peer = Some("192.0.2.7".parse().expect("an address"));
    let headers = HeaderMap::new();
    let known = (0..count).filter(|_| Client::of(&trust, black_box(peer), &headers).address.is_some());
    known.count()
}
