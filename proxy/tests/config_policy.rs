//! What an operator sees of mistakes in policies: every kind in its own test, as it is rendered.
//!
//! Each test has one route of its own in an otherwise sound file; the route begins in line 6.

use foreshade_proxy::config::{self, Config, Mistakes};
use insta::assert_snapshot;

fn parse(listener: &str) -> Result<Config, Mistakes> {
    let text = format!(
        "apiVersion: foreshade/v1\nlisteners:\n  - name: web\n    address: 127.0.0.1:8080\n    {listener}\n\
         clusters:\n  - {{ name: blue, endpoints: [{{ name: a, address: '127.0.0.1:9001' }}] }}\n"
    );
    config::parse(&text, "shop.yaml")
}

fn with(route: &str) -> Result<Config, Mistakes> {
    parse(&format!("routes:\n      - {{ cluster: blue, {route} }}"))
}

/// What an operator sees of the mistakes, without the file's name and the count at the end.
fn shown(parsed: Result<Config, Mistakes>) -> String {
    let Err(mistakes) = parsed else {
        panic!("no mistake");
    };
    mistakes.to_string().replace("shop.yaml:", "")
}

#[test]
fn nothing_is_asked_where_nothing_is_written() {
    let config = parse("routes: [{ cluster: blue }]").unwrap();
    let listener = &config.listeners[0];
    assert!(listener.policy.is_none() && listener.routes[0].policy.is_none());
}

#[test]
fn a_list_of_nobody_is_a_mistake() {
    assert_snapshot!(shown(with("access: { allow: [] }")), @r#"
    6:43: allow is empty
        6 |       - { cluster: blue, access: { allow: [] } }
          |                                           ^
           expected: at least one entry

     1 mistake
    "#);
}

#[test]
fn an_access_section_keeps_somebody_out() {
    assert_snapshot!(shown(with("access: {}")), @r#"
    6:34: access lets everybody in
        6 |       - { cluster: blue, access: {} }
          |                                  ^
           expected: allow, deny, or both

     1 mistake
    "#);
}

#[test]
fn an_allowed_network_is_not_denied_as_a_whole() {
    assert_snapshot!(shown(with("access: { allow: [10.1.0.0/16, 10.0.0.0/7], deny: [10.0.0.0/8] }")), @r#"
    6:44: allow: 10.1.0.0/16 is denied by 10.0.0.0/8
        6 |       - { cluster: blue, access: { allow: [10.1.0.0/16, 10.0.0.0/7], deny: [10.0.0.0/8] } }
          |                                            ^^^^^^^^^^^
           expected: networks of which something is left to be let in

     1 mistake
    "#);
}

#[test]
fn a_network_says_what_it_means() {
    assert_snapshot!(shown(parse("access: { deny: [10.1.2.3/8] }\n    routes: [{ cluster: blue }]")), @r#"
    5:22: deny: "10.1.2.3/8" has bits behind its length
        5 |     access: { deny: [10.1.2.3/8] }
          |                      ^^^^^^^^^^
           expected: an address or a network, as 10.0.0.0/8 or 2001:db8::/32
           hint: write 10.0.0.0/8

     1 mistake
    "#);
}

#[test]
fn a_rate_limit_has_a_name_of_its_own_and_a_rate() {
    assert_snapshot!(
        shown(with("rateLimits: [{ name: a, rate: 5 }, { name: a, rate: 0 }, { name: b, rate: 5, key: clients }]")),
        @r#"
    6:69: duplicate rate limit name "a"
        6 |  blue, rateLimits: [{ name: a, rate: 5 }, { name: a, rate: 0 }, { name: b, rate: 5, key: clients }]
          |                                                   ^
           expected: a name that no other rate limit has
           hint: line 6 has the same name

    6:78: rate: "0" is out of range
        6 | teLimits: [{ name: a, rate: 5 }, { name: a, rate: 0 }, { name: b, rate: 5, key: clients }] }
          |                                                   ^
           expected: requests per second above 0, as 500rps or 500

    6:108: key: invalid value "clients"
        6 | }, { name: a, rate: 0 }, { name: b, rate: 5, key: clients }] }
          |                                                   ^^^^^^^
           expected: client, everybody, or a mapping with the key header
           hint: did you mean "client"?

     3 mistakes
    "#
    );
}

