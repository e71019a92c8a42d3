//! What the load promises about itself: it asks as often as its schedule says, and whoever had to wait while a server
//! stalled is in its figures, asked or not. Nothing here asserts how long anything takes: moments are compared with each
//! other.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use foreshade_bench::farm::{Farm, FarmOptions};
use foreshade_bench::load::record::{Outcome, Record, micros};
use foreshade_bench::load::schedule::{Arrivals, Rate, Schedule, StepRates};
use foreshade_bench::load::{Closed, Load, LoadOptions};

const SECOND: Duration = Duration::from_secs(1);

/// Requests that the server answers at once before it stalls on one.
const BEFORE_STALL: usize = 100;

/// A server on one connection that answers at once, but holds one answer back until it is told to go on.
fn stalling_server() -> (SocketAddr, std::sync::mpsc::Sender<()>, Receiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (go_on, told) = channel();
    let (stalled, stalls) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for request in 0.. {
            if !read_request(&mut stream) {
                return;
            }
            if request == BEFORE_STALL {
                stalled.send(Instant::now()).unwrap();
                told.recv().unwrap();
            }
            if stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .is_err()
            {
                return;
            }
        }
    });
    (address, go_on, stalls)
}

/// One GET, whose head ends with an empty line; false when there is none any more.
fn read_request(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return false;
        }
        head.push(byte[0]);
    }
    true
}

fn options(target: SocketAddr, rate: f64) -> LoadOptions {
    let mut options = LoadOptions::steady(target, rate, SECOND);
    options.arrivals = Arrivals::Constant;
    options.mix.post_share = 0.0;
    options
}

/// Has the server stall until `enough` says so, and returns what was recorded and when the stall ended.
fn stall(
    options: LoadOptions,
    server: (std::sync::mpsc::Sender<()>, Receiver<Instant>),
    enough: impl Fn(&Load) -> bool,
) -> (Vec<Record>, [u64; 2]) {
    let (go_on, stalls) = server;
    let load = Load::start(options).unwrap();
    let began = stalls.recv().unwrap();
    while !enough(&load) {
        std::thread::yield_now();
    }
    let ended = Instant::now();
    go_on.send(()).unwrap();
    let started = load.started();
    (
        load.finish().records,
        [began, ended].map(|at| micros(at - started)),
    )
}

#[test]
fn everybody_who_was_due_while_a_server_stalled_is_in_the_figures() {
    let (target, go_on, stalls) = stalling_server();
    let mut options = options(target, 1_000.0);
    options.connections_max = 1;
    options.deadline = 60 * SECOND;
    let (records, [began_us, ended_us]) =
        stall(options, (go_on, stalls), |load| load.progress().waiting > 100);
    assert_eq!(records.len(), 1_000, "nobody is left out");
    assert!(
        records
            .iter()
            .all(|record| record.outcome == Outcome::status(200))
    );
    let due = |record: &&Record| (began_us..ended_us).contains(&record.intended_us);
    let due: Vec<_> = records.iter().filter(due).collect();
    assert!(due.len() > 100, "{}", due.len());
    for record in due {
        assert!(
            record.intended_us + u64::from(record.latency_us) >= ended_us,
            "{record:?} waited until {ended_us}"
        );
    }
}

#[test]
fn a_closed_loop_omits_them_which_is_why_it_is_not_the_default() {
    let (target, go_on, stalls) = stalling_server();
    let mut options = options(target, 0.0);
    options.closed = Some(Closed { lines: 1, rate: None });
    let (records, [began_us, ended_us]) = stall(options, (go_on, stalls), |load| {
        load.started().elapsed() > SECOND / 2
    });
    let waited = |record: &&Record| {
        record.intended_us < ended_us && record.intended_us + u64::from(record.latency_us) >= ended_us
    };
    assert_eq!(records.iter().filter(waited).count(), 1);
    assert!(
        !records
            .iter()
            .any(|record| (began_us..ended_us).contains(&record.intended_us))
    );
}

#[test]
fn as_many_are_asked_as_the_schedule_says() {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a"])).unwrap();
    let target = farm.addresses()[0];
    let rates = StepRates::new(&[500.0, 2_500.0]).unwrap();
    let shapes = [
        (Rate::Steady(2_000.0), Arrivals::Constant),
        (Rate::Steady(2_000.0), Arrivals::Poisson),
        (
            Rate::Ramp {
                from: 0.0,
                to: 4_000.0,
                length: SECOND,
            },
            Arrivals::Constant,
        ),
        (
            Rate::Steps {
                rates,
                each: SECOND / 2,
            },
            Arrivals::Poisson,
        ),
    ];
    for (rate, arrivals) in shapes {
        let mut options = options(target, 0.0);
        (options.rate, options.arrivals) = (rate, arrivals);
        let before = farm.counts()["a"].requests();
        let report = Load::start(options).unwrap().finish();
        let expected: Vec<_> = Schedule::new(arrivals, rate, SECOND, 1).map(micros).collect();
        let mut intended: Vec<_> = report.records.iter().map(|record| record.intended_us).collect();
        intended.sort_unstable();
        assert_eq!(intended, expected, "{rate:?} {arrivals:?}");
        assert_eq!(farm.counts()["a"].requests() - before, expected.len() as u64);
        let mean = rate.mean(SECOND);
        let meant = arrivals == Arrivals::Constant;
        assert!(
            !meant || (expected.len() as f64 / mean - 1.0).abs() < 0.01,
            "{} of {mean}",
            expected.len()
        );
    }
}

#[test]
fn a_warm_up_is_asked_and_not_counted() {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a"])).unwrap();
    let mut options = options(farm.addresses()[0], 1_000.0);
    (options.warm_up, options.length, options.records) = (SECOND / 2, SECOND / 2, false);
    let report = Load::start(options).unwrap().finish();
    let totals = report.totals.unwrap();
    assert!(report.records.is_empty());
    assert_eq!(totals.tally.all.requests, 500);
    assert_eq!(farm.counts()["a"].requests(), 1_000);
    assert_eq!(
        totals
            .tally
            .seconds()
            .iter()
            .map(|second| second.requests)
            .sum::<u64>(),
        500
    );
}

#[test]
fn a_new_connection_for_every_request_is_one() {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a"])).unwrap();
    let mut options = options(farm.addresses()[0], 200.0);
    options.keep_alive = false;
    let totals = Load::start(options).unwrap().finish().totals.unwrap();
    assert_eq!((totals.tally.all.requests, totals.tally.all.failed), (200, 0));
    assert_eq!(
        (totals.connections_opened, farm.counts()["a"].connections),
        (200, 200)
    );
}

#[test]
fn a_load_that_is_stopped_answers_for_everything_it_has_asked() {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a"])).unwrap();
    let mut options = options(farm.addresses()[0], 500.0);
    options.length = 3_600 * SECOND;
    let load = Load::start(options).unwrap();
    while farm.counts()["a"].requests() < 50 {
        std::thread::yield_now();
    }
    load.stop();
    let report = load.finish();
    assert_eq!(farm.counts()["a"].requests(), report.records.len() as u64);
    let totals = report.totals.unwrap();
    assert_eq!(
        (totals.tally.all.requests, totals.unfinished),
        (report.records.len() as u64, 0)
    );
}
