//! The metrics as scrapers take them: each form says the same, and Prometheus itself reads native histograms out of them.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::time::Duration;

use foreshade_tests::prometheus::Prometheus;
use foreshade_tests::proxy::{Proxy, preamble};
use foreshade_tests::wire::{exchange, serving};
use std::io::{Read, Write};

const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// What an endpoint takes for an answer.
const TAKES: Duration = Duration::from_millis(50);

/// Requests that are answered.
const REQUESTS: u64 = 5;

/// A proxy that has answered some requests.
fn proxy() -> Proxy {
    let endpoint = serving(|mut stream| {
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
            std::thread::sleep(TAKES);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let mut proxy = Proxy::start_with(|users, admin| {
        format!(
            "{}listeners: [{{ name: web, address: \"{users}\", routes: [{{ cluster: shop }}] }}]\n\
             clusters: [{{ name: shop, health: off, endpoints: [{{ name: a, address: \"{endpoint}\" }}] }}]\n",
            preamble(admin)
        )
    });
    for _ in 0..REQUESTS {
        exchange(
            proxy.users,
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
    }
    proxy.wait_until("aware of them", |p| {
        p.count("foreshade_answer_latency_seconds_count{cluster=\"shop\"}") == REQUESTS
    });
    proxy
}

/// The page and its media type.
fn page(proxy: &Proxy, accept: &str) -> (String, String) {
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    let answer = exchange(proxy.admin, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kind = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-type: ")
            .map(str::to_owned)
    });
    (kind.unwrap(), body.to_owned())
}

#[test]
fn a_scraper_gets_the_form_that_it_asks_for() {
    let proxy = proxy();
    let (kind, text) = page(&proxy, "*/*");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("# TYPE foreshade_answers_total counter\n"));
    let (kind, open) = page(
        &proxy,
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    );
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.contains("# TYPE foreshade_answers counter\n") && open.ends_with("\n# EOF\n"));
    let count = format!("foreshade_answer_latency_seconds_count{{cluster=\"shop\"}} {REQUESTS}\n");
    assert!(text.contains(&count) && open.contains(&count));
    let (kind, _) = page(&proxy, PROTOBUF);
    assert!(kind.starts_with("application/vnd.google.protobuf;"), "{kind}");
}

#[test]
fn prometheus_reads_native_histograms_where_it_wants_them() {
    let proxy = proxy();
    let native = ["--enable-feature=native-histograms"];
    let Some(prometheus) = Prometheus::scraping(proxy.admin, &native) else {
        return;
    };
    let latency = "foreshade_answer_latency_seconds";
    prometheus.wait_for("up", |up| up > 0.5);
    let count = prometheus.wait_for(&format!("histogram_count({latency})"), |count| count > 0.0);
    assert!((count - REQUESTS as f64).abs() < 0.5, "{count}");
    let sum = prometheus.wait_for(&format!("histogram_sum({latency})"), |sum| sum > 0.0);
    // Its buckets are where the samples are: none is shorter than what the endpoint takes, and their sum says how long
    // they are at most.
    let median = prometheus.wait_for(&format!("histogram_quantile(0.5, {latency})"), |_| true);
    let least = TAKES.as_secs_f64() / 1.1;
    assert!(least < median && median < sum, "{least} < {median} < {sum}");
    let below = prometheus.wait_for(&format!("histogram_fraction(0, {least}, {latency})"), |_| true);
    assert!(below.abs() < 1e-9, "{below}");
    let all = prometheus.wait_for(&format!("histogram_fraction({least}, +Inf, {latency})"), |_| true);
    assert!((all - 1.0).abs() < 1e-9, "{all}");
    // The rest is there, too.
    let answers = prometheus.wait_for("foreshade_answers_total{code_class=\"2xx\"}", |_| true);
    assert!((answers - REQUESTS as f64).abs() < 0.5, "{answers}");
}

#[test]
fn prometheus_reads_classic_ones_as_ever() {
    let proxy = proxy();
    let Some(prometheus) = Prometheus::scraping(proxy.admin, &[]) else {
        return;
    };
    prometheus.wait_for("up", |up| up > 0.5);
    let bucket = "foreshade_answer_latency_seconds_bucket";
    let all = prometheus.wait_for(&format!("{bucket}{{le=\"+Inf\"}}"), |_| true);
    assert!((all - REQUESTS as f64).abs() < 0.5, "{all}");
    let below = prometheus.wait_for(&format!("{bucket}{{le=\"0.025\"}}"), |_| true);
    assert!(below.abs() < 0.5, "{below}");
}
