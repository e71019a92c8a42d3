//! Who may log in: names and salted hashes of passwords, from a file that others cannot read.
//!
//! A line is `name:$pbkdf2-sha256$rounds$salt$hash`, as `foreshade-proxy password` and Python's passlib write it. PBKDF2
//! (RFC 8018) because the library that is here for TLS has it: argon2 or bcrypt would resist a stolen file better, at the
//! price of one more library of cryptography. A hash costs what its rounds say, and rounds are bounded: a file cannot make
//! a login a denial of service.
//!
//! Whoever asks with a name that nobody has pays for a hash all the same, so that time does not tell which names exist.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;

use aws_lc_rs::pbkdf2::{PBKDF2_HMAC_SHA256, derive, verify};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use foreshade_door::{SecretError, read_secret};
use rand::Rng as _;

/// Rounds of a new hash. Source: OWASP, Password Storage Cheat Sheet, for PBKDF2-HMAC-SHA256.
pub const ROUNDS: u32 = 600_000;

/// Fewest rounds of a hash that is taken: a tenth of what was good practice ten years ago.
pub const ROUNDS_MIN: u32 = 1_000;

/// Most rounds: about half a second of a processor.
pub const ROUNDS_MAX: u32 = 2_000_000;

/// Longest file.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Longest name.
const NAME_BYTES_MAX: usize = 128;

/// Longest password: what is longer is no password, and a hash of it costs more.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// Bytes of a new salt, and the fewest of one that is taken. Source: NIST SP 800-132.
const SALT_BYTES: usize = 16;
const SALT_BYTES_MIN: usize = 8;
const SALT_BYTES_MAX: usize = 64;

/// Why a file holds no users.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It is no secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A line is none.
    #[error("has in line {0} no user: {1}")]
    Line(usize, &'static str),
}

/// Names and hashes.
#[derive(Debug)]
pub struct Users(HashMap<String, Secret>);

struct Secret {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: [u8; HASH_BYTES],
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    /// When it holds anything but users, or others could read it.
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        Self::parse(&read_secret(path, FILE_BYTES_MAX)?)
    }

    fn parse(text: &str) -> Result<Self, UsersError> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why| UsersError::Line(index + 1, why);
            let (name, hash) = line.split_once(':').ok_or_else(|| wrong("there is no colon"))?;
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
                return Err(wrong("the name is empty or too long"));
            }
            let secret = Secret::parse(hash).map_err(wrong)?;
            if users.insert(name.to_owned(), secret).is_some() {
                return Err(wrong("the name stands there twice"));
            }
        }
        Ok(Self(users))
    }

    /// Whether it is the user's password. Takes as long for a name that nobody has.
    pub fn knows(&self, name: &str, password: &[u8]) -> bool {
        match self.0.get(name) {
            Some(secret) => secret.is_of(password),
            None => {
                if let Some(other) = self.0.values().next() {
                    other.is_of(password);
                }
                false
            }
        }
    }
}

impl Secret {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text
            .strip_prefix("$pbkdf2-sha256$")
            .ok_or("its hash is not of the kind $pbkdf2-sha256$; foreshade-proxy password makes one")?;
        let mut parts = rest.split('$');
        let mut next = || parts.next().ok_or("its hash is not whole");
        let (rounds, salt, hash) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err("there is more behind its hash");
        }
        let rounds: u32 = rounds.parse().map_err(|_| "its rounds are no number")?;
        if !(ROUNDS_MIN..=ROUNDS_MAX).contains(&rounds) {
            return Err("its rounds are too few or too many");
        }
        let salt = bytes(salt).ok_or("its salt is not base64")?;
        if !(SALT_BYTES_MIN..=SALT_BYTES_MAX).contains(&salt.len()) {
            return Err("its salt is too short or too long");
        }
        let hash = bytes(hash).and_then(|hash| hash.try_into().ok());
        Ok(Self {
            rounds: NonZeroU32::new(rounds).ok_or("its rounds are no number")?,
            salt,
            hash: hash.ok_or("its hash has not 32 bytes")?,
        })
    }

    /// In constant time.
    fn is_of(&self, password: &[u8]) -> bool {
        verify(PBKDF2_HMAC_SHA256, self.rounds, &self.salt, password, &self.hash).is_ok()
    }
}

