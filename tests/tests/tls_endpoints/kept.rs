//! Connections and sessions that are used again, and those that must not be.

use foreshade_bench::client;
use foreshade_tests::tls_server::{Speaks, TlsServer, config};
use foreshade_tests::wire::{connect, read_until};
use std::io::Write;

use crate::stage::{BOTH, Stage, done, get};

#[test]
fn a_session_goes_on_when_its_connection_is_over() {
    let stage = Stage::new();
    for (speaks, version) in [(Speaks::Tls12, "1.2"), (Speaks::Tls13, "1.3")] {
        for relay in BOTH {
            let server = TlsServer::start_with(config(&stage.shop, None, speaks));
            let proxy = stage.before(server.address, relay);
            for _ in 0..6 {
                assert_eq!(get(&proxy, "/close").0, 200);
            }
            let visits = server.visits();
            assert_eq!(visits.len(), 6, "each on its own connection");
            let resumed = visits.iter().filter(|visit| visit.resumed).count();
            assert_eq!(resumed, 5, "{version}: {visits:?}");
            assert_eq!(done(&proxy, version, true), 5);
        }
    }
}

#[test]
fn a_connection_that_its_endpoint_has_ended_in_tls_is_not_used_again() {
    let stage = Stage::new();
    let server = stage.server();
    for relay in BOTH {
        let proxy = stage.before(server.address, relay);
        let mut stream = connect(proxy.users);
        for round in 0..10 {
            // The answer says nothing of an end; it comes as an alert behind it, and the socket stays open.
            write!(
                stream,
                "POST /goodbye HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
            )
            .unwrap();
            let head = read_until(&mut stream, "\r\n\r\n");
            assert!(
                head.starts_with("HTTP/1.1 200"),
                "round {round}, relay {relay}: {head}"
            );
            read_until(&mut stream, "1 120\n");
            // A tick in which the end arrives. A POST cannot be repeated: used once more, the connection would cost it.
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    let visits = server.visits();
    assert!(visits.iter().all(|visit| visit.lines.len() == 1), "{visits:?}");
}

#[test]
fn a_connection_serves_again_on_either_way_and_over_both() {
    let stage = Stage::new();
    let server = stage.server();
    for relay in BOTH {
        let proxy = stage.before(server.address, relay);
        let before = server.visits().len();
        let mut stream = connect(proxy.users);
        for round in 0..6 {
            // Every other one is for the full path, whoever serves the rest.
            let expects = if round % 2 == 0 {
                ""
            } else {
                "Expect: 100-continue\r\n"
            };
            write!(
                stream,
                "POST / HTTP/1.1\r\nHost: x\r\n{expects}Content-Length: 1\r\n\r\nx"
            )
            .unwrap();
            read_until(&mut stream, "1 120\n");
        }
        let visits = server.visits();
        assert_eq!(visits.len(), before + 1, "{visits:?}");
        assert_eq!(visits[before].lines.len(), 6);
    }
}

#[test]
fn what_was_agreed_on_before_a_reload_is_not_used_after_it() {
    let stage = Stage::new();
    let server = stage.server();
    let stranger = stage.folder.authority("stranger");
    let proxy = stage.before(server.address, true);
    assert_eq!(get(&proxy, "/").0, 200);
    let text = |ca: &std::path::Path| {
        let tls = format!(
            "{{ caFile: {}, serverName: {} }}",
            ca.display(),
            crate::stage::NAME
        );
        crate::stage::file(
            proxy.users,
            proxy.admin,
            true,
            &tls,
            &crate::stage::one(server.address),
        )
    };
    assert_eq!(proxy.reload(&text(&stranger.file)).0, 200);
    // The connections are there still, and led to somebody who is not believed any more.
    for _ in 0..4 {
        assert_eq!(get(&proxy, "/").0, 502);
    }
    assert_eq!(proxy.reload(&text(&stage.authority.file)).0, 200);
    assert_eq!(get(&proxy, "/").0, 200);
    let (status, _) = client::request(proxy.users, "POST", "/", "x").unwrap();
    assert_eq!(status, 200);
}
