//! Datagrams of any protocol are carried as they are, each answer to who has asked; and an endpoint that refuses or falls
//! silent is left before users notice.
// Concept: endpoint-failover
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed; what is skipped has to be said"
)]

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use foreshade_bench::client;
use foreshade_tests::datagrams::{Endpoint, ask, ask_until_answered, hear, user, user_at};
use foreshade_tests::proxy::{PATIENCE, Proxy, free_address, preamble};
use foreshade_tests::wire::{Scripted, exchange};
use serde_json::Value;

/// A proxy with one listener of UDP, with keys of the test's own, and the cluster `dns`.
fn proxy(listener: &str, cluster: &str) -> Proxy {
    Proxy::start_with(|users, admin| config(users, admin, listener, cluster))
}

fn config(users: SocketAddr, admin: SocketAddr, listener: &str, cluster: &str) -> String {
    format!(
        "{}listeners:\n  - {{ name: dns, address: \"{users}\", protocol: udp, cluster: dns, {listener} }}\nclusters:\n  - {{ \
         name: dns, {cluster} }}\n",
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

fn attempts(proxy: &Proxy, endpoint: &str, class: &str) -> u64 {
    proxy.count(&format!(
        "foreshade_endpoint_attempts_total{{cluster=\"dns\",endpoint=\"{endpoint}\",class=\"{class}\"}}"
    ))
}

fn open(proxy: &Proxy) -> u64 {
    proxy.count("foreshade_connections_open")
}

#[test]
fn datagrams_of_every_length_come_through_whole_both_ways() {
    let endpoint = Endpoint::echo();
    let mut proxy = proxy("", &one(endpoint.address));
    let user = user(proxy.users);
    let mut room = vec![0; 65_536];
    let (mut bytes, mut count) = (0, 0);
    for length in [1, 0, 512, 1_472, 1_473, 9_000, 65_507] {
        let sent: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
        user.send(&sent).unwrap();
        let came = user.recv(&mut room).unwrap();
        assert!(room[..came] == sent, "{length} bytes");
        (bytes, count) = (bytes + length, count + 1);
    }
    for direction in ["to_endpoint", "to_client"] {
        let series =
            |of: &str| format!("foreshade_carried_{of}_total{{cluster=\"dns\",direction=\"{direction}\"}}");
        proxy.wait_until("done counting", |p| {
            (p.count(&series("datagrams")), p.count(&series("bytes"))) == (count, bytes)
        });
    }
    proxy.wait_until("done charging", |p| attempts(p, "a", "ok") == count);
    assert_eq!(open(&proxy), 1, "one session");
}

#[test]
fn two_hundred_clients_get_their_own_answers_in_order() {
    const ROUNDS: usize = 10;
    let endpoint = Endpoint::echo();
    let proxy = proxy("", &one(endpoint.address));
    let users: Vec<_> = (0..200).map(|_| user(proxy.users)).collect();
    for round in 0..ROUNDS {
        // Few at a time, so that no buffer on the way is full: what is lost there is lost by UDP.
        for (index, some) in users.chunks(20).enumerate() {
            for (place, user) in some.iter().enumerate() {
                for part in 0..3 {
                    user.send(format!("{round}/{index}/{place}/{part}").as_bytes())
                        .unwrap();
                }
            }
            for (place, user) in some.iter().enumerate() {
                for part in 0..3 {
                    assert_eq!(hear(user), format!("{round}/{index}/{place}/{part}"));
                }
            }
        }
    }
    assert_eq!(proxy.metric("foreshade_connections_open"), Some(200.0));
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let endpoint = Endpoint::echo();
    let proxy = Proxy::start_with(|users, admin| {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, users.port()));
        config(any, admin, "", &one(endpoint.address))
    });
    let mut open = 0.0;
    for last in 1..5 {
        // A user who is connected hears nobody else.
        let user = user((Ipv4Addr::new(127, 0, 0, last), proxy.users.port()).into());
        assert_eq!(ask(&user, "here?"), "here?");
        open += 1.0;
    }
    assert_eq!(proxy.metric("foreshade_connections_open"), Some(open));
}

