//! `foreshade-bench load` as a person or a pipeline runs it: exit codes, files, Ctrl-C, and what it says about slips.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage fails")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use foreshade_bench::farm::fault::Fault;
use foreshade_bench::farm::{Farm, FarmOptions};
use foreshade_bench::results::{LoadResults, Pacing};
use foreshade_bench::stage::process::Scratch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const BENCH: &str = env!("CARGO_BIN_EXE_foreshade-bench");

fn farm() -> (Farm, String) {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a"])).unwrap();
    let target = format!("http://{}", farm.addresses()[0]);
    (farm, target)
}

fn load(arguments: &[&str]) -> Output {
    Command::new(BENCH).arg("load").args(arguments).output().unwrap()
}

fn results(file: &Path) -> LoadResults {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn a_load_leaves_a_table_json_and_a_latency_curve() {
    let (farm, target) = farm();
    let scratch = Scratch::new("test-load-files").unwrap();
    let [json, hgrm] = ["a.json", "a.hgrm"].map(|name| scratch.path().join(name));
    let files = ["--json", json.to_str().unwrap(), "--hgrm", hgrm.to_str().unwrap()];
    let mix = [
        "--path",
        "/a=5",
        "--path",
        "/b=1",
        "--post",
        "10%",
        "--body",
        "100B..4KiB",
        "--users",
        "50",
    ];
    let asked = [
        &target,
        "--rate",
        "500",
        "--seconds",
        "1",
        "--arrivals",
        "constant",
    ];
    let output = load(&[&asked[..], &mix, &files, &["--slo", "errors<=0%,p99<30s"]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        output.stderr.is_empty(),
        "no bar where there is no terminal: {output:?}"
    );
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.starts_with(&format!("{target}: HTTP/1.1, 500/s meant, evenly, 1.0 s\n")),
        "{table}"
    );
    assert!(table.contains("kept   errors<=0%: 0.0000 %"), "{table}");
    let results = results(&json);
    assert_eq!(
        (results.requests, results.failed, results.interrupted),
        (500, 0, false)
    );
    assert_eq!(
        (results.pacing, results.intended_rate),
        (Pacing::Constant, Some(500.0))
    );
    assert_eq!(results.writes, farm.counts()["a"].posts);
    assert_eq!(
        results.paths.iter().map(|path| path.requests).collect::<Vec<_>>(),
        farm.counts()["a"].by_path[..2]
    );
    let curve = std::fs::read_to_string(hgrm).unwrap();
    assert!(curve.contains("Total count    =          500]"), "{curve}");
}

#[test]
fn a_broken_promise_is_an_exit_code_of_its_own() {
    let (farm, target) = farm();
    farm.set_faults("a", &[Fault::errors(1.0)]).unwrap();
    let output = load(&[
        &target,
        "--rate",
        "200",
        "--seconds",
        "0.5",
        "--slo",
        "p99<30s,errors<0.1%",
    ]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("BROKEN errors<0.1%: 100.0000 %") && table.contains(" 500"),
        "{table}"
    );
}

#[test]
fn a_target_that_is_not_there_is_an_error_and_not_a_load() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let scratch = Scratch::new("test-load-nobody").unwrap();
    let json = scratch.path().join("a.json");
    let output = load(&[
        &format!("http://{free}"),
        "--seconds",
        "3600",
        "--json",
        json.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with(&format!("error: cannot reach http://{free}: Connection refused")),
        "{said}"
    );
    assert!(!json.exists());
}

#[test]
fn a_file_that_cannot_be_written_is_found_before_the_load() {
    let (farm, target) = farm();
    let output = load(&[&target, "--seconds", "3600", "--json", "/nowhere/a.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .starts_with("error: cannot write /nowhere/a.json: ")
    );
    assert_eq!(farm.counts()["a"].requests(), 0);
}

/// An hour of load, which has begun when this returns.
fn begin(farm: &Farm, target: &str, json: &Path) -> Child {
    let child = Command::new(BENCH)
        .args([
            "load",
            target,
            "--rate",
            "200",
            "--seconds",
            "1h",
            "--json",
            json.to_str().unwrap(),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while farm.counts()["a"].requests() < 20 {
        std::thread::yield_now();
    }
    child
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
}

#[test]
fn who_ends_a_load_early_gets_what_it_has() {
    let (farm, target) = farm();
    let scratch = Scratch::new("test-load-early").unwrap();
    let json = scratch.path().join("a.json");
    let mut child = begin(&farm, &target, &json);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let results = results(&json);
    assert!(results.interrupted && results.unfinished == 0 && results.failed == 0);
    assert_eq!(results.requests, farm.counts()["a"].requests());
}

#[test]
fn who_asks_twice_waits_for_nothing() {
    let (farm, target) = farm();
    farm.set_faults("a", &[foreshade_bench::farm::fault::Kind::Hang.into()])
        .unwrap();
    let scratch = Scratch::new("test-load-twice").unwrap();
    let json = scratch.path().join("a.json");
    let mut child = begin(&farm, &target, &json);
    let mut says = BufReader::new(child.stderr.take().unwrap()).lines();
    interrupt(&child);
    let said = says.next().unwrap().unwrap();
    assert!(
        said.starts_with("ends early: waiting for requests under way"),
        "{said}"
    );
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let results = results(&json);
    assert!(
        results.interrupted && results.unfinished >= 20,
        "{}",
        results.unfinished
    );
}
