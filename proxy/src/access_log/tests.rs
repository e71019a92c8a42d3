//! Lines as they come out of the formats, and files as they come out of the writer.

use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::stamp::Stamped;
use super::*;
use crate::config::Sink;
use crate::outcome::Failure;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const BEGAN: Stamped = Stamped {
    rfc3339: *b"2026-11-20T14:15:31",
    combined: *b"20/Nov/2026:14:15:31 +0000",
    ms: 7,
};

fn record() -> Record<'static> {
    Record {
        client: Some("203.0.113.9".parse().unwrap()),
        scheme: "http",
        host: b"shop.example",
        method: b"GET",
        target: b"/cart?token=s3cret",
        protocol: "HTTP/1.1",
        status: 200,
        reason: Reason::Ok,
        detail: "",
        bytes_in: Some(0),
        bytes_out: Some(1234),
        grpc_status: None,
        times: Times {
            duration: Duration::from_micros(12_345),
            first_byte: Some(ms(11)),
            request: Some(ms(0)),
            queue: Some(ms(1)),
            retries: Some(Duration::ZERO),
            connect: Some(ms(2)),
            wait: Some(ms(8)),
            transfer: Some(Duration::from_micros(1_345)),
        },
        served: Some(Served {
            cluster: "shop",
            endpoint: "a-standby",
            role: Role::Shadow,
            attempts: 2,
        }),
        request_id: b"4f2a",
        trace: None,
        referer: b"https://shop.example/?q=s3cret#s3cret",
        user_agent: b"curl/8",
    }
}

fn json_line(record: &Record<'_>, query: bool) -> String {
    let mut line = Vec::new();
    line::json(&mut line, record, &BEGAN, query);
    String::from_utf8(line).unwrap()
}

fn combined_line(record: &Record<'_>, query: bool) -> String {
    let mut line = Vec::new();
    line::combined(&mut line, record, &BEGAN, query);
    String::from_utf8(line).unwrap()
}

#[test]
fn a_json_line_tells_everything() {
    let line: Value = serde_json::from_str(&json_line(&record(), true)).unwrap();
    let expected = json!({
        "time": "2026-11-20T14:15:31.007Z", "client": "203.0.113.9", "host": "shop.example", "method": "GET",
        "target": "/cart?token=s3cret", "protocol": "HTTP/1.1", "status": 200, "reason": "ok",
        "bytes_in": 0, "bytes_out": 1234, "duration_ms": 12.345, "first_byte_ms": 11.0, "request_ms": 0.0,
        "queue_ms": 1.0, "retries_ms": 0.0, "connect_ms": 2.0, "wait_ms": 8.0, "transfer_ms": 1.345,
        "cluster": "shop", "endpoint": "a-standby", "side": "shadow", "attempts": 2, "request_id": "4f2a",
        "referer": "https://shop.example/?q=s3cret#s3cret", "user_agent": "curl/8",
    });
    assert_eq!(line, expected);
}

#[test]
fn what_is_not_known_has_no_key() {
    let refused = Record::refused(None, b"\x16\x03\x01", 400, "bad_line");
    let line: Value = serde_json::from_str(&json_line(&refused, true)).unwrap();
    let expected = json!({
        "time": "2026-11-20T14:15:31.007Z", "method": "\u{16}\u{3}\u{1}", "status": 400,
        "reason": "rejected", "detail": "bad_line", "bytes_in": 0, "bytes_out": 0, "duration_ms": 0.0,
    });
    assert_eq!(line, expected);
    let unknown = json_line(&Record::default(), true);
    assert!(!unknown.contains("bytes"), "{unknown}");
}

#[test]
fn what_looks_like_a_request_line_is_taken_for_one() {
    let head = b"GET /a?b HTTP/1.1\nHost: x\r\n\r\n";
    let refused = Record::refused(None, head, 400, "bad_line");
    assert_eq!((refused.method, refused.target), (&b"GET"[..], &b"/a?b"[..]));
    assert_eq!(Record::refused(None, b"", 408, "slow_head").method, b"");
}

#[test]
fn queries_are_dropped_where_they_may_be_secrets() {
    for line in [json_line(&record(), false), combined_line(&record(), false)] {
        assert!(!line.contains("s3cret"), "{line}");
        assert!(line.contains("/cart\"") || line.contains("/cart "), "{line}");
    }
}

#[test]
fn a_combined_line_is_what_apache_writes() {
    let expected = "203.0.113.9 - - [20/Nov/2026:14:15:31 +0000] \"GET /cart?token=s3cret HTTP/1.1\" 200 1234 \
        \"https://shop.example/?q=s3cret#s3cret\" \"curl/8\"\n";
    assert_eq!(combined_line(&record(), true), expected);
    let refused = Record::refused(Some(IpAddr::from([0; 16])), b"", 400, "bad_line");
    assert_eq!(
        combined_line(&refused, true),
        ":: - - [20/Nov/2026:14:15:31 +0000] \"- -\" 400 0 \"-\" \"-\"\n"
    );
    let unknown = Record {
        bytes_out: None,
        ..refused
    };
    assert!(combined_line(&unknown, true).contains("400 - "));
}

