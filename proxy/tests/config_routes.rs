//! What an operator sees of mistakes in routes: every kind in its own test, as it is rendered.
//!
//! Each test has one route of its own in an otherwise sound file; the route begins in line 6.

use foreshade_proxy::cidr::Cidr;
use foreshade_proxy::client::ToldBy;
use foreshade_proxy::config::{self, Config, Mistakes};
use foreshade_proxy::edit::EDITS_MAX;
use foreshade_proxy::path::{EncodedSlashes, PathPolicy};
use foreshade_proxy::route::{Action, HostMatch, PathMatch, Wanted};
use insta::assert_snapshot;

fn parse(listener: &str) -> Result<Config, Mistakes> {
    let text = format!(
        "apiVersion: foreshade/v1\nlisteners:\n  - name: web\n    address: 127.0.0.1:8080\n    {listener}\n\
         clusters:\n  - {{ name: blue, endpoints: [{{ name: a, address: '127.0.0.1:9001' }}] }}\n  \
         - {{ name: green, endpoints: [{{ name: a, address: '127.0.0.1:9002' }}] }}\n"
    );
    config::parse(&text, "shop.yaml")
}

fn with(route: &str) -> Result<Config, Mistakes> {
    parse(&format!("routes:\n      - {route}"))
}

/// What an operator sees of the mistakes, without the file's name and the count at the end.
fn shown(parsed: Result<Config, Mistakes>) -> String {
    let Err(mistakes) = parsed else {
        panic!("no mistake");
    };
    mistakes.to_string().replace("shop.yaml:", "")
}

#[test]
fn a_route_says_what_it_says() {
    let route = "{ name: front, match: { host: '*.Shop.example', path: { exact: /a }, methods: [POST, GET], \
                 headers: [{ name: X-A }, { name: x-b, prefix: v, not: true }], \
                 query: [{ name: q, exact: 'a b' }, { name: r, not: true }], \
                 source: [10.0.0.0/8] }, clusters: [{ name: blue, weight: 9 }, { name: green }] }";
    let config = with(route).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let route = &config.listeners[0].routes[0];
    assert_eq!((route.called().as_str(), route.line), ("front", 6));
    let matches = &route.matches;
    assert_eq!(matches.host, HostMatch::Under("shop.example".to_owned()));
    assert_eq!(matches.path, PathMatch::Exact("/a".to_owned()));
    assert_eq!(matches.methods, ["GET", "POST"]);
    assert_eq!(matches.headers[0].name, "x-a");
    assert_eq!(matches.headers[1].wanted, Wanted::Prefix("v".to_owned()));
    assert_eq!((matches.headers[0].not, matches.headers[1].not), (false, true));
    assert_eq!(matches.query[0].wanted, Wanted::Exact("a b".to_owned()));
    assert_eq!((matches.query[0].not, matches.query[1].not), (false, true));
    assert_eq!(matches.query[1].wanted, Wanted::Present);
    assert_eq!(matches.source, ["10.0.0.0/8".parse::<Cidr>().unwrap()]);
    assert_eq!(route.clusters().collect::<Vec<_>>(), [0, 1]);
    assert!(matches!(&route.action, Action::Forward(split) if split.only().is_none()));
}

#[test]
fn the_safe_reading_of_paths_and_clients_is_the_default() {
    let listener = &with("cluster: blue").unwrap().listeners[0];
    assert_eq!(listener.path, PathPolicy::default());
    assert_eq!(listener.path.encoded_slashes, EncodedSlashes::Refuse);
    assert_eq!(listener.trust.told_by, ToldBy::XForwardedFor);
    assert!(listener.trust.proxies.is_empty());
    let route = &listener.routes[0];
    assert_eq!((route.called().as_str(), route.edits.is_none()), ("line-6", true));
}

// What becomes of a request.

