//! What a client sees of each fault, byte by byte over a real socket: reset, garbage, half an answer, nothing. Nothing here
//! asserts how long anything takes; timeouts only end what is broken.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use foreshade_bench::client::FarmControl;
use foreshade_bench::farm::fault::{Fault, Kind};
use foreshade_bench::farm::ledger::{Missing, Repeat};
use foreshade_bench::farm::service_time::ServiceTime;
use foreshade_bench::farm::talk::Language;
use foreshade_bench::farm::{Farm, FarmOptions};

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than any test lasts.
const FOR_EVER: ServiceTime = ServiceTime::Constant(Duration::from_secs(3_600));

/// A farm with the endpoints `a` and `b` that answers at once, unless `change` says otherwise.
#[expect(clippy::unwrap_used, reason = "a test without sockets fails")]
fn farm(change: impl FnOnce(&mut FarmOptions)) -> Farm {
    let mut options = FarmOptions::on_free_ports(&["a", "b"]);
    options.service_time = ServiceTime::NONE;
    change(&mut options);
    Farm::start(options).unwrap()
}

fn faulty(kind: Kind) -> (Farm, Client) {
    let farm = farm(|options| options.faults = vec![("a".to_owned(), vec![kind.into()])]);
    let client = Client::connect(farm.addresses()[0]);
    (farm, client)
}

struct Client {
    stream: TcpStream,
    /// Read and not used yet.
    rest: Vec<u8>,
}

#[expect(clippy::unwrap_used, reason = "a test without sockets fails")]
impl Client {
    fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            rest: Vec::new(),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.stream.write_all(bytes).unwrap();
        self
    }

    fn get(&mut self, path: &str) -> &mut Self {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-request-number: 1\r\n\r\n").as_bytes())
    }

    fn post(&mut self, number: u64) -> &mut Self {
        let head = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nx-request-number:";
        self.send(format!("{head} {number}\r\n\r\nhi").as_bytes())
    }

    /// Head and body of one answer that says its length.
    fn answer(&mut self) -> (String, Vec<u8>) {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more();
        };
        let head = String::from_utf8(self.rest.drain(..end).collect()).unwrap();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        while self.rest.len() < length {
            self.read_more();
        }
        (head, self.rest.drain(..length).collect())
    }

    fn status(&mut self) -> u16 {
        self.answer().0.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn read_more(&mut self) {
        let mut bytes = [0; 65_536];
        let n = self.stream.read(&mut bytes).unwrap();
        assert_ne!(
            n,
            0,
            "the connection ended after {:?}",
            String::from_utf8_lossy(&self.rest)
        );
        self.rest.extend_from_slice(&bytes[..n]);
    }

    /// All that comes until the connection ends, and how it ends.
    fn end(&mut self) -> (Vec<u8>, io::Result<usize>) {
        let mut bytes = std::mem::take(&mut self.rest);
        let ended = self.stream.read_to_end(&mut bytes);
        (bytes, ended)
    }

    /// Whether an answer has begun to arrive.
    fn is_answered(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        matches!(peeked, Ok(1..))
    }
}

/// Asks until it is so. The test's own limit of time ends what never comes.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "{what}: never");
        std::thread::yield_now();
    }
}

#[test]
fn a_reset_is_a_reset_and_the_write_has_taken_effect() {
    let (farm, mut client) = faulty(Kind::Resets);
    let (bytes, ended) = client.post(7).end();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(bytes.is_empty());
    assert_eq!(farm.ledger().writes, 1);
    until("counted as lost", || farm.counts()["a"].posts_lost == 1);
}

#[test]
fn garbage_is_no_http_and_ends_the_connection() {
    let (_farm, mut client) = faulty(Kind::Garbage);
    let (bytes, ended) = client.get("/a").end();
    assert!(ended.is_ok() && !bytes.is_empty());
    assert!(foreshade_bench::wire::parse_answer(&bytes).is_err());
}

#[test]
fn an_early_close_comes_in_the_middle_of_the_body() {
    let (_farm, mut client) = faulty(Kind::EarlyClose { part: 0.5 });
    let (bytes, ended) = client.get("/a?bytes=100000").end();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(ended.is_ok() && head.contains("content-length: 100000"));
    assert_eq!(body.len(), 50_000);
}

