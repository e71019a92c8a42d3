//! A new process takes the place of the old one, and nobody who uses the proxy notices; where it cannot, nothing has
//! changed.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use foreshade_bench::client;
use foreshade_bench::farm::fault::Fault;
use foreshade_bench::farm::{Farm, FarmOptions};
use foreshade_bench::load::{Load, LoadOptions};
use foreshade_proxy::upgrade::line::Line;
use foreshade_proxy::upgrade::words::{Answer, Hello, Lent, PROTOCOL, Said};
use foreshade_tests::proxy::{PATIENCE, Place, Proxy, binary, free_address};
use foreshade_tests::strangers::Strangers;
use foreshade_tests::wire::{Scripted, connect, exchange, read_until};

/// A file with one listener and one cluster, `shop`, whose members are YAML; `more` are keys of the file.
fn file(place: &Place, workers: usize, members: &str, more: &str) -> String {
    let (users, admin, folder) = (place.users, place.admin, place.folder.display());
    format!(
        "apiVersion: foreshade/v1\nadmin: {{ address: \"{admin}\" }}\nworkers: {workers}\ngrace: 20s\n\
         upgrade: {{ socket: {folder}/upgrade.sock }}\n{more}\
         listeners: [{{ name: web, address: \"{users}\", http2: {{ enabled: true }}, routes: [{{ cluster: shop }}] }}]\n\
         clusters: [{{ name: shop, health: off, cohort: {{ header: x-user }}, {members} }}]\n"
    )
}

fn only(endpoint: SocketAddr) -> String {
    format!("endpoints: [{{ name: a, address: \"{endpoint}\" }}]")
}

/// Where a proxy is, to write another file for it.
fn place(proxy: &Proxy) -> Place {
    Place {
        users: proxy.users,
        admin: proxy.admin,
        folder: proxy.folder.clone(),
    }
}

fn started(workers: usize, members: &str, more: &str) -> Proxy {
    let mut proxy = Proxy::spawn(|place| file(place, workers, members, more));
    proxy.wait_until("ready", is_ready);
    proxy
}

fn is_ready(proxy: &Proxy) -> bool {
    client::request(proxy.admin, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200)
}

fn socket(proxy: &Proxy) -> PathBuf {
    proxy.folder.join("upgrade.sock")
}

fn upgrades(proxy: &Proxy, result: &str) -> Option<f64> {
    proxy.metric(&format!("foreshade_upgrades_total{{result=\"{result}\"}}"))
}

fn ask(users: SocketAddr) -> String {
    exchange(users, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

// What `scripts/upgrades` plays at length.
#[test]
fn reloads_and_upgrades_under_load_lose_nothing_whatever_the_number_of_workers() {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a", "b"])).unwrap();
    let members = |weight: u32| {
        let [a, b] = farm.addresses() else { panic!("two") };
        format!(
            "endpoints: [{{ name: a, address: \"{a}\" }}, {{ name: b, address: \"{b}\", weight: {weight} }}]"
        )
    };
    let mut proxy = started(2, &members(1), "");
    let place = place(&proxy);
    let load = Load::start(LoadOptions::steady(proxy.users, 200.0, Duration::from_secs(120))).unwrap();
    let strangers = Strangers::start(proxy.users, 4, "/");
    let mut workers = 2;
    for round in 0..10 {
        strangers.more(20);
        // As many as before, fewer, more.
        if let Some(next) = [(2, 1), (5, 3), (8, 2)]
            .iter()
            .find_map(|(at, n)| (*at == round).then_some(*n))
        {
            workers = next;
            proxy.rewrite(&file(&place, workers, &members(round + 1), ""));
            proxy.upgrade().unwrap();
        }
        let (status, answer) = proxy.reload(&file(&place, workers, &members(round + 2), ""));
        assert_eq!((status, &answer["result"]), (200, &"applied".into()), "{answer}");
    }
    strangers.more(50);
    load.stop();
    let (asked, failed) = strangers.finish();
    assert!(failed.is_empty(), "{} of {asked}: {failed:?}", failed.len());
    let records = load.finish().records;
    let failed: Vec<_> = records.iter().filter(|r| r.outcome.failed()).collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:?}",
        failed.len(),
        records.len()
    );
    assert!(!records.is_empty());
    assert_eq!(
        (upgrades(&proxy, "done"), upgrades(&proxy, "failed")),
        (Some(3.0), Some(0.0))
    );
    assert!(proxy.wait().success(), "the first one has left");
}

