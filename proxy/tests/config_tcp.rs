//! Listeners whose connections are carried: which keys go together, and what an operator is told where they do not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use foreshade_proxy::config::{self, Answers, Config, Mistakes, Protocol};
use foreshade_proxy::framing::Refusal;
use foreshade_proxy::proxy_protocol::Version;
use insta::assert_snapshot;

fn parse(text: &str) -> Result<Config, Mistakes> {
    let nobody = |_: &str, port: u16| Ok(vec![([127, 0, 0, 1], port).into()]);
    config::parse_with(text, "shop.yaml", &nobody, &Answers::default())
}

/// A file with one listener, in lines of its own.
fn file(listener: &str) -> String {
    format!(
        "apiVersion: foreshade/v1\nlisteners:\n  - name: l\n    address: 127.0.0.1:8080\n{listener}clusters:\n  - {{ name: db, \
         endpoints: [{{ name: a, address: '127.0.0.1:9001' }}] }}\n  - {{ name: shop, endpoints: [{{ name: a, address: \
         '127.0.0.1:9002' }}] }}\n"
    )
}

fn shown(text: &str) -> String {
    match parse(text) {
        Err(mistakes) => mistakes.to_string(),
        Ok(_) => panic!("no mistake in:\n{text}"),
    }
}

#[test]
fn tcp_needs_a_cluster_and_no_more() {
    let config = parse(&file("    protocol: tcp\n    cluster: shop\n")).unwrap();
    let listener = &config.listeners[0];
    assert!(matches!(listener.protocol, Protocol::Tcp { cluster: 1 }));
    assert_eq!((listener.clusters(), listener.is_http()), (vec![1], false));
    assert_eq!(
        (listener.idle_timeout, listener.lifetime),
        (Duration::from_secs(3600), None)
    );
    assert!(listener.proxy_protocol.is_none() && config.clusters[1].proxy_protocol.is_none());
    assert_snapshot!(shown(&file("    protocol: tcp\n")), @r#"
    shop.yaml:3:11: cluster is missing: connections of tcp go to one
        3 |   - name: l
          |           ^
           expected: the name of a cluster

    shop.yaml: 1 mistake
    "#);
}

#[test]
fn tls_goes_where_its_names_say() {
    let names = "    protocol: tls-passthrough\n    cluster: db\n    lifetime: 24h\n    serverNames:\n      \
                 - { names: [Shop.example, '*.shop.example'], cluster: shop }\n";
    let config = parse(&file(names)).unwrap();
    let Protocol::TlsPassthrough(table) = &config.listeners[0].protocol else {
        panic!("{:?}", config.listeners[0].protocol);
    };
    assert_eq!(table.cluster(Some("a.shop.example")), Ok(1));
    assert_eq!(table.cluster(Some("shop.example")), Ok(1));
    assert_eq!(table.cluster(Some("other.example")), Ok(0));
    assert_eq!(config.listeners[0].lifetime, Some(Duration::from_secs(86_400)));
    let strict = parse(&file(&names.replace("    cluster: db\n", ""))).unwrap();
    let Protocol::TlsPassthrough(table) = &strict.listeners[0].protocol else {
        panic!("{:?}", strict.listeners[0].protocol);
    };
    assert_eq!(table.cluster(None), Err(Refusal::NameMissing));
}

#[test]
fn names_that_lead_nowhere_or_twice_are_mistakes() {
    assert_snapshot!(shown(&file("    protocol: tls-passthrough\n")), @r#"
    shop.yaml:3:11: neither serverNames nor cluster: no connection would go anywhere
        3 |   - name: l
          |           ^
           expected: serverNames, cluster, or both

    shop.yaml: 1 mistake
    "#);
    let names = "    protocol: tls-passthrough\n    serverNames:\n      \
                 - { names: [a.example, 127.0.0.1], cluster: shop }\n      \
                 - { names: [A.example], cluster: shopp }\n      - { names: [a.example], cluster: db }\n";
    assert_snapshot!(shown(&file(names)), @r#"
    shop.yaml:7:30: names: "127.0.0.1" is an address, and no client asks for one
        7 |       - { names: [a.example, 127.0.0.1], cluster: shop }
          |                              ^^^^^^^^^
           expected: a name, or *. and a domain

    shop.yaml:8:40: unknown cluster "shopp"
        8 |       - { names: [A.example], cluster: shopp }
          |                                        ^^^^^
           expected: one of db, shop
           hint: did you mean "shop"?

    shop.yaml:9:19: names: "a.example" has an entry already
        9 |       - { names: [a.example], cluster: db }
          |                   ^^^^^^^^^
           expected: each name once in a listener

    shop.yaml: 3 mistakes
    "#);
}

#[test]
fn keys_of_another_protocol_have_no_effect() {
    let tcp = "    protocol: tcp\n    cluster: db\n    trustedProxies: [10.0.0.0/8]\n    routes: [{ cluster: \
               db }]\n    serverNames: [{ names: [a.example], cluster: db }]\n";
    assert_snapshot!(shown(&file(tcp)), @r#"
    shop.yaml:7:22: trustedProxies has no effect: the listener speaks tcp
        7 |     trustedProxies: [10.0.0.0/8]
          |                      ^^^^^^^^^^
           expected: another protocol, or another key, as cluster

    shop.yaml:8:13: routes has no effect: the listener speaks tcp
        8 |     routes: [{ cluster: db }]
          |             ^
           expected: another protocol, or another key, as cluster

    shop.yaml:9:19: serverNames has no effect: the listener speaks tcp
        9 |     serverNames: [{ names: [a.example], cluster: db }]
          |                   ^
           expected: another protocol, or another key, as cluster

    shop.yaml: 3 mistakes
    "#);
    let http = "    cluster: db\n    lifetime: 1h\n    routes: [{ cluster: db }]\n";
    assert_snapshot!(shown(&file(http)), @r#"
    shop.yaml:5:14: cluster has no effect: the listener speaks http
        5 |     cluster: db
          |              ^^
           expected: another protocol, or another key, as routes

    shop.yaml:6:15: lifetime has no effect: the listener speaks http
        6 |     lifetime: 1h
          |               ^^
           expected: another protocol, or another key, as routes

    shop.yaml: 2 mistakes
    "#);
}

#[test]
fn http_still_needs_routes() {
    assert_snapshot!(shown(&file("    protocol: http\n")), @r#"
    shop.yaml:3:11: routes is missing: requests of http go where it says
        3 |   - name: l
          |           ^
           expected: a list, not empty

    shop.yaml: 1 mistake
    "#);
    let misspelt = shown(&file("    route: [{ cluster: db }]\n"));
    assert!(!misspelt.contains("missing"), "{misspelt}");
}

#[test]
fn the_proxy_protocol_is_for_somebody_and_endpoints_of_http_are_not_told_by_it() {
    let tcp = "    protocol: tcp\n    cluster: db\n    proxyProtocol: { from: [10.0.0.0/8, '::1'] }\n";
    let told = |text: String| text.replace("name: db, ", "name: db, proxyProtocol: v2, ");
    let config = parse(&told(file(tcp))).unwrap();
    let said = config.listeners[0].proxy_protocol.as_ref().unwrap();
    assert_eq!((said.from.len(), said.timeout), (2, Duration::from_secs(3)));
    assert!(said.trusts("10.1.2.3:4".parse().unwrap()) && !said.trusts("[::2]:4".parse().unwrap()));
    assert_eq!(config.clusters[0].proxy_protocol, Some(Version::V2));
    assert_snapshot!(shown(&file(&tcp.replace("from: [10.0.0.0/8, '::1']", "from: []"))), @r#"
    shop.yaml:7:28: from is empty
        7 |     proxyProtocol: { from: [] }
          |                            ^
           expected: at least one entry

    shop.yaml: 1 mistake
    "#);
    assert_snapshot!(shown(&told(file("    routes: [{ cluster: db }]\n"))), @r#"
    shop.yaml:7:32: proxyProtocol: a route of http goes to this cluster, whose connections many clients share
        7 |   - { name: db, proxyProtocol: v2, endpoints: [{ name: a, address: '127.0.0.1:9001' }] }
          |                                ^^
           expected: off
           hint: endpoints learn of clients of http in X-Forwarded-For or Forwarded

    shop.yaml: 1 mistake
    "#);
}
