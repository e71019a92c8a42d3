//! A configuration is replaced as a whole or not at all, and nobody who uses the proxy notices.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test that cannot go on has failed; what stays stays to the bit"
)]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use foreshade_bench::client;
use foreshade_bench::farm::fault::Fault;
use foreshade_bench::farm::{Farm, FarmOptions};
use foreshade_bench::load::{Load, LoadOptions};
use foreshade_tests::proxy::{Proxy, free_address, preamble};
use foreshade_tests::strangers::Strangers;
use foreshade_tests::wire::{Scripted, connect, read_until};

/// A file to be: listeners, each with its routes from path to cluster, and clusters with their endpoints.
#[derive(Clone)]
struct File {
    admin: SocketAddr,
    listeners: Vec<(&'static str, SocketAddr, Vec<Route>)>,
    clusters: Vec<(&'static str, Vec<Endpoint>)>,
}

/// Path, cluster.
type Route = (&'static str, &'static str);

/// Name, address, shadow. A shadow is written as an endpoint whose shadow is `-`.
type Endpoint = (&'static str, SocketAddr, &'static str);

impl File {
    fn text(&self) -> String {
        let mut text = preamble(self.admin) + "listeners:\n";
        for (name, address, routes) in &self.listeners {
            write!(text, "  - name: {name}\n    address: {address}\n    routes:\n").unwrap();
            for (path, cluster) in routes {
                writeln!(
                    text,
                    "      - {{ match: {{ path: {{ prefix: {path} }} }}, cluster: {cluster} }}"
                )
                .unwrap();
            }
        }
        text += "clusters:\n";
        for (name, members) in &self.clusters {
            write!(
                text,
                "  - name: {name}\n    health: off\n    cohort: {{ header: x-user }}\n"
            )
            .unwrap();
            for (list, standby) in [("endpoints", false), ("shadows", true)] {
                let members = members
                    .iter()
                    .filter(|(_, _, shadow)| (*shadow == "-") == standby);
                let members: Vec<String> = members.map(member).collect();
                writeln!(text, "    {list}: [{}]", members.join(", ")).unwrap();
            }
        }
        text
    }
}

fn member((name, address, shadow): &Endpoint) -> String {
    match *shadow {
        "" | "-" => format!("{{ name: {name}, address: \"{address}\" }}"),
        shadow => format!("{{ name: {name}, address: \"{address}\", shadow: {shadow} }}"),
    }
}

/// One listener and one cluster, `shop`.
fn file(users: SocketAddr, admin: SocketAddr, members: &[Endpoint]) -> File {
    File {
        admin,
        listeners: vec![("web", users, vec![("/", "shop")])],
        clusters: vec![("shop", members.to_vec())],
    }
}

fn farm(names: &[&str]) -> (Farm, Vec<SocketAddr>) {
    let farm = Farm::start(FarmOptions::on_free_ports(names)).unwrap();
    let addresses = farm.addresses().to_vec();
    (farm, addresses)
}

fn applied(proxy: &Proxy, file: &File) {
    let (status, answer) = proxy.reload(&file.text());
    assert_eq!(
        (status, answer["result"].as_str()),
        (200, Some("applied")),
        "{answer}"
    );
}

fn body(users: SocketAddr, path: &str) -> String {
    client::request(users, "GET", path, "").unwrap().1
}

#[test]
fn everything_can_come_and_go_under_load_and_nobody_fails() {
    let (_farm, at) = farm(&["a", "b", "c", "s", "t"]);
    let (a, b, c) = (("a", at[0], "s"), ("b", at[1], ""), ("c", at[2], ""));
    let (s, t) = (("s", at[3], "-"), ("t", at[4], "-"));
    let other = free_address();
    let mut proxy = Proxy::start_with(|users, admin| file(users, admin, &[a, b, s]).text());
    let first = file(proxy.users, proxy.admin, &[a, b, s]);
    let mut more = file(proxy.users, proxy.admin, &[("a", at[0], "t"), c, b, t]);
    more.listeners.push(("other", other, vec![("/", "api")]));
    more.listeners[0].2.push(("/b", "api"));
    more.clusters.insert(0, ("api", vec![("a", at[0], "")]));
    let mut renamed = file(proxy.users, proxy.admin, &[c, ("b", at[4], "")]);
    renamed.listeners[0].0 = "www";
    renamed.clusters[0].0 = "store";
    renamed.listeners[0].2[0].1 = "store";

    let load = Load::start(LoadOptions::steady(proxy.users, 400.0, Duration::from_secs(60))).unwrap();
    let strangers = Strangers::start(proxy.users, 1, "/a");
    for round in 0..4 {
        for file in [&more, &renamed, &first] {
            applied(&proxy, file);
            strangers.more(3);
            let open = std::ptr::eq(file, &more);
            proxy.wait_until(&format!("listening or not, in round {round}"), |_| {
                TcpStream::connect(other).is_ok() == open
            });
        }
    }
    load.stop();
    let (_, failed) = strangers.finish();
    assert!(failed.is_empty(), "{failed:?}");
    let records = load.finish().records;
    let failed: Vec<_> = records.iter().filter(|r| r.outcome.failed()).collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:?}",
        failed.len(),
        records.len()
    );
    assert!(!records.is_empty());
    assert_eq!(proxy.metric("foreshade_config_generation"), Some(13.0));
    assert_eq!(
        proxy.metric("foreshade_config_reloads_total{result=\"applied\"}"),
        Some(12.0)
    );
}

