//! A line per request, for each way in which a request can end; and a log that never gets in a request's way.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use foreshade_bench::client;
use foreshade_tests::proxy::{Proxy, free_address};
use foreshade_tests::wire::{Scripted, connect, exchange, read_until};
use serde_json::Value;

/// From an endpoint that serves one request per connection and says so: a kept one would be found dead.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

/// A proxy with one route to one endpoint, that keeps a log with these keys.
fn proxy(endpoint: SocketAddr, log: &str, more: &str) -> Proxy {
    proxy_within("30s", endpoint, log, more)
}

/// The same, with a limit for the route.
fn proxy_within(limit: &str, endpoint: SocketAddr, log: &str, more: &str) -> Proxy {
    let mut proxy = Proxy::spawn(|p| {
        let (users, admin, folder) = (p.users, p.admin, p.folder.display());
        let log = log.replace("FOLDER", &folder.to_string());
        format!(
            "apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\naccessLog: {log}\n{more}\nworkers: 1\n\
             listeners:\n  - name: web\n    address: {users}\n    routes:\n      \
             - {{ match: {{ path: {{ prefix: /shop }} }}, cluster: shop, timeout: {limit} }}\n\
             clusters:\n  - name: shop\n    health: off\n    shift: {{ enabled: false }}\n    endpoints:\n      \
             - {{ name: a, address: \"{endpoint}\" }}\n"
        )
    });
    proxy.wait_until("ready", |p| {
        client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(s, _)| s == 200)
    });
    proxy
}

fn path(proxy: &Proxy) -> PathBuf {
    proxy.folder.join("access.log")
}

const FILE: &str = "{ to: FOLDER/access.log }";

/// Waits until the log has so many lines, and reads them.
fn lines(proxy: &mut Proxy, n: usize) -> Vec<Value> {
    let read = |p: &Proxy| fs::read_to_string(path(p)).unwrap_or_default();
    proxy.wait_until("through with its log", |p| read(p).lines().count() >= n);
    let lines: Vec<Value> = read(proxy)
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    assert_eq!(lines.len(), n, "{lines:#?}");
    lines
}

/// One request that ends as `endpoint` makes it end, and its line.
fn line_of(endpoint: SocketAddr, converse: impl FnOnce(SocketAddr)) -> Value {
    let mut proxy = proxy(endpoint, FILE, "");
    converse(proxy.users);
    lines(&mut proxy, 1).remove(0)
}

fn get(users: SocketAddr) {
    exchange(
        users,
        b"GET /shop HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
}

/// The phases that were reached, in order; they add up to the whole.
fn phases(line: &Value) -> Vec<&'static str> {
    let names = [
        "request_ms",
        "queue_ms",
        "retries_ms",
        "connect_ms",
        "wait_ms",
        "transfer_ms",
    ];
    let reached: Vec<_> = names
        .into_iter()
        .filter(|name| line.get(name).is_some())
        .collect();
    let sum: f64 = reached.iter().map(|name| line[name].as_f64().unwrap()).sum();
    let duration = line["duration_ms"].as_f64().unwrap();
    assert!((sum - duration).abs() < 0.0005, "{sum} is not {duration}: {line}");
    reached
}

#[test]
fn a_served_request_has_a_line_that_tells_everything_and_no_secret() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let line = line_of(endpoint.address, |users| {
        let request = "POST /shop/cart?q=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test \"1\"\r\n\
            Referer: https://shop.example/\r\nAuthorization: Bearer s3cret\r\nCookie: sid=s3cret\r\n\
            X-Request-Id: abc-1\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
            Content-Length: 3\r\nConnection: close\r\n\r\nabc";
        exchange(users, request.as_bytes());
    });
    for (key, value) in [
        ("client", "127.0.0.1"),
        ("host", "shop.example"),
        ("method", "POST"),
        ("target", "/shop/cart?q=1"),
        ("protocol", "HTTP/1.1"),
        ("reason", "ok"),
        ("cluster", "shop"),
        ("endpoint", "a"),
        ("side", "primary"),
        ("request_id", "abc-1"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        ("referer", "https://shop.example/"),
        ("user_agent", "test \"1\""),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    for (key, value) in [
        ("status", 200),
        ("bytes_in", 3),
        ("bytes_out", 5),
        ("attempts", 1),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    assert_eq!(phases(&line).len(), 6);
    assert!(line["first_byte_ms"].as_f64().unwrap() <= line["duration_ms"].as_f64().unwrap());
    assert!(!line.to_string().contains("s3cret"), "{line}");
}

#[test]
fn a_request_that_breaks_a_rule_has_a_line_with_the_rule_before_any_engine_sees_it() {
    let line = line_of(free_address(), |users| {
        exchange(users, b"GET /shop HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    });
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&400.into(), &"rejected".into())
    );
    assert_eq!(
        (&line["detail"], &line["target"]),
        (&"host_repeated".into(), &"/shop".into())
    );
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(phases(&line), ["request_ms"]);
}

#[test]
fn no_route() {
    let line = line_of(free_address(), |users| {
        exchange(
            users,
            b"GET /elsewhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
    });
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&404.into(), &"no_route".into())
    );
    assert_eq!(phases(&line), ["request_ms", "queue_ms"]);
    assert_eq!(line.get("endpoint"), None);
}

#[test]
fn an_endpoint_where_nobody_listens() {
    let line = line_of(free_address(), get);
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&502.into(), &"refused".into())
    );
    assert_eq!(
        phases(&line),
        ["request_ms", "queue_ms", "retries_ms", "connect_ms"]
    );
    assert_eq!(line["endpoint"], "a");
}

