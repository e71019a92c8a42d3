//! Keys that sign cookies: a line each, in base64, of a file that others cannot read.
//!
//! The first one signs, all are taken: so keys are exchanged without anybody losing his slot. A new key is first written
//! below the others, everywhere; then it is moved to the top; the old one goes when the last cookie that it has signed has
//! ended.

use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key, Tag};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use foreshade_door::{SecretError, read_secret};

/// Most keys of a file: an old, a new, and room for mistakes. A cookie that nobody has signed costs a hash for each.
const KEYS_MAX: usize = 8;

/// Longest file.
const FILE_BYTES_MAX: usize = 16 * 1024;

/// Fewest bytes of a key: as many as the hash has. Source: RFC 2104 section 3.
const KEY_BYTES_MIN: usize = 32;

/// Bytes of a signature.
pub(super) const TAG_BYTES: usize = 32;

/// With or without what fills up the last letters: `openssl rand -base64 32` writes it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a file holds no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    /// It is no secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A line is none.
    #[error("has in line {0} no key: it takes base64 of at least {KEY_BYTES_MIN} bytes")]
    Line(usize),
    /// None, or too many.
    #[error("has {0} keys; it takes 1 to {KEYS_MAX}")]
    Count(usize),
}

/// The keys of a file, the one that signs first.
#[derive(Debug)]
pub(super) struct Keys {
    first: Key,
    others: Vec<Key>,
}

impl Keys {
    /// Reads a file.
    pub(super) fn load(path: &Path) -> Result<Self, KeyError> {
        Self::parse(&read_secret(path, FILE_BYTES_MAX)?)
    }

    fn parse(text: &str) -> Result<Self, KeyError> {
        let lines = text.lines().map(str::trim).enumerate();
        let written = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys: Result<Vec<_>, _> = written
            .map(|(index, line)| match BASE64.decode(line) {
                Ok(bytes) if bytes.len() >= KEY_BYTES_MIN => Ok(Key::new(HMAC_SHA256, &bytes)),
                Ok(_) | Err(_) => Err(KeyError::Line(index + 1)),
            })
            .collect();
        let mut keys = keys?.into_iter();
        let count = keys.len();
        match keys.next().filter(|_| count <= KEYS_MAX) {
            Some(first) => Ok(Self {
                first,
                others: keys.collect(),
            }),
            None => Err(KeyError::Count(count)),
        }
    }

    /// The signature of a message of these parts.
    pub(super) fn sign(&self, parts: &[&[u8]]) -> Tag {
        tag(&self.first, parts)
    }

    /// Which of the keys has signed this message, if one has.
    pub(super) fn signed(&self, parts: &[&[u8]], signature: &[u8]) -> Option<usize> {
        let mut keys = std::iter::once(&self.first).chain(&self.others);
        keys.position(|key| verify_slices_are_equal(tag(key, parts).as_ref(), signature).is_ok())
    }
}

/// Each part with its length before it, so that no two messages are made of the same bytes.
fn tag(key: &Key, parts: &[&[u8]]) -> Tag {
    let mut context = Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_is_wrong_with_it() {
        let key = BASE64.encode([7; 32]);
        let many = format!("{key}\n").repeat(9);
        for (text, told) in [
            ("", "has 0 keys"),
            ("# none\n\n", "has 0 keys"),
            (&many, "has 9 keys"),
            ("\n# short\nQUJD\n", "line 3"),
            ("not base64!\n", "line 1"),
        ] {
            let error = Keys::parse(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert!(Keys::parse(&format!("# new\n{key}\n\n{}\n", key.trim_end_matches('='))).is_ok());
        assert!(
            !format!("{:?}", Keys::parse(&key)).contains("BwcH"),
            "keys are not shown"
        );
    }

    #[test]
    fn what_the_parts_of_a_message_are_counts() {
        let keys = Keys::parse(&BASE64.encode([7; 32])).unwrap();
        let signature = keys.sign(&[b"ab", b"c"]);
        assert_eq!(keys.signed(&[b"ab", b"c"], signature.as_ref()), Some(0));
        assert_eq!(keys.signed(&[b"a", b"bc"], signature.as_ref()), None);
    }
}
