//! Answers in fewer bytes, for who can read them: the same answer by whichever way, and nobody waits for what an endpoint
//! has said already.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use foreshade_tests::http2::{Came, Client, Endpoint, next};
use foreshade_tests::proxy::{PATIENCE, Proxy};
use foreshade_tests::wire::{Scripted, connect, read_until};
use http::{HeaderMap, Request, Response};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::ways::{Reply, Way};

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

/// A page that is worth it.
fn page() -> String {
    let lines = (0..400).map(|n| format!("<li>entry {n} of the list of entries</li>\n"));
    lines.collect()
}

/// An endpoint whose every answer has this head, without what frames it, and this body.
fn saying(head: &str, body: String) -> SocketAddr {
    let head = format!(
        "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let endpoint = Scripted::start(move |stream| {
        // The client may have gone.
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(body.as_bytes());
    });
    endpoint.address
}

fn clusters(endpoint: SocketAddr, more: &str) -> String {
    format!(
        "clusters:\n  - name: shop\n    health: off\n    endpoints: [{{ name: a, address: \"{endpoint}\" }}]\n{more}"
    )
}

fn proxy(way: Way, endpoint: SocketAddr) -> Proxy {
    way.proxy("compression: {}", &["{ cluster: shop }"], &clusters(endpoint, ""))
}

fn decoder<'a>(coding: &str, bytes: impl Read + 'a) -> Box<dyn Read + 'a> {
    match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
        "" => Box::new(bytes),
        _ => panic!("encoded with {coding}"),
    }
}

fn decoded(reply: &Reply) -> String {
    let mut text = String::new();
    let mut reading = decoder(&reply.header("content-encoding"), &reply.body[..]);
    reading.read_to_string(&mut text).expect("a whole body");
    text
}

const WHOLE: &str = "200 OK\r\nContent-Type: text/html; charset=utf-8\r\nETag: \"a\"\r\nAccept-Ranges: bytes";

#[test]
fn who_can_read_it_gets_the_same_in_fewer_bytes() {
    for way in Way::ALL {
        let mut proxy = proxy(way, saying(WHOLE, page()));
        for coding in CODINGS {
            let reply = way.get(&proxy, "/", &[("accept-encoding", coding)]);
            assert_eq!(
                (reply.status, reply.header("content-encoding").as_str()),
                (200, coding),
                "{way:?}"
            );
            assert_eq!(decoded(&reply), page(), "{way:?} {coding}");
            assert!(
                reply.body.len() * 4 < page().len(),
                "{way:?} {coding}: {}",
                reply.body.len()
            );
            assert_eq!(reply.header("vary"), "accept-encoding");
            assert_eq!(reply.header("etag"), "W/\"a\"", "other bytes, other validator");
            assert!(
                !reply.headers.contains_key("content-length") && !reply.headers.contains_key("accept-ranges")
            );
        }
        let liked = way.get(
            &proxy,
            "/",
            &[("accept-encoding", "zstd;q=0.1, br;q=0, gzip;q=0.5")],
        );
        assert_eq!(liked.header("content-encoding"), "gzip", "{way:?}");
        let counted = "foreshade_compressed_answers_total{encoding=\"gzip\"}";
        proxy.wait_until("counted", |p| p.metric(counted) == Some(2.0));
        let came = f64::from(u32::try_from(page().len()).unwrap()) * 4.0;
        proxy.wait_until("counted in bytes", |p| {
            p.metric("foreshade_compressed_bytes_total{side=\"in\"}") == Some(came)
        });
    }
}

#[test]
fn who_cannot_gets_it_as_it_is_and_caches_are_told_that_there_are_others() {
    for way in Way::ALL {
        let proxy = proxy(way, saying(WHOLE, page()));
        for asks in [
            &[][..],
            &[("accept-encoding", "gzip;q=0")],
            &[("accept-encoding", "gzip"), ("range", "bytes=0-")],
        ] {
            let reply = way.get(&proxy, "/", asks);
            assert_eq!(reply.text(), page(), "{way:?}");
            assert_eq!(reply.header("vary"), "accept-encoding", "{way:?}");
            let kept = ["content-encoding", "etag", "accept-ranges", "content-length"]
                .map(|name| reply.header(name));
            let length = page().len().to_string();
            assert_eq!(kept, ["", "\"a\"", "bytes", &length], "{way:?}");
        }
    }
}

