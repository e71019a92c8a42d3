//! The demo's second act, as `make demo` plays it: it tells the whole story, ends by itself, fails where a step does not
//! happen, and leaves nothing behind, not even when somebody presses Ctrl-C.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use foreshade_tests::proxy::{binary, root};

/// Only what does not depend on how fast this machine is decides: failures, not latency.
const JUDGED: &str = "        p50: { tolerance: 1.2, weight: 0 }
        p90: { tolerance: 1.5, weight: 0 }
        p99: { tolerance: 2, weight: 0 }
        p999: { tolerance: 2.5, weight: 0 }
";

/// What marks all processes of a demo: they inherit it, and not all of them have a path in their command line.
const FAMILY: &str = "FORESHADE_TEST_DEMO";

/// A demo that is played, and its configuration.
struct Demo {
    process: Child,
    file: PathBuf,
    /// [`FAMILY`] as `/proc/PID/environ` has it.
    mark: Vec<u8>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.file);
    }
}

impl Demo {
    /// Plays the second act by the shipped file with what does not suit a test replaced, and `policy` in its policy.
    fn start(name: &str, policy: &str, patience: &str) -> Self {
        let shipped = fs::read_to_string(root().join("configs/demo.yaml")).unwrap();
        let without: Vec<&str> = shipped
            .lines()
            .filter(|line| !line.trim().starts_with("p99:"))
            .collect();
        let text = without.join("\n").replace(
            "      verdict:\n",
            &format!("      failover: false\n{policy}      verdict:\n{JUDGED}"),
        );
        let file =
            std::env::temp_dir().join(format!("foreshade-test-demo-{name}-{}.yaml", std::process::id()));
        fs::write(&file, text).unwrap();
        let family = format!("{name}-{}", std::process::id());
        let process = Command::new(binary("foreshade-bench"))
            .env(FAMILY, &family)
            .args([
                "demo",
                "--act",
                "controller",
                "--patience",
                patience,
                "--controller-config",
            ])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the bench is built with the tests");
        let mark = format!("{FAMILY}={family}").into_bytes();
        Self { process, file, mark }
    }

    /// Its end: whether it was well, what it printed, and what it complained of.
    fn finish(mut self) -> (bool, String, String) {
        let (mut out, mut complaint) = (String::new(), String::new());
        let (stdout, stderr) = (self.process.stdout.take(), self.process.stderr.take());
        stdout.unwrap().read_to_string(&mut out).unwrap();
        stderr.unwrap().read_to_string(&mut complaint).unwrap();
        let well = self.process.wait().unwrap().success();
        self.has_left_nothing();
        (well, out, complaint)
    }

    /// The command lines of its processes that still run.
    fn family(&self) -> Vec<String> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let marked = processes.filter(|process| {
            // Not readable where it is somebody else's, and empty where it has ended.
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|one| one == self.mark)
        });
        let words = |path: PathBuf| fs::read(path.join("cmdline")).unwrap_or_default();
        marked
            .map(|process| String::from_utf8_lossy(&words(process.path())).replace('\0', " "))
            .collect()
    }

    /// No file of it is there, and no process.
    fn has_left_nothing(&self) {
        let folder = std::env::temp_dir().join(format!("foreshade-bench-demo-{}", self.process.id()));
        assert!(!folder.exists(), "{} is left", folder.display());
        assert_eq!(self.family(), Vec::<String>::new(), "they still run");
    }
}

// Concept: topo-validate
#[test]
fn the_demo_tells_its_story_or_says_why_not_and_leaves_nothing() {
    // One after another: demos that begin at the same moment find the same free ports.
    promotes_one_shadow_and_rolls_another_back();
    fails_where_a_step_does_not_happen_in_time();
    ends_everybody_on_ctrl_c();
}

fn promotes_one_shadow_and_rolls_another_back() {
    let (well, out, complaint) = Demo::start("whole", "", "120").finish();
    assert!(well, "{out}\n{complaint}");
    let at = |what: &str| out.find(what).unwrap_or_else(|| panic!("no {what:?} in {out}"));
    let story = [
        "$ foreshade promote shop/b",
        "shop/b Committed",
        "$ foreshade promote shop/c",
        "shop/c Failed",
        "what became of it",
    ];
    assert!(story.map(at).is_sorted(), "{out}");
    // A state that lasts for less than the demo's look at it is in the history only, which has every change.
    let (_, summary) = out.split_at(at("what became of it"));
    let (promoted, rolled_back) = summary.split_once("$ foreshade promote shop/c").unwrap();
    let passed = |history: &str, state: &str| history.lines().any(|line| line.trim().starts_with(state));
    assert!(
        passed(promoted, "Baking") && passed(promoted, "Committed"),
        "{out}"
    );
    assert!(
        passed(rolled_back, "RollingBack.") && passed(rolled_back, "Failed"),
        "{out}"
    );
    assert!(summary.contains("left late by the harness itself"), "{out}");
    assert!(
        !out.contains('\u{1b}'),
        "what is no terminal gets plain lines: {out}"
    );
}

fn fails_where_a_step_does_not_happen_in_time() {
    let gate = "      gates: [{ name: release, before: shift }]\n";
    let (well, out, complaint) = Demo::start("gate", gate, "15").finish();
    assert!(!well, "{out}");
    // How long it took in the end depends on the machine.
    let said = ["shop/b is not promoted after ", " of 15s", "release"];
    assert!(said.iter().all(|part| complaint.contains(part)), "{complaint}");
}

fn ends_everybody_on_ctrl_c() {
    let mut demo = Demo::start("interrupted", "", "120");
    let mut lines = BufReader::new(demo.process.stdout.take().unwrap()).lines();
    // The controller is asked for the pair by then, so everybody runs.
    let seen = lines
        .by_ref()
        .any(|line| line.is_ok_and(|line| line.contains("shop/b ")));
    assert!(seen);
    let family = demo.family().join("\n");
    for member in [
        " demo ",
        " endpoints ",
        "foreshade-proxy run",
        "foreshade-controller run",
    ] {
        assert!(
            family.contains(member),
            "{member:?} would not be missed: {family}"
        );
    }
    let id = demo.process.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    lines.for_each(drop);
    let mut complaint = String::new();
    demo.process
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complaint)
        .unwrap();
    assert!(!demo.process.wait().unwrap().success());
    assert_eq!(complaint.trim(), "error: interrupted");
    demo.has_left_nothing();
}
