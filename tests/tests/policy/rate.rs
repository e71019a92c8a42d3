//! How many requests there may be. Rates of one in a thousand seconds, so that nothing comes back while a test runs.

use std::io::Write as _;

use foreshade_tests::proxy::preamble;
use foreshade_tests::recording::Recording;
use foreshade_tests::wire::{connect, read_until};

use crate::stand::{Answer, Stand, config};

const SLOW: &str = "rate: 0.001, burst: 3";

fn limited(key: &str, more: &str) -> String {
    format!("{{ cluster: shop, rateLimits: [{{ name: few, {SLOW}, key: {key}{more} }}] }}")
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

#[test]
fn a_client_has_one_bucket_whichever_worker_he_meets_and_is_told_how_he_stands() {
    for relay in [false, true] {
        let endpoint = Recording::start();
        let mut stand = Stand::start(endpoint.address, relay, "", &[&limited("client", "")]);
        // A connection for each request, which the kernel spreads over the workers.
        let answers: Vec<_> = (0..8).map(|_| stand.ask("192.0.2.1", "/")).collect();
        assert_eq!(statuses(&answers), [200, 200, 200, 429, 429, 429, 429, 429]);
        for (answer, left) in answers.iter().zip(["2", "1", "0", "0"]) {
            assert_eq!(
                answer.values("ratelimit-policy"),
                ["\"few\";q=3;w=3000"],
                "{}",
                answer.head
            );
            let standing = answer.values("ratelimit");
            assert!(
                standing.len() == 1 && standing[0].starts_with(&format!("\"few\";r={left};t=")),
                "{}",
                answer.head
            );
        }
        let refused = &answers[7];
        assert_eq!(refused.body, "foreshade: there are too many requests\n");
        let retry_after: u64 = refused.values("retry-after")[0].parse().unwrap();
        assert!((900..=1000).contains(&retry_after), "{}", refused.head);
        assert_eq!(
            stand.ask("192.0.2.2", "/").status,
            200,
            "another client has his own"
        );
        assert_eq!(stand.ask("::ffff:192.0.2.1", "/").status, 429);
        stand.refused("rate_limited", 6);
        let arrived = String::from_utf8(endpoint.take()).unwrap();
        assert_eq!(arrived.matches("GET /").count(), 4, "{arrived}");
    }
}

#[test]
fn a_client_who_has_one_connection_gets_all_of_his_burst_and_keeps_it() {
    let endpoint = Recording::start();
    let stand = Stand::start(endpoint.address, false, "", &[&limited("client", "")]);
    let mut user = connect(stand.proxy.users);
    for end in ["ok\n", "ok\n", "ok\n", "requests\n", "requests\n"] {
        user.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let answer = read_until(&mut user, end);
        assert_eq!(answer.starts_with("HTTP/1.1 200 "), end == "ok\n", "{answer}");
    }
}

#[test]
fn an_ipv6_subscriber_is_one_client() {
    let endpoint = Recording::start();
    let stand = Stand::start(endpoint.address, false, "", &[&limited("client", "")]);
    let answers: Vec<_> = (1..=4)
        .map(|host| stand.ask(&format!("2001:db8::{host}"), "/"))
        .collect();
    assert_eq!(statuses(&answers), [200, 200, 200, 429]);
    assert_eq!(stand.ask("2001:db8:0:1::1", "/").status, 200);
}

#[test]
fn a_header_or_everybody_together_may_be_the_key() {
    let endpoint = Recording::start();
    let by_key = limited("{ header: x-api-key }", "");
    let stand = Stand::start(endpoint.address, false, "", &[&by_key]);
    let ask = |client: &str, key: &str| {
        stand
            .ask_with(client, "GET", "/", &format!("X-Api-Key: {key}\r\n"))
            .status
    };
    let statuses: Vec<_> = (1..=4).map(|host| ask(&format!("192.0.2.{host}"), "a")).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(ask("192.0.2.1", "b"), 200);

    let stand = Stand::start(endpoint.address, false, "", &[&limited("everybody", "")]);
    let statuses: Vec<_> = (1..=4)
        .map(|host| stand.ask(&format!("192.0.2.{host}"), "/").status)
        .collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
}

#[test]
fn a_dry_run_counts_and_refuses_nothing_and_says_nothing() {
    let endpoint = Recording::start();
    let mut stand = Stand::start(
        endpoint.address,
        true,
        "",
        &[&limited("client", ", dryRun: true")],
    );
    for _ in 0..5 {
        let answer = stand.ask("192.0.2.1", "/");
        assert_eq!(answer.status, 200);
        assert!(answer.values("ratelimit").is_empty(), "{}", answer.head);
    }
    let series = "foreshade_policy_spared_total{reason=\"rate_limited\"}";
    stand
        .proxy
        .wait_until("aware of both", |p| p.metric(series) == Some(2.0));
    assert_eq!(
        stand
            .proxy
            .metric("foreshade_policy_refused_total{reason=\"rate_limited\"}"),
        None
    );
}

#[test]
fn a_listeners_limit_comes_before_a_routes_and_both_are_told() {
    let endpoint = Recording::start();
    let listener = "rateLimits: [{ name: all, rate: 0.001, burst: 5, key: everybody }]";
    let routes = [
        "{ match: { path: { prefix: /quiet } }, respond: { status: 200, body: hush }, \
         rateLimits: [{ name: few, rate: 0.001, burst: 1, headers: false }] }",
        "{ match: { path: { prefix: /shop } }, cluster: shop, rateLimits: [{ name: few, rate: 0.001, burst: 2 }] }",
    ];
    let stand = Stand::start(endpoint.address, true, listener, &routes);
    let answer = stand.ask("192.0.2.1", "/shop");
    assert_eq!(
        answer.values("ratelimit-policy"),
        ["\"all\";q=5;w=5000, \"few\";q=2;w=2000"]
    );
    let quiet = stand.ask("192.0.2.1", "/quiet");
    assert_eq!(
        (quiet.status, quiet.values("ratelimit-policy")),
        (200, vec!["\"all\";q=5;w=5000"])
    );
    assert_eq!(
        stand.ask("192.0.2.1", "/quiet").status,
        429,
        "answers of our own have limits, too"
    );
    assert_eq!(stand.ask("192.0.2.2", "/nowhere").status, 404);
    assert_eq!(stand.ask("192.0.2.3", "/nowhere").status, 404);
    assert_eq!(stand.ask("192.0.2.4", "/nowhere").status, 429);
}

#[test]
fn a_reload_gives_nobody_a_new_burst_unless_the_limit_itself_changes() {
    let endpoint = Recording::start();
    let route = limited("client", "");
    let stand = Stand::start(endpoint.address, false, "", &[&route]);
    let (users, admin) = (stand.proxy.users, stand.proxy.admin);
    let reload = |listener: &str, routes: &[&str]| {
        let config = config(users, endpoint.address, false, listener, routes, "");
        let (status, outcome) = stand.proxy.reload(&format!("{}{config}", preamble(admin)));
        assert_eq!(status, 200, "{outcome}");
    };
    let ask = || stand.ask("192.0.2.1", "/").status;
    assert_eq!([ask(), ask(), ask(), ask()], [200, 200, 200, 429]);
    reload("idleTimeout: 30s", &[&route]);
    assert_eq!(ask(), 429);
    reload("idleTimeout: 30s", &[&route.replace("burst: 3", "burst: 4")]);
    assert_eq!(ask(), 200);
}

#[test]
fn more_keys_than_there_are_places_cost_no_memory_and_whoever_asks_most_stays_limited() {
    let endpoint = Recording::start();
    let route = "{ cluster: shop, rateLimits: [{ name: few, rate: 0.001, burst: 3, key: { header: x-key }, keys: 64 }] }";
    let mut stand = Stand::start(endpoint.address, false, "", &[route]);
    let mut user = connect(stand.proxy.users);
    let mut ask = |key: &str, end: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n");
        user.write_all(request.as_bytes()).unwrap();
        read_until(&mut user, end)
    };
    for _ in 0..3 {
        ask("heavy", "ok\n");
    }
    for key in 0..1_000 {
        let answer = ask(&key.to_string(), "ok\n");
        assert!(
            answer.starts_with("HTTP/1.1 200 "),
            "who asks once is not refused: {answer}"
        );
    }
    assert!(ask("heavy", "requests\n").starts_with("HTTP/1.1 429 "));
    stand.proxy.wait_until("aware of the keys that it forgot", |p| {
        p.metric("foreshade_rate_limit_forgotten_keys_total") >= Some(900.0)
    });
}