#[test]
fn what_is_not_to_be_touched_passes_as_it_is() {
    for (head, varies) in [
        ("200 OK\r\nContent-Type: image/png", false),
        ("200 OK\r\nContent-Type: text/html\r\nContent-Encoding: x", false),
        (
            "200 OK\r\nContent-Type: text/html\r\nCache-Control: max-age=3, no-transform",
            false,
        ),
        (
            "206 Partial Content\r\nContent-Type: text/html\r\nContent-Range: bytes 0-9/10",
            false,
        ),
        (
            "200 OK\r\nContent-Type: text/html\r\nRepr-Digest: sha-256=:aaaa:",
            false,
        ),
        ("200 OK", false),
    ] {
        for way in Way::ALL {
            let proxy = proxy(way, saying(head, page()));
            let reply = way.get(&proxy, "/", &[("accept-encoding", "gzip")]);
            assert_eq!(reply.text(), page(), "{way:?} {head}");
            assert_eq!(reply.headers.contains_key("vary"), varies, "{way:?} {head}");
        }
    }
    let short = proxy(Way::Full, saying(WHOLE, "<p>short</p>".to_owned()));
    let reply = Way::Full.get(&short, "/", &[("accept-encoding", "gzip")]);
    assert_eq!(reply.text(), "<p>short</p>");
}

#[test]
fn a_route_says_otherwise_than_its_listener() {
    let endpoint = saying(WHOLE, page());
    let routes = [
        "{ match: { path: { prefix: /plain } }, cluster: shop, compression: off }",
        "{ match: { path: { prefix: /own } }, cluster: shop, compression: { encodings: [gzip], level: small } }",
        "{ match: { path: { prefix: /other } }, cluster: shop, compression: { types: [application/json] } }",
        "{ cluster: shop }",
    ];
    let proxy = Way::Full.proxy(
        "compression: { encodings: [br, gzip] }",
        &routes,
        &clusters(endpoint, ""),
    );
    for (target, coding) in [("/plain", ""), ("/own", "gzip"), ("/other", ""), ("/", "br")] {
        let reply = Way::Full.get(&proxy, target, &[("accept-encoding", "zstd, br, gzip")]);
        assert_eq!(reply.header("content-encoding"), coding, "{target}");
        assert_eq!(decoded(&reply), page());
    }
}

#[test]
fn a_head_tells_of_what_a_get_brings_and_the_connection_lives_on() {
    let endpoint = Scripted::start(|stream| {
        let head = format!("HTTP/1.1 {WHOLE}\r\nContent-Length: 9000\r\nConnection: close\r\n\r\n");
        // The client may have gone.
        let _ = stream.write_all(head.as_bytes());
    });
    let proxy = proxy(Way::Relay, endpoint.address);
    let mut user = connect(proxy.users);
    for _ in 0..2 {
        user.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n")
            .unwrap();
        let head = read_until(&mut user, "\r\n\r\n").to_lowercase();
        assert!(head.contains("\r\ncontent-encoding: br\r\n"), "{head}");
        assert!(
            !head.contains("content-length") && head.contains("w/\"a\""),
            "{head}"
        );
    }
    let reply = Way::Http2.proxy(
        "compression: {}",
        &["{ cluster: shop }"],
        &clusters(endpoint.address, ""),
    );
    let reply = Way::Http2.ask(&reply, "HEAD", "/", &[("accept-encoding", "br")]);
    assert_eq!(
        (reply.header("content-encoding").as_str(), reply.body.len()),
        ("br", 0)
    );
}

#[test]
fn what_has_not_changed_has_the_validator_that_the_client_knows() {
    let endpoint = Scripted::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nConnection: close\r\n\r\n");
    });
    for way in Way::ALL {
        let proxy = proxy(way, endpoint.address);
        let reply = way.get(
            &proxy,
            "/",
            &[("accept-encoding", "gzip"), ("if-none-match", "W/\"a\"")],
        );
        assert_eq!(
            (reply.status, reply.header("etag").as_str()),
            (304, "W/\"a\""),
            "{way:?}"
        );
        assert_eq!(reply.header("vary"), "accept-encoding");
        assert!(!reply.headers.contains_key("content-encoding"));
    }
}

/// An endpoint that says its next event when it is told to, in chunks, and breaks off when it is told no more.
fn events() -> (SocketAddr, mpsc::Sender<&'static str>) {
    let (tell, told) = mpsc::channel::<&'static str>();
    let told = Arc::new(Mutex::new(told));
    let endpoint = Scripted::start(move |stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        let told = told.lock().unwrap();
        while let Ok(event) = told.recv() {
            let _ = stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        }
    });
    (endpoint.address, tell)
}