#[test]
fn a_slow_body_follows_its_head_drop_by_drop_and_whole() {
    let (farm, mut client) = faulty(Kind::SlowBody { bytes_per_s: 1 });
    client.get("/a").read_more();
    let received = String::from_utf8(client.rest.clone()).unwrap();
    assert!(received.starts_with("HTTP/1.1 200 OK"));
    // 100 bytes take 100 s: this one would have to be read as late for all of it to be there.
    assert!(!received.ends_with(&"x".repeat(100)), "{received}");
    farm.set_faults(
        "a",
        &[Kind::SlowBody {
            bytes_per_s: 1_000_000,
        }
        .into()],
    )
    .unwrap();
    let mut client = Client::connect(farm.addresses()[0]);
    assert_eq!(client.get("/a?bytes=60000").answer().1, vec![b'x'; 60_000]);
    // The connection is still good.
    assert_eq!(client.get("/a").status(), 200);
}

#[test]
fn one_path_hangs_and_the_others_are_served_and_healing_closes_what_hung() {
    let farm = farm(|_| {});
    let (mut hung, mut well) = (
        Client::connect(farm.addresses()[0]),
        Client::connect(farm.addresses()[0]),
    );
    farm.set_faults("a", &[Fault::from(Kind::Hang).on_path("/e")])
        .unwrap();
    hung.get("/e/1");
    until("it arrives", || farm.counts()["a"].requests() == 1);
    assert_eq!(well.get("/a").status(), 200);
    farm.set_faults("a", &[]).unwrap();
    let (bytes, _) = hung.end();
    assert!(bytes.is_empty());
    assert_eq!(well.get("/e/1").status(), 200);
}

#[test]
fn what_is_under_way_when_a_process_is_killed_is_lost_and_counted() {
    let farm = farm(|options| options.service_time = FOR_EVER);
    let mut client = Client::connect(farm.addresses()[0]);
    client.post(7);
    until("it arrives", || farm.counts()["a"].posts == 1);
    farm.set_faults("a", &[Fault::refuse(true)]).unwrap();
    let (bytes, _) = client.end();
    assert!(bytes.is_empty());
    until("counted as lost", || farm.counts()["a"].posts_lost == 1);
    until("nobody listens", || {
        TcpStream::connect(farm.addresses()[0]).is_err()
    });
}

#[test]
fn idle_connections_end_with_an_endpoint_that_stops() {
    let farm = farm(|_| {});
    let mut client = Client::connect(farm.addresses()[0]);
    assert_eq!(client.get("/a").status(), 200);
    farm.set_faults("a", &[Fault::refuse(false)]).unwrap();
    assert!(client.end().0.is_empty());
}

#[test]
fn a_process_that_leaks_dies_and_comes_back_by_itself() {
    let farm = farm(|_| {});
    let leak = Kind::Leak {
        growth: 0.02,
        dies_after: Duration::from_millis(20),
        restarts_after: Duration::from_millis(20),
    };
    farm.set_faults("a", &[leak.into()]).unwrap();
    for _ in 0..2 {
        until("it dies", || TcpStream::connect(farm.addresses()[0]).is_err());
        until("it comes back", || {
            TcpStream::connect(farm.addresses()[0]).is_ok()
        });
    }
}

#[test]
fn a_process_that_stands_still_answers_nothing_until_it_goes_on() {
    let (farm, mut early) = faulty(Kind::Pause);
    early
        .get("/a")
        .stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let nothing = early.stream.peek(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    early.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    farm.set_faults("a", &[]).unwrap();
    assert_eq!(early.status(), 200);
}

#[test]
fn errors_of_one_path_and_of_large_bodies_leave_the_rest_alone() {
    let farm = farm(|_| {});
    let mut large = Fault::errors(1.0);
    large.only.bodies_above = Some(1_000);
    let not_found = Fault::from(Kind::Errors { status: 404 }).on_path("/e");
    farm.set_faults("a", &[large, not_found]).unwrap();
    let mut client = Client::connect(farm.addresses()[0]);
    let asked = ["/a", "/e", "/a?bytes=1001"].map(|path| client.get(path).status());
    assert_eq!(asked, [200, 404, 500]);
    let mut upload = |bytes: usize| {
        let head = format!("POST /a HTTP/1.1\r\ncontent-length: {bytes}\r\n\r\n");
        client.send(head.as_bytes()).send(&vec![b'y'; bytes]).status()
    };
    assert_eq!([upload(1_000), upload(1_001)], [200, 500]);
}

#[test]
fn a_full_endpoint_turns_away_at_once_and_such_a_write_took_no_effect() {
    let farm = farm(|options| {
        (options.service_time, options.cores, options.queue) = (FOR_EVER, Some(1), 1);
    });
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(farm.addresses()[0])).collect();
    for (number, client) in (1..).zip(&mut clients) {
        client.post(number);
        until("it arrives", || farm.counts()["a"].posts == number);
    }
    assert_eq!(clients[2].status(), 503);
    let counts = farm.counts()["a"].clone();
    assert_eq!((counts.turned_away, counts.errors), (1, 1));
    assert_eq!(farm.ledger().writes, 2);
    assert_eq!(farm.missing(&[1, 2, 3]).missing, [3]);
    // The other endpoint has cores of its own.
    assert!(!Client::connect(farm.addresses()[1]).get("/a").is_answered());
    assert_eq!(farm.counts()["b"].turned_away, 0);
}

