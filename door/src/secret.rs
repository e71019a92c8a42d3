//! A file with a secret: read only where nobody but its owner, and a group that may look, can have read or changed it.
//!
//! One rule for tokens, passwords and keys. The permissions are those of the open file, so that nobody can exchange it
//! between the look and the reading.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Bits that nobody but the owner, and the group for reading, may have.
const FORBIDDEN_BITS: u32 = 0o027;

/// Why a file is not taken for a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read, or is no text.
    #[error("cannot be read")]
    Read(#[from] std::io::Error),
    /// Others could read or change it.
    #[error("has the permissions {0:04o}, so that others can read or change it; run chmod 0600")]
    Mode(u32),
    /// It is too long.
    #[error("is longer than {0} bytes")]
    Long(usize),
}

/// What is in the file: at most `bytes_max` bytes of text.
///
/// # Errors
/// When it is no text, is too long, or is nobody's secret.
pub fn read_secret(path: &Path, bytes_max: usize) -> Result<String, SecretError> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & FORBIDDEN_BITS != 0 {
        return Err(SecretError::Mode(mode));
    }
    let mut text = String::new();
    file.take(bytes_max as u64 + 1).read_to_string(&mut text)?;
    if text.len() > bytes_max {
        return Err(SecretError::Long(bytes_max));
    }
    Ok(text)
}
