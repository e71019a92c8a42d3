//! Faults that are made on purpose.

use std::time::{Duration, Instant};

use foreshade_bench::client;
use foreshade_tests::proxy::Proxy;
use foreshade_tests::recording::{Recording, requests};

use crate::ways::Way;

fn counted(proxy: &mut Proxy, series: &str, count: u32) {
    proxy.wait_until(&format!("aware of {count} {series}"), |proxy| {
        proxy.metric(series) == Some(f64::from(count))
    });
}

#[test]
fn a_part_is_aborted_and_reaches_nobody_and_only_who_is_meant_is_hit() {
    for way in Way::ALL {
        let endpoint = Recording::start();
        let route = "{ cluster: shop, faults: { header: x-drill, abort: { status: 418, share: 25% } } }";
        let mut proxy = way.proxy("", &[route], &endpoint.clusters());
        let ask = |headers: &[(&str, &str)]| {
            let replies = (0..20).map(|_| way.get(&proxy, "/", headers));
            replies.filter(|reply| reply.status == 418).count()
        };
        let hit = ask(&[("x-drill", "")]);
        assert!((4..=6).contains(&hit), "{way:?}: {hit} of 20");
        assert_eq!(ask(&[]), 0, "{way:?}");
        let served: usize = endpoint
            .take_whole()
            .iter()
            .map(|bytes| requests(bytes).0.len())
            .sum();
        assert_eq!(served, 40 - hit, "{way:?}: what is aborted reaches nobody");
        let hit = u32::try_from(hit).unwrap();
        counted(
            &mut proxy,
            "foreshade_faults_injected_total{fault=\"abort\"}",
            hit,
        );
        counted(
            &mut proxy,
            "foreshade_policy_refused_total{reason=\"fault_abort\"}",
            hit,
        );
        let served = "foreshade_answers_total{cluster=\"shop\",code_class=\"4xx\"}";
        assert_eq!(proxy.metric(served), Some(0.0), "no cluster has given it");
    }
}

#[test]
fn a_delay_is_the_users_and_not_the_endpoints_and_stands_in_the_log() {
    for way in Way::ALL {
        let endpoint = Recording::start();
        let log = std::env::temp_dir().join(format!("foreshade-drill-{}-{way:?}", std::process::id()));
        let route = "{ cluster: shop, faults: { delay: { for: 400ms, share: 100% } } }";
        let clusters = format!("accessLog: {{ to: {} }}\n{}", log.display(), endpoint.clusters());
        let mut proxy = way.proxy("", &[route], &clusters);
        let begun = Instant::now();
        assert_eq!(way.get(&proxy, "/", &[]).status, 200);
        assert!(
            begun.elapsed() >= Duration::from_millis(400),
            "{way:?}: it waited"
        );
        counted(&mut proxy, "foreshade_faults_injected_total{fault=\"delay\"}", 1);
        let mut line = String::new();
        proxy.wait_until("logging", |_| {
            line = std::fs::read_to_string(&log).unwrap_or_default();
            line.ends_with('\n')
        });
        std::fs::remove_file(&log).unwrap();
        let line: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&line["detail"], &line["reason"]),
            (&"fault_delay".into(), &"ok".into()),
            "{line}"
        );
        let (waited, first_byte) = (
            line["queue_ms"].as_f64().unwrap(),
            line["duration_ms"].as_f64().unwrap(),
        );
        assert!(
            waited >= 400.0 && first_byte >= waited,
            "it is the wait before the endpoint was asked: {line}"
        );
    }
}

#[test]
fn who_looks_at_what_runs_sees_the_drill() {
    let endpoint = Recording::start();
    let route = "{ name: checkout, cluster: shop, faults: { abort: { share: 1% } } }";
    let proxy = Way::Full.proxy("", &[route], &endpoint.clusters());
    let (_, body) = client::request(proxy.admin, "GET", "/v1/config", "").unwrap();
    let running: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        running["warnings"],
        serde_json::json!(["listener web, route checkout: faults on purpose: 1% are answered with 503"])
    );
}
