//! The load over every protocol that it speaks, each against a real server in this process that counts what it was asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage fails")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use foreshade_bench::load::line::Dialect;
use foreshade_bench::load::record::Outcome;
use foreshade_bench::load::tls::{Tls, Trust};
use foreshade_bench::load::{Closed, Load, LoadOptions, Totals};
use foreshade_bench::stage::process::Scratch;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A certificate of shop.example, made for one test, and its key.
struct Certificate {
    _folder: Scratch,
    file: PathBuf,
    key: PathBuf,
}

impl Certificate {
    fn make(test: &str) -> Self {
        let folder = Scratch::new(test).unwrap();
        let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
        let (file, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
        std::fs::write(&file, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self {
            _folder: folder,
            file,
            key,
        }
    }
}

/// What a server has seen.
#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    requests: AtomicU64,
    /// Numbers of requests, users, methods and sizes of bodies.
    numbers: Mutex<BTreeSet<String>>,
    users: Mutex<BTreeSet<String>>,
    posted_bytes: AtomicU64,
}

/// Serves each connection with `serve` on a thread of its own for as long as the test runs.
fn server<S, F>(seen: &Arc<Seen>, serve: S) -> SocketAddr
where
    S: Fn(TcpStream, Arc<Seen>) -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::clone(seen);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                seen.connections.fetch_add(1, Ordering::Relaxed);
                tokio::task::spawn_local(serve(stream, Arc::clone(&seen)));
            }
        });
    });
    address
}

/// HTTP/2 that answers 503 to the path /broken and 200 with 100 bytes to all others.
async fn serve_http2(stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Seen>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        seen.requests.fetch_add(1, Ordering::Relaxed);
        let seen = Arc::clone(&seen);
        tokio::task::spawn_local(async move {
            let text = |name: &str| {
                request
                    .headers()
                    .get(name)
                    .map(|value| value.to_str().unwrap().to_owned())
            };
            seen.numbers.lock().unwrap().extend(text("x-request-number"));
            seen.users.lock().unwrap().extend(text("x-user"));
            let status = if request.uri().path() == "/broken" {
                503
            } else {
                200
            };
            let mut body = request.into_body();
            while let Some(Ok(piece)) = body.data().await {
                seen.posted_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                body.flow_control().release_capacity(piece.len()).unwrap();
            }
            let head = http::Response::builder().status(status).body(()).unwrap();
            if let Ok(mut sending) = answer.send_response(head, false) {
                let _ = sending.send_data(Bytes::from_static(&[b'x'; 100]), true);
            }
        });
    }
}

async fn serve_http1(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Seen>) {
    let mut head = Vec::new();
    while stream.read_buf(&mut head).await.is_ok_and(|bytes| bytes > 0) {
        while let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            head.drain(..end + 4);
            seen.requests.fetch_add(1, Ordering::Relaxed);
            let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

fn acceptor(certificate: &Certificate, protocol: &[u8]) -> TlsAcceptor {
    let certificates = CertificateDer::pem_file_iter(&certificate.file)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn options(target: SocketAddr, dialect: Dialect) -> LoadOptions {
    let mut options = LoadOptions::steady(target, 500.0, Duration::from_secs(1));
    (options.dialect, options.records) = (dialect, false);
    options
}

fn totals(options: LoadOptions) -> Totals {
    Load::start(options).unwrap().finish().totals.unwrap()
}

/// All were answered as the server says, and it was asked as often as the load says.
#[track_caller]
fn agree(totals: &Totals, seen: &Seen) {
    let requests = totals.tally.all.requests;
    assert!(requests > 100, "{requests}");
    assert_eq!(
        (totals.tally.all.failed, seen.requests.load(Ordering::Relaxed)),
        (0, requests)
    );
}

const HTTP2: Dialect = Dialect::Http2 { streams: 50 };

#[test]
fn http2_with_prior_knowledge() {
    let seen = Arc::default();
    let target = server(&seen, serve_http2);
    let mut options = options(target, HTTP2);
    (options.connections_max, options.mix.body_bytes) = (2, 70_000..=70_000);
    let totals = totals(options);
    agree(&totals, &seen);
    assert!(seen.connections.load(Ordering::Relaxed) <= 2 && totals.connections_peak <= 2);
    assert_eq!(totals.tally.body_bytes, totals.tally.all.requests * 100);
    assert_eq!(
        seen.numbers.lock().unwrap().len() as u64,
        totals.tally.all.requests
    );
    assert!(
        seen.users
            .lock()
            .unwrap()
            .iter()
            .all(|user| user.len() == 5 && user.starts_with('u'))
    );
    assert!(totals.tally.writes.requests > 0);
    assert_eq!(
        seen.posted_bytes.load(Ordering::Relaxed),
        totals.tally.writes.requests * 70_000
    );
}

#[test]
fn http2_in_a_closed_loop_has_many_requests_on_one_connection() {
    let seen = Arc::default();
    let target = server(&seen, serve_http2);
    let mut options = options(target, HTTP2);
    options.length = Duration::from_millis(300);
    options.connections_max = 1;
    options.closed = Some(Closed {
        lines: 40,
        rate: None,
    });
    let totals = totals(options);
    agree(&totals, &seen);
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
}

#[test]
fn http2_over_tls_with_a_certificate_that_is_known() {
    let seen = Arc::default();
    let certificate = Certificate::make("test-load-h2");
    let acceptor = acceptor(&certificate, b"h2");
    let target = server(&seen, move |stream, seen| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_http2(stream, seen).await;
            }
        }
    });
    let mut options = options(target, HTTP2);
    options.tls = Some(Tls::new("shop.example", Trust::File(&certificate.file), true).unwrap());
    agree(&totals(options), &seen);
}

