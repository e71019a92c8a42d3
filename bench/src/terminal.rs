//! The only place that writes to standard output and standard error.
//!
//! Errors are dropped: whoever closes the other end of a pipe has seen enough.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

use crate::screen::{Event, Picture};

/// Between two lines of a log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Prints one line.
pub fn line(text: &str) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Says why the program ends.
pub fn complain(text: &str) {
    let _ = writeln!(stderr().lock(), "error: {text}");
}

/// Draws pictures over each other on a terminal, and writes a log anywhere else.
#[derive(Debug)]
pub struct Screen {
    in_place: bool,
    /// Lines of the picture that is on the terminal.
    drawn: usize,
    logged: Option<Instant>,
}

impl Screen {
    /// For whatever standard output is.
    pub fn open() -> Self {
        Self {
            in_place: stdout().is_terminal(),
            drawn: 0,
            logged: None,
        }
    }

    /// Shows the picture; a log gets one line per second.
    pub fn draw(&mut self, picture: &Picture) {
        if self.in_place {
            self.draw_in_place(&picture.lines());
        } else if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
            self.logged = Some(Instant::now());
            line(&picture.line());
        }
    }

    /// Logs an event at once; pictures carry their events themselves.
    pub fn event(&self, event: &Event) {
        if !self.in_place {
            line(&event.line());
        }
    }

    fn draw_in_place(&mut self, lines: &[String]) {
        let mut out = stdout().lock();
        // Up to the first line of the last picture; while drawing, long lines are clipped instead of wrapped.
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        let _ = write!(out, "\x1b[?7l");
        for line in lines {
            let _ = writeln!(out, "\r\x1b[2K{line}");
        }
        let _ = write!(out, "\x1b[?7h");
        let _ = out.flush();
        self.drawn = lines.len();
    }
}