#[test]
fn a_refused_first_datagram_is_answered_by_the_shadow_and_none_is_lost() {
    let shadow = Endpoint::named("s");
    let mut proxy = proxy("", &pair(free_address(), shadow.address));
    for n in 0..30 {
        assert_eq!(ask(&user(proxy.users), &n.to_string()), format!("s{n}"));
    }
    proxy.wait_until("counted", |p| {
        p.count("foreshade_failovers_total{cluster=\"dns\",reason=\"refused\"}") >= 1
            && attempts(p, "a", "refused") >= 1
    });
    assert_eq!(shadow.heard().len(), 30, "one each");
}

#[test]
fn a_session_whose_endpoint_dies_goes_on_at_the_shadow_and_loses_what_was_on_its_way() {
    let (primary, shadow) = (Endpoint::named("a"), Endpoint::named("s"));
    let proxy = proxy("", &pair(primary.address, shadow.address));
    let user = user(proxy.users);
    for n in 0..5 {
        assert_eq!(ask(&user, &n.to_string()), format!("a{n}"));
    }
    drop(primary);
    let (answer, sent) = ask_until_answered(&user, "5");
    assert_eq!(answer, "s5");
    // The first one is refused, and with the next one the session moves.
    assert_eq!(sent, 2, "datagrams that it took");
    assert_eq!(ask(&user, "6"), "s6");
    assert_eq!(shadow.heard(), [b"5", b"6"], "nothing is sent twice");
}