#[test]
fn http1_over_tls_and_whom_it_trusts() {
    let seen = Arc::default();
    let certificate = Certificate::make("test-load-tls");
    let acceptor = acceptor(&certificate, b"http/1.1");
    let target = server(&seen, move |stream, seen| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_http1(stream, seen).await;
            }
        }
    });
    let over = |name: &str, trust, http2| {
        let dialect = if http2 { HTTP2 } else { Dialect::Http1 };
        let mut options = options(target, dialect);
        options.mix.post_share = 0.0;
        options.tls = Some(Tls::new(name, trust, http2).unwrap());
        totals(options)
    };
    let known = over("shop.example", Trust::File(&certificate.file), false);
    agree(&known, &seen);
    assert_eq!(known.tally.body_bytes, known.tally.all.requests * 3);
    let no_connection =
        |totals: &Totals| totals.tally.outcomes.get(&Outcome::CONNECT) == Some(&totals.tally.all.requests);
    assert!(
        no_connection(&over("other.example", Trust::File(&certificate.file), false)),
        "of another name"
    );
    assert!(
        no_connection(&over("shop.example", Trust::System, false)),
        "of an unknown authority"
    );
    assert!(
        no_connection(&over("shop.example", Trust::File(&certificate.file), true)),
        "of another protocol"
    );
    assert_eq!(over("other.example", Trust::Anybody, false).tally.all.failed, 0);
}

#[test]
fn raw_tcp_is_answered_by_as_many_bytes_as_it_sent() {
    let seen: Arc<Seen> = Arc::default();
    let target = server(&seen, |mut stream, seen| async move {
        let (mut from, mut to) = stream.split();
        if let Ok(bytes) = tokio::io::copy(&mut from, &mut to).await {
            seen.posted_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    });
    let mut options = options(target, Dialect::Tcp { answer_bytes: None });
    (options.mix.method, options.mix.body_bytes) = ("POST".into(), 1..=100_000);
    let totals = totals(options);
    assert!(totals.tally.all.requests > 100);
    assert_eq!(totals.tally.all.failed, 0);
    assert!(totals.tally.body_bytes > totals.tally.all.requests);
}

#[test]
fn raw_tcp_with_answers_of_another_size() {
    let seen: Arc<Seen> = Arc::default();
    let target = server(&seen, |mut stream, seen| async move {
        let mut question = [0; 10];
        while stream.read_exact(&mut question).await.is_ok() {
            seen.requests.fetch_add(1, Ordering::Relaxed);
            if stream.write_all(&[b'a'; 333]).await.is_err() {
                return;
            }
        }
    });
    let mut options = options(
        target,
        Dialect::Tcp {
            answer_bytes: Some(333),
        },
    );
    (options.mix.method, options.mix.body_bytes) = ("POST".into(), 10..=10);
    let mut fewer = options.clone();
    let totals_of_333 = totals(options);
    agree(&totals_of_333, &seen);
    assert_eq!(
        totals_of_333.tally.body_bytes,
        totals_of_333.tally.all.requests * 333
    );
    fewer.dialect = Dialect::Tcp {
        answer_bytes: Some(332),
    };
    let garbled = totals(fewer);
    assert_eq!(
        garbled.tally.outcomes.get(&Outcome::GARBLED),
        Some(&garbled.tally.all.requests)
    );
}

#[test]
fn a_server_that_answers_with_an_error_keeps_its_stream_and_connection() {
    let seen = Arc::default();
    let target = server(&seen, serve_http2);
    let mut options = options(target, HTTP2);
    options.connections_max = 1;
    options.mix.paths = vec![("/broken".into(), 1.0)];
    let totals = totals(options);
    assert_eq!(
        totals.tally.outcomes.get(&Outcome::status(503)),
        Some(&totals.tally.all.requests)
    );
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
}
