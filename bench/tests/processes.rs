//! The program itself: what its children do when it ends, and what it says when it cannot work.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use foreshade_bench::closed_loop::{self, Asking};
use foreshade_bench::farm::{Farm, FarmOptions};
use foreshade_bench::load::{Load, LoadOptions};
use foreshade_bench::results::Protocol;
use foreshade_bench::stage::process::{Child, Programs, Scratch};

const BENCH: &str = env!("CARGO_BIN_EXE_foreshade-bench");

fn programs() -> Programs {
    Programs {
        bench: PathBuf::from(BENCH),
        proxy: PathBuf::from(BENCH),
    }
}

/// What a process runs right now.
fn command_name(id: u32) -> String {
    std::fs::read_to_string(format!("/proc/{id}/comm"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[test]
fn a_child_is_killed_when_its_parent_ends_without_a_word() {
    // For the kernel the parent is the thread that starts the child, so a thread can stand in for a killed bench.
    let parent = std::thread::spawn(|| {
        let child = Command::new(BENCH)
            .args([
                "guard",
                &format!("--parent={}", std::process::id()),
                "--",
                "sleep",
                "1000",
            ])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        while command_name(child.id()) != "sleep" {
            std::thread::yield_now();
        }
        child
    });
    let mut orphan = parent.join().unwrap();
    assert_eq!(orphan.wait().unwrap().signal(), Some(9));
}

/// What `endpoints` says when it cannot start.
fn complaint(arguments: &[&str]) -> String {
    let output = Command::new(BENCH)
        .arg("endpoints")
        .args(arguments)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn endpoints_that_cannot_be_served_say_why_and_do_not_start() {
    for (arguments, expected) in [
        (&["--fault", "a={kind: slow}"][..], "needs `factor`"),
        (&["--fault", "{kind: hang}"], "expected NAME=FAULT"),
        (&["--fault", "a={kind: lazy}"], "lazy"),
        (&["--fault", "z={kind: hang}"], "no endpoint \"z\""),
        (&["--fault", "a={kind: capacity, left: 50%}"], "--cores"),
        (&["--faults-file", "/nowhere.yaml"], "cannot read /nowhere.yaml"),
        (&["--service", "pareto:1ms"], "log-normal:MEDIAN:SIGMA"),
        (&["--endpoint", "a=nowhere"], "nowhere"),
        (&["--queue", "5"], "--cores"),
        (&["--cores", "0"], "cores"),
        (&["--orca"], "cores"),
        (&["--speak", "gopher"], "expected http, echo or send"),
        (&["--body-bytes", "2000000"], "1048576"),
    ] {
        let text = complaint(arguments);
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn a_mistake_in_a_file_of_faults_is_named_with_its_place() {
    let folder = Scratch::new("faults-file").unwrap();
    let file = folder.path().join("faults.yaml");
    std::fs::write(
        &file,
        "a:\n  - { kind: hang }\nb:\n  - { kind: slow, speed: 10 }\n",
    )
    .unwrap();
    let text = complaint(&["--faults-file", file.to_str().unwrap()]);
    assert!(text.contains("faults.yaml") && text.contains("speed"), "{text}");
    assert!(text.contains("line 4"), "{text}");
}

#[test]
fn a_child_whose_parent_is_gone_already_does_not_start() {
    let status = Command::new(BENCH)
        .args(["guard", "--parent=1", "--", "true"])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_child_that_fails_is_reported_with_what_it_said() {
    let scratch = Scratch::new("test-failing-child").unwrap();
    let programs = programs();
    let arguments = [OsString::from("endpoints"), "--endpoint=a=256.0.0.1:1".into()];
    let mut child = Child::start(
        &programs,
        "endpoints",
        &programs.bench,
        &arguments,
        scratch.path(),
    )
    .unwrap();
    let error = child
        .wait_until(Duration::from_secs(60), || false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("endpoints ended") && error.contains("256.0.0.1:1"),
        "{error}"
    );
}

#[test]
fn the_bare_proxy_uses_its_upstreams_in_turn() {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a", "b"])).unwrap();
    let scratch = Scratch::new("test-bare").unwrap();
    let listen: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut arguments = vec![OsString::from("bare"), format!("--listen={listen}").into()];
    arguments.extend(
        farm.addresses()
            .iter()
            .map(|address| format!("--upstream={address}").into()),
    );
    let programs = programs();
    let mut bare = Child::start(&programs, "bare", &programs.bench, &arguments, scratch.path()).unwrap();
    bare.wait_until(Duration::from_secs(60), || {
        std::net::TcpStream::connect(listen).is_ok()
    })
    .unwrap();
    let report = Load::start(LoadOptions::steady(listen, 300.0, Duration::from_secs(1)))
        .unwrap()
        .finish();
    assert!(report.records.iter().all(|record| !record.outcome.failed()));
    let counts = farm.counts();
    assert!(
        counts["a"].requests().abs_diff(counts["b"].requests()) <= 1,
        "{counts:?}"
    );
    assert_eq!(farm.ledger().repeats, 0);
}

#[test]
fn a_closed_loop_counts_what_was_answered_while_the_meter_ran() {
    let farm = Farm::start(FarmOptions::on_free_ports(&["a"])).unwrap();
    let mut asking = Asking {
        protocol: Protocol::Http1,
        connections: 4,
        body_bytes: None,
        posted_bytes: None,
        anew: false,
        rate: None,
        settling: Duration::from_millis(50),
        length: Duration::from_millis(200),
    };
    let mut readings = 0;
    let meter = || {
        readings += 1;
        Ok(readings)
    };
    let (done, before, after) = closed_loop::run(farm.addresses()[0], &asking, meter).unwrap();
    assert!(done.requests > 0 && done.failed == 0, "{done:?}");
    assert_eq!((before, after), (1, 2));
    // Each connection has its turn at the start and one every two seconds from then on.
    asking.rate = Some(2.0);
    let (done, ..) = closed_loop::run(farm.addresses()[0], &asking, || Ok(())).unwrap();
    assert!(done.requests <= 4 && done.failed == 0, "{done:?}");
}

#[test]
fn what_cannot_work_is_said_and_fails() {
    let says = |arguments: &[&str]| {
        let output = Command::new(BENCH).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let unknown = says(&["scenarios", "--only", "slow-100x"]);
    assert!(
        unknown.starts_with("error: there is no scenario \"slow-100x\"; there are healthy-day,"),
        "{unknown}"
    );
    let no_proxy = says(&["demo", "--proxy", "/nowhere/foreshade-proxy"]);
    assert!(
        no_proxy.starts_with("error: there is no /nowhere/foreshade-proxy; build it with"),
        "{no_proxy}"
    );
    let no_file = says(&["mirror", "--proxy", BENCH, "--config", "/nowhere/shop.yaml"]);
    assert!(
        no_file.starts_with("error: cannot read /nowhere/shop.yaml:"),
        "{no_file}"
    );
    let no_case = says(&["compare", "--proxy", BENCH, "--only", "http4"]);
    assert!(
        no_case.starts_with("error: there is no case \"http4\"; there are http1/64B, "),
        "{no_case}"
    );
}
