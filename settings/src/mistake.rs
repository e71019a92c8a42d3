//! What is wrong with a configuration, where, and what to write instead.
//!
//! Reading goes on after a mistake, so an operator sees all of them in one run instead of one per run. Each knows its
//! place in the text, and the text is kept once, here, to quote the line. What is quoted comes from a file that
//! nobody has checked yet: control characters are masked, long lines are cropped, and both the number of mistakes and
//! the search for similar names are bounded.

use std::fmt;

use crate::nearest::nearest;

/// Mistakes kept and shown; the rest is only counted. Nobody repairs a hundred mistakes without checking again.
const KEPT_MAX: usize = 100;

/// Characters of a source line that are shown. Longer lines are cropped around the mistake.
const EXCERPT_MAX: usize = 100;

/// Characters of a value that a message repeats.
const QUOTED_MAX: usize = 60;

/// Where something stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters that belong to it, at least 1; more than the line has where it goes on in the next.
    pub width: usize,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where; `None` where the file as a whole is meant.
    pub place: Option<Place>,
    /// What is wrong.
    pub what: String,
    /// What would be right, where that is not obvious.
    pub expected: Option<String>,
    /// What the author probably meant, or should do.
    pub hint: Option<String>,
}

impl Mistake {
    /// Something is wrong at a place; of a default there is none.
    pub fn at(place: impl Into<Option<Place>>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            ..Self::of_the_file(what)
        }
    }

    /// Something is wrong with the file as a whole.
    pub fn of_the_file(what: impl Into<String>) -> Self {
        Self {
            place: None,
            what: what.into(),
            expected: None,
            hint: None,
        }
    }

    /// What would be right.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// What the author probably meant, or should do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// In one line, without the file and without its text.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { line, column, .. }) = self.place {
            write!(f, "{line}:{column}: ")?;
        }
        write!(f, "{}", self.what)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected: {expected}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

/// All mistakes of one file, in the order of the file. Rendered like a compiler's.
#[derive(Clone, Debug)]
pub struct Mistakes {
    origin: String,
    source: String,
    kept: Vec<Mistake>,
    dropped: usize,
}

impl Mistakes {
    /// No mistakes yet, in a file called `origin` with the text `source`.
    pub fn none_yet(origin: &str, source: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            source: source.to_owned(),
            kept: Vec::new(),
            dropped: 0,
        }
    }

    /// One more.
    pub fn add(&mut self, mistake: Mistake) {
        // Something behind a YAML alias is read once per alias; its author made the mistake once.
        if self.kept.contains(&mistake) {
            return;
        }
        if self.kept.len() < KEPT_MAX {
            self.kept.push(mistake);
        } else {
            self.dropped += 1;
        }
    }

    /// A question for the candidate that is most like `word`, if one is like it at all.
    pub fn did_you_mean<'a>(
        &self,
        word: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        // Once mistakes are only counted, looking for hints would be work for nothing.
        if self.kept.len() >= KEPT_MAX {
            return None;
        }
        nearest(word, candidates).map(|candidate| format!("did you mean {}?", quoted(candidate)))
    }

    /// `Ok` where there are no mistakes; else all of them, sorted by place.
    ///
    /// # Errors
    /// The mistakes, where there is one.
    pub fn or<T>(mut self, value: Option<T>) -> Result<T, Self> {
        self.kept.sort_by_key(|mistake| mistake.place);
        match value {
            Some(value) if self.kept.is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    /// The mistakes, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.kept.iter()
    }

    /// How many mistakes there are, those past the first hundred included.
    pub fn count(&self) -> usize {
        self.kept.len() + self.dropped
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.kept {
            match mistake.place {
                Some(Place { line, column, .. }) => {
                    writeln!(f, "{}:{line}:{column}: {}", self.origin, mistake.what)?;
                }
                None => writeln!(f, "{}: {}", self.origin, mistake.what)?,
            }
            if let Some((place, line)) = mistake
                .place
                .and_then(|place| Some((place, self.source.lines().nth(place.line.checked_sub(1)?)?)))
            {
                excerpt(f, place, line)?;
            }
            if let Some(expected) = &mistake.expected {
                writeln!(f, "       expected: {expected}")?;
            }
            if let Some(hint) = &mistake.hint {
                writeln!(f, "       hint: {hint}")?;
            }
            writeln!(f)?;
        }
        match (self.count(), self.dropped) {
            (1, _) => write!(f, "{}: 1 mistake", self.origin),
            (count, 0) => write!(f, "{}: {count} mistakes", self.origin),
            (count, _) => write!(
                f,
                "{}: {count} mistakes, the first {KEPT_MAX} are shown",
                self.origin
            ),
        }
    }
}