#[test]
fn what_has_begun_is_finished_and_who_comes_back_on_his_connection_is_told_that_it_was_the_last_time() {
    let (endpoint, finish) = Scripted::when_told("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
    let mut proxy = started(1, &only(endpoint.address), "");
    let users = proxy.users;
    let kept = |finish: &mpsc::Sender<()>| {
        let mut user = connect(users);
        user.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        finish.send(()).unwrap();
        let answer = read_until(&mut user, "done");
        assert!(
            !answer.to_ascii_lowercase().contains("connection: close"),
            "{answer}"
        );
        user
    };
    let (mut idle, mut back) = (kept(&finish), kept(&finish));
    while endpoint.head_so_far().is_some() {}
    let mut user = connect(proxy.users);
    user.write_all(b"GET /begun HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(endpoint.next_head().unwrap().contains("/begun"));
    proxy.upgrade().unwrap();
    for (user, path) in [(&mut user, ""), (&mut back, "/again")] {
        if !path.is_empty() {
            write!(user, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        }
        finish.send(()).unwrap();
        let answer = read_until(user, "done");
        assert!(
            answer.to_ascii_lowercase().contains("connection: close"),
            "{answer}"
        );
        assert_eq!(user.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(
        idle.read(&mut [0]).unwrap(),
        0,
        "whoever asks for nothing is let go after a while"
    );
    assert!(proxy.wait().success());
    finish.send(()).unwrap();
    assert!(ask(proxy.users).starts_with("HTTP/1.1 200"));
}

#[test]
fn connections_that_are_not_read_go_on_after_an_upgrade() {
    let echo = foreshade_tests::wire::serving(|mut stream| {
        let mut from = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut from, &mut stream);
    });
    let tcp = free_address();
    let mut proxy = Proxy::spawn(|place| {
        let (admin, folder) = (place.admin, place.folder.display());
        format!(
            "apiVersion: foreshade/v1\nadmin: {{ address: \"{admin}\" }}\nworkers: 2\ngrace: 20s\n\
             upgrade: {{ socket: {folder}/upgrade.sock }}\n\
             listeners: [{{ name: db, address: \"{tcp}\", protocol: tcp, cluster: db }}]\n\
             clusters: [{{ name: db, health: off, endpoints: [{{ name: a, address: \"{echo}\" }}] }}]\n"
        )
    });
    proxy.wait_until("ready", is_ready);
    let mut carried = connect(tcp);
    let say = |stream: &mut TcpStream, what: &str| {
        stream.write_all(what.as_bytes()).unwrap();
        assert_eq!(read_until(stream, what), what);
    };
    say(&mut carried, "before");
    proxy.upgrade().unwrap();
    say(&mut carried, "after");
    say(&mut connect(tcp), "new");
    say(&mut carried, "still");
    drop(carried);
    assert!(
        proxy.wait().success(),
        "the old process leaves with its last connection"
    );
}

#[test]
fn http2_is_told_to_go_elsewhere_and_its_requests_under_way_are_finished() {
    let (endpoint, finish) =
        Scripted::when_told("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone");
    let mut proxy = started(2, &only(endpoint.address), "");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.users).await.unwrap();
        let (mut send, connection) = h2::client::handshake(tcp).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = http::Request::get("http://shop.example/").body(()).unwrap();
        let (answer, _) = send.send_request(request, true).unwrap();
        tokio::task::block_in_place(|| {
            endpoint.next_head().unwrap();
            proxy.upgrade().unwrap();
        });
        finish.send(()).unwrap();
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.body_mut().data().await.unwrap().unwrap();
        assert_eq!(&body[..], b"done");
        // GOAWAY without an error ends it.
        driver.await.unwrap().unwrap();
    });
    assert!(proxy.wait().success());
}

#[test]
fn a_successor_that_cannot_serve_changes_nothing_and_the_next_one_takes_over() {
    let a = Scripted::saying("a");
    let mut proxy = started(2, &only(a.address), "");
    let place = place(&proxy);
    let good = file(&place, 2, &only(a.address), "");
    let strange = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = strange.local_addr().unwrap();
    let strangers = Strangers::start(proxy.users, 4, "/");

    proxy.rewrite(&good.replace("cluster: shop", "cluster: shup"));
    let why = proxy.upgrade().unwrap_err();
    assert!(why.contains("unknown cluster \"shup\""), "{why}");
    let second =
        format!("listeners: [{{ name: taken, address: \"{taken}\", routes: [{{ cluster: shop }}] }}, ");
    proxy.rewrite(&good.replace("listeners: [", &second));
    let why = proxy.upgrade().unwrap_err();
    assert!(why.contains("its log says why"), "{why}");
    assert_eq!(
        (upgrades(&proxy, "done"), upgrades(&proxy, "failed")),
        (Some(0.0), Some(1.0))
    );
    assert!(socket(&proxy).exists(), "it is the old one's still");

    strangers.more(20);
    proxy.rewrite(&good);
    proxy.upgrade().unwrap();
    strangers.more(20);
    let (_, failed) = strangers.finish();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(
        (upgrades(&proxy, "done"), upgrades(&proxy, "failed")),
        (Some(1.0), Some(1.0))
    );
}

#[test]
fn a_successor_that_is_killed_half_way_changes_nothing_and_reloads_wait_for_it() {
    let (a, b) = (Scripted::saying("a"), Scripted::saying("b"));
    let mut proxy = started(2, &only(a.address), "");
    let place = place(&proxy);
    // Nobody writes to it, so whoever reads it waits: when it has the sockets, and before it is ready.
    let pipe = proxy.folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let waiting = proxy.folder.join("waiting.yaml");
    let log = format!(
        "follow: {{ address: \"127.0.0.1:1\", planFile: {} }}\n",
        pipe.display()
    );
    std::fs::write(&waiting, file(&place, 3, &only(b.address), &log)).unwrap();
    let strangers = Strangers::start(proxy.users, 4, "/");
    let mut successor = Command::new(binary("foreshade-proxy"))
        .args(["run", "--config"])
        .arg(&waiting)
        .arg("--take-over")
        .arg(socket(&proxy))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut log, mut said) = (successor.stderr.take().unwrap(), String::new());
    while !said.contains("taking over") {
        let mut some = [0; 256];
        let n = log.read(&mut some).unwrap();
        assert!(n > 0, "{said}");
        said += &String::from_utf8_lossy(&some[..n]);
    }
    strangers.more(20);
    let busy = proxy.upgrade().unwrap_err();
    assert!(busy.contains("taking over already"), "{busy}");
    proxy.rewrite(&file(&place, 2, &only(b.address), ""));
    proxy.hang_up();
    strangers.more(50);
    assert_eq!(
        proxy.reload_status()["generation"],
        1,
        "nothing is reloaded meanwhile"
    );
    successor.kill().unwrap();
    successor.wait().unwrap();
    proxy.wait_until("reloaded", |p| p.reload_status()["generation"] == 2);
    assert_eq!(proxy.reload(&file(&place, 2, &only(a.address), "")).0, 200);
    strangers.more(20);
    let (_, failed) = strangers.finish();
    assert!(failed.is_empty(), "{failed:?}");
    proxy.upgrade().unwrap();
    assert!(ask(proxy.users).ends_with('a'));
}