#[test]
fn who_waits_for_a_core_is_served_in_turn() {
    let none = Fault::from(Kind::Capacity { left: 0.0 });
    let farm = farm(|options| {
        options.service_time = ServiceTime::Constant(Duration::from_millis(5));
        options.cores = Some(1);
        options.faults = vec![("a".to_owned(), vec![none])];
    });
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(farm.addresses()[0])).collect();
    for (number, client) in (1..).zip(&mut clients) {
        client.post(number);
        until("it arrives", || farm.counts()["a"].posts == number);
    }
    assert!(clients.iter_mut().all(|client| !client.is_answered()));
    farm.set_faults("a", &[]).unwrap();
    // The last one is answered when all before it have been.
    assert_eq!(clients[3].status(), 200);
    assert!(clients[..3].iter_mut().all(Client::is_answered));
}

#[test]
fn a_load_report_says_how_busy_the_endpoint_is() {
    let farm = farm(|options| (options.cores, options.orca) = (Some(4), true));
    let (head, _) = Client::connect(farm.addresses()[0]).get("/a").answer();
    let report = head
        .split("endpoint-load-metrics: TEXT cpu_utilization=")
        .nth(1)
        .unwrap();
    let utilisation: f64 = report.split("\r\n").next().unwrap().parse().unwrap();
    assert!((0.0..=1.0).contains(&utilisation), "{head}");
}

#[test]
fn large_bodies_pass_in_both_directions_and_a_head_has_none() {
    let farm = farm(|_| {});
    let mut client = Client::connect(farm.addresses()[0]);
    assert_eq!(client.get("/a?bytes=1048576").answer().1, vec![b'x'; 1_048_576]);
    client.send(b"POST /a HTTP/1.1\r\ncontent-length: 1048576\r\n\r\n");
    assert_eq!(client.send(&vec![b'y'; 1_048_576]).status(), 200);
    client.send(b"HEAD /a HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\n\r\n");
    while client.rest.windows(4).filter(|four| four == b"\r\n\r\n").count() < 2 {
        client.read_more();
    }
    let both = String::from_utf8(client.rest.clone()).unwrap();
    let mut heads = both.split("\r\n\r\n");
    assert!(heads.next().unwrap().contains("content-length: 100"));
    assert!(heads.next().unwrap().starts_with("HTTP/1.1 200 OK"), "{both}");
}

#[test]
fn a_write_that_is_sent_twice_is_found_wherever_it_went() {
    let farm = farm(|_| {});
    let [a, b] = [0, 1].map(|index| farm.addresses()[index]);
    for number in 1..=100 {
        assert_eq!(Client::connect(a).post(number).status(), 200);
    }
    // What a proxy does that retries what it must not.
    assert_eq!(Client::connect(b).post(42).status(), 200);
    assert_eq!(Client::connect(a).post(43).status(), 200);
    let report = farm.ledger();
    assert_eq!((report.writes, report.repeats), (102, 2));
    let twice = |number, again| Repeat {
        number,
        first: 0,
        again,
    };
    assert_eq!(report.kept, [twice(42, 1), twice(43, 0)]);
}

