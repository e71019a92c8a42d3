//! What an operator sees: every kind of mistake in its own test, as it is rendered.
//!
//! Each test changes one thing in a sound file. No test asks a resolver of this machine.

mod certificates;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use foreshade_engine::spec::{BalancePolicy, Role, ShiftPolicy};
use foreshade_proxy::config::{
    self, Answers, CohortKey, Config, DnsName, Found, Mistakes, Probe, SegmentRule,
};
use foreshade_proxy::route::{HostMatch, PathMatch, Route};
use http::HeaderName;
use insta::assert_snapshot;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use serde_json::Value as Json;

use certificates::Folder;

const SOUND: &str = "\
apiVersion: foreshade/v1
listeners:
  - name: web
    address: 127.0.0.1:8080
    routes:
      - cluster: shop
clusters:
  - name: shop
    endpoints:
      - { name: a, address: 127.0.0.1:9001, shadow: a-standby }
      - { name: b, address: 127.0.0.1:9002 }
    shadows:
      - { name: a-standby, address: 127.0.0.1:9101 }
";

fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host {
        "one.example" => Ok(vec![([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], port).into()]),
        "nothing.example" => Ok(Vec::new()),
        _ => Err(io::Error::other("no such host")),
    }
}

fn parse(text: &str) -> Result<Config, Mistakes> {
    config::parse_with(text, "shop.yaml", &resolve, &answers())
}

/// The sound file with one piece of it replaced.
fn with(old: &str, new: &str) -> String {
    assert_eq!(SOUND.matches(old).count(), 1, "{old:?} has to occur once");
    SOUND.replace(old, new)
}

/// The sound file with more keys in its cluster.
fn in_cluster(keys: &str) -> String {
    with("  - name: shop\n", &format!("  - name: shop\n    {keys}\n"))
}

