//! A regular expression of the configuration: compiled when it is loaded, bounded in what it may cost.
//!
//! It has to fit as a whole, because a pattern that fits anywhere inside is the classic hole: `/admin` would open
//! `/x/admin`. The `regex` crate runs in time linear in the text, whatever the pattern; what is left to bound is memory.

use std::fmt;
use std::hash::{Hash, Hasher};

use regex::bytes::{Regex, RegexBuilder};

/// Largest compiled pattern, and largest cache while it runs, in bytes. `\w{100}`, with all the world's letters, needs
/// a third of it.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// Longest pattern, in bytes. Longer ones are lists, and those belong into routes of their own.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// A pattern. Two are equal if they are written alike.
#[derive(Clone)]
pub struct Pattern {
    written: String,
    whole: Regex,
    part: Regex,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(written: &str) -> Result<Self, String> {
        if written.len() > PATTERN_BYTES_MAX {
            return Err(format!("is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        // Alone first: `a)|(b` would become something else between parentheses.
        let part = compiled(written)?;
        let whole = compiled(&format!("^(?:{written})$"))?;
        Ok(Self {
            written: written.to_owned(),
            whole,
            part,
        })
    }

    /// As it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Whether all of the text fits.
    pub fn fits(&self, text: &[u8]) -> bool {
        self.whole.is_match(text)
    }

    /// Replaces the first part of the text that fits. `$1` and `${name}` in the replacement are what the groups took.
    /// `None` where nothing fits.
    pub fn replaced(&self, text: &str, replacement: &str) -> Option<String> {
        let captures = self.part.captures(text.as_bytes())?;
        let found = captures.get(0)?;
        let mut out = text.as_bytes().get(..found.start())?.to_vec();
        captures.expand(replacement.as_bytes(), &mut out);
        out.extend_from_slice(text.as_bytes().get(found.end()..)?);
        String::from_utf8(out).ok()
    }

    /// Names and numbers of its groups.
    pub fn has_group(&self, name: &str) -> bool {
        match name.parse::<usize>() {
            Ok(number) => number < self.part.captures_len(),
            Err(_) => self.part.capture_names().flatten().any(|group| group == name),
        }
    }
}

fn compiled(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "is too large once it is compiled".to_owned(),
            other => {
                // The last line says what; those above draw where, in a picture that fits no message.
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default();
                format!("is no regular expression: {}", last.trim_start_matches("error: "))
            }
        })
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.written.hash(state);
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_as_a_whole() {
        let pattern = Pattern::new("/v[0-9]+|/latest").unwrap();
        for (text, fits) in [
            ("/v12", true),
            ("/latest", true),
            ("/v12/x", false),
            ("/x/v1", false),
            ("/v1\n", false),
        ] {
            assert_eq!(pattern.fits(text.as_bytes()), fits, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_and_so_is_what_is_too_large() {
        for (text, why) in [
            ("(", "unclosed group"),
            ("a)|(b", "unopened group"),
            ("\\w{1000}{1000}", "too large"),
            (&"a".repeat(PATTERN_BYTES_MAX + 1), "longer than"),
        ] {
            let error = Pattern::new(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_first_part_that_fits_is_replaced_by_what_its_groups_took() {
        let pattern = Pattern::new("^/users/([0-9]+)").unwrap();
        assert_eq!(
            pattern.replaced("/users/7/cart", "/u/$1").as_deref(),
            Some("/u/7/cart")
        );
        assert_eq!(pattern.replaced("/shop", "/u/$1"), None);
        assert!(pattern.has_group("1") && !pattern.has_group("2") && !pattern.has_group("id"));
    }
}
