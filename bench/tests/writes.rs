//! A proxy that lies about writes, before a real farm: what it made happen twice and what it only said are both found.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage fails")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use foreshade_bench::claim::{Claim, judge};
use foreshade_bench::client::FarmControl;
use foreshade_bench::farm::{Farm, FarmOptions};
use foreshade_bench::figures;
use foreshade_bench::load::record::{Records, Span};
use foreshade_bench::load::{Load, LoadOptions};
use foreshade_bench::play::settle;
use foreshade_bench::run::Run;
use foreshade_bench::wire::{parse_answer, parse_request};

const DONE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// What becomes of a write with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Honest,
    /// Acknowledged, and thrown away.
    Lost,
    /// Sent to the endpoint twice.
    Twice,
}

fn thief(number: u64) -> Fate {
    match number % 4 {
        0 => Fate::Lost,
        1 => Fate::Twice,
        _ => Fate::Honest,
    }
}

fn honest(_: u64) -> Fate {
    Fate::Honest
}

/// Stands between users and `farm`, and does to each write what `fate` says.
fn proxy(farm: SocketAddr, fate: fn(u64) -> Fate) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for user in listener.incoming().flatten() {
            thread::spawn(move || converse(user, farm, fate));
        }
    });
    address
}

fn converse(mut user: TcpStream, farm: SocketAddr, fate: fn(u64) -> Fate) -> io::Result<()> {
    let (mut buffer, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        let Some(request) = parse_request(&buffer)? else {
            match user.read(&mut piece)? {
                0 => return Ok(()),
                read => buffer.extend_from_slice(&piece[..read]),
            }
            continue;
        };
        let bytes = &buffer[..request.body.end];
        let number = request.number.filter(|_| request.post);
        let answer = match number.map_or(Fate::Honest, fate) {
            Fate::Honest => ask(farm, bytes)?,
            Fate::Lost => DONE.to_vec(),
            Fate::Twice => ask(farm, bytes).and_then(|_| ask(farm, bytes))?,
        };
        user.write_all(&answer)?;
        buffer.drain(..request.body.end);
    }
}

/// One request on a connection of its own.
fn ask(farm: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(farm)?;
    stream.write_all(request)?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        if let Some(head) = parse_answer(&answer)?
            && answer.len() as u64 >= head.head_bytes as u64 + head.body_bytes
        {
            return Ok(answer);
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
}

/// A second of load through such a proxy, as `faults` looks at it.
fn played(fate: fn(u64) -> Fate) -> Run {
    let mut options = FarmOptions::on_free_ports(&["a"]);
    options.control = Some("127.0.0.1:0".parse().unwrap());
    let farm = Farm::start(options).unwrap();
    let mut load = LoadOptions::steady(proxy(farm.addresses()[0], fate), 300.0, Duration::from_secs(1));
    load.mix.post_share = 0.5;
    let report = Load::start(load).unwrap().finish();
    let mut run = Run {
        records: Records::from(report.records),
        fault: Span::new(Duration::ZERO, Duration::from_secs(1)),
        end_us: 1_000_000,
        ..Run::default()
    };
    settle(&mut run, FarmControl(farm.control_address().unwrap())).unwrap();
    run
}

#[test]
fn a_write_that_is_sent_twice_and_one_that_is_only_said_to_be_done_are_both_found() {
    let run = played(thief);
    let of = |fate| {
        let acknowledged = run.records.acknowledged();
        acknowledged
            .into_iter()
            .filter(|number| thief(*number) == fate)
            .collect::<Vec<_>>()
    };
    assert!(of(Fate::Lost).len() > 10 && of(Fate::Twice).len() > 10);
    let figures = figures::of(&run);
    assert_eq!(figures.posts_twice, of(Fate::Twice).len() as u64);
    assert_eq!(figures.posts_missing, Some(of(Fate::Lost).len() as u64));
    let missing = run.missing.as_ref().unwrap();
    assert_eq!(missing.missing, of(Fate::Lost));
    let verdict = judge(&Claim::NoPostTwice, &run);
    assert!(!verdict.holds && verdict.measured.contains("lost although acknowledged"));
}

#[test]
fn an_honest_proxy_is_not_suspected() {
    let run = played(honest);
    let figures = figures::of(&run);
    assert_eq!((figures.posts_twice, figures.posts_missing), (0, Some(0)));
    assert!(judge(&Claim::NoPostTwice, &run).holds);
}
