//! Copies go where they should, say what they should, and cost the users nothing, whatever their target does.
// Concept: store-stream
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use foreshade_tests::proxy::{PATIENCE, Proxy, free_address};
use foreshade_tests::wire::{Scripted, connect, exchange, read_until};

const MIB: usize = 1024 * 1024;

/// `shop` is served by `a` and mirrored to `next`, but for what lies below `/plain`; `keys` are more keys of the mirror.
fn proxy(a: SocketAddr, next: SocketAddr, keys: &str) -> Proxy {
    // A machine that is busy with other things is not what these tests are about.
    let patient = if keys.contains("timeout") {
        ""
    } else {
        ", timeout: 1h"
    };
    Proxy::start_with_route(
        &format!(
            "clusters:\n  - name: shop\n    health: off\n    endpoints: [{{ name: a, address: \"{a}\" }}]\n  - name: \
             next\n    health: off\n    endpoints: [{{ name: n, address: \"{next}\" }}]\n"
        ),
        &format!(
            "{{ cluster: shop, mirror: {{ target: next, {keys}{patient} }} }}\n      - {{ match: {{ path: {{ prefix: /plain }} }}, \
             cluster: shop }}"
        ),
    )
}

/// Answers every request with these headers and this body.
fn answering(headers: &'static str, body: &'static str) -> Scripted {
    Scripted::start(move |stream| {
        let length = body.len();
        // The test may be over.
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
    })
}

fn well() -> Scripted {
    answering("", "well")
}

fn get(proxy: &Proxy, headers: &str) -> String {
    let request = format!("GET /items/4711 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
    exchange(proxy.users, request.as_bytes())
}

fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200") && answer.ends_with("well")
}

/// How many copies ended so.
fn result(proxy: &Proxy, name: &str) -> u64 {
    let lanes = proxy.mirror()["lanes"].as_array().unwrap().clone();
    lanes
        .iter()
        .filter_map(|lane| lane["results"][name].as_u64())
        .sum()
}

fn copies(proxy: &Proxy) -> u64 {
    let lanes = proxy.mirror()["lanes"].as_array().unwrap().clone();
    lanes.iter().filter_map(|lane| lane["copies"].as_u64()).sum()
}

/// How many copies of requests to `shop` were not made or were given up for this reason.
fn dropped(proxy: &Proxy, reason: &str) -> u64 {
    let mirror = proxy.mirror();
    let clusters = mirror["dropped"].as_array().unwrap();
    let shop = clusters.iter().find(|c| c["cluster"] == "shop").unwrap();
    shop["reasons"][reason].as_u64().unwrap_or_default()
}

fn wait_for_result(proxy: &mut Proxy, name: &str, count: u64) {
    proxy.wait_until(name, |p| result(p, name) == count);
}

fn wait_for_drop(proxy: &mut Proxy, reason: &str, count: u64) {
    proxy.wait_until(reason, |p| dropped(p, reason) == count);
}

#[test]
fn a_copy_is_what_the_endpoint_got_with_a_mark_and_without_credentials() {
    let (a, next) = (well(), well());
    let mut proxy = proxy(a.address, next.address, "share: 100%, noise: off");
    let headers = "Authorization: Bearer secret\r\nCookie: sid=1\r\nX-Own: yes\r\nX-Hop: 1\r\n";
    let headers = format!("{headers}Connection: x-hop\r\n");
    assert!(is_ok(&get(&proxy, &headers)));
    let original = a.next_head().unwrap().to_lowercase();
    assert!(original.contains("authorization: bearer secret") && !original.contains("x-foreshade-mirror"));
    let copy = next.next_head().unwrap().to_lowercase();
    assert!(copy.starts_with("get /items/4711 http/1.1\r\n"), "{copy}");
    for line in ["host: a", "x-own: yes", "x-foreshade-mirror: 1"] {
        assert!(copy.lines().any(|l| l == line), "{line} is missing: {copy}");
    }
    for name in ["authorization", "cookie", "secret", "x-hop", "connection"] {
        assert!(!copy.contains(name), "{name}: {copy}");
    }
    // Another answer is to be expected of whoever asks without credentials, so this one is not held against the target.
    wait_for_result(&mut proxy, "anonymous", 1);
}

