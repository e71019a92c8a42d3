//! HTTP/2 with clients: the same requests, rules and limits as those of HTTP/1.1, many at a time, and none of its abuses.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foreshade_tests::certificates::{Authority, Files, Folder};
use foreshade_tests::proxy::{PATIENCE, Proxy, free_address, preamble};
use foreshade_tests::recording::{Received, Recording, requests};
use foreshade_tests::wire::{Scripted, connect, exchange};
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{Method, Request, Response, StatusCode, Version};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A proxy with one listener in the clear, which speaks HTTP/2 to who begins with it.
fn proxy(clusters: &str, keys: &str) -> Proxy {
    Proxy::start_with(|users, admin| {
        format!(
            "{}listeners:\n  - name: web\n    address: \"{users}\"\n    http2: {{ enabled: true }}\n{keys}    routes: [{{ \
             cluster: shop, timeout: 5s }}]\n{clusters}",
            preamble(admin)
        )
    })
}

/// A proxy over TLS, its authority and its folder.
fn secure_proxy(clusters: &str, tls: &str, keys: &str) -> (Proxy, Authority, Folder) {
    let folder = Folder::new();
    let authority = folder.authority("ca");
    let shop = authority.issue("shop", &["shop.example"]);
    let tls = tls.replace("CA", &authority.file.display().to_string());
    let proxy = Proxy::start_with(|users, admin| {
        format!(
            "{}listeners:\n  - name: web\n    address: \"{users}\"\n{keys}    tls:\n      certificates: [{}]\n{tls}    \
             routes: [{{ cluster: shop, timeout: 5s }}]\n{clusters}",
            preamble(admin),
            shop.as_yaml()
        )
    });
    (proxy, authority, folder)
}

/// One endpoint at this address.
fn only(address: SocketAddr) -> String {
    format!(
        "clusters:\n  - name: shop\n    health: off\n    endpoints: [{{ name: a, address: \"{address}\" }}]\n"
    )
}

/// An endpoint that takes a request and never answers it.
fn silent() -> Scripted {
    Scripted::start(|stream| {
        let _ = std::io::copy(stream, &mut std::io::sink());
    })
}

/// A client's connection, driven in the background.
struct Client {
    send: SendRequest<Bytes>,
    /// How the connection ended.
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn plain(to: SocketAddr) -> Self {
        let tcp = TcpStream::connect(to).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self::over(tcp, h2::client::Builder::new()).await
    }

    async fn secure(to: SocketAddr, authority: &Authority, own: Option<&Files>) -> Self {
        let config = authority.client(own, &[b"h2", b"http/1.1"]);
        let tcp = TcpStream::connect(to).await.unwrap();
        let name = ServerName::try_from("shop.example").unwrap();
        let tls = TlsConnector::from(config).connect(name, tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(tls, h2::client::Builder::new()).await
    }

    async fn over(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        builder: h2::client::Builder,
    ) -> Self {
        let (send, connection) = builder.handshake(io).await.unwrap();
        Self {
            send,
            driver: tokio::spawn(connection),
        }
    }

    /// Sends a request and its body, and reads the whole answer.
    async fn ask(&self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let (answer, mut sending) = send.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            // In pieces that fit any window; who is refused meanwhile has his answer.
            for (at, piece) in body.chunks(16 * 1024).enumerate() {
                sending.reserve_capacity(piece.len());
                while sending.capacity() < piece.len() {
                    match poll_fn(|cx| sending.poll_capacity(cx)).await {
                        Some(Ok(_)) => {}
                        _ => break,
                    }
                }
                let end = (at + 1) * 16 * 1024 >= body.len();
                if sending.send_data(Bytes::copy_from_slice(piece), end).is_err() {
                    break;
                }
            }
        }
        read(answer.await?).await
    }

    async fn get(&self, path: &str) -> Result<Answer, h2::Error> {
        self.ask(request(Method::GET, path), b"").await
    }
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

async fn read(answer: Response<RecvStream>) -> Result<Answer, h2::Error> {
    assert_eq!(answer.version(), Version::HTTP_2);
    let (head, mut body) = answer.into_parts();
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        all.extend_from_slice(&piece);
    }
    Ok(Answer {
        status: head.status,
        body: all,
    })
}

