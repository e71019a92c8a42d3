//! Prometheus' own checker, where the machine has it: `apt-get install prometheus`, or the binary of a release.

use std::io::Write;
use std::process::{Command, Stdio};

/// Runs `promtool` with these arguments and this input. Where there is no promtool, says so on standard error and checks
/// nothing: the tests that need none check the same names.
///
/// # Panics
/// When it finds something.
#[expect(
    clippy::print_stderr,
    reason = "a check that was skipped has to be seen where it was skipped"
)]
pub fn check(arguments: &[&str], input: &str) {
    let started = Command::new("promtool")
        .args(arguments)
        .current_dir(crate::proxy::root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            eprintln!("SKIPPED: promtool {arguments:?}: {error}; apt-get install prometheus");
            return;
        }
    };
    let mut stdin = child.stdin.take().expect("its input is piped");
    stdin.write_all(input.as_bytes()).expect("it reads its input");
    drop(stdin);
    let done = child.wait_with_output().expect("it ends");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(done.status.success(), "promtool {arguments:?}:\n{said}");
}
