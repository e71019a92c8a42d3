//! The two programs of this crate: `foreshade-controller`, which keeps the pairs, and `foreshade`, by which people ask
//! and order.

pub mod controller;
pub mod foreshade;

use std::io::Write;
use std::process::ExitCode;

/// Prints to standard output. A reader that has seen enough, as `head` does, is no error.
#[expect(clippy::print_stderr, reason = "this is what a command line is for")]
fn say(text: std::fmt::Arguments<'_>) -> ExitCode {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot print: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