fn request(method: Method, path: &str) -> Request<()> {
    let uri = format!("https://shop.example{path}");
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

/// Runs a test's conversation, which ends long before a test gives up.
fn run<T>(conversation: impl Future<Output = T>) -> T {
    let runtime = Runtime::new().unwrap();
    let bounded = async { timeout(PATIENCE, conversation).await };
    runtime.block_on(bounded).expect("a conversation ends")
}

fn received(endpoint: &Recording) -> Vec<Received> {
    let bytes = endpoint.take();
    let (seen, rest) = requests(&bytes);
    assert_eq!(rest.len(), 0);
    seen
}

fn curl(arguments: &[&str]) -> Output {
    let curl = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            " %{http_version}\n",
        ])
        .args(arguments)
        .output();
    curl.expect("curl is installed")
}

#[test]
fn curl_speaks_it_over_tls_and_in_the_clear_and_endpoints_are_asked_in_http_1() {
    let endpoint = Recording::start();
    let (proxy, authority, _folder) = secure_proxy(&endpoint.clusters(), "", "");
    let (port, ca) = (proxy.users.port(), authority.file.display().to_string());
    let resolve = format!("shop.example:{port}:127.0.0.1");
    let url = format!("https://shop.example:{port}/a?b");
    let output = curl(&["--cacert", &ca, "--resolve", &resolve, "--http2", &url, &url]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "ok\n 2\nok\n 2\n",
        "{output:?}"
    );
    let seen = received(&endpoint);
    let head = seen[0].head.to_ascii_lowercase();
    assert_eq!((seen.len(), seen[0].line()), (2, "GET /a?b HTTP/1.1"));
    assert!(head.contains(&format!("host: shop.example:{port}")), "{head}");
    assert!(head.contains("x-forwarded-proto: https"), "{head}");
    let output = curl(&["--cacert", &ca, "--resolve", &resolve, "--http1.1", &url]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "ok\n 1.1\n",
        "{output:?}"
    );

    let clear = self::proxy(&endpoint.clusters(), "");
    let url = format!("http://{}/c", clear.users);
    let output = curl(&["--http2-prior-knowledge", &url]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n 2\n", "{output:?}");
    // On the same port, as before.
    let output = curl(&["--http1.1", &url]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "ok\n 1.1\n",
        "{output:?}"
    );
}

#[test]
fn bodies_of_every_size_arrive_whole_with_and_without_a_length() {
    let endpoint = Recording::start();
    let proxy = proxy(&endpoint.clusters(), "");
    run(async {
        let client = Client::plain(proxy.users).await;
        for size in [1, 1_000, 70_000, 2_000_000] {
            for length in [true, false] {
                let mut request = request(Method::POST, "/upload");
                if length {
                    request.headers_mut().insert("content-length", size.into());
                }
                let body: Vec<u8> = (0..=250).cycle().take(size).collect();
                let answer = client.ask(request, &body).await.unwrap();
                assert_eq!(
                    (answer.status, answer.body),
                    (StatusCode::OK, b"ok\n".to_vec()),
                    "{size} {length}"
                );
                let seen = received(&endpoint);
                assert!(seen.len() == 1 && seen[0].body == body, "{size} {length}");
            }
        }
    });
}

#[test]
fn an_endpoint_that_is_gone_is_failed_over_and_shifted_from_and_a_hundred_requests_at_a_time_are_served() {
    let endpoint = Recording::start();
    let clusters = format!(
        "clusters:\n  - name: shop\n    health: off\n    endpoints: [{{ name: a, address: \"{}\", shadow: b }}]\n    \
         shadows: [{{ name: b, address: \"{}\" }}]\n",
        free_address(),
        endpoint.address
    );
    let (proxy, authority, _folder) = secure_proxy(&clusters, "", "");
    run(async {
        let client = Arc::new(Client::secure(proxy.users, &authority, None).await);
        // Retries have to be earned: the first requests come slowly, and are failed over, until the shift has moved the
        // users and they are sent to the shadow at once.
        let went = |what: &str| proxy.metric(what).unwrap_or_default();
        let served = "foreshade_endpoint_attempts_total{cluster=\"shop\",endpoint=\"b\",class=\"ok\"}";
        let failed_over = "foreshade_failovers_total{cluster=\"shop\",reason=\"refused\"}";
        while went(served) <= went(failed_over) {
            assert_eq!(client.get("/first").await.unwrap().status, 200);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(went(failed_over) > 0.0);
        for _ in 0..3 {
            let asked = (0..100).map(|n| {
                let client = client.clone();
                tokio::spawn(async move { client.get(&format!("/{n}")).await })
            });
            for answer in asked.collect::<Vec<_>>() {
                let answer = answer.await.unwrap().unwrap();
                assert_eq!((answer.status, answer.body), (StatusCode::OK, b"ok\n".to_vec()));
            }
        }
    });
    let burst = received(&endpoint)
        .into_iter()
        .filter(|request| request.line() != "GET /first HTTP/1.1");
    assert_eq!(burst.count(), 300);
}

#[test]
fn what_is_refused_in_http_1_is_refused_here_and_its_neighbours_are_served() {
    let endpoint = Recording::start();
    let mut proxy = proxy(
        &endpoint.clusters(),
        "    limits: { headerBytes: 2KiB, headers: 20, targetBytes: 200B, bodyBytes: 100KiB }\n",
    );
    run(async {
        let client = Client::plain(proxy.users).await;
        let with = |name: &'static str, value: &'static str| {
            let mut request = request(Method::POST, "/");
            request.headers_mut().insert(name, value.parse().unwrap());
            request
        };
        let large = {
            let mut request = request(Method::GET, "/");
            request
                .headers_mut()
                .insert("x-large", "x".repeat(2_100).parse().unwrap());
            request
        };
        let many = {
            let mut request = request(Method::GET, "/");
            for n in 0..21 {
                let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
                request.headers_mut().insert(name, n.into());
            }
            request
        };
        for (request, status, reason) in [
            (request(Method::TRACE, "/"), 405, "method_refused"),
            (with("host", "other.example"), 400, "host_conflict"),
            (with("content_length", "5"), 400, "look_alike"),
            (with("expect", "200-ok"), 417, "expectation"),
            (with("content-length", "200000"), 413, "body_too_large"),
            (
                request(Method::GET, &format!("/{}", "a".repeat(200))),
                414,
                "target_too_long",
            ),
            (large, 431, "head_too_large"),
            (many, 431, "fields_too_many"),
            (request(Method::GET, "/a%2fb"), 400, "path_encoded_slash"),
        ] {
            let before = proxy.refused(reason);
            let (answer, _body) = client.send.clone().send_request(request, false).unwrap();
            let answer = read(answer.await.unwrap()).await;
            // What follows an early answer may be a reset that says so.
            if let Ok(answer) = answer {
                assert!(answer.body.starts_with(b"foreshade: "), "{reason}");
                assert_eq!(answer.status, status, "{reason}");
            }
            while proxy.refused(reason) == before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(client.get("/").await.unwrap().status, 200);
        }
        // More than it said, which nothing said.
        let answer = client.ask(request(Method::POST, "/"), &vec![b'x'; 200_000]).await;
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 413));
        assert_eq!(client.get("/").await.unwrap().status, 200);
    });
    let good = received_whole(&endpoint);
    assert!(
        good.iter().all(|request| request.line() == "GET / HTTP/1.1"),
        "{good:?}"
    );
    proxy.wait_until("aware of both", |p| p.refused("body_too_large") == 2);
}