#[test]
fn an_endpoint_that_hangs_up() {
    let endpoint = Scripted::start(|stream| drop(stream.shutdown(Shutdown::Both)));
    let line = line_of(endpoint.address, |users| {
        exchange(
            users,
            b"POST /shop HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    });
    assert_eq!((&line["status"], &line["reason"]), (&502.into(), &"reset".into()));
    assert_eq!(
        phases(&line),
        ["request_ms", "queue_ms", "retries_ms", "connect_ms", "wait_ms"]
    );
}

#[test]
fn an_endpoint_that_never_answers() {
    let endpoint = Scripted::start(|stream| drop(std::io::copy(stream, &mut std::io::sink())));
    let mut proxy = proxy_within("400ms", endpoint.address, FILE, "");
    get(proxy.users);
    let line = lines(&mut proxy, 1).remove(0);
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&504.into(), &"timeout".into())
    );
    // The route's time, and the client's before it.
    let of = |key: &str| line[key].as_f64().unwrap();
    assert!(of("duration_ms") - of("request_ms") >= 400.0, "{line}");
    assert!(
        line.get("wait_ms").is_some() && line.get("transfer_ms").is_none(),
        "{line}"
    );
}

#[test]
fn an_endpoint_that_speaks_something_else() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n")));
    let line = line_of(endpoint.address, get);
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&502.into(), &"garbage".into())
    );
}

#[test]
fn an_answer_that_breaks_off() {
    let endpoint = Scripted::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    });
    let line = line_of(endpoint.address, get);
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&200.into(), &"truncated".into())
    );
    assert_eq!(line["bytes_out"], 4);
}

#[test]
fn a_failure_of_the_endpoint_that_it_tells_itself_is_no_failure_to_answer() {
    let endpoint = Scripted::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    });
    let line = line_of(endpoint.address, get);
    assert_eq!((&line["status"], &line["reason"]), (&500.into(), &"ok".into()));
}

#[test]
fn a_client_that_goes_away() {
    let (gone, go) = std::sync::mpsc::channel::<()>();
    let go = std::sync::Arc::new(std::sync::Mutex::new(go));
    let endpoint = Scripted::start(move |stream| {
        let _ = go.lock().unwrap().recv();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 16777216\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(&vec![b'x'; 16 << 20]);
    });
    let line = line_of(endpoint.address, |users| {
        let mut client = connect(users);
        client
            .write_all(b"GET /shop HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        assert!(endpoint.next_head().is_some());
        drop(client);
        gone.send(()).unwrap();
    });
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&200.into(), &"client_gone".into())
    );
    assert!(line["bytes_out"].as_u64().unwrap() < 16 << 20, "{line}");
}

#[test]
fn a_request_whose_body_breaks_the_rules() {
    let endpoint = Scripted::start(|stream| drop(std::io::copy(stream, &mut std::io::sink())));
    let line = line_of(endpoint.address, |users| {
        let head =
            "POST /shop HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        let mut client = connect(users);
        client.write_all(head.as_bytes()).unwrap();
        assert!(endpoint.next_head().is_some());
        client.write_all(b"no size\r\n").unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    });
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&400.into(), &"client_refused".into())
    );
    assert_eq!(line["detail"], "chunk_size");
}