#[test]
fn rate_limits_are_few() {
    let limits: Vec<_> = (0..5).map(|n| format!("{{ name: l{n}, rate: 1 }}")).collect();
    let mistakes = shown(with(&format!("rateLimits: [{}]", limits.join(", "))));
    assert!(
        mistakes.contains("rateLimits has 5 entries") && mistakes.contains("expected: at most 4"),
        "{mistakes}"
    );
}

#[test]
fn a_burst_is_what_a_second_brings_unless_it_is_written() {
    let burst = |limit: &str| {
        let config = with(&format!("rateLimits: [{{ name: a, {limit} }}]")).unwrap();
        let policy = config.listeners[0].routes[0].policy.clone().unwrap();
        policy.rates[0].limit().burst
    };
    assert_eq!(burst("rate: 0.2"), 1);
    assert_eq!(burst("rate: 12.5rps"), 13);
    assert_eq!(burst("rate: 1, burst: 30"), 30);
}

#[test]
fn a_wait_leaves_time_for_an_answer() {
    let mistakes = shown(with("timeout: 2s, concurrency: { limit: 5, queue: 5, wait: 2s }"));
    assert!(
        mistakes.contains("6:52: wait is not below the timeout of the route"),
        "{mistakes}"
    );
    assert!(with("timeout: 2s, concurrency: { limit: 5, queue: 5, wait: 1.9s }").is_ok());
}

#[test]
fn requests_that_are_sent_nowhere_are_never_under_way() {
    let said = "concurrency: { limit: 5 }, priority: low";
    let route = format!("routes: [{{ respond: {{ status: 200 }}, {said} }}]");
    let mistakes = shown(parse(&route));
    for key in ["concurrency", "priority"] {
        assert!(
            mistakes.contains(&format!("{key} has no effect")),
            "{key}: {mistakes}"
        );
    }
}

#[test]
fn a_priority_is_a_word_or_a_header() {
    let mistakes = shown(with("concurrency: { limit: 5 }, priority: urgent"));
    assert!(
        mistakes.contains("expected: low, normal, high, or a mapping with the key header"),
        "{mistakes}"
    );
    assert!(with("priority: { header: x-priority }").is_ok());
}

#[test]
fn every_site_with_credentials_is_a_mistake() {
    let mistakes = shown(with(
        "cors: { origins: ['*', 'https://a.example'], credentials: true }",
    ));
    assert!(
        mistakes.contains("credentials with '*': every site could act for its visitors")
            && mistakes.contains("the others are among them")
            && mistakes.contains("2 mistakes"),
        "{mistakes}"
    );
    assert!(with("cors: { origins: ['*'] }").is_ok());
}

#[test]
fn an_origin_is_what_a_browser_sends() {
    for (origin, told) in [
        ("shop.example", "write https://shop.example"),
        ("https://shop.example/", "write https://shop.example"),
        ("https://shop.example:443", "write https://shop.example"),
        ("'null'", "every sandboxed frame has it"),
    ] {
        let mistakes = shown(with(&format!("cors: {{ origins: [{origin}] }}")));
        assert!(mistakes.contains(told), "{mistakes}");
    }
}

#[test]
fn a_route_that_answers_preflights_takes_options() {
    let cors = "cors: { origins: ['*'] }";
    let mistakes = shown(with(&format!("match: {{ methods: [PUT] }}, {cors}")));
    assert!(mistakes.contains("the route does not take it"), "{mistakes}");
    assert!(with(&format!("match: {{ methods: [PUT, OPTIONS] }}, {cors}")).is_ok());
}

