//! Health checks against real sockets: what passes, what fails, what is dropped, and what never blocks.

use std::net::SocketAddr;

use std::collections::HashSet;

use proptest::prelude::*;
use tokio::net::TcpListener;

use super::*;
use crate::config::{self, Config};

/// Long enough that a busy machine does not fail a probe that should pass.
const PATIENCE: Duration = Duration::from_secs(20);

fn http() -> Probe {
    Probe::Http {
        path: "/health?full=1".into(),
        host: Some("shop.example".into()),
    }
}

fn schedule(address: SocketAddr, probe: Probe) -> Schedule {
    let place = Place {
        cluster: 0,
        endpoint: 0,
    };
    Schedule {
        endpoint: topology(&[(["127.0.0.1:2", "127.0.0.1:3"].map(|a| a.parse().unwrap()), None)])
            .endpoint_id(place)
            .unwrap(),
        to: To {
            address,
            limit: PATIENCE,
            tls: None,
        },
        probe,
        http2: false,
        told: None,
        interval: Duration::from_millis(5),
        timeout: PATIENCE,
    }
}

/// A server that answers every connection with these bytes and closes it, and the last request it got.
async fn server(answer: &'static [u8]) -> (SocketAddr, watch::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (requests, seen) = watch::channel(String::new());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
            requests.send_replace(String::from_utf8(request).unwrap());
            // The prober may have heard enough.
            let _ = stream.write_all(answer).await;
        }
    });
    (address, seen)
}

/// An address on which nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

async fn passes(answer: &'static [u8]) -> bool {
    let (address, _requests) = server(answer).await;
    probe_once(&schedule(address, http())).await.0
}