#[test]
fn credentials_go_along_where_the_route_says_so_and_a_copy_is_not_copied_again() {
    let (a, next) = (well(), well());
    let mut proxy = proxy(
        a.address,
        next.address,
        "share: 100%, noise: off, keepHeaders: [Authorization]",
    );
    assert!(is_ok(&get(&proxy, "X-Foreshade-Mirror: 1\r\n")));
    wait_for_drop(&mut proxy, "unsuited", 1);
    assert!(is_ok(&get(&proxy, "Authorization: Bearer secret\r\n")));
    assert!(next.next_head().unwrap().to_lowercase().contains("bearer secret"));
    wait_for_result(&mut proxy, "equal", 1);
    assert_eq!(copies(&proxy), 1);
}

#[test]
fn a_share_of_the_safe_requests_is_copied_and_no_write() {
    let (a, next) = (well(), well());
    let proxy = proxy(
        a.address,
        next.address,
        "share: 25%, noise: off, concurrency: 1024",
    );
    for _ in 0..400 {
        assert!(is_ok(&get(&proxy, "")));
        let write = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert!(is_ok(&exchange(proxy.users, write.as_bytes())));
    }
    let copied = std::iter::from_fn(|| next.head_so_far()).inspect(|head| assert!(head.starts_with("GET")));
    // Four and a half standard deviations around 100.
    let copied = copied.count();
    assert!((61..140).contains(&copied), "{copied}");
}

