//! Files of the proxy's own: replaced as a whole, or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// For the owner only.
const MODE: u32 = 0o600;

/// Puts these bytes where `path` is, in place of what lies there, for the owner only. Written beside it, synced, and
/// renamed over it, and the folder is synced too: whatever happens in between, the file is the old one or the new one.
///
/// # Errors
/// When it cannot be written. What lay there before still does.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.to_owned().into_os_string();
    beside.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(&beside)?;
    // One that was left over may be for everybody.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// The text of a file.
///
/// # Errors
/// When it cannot be read, is longer than `bytes_max`, or is none.
pub(crate) fn read_text(path: &Path, bytes_max: usize) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(bytes_max as u64 + 1)
        .read_to_string(&mut text)?;
    match text.len() <= bytes_max {
        true => Ok(text),
        false => Err(io::Error::other("it is too long")),
    }
}