#[tokio::test]
async fn an_endpoint_that_is_told_of_clients_is_told_that_a_probe_is_none() {
    let (address, requests) = server(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let told = Schedule {
        told: Some(Version::V1),
        ..schedule(address, http())
    };
    assert!(probe_once(&told).await.0);
    let request = requests.borrow().clone();
    assert!(request.starts_with("PROXY UNKNOWN\r\nGET "), "{request}");
}

#[tokio::test]
async fn an_answer_below_400_passes_and_the_request_is_as_configured() {
    let (address, requests) = server(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(probe_once(&schedule(address, http())).await.0);
    let request = requests.borrow().clone();
    assert!(
        request.starts_with("GET /health?full=1 HTTP/1.1\r\nHost: shop.example\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\nConnection: close\r\n"), "{request}");
    assert!(passes(b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n").await);
}

#[tokio::test]
async fn an_interim_answer_is_not_the_answer() {
    assert!(passes(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").await);
    assert!(!passes(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Full\r\n\r\n").await);
    assert!(!passes(b"HTTP/1.1 100 Continue\r\n\r\n").await);
}

#[tokio::test]
async fn an_answer_of_400_and_above_fails() {
    assert!(!passes(b"HTTP/1.1 500 Internal Server Error\r\n\r\n").await);
    assert!(!passes(b"HTTP/1.1 404 Not Found\r\n\r\n").await);
}

#[tokio::test]
async fn what_is_no_http_fails() {
    assert!(!passes(b"SSH-2.0-OpenSSH_9.2\r\n").await);
    assert!(!passes(b"").await);
    assert!(!passes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n").await);
}

#[tokio::test]
async fn an_endless_head_fails_at_the_limit() {
    const { assert!(ENDLESS.len() > 2 * HEAD_BYTES_MAX) };
    assert!(!passes(&ENDLESS).await);
}

static ENDLESS: [u8; 40 * 1024] = {
    let start = b"HTTP/1.1 200 OK\r\nX: ";
    let mut bytes = [b'x'; 40 * 1024];
    let mut at = 0;
    while at < start.len() {
        bytes[at] = start[at];
        at += 1;
    }
    bytes
};

#[tokio::test]
async fn a_refused_connection_fails_both_probes() {
    let address = nobody().await;
    assert!(!probe_once(&schedule(address, Probe::Tcp)).await.0);
    assert!(!probe_once(&schedule(address, http())).await.0);
}

#[tokio::test]
async fn a_listener_that_says_nothing_passes_the_tcp_probe() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert!(
        probe_once(&schedule(listener.local_addr().unwrap(), Probe::Tcp))
            .await
            .0
    );
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_hangs_fails_after_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (passed, latency, _) = probe_once(&schedule(listener.local_addr().unwrap(), http())).await;
    assert!(!passed);
    assert!(latency >= PATIENCE);
}

/// One cluster each: the addresses of its primary and its shadow, and how they are probed.
fn topology(clusters: &[([SocketAddr; 2], Option<Probe>)]) -> Arc<Topology> {
    let mut text = "
apiVersion: foreshade/v1
listeners:
  - name: web
    address: 127.0.0.1:1
    protocol: http
    routes: [{ match: { path: { prefix: / } }, cluster: c0 }]
clusters:
"
    .to_owned();
    for (index, ([primary, shadow], _)) in clusters.iter().enumerate() {
        text += &format!(
            "
  - name: c{index}
    endpoints: [{{ name: a, address: {primary}, shadow: s }}]
    shadows: [{{ name: s, address: {shadow} }}]
"
        );
    }
    let mut config: Config = config::parse(&text, "test").unwrap();
    for (cluster, (_, probe)) in config.clusters.iter_mut().zip(clusters) {
        cluster.health = probe.clone().map(|probe| config::HealthCheck {
            probe,
            interval: Duration::from_millis(5),
            timeout: PATIENCE,
            rise: 2,
            fall: 3,
        });
    }
    Topology::new(config)
}

// Concept: endpoint-metrics
#[tokio::test]
async fn primaries_and_shadows_are_probed_where_the_cluster_wants_it() {
    let (well, _requests) = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let (sick, _requests) = server(b"HTTP/1.1 500 Oops\r\n\r\n").await;
    let gone = nobody().await;
    let topology = topology(&[
        ([well, sick], Some(http())),
        ([sick, well], None),
        ([gone, sick], Some(Probe::Tcp)),
    ]);
    let (results, mut collected) = mpsc::channel(16);
    let (configure, topologies) = watch::channel(topology.clone());
    let prober = tokio::spawn(run(topologies, results, Dropped::default()));
    let mut found = HashSet::new();
    while found.len() < 4 {
        let ProbeResult { endpoint, passed, .. } = collected.recv().await.unwrap();
        let place = topology.place(endpoint).unwrap();
        found.insert((place.cluster, place.endpoint, passed));
    }
    let expected = [(0, 0, true), (0, 1, false), (2, 0, false), (2, 1, true)];
    assert_eq!(found, HashSet::from(expected));
    drop(configure);
    prober.await.unwrap();
    while collected.recv().await.is_some() {}
}

#[tokio::test]
async fn a_new_configuration_is_probed_and_who_is_gone_is_not() {
    let (well, _requests) = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let (other, _requests) = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let (gone, _requests) = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let before = topology(&[([well, gone], Some(http()))]);
    let after = before.next(topology(&[([well, other], Some(http()))]).config().clone());
    let (results, mut collected) = mpsc::channel(16);
    let (configure, topologies) = watch::channel(before.clone());
    let prober = tokio::spawn(run(topologies, results, Dropped::default()));
    let mut found = HashSet::new();
    while found.len() < 2 {
        found.insert(collected.recv().await.unwrap().endpoint);
    }
    configure.send_replace(after.clone());
    while found.len() < 3 {
        found.insert(collected.recv().await.unwrap().endpoint);
    }
    // What was under way may still come in; then there is nothing of it.
    for _ in 0..16 {
        collected.recv().await.unwrap();
    }
    for _ in 0..20 {
        let endpoint = collected.recv().await.unwrap().endpoint;
        assert!(after.place(endpoint).is_some());
    }
    prober.abort();
}

#[tokio::test]
async fn results_that_nobody_collects_are_dropped_and_counted() {
    let (address, mut requests) = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let (results, _collected) = mpsc::channel(1);
    let dropped = Dropped::default();
    let probing = tokio::spawn(keep_probing(schedule(address, http()), results, dropped.clone()));
    while dropped.count() < 2 {
        requests.changed().await.unwrap();
    }
    probing.abort();
}

proptest! {
    #[test]
    fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = status(&bytes);
        let _ = status(&[b"HTTP/1.1 200 OK\r\n".as_slice(), &bytes].concat());
    }
}