#[test]
fn one_authorization_is_asked_for_one_thing() {
    let basic = "basicAuth: { usersFile: /etc/users }";
    let jwt = "jwt: { keysFile: /etc/keys, issuer: i, audiences: [a] }";
    let mistakes = shown(with(&format!("{basic}, {jwt}")));
    assert!(mistakes.contains("jwt beside basicAuth"), "{mistakes}");
    assert!(with(basic).is_ok() && with(jwt).is_ok());
}

#[test]
fn what_endpoints_are_told_of_a_user_is_a_header_that_can_be_set() {
    let mistakes = shown(with("basicAuth: { usersFile: /etc/users, userHeader: host }"));
    assert!(mistakes.contains("\"host\" is not to be edited"), "{mistakes}");
    let claims = "claims: [{ claim: sub, header: connection }]";
    let mistakes = shown(with(&format!(
        "jwt: {{ keysFile: /k, issuer: i, audiences: [a], {claims} }}"
    )));
    assert!(
        mistakes.contains("\"connection\" is not to be edited"),
        "{mistakes}"
    );
}

#[test]
fn a_token_is_meant_for_somebody() {
    let mistakes = shown(with("jwt: { keysFile: /k, issuer: i, audiences: [] }"));
    assert!(mistakes.contains("audiences is empty"), "{mistakes}");
}

/// Two clusters whose users stay, and a listener that carries bytes to a third.
fn staying(blue: &str, green: &str) -> Result<Config, Mistakes> {
    let endpoints = "endpoints: [{ name: a, address: '127.0.0.1:900";
    let text = format!(
        "apiVersion: foreshade/v1\nlisteners:\n  - {{ name: web, address: '127.0.0.1:80', routes: [{{ cluster: blue }}] }}\n  \
         - {{ name: db, address: '127.0.0.1:81', protocol: tcp, cluster: red }}\nclusters:\n  \
         - {{ name: blue, sticky: {{ keysFile: /k, {blue} }}, {endpoints}1' }}] }}\n  \
         - {{ name: green, sticky: {{ keysFile: /k, {green} }}, {endpoints}2' }}] }}\n  \
         - {{ name: red, {endpoints}3' }}] }}\n"
    );
    config::parse(&text, "shop.yaml")
}

#[test]
fn a_cookie_that_browsers_would_not_keep_is_a_mistake() {
    assert!(staying("", "cookie: __Host-a").is_ok());
    for (written, told) in [
        ("sameSite: none, secure: false", "sameSite: none without secure"),
        (
            "cookie: __Secure-a, secure: false",
            "take one of this name only where it is secure",
        ),
        ("cookie: __Host-a, path: /shop", "only for the path /"),
        ("path: 'shop'", "path: invalid value \"shop\""),
        (
            "path: '/a;Domain=b'",
            "a path that starts with a slash, without ; and ,",
        ),
        ("ttl: 10ms", "ttl"),
    ] {
        let told_of = shown(staying(written, ""));
        assert!(
            told_of.contains(told) && told_of.contains("1 mistake"),
            "{written}: {told_of}"
        );
    }
}

#[test]
fn each_cluster_has_a_cookie_of_its_own() {
    let told = shown(staying("cookie: slot", "cookie: slot"));
    assert!(
        told.contains("7:52: cookie: \"slot\" is the cookie of \"blue\" already"),
        "{told}"
    );
    assert!(shown(staying("cookie: foreshade-green", "")).contains("is the cookie of \"blue\" already"));
    assert!(staying("cookie: Slot", "cookie: slot").is_ok());
}

#[test]
fn who_is_carried_has_no_cookie() {
    let db = "{ name: db, address: '127.0.0.1:81', protocol: tcp, cluster: red }";
    let red = "{ name: red, sticky: { keysFile: /k }, endpoints: [{ name: a, address: '127.0.0.1:9001' }] }";
    let text = format!("apiVersion: foreshade/v1\nlisteners: [{db}]\nclusters: [{red}]\n");
    let told = shown(config::parse(&text, "shop.yaml"));
    assert!(
        told.contains("sticky: connections that are carried go to this cluster"),
        "{told}"
    );
}

