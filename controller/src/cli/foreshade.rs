//! `foreshade`, the operator's command: the verbs of the API, for people and for pipelines.
//!
//! Exit codes: 0 well or healthy, 1 degraded, or the order was refused, 2 not there in time, 3 paused or inconclusive,
//! 4 the controller cannot be reached or does not lead, 64 wrong usage (not 2, as usual, so that a pipeline can tell a
//! timeout from a slip).

mod arguments;
mod ask;
mod run;
mod screen;
mod tree;
mod watch;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

pub use self::arguments::Arguments;
pub use self::ask::AskError;
pub use self::run::run;
pub use self::screen::Screen;

/// Exit code of wrong usage: EX_USAGE of sysexits.h.
const USAGE: u8 = 64;

/// Exit code where the controller cannot be reached.
const AWAY: u8 = 4;

/// Runs the command line of this process.
#[expect(clippy::print_stderr, reason = "this is what a command line is for")]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let asked_for = matches!(error.exit_code(), 0);
            return if asked_for {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(USAGE)
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut screen = Screen::new(std::io::stdout(), std::io::stdout().is_terminal());
    match runtime.block_on(run(arguments, &mut screen)) {
        Ok(code) => ExitCode::from(code),
        // Whoever reads has seen enough, as `head` does.
        Err(AskError::Print(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let code = match () {
                () if error.is_away() => AWAY,
                () if error.is_usage() => USAGE,
                () => 1,
            };
            eprintln!("error: {:#}", anyhow::Error::from(error));
            ExitCode::from(code)
        }
    }
}

#[cfg(test)]
mod tests;
