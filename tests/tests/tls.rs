//! TLS with clients: who is shown what, who is let in, and what nobody notices when certificates are renewed.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use foreshade_bench::farm::{Farm, FarmOptions};
use foreshade_tests::certificates::{Authority, Files, Folder, Secure, ask, secure};
use foreshade_tests::proxy::{Proxy, free_address, preamble};
use foreshade_tests::recording::{Recording, requests};
use foreshade_tests::wire::{connect, exchange, read_until};
use rustls::{ClientConfig, HandshakeKind};

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\n";
const H1: &[&[u8]] = &[b"http/1.1"];

/// A proxy that speaks TLS, and what it is tried with.
struct Stage {
    proxy: Proxy,
    endpoint: Recording,
    folder: Folder,
    authority: Authority,
    shop: Files,
    config: Box<dyn Fn(&Proxy) -> String>,
}

impl Stage {
    /// With `tls` behind the certificates, and `keys` of the listener, as YAML in one line each.
    fn start(tls: &str, keys: &str) -> Self {
        let folder = Folder::new();
        let authority = folder.authority("ca");
        let shop = authority.issue("shop", &["shop.example", "*.shop.example"]);
        let api = authority.issue("api", &["api.example"]);
        let endpoint = Recording::start();
        let tls = tls.replace("CA", &authority.file.display().to_string());
        let text = format!(
            "    tls:\n      certificates: [{}, {}]\n{tls}    routes: [{{ cluster: shop, timeout: 5s }}]\n{}",
            shop.as_yaml(),
            api.as_yaml(),
            endpoint.clusters()
        );
        let keys = keys.to_owned();
        let config = move |users, admin| {
            format!(
                "{}listeners:\n  - name: web\n    address: \"{users}\"\n{keys}{text}",
                preamble(admin)
            )
        };
        let proxy = Proxy::start_with(&config);
        Self {
            proxy,
            endpoint,
            folder,
            authority,
            shop,
            config: Box::new(move |proxy| config(proxy.users, proxy.admin)),
        }
    }

    fn client(&self) -> Arc<ClientConfig> {
        self.authority.client(None, H1)
    }

    fn connect(&self, name: &str) -> std::io::Result<Secure> {
        secure(self.proxy.users, name, &self.client())
    }

    /// Waits until one handshake has come to nothing for this reason.
    fn counts_as(&mut self, reason: &str) {
        let name = format!("foreshade_tls_handshakes_failed_total{{reason=\"{reason}\"}}");
        self.proxy.wait_until(reason, |p| p.metric(&name) == Some(1.0));
    }

    fn resumed(&self) -> f64 {
        let name = "foreshade_tls_handshakes_total{version=\"1.3\",resumed=\"true\"}";
        self.proxy.metric(name).unwrap()
    }
}

/// The first name of the certificate that a client was shown.
fn shown(stream: &Secure) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

fn says(certificate: &[u8], name: &str) -> bool {
    certificate
        .windows(name.len())
        .any(|part| part == name.as_bytes())
}

fn curl(arguments: &[&str]) -> Output {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(arguments)
        .output();
    output.expect("curl is installed")
}

