//! The two paths side by side: one proxy that has its relay on and one that has it off, each with an endpoint of its own.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use foreshade_bench::client;
use foreshade_tests::proxy::{PATIENCE, Place, Proxy};
use foreshade_tests::wire::connect;
use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::normal::{TRACE, normal, without_made};

/// What both proxies are told, beside what every configuration says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// Keys of the file.
    pub(crate) file: &'static str,
    /// Keys of the listener, routes among them.
    pub(crate) listener: &'static str,
    /// Whether the file asks for an access log.
    pub(crate) logs: bool,
}

/// As most files are.
pub(crate) const PLAIN: Told = Told {
    file: "",
    listener: "    routes: [{ cluster: shop }]\n",
    logs: false,
};

/// What has to be the same on both sides, wherever it is counted.
const COUNTED: [&str; 10] = [
    "foreshade_answers_total{",
    "foreshade_answers_without_endpoint_total",
    "foreshade_endpoint_attempts_total{",
    "foreshade_endpoint_in_flight_requests{",
    "foreshade_failovers_total{",
    "foreshade_kept_failures_total{",
    "foreshade_mirror_dropped_copies_total{",
    "foreshade_mirror_results_total{",
    "foreshade_refused_total{",
    "foreshade_unrouted_requests_total",
];

/// One of the two paths.
pub(crate) struct Side {
    pub(crate) endpoint: Endpoint,
    /// Gets copies where a route has a mirror.
    pub(crate) next: Endpoint,
    pub(crate) proxy: Proxy,
    logs: bool,
}

impl Side {
    pub(crate) fn start(relay: bool, told: Told) -> Self {
        let (endpoint, next) = (Endpoint::start(), Endpoint::start());
        let file = |place: &Place| {
            let file = told.file.replace("FOLDER", &place.folder.display().to_string());
            let mut text = format!(
                "apiVersion: foreshade/v1\nadmin: {{ address: {} }}\nworkers: 2\nrelay: {relay}\n{file}listeners:\n  \
                 - name: web\n    address: {}\n{}clusters:\n",
                place.admin, place.users, told.listener
            );
            for (name, at) in [("shop", endpoint.address), ("next", next.address)] {
                let _ = write!(
                    text,
                    "  - name: {name}\n    health: off\n    shift: {{ enabled: false }}\n    endpoints: [{{ name: a, \
                     address: \"{at}\" }}]\n"
                );
            }
            text
        };
        let mut proxy = Proxy::spawn(|place| file(place));
        proxy.wait_until("ready", |p| {
            client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200)
        });
        Self {
            endpoint,
            next,
            proxy,
            logs: told.logs,
        }
    }

    /// What the endpoint and the client receive when these bytes are sent, in pieces that end at `cuts`, and nothing more.
    pub(crate) fn exchange(&self, bytes: &[u8], cuts: &[usize]) -> (String, String) {
        let mut stream = connect(self.proxy.users);
        stream.set_nodelay(true).unwrap();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            if stream.write_all(&bytes[from..cut]).is_err() {
                break;
            }
            from = cut;
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        // A reset ends it as well as an end does; what came before counts.
        let _ = stream.read_to_end(&mut answer);
        (normal(&self.endpoint.take()), normal(&answer))
    }

    /// What is counted of attempts and answers, what is logged, and what has become of copies.
    fn recorded(&self) -> Vec<String> {
        let (_, page) = client::request(self.proxy.admin, "GET", "/metrics", "").unwrap();
        let lines = page
            .lines()
            .filter(|line| COUNTED.iter().any(|name| line.starts_with(name)));
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        if self.logs {
            let log = std::fs::read_to_string(self.proxy.folder.join("access.log")).unwrap_or_default();
            lines.extend(log.lines().map(logged));
        }
        lines.extend(normal(&self.next.seen()).lines().map(str::to_owned));
        // Their order is that in which they were first counted or written, by one worker or the other.
        lines.sort();
        lines
    }
}

/// A line of the access log without times, and without names that were made.
fn logged(line: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
        return format!("no line: {line}");
    };
    fields.retain(|key, _| key != "time" && key != "span_id" && !key.ends_with("_ms"));
    for (key, value) in &mut fields {
        let text = value.as_str().unwrap_or_default();
        match key.as_str() {
            "request_id" => *value = without_made(text).into(),
            "trace_id" if !TRACE.ends_with(text) => *value = "begun here".into(),
            _ => {}
        }
    }
    Value::Object(fields).to_string()
}

/// A case: its name, what is sent, and where that is cut.
pub(crate) type Case = (String, Vec<u8>, Vec<usize>);

/// Sends everything through both paths, and wants the same of both.
pub(crate) fn same(told: Told, cases: impl Iterator<Item = Case>) {
    let (relay, full) = (Side::start(true, told), Side::start(false, told));
    let unused = relay.recorded();
    let mut differences = String::new();
    for (name, bytes, cuts) in cases {
        let (relayed, passed) = (relay.exchange(&bytes, &cuts), full.exchange(&bytes, &cuts));
        if relayed != passed {
            let sent = bytes.escape_ascii();
            differences += &format!("{name}: {sent}\n  relay {relayed:?}\n  full  {passed:?}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
    // Counters are read by a tick, and by none yet both are equal.
    let begun = Instant::now();
    let (mut relayed, mut passed) = (relay.recorded(), full.recorded());
    while (relayed != passed || relayed == unused) && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
        (relayed, passed) = (relay.recorded(), full.recorded());
    }
    let only = |these: &[String], those: &[String]| {
        let lines = these.iter().filter(|line| !those.contains(line)).cloned();
        lines.collect::<Vec<_>>().join("\n  ")
    };
    assert!(
        relayed == passed,
        "recorded of the relay alone:\n  {}\nof the full path alone:\n  {}",
        only(&relayed, &passed),
        only(&passed, &relayed)
    );
    assert_ne!(relayed, unused);
}
