//! Files that are replaced while the proxy runs.

use std::fs;

use foreshade_tests::tls_server::{Speaks, TlsServer, config};

use crate::stage::{NAME, Stage, get, one, start};

#[test]
fn an_authority_that_is_renewed_is_believed_and_a_broken_file_changes_nothing() {
    let stage = Stage::new();
    let next = stage.folder.authority("next");
    let server = stage.server();
    let mut proxy = stage.before(server.address, true);
    assert_eq!(get(&proxy, "/").0, 200);
    // A file that is no such thing: what runs goes on, and it is said why.
    fs::write(&stage.authority.file, "not a certificate").unwrap();
    proxy.wait_until("refused", |p| {
        p.metric("foreshade_config_reloads_total{result=\"invalid\"}") == Some(1.0)
    });
    let told = proxy.reload_status().to_string();
    assert!(told.contains("holds no certificate in PEM"), "{told}");
    assert_eq!(get(&proxy, "/").0, 200);
    // Now the new one, and an endpoint that is vouched for by it.
    server.change(config(&next.issue("shop", &[NAME]), None, Speaks::Both));
    assert_eq!(get(&proxy, "/").0, 502);
    fs::write(&stage.authority.file, fs::read(&next.file).unwrap()).unwrap();
    proxy.wait_until("believed", |p| get(p, "/").0 == 200);
}

#[test]
fn a_certificate_of_the_proxys_own_that_is_renewed_is_shown_from_then_on() {
    let stage = Stage::new();
    let clients = stage.folder.authority("clients");
    let server = TlsServer::start_with(config(&stage.shop, Some(&clients), Speaks::Both));
    // Whom the endpoint does not know.
    let own = stage.authority.issue_client("proxy");
    let tls = stage.tls(&format!(
        ", certFile: {}, keyFile: {}",
        own.certificate.display(),
        own.key.display()
    ));
    let mut proxy = start(true, &tls, &one(server.address));
    assert_eq!(get(&proxy, "/").0, 502);
    let renewed = clients.issue_client("proxy");
    assert_eq!(renewed.certificate, own.certificate);
    proxy.wait_until("let in", |p| get(p, "/").0 == 200);
    assert!(server.visits().iter().all(|visit| visit.certified));
}
