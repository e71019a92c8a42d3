//! The admin interface of a real process: who is let in, what runs, and what strangers cannot do to its metrics.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use foreshade_bench::client;
use foreshade_tests::proxy::{Place, Proxy};
use foreshade_tests::wire::{Scripted, exchange};
use serde_json::{Value, json};

const TOKEN: &str = "correct-horse-battery-staple";

fn config(place: &Place, admin: &str, endpoint: SocketAddr) -> String {
    let users = place.users;
    format!(
        "apiVersion: foreshade/v1\nadmin: {{ {admin} }}\nworkers: 1\n\
         listeners: [{{ name: web, address: {users}, routes: [{{ cluster: shop, match: {{ path: {{ prefix: /shop }} }} }}] }}]\n\
         clusters:\n  - name: shop\n    health: off\n    shift: {{ enabled: false }}\n    segments:\n      \
         - {{ name: staff, part: 1%, match: {{ header: {{ name: x-staff, value: s3cret }} }} }}\n    \
         endpoints: [{{ name: a, address: \"{endpoint}\" }}]\n"
    )
}

fn endpoint() -> Scripted {
    Scripted::start(|stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
    })
}

/// Waits for an admin interface on TCP.
fn ready(mut proxy: Proxy) -> Proxy {
    proxy.wait_until("ready", |p| {
        client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(s, _)| s == 200)
    });
    proxy
}

fn plain(endpoint: &Scripted) -> Proxy {
    ready(Proxy::spawn(|p| {
        config(p, &format!("address: {}", p.admin), endpoint.address)
    }))
}

fn ask(proxy: &Proxy, line: &str, token: Option<&str>, body: &str) -> (u16, Value) {
    let authorization = token
        .map(|t| format!("Authorization: Bearer {t}\r\n"))
        .unwrap_or_default();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: x\r\n{authorization}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    parsed(&exchange(proxy.admin, request.as_bytes()))
}

fn parsed(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").expect(answer);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| body.into()))
}