#[test]
fn writes_are_copied_where_the_route_says_so_with_their_bodies() {
    let (seen, bodies) = std::sync::mpsc::channel();
    let next = Scripted::start(move |stream| {
        let _ = seen.send(read_until(stream, "end"));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let a = Scripted::start(|stream| {
        read_until(stream, "end");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell");
    });
    let proxy = proxy(a.address, next.address, "share: 1%, writes: { share: 100% }");
    let known = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\nfirst-end";
    assert!(is_ok(&exchange(proxy.users, known.as_bytes())));
    assert!(next.next_head().unwrap().contains("content-length: 9"));
    assert_eq!(bodies.recv().unwrap(), "first-end");
    let chunked = "PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n4\r\n\
                   -end\r\n0\r\n\r\n";
    assert!(exchange(proxy.users, chunked.as_bytes()).starts_with("HTTP/1.1 200"));
    assert!(next.next_head().unwrap().contains("transfer-encoding: chunked"));
    let body = bodies.recv().unwrap();
    assert!(body.contains("second") && body.contains("-end"), "{body}");
}

#[test]
fn the_rate_holds_whatever_the_share() {
    let (a, next) = (well(), well());
    let mut proxy = proxy(a.address, next.address, "share: 100%, rate: 0.001rps, noise: off");
    for _ in 0..20 {
        assert!(is_ok(&get(&proxy, "")));
    }
    wait_for_drop(&mut proxy, "rate", 19);
    wait_for_result(&mut proxy, "equal", 1);
}

/// Accepts, and says nothing.
fn hung() -> Scripted {
    Scripted::start(|stream| drop(stream.read(&mut [0])))
}

#[test]
fn a_hung_target_costs_its_own_copies_and_no_user() {
    let (a, next) = (well(), hung());
    let keys = "share: 100%, noise: off, concurrency: 2, timeout: 1h";
    let mut proxy = proxy(a.address, next.address, keys);
    for _ in 0..30 {
        assert!(is_ok(&get(&proxy, "")));
    }
    wait_for_drop(&mut proxy, "busy", 28);
    assert_eq!(proxy.mirror()["under_way"], 2);
}

#[test]
fn every_failure_of_a_target_is_counted_under_its_name_and_no_user_sees_it() {
    let garbage = || Scripted::start(|stream| drop(stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")));
    let reset = || Scripted::start(|_| {});
    let (hung, garbage, reset) = (hung(), garbage(), reset());
    let cut = Scripted::start(|stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut"));
    });
    for (target, result) in [
        (hung.address, "timeout"),
        (free_address(), "refused"),
        (garbage.address, "garbage"),
        (reset.address, "reset"),
        (cut.address, "reset"),
    ] {
        let a = well();
        let mut proxy = proxy(a.address, target, "share: 100%, noise: off, timeout: 200ms");
        for _ in 0..5 {
            assert!(is_ok(&get(&proxy, "")));
        }
        wait_for_result(&mut proxy, result, 5);
        let pairs = &proxy.mirror()["lanes"][0]["pairs"];
        assert_eq!(
            (&pairs["target_bad"], &pairs["both_good"]),
            (&5.into(), &0.into())
        );
        // What a copy meets is no evidence on a user's endpoint.
        let endpoint = proxy.endpoint("n");
        let counts = endpoint["counts"].as_object().unwrap();
        assert!(counts.values().all(|count| count == 0), "{counts:?}");
        assert_eq!(endpoint["standing"], "unknown");
    }
}

#[test]
fn a_target_slower_than_the_primary_is_waited_for_and_found_slower() {
    let a = well();
    let next = Scripted::start(|stream| {
        std::thread::sleep(Duration::from_millis(300));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell");
    });
    let mut proxy = proxy(a.address, next.address, "share: 100%, noise: off");
    assert!(is_ok(&get(&proxy, "")));
    wait_for_result(&mut proxy, "equal", 1);
    let lane = proxy.mirror()["lanes"][0].clone();
    assert_eq!(
        (&lane["slower"]["target"], &lane["slower"]["primary"]),
        (&1.into(), &0.into())
    );
    assert!(
        lane["latency"]["target"]["p50_us"].as_u64() >= Some(280_000),
        "{lane}"
    );
}

#[test]
fn answers_are_compared_by_status_header_and_field_and_nothing_they_say_is_kept() {
    const JSON: &str = "Content-Type: application/json\r\n";
    let a = answering(
        JSON,
        r#"{"id": "top-secret", "items": [{"price": 5}], "same": 1} well"#,
    );
    // No JSON: compared as a whole.
    let next = answering(
        JSON,
        r#"{"id": "top-secret", "items": [{"price": 6}], "same": 1} well"#,
    );
    let mut one = proxy(a.address, next.address, "share: 100%, noise: off");
    assert!(is_ok(&get(&one, "")));
    wait_for_result(&mut one, "differs", 1);
    assert_eq!(one.mirror()["lanes"][0]["fields"][0]["field"], "body");

    let a = answering(
        JSON,
        r#"{"id": "top-secret", "items": [{"price": 5}], "same": 1}"#,
    );
    let next = answering(
        "Content-Type: application/json\r\nX-Build: hidden-build\r\nDate: today\r\n",
        r#"{"same": 1, "id": "other-secret", "items": [{"price": 6}]}"#,
    );
    let mut other = proxy(a.address, next.address, "share: 100%, noise: off");
    assert!(get(&other, "").starts_with("HTTP/1.1 200"));
    wait_for_result(&mut other, "differs", 1);
    let lane = other.mirror()["lanes"][0].clone();
    let fields = lane["fields"].as_array().unwrap();
    let names: Vec<_> = fields
        .iter()
        .map(|field| field["field"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["body.id", "body.items[].price", "header x-build"]);
    assert!(fields.iter().all(|field| field["example"] == "/items/{}"));
    let text = lane.to_string();
    for said in ["secret", "hidden", "4711"] {
        assert!(!text.contains(said), "{said}: {text}");
    }
}

/// Answers with a number that is never the same, and a price.
fn counting(price: u32) -> Scripted {
    let count = Arc::new(AtomicUsize::new(0));
    Scripted::start(move |stream| {
        let body = format!("{{\"at\":{},\"price\":{price}}}", count.fetch_add(1, SeqCst));
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
    })
}

#[test]
fn what_differs_among_primaries_is_noise_and_what_differs_at_the_target_alone_is_not() {
    let (a, b, next) = (counting(5), counting(5), counting(6));
    let mut proxy = Proxy::start_with_route(
        &format!(
            "clusters:\n  - name: shop\n    health: off\n    endpoints:\n      - {{ name: a, address: \"{}\" }}\n      - {{ \
             name: b, address: \"{}\" }}\n  - name: next\n    health: off\n    endpoints: [{{ name: n, address: \"{}\" }}]\n",
            a.address, b.address, next.address
        ),
        "{ cluster: shop, mirror: { target: next, share: 100%, noise: 50%, timeout: 1h } }",
    );
    proxy.wait_until("sure of both fields", |p| {
        assert!(get(p, "").starts_with("HTTP/1.1 200"));
        let fields = p.mirror()["lanes"][0]["fields"].clone();
        let verdict = |name: &str| {
            let fields = fields.as_array().into_iter().flatten();
            fields
                .clone()
                .find(|f| f["field"] == name)
                .map(|f| f["verdict"].clone())
        };
        verdict("body.at") == Some("noise".into()) && verdict("body.price") == Some("differs".into())
    });
    // The copies among primaries are marked, too, and safe requests only.
    let heads = std::iter::from_fn(|| a.head_so_far()).chain(std::iter::from_fn(|| b.head_so_far()));
    let marked = heads.filter(|head| head.to_lowercase().contains("x-foreshade-mirror: 1"));
    assert!(marked.count() > 0);
}

#[test]
fn a_client_that_goes_away_takes_its_copy_with_it() {
    let (done, whole) = std::sync::mpsc::channel();
    let next = Scripted::start(move |stream| {
        let mut body = Vec::new();
        let _ = stream.read_to_end(&mut body);
        let _ = done.send(body);
    });
    let a = Scripted::start(|stream| drop(stream.read_to_end(&mut Vec::new())));
    let mut proxy = proxy(a.address, next.address, "share: 1%, writes: { share: 100% }");
    let mut user = connect(proxy.users);
    // More than is taken whole before an endpoint is asked.
    user.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\nhalf")
        .unwrap();
    next.next_head().unwrap();
    user.shutdown(Shutdown::Both).unwrap();
    wait_for_drop(&mut proxy, "client_gone", 1);
    // Broken off, never rounded up to a whole request.
    assert!(b"half".starts_with(&whole.recv().unwrap()));
    assert_eq!(proxy.mirror()["under_way"], 0);
    assert_eq!(proxy.mirror()["held_bytes"], 0);
}

#[test]
fn what_no_endpoint_got_is_not_copied() {
    let next = well();
    let mut proxy = proxy(free_address(), next.address, "share: 100%, noise: off");
    for _ in 0..5 {
        assert!(get(&proxy, "").starts_with("HTTP/1.1 502"));
    }
    proxy.wait_until("told of the failures", |p| {
        p.endpoint("a")["counts"]["refused"] == 5
    });
    assert_eq!((copies(&proxy), next.head_so_far()), (0, None));
}

/// `a` with a standby; mirrored to `target`.
fn paired(a: SocketAddr, standby: SocketAddr, next: SocketAddr, target: &str) -> Proxy {
    Proxy::start_with_route(
        &format!(
            "clusters:\n  - name: shop\n    health: off\n    endpoints: [{{ name: a, address: \"{a}\", shadow: s }}]\n    \
             shadows: [{{ name: s, address: \"{standby}\" }}]\n  - name: next\n    health: off\n    endpoints: [{{ name: n, \
             address: \"{next}\" }}]\n"
        ),
        &format!("{{ cluster: shop, mirror: {{ target: {target}, share: 100%, noise: off, timeout: 1h }} }}"),
    )
}

#[test]
fn a_request_that_is_retried_is_copied_once_and_the_target_that_answered_is_the_better_one() {
    let (a, standby, next) = (Scripted::start(|_| {}), well(), well());
    let mut proxy = paired(a.address, standby.address, next.address, "next");
    assert!(is_ok(&get(&proxy, "")));
    wait_for_result(&mut proxy, "primary_failed", 1);
    assert_eq!(proxy.mirror()["lanes"][0]["pairs"]["primary_bad"], 1);
    assert_eq!(copies(&proxy), 1);
    assert!(a.next_head().is_some() && standby.next_head().is_some() && next.next_head().is_some());
    assert_eq!(next.head_so_far(), None);
}

#[test]
fn a_shadow_gets_the_copies_of_its_own_primary_and_none_of_what_it_serves_itself() {
    let (a, standby) = (well(), well());
    let mut proxy = paired(a.address, standby.address, free_address(), "shadow");
    assert!(is_ok(&get(&proxy, "")));
    wait_for_result(&mut proxy, "equal", 1);
    let lane = proxy.mirror()["lanes"][0].clone();
    assert_eq!((&lane["primary"], &lane["target"]), (&"a".into(), &"s".into()));
    assert!(
        standby
            .next_head()
            .unwrap()
            .to_lowercase()
            .contains("x-foreshade-mirror")
    );

    let standby = well();
    let mut proxy = paired(free_address(), standby.address, free_address(), "shadow");
    assert!(is_ok(&get(&proxy, "")));
    wait_for_drop(&mut proxy, "shadow_serves", 1);
    assert_eq!(copies(&proxy), 0);
}

#[test]
fn an_answer_that_never_ends_ends_its_copy() {
    let (a, next) = (answering("Content-Type: text/event-stream\r\n", "well"), hung());
    let mut proxy = proxy(a.address, next.address, "share: 100%, noise: off, timeout: 1h");
    assert!(is_ok(&get(&proxy, "")));
    wait_for_drop(&mut proxy, "stream", 1);
    proxy.wait_until("done with it", |p| p.mirror()["under_way"] == 0);
}

#[test]
fn connections_to_a_target_are_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, SeqCst);
            std::thread::spawn(move || keep_answering(stream));
        }
    });
    let a = well();
    let mut proxy = proxy(a.address, address, "share: 100%, noise: off");
    for n in 1..=10 {
        assert!(is_ok(&get(&proxy, "")));
        wait_for_result(&mut proxy, "equal", n);
    }
    assert_eq!(opened.load(SeqCst), 1);
}