#[test]
fn a_request_that_went_on_to_another_endpoint_tells_who_served_it() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let dead = free_address();
    let mut proxy = Proxy::spawn(|p| {
        let (users, admin, folder, alive) = (p.users, p.admin, p.folder.display(), endpoint.address);
        format!(
            "apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\naccessLog: {{ to: {folder}/access.log }}\n\
             workers: 1\nlisteners: [{{ name: web, address: {users}, routes: [{{ cluster: shop }}] }}]\n\
             clusters: [{{ name: shop, health: off, endpoints: [\
             {{ name: a, address: \"{dead}\", shadow: s }}], shadows: [{{ name: s, address: \"{alive}\" }}] }}]\n"
        )
    });
    proxy.wait_until("ready", |p| {
        client::request(p.admin, "GET", "/readyz", "").is_ok_and(|(s, _)| s == 200)
    });
    get(proxy.users);
    let line = lines(&mut proxy, 1).remove(0);
    assert_eq!((&line["status"], &line["reason"]), (&200.into(), &"ok".into()));
    assert_eq!(
        (&line["endpoint"], &line["side"], &line["attempts"]),
        (&"s".into(), &"shadow".into(), &2.into())
    );
    assert_eq!(phases(&line).len(), 6);
}

#[test]
fn a_slow_head_is_the_clients_time() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let mut proxy = proxy(endpoint.address, FILE, "");
    let mut client = connect(proxy.users);
    client.write_all(b"GET /shop/slow HTTP/1.1\r\n").unwrap();
    proxy.wait_until("connected", |p| {
        metric(p, "foreshade_connections_open ") == Some(1.0)
    });
    // The only worker has looked at the first connection once it has served the second one.
    get(proxy.users);
    std::thread::sleep(std::time::Duration::from_millis(60));
    client.write_all(b"Host: a\r\nConnection: close\r\n\r\n").unwrap();
    read_until(&mut client, "hello");
    let line = lines(&mut proxy, 2).remove(1);
    assert_eq!(line["target"], "/shop/slow");
    assert!(line["request_ms"].as_f64().unwrap() >= 60.0, "{line}");
    assert_eq!(phases(&line).len(), 6);
}

#[test]
fn a_client_cannot_forge_a_line() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let line = line_of(endpoint.address, |users| {
        let request = b"GET /shop?{} HTTP/1.1\r\nHost: a\r\nUser-Agent: x\"\t\xff\xe2\x80\xa8\\\r\n\
            X-Request-Id: a b\"\r\nConnection: close\r\n\r\n";
        exchange(users, request);
    });
    assert_eq!(line["status"], 200);
    assert_eq!(line["user_agent"], "x\"\t\u{ff}\u{e2}\u{80}\u{a8}\\");
    assert_eq!(line.get("request_id"), None);
}

#[test]
fn the_combined_format_is_what_other_tools_read() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let log = "{ to: FOLDER/access.log, format: combined, query: false }";
    let mut proxy = proxy(endpoint.address, log, "");
    let request =
        "GET /shop?token=s3cret HTTP/1.1\r\nHost: a\r\nUser-Agent: \"q\"\r\nConnection: close\r\n\r\n";
    exchange(proxy.users, request.as_bytes());
    proxy.wait_until("through with its log", |p| {
        fs::read_to_string(path(p)).is_ok_and(|t| !t.is_empty())
    });
    let line = fs::read_to_string(path(&proxy)).unwrap();
    let (client, rest) = line.split_once(" - - [").unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!((client, time.len(), &time[20..]), ("127.0.0.1", 26, " +0000"));
    assert_eq!(rest, "\"GET /shop HTTP/1.1\" 200 5 \"-\" \"\\x22q\\x22\"\n");
}

#[test]
fn the_log_of_a_keep_alive_connection_has_a_line_per_request() {
    let endpoint = Scripted::start(|stream| {
        let _ = stream.write_all(OK);
    });
    let mut proxy = proxy(endpoint.address, FILE, "");
    let mut client = connect(proxy.users);
    for n in 0..3 {
        let request = format!("GET /shop/{n} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        read_until(&mut client, "hello");
    }
    for (n, line) in lines(&mut proxy, 3).iter().enumerate() {
        assert_eq!(line["target"], format!("/shop/{n}"));
        // Waiting between two requests is nobody's time.
        assert!(line["request_ms"].as_f64().unwrap() <= line["duration_ms"].as_f64().unwrap());
    }
}

#[test]
fn logrotate_gets_a_new_file_and_no_line_is_lost() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let mut proxy = proxy(endpoint.address, FILE, "");
    get(proxy.users);
    lines(&mut proxy, 1);
    let old = proxy.folder.join("access.log.1");
    fs::rename(path(&proxy), &old).unwrap();
    proxy.signal("USR1");
    proxy.wait_until("writing to a new file", |p| path(p).exists());
    get(proxy.users);
    lines(&mut proxy, 1);
    assert_eq!(fs::read_to_string(old).unwrap().lines().count(), 1);
    proxy.terminate();
    assert!(proxy.wait().success());
}

