//! Calls of gRPC as frames: what their status says of an endpoint, how they are told of failures, and how long they may
//! take. With a real client and a real server they are made by `scripts/grpcio`.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod web;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use foreshade_tests::http2::{Answer, Came, Client, Endpoint, next, send, until};
use foreshade_tests::proxy::{PATIENCE, Proxy, free_address, preamble};
use h2::Reason;
use h2::server::Builder;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// A proxy with a route for the service `shop.Orders` to a cluster of HTTP/2 with these endpoints.
fn proxy(endpoints: &[SocketAddr], listener: &str, cluster: &str) -> Proxy {
    let endpoints: Vec<_> = endpoints
        .iter()
        .zip(["a", "b"])
        .map(|(address, name)| format!("{{ name: {name}, address: \"{address}\" }}"))
        .collect();
    let cluster = if cluster.contains("health") {
        cluster.to_owned()
    } else {
        format!("    health: off\n{cluster}")
    };
    Proxy::start_with(|users, admin| {
        format!(
            "{}listeners:\n  - name: web\n    address: \"{users}\"\n    http2: \
             {{ enabled: true }}\n{listener}    routes:\n      - {{ match: {{ path: {{ prefix: /shop.Orders }} }}, cluster: \
             shop, timeout: 1s }}\n      - {{ match: {{ path: {{ prefix: /shop.Closed }} }}, respond: {{ status: 403, body: \
             \"closed for good\" }} }}\nclusters:\n  - name: shop\n    protocol: http2\n{cluster}    endpoints: [{}]\n",
            preamble(admin),
            endpoints.join(", ")
        )
    })
}

fn call(method: &str, timeout: Option<&str>) -> Request<()> {
    let mut request = Request::post(format!("http://shop.example/{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    request.body(()).unwrap()
}

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(code))])
}

fn head() -> Response<()> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

/// An endpoint that ends each call with the status that its message names, in trailers, or in the head where it has none.
async fn telling() -> Endpoint {
    Endpoint::start(Builder::new(), |mut came: Came| async move {
        let path = came.head.uri.path().to_owned();
        let code: &'static str = path.rsplit_once('/').unwrap().1.to_owned().leak();
        let mut head = head();
        if path.contains("Alone") {
            head.headers_mut().extend(status(code));
            return came.answer(head);
        }
        while let Some(Ok(_)) = next(&mut came.body).await {}
        let mut sending = came.respond.send_response(head, false).unwrap();
        if send(&mut sending, Bytes::from_static(b"\0\0\0\0\0"), false).await {
            let _ = match code {
                "none" => sending.send_data(Bytes::new(), true),
                _ => sending.send_trailers(status(code)),
            };
        }
    })
    .await
}

/// Runs a test's conversation, which ends long before a test gives up.
fn run<T>(conversation: impl Future<Output = T>) -> T {
    let runtime = Runtime::new().unwrap();
    let bounded = async { timeout(PATIENCE, conversation).await };
    runtime.block_on(bounded).expect("a conversation ends")
}

/// How often attempts at the first endpoint ended so.
fn attempts(proxy: &Proxy, class: &str) -> u64 {
    let name =
        format!("foreshade_endpoint_attempts_total{{cluster=\"shop\",endpoint=\"a\",class=\"{class}\"}}");
    proxy.count(&name)
}

fn answers(proxy: &Proxy, class: &str) -> u64 {
    let name = format!("foreshade_answers_total{{cluster=\"shop\",code_class=\"{class}\"}}");
    proxy.count(&name)
}

/// A call that the proxy has ended by itself, all in the head.
fn is_alone(answer: &Answer, code: &str) {
    assert_eq!(
        (answer.head.status.as_u16(), answer.grpc_status()),
        (200, Some(code)),
        "{answer:?}"
    );
    assert_eq!(answer.head.headers["content-type"], "application/grpc");
    assert!(answer.trailers.is_none() && answer.body.is_empty(), "{answer:?}");
}

#[test]
fn a_status_counts_as_the_status_of_http_that_it_stands_for_wherever_it_stands() {
    run(async {
        let endpoint = telling().await;
        let proxy = proxy(&[endpoint.address], "", "");
        let client = Client::connect(proxy.users).await;
        for (nth, form) in (1..).zip(["shop.Orders/Behind", "shop.Orders/Alone"]) {
            for (code, class) in [
                ("0", "ok"),
                ("5", "client_error"),
                ("8", "shed"),
                ("13", "app_error"),
            ] {
                let answer = client
                    .ask(call(&format!("{form}/{code}"), None), b"order")
                    .await
                    .unwrap();
                assert_eq!(answer.grpc_status(), Some(code), "{form}");
                assert_eq!(answer.trailers.is_none(), form.ends_with("Alone"), "{form}");
                until(|| attempts(&proxy, class) == nth).await;
            }
        }
        client
            .ask(call("shop.Orders/Behind/none", None), b"order")
            .await
            .unwrap();
        until(|| attempts(&proxy, "app_error") == 3).await;
        until(|| ["2xx", "4xx", "5xx"].map(|class| answers(&proxy, class)) == [2, 4, 3]).await;
    });
}