/// Those that came whole; what was cut off stands last on its connection.
fn received_whole(endpoint: &Recording) -> Vec<Received> {
    endpoint
        .take_whole()
        .iter()
        .flat_map(|bytes| requests(bytes).0)
        .collect()
}

#[test]
fn a_client_that_is_slow_to_send_is_told_and_no_endpoint_is_blamed() {
    let endpoint = Recording::start();
    let mut proxy = proxy(&endpoint.clusters(), "    limits: { bodyTimeout: 300ms }\n");
    run(async {
        let client = Client::plain(proxy.users).await;
        for length in [Some(10), None] {
            let mut request = request(Method::POST, "/slow");
            if let Some(length) = length {
                request.headers_mut().insert("content-length", length.into());
            }
            let (answer, mut body) = client.send.clone().send_request(request, false).unwrap();
            body.send_data(Bytes::from_static(b"x"), false).unwrap();
            let answer = answer.await.expect("an answer, and not a reset");
            assert_eq!(answer.status(), 408, "{length:?}");
            assert_eq!(client.get("/").await.unwrap().status, 200);
        }
    });
    proxy.wait_until("aware of both", |p| p.refused("body_slow") == 2);
    let timeouts = "foreshade_endpoint_attempts_total{cluster=\"shop\",endpoint=\"a\",class=\"timeout\"}";
    assert_eq!(proxy.metric(timeouts), Some(0.0));
}

