//! Endpoints by name follow their name server, and outlive it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foreshade_bench::client;
use foreshade_tests::dns::{NameServer, Record};
use foreshade_tests::proxy::{Proxy, preamble};
use foreshade_tests::wire::Scripted;

/// Answers with its own address.
fn endpoint(at: SocketAddr) -> Scripted {
    let script = |stream: &mut std::net::TcpStream| {
        let body = stream.local_addr().unwrap().to_string();
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
    };
    Scripted::start_at(at, script)
}

/// Endpoints at 127.0.0.1, 127.0.0.2 and 127.0.0.3, on one port.
fn endpoints() -> [Scripted; 3] {
    let first = endpoint(([127, 0, 0, 1], 0).into());
    let port = first.address.port();
    [
        first,
        endpoint(([127, 0, 0, 2], port).into()),
        endpoint(([127, 0, 0, 3], port).into()),
    ]
}

fn a(last: u8) -> Record {
    Record::A([127, 0, 0, last].into())
}

fn proxy(server: &NameServer, address: &str) -> Proxy {
    Proxy::start_with(|users, admin| {
        format!(
            "{}dns: {{ servers: [\"{}\"] }}\nlisteners:\n  - {{ name: web, address: \"{users}\", routes: [{{ cluster: shop \
             }}] }}\nclusters:\n  - name: shop\n    health: off\n    endpoints: [{{ name: x, address: \"{address}\" }}]\n",
            preamble(admin),
            server.address
        )
    })
}

fn ask(proxy: &Proxy) -> (u16, String) {
    client::request(proxy.users, "GET", "/", "").unwrap()
}

fn name(proxy: &Proxy) -> serde_json::Value {
    let (_, body) = client::request(proxy.admin, "GET", "/v1/names", "").unwrap();
    let all: serde_json::Value = serde_json::from_str(&body).unwrap();
    all["names"][0].clone()
}

/// Names and addresses of the endpoints, as operators see them.
fn listed(proxy: &Proxy) -> Vec<(String, String)> {
    let (_, body) = client::request(proxy.admin, "GET", "/v1/endpoints", "").unwrap();
    let all: serde_json::Value = serde_json::from_str(&body).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let rows = all["clusters"][0]["endpoints"].as_array().unwrap().iter();
    rows.map(|row| (text(&row["name"]), text(&row["address"])))
        .collect()
}

#[test]
fn endpoints_come_and_go_with_the_answers_and_nobody_fails() {
    let ends = endpoints();
    let at = ends.each_ref().map(|e| e.address.to_string());
    let server = NameServer::start();
    server.set("shop.test", 1, &[a(1)]);
    let mut proxy = proxy(&server, &format!("shop.test:{}", ends[0].address.port()));
    assert_eq!(ask(&proxy), (200, at[0].clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, users) = (stop.clone(), proxy.users);
    let load = std::thread::spawn(move || {
        let mut failed = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            match client::request(users, "GET", "/", "") {
                Ok((200, _)) => {}
                other => failed.push(format!("{other:?}")),
            }
        }
        failed
    });
    let row = |name: &str, address: &String| (name.to_owned(), address.clone());
    for (records, expected) in [
        (vec![a(1), a(3)], vec![row("x", &at[0]), row("x-2", &at[2])]),
        // Who stays keeps his number, and so his history.
        (vec![a(2), a(3)], vec![row("x", &at[1]), row("x-2", &at[2])]),
        (vec![a(3)], vec![row("x-2", &at[2])]),
    ] {
        server.set("shop.test", 1, &records);
        proxy.wait_until(&format!("serving {expected:?}"), |p| listed(p) == expected);
    }
    assert_eq!(ask(&proxy), (200, at[2].clone()));
    stop.store(true, Ordering::Relaxed);
    let failed = load.join().unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(
        proxy.metric("foreshade_config_generation"),
        Some(4.0),
        "one configuration per change"
    );
}

#[test]
fn the_last_good_answer_outlives_its_name_server() {
    let ends = endpoints();
    let server = NameServer::start();
    server.set("shop.test", 1, &[a(1)]);
    let mut proxy = proxy(&server, &format!("shop.test:{}", ends[0].address.port()));
    server.break_down(true);
    proxy.wait_until("told of the failure", |p| name(p)["failed"].as_u64() >= Some(2));
    let row = name(&proxy);
    assert!(
        row["error"].is_string() && row["age_seconds"].as_f64() > Some(1.0),
        "{row}"
    );
    assert_eq!(ask(&proxy).0, 200);
    let failed = format!(
        "foreshade_name_lookups_total{{name=\"shop.test:{}\",result=\"failed\"}}",
        ends[0].address.port()
    );
    assert!(proxy.metric(&failed) >= Some(2.0));
    // A text that changes meanwhile has the same names, and loses nothing either.
    let (status, answer) = client::request(proxy.admin, "POST", "/v1/reload", "").unwrap();
    assert!(status == 200 && answer.contains("unchanged"), "{answer}");
    server.set("shop.test", 1, &[a(2)]);
    server.break_down(false);
    let second = ends[1].address.to_string();
    proxy.wait_until("served by the second", |p| ask(p) == (200, second.clone()));
    assert!(name(&proxy)["error"].is_null());
}

#[test]
fn a_name_that_is_not_there_yet_is_waited_for_and_everything_else_starts() {
    let ends = endpoints();
    let server = NameServer::start();
    let mut proxy = proxy(&server, &format!("shop.test:{}", ends[0].address.port()));
    assert_eq!(ask(&proxy).0, 503);
    let row = name(&proxy);
    assert!(
        row["addresses"].as_array().unwrap().is_empty() && row["error"].is_string(),
        "{row}"
    );
    assert!(row["age_seconds"].is_null(), "{row}");
    server.set("shop.test", 60, &[a(1)]);
    proxy.wait_until("serving", |p| ask(p).0 == 200);
}

#[test]
fn a_service_brings_ports_and_weights_and_its_first_priority_only() {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let ends = [endpoint(loopback), endpoint(loopback), endpoint(loopback)];
    let port = |index: usize| ends[index].address.port();
    let server = NameServer::start();
    server.set("one.test", 60, &[a(1)]);
    let service = "_http._tcp.shop.test";
    let target = |priority, weight, index| Record::Srv(priority, weight, port(index), "one.test");
    server.set(
        service,
        1,
        &[target(1, 30, 0), target(1, 10, 1), target(2, 10, 2)],
    );
    let mut proxy = proxy(&server, service);
    let weight = |proxy: &Proxy, address: String| {
        let (_, body) = client::request(proxy.admin, "GET", "/v1/endpoints", "").unwrap();
        let all: serde_json::Value = serde_json::from_str(&body).unwrap();
        let mut rows = all["clusters"][0]["endpoints"]
            .as_array()
            .unwrap()
            .clone()
            .into_iter();
        rows.find(|row| row["address"] == address)
            .map(|row| row["weight"].as_f64().unwrap())
    };
    let at = |index: usize| ends[index].address.to_string();
    assert_eq!(weight(&proxy, at(0)), Some(1.5));
    assert_eq!(weight(&proxy, at(1)), Some(0.5));
    assert_eq!(weight(&proxy, at(2)), None);
    server.set(service, 1, &[target(1, 10, 1), target(1, 10, 2)]);
    proxy.wait_until("following", |p| {
        weight(p, at(0)).is_none() && weight(p, at(2)).is_some()
    });
    assert_eq!(weight(&proxy, at(1)), Some(1.0), "who stays needs no slow start");
}