#[test]
fn who_is_asked_leaves_time_for_an_answer_and_changes_nothing_that_frames_a_message() {
    let with = |keys: &str| {
        with(&format!(
            "authorize: {{ address: '127.0.0.1:1', {keys} }}, timeout: 2s"
        ))
    };
    assert!(with("timeout: 1999ms, answerHeaders: [x-user]").is_ok());
    for (written, told) in [
        ("timeout: 2s", "timeout is not below the timeout of the route"),
        (
            "answerHeaders: [content-length]",
            "\"content-length\" is not to be edited",
        ),
        // Of a question without a body it would be a lie, and the next question its body.
        (
            "headers: [content-length]",
            "\"content-length\" is not to be edited",
        ),
        ("onFailure: ask", "expected: refuse or allow"),
        ("path: check", "hint: write /check"),
        ("concurrency: 0", "concurrency"),
        ("cache: 0s", "cache"),
    ] {
        let told_of = shown(with(written));
        assert!(
            told_of.contains(told) && told_of.contains("1 mistake"),
            "{written}: {told_of}"
        );
    }
}

#[test]
fn a_drill_does_something_and_is_told_of() {
    let config =
        with("faults: { header: x-drill, delay: { for: 300ms, share: 5% }, abort: { share: 1% } }").unwrap();
    let warnings: Vec<_> = config.warnings().collect();
    assert_eq!(
        warnings,
        [
            "listener web, route line-6: faults on purpose: 5% wait for 300ms, 1% are answered with 503 of those with x-drill"
        ]
    );
    for (written, told) in [
        ("{}", "faults does nothing"),
        ("{ abort: { status: 200, share: 1% } }", "status"),
        (
            "{ delay: { for: 15s, share: 1% } }",
            "for is not below the timeout of the route",
        ),
        ("{ delay: { for: 1s } }", "share"),
        ("{ abort: { share: 0% } }", "share"),
    ] {
        let told_of = shown(with(&format!("faults: {written}")));
        assert!(
            told_of.contains(told) && told_of.contains("1 mistake"),
            "{written}: {told_of}"
        );
    }
}

/// Each written line is one mistake, told like this.
fn assert_told(cases: &[(&str, &str)]) {
    for (written, told) in cases {
        let told_of = shown(with(written));
        assert!(
            told_of.contains(told) && told_of.contains("1 mistake"),
            "{written}: {told_of}"
        );
    }
}

#[test]
fn compression_offers_each_coding_once_for_what_is_a_media_type() {
    let sound = "compression: { encodings: [br, gzip], level: fast, minLength: 1B, \
                 types: [text/*, '*+json', image/svg+xml] }";
    assert!(with(sound).is_ok() && with("compression: {}").is_ok() && with("compression: off").is_ok());
    assert_told(&[
        (
            "compression: { encodings: [br, gzip, br] }",
            "br stands there twice",
        ),
        (
            "compression: { encodings: [deflate] }",
            "expected: zstd, br or gzip",
        ),
        (
            "compression: { types: ['text/html; charset=utf-8'] }",
            "has parameters",
        ),
        (
            "compression: { types: [html] }",
            "a media type as text/html, text/*, or *+json",
        ),
        (
            "compression: { types: ['*/*'] }",
            "a media type as text/html, text/*, or *+json",
        ),
        ("compression: { types: [] }", "types is empty"),
        ("compression: { minLength: 0B }", "minLength"),
        ("compression: on", "off, or a compression section"),
    ]);
    let answered = "routes: [{ respond: { status: 200 }, compression: {} }]";
    assert!(shown(parse(answered)).contains("compression has no effect: nothing is sent to an endpoint"));
}