#[test]
fn a_bad_file_changes_nothing_and_all_its_mistakes_are_told() {
    let a = Scripted::saying("a");
    let mut proxy = Proxy::start_with(|users, admin| file(users, admin, &[("a", a.address, "")]).text());
    let good = file(proxy.users, proxy.admin, &[("a", a.address, "")]);
    let bad = good
        .text()
        .replace("cluster: shop", "cluster: shup")
        .replace("health: off", "helth: off");
    let (status, answer) = proxy.reload(&bad);
    assert_eq!(status, 422, "{answer}");
    let told = answer["mistakes"].as_array().unwrap();
    let has = |what: &str| told.iter().any(|m| m.as_str().unwrap().contains(what));
    assert!(
        has("helth") && has("unknown cluster \"shup\"") && has("did you mean"),
        "{answer}"
    );
    assert_eq!(proxy.reload(": no yaml").0, 422);
    let status = proxy.reload_status();
    assert_eq!(
        (&status["generation"], &status["last"]["result"]),
        (&1.into(), &"invalid".into()),
        "{status}"
    );
    assert!(!status["last"]["mistakes"].as_array().unwrap().is_empty());
    assert_eq!(
        proxy.metric("foreshade_config_reloads_total{result=\"invalid\"}"),
        Some(2.0)
    );
    assert_eq!(body(proxy.users, "/"), "a");
    let (status, answer) = proxy.reload(&good.text());
    assert_eq!((status, answer["result"].as_str()), (200, Some("unchanged")));
    proxy.wait_until("well", |p| p.reload_status()["generation"] == 1);
}

#[test]
fn what_needs_a_restart_and_an_address_that_is_taken_are_refused_as_a_whole() {
    let (a, b) = (Scripted::saying("a"), Scripted::saying("b"));
    let proxy = Proxy::start_with(|users, admin| file(users, admin, &[("a", a.address, "")]).text());
    let other = file(proxy.users, proxy.admin, &[("b", b.address, "")]);
    let (status, answer) = proxy.reload(&other.text().replace("workers: 2", "workers: 3"));
    assert_eq!(status, 409, "{answer}");
    let mistakes = answer["mistakes"].to_string();
    assert!(mistakes.contains("workers changes from 2 to 3"), "{mistakes}");
    let moved = File {
        admin: free_address(),
        ..other.clone()
    };
    let (status, answer) = proxy.reload(&moved.text());
    assert!(
        status == 409 && answer["mistakes"].to_string().contains("admin.address"),
        "{answer}"
    );

    let strange = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = strange.local_addr().unwrap();
    let free = free_address();
    let mut more = other;
    more.listeners.push(("free", free, vec![("/", "shop")]));
    more.listeners.push(("taken", taken, vec![("/", "shop")]));
    let (status, answer) = proxy.reload(&more.text());
    let error = answer["error"].as_str().unwrap();
    assert!(
        status == 409 && error.contains(&format!("taken cannot listen on {taken}")),
        "{answer}"
    );
    assert!(
        TcpStream::connect(free).is_err(),
        "the other listener must not have been opened"
    );
    assert_eq!(body(proxy.users, "/"), "a", "nothing of it was applied");
    drop(strange);
    applied(&proxy, &more);
    assert_eq!(
        (body(free, "/"), body(taken, "/")),
        ("b".to_owned(), "b".to_owned())
    );
}

