//! Calls as pages make them: what the endpoint hears of them, and what the page hears of its answers. With the client that
//! pages use they are made by `scripts/grpcio`.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use foreshade_tests::http2::{Came, Client, Endpoint, send, until};
use foreshade_tests::proxy::free_address;
use foreshade_tests::wire::{connect, find, read_until, unchunked};
use h2::Reason;
use h2::server::Builder;
use http::Request;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use super::{attempts, head, proxy, run, status};

const KIND: [&str; 2] = ["application/grpc-web+proto", "application/grpc-web-text+proto"];

/// A message and how a call of it ended, as pages read them.
const ENDED: &[u8] = b"\0\0\0\0\x05order\x80\0\0\0\x0fgrpc-status:0\r\n";

/// A request of HTTP/1.1, behind which the connection closes.
fn asking(method: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /{method} HTTP/1.1\r\nHost: shop.example\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Asks as HTTP/1.1 does; the head, and the body without its chunks.
async fn ask(to: SocketAddr, request: Vec<u8>) -> (String, Vec<u8>) {
    let conversation = move || {
        let mut stream = connect(to);
        // The proxy may answer and close before it has read everything.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    };
    let answer = spawn_blocking(conversation).await.unwrap();
    let (head, body) = answer.split_at(find(&answer, b"\r\n\r\n").expect("an answer") + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let body = match head.contains("transfer-encoding: chunked") {
        true => unchunked(body).expect("the body has an end").0,
        false => body.to_vec(),
    };
    (head, body)
}

/// What a page reads of a body: of Base64 each part by itself, for each ends with its own padding.
fn read(kind: &str, body: &[u8]) -> Vec<u8> {
    if !kind.contains("text") {
        return body.to_vec();
    }
    let fours = body.chunks(4).map(|four| STANDARD.decode(four).unwrap());
    fours.collect::<Vec<_>>().concat()
}

fn written(kind: &str, message: &[u8]) -> Vec<u8> {
    match kind.contains("text") {
        true => STANDARD.encode(message).into(),
        false => message.to_vec(),
    }
}

/// An endpoint that answers with what it has heard, and says in its head how it was asked.
async fn echoing() -> Endpoint {
    Endpoint::start(Builder::new(), |came: Came| async move {
        let mut head = head();
        for (seen, name) in [
            ("x-kind", "content-type"),
            ("x-te", "te"),
            ("x-length", "content-length"),
        ] {
            if let Some(value) = came.head.headers.get(name) {
                head.headers_mut().insert(seen, value.clone());
            }
        }
        came.echo(head, status("0")).await;
    })
    .await
}

#[test]
fn a_page_is_answered_as_it_asks_and_its_endpoint_hears_nothing_of_it() {
    run(async {
        let endpoint = echoing().await;
        let proxy = proxy(&[endpoint.address], "", "");
        let message = b"\0\0\0\0\x05order";
        for kind in KIND {
            let asked = asking("shop.Orders/Get", kind, &written(kind, message));
            let (head, body) = ask(proxy.users, asked).await;
            assert_eq!(
                read(kind, &body).escape_ascii().to_string(),
                ENDED.escape_ascii().to_string()
            );
            let answered = kind.trim_end_matches("+proto");
            for said in [answered, "x-kind: application/grpc+proto", "x-te: trailers"] {
                assert!(head.contains(said), "{said}: {head}");
            }
            assert!(!head.contains("x-length"), "{head}");

            let request = Request::post("http://shop.example/shop.Orders/Get").header("content-type", kind);
            let client = Client::connect(proxy.users).await;
            let answer = client
                .ask(request.body(()).unwrap(), &written(kind, message))
                .await
                .unwrap();
            assert_eq!(read(kind, &answer.body), ENDED);
            assert_eq!(answer.head.headers["content-type"], answered);
            assert!(answer.trailers.is_none(), "{answer:?}");
        }
        until(|| attempts(&proxy, "ok") == 4).await;
    });
}

/// Pieces end anywhere, and are more than what is kept for another try.
#[test]
fn a_large_message_is_read_in_whatever_pieces_it_comes() {
    run(async {
        let endpoint = echoing().await;
        let proxy = proxy(&[endpoint.address], "", "");
        let message: Vec<u8> = (0..1_000_000)
            .map(|n: u32| n.to_le_bytes()[n as usize % 3])
            .collect();
        for kind in KIND {
            let asked = asking("shop.Orders/Get", kind, &written(kind, &message));
            let (_, body) = ask(proxy.users, asked).await;
            let read = read(kind, &body);
            assert!(read.starts_with(&message), "{} bytes", read.len());
            assert!(read.ends_with(b"grpc-status:0\r\n"));
        }
    });
}

#[test]
fn a_call_that_ends_with_its_head_does_so_for_a_page_and_the_connection_lives_on() {
    run(async {
        let endpoint = Endpoint::start(Builder::new(), |came: Came| async move {
            let mut head = head();
            head.headers_mut().extend(status("5"));
            came.answer(head);
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        let to = proxy.users;
        let heads = spawn_blocking(move || {
            let mut stream = connect(to);
            let asked = asking("shop.Orders/Get", KIND[0], b"\0\0\0\0\0");
            let asked = String::from_utf8(asked)
                .unwrap()
                .replace("Connection: close\r\n", "");
            [(); 2].map(|()| {
                stream.write_all(asked.as_bytes()).unwrap();
                read_until(&mut stream, "\r\n\r\n").to_ascii_lowercase()
            })
        });
        for head in heads.await.unwrap() {
            assert!(
                head.starts_with("http/1.1 200") && head.contains("grpc-status: 5\r\n"),
                "{head}"
            );
            assert!(head.contains("content-length: 0\r\n"), "{head}");
        }
        until(|| attempts(&proxy, "client_error") == 2).await;
    });
}

#[test]
fn a_call_that_breaks_off_ends_in_good_order_for_a_page() {
    run(async {
        let heard = Arc::new(Notify::new());
        let endpoint = Endpoint::start(Builder::new(), {
            let heard = heard.clone();
            move |mut came: Came| {
                let heard = heard.clone();
                async move {
                    let mut sending = came.respond.send_response(head(), false).unwrap();
                    assert!(send(&mut sending, Bytes::from_static(b"\0\0\0\0\x05order"), false).await);
                    heard.notified().await;
                    sending.send_reset(Reason::CANCEL);
                }
            }
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        let to = proxy.users;
        for (kind, message) in KIND.into_iter().zip(["order", "AAAAAAVvcmRlcg=="]) {
            let begun = spawn_blocking(move || {
                let mut stream = connect(to);
                stream.write_all(&asking("shop.Orders/Get", kind, b"")).unwrap();
                read_until(&mut stream, message);
                stream
            });
            let mut stream = begun.await.unwrap();
            heard.notify_one();
            let rest = spawn_blocking(move || {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap();
                rest
            });
            // What is left of the first chunk is the end of its line.
            let rest = rest.await.unwrap();
            let (body, _) = unchunked(rest.strip_prefix(b"\r\n").unwrap()).expect("the body has an end");
            let read = String::from_utf8_lossy(&read(kind, &body)).into_owned();
            assert!(
                read.starts_with("\u{fffd}\0\0\0") && read.contains("grpc-status:1\r\n"),
                "{read:?}"
            );
        }
        until(|| attempts(&proxy, "reset") == 2).await;
    });
}

#[test]
fn failures_of_the_proxy_are_told_as_a_page_reads_them() {
    run(async {
        let proxy = proxy(&[free_address()], "", "");
        for (method, status) in [
            ("shop.Orders/Get", "200"),
            // Nobody knows yet that it is a call.
            ("shop.Other/Get", "404"),
            ("shop.Closed/Get", "403"),
        ] {
            let (head, _) = ask(proxy.users, asking(method, KIND[1], b"AAAAAAA=")).await;
            assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
            for said in ["grpc-status: 14", "content-type: application/grpc-web-text"] {
                assert_eq!(head.contains(said), status == "200", "{said}: {head}");
            }
        }
    });
}

#[test]
fn what_is_no_base64_asks_no_endpoint() {
    run(async {
        let endpoint = echoing().await;
        let proxy = proxy(&[endpoint.address], "", "");
        for body in ["????", "YWJ"] {
            let (head, _) = ask(proxy.users, asking("shop.Orders/Get", KIND[1], body.as_bytes())).await;
            assert!(head.contains("grpc-status: 13"), "{head}");
        }
        assert_eq!(endpoint.requests(), 0);
        until(|| proxy.refused("base64") == 2).await;
        // One of gRPC itself is none of a page's.
        let native = ask(
            proxy.users,
            asking("shop.Orders/Get", "application/grpc", b"????"),
        )
        .await;
        assert_eq!(native.1, b"????", "{native:?}");
    });
}