/// Users one after another, each at an address of his own, which is how he is recognised. Those who are not answered ask
/// again.
fn strangers(number: u8, proxy: SocketAddr, stop: &AtomicBool) {
    let mut round = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let last = u8::try_from(round % 250).unwrap() + 1;
        let user = user_at(Ipv4Addr::new(127, 1, number, last), proxy);
        for _ in 0..2 {
            ask_until_answered(&user, "ping");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_endpoint_that_falls_silent_is_left_and_whoever_waited_for_it_is_answered_elsewhere() {
    let silent = Arc::new(AtomicBool::new(false));
    let hears = silent.clone();
    let primary = Endpoint::start(move |bytes| match hears.load(Ordering::Relaxed) {
        true => Vec::new(),
        false => vec![bytes.to_vec()],
    });
    let shadow = Endpoint::named("s");
    let mut proxy = proxy("", &pair(primary.address, shadow.address));
    let long_lived = user(proxy.users);
    assert_eq!(ask(&long_lived, "hello"), "hello");
    let stop = Arc::new(AtomicBool::new(false));
    let users: Vec<_> = (0..8)
        .map(|number| {
            let (stop, address) = (stop.clone(), proxy.users);
            std::thread::spawn(move || strangers(number, address, &stop))
        })
        .collect();
    proxy.wait_until("known", |p| {
        p.endpoint("a")["standing"] == "known" && attempts(p, "a", "ok") > 300
    });
    assert_eq!(attempts(&proxy, "s", "ok"), 0, "nobody has moved yet");
    silent.store(true, Ordering::Relaxed);
    proxy.wait_until("left", |p| {
        p.endpoint("a")["share"].as_f64().is_some_and(|share| share > 0.2) && attempts(p, "s", "ok") > 20
    });
    // He does not come anew, and moves because he was let down.
    let (answer, _) = ask_until_answered(&long_lived, "there?");
    assert_eq!(answer, "sthere?");
    stop.store(true, Ordering::Relaxed);
    users.into_iter().for_each(|user| user.join().unwrap());
}

#[test]
fn a_server_of_logs_that_never_answers_is_well_and_one_that_is_gone_is_left() {
    let (primary, shadow) = (Endpoint::start(|_| Vec::new()), Endpoint::start(|_| Vec::new()));
    let mut proxy = proxy("responses: 0", &pair(primary.address, shadow.address));
    let user = user(proxy.users);
    let log = |n: u64| {
        for _ in 0..n {
            user.send(b"<13>line").unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    log(10);
    proxy.wait_until("heard", |p| attempts(p, "a", "ok") == 10);
    assert_eq!(attempts(&proxy, "a", "timeout"), 0);
    drop(primary);
    proxy.wait_until("left", |p| {
        log(5);
        attempts(p, "a", "refused") > 0 && !shadow.heard().is_empty()
    });
}

#[test]
fn sessions_end_when_they_have_rested_and_are_told_of() {
    let endpoint = Endpoint::echo();
    let mut proxy = Proxy::spawn(|place| {
        let log = format!("accessLog: {{ to: {}/log }}\n", place.folder.display());
        log + &config(
            place.users,
            place.admin,
            "idleTimeout: 500ms",
            &one(endpoint.address),
        )
    });
    proxy.wait_until("ready", |p| {
        client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(s, _)| s == 200)
    });
    let user = user(proxy.users);
    assert_eq!(ask(&user, "four"), "four");
    proxy.wait_until("at rest", |p| open(p) == 0);
    let lines = |p: &Proxy| -> Vec<Value> {
        let text = std::fs::read_to_string(p.folder.join("log")).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    proxy.wait_until("logged", |p| !lines(p).is_empty());
    let line = lines(&proxy).remove(0);
    for (key, value) in [
        ("client", Value::from("127.0.0.1")),
        ("protocol", "UDP".into()),
        ("reason", "ok".into()),
        ("cluster", "dns".into()),
        ("endpoint", "a".into()),
        ("side", "primary".into()),
        ("bytes_in", 4.into()),
        ("bytes_out", 4.into()),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    assert_eq!(line.get("status"), None, "nobody was told one: {line}");
    // From the same port it is another session.
    assert_eq!(ask(&user, "five!"), "five!");
    assert_eq!(proxy.count("foreshade_connections_accepted_total"), 2);
}

#[test]
fn where_the_number_of_answers_is_said_a_session_ends_with_the_last_one() {
    let endpoint = Endpoint::start(|bytes| vec![bytes.to_vec(), b"and more".to_vec()]);
    let mut proxy = proxy("responses: 2, limits: { connections: 3 }", &one(endpoint.address));
    for n in 0..20 {
        let user = user(proxy.users);
        assert_eq!(ask(&user, &n.to_string()), n.to_string());
        assert_eq!(hear(&user), "and more");
    }
    proxy.wait_until("done", |p| open(p) == 0 && attempts(p, "a", "ok") == 20);
    assert_eq!(proxy.refused("connections_too_many"), 0);
}

#[test]
fn an_answer_that_is_late_is_charged_and_comes_all_the_same() {
    let (tell, told) = mpsc::channel::<()>();
    let endpoint = Endpoint::start(move |bytes| {
        if bytes == b"slow" {
            // The test may be over.
            let _ = told.recv_timeout(PATIENCE);
        }
        vec![bytes.to_vec()]
    });
    let mut proxy = proxy("responses: 1", &one(endpoint.address));
    let quick = user(proxy.users);
    proxy.wait_until("known", |p| {
        (0..50).for_each(|_| drop(ask(&quick, "quick")));
        p.endpoint("a")["standing"] == "known"
    });
    let slow = user(proxy.users);
    let before = attempts(&proxy, "a", "timeout");
    slow.send(b"slow").unwrap();
    proxy.wait_until("late", |p| attempts(p, "a", "timeout") > before);
    tell.send(()).unwrap();
    assert_eq!(hear(&slow), "slow");
}

#[test]
fn beyond_its_limits_a_listener_begins_no_session_and_those_that_there_are_go_on() {
    let endpoint = Endpoint::echo();
    for (limits, reason) in [
        ("connections: 2", "connections_too_many"),
        (
            "connectionsPerClient: 2, exemptPrivate: false",
            "client_connections_too_many",
        ),
    ] {
        let listener = format!("idleTimeout: 2s, limits: {{ {limits} }}");
        let mut proxy = proxy(&listener, &one(endpoint.address));
        let users = [user(proxy.users), user(proxy.users)];
        for user in &users {
            assert_eq!(ask(user, "x"), "x");
        }
        let third = user(proxy.users);
        third.send(b"y").unwrap();
        proxy.wait_until("counted", |p| p.refused(reason) == 1);
        for user in &users {
            assert_eq!(ask(user, "z"), "z");
        }
        // Once the others have rested for long enough there is room.
        assert_eq!(ask_until_answered(&third, "y").0, "y");
    }
}

#[test]
fn who_asks_for_little_gets_no_more_than_so_many_times_as_much() {
    let endpoint = Endpoint::start(|_| vec![vec![b'a'; 100], vec![b'b'; 301]]);
    let mut proxy = proxy("amplification: 20", &one(endpoint.address));
    let user = user(proxy.users);
    assert_eq!(ask(&user, "0123456789"), "a".repeat(100));
    proxy.wait_until("counted", |p| p.refused("answer_amplified") == 1);
    // As much again, and what was left.
    assert_eq!(ask(&user, "0123456789"), "a".repeat(100));
    proxy.wait_until("counted", |p| p.refused("answer_amplified") == 2);
    let (mut more, mut room) = (0, [0; 400]);
    user.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    while let Ok(length) = user.recv(&mut room) {
        more += length;
    }
    assert_eq!(more, 0);
}

/// Whoever writes the proxy's own address into his datagram would have it talk to itself for ever.
#[test]
fn a_datagram_that_claims_to_come_from_the_proxy_goes_nowhere() {
    let (endpoint, other) = (Endpoint::echo(), free_address());
    let mut proxy = Proxy::start_with(|users, admin| {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let other = format!(
            "  - {{ name: other, address: \"{}\", protocol: udp, cluster: dns }}\nclusters:",
            any(other.port())
        );
        config(any(users.port()), admin, "", &one(endpoint.address)).replace("clusters:", &other)
    });
    for (count, port) in [(1, proxy.users.port()), (2, other.port())] {
        // The port is the proxy's; the option lets this user share it.
        let forger = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        forger.set_reuse_port(true).unwrap();
        let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), port));
        forger.bind(&own.into()).unwrap();
        UdpSocket::from(forger).send_to(b"echo", proxy.users).unwrap();
        proxy.wait_until("counted", |p| p.refused("datagram_looped") == count);
    }
    assert_eq!(endpoint.heard().len(), 0);
    assert_eq!(ask(&user(proxy.users), "x"), "x");
}

#[test]
fn requests_on_the_same_worker_are_served_in_the_middle_of_a_flood() {
    let (endpoint, web) = (Endpoint::start(|_| Vec::new()), Scripted::saying("well"));
    let requests = free_address();
    let proxy = Proxy::start_with(|users, admin| {
        let listeners = format!(
            "listeners:\n  - {{ name: web, address: \"{requests}\", routes: [{{ cluster: web }}] }}\n"
        );
        config(users, admin, "responses: 0", &one(endpoint.address))
            .replace("listeners:\n", &listeners)
            .replace("workers: 2", "workers: 1")
            + &format!("  - {{ name: web, health: off, {} }}\n", one(web.address))
    });
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, to) = (stop.clone(), proxy.users);
    let flood = std::thread::spawn(move || {
        let (user, mut sent) = (user(to), 0_u64);
        while !stopped.load(Ordering::Relaxed) {
            sent += u64::from(user.send(&[7; 64]).is_ok());
        }
        sent
    });
    for _ in 0..50 {
        let answer = exchange(
            requests,
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        assert!(answer.ends_with("well"), "{answer}");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(flood.join().unwrap() > 50);
}

#[test]
fn a_reload_brings_and_takes_a_listener_and_one_of_tcp_may_have_the_same_port() {
    let (endpoint, web) = (Endpoint::echo(), Scripted::saying("well"));
    let mut proxy = Proxy::start(&format!(
        "clusters:\n  - {{ name: shop, health: off, {} }}\n",
        one(web.address)
    ));
    let (users, admin) = (proxy.users, proxy.admin);
    let asks_tcp = || exchange(users, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(asks_tcp().ends_with("well"));
    let both = config(users, admin, "", &one(endpoint.address)).replace(
        "listeners:\n",
        &format!("listeners:\n  - {{ name: web, address: \"{users}\", routes: [{{ cluster: shop }}] }}\n"),
    ) + &format!("  - {{ name: shop, health: off, {} }}\n", one(web.address));
    for round in 0..3 {
        let (status, answer) = proxy.reload(&both);
        assert_eq!(status, 200, "{answer}");
        let user = user(users);
        assert_eq!(ask(&user, "x"), "x", "{round}");
        assert!(asks_tcp().ends_with("well"), "{round}");
        let without = both.replace(
            &both[both.find("  - { name: dns").unwrap()..both.find("clusters:").unwrap()],
            "",
        );
        let without = without.replace(&format!("  - {{ name: dns, {} }}\n", one(endpoint.address)), "");
        let (status, answer) = proxy.reload(&without);
        assert_eq!(status, 200, "{answer}");
        proxy.wait_until("gone", |p| UdpSocket::bind(p.users).is_ok());
        assert!(asks_tcp().ends_with("well"), "{round}");
    }
}

#[test]
fn a_session_whose_endpoint_a_reload_takes_goes_on_at_another() {
    let (old, new) = (Endpoint::named("old "), Endpoint::named("new "));
    let proxy = proxy("", &one(old.address));
    let user = user(proxy.users);
    assert_eq!(ask(&user, "1"), "old 1");
    let (status, answer) = proxy.reload(&config(
        proxy.users,
        proxy.admin,
        "idleTimeout: 90s",
        &one(new.address),
    ));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(ask(&user, "2"), "new 2");
}

#[test]
fn an_answer_that_is_owed_comes_before_the_proxy_ends() {
    let (tell, told) = mpsc::channel::<()>();
    let endpoint = Endpoint::start(move |bytes| {
        let _ = told.recv_timeout(PATIENCE);
        vec![bytes.to_vec()]
    });
    let mut proxy = proxy("responses: 1", &one(endpoint.address));
    let user = user(proxy.users);
    user.send(b"late").unwrap();
    proxy.wait_until("carried", |_| !endpoint.heard().is_empty());
    proxy.terminate();
    proxy.wait_until("draining", |p| {
        client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(s, _)| s == 503)
    });
    tell.send(()).unwrap();
    assert_eq!(hear(&user), "late");
    assert!(proxy.wait().success());
}

#[test]
fn an_upgrade_hands_the_sockets_over_and_no_answer_is_lost() {
    let (tell, told) = mpsc::channel::<()>();
    let slow = Endpoint::start(move |bytes| {
        if bytes == b"late" {
            let _ = told.recv_timeout(PATIENCE);
        }
        vec![bytes.to_vec()]
    });
    let file = |place: (SocketAddr, SocketAddr, &str), workers: usize| {
        let (users, admin, folder) = place;
        config(users, admin, "responses: 1", &one(slow.address)).replace(
            "workers: 2",
            &format!("workers: {workers}\nupgrade: {{ socket: {folder}/upgrade.sock }}"),
        )
    };
    let mut proxy = Proxy::spawn(|p| file((p.users, p.admin, &p.folder.display().to_string()), 2));
    proxy.wait_until("ready", |p| {
        client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(s, _)| s == 200)
    });
    let (users, admin, folder) = (proxy.users, proxy.admin, proxy.folder.display().to_string());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let asking = std::thread::spawn(move || {
        let mut asked = 0;
        while !stopped.load(Ordering::Relaxed) {
            asked += 1;
            assert_eq!(ask(&user(users), &asked.to_string()), asked.to_string());
        }
        asked
    });
    // As many as before, fewer, more.
    for workers in [2, 1, 3] {
        proxy.rewrite(&file((users, admin, &folder), workers));
        proxy.upgrade().unwrap();
        assert!(UdpSocket::bind(users).is_err(), "somebody listens all the time");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(asking.join().unwrap() > 0);
    let late = user(users);
    late.send(b"late").unwrap();
    proxy.wait_until("carried", |_| slow.heard().contains(&b"late".to_vec()));
    proxy.upgrade().unwrap();
    tell.send(()).unwrap();
    assert_eq!(hear(&late), "late", "by the process that had carried it");
    assert!(proxy.wait().success(), "the first one has left");
}

#[test]
fn a_probe_by_datagram_tells_who_is_there() {
    let well = Endpoint::start(|bytes| match bytes {
        [0, b'?'] => vec![b"pong and more".to_vec()],
        other => vec![[b"s", other].concat()],
    });
    let wrong = Endpoint::start(|bytes| match bytes {
        [0, b'?'] => vec![b"ping".to_vec()],
        other => vec![[b"a", other].concat()],
    });
    let probes = "health: { udp: { send: \"0x003f\", expect: pong }, interval: 200ms, timeout: 200ms }";
    let cluster = format!("{probes}, {}", pair(wrong.address, well.address));
    let mut proxy = proxy("", &cluster);
    proxy.wait_until("found out", |p| ask(&user(p.users), "1") == "s1");
    assert_eq!(ask(&user(proxy.users), "2"), "s2");
}

/// Kills what it has started.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server of DNS that knows one name; `None` where there is none on this machine.
fn dnsmasq(address: SocketAddr, answer: &str) -> Option<Started> {
    let started = Command::new("dnsmasq")
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ])
        .args(["--listen-address=127.0.0.1", "--no-daemon", "--pid-file="])
        .arg(format!("--port={}", address.port()))
        .arg(format!("--host-record=shop.example,{answer}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    started.map(Started).ok()
}

fn dig(server: SocketAddr, options: &[&str]) -> Option<String> {
    let asked = Command::new("dig")
        .args([
            "@127.0.0.1",
            "-p",
            &server.port().to_string(),
            "+short",
            "+tries=5",
            "+time=1",
        ])
        .args(options)
        .arg("shop.example")
        .output();
    let answer = asked.ok()?;
    Some(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}

#[test]
fn real_dns_is_served_over_udp_and_tcp_and_survives_its_server() {
    let (primary, shadow) = (free_address(), free_address());
    let (Some(server), Some(_spare)) = (dnsmasq(primary, "192.0.2.1"), dnsmasq(shadow, "192.0.2.2")) else {
        return eprintln!("SKIPPED: real dns: no dnsmasq here; apt-get install dnsmasq-base bind9-dnsutils");
    };
    if dig(primary, &[]).is_none() {
        return eprintln!("SKIPPED: real dns: no dig here; apt-get install dnsmasq-base bind9-dnsutils");
    }
    let proxy = Proxy::start_with(|users, admin| {
        config(users, admin, "responses: 1", &pair(primary, shadow)).replace(
            "listeners:\n",
            &format!("listeners:\n  - {{ name: long, address: \"{users}\", protocol: tcp, cluster: dns }}\n"),
        )
    });
    let mut proxy = proxy;
    proxy.wait_until("served", |p| dig(p.users, &[]).as_deref() == Some("192.0.2.1"));
    assert_eq!(dig(proxy.users, &["+tcp"]).as_deref(), Some("192.0.2.1"));
    drop(server);
    assert_eq!(dig(proxy.users, &[]).as_deref(), Some("192.0.2.2"));
    proxy.wait_until("served over tcp", |p| {
        dig(p.users, &["+tcp"]).as_deref() == Some("192.0.2.2")
    });
    let closed = TcpStream::connect(primary).and_then(|mut stream| stream.read(&mut [0]));
    assert!(closed.is_err(), "it is gone");
}
