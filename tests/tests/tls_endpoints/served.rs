//! Requests that are served over TLS, small and large, by servers of others.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use foreshade_tests::nginx::Nginx;
use foreshade_tests::proxy::free_address;
use foreshade_tests::recording::{Recording, requests};
use foreshade_tests::tls_server::{body, sum};
use foreshade_tests::wire::{connect, exchange, read_until};

use crate::stage::{BOTH, NAME, Stage, done, one, start};

#[test]
fn nginx_is_asked_for_its_name_and_serves_many_requests_on_one_connection() {
    let stage = Stage::new();
    let nginx = Nginx::start(&stage.folder, &stage.shop, "location / { return 200 \"ok\\n\"; }");
    for relay in BOTH {
        let proxy = stage.before(nginx.address, relay);
        let request = "GET / HTTP/1.1\r\nHost: users.example\r\n\r\n".repeat(4)
            + "GET / HTTP/1.1\r\nHost: users.example\r\nConnection: close\r\n\r\n";
        let answers = exchange(proxy.users, request.as_bytes()).to_ascii_lowercase();
        assert_eq!(answers.matches("http/1.1 200 ok").count(), 5, "{answers}");
        // One client's requests are one worker's, and so is the connection to the endpoint.
        for requests in 1..=5 {
            assert!(
                answers.contains(&format!("x-requests: {requests}\r\n")),
                "{answers}"
            );
        }
        assert!(answers.contains(&format!("x-name: {NAME}\r\n")), "{answers}");
        // What this version speaks by itself.
        assert_eq!(done(&proxy, "1.2", false) + done(&proxy, "1.3", false), 1);
    }
}

#[test]
fn the_host_of_the_user_is_not_the_name_of_the_endpoint() {
    let stage = Stage::new();
    let recording = Recording::start();
    let passing = format!(
        "location / {{ proxy_pass http://{}; proxy_set_header Host $http_host; }}",
        recording.address
    );
    let nginx = Nginx::start(&stage.folder, &stage.shop, &passing);
    for relay in BOTH {
        let proxy = stage.before(nginx.address, relay);
        let asked = "GET /a?b HTTP/1.1\r\nHost: users.example\r\nConnection: close\r\n\r\n";
        assert!(exchange(proxy.users, asked.as_bytes()).starts_with("HTTP/1.1 200"));
        let bytes = recording.take();
        let head = requests(&bytes).0[0].head.to_ascii_lowercase();
        assert!(head.contains("\r\nhost: users.example"), "{head}");
        assert!(
            head.contains("x-forwarded-proto: http") && !head.contains("https"),
            "{head}"
        );
    }
}

#[test]
fn large_bodies_arrive_whole_both_ways() {
    const BYTES: usize = 3_000_000;
    let stage = Stage::new();
    let server = stage.server();
    let large = body(BYTES);
    for relay in BOTH {
        let proxy = stage.before(server.address, relay);
        let head =
            format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {BYTES}\r\nConnection: close\r\n\r\n");
        let answer = exchange(proxy.users, &[head.as_bytes(), &large].concat());
        assert!(answer.ends_with(&sum(&large)), "relay {relay}: {answer}");
        let mut stream = connect(proxy.users);
        let asked = format!("GET /large/{BYTES} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(asked.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(
            answer.ends_with(&large),
            "relay {relay}: {} bytes came",
            answer.len()
        );
    }
}

#[test]
fn a_body_in_chunks_goes_through_nginx_byte_for_byte() {
    let stage = Stage::new();
    let recording = Recording::start();
    let passing = format!("location / {{ proxy_pass http://{}; }}", recording.address);
    let nginx = Nginx::start(&stage.folder, &stage.shop, &passing);
    for relay in BOTH {
        let proxy = stage.before(nginx.address, relay);
        let mut text =
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_vec();
        let piece = body(70_000);
        for _ in 0..20 {
            text.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            text.extend_from_slice(&piece);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        assert!(exchange(proxy.users, &text).starts_with("HTTP/1.1 200"));
        let bytes = recording.take();
        let (seen, _) = requests(&bytes);
        assert!(seen[0].body == piece.repeat(20), "relay {relay}");
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole_only_where_tls_says_so() {
    let stage = Stage::new();
    let server = stage.server();
    for relay in BOTH {
        let proxy = stage.before(server.address, relay);
        let asked = |path: &str| {
            let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            exchange(proxy.users, text.as_bytes())
        };
        let whole = asked("/until-close");
        assert!(whole.ends_with("ok\n\r\n0\r\n\r\n"), "relay {relay}: {whole}");
        let cut = asked("/cut-off");
        assert!(!cut.ends_with("0\r\n\r\n"), "relay {relay}: {cut}");
    }
}

#[test]
fn another_protocol_is_spoken_on_after_an_upgrade() {
    let stage = Stage::new();
    let server = stage.server();
    let proxy = stage.before(server.address, true);
    let mut stream = connect(proxy.users);
    let asked = "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(asked.as_bytes()).unwrap();
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    for word in ["one\n", "another\n"] {
        stream.write_all(word.as_bytes()).unwrap();
        assert_eq!(read_until(&mut stream, "\n"), word);
    }
}

#[test]
fn openssl_is_spoken_to_in_either_version() {
    let stage = Stage::new();
    for (argument, version) in [("-tls1_2", "1.2"), ("-tls1_3", "1.3")] {
        let address = free_address();
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", &address.to_string(), "-www", argument])
            .arg("-cert")
            .arg(&stage.shop.certificate)
            .arg("-key")
            .arg(&stage.shop.key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let mut proxy = start(true, &stage.tls(""), &one(address));
        proxy.wait_until("served", |p| {
            let asked = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            exchange(p.users, asked.as_bytes()).starts_with("HTTP/1.1 200")
        });
        assert!(done(&proxy, version, false) >= 1, "{version}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