#[test]
fn a_write_that_was_answered_and_never_took_effect_is_found() {
    let farm = farm(|options| options.control = Some(SocketAddr::from(([127, 0, 0, 1], 0))));
    let control = FarmControl(farm.control_address().unwrap());
    // A proxy that answers itself, and forgets the write.
    let liar = TcpListener::bind("127.0.0.1:0").unwrap();
    let lies = liar.local_addr().unwrap();
    let lying = std::thread::spawn(move || {
        let (mut stream, _) = liar.accept().unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        // Not closed before it is read, or the rest of the request would turn the answer into a reset.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut answered = Vec::new();
    for number in 1..=10 {
        let to = if number == 7 { lies } else { farm.addresses()[0] };
        let status = Client::connect(to).post(number).status();
        assert_eq!(status, 200);
        answered.push(number);
    }
    lying.join().unwrap();
    let missing = Missing {
        missing: vec![7],
        forgotten: 0,
    };
    assert_eq!(control.missing(&answered).unwrap(), missing);
    assert_eq!(farm.missing(&answered), missing);
}

#[test]
fn an_echo_gives_back_what_it_reads_and_suffers_the_same_faults() {
    let farm = farm(|options| options.language = Language::Echo);
    let mut client = Client::connect(farm.addresses()[0]);
    let sent: Vec<u8> = (0..200_000_u32).map(|index| index.to_le_bytes()[0]).collect();
    let mut writer = client.stream.try_clone().unwrap();
    let of_writer = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&of_writer).unwrap());
    while client.rest.len() < sent.len() {
        client.read_more();
    }
    writing.join().unwrap();
    assert!(client.rest == sent);
    client.rest.clear();
    farm.set_faults("a", &[Kind::EarlyClose { part: 0.5 }.into()])
        .unwrap();
    assert_eq!(client.send(b"half of it").end().0, b"half ");
    farm.set_faults("a", &[Kind::Resets.into()]).unwrap();
    let (_, ended) = Client::connect(farm.addresses()[0]).send(b"x").end();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    farm.set_faults("a", &[Fault::errors(1.0)]).unwrap();
    let (bytes, ended) = Client::connect(farm.addresses()[0]).send(b"x").end();
    assert!(bytes.is_empty() && ended.is_ok());
}

#[test]
fn a_line_with_a_number_is_answered_with_so_many_bytes() {
    let farm = farm(|options| options.language = Language::Send);
    let mut client = Client::connect(farm.addresses()[0]);
    client.send(b"5\n300000\r\n0\n1\n");
    while client.rest.len() < 300_006 {
        client.read_more();
    }
    assert!(client.rest.iter().all(|byte| *byte == b'x') && client.rest.len() == 300_006);
    for nonsense in [&b"many\n"[..], b"-1\n", &[b'1'; 40]] {
        let mut client = Client::connect(farm.addresses()[0]);
        // Closed while it still sends, perhaps.
        let _ = client.stream.write_all(nonsense);
        assert!(client.end().0.is_empty());
    }
}

#[test]
fn a_mistake_at_the_control_says_what_is_wrong_and_changes_nothing() {
    let farm = farm(|options| options.control = Some(SocketAddr::from(([127, 0, 0, 1], 0))));
    let control = farm.control_address().unwrap();
    let ask = |method, path, body| foreshade_bench::client::request(control, method, path, body).unwrap();
    let slow = r#"{"kind":"slow","factor":2}"#;
    assert_eq!(ask("POST", "/fault/a", slow).0, 200);
    let before = ask("GET", "/faults", "").1;
    for (method, path, body, status, expected) in [
        ("POST", "/fault/a", "", 400, "EOF"),
        ("POST", "/fault/a", "{", 400, "EOF"),
        (
            "POST",
            "/fault/a",
            r#"{"kind":"lazy"}"#,
            400,
            "unknown variant `lazy`",
        ),
        (
            "POST",
            "/fault/a",
            r#"{"kind":"slow","speed":2}"#,
            400,
            "unknown field `speed`",
        ),
        (
            "POST",
            "/fault/a",
            r#"[{"kind":"hang"},{"kind":"slow"}]"#,
            400,
            "needs `factor`",
        ),
        (
            "POST",
            "/fault/a",
            r#"{"kind":"capacity","left":0.5}"#,
            400,
            "--cores",
        ),
        ("POST", "/fault/z", slow, 404, "only a, b"),
        ("DELETE", "/fault/", "", 404, "no endpoint"),
        ("PUT", "/fault/a", slow, 404, "try POST"),
        ("GET", "/", "", 404, "GET /faults"),
        (
            "POST",
            "/ledger/missing",
            r#"["a"]"#,
            400,
            "list of request numbers",
        ),
    ] {
        let (answered, text) = ask(method, path, body);
        assert_eq!(answered, status, "{method} {path} {body}: {text}");
        let error = serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let error = error["error"].as_str().unwrap();
        assert!(error.contains(expected), "{method} {path} {body}: {error}");
    }
    assert_eq!(ask("GET", "/faults", "").1, before);
    assert_eq!(ask("DELETE", "/fault/a", "").0, 200);
    assert_ne!(ask("GET", "/faults", "").1, before);
}

#[test]
fn a_ledger_begins_anew_when_it_is_told() {
    let farm = farm(|options| options.control = Some(SocketAddr::from(([127, 0, 0, 1], 0))));
    let control = farm.control_address().unwrap();
    for _ in 0..2 {
        assert_eq!(Client::connect(farm.addresses()[0]).post(1).status(), 200);
        assert_eq!((farm.ledger().writes, farm.ledger().repeats), (1, 0));
        foreshade_bench::client::request(control, "DELETE", "/ledger", "").unwrap();
    }
}
