//! Certificates of clients by route: who may come in on which route, on every way of a request through the proxy, and who
//! is sent to connect again because he was asked for another name's sake.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::Write as _;
use std::process::Command;

use foreshade_tests::certificates::{Authority, Files, Folder, secure};
use foreshade_tests::proxy::{Proxy, preamble};
use foreshade_tests::recording::{Recording, requests};
use foreshade_tests::wire::{Scripted, read_until};

/// How a request comes: the relay on or off, and the version of HTTP as curl is told.
const WAYS: [(bool, &str); 3] = [(true, "--http1.1"), (false, "--http1.1"), (true, "--http2")];

struct Stage {
    proxy: Proxy,
    endpoint: Recording,
    authority: Authority,
    _folder: Folder,
}

impl Stage {
    /// Clients are asked for a certificate and need none, but for `/till` and `/any`.
    fn start(relay: bool) -> Self {
        let folder = Folder::new();
        let authority = folder.authority("ca");
        let shop = authority.issue("shop", &["api.example", "www.example"]);
        let endpoint = Recording::start();
        let proxy = Proxy::start_with(|users, admin| {
            format!(
                "{}relay: {relay}\nlisteners:\n  - name: web\n    address: \"{users}\"\n    tls:\n      certificates: \
                 [{}]\n      clientCertificates: {{ caFile: {}, required: false }}\n    routes:\n      - {{ cluster: shop \
                 }}\n      - {{ match: {{ path: {{ prefix: /any }} }}, cluster: shop, clientCertificate: {{}} }}\n      - \
                 match: {{ path: {{ prefix: /till }} }}\n        cluster: shop\n        cors: {{ origins: \
                 [\"https://www.example\"], credentials: true }}\n        clientCertificate:\n          uris: \
                 [\"spiffe://shop.example/till/*\"]\n          dnsNames: [till-1.clients.example]\n          subjects: \
                 [\"CN=till-2\"]\n{}",
                preamble(admin),
                shop.as_yaml(),
                authority.file.display(),
                endpoint.clusters()
            )
        });
        Self {
            proxy,
            endpoint,
            authority,
            _folder: folder,
        }
    }

    /// The status, and the body behind it. `name` is asked for in TLS and, unless `host` says otherwise, in HTTP.
    fn ask(
        &self,
        version: &str,
        own: Option<&Files>,
        name: &str,
        more: &[&str],
        path: &str,
    ) -> (u16, String) {
        let (port, ca) = (self.proxy.users.port(), self.authority.file.display().to_string());
        let resolve = format!("{name}:{port}:127.0.0.1");
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", version]);
        command.args([
            "--cacert",
            &ca,
            "--resolve",
            &resolve,
            "--write-out",
            "%{http_code}",
        ]);
        if let Some(files) = own {
            command.arg("--cert").arg(&files.certificate);
            command.arg("--key").arg(&files.key);
        }
        let output = command.args(more).arg(format!("https://{name}:{port}{path}"));
        let output = output.output().expect("curl is installed");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = said.split_at(said.len().saturating_sub(3));
        (
            status.parse().unwrap_or_else(|_| panic!("{output:?}")),
            body.to_owned(),
        )
    }

    fn counts(&mut self, reason: &str, count: f64) {
        let name = format!("foreshade_policy_refused_total{{reason=\"{reason}\"}}");
        self.proxy.wait_until(reason, |p| p.metric(&name) == Some(count));
    }
}

#[test]
fn a_route_lets_those_in_whose_certificate_bears_a_listed_name() {
    for (relay, version) in WAYS {
        let mut stage = Stage::start(relay);
        let by_uri = stage
            .authority
            .issue_client_as("one", &["spiffe://shop.example/till/7"]);
        let by_host = stage.authority.issue_client("till-1");
        let by_subject = stage.authority.issue_client("till-2");
        let other = stage
            .authority
            .issue_client_as("guest", &["spiffe://shop.example/guest/1"]);
        for (own, path, expected) in [
            (None, "/", 200),
            (None, "/any", 403),
            (None, "/till", 403),
            (Some(&other), "/any", 200),
            (Some(&other), "/till", 403),
            (Some(&by_uri), "/till", 200),
            (Some(&by_host), "/till", 200),
            (Some(&by_subject), "/till", 200),
        ] {
            let (status, body) = stage.ask(version, own, "api.example", &[], path);
            assert_eq!(status, expected, "{version} {own:?} {path}: {body}");
        }
        // Each reason by its own counter, and no endpoint has heard of any of them.
        stage.counts("certificate_missing", 2.0);
        stage.counts("certificate_denied", 1.0);
        let came = stage.endpoint.take_whole();
        let came: Vec<_> = came.iter().flat_map(|bytes| requests(bytes).0).collect();
        assert_eq!(came.len(), 5, "{version}");
        let told = |head: &str| {
            head.to_ascii_lowercase()
                .contains("x-forwarded-client-cert: hash=")
        };
        assert_eq!(came.iter().filter(|one| told(&one.head)).count(), 4, "{version}");
    }
}