#[test]
fn a_call_tells_how_it_ended_beside_what_that_stands_for() {
    let call = Record {
        status: 503,
        grpc_status: Some(14),
        ..record()
    };
    assert!(json_line(&call, true).contains("\"status\":503,\"grpc_status\":14,"));
}

#[test]
fn failures_are_those_of_servers_and_answers_that_are_not_whole() {
    assert!(is_failed(500, Reason::Ok) && is_failed(504, Reason::Failed(Failure::RouteTimeout)));
    assert!(
        is_failed(200, Reason::Failed(Failure::Truncated))
            && is_failed(0, Reason::Failed(Failure::ClientGone))
    );
    assert!(!is_failed(200, Reason::Ok) && !is_failed(404, Reason::Ok) && !is_failed(404, Reason::NoRoute));
    assert!(!is_failed(301, Reason::Answered) && !is_failed(200, Reason::Answered));
    assert!(is_failed(503, Reason::Answered) && is_failed(200, Reason::Shutdown));
    assert!(!is_failed(400, Reason::Rejected) && !is_failed(408, Reason::Failed(Failure::ClientSlow)));
}

proptest! {
    #[test]
    fn whatever_clients_send_a_line_is_one_line_and_has_a_bound(
        method in prop::collection::vec(any::<u8>(), 0..700),
        target in prop::collection::vec(any::<u8>(), 0..5000),
        host in prop::collection::vec(any::<u8>(), 0..700),
        referer in prop::collection::vec(any::<u8>(), 0..700),
        agent in prop::collection::vec(any::<u8>(), 0..700),
        query: bool,
    ) {
        let record = Record {
            method: &method, target: &target, host: &host, referer: &referer, user_agent: &agent, request_id: &agent,
            ..record()
        };
        let line = json_line(&record, query);
        prop_assert!(line.len() <= LINE_BYTES_MAX, "{}", line.len());
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
        let read: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(read["status"].as_u64(), Some(200));
        let cut = [&method, &host, &referer, &agent].iter().any(|field| field.len() > 512) || target.len() > 2048;
        prop_assert!(!query || (read["truncated"] == json!(true)) == cut);

        let line = combined_line(&record, query);
        prop_assert!(line.len() <= LINE_BYTES_MAX);
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
        // Three quoted fields, and no quote inside of them.
        prop_assert_eq!(line.matches('"').count(), 6);
        prop_assert!(line.trim_end().bytes().all(|b| (0x20..0x7f).contains(&b)));
    }
}

/// A folder of its own, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("foreshade-log-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settings(sink: Sink) -> AccessLog {
    AccessLog {
        sink,
        format: Format::Json,
        sample: 1.0,
        always_errors: true,
        query: true,
    }
}

fn eventually(what: &str, done: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "still not {what}");
        std::thread::sleep(ms(2));
    }
}

