//! Names of listeners, clusters, endpoints and shadows, checked once at the door.
//!
//! A name ends up in metric labels, log fields, URLs of the admin interface and, later, in store keys; so its alphabet
//! is the intersection of what all of them take without quoting.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name in bytes: a DNS label, the tightest of the places a name has to fit.
pub const NAME_BYTES_MAX: usize = 63;

/// A name of 1 to 63 characters out of `A-Z a-z 0-9 . _ -`, starting with a letter or a digit. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text has no characters.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than [`NAME_BYTES_MAX`].
    #[error("a name has at most {NAME_BYTES_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// The text holds a character outside the alphabet, or starts with punctuation.
    #[error(
        "a name consists of letters, digits, '.', '_' and '-' and starts with a letter or digit; found {0:?}"
    )]
    Character(char),
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = text.chars().next().ok_or(NameError::Empty)?;
        if !first.is_ascii_alphanumeric() {
            return Err(NameError::Character(first));
        }
        if let Some(bad) = text
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !".-_".contains(*c))
        {
            return Err(NameError::Character(bad));
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_text() {
        assert_eq!("shop.eu-1_a".parse::<Name>().unwrap().as_str(), "shop.eu-1_a");
    }

    #[test]
    fn what_would_break_a_label_is_refused() {
        assert_eq!("".parse::<Name>(), Err(NameError::Empty));
        assert_eq!("-a".parse::<Name>(), Err(NameError::Character('-')));
        assert_eq!("a b".parse::<Name>(), Err(NameError::Character(' ')));
        assert_eq!("a\"".parse::<Name>(), Err(NameError::Character('"')));
        assert_eq!("ä".parse::<Name>(), Err(NameError::Character('ä')));
        assert_eq!("x".repeat(64).parse::<Name>(), Err(NameError::TooLong(64)));
    }
}