#[test]
fn a_claim_of_a_certificate_opens_no_route() {
    for (relay, version) in WAYS {
        let stage = Stage::start(relay);
        let claim = "x-forwarded-client-cert: Hash=0;URI=spiffe://shop.example/till/7";
        let (status, body) = stage.ask(version, None, "api.example", &["--header", claim], "/till");
        assert_eq!(status, 403, "{version}: {body}");
        assert!(stage.endpoint.take().is_empty());
    }
}

#[test]
fn who_connected_for_another_name_is_told_to_connect_again() {
    for (relay, version) in WAYS {
        let mut stage = Stage::start(relay);
        let own = stage.authority.issue_client("till-1");
        let other = stage.authority.issue_client("guest");
        let elsewhere = ["--header", "host: api.example"];
        // As a browser does that uses the connection to one name for another one of the same certificate.
        for (own, expected) in [(None, 421), (Some(&other), 421), (Some(&own), 200)] {
            let (status, body) = stage.ask(version, own, "www.example", &elsewhere, "/till");
            assert_eq!(status, expected, "{version} {own:?}: {body}");
        }
        // Where nothing is asked, it is as good as any.
        assert_eq!(stage.ask(version, None, "www.example", &elsewhere, "/").0, 200);
        stage.counts("misdirected", 2.0);
    }
}

/// A browser sends no certificate with a preflight (Fetch standard), as it sends no password.
#[test]
fn a_page_may_ask_without_a_certificate_what_it_may_ask() {
    for (relay, version) in WAYS {
        let stage = Stage::start(relay);
        let preflight = [
            "--request",
            "OPTIONS",
            "--header",
            "origin: https://www.example",
            "--header",
            "access-control-request-method: GET",
        ];
        let (status, _) = stage.ask(version, None, "api.example", &preflight, "/till");
        assert_eq!(status, 204, "{version}");
        assert!(stage.endpoint.take().is_empty());
    }
}

#[test]
fn another_protocol_is_only_spoken_with_who_is_let_in() {
    let folder = Folder::new();
    let authority = folder.authority("ca");
    let shop = authority.issue("shop", &["api.example"]);
    let endpoint = Scripted::start(|stream| {
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        // The proxy may have gone.
        let _ = stream.write_all(answer.as_bytes());
    });
    for relay in [true, false] {
        let proxy = Proxy::start_with(|users, admin| {
            format!(
                "{}relay: {relay}\nlisteners:\n  - name: web\n    address: \"{users}\"\n    tls:\n      certificates: \
                 [{}]\n      clientCertificates: {{ caFile: {}, required: false }}\n    routes: [{{ cluster: shop, \
                 clientCertificate: {{}} }}]\nclusters:\n  - name: shop\n    health: off\n    endpoints: [{{ name: a, \
                 address: \"{}\" }}]\n",
                preamble(admin),
                shop.as_yaml(),
                authority.file.display(),
                endpoint.address
            )
        });
        let own = authority.issue_client("till-1");
        for (own, expected) in [(None, "HTTP/1.1 403 "), (Some(&own), "HTTP/1.1 101 ")] {
            let config = authority.client(own, &[b"http/1.1"]);
            let mut stream = secure(proxy.users, "api.example", &config).unwrap();
            let upgrade =
                "GET / HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(upgrade.as_bytes()).unwrap();
            let said = read_until(&mut stream, if own.is_some() { "hello" } else { "\r\n\r\n" });
            assert!(said.starts_with(expected), "relay {relay}: {said}");
        }
    }
}
