//! HTTP/2 to endpoints: streams of one connection, in both directions at once, and what becomes of those that break.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use foreshade_tests::http2::{Came, Client, Endpoint, next, read, send, until};
use foreshade_tests::proxy::{PATIENCE, Proxy, preamble};
use h2::Reason;
use h2::server::Builder;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::timeout;

/// A proxy with one listener in the clear and one cluster of HTTP/2.
fn proxy(endpoints: &[SocketAddr], route: &str, cluster: &str) -> Proxy {
    let endpoints: Vec<_> = endpoints
        .iter()
        .zip(["a", "b"])
        .map(|(address, name)| format!("{{ name: {name}, address: \"{address}\" }}"))
        .collect();
    Proxy::start_with(|users, admin| {
        format!(
            "{}listeners:\n  - name: web\n    address: \"{users}\"\n    http2: {{ enabled: true }}\n    routes: \
             [{{ cluster: shop, timeout: 5s{route} }}]\nclusters:\n  - name: shop\n    protocol: http2\n    health: off\n\
             {cluster}    endpoints: [{}]\n",
            preamble(admin).replace("workers: 2", "workers: 1"),
            endpoints.join(", ")
        )
    })
}

fn request(method: Method, path: &str) -> Request<()> {
    let uri = format!("http://shop.example{path}");
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

/// Runs a test's conversation, which ends long before a test gives up.
fn run<T>(conversation: impl Future<Output = T>) -> T {
    let runtime = Runtime::new().unwrap();
    let bounded = async { timeout(PATIENCE, conversation).await };
    runtime.block_on(bounded).expect("a conversation ends")
}

/// How often attempts at an endpoint ended so.
fn attempts(proxy: &Proxy, endpoint: &str, class: &str) -> u64 {
    let name = format!(
        "foreshade_endpoint_attempts_total{{cluster=\"shop\",endpoint=\"{endpoint}\",class=\"{class}\"}}"
    );
    proxy.count(&name)
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-tail".parse().unwrap(), HeaderValue::from_static("1"))])
}

/// An endpoint that gives back what it gets.
async fn echo() -> Endpoint {
    Endpoint::start(Builder::new(), |came: Came| {
        came.echo(Response::new(()), trailers())
    })
    .await
}

#[test]
fn clients_of_either_version_are_served_with_bodies_of_every_size() {
    run(async {
        let endpoint = echo().await;
        let proxy = proxy(&[endpoint.address], "", "");
        let client = Client::connect(proxy.users).await;
        for size in [0, 1, 1_000, 70_000, 2_000_000] {
            let body: Vec<u8> = (0..=250).cycle().take(size).collect();
            let answer = client.ask(request(Method::POST, "/"), &body).await.unwrap();
            assert!(answer.head.status == 200 && answer.body == body, "{size}");
            assert_eq!(answer.trailers.unwrap()["x-tail"], "1", "{size}");
            let users = proxy.users;
            let curl = tokio::task::spawn_blocking(move || curl_echo(users, size));
            assert!(curl.await.unwrap() == body, "{size}");
        }
        assert_eq!(endpoint.connections(), 1);
    });
}

/// What comes back of a body that curl sends in HTTP/1.1.
fn curl_echo(to: SocketAddr, size: usize) -> Vec<u8> {
    let body: Vec<u8> = (0..=250).cycle().take(size).collect();
    let mut curl = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--http1.1",
            "--data-binary",
            "@-",
        ])
        .arg(format!("http://{to}/"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("curl is installed");
    curl.stdin.take().unwrap().write_all(&body).unwrap();
    curl.wait_with_output().unwrap().stdout
}

#[test]
fn an_endpoint_sees_who_asks_and_nothing_of_his_connection() {
    run(async {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let endpoint = Endpoint::start(Builder::new(), move |came: Came| {
            tell.send(came.head.clone()).unwrap();
            came.answer(Response::new(()));
            async {}
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        let users = proxy.users;
        let raw = tokio::task::spawn_blocking(move || {
            let text = "GET /a?b HTTP/1.1\r\nHost: shop.example\r\nConnection: upgrade, x-secret, close\r\n\
                        Upgrade: websocket\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nX-Mine: 2\r\n\r\n";
            foreshade_tests::wire::exchange(users, text.as_bytes())
        });
        let head = told.recv().await.unwrap();
        assert_eq!(head.uri.to_string(), "http://shop.example/a?b");
        let names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
        assert!(
            names.contains(&"x-forwarded-for") && names.contains(&"x-mine"),
            "{names:?}"
        );
        for gone in ["host", "connection", "upgrade", "x-secret", "keep-alive", "te"] {
            assert!(!names.contains(&gone), "{gone} in {names:?}");
        }
        let answer = raw.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
}

#[test]
fn both_directions_are_open_at_once_and_one_does_not_wait_for_the_other() {
    run(async {
        let endpoint = echo().await;
        let proxy = proxy(&[endpoint.address], "", "");
        let client = Client::connect(proxy.users).await;
        let (answer, mut sending) = client.begin(request(Method::POST, "/"), false).await;
        let mut body = answer.await.unwrap().into_body();
        for piece in ["one", "two", "three"] {
            assert!(send(&mut sending, Bytes::from_static(piece.as_bytes()), false).await);
            assert_eq!(next(&mut body).await.unwrap().unwrap(), piece);
        }
        sending.send_data(Bytes::new(), true).unwrap();
        assert!(next(&mut body).await.is_none());
        let behind = poll_fn(|cx| body.poll_trailers(cx)).await.unwrap();
        assert_eq!(behind.unwrap()["x-tail"], "1");
    });
}

/// A client may send all of his request before he reads a byte: the endpoint reads while nobody takes its answer.
#[test]
fn a_client_who_does_not_read_yet_can_send() {
    const MUCH: usize = 4 * 1024 * 1024;
    run(async {
        let endpoint = Endpoint::start(Builder::new(), |mut came: Came| async move {
            let mut sending = came.respond.send_response(Response::new(()), false).unwrap();
            // More than all windows on the way.
            let answering =
                tokio::spawn(async move { send(&mut sending, Bytes::from(vec![1; MUCH]), true).await });
            while let Some(Ok(_)) = next(&mut came.body).await {}
            answering.await.unwrap();
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        let client = Client::connect(proxy.users).await;
        let (answer, mut sending) = client.begin(request(Method::POST, "/"), false).await;
        assert!(send(&mut sending, Bytes::from(vec![2; MUCH]), true).await);
        assert_eq!(read(answer).await.unwrap().body.len(), MUCH);
    });
}

#[test]
fn a_refused_stream_goes_elsewhere_whatever_its_method_and_is_served_once() {
    run(async {
        let full = Endpoint::start(Builder::new(), |mut came: Came| async move {
            came.respond.send_reset(Reason::REFUSED_STREAM);
        })
        .await;
        let well = echo().await;
        // In turn: by load alone, the one that has answered would be asked again.
        let proxy = proxy(&[full.address, well.address], "", "    balance: round-robin\n");
        let client = Client::connect(proxy.users).await;
        for n in 1..=20 {
            let answer = client.ask(request(Method::POST, "/"), b"order").await.unwrap();
            assert_eq!(
                (answer.head.status, &answer.body[..]),
                (StatusCode::OK, &b"order"[..])
            );
            assert_eq!(well.requests(), n);
        }
        assert!(full.requests() > 0);
        until(|| attempts(&proxy, "a", "shed") > 0).await;
    });
}

#[test]
fn any_other_reset_is_not_repeated_and_a_reset_in_the_middle_is_passed_on_with_its_reason() {
    run(async {
        let endpoint = Endpoint::start(Builder::new(), |mut came: Came| async move {
            match came.head.uri.path() {
                "/middle" => {
                    let mut sending = came.respond.send_response(Response::new(()), false).unwrap();
                    assert!(send(&mut sending, Bytes::from_static(b"half"), false).await);
                    // Only a client who has the half is told.
                    next(&mut came.body).await;
                    sending.send_reset(Reason::ENHANCE_YOUR_CALM);
                }
                _ => came.respond.send_reset(Reason::INTERNAL_ERROR),
            }
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        let client = Client::connect(proxy.users).await;
        let answer = client.ask(request(Method::POST, "/"), b"").await.unwrap();
        assert_eq!((answer.head.status.as_u16(), endpoint.requests()), (502, 1));
        let (answer, mut sending) = client.begin(request(Method::POST, "/middle"), false).await;
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "half");
        assert!(send(&mut sending, Bytes::from_static(b"on"), true).await);
        let broken = next(&mut body).await.unwrap().unwrap_err();
        assert_eq!(broken.reason(), Some(Reason::ENHANCE_YOUR_CALM));
        until(|| attempts(&proxy, "a", "reset") == 2).await;
    });
}

#[test]
fn a_500_goes_elsewhere_where_the_route_says_so_and_the_method_may_be_repeated() {
    run(async {
        let answers = |status: StatusCode| {
            Endpoint::start(Builder::new(), move |came: Came| async move {
                let head = Response::builder().status(status);
                came.answer(head.body(()).unwrap());
            })
        };
        let sick = answers(StatusCode::INTERNAL_SERVER_ERROR).await;
        let well = answers(StatusCode::OK).await;
        for (says, gets_through) in [("", false), (", retryOn: [500]", true)] {
            let proxy = proxy(&[sick.address, well.address], says, "    balance: round-robin\n");
            let client = Client::connect(proxy.users).await;
            let mut failed = 0;
            for _ in 0..6 {
                let answer = client.ask(request(Method::GET, "/"), b"").await.unwrap();
                failed += u32::from(answer.head.status != 200);
            }
            assert_eq!(failed == 0, gets_through, "{says}: {failed}");
            let posted = client.ask(request(Method::POST, "/"), b"1").await.unwrap();
            let second = client.ask(request(Method::POST, "/"), b"1").await.unwrap();
            let statuses = [posted, second].map(|answer| answer.head.status.as_u16());
            assert!(statuses.contains(&500), "{says}: {statuses:?}");
        }
    });
}

#[test]
fn a_request_that_is_taken_back_is_taken_back_from_its_endpoint() {
    run(async {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let endpoint = Endpoint::start(Builder::new(), move |came: Came| {
            let tell = tell.clone();
            async move {
                tell.send(None).unwrap();
                tell.send(came.taken_back().await).unwrap();
            }
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        let client = Client::connect(proxy.users).await;
        for whole in [true, false] {
            let (answer, mut sending) = client.begin(request(Method::POST, "/"), whole).await;
            assert_eq!(told.recv().await.unwrap(), None);
            sending.send_reset(Reason::CANCEL);
            assert_eq!(told.recv().await.unwrap(), Some(Reason::CANCEL), "{whole}");
            drop(answer);
        }
        // The connection lives on.
        assert_eq!(endpoint.connections(), 1);
        until(|| attempts(&proxy, "a", "cancelled") == 2).await;
    });
}

/// Beyond what the endpoint allows another connection is opened, and no stream is refused.
#[test]
fn an_endpoints_limit_of_streams_is_kept() {
    run(async {
        let (gate, inside) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (held, counted) = (gate.clone(), inside.clone());
        let mut builder = Builder::new();
        builder.max_concurrent_streams(2);
        let endpoint = Endpoint::start(builder, move |came: Came| {
            let (held, counted) = (held.clone(), counted.clone());
            async move {
                let opened = held.notified();
                counted.fetch_add(1, Ordering::SeqCst);
                opened.await;
                came.answer(Response::new(()));
            }
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        let client = Client::connect(proxy.users).await;
        let mut answers = Vec::new();
        for _ in 0..40 {
            answers.push(client.begin(request(Method::POST, "/"), true).await.0);
        }
        until(|| inside.load(Ordering::SeqCst) == 40).await;
        gate.notify_waiters();
        for answer in answers {
            assert_eq!(answer.await.unwrap().status(), 200);
        }
        // Two on each; while it was not known how many it takes, a connection may have been opened too many.
        assert!(
            (20..=24).contains(&endpoint.connections()),
            "{}",
            endpoint.connections()
        );
        assert_eq!(attempts(&proxy, "a", "shed"), 0);
    });
}

/// The proxy's window for one answer, and what may be on its way to the client: his window, and what the library holds.
const ANSWER_BYTES_MAX: usize = (256 + 64 + 64) * 1024;

#[test]
fn a_client_who_does_not_read_costs_a_window_and_holds_up_nobody_on_the_same_connection() {
    run(async {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let endpoint = Endpoint::start(Builder::new(), move |mut came: Came| {
            let counted = counted.clone();
            async move {
                if came.head.uri.path() == "/quick" {
                    return came.answer(Response::new(()));
                }
                let mut sending = came.respond.send_response(Response::new(()), false).unwrap();
                while send(&mut sending, Bytes::from(vec![0; 16 * 1024]), false).await {
                    counted.fetch_add(16 * 1024, Ordering::SeqCst);
                }
            }
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        // Eight of them: together more than any one connection would be granted by custom.
        let mut lazy = Vec::new();
        for _ in 0..8 {
            let client = Client::connect(proxy.users).await;
            let (answer, _sending) = client.begin(request(Method::GET, "/endless"), true).await;
            lazy.push(answer.await.unwrap().into_body());
        }
        let stands = async {
            let mut before = 0;
            while before != sent.load(Ordering::SeqCst) || before == 0 {
                before = sent.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            before
        };
        let total = stands.await;
        assert!(
            total <= 8 * ANSWER_BYTES_MAX,
            "{total} bytes for eight who do not read"
        );
        let client = Client::connect(proxy.users).await;
        let quick = client.ask(request(Method::GET, "/quick"), b"").await.unwrap();
        assert_eq!((quick.head.status.as_u16(), endpoint.connections()), (200, 1));
        // Whoever reads again gets more.
        let mut read = 0;
        while read < 2 * ANSWER_BYTES_MAX {
            read += next(&mut lazy[0]).await.unwrap().unwrap().len();
        }
    });
}

#[test]
fn a_stream_whose_time_is_over_is_given_up_and_the_others_on_its_connection_live_on() {
    run(async {
        let endpoint = Endpoint::start(Builder::new(), |came: Came| async move {
            match came.head.uri.path() {
                "/never" => drop(came.taken_back().await),
                _ => came.echo(Response::new(()), trailers()).await,
            }
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        let client = Client::connect(proxy.users).await;
        let (answer, mut sending) = client.begin(request(Method::POST, "/lives"), false).await;
        let mut lives = answer.await.unwrap().into_body();
        let late = client.ask(request(Method::POST, "/never"), b"").await.unwrap();
        assert_eq!(late.head.status, 504);
        assert!(send(&mut sending, Bytes::from_static(b"on"), true).await);
        assert_eq!(next(&mut lives).await.unwrap().unwrap(), "on");
        assert_eq!(endpoint.connections(), 1);
        until(|| attempts(&proxy, "a", "timeout") == 1).await;
    });
}

// Frames by hand.

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Takes leave after this stream.
fn goaway(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

/// An answer of 200 and nothing else: the eighth entry of HPACK's table.
fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, 0x5, stream, &[0x88])
}

/// An endpoint that answers the n-th head on its n-th connection with these bytes, and closes where they are a `GOAWAY`.
fn by_hand(script: impl Fn(usize, u32) -> Vec<u8> + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(AtomicUsize::new(0));
    let counted = heads.clone();
    std::thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let mut stream: TcpStream = stream.unwrap();
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).unwrap();
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
            let mut head = [0; 9];
            while stream.read_exact(&mut head).is_ok() {
                let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                stream.read_exact(&mut vec![0; length]).unwrap();
                if head[3] == HEADERS {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                    let answer = script(connection + 1, id);
                    stream.write_all(&answer).unwrap();
                    if answer[3] == GOAWAY {
                        break;
                    }
                }
            }
        }
    });
    (address, heads)
}

/// What an endpoint says it has not begun is asked again, even of the same one, and even where it closes at once.
#[test]
fn a_request_above_the_last_stream_of_a_goaway_is_asked_again_whatever_its_method() {
    let (address, heads) = by_hand(|connection, id| if connection == 1 { goaway(0) } else { ok(id) });
    let proxy = proxy(&[address], "", "");
    run(async {
        let client = Client::connect(proxy.users).await;
        let answer = client.ask(request(Method::POST, "/"), b"order").await.unwrap();
        assert_eq!(answer.head.status, 200);
        assert_eq!(heads.load(Ordering::SeqCst), 2);
        until(|| attempts(&proxy, "a", "cancelled") == 1).await;
        assert_eq!(attempts(&proxy, "a", "reset"), 0);
    });
}

/// What it says it may have begun is not, although the library has the same error for it.
#[test]
fn a_request_below_it_is_never_sent_twice() {
    let (address, heads) = by_hand(|connection, id| if connection == 1 { goaway(id) } else { ok(id) });
    let proxy = proxy(&[address], "", "");
    run(async {
        let client = Client::connect(proxy.users).await;
        let answer = client.ask(request(Method::POST, "/"), b"order").await.unwrap();
        assert_eq!(answer.head.status, 502);
        assert_eq!(heads.load(Ordering::SeqCst), 1);
    });
}

/// Nothing is sent to an endpoint before it has said that it speaks HTTP/2, so that its request is safe elsewhere.
#[test]
fn an_endpoint_that_does_not_speak_it_is_sent_no_request() {
    let mute = foreshade_tests::wire::Scripted::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    });
    run(async {
        let well = echo().await;
        let proxy = proxy(&[mute.address, well.address], "", "    balance: round-robin\n");
        let client = Client::connect(proxy.users).await;
        for n in 1..=10 {
            let answer = client.ask(request(Method::POST, "/"), b"order").await.unwrap();
            assert_eq!((answer.head.status.as_u16(), well.requests()), (200, n));
        }
        until(|| attempts(&proxy, "a", "connect_failed") > 0).await;
    });
}
