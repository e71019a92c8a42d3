//! Each rung of the order, and the fast table against a matcher that is obviously right.

use http::HeaderMap;
use proptest::prelude::*;
use proptest::sample::select;

use super::reference::{by_walking, plain, route};
use super::*;
use crate::route::pattern::Pattern;

/// A request in words: method, host, path with query, one header, client.
fn ask(router: &Router, method: &str, url: &str, header: Option<(&'static str, &str)>) -> Option<usize> {
    let mut headers = HeaderMap::new();
    if let Some((name, value)) = header {
        headers.insert(name, value.parse().unwrap());
    }
    let (host, target) = url.split_at(url.find('/').unwrap_or(url.len()));
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let view = RequestView {
        host,
        path,
        query,
        client: Some("10.0.0.7".parse().unwrap()),
        ..RequestView::of(method, &headers)
    };
    let found = router.route(&view).map(|route| route.line);
    assert_eq!(found, by_walking(router.routes(), &view).map(|route| route.line));
    found
}

fn host(host: HostMatch) -> Match {
    Match { host, ..plain() }
}

fn path(path: PathMatch) -> Match {
    Match { path, ..plain() }
}

fn exact(host: &str) -> HostMatch {
    HostMatch::Exact(host.to_owned())
}

fn under(domain: &str) -> HostMatch {
    HostMatch::Under(domain.to_owned())
}

fn prefix(prefix: &str) -> PathMatch {
    PathMatch::Prefix(prefix.to_owned())
}

fn pattern(text: &str) -> PathMatch {
    PathMatch::Pattern(Pattern::new(text).unwrap())
}

fn header(name: &'static str, wanted: Wanted) -> HeaderMatch {
    HeaderMatch {
        name: http::HeaderName::from_static(name),
        wanted,
        not: false,
    }
}

fn parameter(name: &str, wanted: Wanted) -> QueryMatch {
    QueryMatch {
        name: name.to_owned(),
        wanted,
        not: false,
    }
}

/// In this order in the file; the line of each is its position.
fn router(matches: &[Match]) -> Router {
    let routes = matches.iter().enumerate();
    Router::new(&routes.map(|(line, m)| route(line, m.clone())).collect::<Vec<_>>())
}

/// Both orders of the file give the same answer: the first of the two.
fn outranks(stronger: &Match, weaker: &Match, url: &str) {
    let header = Some(("x-a", "1"));
    assert_eq!(
        ask(&router(&[stronger.clone(), weaker.clone()]), "GET", url, header),
        Some(0)
    );
    assert_eq!(
        ask(&router(&[weaker.clone(), stronger.clone()]), "GET", url, header),
        Some(1)
    );
}

#[test]
fn rung_1_an_exact_host_then_the_longer_wildcard_then_any() {
    let hosts = [
        exact("a.b.example"),
        under("b.example"),
        under("example"),
        HostMatch::Any,
    ];
    for (i, stronger) in hosts.iter().enumerate() {
        for weaker in hosts.iter().skip(i + 1) {
            // The longer path does not help the weaker host.
            let weaker = Match {
                path: prefix("/long/path"),
                ..host(weaker.clone())
            };
            outranks(&host(stronger.clone()), &weaker, "a.b.example/long/path");
        }
    }
}

#[test]
fn rung_2_an_exact_path_then_a_pattern_then_the_longer_prefix() {
    let paths = [
        PathMatch::Exact("/a/b/c".to_owned()),
        pattern("/a/.*"),
        prefix("/a/b"),
        prefix("/a"),
        prefix("/"),
    ];
    for (i, stronger) in paths.iter().enumerate() {
        for weaker in paths.iter().skip(i + 1) {
            let weaker = Match {
                methods: vec!["GET".to_owned()],
                ..path(weaker.clone())
            };
            outranks(&path(stronger.clone()), &weaker, "x/a/b/c");
        }
    }
}

#[test]
fn rungs_3_to_6_method_then_headers_then_query_then_source() {
    let rungs = [
        Match {
            methods: vec!["GET".to_owned()],
            ..plain()
        },
        Match {
            headers: vec![header("x-a", Wanted::Present)],
            ..plain()
        },
        Match {
            query: vec![parameter("q", Wanted::Present)],
            ..plain()
        },
        Match {
            source: vec!["10.0.0.0/8".parse().unwrap()],
            ..plain()
        },
        plain(),
    ];
    for (i, stronger) in rungs.iter().enumerate() {
        for weaker in rungs.iter().skip(i + 1) {
            outranks(stronger, weaker, "x/?q=1");
        }
    }
}

#[test]
fn rungs_4_and_5_more_conditions_win() {
    let both = |wanted: Wanted| Match {
        headers: vec![header("x-a", Wanted::Present), header("x-a", wanted)],
        ..plain()
    };
    let one = Match {
        headers: vec![header("x-a", Wanted::Exact("1".to_owned()))],
        ..plain()
    };
    outranks(&both(Wanted::Prefix("1".to_owned())), &one, "x/");
    let queries = |names: &[&str]| Match {
        query: names.iter().map(|n| parameter(n, Wanted::Present)).collect(),
        ..plain()
    };
    outranks(&queries(&["q", "r"]), &queries(&["q"]), "x/?q&r");
}

#[test]
fn rung_7_equals_keep_the_order_of_the_file() {
    let methods = |names: &[&str]| Match {
        methods: names.iter().map(|&n| n.to_owned()).collect(),
        ..plain()
    };
    let router = router(&[methods(&["GET", "HEAD"]), methods(&["GET", "POST"])]);
    assert_eq!(ask(&router, "GET", "x/", None), Some(0));
    assert_eq!(ask(&router, "POST", "x/", None), Some(1));
    assert_eq!(ask(&router, "PUT", "x/", None), None);
}

#[test]
fn a_route_that_lacks_something_is_passed_over_down_to_the_last_rung() {
    let posts = |m: Match| Match {
        methods: vec!["POST".to_owned()],
        ..m
    };
    let router = router(&[
        posts(Match {
            path: PathMatch::Exact("/a/b".to_owned()),
            ..host(exact("a.example"))
        }),
        posts(Match {
            path: pattern("/a/.*"),
            ..host(exact("a.example"))
        }),
        posts(Match {
            path: prefix("/a/b"),
            ..host(exact("a.example"))
        }),
        posts(host(under("example"))),
        path(prefix("/a")),
    ]);
    assert_eq!(ask(&router, "POST", "a.example/a/b", None), Some(0));
    assert_eq!(ask(&router, "GET", "a.example/a/b", None), Some(4));
    assert_eq!(ask(&router, "GET", "a.example/b", None), None);
}

#[test]
fn the_longest_prefix_wins_in_whole_segments() {
    let router = router(&[
        path(prefix("/")),
        path(prefix("/a")),
        path(prefix("/a/b")),
        path(prefix("/shop")),
    ]);
    for (url, expected) in [
        ("x/a/b/c", 2),
        ("x/a/b", 2),
        ("x/a/bc", 1),
        ("x/a/", 1),
        ("x/a?b=/a/b", 1),
        ("x/", 0),
        ("x/shopping", 0),
        ("x/shop/1", 3),
    ] {
        assert_eq!(ask(&router, "GET", url, None), Some(expected), "{url}");
    }
}

#[test]
fn a_host_has_neither_port_nor_case_nor_a_dot_at_its_end() {
    let router = router(&[
        host(exact("shop.example")),
        host(exact("[::1]")),
        host(under("shop.example")),
    ]);
    for (url, expected) in [
        ("SHOP.example:8080/", Some(0)),
        ("shop.example./", Some(0)),
        ("[::1]:80/", Some(1)),
        ("[::1]/", Some(1)),
        ("A.b.SHOP.example:1/", Some(2)),
        ("shop.example:x/", None),
        ("other/", None),
        ("/", None),
    ] {
        assert_eq!(ask(&router, "GET", url, None), expected, "{url}");
    }
    assert_eq!(
        ask(
            &router,
            "GET",
            &format!("{}.shop.example/", "a".repeat(300)),
            None
        ),
        None
    );
}

#[test]
fn headers_and_parameters_are_compared_as_they_are_meant() {
    let wanted = [
        Wanted::Present,
        Wanted::Exact("a b".to_owned()),
        Wanted::Prefix("a ".to_owned()),
        Wanted::Pattern(Pattern::new("[a-c] b").unwrap()),
    ];
    for (wanted, fits) in wanted.into_iter().zip([
        [true, true, true, true],
        [true, false, false, false],
        [true, true, false, false],
        [true, false, true, false],
    ]) {
        let query = router(&[Match {
            query: vec![parameter("q", wanted.clone())],
            ..plain()
        }]);
        let by_header = router(&[Match {
            headers: vec![header("x-a", wanted.clone())],
            ..plain()
        }]);
        for ((value, encoded), fits) in [("a b", "a+b"), ("a c", "%61%20c"), ("c b", "c+b"), ("d", "d")]
            .into_iter()
            .zip(fits)
        {
            let found = ask(&query, "GET", &format!("x/?p=1&%71={encoded}&q=zzz"), None);
            assert_eq!(found.is_some(), fits, "{wanted:?} {encoded}");
            let found = ask(&by_header, "GET", "x/", Some(("x-a", value)));
            assert_eq!(found.is_some(), fits, "{wanted:?} {value}");
        }
        assert_eq!(ask(&query, "GET", "x/?p=q", None), None);
        assert_eq!(ask(&by_header, "GET", "x/", None), None);
    }
}

#[test]
fn a_condition_that_is_turned_around_holds_where_it_would_not() {
    let wanted = [
        Wanted::Present,
        Wanted::Exact("1".to_owned()),
        Wanted::Prefix("1".to_owned()),
        Wanted::Pattern(Pattern::new("[0-4]").unwrap()),
    ];
    for wanted in wanted {
        let by_header = |not| HeaderMatch {
            not,
            ..header("x-a", wanted.clone())
        };
        let by_query = |not| QueryMatch {
            not,
            ..parameter("q", wanted.clone())
        };
        let both = |not| {
            router(&[
                Match {
                    headers: vec![by_header(not)],
                    ..path(prefix("/header"))
                },
                Match {
                    query: vec![by_query(not)],
                    ..path(prefix("/query"))
                },
            ])
        };
        let (as_written, turned) = (both(false), both(true));
        for (url, value) in [
            ("x/header", None),
            ("x/header", Some(("x-a", "1"))),
            ("x/header", Some(("x-a", "9"))),
            ("x/header", Some(("x-b", "1"))),
            ("x/query", None),
            ("x/query?q=1&q=9", None),
            ("x/query?q=9&q=1", None),
            ("x/query?r=1", None),
        ] {
            let (plain, other) = (
                ask(&as_written, "GET", url, value),
                ask(&turned, "GET", url, value),
            );
            assert_ne!(plain.is_some(), other.is_some(), "{wanted:?} {url} {value:?}");
        }
    }
    let neither = router(&[Match {
        headers: vec![HeaderMatch {
            not: true,
            ..header("x-a", Wanted::Exact("2".to_owned()))
        }],
        ..plain()
    }]);
    let mut headers = HeaderMap::new();
    for (line, taken) in [("1", true), ("2", false), ("3", false)] {
        headers.append("x-a", line.parse().unwrap());
        let view = RequestView::of("GET", &headers);
        assert_eq!(neither.route(&view).is_some(), taken, "one of {headers:?} is 2");
    }
}

#[test]
fn a_source_is_the_users_address() {
    let from = |network: &str| Match {
        source: vec!["192.0.2.0/24".parse().unwrap(), network.parse().unwrap()],
        ..plain()
    };
    assert_eq!(ask(&router(&[from("10.0.0.0/8")]), "GET", "x/", None), Some(0));
    assert_eq!(ask(&router(&[from("11.0.0.0/8")]), "GET", "x/", None), None);
}

fn hosts() -> impl Strategy<Value = HostMatch> {
    prop_oneof![
        select(&["a.x", "b.x", "a.b.x", "x"][..]).prop_map(exact),
        select(&["x", "b.x"][..]).prop_map(under),
        Just(HostMatch::Any),
    ]
}

fn paths() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        select(&["/", "/a", "/a/", "/a/b", "/a/b/c"][..]).prop_map(|p| PathMatch::Exact(p.to_owned())),
        select(&["/", "/a", "/a/b", "/ab", "/a/b/c"][..]).prop_map(prefix),
        // Compiled once, and not for each table.
        select(["/a.*", "/.*b", ".*"].map(pattern).to_vec()),
    ]
}

