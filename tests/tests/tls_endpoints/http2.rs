//! HTTP/2 with endpoints that speak TLS: both sides agree on it, or the endpoint is sent no request.

use foreshade_tests::nginx::Nginx;
use foreshade_tests::proxy::free_address;
use foreshade_tests::wire::exchange;

use crate::stage::{NAME, Stage, attempts, done, failed, get, one, start};

#[test]
fn nginx_agrees_on_it_and_serves_many_requests_on_one_connection() {
    let stage = Stage::new();
    let address = free_address();
    let server = format!(
        "listen {address} ssl http2; add_header x-spoken $server_protocol; location / {{ return 200 \"ok\\n\"; }}"
    );
    let _nginx = Nginx::start(&stage.folder, &stage.shop, &server);
    let cluster = format!("    protocol: http2\n{}", one(address));
    let proxy = start(true, &stage.tls(""), &cluster);
    let request = "GET / HTTP/1.1\r\nHost: users.example\r\n\r\n".repeat(4)
        + "GET / HTTP/1.1\r\nHost: users.example\r\nConnection: close\r\n\r\n";
    let answers = exchange(proxy.users, request.as_bytes()).to_ascii_lowercase();
    assert_eq!(answers.matches("http/1.1 200 ok").count(), 5, "{answers}");
    // One client's requests are one worker's, and so is the connection to the endpoint.
    for requests in 1..=5 {
        let counted = format!("x-requests: {requests}\r\n");
        assert!(answers.contains(&counted), "{answers}");
    }
    assert!(answers.contains(&format!("x-name: {NAME}\r\n")), "{answers}");
    assert_eq!(answers.matches("x-spoken: http/2.0\r\n").count(), 5, "{answers}");
}

#[test]
fn who_agrees_on_http_1_1_alone_is_sent_nothing() {
    let stage = Stage::new();
    let nginx = Nginx::start(&stage.folder, &stage.shop, "location / { return 200 \"ok\\n\"; }");
    let cluster = format!("    protocol: http2\n{}", one(nginx.address));
    let mut proxy = start(true, &stage.tls(""), &cluster);
    assert_eq!(get(&proxy, "/").0, 502);
    assert_eq!(failed(&proxy, "incompatible"), 1);
    proxy.wait_until("charging it", |p| attempts(p, "connect_failed") == 1);
    assert_eq!(done(&proxy, "1.2", false) + done(&proxy, "1.3", false), 0);
}
