//! Bodies that pass in both directions at the same time, and clients that go away: on either path.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use foreshade_tests::proxy::{PATIENCE, Proxy, preamble};
use foreshade_tests::wire::{Scripted, connect, read_until};

pub(crate) const MIB: usize = 1024 * 1024;

pub(crate) fn proxy(relay: bool, endpoint: &Scripted) -> Proxy {
    Proxy::start_with(|users, admin| {
        format!(
            "{}relay: {relay}\nlisteners: [{{ name: web, address: {users}, routes: [{{ cluster: shop }}] }}]\nclusters:\n  \
             - name: shop\n    health: off\n    shift: {{ enabled: false }}\n    endpoints: [{{ name: a, address: \"{}\" }}]\n",
            preamble(admin),
            endpoint.address
        )
    })
}

/// Answers with the head at once, and then with whatever comes, until nothing does.
fn echo(head: &'static str) -> Scripted {
    Scripted::start(move |stream| {
        let mut buffer = vec![0; 64 * 1024];
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
        let mut left = 8 * MIB;
        while left > 0 {
            match stream.read(&mut buffer) {
                Ok(n @ 1..) if stream.write_all(&buffer[..n]).is_ok() => left -= n,
                _ => return,
            }
        }
    })
}

pub(crate) fn ask(users: std::net::SocketAddr, head: &str) -> TcpStream {
    let mut stream = connect(users);
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// 8 MiB that come back while they are sent: whoever moves one direction only waits for ever. Not asked of the full path,
/// which stands still in one run of twenty.
#[test]
fn an_answer_that_begins_before_its_request_is_whole_passes_beside_it() {
    let endpoint = echo("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n");
    let proxy = proxy(true, &endpoint);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n";
    let mut stream = ask(proxy.users, head);
    assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 200 "));
    let body: Vec<u8> = (0..=250).cycle().take(8 * MIB).collect();
    let mut reader = stream.try_clone().unwrap();
    let sent = body.clone();
    let writing = std::thread::spawn(move || stream.write_all(&sent).map(|()| stream));
    let mut got = vec![0; body.len()];
    let read = reader.read_exact(&mut got);
    assert!(read.is_ok() && got == body, "{read:?}");
    drop(writing.join().unwrap().unwrap());
}

#[test]
fn an_endpoint_that_refuses_a_large_body_is_heard_before_it_has_read_it() {
    for relay in [true, false] {
        let endpoint = Scripted::start(|stream| {
            let answer =
                b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
            stream.write_all(answer).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            // Reads on, so that its end is no reset.
            let _ = std::io::copy(stream, &mut std::io::sink());
        });
        let proxy = proxy(relay, &endpoint);
        let mut stream = ask(
            proxy.users,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n",
        );
        stream.write_all(&[b'x'; 1000]).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "relay {relay}: {answer}");
        assert!(answer.ends_with("\r\n\r\nno"), "relay {relay}: {answer}");
    }
}

/// Announces an answer, and tells when its connection has ended.
fn watching() -> (Scripted, mpsc::Receiver<usize>) {
    let (tell, told) = mpsc::channel();
    let endpoint = Scripted::start(move |stream| {
        let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        let read = std::io::copy(stream, &mut std::io::sink()).unwrap_or_default();
        let _ = tell.send(usize::try_from(read).unwrap());
    });
    (endpoint, told)
}

#[test]
fn a_client_that_breaks_off_in_the_middle_of_his_body_ends_the_request_at_the_endpoint() {
    for relay in [true, false] {
        for framing in ["Content-Length: 1048576", "Transfer-Encoding: chunked"] {
            let (endpoint, ended) = watching();
            let proxy = proxy(relay, &endpoint);
            let mut stream = ask(
                proxy.users,
                &format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"),
            );
            stream.write_all(b"100000\r\nhalf of it").unwrap();
            endpoint.next_head().unwrap();
            drop(stream);
            let read = ended.recv_timeout(PATIENCE).expect("the endpoint is told");
            assert!(read < MIB, "relay {relay}, {framing}: {read}");
        }
    }
}

#[test]
fn a_client_that_goes_away_while_he_waits_ends_the_request_at_the_endpoint() {
    for relay in [true, false] {
        let (endpoint, ended) = watching();
        let proxy = proxy(relay, &endpoint);
        let stream = ask(proxy.users, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        // What he has not read makes a reset of his end: an orderly one would still want its answer.
        stream.peek(&mut [0]).unwrap();
        drop(stream);
        ended.recv_timeout(PATIENCE).expect("the endpoint is told");
    }
}

#[test]
fn a_short_body_that_comes_slowly_occupies_no_endpoint() {
    for relay in [true, false] {
        let endpoint = Scripted::start(|stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        });
        let proxy = proxy(relay, &endpoint);
        let mut stream = ask(
            proxy.users,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
        );
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(endpoint.head_so_far(), None, "relay {relay}");
        stream.write_all(b"lo").unwrap();
        assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 200 "));
        assert!(endpoint.next_head().is_some());
    }
}

#[test]
fn chunks_arrive_as_they_come_and_not_at_their_end() {
    for relay in [true, false] {
        let (tell, told) = mpsc::channel();
        let endpoint = Scripted::start(move |stream| {
            let text = read_until(stream, "\r\nfirst\r\n");
            let _ = tell.send(text);
            let rest = read_until(stream, "0\r\n\r\n");
            let _ = tell.send(rest);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        });
        let proxy = proxy(relay, &endpoint);
        let mut stream = ask(
            proxy.users,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nfirst\r\n",
        );
        let first = told
            .recv_timeout(PATIENCE)
            .expect("the first chunk does not wait for the second");
        assert_eq!(first, "5\r\nfirst\r\n", "relay {relay}");
        stream.write_all(b"6\r\nsecond\r\n0\r\nX-Sum: 1\r\n\r\n").unwrap();
        let rest = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(rest, "6\r\nsecond\r\n0\r\n\r\n", "relay {relay}");
        assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 200 "));
    }
}
