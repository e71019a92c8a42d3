//! Who the client is, a balancer may say that was named, and nobody else; and endpoints are told in the same words.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use foreshade_tests::proxy::{Proxy, free_address, preamble};
use foreshade_tests::wire::{Scripted, connect, exchange, read_until, serving};

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n";

fn v2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&[203, 0, 113, 7, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xBB]);
    header
}

/// LOCAL: the balancer itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Sends what it has read of the first line, or of a binary header, back.
fn tells_the_header() -> SocketAddr {
    serving(|mut stream| {
        let mut seen = [0; 16];
        if stream.read_exact(&mut seen).is_err() {
            return;
        }
        let mut header = seen.to_vec();
        if seen.starts_with(b"PROXY ") {
            header.extend(read_until(&mut stream, "\n").bytes());
        } else {
            let mut rest = vec![0; usize::from(u16::from_be_bytes([seen[14], seen[15]]))];
            stream.read_exact(&mut rest).unwrap();
            header.extend(rest);
        }
        stream.write_all(&header).unwrap();
        let mut copy = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut copy);
    })
}

/// A proxy before `endpoint` that believes `from`, and tells endpoints in `version`.
fn carrying(from: &str, version: &str, endpoint: SocketAddr) -> Proxy {
    Proxy::start_with(|users, admin| {
        format!(
            "{}listeners: [{{ name: db, address: \"{users}\", protocol: tcp, cluster: db, proxyProtocol: {{ from: [{from}], \
             timeout: 1s }} }}]\nclusters: [{{ name: db, health: off, proxyProtocol: {version}, endpoints: [{{ name: a, \
             address: \"{endpoint}\" }}] }}]\n",
            preamble(admin)
        )
    })
}

#[test]
fn what_a_balancer_says_is_what_endpoints_are_told() {
    let (v2, endpoint) = (v2(), tells_the_header());
    for (version, expected) in [("v1", V1), ("v2", v2.as_slice())] {
        let proxy = carrying("127.0.0.0/8", version, endpoint);
        for said in [V1, v2.as_slice()] {
            let mut user = connect(proxy.users);
            user.write_all(&[said, b"and then this"].concat()).unwrap();
            let mut told = vec![0; expected.len() + 13];
            user.read_exact(&mut told).unwrap();
            assert_eq!(told, [expected, b"and then this"].concat(), "{version}");
        }
    }
}

#[test]
fn who_is_not_named_is_who_has_connected() {
    let proxy = carrying("127.0.0.1", "v1", tells_the_header());
    for said in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let mut user = connect(proxy.users);
        user.write_all(said).unwrap();
        let (own, to) = (user.local_addr().unwrap(), proxy.users);
        let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", own.port(), to.port());
        assert_eq!(read_until(&mut user, "\n"), expected);
    }
}

/// Whether the proxy breaks off after these bytes, without a word.
fn is_refused(proxy: &Proxy, bytes: &[u8]) -> bool {
    let mut user = connect(proxy.users);
    let _ = user.write_all(bytes);
    let mut answer = Vec::new();
    let _ = user.read_to_end(&mut answer);
    answer.is_empty()
}

#[test]
fn strangers_and_malformed_headers_are_refused_and_counted() {
    let mut strict = carrying("203.0.113.0/24", "off", tells_the_header());
    assert!(is_refused(&strict, V1), "anybody could say who he is");
    strict.wait_until("counted", |p| p.refused("proxy_untrusted") == 1);
    let mut proxy = carrying("127.0.0.1", "off", tells_the_header());
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    let mut wrong_sum = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13".to_vec();
    wrong_sum.extend_from_slice(&[
        203, 0, 113, 7, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xBB, 3, 0, 4, 1, 2, 3, 4,
    ]);
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "proxy_header"),
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2 \r\n", "proxy_header"),
        (long.as_bytes(), "proxy_too_long"),
        (wrong_sum.as_slice(), "proxy_checksum"),
        (b"PROXY TC", "proxy_slow"),
    ] {
        let before = proxy.refused(reason);
        assert!(is_refused(&proxy, bytes), "{reason}");
        proxy.wait_until("counted", |p| p.refused(reason) == before + 1);
    }
}