/// Takes the chunks of a body off a socket.
struct Chunks(TcpStream, Vec<u8>);

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.1.is_empty() {
            let mut line = Vec::new();
            let mut byte = [0];
            while !line.ends_with(b"\r\n") {
                self.0.read_exact(&mut byte)?;
                line.push(byte[0]);
            }
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            self.1 = vec![0; size + 2];
            self.0.read_exact(&mut self.1)?;
            self.1.truncate(size);
        }
        let n = buffer.len().min(self.1.len());
        buffer[..n].copy_from_slice(&self.1[..n]);
        self.1.drain(..n);
        Ok(n)
    }
}

#[test]
fn an_event_is_there_when_it_was_said_and_a_cut_is_no_end() {
    for coding in CODINGS {
        let (endpoint, tell) = events();
        let proxy = proxy(Way::Full, endpoint);
        let mut user = connect(proxy.users);
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n");
        user.write_all(request.as_bytes()).unwrap();
        let head = read_until(&mut user, "\r\n\r\n").to_lowercase();
        assert!(head.contains(&format!("content-encoding: {coding}")), "{head}");
        // The decoder of zstd wants its first bytes at once.
        tell.send("data: zero\n\n").unwrap();
        let mut reading = decoder(coding, Chunks(user, Vec::new()));
        let mut heard = [0; 12];
        for event in ["data: zero\n\n", "data: one!\n\n", "data: two!\n\n"] {
            if event != "data: zero\n\n" {
                tell.send(event).unwrap();
            }
            // Nothing comes behind it: without a flush this would wait for ever.
            reading.read_exact(&mut heard).expect(coding);
            assert_eq!(std::str::from_utf8(&heard).unwrap(), event, "{coding}");
        }
        drop(tell);
        let mut rest = Vec::new();
        assert!(
            reading.read_to_end(&mut rest).is_err(),
            "{coding}: a cut is taken for the end"
        );
    }
}

#[test]
fn an_endpoint_of_http2_is_compressed_piece_by_piece_with_its_trailers_behind() {
    Runtime::new().unwrap().block_on(async {
        let (tell, told) = tokio::sync::mpsc::channel::<&'static str>(1);
        let told = Arc::new(tokio::sync::Mutex::new(told));
        let endpoint = Endpoint::start(h2::server::Builder::new(), move |mut came: Came| {
            let told = told.clone();
            async move {
                let head = Response::builder().header("content-type", "text/event-stream");
                let mut sending = came.respond.send_response(head.body(()).unwrap(), false).unwrap();
                while let Some(event) = told.lock().await.recv().await {
                    sending
                        .send_data(Bytes::from_static(event.as_bytes()), false)
                        .unwrap();
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", "3".parse().unwrap());
                sending.send_trailers(trailers).unwrap();
            }
        })
        .await;
        let more = "    protocol: http2\n";
        let proxy = Way::Http2.proxy(
            "compression: {}",
            &["{ cluster: shop }"],
            &clusters(endpoint.address, more),
        );
        let client = Client::connect(proxy.users).await;
        let request = Request::get("http://shop.example/").header("accept-encoding", "gzip");
        let (answer, _sending) = client.begin(request.body(()).unwrap(), true).await;
        let spoken = async {
            tell.send("data: one\n\n").await.unwrap();
            let (head, mut body) = answer.await.unwrap().into_parts();
            assert_eq!(head.headers["content-encoding"], "gzip");
            let mut sent = Vec::new();
            let said = "data: one\n\ndata: two\n\n";
            for so_far in [11, 22] {
                loop {
                    let mut text = String::new();
                    // As much as can be read so far; that it has not ended is no matter.
                    let _ = decoder("gzip", &sent[..]).read_to_string(&mut text);
                    if text == said[..so_far] {
                        break;
                    }
                    sent.extend_from_slice(&next(&mut body).await.unwrap().unwrap());
                }
                if so_far == 11 {
                    tell.send("data: two\n\n").await.unwrap();
                }
            }
            drop(tell);
            while let Some(piece) = next(&mut body).await {
                sent.extend_from_slice(&piece.unwrap());
            }
            let mut text = String::new();
            decoder("gzip", &sent[..])
                .read_to_string(&mut text)
                .expect("it has an end");
            assert_eq!(text, said);
            let trailers = body.trailers().await.unwrap().expect("trailers");
            assert_eq!(trailers["x-sum"], "3");
        };
        timeout(PATIENCE, spoken).await.expect("events come");
    });
}
