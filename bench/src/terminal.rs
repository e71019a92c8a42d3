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

/// Says on standard error what is no reason to end.
pub fn note(text: &str) {
    let _ = writeln!(stderr().lock(), "{text}");
}

/// One line on standard error that is drawn over itself, on a terminal; nothing anywhere else.
#[derive(Debug)]
pub struct Ticker {
    in_place: bool,
    drawn: bool,
}

impl Ticker {
    /// For whatever standard error is.
    pub fn open() -> Self {
        Self {
            in_place: stderr().is_terminal(),
            drawn: false,
        }
    }

    /// Shows the line in place of the last one; what does not fit is clipped.
    pub fn draw(&mut self, line: &str) {
        if self.in_place {
            let mut out = stderr().lock();
            let _ = write!(out, "\r\x1b[?7l\x1b[2K{line}\x1b[?7h");
            let _ = out.flush();
            self.drawn = true;
        }
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(stderr().lock(), "\r\x1b[2K");
        }
    }

    /// Says something that stays, whatever standard error is.
    pub fn say(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(stderr().lock(), "{text}");
    }
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
        self.show(|| picture.lines(), || picture.line());
    }

    /// Shows these lines, as many as the last time; a log gets the one line instead, once per second.
    pub fn show(&mut self, lines: impl FnOnce() -> Vec<String>, logged: impl FnOnce() -> String) {
        if self.in_place {
            self.draw_in_place(&lines());
        } else if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
            self.logged = Some(Instant::now());
            line(&logged());
        }
    }

    /// Logs an event at once; pictures carry their events themselves.
    pub fn event(&self, event: &Event) {
        if !self.in_place {
            line(&event.line());
        }
    }

    /// What was drawn stays, and the next picture comes below it.
    pub fn keep(&mut self) {
        self.drawn = 0;
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