#[test]
fn limits_count_the_client_that_was_named() {
    let proxy = Proxy::start_with(|users, admin| {
        format!(
            "{}listeners: [{{ name: db, address: \"{users}\", protocol: tcp, cluster: db, proxyProtocol: {{ from: [127.0.0.1] \
             }}, limits: {{ connectionsPerClient: 1 }} }}]\nclusters: [{{ name: db, health: off, endpoints: [{{ name: a, \
             address: \"{}\" }}] }}]\n",
            preamble(admin),
            serving(|mut stream| {
                let mut copy = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut copy);
            })
        )
    });
    let begin = |client: &str| {
        let mut user = connect(proxy.users);
        let _ = user.write_all(format!("PROXY TCP4 {client} 198.51.100.1 1 2\r\nx").as_bytes());
        let served = user.read(&mut [0]).is_ok_and(|n| n == 1);
        (user, served)
    };
    let (first, served) = begin("203.0.113.7");
    assert!(served);
    assert!(!begin("203.0.113.7").1, "he has one already");
    assert!(begin("203.0.113.8").1);
    drop(first);
}

#[test]
fn requests_come_from_the_client_that_was_named_and_each_way_through_the_proxy_knows_it() {
    let endpoint = Scripted::start(|stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell")
            .unwrap();
    });
    for relay in ["true", "false"] {
        let proxy = Proxy::start_with(|users, admin| {
            format!(
                "{}relay: {relay}\nlisteners: [{{ name: web, address: \"{users}\", proxyProtocol: {{ from: [127.0.0.1] }}, \
                 routes: [{{ cluster: shop, match: {{ source: [203.0.113.0/24] }} }}] }}]\nclusters: [{{ name: shop, health: \
                 off, endpoints: [{{ name: a, address: \"{}\" }}] }}]\n",
                preamble(admin),
                endpoint.address
            )
        });
        let get = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        for said in [V1, v2().as_slice()] {
            let answer = exchange(proxy.users, &[said, get].concat());
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            let head = endpoint.next_head().unwrap().to_lowercase();
            assert!(head.contains("x-forwarded-for: 203.0.113.7\r\n"), "{head}");
        }
        let answer = exchange(proxy.users, &[LOCAL, get].concat());
        assert!(
            answer.starts_with("HTTP/1.1 404"),
            "the balancer itself: {answer}"
        );
        assert!(is_refused(&proxy, get), "no header, no answer");
    }
}

/// HAProxy with a configuration of the test's own; killed when it is dropped.
struct Haproxy(Child);

impl Haproxy {
    /// `None` where it is not installed.
    fn start(folder: &Path, sections: &str, ready: SocketAddr) -> Option<Self> {
        let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "/usr/bin/haproxy"]
            .into_iter()
            .find(|path| Path::new(path).exists())?;
        let file = folder.join("haproxy.cfg");
        let defaults = "defaults\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n";
        std::fs::write(&file, format!("{defaults}{sections}")).unwrap();
        let child = Command::new(program)
            .args(["-db", "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Self(child);
        let begun = std::time::Instant::now();
        while TcpStream::connect(ready).is_err() {
            assert!(
                begun.elapsed() < foreshade_tests::proxy::PATIENCE,
                "HAProxy does not start"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(started)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_before_and_haproxy_behind_agree_about_the_client() {
    let (front, back) = (free_address(), free_address());
    for version in ["v1", "v2"] {
        let proxy = carrying("127.0.0.1", version, back);
        let send = if version == "v1" {
            "send-proxy"
        } else {
            "send-proxy-v2 proxy-v2-options crc32c"
        };
        // The one behind answers with the address that it takes for the client's.
        let sections = format!(
            "frontend front\n  mode tcp\n  bind {front}\n  default_backend proxy\nbackend proxy\n  mode tcp\n  server p {} \
             {send}\nfrontend behind\n  mode http\n  bind {back} accept-proxy\n  http-request return status 200 \
             content-type text/plain lf-string \"%[src] %[src_port] %[dst_port]\"\n",
            proxy.users
        );
        let Some(_haproxy) = Haproxy::start(&proxy.folder, &sections, front) else {
            eprintln!("SKIPPED: there is no haproxy here; scripts/rivals installs it");
            return;
        };
        let mut user = connect(front);
        let own = user.local_addr().unwrap();
        user.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        user.read_to_string(&mut answer).unwrap();
        let expected = format!("127.0.0.1 {} {}", own.port(), front.port());
        assert!(answer.ends_with(&expected), "{version}: {answer}, not {expected}");
    }
}
