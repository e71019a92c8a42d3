//! Files of the proxy's own: replaced as a whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// For the owner only.
const MODE: u32 = 0o600;

/// Puts these bytes where `path` is, in place of what lies there, for the owner only. Written beside it, synced, and
/// renamed over it, and the folder is synced too: whatever happens in between, the file is the old one or the new one.
///
/// # Errors
/// When it cannot be written. What lay there before still does.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    Replacement::prepare(path, 0)?.put(bytes)
}

/// A file beside another one that it is to replace, with room on the disk before it is known what comes. Removed if
/// nothing does.
#[derive(Debug)]
pub(crate) struct Replacement {
    path: PathBuf,
    beside: PathBuf,
    file: File,
    is_put: bool,
}

impl Replacement {
    /// Makes the file, with room for so many bytes. Nobody else may prepare one for the same path.
    ///
    /// # Errors
    /// When it cannot be made, or there is no room.
    pub(crate) fn prepare(path: &Path, room: usize) -> io::Result<Self> {
        let mut beside = path.to_owned().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        // One that was left over may be for everybody, or lead elsewhere.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(MODE);
        let mut prepared = Self {
            path: path.to_owned(),
            file: options.open(&beside)?,
            beside,
            is_put: false,
        };
        if room > 0 {
            // A hole would have no room, and a file system may find out late that it has none.
            prepared.file.write_all(&vec![b'\n'; room])?;
            prepared.file.sync_all()?;
            prepared.file.rewind()?;
        }
        Ok(prepared)
    }

    /// Puts these bytes where the path is.
    ///
    /// # Errors
    /// When they cannot be written. What lay there before still does.
    pub(crate) fn put(mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.set_len(bytes.len() as u64)?;
        self.file.sync_all()?;
        fs::rename(&self.beside, &self.path)?;
        self.is_put = true;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_put {
            // Whoever prepares the next one finds out why not.
            let _ = fs::remove_file(&self.beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("foreshade-disk-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn there_is_room_before_there_is_anything_and_nothing_is_left_of_what_does_not_come() {
        let folder = folder("room");
        let (path, beside) = (folder.join("kept"), folder.join("kept.new"));
        let room = 64 * 1024;
        let prepared = Replacement::prepare(&path, room).unwrap();
        assert_eq!(fs::metadata(&beside).unwrap().len(), room as u64);
        drop(prepared);
        assert!(!beside.exists() && !path.exists());
        for bytes in [&b"short"[..], &vec![b'x'; 2 * room]] {
            Replacement::prepare(&path, room).unwrap().put(bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert!(!beside.exists());
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_was_left_over_is_neither_followed_nor_kept() {
        let folder = folder("left");
        let (path, beside) = (folder.join("kept"), folder.join("kept.new"));
        let other = folder.join("other");
        fs::write(&other, "other").unwrap();
        symlink(&other, &beside).unwrap();
        replace(&path, b"first").unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"other");
        assert!(!path.is_symlink());
        fs::write(&beside, "left over, and longer").unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o666)).unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(&folder).unwrap();
    }
}
