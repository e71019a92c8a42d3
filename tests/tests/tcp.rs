//! Bytes of any protocol are carried as they are, both ways, to where the policy says; and whoever does not answer is found
//! out before a user is.
// Concept: endpoint-failover
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use foreshade_tests::proxy::{Proxy, free_address, preamble};
use foreshade_tests::wire::{connect, read_until, reset, serving};
use serde_json::Value;

/// A proxy with one listener of TCP, with keys of the test's own, and the cluster `db`.
fn proxy(listener: &str, cluster: &str) -> Proxy {
    Proxy::start_with(|users, admin| config(users, admin, listener, cluster))
}

fn config(users: SocketAddr, admin: SocketAddr, listener: &str, cluster: &str) -> String {
    format!(
        "{}listeners:\n  - {{ name: db, address: \"{users}\", protocol: tcp, cluster: db, {listener} }}\nclusters:\n  - {{ \
         name: db, health: off, {cluster} }}\n",
        preamble(admin)
    )
}

fn one(endpoint: SocketAddr) -> String {
    format!("endpoints: [{{ name: a, address: \"{endpoint}\" }}]")
}

fn pair(primary: SocketAddr, shadow: SocketAddr) -> String {
    format!(
        "endpoints: [{{ name: a, address: \"{primary}\", shadow: s }}], shadows: [{{ name: s, address: \"{shadow}\" }}]"
    )
}

/// Gives back what it is sent.
fn echo() -> SocketAddr {
    serving(|mut stream| {
        let mut copy = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut copy);
    })
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Whether the other side broke off, and did not end in order.
fn is_broken(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).is_err()
}

#[test]
fn each_side_may_say_everything_before_the_other_begins() {
    let asks_first = serving(|mut stream| {
        let asked = read_all(&mut stream);
        stream.write_all(format!("{asked} answered").as_bytes()).unwrap();
    });
    let first = proxy("", &one(asks_first));
    let mut user = connect(first.users);
    user.write_all(b"everything").unwrap();
    user.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut user), "everything answered");

    let (heard, hears) = mpsc::channel();
    let greets_first = serving(move |mut stream| {
        stream.write_all(b"everything").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        heard.send(read_all(&mut stream)).unwrap();
    });
    let second = proxy("", &one(greets_first));
    let mut user = connect(second.users);
    assert_eq!(read_all(&mut user), "everything");
    user.write_all(b"and more").unwrap();
    user.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hears.recv().unwrap(), "and more");
}