#[test]
fn a_signal_and_the_file_itself_are_heard() {
    let (a, b) = (Scripted::saying("a"), Scripted::saying("b"));
    let mut proxy = Proxy::start_with(|users, admin| file(users, admin, &[("a", a.address, "")]).text());
    let file = |to: &Scripted| file(proxy.users, proxy.admin, &[("x", to.address, "")]).text();
    let (first, second) = (file(&b), file(&a));
    proxy.rewrite(&first);
    proxy.hang_up();
    proxy.wait_until("reloaded by SIGHUP", |p| p.reload_status()["generation"] == 2);
    assert_eq!(body(proxy.users, "/"), "b");
    proxy.rewrite(&second);
    proxy.wait_until("reloaded by its file", |p| p.reload_status()["generation"] == 3);
    assert_eq!(body(proxy.users, "/"), "a");
}

#[test]
fn who_is_sick_stays_shifted_with_his_risk_and_his_story() {
    let (farm, at) = farm(&["a", "b", "s", "c"]);
    let (a, b, s) = (("a", at[0], "s"), ("b", at[1], ""), ("s", at[2], "-"));
    let mut proxy = Proxy::start_with(|users, admin| file(users, admin, &[a, b, s]).text());
    let load = Load::start(LoadOptions::steady(proxy.users, 300.0, Duration::from_secs(120))).unwrap();
    proxy.wait_until("known", |p| p.endpoint("a")["standing"] == "known");
    farm.set_faults("a", &[Fault::errors(1.0)]).unwrap();
    proxy.wait_until("shifted", |p| p.endpoint("a")["share"].as_f64().unwrap() > 0.9);
    let order = r#"{"endpoint":"b","risk":0.3,"reason":"kernel update","ttl":"1h"}"#;
    assert_eq!(post(&proxy, "/v1/overrides", order), 200);
    proxy.wait_until("overruled", |p| p.endpoint("b")["risk"].as_f64().unwrap() >= 0.3);

    let changes = |proxy: &Proxy| {
        let (_, body) = client::request(proxy.admin, "GET", "/v1/explain/a", "").unwrap();
        let story: serde_json::Value = serde_json::from_str(&body).unwrap();
        story["decisions"].as_array().unwrap().clone()
    };
    let (story, counts) = (
        changes(&proxy),
        proxy.endpoint("s")["counts"]["ok"].as_u64().unwrap(),
    );
    let mut grown = file(proxy.users, proxy.admin, &[("c", at[3], ""), b, a, s]);
    grown.clusters.insert(0, ("api", vec![("c", at[3], "")]));
    applied(&proxy, &grown);
    let after = proxy.endpoint("a");
    assert!(after["share"].as_f64().unwrap() > 0.9, "{after}");
    assert!(after["risk"].as_f64().unwrap() > 0.5, "{after}");
    assert!(
        proxy.endpoint("b")["risk"].as_f64().unwrap() >= 0.3,
        "the override holds"
    );
    assert!(proxy.endpoint("s")["counts"]["ok"].as_u64().unwrap() >= counts);
    assert_eq!(
        changes(&proxy)[..story.len()],
        story[..],
        "its story goes on where it was"
    );

    // The shadow that its users are at goes: they are its own again, and no answer is lost but those that a cannot give.
    applied(&proxy, &file(proxy.users, proxy.admin, &[b, ("a", at[0], "")]));
    let alone = proxy.endpoint("a");
    assert!(
        alone["share"].is_null() && alone["risk"].as_f64().unwrap() > 0.5,
        "{alone}"
    );
    load.stop();
    load.finish();
}

