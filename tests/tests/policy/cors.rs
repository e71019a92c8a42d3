//! Whose pages may read answers in a browser.

use std::io::Write as _;

use foreshade_tests::recording::Recording;
use foreshade_tests::wire::Scripted;

use crate::stand::Stand;

const ROUTE: &str = "{ match: { path: { prefix: /api } }, cluster: shop, cors: { origins: ['https://shop.example', \
                     'https://*.partner.example'], methods: [PUT], allowHeaders: [content-type], \
                     exposeHeaders: [x-total], credentials: true, maxAge: 1h } }";

#[test]
fn a_preflight_is_answered_here_and_reaches_no_endpoint() {
    for relay in [false, true] {
        let endpoint = Recording::start();
        let mut stand = Stand::start(endpoint.address, relay, "", &[ROUTE]);
        let ask = |origin: &str, method: &str| {
            let headers = format!(
                "Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\
                 Access-Control-Request-Headers: content-type\r\n"
            );
            stand.ask_with("192.0.2.1", "OPTIONS", "/api/cart", &headers)
        };
        let granted = ask("https://a.partner.example", "PUT");
        assert_eq!(granted.status, 204, "{}", granted.head);
        for (name, value) in [
            ("access-control-allow-origin", "https://a.partner.example"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "PUT"),
            ("access-control-allow-headers", "content-type"),
            ("access-control-max-age", "3600"),
        ] {
            assert_eq!(granted.values(name), [value], "{}", granted.head);
        }
        for (origin, method) in [
            ("https://evil.example", "PUT"),
            ("https://shop.example", "DELETE"),
        ] {
            let refused = ask(origin, method);
            assert!(
                refused.values("access-control-allow-origin").is_empty(),
                "{}",
                refused.head
            );
        }
        let series =
            |reason: &str| format!("foreshade_answers_without_endpoint_total{{reason=\"{reason}\"}}");
        stand.proxy.wait_until("aware of all three", |p| {
            p.metric(&series("preflight")) == Some(1.0) && p.metric(&series("preflight_refused")) == Some(2.0)
        });
        assert_eq!(endpoint.take(), b"");
    }
}

#[test]
fn an_endpoint_cannot_let_others_read_and_no_cache_mixes_them_up() {
    let open = Scripted::start(|stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\
              Vary: Accept\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n",
        );
    });
    for relay in [false, true] {
        let stand = Stand::start(open.address, relay, "", &[ROUTE]);
        let ask = |headers: &str| stand.ask_with("192.0.2.1", "GET", "/api/cart", headers);
        let named = ask("Origin: https://shop.example\r\n");
        assert_eq!(
            named.values("access-control-allow-origin"),
            ["https://shop.example"]
        );
        assert_eq!(named.values("access-control-allow-credentials"), ["true"]);
        assert_eq!(named.values("access-control-expose-headers"), ["x-total"]);
        for headers in ["Origin: https://evil.example\r\n", "Origin: null\r\n", ""] {
            let other = ask(headers);
            assert_eq!(
                (other.status, other.body.as_str()),
                (200, "ok\n"),
                "it is no wall for endpoints"
            );
            assert!(
                other.values("access-control-allow-origin").is_empty(),
                "{}",
                other.head
            );
            assert!(
                other.values("access-control-allow-credentials").is_empty(),
                "{}",
                other.head
            );
            assert_eq!(other.values("vary"), ["Accept", "Origin"], "{}", other.head);
        }
    }
}

#[test]
fn a_page_may_read_why_it_is_refused() {
    let endpoint = Recording::start();
    let route =
        "{ cluster: shop, cors: { origins: ['*'] }, rateLimits: [{ name: few, rate: 0.001, burst: 1 }] }";
    let stand = Stand::start(endpoint.address, false, "", &[route]);
    for status in [200, 429] {
        let answer = stand.ask_with("192.0.2.1", "GET", "/", "Origin: https://any.example\r\n");
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.values("access-control-allow-origin"),
            ["*"],
            "{}",
            answer.head
        );
    }
}
