//! `make scenarios` and Ctrl-C: the terminal sends it to every process of the run, and what is left says what is missing.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use foreshade_bench::results::FaultResults;
use foreshade_tests::proxy::{PATIENCE, binary, root};

#[test]
fn ctrl_c_leaves_the_page_of_the_last_whole_run_and_names_what_is_missing() {
    let folder = std::env::temp_dir().join(format!("foreshade-test-scenarios-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (page, json) = (folder.join("page.md"), folder.join("results.json"));
    fs::write(&page, "the last whole run").unwrap();
    let mut process = Command::new(binary("foreshade-bench"))
        .args(["scenarios", "--only", "hang,slow-3x", "--repeat", "2", "--config"])
        .arg(root().join("configs/quickstart.yaml"))
        .arg("--markdown")
        .arg(&page)
        .arg("--json")
        .arg(&json)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // As a shell does, so that all of them hear of it.
        .process_group(0)
        .spawn()
        .expect("the bench is built with the tests");
    let scratch = std::env::temp_dir().join(format!("foreshade-bench-scenarios-{}", process.id()));
    let asked = Instant::now();
    // The farm answers by then, and the proxy is about to.
    while !scratch.join("hang-1/proxy.log").exists() {
        assert!(asked.elapsed() < PATIENCE, "nothing is played");
        std::thread::sleep(Duration::from_millis(10));
    }
    let group = format!("-{}", process.id());
    let sent = Command::new("kill")
        .args(["-INT", "--", &group])
        .status()
        .unwrap();
    let mut complaint = String::new();
    let mut stderr = process.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut complaint).unwrap();
    let ended = process.wait().unwrap();
    let (page, json) = (fs::read_to_string(&page), fs::read_to_string(&json));
    fs::remove_dir_all(&folder).unwrap();
    assert!(sent.success() && !ended.success(), "{ended}: {complaint}");
    assert!(complaint.contains("error: interrupted; "), "{complaint}");
    assert!(complaint.contains("page.md is left as it was"), "{complaint}");
    assert_eq!(page.unwrap(), "the last whole run");
    let results: FaultResults = serde_json::from_str(&json.unwrap()).unwrap();
    assert!(results.scenarios.is_empty());
    let skipped = results.provenance.skipped;
    assert_eq!(skipped["hang"], "interrupted in seed 1 of 2");
    assert!(skipped["slow-3x"].starts_with("not played"), "{skipped:?}");
    assert!(!scratch.exists(), "{} is left", scratch.display());
}