/// One client with deadlines that nobody could meet must not make an endpoint look sick.
#[test]
fn a_deadline_ends_a_call_is_passed_on_and_is_nobodys_fault() {
    run(async {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let endpoint = Endpoint::start(Builder::new(), move |came: Came| {
            let tell = tell.clone();
            async move {
                let asked = came.head.headers.get("grpc-timeout").cloned();
                tell.send((asked, came.taken_back().await)).unwrap();
            }
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        let client = Client::connect(proxy.users).await;
        let answer = client
            .ask(call("shop.Orders/Get", Some("100m")), b"order")
            .await
            .unwrap();
        is_alone(&answer, "4");
        let (asked, reason) = told.recv().await.unwrap();
        assert_eq!(
            (asked.unwrap(), reason),
            (HeaderValue::from_static("100m"), Some(Reason::CANCEL))
        );
        until(|| attempts(&proxy, "cancelled") == 1).await;
        // The route's own is the endpoint's fault, and as many seconds as the client likes do not prolong it.
        let answer = client
            .ask(call("shop.Orders/Get", Some("60S")), b"order")
            .await
            .unwrap();
        is_alone(&answer, "4");
        until(|| attempts(&proxy, "timeout") == 1).await;
    });
}

#[test]
fn failures_of_the_proxy_are_told_as_grpc_and_only_to_calls() {
    run(async {
        let proxy = proxy(&[free_address()], "", "");
        let client = Client::connect(proxy.users).await;
        for (method, code, message) in [
            ("shop.Orders/Get", "14", "foreshade: the endpoint did not answer"),
            ("shop.Other/Get", "12", "foreshade: no route for this request"),
            ("shop.Closed/Get", "7", "closed for good"),
        ] {
            let answer = client.ask(call(method, None), b"order").await.unwrap();
            is_alone(&answer, code);
            assert_eq!(answer.head.headers["grpc-message"], message);
        }
        until(|| answers(&proxy, "5xx") == 1).await;
        assert_eq!(answers(&proxy, "2xx"), 0);
        let plain = Request::post("http://shop.example/shop.Orders/Get")
            .body(())
            .unwrap();
        let answer = client.ask(plain, b"order").await.unwrap();
        assert_eq!((answer.head.status.as_u16(), answer.grpc_status()), (502, None));
    });
}

#[test]
fn a_call_that_breaks_off_ends_with_a_status() {
    run(async {
        let endpoint = Endpoint::start(Builder::new(), |mut came: Came| async move {
            let mut sending = came.respond.send_response(head(), false).unwrap();
            assert!(send(&mut sending, Bytes::from_static(b"\0\0\0\0\0"), false).await);
            next(&mut came.body).await;
            sending.send_reset(Reason::CANCEL);
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        let client = Client::connect(proxy.users).await;
        let (answer, mut sending) = client.begin(call("shop.Orders/Watch", None), false).await;
        let mut body = answer.await.unwrap().into_body();
        assert!(next(&mut body).await.unwrap().is_ok());
        assert!(send(&mut sending, Bytes::from_static(b"go"), true).await);
        assert!(next(&mut body).await.is_none());
        let trailers = poll_fn(|cx| body.poll_trailers(cx)).await.unwrap();
        assert_eq!(trailers.unwrap()["grpc-status"], "1");
        until(|| attempts(&proxy, "reset") == 1).await;
        assert_eq!(attempts(&proxy, "ok"), 0);
    });
}

/// Longer than the listener's patience for bodies, and than the route's for an answer.
#[test]
fn a_call_may_rest_where_a_request_may_not_and_no_longer_than_its_cluster_says() {
    run(async {
        let endpoint = Endpoint::start(Builder::new(), |came: Came| came.echo(head(), status("0"))).await;
        let limits = "    limits: { bodyTimeout: 100ms }\n";
        let proxy = proxy(
            &[endpoint.address],
            limits,
            "    http2: { streamIdleTimeout: 3s }\n",
        );
        let client = Client::connect(proxy.users).await;
        let (answer, mut sending) = client.begin(call("shop.Orders/Chat", None), false).await;
        let mut body = answer.await.unwrap().into_body();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(send(&mut sending, Bytes::from_static(b"still here"), false).await);
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "still here");
        let risk = proxy.endpoint("a")["risk"].as_f64().unwrap();
        assert!(risk < 0.3, "{risk}");
        // Nobody says anything any more.
        assert!(next(&mut body).await.is_none());
        let trailers = poll_fn(|cx| body.poll_trailers(cx)).await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "4");
        until(|| attempts(&proxy, "cancelled") == 1).await;
        assert_eq!(attempts(&proxy, "timeout"), 0);
        // What is no call is held to the pace of the listener.
        let plain = Request::post("http://shop.example/shop.Orders/Chat")
            .body(())
            .unwrap();
        let (answer, _sending) = client.begin(plain, false).await;
        let refused = match answer.await {
            Ok(answer) => read_status(answer).await,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(refused, "broken");
    });
}

/// Its client says how much will come, and sends none of it.
#[test]
fn a_call_whose_body_does_not_come_ends_as_one_that_rests() {
    run(async {
        let endpoint = Endpoint::start(Builder::new(), |came: Came| came.echo(head(), status("0"))).await;
        let proxy = proxy(&[endpoint.address], "", "    http2: { streamIdleTimeout: 1s }\n");
        let client = Client::connect(proxy.users).await;
        let mut announced = call("shop.Orders/Get", None);
        announced
            .headers_mut()
            .insert("content-length", HeaderValue::from_static("5"));
        let (answer, _sending) = client.begin(announced, false).await;
        let mut body = answer.await.unwrap().into_body();
        assert!(next(&mut body).await.is_none());
        let trailers = poll_fn(|cx| body.poll_trailers(cx)).await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "4");
    });
}

/// The echo has begun to answer; what follows is a reset.
async fn read_status(answer: Response<h2::RecvStream>) -> &'static str {
    let mut body = answer.into_body();
    match next(&mut body).await {
        Some(Err(_)) => "broken",
        Some(Ok(_)) => "a piece",
        None => "an end",
    }
}

/// Beyond two hundred requests that are taken back a client is told to calm down; but streams of messages end so.
#[test]
fn a_client_who_has_heard_enough_of_many_streams_is_not_flooding() {
    run(async {
        let endpoint = Endpoint::start(Builder::new(), |mut came: Came| async move {
            let mut sending = came.respond.send_response(head(), false).unwrap();
            poll_fn(|cx| sending.poll_reset(cx)).await.unwrap();
        })
        .await;
        let proxy = proxy(&[endpoint.address], "", "");
        let client = Client::connect(proxy.users).await;
        for _ in 0..300 {
            let (answer, mut sending) = client.begin(call("shop.Orders/Watch", None), false).await;
            assert_eq!(answer.await.unwrap().status(), 200);
            sending.send_reset(Reason::CANCEL);
        }
        until(|| attempts(&proxy, "cancelled") == 300).await;
        assert_eq!(proxy.refused("http2_flood"), 0);
    });
}

#[test]
fn endpoints_are_asked_for_their_health_as_grpc_servers_are() {
    run(async {
        let (serving, always) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let asked = |word: Arc<AtomicBool>| {
            move |mut came: Came| {
                let word = word.clone();
                async move {
                    assert_eq!(came.head.uri.path(), "/grpc.health.v1.Health/Check");
                    let mut question = Vec::new();
                    while let Some(Ok(piece)) = next(&mut came.body).await {
                        question.extend_from_slice(&piece);
                    }
                    assert_eq!(question, b"\0\0\0\0\x0d\x0a\x0bshop.Orders");
                    let mut sending = came.respond.send_response(head(), false).unwrap();
                    let state = if word.load(Ordering::SeqCst) { 1 } else { 2 };
                    let answer = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, state]);
                    assert!(send(&mut sending, answer, false).await);
                    sending.send_trailers(status("0")).unwrap();
                }
            }
        };
        let endpoint = Endpoint::start(Builder::new(), asked(serving.clone())).await;
        let other = Endpoint::start(Builder::new(), asked(always)).await;
        let health = "    health: { grpc: { service: shop.Orders }, interval: 200ms, timeout: 200ms }\n";
        let proxy = proxy(&[endpoint.address, other.address], "", health);
        let available = || proxy.count("foreshade_endpoint_available{cluster=\"shop\",endpoint=\"a\"}");
        until(|| endpoint.requests() > 5).await;
        until(|| available() == 1).await;
        serving.store(false, Ordering::SeqCst);
        until(|| available() == 0).await;
        serving.store(true, Ordering::SeqCst);
        until(|| available() == 1).await;
    });
}
