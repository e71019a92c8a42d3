//! Tests of [`super`]: what each contender is told, and whether it understands it.

use super::*;

fn place(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn site(protocol: Protocol, setting: Setting) -> Site {
    let primary = |(name, port): (&str, u16)| Primary {
        name: name.to_owned(),
        address: place(port),
        standby: Some(format!("{name}-standby")),
    };
    let standby = |(name, port): (&str, u16)| EndpointSpec {
        name: name.to_owned(),
        address: place(port),
    };
    Site {
        listen: place(8080),
        admin: place(9901),
        protocol,
        workers: 1,
        primaries: [("a", 9001), ("b", 9002)].map(primary).to_vec(),
        standbys: [("a-standby", 9101), ("b-standby", 9102)].map(standby).to_vec(),
        tls: Some(Tls {
            certificate: "/tls/certificate.pem".into(),
            key: "/tls/key.pem".into(),
            both: "/tls/both.pem".into(),
        }),
        setting,
        capacity: 16,
    }
}

/// As found on a machine that has it; what it depends on is in `build`.
fn found(contender: Contender) -> Found {
    Found {
        contender,
        program: "program".into(),
        version: "1.0".into(),
        build: "--modules-path=/nowhere --with-http_v2_module --with-http_ssl_module +OPENSSL".into(),
    }
}

#[test]
fn everybody_is_told_the_same_in_his_own_words() {
    for contender in Contender::ALL {
        for (setting, word) in [(Setting::Tuned, "tuned"), (Setting::Defaults, "defaults")] {
            let text = found(contender).configuration(&site(Protocol::Http1, setting));
            insta::assert_snapshot!(format!("{}-{word}", contender.name()), text);
        }
    }
}

#[test]
fn encryption_and_bytes_are_told_where_they_are_known() {
    for contender in [Contender::Nginx, Contender::Haproxy, Contender::Envoy] {
        for (protocol, word) in [(Protocol::H2, "h2"), (Protocol::Tcp, "tcp")] {
            let text = found(contender).configuration(&site(protocol, Setting::Defaults));
            insta::assert_snapshot!(format!("{}-{word}", contender.name()), text);
        }
    }
    let foreshade = |protocol| found(Contender::Foreshade).configuration(&site(protocol, Setting::Defaults));
    insta::assert_snapshot!("foreshade-tcp", foreshade(Protocol::Tcp));
    insta::assert_snapshot!("foreshade-h2", foreshade(Protocol::H2));
    assert!(foreshade_proxy::config::parse(&foreshade(Protocol::Tcp), "foreshade-tcp").is_ok());
}

#[test]
fn a_version_is_what_the_program_calls_itself() {
    let told = [
        (
            "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.19\n",
            "1.22.1",
        ),
        (
            "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n",
            "2.6.12-1+deb12u4",
        ),
        (
            "/opt/1.2/bin/envoy  version: 9e5580/1.40.0/Clean/RELEASE/BoringSSL",
            "1.40.0",
        ),
        ("foreshade-proxy 0.1.0\n", "0.1.0"),
    ];
    for (text, version) in told {
        assert_eq!(version_in(text).as_deref(), Some(version));
    }
    assert_eq!(version_in("Segmentation fault"), None);
}

#[test]
fn who_cannot_do_something_says_so() {
    let cannot = |contender, protocol| found(contender).cannot(&site(protocol, Setting::Tuned));
    assert_eq!(cannot(Contender::Foreshade, Protocol::Http1), None);
    assert_eq!(cannot(Contender::Foreshade, Protocol::Tcp), None);
    assert_eq!(cannot(Contender::Foreshade, Protocol::H2), None);
    assert!(cannot(Contender::Bare, Protocol::Tcp).is_some());
    assert_eq!(cannot(Contender::Nginx, Protocol::H2), None);
    assert!(
        cannot(Contender::Nginx, Protocol::Tcp).is_some(),
        "there is no module in /nowhere"
    );
    assert_eq!(cannot(Contender::Haproxy, Protocol::H2), None);
}