fn matches() -> impl Strategy<Value = Match> {
    let methods = select(vec![vec![], vec!["GET"], vec!["GET", "POST"]]);
    let headers = prop::collection::vec(
        (select(&["x-a", "x-b"][..]), any::<bool>()).prop_map(|(name, not)| HeaderMatch {
            not,
            ..header(name, Wanted::Present)
        }),
        0..2,
    );
    let query = prop::collection::vec(
        (select(&["q", "r"][..]), any::<bool>()).prop_map(|(name, not)| QueryMatch {
            not,
            ..parameter(name, Wanted::Present)
        }),
        0..2,
    );
    let source = select(vec![vec![], vec!["10.0.0.0/8"], vec!["11.0.0.0/8"]]);
    (hosts(), paths(), methods, headers, query, source).prop_map(
        |(host, path, methods, headers, query, source)| Match {
            host,
            path,
            methods: methods.iter().map(|&m| m.to_owned()).collect(),
            headers,
            query,
            source: source.iter().map(|s| s.parse().unwrap()).collect(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_table_finds_what_walking_finds(
        table in prop::collection::vec(matches(), 0..24),
        host in select(&["a.x", "B.x:80", "a.b.x", "c.a.b.x", "x", "y", "", ".x"][..]),
        path in "(/[ab]{0,2}){1,4}|\\*|/",
        query in select(&["", "?q", "?r=1&q"][..]),
        method in select(&["GET", "POST"][..]),
        header in select(&[None, Some(("x-a", "1")), Some(("x-b", "1"))][..]),
    ) {
        // The comparison is in `ask`.
        let url = format!("{host}{path}{query}");
        if path.starts_with('/') {
            ask(&router(&table), method, &url, header);
        }
    }
}
