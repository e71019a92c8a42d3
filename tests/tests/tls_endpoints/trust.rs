//! Whom the proxy believes, and what it proves of itself.

use std::process::Command;

use foreshade_bench::client;
use foreshade_tests::certificates::{Authority, Files};
use foreshade_tests::nginx::Nginx;
use foreshade_tests::recording::Recording;
use foreshade_tests::tls_server::{Speaks, TlsServer, config};
use foreshade_tests::wire::exchange;

use crate::stage::{BOTH, NAME, Stage, attempts, done, failed, get, one, start};

#[test]
fn an_endpoint_that_cannot_be_believed_is_not_asked_and_it_is_counted_why() {
    let stage = Stage::new();
    let stranger = stage.folder.authority("stranger");
    let old = config(&stage.shop, None, Speaks::Tls12);
    let servers = [
        (
            "authority_unknown",
            TlsServer::start(&stranger.issue("foreign", &[NAME])).address,
            "",
        ),
        (
            "name_wrong",
            TlsServer::start(&stage.authority.issue("other", &["other.internal"])).address,
            "",
        ),
        (
            "expired",
            TlsServer::start(&stage.authority.issue_expired("old", &[NAME])).address,
            "",
        ),
        (
            "incompatible",
            TlsServer::start_with(old).address,
            ", profile: modern",
        ),
        ("not_tls", Recording::start().address, ""),
    ];
    for (reason, address, more) in servers {
        // A server without TLS may also just wait for more of what it takes for a request.
        let reasons = if reason == "not_tls" {
            vec![reason, "slow"]
        } else {
            vec![reason]
        };
        for relay in BOTH {
            let mut proxy = start(relay, &stage.tls(more), &one(address));
            let (status, said) = get(&proxy, "/");
            assert_eq!(status, 502, "{reason}: {said}");
            let counted: u64 = reasons.iter().map(|reason| failed(&proxy, reason)).sum();
            assert_eq!(counted, 1, "{reason}");
            proxy.wait_until("charging it", |p| attempts(p, "connect_failed") == 1);
        }
    }
}

#[test]
fn an_endpoint_without_tls_that_answers_in_the_clear_is_found_out() {
    let stage = Stage::new();
    // nginx answers 400 to what is no HTTP.
    let plain = "} server { listen PLAIN; location / { return 200; }"
        .replace("PLAIN", &foreshade_tests::proxy::free_address().to_string());
    let address = plain
        .split(' ')
        .nth(4)
        .unwrap()
        .trim_end_matches(';')
        .parse()
        .unwrap();
    let _nginx = Nginx::start(&stage.folder, &stage.shop, &plain);
    let proxy = stage.before(address, true);
    assert_eq!(get(&proxy, "/").0, 502);
    assert_eq!(failed(&proxy, "not_tls"), 1);
}

#[test]
fn the_log_says_why_there_was_no_tls() {
    let stage = Stage::new();
    let server = TlsServer::start(&stage.authority.issue("other", &["other.internal"]));
    for relay in BOTH {
        let mut proxy = foreshade_tests::proxy::Proxy::start_with(|users, admin| {
            let text = crate::stage::file(users, admin, relay, &stage.tls(""), &one(server.address));
            let log = stage.folder.path().join(format!("access-{relay}.log"));
            format!("accessLog: {{ to: {} }}\n{text}", log.display())
        });
        assert_eq!(get(&proxy, "/").0, 502);
        let log = stage.folder.path().join(format!("access-{relay}.log"));
        proxy.wait_until("logged", |_| {
            std::fs::read_to_string(&log)
                .is_ok_and(|text| text.contains("\"reason\":\"handshake_failed\",\"detail\":\"name_wrong\""))
        });
    }
}

#[test]
fn another_name_will_do_where_only_the_authority_has_to_vouch() {
    let stage = Stage::new();
    let other = TlsServer::start(&stage.authority.issue("other", &["other.internal"]));
    let ca = stage.authority.file.display();
    let proxy = start(
        true,
        &format!("{{ caFile: {ca}, verify: authority }}"),
        &one(other.address),
    );
    assert_eq!(get(&proxy, "/").0, 200);
    // An address is not asked for by name.
    assert_eq!(other.visits()[0].name, None);
    let stranger = stage.folder.authority("stranger");
    other.change(config(
        &stranger.issue("foreign", &["other.internal"]),
        None,
        Speaks::Both,
    ));
    let mut proxy = start(
        true,
        &format!("{{ caFile: {ca}, verify: authority }}"),
        &one(other.address),
    );
    assert_eq!(get(&proxy, "/").0, 502);
    proxy.wait_until("counted", |p| failed(p, "authority_unknown") == 1);
}

