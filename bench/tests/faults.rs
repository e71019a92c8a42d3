//! `faults` with real processes: contenders side by side, who is skipped and why, and what a person gets to read.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::path::PathBuf;
use std::process::Command;

use foreshade_bench::faults::{Cast, compete};
use foreshade_bench::results::ScenarioResult;
use foreshade_bench::rivals::Contender;
use foreshade_bench::scenario::{Scenario, file};
use foreshade_bench::stage::interrupt::Interrupt;
use foreshade_bench::stage::process::{Programs, Scratch};

const BENCH: &str = env!("CARGO_BIN_EXE_foreshade-bench");

fn programs(proxy: &str) -> Programs {
    Programs {
        bench: PathBuf::from(BENCH),
        proxy: PathBuf::from(proxy),
    }
}

/// A second of warm-up, and a second in which one endpoint of two answers everything with an error.
fn scenario() -> Scenario {
    let text = "
story: one endpoint fails at everything
rate: 200
posts: 0%
faults: [{ at: faulty, kind: errors }]
warm_up: 1s
length: 1s
recovery: 0s
";
    file::parse("failing", "failing.yaml", text).unwrap()
}

fn failed_gets(result: &ScenarioResult, contender: &str) -> u64 {
    let found = result.contenders.iter().find(|c| c.contender == contender);
    found.unwrap().runs[0].figures.failed_gets
}

#[test]
fn who_knows_the_fault_loses_nothing_and_who_notices_nothing_does() {
    let (programs, scratch) = (programs(BENCH), Scratch::new("test-faults").unwrap());
    let mut cast = Cast::find(&[Contender::Unmoved, Contender::Oracle], false, &programs);
    let interrupt = Interrupt::default();
    let place = (&programs, scratch.path(), &interrupt);
    let mut heard = 0;
    let results = compete(&[scenario()], 1, &mut cast, place, |_| heard += 1).unwrap();
    assert_eq!((heard, results.len()), (1, 1));
    assert!(cast.skipped.is_empty(), "{:?}", cast.skipped);
    assert!(failed_gets(&results[0], "none") > 0);
    assert_eq!(failed_gets(&results[0], "oracle"), 0);
    let avoided: Vec<_> = results[0]
        .contenders
        .iter()
        .map(|contender| contender.runs[0].figures.avoided_harm)
        .collect();
    assert_eq!(avoided, [Some(0.0), Some(1.0)]);
}

#[test]
fn who_does_not_start_is_named_with_what_it_said_and_the_others_play() {
    // This program is no proxy: it does not know `run`.
    let (programs, scratch) = (programs(BENCH), Scratch::new("test-faults-start").unwrap());
    let mut cast = Cast::find(&[Contender::Foreshade, Contender::Unmoved], false, &programs);
    let interrupt = Interrupt::default();
    let place = (&programs, scratch.path(), &interrupt);
    let results = compete(&[scenario()], 1, &mut cast, place, |_| {}).unwrap();
    assert_eq!(results[0].contenders.len(), 1);
    let why = &cast.skipped["foreshade in failing"];
    assert!(why.contains("unrecognized subcommand 'run'"), "{why}");
}

#[test]
fn who_is_not_there_is_named_before_anything_is_played() {
    let cast = Cast::find(
        &[Contender::Foreshade],
        false,
        &programs("/nowhere/foreshade-proxy"),
    );
    assert!(cast.entrants.is_empty());
    assert!(
        cast.skipped["foreshade"].contains("/nowhere/foreshade-proxy"),
        "{:?}",
        cast.skipped
    );
}

#[test]
fn an_interrupted_run_keeps_what_it_has() {
    let (programs, scratch) = (programs(BENCH), Scratch::new("test-faults-interrupt").unwrap());
    let mut cast = Cast::find(&[Contender::Unmoved], false, &programs);
    let interrupt = Interrupt::default();
    let place = (&programs, scratch.path(), &interrupt);
    let raised = interrupt.clone();
    let results = compete(&[scenario(), scenario()], 9, &mut cast, place, |_| raised.ask()).unwrap();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].contenders[0].runs.len(), 1, "and not nine");
    assert_eq!(cast.skipped["failing"], "interrupted after 1 of 9 seeds");
}

fn complaint(arguments: &[&str]) -> String {
    let told = Command::new(BENCH)
        .arg("faults")
        .args(arguments)
        .output()
        .unwrap();
    assert!(!told.status.success());
    String::from_utf8(told.stderr).unwrap()
}

#[test]
fn what_cannot_be_played_is_said_in_words() {
    assert!(complaint(&[]).contains("--all"), "something has to be chosen");
    assert!(complaint(&["--only", "S77"]).contains("there is no scenario \"S77\"; there are healthy-day"));
    assert!(complaint(&["--all", "--rate", "0"]).contains("0 requests per second are impossible"));
    assert!(complaint(&["--all", "--contenders", "apache"]).contains("apache"));
    let missing = complaint(&["--scenario", "nowhere.yaml"]);
    assert!(missing.contains("nowhere.yaml: cannot read it"), "{missing}");
    let scratch = Scratch::new("test-faults-words").unwrap();
    let wrong = scratch.path().join("wrong.yaml");
    std::fs::write(&wrong, "story: x\nlenght: 3s\n").unwrap();
    let wrong = complaint(&["--scenario", &wrong.display().to_string()]);
    assert!(
        wrong.contains("wrong.yaml:2:1: there is no key \"lenght\" here; did you mean length?"),
        "{wrong}"
    );
    let nowhere = complaint(&["--all", "--json", "/nowhere/results.json"]);
    assert!(
        nowhere.contains("cannot write /nowhere/results.json"),
        "{nowhere}"
    );
}