#[test]
fn every_line_of_every_worker_is_written_once_and_the_end_loses_none() {
    let folder = Folder::new("all");
    let path = folder.0.join("access.log");
    let (loggers, writing, thread) = writer::start(settings(Sink::File(path.clone())), 3).unwrap();
    let threads: Vec<_> = loggers
        .into_iter()
        .enumerate()
        .map(|(worker, mut logger)| {
            std::thread::spawn(move || {
                for n in 0..5000 {
                    let id = format!("{worker}-{n}");
                    logger.log(&Record {
                        request_id: id.as_bytes(),
                        ..record()
                    });
                    if n % 1000 == 0 {
                        logger.flush();
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    writing.end(thread);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut seen = std::collections::HashSet::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(
            seen.insert(line["request_id"].as_str().unwrap().to_owned()),
            "{line}"
        );
    }
    let counts = writing.counts();
    assert_eq!(counts.written, seen.len() as u64);
    assert_eq!(counts.written + counts.dropped_behind, 15_000);
    assert_eq!(counts.dropped_failed, 0);
}

#[test]
fn a_full_disk_loses_lines_and_counts_them() {
    let full = PathBuf::from("/dev/full");
    let (mut loggers, writing, thread) = writer::start(settings(Sink::File(full)), 1).unwrap();
    for _ in 0..100 {
        loggers[0].log(&record());
    }
    drop(loggers);
    writing.end(thread);
    let expected = Counts {
        written: 0,
        dropped_behind: 0,
        dropped_failed: 100,
    };
    assert_eq!(writing.counts(), expected);
}

#[test]
fn a_writer_that_hangs_costs_lines_and_never_the_worker() {
    // A pipe that nobody reads: the kernel takes 64 KiB, then the writer waits for ever.
    let (mut reader, pipe) = std::io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pipe));
    assert!(
        writer::start(settings(Sink::File(path.into())), 1).is_err(),
        "a pipe by its path is refused"
    );

    let sink = std::fs::File::from(std::os::fd::OwnedFd::from(pipe));
    let (mut loggers, writing, thread) = writer::start_on(sink, settings(Sink::Stdout), 1).unwrap();
    let logger = &mut loggers[0];
    let room = (writer::CHUNKS_MAX + 2) * CHUNK_BYTES;
    let line = json_line(&record(), true).len();
    let sent = 2 * room / line;
    for _ in 0..sent {
        logger.log(&record());
    }
    let behind = writing.counts().dropped_behind;
    assert!(behind > 0 && behind < sent as u64, "{behind} of {sent}");
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text.lines().count() as u64
    });
    eventually("able to write again", || writing.counts().written > 0);
    drop(loggers);
    writing.end(thread);
    let written = read.join().unwrap();
    assert_eq!(written + writing.counts().dropped_behind, sent as u64);
    assert_eq!(writing.counts().written, written);
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew_when_asked() {
    let folder = Folder::new("rotate");
    let (path, old) = (folder.0.join("access.log"), folder.0.join("access.log.1"));
    let (mut loggers, writing, thread) = writer::start(settings(Sink::File(path.clone())), 1).unwrap();
    let lines = |path: &PathBuf| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
    let mut log = |n| {
        for _ in 0..n {
            loggers[0].log(&record());
        }
        loggers[0].flush();
    };
    log(3);
    eventually("written", || lines(&path) == 3);
    std::fs::rename(&path, &old).unwrap();
    log(4);
    eventually("written to the old file", || lines(&old) == 7);
    writing.reopen();
    eventually("opened anew", || path.exists());
    log(5);
    eventually("written to the new file", || lines(&path) == 5);
    assert_eq!(lines(&old), 7);

    // A folder that is gone: the file that is open is kept.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    writing.reopen();
    log(2);
    eventually("written to the kept file", || writing.counts().written == 14);
    drop(loggers);
    writing.end(thread);
}

#[test]
fn half_a_line_is_ended_before_the_next_one() {
    // A socket that takes what it has room for and refuses the rest, as a disk does that is nearly full.
    let (reader, sink) = std::os::unix::net::UnixStream::pair().unwrap();
    sink.set_nonblocking(true).unwrap();
    let sink = std::fs::File::from(std::os::fd::OwnedFd::from(sink));
    let (mut loggers, writing, thread) = writer::start_on(sink, settings(Sink::Stdout), 1).unwrap();
    for _ in 0..5000 {
        loggers[0].log(&record());
    }
    loggers[0].flush();
    eventually("full", || writing.counts().dropped_failed > 0);
    eventually("through", || {
        writing.counts().written + writing.counts().dropped_failed == 5000
    });
    let read = std::thread::spawn(move || std::io::read_to_string(reader).unwrap());
    let before = writing.counts().written;
    while writing.counts().written == before {
        loggers[0].log(&record());
        loggers[0].flush();
    }
    drop(loggers);
    writing.end(thread);
    let text = read.join().unwrap();
    let whole = text
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line).is_ok())
        .count() as u64;
    assert_eq!(whole, writing.counts().written);
    assert!(
        text.lines().count() as u64 > whole,
        "nothing was torn, so nothing was tested"
    );
}

#[test]
fn the_share_that_is_asked_for_gets_a_line_and_failures_always_do() {
    let folder = Folder::new("sample");
    let path = folder.0.join("access.log");
    let sampled = AccessLog {
        sample: 0.1,
        ..settings(Sink::File(path.clone()))
    };
    let (mut loggers, writing, thread) = writer::start(sampled, 1).unwrap();
    for _ in 0..5000 {
        loggers[0].log(&record());
    }
    for _ in 0..50 {
        loggers[0].log(&Record {
            status: 503,
            ..record()
        });
    }
    drop(loggers);
    writing.end(thread);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("\"status\":503").count(), 50);
    let others = text.matches("\"status\":200").count();
    assert!((350..650).contains(&others), "{others}");
}

#[test]
fn a_file_is_for_its_owner_and_group_and_a_folder_is_none() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("mode");
    let path = folder.0.join("access.log");
    let (_loggers, writing, thread) = writer::start(settings(Sink::File(path.clone())), 1).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
    writing.end(thread);
    assert!(writer::start(settings(Sink::File(folder.0.clone())), 1).is_err());
}