/// What an operator sees of the mistakes.
fn shown(text: &str) -> String {
    let Err(mistakes) = parse(text) else {
        panic!("no mistake in:\n{text}");
    };
    mistakes.to_string()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Loads an example as it would be on a machine that has the certificates which it names.
fn load_furnished(path: &Path) -> Result<Config, Mistakes> {
    let folder = Folder::new();
    let text = folder.furnish(&std::fs::read_to_string(path).unwrap_or_default());
    config::load(&folder.file("example.yaml", text), &Answers::default())
}

// Sound files.

#[test]
fn every_file_in_configs_is_sound() {
    let mut seen = 0;
    for file in std::fs::read_dir(repository().join("configs")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            if let Err(mistakes) = load_furnished(&path) {
                panic!("{mistakes}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 3);
}

#[test]
fn what_the_file_leaves_out_has_its_default() {
    let config = parse(SOUND).unwrap();
    let loopback = config::AdminAddress::Tcp("127.0.0.1:9901".parse().unwrap());
    assert_eq!(config.admin.address, loopback);
    assert_eq!(config.admin.token_file, None);
    assert_eq!(config.admin.without_token, config::WithoutToken::Health);
    assert_eq!(config.access_log, None);
    assert_eq!(config.request_ids, config::RequestIds::default());
    assert_eq!(config.traces.mode, config::TraceMode::Pass);
    assert!((1..=256).contains(&config.workers));
    assert_eq!(config.grace, Duration::from_secs(30));

    let listener = &config.listeners[0];
    assert_eq!(listener.idle_timeout, Duration::from_secs(60));
    let route = &listener.routes[0];
    assert_eq!(route.matches.host, HostMatch::Any);
    assert_eq!(route.matches.path, PathMatch::Prefix("/".to_owned()));
    assert_eq!(route.clusters().collect::<Vec<_>>(), [0]);
    assert_eq!(
        (route.timeout, route.idempotent),
        (Duration::from_secs(15), false)
    );

    let cluster = &config.clusters[0];
    assert_eq!(cluster.balance, BalancePolicy::LeastLoad);
    assert_eq!(cluster.cohort, CohortKey::ClientAddress);
    assert_eq!(cluster.shift, ShiftPolicy::default());
    assert!(cluster.segments.is_empty());
    assert_eq!(cluster.connect_timeout, Duration::from_millis(500));
    assert_eq!(
        (cluster.slow_start, cluster.idle_timeout),
        (Duration::from_secs(10), Duration::from_secs(50))
    );
    let health = cluster.health.as_ref().unwrap();
    assert_eq!((&health.probe, health.rise, health.fall), (&Probe::Tcp, 2, 3));
    assert_eq!(
        (health.interval, health.timeout),
        (Duration::from_secs(1), Duration::from_millis(500))
    );
    let roles: Vec<_> = cluster.endpoints.iter().map(|endpoint| endpoint.role).collect();
    assert_eq!(
        roles,
        [
            Role::Primary { shadow: Some(2) },
            Role::Primary { shadow: None },
            Role::Shadow
        ]
    );
}

// Concept: endpoint-shift-groups
#[test]
fn what_the_file_says_is_what_comes_out() {
    let config = load_furnished(&repository().join("configs/reference.yaml")).unwrap();
    assert_eq!(config.workers, 4);
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert_eq!(tls.certificates()[0].names, ["shop.example", "*.shop.example"]);
    assert!(
        tls.settings()
            .clients
            .as_ref()
            .is_some_and(|clients| !clients.required)
    );
    let warnings: Vec<_> = config.warnings().collect();
    assert_eq!(
        warnings,
        [
            "no certificate of www.shop.example has been issued yet; one that signs itself is shown until then",
            "listener web, route tomorrow: faults on purpose: 5% wait for 300ms, 1% are answered with 503 of those with \
             x-drill"
        ]
    );
    let routes = &config.listeners[0].routes;
    assert_eq!(
        routes[0].matches.host,
        HostMatch::Exact("shop.example".to_owned())
    );
    assert_eq!(routes[0].matches.path, PathMatch::Prefix("/reports".to_owned()));
    let clusters = |route: &Route| route.clusters().collect::<Vec<_>>();
    assert_eq!((clusters(&routes[0]), routes[0].idempotent), (vec![1], true));
    assert_eq!(
        (clusters(&routes[1]), routes[1].called()),
        (vec![0, 1], "tomorrow".to_owned())
    );

    let shop = &config.clusters[0];
    assert_eq!(shop.cohort, CohortKey::Cookie("session".to_owned()));
    assert_eq!(shop.shift, ShiftPolicy::default());
    assert_eq!(shop.endpoints[0].capacity_rps, Some(500.0));
    assert_eq!(shop.endpoints[2].capacity_rps, Some(800.0));
    assert!(
        shop.endpoints[..2]
            .iter()
            .all(|endpoint| endpoint.role == Role::Primary { shadow: Some(2) })
    );
    assert_eq!(
        shop.segments[1].rules,
        [
            SegmentRule::Header {
                name: HeaderName::from_static("x-region"),
                value: "eu-west".to_owned()
            },
            SegmentRule::Cookie {
                name: "beta".to_owned(),
                value: "1".to_owned()
            },
        ]
    );
    let probe = &shop.health.as_ref().unwrap().probe;
    let host = Some("shop.example".to_owned());
    assert_eq!(
        probe,
        &Probe::Http {
            path: "/healthz".to_owned(),
            host
        }
    );

    let reports = &config.clusters[1];
    assert_eq!(reports.balance, BalancePolicy::RoundRobin);
    assert_eq!(
        reports.cohort,
        CohortKey::Header(HeaderName::from_static("x-user"))
    );
    assert_eq!(reports.endpoints[0].role, Role::Primary { shadow: Some(1) });
}

#[test]
fn health_checks_can_be_off_or_short() {
    assert!(
        parse(&in_cluster("health: off")).unwrap().clusters[0]
            .health
            .is_none()
    );
    assert!(
        parse(&in_cluster("health: tcp")).unwrap().clusters[0]
            .health
            .is_some()
    );
}

/// `one.example` has three addresses by now, the first of which has gone again; `two.example` has two.
fn answers() -> Answers {
    let found = |number, last: u8, port| Found {
        number,
        address: ([10, 0, 0, last], port).into(),
        weight: 1.0,
    };
    let host = |name: &str| DnsName::Host(name.to_owned(), 80);
    let service = DnsName::Service("_http._tcp.shop.example".to_owned());
    Answers(HashMap::from([
        (host("one.example"), vec![found(2, 2, 80), found(3, 3, 80)]),
        (host("two.example"), vec![found(1, 11, 80), found(2, 12, 80)]),
        (
            service,
            vec![
                Found {
                    weight: 1.5,
                    ..found(1, 21, 8080)
                },
                Found {
                    weight: 0.5,
                    ..found(2, 22, 9090)
                },
            ],
        ),
    ]))
}

fn endpoints(config: &Config) -> Vec<(&str, String, Option<&str>)> {
    let all = &config.clusters[0].endpoints;
    let shadow = |role| match role {
        Role::Primary { shadow: Some(index) } => Some(all[index].name.as_str()),
        Role::Primary { shadow: None } | Role::Shadow => None,
    };
    all.iter()
        .map(|e| (e.name.as_str(), e.address.to_string(), shadow(e.role)))
        .collect()
}

#[test]
fn a_listeners_host_name_is_resolved_to_its_first_address() {
    let config = parse(&with("address: 127.0.0.1:8080", "address: one.example:8080")).unwrap();
    assert_eq!(config.listeners[0].address, "10.0.0.1:8080".parse().unwrap());
}

#[test]
fn each_address_of_a_name_is_an_endpoint_with_a_shadow_of_its_number() {
    let names = with("127.0.0.1:9001", "one.example:80").replace("127.0.0.1:9101", "two.example:80");
    let config = parse(&names).unwrap();
    let at = |address: &str| address.to_owned();
    assert_eq!(
        endpoints(&config),
        [
            ("a-2", at("10.0.0.2:80"), Some("a-standby-2")),
            // There is no third standby: in turn, so the first.
            ("a-3", at("10.0.0.3:80"), Some("a-standby")),
            ("b", at("127.0.0.1:9002"), None),
            ("a-standby", at("10.0.0.11:80"), None),
            ("a-standby-2", at("10.0.0.12:80"), None),
        ]
    );
    assert_eq!(config.names().len(), 2);
}

#[test]
fn a_service_brings_ports_and_weights() {
    let service = parse(&with("127.0.0.1:9002", "_http._tcp.Shop.Example.")).unwrap();
    let endpoints = &service.clusters[0].endpoints;
    let weights: Vec<f64> = endpoints.iter().map(|e| e.weight).collect();
    assert_eq!(weights, [1.0, 1.5, 0.5, 1.0]);
    assert_eq!(endpoints[2].address, "10.0.0.22:9090".parse().unwrap());
}

#[test]
fn a_name_without_addresses_leaves_its_endpoint_out_and_nothing_else() {
    let config = parse(&with("127.0.0.1:9101", "gone.example:80")).unwrap();
    assert_eq!(
        endpoints(&config),
        [
            ("a", "127.0.0.1:9001".to_owned(), None),
            ("b", "127.0.0.1:9002".to_owned(), None),
        ]
    );
}

#[test]
fn an_address_that_the_cluster_has_already_is_nobodys_mistake() {
    let twice = with("127.0.0.1:9001", "\"10.0.0.11:80\"").replace("127.0.0.1:9002", "two.example:80");
    let config = parse(&twice).unwrap();
    let names: Vec<_> = endpoints(&config).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["a", "b-2", "a-standby"]);
}

#[test]
fn names_that_could_be_mixed_up_are_mistakes() {
    let mixed = with(
        "name: b, address: 127.0.0.1:9002",
        "name: a-7, address: one.example:80",
    )
    .replace("127.0.0.1:9001", "one.example:80");
    assert_snapshot!(shown(&mixed), @r#"
    shop.yaml:11:17: name: "a-7" may be an address of "a"
       11 |       - { name: a-7, address: one.example:80 }
          |                 ^^^
           expected: a name that does not end in a number like it

    shop.yaml:11:31: address: one.example:80 is the address of "a" already
       11 |       - { name: a-7, address: one.example:80 }
          |                               ^^^^^^^^^^^^^^
           expected: an address of its own

    shop.yaml: 2 mistakes
    "#);
}

#[test]
fn a_service_has_two_labels_and_a_domain() {
    assert_snapshot!(shown(&with("127.0.0.1:9002", "_http.shop.example")), @r#"
    shop.yaml:11:29: address: "_http.shop.example" is not the name of a service
       11 |       - { name: b, address: _http.shop.example }
          |                             ^^^^^^^^^^^^^^^^^^
           expected: an address, as 127.0.0.1:8080 or host:8080, or a service, as _http._tcp.shop.example
           hint: write _service._protocol.domain

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_part_may_be_written_once_and_used_twice() {
    let text = in_cluster("health: &health { interval: 2s }")
        + "  - name: other\n    health: *health\n    endpoints: [{ name: a, address: 127.0.0.1:9201 }]\n";
    let config = parse(&text).unwrap();
    assert!(
        config
            .clusters
            .iter()
            .all(|c| c.health.as_ref().unwrap().interval == Duration::from_secs(2))
    );
}

// The text.

#[test]
fn a_syntax_error_is_one_mistake_with_its_place() {
    assert_snapshot!(shown(&with("9002 }", "9002")), @r#"
    shop.yaml:13:7: not valid YAML: "-" is only valid inside a block
       13 |       - { name: a-standby, address: 127.0.0.1:9101 }
          |       ^

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn an_empty_file_is_a_mistake() {
    assert_snapshot!(shown("# nothing\n"), @r#"
    shop.yaml: the file is empty

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_file_that_is_something_else_is_a_mistake() {
    let shown = shown("worker_processes 4;\n");
    assert!(
        shown.contains("shop.yaml:1:1: the file is \"worker_processes 4;\""),
        "{shown}"
    );
    assert!(
        shown.contains("expected: a mapping with the keys apiVersion, admin, "),
        "{shown}"
    );
}

#[test]
fn a_file_that_does_not_exist_is_a_mistake() {
    let mistakes = config::load(Path::new("/nowhere/x.yaml"), &Answers::default())
        .unwrap_err()
        .to_string();
    assert!(
        mistakes.starts_with("/nowhere/x.yaml: cannot be read: "),
        "{mistakes}"
    );
}

#[test]
fn a_duplicate_key_is_a_mistake() {
    assert_snapshot!(shown(&in_cluster("slowStart: 1s\n    slowStart: 2s")), @r#"
    shop.yaml:10:5: duplicate key "slowStart"
       10 |     slowStart: 2s
          |     ^^^^^^^^^
           hint: it stands in line 9 already; remove one of them

    shop.yaml: 1 mistake
    "#);
}

// Keys and types.

#[test]
fn an_unknown_key_gets_a_hint() {
    assert_snapshot!(shown(&with("9002 }", "9002, shadw: a-standby }")), @r#"
    shop.yaml:11:45: unknown key "shadw" in an endpoint
       11 |       - { name: b, address: 127.0.0.1:9002, shadw: a-standby }
          |                                             ^^^^^
           expected: one of name, address, serverName, shadow, region, weight, capacity
           hint: did you mean "shadow"?

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_misspelt_required_key_is_not_reported_as_missing_too() {
    // All keys of the file are named; some of them are left out here, for the width of the page.
    let shown = shown(&with("clusters:", "clutsers:"))
        .replace("workers, relay, grace, upgrade, dns, acme, ", "..., ");
    assert_snapshot!(shown, @r#"
    shop.yaml:7:1: unknown key "clutsers" in the file
        7 | clutsers:
          | ^^^^^^^^
           expected: one of apiVersion, admin, follow, accessLog, requestId, trace, ..., controller, listeners, clusters
           hint: did you mean "clusters"?

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_missing_key_is_a_mistake() {
    assert_snapshot!(shown(&with("    address: 127.0.0.1:8080\n", "")), @r#"
    shop.yaml:3:5: address is missing
        3 |   - name: web
          |     ^
           expected: an address, as 127.0.0.1:8080, [::1]:8080 or host:8080

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_version_that_does_not_exist_yet_is_a_mistake() {
    assert_snapshot!(shown(&with("foreshade/v1", "foreshade/v2")), @r#"
    shop.yaml:1:13: apiVersion: invalid value "foreshade/v2"
        1 | apiVersion: foreshade/v2
          |             ^^^^^^^^^^^^
           expected: foreshade/v1
           hint: did you mean "foreshade/v1"?

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_protocol_is_one_of_four() {
    assert_snapshot!(shown(&with("- name: web\n", "- name: web\n    protocol: quic\n")), @r#"
    shop.yaml:4:15: protocol: invalid value "quic"
        4 |     protocol: quic
          |               ^^^^
           expected: http, tcp, tls-passthrough or udp

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_mapping_where_a_list_is_expected_is_a_mistake() {
    assert_snapshot!(shown(&with("- cluster: shop", "cluster: shop")), @r#"
    shop.yaml:6:7: routes is a mapping
        6 |       cluster: shop
          |       ^
           expected: a list

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_word_where_a_mapping_is_expected_is_a_mistake() {
    assert_snapshot!(shown(&in_cluster("health: { http: fast }")), @r#"
    shop.yaml:9:21: http is "fast"
        9 |     health: { http: fast }
          |                     ^^^^
           expected: a mapping with the keys path, host

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_word_where_a_number_is_expected_is_a_mistake() {
    assert_snapshot!(shown(&with("9002 }", "9002, weight: heavy }")), @r#"
    shop.yaml:11:53: weight: invalid value "heavy"
       11 |       - { name: b, address: 127.0.0.1:9002, weight: heavy }
          |                                                     ^^^^^
           expected: a number above 0, at most 1000

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_key_without_a_value_is_a_mistake() {
    assert_snapshot!(shown(&in_cluster("slowStart:")), @r#"
    shop.yaml:9:14: slowStart has no value
        9 |     slowStart:
          |              ^
           expected: a duration from 0s to 1h
           hint: write a value, or remove slowStart

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_boolean_is_true_or_false() {
    assert_snapshot!(shown(&in_cluster("shift: { enabled: no }")), @r#"
    shop.yaml:9:23: enabled: invalid value "no"
        9 |     shift: { enabled: no }
          |                       ^^
           expected: true or false
           hint: write false

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn an_unknown_policy_gets_a_hint() {
    assert_snapshot!(shown(&in_cluster("balance: least_loaded")), @r#"
    shop.yaml:9:14: balance: invalid value "least_loaded"
        9 |     balance: least_loaded
          |              ^^^^^^^^^^^^
           expected: least-load, weighted-random, round-robin or consistent-hash
           hint: did you mean "least-load"?

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn an_unknown_policy_in_the_long_form_is_a_mistake() {
    assert_snapshot!(shown(&in_cluster("balance: { policy: random }")), @r#"
    shop.yaml:9:24: policy: invalid value "random"
        9 |     balance: { policy: random }
          |                        ^^^^^^
           expected: least-load, weighted-random, round-robin or consistent-hash

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn health_is_not_on() {
    assert_snapshot!(shown(&in_cluster("health: on")), @r#"
    shop.yaml:9:13: health: invalid value "on"
        9 |     health: on
          |             ^^
           expected: tcp, off, or a mapping

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_name_that_would_break_a_label_is_a_mistake() {
    assert_snapshot!(shown(&with("- name: web", "- name: the web")), @r#"
    shop.yaml:3:11: name: "the web" has ' ' where no name has it
        3 |   - name: the web
          |           ^^^^^^^
           expected: a name of letters, digits, '.', '_' and '-'

    shop.yaml: 1 mistake
    "#);
}

// Units and ranges.

#[test]
fn a_bare_number_is_no_duration() {
    assert_snapshot!(shown(&in_cluster("connectTimeout: 250")), @r#"
    shop.yaml:9:21: connectTimeout: "250" has no unit
        9 |     connectTimeout: 250
          |                     ^^^
           expected: a duration from 1ms to 1h
           hint: write 250ms or 250s

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn an_unknown_unit_of_time_is_a_mistake() {
    assert_snapshot!(shown(&in_cluster("connectTimeout: 2sec")), @r#"
    shop.yaml:9:21: connectTimeout: "2sec" has the unknown unit "sec"
        9 |     connectTimeout: 2sec
          |                     ^^^^
           expected: a duration from 1ms to 1h
           hint: the units are ms, s, m and h

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn an_unknown_unit_of_capacity_is_a_mistake() {
    assert_snapshot!(shown(&with("9002 }", "9002, capacity: 500rpm }")), @r#"
    shop.yaml:11:55: capacity: "500rpm" has the unknown unit "rpm"
       11 |       - { name: b, address: 127.0.0.1:9002, capacity: 500rpm }
          |                                                       ^^^^^^
           expected: requests per second above 0, as 500rps or 500
           hint: write 500rps

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_count_out_of_range_is_a_mistake() {
    assert_snapshot!(shown(&with("listeners:", "workers: 0\nlisteners:")), @r#"
    shop.yaml:2:10: workers: "0" is out of range
        2 | workers: 0
          |          ^
           expected: a whole number from 1 to 256

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_duration_out_of_range_is_a_mistake() {
    assert_snapshot!(shown(&in_cluster("connectTimeout: 2h")), @r#"
    shop.yaml:9:21: connectTimeout: "2h" is out of range
        9 |     connectTimeout: 2h
          |                     ^^
           expected: a duration from 1ms to 1h

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_share_out_of_range_gets_a_hint() {
    assert_snapshot!(shown(&in_cluster("shift: { canary: 5 }")), @r#"
    shop.yaml:9:22: canary: "5" is out of range
        9 |     shift: { canary: 5 }
          |                      ^
           expected: a share above 0% up to 100%, as 5% or 0.05
           hint: write 5%

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_weight_of_0_is_a_mistake() {
    assert_snapshot!(shown(&with("9002 }", "9002, weight: 0 }")), @r#"
    shop.yaml:11:53: weight: "0" is out of range
       11 |       - { name: b, address: 127.0.0.1:9002, weight: 0 }
          |                                                     ^
           expected: a number above 0, at most 1000
           hint: leave it out if it is to get no traffic

    shop.yaml: 1 mistake
    "#);
}

// Addresses.

#[test]
fn an_address_without_a_port_is_a_mistake() {
    assert_snapshot!(shown(&with("127.0.0.1:9002", "127.0.0.1")), @r#"
    shop.yaml:11:29: address: "127.0.0.1" has no port
       11 |       - { name: b, address: 127.0.0.1 }
          |                             ^^^^^^^^^
           expected: an address, as 127.0.0.1:8080 or host:8080, or a service, as _http._tcp.shop.example
           hint: write 127.0.0.1:8080

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn port_0_is_a_mistake() {
    assert_snapshot!(shown(&with("127.0.0.1:9002", "127.0.0.1:0")), @r#"
    shop.yaml:11:29: address: "127.0.0.1:0" has port 0
       11 |       - { name: b, address: 127.0.0.1:0 }
          |                             ^^^^^^^^^^^
           expected: an address, as 127.0.0.1:8080 or host:8080, or a service, as _http._tcp.shop.example
           hint: write the port that is meant

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn an_address_with_a_scheme_is_a_mistake() {
    assert_snapshot!(shown(&with("127.0.0.1:9002", "\"http://127.0.0.1:9002/\"")), @r#"
    shop.yaml:11:29: address: "http://127.0.0.1:9002/" has a scheme
       11 |       - { name: b, address: "http://127.0.0.1:9002/" }
          |                             ^^^^^^^^^^^^^^^^^^^^^^^^
           expected: an address, as 127.0.0.1:8080 or host:8080, or a service, as _http._tcp.shop.example
           hint: write 127.0.0.1:9002

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_listener_without_a_host_is_a_mistake() {
    assert_snapshot!(shown(&with("address: 127.0.0.1:8080", "address: \":8080\"")), @r#"
    shop.yaml:4:14: address: ":8080" has no host
        4 |     address: ":8080"
          |              ^^^^^^^
           expected: an address, as 127.0.0.1:8080, [::1]:8080 or host:8080
           hint: write 0.0.0.0:8080 to listen on every address

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_host_that_cannot_be_resolved_is_a_mistake() {
    assert_snapshot!(shown(&with("address: 127.0.0.1:8080", "address: two.example:80")), @r#"
    shop.yaml:4:14: address: the host "two.example" cannot be resolved: no such host
        4 |     address: two.example:80
          |              ^^^^^^^^^^^^^^
           expected: a host that has an address when the file is loaded
           hint: write its IP address, or check the name and the resolver of this machine

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_host_without_addresses_is_a_mistake() {
    assert_snapshot!(shown(&with("address: 127.0.0.1:8080", "address: nothing.example:80")), @r#"
    shop.yaml:4:14: address: the host "nothing.example" cannot be resolved: no addresses
        4 |     address: nothing.example:80
          |              ^^^^^^^^^^^^^^^^^^
           expected: a host that has an address when the file is loaded
           hint: write its IP address, or check the name and the resolver of this machine

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn two_listeners_need_two_addresses() {
    let more = "  - { name: more, address: 0.0.0.0:8080, routes: [{ cluster: shop }] }\nclusters:";
    assert_snapshot!(shown(&with("clusters:", more)), @r#"
    shop.yaml:7:28: address: 0.0.0.0:8080 is taken by the listener "web"
        7 |   - { name: more, address: 0.0.0.0:8080, routes: [{ cluster: shop }] }
          |                            ^^^^^^^^^^^^
           expected: an address of its own

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_listener_cannot_have_the_address_of_the_admin_interface() {
    assert_snapshot!(shown(&with("127.0.0.1:8080", "127.0.0.1:9901")), @r#"
    shop.yaml:4:14: address: 127.0.0.1:9901 is taken by the admin interface
        4 |     address: 127.0.0.1:9901
          |              ^^^^^^^^^^^^^^
           expected: an address of its own

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn an_endpoint_that_is_this_proxy_is_a_mistake() {
    assert_snapshot!(shown(&with("127.0.0.1:9002", "127.0.0.1:8080")), @r#"
    shop.yaml:11:29: address: 127.0.0.1:8080 is the listener "web" of this proxy
       11 |       - { name: b, address: 127.0.0.1:8080 }
          |                             ^^^^^^^^^^^^^^
           expected: the address of another server; requests would go round in circles

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn an_unspecified_address_reaches_nobody() {
    assert_snapshot!(shown(&with("127.0.0.1:9002", "0.0.0.0:9002")), @r#"
    shop.yaml:11:29: address: nobody can be reached at 0.0.0.0
       11 |       - { name: b, address: 0.0.0.0:9002 }
          |                             ^^^^^^^^^^^^
           expected: the address of one machine

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn two_endpoints_need_two_addresses() {
    assert_snapshot!(shown(&with("127.0.0.1:9002", "127.0.0.1:9001")), @r#"
    shop.yaml:11:29: address: 127.0.0.1:9001 is the address of "a" already
       11 |       - { name: b, address: 127.0.0.1:9001 }
          |                             ^^^^^^^^^^^^^^
           expected: an address of its own

    shop.yaml: 1 mistake
    "#);
}

// Names.

#[test]
fn an_unknown_cluster_gets_a_hint() {
    assert_snapshot!(shown(&with("cluster: shop", "cluster: shpo")), @r#"
    shop.yaml:6:18: unknown cluster "shpo"
        6 |       - cluster: shpo
          |                  ^^^^
           expected: one of shop
           hint: did you mean "shop"?

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn an_unknown_shadow_gets_a_hint() {
    assert_snapshot!(shown(&with("shadow: a-standby", "shadow: a-standbye")), @r#"
    shop.yaml:10:53: unknown shadow "a-standbye"
       10 |       - { name: a, address: 127.0.0.1:9001, shadow: a-standbye }
          |                                                     ^^^^^^^^^^
           expected: one of a, b, a-standby
           hint: did you mean "a-standby"?

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn two_listeners_need_two_names() {
    let more = "  - { name: web, address: 127.0.0.1:8081, routes: [{ cluster: shop }] }\nclusters:";
    assert_snapshot!(shown(&with("clusters:", more)), @r#"
    shop.yaml:7:13: duplicate listener name "web"
        7 |   - { name: web, address: 127.0.0.1:8081, routes: [{ cluster: shop }] }
          |             ^^^
           expected: a name that no other listener has
           hint: line 3 has the same name

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn two_clusters_need_two_names() {
    let more = "clusters:\n  - { name: shop, endpoints: [{ name: a, address: 127.0.0.1:9001 }] }";
    assert_snapshot!(shown(&with("clusters:", more)), @r#"
    shop.yaml:9:11: duplicate cluster name "shop"
        9 |   - name: shop
          |           ^^^^
           expected: a name that no other cluster has
           hint: line 8 has the same name

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn an_endpoint_and_a_shadow_need_two_names() {
    assert_snapshot!(shown(&with("name: b", "name: a-standby")), @r#"
    shop.yaml:13:17: duplicate endpoint or shadow name "a-standby"
       13 |       - { name: a-standby, address: 127.0.0.1:9101 }
          |                 ^^^^^^^^^
           expected: a name that no other endpoint or shadow has
           hint: line 11 has the same name

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_name_is_unknown_only_where_all_names_could_be_read() {
    for text in [
        with("- { name: a-standby,", "- { name: \"a standby\","),
        with("- { name: a-standby,", "- a-standby\n      - { nme: a-standbye,"),
        with("    shadows:", "    shdows:"),
        with("  - name: shop", "  - shop\n  - name: shop2"),
    ] {
        let mistakes = shown(&text);
        for follows in ["unknown endpoint", "unknown cluster", "no endpoint has"] {
            assert!(!mistakes.contains(follows), "{mistakes}");
        }
    }
}

// Shadows.

#[test]
fn a_shadow_that_is_its_own_primary_is_a_mistake() {
    assert_snapshot!(shown(&with("9002 }", "9002, shadow: b }")), @r#"
    shop.yaml:11:53: "b" is its own shadow
       11 |       - { name: b, address: 127.0.0.1:9002, shadow: b }
          |                                                     ^
           expected: the name of another endpoint or shadow

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_shadow_at_the_address_of_its_primary_is_a_mistake() {
    assert_snapshot!(shown(&with("127.0.0.1:9101", "127.0.0.1:9001")), @r#"
    shop.yaml:13:37: "a" and its shadow are one: both are 127.0.0.1:9001
       13 |       - { name: a-standby, address: 127.0.0.1:9001 }
          |                                     ^^^^^^^^^^^^^^
           expected: an address of its own

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_circle_of_shadows_is_one_mistake() {
    let circle = "9002, shadow: c }\n      \
                  - { name: c, address: 127.0.0.1:9003, shadow: d }\n      \
                  - { name: d, address: 127.0.0.1:9004, shadow: b }";
    assert_snapshot!(shown(&with("9002 }", circle)), @r#"
    shop.yaml:11:53: a circle of shadows: "b" -> "c" -> "d" -> "b"
       11 |       - { name: b, address: 127.0.0.1:9002, shadow: c }
          |                                                     ^
           expected: shadows without shadows of their own

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_chain_of_shadows_is_a_mistake() {
    assert_snapshot!(shown(&with("9002 }", "9002, shadow: a }")), @r#"
    shop.yaml:11:53: the shadow "a" has a shadow of its own
       11 |       - { name: b, address: 127.0.0.1:9002, shadow: a }
          |                                                     ^
           expected: a shadow without a shadow

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_shadow_that_nobody_names_is_a_mistake() {
    assert_snapshot!(shown(&with(", shadow: a-standby", "")), @r#"
    shop.yaml:13:17: no endpoint has the shadow "a-standby"
       13 |       - { name: a-standby, address: 127.0.0.1:9101 }
          |                 ^^^^^^^^^
           expected: a shadow that an endpoint names
           hint: write shadow: a-standby at an endpoint, or remove the shadow

    shop.yaml: 1 mistake
    "#);
}

// Concept: endpoint-shadow-choice
#[test]
fn a_controller_may_choose_from_shadows_that_nobody_names_where_somebody_has_none() {
    let followed = |text: &str| {
        let follow = "follow: { address: 127.0.0.1:9903, planFile: /tmp/plan }\nclusters:\n";
        text.replacen("clusters:\n", follow, 1)
    };
    let unnamed = with(", shadow: a-standby", "");
    let config = parse(&followed(&unnamed)).unwrap();
    assert_eq!(
        endpoints(&config).last(),
        Some(&("a-standby", "127.0.0.1:9101".to_owned(), None))
    );
    // Everybody has one already, so nobody gets this one.
    let spare = "shadows:\n      - { name: spare, address: 127.0.0.1:9103 }\n";
    let all_named = followed(&with("9002 }", "9002, shadow: a-standby }")).replacen("shadows:\n", spare, 1);
    assert!(
        shown(&all_named).contains("no endpoint has the shadow \"spare\""),
        "{}",
        shown(&all_named)
    );
}

// Routes, segments, policies.

#[test]
fn a_listener_needs_routes() {
    assert_snapshot!(shown(&with("routes:\n      - cluster: shop", "routes: []")), @r#"
    shop.yaml:5:13: routes is empty
        5 |     routes: []
          |             ^
           expected: at least one entry

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn two_routes_cannot_match_the_same() {
    let twice = "- { match: { host: SHOP.example, path: { prefix: /a/ } }, cluster: shop }\n      \
                 - { match: { host: shop.example, path: { prefix: /a } }, cluster: shop }";
    assert_snapshot!(shown(&with("- cluster: shop", twice)), @r#"
    shop.yaml:7:9: a route for shop.example/a exists already
        7 |       - { match: { host: shop.example, path: { prefix: /a } }, cluster: shop }
          |         ^
           expected: a match that no other route of the listener has
           hint: the first one is in line 6; this one would never be used

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_host_to_match_has_no_port() {
    let route = "- { match: { host: \"shop.example:8080\" }, cluster: shop }";
    assert_snapshot!(shown(&with("- cluster: shop", route)), @r#"
    shop.yaml:6:26: host: "shop.example:8080" has a port
        6 |       - { match: { host: "shop.example:8080" }, cluster: shop }
          |                          ^^^^^^^^^^^^^^^^^^^
           expected: a host name without port, or *. and a domain
           hint: write shop.example; the listener decides the port

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_prefix_starts_with_a_slash() {
    let route = "- { match: { path: { prefix: api } }, cluster: shop }";
    assert_snapshot!(shown(&with("- cluster: shop", route)), @r#"
    shop.yaml:6:36: prefix: invalid value "api"
        6 |       - { match: { path: { prefix: api } }, cluster: shop }
          |                                    ^^^
           expected: a path that starts with a slash
           hint: write /api

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_cohort_is_one_thing() {
    assert_snapshot!(shown(&in_cluster("cohort: { header: x-user, cookie: session }")), @r#"
    shop.yaml:9:13: a user is recognised by one thing
        9 |     cohort: { header: x-user, cookie: session }
          |             ^
           expected: either header or cookie

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_probe_asks_one_thing_and_ends_before_the_next() {
    assert_snapshot!(shown(&in_cluster("health: { http: {}, tcp: {}, interval: 200ms }")), @r#"
    shop.yaml:9:30: a probe asks one thing
        9 |     health: { http: {}, tcp: {}, interval: 200ms }
          |                              ^
           expected: one of http, grpc, tcp and udp

    shop.yaml:9:44: timeout (500ms) is above interval (200ms)
        9 |     health: { http: {}, tcp: {}, interval: 200ms }
          |                                            ^^^^^
           expected: timeout at most interval, or probes would pile up

    shop.yaml: 2 mistakes
    "#);
}

// HTTP/2 to endpoints.

#[test]
fn a_cluster_is_asked_in_http_2_where_it_says_so_within_bounds_of_its_own() {
    let http2 = |keys: &str| parse(&in_cluster(keys)).unwrap().clusters[0].http2;
    assert_eq!(http2("protocol: http1"), None);
    let terms = http2("protocol: http2").unwrap();
    assert_eq!((terms.streams, terms.rest), (100, Duration::from_secs(300)));
    let terms = http2("protocol: http2\n    http2: { streams: 7, streamIdleTimeout: 1h }").unwrap();
    assert_eq!((terms.streams, terms.rest), (7, Duration::from_secs(3600)));
}

#[test]
fn what_only_http_2_has_is_a_mistake_without_it() {
    let text = shown(&in_cluster(
        "http2: { streams: 7 }\n    health: { grpc: { service: shop.Orders } }",
    ));
    for what in [
        "http2: the endpoints of this cluster are asked in HTTP/1.1",
        "grpc: the endpoints of this cluster are asked in HTTP/1.1",
        "shop.yaml: 2 mistakes",
    ] {
        assert!(text.contains(what), "{text}");
    }
    let text = shown(&in_cluster("protocol: http2\n    health: { grpc: {}, tcp: {} }"));
    assert!(text.contains("a probe asks one thing"), "{text}");
}

#[test]
fn copies_go_nowhere_that_is_asked_in_http_2() {
    let mirrored = |target: &str| {
        let route = format!("      - cluster: shop\n        mirror: {{ target: {target}, share: 1% }}\n");
        with("      - cluster: shop\n", &route)
    };
    let next = "clusters:\n  - name: next\n    protocol: http2\n    endpoints: [{ name: n, address: 127.0.0.1:9555 }]\n";
    let own = "  - name: shop\n    protocol: http2\n";
    for text in [
        mirrored("next").replace("clusters:\n", next),
        mirrored("shadow").replace("  - name: shop\n", own),
    ] {
        let text = shown(&text);
        assert!(
            text.contains("target: its endpoints are asked in HTTP/2"),
            "{text}"
        );
        assert!(text.contains("shop.yaml: 1 mistake"), "{text}");
    }
}

#[test]
fn segments_are_of_somebody_and_leave_something_for_everybody_else() {
    let segments = "segments:\n      \
                    - { name: staff, match: { cookie: { name: beta, value: b } }, part: 60% }\n      \
                    - { name: beta, match: {}, part: 40% }";
    assert_snapshot!(shown(&in_cluster(segments)), @r#"
    shop.yaml:11:30: a segment of nobody in particular
       11 |       - { name: beta, match: {}, part: 40% }
          |                              ^
           expected: header, cookie, or both

    shop.yaml:11:40: the segments up to here take the whole way of a shift
       11 |       - { name: beta, match: {}, part: 40% }
          |                                        ^^^
           expected: parts of less than 100% together: everybody else needs the rest

    shop.yaml: 2 mistakes
    "#);
}

#[test]
fn a_release_at_or_above_engage_is_a_mistake() {
    assert_snapshot!(shown(&in_cluster("shift: { release: 0.35 }")), @r#"
    shop.yaml:9:23: release (0.35) is not below engage (0.35)
        9 |     shift: { release: 0.35 }
          |                       ^^^^
           expected: release below engage, or a shift would end as it begins

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn the_numbers_of_a_shift_have_to_have_an_order() {
    let shift = "shift: { engage: 0.1, full: 0.05, shareMax: 1%, hold: 10m }";
    assert_snapshot!(shown(&in_cluster(shift)), @r#"
    shop.yaml:9:22: release (0.15) is not below engage (0.1)
        9 |     shift: { engage: 0.1, full: 0.05, shareMax: 1%, hold: 10m }
          |                      ^^^
           expected: release below engage, or a shift would end as it begins

    shop.yaml:9:33: full (0.05) is not above engage (0.1)
        9 |     shift: { engage: 0.1, full: 0.05, shareMax: 1%, hold: 10m }
          |                                 ^^^^
           expected: full above engage, or a shift would not be gradual

    shop.yaml:9:49: canary (5%) is above shareMax (1%)
        9 |     shift: { engage: 0.1, full: 0.05, shareMax: 1%, hold: 10m }
          |                                                 ^^
           expected: canary at most shareMax

    shop.yaml:9:59: hold (600s) is above holdMax (300s)
        9 |     shift: { engage: 0.1, full: 0.05, shareMax: 1%, hold: 10m }
          |                                                           ^^^
           expected: hold at most holdMax

    shop.yaml: 4 mistakes
    "#);
}

// All at once.

#[test]
fn all_mistakes_are_shown_at_once_in_the_order_of_the_file() {
    let text = SOUND
        .replace("name: web", "nme: web")
        .replace("8080", "8080\n    idleTimeout: 60")
        .replace("cluster: shop", "cluster: store")
        .replace("9002 }", "9002, weight: -1, shadow: a-standbi }")
        .replace("shadows:", "balance: fastest\n    shadows:")
        .replace("9101", "0");
    assert_snapshot!(shown(&text));
}

// Operations.

fn with_top(keys: &str) -> String {
    with("listeners:", &format!("{keys}\nlisteners:"))
}

fn with_admin(keys: &str) -> String {
    with_top(&format!("admin: {{ {keys} }}"))
}

#[test]
fn an_admin_interface_that_strangers_can_reach_needs_a_token() {
    assert_snapshot!(shown(&with_admin("address: 0.0.0.0:9901")), @r#"
    shop.yaml:2:19: address: 0.0.0.0:9901 can be reached from elsewhere, and nothing is asked of whoever does
        2 | admin: { address: 0.0.0.0:9901 }
          |                   ^^^^^^^^^^^^
           expected: a loopback address, a socket, or a tokenFile
           hint: add tokenFile: with the path of a file that holds a secret

    shop.yaml: 1 mistake
    "#);
    for address in [
        "0.0.0.0:9901",
        "10.0.0.1:9901",
        "'[::]:9901'",
        "127.0.0.1:9901",
        "unix:/run/a.sock",
    ] {
        let config = parse(&with_admin(&format!("address: {address}, tokenFile: /run/token"))).unwrap();
        assert_eq!(config.admin.token_file.unwrap().to_str(), Some("/run/token"));
    }
    for address in [
        "127.0.0.1:9901",
        "127.9.9.9:9901",
        "'[::1]:9901'",
        "unix:/run/a.sock",
    ] {
        assert!(
            parse(&with_admin(&format!("address: {address}"))).is_ok(),
            "{address}"
        );
    }
}

#[test]
fn permissions_are_those_of_a_socket() {
    assert_snapshot!(shown(&with_admin("address: 127.0.0.1:9901, mode: 0600")), @r#"
    shop.yaml:2:41: mode: a TCP address has no permissions
        2 | admin: { address: 127.0.0.1:9901, mode: 0600 }
          |                                         ^^^^
           expected: mode only with unix:
           hint: remove mode, or listen on a socket

    shop.yaml: 1 mistake
    "#);
    let config = parse(&with_admin("address: unix:/run/a.sock, mode: 0660")).unwrap();
    let path = PathBuf::from("/run/a.sock");
    assert_eq!(
        config.admin.address,
        config::AdminAddress::Unix {
            path: path.clone(),
            mode: 0o660
        }
    );
    let config = parse(&with_admin("address: unix:/run/a.sock")).unwrap();
    assert_eq!(
        config.admin.address,
        config::AdminAddress::Unix { path, mode: 0o600 }
    );
}

#[test]
fn a_socket_and_a_file_have_absolute_paths() {
    assert_snapshot!(shown(&with_admin("address: unix:admin.sock, tokenFile: ../token")), @r#"
    shop.yaml:2:19: address: "unix:admin.sock" is not the absolute path of a file
        2 | admin: { address: unix:admin.sock, tokenFile: ../token }
          |                   ^^^^^^^^^^^^^^^
           expected: an address, as 127.0.0.1:9901, or a socket, as unix:/run/foreshade/admin.sock

    shop.yaml:2:47: tokenFile: "../token" is not the absolute path of a file
        2 | admin: { address: unix:admin.sock, tokenFile: ../token }
          |                                               ^^^^^^^^
           expected: the absolute path of a file

    shop.yaml: 2 mistakes
    "#);
    assert_snapshot!(shown(&with_top("accessLog: { to: access.log }")), @r#"
    shop.yaml:2:18: to: "access.log" is not the absolute path of a file
        2 | accessLog: { to: access.log }
          |                  ^^^^^^^^^^
           expected: stdout, or the absolute path of a file

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn an_access_log_is_off_a_word_or_a_mapping() {
    assert_eq!(parse(&with_top("accessLog: off")).unwrap().access_log, None);
    let usual = parse(&with_top("accessLog: stdout")).unwrap().access_log.unwrap();
    let expected = config::AccessLog {
        sink: config::Sink::Stdout,
        format: config::Format::Json,
        sample: 1.0,
        always_errors: true,
        query: true,
    };
    assert_eq!(usual, expected);
    let keys = "{ to: /var/log/a.log, format: combined, sample: 5%, alwaysErrors: false, query: false }";
    let long = parse(&with_top(&format!("accessLog: {keys}")))
        .unwrap()
        .access_log
        .unwrap();
    let expected = config::AccessLog {
        sink: config::Sink::File("/var/log/a.log".into()),
        format: config::Format::Combined,
        sample: 0.05,
        always_errors: false,
        query: false,
    };
    assert_eq!(long, expected);
    assert_snapshot!(shown(&with_top("accessLog: stderr")), @r#"
    shop.yaml:2:12: accessLog: invalid value "stderr"
        2 | accessLog: stderr
          |            ^^^^^^
           expected: off, stdout, or a mapping

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn names_and_traces_are_as_the_file_says() {
    let config = parse(&with_top(
        "requestId: { make: true, toClient: true }\ntrace: { mode: start, sampled: 1% }",
    ));
    let config = config.unwrap();
    assert!(config.request_ids.make && config.request_ids.to_client);
    assert_eq!(
        (config.traces.mode, config.traces.sampled),
        (config::TraceMode::Start, 0.01)
    );
}

// The schema and the document.

/// Every key of a schema with its type, default and meaning, as a row of the table in the document.
fn rows(schema: &Json, path: &str, found: &mut Vec<String>) {
    for variant in schema["anyOf"].as_array().into_iter().flatten() {
        rows(variant, path, found);
    }
    if schema["items"].is_object() {
        rows(&schema["items"], &format!("{path}[]"), found);
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let default = match &property["default"] {
            _ if required.contains(&key.as_str().into()) => "required".to_owned(),
            Json::Null => "–".to_owned(),
            Json::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let text = |name: &str| property[name].as_str().unwrap_or_default().to_owned();
        assert!(
            !text("title").is_empty() && !text("description").is_empty(),
            "{path}"
        );
        found.push(format!(
            "| `{path}` | {} | {default} | {} |",
            text("title"),
            text("description")
        ));
        rows(property, &path, found);
    }
}

fn all_rows() -> Vec<String> {
    let mut found = Vec::new();
    rows(&config::schema(), "", &mut found);
    assert!(found.len() > 60, "{}", found.len());
    found
}

#[test]
fn the_document_explains_every_key_of_the_schema_and_no_other() {
    let document = std::fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let expected = all_rows();
    let missing: Vec<_> = expected
        .iter()
        .filter(|row| !document.lines().any(|line| line == *row))
        .collect();
    assert!(missing.is_empty(), "docs/configuration.md lacks:\n{missing:#?}");
    let stale: Vec<_> = document
        .lines()
        .filter(|line| line.starts_with("| `") && !expected.iter().any(|row| row == line))
        .collect();
    assert!(
        stale.is_empty(),
        "docs/configuration.md has too much:\n{stale:#?}"
    );
}

#[test]
fn the_full_example_shows_every_key_of_the_schema() {
    let full = std::fs::read_to_string(repository().join("configs/reference.yaml")).unwrap();
    for row in all_rows() {
        let path = row.split('`').nth(1).unwrap();
        let key = path.rsplit('.').next().unwrap();
        assert!(
            full.contains(&format!("{key}:")),
            "configs/reference.yaml lacks {path}"
        );
    }
}

// TLS.

/// The sound file with TLS on its listener.
fn with_tls(keys: &str) -> String {
    with("    routes:\n", &format!("    tls:\n{keys}\n    routes:\n"))
}

/// What an operator sees of them, wherever the folder is.
fn shown_without(folder: &Folder, text: &str) -> String {
    shown(text).replace(&folder.path().display().to_string(), "/tls")
}

#[test]
fn a_listener_speaks_tls_with_the_certificates_that_it_names() {
    let folder = Folder::new();
    let (cert, key) = folder.certificate("shop", &["shop.example"]);
    let files = format!("certFile: {}, keyFile: {}", cert.display(), key.display());
    let config = parse(&with_tls(&format!("      certificates: [{{ {files} }}]"))).unwrap();
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert_eq!(tls.certificates()[0].names, ["shop.example"]);
    assert_eq!(
        tls.settings().profile,
        foreshade_proxy::tls::profile::Profile::Intermediate
    );
    assert_eq!(
        (tls.settings().refuse_unknown_names, &tls.settings().clients),
        (false, &None)
    );
    assert_eq!(config.terminations().count(), 1);
    assert!(parse(SOUND).unwrap().listeners[0].tls.is_none());
}

#[test]
fn http_2_is_spoken_over_tls_and_in_the_clear_where_that_is_asked_for() {
    let folder = Folder::new();
    let (cert, key) = folder.certificate("shop", &["shop.example"]);
    let files = format!("certFile: {}, keyFile: {}", cert.display(), key.display());
    let tls = format!("      certificates: [{{ {files} }}]");
    let over_tls = |http2: &str| parse(&with_tls(&format!("{tls}{http2}"))).unwrap();
    let in_the_clear = |http2: &str| parse(&with("    routes:\n", &format!("{http2}    routes:\n"))).unwrap();
    assert_eq!(over_tls("").listeners[0].http2, Some(128));
    assert!(over_tls("").terminations().all(|tls| tls.settings().http2));
    let off = over_tls("\n    http2: { enabled: false }");
    assert_eq!(off.listeners[0].http2, None);
    assert!(off.terminations().all(|tls| !tls.settings().http2));
    assert_eq!(in_the_clear("").listeners[0].http2, None);
    let idle = parse(&with("    routes:\n", "    http2: { streams: 7 }\n    routes:\n")).unwrap_err();
    assert!(idle.to_string().contains("streams has no effect"), "{idle}");
    let on = in_the_clear("    http2: { enabled: true, streams: 7 }\n");
    assert_eq!(on.listeners[0].http2, Some(7));
}

#[test]
fn the_same_text_is_parsed_again_with_the_certificates_that_it_has() {
    let folder = Folder::new();
    let (cert, key) = folder.certificate("shop", &["shop.example"]);
    let files = format!("certFile: {}, keyFile: {}", cert.display(), key.display());
    let text = with_tls(&format!("      certificates: [{{ {files} }}]"));
    let config = parse(&text).unwrap();
    std::fs::remove_file(&key).unwrap();
    let again = config::parse_again(&config, &Answers::default()).unwrap();
    assert!(std::sync::Arc::ptr_eq(
        again.terminations().next().unwrap(),
        config.terminations().next().unwrap()
    ));
    assert!(parse(&text).is_err());
}

#[test]
fn certificates_that_are_the_same_stay_the_same_object_and_others_do_not() {
    let folder = Folder::new();
    let (cert, key) = folder.certificate("shop", &["shop.example"]);
    let files = format!("certFile: {}, keyFile: {}", cert.display(), key.display());
    let text = with_tls(&format!("      certificates: [{{ {files} }}]"));
    let before = parse(&text).unwrap();
    let kept = |config: Config| {
        let config = config.keeping(&before);
        std::sync::Arc::ptr_eq(
            config.terminations().next().unwrap(),
            before.terminations().next().unwrap(),
        )
    };
    assert!(kept(parse(&text).unwrap()));
    folder.certificate("shop", &["shop.example"]);
    assert!(!kept(parse(&text).unwrap()));
}

#[test]
fn a_file_of_tls_that_is_not_what_it_should_be_is_a_mistake_where_it_is_named() {
    let folder = Folder::new();
    let (cert, _) = folder.certificate("shop", &["shop.example"]);
    let (_, other) = folder.certificate("other", &["other.example"]);
    let gone = folder.path().join("gone.pem");
    let text = with_tls(&format!(
        "      certificates:\n        - {{ certFile: {}, keyFile: {} }}\n      clientCertificates: {{ caFile: {} }}",
        cert.display(),
        other.display(),
        gone.display(),
    ));
    let said = shown_without(&folder, &text);
    assert!(
        said.contains("keyFile: /tls/other.key is not the key of the certificate in /tls/shop.pem"),
        "{said}"
    );
    assert!(
        said.contains("hint: the certificate of the server itself stands first in its file"),
        "{said}"
    );
    assert!(
        said.contains("caFile: /tls/gone.pem cannot be read: No such file"),
        "{said}"
    );
    assert!(
        said.contains("shop.yaml:7:") && said.contains("shop.yaml:8:"),
        "{said}"
    );
    assert!(said.ends_with("shop.yaml: 2 mistakes"), "{said}");
}

#[test]
fn keys_of_tls_that_do_not_exist_or_are_left_out_are_mistakes() {
    let said = shown(&with_tls("      certificates: []"));
    assert!(said.contains("certificates is empty"), "{said}");
    let said = shown(&with_tls(
        "      certificates: [{ certFile: /c.pem, keyfile: k.pem }]",
    ));
    assert!(said.contains("did you mean \"keyFile\"?"), "{said}");
    let said = shown(&with_tls(
        "      certificates: [{ certFile: c.pem, keyFile: /k.pem }]",
    ));
    assert!(said.contains("is not the absolute path of a file"), "{said}");
    let said = shown(&with_tls(
        "      profile: old\n      certificates: [{ certFile: /c.pem, keyFile: /k.pem }]",
    ));
    assert!(said.contains("intermediate, modern or nist"), "{said}");
}

// Hostile files.

fn seeded() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(7),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn no_edit_of_a_sound_file_panics(
        edits in vec((any::<Index>(), 0..6_usize, "[ -~\n\t{}:&*äé\u{202e}]{0,4}"), 1..8),
    ) {
        let mut text: Vec<char> = include_str!("../../configs/reference.yaml").chars().collect();
        for (place, removed, inserted) in edits {
            let start = place.index(text.len());
            let end = (start + removed).min(text.len());
            text.splice(start..end, inserted.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(mistakes) = parse(&text) {
            prop_assert!(mistakes.count() > 0);
            prop_assert!(mistakes.to_string().contains("mistake"));
        }
    }

    #[test]
    fn no_exchange_of_lines_panics(
        moves in vec((any::<Index>(), any::<Index>(), 0..8_usize), 1..6),
    ) {
        let quickstart = include_str!("../../configs/quickstart.yaml");
        let mut lines: Vec<String> = quickstart.lines().map(str::to_owned).collect();
        for (from, to, indent) in moves {
            let line = format!("{}{}", " ".repeat(indent), lines[from.index(lines.len())].trim_start());
            let to = to.index(lines.len());
            lines.insert(to, line);
        }
        if let Err(mistakes) = parse(&lines.join("\n")) {
            prop_assert!(mistakes.count() > 0);
            prop_assert!(mistakes.to_string().contains("mistake"));
        }
    }
}

#[test]
fn every_whole_example_in_configs_and_in_the_documents_is_sound() {
    let files = |folder: &str, ending: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(repository().join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.to_string_lossy().ends_with(ending))
            .collect()
    };
    let mut checked = 0;
    let folder = Folder::new();
    for path in files("configs", ".yaml") {
        let text = folder.furnish(&std::fs::read_to_string(&path).unwrap());
        assert!(
            parse(&text).is_ok(),
            "{}:\n{}",
            path.display(),
            parse(&text).unwrap_err()
        );
        checked += 1;
    }
    for path in files("docs", ".md") {
        let text = std::fs::read_to_string(&path).unwrap();
        let blocks = text
            .split("```yaml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next());
        for block in blocks.filter(|block| block.starts_with("apiVersion:")) {
            let block = &folder.furnish(block);
            assert!(
                parse(block).is_ok(),
                "{}:\n{}",
                path.display(),
                parse(block).unwrap_err()
            );
            checked += 1;
        }
    }
    assert!(checked >= 6, "{checked} examples");
}