fn keep_answering(mut stream: TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while matches!(stream.read(&mut byte), Ok(1)) {
        head.extend_from_slice(&byte);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell");
        }
    }
}

/// Takes a body of `size` bytes, says in `taken` how much has come, and answers with as many.
fn echoing(size: usize, taken: Arc<AtomicUsize>) -> Scripted {
    Scripted::start(move |stream| {
        let mut buffer = vec![0; 65536];
        let mut left = size;
        while left > 0 {
            match stream.read(&mut buffer) {
                Ok(n) if n > 0 => left -= n,
                _ => return,
            }
            taken.store(size - left, SeqCst);
        }
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(&vec![b'y'; size]);
    })
}

/// Sends `size` bytes in pieces and reads as many. `sent` is told how much has been sent.
fn upload(users: SocketAddr, path: &str, size: usize, mut sent: impl FnMut(usize)) {
    let mut user = connect(users);
    let mut receiver = user.try_clone().unwrap();
    let receiving = std::thread::spawn(move || {
        assert!(read_until(&mut receiver, "\r\n\r\n").starts_with("HTTP/1.1 200"));
        let mut body = vec![0; size];
        receiver.read_exact(&mut body).unwrap();
        assert!(body.iter().all(|byte| *byte == b'y'));
    });
    write!(
        user,
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
    )
    .unwrap();
    let piece = vec![b'x'; MIB / 16];
    for n in 1..=size / piece.len() {
        user.write_all(&piece).unwrap();
        sent(n * piece.len());
    }
    receiving.join().unwrap();
}

