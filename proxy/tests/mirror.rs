//! What the configuration of a mirror allows, and what an operator sees where it is wrong.

use std::time::Duration;

use foreshade_contract::Share;
use foreshade_proxy::config::{self, Config, Mirror, MirrorTarget};
use insta::assert_snapshot;

/// A route to `shop`, which has a shadow, and one to `plain`, which has none, with these mirrors.
fn file(shop: &str, plain: &str) -> String {
    format!(
        "apiVersion: foreshade/v1
listeners:
  - name: web
    address: 127.0.0.1:8080
    routes:
      - {{ cluster: shop, mirror: {shop} }}
      - {{ match: {{ host: plain }}, cluster: plain, mirror: {plain} }}
clusters:
  - name: shop
    endpoints: [{{ name: a, address: 127.0.0.1:9001, shadow: s }}]
    shadows: [{{ name: s, address: 127.0.0.1:9101 }}]
  - name: plain
    endpoints: [{{ name: a, address: 127.0.0.1:9002 }}]
"
    )
}

fn parse(shop: &str, plain: &str) -> Config {
    match config::parse(&file(shop, plain), "shop.yaml") {
        Ok(config) => config,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

fn shown(shop: &str, plain: &str) -> String {
    match config::parse(&file(shop, plain), "shop.yaml") {
        Ok(_) => panic!("no mistake"),
        Err(mistakes) => mistakes.to_string(),
    }
}

fn policy(config: &Config, route: usize) -> Option<&Mirror> {
    Some(config.listeners[0].routes[route].mirror.as_ref()?.policy())
}

#[test]
fn what_the_file_says_is_what_comes_out_and_the_rest_has_its_default() {
    let config = parse(
        "{ target: shadow, share: 10% }",
        "{ target: shop, share: 0.5, rate: 10rps, writes: { share: 1% }, noise: off, timeout: 1s, concurrency: 3, \
         bodyMax: 64KiB, keepHeaders: [Cookie] }",
    );
    let defaults = Mirror {
        target: MirrorTarget::Shadow,
        share: Share::clamped(0.1),
        writes: Share::ZERO,
        noise: Share::clamped(0.05),
        rate_rps: None,
        timeout: Duration::from_secs(5),
        concurrency: 64,
        body_bytes_max: 16 << 20,
        keep_headers: Vec::new(),
    };
    assert_eq!(policy(&config, 0), Some(&defaults));
    let all = Mirror {
        target: MirrorTarget::Cluster("shop".parse().unwrap()),
        share: Share::clamped(0.5),
        writes: Share::clamped(0.01),
        noise: Share::ZERO,
        rate_rps: Some(10.0),
        timeout: Duration::from_secs(1),
        concurrency: 3,
        body_bytes_max: 64 << 10,
        keep_headers: vec![http::header::COOKIE],
    };
    assert_eq!(policy(&config, 1), Some(&all));
}

#[test]
fn a_target_has_to_be_somebody_else_who_exists() {
    assert_snapshot!(shown("{ target: shop, share: 1% }", "{ target: shadow, share: 1% }"), @r#"
    shop.yaml:6:44: target: "shop" serves this route
        6 |       - { cluster: shop, mirror: { target: shop, share: 1% } }
          |                                            ^^^^
           expected: another cluster: the users' own would do everything twice

    shop.yaml:7:69: target: no endpoint of this route's cluster has a shadow
        7 |       - { match: { host: plain }, cluster: plain, mirror: { target: shadow, share: 1% } }
          |                                                                     ^^^^^^
           expected: a cluster with shadows, or the name of another cluster as target

    shop.yaml: 2 mistakes
    "#);
    assert_snapshot!(shown("{ target: plane, share: 1% }", "{ target: shop, share: 1% }"), @r#"
    shop.yaml:6:44: unknown cluster "plane"
        6 |       - { cluster: shop, mirror: { target: plane, share: 1% } }
          |                                            ^^^^^
           expected: one of shop, plain

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_cluster_named_shadow_is_no_target_because_nobody_could_tell() {
    let text =
        file("{ target: shadow, share: 1% }", "{ target: shop, share: 1% }").replace("plain", "shadow");
    let mistakes = config::parse(&text, "shop.yaml").unwrap_err();
    assert_snapshot!(mistakes.to_string(), @r#"
    shop.yaml:6:44: target: shadow is also the name of a cluster
        6 |       - { cluster: shop, mirror: { target: shadow, share: 1% } }
          |                                            ^^^^^^
           expected: a cluster of another name, or nobody can tell what is meant

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn a_share_is_asked_for_and_a_size_has_a_unit() {
    assert_snapshot!(
        shown("{ target: shadow, noise: 0 }", "{ target: shop, share: 1%, bodyMax: 1000, writes: {} }"),
        @r#"
    shop.yaml:6:34: share is missing
        6 |       - { cluster: shop, mirror: { target: shadow, noise: 0 } }
          |                                  ^
           expected: a share above 0% up to 100%, as 5% or 0.05

    shop.yaml:6:59: noise: "0" is out of range
        6 |       - { cluster: shop, mirror: { target: shadow, noise: 0 } }
          |                                                           ^
           expected: off, or a share above 0% up to 100%, as 5% or 0.05

    shop.yaml:7:95: bodyMax: "1000" has no unit that sizes have
        7 | lain, mirror: { target: shop, share: 1%, bodyMax: 1000, writes: {} } }
          |                                                   ^^^^
           expected: a size from 0B to 1GiB
           hint: write 1000B or 1000KiB

    shop.yaml:7:109: share is missing
        7 | { target: shop, share: 1%, bodyMax: 1000, writes: {} } }
          |                                                   ^
           expected: a share above 0% up to 100%, as 5% or 0.05

    shop.yaml: 4 mistakes
    "#
    );
}
