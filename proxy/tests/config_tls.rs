//! TLS with endpoints: what a configuration says of it, and what is wrong where it cannot be.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod certificates;

use foreshade_proxy::config::{self, Config};
use foreshade_proxy::tls::origination::Verify;
use foreshade_proxy::tls::profile::Profile;
use insta::assert_snapshot;

use certificates::Folder;

/// A cluster with these keys, and what listeners there are.
fn file_with(listener: &str, cluster: &str) -> String {
    format!("apiVersion: foreshade/v1\nlisteners: [{listener}]\nclusters:\n  - name: shop\n{cluster}")
}

fn file(cluster: &str) -> String {
    file_with(
        "{ name: web, address: 127.0.0.1:8080, routes: [{ cluster: shop }] }",
        cluster,
    )
}

const ADDRESSES: &str = "    endpoints: [{ name: a, address: 10.0.0.1:443, shadow: b }]\n    \
                         shadows: [{ name: b, address: 10.0.0.2:443 }]\n";

fn parse(text: &str) -> Config {
    config::parse(text, "shop.yaml").unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn shown(text: &str, folder: &Folder) -> String {
    let mistakes = config::parse(text, "shop.yaml").unwrap_err();
    mistakes
        .to_string()
        .replace(&folder.path().display().to_string(), "/tls")
}

/// How each endpoint is called, in the order of the file.
fn names(config: &Config) -> Vec<String> {
    let endpoints = config.clusters[0].endpoints.iter();
    endpoints
        .map(|endpoint| endpoint.tls.as_ref().unwrap().name().to_str().into_owned())
        .collect()
}

#[test]
fn each_endpoint_has_the_name_that_stands_nearest_to_it() {
    let folder = Folder::new();
    let ca = folder.authority("ca.pem");
    let tls = |more: &str| format!("    tls: {{ caFile: {}{more} }}\n", ca.display());
    let config = parse(&file(&(tls(", serverName: Shop.internal") + ADDRESSES)));
    assert_eq!(names(&config), ["shop.internal", "shop.internal"]);
    let settings = config.clusters[0].tls.as_ref().unwrap().settings();
    assert_eq!(
        (settings.profile, settings.verify),
        (Profile::Intermediate, Verify::Name)
    );
    let own = ADDRESSES.replace("10.0.0.2:443 ", "10.0.0.2:443, serverName: b.internal ");
    let config = parse(&file(
        &(tls(", serverName: shop.internal, profile: modern") + &own),
    ));
    assert_eq!(names(&config), ["shop.internal", "b.internal"]);
    let settings = config.clusters[0].tls.as_ref().unwrap().settings();
    assert_eq!(settings.profile, Profile::Modern);
    // Where any name will do, an address need not have one.
    let config = parse(&file(&(tls(", verify: authority") + ADDRESSES)));
    assert_eq!(names(&config), ["10.0.0.1", "10.0.0.2"]);
    // A file of its own is one that is followed.
    assert_eq!(config.files().collect::<Vec<_>>(), [ca.as_path()]);
    assert!(parse(&file(ADDRESSES)).clusters[0].endpoints[0].tls.is_none());
}

#[test]
fn this_machines_authorities_are_believed_where_none_are_named() {
    let config = parse(&file(&format!(
        "    tls: {{ serverName: shop.internal }}\n{ADDRESSES}"
    )));
    assert_eq!(config.files().count(), 0);
    assert_eq!(names(&config), ["shop.internal", "shop.internal"]);
}

#[test]
fn an_address_without_a_name_a_name_without_tls_and_a_key_alone_are_mistakes() {
    let folder = Folder::new();
    let ca = folder.authority("ca.pem");
    let tls = format!("    tls: {{ caFile: {} }}\n", ca.display());
    assert_snapshot!(shown(&file(&(tls.clone() + ADDRESSES)), &folder), @r#"
    shop.yaml:6:37: "a" has no name that its certificate could bear
        6 |     endpoints: [{ name: a, address: 10.0.0.1:443, shadow: b }]
          |                                     ^^^^^^^^^^^^
           expected: a host name in its address, or serverName
           hint: write serverName at the endpoint or in tls; or verify: authority, where any name will do

    shop.yaml:7:35: "b" has no name that its certificate could bear
        7 |     shadows: [{ name: b, address: 10.0.0.2:443 }]
          |                                   ^^^^^^^^^^^^
           expected: a host name in its address, or serverName
           hint: write serverName at the endpoint or in tls; or verify: authority, where any name will do

    shop.yaml: 2 mistakes
    "#);
    let service = "    endpoints: [{ name: a, address: _https._tcp.shop.internal }]\n";
    assert_snapshot!(shown(&file(&(tls + service)), &folder), @r#"
    shop.yaml:6:37: "a" has no name that its certificate could bear
        6 |     endpoints: [{ name: a, address: _https._tcp.shop.internal }]
          |                                     ^^^^^^^^^^^^^^^^^^^^^^^^^
           expected: a host name in its address, or serverName
           hint: write serverName at the endpoint or in tls; or verify: authority, where any name will do

    shop.yaml: 1 mistake
    "#);
    let named = ADDRESSES.replace("10.0.0.2:443 ", "10.0.0.2:443, serverName: b.internal ");
    assert_snapshot!(shown(&file(&named), &folder), @r"
    shop.yaml:6:61: serverName has no effect: its cluster is spoken to in the clear
        6 |     shadows: [{ name: b, address: 10.0.0.2:443, serverName: b.internal }]
          |                                                             ^^^^^^^^^^
           expected: tls at the cluster

    shop.yaml: 1 mistake
    ");
    let alone = "    tls: { serverName: a.internal, certFile: /tls/proxy.pem }\n";
    assert_snapshot!(shown(&file(&format!("{alone}{ADDRESSES}")), &folder), @r"
    shop.yaml:5:46: a certificate and its key come together
        5 |     tls: { serverName: a.internal, certFile: /tls/proxy.pem }
          |                                              ^^^^^^^^^^^^^^
           expected: certFile and keyFile, or neither

    shop.yaml: 1 mistake
    ");
    let anybody = "    tls: { verify: authority }\n";
    let said = shown(&file(&format!("{anybody}{ADDRESSES}")), &folder);
    assert!(
        said.contains("without caFile believes whoever has a certificate"),
        "{said}"
    );
    let off = "    tls: { serverName: a.internal, verify: off }\n";
    let said = shown(&file(&format!("{off}{ADDRESSES}")), &folder);
    assert!(said.contains("expected: name or authority"), "{said}");
}

#[test]
fn a_file_that_is_not_what_it_should_be_is_a_mistake_where_it_is_named() {
    let folder = Folder::new();
    let (certificate, _) = folder.certificate("proxy", &["proxy.internal"]);
    let (_, key) = folder.certificate("other", &["other.internal"]);
    let keys = format!(
        "    tls:\n      serverName: a.internal\n      caFile: {}\n      certFile: {}\n      keyFile: {}\n",
        folder.path().join("gone.pem").display(),
        certificate.display(),
        key.display()
    );
    let said = shown(&file(&(keys + ADDRESSES)), &folder);
    for mistake in [
        "shop.yaml:7:15: caFile: /tls/gone.pem cannot be read: No such file",
        "shop.yaml:9:16: keyFile: /tls/other.key is not the key of the certificate in /tls/proxy.pem",
        "2 mistakes",
    ] {
        assert!(said.contains(mistake), "{said}");
    }
}

#[test]
fn what_clients_have_sealed_for_the_endpoint_is_not_sealed_once_more() {
    let folder = Folder::new();
    let tls = format!("    tls: {{ serverName: a.internal }}\n{ADDRESSES}");
    let passing = "{ name: web, address: 127.0.0.1:8443, protocol: tls-passthrough, cluster: shop }";
    assert_snapshot!(shown(&file_with(passing, &tls), &folder), @r"
    shop.yaml:5:10: tls: a listener of tls-passthrough goes to this cluster, whose clients speak TLS with it themselves
        5 |     tls: { serverName: a.internal }
          |          ^
           expected: no tls here, or a listener that opens what clients send

    shop.yaml: 1 mistake
    ");
    let carrying = "{ name: web, address: 127.0.0.1:8443, protocol: tcp, cluster: shop }";
    parse(&file_with(carrying, &tls));
}
