//! The load straight at the farm, over real sockets: what each side counts must agree, and each fault must do to users
//! what it says. Nothing here asserts how long anything takes.

use std::net::SocketAddr;
use std::time::Duration;

use foreshade_bench::farm::fault::{Fault, Kind};
use foreshade_bench::farm::{Farm, FarmOptions};
use foreshade_bench::load::record::Outcome;
use foreshade_bench::load::{Load, LoadOptions, LoadReport};

#[expect(clippy::unwrap_used, reason = "a test without sockets fails")]
fn farm() -> (Farm, SocketAddr) {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a"])).unwrap();
    let address = farm.addresses()[0];
    (farm, address)
}

fn options(target: SocketAddr) -> LoadOptions {
    LoadOptions::steady(target, 500.0, Duration::from_secs(1))
}

fn failures(report: &LoadReport) -> usize {
    report
        .records
        .iter()
        .filter(|record| record.outcome.failed())
        .count()
}

#[test]
fn every_request_is_answered_and_both_sides_count_the_same() {
    let (farm, target) = farm();
    let report = Load::start(options(target)).unwrap().finish();
    let counts = farm.counts()["a"].clone();
    assert!(report.records.len() > 300);
    assert_eq!(failures(&report), 0);
    assert_eq!(counts.requests(), report.records.len() as u64);
    let posts = report.records.iter().filter(|record| record.post).count() as u64;
    assert!(posts > 0);
    assert_eq!(counts.posts, posts);
    assert_eq!((farm.ledger().writes, farm.ledger().repeats), (posts, 0));
}

#[test]
fn paths_arrive_as_they_were_asked_for() {
    let (farm, target) = farm();
    let report = Load::start(options(target)).unwrap().finish();
    let counts = farm.counts()["a"].clone();
    for path in 0..5 {
        let asked = report
            .records
            .iter()
            .filter(|record| usize::from(record.path) == path)
            .count();
        assert_eq!(counts.by_path[path], asked as u64);
    }
}

#[test]
fn an_endpoint_with_errors_answers_them_and_keeps_the_connection() {
    let (farm, target) = farm();
    farm.set_faults("a", &[Fault::errors(1.0)]).unwrap();
    let report = Load::start(options(target)).unwrap().finish();
    assert!(
        report
            .records
            .iter()
            .all(|record| record.outcome == Outcome::status(500))
    );
    assert_eq!(farm.counts()["a"].errors, report.records.len() as u64);
    assert!(farm.counts()["a"].connections < report.records.len() as u64 / 2);
}

#[test]
fn an_endpoint_that_hangs_reads_everything_and_answers_nothing() {
    let (farm, target) = farm();
    farm.set_faults("a", &[Kind::Hang.into()]).unwrap();
    let mut options = options(target);
    options.deadline = Duration::from_millis(100);
    let report = Load::start(options).unwrap().finish();
    assert!(
        report
            .records
            .iter()
            .all(|record| record.outcome == Outcome::DEADLINE)
    );
    assert!(farm.counts()["a"].requests() > 0);
}

#[test]
fn a_port_that_refuses_is_free_and_serves_again_once_healed() {
    let (farm, target) = farm();
    farm.set_faults("a", &[Fault::refuse(false)]).unwrap();
    // The port is free when somebody else can take it: the farm's thread needs a moment, so ask until it is.
    let squatter = loop {
        if let Ok(listener) = std::net::TcpListener::bind(target) {
            break listener;
        }
        std::thread::yield_now();
    };
    drop(squatter);
    let report = Load::start(options(target)).unwrap().finish();
    assert!(
        report
            .records
            .iter()
            .all(|record| record.outcome == Outcome::CONNECT)
    );
    assert_eq!(farm.counts()["a"].requests(), 0);
    farm.set_faults("a", &[]).unwrap();
    while std::net::TcpStream::connect(target).is_err() {
        std::thread::yield_now();
    }
    assert_eq!(failures(&Load::start(options(target)).unwrap().finish()), 0);
}

#[test]
fn stopping_an_endpoint_in_the_middle_of_the_load_loses_no_request_that_it_had_read() {
    let (farm, target) = farm();
    let load = Load::start(options(target)).unwrap();
    while farm.counts()["a"].requests() < 50 {
        std::thread::yield_now();
    }
    farm.set_faults("a", &[Fault::refuse(false)]).unwrap();
    let report = load.finish();
    let answered = report.records.len() - failures(&report);
    assert_eq!(farm.counts()["a"].requests(), answered as u64);
}

#[test]
fn a_slow_answer_does_not_delay_the_next_request() {
    let (farm, target) = farm();
    farm.set_faults("a", &[Kind::Hang.into()]).unwrap();
    let mut options = options(target);
    options.deadline = Duration::from_millis(500);
    let report = Load::start(options).unwrap().finish();
    // Closed-loop load over a few connections would have asked a handful of times.
    assert!(farm.counts()["a"].requests() > 300, "{:?}", farm.counts());
    assert!(report.connections_peak > 100);
}

#[test]
fn connections_are_bounded_and_the_excess_is_the_harness_own_failure() {
    let (farm, target) = farm();
    farm.set_faults("a", &[Kind::Hang.into()]).unwrap();
    let mut options = options(target);
    // Shorter than the load: who waits for a connection gives up while it goes on.
    options.deadline = Duration::from_millis(300);
    options.connections_max = 8;
    let report = Load::start(options).unwrap().finish();
    let overrun = report
        .records
        .iter()
        .filter(|record| record.outcome == Outcome::OVERRUN)
        .count();
    let mut outcomes = std::collections::BTreeMap::new();
    for record in &report.records {
        *outcomes.entry(record.outcome.to_string()).or_insert(0) += 1;
    }
    assert!(
        overrun > 0 && report.connections_peak == 8,
        "{outcomes:?} over {} connections",
        report.connections_peak
    );
}

#[test]
fn a_body_is_as_large_as_it_was_asked_for() {
    let (_farm, target) = farm();
    for (path, bytes) in [("/a", 100), ("/a?bytes=0", 0), ("/a?bytes=300000", 300_000)] {
        let (status, body) = foreshade_bench::client::request(target, "GET", path, "").unwrap();
        assert_eq!((status, body.len()), (200, bytes), "{path}");
    }
}