#[test]
fn an_error_page_is_for_errors_and_in_one_place() {
    assert!(with("errorPages: [{ statuses: [404, 4xx, 5xx], of: both, body: '' }]").is_ok());
    assert_told(&[
        ("errorPages: [{ statuses: [200], body: a }]", "is no error"),
        (
            "errorPages: [{ statuses: [3xx], body: a }]",
            "a status from 400 to 599, 4xx or 5xx",
        ),
        ("errorPages: [{ statuses: [404] }]", "the page is empty"),
        (
            "errorPages: [{ statuses: [404], body: a, file: /a }]",
            "either file or body",
        ),
        (
            "errorPages: [{ statuses: [404], file: /nowhere/page.html }]",
            "file: /nowhere/page.html cannot be read",
        ),
        ("errorPages: [{ statuses: [], body: a }]", "statuses is empty"),
        (
            "errorPages: [{ statuses: [404], body: a, contentType: html }]",
            "contentType",
        ),
    ]);
}

#[test]
fn an_adaptive_limit_lies_between_two_bounds() {
    assert!(with("concurrency: { limit: 50, queue: 5, adaptive: {} }").is_ok());
    assert_told(&[
        (
            "concurrency: { limit: 50, adaptive: { min: 51 } }",
            "adaptive: min is 51, and limit 50",
        ),
        (
            "concurrency: { limit: 50, adaptive: { recheck: 10ms } }",
            "recheck",
        ),
        ("concurrency: { adaptive: {} }", "limit"),
    ]);
}

#[test]
fn keys_come_from_one_place_and_over_tls_from_who_can_prove_it() {
    let with = |keys: &str| with(&format!("jwt: {{ {keys}, issuer: a, audiences: [b] }}"));
    assert!(with("keysUrl: 'http://127.0.0.1:8080/keys'").is_ok());
    for (written, told) in [
        ("leeway: 1s", "jwt has no keys to hold signatures against"),
        ("keysUrl: 'http://a/', keysFile: /a", "either keysFile or keysUrl"),
        (
            "keysUrl: 'ftp://a/'",
            "a URL, as https://issuer.example/jwks.json",
        ),
        (
            "keysUrl: 'https://a:b@c/'",
            "has a name, a password or a fragment",
        ),
        ("keysUrl: '/keys'", "a URL, as https://issuer.example/jwks.json"),
        ("keysUrl: 'http://a/', keysCaFile: /a", "keysCaFile has no effect"),
        ("keysFile: /a, keysCaFile: /a", "keysCaFile without keysUrl"),
        (
            "keysUrl: 'https://a/', keysCaFile: /nowhere/ca.pem",
            "keysCaFile: /nowhere/ca.pem",
        ),
    ] {
        let told_of = shown(with(written));
        assert!(
            told_of.contains(told) && told_of.contains("1 mistake"),
            "{written}: {told_of}"
        );
    }
}

#[test]
fn a_certificate_can_only_be_asked_for_where_clients_are_asked_for_one() {
    let told = shown(with("clientCertificate: {}"));
    assert!(
        told.contains("route line-6: clientCertificate lets nobody in")
            && told.contains("tls.clientCertificates"),
        "{told}"
    );
    for (written, expected) in [
        (
            "uris: ['spiffe://shop.example*']",
            "write spiffe://shop.example/*",
        ),
        (
            "uris: ['spiffe://*/till']",
            "a star that is not its last character",
        ),
        ("uris: [till]", "a URI, or the beginning of some"),
        ("dnsNames: ['*']", "every host"),
        ("subjects: [' ']", "subjects"),
    ] {
        let told = shown(with(&format!("clientCertificate: {{ {written} }}")));
        assert!(told.contains(expected), "{written}: {told}");
    }
    let many: Vec<_> = (0..257).map(|n| format!("'urn:x:{n}'")).collect();
    let told = shown(with(&format!(
        "clientCertificate: {{ uris: [{}] }}",
        many.join(", ")
    )));
    assert!(told.contains("uris has 257 entries"), "{told}");
}
