//! `Server-Timing`: where the time of an answer went, beside what the endpoint says, and only where a route asks for it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use foreshade_tests::http2::{Client, Endpoint};
use foreshade_tests::proxy::{Proxy, preamble};
use foreshade_tests::wire::{Scripted, exchange};
use http::{HeaderMap, Request, Response};
use tokio::runtime::Runtime;

/// What an endpoint takes for an answer.
const TAKES: Duration = Duration::from_millis(20);

/// A proxy with a route that tells, and one that does not.
fn proxy(endpoint: SocketAddr, top: &str, listener: &str, cluster: &str) -> Proxy {
    Proxy::start_with(|users, admin| {
        format!(
            "{}{top}listeners:\n  - name: web\n    address: \"{users}\"\n{listener}    routes:\n      \
             - {{ match: {{ path: {{ prefix: /told }} }}, cluster: shop, serverTiming: true }}\n      \
             - {{ match: {{ path: {{ prefix: / }} }}, cluster: shop }}\n\
             clusters:\n  - name: shop\n    health: off\n{cluster}    endpoints: [{{ name: a, address: \"{endpoint}\" }}]\n",
            preamble(admin)
        )
    })
}

/// An endpoint that says something of its own.
fn endpoint() -> Scripted {
    Scripted::start(|stream| {
        std::thread::sleep(TAKES);
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nServer-Timing: db;dur=7.5\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        );
    })
}

/// All values of the header, in their order.
fn told(answer: &str) -> Vec<String> {
    let (head, _) = answer.split_once("\r\n\r\n").expect(answer);
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let values = lines.filter(|(name, _)| name.eq_ignore_ascii_case("server-timing"));
    values.map(|(_, value)| value.to_owned()).collect()
}

/// The parts are as the proxy tells them, and fit together.
fn is_sound(timing: &str) {
    let parts: Vec<_> = timing
        .split(", ")
        .map(|part| part.split_once(";dur=").expect(timing))
        .map(|(name, ms)| (name, ms.parse::<f64>().expect(timing)))
        .collect();
    let [
        ("queue", queue),
        ("connect", connect),
        ("upstream", upstream),
        ("foreshade", whole),
    ] = parts[..]
    else {
        panic!("{timing}");
    };
    assert!(upstream >= TAKES.as_secs_f64() * 1000.0, "{timing}");
    assert!((queue + connect + upstream - whole).abs() < 0.01, "{timing}");
}

#[test]
fn a_route_tells_where_the_time_went_and_others_do_not() {
    for top in ["", "relay: false\n"] {
        let endpoint = endpoint();
        let proxy = proxy(endpoint.address, top, "", "");
        let get = |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            exchange(proxy.users, request.as_bytes())
        };
        let values = told(&get("/told"));
        let [own, ours] = &values[..] else {
            panic!("{values:?}")
        };
        assert_eq!(own, "db;dur=7.5");
        is_sound(ours);
        assert_eq!(told(&get("/other")), ["db;dur=7.5"]);
    }
}

#[test]
fn so_it_is_with_http2_on_either_side() {
    for cluster in ["", "    protocol: http2\n"] {
        let runtime = Runtime::new().unwrap();
        let http1 = endpoint();
        let http2 = runtime.block_on(Endpoint::start(h2::server::Builder::new(), |came| async move {
            tokio::time::sleep(TAKES).await;
            let head = Response::builder()
                .header("server-timing", "db;dur=7.5")
                .body(())
                .unwrap();
            came.echo(head, HeaderMap::new()).await;
        }));
        let address = if cluster.is_empty() {
            http1.address
        } else {
            http2.address
        };
        let proxy = proxy(address, "", "    http2: { enabled: true }\n", cluster);
        runtime.block_on(async {
            let client = Client::connect(proxy.users).await;
            for (path, n) in [("told", 2), ("other", 1)] {
                let request = Request::get(format!("http://shop.example/{path}"))
                    .body(())
                    .unwrap();
                let answer = client.ask(request, b"").await.unwrap();
                let values: Vec<_> = answer.head.headers.get_all("server-timing").iter().collect();
                assert_eq!(values.len(), n, "{values:?}");
                assert_eq!(values[0], "db;dur=7.5");
                values[1..]
                    .iter()
                    .for_each(|value| is_sound(value.to_str().unwrap()));
            }
        });
    }
}