fn secret(folder: &Path, mode: u32) -> String {
    let path = folder.join("admin.token");
    fs::write(&path, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn beyond_loopback_whoever_asks_needs_the_token() {
    let endpoint = endpoint();
    let proxy = ready(Proxy::spawn(|p| {
        let token = secret(&p.folder, 0o600);
        let admin = format!("address: \"0.0.0.0:{}\", tokenFile: {token}", p.admin.port());
        config(p, &admin, endpoint.address)
    }));
    for line in [
        "GET /metrics",
        "GET /v1/endpoints",
        "GET /v1/config",
        "PUT /v1/log",
        "DELETE /v1/overrides/shop/a",
    ] {
        assert_eq!(ask(&proxy, line, None, "").0, 401, "{line}");
        assert_eq!(
            ask(&proxy, line, Some("wrong-horse-battery-staple"), "").0,
            401,
            "{line}"
        );
    }
    assert_eq!(ask(&proxy, "GET /v1/endpoints", Some(TOKEN), "").0, 200);
    let (status, page) = ask(&proxy, "GET /metrics", Some(TOKEN), "");
    assert_eq!(status, 200);
    assert!(
        page.as_str()
            .unwrap()
            .contains("\nforeshade_admin_refused_total 10\n"),
        "{page}"
    );
}

#[test]
fn what_reads_may_be_open_and_what_acts_is_not() {
    let endpoint = endpoint();
    let proxy = ready(Proxy::spawn(|p| {
        let token = secret(&p.folder, 0o440);
        let admin = format!("address: {}, tokenFile: {token}, withoutToken: reading", p.admin);
        config(p, &admin, endpoint.address)
    }));
    assert_eq!(ask(&proxy, "GET /v1/endpoints", None, "").0, 200);
    let order = json!({ "endpoint": "a", "risk": 0.5, "reason": "test", "ttl": "1m" }).to_string();
    assert_eq!(ask(&proxy, "POST /v1/overrides", None, &order).0, 401);
    assert_eq!(ask(&proxy, "POST /v1/overrides", Some(TOKEN), &order).0, 200);
}

#[test]
fn a_token_that_others_can_read_is_an_error_at_the_start_and_is_not_shown() {
    let endpoint = endpoint();
    let mut proxy = Proxy::spawn(|p| {
        let token = secret(&p.folder, 0o644);
        config(
            p,
            &format!("address: {}, tokenFile: {token}", p.admin),
            endpoint.address,
        )
    });
    assert_eq!(proxy.wait().code(), Some(1));
    let mut said = String::new();
    proxy
        .process()
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(
        said.contains("0644") && said.contains("chmod 0600") && !said.contains(TOKEN),
        "{said}"
    );
}

#[test]
fn a_socket_serves_whom_its_permissions_let_in_and_goes_with_the_proxy() {
    let endpoint = endpoint();
    let mut proxy = Proxy::spawn(|p| {
        let admin = format!("address: \"unix:{}/admin.sock\", mode: 0660", p.folder.display());
        config(p, &admin, endpoint.address)
    });
    let socket = proxy.folder.join("admin.sock");
    let ask = |line: &str| {
        let mut stream = UnixStream::connect(&socket).ok()?;
        stream
            .write_all(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(parsed(&answer).0)
    };
    proxy.wait_until("ready", |_| ask("GET /readyz") == Some(200));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(ask("GET /v1/endpoints"), Some(200));
    proxy.terminate();
    assert!(proxy.wait().success());
    assert!(!socket.exists());
}

#[test]
fn the_configuration_that_runs_is_the_file_without_its_secrets() {
    let endpoint = endpoint();
    let proxy = plain(&endpoint);
    let (status, body) = ask(&proxy, "GET /v1/config", None, "");
    assert_eq!(status, 200);
    let file = proxy.folder.join("foreshade.yaml");
    let sum = Command::new("sha256sum").arg(&file).output().unwrap().stdout;
    assert!(
        String::from_utf8(sum)
            .unwrap()
            .starts_with(body["sha256"].as_str().unwrap()),
        "{body}"
    );
    assert_eq!(body["origin"], file.display().to_string());
    assert_eq!(body["config"]["clusters"][0]["name"], "shop");
    assert!(!body.to_string().contains("s3cret"), "{body}");
}

#[test]
fn the_log_level_is_raised_for_a_time_while_the_proxy_runs() {
    let endpoint = endpoint();
    let mut proxy = plain(&endpoint);
    assert_eq!(
        ask(&proxy, "GET /v1/log", None, "").1["falls_back_in_seconds"],
        Value::Null
    );
    let order = json!({ "filter": "info,foreshade_door=debug", "ttl": "2s" }).to_string();
    let (status, body) = ask(&proxy, "PUT /v1/log", None, &order);
    assert_eq!(
        (status, &body["filter"]),
        (200, &json!("info,foreshade_door=debug"))
    );
    // At debug, and only there, the log tells of an operator's connection that breaks off.
    exchange(proxy.admin, b"no http\r\n\r\n");
    proxy.wait_until("back at its usual level", |p| {
        let standing = ask(p, "GET /v1/log", None, "").1;
        standing["filter"] == standing["usual"]
    });
    proxy.terminate();
    assert!(proxy.wait().success());
    let mut said = String::new();
    proxy
        .process()
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(
        said.contains("log filter changed") && said.contains("log filter has fallen back"),
        "{said}"
    );
    assert_eq!(said.matches("operator's connection failed").count(), 1, "{said}");
}

/// Every label of the page with its value: what series are made of.
fn labels(proxy: &Proxy) -> BTreeSet<String> {
    let (_, page) = client::request(proxy.admin, "GET", "/metrics", "").unwrap();
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let sets = samples.filter_map(|line| Some(line.split_once('{')?.1.rsplit_once('}')?.0.to_owned()));
    sets.flat_map(|set| set.split("\",").map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn no_client_can_make_a_series() {
    let endpoint = endpoint();
    let mut proxy = plain(&endpoint);
    let answered = |p: &Proxy| {
        let (_, page) = client::request(p.admin, "GET", "/metrics", "").unwrap();
        let of = |name: &str| {
            let values = page.lines().filter(|line| line.starts_with(name));
            values
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u32>().ok())
                .sum::<u32>()
        };
        (
            of("foreshade_answers_total{"),
            of("foreshade_unrouted_requests_total "),
        )
    };
    // The kinds of requests that follow, once each.
    let users = proxy.users;
    let send = |n: u32| {
        for method in ["GET", "POST", "BREW"] {
            for path in ["/shop", "/none"] {
                let request = format!(
                    "{method} {path}/{n}?{n} HTTP/1.1\r\nHost: h{n}.example\r\nUser-Agent: {n}\r\nX-{n}: {n}\r\n\
                     X-Request-Id: {n}\r\nX-Staff: {n}\r\nCookie: c{n}={n}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                exchange(users, request.as_bytes());
            }
        }
    };
    send(0);
    proxy.wait_until("aware of the first", |p| answered(p) == (3, 3));
    let before = labels(&proxy);
    (1..40).for_each(send);
    proxy.wait_until("aware of all", |p| answered(p) == (120, 120));
    let made: Vec<_> = labels(&proxy).difference(&before).cloned().collect();
    assert!(made.is_empty(), "{made:?}");
    assert!(before.len() > 50, "{}", before.len());
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let endpoint = endpoint();
    let proxy = plain(&endpoint);
    exchange(
        proxy.users,
        b"GET /shop HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    let (_, page) = client::request(proxy.admin, "GET", "/metrics", "").unwrap();
    foreshade_tests::promtool::check(&["check", "metrics"], &page);
}