#[test]
fn forty_mebibytes_are_copied_both_ways_in_bounded_memory() {
    let size = 40 * MIB;
    let taken = Arc::new(AtomicUsize::new(0));
    let (a, next) = (echoing(size, Arc::default()), echoing(size, taken.clone()));
    let mut proxy = proxy(
        a.address,
        next.address,
        "share: 1%, writes: { share: 100% }, bodyMax: 64MiB, timeout: 1h",
    );
    upload(proxy.users, "/plain", size, |_| {});
    let before = proxy.memory("VmHWM");
    let begun = Instant::now();
    upload(proxy.users, "/", size, |sent| {
        // At the target's pace, so that the whole of it is copied however the threads are scheduled.
        while taken.load(SeqCst) + MIB / 8 < sent {
            assert!(begun.elapsed() < 4 * PATIENCE, "the copy does not come");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    wait_for_result(&mut proxy, "equal", 1);
    let grown = proxy.memory("VmHWM") - before;
    assert!(grown < size as u64 / 2, "grew by {grown}");
    assert_eq!(proxy.mirror()["held_bytes"], 0);
}

#[test]
fn bodies_that_a_hung_target_does_not_take_are_held_up_to_a_limit_and_delay_nobody() {
    const USERS: usize = 12;
    const SIZE: usize = 10 * MIB;
    let a = echoing(SIZE, Arc::default());
    // Reads nothing at all.
    let next = Scripted::start(|_| {
        loop {
            std::thread::park();
        }
    });
    let keys = "share: 1%, writes: { share: 100% }, timeout: 1h, concurrency: 1024";
    let mut proxy = proxy(a.address, next.address, keys);
    let uploads = |path: &'static str| {
        let users = proxy.users;
        let uploads = (0..USERS).map(|_| std::thread::spawn(move || upload(users, path, SIZE, |_| {})));
        let uploads: Vec<_> = uploads.collect();
        uploads.into_iter().for_each(|upload| upload.join().unwrap());
    };
    // Several times: how much of the users' own bodies is here at a time is chance, and the mark is the highest of it.
    for _ in 0..4 {
        uploads("/plain");
    }
    let before = proxy.memory("VmHWM");
    uploads("/");
    proxy.wait_until("rid of every copy", |p| {
        dropped(p, "overflow") + dropped(p, "memory") == USERS as u64
    });
    let grown = proxy.memory("VmHWM") - before;
    let limit = proxy.mirror()["held_bytes_max"].as_u64().unwrap();
    // 120 MiB are offered, and without a limit nearly all of it would be held. The allocator keeps some of what the users'
    // own bodies took for a moment: on a busy machine it was as much as the limit once more.
    let offered = (USERS * SIZE) as u64;
    assert!(limit <= 16 * MIB as u64 && grown < offered / 3, "grew by {grown}");
    proxy.wait_until("empty", |p| {
        let mirror = p.mirror();
        mirror["held_bytes"] == 0 && mirror["under_way"] == 0
    });
}
