//! How many requests may be under way, who waits, and who is turned away.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use foreshade_tests::http2::{Came, Endpoint, next, send};
use foreshade_tests::wire::{Scripted, connect, exchange, read_until};

use crate::stand::{Answer, Stand};

/// An endpoint that answers when it is told to.
struct Held {
    endpoint: Scripted,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Held {
    fn start() -> Self {
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let waits = open.clone();
        let endpoint = Scripted::start(move |stream| {
            let (is_open, opened) = &*waits;
            let shut = |is_open: &mut bool| !*is_open;
            drop(opened.wait_while(is_open.lock().unwrap(), shut).unwrap());
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
        });
        Self { endpoint, open }
    }

    fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// Answers everybody from here on.
    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

/// Sends a request for `target` and does not wait for its answer.
fn begin(stand: &Stand, target: &str, headers: &str) -> TcpStream {
    let mut user = connect(stand.proxy.users);
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    user.write_all(request.as_bytes()).unwrap();
    user
}

/// The answer, whose body is one line.
fn end(user: &mut TcpStream) -> Answer {
    let head = read_until(user, "\r\n\r\n");
    let body = read_until(user, "\n");
    Answer::read(&format!("{head}{body}"))
}

/// Waits until so many are under way and so many wait.
fn until(stand: &mut Stand, whose: &str, under_way: f64, waiting: f64) {
    let series = |state: &str| format!("foreshade_concurrency_requests{{{whose},state=\"{state}\"}}");
    let what = format!("at {under_way} under way and {waiting} waiting");
    stand.proxy.wait_until(&what, |p| {
        p.metric(&series("under_way")) == Some(under_way) && p.metric(&series("waiting")) == Some(waiting)
    });
}

const ROUTE: &str = "kind=\"route\",name=\"web/front\"";

fn stand(held: &Held, relay: bool, concurrency: &str) -> Stand {
    let route = format!("{{ name: front, cluster: shop, timeout: 1m, concurrency: {{ {concurrency} }} }}");
    Stand::start(held.address(), relay, "", &[&route])
}

#[test]
fn who_finds_no_place_waits_and_who_finds_no_room_is_told_to_come_back() {
    for relay in [false, true] {
        let held = Held::start();
        let mut stand = stand(&held, relay, "limit: 2, queue: 1, wait: 50s");
        let mut under_way = [begin(&stand, "/1", ""), begin(&stand, "/2", "")];
        until(&mut stand, ROUTE, 2.0, 0.0);
        let mut waiting = begin(&stand, "/3", "");
        until(&mut stand, ROUTE, 2.0, 1.0);
        let turned_away = end(&mut begin(&stand, "/4", ""));
        assert_eq!(turned_away.status, 503);
        assert_eq!(
            turned_away.body,
            "foreshade: there are too many requests under way\n"
        );
        assert_eq!(turned_away.values("retry-after"), ["1"], "{}", turned_away.head);
        held.open();
        for user in under_way.iter_mut().chain([&mut waiting]) {
            assert_eq!(end(user).status, 200);
        }
        until(&mut stand, ROUTE, 0.0, 0.0);
        stand.refused("busy", 1);
        let heads = std::iter::from_fn(|| held.endpoint.head_so_far());
        assert_eq!(heads.count(), 3, "who was turned away reached nobody");
    }
}

#[test]
fn who_matters_more_takes_the_room_of_who_matters_less() {
    let held = Held::start();
    let route = "{ name: front, cluster: shop, timeout: 1m, priority: { header: x-priority }, \
                 concurrency: { limit: 1, queue: 1, wait: 50s } }";
    let mut stand = Stand::start(held.address(), false, "", &[route]);
    let mut first = begin(&stand, "/", "");
    until(&mut stand, ROUTE, 1.0, 0.0);
    let mut low = begin(&stand, "/", "X-Priority: low\r\n");
    until(&mut stand, ROUTE, 1.0, 1.0);
    assert_eq!(end(&mut begin(&stand, "/", "X-Priority: LOW\r\n")).status, 503);
    let mut high = begin(&stand, "/", "X-Priority: high\r\n");
    let shed = end(&mut low);
    assert_eq!(shed.status, 503);
    assert!(shed.body.contains("that matter more"), "{}", shed.body);
    assert_eq!(
        end(&mut begin(&stand, "/", "X-Priority: whatever\r\n")).status,
        503
    );
    held.open();
    assert_eq!((end(&mut first).status, end(&mut high).status), (200, 200));
    stand.refused("shed", 1);
    stand.refused("busy", 2);
}

#[test]
fn nobody_waits_longer_than_he_may() {
    let held = Held::start();
    let mut stand = stand(&held, false, "limit: 1, queue: 5, wait: 50ms");
    let mut first = begin(&stand, "/", "");
    until(&mut stand, ROUTE, 1.0, 0.0);
    assert_eq!(end(&mut begin(&stand, "/", "")).status, 503);
    stand.refused("waited_too_long", 1);
    until(&mut stand, ROUTE, 1.0, 0.0);
    held.open();
    assert_eq!(end(&mut first).status, 200);
}

#[test]
fn a_client_that_goes_away_gives_his_place_back() {
    let held = Held::start();
    let routes = [
        "{ match: { path: { exact: /text } }, respond: { status: 200, body: hello } }",
        "{ name: front, cluster: shop, timeout: 1m, concurrency: { limit: 1, queue: 1, wait: 50s } }",
    ];
    let mut stand = Stand::start(held.address(), false, "", &routes);
    // A socket that is closed with an answer unread resets: who only closes his own side still wants his answer.
    let mut first = connect(stand.proxy.users);
    first
        .write_all(b"GET /text HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    until(&mut stand, ROUTE, 1.0, 0.0);
    let mut second = begin(&stand, "/", "");
    until(&mut stand, ROUTE, 1.0, 1.0);
    drop(first);
    until(&mut stand, ROUTE, 1.0, 0.0);
    held.open();
    assert_eq!(end(&mut second).status, 200);
    until(&mut stand, ROUTE, 0.0, 0.0);
}

#[test]
fn a_clusters_limit_holds_for_all_of_its_routes_together_and_matters_by_route() {
    let held = Held::start();
    let routes = [
        "{ match: { path: { prefix: /crawl } }, cluster: shop, timeout: 1m, priority: low }",
        "{ match: { path: { prefix: /pay } }, cluster: shop, timeout: 1m, priority: high }",
    ];
    let concurrency = "concurrency: { limit: 1, queue: 1, wait: 50s }";
    let mut stand = Stand::start_guarded(held.address(), true, &routes, concurrency);
    let whose = "kind=\"cluster\",name=\"shop\"";
    let mut first = begin(&stand, "/crawl", "");
    until(&mut stand, whose, 1.0, 0.0);
    let mut crawls = begin(&stand, "/crawl", "");
    until(&mut stand, whose, 1.0, 1.0);
    let mut pays = begin(&stand, "/pay", "");
    assert_eq!(end(&mut crawls).status, 503);
    held.open();
    assert_eq!((end(&mut first).status, end(&mut pays).status), (200, 200));
    until(&mut stand, whose, 0.0, 0.0);
}

/// An endpoint of HTTP/2 that answers once it has heard all.
async fn heard_out() -> Endpoint {
    Endpoint::start(h2::server::Builder::new(), |mut came: Came| async move {
        while let Some(Ok(_)) = next(&mut came.body).await {}
        if let Ok(mut sending) = came.respond.send_response(http::Response::new(()), false) {
            send(&mut sending, "ok\n".into(), true).await;
        }
    })
    .await
}

#[test]
fn a_client_who_is_slow_to_ask_holds_no_place_of_a_limit_that_is_found() {
    let http1 = Scripted::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
        // An end with something unread would be a reset.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let http2 = runtime.block_on(heard_out());
    let route = "{ name: front, cluster: shop, timeout: 1m, concurrency: { limit: 10, queue: 5, wait: 50s, \
                 adaptive: { min: 1, start: 1 } } }";
    let (sized, chunked) = (
        ("Content-Length: 2\r\n\r\na", "b"),
        (
            "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
            "1\r\nb\r\n0\r\n\r\n",
        ),
    );
    for (endpoint, protocol, (begun, rest)) in [
        (http1.address, "http1", sized),
        (http2.address, "http2", sized),
        (http2.address, "http2", chunked),
    ] {
        let mut stand = Stand::start_guarded(endpoint, false, &[route], &format!("protocol: {protocol}"));
        let mut slow = connect(stand.proxy.users);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{begun}");
        slow.write_all(head.as_bytes()).unwrap();
        until(&mut stand, ROUTE, 1.0, 0.0);
        let other = end(&mut begin(&stand, "/", ""));
        assert_eq!(other.status, 200, "{protocol} {begun:?}");
        slow.write_all(rest.as_bytes()).unwrap();
        let told = read_until(&mut slow, "ok\n");
        assert!(told.starts_with("HTTP/1.1 200 "), "{protocol} {begun:?}: {told}");
        until(&mut stand, ROUTE, 0.0, 0.0);
    }
}

/// An endpoint that serves four at a time, ten milliseconds each; who is beyond waits in it.
fn four_at_a_time() -> SocketAddr {
    let free = Arc::new((Mutex::new(4), Condvar::new()));
    let endpoint = Scripted::start(move |stream| {
        let (places, freed) = &*free;
        *freed
            .wait_while(places.lock().unwrap(), |places| *places == 0)
            .unwrap() -= 1;
        std::thread::sleep(Duration::from_millis(10));
        *places.lock().unwrap() += 1;
        freed.notify_one();
        // The client may have gone.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
    });
    endpoint.address
}

#[test]
fn an_adaptive_limit_leaves_the_queue_here_and_shows_where_it_stands() {
    let route = "{ name: front, cluster: shop, timeout: 1m, concurrency: { limit: 500, queue: 500, wait: 50s, \
                 adaptive: { min: 2, start: 100, recheck: 1s } } }";
    let mut stand = Stand::start(four_at_a_time(), false, "", &[route]);
    let limit = format!("foreshade_concurrency_limit{{{ROUTE}}}");
    assert_eq!(stand.proxy.metric(&limit), Some(100.0));
    let (users, done) = (stand.proxy.users, AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let told = exchange(users, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                    assert!(told.starts_with("HTTP/1.1 200"), "nobody is refused: {told}");
                }
            });
        }
        // Two fifths of sixty are 24: what is below has been found, and not only measured with.
        stand.proxy.wait_until("at a limit near four", |p| {
            p.metric(&limit).is_some_and(|limit| limit <= 15.0)
        });
        done.store(true, Ordering::Relaxed);
    });
    assert!(
        stand
            .proxy
            .metric(&format!("foreshade_concurrency_base_seconds{{{ROUTE}}}"))
            > Some(0.0)
    );
    until(&mut stand, ROUTE, 0.0, 0.0);
}