#[test]
fn the_signal_of_logrotate_does_not_kill_a_proxy_without_a_log() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let mut proxy = proxy(endpoint.address, "off", "");
    proxy.signal("USR1");
    get(proxy.users);
    proxy.terminate();
    assert!(proxy.wait().success());
}

fn metric(proxy: &Proxy, name: &str) -> Option<f64> {
    let (_, page) = client::request(proxy.admin, "GET", "/metrics", "").ok()?;
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn a_full_disk_costs_lines_and_no_request() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let mut proxy = proxy(endpoint.address, "{ to: /dev/full }", "");
    for _ in 0..20 {
        let answer = exchange(
            proxy.users,
            b"GET /shop HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        assert!(answer.ends_with("hello"), "{answer}");
    }
    let lost = "foreshade_access_log_dropped_total{reason=\"failed\"} ";
    proxy.wait_until("aware of its losses", |p| metric(p, lost) == Some(20.0));
    assert_eq!(metric(&proxy, "foreshade_access_log_lines_total "), Some(0.0));
    proxy.terminate();
    assert!(proxy.wait().success());
}

#[test]
fn a_log_that_nobody_reads_stops_no_request_and_not_the_end() {
    // Standard output is a pipe that the test never reads: it takes 64 KiB, and then the writer waits.
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let mut proxy = proxy(endpoint.address, "stdout", "");
    let agent = "x".repeat(500);
    for _ in 0..300 {
        let request =
            format!("GET /shop HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n");
        let answer = exchange(proxy.users, request.as_bytes());
        assert!(answer.ends_with("hello"), "{answer}");
    }
    proxy.terminate();
    assert!(proxy.wait().success());
}

#[test]
fn lines_go_to_standard_output_and_the_last_ones_before_the_end() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let mut proxy = proxy(endpoint.address, "stdout", "");
    let output = proxy.process().stdout.take().unwrap();
    for _ in 0..5 {
        get(proxy.users);
    }
    proxy.terminate();
    let lines: Vec<_> = BufReader::new(output).lines().map(Result::unwrap).collect();
    assert!(proxy.wait().success());
    assert_eq!(lines.len(), 5);
    assert!(
        lines.iter().all(|line| line.contains("\"status\":200")),
        "{lines:?}"
    );
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_at_the_start() {
    let mut proxy = Proxy::spawn(|p| {
        let (users, admin, folder) = (p.users, p.admin, p.folder.display());
        format!(
            "apiVersion: foreshade/v1\nadmin: {{ address: {admin} }}\n\
             accessLog: {{ to: {folder}/no/such/folder/access.log }}\n\
             listeners: [{{ name: web, address: {users}, routes: [{{ cluster: shop }}] }}]\n\
             clusters: [{{ name: shop, endpoints: [{{ name: a, address: \"127.0.0.1:1\" }}] }}]\n"
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
        said.contains("the access log cannot be opened: No such file"),
        "{said}"
    );
}

/// The heads that the endpoint sees, lower case.
fn head_of(more: &str, headers: &str) -> (String, String) {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let proxy = proxy(endpoint.address, "off", more);
    let request = format!("GET /shop HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
    let answer = exchange(proxy.users, request.as_bytes());
    (
        endpoint.next_head().unwrap().to_lowercase(),
        answer.to_lowercase(),
    )
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn names_and_traces_pass_as_they_came_where_nothing_is_asked_for() {
    let sent = "X-Request-Id: not well \"formed\r\nTraceparent: broken\r\nTracestate: A=B\r\n";
    let (head, answer) = head_of("", sent);
    assert_eq!(value(&head, "x-request-id"), Some("not well \"formed"));
    assert_eq!(value(&head, "traceparent"), Some("broken"));
    assert_eq!(value(&head, "tracestate"), Some("a=b"));
    assert_eq!(value(&answer, "x-request-id"), None);
    let (head, _) = head_of("", "");
    assert!(
        !head.contains("x-request-id") && !head.contains("traceparent"),
        "{head}"
    );
}

#[test]
fn a_request_gets_a_name_that_endpoint_and_client_are_told() {
    let make = "requestId: { make: true, toClient: true }";
    let (head, answer) = head_of(make, "");
    let id = value(&head, "x-request-id").unwrap();
    assert!(
        id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );
    assert_eq!(value(&answer, "x-request-id"), Some(id));
    let (head, answer) = head_of(make, "X-Request-ID: mine-1\r\n");
    assert_eq!(value(&head, "x-request-id"), Some("mine-1"));
    assert_eq!(value(&answer, "x-request-id"), Some("mine-1"));
    let (head, _) = head_of(make, "X-Request-Id: a b\r\nX-Request-Id: c\r\n");
    assert_eq!(head.matches("x-request-id").count(), 1);
    assert_eq!(value(&head, "x-request-id").unwrap().len(), 32);
}

#[test]
fn a_failed_request_tells_the_client_its_name() {
    let proxy = proxy(free_address(), "off", "requestId: { make: true, toClient: true }");
    let answer = exchange(
        proxy.users,
        b"GET /shop HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    let id = answer.trim_end().rsplit_once("(request ").unwrap().1;
    let id = id.strip_suffix(')').unwrap();
    assert!(
        id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{answer}"
    );
}

#[test]
fn a_trace_goes_on_in_a_span_of_the_proxy() {
    let sent = format!("Traceparent: {PARENT}\r\nTracestate: a=1\r\n");
    let (head, _) = head_of("trace: { mode: join }", &sent);
    let parent = value(&head, "traceparent").unwrap();
    assert_eq!((&parent[..36], &parent[52..]), (&PARENT[..36], &PARENT[52..]));
    assert_ne!(&parent[36..52], &PARENT[36..52]);
    assert_eq!(value(&head, "tracestate"), Some("a=1"));
    let broken = "Traceparent: broken\r\nTracestate: a=1\r\n";
    let (head, _) = head_of("trace: { mode: join }", broken);
    assert!(
        !head.contains("traceparent") && !head.contains("tracestate"),
        "{head}"
    );
    let (head, _) = head_of("trace: { mode: start }", broken);
    assert_eq!(value(&head, "traceparent").unwrap().len(), 55);
    assert!(!head.contains("tracestate"), "{head}");
}

#[test]
fn the_line_has_the_span_and_the_name_that_the_endpoint_saw() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let more = "requestId: { make: true }\ntrace: { mode: start }";
    let mut proxy = proxy(endpoint.address, FILE, more);
    get(proxy.users);
    let head = endpoint.next_head().unwrap().to_lowercase();
    let line = lines(&mut proxy, 1).remove(0);
    assert_eq!(value(&head, "x-request-id"), line["request_id"].as_str());
    let (trace, span) = (
        line["trace_id"].as_str().unwrap(),
        line["span_id"].as_str().unwrap(),
    );
    assert_eq!(
        value(&head, "traceparent").unwrap(),
        format!("00-{trace}-{span}-03")
    );
}

#[test]
fn connections_are_counted_while_they_are_open() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut proxy = proxy(listener.local_addr().unwrap(), "off", "");
    let clients: Vec<TcpStream> = (0..5).map(|_| connect(proxy.users)).collect();
    let now = |p: &Proxy| {
        (
            metric(p, "foreshade_connections_accepted_total "),
            metric(p, "foreshade_connections_open "),
        )
    };
    proxy.wait_until("connected", |p| now(p) == (Some(5.0), Some(5.0)));
    drop(clients);
    proxy.wait_until("left", |p| now(p) == (Some(5.0), Some(0.0)));
}

#[test]
fn a_reload_changes_how_requests_are_named_and_refuses_to_change_the_log() {
    let endpoint = Scripted::start(|stream| drop(stream.write_all(OK)));
    let proxy = proxy(endpoint.address, "off", "");
    let file = fs::read_to_string(proxy.folder.join("foreshade.yaml")).unwrap();
    get(proxy.users);
    assert_eq!(
        value(&endpoint.next_head().unwrap().to_lowercase(), "x-request-id"),
        None
    );
    let (status, said) = proxy.reload(&file.replace("workers: 1", "requestId: { make: true }\nworkers: 1"));
    assert_eq!(status, 200, "{said}");
    get(proxy.users);
    let head = endpoint.next_head().unwrap().to_lowercase();
    assert_eq!(value(&head, "x-request-id").unwrap().len(), 32);
    let (status, said) = proxy.reload(&file.replace("accessLog: off", "accessLog: stdout"));
    assert!(
        status >= 400 && said.to_string().contains("accessLog changes"),
        "{status} {said}"
    );
}
