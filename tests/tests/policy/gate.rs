//! How many requests may be under way, who waits, and who is turned away.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use foreshade_tests::wire::{Scripted, connect, read_until};

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
