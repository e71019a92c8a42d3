//! Requests that go elsewhere because an endpoint cannot be believed, health checks over TLS, and copies.

use std::time::{Duration, Instant};

use foreshade_bench::client;
use foreshade_tests::proxy::PATIENCE;
use foreshade_tests::tls_server::{Speaks, TlsServer, config};

use crate::stage::{BOTH, NAME, Stage, attempts, failed, get, start};

fn pair(a: &TlsServer, b: &TlsServer, health: &str) -> String {
    format!(
        "    health: {health}\n    endpoints: [{{ name: a, address: \"{}\", shadow: b }}]\n    shadows: [{{ name: b, \
         address: \"{}\" }}]\n",
        a.address, b.address
    )
}

#[test]
fn a_certificate_that_expires_moves_everybody_and_no_user_notices() {
    let stage = Stage::new();
    for relay in BOTH {
        let (a, b) = (stage.server(), stage.server());
        let proxy = start(relay, &stage.tls(""), &pair(&a, &b, "off"));
        for _ in 0..20 {
            assert_eq!(get(&proxy, "/").0, 200);
        }
        assert!(b.lines().is_empty());
        a.change(config(
            &stage.authority.issue_expired("late", &[NAME]),
            None,
            Speaks::Both,
        ));
        let seen = a.lines().len();
        let share = "foreshade_shift_share_ratio{cluster=\"shop\",endpoint=\"a\",shadow=\"b\"}";
        let begun = Instant::now();
        // A POST is sent once, and so each of them says that nothing of it had been sent to the first endpoint.
        while proxy.metric(share) != Some(1.0) {
            let (status, said) = client::request(proxy.users, "POST", "/", "x").unwrap();
            assert_eq!(status, 200, "{said}");
            assert!(begun.elapsed() < PATIENCE, "nothing moves");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(a.lines().len(), seen);
        assert!(failed(&proxy, "expired") >= 1);
        assert!(attempts(&proxy, "connect_failed") >= 1);
        let hard = "foreshade_endpoint_hazard{cluster=\"shop\",endpoint=\"a\",group=\"hard\"}";
        let hard = proxy.metric(hard).unwrap();
        assert!(hard > 0.5, "{hard}");
    }
}

#[test]
fn a_health_check_speaks_tls_and_believes_nobody_else_either() {
    let stage = Stage::new();
    let good = stage.server();
    let bad = TlsServer::start(&stage.authority.issue("other", &["other.internal"]));
    for (health, asks) in [
        (
            "{ http: { path: /healthz }, interval: 100ms, timeout: 100ms }",
            true,
        ),
        ("{ tcp: {}, interval: 100ms, timeout: 100ms }", false),
    ] {
        let cluster = format!(
            "    health: {health}\n    endpoints: [{{ name: a, address: \"{}\" }}, {{ name: b, address: \"{}\" }}]\n",
            bad.address, good.address
        );
        let mut proxy = start(true, &stage.tls(""), &cluster);
        proxy.wait_until("aware of it", |p| {
            p.metric("foreshade_endpoint_available{cluster=\"shop\",endpoint=\"a\"}") == Some(0.0)
        });
        proxy.wait_until("counting", |p| failed(p, "name_wrong") >= 3);
        let b = "foreshade_endpoint_available{cluster=\"shop\",endpoint=\"b\"}";
        assert_eq!(proxy.metric(b), Some(1.0));
        if asks {
            proxy.wait_until("asked", |_| {
                good.lines().iter().any(|line| line.starts_with("get /healthz"))
            });
        }
        for _ in 0..8 {
            assert_eq!(get(&proxy, "/").0, 200);
        }
    }
}

#[test]
fn copies_go_to_a_shadow_in_tls_and_are_compared() {
    let stage = Stage::new();
    let (a, b) = (stage.server(), stage.server());
    for relay in BOTH {
        let mut proxy = foreshade_tests::proxy::Proxy::start_with(|users, admin| {
            crate::stage::file(users, admin, relay, &stage.tls(""), &pair(&a, &b, "off")).replace(
                "cluster: shop, timeout: 5s",
                "cluster: shop, timeout: 5s, mirror: { target: shadow, share: 100%, noise: off }",
            )
        });
        for _ in 0..5 {
            assert_eq!(get(&proxy, "/").0, 200);
        }
        let equal = "foreshade_mirror_results_total{cluster=\"shop\",target=\"b\",result=\"equal\"}";
        proxy.wait_until("compared", |p| p.metric(equal) == Some(5.0));
    }
}