fn s_client(proxy: &Proxy, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &proxy.users.to_string(),
            "-servername",
            "shop.example",
        ])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_that_he_asks_for() {
    let mut stage = Stage::start("", "");
    for (name, expected) in [
        ("shop.example", "shop.example"),
        ("www.shop.example", "shop.example"),
        ("api.example", "api.example"),
    ] {
        let mut stream = stage.connect(name).unwrap();
        assert!(says(&shown(&stream), expected), "{name}");
        assert!(ask(&mut stream, GET).starts_with(OK));
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
    // The first one, which he does not trust for that name.
    assert!(stage.connect("other.example").is_err());
    stage.counts_as("alerted");
}

#[test]
fn a_name_that_no_certificate_bears_is_refused_where_that_is_wanted() {
    let mut stage = Stage::start("      unknownNames: refuse\n", "");
    assert!(stage.connect("api.example").is_ok());
    let error = stage.connect("other.example").unwrap_err();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    stage.counts_as("name_unknown");
}

#[test]
fn curl_and_openssl_are_served_and_the_endpoint_is_told_of_https() {
    let stage = Stage::start("", "");
    let (port, ca) = (
        stage.proxy.users.port(),
        stage.authority.file.display().to_string(),
    );
    let url = format!("https://www.shop.example:{port}/a?b");
    let resolve = format!("www.shop.example:{port}:127.0.0.1");
    let output = curl(&["--cacert", &ca, "--resolve", &resolve, "--http1.1", &url, &url]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\nok\n", "{output:?}");
    let bytes = stage.endpoint.take();
    let (seen, _) = requests(&bytes);
    let head = seen[0].head.to_ascii_lowercase();
    assert_eq!((seen.len(), seen[0].line()), (2, "GET /a?b HTTP/1.1"));
    assert!(
        head.contains("x-forwarded-proto: https") && !head.contains("client-cert"),
        "{head}"
    );
    let http10 = "GET / HTTP/1.0\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
    let said = s_client(
        &stage.proxy,
        &["-CAfile", &ca, "-tls1_2", "-ign_eof", "-quiet"],
        http10,
    );
    assert!(said.contains("200 OK") && said.contains("ok\n"), "{said}");
    let counted = stage
        .proxy
        .metric("foreshade_tls_handshakes_total{version=\"1.2\",resumed=\"false\"}");
    assert_eq!(counted, Some(1.0));
}

/// What a client offers, and what becomes of it.
type Told<'a> = (&'a [&'a str], &'a str);

/// What a client that can do nothing else is told in each profile: the alert, or the version that is spoken. Who is older
/// than TLS 1.2 names no signatures, and is refused for that first.
#[test]
fn a_profile_says_what_is_spoken_and_everything_else_gets_an_alert() {
    const OLD: [&str; 3] = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
    const TLS12: [&str; 1] = ["-tls1_2"];
    const CBC: [&str; 3] = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"];
    const CHACHA12: [&str; 3] = ["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"];
    const CHACHA13: [&str; 3] = ["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"];
    const X25519: [&str; 3] = ["-tls1_3", "-groups", "X25519"];
    const P256: [&str; 3] = ["-tls1_3", "-groups", "P-256"];
    const VERSION: &str = "alert protocol version";
    const HANDSHAKE: &str = "alert handshake failure";
    let told: [(&str, [Told<'_>; 7]); 3] = [
        (
            "modern",
            [
                (&OLD, HANDSHAKE),
                (&TLS12, VERSION),
                (&CBC, VERSION),
                (&CHACHA12, VERSION),
                (&CHACHA13, "TLSv1.3"),
                (&X25519, "TLSv1.3"),
                (&P256, "TLSv1.3"),
            ],
        ),
        (
            "intermediate",
            [
                (&OLD, HANDSHAKE),
                (&TLS12, "TLSv1.2"),
                (&CBC, HANDSHAKE),
                (&CHACHA12, "TLSv1.2"),
                (&CHACHA13, "TLSv1.3"),
                (&X25519, "TLSv1.3"),
                (&P256, "TLSv1.3"),
            ],
        ),
        (
            "nist",
            [
                (&OLD, HANDSHAKE),
                (&TLS12, "TLSv1.2"),
                (&CBC, HANDSHAKE),
                (&CHACHA12, HANDSHAKE),
                (&CHACHA13, HANDSHAKE),
                (&X25519, HANDSHAKE),
                (&P256, "TLSv1.3"),
            ],
        ),
    ];
    for (profile, asked) in told {
        let mut stage = Stage::start(&format!("      profile: {profile}\n"), "");
        let mut refused = 0.0;
        for (arguments, expected) in asked {
            let said = s_client(&stage.proxy, &[&["-brief"], arguments].concat(), "");
            assert!(said.contains(expected), "{profile} {arguments:?}: {said}");
            refused += f64::from(u8::from(expected.starts_with("alert")));
        }
        let name = "foreshade_tls_handshakes_failed_total{reason=\"incompatible\"}";
        stage
            .proxy
            .wait_until("aware of all", |p| p.metric(name) == Some(refused));
    }
}

#[test]
fn a_client_certificate_is_verified_and_told_and_cannot_be_claimed() {
    for relay in ["", "    relay: true\n"] {
        let mut stage = Stage::start(
            "      clientCertificates: { caFile: CA, required: false }\n",
            relay,
        );
        let own = stage.authority.issue_client("till-7");
        let stranger = stage.folder.authority("elsewhere").issue_client("intruder");
        let claim = "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-Client-Cert: Hash=forged\r\n\r\n";
        let told = |files: Option<&Files>| {
            let config = stage.authority.client(files, H1);
            let mut stream = secure(stage.proxy.users, "shop.example", &config).unwrap();
            assert!(ask(&mut stream, claim).starts_with(OK));
            let bytes = stage.endpoint.take();
            let head = requests(&bytes).0[0].head.to_ascii_lowercase();
            head.lines()
                .find_map(|line| line.strip_prefix("x-forwarded-client-cert: "))
                .map(str::to_owned)
        };
        assert_eq!(told(None), None);
        let value = told(Some(&own)).unwrap();
        assert!(value.starts_with("hash=") && !value.contains("forged"), "{value}");
        assert!(
            value.contains(";subject=\"cn=till-7\";dns=till-7.clients.example"),
            "{value}"
        );
        let config = stage.authority.client(Some(&stranger), H1);
        let mut stream = secure(stage.proxy.users, "shop.example", &config);
        // In TLS 1.3 a client hears of it when it reads for the first time.
        let refused = stream.as_mut().map_or(Ok(0), |stream| stream.read(&mut [0]));
        assert!(refused.is_err() || stream.is_err());
        stage.counts_as("certificate_invalid");
    }
}

#[test]
fn without_a_certificate_nobody_comes_in_where_one_is_required() {
    let mut stage = Stage::start("      clientCertificates: { caFile: CA }\n", "");
    let mut stream = stage.connect("shop.example").unwrap();
    let _ = stream.write_all(GET.as_bytes());
    assert!(stream.read(&mut [0]).is_err());
    stage.counts_as("certificate_missing");
    assert!(stage.endpoint.take().is_empty());
    let own = stage.authority.issue_client("till-7");
    let (port, ca) = (
        stage.proxy.users.port(),
        stage.authority.file.display().to_string(),
    );
    let (cert, key) = (
        own.certificate.display().to_string(),
        own.key.display().to_string(),
    );
    let resolve = format!("shop.example:{port}:127.0.0.1");
    let url = format!("https://shop.example:{port}/");
    let output = curl(&[
        "--cacert",
        &ca,
        "--cert",
        &cert,
        "--key",
        &key,
        "--resolve",
        &resolve,
        &url,
    ]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n", "{output:?}");
}

#[test]
fn renewed_certificates_are_shown_to_newcomers_and_nobody_is_cut_off() {
    let mut stage = Stage::start("", "");
    let mut before = stage.connect("shop.example").unwrap();
    assert!(ask(&mut before, GET).starts_with(OK));
    stage.authority.issue("shop", &["shop.example", "new.example"]);
    let config = (stage.config)(&stage.proxy);
    // Nobody has to say so: the files are looked at.
    stage.proxy.wait_until("showing the new one", |p| {
        let client = stage.authority.client(None, H1);
        secure(p.users, "new.example", &client).is_ok_and(|stream| says(&shown(&stream), "new.example"))
    });
    assert!(
        ask(&mut before, GET).starts_with(OK),
        "who was there before still is"
    );
    // A key of another certificate: all stays as it is, and says so.
    std::fs::copy(stage.folder.path().join("api.key"), &stage.shop.key).unwrap();
    let (status, answer) = stage.proxy.reload(&config);
    assert_eq!(status, 422, "{answer}");
    assert!(
        answer.to_string().contains("is not the key of the certificate"),
        "{answer}"
    );
    assert!(says(
        &shown(&stage.connect("new.example").unwrap()),
        "new.example"
    ));
    assert!(ask(&mut before, GET).starts_with(OK));
}

#[test]
fn sessions_are_resumed_by_any_worker_and_after_a_reload_that_changes_no_certificate() {
    let stage = Stage::start("", "");
    let client = stage.client();
    let visit = |proxy: &Proxy| {
        let mut stream = secure(proxy.users, "shop.example", &client).unwrap();
        // The ticket comes with the answer.
        assert!(ask(&mut stream, GET).starts_with(OK));
        stream.conn.handshake_kind()
    };
    assert_eq!(visit(&stage.proxy), Some(HandshakeKind::Full));
    for _ in 0..8 {
        assert_eq!(visit(&stage.proxy), Some(HandshakeKind::Resumed));
    }
    assert!(stage.resumed() >= 8.0);
    let changed = (stage.config)(&stage.proxy).replace("grace: 20s", "grace: 21s");
    let (status, answer) = stage.proxy.reload(&changed);
    assert_eq!(
        (status, answer["result"].as_str()),
        (200, Some("applied")),
        "{answer}"
    );
    assert_eq!(visit(&stage.proxy), Some(HandshakeKind::Resumed));
    stage.authority.issue("shop", &["shop.example"]);
    assert_eq!(stage.proxy.reload(&changed).0, 200);
    assert_eq!(
        visit(&stage.proxy),
        Some(HandshakeKind::Full),
        "new certificates, new keys of tickets"
    );
}

#[test]
fn plain_http_is_told_what_it_should_have_been() {
    let mut stage = Stage::start("", "");
    let answer = exchange(stage.proxy.users, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks TLS"),
        "{answer}"
    );
    stage
        .proxy
        .wait_until("aware of it", |p| p.refused("plain_http") == 1);
    assert!(stage.endpoint.take().is_empty());
}

#[test]
fn what_is_no_handshake_is_closed_and_counted() {
    let mut stage = Stage::start("", "    limits: { headerTimeout: 200ms }\n");
    assert_eq!(exchange(stage.proxy.users, b"\x00\x01\x02\x03"), "");
    stage.counts_as("malformed");
    drop(connect(stage.proxy.users));
    stage.counts_as("gone");
    // Half of a record, and then nothing.
    assert_eq!(exchange(stage.proxy.users, b"\x16\x03\x01\x02\x00\x01"), "");
    stage.counts_as("slow");
}

#[test]
fn so_many_handshakes_are_under_way_and_no_more() {
    let mut stage = Stage::start("", "    limits: { handshakes: 2, headerTimeout: 20s }\n");
    let mut waiting: Vec<TcpStream> = (0..2).map(|_| connect(stage.proxy.users)).collect();
    stage.proxy.wait_until("aware of both", |p| {
        p.metric("foreshade_connections_open") == Some(2.0)
    });
    for one in &mut waiting {
        one.write_all(b"\x16").unwrap();
    }
    // One of three is refused: so the other two are under way.
    let mut third = connect(stage.proxy.users);
    third.write_all(b"\x16").unwrap();
    waiting.push(third);
    stage.counts_as("too_many");
    assert!(stage.connect("shop.example").is_err());
    drop(waiting);
    stage.counts_as_two_gone();
    assert!(stage.connect("shop.example").is_ok());
}

impl Stage {
    fn counts_as_two_gone(&mut self) {
        let name = "foreshade_tls_handshakes_failed_total{reason=\"gone\"}";
        self.proxy
            .wait_until("rid of both", |p| p.metric(name).is_some_and(|n| n >= 2.0));
    }
}

#[test]
fn requests_come_in_one_record_or_byte_by_byte_and_leave_whole() {
    for relay in ["", "    relay: true\n"] {
        let stage = Stage::start("", relay);
        let mut stream = stage.connect("shop.example").unwrap();
        // Three in one record: the second and third are known to TLS alone.
        stream.write_all(GET.repeat(3).as_bytes()).unwrap();
        for _ in 0..3 {
            assert!(ask(&mut stream, "").starts_with(OK));
        }
        for byte in GET.bytes() {
            stream.write_all(&[byte]).unwrap();
        }
        assert!(ask(&mut stream, "").starts_with(OK));
        let body = "x".repeat(300_000);
        let head = format!(
            "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        assert!(ask(&mut stream, &(head + &body + GET)).starts_with(OK));
        assert!(ask(&mut stream, "").starts_with(OK));
        let bytes = stage.endpoint.take();
        let (seen, rest) = requests(&bytes);
        assert_eq!((seen.len(), seen[4].body.len(), rest.len()), (6, body.len(), 0));
    }
}

#[test]
fn a_client_that_says_goodbye_is_told_goodbye() {
    let stage = Stage::start("", "");
    let mut stream = stage.connect("shop.example").unwrap();
    stream.write_all(GET.as_bytes()).unwrap();
    // His own side is closed; his answer he still gets, and then the end, said in TLS.
    stream.conn.send_close_notify();
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("an end that TLS knows of");
    assert!(answer.starts_with(OK) && answer.ends_with("ok\n"), "{answer}");
}

#[test]
fn large_answers_arrive_whole_however_slowly_they_are_read() {
    let folder = Folder::new();
    let authority = folder.authority("ca");
    let shop = authority.issue("shop", &["shop.example"]);
    let mut options = FarmOptions::on_free_ports(&["a"]);
    options.body_bytes = 1_000_000;
    let farm = Farm::start(options).unwrap();
    for relay in ["false", "true"] {
        let proxy = Proxy::start_with(|users, admin| {
            format!(
                "{}listeners:\n  - name: web\n    address: \"{users}\"\n    relay: {relay}\n    tls: {{ certificates: \
                 [{}] }}\n    routes: [{{ cluster: shop }}]\nclusters:\n  - name: shop\n    endpoints: [{{ name: a, \
                 address: \"{}\" }}]\n",
                preamble(admin),
                shop.as_yaml(),
                farm.addresses()[0]
            )
        });
        let mut stream = secure(proxy.users, "shop.example", &authority.client(None, H1)).unwrap();
        let answer = ask(&mut stream, GET);
        assert!(answer.starts_with(OK), "{}", &answer[..answer.len().min(200)]);
        assert!(answer.len() > 1_000_000);
        assert!(
            ask(&mut stream, GET).len() > 1_000_000,
            "and the connection lives on"
        );
    }
}

#[test]
fn a_listener_learns_tls_by_a_reload_and_keeps_whom_it_has() {
    let stage = Stage::start("", "");
    let secret = (stage.config)(&stage.proxy);
    let from = secret.find("    tls:").unwrap();
    let to = secret.find("    routes:").unwrap();
    let open = format!("{}{}", &secret[..from], &secret[to..]);
    assert_eq!(stage.proxy.reload(&open).0, 200);
    let mut plain = connect(stage.proxy.users);
    plain.write_all(GET.as_bytes()).unwrap();
    assert!(read_until(&mut plain, "ok\n").starts_with(OK));
    assert_eq!(stage.proxy.reload(&secret).0, 200);
    assert!(stage.connect("shop.example").is_ok());
    plain.write_all(GET.as_bytes()).unwrap();
    assert!(read_until(&mut plain, "ok\n").starts_with(OK));
}

#[test]
fn an_idle_connection_costs_little_memory() {
    /// Forty KiB in user space, twice: the allocator rounds up, and this build is not optimised.
    const EACH_BYTES_MAX: u64 = 2 * 40 * 1024;
    const MANY: usize = 400;
    let stage = Stage::start("", "");
    let client = stage.client();
    let visit = || {
        let mut stream = secure(stage.proxy.users, "shop.example", &client).unwrap();
        assert!(ask(&mut stream, GET).starts_with(OK));
        stream
    };
    let warm: Vec<Secure> = (0..MANY / 4).map(|_| visit()).collect();
    let before = stage.proxy.memory("VmRSS");
    let idle: Vec<Secure> = (0..MANY).map(|_| visit()).collect();
    let grown = stage.proxy.memory("VmRSS").saturating_sub(before) / MANY as u64;
    assert!(grown < EACH_BYTES_MAX, "{grown} bytes each");
    drop((warm, idle));
}

#[test]
fn an_endpoint_that_is_gone_is_made_up_for_over_tls_too() {
    let folder = Folder::new();
    let authority = folder.authority("ca");
    let shop = authority.issue("shop", &["shop.example"]);
    let endpoint = Recording::start();
    let proxy = Proxy::start_with(|users, admin| {
        format!(
            "{}listeners:\n  - name: web\n    address: \"{users}\"\n    tls: {{ certificates: [{}] }}\n    routes: [{{ \
             cluster: shop }}]\nclusters:\n  - name: shop\n    health: off\n    endpoints: [{{ name: a, address: \
             \"{}\", shadow: b }}]\n    shadows: [{{ name: b, address: \"{}\" }}]\n",
            preamble(admin),
            shop.as_yaml(),
            free_address(),
            endpoint.address
        )
    });
    let mut stream = secure(proxy.users, "shop.example", &authority.client(None, H1)).unwrap();
    for _ in 0..20 {
        assert!(ask(&mut stream, GET).starts_with(OK));
    }
}
