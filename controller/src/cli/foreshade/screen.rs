//! Where it is shown: a terminal with colours, or a file that gets the same words without them.
//!
//! Colours only say again what icons and words say already: they are left out where nobody sees them, and where
//! `NO_COLOR` asks for it (<https://no-color.org>). What is watched is drawn over itself on a terminal, and one below
//! the other elsewhere.

use std::io::{self, Write};

use crate::operator::view::Health;

/// How text is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Good,
    Moving,
    Waiting,
    Bad,
    Quiet,
    Strong,
}

impl Mark {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Moving => "36",
            Self::Waiting => "33",
            Self::Bad => "31",
            Self::Quiet => "2",
            Self::Strong => "1",
        }
    }
}

impl From<Health> for Mark {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Good,
            Health::Progressing => Self::Moving,
            Health::Paused => Self::Waiting,
            Health::Degraded => Self::Bad,
        }
    }
}

/// Where it is shown.
pub struct Screen {
    to: Box<dyn Write>,
    is_terminal: bool,
    colours: bool,
}

impl Screen {
    /// On something that may be a terminal.
    pub fn new(to: impl Write + 'static, is_terminal: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            to: Box::new(to),
            is_terminal,
            colours: is_terminal && !dumb && !set("NO_COLOR"),
        }
    }

    /// One that shows colours whatever this machine says.
    #[cfg(test)]
    pub(super) fn coloured() -> Self {
        Self {
            to: Box::new(Vec::new()),
            is_terminal: true,
            colours: true,
        }
    }

    /// The text, marked where that is seen.
    pub(super) fn marked(&self, mark: Mark, text: &str) -> String {
        if self.colours {
            format!("\u{1b}[{}m{text}\u{1b}[0m", mark.code())
        } else {
            text.to_owned()
        }
    }

    /// Shows a text below what is there.
    pub(super) fn show(&mut self, text: &str) -> io::Result<()> {
        self.to.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            self.to.write_all(b"\n")?;
        }
        self.to.flush()
    }

    /// Shows a text instead of what is there.
    pub(super) fn redraw(&mut self, text: &str) -> io::Result<()> {
        if self.is_terminal {
            // To the upper left, and everything below is cleared.
            self.to.write_all(b"\x1b[H\x1b[2J")?;
        }
        self.show(text)
    }
}