/// Writes the line and marks the place in it.
fn excerpt(f: &mut fmt::Formatter<'_>, place: Place, line: &str) -> fmt::Result {
    let offset = place.column.saturating_sub(1);
    // A place past the middle of the window moves the window.
    let skipped = if line.chars().count() > EXCERPT_MAX {
        offset.saturating_sub(EXCERPT_MAX / 2)
    } else {
        0
    };
    let shown: String = line.chars().skip(skipped).take(EXCERPT_MAX).map(masked).collect();
    let shown = shown.trim_end();
    let indent = offset - skipped;
    let width = place
        .width
        .min(shown.chars().count().saturating_sub(indent))
        .max(1);
    writeln!(f, " {:>4} | {shown}", place.line)?;
    writeln!(f, "      | {:indent$}{:^<width$}", "", "")
}

/// The character, or a stand-in of the same width for one that would disturb a terminal.
fn masked(c: char) -> char {
    let invisible = ('\u{200b}'..='\u{206f}').contains(&c) || c == '\u{feff}';
    match c {
        '\t' => ' ',
        c if c.is_control() || invisible => '\u{fffd}',
        c => c,
    }
}

/// The text in quotes, escaped and cropped, to be repeated in a message.
pub fn quoted(text: &str) -> String {
    if text.chars().count() <= QUOTED_MAX {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(QUOTED_MAX).collect();
    format!("{:?}", start + "...")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str, mistakes: impl IntoIterator<Item = Mistake>) -> String {
        let mut all = Mistakes::none_yet("x.yaml", source);
        mistakes.into_iter().for_each(|mistake| all.add(mistake));
        all.or::<()>(None).unwrap_err().to_string()
    }

    fn place(line: usize, column: usize, width: usize) -> Place {
        Place { line, column, width }
    }

    #[test]
    fn mistakes_are_shown_in_the_order_of_the_file() {
        let text = rendered(
            "a: 1\nb: 2\n",
            [
                Mistake::at(place(2, 1, 1), "second"),
                Mistake::at(place(1, 4, 1), "first"),
            ],
        );
        insta::assert_snapshot!(text, @r#"
        x.yaml:1:4: first
            1 | a: 1
              |    ^

        x.yaml:2:1: second
            2 | b: 2
              | ^

        x.yaml: 2 mistakes
        "#);
    }

    #[test]
    fn a_mistake_behind_an_alias_is_told_once() {
        let mistake = Mistake::at(place(1, 1, 1), "again");
        assert!(rendered("a", [mistake.clone(), mistake]).ends_with("x.yaml: 1 mistake"));
    }

    #[test]
    fn what_is_past_the_bound_is_counted() {
        let many = (0..150).map(|column| Mistake::at(place(1, column + 1, 1), "bad"));
        assert!(rendered("a", many).ends_with("x.yaml: 150 mistakes, the first 100 are shown"));
    }

    #[test]
    fn a_long_line_is_cropped_around_the_place() {
        let text = rendered(
            &format!("{}here{}", " ".repeat(5000), "x".repeat(5000)),
            [Mistake::at(place(1, 5001, 4), "bad")],
        );
        assert!(text.lines().all(|line| line.len() < 120));
        assert!(text.contains("^^^^"));
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        let text = rendered(
            "a: \u{1b}[31m\u{202e}\tb",
            [Mistake::at(place(1, 4, 99), quoted("\u{1b}[31m\u{202e}"))],
        );
        assert!(
            text.chars()
                .all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')),
            "{text:?}"
        );
    }

    #[test]
    fn a_place_outside_of_the_text_does_no_harm() {
        assert!(rendered("", [Mistake::at(place(0, 0, 0), "bad")]).contains("bad"));
        assert!(rendered("a", [Mistake::at(place(1, 70, 5), "bad")]).contains("bad"));
    }
}