#[test]
fn a_client_that_does_not_take_its_answer_is_given_up_and_its_neighbours_are_served() {
    let body = "x".repeat(1_000_000);
    let endpoint = Scripted::start(move |stream| {
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    });
    let mut proxy = proxy(&only(endpoint.address), "    limits: { answerTimeout: 300ms }\n");
    run(async {
        // A window that is never opened: the socket is read, and nothing of the answer is taken. The connection's own is
        // wide enough for the others.
        let tcp = TcpStream::connect(proxy.users).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(8_000_000);
        let client = Client::over(tcp, builder).await;
        let (answer, _) = client
            .send
            .clone()
            .send_request(request(Method::GET, "/"), true)
            .unwrap();
        let mut taken = answer.await.unwrap().into_body();
        let error = loop {
            match taken.data().await.expect("it does not end well") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), Some(Reason::CANCEL), "{error}");
        assert_eq!(client.get("/").await.unwrap().body.len(), 1_000_000);
    });
    proxy.wait_until("aware of it", |p| p.refused("answer_slow") == 1);
}

#[test]
fn a_client_that_reads_nothing_at_all_is_cut_off() {
    let body = "x".repeat(1_000_000);
    let endpoint = Scripted::start(move |stream| {
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    });
    let mut proxy = proxy(&only(endpoint.address), "    limits: { answerTimeout: 300ms }\n");
    let mut stream = connect(proxy.users);
    // Windows as wide as they can be: only the socket is in the way.
    let wide = frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    let wider = frame(8, 0, 0, &[0x7f, 0xff, 0, 0]);
    stream.write_all(&[PREFACE, &wide, &wider].concat()).unwrap();
    for n in 0..40 {
        // GET https://a/, headers complete, stream complete.
        stream
            .write_all(&frame(1, 5, 2 * n + 1, &[0x82, 0x87, 0x84, 0x41, 1, b'a']))
            .unwrap();
    }
    proxy.wait_until("rid of him", |p| {
        p.refused("answer_slow") >= 1 && p.metric("foreshade_connections_open") == Some(0.0)
    });
    assert!(
        proxy.refused("answer_slow") <= 41,
        "each answer once, and the connection"
    );
    let mut rest = Vec::new();
    assert!(
        stream.read_to_end(&mut rest).is_err(),
        "a reset, so that the kernel keeps nothing for him"
    );
}

#[test]
fn an_answer_without_a_body_has_none() {
    let endpoint = Scripted::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
    });
    let proxy = proxy(&only(endpoint.address), "");
    run(async {
        let client = Client::plain(proxy.users).await;
        let (answer, _) = client
            .send
            .clone()
            .send_request(request(Method::HEAD, "/"), true)
            .unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(
            (answer.status(), &answer.headers()["content-length"]),
            (StatusCode::OK, &"5".parse().unwrap())
        );
        assert!(answer.headers().contains_key("date") && !answer.headers().contains_key("connection"));
        assert_eq!(read(answer).await.unwrap().body, b"");
    });
}

#[test]
fn an_idle_connection_costs_little_memory() {
    /// Forty KiB in user space, twice: the allocator rounds up, and this build is not optimised.
    const EACH_BYTES_MAX: u64 = 2 * 40 * 1024;
    const MANY: usize = 300;
    let endpoint = Recording::start();
    let (proxy, authority, _folder) = secure_proxy(&endpoint.clusters(), "", "");
    run(async {
        let mut clients = Vec::new();
        let mut before = 0;
        for n in 0..MANY + MANY / 4 {
            if n == MANY / 4 {
                before = proxy.memory("VmRSS");
            }
            let client = Client::secure(proxy.users, &authority, None).await;
            assert_eq!(client.get("/").await.unwrap().status, 200);
            clients.push(client);
        }
        let grown = proxy.memory("VmRSS").saturating_sub(before) / MANY as u64;
        assert!(grown < EACH_BYTES_MAX, "{grown} bytes each");
    });
}