/// Whether a process has a socket that accepts at this address. Source: proc(5), `/proc/net/tcp`.
fn listens(pid: u32, address: SocketAddr) -> bool {
    let port = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    let accepting = rows.filter(|row| row[1].ends_with(&port) && row[3] == "0A");
    let accepting: Vec<_> = accepting.map(|row| format!("socket:[{}]", row[9])).collect();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut links = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
    links.any(|link| accepting.iter().any(|one| link.as_os_str() == one.as_str()))
}

#[test]
fn the_old_process_may_die_once_it_has_handed_over() {
    let silent = Scripted::start(|stream| {
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let a = Scripted::saying("a");
    let mut proxy = started(3, &only(silent.address), "");
    let mut held = connect(proxy.users);
    held.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    silent.next_head().unwrap();
    proxy.rewrite(&file(&place(&proxy), 1, &only(a.address), ""));
    proxy.upgrade().unwrap();
    let old = proxy.process().id();
    proxy.wait_until("the old one to accept no more", |p| !listens(old, p.users));
    let strangers = Strangers::start(proxy.users, 4, "/");
    strangers.more(10);
    proxy.process().kill().unwrap();
    proxy.process().wait().unwrap();
    strangers.more(50);
    let (_, failed) = strangers.finish();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(socket(&proxy).exists());
    proxy.upgrade().unwrap();
    assert!(ask(proxy.users).ends_with('a'));
}

#[test]
fn a_shift_under_way_and_what_an_operator_has_said_survive_an_upgrade() {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a", "b", "s", "t"])).unwrap();
    let [a, b, s, t] = farm.addresses() else {
        panic!("four")
    };
    let members = format!(
        "endpoints: [{{ name: a, address: \"{a}\", shadow: s }}, {{ name: b, address: \"{b}\", shadow: t }}], \
         shadows: [{{ name: s, address: \"{s}\" }}, {{ name: t, address: \"{t}\" }}]"
    );
    let mut proxy = started(2, &members, "");
    let order = r#"{"endpoint": "b", "share": 0.3, "reason": "moving b", "ttl": "1h"}"#;
    assert_eq!(post(&proxy, "/v1/overrides", order), 200);
    let load = Load::start(LoadOptions::steady(proxy.users, 200.0, Duration::from_secs(120))).unwrap();
    proxy.wait_until("known", |p| p.endpoint("a")["standing"] == "known");
    farm.set_faults("a", &[Fault::errors(1.0)]).unwrap();
    let share = |p: &Proxy, name: &str| p.endpoint(name)["share"].as_f64().unwrap();
    proxy.wait_until("shifted", |p| share(p, "a") > 0.9);
    load.stop();
    load.finish();
    proxy.upgrade().unwrap();
    // At once, before anybody has asked for anything.
    let after = proxy.endpoint("a");
    assert!(after["share"].as_f64().unwrap() > 0.9, "{after}");
    assert!(after["risk"].as_f64().unwrap() > 0.5, "{after}");
    assert!((share(&proxy, "b") - 0.3).abs() < 1e-9);
    assert_eq!(proxy.endpoint("b")["phase"], "override");
}

/// Someone who speaks the language of successors.
fn successor(proxy: &Proxy) -> Line {
    Line::with(UnixStream::connect(socket(proxy)).unwrap()).unwrap()
}

fn hello(proxy: &Proxy, protocol: u32) -> Said {
    Said::Hello(Hello {
        protocol,
        version: "test".to_owned(),
        listeners: vec![proxy.users],
        datagrams: Vec::new(),
        admin: proxy.admin.to_string(),
        upgrade: None,
    })
}

#[test]
fn who_speaks_otherwise_is_refused_with_the_reason() {
    let a = Scripted::saying("a");
    let proxy = started(2, &only(a.address), "");
    let mut line = successor(&proxy);
    line.say(&hello(&proxy, PROTOCOL + 1), PATIENCE).unwrap();
    let Answer::Refused { why } = line.hear(PATIENCE).unwrap() else {
        panic!("refused")
    };
    assert!(why.contains("restart it instead"), "{why}");
    let mut line = successor(&proxy);
    line.say(&Said::Serving, PATIENCE).unwrap();
    assert!(matches!(line.hear(PATIENCE).unwrap(), Answer::Refused { .. }));
    let mut line = successor(&proxy);
    line.say(&"nonsense", PATIENCE).unwrap();
    assert!(line.hear::<Answer>(PATIENCE).is_err());
    assert_eq!(
        std::fs::metadata(socket(&proxy)).map(|m| mode(&m)).unwrap(),
        0o600
    );
    assert!(ask(proxy.users).ends_with('a'));
}

fn mode(metadata: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
}

#[test]
fn each_socket_is_lent_once_and_may_be_given_back_unused() {
    let a = Scripted::saying("a");
    let proxy = started(3, &only(a.address), "");
    for _ in 0..2 {
        let mut line = successor(&proxy);
        line.say(&hello(&proxy, PROTOCOL), PATIENCE).unwrap();
        let Answer::Welcome(welcome) = line.hear(PATIENCE).unwrap() else {
            panic!("welcome")
        };
        let sockets = line.take(welcome.sockets.len(), PATIENCE).unwrap();
        let lent: Vec<_> = welcome
            .sockets
            .iter()
            .filter(|lent| **lent == Lent::Listener(proxy.users))
            .collect();
        assert_eq!(
            (lent.len(), sockets.len()),
            (3, 4),
            "one of each worker, and the admin interface's"
        );
        line.say(&Said::Prepared, PATIENCE).unwrap();
        assert!(matches!(line.hear(PATIENCE).unwrap(), Answer::State(_)));
        drop((line, sockets));
        for _ in 0..10 {
            assert!(ask(proxy.users).ends_with('a'));
        }
    }
}

#[test]
fn the_supervisor_is_told_of_readiness_reloads_upgrades_life_and_the_end() {
    let a = Scripted::saying("a");
    let folder = std::env::temp_dir().join(format!("foreshade-notify-{}", std::process::id()));
    let _ = std::fs::remove_file(&folder);
    let supervisor = UnixDatagram::bind(&folder).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let environment = [
        ("NOTIFY_SOCKET", folder.to_str().unwrap()),
        ("WATCHDOG_USEC", "300000"),
    ];
    let mut proxy = Proxy::spawn_with(|place| file(place, 1, &only(a.address), ""), &environment);
    let heard = |what: &str| {
        let mut bytes = [0; 512];
        loop {
            let n = supervisor
                .recv(&mut bytes)
                .unwrap_or_else(|error| panic!("no {what}: {error}"));
            let said = String::from_utf8_lossy(&bytes[..n]).into_owned();
            if said.starts_with(what) {
                return said;
            }
        }
    };
    heard("READY=1");
    heard("WATCHDOG=1");
    proxy.hang_up();
    let reloading = heard("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    heard("READY=1");
    let pid = proxy.upgrade().unwrap();
    assert_eq!(heard("MAINPID=").trim(), format!("MAINPID={pid}"));
    heard("READY=1");
    heard("WATCHDOG=1");
    assert!(proxy.wait().success());
    kill("TERM", pid);
    heard("STOPPING=1");
    std::fs::remove_file(&folder).unwrap();
}

/// Posts JSON to the admin interface: the status of the answer.
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

fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_signal_upgrades_where_there_is_a_socket_and_does_nothing_where_there_is_none() {
    let a = Scripted::saying("a");
    let mut proxy = started(2, &only(a.address), "");
    proxy.signal("QUIT");
    assert!(proxy.wait().success());
    proxy.succeeded_by(pid_of(&proxy.folder));
    proxy.wait_until("upgraded", |p| upgrades(p, "done") == Some(1.0));
    assert!(ask(proxy.users).ends_with('a'));

    let mut proxy = Proxy::start(&format!(
        "clusters: [{{ name: shop, health: off, {} }}]\n",
        only(a.address)
    ));
    proxy.signal("QUIT");
    let why = proxy.upgrade().unwrap_err();
    assert!(why.contains("has no upgrade.socket"), "{why}");
    assert!(ask(proxy.users).ends_with('a'));
    assert!(proxy.process().try_wait().unwrap().is_none());
}

/// The process that runs with the file in this folder.
fn pid_of(folder: &Path) -> u32 {
    let file = folder.join("foreshade.yaml");
    let mut found = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&line)
            .contains(file.to_str()?)
            .then_some(pid)
    });
    found.next().expect("it runs")
}