/// The line of a user, for the file.
///
/// # Errors
/// What is wrong with the name, the password or the rounds.
pub fn line(name: &str, password: &[u8], rounds: u32) -> Result<String, &'static str> {
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.contains([':', '#'])
        || name.contains(char::is_control)
    {
        return Err("a name has 1 to 128 bytes, no colon, and does not look like a comment");
    }
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Err("a password has 1 to 1024 bytes");
    }
    let rounds = NonZeroU32::new(rounds).filter(|rounds| (ROUNDS_MIN..=ROUNDS_MAX).contains(&rounds.get()));
    let rounds = rounds.ok_or("rounds are 1000 to 2000000")?;
    let (mut salt, mut hash) = ([0; SALT_BYTES], [0; HASH_BYTES]);
    rand::rng().fill_bytes(&mut salt);
    derive(PBKDF2_HMAC_SHA256, rounds, &salt, password, &mut hash);
    let written = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes).replace('+', ".");
    Ok(format!(
        "{name}:$pbkdf2-sha256${rounds}${}${}",
        written(&salt),
        written(&hash)
    ))
}

/// Base64 as passlib writes it: a dot for a plus, and nothing at its end.
fn bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.replace('.', "+")).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_only_the_password_fits() {
        let anna = line("anna", "p4ss:w\u{f6}rd".as_bytes(), ROUNDS_MIN).unwrap();
        let text = format!("# people\n\n{anna}\n{}\n", line("bob", b"other", 2_000).unwrap());
        let users = Users::parse(&text).unwrap();
        assert!(users.knows("anna", "p4ss:w\u{f6}rd".as_bytes()) && users.knows("bob", b"other"));
        for (name, password) in [
            ("anna", &b"other"[..]),
            ("anna", b""),
            ("Anna", "p4ss:w\u{f6}rd".as_bytes()),
            ("carl", b"other"),
            ("", b""),
        ] {
            assert!(!users.knows(name, password), "{name}");
        }
        assert_ne!(
            line("bob", b"other", 2_000),
            line("bob", b"other", 2_000),
            "each has a salt of its own"
        );
        assert!(!format!("{users:?}").contains("salt"));
    }

    #[test]
    fn a_hash_is_pbkdf2_as_others_compute_it() {
        // RFC 7914 section 11: PBKDF2-HMAC-SHA256 of "Password", "NaCl", 80000 rounds; its first 32 bytes.
        let hash: [u8; 32] = [
            0x4d, 0xdc, 0xd8, 0xf6, 0x0b, 0x98, 0xbe, 0x21, 0x83, 0x0c, 0xee, 0x5e, 0xf2, 0x27, 0x01, 0xf9,
            0x64, 0x1a, 0x44, 0x18, 0xd0, 0x4c, 0x04, 0x14, 0xae, 0xff, 0x08, 0x87, 0x6b, 0x34, 0xab, 0x56,
        ];
        let secret = Secret {
            rounds: NonZeroU32::new(80_000).unwrap(),
            salt: b"NaCl".to_vec(),
            hash,
        };
        assert!(secret.is_of(b"Password") && !secret.is_of(b"password"));
    }

    #[test]
    fn what_is_no_user_is_told_with_its_line() {
        let good = line("a", b"b", ROUNDS_MIN).unwrap();
        for (text, told) in [
            ("anna", "no colon"),
            (":$pbkdf2-sha256$1000$x$y", "name is empty"),
            ("anna:$2y$05$abc", "not of the kind"),
            ("anna:$pbkdf2-sha256$999$c2FsdHNhbHQ$aaaa", "rounds"),
            ("anna:$pbkdf2-sha256$9999999$c2FsdHNhbHQ$aaaa", "rounds"),
            ("anna:$pbkdf2-sha256$1000$c2FsdA$aaaa", "salt is too short"),
            ("anna:$pbkdf2-sha256$1000$c2FsdHNhbHQ$aaaa", "32 bytes"),
            ("anna:$pbkdf2-sha256$1000$c2FsdHNhbHQ", "not whole"),
        ] {
            let error = Users::parse(&format!("{good}\n{text}\n"))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("line 2") && error.contains(told),
                "{text}: {error}"
            );
        }
        let twice = Users::parse(&format!("{good}\n{good}\n")).unwrap_err();
        assert!(twice.to_string().contains("twice"));
    }

    #[test]
    fn a_file_that_others_can_read_is_no_secret() {
        let path = std::env::temp_dir().join(format!("foreshade-users-{}", std::process::id()));
        std::fs::write(&path, line("a", b"b", ROUNDS_MIN).unwrap()).unwrap();
        for (mode, taken) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Users::load(&path).is_ok(), taken, "{mode:o}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            Users::load(&path),
            Err(UsersError::Secret(SecretError::Read(_)))
        ));
    }
}
