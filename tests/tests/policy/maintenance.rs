//! A route or a listener is closed for a while: who is told so, and who is served all the same.

use foreshade_tests::recording::Recording;

use crate::stand::Stand;

#[test]
fn everybody_is_told_so_but_those_who_work_on_it() {
    for relay in [false, true] {
        let endpoint = Recording::start();
        let route = "{ match: { path: { prefix: /shop } }, cluster: shop, maintenance: { body: '<h1>Back soon</h1>', \
                     contentType: text/html, retryAfter: 10m, except: [10.0.0.0/8] } }";
        let other = "{ match: { path: { prefix: /api } }, cluster: shop }";
        let mut stand = Stand::start(endpoint.address, relay, "", &[route, other]);
        let closed = stand.ask("192.0.2.1", "/shop/cart");
        assert_eq!((closed.status, closed.body.as_str()), (503, "<h1>Back soon</h1>"));
        assert_eq!(closed.values("retry-after"), ["600"]);
        assert_eq!(closed.values("content-type"), ["text/html"]);
        assert_eq!(stand.ask("10.0.0.7", "/shop/cart").status, 200);
        assert_eq!(stand.ask("192.0.2.1", "/api").status, 200);
        stand.refused("maintenance", 1);
        let arrived = String::from_utf8(endpoint.take()).unwrap();
        assert_eq!(arrived.matches("GET /").count(), 2, "{arrived}");
    }
}

#[test]
fn a_whole_listener_may_be_closed() {
    let endpoint = Recording::start();
    let stand = Stand::start(endpoint.address, true, "maintenance: {}", &["{ cluster: shop }"]);
    let closed = stand.ask("192.0.2.1", "/");
    assert_eq!(
        (closed.status, closed.body.as_str()),
        (503, "closed for maintenance")
    );
    assert_eq!(closed.values("retry-after"), ["300"]);
    assert_eq!(endpoint.take(), b"");
}