#[test]
fn a_route_leads_somewhere() {
    assert_snapshot!(shown(with("match: { host: a.example }")), @r#"
    6:9: the route leads nowhere
        6 |       - match: { host: a.example }
          |         ^
           expected: one of cluster, clusters, redirect and respond

     1 mistake
    "#);
}

#[test]
fn a_route_does_one_thing() {
    assert_snapshot!(shown(with("{ cluster: blue, redirect: { scheme: https } }")), @r#"
    6:36: a route does one thing, and this one has cluster and redirect
        6 |       - { cluster: blue, redirect: { scheme: https } }
          |                                    ^
           expected: one of cluster, clusters, redirect and respond

     1 mistake
    "#);
}

#[test]
fn a_misspelt_action_is_not_reported_as_missing_too() {
    let mistakes = shown(with("clutser: blue"));
    assert!(
        mistakes.contains("did you mean \"cluster\"?") && mistakes.ends_with(" 1 mistake"),
        "{mistakes}"
    );
}

#[test]
fn weights_are_above_0() {
    assert_snapshot!(shown(with("clusters: [{ name: blue, weight: 0 }, { name: green }]")), @r#"
    6:42: weight: "0" is out of range
        6 |       - clusters: [{ name: blue, weight: 0 }, { name: green }]
          |                                          ^
           expected: a number above 0, at most 1000
           hint: leave it out if it is to get no traffic

     1 mistake
    "#);
}

#[test]
fn a_cluster_is_named_once_and_exists() {
    assert_snapshot!(shown(with("clusters: [{ name: blue }, { name: blue }, { name: gren }]")), @r#"
    6:36: the cluster "blue" is among them already
        6 |       - clusters: [{ name: blue }, { name: blue }, { name: gren }]
          |                                    ^
           expected: each cluster once, with its whole weight

    6:60: unknown cluster "gren"
        6 |       - clusters: [{ name: blue }, { name: blue }, { name: gren }]
          |                                                            ^^^^
           expected: one of blue, green
           hint: did you mean "green"?

     2 mistakes
    "#);
}

#[test]
fn a_redirect_leads_elsewhere_with_a_status_that_says_so() {
    assert_snapshot!(shown(with("redirect: { status: 304 }")), @r#"
    6:19: the redirect leads to where it came from
        6 |       - redirect: { status: 304 }
          |                   ^
           expected: scheme, host, port, path or prefix

    6:29: status: 304 leads nowhere
        6 |       - redirect: { status: 304 }
          |                             ^^^
           expected: 301, 302, 303, 307 or 308

     2 mistakes
    "#);
}

#[test]
fn a_redirect_stays_on_its_host_unless_it_names_another() {
    assert_snapshot!(shown(with("redirect: { path: //evil.example }")), @r#"
    6:27: path: "//evil.example" would lead to another host, or into a page
        6 |       - redirect: { path: //evil.example }
          |                           ^^^^^^^^^^^^^^
           expected: a path that starts with one slash
           hint: write host: for another host

     1 mistake
    "#);
}

#[test]
fn an_answer_is_short_and_has_a_status() {
    let long = format!("respond: {{ body: '{}' }}", "a".repeat(16 * 1024 + 1));
    let mistakes = shown(with(&long));
    assert!(mistakes.contains("status is missing"), "{mistakes}");
    assert!(
        mistakes.contains("body has 16385 bytes\n") && mistakes.contains("expected: at most 16384"),
        "{mistakes}"
    );
}

#[test]
fn changes_need_a_request_that_is_sent() {
    assert_snapshot!(
        shown(with("{ respond: { status: 200 }, rewrite: { host: a }, requestHeaders: { remove: [a] } }")),
        @r#"
    6:46: rewrite has no effect: nothing is sent to an endpoint
        6 |       - { respond: { status: 200 }, rewrite: { host: a }, requestHeaders: { remove: [a] } }
          |                                              ^
           expected: a route with cluster or clusters

    6:75: requestHeaders has no effect: nothing is sent to an endpoint
        6 |       - { respond: { status: 200 }, rewrite: { host: a }, requestHeaders: { remove: [a] } }
          |                                                                           ^
           expected: a route with cluster or clusters

     2 mistakes
    "#
    );
}

#[test]
fn how_a_request_is_sent_is_said_where_one_is_sent() {
    let redirect = "{ redirect: { host: a }, timeout: 3s, attempts: 2, idempotent: true }";
    let mistakes = shown(with(redirect));
    for key in ["timeout", "attempts", "idempotent"] {
        assert!(
            mistakes.contains(&format!("{key} has no effect")),
            "{key}: {mistakes}"
        );
    }
    assert!(mistakes.contains("3 mistakes"), "{mistakes}");
    assert!(with(&redirect.replace("redirect: { host: a }", "cluster: blue")).is_ok());
}

// Which requests.

#[test]
fn a_wildcard_is_the_first_label() {
    assert_snapshot!(shown(with("{ match: { host: 'a.*.example' }, cluster: blue }")), @r#"
    6:26: host: "a.*.example" has a wildcard that is not its first label
        6 |       - { match: { host: 'a.*.example' }, cluster: blue }
          |                          ^^^^^^^^^^^^^
           expected: a host name without port, or *. and a domain
           hint: write *.shop.example for every host below shop.example

     1 mistake
    "#);
}

#[test]
fn a_path_is_matched_in_one_way() {
    assert_snapshot!(shown(with("{ match: { path: { prefix: /a, exact: /b } }, cluster: blue }")), @r#"
    6:47: a path is matched in one way
        6 |       - { match: { path: { prefix: /a, exact: /b } }, cluster: blue }
          |                                               ^^
           expected: one of exact, prefix and regex

     1 mistake
    "#);
}

#[test]
fn a_path_that_no_request_has_is_a_mistake() {
    assert_snapshot!(shown(with("{ match: { path: { prefix: /a/../%61 } }, cluster: blue }")), @r#"
    6:36: prefix: "/a/../%61" is not the path's normal form, and so no request's path
        6 |       - { match: { path: { prefix: /a/../%61 } }, cluster: blue }
          |                                    ^^^^^^^^^
           expected: a path that starts with a slash
           hint: write /a

     1 mistake
    "#);
}

#[test]
fn a_pattern_compiles() {
    assert_snapshot!(shown(with("{ match: { path: { regex: '/(a' } }, cluster: blue }")), @r#"
    6:35: regex: "/(a" is no regular expression: unclosed group
        6 |       - { match: { path: { regex: '/(a' } }, cluster: blue }
          |                                   ^^^^^
           expected: a regular expression without look-around

     1 mistake
    "#);
}

#[test]
fn a_pattern_is_not_too_large() {
    assert_snapshot!(shown(with("{ match: { path: { regex: '(\\w{999}){999}' } }, cluster: blue }")), @r#"
    6:35: regex: "(\\w{999}){999}" is too large once it is compiled
        6 |       - { match: { path: { regex: '(\w{999}){999}' } }, cluster: blue }
          |                                   ^^^^^^^^^^^^^^^^
           expected: a regular expression without look-around

     1 mistake
    "#);
}

#[test]
fn a_value_is_compared_in_one_way() {
    assert_snapshot!(
        shown(with("{ match: { headers: [{ name: a, exact: b, regex: c }] }, cluster: blue }")),
        @r#"
    6:58: a value is compared in one way
        6 |       - { match: { headers: [{ name: a, exact: b, regex: c }] }, cluster: blue }
          |                                                          ^
           expected: one of exact, prefix and regex, or none of them for any value

     1 mistake
    "#
    );
}

#[test]
fn a_header_has_the_name_of_one() {
    assert_snapshot!(shown(with("{ match: { headers: [{ name: 'a b' }] }, cluster: blue }")), @r#"
    6:38: name: invalid value "a b"
        6 |       - { match: { headers: [{ name: 'a b' }] }, cluster: blue }
          |                                      ^^^^^
           expected: the name of a header

     1 mistake
    "#);
}

#[test]
fn a_method_is_written_in_capitals() {
    assert_snapshot!(shown(with("{ match: { methods: [get] }, cluster: blue }")), @r#"
    6:30: methods: "get" has small letters, and no request's method has
        6 |       - { match: { methods: [get] }, cluster: blue }
          |                              ^^^
           expected: a method, as GET
           hint: write GET

     1 mistake
    "#);
}

#[test]
fn a_network_has_no_bits_behind_its_length() {
    assert_snapshot!(shown(with("{ match: { source: [10.1.0.0/8] }, cluster: blue }")), @r#"
    6:29: source: "10.1.0.0/8" has bits behind its length
        6 |       - { match: { source: [10.1.0.0/8] }, cluster: blue }
          |                             ^^^^^^^^^^
           expected: an address or a network, as 10.0.0.0/8 or 2001:db8::/32
           hint: write 10.0.0.0/8

     1 mistake
    "#);
}

#[test]
fn a_network_is_one() {
    assert_snapshot!(shown(with("{ match: { source: [10.0.0.0/33] }, cluster: blue }")), @r#"
    6:29: source: "10.0.0.0/33" has a length that is no number of bits of its address
        6 |       - { match: { source: [10.0.0.0/33] }, cluster: blue }
          |                             ^^^^^^^^^^^
           expected: an address or a network, as 10.0.0.0/8 or 2001:db8::/32

     1 mistake
    "#);
}

#[test]
fn two_routes_with_the_same_conditions_in_another_order_are_one_too_many() {
    let twice = "{ match: { methods: [GET, PUT], headers: [{ name: a }, { name: b }] }, cluster: blue }\n      \
                 - { match: { methods: [PUT, GET], headers: [{ name: b }, { name: a }] }, cluster: green }";
    assert_snapshot!(shown(with(twice)), @r#"
    7:9: a route for any host, / with the same conditions exists already
        7 |       - { match: { methods: [PUT, GET], headers: [{ name: b }, { name: a }] }, cluster: green }
          |         ^
           expected: a match that no other route of the listener has
           hint: the first one is in line 6; this one would never be used

     1 mistake
    "#);
}

#[test]
fn two_routes_need_two_names() {
    let twice = "{ name: a, cluster: blue }\n      - { name: a, match: { host: b.example }, cluster: blue }";
    assert_snapshot!(shown(with(twice)), @r#"
    7:17: duplicate route name "a"
        7 |       - { name: a, match: { host: b.example }, cluster: blue }
          |                 ^
           expected: a name that no other route has
           hint: line 6 has the same name

     1 mistake
    "#);
}

// What is changed on the way.

#[test]
fn a_variable_exists() {
    let route = "{ cluster: blue, requestHeaders: { set: [{ name: x-a, value: '{client-ip}' }] } }";
    assert_snapshot!(shown(with(route)), @r#"
    6:70: value: "{client-ip}" has the unknown variable {client-ip}
        6 |       - { cluster: blue, requestHeaders: { set: [{ name: x-a, value: '{client-ip}' }] } }
          |                                                                      ^^^^^^^^^^^^^
           expected: visible characters, and in braces one of client_ip, host, path, method, scheme, route, cluster, request_id
           hint: did you mean "client_ip"?

     1 mistake
    "#);
}

#[test]
fn a_brace_has_its_other_half() {
    let route = "{ cluster: blue, responseHeaders: { add: [{ name: x-a, value: '{ \"json\": 1' }] } }";
    assert_snapshot!(shown(with(route)), @r#"
    6:71: value: "{ \"json\": 1" has a brace without its other half
        6 |       - { cluster: blue, responseHeaders: { add: [{ name: x-a, value: '{ "json": 1' }] } }
          |                                                                       ^^^^^^^^^^^^^
           expected: visible characters, and in braces one of client_ip, host, path, method, scheme, route, cluster, request_id
           hint: write {{ or }} for a brace

     1 mistake
    "#);
}

#[test]
fn a_value_is_one_line() {
    let route = "{ cluster: blue, requestHeaders: { set: [{ name: x-a, value: \"a\\r\\nhost: b\" }] } }";
    assert_snapshot!(shown(with(route)), @r#"
    6:70: value: "a\r\nhost: b" has a character that no header has
        6 |       - { cluster: blue, requestHeaders: { set: [{ name: x-a, value: "a\r\nhost: b" }] } }
          |                                                                      ^^^^^^^^^^^^^^
           expected: visible characters, and in braces one of client_ip, host, path, method, scheme, route, cluster, request_id

     1 mistake
    "#);
}

#[test]
fn what_frames_a_message_is_not_edited() {
    let route =
        "{ cluster: blue, requestHeaders: { remove: [Transfer-Encoding], set: [{ name: host, value: a }] } }";
    assert_snapshot!(shown(with(route)), @r#"
    6:53: name: "transfer-encoding" is not to be edited
        6 |     - { cluster: blue, requestHeaders: { remove: [Transfer-Encoding], set: [{ name: host, value: a }
          |                                                   ^^^^^^^^^^^^^^^^^
           expected: a header that speaks of what is asked or answered
           hint: it frames the message or belongs to one connection, and is this proxy's to set

    6:87: name: "host" is not to be edited
        6 | ers: { remove: [Transfer-Encoding], set: [{ name: host, value: a }] } }
          |                                                   ^^^^
           expected: a header that speaks of what is asked or answered
           hint: write rewrite: { host: ... } to ask endpoints for another host

     2 mistakes
    "#);
}

#[test]
fn no_list_of_edits_is_endless() {
    let edits = |count: usize| {
        let list: Vec<_> = (0..count)
            .map(|n| format!("{{ name: x-{n}, value: v }}"))
            .collect();
        with(&format!(
            "{{ cluster: blue, responseHeaders: {{ add: [{}] }} }}",
            list.join(", ")
        ))
    };
    assert!(edits(EDITS_MAX).is_ok());
    let mistakes = shown(edits(EDITS_MAX + 1));
    assert!(
        mistakes.contains("add has 65 entries") && mistakes.contains("expected: at most 64"),
        "{mistakes}"
    );
}

#[test]
fn a_request_is_sent_as_often_as_its_route_allows_and_never_more() {
    let attempts = |written: &str| with(&format!("{{ cluster: blue, {written} }}"));
    let allowed = |written: &str| attempts(written).unwrap().listeners[0].routes[0].attempts_max;
    assert_eq!(
        (
            allowed("timeout: 1s"),
            allowed("attempts: 1"),
            allowed("attempts: 3")
        ),
        (3, 1, 3)
    );
    assert_snapshot!(shown(attempts("attempts: 4")), @r#"
    6:36: attempts: "4" is out of range
        6 |       - { cluster: blue, attempts: 4 }
          |                                    ^
           expected: a whole number from 1 to 3

     1 mistake
    "#);
}

#[test]
fn a_condition_is_turned_around_by_yes_or_no() {
    assert_snapshot!(shown(with("{ match: { headers: [{ name: a, not: b }] }, cluster: blue }")), @r#"
    6:46: not: invalid value "b"
        6 |       - { match: { headers: [{ name: a, not: b }] }, cluster: blue }
          |                                              ^
           expected: true or false

     1 mistake
    "#);
}

#[test]
fn a_rewrite_of_a_prefix_needs_one() {
    let route = "{ match: { path: { exact: /a } }, cluster: blue, rewrite: { prefix: /b } }";
    assert_snapshot!(shown(with(route)), @r#"
    6:77: prefix: the route matches no prefix that it could replace
        6 |       - { match: { path: { exact: /a } }, cluster: blue, rewrite: { prefix: /b } }
          |                                                                             ^^
           expected: a route with match: { path: { prefix: ... } }, or another key

     1 mistake
    "#);
}

#[test]
fn a_rewrite_changes_something_in_one_way() {
    assert_snapshot!(shown(with("{ cluster: blue, rewrite: {} }")), @r#"
    6:35: the rewrite changes nothing
        6 |       - { cluster: blue, rewrite: {} }
          |                                   ^
           expected: prefix, regex or host

     1 mistake
    "#);
    let both = "{ cluster: blue, rewrite: { prefix: /b, regex: { pattern: a, replacement: b } } }";
    assert_snapshot!(shown(with(both)), @r#"
    6:56: a rewrite changes the path in one way
        6 |       - { cluster: blue, rewrite: { prefix: /b, regex: { pattern: a, replacement: b } } }
          |                                                        ^
           expected: either prefix or regex

     1 mistake
    "#);
}

#[test]
fn a_replacement_names_groups_that_exist() {
    let route = "{ cluster: blue, rewrite: { regex: { pattern: '^/(.*)', replacement: '/$1_x/$2$$' } } }";
    assert_snapshot!(shown(with(route)), @r#"
    6:78: replacement: the pattern has no group "1_x"
        6 |       - { cluster: blue, rewrite: { regex: { pattern: '^/(.*)', replacement: '/$1_x/$2$$' } } }
          |                                                                              ^^^^^^^^^^^^
           expected: a group of the pattern
           hint: write ${1}_x

    6:78: replacement: the pattern has no group "2"
        6 |       - { cluster: blue, rewrite: { regex: { pattern: '^/(.*)', replacement: '/$1_x/$2$$' } } }
          |                                                                              ^^^^^^^^^^^^
           expected: a group of the pattern

     2 mistakes
    "#);
}

// The listener.

#[test]
fn trusted_proxies_are_networks_and_tell_in_a_header() {
    assert_snapshot!(
        shown(parse("trustedProxies: [proxy.example]\n    routes: [{ cluster: blue }]")),
        @r#"
    5:22: trustedProxies: "proxy.example" has no IP address
        5 |     trustedProxies: [proxy.example]
          |                      ^^^^^^^^^^^^^
           expected: an address or a network, as 10.0.0.0/8 or 2001:db8::/32

     1 mistake
    "#
    );
    assert_snapshot!(
        shown(parse("trustedProxies: [10.0.0.1]\n    forwarded: off\n    routes: [{ cluster: blue }]")),
        @r#"
    5:22: trustedProxies has no effect: forwarded is off
        5 |     trustedProxies: [10.0.0.1]
          |                      ^^^^^^^^
           expected: a header that trusted proxies tell the client in

     1 mistake
    "#
    );
}

#[test]
fn a_path_policy_is_one_of_three() {
    assert_snapshot!(
        shown(parse("path: { encodedSlashes: allow }\n    routes: [{ cluster: blue }]")),
        @r#"
    5:29: encodedSlashes: invalid value "allow"
        5 |     path: { encodedSlashes: allow }
          |                             ^^^^^
           expected: refuse, keep or decode

     1 mistake
    "#
    );
}