/// Bytes that no piece of them can be taken for another one.
fn sends(mut stream: TcpStream, seed: u64, words: u64) {
    for from in (0..words).step_by(8192) {
        let block: Vec<u8> = (from..(from + 8192).min(words))
            .flat_map(|word| mixed(seed, word).to_le_bytes())
            .collect();
        stream.write_all(&block).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

fn receives(mut stream: TcpStream, seed: u64, words: u64) {
    let mut block = vec![0; 8 * 8192];
    for from in (0..words).step_by(8192) {
        let expected: Vec<u8> = (from..(from + 8192).min(words))
            .flat_map(|word| mixed(seed, word).to_le_bytes())
            .collect();
        let block = &mut block[..expected.len()];
        stream.read_exact(block).unwrap();
        assert!(block == expected, "another byte in the block at {}", 8 * from);
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "more than was sent");
}

/// Source: the finalizer of SplitMix64.
fn mixed(seed: u64, word: u64) -> u64 {
    let mut z = (seed ^ word)
        .wrapping_add(0x9E37_79B9_7F4A_7C15)
        .wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[test]
fn sixty_four_mebibytes_each_way_arrive_byte_by_byte() {
    const WORDS: u64 = 64 * 1024 * 1024 / 8;
    let endpoint = serving(|stream| {
        let sender = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || sends(sender, 1, WORDS));
        receives(stream, 2, WORDS);
        sending.join().unwrap();
    });
    let mut proxy = proxy("", &one(endpoint));
    let user = connect(proxy.users);
    let sender = user.try_clone().unwrap();
    let sending = std::thread::spawn(move || sends(sender, 2, WORDS));
    receives(user, 1, WORDS);
    sending.join().unwrap();
    let counted = |p: &Proxy, direction: &str| {
        p.metric(&format!(
            "foreshade_carried_bytes_total{{cluster=\"db\",direction=\"{direction}\"}}"
        ))
    };
    let all = Some(8.0 * WORDS as f64);
    proxy.wait_until("done counting", |p| {
        (counted(p, "to_endpoint"), counted(p, "to_client")) == (all, all)
    });
}

#[test]
fn who_does_not_read_holds_the_sender_back_and_loses_nothing() {
    let (go, going) = mpsc::channel::<()>();
    let going = Arc::new(std::sync::Mutex::new(going));
    let endpoint = serving(move |mut stream| {
        going.lock().unwrap().recv().unwrap();
        let mut seen = 0;
        let mut block = vec![0; 65536];
        while let Ok(n @ 1..) = stream.read(&mut block) {
            seen += n;
        }
        stream.write_all(seen.to_string().as_bytes()).unwrap();
    });
    let proxy = proxy("", &one(endpoint));
    let mut user = connect(proxy.users);
    user.set_nonblocking(true).unwrap();
    let block = vec![7; 65536];
    let mut sent = 0;
    let mut full = 0;
    // Nothing is taken for a while once all buffers on the way are full.
    while full < 20 {
        match user.write(&block) {
            Ok(n) => (sent, full) = (sent + n, 0),
            Err(_) => {
                full += 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        assert!(sent < 512 * 1024 * 1024, "nobody holds the sender back");
    }
    let before = proxy.memory("VmRSS");
    assert!(
        before < 256 * 1024 * 1024,
        "the proxy keeps what it cannot send: {before}"
    );
    go.send(()).unwrap();
    user.set_nonblocking(false).unwrap();
    user.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut user), sent.to_string());
}

#[test]
fn a_refused_connection_is_served_by_the_shadow_and_no_user_notices() {
    let mut proxy = proxy("", &pair(free_address(), echo()));
    for n in 0..30 {
        let mut user = connect(proxy.users);
        user.write_all(format!("{n}.").as_bytes()).unwrap();
        assert_eq!(read_until(&mut user, "."), format!("{n}."));
    }
    proxy.wait_until("counted", |p| {
        let moved = p.metric("foreshade_failovers_total{cluster=\"db\",reason=\"refused\"}");
        moved.is_some_and(|n| n >= 1.0)
    });
}

#[test]
fn a_connection_that_breaks_before_a_byte_was_sent_goes_to_the_shadow() {
    let shadow = serving(|mut stream| {
        stream.write_all(b"220 well.\r\n").unwrap();
        let _ = stream.read(&mut [0]);
    });
    let proxy = proxy("", &pair(serving(reset), shadow));
    let mut user = connect(proxy.users);
    assert_eq!(read_until(&mut user, "\r\n"), "220 well.\r\n");
}

#[test]
fn a_connection_on_which_a_byte_was_sent_stays_and_its_reset_is_charged() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let shadow = serving(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let breaks = serving(|mut stream| {
        let _ = stream.read(&mut [0]);
        reset(stream);
    });
    let mut proxy = proxy("", &pair(breaks, shadow));
    let mut user = connect(proxy.users);
    user.write_all(b"insert").unwrap();
    assert!(
        is_broken(&mut user),
        "what was not said must not look as if it had been"
    );
    assert_eq!(asked.load(Ordering::SeqCst), 0, "it was sent twice");
    charged(&mut proxy, "a", "reset", 1.0);
}

fn charged(proxy: &mut Proxy, endpoint: &str, class: &str, times: f64) {
    let series = format!(
        "foreshade_endpoint_attempts_total{{cluster=\"db\",endpoint=\"{endpoint}\",class=\"{class}\"}}"
    );
    proxy.wait_until("charged", |p| p.metric(&series) == Some(times));
}

#[test]
fn a_stream_that_breaks_in_the_middle_is_broken_for_the_user_too() {
    let breaks = serving(|mut stream| {
        let _ = stream.read(&mut [0]);
        stream.write_all(b"half").unwrap();
        let _ = stream.read(&mut [0]);
        reset(stream);
    });
    let mut proxy = proxy("", &one(breaks));
    let mut user = connect(proxy.users);
    user.write_all(b"1").unwrap();
    assert_eq!(read_until(&mut user, "half"), "half");
    user.write_all(b"2").unwrap();
    assert!(is_broken(&mut user));
    charged(&mut proxy, "a", "ok", 1.0);
    charged(&mut proxy, "a", "reset", 1.0);
}

#[test]
fn a_user_who_breaks_off_is_not_held_against_the_endpoint() {
    let (seen, sees) = mpsc::channel();
    let endpoint = serving(move |mut stream| {
        seen.send(stream.read(&mut [0]).is_ok()).unwrap();
        seen.send(is_broken(&mut stream)).unwrap();
    });
    let mut proxy = proxy("", &one(endpoint));
    let mut user = connect(proxy.users);
    user.write_all(b"1").unwrap();
    assert!(sees.recv().unwrap(), "it has been carried");
    reset(user);
    assert!(sees.recv().unwrap(), "the endpoint is told");
    charged(&mut proxy, "a", "cancelled", 1.0);
}

#[test]
fn who_rests_for_too_long_or_lives_for_too_long_is_let_go() {
    for (limit, reason) in [("idleTimeout: 2s", "idle"), ("lifetime: 3s", "lifetime")] {
        let endpoint = echo();
        let mut proxy = Proxy::spawn(|place| {
            let log = format!("accessLog: {{ to: {}/log }}\n", place.folder.display());
            log + &config(place.users, place.admin, limit, &one(endpoint))
        });
        proxy.wait_until("ready", |p| TcpStream::connect(p.users).is_ok());
        let mut user = connect(proxy.users);
        user.write_all(b"x").unwrap();
        assert_eq!(read_until(&mut user, "x"), "x");
        assert!(is_broken(&mut user), "{limit}");
        let log = proxy.folder.join("log");
        let line = |p: &Proxy| {
            let text = std::fs::read_to_string(p.folder.join("log")).unwrap_or_default();
            let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
            lines.into_iter().find(|line| line["reason"] == reason)
        };
        proxy.wait_until("logged", |p| line(p).is_some());
        let line = line(&proxy).unwrap();
        for (key, value) in [
            ("client", Value::from("127.0.0.1")),
            ("protocol", "TCP".into()),
            ("cluster", "db".into()),
            ("endpoint", "a".into()),
            ("side", "primary".into()),
            ("bytes_in", 1.into()),
            ("bytes_out", 1.into()),
        ] {
            assert_eq!(line[key], value, "{key} in {line} of {}", log.display());
        }
        assert_eq!(line.get("status"), None, "nobody was told one: {line}");
    }
}

#[test]
fn beyond_its_limits_a_listener_lets_nobody_in() {
    let proxy = proxy("limits: { connections: 2 }", &one(echo()));
    let mut users: Vec<_> = (0..2).map(|_| connect(proxy.users)).collect();
    for user in &mut users {
        user.write_all(b"x").unwrap();
        assert_eq!(read_until(user, "x"), "x");
    }
    let mut third = connect(proxy.users);
    assert!(is_broken(&mut third));
    users.pop();
    let mut proxy = proxy;
    proxy.wait_until("open again", |p| {
        let mut another = connect(p.users);
        let _ = another.write_all(b"y");
        another.read(&mut [0]).is_ok_and(|n| n == 1)
    });
    proxy.wait_until("counted", |p| p.refused("connections_too_many") >= 1);
}

#[test]
fn a_drain_carries_on_until_the_last_byte() {
    let mut proxy = proxy("", &one(echo()));
    let mut user = connect(proxy.users);
    user.write_all(b"before.").unwrap();
    read_until(&mut user, ".");
    proxy.terminate();
    proxy.wait_until("closed to new users", |p| TcpStream::connect(p.users).is_err());
    user.write_all(b"after.").unwrap();
    assert_eq!(read_until(&mut user, "."), "after.");
    user.shutdown(Shutdown::Write).unwrap();
    assert_eq!(user.read(&mut [0]).unwrap(), 0);
    assert!(proxy.wait().success());
}

#[test]
fn the_end_of_the_grace_time_is_the_end() {
    let endpoint = echo();
    let mut proxy = Proxy::start_with(|users, admin| {
        config(users, admin, "", &one(endpoint)).replace("grace: 20s", "grace: 200ms")
    });
    let mut user = connect(proxy.users);
    user.write_all(b"x").unwrap();
    read_until(&mut user, "x");
    proxy.terminate();
    assert!(is_broken(&mut user));
    assert!(proxy.wait().success());
}

#[test]
fn a_reload_leaves_connections_where_they_are() {
    let (old, new) = (echo(), echo());
    let proxy = proxy("", &one(old));
    let mut user = connect(proxy.users);
    let mut says = |word: &str| {
        user.write_all(word.as_bytes()).unwrap();
        assert_eq!(read_until(&mut user, word), word);
    };
    says("first");
    // Another endpoint, and then no such listener at all.
    let (status, answer) = proxy.reload(&config(proxy.users, proxy.admin, "idleTimeout: 2h", &one(new)));
    assert_eq!(status, 200, "{answer}");
    says("second");
    let elsewhere = free_address();
    let (status, answer) = proxy.reload(&config(elsewhere, proxy.admin, "", &one(new)));
    assert_eq!(status, 200, "{answer}");
    says("third");
    assert!(TcpStream::connect(proxy.users).is_err());
    let mut another = connect(elsewhere);
    another.write_all(b"x").unwrap();
    assert_eq!(read_until(&mut another, "x"), "x");
}

#[test]
fn an_address_can_change_from_requests_to_bytes() {
    let answers = serving(|mut stream| {
        read_until(&mut stream, "\n");
        stream.write_all(b"bytes").unwrap();
    });
    let mut proxy = Proxy::start(&format!(
        "clusters:\n  - name: shop\n    health: off\n    {}\n",
        one(answers)
    ));
    let (status, answer) = proxy.reload(&config(proxy.users, proxy.admin, "", &one(answers)));
    assert_eq!(status, 200, "{answer}");
    proxy.wait_until("carrying bytes", |p| {
        let mut user = connect(p.users);
        let _ = user.write_all(b"no request\n");
        let mut text = String::new();
        let _ = user.read_to_string(&mut text);
        text == "bytes"
    });
}

#[test]
fn connections_that_rest_hold_no_buffers() {
    const COUNT: usize = 400;
    let proxy = proxy("", &one(echo()));
    let open = |count: usize| -> Vec<TcpStream> {
        (0..count)
            .map(|_| {
                let mut user = connect(proxy.users);
                user.write_all(b"x").unwrap();
                read_until(&mut user, "x");
                user
            })
            .collect()
    };
    // What the first ones make it allocate once.
    let warm = open(50);
    let before = proxy.memory("VmRSS");
    let more = open(COUNT);
    let each = proxy.memory("VmRSS").saturating_sub(before) / COUNT as u64;
    // A buffer would be 32 KiB, in each direction.
    assert!(each < 16 * 1024, "{each} bytes each");
    drop((warm, more));
}