fn post(proxy: &Proxy, path: &str, json: &str) -> u16 {
    let mut stream = connect(proxy.admin);
    let length = json.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn counters_of_what_stays_never_go_back() {
    let (_farm, at) = farm(&["a", "b", "c"]);
    let (a, b, c) = (("a", at[0], ""), ("b", at[1], ""), ("c", at[2], ""));
    let proxy = Proxy::start_with(|users, admin| file(users, admin, &[a, b]).text());
    let load = Load::start(LoadOptions::steady(proxy.users, 500.0, Duration::from_secs(120))).unwrap();
    let counters = |proxy: &Proxy| {
        [
            "foreshade_answers_total{cluster=\"shop\",code_class=\"2xx\"}",
            "foreshade_endpoint_attempts_total{cluster=\"shop\",endpoint=\"a\",class=\"ok\"}",
            "foreshade_answer_latency_seconds_count{cluster=\"shop\"}",
        ]
        .map(|name| proxy.metric(name).unwrap())
    };
    let mut before = counters(&proxy);
    for members in [[c, a], [a, b], [b, a], [a, c]].repeat(3) {
        applied(&proxy, &file(proxy.users, proxy.admin, &members));
        let after = counters(&proxy);
        assert!(
            before.iter().zip(after).all(|(before, after)| after >= *before),
            "{before:?} {after:?}"
        );
        before = after;
    }
    load.stop();
    let answered = load
        .finish()
        .records
        .iter()
        .filter(|r| !r.outcome.failed())
        .count();
    // What the last ticks saw comes in with the next.
    let mut proxy = proxy;
    let all = answered as f64;
    proxy.wait_until("counted", |p| counters(p)[0] >= all);
    assert_eq!(counters(&proxy)[0], all, "every answer once");
}

#[test]
fn a_request_at_an_endpoint_that_is_removed_finishes_and_its_idle_connection_goes() {
    let (finish, finished) = mpsc::channel::<()>();
    let finished = Arc::new(Mutex::new(finished));
    let served = Arc::new(AtomicU32::new(0));
    let (idle_ended, ended) = mpsc::channel();
    let a = Scripted::start(move |stream| {
        if served.fetch_add(1, Ordering::SeqCst) == 0 {
            finished.lock().unwrap().recv().unwrap();
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
            .unwrap();
        // Kept alive, until the proxy closes it.
        let _ = idle_ended.send(stream.read(&mut [0]));
    });
    let b = Scripted::saying("second");
    let proxy = Proxy::start_with(|users, admin| file(users, admin, &[("a", a.address, "")]).text());
    let mut waiting = connect(proxy.users);
    waiting.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    a.next_head().unwrap();
    assert_eq!(body(proxy.users, "/2"), "first");
    applied(&proxy, &file(proxy.users, proxy.admin, &[("b", b.address, "")]));
    // The idle one of the two; the other one is in the middle of a request.
    assert_eq!(ended.recv_timeout(Duration::from_secs(20)).unwrap().unwrap(), 0);
    assert_eq!(body(proxy.users, "/3"), "second");
    finish.send(()).unwrap();
    assert!(read_until(&mut waiting, "first").starts_with("HTTP/1.1 200"));
    waiting.write_all(b"GET /4 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(
        read_until(&mut waiting, "second").starts_with("HTTP/1.1 200"),
        "on the same connection"
    );
}

#[test]
fn a_listener_that_has_just_been_removed_can_come_back_at_once() {
    let member = ("a", free_address(), "");
    let other = free_address();
    let proxy = Proxy::start_with(|users, admin| file(users, admin, &[member]).text());
    let without = file(proxy.users, proxy.admin, &[member]);
    let mut with = file(proxy.users, proxy.admin, &[member]);
    with.listeners.push(("other", other, vec![("/", "shop")]));
    for _ in 0..10 {
        applied(&proxy, &with);
        assert!(TcpStream::connect(other).is_ok(), "open when the reload is done");
        applied(&proxy, &without);
        assert!(
            TcpStream::connect(other).is_err(),
            "closed when the reload is done"
        );
    }
}

#[test]
fn a_listener_that_is_removed_finishes_its_requests_and_the_others_keep_their_connections() {
    let (endpoint, finish) =
        Scripted::when_told("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone");
    let member = ("a", endpoint.address, "");
    let gone = free_address();
    let mut proxy = Proxy::start_with(|users, admin| {
        let mut both = file(users, admin, &[member]);
        both.listeners.push(("gone", gone, vec![("/", "shop")]));
        both.text()
    });
    let ask = |stream: &mut TcpStream| stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (mut kept, mut leaving, mut idle) = (connect(proxy.users), connect(gone), connect(gone));
    for stream in [&mut kept, &mut idle] {
        ask(stream);
        finish.send(()).unwrap();
        read_until(stream, "done");
    }
    ask(&mut leaving);
    while !endpoint.next_head().unwrap().contains("GET") || endpoint.head_so_far().is_some() {}
    applied(&proxy, &file(proxy.users, proxy.admin, &[member]));
    proxy.wait_until("closed there", |_| TcpStream::connect(gone).is_err());
    assert_eq!(
        idle.read(&mut [0]).unwrap(),
        0,
        "an idle connection is closed at once"
    );
    finish.send(()).unwrap();
    let answer = read_until(&mut leaving, "done");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
    assert_eq!(leaving.read(&mut [0]).unwrap(), 0);
    ask(&mut kept);
    finish.send(()).unwrap();
    assert!(
        read_until(&mut kept, "done").starts_with("HTTP/1.1 200"),
        "on the same connection"
    );
}