#[test]
fn a_certificate_that_signs_itself_as_an_authority_is_no_servers() {
    let stage = Stage::new();
    let file = |name: &str| stage.folder.path().join(name);
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=x",
        ])
        .args(["-addext", &format!("subjectAltName=DNS:{NAME}"), "-keyout"])
        .arg(file("own.key"))
        .arg("-out")
        .arg(file("own.pem"))
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    let server = TlsServer::start(&Files {
        certificate: file("own.pem"),
        key: file("own.key"),
    });
    let tls = format!("{{ caFile: {}, serverName: {NAME} }}", file("own.pem").display());
    let proxy = start(true, &tls, &one(server.address));
    assert_eq!(get(&proxy, "/").0, 502);
    assert_eq!(failed(&proxy, "certificate_invalid"), 1);
}

#[test]
fn each_endpoint_can_have_a_name_of_its_own() {
    let stage = Stage::new();
    let server = |name: &str| TlsServer::start(&stage.authority.issue(name, &[&format!("{name}.internal")]));
    let (a, b) = (server("a"), server("b"));
    let cluster = format!(
        "    health: off\n    balance: round-robin\n    endpoints: [{{ name: a, address: \"{}\", serverName: a.internal }}, \
         {{ name: b, address: \"{}\", serverName: b.internal }}]\n",
        a.address, b.address
    );
    let proxy = start(true, &stage.tls(""), &cluster);
    for _ in 0..8 {
        assert_eq!(get(&proxy, "/").0, 200);
    }
    assert_eq!(a.visits()[0].name.as_deref(), Some("a.internal"));
    assert_eq!(b.visits()[0].name.as_deref(), Some("b.internal"));
}

#[test]
fn the_host_of_an_address_is_the_name_where_nothing_else_is_said() {
    let stage = Stage::new();
    let server = TlsServer::start(&stage.authority.issue("local", &["localhost"]));
    let ca = stage.authority.file.display();
    let cluster = format!(
        "    health: off\n    endpoints: [{{ name: a, address: \"localhost:{}\" }}]\n",
        server.address.port()
    );
    let mut proxy = start(true, &format!("{{ caFile: {ca} }}"), &cluster);
    proxy.wait_until("served", |p| get(p, "/").0 == 200);
    assert_eq!(server.visits()[0].name.as_deref(), Some("localhost"));
}

fn shown(files: &Files) -> String {
    format!(
        ", certFile: {}, keyFile: {}",
        files.certificate.display(),
        files.key.display()
    )
}

fn own(authority: &Authority, name: &str) -> String {
    shown(&authority.issue_client(name))
}

#[test]
fn who_wants_a_certificate_is_shown_the_proxys() {
    let stage = Stage::new();
    let verifying = format!(
        "ssl_client_certificate {}; ssl_verify_client on; location / {{ return 200 \"ok\\n\"; }}",
        stage.authority.file.display()
    );
    let nginx = Nginx::start(&stage.folder, &stage.shop, &verifying);
    for relay in BOTH {
        let proxy = start(
            relay,
            &stage.tls(&own(&stage.authority, "proxy")),
            &one(nginx.address),
        );
        let asked = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = exchange(proxy.users, asked.as_bytes()).to_ascii_lowercase();
        assert!(
            answer.contains("200 ok") && answer.contains("x-client: cn=proxy"),
            "{answer}"
        );
        // nginx tells in HTTP who has none.
        let without = stage.before(nginx.address, relay);
        let (status, said) = get(&without, "/");
        assert!(
            status == 400 && said.contains("No required SSL certificate"),
            "{said}"
        );
        let expiry = "foreshade_cluster_tls_certificate_expiry_timestamp_seconds{cluster=\"shop\",file=\"";
        let (_, page) = client::request(proxy.admin, "GET", "/metrics", "").unwrap();
        assert!(page.contains(expiry), "{page}");
    }
}

#[test]
fn a_refused_certificate_is_a_handshake_that_failed_in_either_version() {
    let stage = Stage::new();
    let stranger = stage.folder.authority("stranger");
    for speaks in [Speaks::Tls12, Speaks::Tls13] {
        let server = TlsServer::start_with(config(&stage.shop, Some(&stage.authority), speaks));
        for (own, served) in [
            (own(&stage.authority, "proxy"), true),
            (own(&stranger, "nobody"), false),
            (String::new(), false),
        ] {
            for relay in BOTH {
                let mut proxy = start(relay, &stage.tls(&own), &one(server.address));
                // Not to be repeated by any rule: what proves that it was not read is the alert.
                let (status, said) = client::request(proxy.users, "POST", "/", "x").unwrap();
                assert_eq!(status, if served { 200 } else { 502 }, "{speaks:?} {own}: {said}");
                let refused = failed(&proxy, "alerted");
                assert_eq!(
                    refused,
                    if served { 0 } else { 1 },
                    "{speaks:?} {own} relay {relay}"
                );
                let version = if speaks == Speaks::Tls12 { "1.2" } else { "1.3" };
                if served {
                    assert_eq!(done(&proxy, version, false), 1);
                } else {
                    proxy.wait_until("charging it", |p| attempts(p, "connect_failed") == 1);
                }
            }
        }
    }
}
