//! Listeners of datagrams: which keys go together, and what an operator is told where they do not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use foreshade_proxy::config::{self, Answers, Config, Mistakes, Probe, Protocol, Transport};

fn parse(text: &str) -> Result<Config, Mistakes> {
    let nobody = |_: &str, port: u16| Ok(vec![([127, 0, 0, 1], port).into()]);
    config::parse_with(text, "dns.yaml", &nobody, &Answers::default())
}

/// A file with a listener of UDP and more keys, and a cluster with more keys.
fn file(listener: &str, more: &str, cluster: &str) -> String {
    format!(
        "apiVersion: foreshade/v1\nlisteners:\n  - {{ name: dns, address: '127.0.0.1:5353', protocol: udp, {listener} }}\n\
         {more}clusters:\n  - {{ name: dns, endpoints: [{{ name: a, address: '127.0.0.1:9001' }}], {cluster} }}\n"
    )
}

fn shown(text: &str) -> String {
    match parse(text) {
        Err(mistakes) => mistakes.to_string(),
        Ok(_) => panic!("no mistake in:\n{text}"),
    }
}

const TCP: &str = "  - { name: long, address: '127.0.0.1:5353', protocol: tcp, cluster: dns }\n";

#[test]
fn a_listener_of_udp_needs_a_cluster_and_no_more() {
    let config = parse(&file("cluster: dns", "", "")).unwrap();
    let listener = &config.listeners[0];
    let Protocol::Udp {
        cluster: 0,
        datagrams,
    } = listener.protocol
    else {
        panic!("{:?}", listener.protocol);
    };
    assert_eq!((datagrams.responses, datagrams.amplification), (None, None));
    assert_eq!(
        (listener.is_http(), listener.transport()),
        (false, Transport::Udp)
    );
    assert_eq!(
        (listener.idle_timeout, listener.lifetime),
        (Duration::from_secs(60), None)
    );
    let said = "cluster: dns, responses: 0, amplification: 3, idleTimeout: 5s, lifetime: 1h";
    let config = parse(&file(said, "", "")).unwrap();
    let Protocol::Udp { datagrams, .. } = config.listeners[0].protocol else {
        panic!("{:?}", config.listeners[0].protocol);
    };
    assert_eq!((datagrams.responses, datagrams.amplification), (Some(0), Some(3)));
    let text = shown(&file("", "", ""));
    assert!(
        text.contains("cluster is missing: datagrams of udp go to one"),
        "{text}"
    );
}

#[test]
fn who_serves_datagrams_alone_is_not_asked_for_connections() {
    for (more, health, probed) in [
        ("", "", false),
        (TCP, "", true),
        ("", "health: tcp", true),
        ("", "health: off", false),
    ] {
        let config = parse(&file("cluster: dns", more, health)).unwrap();
        assert_eq!(config.clusters[0].health.is_some(), probed, "{more}{health}");
    }
    let probe = "health: { udp: { send: '0x00ff', expect: ok } }";
    let config = parse(&file("cluster: dns", "", probe)).unwrap();
    let expected = Probe::Udp {
        send: vec![0, 255],
        expect: b"ok".to_vec(),
    };
    assert_eq!(config.clusters[0].health.as_ref().unwrap().probe, expected);
    for (wrong, what) in [
        ("health: { udp: {} }", "send is missing"),
        ("health: { udp: { send: '0x0' } }", "is no hexadecimal"),
        ("health: { udp: { send: a }, tcp: {} }", "a probe asks one thing"),
    ] {
        let text = shown(&file("cluster: dns", "", wrong));
        assert!(text.contains(what), "{text}");
    }
}

#[test]
fn connections_and_datagrams_have_ports_of_their_own() {
    let config = parse(&file("cluster: dns", TCP, "")).unwrap();
    assert_eq!(config.listeners.len(), 2);
    let twice = file("cluster: dns", &TCP.replace("protocol: tcp", "protocol: udp"), "");
    let text = shown(&twice);
    assert!(
        text.contains("127.0.0.1:5353 is taken by the listener \"dns\""),
        "{text}"
    );
}

#[test]
fn what_means_nothing_to_datagrams_is_a_mistake() {
    for (listener, cluster, what) in [
        (
            "cluster: dns, routes: [{ cluster: dns }]",
            "",
            "routes has no effect: the listener speaks udp",
        ),
        (
            "cluster: dns, serverNames: [{ names: [a.b], cluster: dns }]",
            "",
            "serverNames has no effect",
        ),
        (
            "cluster: dns, proxyProtocol: { from: ['::1'] }",
            "",
            "proxyProtocol has no effect",
        ),
        ("cluster: dns", "proxyProtocol: v2", "datagrams have none"),
        ("cluster: dns", "tls: {}", "datagrams have none"),
        ("cluster: dns", "concurrency: { limit: 3 }", "and pass no gate"),
        ("cluster: dns, responses: -1", "", "responses"),
    ] {
        let text = shown(&file(listener, "", cluster));
        assert!(text.contains(what), "{what} in {text}");
    }
    let tcp = TCP.replace("cluster: dns", "cluster: dns, responses: 1, amplification: 9");
    let text = shown(&file("cluster: dns", &tcp, ""));
    for key in ["responses", "amplification"] {
        let what = format!("{key} has no effect: the listener speaks tcp");
        assert!(text.contains(&what), "{text}");
    }
}