/// A proxy with a cluster besides, which serves what is below its name.
fn with_neighbour(shop: SocketAddr, name: &str, neighbour: SocketAddr) -> Proxy {
    let clusters = format!(
        "{}  - name: {name}\n    health: off\n    endpoints: [{{ name: b, address: \"{neighbour}\" }}]\n",
        only(shop)
    );
    Proxy::start_with(|users, admin| {
        format!(
            "{}listeners:\n  - name: web\n    address: \"{users}\"\n    http2: {{ enabled: true }}\n    routes:\n      \
             - {{ cluster: shop }}\n      - {{ match: {{ path: {{ prefix: /{name} }} }}, cluster: {name} }}\n{clusters}",
            preamble(admin)
        )
    })
}

#[test]
fn requests_that_are_taken_back_by_the_thousand_end_their_connection_and_nothing_else() {
    let endpoint = silent();
    let other = Recording::start();
    let mut proxy = with_neighbour(endpoint.address, "other", other.address);
    let before = proxy.memory("VmRSS");
    run(async {
        let well = Client::plain(proxy.users).await;
        let client = Client::plain(proxy.users).await;
        let mut started = 0;
        // As fast as they can be written: the library's bound on those that it has not handed on may stop it first, or ours.
        for n in 0..10_000 {
            let Ok(mut send) = client.send.clone().ready().await else {
                break;
            };
            let Ok((_, mut body)) = send.send_request(request(Method::GET, "/"), false) else {
                break;
            };
            started += 1;
            tokio::task::yield_now().await;
            body.send_reset(Reason::CANCEL);
            if n % 50 == 0 {
                assert_eq!(well.get("/other").await.unwrap().status, 200);
            }
        }
        let ended = client.driver.await.unwrap();
        assert_eq!(ended.unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
        assert!(started < 10_000, "{started}");
        assert_eq!(well.get("/other").await.unwrap().status, 200);
    });
    proxy.wait_until("aware of it", |p| p.refused("http2_flood") >= 1);
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes");
}

/// Before there is an endpoint nobody notices that a request was taken back, but how many there are is bounded.
#[test]
fn so_do_those_that_are_taken_back_while_they_wait_for_a_place() {
    let endpoint = silent();
    let clusters = only(endpoint.address);
    let mut proxy = Proxy::start_with(|users, admin| {
        format!(
            "{}listeners:\n  - name: web\n    address: \"{users}\"\n    http2: {{ enabled: true }}\n    routes:\n      \
             - {{ cluster: shop, timeout: 60s, concurrency: {{ limit: 1, queue: 100000, wait: 30s }} }}\n{clusters}",
            preamble(admin)
        )
    });
    run(async {
        let first = Client::plain(proxy.users).await;
        let mut send = first.send.clone().ready().await.unwrap();
        let _place = send.send_request(request(Method::GET, "/"), true).unwrap();
        while endpoint.head_so_far().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let client = Client::plain(proxy.users).await;
        let mut started = 0;
        for _ in 0..10_000 {
            let Ok(mut send) = client.send.clone().ready().await else {
                break;
            };
            let Ok((_, mut body)) = send.send_request(request(Method::GET, "/"), false) else {
                break;
            };
            started += 1;
            // The proxy has it before it is taken back.
            tokio::time::sleep(Duration::from_millis(1)).await;
            body.send_reset(Reason::CANCEL);
        }
        assert!((100..2_000).contains(&started), "{started}");
        let ended = client.driver.await.unwrap();
        assert_eq!(ended.unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
    });
    proxy.wait_until("aware of it", |p| p.refused("http2_flood") >= 1);
}

#[test]
fn so_do_those_that_are_taken_back_once_an_endpoint_has_them_and_answers_outweigh_them() {
    let endpoint = silent();
    let well = Recording::start();
    let mut proxy = with_neighbour(endpoint.address, "well", well.address);
    /// Begins requests and takes each back once the endpoint has it; how many until the connection ended, 300 at most.
    async fn take_back(client: &Client, endpoint: &Scripted) -> usize {
        for n in 0..300 {
            let Ok(mut send) = client.send.clone().ready().await else {
                return n;
            };
            let Ok((_, mut body)) = send.send_request(request(Method::GET, "/"), true) else {
                return n;
            };
            while endpoint.head_so_far().is_none() {
                if client.driver.is_finished() {
                    return n;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            body.send_reset(Reason::CANCEL);
        }
        300
    }
    run(async {
        let client = Client::plain(proxy.users).await;
        assert!((200..210).contains(&take_back(&client, &endpoint).await));
        let ended = client.driver.await.unwrap();
        assert_eq!(ended.unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
        // A player that seeks takes much back, and is answered more often.
        let client = Client::plain(proxy.users).await;
        for _ in 0..350 {
            assert_eq!(client.get("/well").await.unwrap().status, 200);
        }
        assert_eq!(take_back(&client, &endpoint).await, 300);
        assert_eq!(client.get("/well").await.unwrap().status, 200);
    });
    proxy.wait_until("aware of one", |p| p.refused("http2_flood") == 1);
}

/// A frame: length, type, flags, stream. Source: RFC 9113 section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends frames until the proxy closes, or all have been sent; what it said.
fn flood(to: SocketAddr, piece: &[u8], times: usize) -> Vec<u8> {
    let mut stream = connect(to);
    let mut reader = stream.try_clone().unwrap();
    let listening = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = reader.read_to_end(&mut said);
        said
    });
    let opening = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let mut sent = stream.write_all(&opening);
    for _ in 0..times {
        if sent.is_err() {
            break;
        }
        sent = stream.write_all(piece);
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    listening.join().unwrap()
}

#[test]
fn floods_of_small_frames_cost_no_memory_and_no_neighbour() {
    let endpoint = Recording::start();
    let proxy = proxy(&endpoint.clusters(), "");
    let get = || {
        exchange(
            proxy.users,
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
    };
    assert!(get().starts_with("HTTP/1.1 200"));
    let before = proxy.memory("VmRSS");
    let ping = frame(6, 0, 0, &[0; 8]).repeat(100);
    let settings = frame(4, 0, 0, &[]).repeat(100);
    for (name, piece) in [("ping", ping), ("settings", settings)] {
        flood(proxy.users, &piece, 300);
        assert!(get().starts_with("HTTP/1.1 200"), "{name}");
    }
    // Headers that never end, with nothing in them: :method GET, :scheme https, and then only continuations.
    let endless = [frame(1, 0, 1, &[0x82, 0x87]), frame(9, 0, 1, &[]).repeat(2_000)].concat();
    let said = flood(proxy.users, &endless, 1);
    let goaway = said.windows(5).any(|bytes| bytes == [7, 0, 0, 0, 0]);
    assert!(goaway, "no GOAWAY in {} bytes", said.len());
    // Empty data, for ever.
    let post = [0x83, 0x87, 0x84, 0x41, 0x01, b'a'];
    let empty = [frame(1, 4, 1, &post), frame(0, 0, 1, &[]).repeat(50_000)].concat();
    flood(proxy.users, &empty, 1);
    assert!(get().starts_with("HTTP/1.1 200"));
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes");
}

#[test]
fn a_connection_that_breaks_the_rules_is_told_so_and_counted() {
    let endpoint = Recording::start();
    let mut proxy = proxy(&endpoint.clusters(), "");
    // Data of a stream that never began.
    let said = flood(proxy.users, &frame(0, 1, 1, b"x"), 1);
    assert!(said.windows(4).any(|bytes| bytes == [7, 0, 0, 0]), "{said:?}");
    proxy.wait_until("aware of it", |p| p.refused("http2_protocol") == 1);
    assert!(endpoint.take().is_empty());
}

#[test]
fn who_is_idle_and_who_has_had_his_number_is_sent_away_in_peace() {
    let endpoint = Recording::start();
    let idle = proxy(&endpoint.clusters(), "    idleTimeout: 200ms\n");
    run(async {
        let client = Client::plain(idle.users).await;
        assert_eq!(client.get("/").await.unwrap().status, 200);
        drop(client.send);
        client.driver.await.unwrap().expect("an orderly end");
    });
    let few = proxy(&endpoint.clusters(), "    limits: { requests: 3 }\n");
    run(async {
        let client = Client::plain(few.users).await;
        for _ in 0..3 {
            assert_eq!(client.get("/").await.unwrap().status, 200);
        }
        let send = client.send.clone();
        client.driver.await.unwrap().expect("an orderly end");
        assert!(send.ready().await.is_err());
    });
}

#[test]
fn a_proxy_that_stops_says_goodbye_and_finishes_what_has_begun() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = Arc::new(std::sync::Mutex::new(gone));
    let endpoint = Scripted::start(move |stream| {
        gone.lock().unwrap().recv().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone");
    });
    let (mut proxy, authority, _folder) = secure_proxy(&only(endpoint.address), "", "");
    run(async {
        let client = Client::secure(proxy.users, &authority, None).await;
        let (answer, _) = client
            .send
            .clone()
            .send_request(request(Method::GET, "/"), true)
            .unwrap();
        assert!(endpoint.next_head().is_some());
        proxy.terminate();
        // What is under way is finished; no more is begun once the goodbye has come.
        while client.send.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        go.send(()).unwrap();
        let answer = read(answer.await.unwrap()).await.unwrap();
        assert_eq!((answer.status, answer.body), (StatusCode::OK, b"done".to_vec()));
    });
    assert!(proxy.wait().success());
}

#[test]
fn where_it_is_not_spoken_nobody_is_offered_it() {
    let endpoint = Recording::start();
    let (secret, authority, _folder) =
        secure_proxy(&endpoint.clusters(), "", "    http2: { enabled: false }\n");
    let config = authority.client(None, &[b"h2", b"http/1.1"]);
    let stream = foreshade_tests::certificates::secure(secret.users, "shop.example", &config).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let clear = Proxy::start(&endpoint.clusters());
    let answer = exchange(clear.users, PREFACE);
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_preface_may_come_byte_by_byte_and_what_only_begins_like_one_is_http_1() {
    let endpoint = Recording::start();
    let proxy = proxy(&endpoint.clusters(), "");
    let mut stream = connect(proxy.users);
    stream.set_nodelay(true).unwrap();
    for byte in PREFACE {
        stream.write_all(&[*byte]).unwrap();
        std::thread::yield_now();
    }
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).unwrap();
    assert_eq!(settings[3], 4, "a SETTINGS frame: {settings:?}");
    let answer = exchange(
        proxy.users,
        b"PRINT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_client_certificate_is_told_of_every_request() {
    let endpoint = Recording::start();
    let (proxy, authority, _folder) = secure_proxy(
        &endpoint.clusters(),
        "      clientCertificates: { caFile: CA }\n",
        "",
    );
    let own = authority.issue_client("till-7");
    run(async {
        let client = Client::secure(proxy.users, &authority, Some(&own)).await;
        let mut claim = request(Method::GET, "/");
        claim
            .headers_mut()
            .insert("x-forwarded-client-cert", "Hash=forged".parse().unwrap());
        assert_eq!(client.ask(claim, b"").await.unwrap().status, 200);
        assert_eq!(client.get("/").await.unwrap().status, 200);
    });
    let seen = received(&endpoint);
    assert_eq!(seen.len(), 2);
    for request in seen {
        let head = request.head.to_ascii_lowercase();
        assert!(
            head.contains("x-forwarded-client-cert: hash=") && head.contains("cn=till-7"),
            "{head}"
        );
        assert!(!head.contains("forged"), "{head}");
    }
}

#[test]
fn informational_answers_pass_and_the_access_log_says_what_was_spoken() {
    let endpoint = Scripted::start(|stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: \
              4\r\nConnection: close\r\n\r\ndone",
        );
    });
    let folder = Folder::new();
    let log = folder.path().join("access.log");
    let mut proxy = Proxy::start_with(|users, admin| {
        format!(
            "{}accessLog: {{ to: {} }}\nlisteners:\n  - name: web\n    address: \"{users}\"\n    http2: {{ enabled: true \
             }}\n    routes: [{{ cluster: shop }}]\n{}",
            preamble(admin),
            log.display(),
            only(endpoint.address)
        )
    });
    run(async {
        let client = Client::plain(proxy.users).await;
        let (mut answer, _) = client
            .send
            .clone()
            .send_request(request(Method::GET, "/"), true)
            .unwrap();
        let hints = poll_fn(|cx| answer.poll_informational(cx))
            .await
            .expect("a first answer")
            .unwrap();
        assert_eq!(
            (hints.status().as_u16(), hints.headers()["link"].as_bytes()),
            (103, &b"</a.css>; rel=preload"[..])
        );
        assert_eq!(read(answer.await.unwrap()).await.unwrap().body, b"done");
        let (refused, _) = client
            .send
            .clone()
            .send_request(request(Method::TRACE, "/trace"), true)
            .unwrap();
        assert_eq!(refused.await.unwrap().status(), 405);
    });
    proxy.wait_until("done with its log", |_| {
        std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 2)
    });
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.lines().next().unwrap().contains("\"HTTP/2.0\""), "{text}");
    assert!(
        text.contains("\"/trace\"") && text.contains("method_refused"),
        "{text}"
    );
}
